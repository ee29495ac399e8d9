"""Sorting, selection by rank, unique values, counting and searching in sorted sequences."""
from ...kernels import sorting as kernels
from ...runtime import dtypes
from ...runtime.device import META
from ..base import TensorBase, empty, numel, wrap_dim
from ..composite import composite, overloaded
from ..dtype_rules import _scalar_name
from ..grids import flat, raw, reshaped, sides, write_out
from ..registry import ops
from ..structured import as_dtype, contiguous, run, structured
from .extremes import return_type
from .indexing import gather_into

GRAIN = 4096        # elements of rows sorted by one task


def _last(tensor, d):
    """``tensor`` with dimension ``d`` last, contiguous, as (rows, n)."""
    ndim = len(tensor._shape)
    moved = tensor if ndim == 0 or d == ndim - 1 else ops.transpose(tensor, d, ndim - 1)
    return contiguous(moved)


def _back(rows, shape, d):
    """(rows, k) as a tensor of ``shape``, whose dimension ``d`` was last; contiguous."""
    ndim = len(shape)
    if ndim == 0 or d == ndim - 1:
        return reshaped(rows, shape)
    moved = list(shape)
    moved[d], moved[-1] = moved[-1], moved[d]
    return contiguous(ops.transpose(reshaped(rows, moved), d, ndim - 1))


def _keys(tensor, rows, n, descending):
    """Integers of shape (rows, n) that sort as the contiguous ``tensor`` does."""
    flip = -1 if descending else 0
    if tensor.dtype.is_half:
        tensor = as_dtype(tensor, dtypes.float32)
    if tensor.dtype in (dtypes.float32, dtypes.float64):
        wide = tensor.dtype is dtypes.float64
        kernel, T = (kernels.keys_f64, "f8") if wide else (kernels.keys_f32, "f4")
    else:
        wide, kernel, T = tensor.dtype is dtypes.int64, kernels.keys_int, "f4"
        if not wide:
            tensor = as_dtype(tensor, dtypes.int32)
    keys = empty((rows, n), dtypes.int64 if wide else dtypes.int32)
    run(kernel, [("C", flat(tensor)), ("C", flat(keys)), ("i", flip)], rows * n, 16384, T=T)
    return keys, 64 if wide else 32


def _taken(source, places, d):
    """The elements of ``source`` at ``places`` along ``d``: exactly the input's bits."""
    if not source._shape:
        return ops.clone(source)
    out = empty(places._shape, source.dtype)
    gather_into(raw(contiguous(source)), d, places, raw(out))
    return out


def _no_complex(op, tensor):
    if tensor.dtype.is_complex:
        raise RuntimeError(f"{op} does not support complex dtypes on CPU, got "
                           f"{_scalar_name(tensor.dtype)}")


def _sorted(tensor, d, descending):
    """(values, indices) of a stable sort along ``d``."""
    _, n, _ = sides(tensor._shape, d)
    rows = numel(tensor) // n if n else 0
    if tensor._storage.device is META:
        return ops.empty_like(tensor), empty(tensor._shape, dtypes.int64, META)
    if not numel(tensor):
        return ops.clone(tensor), empty(tensor._shape, dtypes.int64)
    keys, bits = _keys(_last(tensor, d), rows, n, descending)
    places = empty((rows, n), dtypes.int64)
    counts = empty((rows if n >= kernels.RADIX_FROM else 1, 256), dtypes.int64)
    run(kernels.sort_rows, [("C", keys), ("C", places), ("C", empty((rows, n), keys.dtype)),
                            ("C", empty((rows, n), dtypes.int64)), ("C", counts), ("i", bits)],
        rows, max(1, GRAIN // n))
    indices = _back(places, tensor._shape, d)
    return _taken(tensor, indices, d), indices


@structured("_sort(Tensor self, int dim, bool descending) -> (Tensor, Tensor)", method=False)
def _sort(self, dim, descending):
    """Values sorted along ``dim`` and where they came from; stable."""
    d = wrap_dim(dim, len(self._shape), "sort")
    _no_complex(" Sort", self)
    return _sorted(self, d, descending)


def _picked_gradient(grad0, self, result1, dim):
    if not self._shape:
        return grad0
    return ops.scatter_add(ops.zeros_like(self, dtype=grad0.dtype), dim, result1, grad0)


_sort.gradient("self")(_picked_gradient)


def _named(op, results, out, input):  # noqa: A002
    """``results`` as torch's named tuple, written into ``out`` if it is given."""
    if out is not None:
        results = tuple(write_out(op, target, result, (input,), True)
                        for target, result in zip(out, results, strict=True))
    return return_type(op)(results)


@overloaded("sort", out=True)
def sort(input, dim=-1, descending=False, *, stable=None, out=None):  # noqa: A002
    """``(values, indices)`` sorted along ``dim``, equal elements in their order; NaN is greatest.

    RuntimeError for complex input.
    """
    if isinstance(dim, bool):       # sort(dim=..., descending) has no form with descending alone
        raise TypeError("sort(): argument 'dim' must be int, not bool")
    result = ops._sort(input, dim, descending)
    return _named("sort", result, out, input)


@overloaded("argsort")
def argsort(input, dim=-1, descending=False, *, stable=False):  # noqa: A002
    """The indices that sort ``input`` along ``dim``; stable."""
    return ops._sort(input.detach(), dim, descending)[1]


@composite("msort(Tensor self, *, Tensor? out=None) -> Tensor", exact_out="dtype")
def msort(self):
    """Values sorted along the first dimension."""
    return ops._sort(self, 0, False)[0]


@structured("_topk(Tensor self, int k, int dim, bool largest) -> (Tensor, Tensor)", method=False)
def _topk(self, k, dim, largest):
    """The ``k`` largest (or smallest) elements along ``dim``, in order, and where they are."""
    d = wrap_dim(dim, len(self._shape), "topk")
    _no_complex("topk", self)
    _, n, _ = sides(self._shape, d)
    if not 0 <= k <= n:
        raise RuntimeError("selected index k out of range")
    shape = list(self._shape)
    if shape:
        shape[d] = k
    if self._storage.device is META or not k or not numel(self):
        device = self._storage.device
        return empty(shape, self.dtype, device), empty(shape, dtypes.int64, device)
    rows = numel(self) // n
    keys, _ = _keys(_last(self, d), rows, n, largest)
    places = empty((rows, n), dtypes.int64)
    run(kernels.top_rows, [("C", keys), ("C", places), ("C", empty((rows, k), keys.dtype)),
                           ("C", empty((rows, k), dtypes.int64)), ("i", k)],
        rows, max(1, GRAIN // n))
    best = contiguous(ops.slice(places, 1, 0, k))
    indices = _back(best, shape, d)
    return _taken(self, indices, d), indices


_topk.gradient("self")(_picked_gradient)


@overloaded("topk", out=True)
def topk(input, k, dim=-1, largest=True, sorted=True, *, out=None):  # noqa: A002
    """``(values, indices)`` of the ``k`` largest (or smallest) elements along ``dim``, in order.

    Of equal elements the earlier come first; NaN is greatest. RuntimeError unless
    ``0 <= k <= size``.
    """
    if isinstance(k, TensorBase):
        k = int(k)
    result = ops._topk(input, k, dim, largest)
    return _named("topk", result, out, input)


def _reduced(shape, d, keepdim):
    shape = list(shape)
    if shape:
        shape[d:d + 1] = [1] if keepdim else []
    return shape


def _one_per_row(op, self, d, keepdim, choose):
    """(values, indices) where ``choose(rows, n, d)`` gives the place in each row."""
    _, n, _ = sides(self._shape, d)
    shape = _reduced(self._shape, d, keepdim)
    if self._shape and n == 0:
        raise IndexError(f"{op}(): Expected reduction dim {d} to have non-zero size.")
    if self._storage.device is META or not numel(self):
        device = self._storage.device
        return empty(shape, self.dtype, device), empty(shape, dtypes.int64, device)
    rows = numel(self) // n
    places = choose(rows, n)
    kept = _reduced(self._shape, d, True)
    indices = _back(reshaped(places, (rows, 1)), kept, d)
    values = _taken(self, indices, d)
    return reshaped(values, shape), reshaped(indices, shape)


def _spread_gradient(grad0, self, result1, dim, keepdim):
    if not self._shape:
        return grad0
    if not keepdim:
        grad0, result1 = ops.unsqueeze(grad0, dim), ops.unsqueeze(result1, dim)
    return ops.scatter_add(ops.zeros_like(self, dtype=grad0.dtype), dim, result1, grad0)


def _kth(self, rows, n, d, k):
    keys, _ = _keys(_last(self, d), rows, n, False)
    places = empty((rows,), dtypes.int64)
    run(kernels.kth_rows, [("C", keys), ("C", empty((rows, n), dtypes.int64)), ("i", k),
                           ("C", places)], rows, max(1, GRAIN // n))
    return places


@structured("_kthvalue(Tensor self, int k, int dim, bool keepdim) -> (Tensor, Tensor)",
            method=False)
def _kthvalue(self, k, dim, keepdim):
    """The ``k``-th smallest element along ``dim``, and where it is."""
    d = wrap_dim(dim, len(self._shape), "kthvalue")
    _no_complex("kthvalue", self)
    _, n, _ = sides(self._shape, d)
    if n and not 1 <= k <= n:
        raise RuntimeError(f"kthvalue(): selected number k out of range for dimension {d}")
    return _one_per_row("kthvalue", self, d, keepdim, lambda rows, n: _kth(self, rows, n, d, k))


_kthvalue.gradient("self")(_spread_gradient)


@overloaded("kthvalue", out=True)
def kthvalue(input, k, dim=-1, keepdim=False, *, out=None):  # noqa: A002
    """``(values, indices)`` of the ``k``-th smallest element along ``dim`` (1 is the smallest)."""
    result = ops._kthvalue(input, k, dim, keepdim)
    return _named("kthvalue", result, out, input)


def _median_places(self, rows, n, d, skip_nan):
    """Where the lower median of each row is; a NaN wins, or with ``skip_nan`` is left out."""
    places = _kth(self, rows, n, d, (n + 1) // 2)
    if not self.dtype.is_floating_point:
        return places
    line = reshaped(_last(self, d), (rows, n))
    nan = ops.isnan(line)
    if not ops.any(nan).item():
        return places
    if not skip_nan:
        first = ops.argmax(ops.to_dtype(nan, dtypes.int32), 1)
        return contiguous(ops.where(ops.any(nan, 1), first, places))
    order = ops._sort(line, 1, False)[1]
    counts = n - ops.sum(nan, 1)
    middle = ops.clamp(ops.div(counts - 1, 2, rounding_mode="floor"), 0)
    return contiguous(ops.reshape(ops.gather(order, 1, ops.unsqueeze(middle, 1)), (rows,)))


def _median(name, skip_nan):
    @structured(f"_{name}(Tensor self, int dim, bool keepdim) -> (Tensor, Tensor)", method=False)
    def by_dim(self, dim, keepdim):
        d = wrap_dim(dim, len(self._shape), name)
        _no_complex(name, self)
        return _one_per_row(name, self, d, keepdim, lambda rows, n: _median_places(
            self, rows, n, d, skip_nan))
    by_dim.gradient("self")(_spread_gradient)

    def public(input, dim=None, keepdim=False, *, out=None):  # noqa: A002
        if dim is None:
            if not numel(input):
                return ops.full((), float("nan") if input.dtype.is_floating_point else
                                -(1 << 8 * input.dtype.itemsize - 1), dtype=input.dtype)
            return getattr(ops, "_" + name)(ops.reshape(input, (-1,)), 0, False)[0]
        result = getattr(ops, "_" + name)(input, dim, keepdim)
        return _named(name, result, out, input)
    public.__name__ = name
    public.__doc__ = ("The lower median of all elements, or ``(values, indices)`` along ``dim``. "
                      + ("NaN is left out." if skip_nan else "NaN if one is."))
    overloaded(name, out=True)(public)


_median("median", False)
_median("nanmedian", True)


@structured("_mode(Tensor self, int dim, bool keepdim) -> (Tensor, Tensor)", method=False)
def _mode(self, dim, keepdim):
    """The most frequent element along ``dim`` (the smallest of several), and where it last is."""
    d = wrap_dim(dim, len(self._shape), "mode")
    _no_complex("mode", self)

    def choose(rows, n):
        order = _sorted(reshaped(_last(self, d), (rows, n)), 1, False)[1]
        keys, _ = _keys(_last(self, d), rows, n, False)
        keys = ops.gather(keys, 1, order)
        places = empty((rows,), dtypes.int64)
        run(kernels.mode_rows, [("C", keys), ("C", order), ("C", places)], rows, max(1, GRAIN // n))
        return places
    return _one_per_row("mode", self, d, keepdim, choose)


_mode.gradient("self")(_spread_gradient)


@overloaded("mode", out=True)
def mode(input, dim=-1, keepdim=False, *, out=None):  # noqa: A002
    """``(values, indices)`` of the most frequent element along ``dim``, the smallest of several."""
    if 0 in input._shape and input._shape[wrap_dim(dim, len(input._shape))] != 0:
        shape = _reduced(input._shape, wrap_dim(dim, len(input._shape)), keepdim)
        return return_type("mode")((empty(shape, input.dtype), empty(shape, dtypes.int64)))
    result = ops._mode(input, dim, keepdim)
    return _named("mode", result, out, input)
