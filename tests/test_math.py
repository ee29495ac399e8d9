"""Elementary functions: error in units in the last place, special values, vectorised machine code.

References are mpmath at 140 bits. Every function runs compiled, as kernels run it, over random bit
patterns, dense ranges where it varies, and the special values.
"""
import math as pymath
import re
import types

import mpmath as mp
import numpy as np
import pytest

from ntorch.kernels import half, polygamma
from ntorch.kernels import math as functions
from ntorch.runtime import build, launch

TYPES = {"f4": (np.float32, np.uint32), "f8": (np.float64, np.uint64)}
SPECIAL = [0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.0, 0.5, -0.5, 2.0, -2.0, 3.0, -3.0,
           1e-8, -1e-8, 88.72283, 88.73, -87.34, -103.9, -104.1, 127.99, 128.0, -149.0, -150.0,
           1e4, -1e4, 3e38, -3e38, 1e-38, -1e-38, 1e-45, -1e-45, 10.0, 26.5, 1023.9, 709.78, -745.1,
           27.2, 1.4616321]



def loop(function, arguments):
    """A range kernel around a scalar function."""
    names = [f"x{i}" for i in range(arguments)]
    lines = [f"def body({', '.join(names)}, out, begin, end):"]
    lines += [f"    {n} = {n}[begin:end]" for n in [*names, "out"]]
    lines += ["    for i in range(len(out)):",
              f"        out[i] = function({', '.join(n + '[i]' for n in names)})"]
    scope = {"function": function, "__name__": "ntorch.test"}
    exec("\n".join(lines), scope)
    return scope["body"]


_loops = {}


def run(function, *inputs, code=None, out_code=None, reassoc=False):
    """``function`` over arrays, compiled for ``code``."""
    code = code or ("f4" if inputs[0].dtype == np.float32 else "f8")
    out = np.empty_like(inputs[0], dtype=np.dtype(out_code or code))
    names = {"u2": "h2"}                # half types are stored as 16-bit words
    kinds = tuple(f"{names.get(a.dtype.str[1:], a.dtype.str[1:])}:1C" for a in (*inputs, out))
    memo = (function, kinds, reassoc)
    if memo not in _loops:
        _loops[memo] = build.kernel(loop(function, len(inputs)), kinds,
                                    T=code if code in TYPES else "f4", reassoc=reassoc)
    slots = [v for a in (*inputs, out) for v in (a.ctypes.data, a.size)]
    launch.run(_loops[memo], slots, out.size, out.size)
    return out


def samples(code, ranges, count=500):
    """Bit patterns, values in each range, and the special values, in the type ``code``."""
    real, word = TYPES[code]
    rng = np.random.default_rng(7)
    bits = rng.integers(0, 1 << (32 if code == "f4" else 64), count, dtype=np.uint64)
    parts = [bits.astype(word).view(real)]
    parts += [rng.uniform(low, high, count) for low, high in ranges]
    parts += [rng.choice([-1.0, 1.0], count) * np.exp(rng.uniform(-20, 3, count)), SPECIAL]
    with np.errstate(over="ignore", invalid="ignore"):
        return np.concatenate([np.asarray(p, real) for p in parts])


def exact(reference, value):
    """The reference as an mpf, NaN where it is not real, or None where mpmath has no answer."""
    try:
        result = reference(mp.mpf(float(value)))
    except (ValueError, ZeroDivisionError, OverflowError):
        return None
    if isinstance(result, mp.mpc):
        return mp.nan if result.imag else result.real
    return result


def errors(got, x, reference, floor):
    """Largest error in ULP of ``got``, units no smaller than those of ``floor``."""
    worst, where = 0.0, None
    for value, result in zip(x, got, strict=True):
        if not np.isfinite(value) or not np.isfinite(result):
            continue
        wanted = exact(reference, value)
        if wanted is None or not mp.isfinite(wanted):
            assert wanted is None or not mp.isnan(wanted), f"f({value!r}) is NaN, got {result!r}"
            continue
        with np.errstate(over="ignore"):
            rounded = result.dtype.type(float(wanted))
        if not np.isfinite(rounded):
            continue
        unit = float(np.spacing(result.dtype.type(max(abs(float(wanted)), floor))))
        error = float(abs(mp.mpf(float(result)) - wanted) / unit)
        if error > worst:
            worst, where = error, float(value)
    return worst, where


def sigmoid(x):
    """1 / (1 + exp(-x))."""
    return 1 / (1 + mp.exp(-x))


def log_abs_gamma(x):
    """log |gamma(x)|."""
    return mp.loggamma(x).real


NEAR, WIDE, UNIT, POSITIVE = (-3.0, 3.0), (-80.0, 80.0), (-1.0, 1.0), (0.0, 4.0)
# name, reference, dense ranges, bound in ULP for float32 and float64, floor of the unit, domain
CASES = [
    ("exp", mp.exp, [NEAR, WIDE], 1.1, 1.1, 0, 1e5),
    ("exp2", lambda x: mp.power(2, x), [NEAR, WIDE], 1.1, 1.1, 0, 1e5),
    ("expm1", mp.expm1, [NEAR, (-20.0, 20.0)], 1.5, 2.0, 0, 1e5),
    ("log", mp.log, [POSITIVE, (0.5, 2.0)], 1.1, 1.0, 0, np.inf),
    ("log2", lambda x: mp.log(x) / mp.log(2), [POSITIVE, (0.5, 2.0)], 2.0, 2.2, 0, np.inf),
    ("log10", mp.log10, [POSITIVE, (0.5, 2.0)], 2.0, 2.2, 0, np.inf),
    ("log1p", mp.log1p, [(-1.0, 2.0)], 1.5, 1.5, 0, np.inf),
    ("sqrt", mp.sqrt, [POSITIVE], 0.5, 0.5, 0, np.inf),
    ("rsqrt", lambda x: 1 / mp.sqrt(x), [POSITIVE], 1.5, 1.5, 0, np.inf),
    ("sin", mp.sin, [NEAR, WIDE, (-1e6, 1e6)], 1.5, 1.0, 0, np.inf),
    ("cos", mp.cos, [NEAR, WIDE, (-1e6, 1e6)], 1.5, 1.0, 0, np.inf),
    ("tan", mp.tan, [NEAR, WIDE, (-1e6, 1e6)], 3.0, 1.0, 0, np.inf),
    ("asin", mp.asin, [UNIT], 0.51, 2.5, 0, np.inf),
    ("acos", mp.acos, [UNIT], 0.51, 2.5, 0, np.inf),
    ("atan", mp.atan, [NEAR], 0.51, 2.0, 0, np.inf),
    ("sinh", mp.sinh, [NEAR], 0.51, 3.0, 0, 1e4),
    ("cosh", mp.cosh, [NEAR], 0.51, 3.0, 0, 1e4),
    ("tanh", mp.tanh, [NEAR], 2.6, 2.6, 0, 1e5),
    ("asinh", mp.asinh, [NEAR], 0.51, 3.0, 0, np.inf),
    ("acosh", mp.acosh, [(1.0, 5.0)], 0.51, 3.0, 0, np.inf),
    ("atanh", mp.atanh, [UNIT], 0.51, 3.0, 0, np.inf),
    ("erf", mp.erf, [NEAR], 3.0, 2.0, 0, 1e5),
    ("erfc", mp.erfc, [NEAR, (0.0, 9.0)], 5.0, 5.0, 0, 1e3),
    ("lgamma", log_abs_gamma, [(0.0, 12.0), (-5.0, 0.0)], 1.0, 5.0, 1.0, 1e4),
    ("digamma", mp.digamma, [(0.0, 12.0), (-5.0, 0.0)], 1.0, 10.0, 1.0, 1e4),
]


@pytest.mark.parametrize("code", ["f4", "f8"])
@pytest.mark.parametrize("case", CASES, ids=[c[0] for c in CASES])
def test_error_within_the_stated_bound(case, code):
    name, reference, ranges, bound32, bound64, floor, limit = case
    x = samples(code, ranges, 250 if name in ("lgamma", "digamma", "erfc") else 500)
    x = x[~(np.abs(x) > limit)]
    with mp.workprec(140 if limit < np.inf else 1300 if name in ("sin", "cos", "tan") else 140):
        worst, where = errors(run(getattr(functions, name), x), x, reference, floor)
    assert worst <= (bound32 if code == "f4" else bound64), f"{name}({where!r}): {worst} ULP"


@pytest.mark.parametrize("code", ["f4", "f8"])
def test_sigmoid_error_down_to_its_underflow(code):
    """Where the result would be denormal it is 0: stated, and the only departure."""
    x = samples(code, [NEAR, WIDE])
    normal = -87.3 if code == "f4" else -708.3
    x = x[(x >= normal) & (np.abs(x) < 1e5)]
    with mp.workprec(140):
        worst, where = errors(run(functions.sigmoid, x), x, sigmoid, 0)
    assert worst <= 2.0, f"sigmoid({where!r}): {worst} ULP"
    low = run(functions.sigmoid, np.array([2 * normal], TYPES[code][0]))
    assert low[0] == 0.0


@pytest.mark.parametrize("code", ["f4", "f8"])
def test_erfinv_inverts_erf(code):
    real = TYPES[code][0]
    rng = np.random.default_rng(3)
    x = np.concatenate([rng.uniform(-1, 1, 400), 1 - np.exp(rng.uniform(-30, 0, 100))]).astype(real)
    x = x[np.abs(x) < 1]
    with mp.workprec(200):
        worst, where = errors(run(functions.erfinv, x), x, mp.erfinv, 0)
    assert worst <= (0.51 if code == "f4" else 5.0), f"erfinv({where!r}): {worst} ULP"
    ends = run(functions.erfinv, np.array([1, -1, 1.5, -2, 0], real))
    np.testing.assert_array_equal(ends, np.array([np.inf, -np.inf, np.nan, np.nan, 0], real))


INF, NAN = np.inf, np.nan
# name: values at +0, -0, inf, -inf
LIMITS = {
    "exp": (1, 1, INF, 0), "exp2": (1, 1, INF, 0), "expm1": (0.0, -0.0, INF, -1),
    "log": (-INF, -INF, INF, NAN), "log2": (-INF, -INF, INF, NAN), "log10": (-INF, -INF, INF, NAN),
    "log1p": (0.0, -0.0, INF, NAN), "sqrt": (0.0, -0.0, INF, NAN), "rsqrt": (INF, -INF, 0, NAN),
    "sin": (0.0, -0.0, NAN, NAN), "cos": (1, 1, NAN, NAN), "tan": (0.0, -0.0, NAN, NAN),
    "asin": (0.0, -0.0, NAN, NAN), "acos": (np.pi / 2, np.pi / 2, NAN, NAN),
    "atan": (0.0, -0.0, np.pi / 2, -np.pi / 2), "sinh": (0.0, -0.0, INF, -INF),
    "cosh": (1, 1, INF, INF), "tanh": (0.0, -0.0, 1, -1), "asinh": (0.0, -0.0, INF, -INF),
    "acosh": (NAN, NAN, INF, NAN), "atanh": (0.0, -0.0, NAN, NAN), "sigmoid": (0.5, 0.5, 1, 0),
    "erf": (0.0, -0.0, 1, -1), "erfc": (1, 1, 0, 2), "erfinv": (0.0, -0.0, NAN, NAN),
    "lgamma": (INF, INF, INF, INF), "digamma": (-INF, INF, INF, NAN),
}


@pytest.mark.parametrize("code", ["f4", "f8"])
@pytest.mark.parametrize("name", LIMITS)
def test_zeros_infinities_and_nan(name, code):
    real = TYPES[code][0]
    got = run(getattr(functions, name), np.array([0.0, -0.0, INF, -INF, NAN], real))
    wanted = np.array([*LIMITS[name], NAN], real)
    np.testing.assert_array_equal(got, wanted)
    zero = wanted == 0
    if name not in ("erfc", "exp", "exp2", "sigmoid", "rsqrt"):
        np.testing.assert_array_equal(np.signbit(got[zero]), np.signbit(wanted[zero]))


EDGES = [("exp", 89.0, INF), ("exp", -110.0, 0.0), ("exp2", 128.0, INF), ("exp2", -127.0, 2**-127),
         ("expm1", 89.0, INF), ("log", -1.0, NAN), ("log1p", -1.0, -INF), ("log1p", -1.5, NAN),
         ("log1p", 3e38, 88.59688), ("asin", 1.5, NAN), ("acos", -1.0, np.pi), ("acosh", 1.0, 0.0),
         ("acosh", 0.5, NAN), ("atanh", 1.0, INF), ("atanh", -1.0, -INF), ("atanh", 2.0, NAN),
         ("tanh", 30.0, 1.0), ("erf", 5.0, 1.0), ("erfc", 11.0, 0.0), ("lgamma", -2.0, INF),
         ("lgamma", 1.0, 0.0), ("lgamma", 2.0, 0.0), ("digamma", -3.0, NAN),
         ("sinh", 89.3, 3.03e38)]


@pytest.mark.parametrize(("name", "x", "wanted"), EDGES, ids=[f"{n}({x})" for n, x, _ in EDGES])
def test_edges_of_the_domain(name, x, wanted):
    got = run(getattr(functions, name), np.array([x], np.float32))[0]
    np.testing.assert_allclose(got, np.float32(wanted), rtol=1e-2 if name == "sinh" else 1e-6)


@pytest.mark.parametrize("code", ["f4", "f8"])
def test_atan2_and_hypot_of_all_quadrants_and_special_pairs(code):
    real = TYPES[code][0]
    values = np.array([0.0, -0.0, 1, -1, INF, -INF, NAN, 1e-30, 1e30, 2.5, -0.3], real)
    y, x = (np.ascontiguousarray(a.ravel()) for a in np.meshgrid(values, values))
    tolerance = 3e-7 if code == "f4" else 1e-15
    angle, wanted = run(functions.atan2, y, x), np.arctan2(y, x)
    np.testing.assert_allclose(angle, wanted, rtol=tolerance)
    np.testing.assert_array_equal(np.signbit(angle[wanted == 0]), np.signbit(wanted[wanted == 0]))
    np.testing.assert_allclose(run(functions.hypot, x, y), np.hypot(x, y), rtol=tolerance)


@pytest.mark.parametrize("code", ["f4", "f8"])
def test_pow_agrees_with_the_c_library_on_special_pairs(code):
    real = TYPES[code][0]
    values = np.array([0.0, -0.0, 1, -1, INF, -INF, NAN, 2, -2, 0.5, -0.5, 3, -3, 1.5, 1e10, -1e10,
                       16777215.0], real)
    x, y = (np.ascontiguousarray(a.ravel()) for a in np.meshgrid(values, values))
    with np.errstate(all="ignore"):
        wanted = np.power(x, y)
    np.testing.assert_allclose(run(functions.pow, x, y), wanted, rtol=2e-7)


def test_pow_f32_is_within_one_ulp():
    rng = np.random.default_rng(5)
    x = np.exp(rng.uniform(-20, 20, 2000)).astype(np.float32)
    y = rng.uniform(-4, 4, 2000).astype(np.float32)
    wanted = np.power(x.astype(np.float64), y.astype(np.float64))
    got = run(functions.pow, x, y)
    normal = (wanted > 1e-37) & (wanted < 3e38)
    error = np.abs(got - wanted) / np.spacing(wanted.astype(np.float32))
    assert error[normal].max() <= 0.51


@pytest.mark.parametrize("name", ["exp", "tanh", "sin", "erf", "log1p"])
def test_reordering_sums_leaves_the_error_bound(name):
    """A reduction's build allows reassociation: the reductions of arguments must survive it."""
    case = next(c for c in CASES if c[0] == name)
    x = samples("f4", case[2], 300)
    x = x[~(np.abs(x) > case[6])]
    with mp.workprec(300):
        worst, where = errors(run(getattr(functions, name), x, reassoc=True), x, case[1], 0)
    assert worst <= case[3] + 0.5, f"{name}({where!r}): {worst} ULP"


def test_polygamma_against_mpmath():
    x = np.array([0.3, 1.0, 2.5, 9.0, 30.0, -0.4, -2.6])
    for n in (1.0, 2.0, 5.0):
        got = run(polygamma.polygamma, x, np.full_like(x, n))
        wanted = [float(mp.psi(int(n), mp.mpf(v))) for v in x]
        np.testing.assert_allclose(got, wanted, rtol=2e-13)


COMPLEX = ["exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "sqrt", "rsqrt", "sin", "cos",
           "tan", "asin", "acos", "atan", "sinh", "cosh", "tanh", "asinh", "acosh", "atanh"]


@pytest.mark.parametrize("name", COMPLEX)
@pytest.mark.parametrize("code", ["c8", "c16"])
def test_complex_functions_against_mpmath(name, code):
    rng = np.random.default_rng(2)
    z = (rng.standard_normal(40) * 1.5 + 1j * rng.standard_normal(40)).astype(code)
    references = {"exp2": lambda v: mp.power(2, v), "log2": lambda v: mp.log(v) / mp.log(2),
                  "log1p": lambda v: mp.log(1 + v), "expm1": lambda v: mp.exp(v) - 1,
                  "rsqrt": lambda v: 1 / mp.sqrt(v)}
    reference = references.get(name) or getattr(mp, name)
    wanted = np.array([complex(reference(mp.mpc(complex(v)))) for v in z])
    got = run(getattr(functions, name), z, code=code)
    np.testing.assert_allclose(got, wanted, rtol=3e-7 if code == "c8" else 1e-13, atol=0)


def _bit_by_bit(function):
    """The function as processors without an instruction for it compute it."""
    return types.FunctionType(function.__code__, function.__globals__, function.__name__)


@pytest.mark.parametrize("form", [lambda function: function, _bit_by_bit])
def test_every_float16_and_bfloat16_word_converts_exactly(form):
    words = np.arange(65536, dtype=np.uint16)
    with np.errstate(invalid="ignore"):
        wanted = words.view(np.float16).astype(np.float32)
    np.testing.assert_array_equal(run(form(half.f16_to_f32), words, code="f4", out_code="f4"),
                                  wanted)
    wanted = (words.astype(np.uint32) << 16).view(np.float32)
    np.testing.assert_array_equal(run(half.bf16_to_f32, words, code="f4", out_code="f4"), wanted)


def _between(code_points):
    """Every value of a 16-bit type, the midpoints between neighbours, and their sides."""
    finite = code_points[np.isfinite(code_points)]
    ordered = np.unique(finite)
    middle = ((ordered[1:].astype(np.float64) + ordered[:-1]) / 2).astype(np.float32)
    around = [ordered, middle, np.nextafter(middle, np.float32(INF)),
              np.nextafter(middle, np.float32(-INF)), [65519.0, 65520.0, 1e9, -1e9, INF, -INF, NAN]]
    return np.concatenate([np.asarray(a, np.float32) for a in around])


@pytest.mark.parametrize("form", [lambda function: function, _bit_by_bit])
def test_rounding_to_float16_at_every_value_and_midpoint(form):
    x = _between(np.arange(65536, dtype=np.uint16).view(np.float16).astype(np.float32))
    got = run(form(half.f32_to_f16), x, code="f4", out_code="u2").view(np.float16)
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(got, x.astype(np.float16))
    zero = x == 0
    np.testing.assert_array_equal(np.signbit(got[zero]), np.signbit(x[zero]))


def test_rounding_to_bfloat16_at_every_value_and_midpoint():
    x = _between((np.arange(65536, dtype=np.uint32) << 16).view(np.float32))
    got = run(half.f32_to_bf16, x, code="f4", out_code="u2")
    bits = x.view(np.uint32).astype(np.uint64)
    wanted = ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)
    wanted[np.isnan(x)] = 0x7FC0
    np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("name", ["exp", "tanh", "sigmoid", "erf", "log", "sin", "sinh", "sqrt"])
def test_machine_code_is_vectorised(name, monkeypatch):
    """Arithmetic on whole vector registers, and no function of the C library."""
    llvmlite = pytest.importorskip("llvmlite.binding")
    if "avx" not in llvmlite.get_host_cpu_features().flatten():
        pytest.skip("the check reads x86 vector code")
    text = _assembly(loop(getattr(functions, name), 1), monkeypatch)
    arithmetic = "vsqrtps" if name == "sqrt" else r"vfn?m(add|sub)\w+p[sd]|vmulp[sd]"
    assert re.search(rf"({arithmetic})\s.*%[yz]mm", text)
    called = set(re.findall(r"(?:\$|callq?\s+)([A-Za-z_]\w*)", text))
    library = {f + suffix for f in ("exp", "log", "sin", "cos", "tanh", "erf", "sinh", "sqrt")
               for suffix in ("", "f")}
    assert not called & library


def _assembly(body, monkeypatch):
    """x86 text of a kernel as it is built."""
    from ntorch.runtime import compile as cold
    from ntorch.runtime import target
    made, original = [], target.emit
    monkeypatch.setattr(target, "emit", lambda module: made.append(target.assembly(module)) or
                        original(module))
    cold.compile_object(body, ("f4:1C", "f4:1C"), "f4", False, "0" * 40)
    return made[0]


def test_uncompiled_functions_compute_the_same():
    """Kernels are plain Python: a test or a reader can step through one."""
    for value in (0.3, -2.5, 40.0):
        x = np.float32(value)
        assert functions.exp(x) == pytest.approx(pymath.exp(value), rel=1e-6)
        assert functions.tanh(x) == pytest.approx(pymath.tanh(value), rel=1e-6)
        assert functions.erf(np.float64(value)) == pytest.approx(pymath.erf(value), rel=1e-14)
