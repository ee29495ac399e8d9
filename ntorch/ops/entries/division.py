"""Quotients and remainders, pointwise."""
import math

import numpy as np

from ...kernels.stubs import T, copysign_, fabs_, floor_, fma, select, trunc_, typed
from ...runtime import dtypes
from ..base import TensorBase
from ..composite import composite
from ..dtype_rules import floating, integers_only, not_bool
from ..pointwise import pointwise
from ..registry import ops
from .arithmetic import conjugate

INF = math.inf


@pointwise("_div(Operand self, Operand other) -> Tensor", dtype=floating, method=False)
def quotient(x, y):
    """``self / other`` in floating point, also for integers."""
    return x / y


@quotient.gradient("self")
def _(grad, other):
    return grad / conjugate(other)


@quotient.gradient("other")
def _(grad, other, result):
    return -grad * conjugate(result / other)


@composite("true_divide(Operand self, Operand other) -> Tensor", inplace=True, out=True)
def true_divide(self, other):
    """``self / other`` in floating point, also for integers."""
    return ops._div(self, other)


def _fmod_far(a, b):
    """``fmod`` of a > b > 0 whose quotient has too many digits: long division, bit by bit."""
    scaled = b
    while scaled <= a * T(0.5):
        scaled = scaled * T(2)
    while scaled >= b:
        if a >= scaled:
            a = a - scaled
        scaled = scaled * T(0.5)
    return a


def _fmod_near(x, y, whole):
    """``fmod`` from the truncated rounded quotient, which is exact or one too far from zero."""
    rest = fma(-whole, y, x)
    rest = select((rest < T(0)) != (x < T(0)), rest + copysign_(y, x), rest)
    return copysign_(select(fabs_(rest) == fabs_(y), T(0), rest), x)


def _fmod_any(x, y, limit):
    if not ((fabs_(x) < T(INF)) & (fabs_(y) > T(0))):
        return (x * y) / (x * y)            # NaN
    if fabs_(y) == T(INF):
        return x
    whole = trunc_(x / y)
    if fabs_(whole) < limit:
        return _fmod_near(x, y, whole)
    return copysign_(_fmod_far(fabs_(x), fabs_(y)), x)


def _fmod_f32(x, y):
    """Exact: while the quotient fits in 24 bits, the remainder is one fma."""
    return _fmod_any(x, y, T(16777216.0))


def _fmod_f64(x, y):
    """Exact: while the quotient fits in 53 bits, the remainder is one fma."""
    return _fmod_any(x, y, T(9007199254740992.0))


_fmod_exact = typed("fmod_exact", f4=_fmod_f32, f8=_fmod_f64)


def _floor_divide_float(x, y):
    """The floor of the exact quotient: the rounded one may have crossed an integer."""
    rest = _fmod_exact(x, y)
    exact = (x - rest) / y
    exact = select((rest != T(0)) & ((rest < T(0)) != (y < T(0))), exact - T(1), exact)
    whole = floor_(exact)
    whole = select(exact - whole > 0.5, whole + T(1), whole)
    whole = select(exact == T(0), copysign_(T(0), x / y), whole)
    return select(y == T(0), x / y, whole)


def _floor_divide_integer(x, y):
    x, y = np.int64(x), np.int64(y)
    # the smallest integer divided by -1 traps in hardware
    return select(y == -1, -x, x // select(y == -1, 1, y))


def _trunc_divide_float(x, y):
    return trunc_(x / y)


def _trunc_divide_integer(x, y):
    whole = _floor_divide_integer(x, y)
    return whole + np.int64((whole < 0) & (whole * np.int64(y) != x))


_floor_divide = typed("floor_divide", f4=_floor_divide_float, f8=_floor_divide_float,
                      i8=_floor_divide_integer)
_trunc_divide = typed("trunc_divide", f4=_trunc_divide_float, f8=_trunc_divide_float,
                      i8=_trunc_divide_integer)


def check_divisor(other):
    """RuntimeError (torch's ZeroDivisionError) if integers are about to be divided by zero."""
    if isinstance(other, TensorBase):
        if (other.dtype.category == dtypes.INT and other.device.type != "meta"
                and bool(ops.any(ops.eq(other, 0)))):
            raise RuntimeError("ZeroDivisionError")
    elif other == 0 and isinstance(other, int):
        raise RuntimeError("ZeroDivisionError")


def _integral(*operands):
    return all(o.dtype.category < dtypes.FLOAT if isinstance(o, TensorBase) else isinstance(o, int)
               for o in operands)


@pointwise("_floor_divide(Operand self, Operand other) -> Tensor", dtype=not_bool, method=False)
def floor_divide_kernel(x, y):
    """``floor(self / other)``; integer divisors are not zero."""
    return _floor_divide(x, y)


@pointwise("_trunc_divide(Operand self, Operand other) -> Tensor", dtype=not_bool, method=False)
def trunc_divide_kernel(x, y):
    """``trunc(self / other)``; integer divisors are not zero."""
    return _trunc_divide(x, y)


for _entry in (floor_divide_kernel, trunc_divide_kernel):
    @_entry.gradient("self")
    def _(grad):
        return ops.zeros_like(grad)

    @_entry.gradient("other")
    def _(grad):
        return ops.zeros_like(grad)


@composite("floor_divide(Operand self, Operand other) -> Tensor", inplace=True, out=True,
           fuse=False)
def floor_divide(self, other):
    """``floor(self / other)`` in the promoted type. RuntimeError for integers divided by zero."""
    if _integral(self, other):
        check_divisor(other)
    return ops._floor_divide(self, other)


@composite("div(Operand self, Operand other, *, str? rounding_mode=None) -> Tensor", inplace=True,
           out=True, aliases=("divide",), fuse=False)
def div(self, other, rounding_mode):
    """``self / other``: exact, or rounded toward zero (``"trunc"``) or down (``"floor"``)."""
    if rounding_mode is None:
        return ops._div(self, other)
    if rounding_mode not in ("floor", "trunc"):
        raise RuntimeError("div expected rounding_mode to be one of None, 'trunc', or 'floor' but "
                           f"found '{rounding_mode}'")
    if _integral(self, other):
        check_divisor(other)
    return (ops._floor_divide if rounding_mode == "floor" else ops._trunc_divide)(self, other)


def _remainder_float(x, y):
    rest = _fmod_exact(x, y)
    return select((rest != T(0)) & ((rest < T(0)) != (y < T(0))), rest + y, rest)


def _remainder_integer(x, y):
    x, y = np.int64(x), np.int64(y)
    return select(y == -1, 0, x % select(y == -1, 1, y))


def _fmod_integer(x, y):
    return np.int64(x) - _trunc_divide_integer(x, y) * np.int64(y)


_remainder = typed("remainder", f4=_remainder_float, f8=_remainder_float, i8=_remainder_integer)
_fmod = typed("fmod", f4=_fmod_f32, f8=_fmod_f64, i8=_fmod_integer)


@pointwise("_remainder(Operand self, Operand other) -> Tensor", dtype=not_bool, method=False)
def remainder_kernel(x, y):
    """``self - other * floor(self / other)``, exact; integer divisors are not zero."""
    return _remainder(x, y)


@remainder_kernel.gradient("self")
def _(grad):
    return grad


@remainder_kernel.gradient("other")
def _(grad, self, other):
    return -grad * ops.div(self, other, rounding_mode="floor")


@pointwise("_fmod(Operand self, Operand other) -> Tensor", dtype=not_bool, method=False)
def fmod_kernel(x, y):
    """``self - other * trunc(self / other)``, exact; integer divisors are not zero."""
    return _fmod(x, y)


@fmod_kernel.gradient("self")
def _(grad):
    return grad


@fmod_kernel.gradient("other")
def _(grad, self, other):
    return -grad * ops.div(self, other, rounding_mode="trunc")


@composite("remainder(Operand self, Operand other) -> Tensor", inplace=True, out=True, fuse=False)
def remainder(self, other):
    """Python's ``self % other``: the sign of the divisor. RuntimeError for integers modulo zero."""
    if _integral(self, other):
        check_divisor(other)
    return ops._remainder(self, other)


@composite("fmod(Tensor self, Operand other) -> Tensor", inplace=True, out=True, fuse=False)
def fmod(self, other):
    """C's ``fmod``: the sign of the dividend. RuntimeError for integers modulo zero."""
    if _integral(self, other):
        check_divisor(other)
    return ops._fmod(self, other)


@pointwise("reciprocal(Tensor self) -> Tensor", dtype=floating)
def reciprocal(x):
    """``1 / self``."""
    return 1 / x


@reciprocal.gradient("self")
def _(grad, result):
    return -grad * conjugate(result * result)


def _gcd_integer(x, y):
    """Euclid's algorithm; not negative."""
    a, b = np.int64(x), np.int64(y)
    while b != 0:
        a, b = b, _remainder_integer(a, b)
    return abs(a)


def _lcm_integer(x, y):
    common = _gcd_integer(x, y)
    if common == 0:
        return common
    return abs(np.int64(x) // common * np.int64(y))


_gcd = typed("gcd", i8=_gcd_integer)
_lcm = typed("lcm", i8=_lcm_integer)


@pointwise("gcd(Tensor self, Tensor other) -> Tensor", dtype=integers_only, differentiable=False)
def gcd(x, y):
    """Greatest common divisor of integers; 0 for two zeros."""
    return _gcd(x, y)


@pointwise("lcm(Tensor self, Tensor other) -> Tensor", dtype=integers_only, differentiable=False)
def lcm(x, y):
    """Least common multiple of integers, not negative."""
    return _lcm(x, y)
