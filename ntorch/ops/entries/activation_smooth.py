"""More kernels of activation functions: softplus, logsigmoid, hard approximations, shrinking."""
from ...kernels.math import exp as exp_
from ...kernels.math import log1p as log1p_
from ...kernels.math import sigmoid as sigmoid_
from ...kernels.stubs import T, fabs_, select
from ..registry import ops
from .activation import kernel


@kernel("_softplus(Tensor self, Scalar beta, Scalar threshold) -> Tensor")
def softplus_kernel(x, beta, threshold):
    """``log(1 + exp(beta * self)) / beta``; ``self`` where ``beta * self > threshold``."""
    scaled = beta * x
    soft = (select(scaled > 0, scaled, 0 * scaled) + log1p_(exp_(-fabs_(scaled)))) / beta
    return select(scaled > threshold, x, soft)


@softplus_kernel.gradient("self")
def _(grad, self, beta, threshold):
    return ops._softplus_backward(grad, self, beta, threshold)


@kernel("_softplus_backward(Tensor grad_output, Tensor self, Scalar beta, Scalar threshold) -> "
        "Tensor")
def softplus_backward(g, x, beta, threshold):
    """``grad_output * sigmoid(beta * self)``."""
    return select(x * beta > threshold, g, g * sigmoid_(beta * x))


@softplus_backward.gradient("grad_output")
def _(grad, self, beta, threshold):
    return ops._softplus_backward(grad, self, beta, threshold)


@softplus_backward.gradient("self")
def _(grad, grad_output, self, beta, threshold):
    s = ops.sigmoid(self * beta)
    return grad * grad_output * ops.where(self * beta > threshold, 0.0, s * (1 - s) * beta)


@kernel("_log_sigmoid(Tensor self) -> Tensor")
def log_sigmoid_kernel(x):
    """``log(sigmoid(self))``."""
    return select(x < 0, x, 0 * x) - log1p_(exp_(-fabs_(x)))


@log_sigmoid_kernel.gradient("self")
def _(grad, self):
    return ops._log_sigmoid_backward(grad, self)


@kernel("_log_sigmoid_backward(Tensor grad_output, Tensor self) -> Tensor")
def log_sigmoid_backward(g, x):
    """``grad_output * sigmoid(-self)``."""
    return g * sigmoid_(-x)


@log_sigmoid_backward.gradient("grad_output")
def _(grad, self):
    return ops._log_sigmoid_backward(grad, self)


@log_sigmoid_backward.gradient("self")
def _(grad, grad_output, self):
    s = ops.sigmoid(self)
    return grad * grad_output * (s * (s - 1))


@kernel("_hardsigmoid(Tensor self) -> Tensor")
def hardsigmoid_kernel(x):
    """``self / 6 + 1 / 2`` limited to [0, 1]."""
    y = x + 3
    return select(y < 0, T(0), select(y > 6, T(6), y)) / 6


@hardsigmoid_kernel.gradient("self")
def _(grad, self):
    return ops._hardsigmoid_backward(grad, self)


@kernel("_hardsigmoid_backward(Tensor grad_output, Tensor self) -> Tensor")
def hardsigmoid_backward(g, x):
    """``grad_output / 6`` where the line is sloped, else 0."""
    return select((x > -3) & (x < 3), g / 6, T(0))


@hardsigmoid_backward.gradient("grad_output", "self")
def _(grad, self):
    return ops._hardsigmoid_backward(grad, self), None


@kernel("_hardswish(Tensor self) -> Tensor")
def hardswish_kernel(x):
    """``self * hardsigmoid(self)``."""
    y = x + 3
    return x * select(y < 0, T(0), select(y > 6, T(6), y)) / 6


@hardswish_kernel.gradient("self")
def _(grad, self):
    return ops._hardswish_backward(grad, self)


@kernel("_hardswish_backward(Tensor grad_output, Tensor self) -> Tensor")
def hardswish_backward(g, x):
    """``grad_output`` times the slope of hardswish at ``self``."""
    return select(x < -3, T(0), select(x <= 3, g * (x / 3 + 0.5), g))


@hardswish_backward.gradient("grad_output")
def _(grad, self):
    return ops._hardswish_backward(grad, self)


@hardswish_backward.gradient("self")
def _(grad, grad_output, self):
    inside = ops.logical_and(self >= -3, self <= 3)
    return ops.where(inside, grad * grad_output / 3, 0.0)


@kernel("_hardshrink(Tensor self, Scalar lambd) -> Tensor")
def hardshrink_kernel(x, lambd):
    """``self`` outside ``[-lambd, lambd]``, else 0."""
    return select((x >= -lambd) & (x <= lambd), T(0), x)


@kernel("_softshrink(Tensor self, Scalar lambd) -> Tensor")
def softshrink_kernel(x, lambd):
    """``self`` moved towards 0 by ``lambd``, 0 within it."""
    return select(x > lambd, x - lambd, select(x < -lambd, x + lambd, 0 * x))


@kernel("_shrink_backward(Tensor grad_output, Tensor self, Scalar lambd) -> Tensor")
def shrink_backward(g, x, lambd):
    """``grad_output`` where ``self`` lies outside ``[-lambd, lambd]``, else 0."""
    return select((x >= -lambd) & (x <= lambd), T(0), g)


@shrink_backward.gradient("grad_output", "self")
def _(grad, self, lambd):
    return ops._shrink_backward(grad, self, lambd), None


for _entry in (hardshrink_kernel, softshrink_kernel):
    @_entry.gradient("self")
    def _(grad, self, lambd):
        return ops._shrink_backward(grad, self, lambd)


@kernel("_prelu(Tensor self, Tensor weight) -> Tensor")
def prelu_kernel(x, weight):
    """``self`` above 0, else ``weight * self``."""
    return select(x > 0, x, weight * x)


@prelu_kernel.gradient("self", "weight")
def _(grad, self, weight):
    above = self > 0
    return ops.where(above, grad, grad * weight), ops.where(above, 0.0, grad * self)
