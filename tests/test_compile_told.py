"""What compiled functions tell of themselves, and what compile refuses."""
import pytest

import ntorch
from ntorch import jit, nn


def _reads(x):
    return x * x.sum().item()


def test_reads_are_told_with_their_line():
    compiled = ntorch.compile(_reads)
    compiled(ntorch.ones(2))
    line = _reads.__code__.co_firstlineno + 1
    assert f"a value was read in _reads, line {line} of test_compile_told.py" in compiled.explain()
    with pytest.raises(RuntimeError, match=f"jit: _reads cannot be one program.*line {line} of"):
        jit.script(_reads)(ntorch.ones(2))
    compiled(ntorch.ones(2))
    assert "the last trace of this signature was not kept" in compiled.explain()


def test_source_and_graph_of_functions_and_modules():
    for function in (lambda x: (x * 2 + 1).relu(), nn.Sequential(nn.ReLU(), nn.SiLU())):
        compiled = ntorch.compile(function)
        assert compiled.source() == compiled.graph == ""
        compiled(ntorch.ones(3))
        assert "def kernel" in compiled.source() or "begin, end" in compiled.source()
        assert "relu" in compiled.graph
    assert repr(ntorch.compile(_reads)) == "<compiled _reads: 0 programs>"


def test_backends_and_modes():
    for name in ("inductor", "aot_eager", "ntorch"):
        assert ntorch.compile(_reads, backend=name, mode="max-autotune")(ntorch.ones(1)).item() == 1
    with pytest.raises(RuntimeError, match="invalid backend 'nothing'"):
        ntorch.compile(_reads, backend="nothing")
    with pytest.raises(TypeError, match="graphs of torch.fx"):
        ntorch.compile(_reads, backend=lambda graph, inputs: graph)
    with pytest.raises(RuntimeError, match="Unrecognized mode=fast"):
        ntorch.compile(_reads, mode="fast")


def test_loaded_programs_have_one_mode_and_place(tmp_path):
    traced = jit.trace(nn.Linear(2, 2), ntorch.ones(1, 2))
    traced.save(tmp_path / "linear.nt")
    loaded = jit.load(tmp_path / "linear.nt")
    assert loaded.train(False) is loaded.eval() is loaded.to("cpu") is loaded
    assert loaded.code == loaded.source()
    with pytest.raises(RuntimeError, match="no training mode"):
        loaded.train()
    with pytest.raises(RuntimeError, match="cannot go to torch.float64"):
        loaded.to(ntorch.float64)


def test_python_at_every_call_does_not_search_the_process(monkeypatch):
    """Tensors that a trace made are told where they lie; only unknown views are searched for."""
    from ntorch.jit import recorder
    searched = []
    monkeypatch.setattr(recorder, "_follow_all", lambda stores: searched.append(len(stores)))
    compiled = ntorch.compile(lambda x: (x * 3)[1:] * x.sum().item())
    for _ in range(30):
        assert compiled(ntorch.ones(3)).tolist() == [9.0, 9.0]
    assert not searched
