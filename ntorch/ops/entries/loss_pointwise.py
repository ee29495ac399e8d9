"""Losses between an input and a target of one shape."""
import math

from ...kernels.math import exp, log, log1p
from ...kernels.stubs import fabs_, select
from ..composite import overloaded
from ..dtype_rules import floats_only
from ..errors import refuse
from ..losses import reduced, reduction_name, same_size, weighted
from ..pointwise import pointwise
from ..registry import ops


@overloaded("l1_loss", namespace="nn.functional", method=False)
def l1_loss(input, target, size_average=None, reduce=None, reduction="mean", weight=None):
    """``abs(input - target)``; shapes broadcast, with a warning. A mean is over the weights."""
    reduction = reduction_name(reduction, size_average, reduce)
    x, t = same_size(input, target)
    return weighted(ops.abs(x - t), weight, input, reduction)


@overloaded("mse_loss", namespace="nn.functional", method=False)
def mse_loss(input, target, size_average=None, reduce=None, reduction="mean", weight=None):
    """``(input - target) ** 2``; shapes broadcast, with a warning. A mean is over the weights."""
    reduction = reduction_name(reduction, size_average, reduce)
    x, t = same_size(input, target)
    return weighted(ops._squared_error(x, t), weight, input, reduction)


@pointwise("_squared_error(Tensor self, Tensor target) -> Tensor", inplace=False, method=False)
def _squared_error(x, y):
    """``(self - target) ** 2``."""
    return (x - y) * (x - y)


@_squared_error.gradient("self", "target")
def _(grad, self, target, needs):
    slope = grad * (2 * (self - target))
    return slope, -slope if needs["target"] else None


@pointwise("_huber(Tensor self, Tensor target, Scalar delta) -> Tensor", dtype=floats_only,
           inplace=False, method=False)
def _huber(x, y, delta):
    """``z ** 2 / 2`` where ``z = abs(self - target) <= delta``, or ``delta * (z - delta / 2)``."""
    z = fabs_(x - y)
    return select(z <= delta, 0.5 * z * z, delta * (z - 0.5 * delta))


@_huber.gradient("self", "target")
def _(grad, self, target, delta, needs):
    slope = grad * ops.clamp(self - target, -delta, delta)
    return slope, -slope if needs["target"] else None


@overloaded("huber_loss", namespace="nn.functional", method=False)
def huber_loss(input, target, reduction="mean", delta=1.0, weight=None):
    """``z ** 2 / 2`` for ``z = abs(input - target) <= delta``, ``delta * (z - delta / 2)`` beyond.

    RuntimeError unless ``delta`` is positive. (Huber, 1964.)
    """
    reduction = reduction_name(reduction)
    if delta <= 0:
        raise RuntimeError("huber_loss does not support non-positive values for delta, got "
                           f"{delta}")
    x, t = same_size(input, target)
    return weighted(ops._huber(x, t, delta), weight, input, reduction, mean_over_weights=False)


@overloaded("smooth_l1_loss", namespace="nn.functional", method=False)
def smooth_l1_loss(input, target, size_average=None, reduce=None, reduction="mean", beta=1.0):
    """``z ** 2 / (2 beta)`` for ``z = abs(input - target) < beta``, ``z - beta / 2`` beyond.

    A ``beta`` of 0 is ``l1_loss``; RuntimeError below. (Girshick, 2015.)
    """
    reduction = reduction_name(reduction, size_average, reduce)
    x, t = same_size(input, target)
    if beta < 0:
        raise RuntimeError(f"smooth_l1_loss does not support negative values for beta, got {beta}")
    if beta == 0:
        return reduced(ops.abs(x - t), reduction)
    return reduced(ops._huber(x, t, beta) / beta, reduction)


@pointwise("_binary_cross_entropy(Tensor self, Tensor target) -> Tensor", dtype=floats_only,
           inplace=False, method=False)
def _binary_cross_entropy(x, y):
    """``-(t log(x) + (1 - t) log(1 - x))`` with logarithms of at least -100."""
    yes, no = log(x), log1p(-x)
    yes = select(yes < -100.0, -100.0, yes)
    no = select(no < -100.0, -100.0, no)
    return (y - 1.0) * no - y * yes


@_binary_cross_entropy.gradient("self")
def _(grad, self, target):
    return grad * (self - target) / ops.clamp_min(self * (1 - self), 1e-12)


@_binary_cross_entropy.gradient("target")
def _(grad, self):
    return grad * (ops.log1p(-self) - ops.log(self))


def _check_size(name, input, target):
    if input._shape != target._shape:
        raise ValueError(f"Using a target size ({target._shape}) that is different to the input "
                         f"size ({input._shape}) is deprecated. Please ensure they have the same "
                         f"size. ({name})")


@overloaded("binary_cross_entropy", namespace="nn.functional", method=False)
def binary_cross_entropy(input, target, weight=None, size_average=None, reduce=None,
                         reduction="mean"):
    """``-weight * (t log(x) + (1 - t) log(1 - x))`` of probabilities x.

    Logarithms are cut at -100, so the loss is finite. ValueError for shapes that differ,
    RuntimeError for an input outside [0, 1].
    """
    reduction = reduction_name(reduction, size_average, reduce)
    _check_size("binary_cross_entropy", input, target)
    inside = ops.logical_and(ops.ge(input, 0), ops.le(input, 1))        # NaN is not
    refuse(ops.logical_not(inside), RuntimeError,
           "all elements of input should be between 0 and 1")
    loss = ops._binary_cross_entropy(input, target)
    return reduced(loss if weight is None else loss * weight, reduction)


@pointwise("_binary_cross_entropy_with_logits(Tensor self, Tensor target) -> Tensor",
           dtype=floats_only, inplace=False, method=False)
def _binary_cross_entropy_with_logits(x, y):
    """``-(t log(sigmoid(x)) + (1 - t) log(1 - sigmoid(x)))`` without overflow."""
    return (1.0 - y) * x - (select(x < 0.0, x, 0.0 * x) - log1p(exp(-fabs_(x))))


@_binary_cross_entropy_with_logits.gradient("self")
def _(grad, self, target):
    return grad * (ops.sigmoid(self) - target)


@_binary_cross_entropy_with_logits.gradient("target")
def _(grad, self):
    return -(grad * self)


def _log_sigmoid(x):
    return ops.clamp_max(x, 0.0) - ops.log1p(ops.exp(-ops.abs(x)))


@overloaded("binary_cross_entropy_with_logits", namespace="nn.functional", method=False)
def binary_cross_entropy_with_logits(input, target, weight=None, size_average=None, reduce=None,
                                     reduction="mean", pos_weight=None):
    """``-weight * (p t log(s) + (1 - t) log(1 - s))`` with ``s = sigmoid(input)``, stable.

    ``pos_weight`` p and ``weight`` broadcast against the input. ValueError for shapes that differ.
    """
    reduction = reduction_name(reduction, size_average, reduce)
    if input._shape != target._shape:
        raise ValueError(f"Target size ({target._shape}) must be the same as input size "
                         f"({input._shape})")
    if pos_weight is None:
        loss = ops._binary_cross_entropy_with_logits(input, target)
    else:
        loss = (1 - target) * input - ((pos_weight - 1) * target + 1) * _log_sigmoid(input)
    return reduced(loss if weight is None else loss * weight, reduction)


@overloaded("kl_div", namespace="nn.functional", method=False)
def kl_div(input, target, size_average=None, reduce=None, reduction="mean", log_target=False):
    """``t * (log(t) - x)`` for log-probabilities x, 0 where t is 0 (Kullback-Leibler).

    ``log_target``: the target holds logarithms. ``reduction="batchmean"`` divides the sum by the
    batch size, which is the mathematical definition; ``"mean"`` by the number of elements.
    """
    batchmean = reduction == "batchmean" and size_average is None and reduce is None
    reduction = "sum" if batchmean else reduction_name(reduction, size_average, reduce)
    loss = ops.exp(target) * (target - input) if log_target else \
        ops.xlogy(target, target) - target * input
    total = reduced(loss, reduction)
    return total / input._shape[0] if batchmean and input._shape else total


@overloaded("poisson_nll_loss", namespace="nn.functional", method=False)
def poisson_nll_loss(input, target, log_input=True, full=False, size_average=None, eps=1e-8,
                     reduce=None, reduction="mean"):
    """``exp(x) - t x``, or ``x - t log(x + eps)`` for ``log_input=False``: Poisson likelihood.

    ``full`` adds Stirling's ``t log(t) - t + log(2 pi t) / 2`` where the target is above 1.
    """
    reduction = reduction_name(reduction, size_average, reduce)
    loss = ops.exp(input) - target * input if log_input else \
        input - target * ops.log(input + eps)
    if full:
        stirling = target * ops.log(target) - target + 0.5 * ops.log(2 * math.pi * target)
        loss = loss + ops.masked_fill(stirling, ops.le(target, 1), 0)
    return reduced(loss, reduction)


def _variance_like(input, var):
    """``var`` in a shape that broadcasts against the input; ValueError otherwise."""
    shape, got = input._shape, var._shape
    if got == shape:
        return var
    if shape[:-1] == got:
        return ops.unsqueeze(var, -1)
    different = [(a, b) for a, b in zip(shape, got, strict=False) if a != b]
    if len(shape) == len(got) and len(different) == 1 and different[0][1] == 1:
        return var
    raise ValueError(f"var is of incorrect size: expected {list(shape)}, that without its last "
                     f"dimension, or with one dimension of size 1, got {list(got)}")


@overloaded("gaussian_nll_loss", namespace="nn.functional", method=False)
def gaussian_nll_loss(input, target, var, full=False, eps=1e-6, reduction="mean"):
    """``(log(v) + (x - t) ** 2 / v) / 2`` with ``v = max(var, eps)``: Gaussian likelihood.

    ``full`` adds ``log(2 pi) / 2``. The gradient of ``var`` passes the maximum unchanged.
    ValueError for a negative variance or one whose shape does not fit.
    """
    if isinstance(var, float):
        if var < 0:
            raise ValueError(f"var has negative entry/entries: {var}")
        var = ops.full_like(input, var)
    else:
        refuse(ops.lt(var, 0), ValueError, "var has negative entry/entries")
    var = _variance_like(input, var)
    reduction = reduction_name(reduction)
    held = var.detach()
    var = var + (ops.clamp_min(held, eps) - held)
    difference = input - target
    loss = 0.5 * (ops.log(var) + difference * difference / var)
    return reduced(loss + 0.5 * math.log(2 * math.pi) if full else loss, reduction)


@overloaded("soft_margin_loss", namespace="nn.functional", method=False)
def soft_margin_loss(input, target, size_average=None, reduce=None, reduction="mean"):
    """``log(1 + exp(-t * x))`` for targets of 1 and -1."""
    reduction = reduction_name(reduction, size_average, reduce)
    return reduced(ops.log1p(ops.exp(-target * input)), reduction)


@overloaded("hinge_embedding_loss", namespace="nn.functional", method=False)
def hinge_embedding_loss(input, target, margin=1.0, size_average=None, reduce=None,
                         reduction="mean"):
    """``x`` where the target is 1, ``max(0, margin - x)`` where it is -1."""
    reduction = reduction_name(reduction, size_average, reduce)
    apart = ops.where(ops.ne(target, 1), ops.clamp_min(margin - input, 0), 0.0)
    return reduced(apart + ops.where(ops.ne(target, -1), input, 0.0), reduction)


@overloaded("multilabel_soft_margin_loss", namespace="nn.functional", method=False)
def multilabel_soft_margin_loss(input, target, weight=None, size_average=None, reduce=None,
                                reduction="mean"):
    """Mean over classes of ``-(t log(sigmoid(x)) + (1 - t) log(sigmoid(-x)))``; (N, C) or (C)."""
    reduction = reduction_name(reduction, size_average, reduce)
    loss = -(target * _log_sigmoid(input) + (1 - target) * _log_sigmoid(-input))
    if weight is not None:
        loss = loss * weight
    return reduced(ops.sum(loss, -1) / input._shape[-1], reduction)
