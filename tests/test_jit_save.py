"""Programs in files: they run without the Python code they came from and without Numba, and a file
that is not as it should be is refused."""
import hashlib
import io
import json
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest

import ntorch
from ntorch import jit, nn
from ntorch.jit.outline import stray_addresses
from ntorch.runtime import build, cpu, load
from ntorch.runtime.archive import ArchiveReader, ArchiveWriter


def _conv():
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
                         nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8 * 64, 5)).eval()


class TwoResults(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(ntorch.randn(4, 4))

    def forward(self, x, y):
        return {"sum": x @ self.weight + y, "rest": (x[0], [y * 2, "text", 3])}


MODELS = {
    "mlp": (lambda: nn.Sequential(nn.Linear(300, 128), nn.ReLU(), nn.Linear(128, 10)),
            [lambda: ntorch.randn(64, 300)]),
    "conv": (_conv, [lambda: ntorch.randn(2, 3, 16, 16)]),
    "transposed conv": (lambda: nn.Sequential(nn.ConvTranspose2d(3, 8, 3, stride=2),
                                              nn.GroupNorm(2, 8), nn.GELU()),
                        [lambda: ntorch.randn(2, 3, 8, 8)]),
    "lstm": (lambda: nn.LSTM(16, 64, 2, batch_first=True), [lambda: ntorch.randn(8, 20, 16)]),
    "gru": (lambda: nn.GRU(8, 16, bidirectional=True), [lambda: ntorch.randn(5, 3, 8)]),
    "embedding": (lambda: nn.Sequential(nn.Embedding(10, 8), nn.LayerNorm(8)),
                  [lambda: ntorch.randint(0, 10, (4, 5))]),
    "transformer": (lambda: nn.TransformerEncoderLayer(32, 4, 64, batch_first=True).eval(),
                    [lambda: ntorch.randn(2, 7, 32)]),
    "large product": (lambda: nn.Linear(512, 512), [lambda: ntorch.randn(600, 512)]),
    "two results": (TwoResults, [lambda: ntorch.randn(4, 4), lambda: ntorch.randn(4)]),
}


def _arrays(value):
    from ntorch.jit.tree import tensors_of
    return [t.detach().numpy().copy() for t in tensors_of(value)]


def _saved(model, *inputs):
    stream = io.BytesIO()
    jit.save(jit.trace(model, inputs), stream)
    stream.seek(0)
    return stream


@pytest.mark.parametrize("name", MODELS)
def test_round_trip(name):
    ntorch.manual_seed(0)
    make, inputs = MODELS[name]
    model, inputs = make(), [i() for i in inputs]
    with ntorch.no_grad():
        expected = _arrays(model(*inputs))
    loaded = jit.load(_saved(model, *inputs))
    for _ in range(2):
        found = _arrays(loaded(*inputs))
        assert len(found) == len(expected)
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5)
    assert loaded.state_dict().keys() == model.state_dict().keys()
    assert loaded.graph and isinstance(loaded.source(), str)


@pytest.mark.parametrize("name", MODELS)
def test_no_address_of_this_process_is_in_a_table(name):
    make, inputs = MODELS[name]
    traced = jit.trace(make(), [i() for i in inputs], check_trace=False)
    kernels = {k.address for k in build.known() if k.is_ready()}
    for variant in traced.compiled.programs():
        assert stray_addresses(variant.forward, kernels) == []


def test_a_stray_address_is_found_and_its_op_named():
    traced = jit.trace(nn.Linear(4, 4), ntorch.randn(2, 4))
    (variant,) = traced.compiled.programs()
    words = variant.forward.words
    place = len(words) - 1
    before, words[place] = words[place], 0x7F12_3456_7890
    try:
        moved = set(variant.forward.moves[::3])
        assert place not in moved
        with pytest.raises(RuntimeError, match="addresses of this process"):
            jit.save(traced, io.BytesIO())
    finally:
        words[place] = before


def test_results_nest_and_views():
    loaded = jit.load(_saved(TwoResults(), ntorch.ones(4, 4), ntorch.ones(4)))
    x, y = ntorch.randn(4, 4), ntorch.randn(4)
    found = loaded(x, y)
    assert list(found) == ["sum", "rest"] and found["rest"][1][1:] == ["text", 3]
    assert isinstance(found["rest"], tuple)
    first = found["rest"][0]
    first.zero_()                           # a view of the argument, as in eager
    assert not x[0].any() and x._version > 0


def test_arguments_written_in_place_and_strides():
    def function(x, y):
        x.add_(1)
        return x * y
    inputs = ntorch.zeros(3, 4), ntorch.ones(3, 4)
    loaded = jit.load(_saved(jit.script(function).original, *inputs))
    x = ntorch.zeros(3, 4)
    np.testing.assert_array_equal(loaded(x, ntorch.full((3, 4), 2.0)).numpy(), np.full((3, 4), 2.0))
    np.testing.assert_array_equal(x.numpy(), np.ones((3, 4)))
    with pytest.raises(RuntimeError, match="strides"):
        loaded(ntorch.zeros(4, 3).t(), ntorch.ones(3, 4))


def test_other_strides_are_copied():
    model = nn.Linear(4, 2)
    loaded = jit.load(_saved(model, ntorch.randn(3, 4)))
    x = ntorch.randn(4, 3).t()
    np.testing.assert_allclose(loaded(x).numpy(), model(x).detach().numpy(), rtol=1e-5, atol=1e-6)


def test_several_forms_in_one_file():
    model = nn.Linear(4, 2)
    compiled = ntorch.compile(model)
    with ntorch.no_grad():
        for rows in (1, 5, 1, 5):
            compiled(ntorch.randn(rows, 4))
    stream = io.BytesIO()
    jit.save(compiled, stream)
    loaded = jit.load(stream)
    for rows in (1, 5):
        x = ntorch.randn(rows, 4)
        np.testing.assert_allclose(loaded(x).numpy(), model(x).detach().numpy(), rtol=1e-5,
                                   atol=1e-6)
    with pytest.raises(RuntimeError, match=r"expects .*float32\[1, 4\].*got float32\[2, 4\]"):
        loaded(ntorch.randn(2, 4))
    with pytest.raises(TypeError, match="tensors only"):
        loaded(3.0)


def test_weights_are_the_programs():
    model = nn.Linear(4, 2)
    x = ntorch.randn(3, 4)
    loaded = jit.load(_saved(model, x))
    assert [tuple(p.shape) for p in loaded.parameters()] == [(2, 4), (2,)]
    with ntorch.no_grad():
        dict(loaded.named_parameters())["bias"].zero_()
        model.bias.zero_()
    np.testing.assert_allclose(loaded(x).numpy(), model(x).detach().numpy(), rtol=1e-5, atol=1e-6)
    other = nn.Linear(4, 2)
    loaded.load_state_dict(other.state_dict())
    np.testing.assert_allclose(loaded(x).numpy(), other(x).detach().numpy(), rtol=1e-5, atol=1e-6)
    with pytest.raises(RuntimeError, match="missing"):
        loaded.load_state_dict({})


def test_a_check_raises_as_in_eager():
    model = nn.Embedding(10, 3)
    loaded = jit.load(_saved(model, ntorch.tensor([1, 2, 3])))
    bad = ntorch.tensor([1, 12, 3])
    with pytest.raises(IndexError) as eager:
        model(bad)
    with pytest.raises(IndexError) as found:
        loaded(bad)
    assert str(found.value) == str(eager.value)
    assert loaded(ntorch.tensor([9, 0, 1])).shape == (3, 3)


def test_buffers_that_forward_updates():
    model = nn.BatchNorm1d(4)
    x = ntorch.randn(8, 4)
    traced = jit.trace(model, x, check_trace=False)
    stream = io.BytesIO()
    traced.save(stream)
    loaded = jit.load(stream)
    with ntorch.no_grad():
        model(x)
    loaded(x)
    for name, tensor in loaded.named_buffers():
        np.testing.assert_allclose(tensor.numpy(), model.state_dict()[name].numpy(), rtol=1e-6)


# --- what cannot be saved -------------------------------------------------------------------------

def test_what_cannot_be_saved():
    with pytest.raises(TypeError, match="jit.save expects"):
        jit.save(3, io.BytesIO())
    compiled = ntorch.compile(nn.Linear(2, 2))
    with pytest.raises(RuntimeError, match="has not been called"):
        jit.save(compiled, io.BytesIO())
    compiled(ntorch.randn(1, 2)), compiled(ntorch.randn(1, 2))
    with pytest.raises(RuntimeError, match="no_grad"):
        jit.save(compiled, io.BytesIO())
    dropping = jit.trace(nn.Dropout(0.5), ntorch.ones(100), check_trace=False)
    with pytest.raises(RuntimeError, match="random numbers"):
        jit.save(dropping, io.BytesIO())


def test_data_dependent_control_flow_is_an_error():
    def function(x):
        return x * 2 if x.sum() > 0 else x
    function(ntorch.ones(3))
    with pytest.raises(RuntimeError, match="jit: .*function.* value"):
        jit.script(function)(ntorch.ones(3))
    with pytest.raises(RuntimeError, match="cannot be one program"):
        jit.trace(function, ntorch.ones(3))


def test_torch_names():
    assert jit.script(nn.ReLU) is nn.ReLU and not jit.is_scripting() and not jit.is_tracing()
    assert jit.annotate(int, 3) == 3
    with pytest.raises(TypeError, match="jit.script expects"):
        jit.script(3)
    traced = jit.trace(nn.Linear(2, 2).eval(), ntorch.ones(1, 2))
    assert isinstance(traced, jit.ScriptModule) and jit.freeze(traced) is traced
    assert len(list(traced.parameters())) == 2 and traced.graph and "trace 1" in traced.explain()
    with pytest.raises(RuntimeError, match="evaluation mode"):
        jit.freeze(nn.Dropout())
    noise = nn.Dropout(0.5)
    with pytest.raises(RuntimeError, match="differs"):
        jit.trace(noise, ntorch.ones(1000))


# --- other processes ------------------------------------------------------------------------------

ALONE = """
import sys
sys.modules.update(numba=None, scipy=None)
import numpy as np
import ntorch
from ntorch import jit
from ntorch.runtime import build
for path in sys.argv[1:]:
    data = np.load(path + ".npz")
    found = jit.load(path)(ntorch.from_numpy(data["x"]))
    found = found[0] if isinstance(found, tuple) else found
    np.testing.assert_allclose(found.numpy(), data["y"], rtol=2e-5, atol=2e-5)
assert build.counters == {"compiled": 0, "loaded": 0}, build.counters
print("numba" in sys.modules and sys.modules["numba"] is not None)
"""


@pytest.mark.without_numba
def test_a_process_without_numba_or_store(tmp_path):
    paths = []
    for name in ("mlp", "conv", "lstm", "large product"):
        make, inputs = MODELS[name]
        model, x = make(), inputs[0]()
        path = str(tmp_path / name)
        jit.trace(model, x).save(path)
        with ntorch.no_grad():
            y = model(x)
        np.savez(path + ".npz", x=x.numpy(), y=(y[0] if isinstance(y, tuple) else y).numpy())
        paths.append(path)
    environment = {**os.environ, "NTORCH_CACHE_DIR": str(tmp_path / "empty")}
    result = subprocess.run([sys.executable, "-c", ALONE, *paths], env=environment, text=True,
                            capture_output=True, timeout=120)
    assert result.returncode == 0, result.stderr[-2000:]
    assert result.stdout.strip() == "False"


# --- files that are not as they should be ---------------------------------------------------------

@pytest.fixture(scope="module")
def good():
    return _saved(nn.Sequential(nn.Embedding(10, 8), nn.Linear(8, 3)),
                  ntorch.tensor([1, 2])).getvalue()


def _rewritten(data, change=lambda body: None, text=None, records=lambda found: None):
    """The file with ``program.json`` changed and its digest right."""
    reader = ArchiveReader(io.BytesIO(data))
    found = {name: reader.read(name) for name in reader.records}
    body = json.loads(found["program.json"])
    change(body)
    found["program.json"] = json.dumps(body).encode() if text is None else text
    found["digest"] = hashlib.sha256(found["program.json"]).hexdigest().encode()
    records(found)
    out = io.BytesIO()
    archive = ArchiveWriter(out.write, "program")
    for name, content in found.items():
        archive.add(name, content)
    archive.close()
    return out


def test_weights_lie_on_boundaries(good):
    reader = ArchiveReader(io.BytesIO(good))
    assert all(reader.offset(name) % 64 == 0 for name in reader.records)
    assert not any(name.endswith(".pkl") for name in reader.records)


def test_rewriting_alone_changes_nothing(good):
    assert jit.load(_rewritten(good))(ntorch.tensor([1, 2])).shape == (2, 3)


def test_truncated_and_flipped(good):
    for size in range(0, len(good), max(1, len(good) // 40)):
        with pytest.raises(RuntimeError):
            jit.load(io.BytesIO(good[:size]))
    reader = ArchiveReader(io.BytesIO(good))
    for name in reader.records:
        place = reader.offset(name) + reader.size(name) // 2
        bad = bytearray(good)
        bad[place] ^= 1
        with pytest.raises(RuntimeError):
            jit.load(io.BytesIO(bytes(bad)))


def test_other_files():
    for data in (b"", b"text", pickle.dumps([1])):
        with pytest.raises(RuntimeError):
            jit.load(io.BytesIO(data))
    stream = io.BytesIO()
    ntorch.save({"a": ntorch.ones(1)}, stream)
    with pytest.raises(RuntimeError, match="holds no program"):
        jit.load(stream)


def _program(change):
    return lambda body: change(body["programs"][0])


HOSTILE = {
    "relocation outside": _program(lambda p: p["moves"].__setitem__(2, 1 << 40)),
    "relocation of no word": _program(lambda p: p["moves"].__setitem__(0, 1 << 30)),
    "relocation from no base": _program(lambda p: p["moves"].__setitem__(1, 99)),
    "an address": _program(lambda p: p["words"].append(0x7F00_0000_0000)),
    "no such kernel": _program(lambda p: p["steps"][0].__setitem__(1, 1000)),
    "negative kernel": _program(lambda p: p["steps"].__setitem__(0, [0, -1, 0, 1, 1])),
    "no such operation": _program(lambda p: p["steps"][0].__setitem__(0, 9)),
    "table outside": _program(lambda p: p["steps"][0].__setitem__(2, 1 << 30)),
    "a word that is text": _program(lambda p: p["words"].__setitem__(0, "x")),
    "a word too large": _program(lambda p: p["words"].__setitem__(0, 1 << 70)),
    "result outside": _program(lambda p: p["results"][0].update(offset=1 << 20)),
    "result too large": _program(lambda p: p["results"][0].update(shape=[1000, 3])),
    "negative stride": _program(lambda p: p["results"][0].update(strides=[-3, 1])),
    "absurd arena": _program(lambda p: p.update(arena=1 << 60)),
    "no checks": _program(lambda p: p.update(checks=[])),
    "check outside": _program(lambda p: p["checks"][0].update(offset=1 << 30)),
    "error of another kind": _program(lambda p: p["checks"][0].update(error="SystemExit")),
    "no such weight": _program(lambda p: p["bindings"][-1].__setitem__(1, 77)),
    "no such dtype": _program(lambda p: p["inputs"][0].update(dtype="object")),
    "a field missing": _program(lambda p: p.pop("steps")),
    "a nest of another kind": _program(lambda p: p.update(result={"call": "os.system"})),
    "weight of another size": lambda body: body["weights"][0].update(nbytes=1),
    "weight of negative size": lambda body: body["weights"][0].update(nbytes=-1),
    "weight checksum": lambda body: body["weights"][0].update(sha256="0" * 64),
    "kernel checksum": lambda body: body["kernels"][0].update(sha256="0" * 64),
    "kernel path": lambda body: body["kernels"][0].update(key="../../x"),
    "no programs": lambda body: body.update(programs=[]),
    "a list": lambda body: body.update(names=[]),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_numbers_are_refused(what, good, monkeypatch):
    monkeypatch.setattr(load, "link", lambda *a: pytest.fail("something was linked"))
    with pytest.raises(RuntimeError, match="damaged|no record"):
        jit.load(_rewritten(good, HOSTILE[what]))


@pytest.mark.parametrize("text", [b"", b"[]", b"null", b"{", b'{"format": "x"}', b"\xff" * 9,
                                  b"[" * 100_000])
def test_hostile_text_is_refused(text, good):
    with pytest.raises(RuntimeError):
        jit.load(_rewritten(good, text=text))


def test_version_platform_and_processor(good):
    with pytest.raises(RuntimeError, match="version 99"):
        jit.load(_rewritten(good, lambda body: body.update(version=99)))
    with pytest.raises(RuntimeError, match="built for plan9 mips"):
        jit.load(_rewritten(good, lambda body: body.update(platform="plan9 mips")))
    with pytest.raises(RuntimeError, match=r"'future'.*lacks quantum.*NTORCH_CPU"):
        jit.load(_rewritten(good, lambda body: body.update(target="future;+quantum")))
    host = load.host_cpu()
    assert load.lacking(host) == []
    if cpu.arch() == "x86_64":
        assert load.lacking("x86-64;+sse,+sse2") == []
