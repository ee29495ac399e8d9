"""Distances and similarities of vectors, and the norm they stand on."""

from ..base import Size, broadcast_shapes
from ..composite import overloaded
from ..registry import ops


@overloaded("pairwise_distance", method=False)
def pairwise_distance(x1, x2, p=2.0, eps=1e-6, keepdim=False):
    """``norm_p(x1 - x2 + eps)`` along the last dimension; (N, D) or (D), broadcast."""
    return ops._vector_norm(x1 - x2 + eps, float(p), -1, keepdim)


@overloaded("cosine_similarity", method=False)
def cosine_similarity(x1, x2, dim=1, eps=1e-8):
    """``x1 . x2 / (max(|x1|, eps) max(|x2|, eps))`` along ``dim``, broadcast; floating point.

    RuntimeError for integers.
    """
    for tensor in (x1, x2):
        if tensor.dtype.category < 2:
            raise RuntimeError("expected common dtype to be floating point, yet common dtype is "
                               f"{tensor.dtype}")
    shape = Size(broadcast_shapes(x1._shape, x2._shape))
    x1, x2 = ops.expand(x1, shape), ops.expand(x2, shape)
    first, second = (x / ops.clamp_min(ops._vector_norm(x, 2.0, dim, True), eps) for x in (x1, x2))
    return ops.sum(first * second, dim)
