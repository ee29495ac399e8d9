"""float32 functions computed in float64 and rounded once: within 0.51 ULP unless stated otherwise.

Special values are those of the float64 functions of the same name.
"""
import numpy as np

from . import math64, special64, trig64
from .math64 import exp2_f64, log2_f64
from .stubs import fabs_, floor_, round_even, select, sqrt_, typed

INF = float("inf")
NAN = float("nan")
# one variant each: built for float64 whatever type the caller is built for
_asin = typed("asin", f8=trig64.asin_f64)
_acos = typed("acos", f8=trig64.acos_f64)
_atan = typed("atan", f8=trig64.atan_f64)
_atan2 = typed("atan2", f8=trig64.atan2_f64)
_sinh = typed("sinh", f8=math64.sinh_f64)
_cosh = typed("cosh", f8=math64.cosh_f64)
_asinh = typed("asinh", f8=math64.asinh_f64)
_acosh = typed("acosh", f8=math64.acosh_f64)
_atanh = typed("atanh", f8=math64.atanh_f64)
_erfinv = typed("erfinv", f8=special64.erfinv_f64)
_lgamma = typed("lgamma", f8=special64.lgamma_f64)
_digamma = typed("digamma", f8=special64.digamma_f64)


def asin_f32(x):
    """Inverse sine; NaN outside [-1, 1]."""
    return np.float32(_asin(np.float64(x)))


def acos_f32(x):
    """Inverse cosine; NaN outside [-1, 1]."""
    return np.float32(_acos(np.float64(x)))


def atan_f32(x):
    """Inverse tangent; +-pi/2 at +-inf."""
    return np.float32(_atan(np.float64(x)))


def atan2_f32(y, x):
    """The angle of the point (x, y), in [-pi, pi]."""
    return np.float32(_atan2(np.float64(y), np.float64(x)))


def sinh_f32(x):
    """Hyperbolic sine; +-inf above 89.42."""
    return np.float32(_sinh(np.float64(x)))


def cosh_f32(x):
    """Hyperbolic cosine; inf above 89.42."""
    return np.float32(_cosh(np.float64(x)))


def asinh_f32(x):
    """Inverse hyperbolic sine."""
    return np.float32(_asinh(np.float64(x)))


def acosh_f32(x):
    """Inverse hyperbolic cosine; 0 at 1, NaN below."""
    return np.float32(_acosh(np.float64(x)))


def atanh_f32(x):
    """Inverse hyperbolic tangent; +-inf at +-1, NaN beyond."""
    return np.float32(_atanh(np.float64(x)))


def erfinv_f32(x):
    """Inverse of the error function; +-inf at +-1, NaN beyond."""
    return np.float32(_erfinv(np.float64(x)))


def lgamma_f32(x):
    """``log |gamma(x)|``; 1 ULP, below 0 of the larger of the result and 1e-8."""
    return np.float32(_lgamma(np.float64(x)))


def digamma_f32(x):
    """``d/dx log(gamma(x))``; 1 ULP, near its zeros of the larger of the result and 1e-8."""
    return np.float32(_digamma(np.float64(x)))


def _hypot_f64(x, y):
    """Root of the sum of squares that cannot overflow: of float32 values."""
    return sqrt_(x * x + y * y)


_hypot = typed("hypot", f8=_hypot_f64)


def hypot_f32(x, y):
    """``sqrt(x * x + y * y)``; inf if either is infinite, else NaN if either is NaN."""
    h = np.float32(_hypot(np.float64(x), np.float64(y)))
    infinite = (fabs_(x) == INF) | (fabs_(y) == INF)
    return select(infinite, INF, h)


def _pow_f64(x, y):
    """``x ** y`` of float32 values in float64."""
    a = fabs_(x)
    power = exp2_f64(y * log2_f64(a))
    integral = round_even(y) == y
    half = 0.5 * y
    odd = integral & (floor_(half) != half) & (fabs_(y) < 16777216.0)
    negative = select(integral, select(odd, -power, power), NAN)
    negative = select((x == -INF) & (not integral), power, negative)
    # -0 too: an odd power keeps the sign
    minus = (x < 0.0) | ((x == 0.0) & (1.0 / x < 0.0) & odd)
    result = select(minus, negative, power)
    one = (x == 1.0) | (y == 0.0) | ((a == 1.0) & (fabs_(y) == INF))
    return select(one, 1.0, result)


_pow = typed("pow", f8=_pow_f64)


def pow_f32(x, y):
    """``x ** y``; 1 ** NaN and NaN ** 0 are 1, a negative x to a fraction is NaN, as in C."""
    return np.float32(_pow(np.float64(x), np.float64(y)))
