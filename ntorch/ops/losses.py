"""What every loss does at its end and its start: reductions, legacy arguments, size checks."""
from .base import Size, broadcast_shapes
from .errors import warn
from .registry import ops

REDUCTIONS = ("none", "mean", "sum")


def reduction_name(reduction, size_average=None, reduce=None):
    """The reduction meant, old arguments included; ValueError for an unknown one."""
    if size_average is not None or reduce is not None:
        average = size_average is None or size_average
        reduction = "none" if reduce is not None and not reduce else "mean" if average else "sum"
        warn("size_average and reduce args will be deprecated, please use "
             f"reduction='{reduction}' instead.")
    if reduction not in REDUCTIONS:
        raise ValueError(f"{reduction} is not a valid value for reduction: expected 'none', 'mean' "
                         "or 'sum'")
    return reduction


def reduced(loss, reduction):
    """``loss`` itself, its mean or its sum."""
    if reduction == "mean":
        return ops.mean(loss)
    return ops.sum(loss) if reduction == "sum" else loss


def same_size(input, target):
    """Both broadcast to one shape, with torch's warning where that changes anything."""
    if input._shape == target._shape:
        return input, target
    warn(f"Using a target size ({target._shape}) that is different to the input size "
         f"({input._shape}). This will likely lead to incorrect results due to broadcasting. "
         "Please ensure they have the same size.")
    shape = Size(broadcast_shapes(input._shape, target._shape))
    return ops.expand(input, shape), ops.expand(target, shape)


def weighted(loss, weight, input, reduction, mean_over_weights=True):
    """``loss * weight`` reduced; a mean is over the sum of the weights, if asked."""
    if weight is None:
        return reduced(loss, reduction)
    if weight._shape != input._shape:
        raise ValueError("Weights and input must have the same size: expected "
                         f"{list(input._shape)}, got {list(weight._shape)}")
    loss = loss * weight
    if reduction == "mean" and mean_over_weights:
        return ops.sum(loss) / ops.sum(weight)
    return reduced(loss, reduction)
