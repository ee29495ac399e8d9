"""Arithmetic, pointwise: sums, products, signs, interpolation; quotients are in division.py."""
import numpy as np

from ...kernels.math import hypot as hypot_
from ...kernels.stubs import T, copysign_, fabs_, select, typed
from ...runtime import dtypes
from ..base import TensorBase
from ..composite import composite
from ..dtype_rules import boolean, floating, floats_only, not_bool, real_part
from ..pointwise import pointwise
from ..registry import ops

INVERT = ("If you are trying to invert a mask, use the `~` or `logical_not()` operator "
          "instead.")


def conjugate(x):
    """``x.conj()`` for complex tensors: gradients of holomorphic functions need it; else ``x``."""
    if isinstance(x, TensorBase):
        return ops.conj(x) if x.dtype.is_complex else x
    return x.conjugate() if isinstance(x, complex) else x


def check_alpha(arguments, promoted):
    """RuntimeError unless ``alpha``, the last argument, fits the type of the result."""
    alpha = arguments[-1]
    if isinstance(alpha, bool) and promoted is not dtypes.bool_:
        raise RuntimeError("Boolean alpha only supported for Boolean results.")
    if isinstance(alpha, float) and promoted.category < dtypes.FLOAT:
        raise RuntimeError("For integral input tensors, argument alpha must not be a floating "
                           "point number.")
    if isinstance(alpha, complex) and not promoted.is_complex:
        raise RuntimeError("For non-complex input tensors, argument alpha must not be a complex "
                           "number.")


@pointwise("add(Operand self, Operand other, *, Scalar alpha=1) -> Tensor", check=check_alpha)
def add(x, y, alpha):
    """``self + alpha * other``."""
    return x + alpha * y


@add.gradient("self")
def _(grad):
    return grad


@add.gradient("other")
def _(grad, alpha):
    return grad if alpha == 1 else grad * conjugate(alpha)


def _check_sub(arguments, promoted):
    if any(getattr(a, "dtype", None) is dtypes.bool_ or isinstance(a, bool)
           for a in arguments[:2]):
        both = promoted is dtypes.bool_
        what = "two bool tensors" if both else "a bool tensor"
        remedy = ("Use the `^` or `logical_xor()` operator instead." if both else INVERT)
        raise RuntimeError(
            f"Subtraction, the `-` operator, with {what} is not supported. {remedy}")
    check_alpha(arguments, promoted)


@pointwise("sub(Operand self, Operand other, *, Scalar alpha=1) -> Tensor", check=_check_sub,
           aliases=("subtract",))
def sub(x, y, alpha):
    """``self - alpha * other``."""
    return x - alpha * y


@sub.gradient("self")
def _(grad):
    return grad


@sub.gradient("other")
def _(grad, alpha):
    return -grad if alpha == 1 else grad * -conjugate(alpha)


@composite("rsub(Tensor self, Operand other, *, Scalar alpha=1) -> Tensor")
def rsub(self, other, alpha):
    """``other - alpha * self``."""
    return ops.sub(other, self, alpha=alpha)


@pointwise("mul(Operand self, Operand other) -> Tensor", aliases=("multiply",))
def mul(x, y):
    """``self * other``."""
    return x * y


@mul.gradient("self")
def _(grad, other):
    return grad * conjugate(other)


@mul.gradient("other")
def _(grad, self):
    return grad * conjugate(self)


def _check_neg(arguments, promoted):
    if promoted is dtypes.bool_:
        raise RuntimeError("Negation, the `-` operator, on a bool tensor is not supported. "
                           + INVERT)


@pointwise("neg(Tensor self) -> Tensor", check=_check_neg, aliases=("negative",), exact_out="dtype")
def neg(x):
    """``-self``."""
    return -x


@neg.gradient("self")
def _(grad):
    return -grad


@composite("positive(Tensor self) -> Tensor")
def positive(self):
    """``self`` itself; RuntimeError for bool."""
    if self.dtype is dtypes.bool_:
        raise RuntimeError("The `+` operator, on a bool tensor is not supported.")
    return self


@pointwise("abs(Tensor self) -> Tensor", dtype=lambda d: real_part(not_bool(d)[0]),
           aliases=("absolute",), exact_out="dtype")
def absolute(x):
    """``|self|``; the modulus, real, of complex numbers."""
    return abs(x)


@absolute.gradient("self")
def _(grad, self):
    return grad * ops.sgn(self)


def _check_sign(arguments, promoted):
    if promoted.is_complex:
        raise NotImplementedError("Unlike NumPy, torch.sign is not intended to support complex "
                                  "numbers. Please use torch.sgn instead.")


def _sign_real(x):
    return T(x > T(0)) - T(x < T(0))


def _sign_integer(x):
    return np.int64(x > 0) - np.int64(x < 0)


def _sgn_complex(z):
    size = hypot_(z.real, z.imag)
    scale = select(size == 0.0, 0.0, 1.0 / select(size == 0.0, 1.0, size))
    return z * scale


_sign = typed("sign", f4=_sign_real, f8=_sign_real, i8=_sign_integer)
_sgn = typed("sgn", f4=_sign_real, f8=_sign_real, i8=_sign_integer, c8=_sgn_complex,
             c16=_sgn_complex)


@pointwise("sign(Tensor self) -> Tensor", check=_check_sign, exact_out="dtype")
def sign(x):
    """-1, 0 or 1; 0 for NaN."""
    return _sign(x)


@sign.gradient("self")
def _(grad):
    return ops.zeros_like(grad)


@pointwise("sgn(Tensor self) -> Tensor")
def sgn(x):
    """``self / |self|``, 0 at 0: the sign of real and of complex numbers."""
    return _sgn(x)


@sgn.gradient("self")
def _(grad, self, result):
    if not self.dtype.is_complex:
        return ops.zeros_like(grad)
    size = ops.abs(self)
    tangent = (grad - ops.real(grad * ops.conj(result)) * result) / size
    return ops.where(size == 0, 0.0, tangent)


def _negative_float(x):
    return copysign_(T(1), x) < T(0)


def _negative_integer(x):
    return x < 0


_negative = typed("signbit", f4=_negative_float, f8=_negative_float, i8=_negative_integer)


def _check_signbit(arguments, promoted):
    if promoted.is_complex:
        raise NotImplementedError("signbit is not implemented for complex tensors.")


@pointwise("signbit(Tensor self) -> Tensor", dtype=boolean, check=_check_signbit, inplace=False,
           differentiable=False, exact_out="dtype")
def signbit(x):
    """Whether the sign bit is set: of -0 too."""
    return _negative(x)


@pointwise("copysign(Tensor self, Operand other) -> Tensor", dtype=floating)
def copysign(x, y):
    """``|self|`` with the sign bit of ``other``."""
    return copysign_(x, y)


@copysign.gradient("self")
def _(grad, self, result):
    return ops.where(self == 0, 0.0, grad * ops.sign(self) * ops.sign(result))


@copysign.gradient("other")
def _(grad):
    return ops.zeros_like(grad)


def _check_lerp(arguments, promoted):
    start = arguments[0].dtype
    for name, value in zip(("end", "weight"), arguments[1:], strict=True):
        if isinstance(value, TensorBase) and value.dtype is not start and (
                name == "end" or value._shape):
            raise RuntimeError(f"expected dtype {_word(start)} for `{name}` but got dtype "
                               f"{_word(value.dtype)}")


def _word(dtype):
    return {"float32": "float", "float64": "double", "int64": "long int", "int32": "int",
            "float16": "c10::Half", "bfloat16": "c10::BFloat16"}.get(dtype.name, dtype.name)


def _lerp_real(start, end, weight):
    # from the nearer end, so that weight 1 gives ``end`` exactly
    return select(fabs_(weight) < T(0.5), start + weight * (end - start),
                  end - (end - start) * (T(1) - weight))


def _lerp_complex(start, end, weight):
    if abs(weight) < 0.5:
        return start + weight * (end - start)
    return end - (end - start) * (1.0 - weight)


_lerp = typed("lerp", f4=_lerp_real, f8=_lerp_real, c8=_lerp_complex, c16=_lerp_complex)


@pointwise("lerp(Tensor self, Tensor end, Operand weight) -> Tensor", dtype=floats_only,
           check=_check_lerp, exact_out="dtype")
def lerp(x, y, weight):
    """``self + weight * (end - self)``."""
    return _lerp(x, y, weight)


@lerp.gradient("self")
def _(grad, weight):
    return grad * conjugate(1 - weight)


@lerp.gradient("end")
def _(grad, weight):
    return grad * conjugate(weight)


@lerp.gradient("weight")
def _(grad, self, end):
    return grad * conjugate(end - self)


@pointwise("addcmul(Tensor self, Tensor tensor1, Tensor tensor2, *, Scalar value=1) -> Tensor")
def addcmul(x, a, b, value):
    """``self + value * tensor1 * tensor2``."""
    return x + value * a * b


@addcmul.gradient("self")
def _(grad):
    return grad


@addcmul.gradient("tensor1")
def _(grad, tensor2, value):
    return grad * conjugate(tensor2 * value)


@addcmul.gradient("tensor2")
def _(grad, tensor1, value):
    return grad * conjugate(tensor1 * value)


def _check_addcdiv(arguments, promoted):
    if all(a.dtype.category < dtypes.FLOAT for a in arguments[1:3]):
        raise RuntimeError("Integer division with addcdiv is no longer supported. Divide with "
                           "self + value * torch.true_divide(tensor1, tensor2), or convert to a "
                           "floating type first.")


@pointwise("addcdiv(Tensor self, Tensor tensor1, Tensor tensor2, *, Scalar value=1) -> Tensor",
           check=_check_addcdiv)
def addcdiv(x, a, b, value):
    """``self + value * tensor1 / tensor2``."""
    return x + value * a / b


@addcdiv.gradient("self")
def _(grad):
    return grad


@addcdiv.gradient("tensor1")
def _(grad, tensor2, value):
    return grad * conjugate(value / tensor2)


@addcdiv.gradient("tensor2")
def _(grad, tensor1, tensor2, value):
    return -grad * conjugate(value * tensor1 / (tensor2 * tensor2))
