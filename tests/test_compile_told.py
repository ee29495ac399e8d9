"""What compiled functions tell of themselves, and what compile refuses."""
import gc

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
    from ntorch.jit import stands
    searched = []
    monkeypatch.setattr(stands, "views_of", lambda stores, since: searched.append(stores) or ())
    compiled = ntorch.compile(lambda x: (x * 3)[1:] * x.sum().item())
    for _ in range(30):
        assert compiled(ntorch.ones(3)).tolist() == [9.0, 9.0]
    assert not searched


def test_a_search_looks_at_young_objects(monkeypatch):
    """Where something unknown holds what became real, the search leaves old objects alone."""
    held, walks = [], []
    real = ntorch.ops.base.gc.get_referrers
    monkeypatch.setattr(ntorch.ops.base.gc, "get_referrers", lambda *a: walks.append(a) or real(*a))

    def reads(x):
        held.append((x * 3).untyped_storage())      # no tensor
        return (x * 2)[1:] * x.sum().item()
    compiled = ntorch.compile(reads)
    for _ in range(12):
        assert compiled(ntorch.ones(3)).tolist() == [6.0, 6.0]
        held.clear()
    assert not walks


@pytest.mark.parametrize("generation", [None, 0, 1, 2])
def test_tensors_over_what_became_real_are_found_whatever_is_collected(generation):
    old, shown = ntorch.ones(4), ntorch.empty(0)
    gc.collect()                            # they are no young objects

    def program(x):
        doubled = x * 2
        tail = doubled[1:]
        old.data = doubled + 1
        shown.set_(doubled * 3)
        if generation is not None:
            gc.collect(generation)
        return doubled, tail, doubled.view(2, 2), shown[2:]

    def check(results):
        for got, wanted in zip([*results, old, shown], (
                [2.0] * 4, [2.0] * 3, [[2.0, 2.0]] * 2, [6.0] * 2, [3.0] * 4, [6.0] * 4),
                strict=True):
            assert got.tolist() == wanted
            assert got._address == got._storage.address + 4 * got._offset
    with ntorch.lazy():
        results = program(ntorch.ones(4))
    check(results)
    read = ntorch.compile(lambda x: [*program(x), x.sum().item()])
    for _ in range(3):
        check(read(ntorch.ones(4))[:4])
