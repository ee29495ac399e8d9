"""Trigonometric and hyperbolic functions, pointwise."""
import math

from ...kernels.math import atan2 as atan2_
from ...kernels.math import hypot as hypot_
from ...kernels.math import sin as sin_
from ...kernels.stubs import select
from ..composite import composite
from ..dtype_rules import floating, floating_not_complex, floats_only, not_complex
from ..pointwise import pointwise
from ..registry import ops
from .arithmetic import conjugate
from .exponential import unary

PI = math.pi

sin = unary("sin", "Sine of radians.")
cos = unary("cos", "Cosine of radians.")
tan = unary("tan", "Tangent of radians.")
asin = unary("asin", "Inverse sine, in radians; NaN outside [-1, 1].", aliases=("arcsin",))
acos = unary("acos", "Inverse cosine, in radians; NaN outside [-1, 1].", aliases=("arccos",))
atan = unary("atan", "Inverse tangent, in radians.", aliases=("arctan",))
sinh = unary("sinh", "Hyperbolic sine.")
cosh = unary("cosh", "Hyperbolic cosine.")
tanh = unary("tanh", "Hyperbolic tangent.")
asinh = unary("asinh", "Inverse hyperbolic sine.", aliases=("arcsinh",))
acosh = unary("acosh", "Inverse hyperbolic cosine; NaN below 1.", aliases=("arccosh",))
atanh = unary("atanh", "Inverse hyperbolic tangent; NaN outside [-1, 1].", aliases=("arctanh",))


@sin.gradient("self")
def _(grad, self):
    return grad * conjugate(ops.cos(self))


@cos.gradient("self")
def _(grad, self):
    return -grad * conjugate(ops.sin(self))


@tan.gradient("self")
def _(grad, result):
    return grad * conjugate(1 + result * result)


@asin.gradient("self")
def _(grad, self):
    return grad * conjugate(ops.rsqrt(1 - self * self))


@acos.gradient("self")
def _(grad, self):
    return -grad * conjugate(ops.rsqrt(1 - self * self))


@atan.gradient("self")
def _(grad, self):
    return grad / conjugate(1 + self * self)


@sinh.gradient("self")
def _(grad, self):
    return grad * conjugate(ops.cosh(self))


@cosh.gradient("self")
def _(grad, self):
    return grad * conjugate(ops.sinh(self))


@tanh.gradient("self")
def _(grad, result):
    return ops._tanh_backward(grad, result)


@asinh.gradient("self")
def _(grad, self):
    return grad * conjugate(ops.rsqrt(self * self + 1))


@acosh.gradient("self")
def _(grad, self):
    # not rsqrt(self ** 2 - 1), whose branch cut lies elsewhere
    return grad * conjugate(ops.rsqrt(self - 1) * ops.rsqrt(self + 1))


@atanh.gradient("self")
def _(grad, self):
    return grad / conjugate(1 - self * self)


@pointwise("_tanh_backward_real(Tensor grad_output, Tensor output) -> Tensor", method=False)
def tanh_backward_real(g, y):
    """``grad_output * (1 - output ** 2)``."""
    return g * (1 - y * y)


@tanh_backward_real.gradient("grad_output")
def _(grad, output):
    return ops._tanh_backward(grad, output)


@tanh_backward_real.gradient("output")
def _(grad, grad_output, output):
    return -2 * grad * grad_output * output


@composite("_tanh_backward(Tensor grad_output, Tensor output) -> Tensor", method=False, fuse=False)
def tanh_backward(grad_output, output):
    """Gradient of tanh from its result."""
    return ops._tanh_backward_real(grad_output, conjugate(output))


@pointwise("atan2(Tensor self, Tensor other) -> Tensor", dtype=floating_not_complex,
           aliases=("arctan2",))
def atan2(y, x):
    """Angle of the point (x=other, y=self), in [-pi, pi]."""
    return atan2_(y, x)


@atan2.gradient("self")
def _(grad, self, other):
    return grad * other / (self * self + other * other)


@atan2.gradient("other")
def _(grad, self, other):
    return -grad * self / (self * self + other * other)


@pointwise("hypot(Tensor self, Tensor other) -> Tensor",
           dtype=lambda d: floats_only(not_complex(d)[0]))
def hypot(x, y):
    """``sqrt(self ** 2 + other ** 2)`` without overflow."""
    return hypot_(x, y)


@hypot.gradient("self")
def _(grad, self, result):
    return grad * (self / result)


@hypot.gradient("other")
def _(grad, other, result):
    return grad * (other / result)


@pointwise("sinc(Tensor self) -> Tensor", dtype=floating)
def sinc(x):
    """``sin(pi x) / (pi x)``, 1 at 0."""
    return select(x == 0, 1 + x, sin_(x * PI) / select(x == 0, 1 + x, x * PI))


@sinc.gradient("self")
def _(grad, self, result):
    slope = (ops.cos(self * PI) - result) / self
    return grad * conjugate(ops.where(self == 0, 0.0, slope))


@composite("deg2rad(Tensor self) -> Tensor", inplace=True, out=True)
def deg2rad(self):
    """Degrees to radians. RuntimeError for complex tensors."""
    if self.dtype.is_complex:
        raise RuntimeError("deg2rad is not supported for complex tensors.")
    return self * (PI / 180.0)


@composite("rad2deg(Tensor self) -> Tensor", inplace=True, out=True)
def rad2deg(self):
    """Radians to degrees. RuntimeError for complex tensors."""
    if self.dtype.is_complex:
        raise RuntimeError("rad2deg is not supported for complex tensors.")
    return self * (180.0 / PI)


