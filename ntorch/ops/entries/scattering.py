"""Writing along one dimension by index: scatter, scatter_add, scatter_reduce, index_reduce."""
import math

from ...kernels import indexing as kernels
from ...runtime import dtypes
from ..base import TensorBase, numel, wrap_dim
from ..composite import composite, overloaded
from ..dtype_rules import _scalar_name
from ..grids import (
    calculable,
    calculate,
    check_index,
    grid,
    int64,
    lanes,
    narrowed,
    raw,
    rows_grain,
    updating,
    within,
)
from ..registry import ops
from ..structured import run
from .indexing import _as_vector, _check_slices, _need_index, _same_device


def _check_scatter(op, self, d, index, src):
    """Torch's checks of scatter's shapes and types; ``src`` is a tensor or None."""
    if numel(index) == 0:
        return
    _need_index(op, index)
    _same_device(op, self, index)
    if len(self._shape) != len(index._shape):
        raise RuntimeError("Index tensor must have the same number of dimensions as self tensor")
    if src is None:
        fits = all(k == d or n <= self._shape[k] for k, n in enumerate(index._shape))
        if not fits:
            raise RuntimeError(f"Expected index {list(index._shape)} to be no larger than self "
                               f"{list(self._shape)} apart from dimension {d}")
        return
    if src.dtype is not self.dtype:
        raise RuntimeError(f"{op}(): Expected self.dtype to be equal to src.dtype")
    _same_device(op, self, src)
    if len(src._shape) != len(index._shape):
        raise RuntimeError("Index tensor must have the same number of dimensions as src tensor")
    for k, n in enumerate(index._shape):
        if n > src._shape[k] or (k != d and n > self._shape[k]):
            raise RuntimeError(
                f"Expected index {list(index._shape)} to be no larger than self "
                f"{list(self._shape)} apart from dimension {d} and to be no larger size than src "
                f"{list(src._shape)}")


_KERNELS = {"set": kernels.scatter_set, "sum": kernels.scatter_add,
            "prod": kernels.scatter_multiply, "amax": kernels.scatter_max,
            "amin": kernels.scatter_min}


_LAST = {"set": kernels.scatter_set_last, "sum": kernels.scatter_add_last}


def _nothing(target):
    """Write nothing."""


def _scatter(op, self, dim, index, src, mode):
    """The write of a scatter whose values are a tensor."""
    d = wrap_dim(dim, len(self._shape), op)
    self, index, src = _as_vector(self), _as_vector(index), _as_vector(src)
    _check_scatter(op, self, d, index, src)
    if numel(index) == 0:
        return _nothing
    places = int64(index)
    check_index(places, self._shape[d], dim=d)
    values = narrowed(src, index._shape)
    if mode == "sum" and self.dtype is dtypes.bool_:
        mode = "amax"

    def put(target):
        source = raw(values) if mode == "set" else calculable(values)
        into = grid(raw(target) if mode == "set" else target, d)
        outer, _, inner = into._shape
        arguments = [("C", into), ("C", grid(places, d)), ("C", grid(source, d))]
        if inner == 1 and mode in _LAST:
            run(_LAST[mode], arguments, outer, rows_grain(index._shape[d]))
        else:
            run(_KERNELS[mode], arguments, lanes(outer, inner),
                rows_grain(min(inner, kernels.BLOCK) * index._shape[d]))

    def write(target):
        target = _as_vector(target)
        within(target, index._shape, d, put if mode == "set" else
               lambda part: calculate(part, put))
    return write


@updating("scatter.src(Tensor self, int dim, Tensor index, Tensor src) -> Tensor", method=False)
def scatter_src(self, dim, index, src):
    """``self`` with ``src`` written where ``index`` says; the last of equal indices wins."""
    return _scatter("scatter", self, dim, index, src, "set")


@scatter_src.gradient("self")
def _(grad, dim, index):
    return ops.scatter(grad, dim, index, 0)


@scatter_src.gradient("src")
def _(grad, dim, index):
    return ops.gather(grad, dim, index)


@updating("scatter.value(Tensor self, int dim, Tensor index, Scalar value) -> Tensor", method=False)
def scatter_value(self, dim, index, value):
    """``self`` with a number written where ``index`` says."""
    d = wrap_dim(dim, len(self._shape), "scatter")
    self, index = _as_vector(self), _as_vector(index)
    _check_scatter("scatter", self, d, index, None)
    if isinstance(value, complex) and not self.dtype.is_complex:
        raise RuntimeError(f"value cannot be converted to type {self.dtype} without overflow")
    if numel(index) == 0:
        return _nothing
    places = int64(index)
    check_index(places, self._shape[d], dim=d)
    number = ops.full((1,), value, dtype=self.dtype, device=self._storage.device)

    def put(target):
        into = grid(raw(target), d)
        outer, _, inner = into._shape
        run(kernels.scatter_fill, [("C", into), ("C", grid(places, d)), ("C", raw(number))],
            lanes(outer, inner), rows_grain(min(inner, kernels.BLOCK) * index._shape[d]))
    return lambda target: within(_as_vector(target), index._shape, d, put)


@scatter_value.gradient("self")
def _(grad, dim, index):
    return ops.scatter(grad, dim, index, 0)


@updating("scatter_add(Tensor self, int dim, Tensor index, Tensor src, *, Tensor? out=None) -> "
          "Tensor", exact_out="dtype")
def scatter_add(self, dim, index, src):
    """``self`` with ``src`` added where ``index`` says: ``self[index[i][j]][j] += src[i][j]``."""
    return _scatter("scatter", self, dim, index, src, "sum")


@scatter_add.gradient("self")
def _(grad):
    return grad


@scatter_add.gradient("src")
def _(grad, dim, index):
    return ops.gather(grad, dim, index)


@updating("_scatter_reduced(Tensor self, int dim, Tensor index, Tensor src, str mode) -> Tensor",
          method=False)
def _scatter_reduced(self, dim, index, src, mode):
    """``self`` combined with ``src`` where ``index`` says, by product, maximum or minimum."""
    return _scatter("scatter", self, dim, index, src, mode)


@_scatter_reduced.gradient("self", "src")
def _(grad, self, dim, index, src, mode, result):
    if mode == "prod":
        return _product_gradients(grad, self, dim, index, src, result)
    mine = ops.to_dtype(ops.eq(self, result), grad.dtype)
    theirs = ops.to_dtype(ops.eq(src, ops.gather(result, dim, index)), grad.dtype)
    share = grad / ops.scatter_add(mine, dim, index, theirs)       # equal extremes share
    return mine * share, theirs * ops.gather(share, dim, index)


def _product_gradients(grad, self, dim, index, src, result):
    """Each factor's gradient is the product of the others; a lone zero gets that of the rest."""
    full = ops.masked_fill(self, ops.eq(self, 0), 1)
    grad_self = grad * ops._scatter_reduced(full, dim, index, src, "prod") / full
    zero = ops.eq(src, 0)
    zeros = ops.scatter_add(ops.zeros_like(self), dim, index, ops.to_dtype(zero, self.dtype))
    lone = ops.logical_and(zero, ops.eq(ops.gather(zeros, dim, index), 1))
    without = ops._scatter_reduced(self, dim, index, ops.masked_fill(src, lone, 1), "prod")
    others = ops.gather(grad * result, dim, index) / ops.masked_fill(src, zero, 1)
    return grad_self, ops.where(lone, ops.gather(grad * without, dim, index), others)


def _identity(mode, dtype):
    """The number that changes nothing when combined with others."""
    if mode in ("sum", "mean", "prod"):
        return 1 if mode == "prod" else 0
    if dtype is dtypes.bool_:
        return mode == "amin"
    if dtype.category == dtypes.INT:
        bits = 8 * dtype.itemsize - dtype.is_signed
        low, high = (-(1 << bits) if dtype.is_signed else 0), (1 << bits) - 1
    else:
        low, high = -math.inf, math.inf
    return low if mode == "amax" else high


@composite("scatter_reduce(Tensor self, int dim, Tensor index, Tensor src, str reduce, *, "
           "bool include_self=True, Tensor? out=None) -> Tensor")
def scatter_reduce(self, dim, index, src, reduce, include_self):
    """``self`` combined with ``src`` where ``index`` says: ``reduce`` is "sum", "prod", "mean",
    "amax" or "amin". Without ``include_self`` the old values of those elements do not count.
    """
    if reduce not in ("sum", "prod", "mean", "amax", "amin"):
        raise RuntimeError("reduce argument must be either sum, prod, mean, amax or amin, got "
                           f"{reduce}")
    d = wrap_dim(dim, len(self._shape), "scatter_reduce")
    _check_scatter("scatter", _as_vector(self), d, _as_vector(index), _as_vector(src))
    base = self
    if not include_self:
        base = ops.scatter(self, d, index, _identity(reduce, self.dtype))
    if reduce in ("sum", "mean"):
        total = ops.scatter_add(base, d, index, src)
        return total if reduce == "sum" else _divided(total, d, index, src, include_self)
    return ops._scatter_reduced(base, d, index, src, reduce)


def _divided(total, d, index, src, include_self):
    """Sums divided by how many numbers went into each."""
    counts = ops.ones_like(total.detach())
    if not include_self:
        counts = ops.scatter(counts, d, index, 0)
    counts = ops.scatter_add(counts, d, index, ops.ones_like(src.detach()))
    counts = ops.masked_fill(counts, ops.eq(counts, 0), 1)
    if total.dtype.category < dtypes.FLOAT:
        return ops.div(total, counts, rounding_mode="floor")
    return total / counts


@composite("scatter_reduce_(Tensor self, int dim, Tensor index, Tensor src, str reduce, *, "
           "bool include_self=True) -> Tensor")
def scatter_reduce_(self, dim, index, src, reduce, include_self):
    """``scatter_reduce`` into ``self``."""
    return ops.copy_(self, ops.scatter_reduce(ops.clone(self), dim, index, src, reduce,
                                              include_self=include_self))


@composite("index_reduce(Tensor self, int dim, Tensor index, Tensor source, str reduce, *, "
           "bool include_self=True, Tensor? out=None) -> Tensor", exact_out="dtype")
def index_reduce(self, dim, index, source, reduce, include_self):
    """``self`` with the slices of ``source`` combined into those that ``index`` names: ``reduce``
    is "prod", "mean", "amax" or "amin"."""
    if reduce not in ("prod", "mean", "amax", "amin"):
        raise RuntimeError("reduce argument must be either prod, mean, amax or amin, got "
                           f"{reduce}")
    d = wrap_dim(dim, len(self._shape), "index_reduce")
    if source.dtype is not self.dtype:
        raise RuntimeError(f"index_reduce_(): self ({_scalar_name(self.dtype)}) and source "
                           f"({_scalar_name(source.dtype)}) must have the same scalar type")
    _check_slices("index_reduce", self, d, index, source)
    shape = [numel(index) if k == d else 1 for k in range(len(source._shape))]
    spread = ops.expand(ops.reshape(index, shape), source._shape)
    return ops.scatter_reduce(self, d, spread, source, reduce, include_self=include_self)


@composite("index_reduce_(Tensor self, int dim, Tensor index, Tensor source, str reduce, *, "
           "bool include_self=True) -> Tensor")
def index_reduce_(self, dim, index, source, reduce, include_self):
    """``index_reduce`` into ``self``."""
    return ops.copy_(self, ops.index_reduce(ops.clone(self), dim, index, source, reduce,
                                            include_self=include_self))


def _overloaded_scatter(suffix):
    def scatter(input, dim, index, src=None, *, value=None, reduce=None, out=None):  # noqa: A002
        value = src if value is None else value
        if value is None:
            raise TypeError(f"scatter{suffix}() missing 1 required positional argument: 'src'")
        keywords = {} if out is None else {"out": out}
        tensor = isinstance(value, TensorBase)
        if reduce is None:
            name = "scatter.src" if tensor else "scatter.value"
            return getattr(ops, name + suffix)(input, dim, index, value, **keywords)
        if reduce not in ("add", "multiply"):
            raise RuntimeError("reduce argument must be either add or multiply.")
        if not tensor:
            value = ops.full(index._shape, value, dtype=input.dtype, device=input.device)
        if reduce == "add":
            return getattr(ops, "scatter_add" + suffix)(input, dim, index, value, **keywords)
        multiply = getattr(ops, "_scatter_reduced" + suffix)
        return multiply(input, dim, index, value, "prod", **keywords)
    scatter.__name__ = "scatter" + suffix
    scatter.__doc__ = ("``input`` with ``src`` (a tensor or a number) written along ``dim`` where "
                       "``index`` says: ``out[index[i][j]][j] = src[i][j]`` for ``dim`` 0. "
                       "RuntimeError for an index outside ``[0, size)``.")
    overloaded("scatter" + suffix)(scatter)


_overloaded_scatter("")
_overloaded_scatter("_")
