"""Kernels made ahead of time: the warm-up finds them all, and they travel in a file."""
import json
import os
import shutil
import subprocess
import sys
import tempfile

import pytest

import ntorch
from ntorch.cli import main, warming
from ntorch.runtime import build, cpu, load, store

MODEL = """
import ntorch
from ntorch import nn


def make():
    return nn.Sequential(nn.Linear(12, 7), nn.Tanh(), nn.Linear(7, 3))


def words():
    return nn.Sequential(nn.Embedding(10, 8), nn.LayerNorm(8))


def plain(x, y):
    return (x * y).exp().sum(0)


def branching():
    return lambda x: x * 2 if x.sum() > 1 else x
"""

FIRST = """
import sys
sys.modules.update(numba=None, scipy=None)
import ntorch
import warmed
model = warmed.make()
x = ntorch.zeros(4, 12)
step = ntorch.optim.SGD(model.parameters(), lr=1e-3)
for run in (model, ntorch.compile(model)):
    with ntorch.no_grad():
        run(x)
    for _ in range(2):
        run(x).mean().backward()
        step.step()
        step.zero_grad()
from ntorch.runtime import build
print(build.counters["compiled"], build.counters["loaded"] > 0)
"""


@pytest.fixture
def place(tmp_path):
    """A folder with a module ``warmed``, and the environment to run in."""
    (tmp_path / "warmed.py").write_text(MODEL)
    root = os.path.dirname(os.path.dirname(ntorch.__file__))
    environment = {**os.environ, "NTORCH_CACHE_DIR": str(tmp_path / "store"),
                   "PYTHONPATH": os.pathsep.join([str(tmp_path), root])}
    environment.pop("NTORCH_CPU", None)

    def run(*command, **more):
        return subprocess.run([sys.executable, *command], text=True, capture_output=True,
                              timeout=300, cwd=tmp_path, env={**environment, **more})
    return run


@pytest.mark.without_numba
def test_warmup_export_import_and_a_first_call_without_numba(place, tmp_path):
    result = place("-m", "ntorch", "warmup", "warmed:make", "f32[4,12]", "--step", "SGD",
                   "--jobs", "2")
    assert result.returncode == 0, result.stderr[-2000:]
    assert "; 0 had been missed" in result.stdout.replace("kernels; ", "; "), result.stdout
    file = str(tmp_path / "kernels.zip")
    assert place("-m", "ntorch", "cache", "export", file).returncode == 0
    other = str(tmp_path / "other")
    result = place("-m", "ntorch", "cache", "import", file, NTORCH_CACHE_DIR=other)
    assert result.returncode == 0 and ", 0 damaged" in result.stdout, result.stderr
    result = place("-c", FIRST, NTORCH_CACHE_DIR=other)
    assert result.stdout.split() == ["0", "True"], result.stderr[-2000:]
    _damaged_files(place, file, other)


def _damaged_files(place, file, other):
    """One byte changed, or the end missing: nothing of that is imported."""
    with open(file, "rb") as stream:
        data = stream.read()
    for number, bad in enumerate((data[:5000] + bytes([data[5000] ^ 1]) + data[5001:],
                                  data[:len(data) // 2], b"")):
        with open(file, "wb") as stream:
            stream.write(bad)
        folder = f"{other}{number}"
        result = place("-m", "ntorch", "cache", "import", file, NTORCH_CACHE_DIR=folder)
        assert result.returncode == 1 and "imported" in result.stderr
        assert "Traceback" not in result.stderr
        result = place("-m", "ntorch", "cache", "verify", NTORCH_CACHE_DIR=folder)
        assert result.returncode == 0


def test_a_smaller_processor(place):
    if cpu.arch() != "x86_64" or load.lacking("x86-64-v2;" + ",".join(
            "+" + f for f in cpu.LEVELS["x86-64-v2"])):
        pytest.skip("needs an x86-64 processor")
    result = place("-m", "ntorch", "warmup", "warmed:plain", "f32[64]", "f32[64]",
                   "--cpu", "x86-64-v2", "--jobs", "1")
    assert result.returncode == 0, result.stderr[-2000:]
    code = ("import ntorch, warmed; from ntorch.runtime import build, cpu; x = ntorch.zeros(64); "
            "warmed.plain(x, x); print(build.counters['compiled'], cpu.vector_bits())")
    assert place("-c", code, NTORCH_CPU="x86-64-v2").stdout.split() == ["0", "128"]
    compiled, bits = place("-c", code).stdout.split()
    assert int(compiled) > 0 and int(bits) == cpu.vector_bits()     # other keys
    listed = place("-m", "ntorch", "cache", "export", "--cpu", "x86-64-v4", "none.zip")
    assert listed.returncode == 1 and "nothing to export" in listed.stderr


def test_code_for_a_smaller_processor_has_no_wide_registers(place, tmp_path):
    if cpu.arch() != "x86_64" or shutil.which("objdump") is None:
        pytest.skip("needs an x86-64 processor and objdump")
    code = "import ntorch; x = ntorch.ones(64, 64); (x @ x).exp().sum()"
    assert place("-c", code, NTORCH_CPU="x86-64-v2").returncode == 0
    for path in (tmp_path / "store").glob("*" + store.SUFFIX):
        header = json.loads(path.read_bytes().partition(b"\n")[0])
        assert header["target"].startswith("x86-64-v2;")
        assert not _has_vex(path.read_bytes().partition(b"\n")[2]), header["name"]


def _has_vex(body):
    """Whether the code of an object file uses AVX registers."""
    with tempfile.NamedTemporaryFile(suffix=".o") as file:
        file.write(body)
        file.flush()
        text = subprocess.run(["objdump", "-d", file.name], capture_output=True, text=True).stdout
    return "%ymm" in text or "%zmm" in text


def test_record(place, tmp_path):
    (tmp_path / "script.py").write_text(
        "import sys, ntorch\nprint(sys.argv[1:], (ntorch.ones(3) * 2).sum().item())\n")
    result = place("-m", "ntorch", "warmup", "--record", "script.py", "argument")
    assert result.returncode == 0 and "['argument'] 6.0" in result.stdout, result.stderr
    assert "kernels were asked for" in result.stderr
    again = place("-m", "ntorch", "warmup", "--record", "script.py")
    assert ", 0 of them compiled now" in again.stderr


def test_models_that_read_values_and_indices(place):
    for name, signature in (("words", "i64[2,5]"), ("branching", "f32[6]")):
        result = place("-m", "ntorch", "warmup", f"warmed:{name}", signature, "--jobs", "1")
        assert result.returncode == 0, result.stderr[-2000:]
        assert "; 0 had been missed" in result.stdout.replace("kernels; ", "; "), result.stdout


@pytest.mark.parametrize(("arguments", "message"), [
    (["warmed:make", "q9[3]"], "no signature"),
    (["warmed:make", "f32[3]", "--jobs", "0"], "positive"),
    (["warmed:make", "f32[3]", "--cpu", "pentium-99"], "knows no such processor"),
    ([], "--record"),
])
def test_wrong_options(arguments, message, capsys):
    assert main(["warmup", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_model_that_fails(place):
    result = place("-m", "ntorch", "warmup", "warmed:make", "f32[4,13]", "--jobs", "1")
    assert result.returncode == 1 and "eager inference" in result.stderr
    result = place("-m", "ntorch", "warmup", "warmed:nothing", "--jobs", "1")
    assert result.returncode == 1 and "nothing" in result.stderr
    assert "Traceback" not in result.stderr


def test_signatures():
    assert warming.parse_signature("f32[32,1, 28]") == ("float32", (32, 1, 28))
    assert warming.parse_signature("i64") == ("int64", ())
    assert warming.parse_signature("f32[N,3]") == ("float32", ("N", 3))
    assert warming.parse_signature("float64[2]") == ("float64", (2,))
    for bad in ("f33[2]", "f32[2", "f32[2a]", "[2]", ""):
        with pytest.raises(ValueError, match="no signature"):
            warming.parse_signature(bad)


# --- side by side ---------------------------------------------------------------------------------

@pytest.fixture
def fresh(tmp_path, monkeypatch):
    monkeypatch.setenv("NTORCH_CACHE_DIR", str(tmp_path / "store"))
    monkeypatch.setattr(store, "_state", {"directory": None, "checked": None, "memory": {}})
    monkeypatch.setattr(build, "_kernels", {})


def _functions(count):
    def make(amount):
        def kernel(x, y, begin, end):
            for i in range(begin, end):
                y[i] = x[i] + amount
        kernel.__module__ = "ntorch.kernels.example"
        return kernel
    return [make(float(i)) for i in range(count)]


def _sums(kernels):
    import numpy as np

    from ntorch.runtime import launch
    found = []
    for kernel in kernels:
        x, y = np.ones(4, np.float32), np.zeros(4, np.float32)
        launch.run(kernel, [x.ctypes.data, 4, y.ctypes.data, 4], 4, 100)
        found.append(float(y[0]))
    return found


@pytest.mark.parametrize("jobs", ["1", "2", "3"])
def test_kernels_of_a_program_are_compiled_side_by_side(fresh, monkeypatch, jobs):
    monkeypatch.setenv("NTORCH_COMPILE_JOBS", jobs)
    compiled = build.counters["compiled"]
    with build.later():
        kernels = [build.kernel(f, ("f4:1C", "f4:1C")) for f in _functions(7)]
    assert not any(k.is_ready() for k in kernels)
    build.ready(kernels)
    assert all(k.is_ready() for k in kernels)
    assert build.counters["compiled"] == compiled + 7
    assert _sums(kernels) == [float(i + 1) for i in range(7)]
    assert len(list(store.entries())) == 7


def test_a_copy_that_dies_costs_time_only(fresh, monkeypatch):
    from ntorch.runtime import parallel
    monkeypatch.setenv("NTORCH_COMPILE_JOBS", "2")
    parent, real = os.getpid(), build.compile_to_store
    monkeypatch.setattr(build, "compile_to_store", lambda kernel: (
        real(kernel) if os.getpid() == parent else os._exit(9)))
    with build.later():
        kernels = [build.kernel(f, ("f4:1C", "f4:1C")) for f in _functions(6)]
    parallel.compile_all(kernels)
    assert _sums(kernels) == [float(i + 1) for i in range(6)]


def test_the_longest_are_compiled_first(fresh, monkeypatch):
    from ntorch.runtime.fingerprint import extent
    monkeypatch.setenv("NTORCH_COMPILE_JOBS", "2")
    functions = _functions(4)
    other = functions[1]

    def long(x, y, begin, end):
        for i in range(begin, end):
            y[i] = x[i] + 1.0
            y[i] = y[i] * 1.0
        other(x, y, begin, begin)
    assert extent(long) > extent(other) == extent(functions[0])
    order, real = [], build.compile_to_store
    monkeypatch.setattr(build, "compile_to_store",
                        lambda kernel: order.append(kernel.recipe[0]) or real(kernel))
    with build.later():
        kernels = [build.kernel(f, ("f4:1C", "f4:1C")) for f in [*functions, long]]
    build.ready(kernels)
    assert long not in order[2:]        # the first may be one that warms up the compiler
    assert _sums(kernels[:4]) == [1.0, 2.0, 3.0, 4.0]


def test_kernels_that_wait_are_built_by_their_use(fresh):
    with build.later():
        kernel, = [build.kernel(f, ("f4:1C", "f4:1C")) for f in _functions(1)]
    assert not kernel.is_ready()
    assert _sums([kernel]) == [1.0] and kernel.is_ready()
    with pytest.raises(AttributeError):
        kernel.no_such_thing    # noqa: B018


def test_a_store_that_cannot_be_written_needs_no_copies(fresh, monkeypatch, tmp_path):
    blocker = tmp_path / "file"
    blocker.write_text("")
    monkeypatch.setenv("NTORCH_CACHE_DIR", str(blocker / "store"))
    monkeypatch.setenv("NTORCH_COMPILE_JOBS", "2")
    monkeypatch.setattr(os, "fork", lambda: pytest.fail("forked"))
    with build.later():
        kernels = [build.kernel(f, ("f4:1C", "f4:1C")) for f in _functions(4)]
    with pytest.warns(UserWarning, match="in memory only"):
        build.ready(kernels)
    assert _sums(kernels) == [1.0, 2.0, 3.0, 4.0]


PROGRAM = """
import sys
import ntorch
from ntorch.runtime import build
step = ntorch.compile(lambda x: (x.tanh() * x.exp() + 1).sum(1).softmax(0))
with ntorch.no_grad():
    x = ntorch.linspace(0, 1, 60).reshape(5, 12)
    for _ in range(3):
        y = step(x)
print(build.counters["compiled"], y.tolist())
"""


def test_two_processes_compile_one_program_at_once(tmp_path):
    environment = {**os.environ, "NTORCH_CACHE_DIR": str(tmp_path / "store")}

    def start():
        return subprocess.Popen([sys.executable, "-c", PROGRAM], env=environment, text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    racers = [start(), start()]
    outputs = [p.communicate(timeout=300) for p in racers]
    assert [p.returncode for p in racers] == [0, 0], outputs
    assert len({out.partition(" ")[2] for out, _ in outputs}) == 1
    for path in (tmp_path / "store").glob("*" + store.SUFFIX):
        data = path.read_bytes()
        path.write_bytes(data[:len(data) // 2])             # every entry truncated
    again, _ = start().communicate(timeout=300)
    assert int(again.split()[0]) > 0                        # compiled again, with equal results
    assert again.partition(" ")[2] == outputs[0][0].partition(" ")[2]
    warm, _ = start().communicate(timeout=300)
    assert warm.split()[0] == "0" and not list((tmp_path / "store").glob("*.part"))
