"""Complex elementary functions, computed in complex128 and rounded to the argument's type.

Branch cuts and special values are those of C99. They run one element at a time.
"""
import cmath
import math

import numpy as np

from .math64 import exp_f64, expm1_f64, log1p_f64
from .stubs import to_type_of, typed
from .trig64 import atan2_f64, cos_f64, sin_f64

LOG2_E = 1.4426950408889634
LN2 = 0.6931471805599453


def exp_c(z):
    """``e ** z``."""
    return to_type_of(z, cmath.exp(np.complex128(z)))


def log_c(z):
    """Natural logarithm, imaginary part in [-pi, pi]."""
    return to_type_of(z, cmath.log(np.complex128(z)))


def log10_c(z):
    """Base 10 logarithm."""
    return to_type_of(z, cmath.log10(np.complex128(z)))


def sqrt_c(z):
    """Principal square root."""
    return to_type_of(z, cmath.sqrt(np.complex128(z)))


def sin_c(z):
    """Sine."""
    return to_type_of(z, cmath.sin(np.complex128(z)))


def cos_c(z):
    """Cosine."""
    return to_type_of(z, cmath.cos(np.complex128(z)))


def tan_c(z):
    """Tangent."""
    return to_type_of(z, cmath.tan(np.complex128(z)))


def asin_c(z):
    """Inverse sine."""
    return to_type_of(z, cmath.asin(np.complex128(z)))


def acos_c(z):
    """Inverse cosine."""
    return to_type_of(z, cmath.acos(np.complex128(z)))


def atan_c(z):
    """Inverse tangent."""
    return to_type_of(z, cmath.atan(np.complex128(z)))


def sinh_c(z):
    """Hyperbolic sine."""
    return to_type_of(z, cmath.sinh(np.complex128(z)))


def cosh_c(z):
    """Hyperbolic cosine."""
    return to_type_of(z, cmath.cosh(np.complex128(z)))


def tanh_c(z):
    """Hyperbolic tangent."""
    return to_type_of(z, cmath.tanh(np.complex128(z)))


def asinh_c(z):
    """Inverse hyperbolic sine."""
    return to_type_of(z, cmath.asinh(np.complex128(z)))


def acosh_c(z):
    """Inverse hyperbolic cosine."""
    return to_type_of(z, cmath.acosh(np.complex128(z)))


def atanh_c(z):
    """Inverse hyperbolic tangent."""
    return to_type_of(z, cmath.atanh(np.complex128(z)))


def exp2_c(z):
    """``2 ** z``."""
    return to_type_of(z, cmath.exp(np.complex128(z) * LN2))


def _expm1_wide(z):
    """``e ** z - 1``: ``expm1(x) cos(y) - 2 sin(y / 2) ** 2`` keeps the real part near 0."""
    half = sin_f64(z.imag * 0.5)
    real = expm1_f64(z.real) * cos_f64(z.imag) - 2.0 * half * half
    return complex(real, exp_f64(z.real) * sin_f64(z.imag))


def _log1p_wide(z):
    """``log(1 + z)`` with ``log1p`` of ``|1 + z| ** 2 - 1``."""
    x, y = z.real, z.imag
    square = x * (2.0 + x) + y * y
    return complex(0.5 * log1p_f64(square), atan2_f64(y, 1.0 + x))


# one variant: built for float64 whatever type the caller is built for
_expm1 = typed("expm1", c16=_expm1_wide)
_log1p = typed("log1p", c16=_log1p_wide)


def expm1_c(z):
    """``e ** z - 1`` without cancellation near 0."""
    return to_type_of(z, _expm1(np.complex128(z)))


def log1p_c(z):
    """``log(1 + z)`` without cancellation near 0."""
    return to_type_of(z, _log1p(np.complex128(z)))


def log2_c(z):
    """Base 2 logarithm."""
    return to_type_of(z, cmath.log(np.complex128(z)) * LOG2_E)


def rsqrt_c(z):
    """``1 / sqrt(z)``."""
    return to_type_of(z, 1.0 / cmath.sqrt(np.complex128(z)))


def sigmoid_c(z):
    """``1 / (1 + exp(-z))``."""
    return to_type_of(z, 1.0 / (1.0 + cmath.exp(-np.complex128(z))))


def _pow_wide(z, w):
    """``exp(w log z)``; a zero base gives 1, 0 or NaN."""
    if z == 0.0:
        if w == 0.0:
            return complex(1.0, 0.0)
        if w.real > 0.0:
            return complex(0.0, 0.0)
        return complex(math.nan, math.nan)
    return cmath.exp(w * cmath.log(z))


_pow = typed("pow", c16=_pow_wide)


def pow_c(z, w):
    """``z ** w``, principal value; ``0 ** 0`` is 1, 0 to a power of negative real part NaN."""
    return to_type_of(z, _pow(np.complex128(z), np.complex128(w)))
