"""Losses of pairs and triplets: margins between distances, similarities and scores."""
from ..composite import overloaded
from ..losses import reduced, reduction_name
from ..registry import ops

EPSILON = 1e-12     # keeps the cosine of zero vectors defined


@overloaded("margin_ranking_loss", namespace="nn.functional", method=False)
def margin_ranking_loss(input1, input2, target, margin=0, size_average=None, reduce=None,
                        reduction="mean"):
    """``max(0, -t * (x1 - x2) + margin)``; the target is 1 where ``input1`` should rank higher.

    RuntimeError unless all have the same number of dimensions.
    """
    reduction = reduction_name(reduction, size_average, reduce)
    if not len(input1._shape) == len(input2._shape) == len(target._shape):
        raise RuntimeError("margin_ranking_loss : All input tensors should have same dimension but "
                           f"got sizes: input1: {input1._shape}, input2: {input2._shape}, target: "
                           f"{target._shape} ")
    return reduced(ops.clamp_min(-target * (input1 - input2) + margin, 0), reduction)


@overloaded("cosine_embedding_loss", namespace="nn.functional", method=False)
def cosine_embedding_loss(input1, input2, target, margin=0, size_average=None, reduce=None,
                          reduction="mean"):
    """``1 - cos(x1, x2)`` where the target is 1, ``max(0, cos(x1, x2) - margin)`` where it is -1.

    Inputs (N, D) with target (N), or (D) with (). RuntimeError for other shapes.
    """
    reduction = reduction_name(reduction, size_average, reduce)
    if len(target._shape) > 1:
        raise RuntimeError(f"0D or 1D target tensor expected, multi-target not supported: got "
                           f"{list(target._shape)}")
    wanted = len(target._shape) + 1
    if len(input1._shape) != wanted or len(input2._shape) != wanted:
        raise RuntimeError(f"{wanted - 1}D target tensor expects {wanted}D input tensors, but "
                           f"found inputs with sizes {list(input1._shape)} and "
                           f"{list(input2._shape)}.")
    dot = ops.sum(input1 * input2, -1)
    squares = (ops.sum(input1 * input1, -1) + EPSILON) * (ops.sum(input2 * input2, -1) + EPSILON)
    cosine = dot / ops.sqrt(squares)
    alike = ops.where(ops.eq(target, 1), 1 - cosine, 0.0)
    apart = ops.where(ops.eq(target, -1), ops.clamp_min(cosine - margin, 0), 0.0)
    return reduced(alike + apart, reduction)


def _triplet(anchor, positive, negative, distance, margin, swap):
    """``max(0, d(a, p) - d(a, n) + margin)``; with ``swap`` d(a, n) is at most d(p, n)."""
    near, far = distance(anchor, positive), distance(anchor, negative)
    if swap:
        far = ops.minimum(far, distance(positive, negative))
    return ops.clamp_min(near - far + margin, 0)


def _check_triplet(anchor, positive, negative, margin):
    sizes = [len(t._shape) for t in (anchor, positive, negative)]
    if len(set(sizes)) > 1:
        raise RuntimeError("The anchor, positive, and negative tensors are expected to have the "
                           f"same number of dimensions, but got: anchor {sizes[0]}D, positive "
                           f"{sizes[1]}D, and negative {sizes[2]}D inputs")
    if margin <= 0:
        raise ValueError(f"margin must be greater than 0, got {margin}")


@overloaded("triplet_margin_loss", namespace="nn.functional", method=False)
def triplet_margin_loss(anchor, positive, negative, margin=1.0, p=2, eps=1e-6, swap=False,
                        size_average=None, reduce=None, reduction="mean"):
    """``max(0, |a - p + eps|_p - |a - n + eps|_p + margin)`` along the last dimension.

    ``swap`` uses the smaller of the distances of the negative to anchor and positive. ValueError
    unless the margin is positive, RuntimeError for numbers of dimensions that differ. (Balntas et
    al., 2016.)
    """
    reduction = reduction_name(reduction, size_average, reduce)
    _check_triplet(anchor, positive, negative, margin)

    def distance(x, y):
        return ops.pairwise_distance(x, y, p, eps)

    return reduced(_triplet(anchor, positive, negative, distance, margin, swap), reduction)


@overloaded("triplet_margin_with_distance_loss", namespace="nn.functional", method=False)
def triplet_margin_with_distance_loss(anchor, positive, negative, *, distance_function=None,
                                      margin=1.0, swap=False, reduction="mean"):
    """``max(0, d(a, p) - d(a, n) + margin)`` for any distance d, by default the Euclidean one."""
    reduction = reduction_name(reduction)
    _check_triplet(anchor, positive, negative, margin)
    distance = distance_function or ops.pairwise_distance
    return reduced(_triplet(anchor, positive, negative, distance, margin, swap), reduction)
