"""Kernels from source to address: an honest key, a store that survives anything, fast code."""
import json
import os
import pathlib
import re
import subprocess
import sys
import types
import warnings

import numpy as np
import pytest

import ntorch
from ntorch.kernels.stubs import T
from ntorch.ops.registry import entries
from ntorch.runtime import build, launch, load, perf_map, store
from ntorch.runtime.fingerprint import fingerprint

FACTOR = 2.5
PointwiseEntry = type(entries()["add"])


def kernel_function(function):
    """Mark a function of this file as one of the kernels', which alone are compiled."""
    function.__module__ = "ntorch.kernels.example"
    return function


@kernel_function
def _innermost(x):
    return x + T(1.0)


@kernel_function
def _middle(x):
    return _innermost(x) * T(2.0)


@kernel_function
def scaled(x, y, begin, end):
    for i in range(begin, end):
        y[i] = _middle(x[i]) * FACTOR


def edited(function, **globals_):
    """The function as it would be after an edit of the globals it reads."""
    return kernel_function(types.FunctionType(
        function.__code__, {**function.__globals__, **globals_}, function.__name__,
        function.__defaults__, function.__closure__))


def run(fn, **options):
    x = np.arange(4, dtype=np.float32)
    y = np.zeros(4, np.float32)
    kernel = build.kernel(fn, ("f4:1C", "f4:1C"), T="f4", **options)
    launch.run(kernel, [x.ctypes.data, 4, y.ctypes.data, 4], 4, 100)
    return y


@pytest.fixture
def fresh(tmp_path, monkeypatch):
    """An empty store, and a memo that forgets after the test."""
    monkeypatch.setenv("NTORCH_CACHE_DIR", str(tmp_path / "store"))
    monkeypatch.setattr(store, "_state", {"directory": None, "checked": None, "memory": {}})
    monkeypatch.setattr(build, "_kernels", {})
    return tmp_path / "store"


# --- the key -------------------------------------------------------------------------------------

def test_same_code_has_the_same_key():
    assert fingerprint(scaled) == fingerprint(edited(scaled))


def _plus(amount):
    def kernel(x, y, begin, end):
        for i in range(begin, end):
            y[i] = x[i] + amount
    return kernel


@kernel_function
def _other_innermost(x):
    return x - T(1.0)


@kernel_function
def _other_constant(x):
    return x + T(1.5)


CHANGES = {
    "a constant": edited(scaled, FACTOR=3.0),
    "a callee two levels down": edited(
        scaled, _middle=edited(_middle, _innermost=_other_innermost)),
    "a literal two levels down": edited(
        scaled, _middle=edited(_middle, _innermost=_other_constant)),
    "the type of a constant": edited(scaled, FACTOR=3),
}


@pytest.mark.parametrize("what", CHANGES)
def test_an_edit_is_a_miss(what):
    changed = CHANGES[what]
    assert fingerprint(changed) != fingerprint(scaled)
    keys = {build.kernel_key(f, ("f4:1C", "f4:1C"), "f4", False) for f in (scaled, changed)}
    assert len(keys) == 2


def test_a_closure_value_counts():
    assert fingerprint(_plus(1.0)) == fingerprint(_plus(1.0))
    assert fingerprint(_plus(1.0)) != fingerprint(_plus(2.0))


def test_types_and_flags_count():
    keys = {build.kernel_key(scaled, *rest) for rest in (
        (("f4:1C", "f4:1C"), "f4", False), (("f4:1C", "f4:1C"), "f4", True),
        (("f4:1C", "f4:1C"), "f8", False), (("f4:1A", "f4:1C"), "f4", False))}
    assert len(keys) == 4


def test_whatever_a_compilation_imports_counts(monkeypatch, tmp_path):
    """Every module of the runtime that only compilations import decides machine code."""
    code = """if True:
        import sys, ntorch.runtime.build, ntorch.runtime.parallel
        before = set(sys.modules)
        from ntorch.runtime import compile
        try:
            compile._intrinsic("none")          # looks through all of them
        except NameError:
            print(*[m for m in set(sys.modules) - before if m.startswith("ntorch.runtime.")])
    """
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    read = []
    real = pathlib.Path.read_bytes
    monkeypatch.setattr(pathlib.Path, "read_bytes", lambda path: read.append(path.stem) or real(
        path))
    build._environment.__wrapped__()
    names = made.stdout.split()
    assert "ntorch.runtime.microkernel_few" in names
    for module in names:
        assert module.rpartition(".")[2] in read, module


def test_an_edit_changes_the_result(fresh):
    np.testing.assert_array_equal(run(scaled), [5, 10, 15, 20])
    np.testing.assert_array_equal(run(CHANGES["a constant"]), [6, 12, 18, 24])
    np.testing.assert_array_equal(run(CHANGES["a callee two levels down"]), [-5, 0, 5, 10])


@pytest.mark.skipif(sys.platform != "linux", reason="perf reads such files on Linux alone")
def test_kernels_are_named_for_perf(fresh, monkeypatch, tmp_path):
    monkeypatch.setattr(perf_map, "FOLDER", str(tmp_path))
    monkeypatch.setenv("NTORCH_PERF_MAP", "1")
    run(scaled)                             # compiled
    build._kernels.clear()
    kernel = build.kernel(scaled, ("f4:1C", "f4:1C"))       # from the store
    lines = (tmp_path / f"perf-{os.getpid()}.map").read_text().splitlines()
    entries = [line.split(" ", 2) for line in lines if line.endswith(f" {kernel.name}")]
    assert len(entries) == 2 and int(entries[1][0], 16) == kernel.address
    assert all(int(size, 16) > 0 for _, size, _ in entries)


# --- the store ------------------------------------------------------------------------------------

def _files(folder):
    return sorted(folder.glob("*" + store.SUFFIX))


def test_a_second_build_is_a_hit(fresh):
    run(scaled)
    before = dict(build.counters)
    build._kernels.clear()
    np.testing.assert_array_equal(run(scaled), [5, 10, 15, 20])
    assert build.counters["compiled"] == before["compiled"]
    assert build.counters["loaded"] == before["loaded"] + 1


@pytest.mark.parametrize("damage", [
    lambda data: data[:len(data) // 2], lambda data: b"",
    lambda data: data[:-1] + bytes([data[-1] ^ 1]),
    lambda data: b"not json\n" + data, lambda data: b"\x00" * 100,
    lambda data: b"{}\n" + data.partition(b"\n")[2], lambda data: b"[1]\n"], ids=range(7))
def test_a_damaged_entry_is_compiled_again(fresh, damage):
    run(scaled)
    (path,) = _files(fresh)
    path.write_bytes(damage(path.read_bytes()))
    compiled = build.counters["compiled"]
    build._kernels.clear()
    np.testing.assert_array_equal(run(scaled), [5, 10, 15, 20])
    assert build.counters["compiled"] == compiled + 1
    build._kernels.clear()
    run(scaled)
    assert build.counters["compiled"] == compiled + 1       # repaired


def test_an_intact_entry_that_does_not_link_is_compiled_again(fresh):
    run(scaled)
    (path,) = _files(fresh)
    key = path.name[:-len(store.SUFFIX)]
    store.put(key, "no_such_symbol", b"not an object file", {})
    build._kernels.clear()
    np.testing.assert_array_equal(run(scaled), [5, 10, 15, 20])


def test_no_directory_costs_one_warning(fresh, monkeypatch, tmp_path):
    blocker = tmp_path / "file"
    blocker.write_text("")
    monkeypatch.setenv("NTORCH_CACHE_DIR", str(blocker / "store"))
    with pytest.warns(UserWarning, match="in memory only"):
        np.testing.assert_array_equal(run(scaled), [5, 10, 15, 20])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(run(CHANGES["a constant"]), [6, 12, 18, 24])


def test_a_store_that_cannot_be_written(fresh, monkeypatch):
    run(scaled)

    def full(*arguments, **keywords):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store.tempfile, "mkstemp", full)
    with pytest.warns(UserWarning, match="No space left"):
        run(CHANGES["a constant"])
    build._kernels.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(scaled)                                     # reading still works
        compiled = build.counters["compiled"]
        run(CHANGES["a constant"])                      # kept in memory
        run(CHANGES["a callee two levels down"])        # and the warning is not repeated
    assert build.counters["compiled"] == compiled + 1
    assert len(_files(store_folder := fresh)) == 1 and not list(store_folder.glob("*.part"))


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="POSIX permissions")
def test_a_world_writable_store_is_refused(fresh):
    fresh.mkdir()
    fresh.chmod(0o777)
    with pytest.warns(UserWarning, match="writable by every user"):
        run(scaled)
    assert not _files(fresh)


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="POSIX permissions")
def test_a_store_of_another_user_is_refused(fresh, monkeypatch):
    monkeypatch.setattr(os, "getuid", lambda: 4_000_000)
    with pytest.warns(UserWarning, match="owned by user"):
        run(scaled)


PROGRAM = """
import sys
{before}
import ntorch
x = ntorch.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
y = ntorch.tanh(x @ x + 1).sum() + ntorch.nn.functional.softmax(x, 1).max()
y.backward()
from ntorch.runtime import build
print(build.counters["compiled"], y.item(), "numba" in sys.modules, "scipy" in sys.modules)
"""


def _process(folder, before=""):
    environment = {**os.environ, "NTORCH_CACHE_DIR": str(folder)}
    return subprocess.Popen([sys.executable, "-W", "error", "-c", PROGRAM.format(before=before)],
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment,
                            text=True)


@pytest.mark.without_numba
def test_processes_share_a_store_and_the_warm_path_needs_no_numba(tmp_path):
    racers = [_process(tmp_path / "store") for _ in range(2)]
    outputs = [(p.communicate(timeout=300), p.returncode) for p in racers]
    assert [code for _, code in outputs] == [0, 0], outputs
    cold = {out.split()[1] for (out, _), _ in outputs}
    assert len(cold) == 1
    assert not list((tmp_path / "store").glob("*.part"))
    blocked = "sys.modules.update(numba=None, scipy=None)"
    (out, errors), = [_process(tmp_path / "store", blocked).communicate(timeout=120)]
    assert out.split()[:2] == ["0", cold.pop()], errors
    for _, path, header, problem in _entries_of(tmp_path / "store"):
        assert problem is None and header["name"], path


def _entries_of(folder):
    for path in folder.glob("*" + store.SUFFIX):
        try:
            header, body = store._parse(path.read_bytes())
            yield path.name, path, header, None
        except (ValueError, KeyError) as error:
            yield path.name, path, None, str(error)


def test_import_is_light():
    code = ("import sys, ntorch; bad = {'numba', 'scipy', 'llvmlite', 'torch'} & set(sys.modules); "
            "assert not bad, bad")
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


# --- the code -------------------------------------------------------------------------------------

def _capture(monkeypatch):
    """Collect ``symbol -> LLVM IR`` of what is compiled from now on."""
    from ntorch.runtime import target
    found, original = {}, target.emit

    def emit(module):
        found[module.name] = str(module)
        return original(module)

    monkeypatch.setattr(target, "emit", emit)
    return found


ARITHMETIC = re.compile(r"= (?:f(?:add|sub|mul|div|rem|cmp)|call)[a-z ]*(?:<\d+ x )?double\b.*")
# computed in float64 by design: special functions without a float32 form, ``math32_wide``, whose
# wider steps are cheaper than compensated ones, and the argument reduction of sine and cosine
IN_DOUBLE = set("digamma polygamma zeta i0 i0e i1 i1e lgamma igamma igammac erfinv ndtri mvlgamma "
                "_pow acos acosh asin asinh atan atan2 atanh arccos arccosh arcsin arcsinh arctan "
                "arctan2 arctanh sinh cosh hypot sin cos tan sinc".split())


def _float32_entries():
    seen = set()
    for name, entry in sorted(entries().items()):
        if (not isinstance(entry, PointwiseEntry) or entry.n_results != 1 or id(entry) in seen
                or {name, entry.name} & IN_DOUBLE):
            continue
        if any(p.kind not in ("Tensor", "Operand") for p in entry.schema.parameters):
            continue
        try:
            compute, _ = entry.rule(ntorch.float32)
        except (RuntimeError, NotImplementedError):
            continue
        if compute is ntorch.float32:
            seen.add(id(entry))
            yield name


@pytest.mark.parametrize("name", list(_float32_entries()))
def test_float32_computes_in_float32(name, fresh, monkeypatch):
    """A stray double constant halves the speed of a float32 loop."""
    from ntorch.ops import loops
    monkeypatch.setattr(loops, "_kernels", {})
    entry = entries()[name]
    monkeypatch.setattr(entry, "plans", {})
    found = _capture(monkeypatch)
    inputs = [ntorch.from_numpy(np.full(64, 0.5, np.float32)) for p in entry.schema.parameters]
    entry.function(*inputs)
    ir = "\n".join(found.values())
    doubles = [line.strip() for line in ir.splitlines() if ARITHMETIC.search(line)]
    assert not doubles, doubles[:5]


KEYS = {"add": 2, "mul": 2, "exp": 1, "tanh": 1, "sigmoid": 1, "erf": 1, "sqrt": 1, "relu": 1}


@pytest.mark.skipif(not re.search("avx2|neon", load.host_cpu()), reason="no vector unit")
@pytest.mark.parametrize("name", KEYS)
def test_key_kernels_vectorise(name, fresh, monkeypatch):
    from ntorch.ops import loops
    monkeypatch.setattr(loops, "_kernels", {})
    entry = entries()[name]
    if isinstance(entry, PointwiseEntry):
        monkeypatch.setattr(entry, "plans", {})
    found = _capture(monkeypatch)
    entry.function(*[ntorch.from_numpy(np.ones(64, np.float32))] * KEYS[name])
    ir = "\n".join(found.values())
    assert re.search(r"load <\d+ x float>", ir) and re.search(r"store <\d+ x float>", ir)
    scalar_calls = re.findall(r"call [^\n]*@(?:expf?|tanhf?|erff?|logf?|sinf?)\(", ir)
    assert not scalar_calls


def test_counters_and_headers(fresh):
    run(scaled)
    (path,) = _files(fresh)
    header = json.loads(path.read_bytes().partition(b"\n")[0])
    assert header["name"] == "scaled" and header["params"] == ["f4:1C", "f4:1C"]


def test_numba_itself_is_left_alone(fresh):
    """Functions that other code compiles with Numba and our kernels do not meet."""
    import numba

    @numba.njit
    def total(x):
        result = 0.0
        for value in np.exp(x):
            result += min(value, 2.0)
        return result

    x = np.arange(4.0)
    before = total(x)
    np.testing.assert_array_equal(run(scaled), [5, 10, 15, 20])
    assert total(x) == before == np.minimum(np.exp(x), 2.0).sum()
    assert total(x.astype(np.float32)) == pytest.approx(before)
    assert total.nopython_signatures and total.inspect_asm()
