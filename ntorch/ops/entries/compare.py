"""Comparisons, tests of values, choices between values, pointwise."""
import math

from ...kernels.stubs import T, select, typed
from ...runtime import dtypes
from ..base import TensorBase
from ..composite import composite
from ..dtype_rules import _scalar_name, boolean, not_complex, ordered, same
from ..pointwise import pointwise
from ..registry import ops

INF = math.inf


def _comparison(name, dtype, *aliases):
    return pointwise(f"{name}(Tensor self, Operand other) -> Tensor", dtype=dtype,
                     differentiable=False, aliases=aliases)


@_comparison("eq", boolean)
def eq(x, y):
    """``self == other``."""
    return x == y


@_comparison("ne", boolean, "not_equal")
def ne(x, y):
    """``self != other``."""
    return x != y


@_comparison("lt", ordered, "less")
def lt(x, y):
    """``self < other``."""
    return x < y


@_comparison("le", ordered, "less_equal")
def le(x, y):
    """``self <= other``."""
    return x <= y


@_comparison("gt", ordered, "greater")
def gt(x, y):
    """``self > other``."""
    return x > y


@_comparison("ge", ordered, "greater_equal")
def ge(x, y):
    """``self >= other``."""
    return x >= y


def _test(name, check=None):
    return pointwise(f"{name}(Tensor self) -> Tensor", dtype=boolean, differentiable=False,
                     inplace=False, check=check)


@_test("isnan")
def isnan(x):
    """Whether it is not a number; never for integers."""
    return x != x


@_test("isfinite")
def isfinite(x):
    """Whether it is neither infinite nor NaN."""
    return x - x == x - x


def _isinf_real(x):
    return (x == T(INF)) | (x == T(-INF))


def _isinf_complex(z):
    return (abs(z.real) == INF) | (abs(z.imag) == INF)


def _never(x):
    return x != x


_isinf = typed("isinf", f4=_isinf_real, f8=_isinf_real, c8=_isinf_complex, c16=_isinf_complex,
               i8=_never)


@_test("isinf")
def isinf(x):
    """Whether it, or a part of a complex number, is infinite."""
    return _isinf(x)


def _real_only(arguments, promoted):
    if promoted.is_complex:
        raise RuntimeError("isposinf and isneginf do not support complex inputs.")


@pointwise("isposinf(Tensor self) -> Tensor", dtype=boolean, differentiable=False, inplace=False,
           check=_real_only, exact_out="dtype")
def isposinf(x):
    """Whether it is positive infinity."""
    return _isinf(x) & (x > 0)


@pointwise("isneginf(Tensor self) -> Tensor", dtype=boolean, differentiable=False, inplace=False,
           check=_real_only, exact_out="dtype")
def isneginf(x):
    """Whether it is negative infinity."""
    return _isinf(x) & (x < 0)


@composite("isclose(Tensor self, Tensor other, float rtol=1e-05, float atol=1e-08, "
           "bool equal_nan=False) -> Tensor", differentiable=False)
def isclose(self, other, rtol, atol, equal_nan):
    """Whether ``|self - other| <= atol + rtol * |other|``, or both are the same infinity."""
    if self.dtype is not other.dtype:
        raise RuntimeError(f"{_scalar_name(self.dtype)} did not match {_scalar_name(other.dtype)}")
    if rtol < 0 or atol < 0:
        raise RuntimeError("rtol and atol must be greater than or equal to zero, but got "
                           f"{rtol} and {atol}")
    close = ops.eq(self, other)
    if equal_nan and self.dtype.category >= dtypes.FLOAT:
        close = ops.logical_or(close, ops.logical_and(ops.isnan(self), ops.isnan(other)))
    if rtol == 0 and atol == 0:
        return close
    if self.dtype.category < dtypes.FLOAT:
        self, other = (ops.to_dtype(t, dtypes.float64) for t in (self, other))
    distance = ops.abs(ops.sub(self, other))
    near = ops.le(distance, ops.add(ops.mul(ops.abs(other), rtol), atol))
    return ops.logical_or(close, ops.logical_and(near, ops.isfinite(distance)))


@composite("allclose(Tensor self, Tensor other, float rtol=1e-05, float atol=1e-08, "
           "bool equal_nan=False) -> bool", differentiable=False)
def allclose(self, other, rtol, atol, equal_nan):
    """Whether ``isclose`` holds for every element; a Python bool."""
    return bool(ops.all(ops.isclose(self, other, rtol, atol, equal_nan)))


def _no_complex(name):
    def check(arguments, promoted):
        if promoted.is_complex:
            raise RuntimeError(f"{name} not implemented for complex tensors.")
    return check


@pointwise("maximum(Tensor self, Tensor other) -> Tensor", check=_no_complex("maximum"),
           inplace=False)
def maximum(x, y):
    """The larger; NaN if either is."""
    return select((x > y) | (x != x), x, y)


@pointwise("minimum(Tensor self, Tensor other) -> Tensor", check=_no_complex("minimum"),
           inplace=False)
def minimum(x, y):
    """The smaller; NaN if either is."""
    return select((x < y) | (x != x), x, y)


@pointwise("fmax(Tensor self, Tensor other) -> Tensor", dtype=not_complex, inplace=False)
def fmax(x, y):
    """The larger; a number before NaN."""
    return select((x >= y) | (y != y), x, y)


@pointwise("fmin(Tensor self, Tensor other) -> Tensor", dtype=not_complex, inplace=False)
def fmin(x, y):
    """The smaller; a number before NaN."""
    return select((x <= y) | (y != y), x, y)


def _winner(grad, mine, theirs, loses):
    """The gradient of the chosen operand; ties share it."""
    return ops.where(mine == theirs, grad * 0.5, ops.where(loses, 0.0, grad))


@maximum.gradient("self")
def _(grad, self, other):
    return _winner(grad, self, other, self < other)


@maximum.gradient("other")
def _(grad, self, other):
    return _winner(grad, self, other, other < self)


@minimum.gradient("self")
def _(grad, self, other):
    return _winner(grad, self, other, self > other)


@minimum.gradient("other")
def _(grad, self, other):
    return _winner(grad, self, other, other > self)


@fmax.gradient("self")
def _(grad, self, other):
    return ops.where(ops.logical_or(self >= other, ops.isnan(other)), grad, 0.0)


@fmax.gradient("other")
def _(grad, self, other):
    return ops.where(ops.logical_or(self >= other, ops.isnan(other)), 0.0, grad)


@fmin.gradient("self")
def _(grad, self, other):
    return ops.where(ops.logical_or(self <= other, ops.isnan(other)), grad, 0.0)


@fmin.gradient("other")
def _(grad, self, other):
    return ops.where(ops.logical_or(self <= other, ops.isnan(other)), 0.0, grad)


def _check_clamp(arguments, promoted):
    if promoted.is_complex:
        raise NotImplementedError("clamp is not supported for complex types")


@pointwise("clamp_min(Tensor self, Operand min) -> Tensor", check=_check_clamp, exact_out="dtype")
def clamp_min(x, low):
    """The larger of ``self`` and ``min``; NaN if either is."""
    return select((x < low) | (low != low), low, x)


@pointwise("clamp_max(Tensor self, Operand max) -> Tensor", check=_check_clamp, exact_out="dtype")
def clamp_max(x, high):
    """The smaller of ``self`` and ``max``; NaN if either is."""
    return select((x > high) | (high != high), high, x)


@pointwise("_clamp(Tensor self, Operand min, Operand max) -> Tensor", check=_check_clamp,
           method=False)
def clamp_both(x, low, high):
    """``min(max(self, min), max)``."""
    raised = select((x < low) | (low != low), low, x)
    return select((raised > high) | (high != high), high, raised)


@clamp_min.gradient("self")
def _(grad, self, min):
    return ops.where(self >= min, grad, 0.0)


@clamp_min.gradient("min")
def _(grad, self, min):
    return ops.where(self < min, grad, 0.0)


@clamp_max.gradient("self")
def _(grad, self, max):
    return ops.where(self <= max, grad, 0.0)


@clamp_max.gradient("max")
def _(grad, self, max):
    return ops.where(self > max, grad, 0.0)


@clamp_both.gradient("self")
def _(grad, self, min, max):
    return ops.where(ops.logical_and(self >= min, self <= max), grad, 0.0)


@clamp_both.gradient("min")
def _(grad, self, min, max):
    return ops.where(ops.logical_and(self < min, min < max), grad, 0.0)


@clamp_both.gradient("max")
def _(grad, self, min, max):
    return ops.where(ops.logical_or(self > max, max < min), grad, 0.0)


@composite("clamp(Tensor self, Operand? min=None, Operand? max=None) -> Tensor", inplace=True,
           out=True, aliases=("clip",), exact_out="dtype", fuse=False)
def clamp(self, min, max):
    """``min(max(self, min), max)``; either bound may be left out, both numbers or both tensors."""
    if min is None and max is None:
        raise RuntimeError("torch.clamp: At least one of 'min' or 'max' must not be None")
    if min is not None and max is not None:
        if isinstance(min, TensorBase) != isinstance(max, TensorBase):
            raise TypeError("clamp() received an invalid combination of arguments: 'min' and 'max' "
                            f"must both be tensors or both numbers, got {type(min).__name__} and "
                            f"{type(max).__name__}")
        return ops._clamp(self, min, max)
    return ops.clamp_max(self, max) if min is None else ops.clamp_min(self, min)


@pointwise("_where(Tensor condition, Operand self, Operand other) -> Tensor", method=False,
           inplace=False)
def choose(condition, x, y):
    """``self`` where ``condition`` is true, else ``other``."""
    return select(condition != T(0), x, y)


@choose.gradient("self")
def _(grad, condition):
    return ops._where(condition, grad, 0.0)


@choose.gradient("other")
def _(grad, condition):
    return ops._where(condition, 0.0, grad)


@choose.gradient("condition")
def _(grad):
    return None


@composite("where(Tensor condition, Operand? self=None, Operand? other=None) -> Tensor",
           method=False, out=True, exact_out="dtype", fuse=False)
def where(condition, self, other):
    """``self`` where ``condition`` is true, else ``other``; without them, where it is nonzero."""
    if self is None and other is None:
        return ops.nonzero(condition, as_tuple=True)
    if condition.dtype is not dtypes.bool_ and condition.dtype is not dtypes.uint8:
        raise RuntimeError("where expected condition to be a boolean tensor, but got a tensor with "
                           f"dtype {_scalar_name(condition.dtype)}")
    if condition.dtype is dtypes.uint8:
        condition = ops.to_dtype(condition, dtypes.bool_)
    return ops._where(condition, self, other)


def _check_heaviside(arguments, promoted):
    if promoted.is_complex:
        raise RuntimeError("heaviside is not yet implemented for complex tensors.")
    if arguments[0].dtype is not arguments[1].dtype:
        raise RuntimeError("heaviside is not yet implemented for tensors with different dtypes.")


@pointwise("heaviside(Tensor self, Tensor values) -> Tensor", check=_check_heaviside,
           differentiable=False, exact_out="dtype")
def heaviside(x, values):
    """0 below zero, 1 above, ``values`` at zero."""
    return select(x == T(0), values, T(x > T(0)))


@pointwise("_nan_to_num(Tensor self, Scalar nan, Scalar posinf, Scalar neginf) -> Tensor",
           method=False, dtype=same)
def replace_nonfinite(x, nan, high, low):
    """NaN and infinities replaced by the numbers given."""
    return select(x != x, nan, select(x == INF, high, select(x == -INF, low, x)))


@replace_nonfinite.gradient("self")
def _(grad, self):
    return ops.where(ops.isfinite(self), grad, 0.0)


_LARGEST = {"float16": 65504.0, "bfloat16": 3.3895313892515355e+38,
            "float32": 3.4028234663852886e+38, "float64": 1.7976931348623157e+308}


@composite("nan_to_num(Tensor self, float? nan=None, float? posinf=None, float? neginf=None) -> "
           "Tensor", inplace=True, out=True, exact_out="dtype")
def nan_to_num(self, nan, posinf, neginf):
    """NaN replaced by ``nan``, 0 if None; infinities by ``posinf`` and ``neginf``, the largest
    finite numbers if None."""
    if self.dtype.category < dtypes.FLOAT:
        return ops.clone(self)
    if self.dtype.is_complex:
        parts = (ops.nan_to_num(part, nan, posinf, neginf)
                 for part in (ops.real(self), ops.imag(self)))
        return ops.complex(*parts)
    largest = _LARGEST[self.dtype.name]
    return ops._nan_to_num(self, 0.0 if nan is None else nan, largest if posinf is None else posinf,
                           -largest if neginf is None else neginf)
