"""Indexing by several tensors at once, by masks, and by positions in the flattened tensor."""
from ...kernels import indexing as kernels
from ...runtime import dtypes
from ...runtime.device import META
from ..base import broadcast_shapes, empty, make, numel, product
from ..composite import composite, overloaded
from ..dtype_rules import _scalar_name
from ..grids import (
    calculate,
    demand,
    flat,
    int64,
    raw,
    read_int,
    reshaped,
    updating,
)
from ..registry import ops
from ..structured import contiguous, run, structured
from .indexing import select_rows, write_rows

CHUNK = 16384       # flags that one task of nonzero looks at


def _true_positions(flags):
    """Positions of the true elements of a contiguous bool tensor, as a flat int64 tensor."""
    flags = raw(flat(flags))
    n = flags._shape[0]
    chunks = -(-n // CHUNK)
    counts = empty((chunks,), dtypes.int64)
    run(kernels.count_true, [("C", flags), ("C", counts), ("i", CHUNK)], chunks, 1)
    starts = empty((chunks + 1,), dtypes.int64)
    run(kernels.starts, [("C", counts), ("C", starts)], 1, 1)
    found = empty((read_int(starts, chunks),), dtypes.int64)
    run(kernels.write_true, [("C", flags), ("C", starts), ("i", CHUNK), ("C", found)], chunks, 1)
    return found


def _flags(tensor):
    return contiguous(tensor if tensor.dtype is dtypes.bool_ else ops.ne(tensor, 0))


@structured("_nonzero(Tensor self) -> Tensor", method=False, differentiable=False)
def _nonzero(self):
    """The coordinates of the nonzero elements, one row each, in row-major order."""
    if self._storage.device is META:
        raise NotImplementedError("nonzero(): the size of the result depends on the data, which a "
                                  "meta tensor does not have")
    ndim = len(self._shape)
    positions = _true_positions(_flags(self))
    out = empty((numel(positions), ndim), dtypes.int64)
    if ndim and numel(positions):
        sizes = ops.tensor(list(self._shape), dtype=dtypes.int64)
        run(kernels.unravel, [("C", positions), ("C", sizes), ("C", out)], numel(positions), 4096)
    return out


@overloaded("nonzero", out=True)
def nonzero(input, *, out=None, as_tuple=False):  # noqa: A002 - torch's keyword
    """Where elements are nonzero: an int64 tensor (count, ndim), or with ``as_tuple`` one index
    tensor per dimension (a zero-dim tensor then counts as one of one element)."""
    if as_tuple:
        at = ops._nonzero(input if input._shape else ops.reshape(input, (1,)))
        return tuple(ops.unbind(at, 1))
    if out is None:
        return ops._nonzero(input)
    if out.dtype is not dtypes.int64:
        raise RuntimeError("nonzero: Expected out tensor to have dtype Long, but got "
                           f"{_scalar_name(out.dtype)} instead")
    result = ops._nonzero(input)
    if out._shape != result._shape:
        out.resize_(result._shape)
    return ops.copy_(out, result)


@composite("argwhere(Tensor self) -> Tensor")
def argwhere(self):
    """The coordinates of the nonzero elements, (count, ndim)."""
    return ops._nonzero(self)


def located(index, shape, size, stride=1, places=None, dim=0, words=None):
    """Positions ``stride * index``, added to ``places``; negative indices count from ``size``.

    The index is broadcast to ``shape``. IndexError, with ``words(index)`` if given, for one outside
    [-size, size). The result has one element more, for the kernel's use.
    """
    if index._shape != shape:
        index = ops.expand(index, shape)
    index = int64(index)
    n, fresh = numel(index), places is None
    if fresh:
        places = empty((n + 1,), dtypes.int64, index._storage.device)
    run(kernels.locate, [("C", flat(index)), ("i", size), ("i", stride), ("i", fresh),
                         ("C", places)], 1, 1)
    if index._storage.device is not META:
        def fail(place, index):
            bad = read_int(index, place)
            raise IndexError(words(bad) if words else f"index {bad} is out of bounds for dimension "
                             f"{dim} with size {size}")
        demand("index", make(places._storage, dtypes.int64, (1,), (1,), places._offset + n), fail,
               index)
    return places


class Plan:
    """A decided advanced index: which dimensions, where the result goes, which positions.

    ``dims`` are the indexed dimensions; if they are adjacent the indexed part of the result stands
    in their place, else first. ``places`` are positions in the indexed dimensions seen as one.
    """

    __slots__ = ("dims", "adjacent", "shape", "places")

    def __init__(self, self_, indices):
        if len(indices) and all(index is None for index in indices[:-1]) and _is_mask(indices[-1]):
            self._take_mask(self_, len(indices) - 1, indices[-1])
            return
        indices = _expanded(self_, indices)
        self.dims = [d for d, index in enumerate(indices) if index is not None]
        given = [indices[d] for d in self.dims]
        self.adjacent = self.dims == list(range(self.dims[0], self.dims[-1] + 1))
        try:
            self.shape = broadcast_shapes(*(index._shape for index in given))
        except RuntimeError:
            shapes = ", ".join(str(list(index._shape)) for index in given)
            raise IndexError("shape mismatch: indexing tensors could not be broadcast together "
                             f"with shapes {shapes}") from None
        self.places = self._positions(self_, given)

    def _take_mask(self, self_, first, mask):
        """One mask is the whole index: its true elements are the positions."""
        _check_mask_shape(self_, first, mask, first)
        if first + len(mask._shape) > len(self_._shape):
            raise too_many(self_, first + len(mask._shape))
        self.dims = list(range(first, first + len(mask._shape)))
        self.adjacent = True
        self.places = _true_positions(_flags(mask))
        self.shape = self.places._shape

    def _positions(self, self_, given):
        if 0 in [n for d, n in enumerate(self_._shape) if d not in self.dims]:
            # nothing is read: torch does not look at the indices
            return ops.zeros(product(self.shape), dtype=dtypes.int64)
        places, stride = None, 1
        for d, index in zip(self.dims[::-1], given[::-1], strict=True):
            places = located(index, self.shape, self_._shape[d], stride, places, d)
            stride *= self_._shape[d]
        return reshaped(places, (product(self.shape),))

    def order(self, ndim):
        """Dimensions of the indexed tensor, the indexed ones together."""
        rest = [d for d in range(ndim) if d not in self.dims]
        at = self.dims[0] if self.adjacent else 0
        return rest[:at] + self.dims + rest[at:], at

    def sizes(self, shape):
        """(outer, n, inner) of a tensor of ``shape`` permuted by ``order``, and the result's
        shape."""
        order, at = self.order(len(shape))
        moved = [shape[d] for d in order]
        before, after = moved[:at], moved[at + len(self.dims):]
        grid = (product(before), product(moved[at:at + len(self.dims)]), product(after))
        return grid, (*before, *self.shape, *after)

    def gathered(self, tensor):
        """``tensor`` permuted by ``order`` and contiguous."""
        order, _ = self.order(len(tensor._shape))
        if order == list(range(len(order))):
            return contiguous(tensor)
        return contiguous(ops.permute(tensor, order))


def _is_mask(index):
    return (index is not None and index.dtype is dtypes.bool_ and len(index._shape) > 0
            and index._storage.device is not META)


def too_many(tensor, count):
    """The error for an index with more dimensions than the tensor."""
    return IndexError(f"too many indices for tensor of dimension {len(tensor._shape)} "
                      f"(got {count})")


def _check_mask_shape(self_, first, mask, place):
    for k, size in enumerate(mask._shape):
        have = self_._shape[first + k] if first + k < len(self_._shape) else size
        if have != size:
            raise IndexError(f"The shape of the mask {list(mask._shape)} at index {place} does not "
                             f"match the shape of the indexed tensor {list(self_._shape)} at "
                             f"index {first + k}")


def _expanded(self_, indices):
    """Indices with masks replaced by the coordinates of their true elements; IndexError if
    wrong."""
    found = []
    for place, index in enumerate(indices):
        if index is None:
            found.append(None)
        elif index.dtype in (dtypes.bool_, dtypes.uint8):
            _check_mask_shape(self_, len(found), index, place)
            found += ops.unbind(ops._nonzero(index), 1)
        elif index.dtype in (dtypes.int64, dtypes.int32):
            found.append(index)
        else:
            raise IndexError("tensors used as indices must be long, int, byte or bool tensors")
    if len(found) > len(self_._shape):
        raise too_many(self_, len(found))
    return found


@structured("index(Tensor self, Tensor?[] indices) -> Tensor", method=False)
def index(self, indices):
    """``self[indices]``: one index tensor (or mask, or None for a whole dimension) per dimension.

    Index tensors are broadcast together; the result has their shape in place of the indexed
    dimensions, or first if those are not adjacent. IndexError for an index out of range.
    """
    plan = Plan(self, indices)
    grid, shape = plan.sizes(self._shape)
    out = empty(shape, self.dtype, self._storage.device)
    if numel(out):
        select_rows(reshaped(raw(plan.gathered(self)), grid), plan.places, raw(out))
    return out


@index.gradient("self")
def _(grad, self, indices):
    zeros = ops.zeros_like(self, dtype=grad.dtype)
    return ops.index_put(zeros, indices, grad, True)


@updating("index_put(Tensor self, Tensor?[] indices, Tensor values, bool accumulate=False) -> "
          "Tensor")
def index_put(self, indices, values, accumulate):
    """``self`` with ``values``, broadcast, written at ``self[indices]``, or added if
    ``accumulate``.

    Of equal indices the last one wins, or all are added.
    """
    if values.dtype is not self.dtype:
        raise RuntimeError("Index put requires the source and destination dtypes match, got "
                           f"{_scalar_name(self.dtype)} for the destination and "
                           f"{_scalar_name(values.dtype)} for the source.")
    plan = Plan(self, indices)
    grid, shape = plan.sizes(self._shape)
    lead = len(values._shape) - len(shape)
    if lead > 0 and all(n == 1 for n in values._shape[:lead]):
        values = ops.reshape(values, values._shape[lead:])
    try:
        values = contiguous(ops.expand(values, shape))
    except RuntimeError:
        raise RuntimeError(f"shape mismatch: value tensor of shape {list(values._shape)} cannot be "
                           f"broadcast to indexing result of shape {list(shape)}") from None
    mode = ("amax" if self.dtype is dtypes.bool_ else "sum") if accumulate else "set"

    def put(target):
        write_rows(reshaped(target, grid), 1, plan.places, values, mode)

    def write(target):
        if not numel(values):
            return
        moved = plan.gathered(target)
        calculate(moved, put) if accumulate else put(moved)
        if moved is not target:
            order, _ = plan.order(len(target._shape))
            ops.copy_(ops.permute(target, order), moved)
    return write


@index_put.gradient("self")
def _(grad, indices, accumulate):
    if accumulate:
        return grad
    return ops.index_put(grad, indices, ops.zeros((), dtype=grad.dtype, device=grad.device))


@index_put.gradient("values")
def _(grad, indices):
    return ops.index(grad, indices)


def _check_positions(op, self, at):
    if at.dtype is not dtypes.int64:
        raise RuntimeError(f"{op}(): Expected a long tensor for index, but got "
                           f"{_scalar_name(at.dtype)}")
    n = numel(self)
    if n == 0 and numel(at):
        raise IndexError(f"{op}(): tried to {'put elements into' if op == 'put_' else 'take from'} "
                         "an empty tensor")
    places = located(at, at._shape, n, words=lambda bad: (
        f"out of range: tried to access index {bad} on a tensor of {n} elements."))
    return reshaped(places, (numel(at),))


@structured("take(Tensor self, Tensor index, *, Tensor? out=None) -> Tensor", exact_out=True)
def take(self, index):  # noqa: F811 - the schema's name
    """Elements of the flattened ``self`` at int64 positions, in the shape of ``index``.

    Negative positions count from the end; IndexError out of range.
    """
    places = _check_positions("take", self, index)
    out = empty(index._shape, self.dtype, self._storage.device)
    source = raw(contiguous(self))
    select_rows(reshaped(source, (1, numel(source), 1)), places, raw(out))
    return out


@take.gradient("self")
def _(grad, self, index):
    return ops.put(ops.zeros_like(self, dtype=grad.dtype), index, grad, True)


@updating("put(Tensor self, Tensor index, Tensor source, bool accumulate=False) -> Tensor",
          out=False)
def put(self, index, source, accumulate):  # noqa: F811
    """``self`` with ``source`` written (or added) at int64 positions of the flattened tensor."""
    if source.dtype is not self.dtype:
        raise RuntimeError("put_(): self and source expected to have the same dtype, but got "
                           f"self.dtype = {_scalar_name(self.dtype)} and source.dtype = "
                           f"{_scalar_name(source.dtype)}")
    if numel(source) != numel(index):
        raise IndexError("put_(): Expected source and index to have the same number of elements, "
                         f"but got source.numel() = {numel(source)}, index.numel() = "
                         f"{numel(index)}")
    places = _check_positions("put_", self, index)
    values = reshaped(contiguous(source), (1, numel(source), 1))
    mode = ("amax" if self.dtype is dtypes.bool_ else "sum") if accumulate else "set"

    def write(target):
        line = reshaped(target, (1, numel(target), 1))
        if accumulate:
            calculate(line, lambda t: write_rows(t, 1, places, values, mode))
        else:
            write_rows(line, 1, places, values, mode)
    return write


@put.gradient("self")
def _(grad, index, source, accumulate):
    return grad if accumulate else ops.put(grad, index, ops.zeros_like(source, dtype=grad.dtype))


@put.gradient("source")
def _(grad, index, source):
    return ops.reshape(ops.take(grad, index), source._shape)
