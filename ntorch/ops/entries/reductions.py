"""Reductions over dimensions: sum, mean, prod, any, all, amax, amin, logsumexp."""
import math

from ...kernels.argreduce import larger, smaller
from ...runtime import dtypes
from ..base import Size, TensorBase, numel, wrap_dims
from ..composite import composite, overloaded
from ..dtype_rules import integers_to_int64, not_complex
from ..outputs import write_out
from ..reduction import reduction
from ..registry import ops


def restore_dims(reduced, dim, keepdim, ndim):
    """``reduced`` with the reduced dimensions back as size 1, ready to broadcast."""
    if keepdim or not ndim:
        return reduced
    for d in sorted(wrap_dims(dim, ndim)):
        reduced = ops.unsqueeze(reduced, d)
    return reduced


def floats_keep(promoted):
    """Means need a floating or complex type."""
    if promoted.category < dtypes.FLOAT:
        names = {"bool": "Bool", "uint8": "Byte", "int8": "Char", "int16": "Short", "int32": "Int",
                 "int64": "Long"}
        raise RuntimeError("mean(): could not infer output dtype. Input dtype must be either a "
                           "floating point or complex dtype. Got: " + names[promoted.name])
    return promoted, promoted


def to_bool(promoted):
    """Computed and returned as bool, except that uint8 stays uint8, as in torch."""
    result = dtypes.uint8 if promoted is dtypes.uint8 else dtypes.bool_
    return (promoted, result)


@reduction("sum(Tensor self, int[1]? dim=None, bool keepdim=False, *, ScalarType? dtype=None, "
           "Tensor? out=None) -> Tensor", dtype=integers_to_int64, out_dtype=True)
class sum_:
    """Sum of the elements over ``dim`` (all if None). Integers are summed in int64."""
    identity = 0

    def combine(a, b):
        return a + b


@sum_.gradient("self")
def _(grad, self_form, dim, keepdim):
    return ops.expand(restore_dims(grad, dim, keepdim, len(self_form._shape)), self_form._shape)


@reduction("mean(Tensor self, int[1]? dim=None, bool keepdim=False, *, ScalarType? dtype=None, "
           "Tensor? out=None) -> Tensor", dtype=floats_keep)
class mean:
    """Arithmetic mean over ``dim``; NaN of nothing. Floating and complex types only."""
    identity = 0

    def combine(a, b):
        return a + b

    def finish(total, count):
        return total / count


@mean.gradient("self")
def _(grad, self_form, dim, keepdim):
    count = 1
    for d in wrap_dims(dim, len(self_form._shape)):
        count *= self_form._shape[d]
    return ops.expand(restore_dims(grad, dim, keepdim, len(self_form._shape)) / max(count, 1),
                      self_form._shape)


@reduction("_prod(Tensor self, int[1]? dim=None, bool keepdim=False, *, ScalarType? dtype=None) -> "
           "Tensor", dtype=integers_to_int64, method=False)
class prod_:
    """Product of the elements over ``dim``."""
    identity = 1

    def combine(a, b):
        return a * b


@prod_.gradient("self")
def _(grad, self, dim, keepdim):
    return _prod_gradient(grad, self, dim, keepdim)


def _prod_gradient(grad, self, dim, keepdim):
    """``grad * prod(others)``: products from the left times products from the right, so that a zero
    divides nothing."""
    ndim = len(self._shape)
    dims = wrap_dims(dim, ndim)
    grad = restore_dims(grad, dim, keepdim, ndim)
    if not ndim:
        return grad
    order = [d for d in range(ndim) if d not in dims] + list(dims)
    moved = ops.permute(self, order)
    lead = moved._shape[:ndim - len(dims)]
    flat = ops.reshape(moved, (*lead, -1)) if numel(self) else None
    if flat is None:
        return ops.zeros_like(self)
    one = ops.ones((*lead, 1), dtype=self.dtype, device=self.device)
    left = ops.cumprod(ops.cat([one, flat[..., :-1]], -1), -1)
    right = ops.flip(ops.cumprod(ops.cat([one, ops.flip(flat, (-1,))[..., :-1]], -1), -1), (-1,))
    others = ops.reshape(left * right, moved._shape)
    others = ops.permute(others, [order.index(d) for d in range(ndim)])
    return grad * (ops.conj(others) if self.dtype.is_complex else others)


@overloaded("prod", out=True)
def prod(input, dim=None, keepdim=False, *, dtype=None, out=None):
    """Product of all elements, or over one dimension ``dim``."""
    dtype = out.dtype if dtype is None and out is not None else dtype
    result = ops._prod(input, dim, keepdim, dtype=dtype)
    return result if out is None else _into(out, result)


def _into(out, result, op="reduction", inputs=(), exact=False):
    return write_out(op, out, result, inputs, exact)


@reduction("any(Tensor self, int[]? dim=None, bool keepdim=False, *, Tensor? out=None) -> Tensor",
           dtype=to_bool, differentiable=False, exact_out="dtype")
class any_:
    """Whether any element is nonzero (NaN counts as nonzero)."""
    identity = 0
    truth = True

    def map(x):
        return x != 0

    def combine(a, b):
        return (a != 0) | (b != 0)


@reduction("all(Tensor self, int[]? dim=None, bool keepdim=False, *, Tensor? out=None) -> Tensor",
           dtype=to_bool, differentiable=False, exact_out="dtype")
class all_:
    """Whether all elements are nonzero (NaN counts as nonzero)."""
    identity = 1
    truth = True

    def map(x):
        return x != 0

    def combine(a, b):
        return (a != 0) & (b != 0)


def _share_ties(grad, self, result, dim, keepdim):
    ndim = len(self._shape)
    hit = self == restore_dims(result, dim, keepdim, ndim)
    hit = ops.logical_or(hit, ops.logical_and(ops.isnan(self), ops.isnan(
        restore_dims(result, dim, keepdim, ndim))))
    hit = ops.to_dtype(hit, grad.dtype)
    return restore_dims(grad, dim, keepdim, ndim) * hit / ops.sum(hit, dim, True)


def _extreme(name, function, identity):
    kind = "Largest" if name == "amax" else "Smallest"

    class extreme:
        combine = function
        no_identity = True
    extreme.identity = identity
    extreme.__doc__ = f"{kind} element over ``dim``; NaN if one is. Ties share the gradient."
    entry = reduction(f"{name}(Tensor self, int[1] dim=[], bool keepdim=False, *, Tensor? out=None)"
                      " -> Tensor", dtype=not_complex, exact_out="dtype")(extreme)
    entry.gradient("self")(lambda grad, self, result, dim, keepdim: _share_ties(
        grad, self, result, dim, keepdim))
    return entry


def _larger(a, b):
    return larger(a, b)


def _smaller(a, b):
    return smaller(a, b)


_extreme("amax", _larger, -math.inf)
_extreme("amin", _smaller, math.inf)


@composite("logsumexp(Tensor self, int[1] dim, bool keepdim=False, *, Tensor? out=None) -> Tensor")
def logsumexp(self, dim, keepdim):
    """``log(sum(exp(self)))`` over ``dim``, shifted by the maximum so that nothing overflows."""
    if self.dtype.category < dtypes.FLOAT:
        self = ops.to_dtype(self, dtypes.get_default_dtype())
    dims = wrap_dims(dim, len(self._shape))
    if not numel(self):
        return ops.log(ops.sum(ops.exp(self), dims, keepdim))
    peak = ops.amax(self.detach(), dims, True)
    peak = ops.where(ops.isinf(peak), ops.zeros_like(peak), peak)
    total = ops.log(ops.sum(ops.exp(self - peak), dims, True)) + peak
    return total if keepdim else ops.reshape(total, _without(self._shape, dims))


def _without(shape, dims):
    return Size(n for d, n in enumerate(shape) if d not in dims)


@composite("nansum(Tensor self, int[1]? dim=None, bool keepdim=False, *, ScalarType? dtype=None, "
           "Tensor? out=None) -> Tensor")
def nansum(self, dim, keepdim, dtype):
    """Sum with NaN counted as zero."""
    if self.dtype.category >= dtypes.FLOAT:
        self = ops.where(ops.isnan(self), ops.zeros_like(self), self)
    return ops.sum(self, dim, keepdim, dtype=dtype)


@composite("nanmean(Tensor self, int[1]? dim=None, bool keepdim=False, *, ScalarType? dtype=None, "
           "Tensor? out=None) -> Tensor")
def nanmean(self, dim, keepdim, dtype):
    """Mean of the elements that are not NaN."""
    counted = ops.sum(ops.to_dtype(ops.logical_not(ops.isnan(self)), self.dtype), dim, keepdim)
    return ops.nansum(self, dim, keepdim, dtype=dtype) / counted


@composite("count_nonzero(Tensor self, int[]? dim=None) -> Tensor")
def count_nonzero(self, dim):
    """How many elements are nonzero, over ``dim``."""
    return ops.sum(ops.ne(self, 0), dim)



@overloaded("equal", fuse=False)
def equal(input, other):
    """Whether both tensors have the same shape and elements, as a Python bool."""
    if not isinstance(other, TensorBase):
        raise TypeError(f"equal(): argument 'other' (position 2) must be Tensor, not "
                        f"{type(other).__name__}")
    if input.device is not other.device:
        raise RuntimeError(f"equal: expected both tensors on {input.device}, got {other.device}")
    return input._shape == other._shape and bool(ops.all(ops.eq(input, other)))
