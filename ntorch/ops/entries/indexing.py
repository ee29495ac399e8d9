"""Reading and writing along one dimension by index: gather, scatter, index_select, index_add,
..."""
from ...kernels import indexing as kernels
from ...runtime import dtypes
from ..base import TensorBase, empty, numel, wrap_dim
from ..composite import composite
from ..dtype_rules import _scalar_name
from ..grids import (
    calculable,
    calculate,
    check_index,
    check_inside,
    grid,
    int64,
    lanes,
    narrowed,
    raw,
    rows_grain,
    sides,
    updating,
)
from ..registry import ops
from ..structured import contiguous, run, structured


def _need_index(op, index, words="int32/int64"):
    if index.dtype not in (dtypes.int64, dtypes.int32):
        raise RuntimeError(f"{op}(): Expected dtype {words} for index")


def _as_vector(tensor):
    """A zero-dim tensor counts as one of one element."""
    return tensor if tensor._shape else ops.reshape(tensor, (1,))


def _same_device(op, *tensors):
    if len({t._storage.device for t in tensors}) > 1:
        raise RuntimeError(f"{op}: Expected all tensors to be on the same device, but found "
                           + " and ".join(str(t._storage.device) for t in tensors))


@structured("gather(Tensor self, int dim, Tensor index, *, bool sparse_grad=False, Tensor? "
            "out=None) -> Tensor", exact_out=True)
def gather(self, dim, index, sparse_grad):
    """``out[i][j][k] = self[index[i][j][k]][j][k]`` for ``dim`` 0, and so on: the shape of
    ``index``.

    ``index`` (int32, int64) has as many dimensions as ``self`` and no larger sizes, ``dim`` apart.
    RuntimeError for an index outside ``[0, size)``.
    """
    d = wrap_dim(dim, len(self._shape), "gather")
    shape = index._shape
    out = empty(shape, self.dtype, self._storage.device)
    if numel(index) == 0:
        return out
    _need_index("gather", index)
    _same_device("gather", self, index)
    self, index = _as_vector(self), _as_vector(index)
    if len(self._shape) != len(index._shape):
        raise RuntimeError("Index tensor must have the same number of dimensions as input tensor")
    for k, size in enumerate(index._shape):
        if k != d and size > self._shape[k]:
            raise RuntimeError(f"Size does not match at dimension {k} expected index "
                               f"{list(index._shape)} to be no larger than self "
                               f"{list(self._shape)} apart from dimension {d}")
    places = int64(index)
    check_index(places, self._shape[d], dim=d)
    gather_into(raw(narrowed(self, index._shape, d)), d, places, raw(out))
    return out


def gather_into(source, d, places, out):
    """``gather`` of raw contiguous tensors whose indices are known to be good."""
    arguments = [("C", grid(source, d)), ("C", grid(places, d)), ("C", grid(out, d))]
    outer, count, inner = sides(out._shape, d)
    if inner == 1:          # rows along the last dimension: let the kernel run along them
        run(kernels.gather_last, arguments, outer, rows_grain(count))
    else:
        run(kernels.gather, arguments, outer * count, rows_grain(inner))


@gather.gradient("self")
def _(grad, self, dim, index):
    return ops.scatter_add(ops.zeros_like(self, dtype=grad.dtype), dim, index, grad)


@structured("index_select(Tensor self, int dim, Tensor index, *, Tensor? out=None) -> Tensor",
            exact_out=True)
def index_select(self, dim, index):
    """The slices of ``self`` along ``dim`` that the vector ``index`` names, in its order.

    IndexError for an index outside ``[0, size)``.
    """
    d = wrap_dim(dim, len(self._shape), "index_select")
    if len(index._shape) > 1:
        raise IndexError("index_select(): Index is supposed to be a vector")
    _need_index("index_select", index, "int32 or int64")
    _same_device("index_select", self, index)
    count = numel(index)
    if not self._shape and count != 1:
        raise RuntimeError("index_select(): Index to scalar can have only 1 value, got "
                           f"{count} value(s)")
    shape = list(self._shape)
    if shape:
        shape[d] = count
    places = int64(_as_vector(index))
    out = empty(shape, self.dtype, self._storage.device)
    source = grid(raw(contiguous(self)), d)
    check_inside(places, 0, source._shape[1], lambda _: IndexError("index out of range in self"))
    select_rows(source, places, raw(out))
    return out


def select_rows(source, places, out):
    """``out[o, j] = source[o, places[j]]`` for raw tensors; ``source`` is (outer, n, inner)."""
    outer, _, inner = source._shape
    from ..grids import reshaped
    target = reshaped(out, (outer, numel(places), inner))
    if inner == 1:
        run(kernels.select_last, [("C", source), ("C", places), ("C", target)], outer,
            rows_grain(numel(places)))
    else:
        run(kernels.select_rows, [("C", source), ("C", places), ("C", target)],
            outer * numel(places), rows_grain(inner))


@index_select.gradient("self")
def _(grad, self, dim, index):
    if not self._shape:
        return grad
    return ops.index_add(ops.zeros_like(self, dtype=grad.dtype), dim, _as_vector(index), grad)


def _rows(op, self, dim, index, source, mode, error=RuntimeError, low=0, name=""):
    """The write of slices of ``source`` to the slices that ``index`` names."""
    d = wrap_dim(dim, len(self._shape), op)
    places = int64(_as_vector(index))
    size = self._shape[d] if self._shape else 1
    check_index(places, size, error, d, low, name)
    values = contiguous(source)
    if mode == "sum" and self.dtype is dtypes.bool_:
        mode = "amax"

    def put(target):
        write_rows(target, d, places, values, mode)
    return put if mode == "set" else lambda target: calculate(target, put)


_ROWS = {"set": kernels.rows_set, "sum": kernels.rows_add, "prod": kernels.rows_multiply,
         "amax": kernels.rows_max, "amin": kernels.rows_min}


def write_rows(target, d, places, values, mode):
    """Combine the slices of contiguous ``values`` into those of ``target`` that ``places``
    names."""
    source = raw(values) if mode == "set" else calculable(values)
    into = grid(raw(target) if mode == "set" else target, d)
    from ..grids import reshaped
    outer, _, inner = into._shape
    source = reshaped(source, (outer, numel(places), inner))
    run(_ROWS[mode], [("C", into), ("C", places), ("C", source)], lanes(outer, inner),
        rows_grain(min(inner, kernels.BLOCK) * numel(places)))


def _check_slices(op, self, d, index, source, error=RuntimeError):
    """Torch's checks of index_add, index_copy and index_reduce."""
    if len(index._shape) > 1:
        raise IndexError(f"{op}_(): Index should have dimension 1 or 0 (got {len(index._shape)})")
    _need_index(op + "_", index, "int32/int64")
    _same_device(op + "_", self, index, source)
    have = source._shape[d] if source._shape else 1
    if have != numel(index):
        raise error(f"{op}_(): Number of indices ({numel(index)}) should be equal to "
                    f"source.size(dim): ({have}), for dim: {d}")
    mine, theirs = list(self._shape), list(source._shape)
    mine[d:d + 1], theirs[d:d + 1] = [], []
    if mine != theirs:
        raise RuntimeError(
            f"{op}_(): source tensor shape must match self tensor shape, excluding the specified "
            f"dimension. Got self.shape = {list(self._shape)} source.shape = {list(source._shape)}")


@updating("index_add(Tensor self, int dim, Tensor index, Tensor source, *, Scalar alpha=1, "
          "Tensor? out=None) -> Tensor", exact_out="dtype")
def index_add(self, dim, index, source, alpha):
    """``self`` with ``alpha`` times the slices of ``source`` added to those that ``index``
    names."""
    d = wrap_dim(dim, len(self._shape), "index_add")
    if source.dtype is not self.dtype:
        raise RuntimeError(f"index_add_(): self ({_scalar_name(self.dtype)}) and source "
                           f"({_scalar_name(source.dtype)}) must have the same scalar type")
    _check_slices("index_add", self, d, index, source)
    if alpha != 1:
        source = ops.mul(source, alpha)
    # torch adds vectors in a loop of their own, which raises another type
    error = RuntimeError if len(self._shape) > 1 else IndexError
    return _rows("index_add", self, dim, index, source, "sum", error)


@index_add.gradient("self")
def _(grad):
    return grad


@index_add.gradient("source")
def _(grad, dim, index, source, alpha):
    taken = ops.reshape(ops.index_select(grad, dim, index), source._shape)
    return taken if alpha == 1 else taken * alpha


@updating("index_copy(Tensor self, int dim, Tensor index, Tensor source, *, Tensor? out=None) -> "
          "Tensor", exact_out="dtype")
def index_copy(self, dim, index, source):
    """``self`` with the slices of ``source`` in place of those that ``index`` names."""
    d = wrap_dim(dim, len(self._shape), "index_copy")
    if source.dtype is not self.dtype:
        raise RuntimeError("index_copy_(): self and source expected to have the same dtype, but "
                           f"got (self) {_scalar_name(self.dtype)} and (source) "
                           f"{_scalar_name(source.dtype)}")
    _check_slices("index_copy", self, d, index, source, IndexError)
    return _rows("index_copy", self, dim, index, source, "set", IndexError, name="index_copy_(): ")


@index_copy.gradient("self")
def _(grad, dim, index):
    return ops.index_fill(grad, dim, index, 0)


@index_copy.gradient("source")
def _(grad, dim, index, source):
    return ops.reshape(ops.index_select(grad, dim, index), source._shape)


@updating("index_fill(Tensor self, int dim, Tensor index, Operand value) -> Tensor")
def index_fill(self, dim, index, value):
    """``self`` with a number (or zero-dim tensor) in the slices that ``index`` names."""
    d = wrap_dim(dim, len(self._shape), "index_fill")
    if index.dtype is not dtypes.int64:
        raise IndexError("index_fill_(): Expected dtype int64 for index.")
    if len(index._shape) > 1:
        raise RuntimeError("Index has to be a vector/scalar")
    if isinstance(value, TensorBase):
        if value._shape:
            raise RuntimeError("index_fill_ only supports a 0-dimensional value tensor, but got "
                               f"tensor with {len(value._shape)} dimension(s).")
    if (value.dtype.is_complex if isinstance(value, TensorBase) else isinstance(value, complex)) \
            and not self.dtype.is_complex:
        raise RuntimeError("index_fill_(): Converting complex Scalar to non-complex type is not "
                           "supported")
    size = self._shape[d] if self._shape else 1
    places = int64(_as_vector(index))
    check_index(places, size, IndexError, d, -size)
    number = empty((1,), self.dtype, self._storage.device)
    if isinstance(value, TensorBase):
        ops.copy_(number, value)
    else:
        ops.fill_(number, value)
    wrapped = ops.where(ops.lt(places, 0), ops.add(places, size), places)

    def write(target):
        into = grid(raw(target), d)
        outer, _, inner = into._shape
        run(kernels.rows_fill, [("C", into), ("C", wrapped), ("C", raw(number))],
            lanes(outer, inner), rows_grain(min(inner, kernels.BLOCK) * numel(places)))
    return write


@index_fill.gradient("self")
def _(grad, dim, index):
    return ops.index_fill(grad, dim, index, 0)


@index_fill.gradient("value")
def _(grad, dim, index):
    chosen = ops.index_fill(ops.zeros_like(grad), dim, index, 1)      # each slice once
    return ops.sum(grad * chosen)


@composite("take_along_dim(Tensor self, Tensor indices, int? dim=None, *, Tensor? out=None) -> "
           "Tensor", exact_out="dtype")
def take_along_dim(self, indices, dim):
    """``gather`` with the other dimensions broadcast; over the flattened tensor if ``dim`` is
    None."""
    if indices.dtype not in (dtypes.int64, dtypes.int32):
        raise RuntimeError("torch.take_along_dim(): dtype of indices should be Long but got "
                           + _scalar_name(indices.dtype))
    if dim is None:
        self, indices, dim = ops.reshape(self, (-1,)), ops.reshape(indices, (-1,)), 0
    if len(self._shape) != len(indices._shape):
        raise RuntimeError(
            "torch.take_along_dim(): input and indices should have the same number of dimensions, "
            f"but got {len(self._shape)} dimensions for input, and {len(indices._shape)} "
            "dimensions for indices")
    from ..base import broadcast_shapes
    d = wrap_dim(dim, len(self._shape), "take_along_dim")
    rest = broadcast_shapes([1 if k == d else n for k, n in enumerate(self._shape)],
                            [1 if k == d else n for k, n in enumerate(indices._shape)])
    def widened(tensor):
        return ops.expand(tensor, [tensor._shape[d] if k == d else n for k, n in enumerate(rest)])
    size = self._shape[d]
    places = ops.where(ops.lt(indices, 0), ops.add(indices, size), indices)
    return ops.gather(widened(self), d, widened(places))
