"""The activation functions by their public names, over the kernels of the other two files."""

from ...runtime import dtypes
from ..base import wrap_dim
from ..composite import composite
from ..registry import ops
from .activation import SELU_ALPHA, SELU_SCALE


def activation(signature, method=False, **flags):
    """A composite in ``nn.functional`` with an in-place twin."""
    return composite(signature, inplace=True, method=method, namespace="nn.functional", **flags)


def _apply(inplace, name, self, *arguments):
    """The kernel entry ``name``, into ``self`` if asked."""
    return getattr(ops, name + "_" if inplace else name)(self, *arguments)


@activation("relu(Tensor self, bool inplace=False) -> Tensor", method=True, fuse=False)
def relu(self, inplace):
    """``max(input, 0)``."""
    return ops._relu_(self) if inplace else ops._relu(self)


@activation("relu6(Tensor self, bool inplace=False) -> Tensor")
def relu6(self, inplace):
    """``min(max(input, 0), 6)``."""
    return _apply(inplace, "_hardtanh", self, 0, 6)


@activation("threshold(Tensor self, Scalar threshold, Scalar value, bool inplace=False) -> Tensor")
def threshold(self, threshold, value, inplace):
    """``input`` above ``threshold``, else ``value``."""
    return _apply(inplace, "_threshold", self, threshold, value)


@activation("leaky_relu(Tensor self, Scalar negative_slope=0.01, bool inplace=False) -> Tensor")
def leaky_relu(self, negative_slope, inplace):
    """``input`` above 0, else ``negative_slope * input``."""
    return _apply(inplace, "_leaky_relu", self, negative_slope)


@activation("hardtanh(Tensor self, Scalar min_val=-1.0, Scalar max_val=1.0, bool inplace=False) -> "
            "Tensor")
def hardtanh(self, min_val, max_val, inplace):
    """``input`` limited to ``[min_val, max_val]``."""
    if min_val > max_val:
        raise ValueError("min_val cannot be greater than max_val")
    if self.dtype is dtypes.bool_:
        raise NotImplementedError("Bool inputs not supported for hardtanh")
    if not self.dtype.is_signed and (min_val < 0 or max_val < 0):
        raise RuntimeError("cannot do hardtanh on an unsigned type with negative limits")
    return _apply(inplace, "_hardtanh", self, min_val, max_val)


@activation("elu(Tensor self, Scalar alpha=1.0, bool inplace=False) -> Tensor")
def elu(self, alpha, inplace):
    """``input`` above 0, else ``alpha * expm1(input)`` (arXiv 1511.07289)."""
    return _apply(inplace, "_elu", self, alpha, 1.0, 1.0)


@activation("selu(Tensor self, bool inplace=False) -> Tensor")
def selu(self, inplace):
    """Scaled ``elu`` that keeps mean 0 and variance 1 (arXiv 1706.02515)."""
    return _apply(inplace, "_elu", self, SELU_ALPHA, SELU_SCALE, 1.0)


@activation("celu(Tensor self, Scalar alpha=1.0, bool inplace=False) -> Tensor")
def celu(self, alpha, inplace):
    """``input`` above 0, else ``alpha * expm1(input / alpha)`` (arXiv 1704.07483)."""
    if alpha == 0:
        raise RuntimeError("ZeroDivisionError: alpha cannot be 0 for CELU")
    return _apply(inplace, "_elu", self, alpha, 1.0, 1.0 / alpha)


@activation("silu(Tensor self, bool inplace=False) -> Tensor")
def silu(self, inplace):
    """``input * sigmoid(input)`` (arXiv 1702.03118)."""
    return _apply(inplace, "_silu", self)


@activation("mish(Tensor self, bool inplace=False) -> Tensor")
def mish(self, inplace):
    """``input * tanh(softplus(input))`` (arXiv 1908.08681)."""
    return _apply(inplace, "_mish", self)


@activation("hardswish(Tensor self, bool inplace=False) -> Tensor")
def hardswish(self, inplace):
    """``input * relu6(input + 3) / 6`` (arXiv 1905.02244)."""
    return _apply(inplace, "_hardswish", self)


@activation("hardsigmoid(Tensor self, bool inplace=False) -> Tensor")
def hardsigmoid(self, inplace):
    """``relu6(input + 3) / 6``."""
    return _apply(inplace, "_hardsigmoid", self)


@composite("gelu(Tensor self, *, str approximate='none') -> Tensor", method=False,
           namespace="nn.functional", out=True, exact_out="dtype", fuse=False)
def gelu(self, approximate):
    """``input * Phi(input)``; ``approximate="tanh"`` is the tanh form (arXiv 1606.08415)."""
    if approximate not in ("none", "tanh"):
        raise RuntimeError("approximate argument must be either none or tanh.")
    return ops._gelu(self) if approximate == "none" else ops._gelu_tanh(self)


@composite("softplus(Tensor self, Scalar beta=1, Scalar threshold=20) -> Tensor", method=False,
           namespace="nn.functional", out=True, exact_out="dtype")
def softplus(self, beta, threshold):
    """``log(1 + exp(beta * input)) / beta``; ``input`` where ``beta * input > threshold``."""
    return ops._softplus(self, beta, threshold)


@composite("logsigmoid(Tensor self) -> Tensor", method=False, namespace="nn.functional",
           aliases=("log_sigmoid",), out=True, exact_out="dtype")
def logsigmoid(self):
    """``log(sigmoid(input))``."""
    return ops._log_sigmoid(self)


@composite("hardshrink(Tensor self, Scalar lambd=0.5) -> Tensor", namespace="nn.functional",
           out=True, exact_out="dtype")
def hardshrink(self, lambd):
    """``input`` outside ``[-lambd, lambd]``, else 0."""
    return ops._hardshrink(self, lambd)


@composite("softshrink(Tensor self, Scalar lambd=0.5) -> Tensor", method=False,
           namespace="nn.functional", out=True, exact_out="dtype")
def softshrink(self, lambd):
    """``input`` moved towards 0 by ``lambd``, 0 within it."""
    if lambd < 0:
        raise RuntimeError(f"lambda must be greater or equal to 0, but found to be {lambd}.")
    return ops._softshrink(self, lambd)


@composite("tanhshrink(Tensor self) -> Tensor", method=False, namespace="nn.functional")
def tanhshrink(self):
    """``input - tanh(input)``."""
    return self - ops.tanh(self)


@composite("softsign(Tensor self) -> Tensor", method=False, namespace="nn.functional")
def softsign(self):
    """``input / (1 + |input|)``."""
    return self / (1 + ops.abs(self))


@composite("prelu(Tensor self, Tensor weight) -> Tensor", namespace="nn.functional", fuse=False)
def prelu(self, weight):
    """``input`` above 0, else ``weight * input``; one weight, or one per channel (dimension 1)."""
    if self.dtype is not weight.dtype:
        raise RuntimeError("prelu: Type promoting not supported. Got "
                           f"{self.dtype} and {weight.dtype}")
    count = weight.numel()
    if count != 1:
        channels = self.shape[1] if self.dim() > 1 else 1
        if self.dim() == 0:
            raise RuntimeError("Not allow zero-dim input tensor.")
        if channels != count:
            raise RuntimeError("Mismatch of parameter numbers and input channel size. Found "
                               f"parameter numbers = {count} and channel size = {channels}.")
    if weight.dim() > 1:
        raise RuntimeError("prelu: Expected `weight` to be a scalar or 1D tensor, but got: ndim = "
                           f"{weight.dim()}")
    shape = [count if d == 1 else 1 for d in range(self.dim())]
    return ops._prelu(self, ops.reshape(weight, shape))


@activation("rrelu(Tensor self, Scalar lower=0.125, Scalar upper=0.3333333333333333, "
            "bool training=False, bool inplace=False) -> Tensor")
def rrelu(self, lower, upper, training, inplace):
    """Leaky relu whose slope is drawn from ``[lower, upper]`` per element while training."""
    if lower > upper:
        raise RuntimeError("Lower bound should be less than or equal to the upper bound, but got "
                           f"lower={lower} and upper={upper}")
    if not training:
        return _apply(inplace, "_leaky_relu", self, (lower + upper) / 2)
    slope = ops.uniform_(ops.empty_like(self), lower, upper)
    result = ops.where(self > 0, self, self * slope)
    return ops.copy_(self, result) if inplace else result


@composite("glu(Tensor self, int dim=-1) -> Tensor", method=False, namespace="nn.functional",
           out=True)
def glu(self, dim):
    """``a * sigmoid(b)`` of the two halves along ``dim`` (arXiv 1612.08083)."""
    if self.dim() == 0:
        raise RuntimeError("glu does not support 0-dimensional tensors")
    size = self.shape[wrap_dim(dim, self.dim())]
    if size % 2:
        raise RuntimeError(f"Halving dimension must be even, but dimension {dim} is size {size}")
    first, second = ops.chunk(self, 2, dim)
    return first * ops.sigmoid(second)


