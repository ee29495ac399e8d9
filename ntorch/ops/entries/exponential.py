"""Exponentials, logarithms, roots and powers, pointwise."""
import math

import numpy as np

from ...kernels import math as functions
from ...kernels.math import exp as exp_
from ...kernels.math import log1p as log1p_
from ...kernels.stubs import fabs_, select, typed
from ...runtime import dtypes
from ..base import TensorBase
from ..composite import composite
from ..dtype_rules import floating, floats_only, not_complex
from ..pointwise import pointwise
from ..registry import ops
from .arithmetic import conjugate

INF = math.inf
LN_2 = math.log(2.0)
LN_10 = math.log(10.0)


def unary(name, doc, dtype=floating, **flags):
    """An entry whose expression is the kernel function ``name`` of one argument."""
    kernel = getattr(functions, name)

    def expression(x):
        return kernel(x)

    expression.__doc__ = doc
    expression.__name__ = name
    return pointwise(f"{name}(Tensor self) -> Tensor", dtype=dtype, **flags)(expression)


exp = unary("exp", "``e ** self``.")
exp2 = unary("exp2", "``2 ** self``.")
expm1 = unary("expm1", "``e ** self - 1``, accurate near 0.")
log = unary("log", "Natural logarithm: -inf at 0, NaN below.")
log2 = unary("log2", "Logarithm to base 2.")
log10 = unary("log10", "Logarithm to base 10.")
log1p = unary("log1p", "``log(1 + self)``, accurate near 0.")
sqrt = unary("sqrt", "Square root; NaN below 0 (complex numbers: the principal root).")
rsqrt = unary("rsqrt", "``1 / sqrt(self)``.")


@exp.gradient("self")
def _(grad, result):
    return grad * conjugate(result)


@exp2.gradient("self")
def _(grad, result):
    return grad * conjugate(result * LN_2)


@expm1.gradient("self")
def _(grad, result):
    return grad * conjugate(result + 1)


@log.gradient("self")
def _(grad, self):
    return grad / conjugate(self)


@log2.gradient("self")
def _(grad, self):
    return grad / conjugate(self * LN_2)


@log10.gradient("self")
def _(grad, self):
    return grad / conjugate(self * LN_10)


@log1p.gradient("self")
def _(grad, self):
    return grad / conjugate(self + 1)


@sqrt.gradient("self")
def _(grad, result):
    return grad / conjugate(2 * result)


@rsqrt.gradient("self")
def _(grad, result):
    return -0.5 * grad * conjugate(result * result * result)


def _logaddexp_real(x, y):
    difference = fabs_(x - y)
    higher = select(x > y, x, y)
    # equal infinities differ by NaN
    return select(difference == difference, higher + log1p_(exp_(-difference)), x + y)


def _logaddexp_complex(x, y):
    if x.real >= y.real:
        return x + log1p_(exp_(y - x))
    return y + log1p_(exp_(x - y))


_logaddexp = typed("logaddexp", f4=_logaddexp_real, f8=_logaddexp_real, c8=_logaddexp_complex,
                   c16=_logaddexp_complex)


@pointwise("logaddexp(Tensor self, Tensor other) -> Tensor", dtype=floats_only, inplace=False)
def logaddexp(x, y):
    """``log(exp(self) + exp(other))`` without overflow."""
    return _logaddexp(x, y)


@logaddexp.gradient("self")
def _(grad, self, result):
    return grad * conjugate(_share(self, result))


@logaddexp.gradient("other")
def _(grad, other, result):
    return grad * conjugate(_share(other, result))


def _share(part, whole, base=None):
    """``exp(part - whole)``; a share of nothing (-inf of -inf) counts as 0, as in torch."""
    share = ops.exp(part - whole) if base is None else ops.exp2(part - whole)
    return ops.masked_fill(share, ops.eq(part, -INF), 0.0)


@pointwise("logaddexp2(Tensor self, Tensor other) -> Tensor", inplace=False,
           dtype=lambda d: floats_only(not_complex(d)[0]))
def logaddexp2(x, y):
    """``log2(2 ** self + 2 ** other)`` without overflow."""
    return _logaddexp(x * LN_2, y * LN_2) / LN_2


@logaddexp2.gradient("self")
def _(grad, self, result):
    return grad * _share(self, result, 2)


@logaddexp2.gradient("other")
def _(grad, other, result):
    return grad * _share(other, result, 2)


@composite("square(Tensor self) -> Tensor", inplace=True, out=True)
def square(self):
    """``self * self``; bool counts as int64."""
    return self * self if self.dtype is not dtypes.bool_ else ops.to_dtype(self, dtypes.int64)


def _power_integer(x, y):
    """Repeated squaring modulo 2 ** 64; a negative power is 0 unless the base is 1 or -1."""
    base, power, result = np.int64(x), np.int64(y), np.int64(1)
    if power < 0:
        if base == 1:
            return base
        if base == -1:
            return np.int64(1) if power & 1 == 0 else base
        return np.int64(0)
    while power:
        if power & 1:
            result *= base
        base *= base
        power >>= 1
    return result


_power = typed("power", **functions.pow.variants, i8=_power_integer)


def _check_power(arguments, promoted):
    if promoted is dtypes.bool_:
        raise NotImplementedError("\"pow\" not implemented for 'Bool'")


@pointwise("_pow(Operand self, Operand exponent) -> Tensor", method=False, check=_check_power)
def power(x, y):
    """``self ** exponent``."""
    return _power(x, y)


@power.gradient("self")
def _(grad, self, exponent):
    slope = exponent * ops.pow(self, exponent - 1)
    if isinstance(exponent, TensorBase):
        slope = ops.where(exponent == 0, 0.0, slope)
    elif exponent == 0:
        return ops.zeros_like(grad)
    return grad * conjugate(slope)


@power.gradient("exponent")
def _(grad, self, exponent, result):
    if not isinstance(self, TensorBase):
        if self == 0:
            return grad * ops.where(exponent >= 0, 0.0, -INF)
        return grad * conjugate(result * np_log(self))
    slope = result * ops.log(self)
    zero = (self == 0) if exponent.dtype.is_complex else ops.logical_and(self == 0, exponent >= 0)
    return grad * conjugate(ops.where(zero, 0.0, slope))


def np_log(value):
    """Logarithm of a Python number; complex below zero."""
    import cmath
    return cmath.log(value) if isinstance(value, complex) else (
        math.log(value) if value > 0 else math.nan)


@pointwise("_cube(Tensor self) -> Tensor", method=False)
def cube(x):
    """``self * self * self``, in one pass."""
    return x * x * x


cube.backward_name = "PowBackward0"


@cube.gradient("self")
def _(grad, self):
    return grad * conjugate(self * self * 3)


def _simple_power(base, exponent):
    """The power by cheaper means, for the exponents that programs mostly write; None for others."""
    if exponent == 2:
        return base * base
    if base.dtype.category >= dtypes.FLOAT:
        if exponent == 3:
            return ops._cube(base)
        if exponent == 0.5:
            return ops.sqrt(base)
        if exponent == -0.5:
            return ops.rsqrt(base)
        if exponent == -1:
            return ops.reciprocal(base)
    return None


@composite("pow(Operand self, Operand exponent) -> Tensor", inplace=True, out=True, fuse=False)
def pow_(self, exponent):
    """``self ** exponent``. RuntimeError for integers to a negative integer power."""
    if not isinstance(exponent, TensorBase) and isinstance(self, TensorBase):
        whole = isinstance(exponent, int) and not isinstance(exponent, bool)
        if whole and exponent < 0 and self.dtype.category < dtypes.FLOAT:
            raise RuntimeError("Integers to negative integer powers are not allowed.")
        if whole and self.dtype is dtypes.bool_:
            self = ops.to_dtype(self, dtypes.int64)
        if whole or isinstance(exponent, float) and self.dtype.category >= dtypes.FLOAT:
            found = _simple_power(self, exponent)
            if found is not None:
                return found
    return ops._pow(self, exponent)


@composite("float_power(Operand self, Operand exponent) -> Tensor", inplace=True, out=True,
           exact_out="dtype")
def float_power(self, exponent):
    """``self ** exponent`` in float64, or complex128 if either is complex."""
    complex_ = any(a.dtype.is_complex if isinstance(a, TensorBase) else isinstance(a, complex)
                   for a in (self, exponent))
    wide = dtypes.complex128 if complex_ else dtypes.float64

    def widened(value):
        if isinstance(value, TensorBase):
            return ops.to_dtype(value, wide)
        return complex(value) if complex_ else float(value)

    return ops.pow(widened(self), widened(exponent))


@composite("ldexp(Tensor self, Tensor other) -> Tensor", inplace=True, out=True)
def ldexp(self, other):
    """``self * 2 ** other``."""
    return self * ops.pow(2.0, other)
