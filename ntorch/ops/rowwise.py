"""Softmax, row normalisation and class losses as pointwise ops and reductions.

That is what they are in a recorded program, whose fuser makes one kernel of them and of what stands
around them: a scale and a mask before a softmax, a residual before a layer norm, the choice of a
class behind a log-softmax. Eager calls run the kernels written by hand, to which the formulas and
the order of operations here are equal.
"""
import numpy as np

from ..runtime import dtypes, recording
from .base import product, reshaped
from .host_tables import numpy_view
from .registry import ops
from .structured import as_dtype, empty
from .windows import parameter

EXACT_CLASSES = 1 << 24         # float32 holds the numbers of so many classes


def by_rows(shape, k):
    """Whether a program is being recorded that makes one kernel of passes over rows, which are the
    last ``k`` dimensions of ``shape``."""
    recorder = recording.current() if recording.active else None
    if recorder is None:
        return False
    lead = len(shape) - k
    return recorder.takes_rows(product(shape[:lead]), product(shape[lead:]))


def along_rows(shape, dim):
    """``by_rows`` for a softmax along ``dim``, behind which there may be nothing."""
    return bool(shape) and product(shape[dim + 1:]) == 1 and by_rows(shape, len(shape) - dim)


def softmax(x, dim):
    """``exp(x - max) / sum(exp(x - max))`` along ``dim``."""
    e = ops._exp_below_one(ops.sub(x, ops.amax(x, dim, True)))
    return ops.mul(e, ops.reciprocal(ops.sum(e, dim, True)))


def softmax_backward(grad, y, dim):
    """``(grad - sum(grad * y)) * y`` along ``dim``."""
    return ops.mul(ops.sub(grad, ops.sum(ops.mul(grad, y), dim, True)), y)


def log_softmax(x, dim):
    """``x - max - log(sum(exp(x - max)))`` along ``dim``."""
    d = ops.sub(x, ops.amax(x, dim, True))
    return ops.sub(d, ops.log(ops.sum(ops._exp_below_one(d), dim, True)))


def log_softmax_backward(grad, y, dim):
    """``grad - exp(y) * sum(grad)`` along ``dim``."""
    return ops.sub(grad, ops.mul(ops._exp_below_one(y), ops.sum(grad, dim, True)))


def _last(k):
    return tuple(range(-k, 0))


def normalize(x, k, weight, bias, eps, centered):
    """``(x - mean) * rstd * weight + bias`` over the last ``k`` dimensions, mean (0 unless
    ``centered``) and rstd."""
    dims, d = _last(k), x
    mean = ops.mean(x, dims, True) if centered else None
    if centered:
        d = ops.sub(x, mean)
    rstd = ops.rsqrt(ops.add(ops.mean(ops.mul(d, d), dims, True), eps))
    out = ops.mul(d, rstd)
    if weight is not None:
        out = ops.mul(out, as_dtype(weight, x.dtype))
    if bias is not None:
        out = ops.add(out, as_dtype(bias, x.dtype))
    return out, ops.zeros_like(rstd) if mean is None else mean, rstd


def normalize_backward(grad, x, k, weight, mean, rstd, centered):
    """The gradient of ``normalize`` in ``x``: ``rstd * (a - mean(a) - h * mean(a * h))`` with ``a =
    grad * weight`` and ``h`` the normalised row."""
    dims = _last(k)
    a = grad if weight is None else ops.mul(grad, as_dtype(weight, x.dtype))
    h = ops.mul(ops.sub(x, mean) if centered else x, rstd)
    aligned = ops.mul(h, ops.mean(ops.mul(a, h), dims, True))
    rest = ops.sub(a, ops.mean(a, dims, True)) if centered else a
    return ops.mul(rstd, ops.sub(rest, aligned))


def takes_classes(shape, dtype):
    """Whether ``chosen_classes`` serves scores (N, C) or (N, C, 1...) of this shape."""
    return (len(shape) > 1 and product(shape[2:]) == 1 and shape[1] < EXACT_CLASSES
            and dtype in (dtypes.float32, dtypes.float64) and by_rows(shape, len(shape) - 1))


class Classes:
    """Targets as a mask over rows of ``classes`` scores in ``dtype``: class numbers are compared as
    floating point numbers, in the lanes of the scores."""

    def __init__(self, target, classes, dtype, weight, ignore_index):
        count = product(target._shape)
        column = reshaped(target, (count, 1))
        known = ops.logical_and(ops.ge(column, 0), ops.lt(column, classes))
        if 0 <= ignore_index < classes:
            known = ops.logical_and(known, ops.ne(column, ignore_index))
        self.known, self.shape, self.dtype = known, (count, classes), dtype
        numbers = empty((classes,), dtype)
        numpy_view(numbers)[...] = np.arange(classes)
        used = ops.where(known, ops.to_dtype(column, dtype), -1.0)
        self.hit = ops.eq(used, numbers)
        self.weight = None if weight is None else parameter(weight, numbers)

    def _weighted(self, x):
        return x if self.weight is None else ops.mul(x, self.weight)

    def pick(self, x):
        """``-weight[t] * x[n, t]``, 0 where there is no class."""
        chosen = ops.where(self.hit, self._weighted(reshaped(x, self.shape)), 0.0)
        return ops.neg(ops.sum(chosen, 1))

    def weights(self):
        """``weight[t]``, 0 where there is no class."""
        if self.weight is None:
            return reshaped(ops.to_dtype(self.known, self.dtype), self.shape[:1])
        return ops.sum(ops.where(self.hit, self.weight, 0.0), 1)

    def place(self, grad):
        """Rows that are zero but for ``-weight[t] * grad[n]`` at their class."""
        share = self._weighted(ops.neg(grad))
        return ops.where(self.hit, ops.expand(share, self.shape), 0.0)
