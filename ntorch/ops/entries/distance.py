"""Distances and similarities of vectors, and the norm they stand on."""
import math

from ..base import Size, broadcast_shapes
from ..composite import overloaded
from ..registry import ops
from ..structured import structured


@structured("_vector_norm(Tensor self, float p, int dim, bool keepdim=False) -> Tensor",
            method=False)
def _vector_norm(self, p, dim, keepdim):
    """``sum(abs(x) ** p) ** (1 / p)`` along ``dim``; p of inf, -inf and 0 are their limits."""
    if p == 2.0:
        return ops.sqrt(ops.sum(self * self, dim, keepdim))
    size = ops.abs(self)
    if p == 1.0:
        return ops.sum(size, dim, keepdim)
    if p == math.inf:
        return ops.amax(size, dim, keepdim)
    if p == -math.inf:
        return ops.amin(size, dim, keepdim)
    if p == 0.0:
        return ops.sum(ops.to_dtype(ops.ne(self, 0), self.dtype), dim, keepdim)
    return ops.pow(ops.sum(ops.pow(size, p), dim, keepdim), 1.0 / p)


@_vector_norm.gradient("self")
def _(grad, self, result, p, dim, keepdim):
    if not keepdim:
        grad, result = ops.unsqueeze(grad, dim), ops.unsqueeze(result, dim)
    zero = ops.eq(result, 0)
    if p == 0.0:
        return ops.zeros_like(self)
    if p == 1.0:
        return grad * ops.sign(self)
    if abs(p) == math.inf:
        extreme = ops.to_dtype(ops.eq(ops.abs(self), result), self.dtype)
        return ops.sign(self) * extreme * (grad / ops.sum(extreme, dim, True))
    # at 0 the norm has no gradient: 0 is taken, without dividing by the norm
    safe = ops.masked_fill(result, zero, 1.0)
    if p == 2.0:
        return self * ops.masked_fill(grad / safe, zero, 0.0)
    factor = ops.masked_fill(grad / ops.pow(safe, p - 1), zero, 0.0)
    size = ops.abs(self)
    if p >= 2.0:
        return self * ops.pow(size, p - 2) * factor
    nothing = ops.eq(self, 0)
    slope = ops.pow(ops.masked_fill(size, nothing, 1.0), p - 1)
    return ops.sign(self) * ops.masked_fill(slope, nothing, 0.0) * factor


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
