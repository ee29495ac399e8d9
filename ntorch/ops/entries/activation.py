"""Activation functions and the kernels of their gradients, pointwise."""
import math

from ...kernels.math import erf as erf_
from ...kernels.math import exp as exp_
from ...kernels.math import expm1 as expm1_
from ...kernels.math import log1p as log1p_
from ...kernels.math import sigmoid as sigmoid_
from ...kernels.math import tanh as tanh_
from ...kernels.stubs import T, fabs_, select
from ...runtime import dtypes
from ..dtype_rules import floating, floats_only, not_complex
from ..pointwise import pointwise
from ..registry import ops
from .arithmetic import conjugate

ROOT_HALF = math.sqrt(0.5)
ROOT_2_OVER_PI = math.sqrt(2.0 / math.pi)
INVERSE_ROOT_2_PI = 1.0 / math.sqrt(2.0 * math.pi)
CUBIC = 0.044715
SELU_ALPHA = 1.6732632423543772848170429916717
SELU_SCALE = 1.0507009873554804934193349852946


def real_floats(promoted):
    """Floating types only."""
    return floats_only(not_complex(promoted)[0])


def kernel(signature, dtype=real_floats):
    """A pointwise entry that is part of another: no method."""
    return pointwise(signature, dtype=dtype, method=False)


@pointwise("sigmoid(Tensor self) -> Tensor", dtype=floating)
def sigmoid(x):
    """Logistic function ``1 / (1 + exp(-self))``."""
    return sigmoid_(x)


@sigmoid.gradient("self")
def _(grad, result):
    return ops._sigmoid_backward(grad, conjugate(result))


@kernel("_sigmoid_backward(Tensor grad_output, Tensor output) -> Tensor", floating)
def sigmoid_backward(g, y):
    """``grad_output * output * (1 - output)``."""
    return g * y * (1 - y)


@sigmoid_backward.gradient("grad_output")
def _(grad, output):
    return ops._sigmoid_backward(grad, conjugate(output))


@sigmoid_backward.gradient("output")
def _(grad, grad_output, output):
    return grad * conjugate(grad_output * (1 - 2 * output))


def _check_relu(arguments, promoted):
    if promoted is dtypes.bool_:
        raise RuntimeError("Boolean inputs not supported for relu")


@pointwise("_relu(Tensor self) -> Tensor", method=False, check=_check_relu, dtype=not_complex)
def relu_kernel(x):
    """``max(self, 0)``."""
    return select(x <= T(0), T(0), x)        # NaN passes


@relu_kernel.gradient("self")
def _(grad, result):
    return ops._threshold_backward(grad, result, 0)


@kernel("_threshold_backward(Tensor grad_output, Tensor self, Scalar threshold) -> Tensor")
def threshold_backward(g, x, threshold):
    """``grad_output`` where ``self`` is above ``threshold``, else 0."""
    return select(x <= threshold, T(0), g)


threshold_backward.scalar.zero_of = 0       # the result is 0 where argument 0 is


@threshold_backward.gradient("grad_output", "self")
def _(grad, self, threshold):
    return ops._threshold_backward(grad, self, threshold), None


@pointwise("_threshold(Tensor self, Scalar threshold, Scalar value) -> Tensor", method=False,
           dtype=not_complex)
def threshold_kernel(x, threshold, value):
    """``self`` above ``threshold``, else ``value``."""
    return select(x <= threshold, value, x)


@threshold_kernel.gradient("self")
def _(grad, self, threshold):
    return ops._threshold_backward(grad, self, threshold)


@kernel("_leaky_relu(Tensor self, Scalar negative_slope) -> Tensor")
def leaky_relu_kernel(x, slope):
    """``self`` above 0, else ``negative_slope * self``."""
    return select(x > 0, x, x * slope)


@leaky_relu_kernel.gradient("self")
def _(grad, self, negative_slope):
    return ops._leaky_relu_backward(grad, self, negative_slope)


@kernel("_leaky_relu_backward(Tensor grad_output, Tensor self, Scalar negative_slope) -> Tensor")
def leaky_relu_backward(g, x, slope):
    """``grad_output`` times the slope at ``self``."""
    return select(x > 0, g, g * slope)


@leaky_relu_backward.gradient("grad_output", "self")
def _(grad, self, negative_slope):
    return ops._leaky_relu_backward(grad, self, negative_slope), None


@pointwise("_hardtanh(Tensor self, Scalar min_val, Scalar max_val) -> Tensor", method=False,
           dtype=not_complex)
def hardtanh_kernel(x, low, high):
    """``self`` limited to ``[min_val, max_val]``."""
    return select(x < low, low, select(x > high, high, x))


@hardtanh_kernel.gradient("self")
def _(grad, self, min_val, max_val):
    return ops._hardtanh_backward(grad, self, min_val, max_val)


@kernel("_hardtanh_backward(Tensor grad_output, Tensor self, Scalar min_val, Scalar max_val) -> "
        "Tensor")
def hardtanh_backward(g, x, low, high):
    """``grad_output`` strictly between the limits, else 0."""
    return select((x <= low) | (x >= high), T(0), g)


@hardtanh_backward.gradient("grad_output", "self")
def _(grad, self, min_val, max_val):
    return ops._hardtanh_backward(grad, self, min_val, max_val), None


@kernel("_elu(Tensor self, Scalar alpha, Scalar scale, Scalar input_scale) -> Tensor")
def elu_kernel(x, alpha, scale, input_scale):
    """``scale * self`` above 0, else ``scale * alpha * expm1(input_scale * self)``."""
    return scale * select(x > 0, x, alpha * expm1_(input_scale * x))


@elu_kernel.gradient("self")
def _(grad, self, alpha, scale, input_scale):
    return ops._elu_backward(grad, self, alpha, scale, input_scale)


@kernel("_elu_backward(Tensor grad_output, Tensor self, Scalar alpha, Scalar scale, "
        "Scalar input_scale) -> Tensor")
def elu_backward(g, x, alpha, scale, input_scale):
    """``grad_output`` times the slope of elu at ``self``."""
    return g * scale * select(x > 0, 1 + x * 0, alpha * input_scale * exp_(input_scale * x))


@elu_backward.gradient("grad_output")
def _(grad, self, alpha, scale, input_scale):
    return ops._elu_backward(grad, self, alpha, scale, input_scale)


@elu_backward.gradient("self")
def _(grad, grad_output, self, alpha, scale, input_scale):
    curve = ops.exp(self * input_scale) * (scale * alpha * input_scale * input_scale)
    return grad * grad_output * ops.where(self > 0, 0.0, curve)


@kernel("_silu(Tensor self) -> Tensor", floats_only)
def silu_kernel(x):
    """``self * sigmoid(self)``."""
    return x * sigmoid_(x)


@silu_kernel.gradient("self")
def _(grad, self):
    if self.dtype.is_complex:
        s = ops.sigmoid(self)
        return grad * conjugate(s * (1 + self * (1 - s)))
    return ops._silu_backward(grad, self)


@kernel("_silu_backward(Tensor grad_output, Tensor self) -> Tensor")
def silu_backward(g, x):
    """``grad_output`` times the slope of silu at ``self``."""
    s = sigmoid_(x)
    return g * s * (1 + x * (1 - s))


@silu_backward.gradient("grad_output")
def _(grad, self):
    return ops._silu_backward(grad, self)


@silu_backward.gradient("self")
def _(grad, grad_output, self):
    s = ops.sigmoid(self)
    return grad * grad_output * (s * (1 - s) * (2 + self * (1 - 2 * s)))


@kernel("_gelu(Tensor self) -> Tensor")
def gelu_kernel(x):
    """``self * Phi(self)``, Phi the normal distribution function."""
    return 0.5 * x * (1 + erf_(x * ROOT_HALF))


@gelu_kernel.gradient("self")
def _(grad, self):
    return ops._gelu_backward(grad, self)


@kernel("_gelu_backward(Tensor grad_output, Tensor self) -> Tensor")
def gelu_backward(g, x):
    """``grad_output * (Phi(self) + self * phi(self))``."""
    density = INVERSE_ROOT_2_PI * exp_(-0.5 * x * x)
    return g * (0.5 * (1 + erf_(x * ROOT_HALF)) + x * density)


@gelu_backward.gradient("grad_output")
def _(grad, self):
    return ops._gelu_backward(grad, self)


@gelu_backward.gradient("self")
def _(grad, grad_output, self):
    square = self * self
    return grad * grad_output * (ops.exp(square * -0.5) * INVERSE_ROOT_2_PI * (2 - square))


@kernel("_gelu_tanh(Tensor self) -> Tensor")
def gelu_tanh_kernel(x):
    """``self / 2 * (1 + tanh(sqrt(2 / pi) * (self + 0.044715 * self ** 3)))``."""
    return 0.5 * x * (1 + tanh_(ROOT_2_OVER_PI * (x + CUBIC * x * x * x)))


@gelu_tanh_kernel.gradient("self")
def _(grad, self):
    return ops._gelu_tanh_backward(grad, self)


@kernel("_gelu_tanh_backward(Tensor grad_output, Tensor self) -> Tensor")
def gelu_tanh_backward(g, x):
    """``grad_output`` times the slope of the tanh form at ``self``."""
    t = tanh_(ROOT_2_OVER_PI * (x + CUBIC * x * x * x))
    slope = ROOT_2_OVER_PI * (1 + 3 * CUBIC * x * x)
    return g * 0.5 * (1 + t + x * (1 - t * t) * slope)


@gelu_tanh_backward.gradient("grad_output")
def _(grad, self):
    return ops._gelu_tanh_backward(grad, self)


@gelu_tanh_backward.gradient("self")
def _(grad, grad_output, self):
    square = self * self
    t = ops.tanh(self * (ROOT_2_OVER_PI * (1 + CUBIC * square)))
    slope = ROOT_2_OVER_PI * (1 + 3 * CUBIC * square)
    bend = 3 * ROOT_2_OVER_PI * CUBIC * square - self * t * slope * slope
    return grad * grad_output * ((1 - t * t) * (slope + bend))


@kernel("_mish(Tensor self) -> Tensor")
def mish_kernel(x):
    """``self * tanh(softplus(self))``."""
    return x * tanh_(select(x > 0, x, 0 * x) + log1p_(exp_(-fabs_(x))))


@mish_kernel.gradient("self")
def _(grad, self):
    return ops._mish_backward(grad, self)


@kernel("_mish_backward(Tensor grad_output, Tensor self) -> Tensor")
def mish_backward(g, x):
    """``grad_output`` times the slope of mish at ``self``."""
    t = tanh_(select(x > 0, x, 0 * x) + log1p_(exp_(-fabs_(x))))
    return g * (t + x * (1 - t * t) * sigmoid_(x))


@mish_backward.gradient("grad_output")
def _(grad, self):
    return ops._mish_backward(grad, self)


@mish_backward.gradient("self")
def _(grad, grad_output, self):
    t, s = ops.tanh(ops.softplus(self)), ops.sigmoid(self)
    return grad * grad_output * ((1 - t * t) * s * (2 + self * (1 - s - 2 * t * s)))
