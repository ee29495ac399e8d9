"""Views: arithmetic on shape, strides and offset; no element moves. Same on every device."""
from ..base import (
    MAX_BYTES,
    Size,
    contiguous_strides,
    is_contiguous,
    numel,
    product,
    view,
    whole_of,
    wrap_dim,
    wrap_dims,
)
from ..composite import composite
from ..registry import ops
from ..structured import structured


def _with(self, shape, strides, offset=None):
    return view(self, Size(shape), tuple(strides), self._offset if offset is None else offset)


def infer_size(shape, count, op="view"):
    """``shape`` with its -1 replaced so that it holds ``count`` elements; RuntimeError
    otherwise."""
    if -1 not in shape and min(shape, default=0) >= 0 and product(shape) == count:
        return shape if type(shape) is Size else Size(shape)
    shape = list(shape)
    unknown = [i for i, size in enumerate(shape) if size == -1]
    known = product(size for size in shape if size != -1)
    if any(size < -1 for size in shape):
        raise RuntimeError(f"invalid shape dimension {min(shape)} in {op}: {shape}")
    if len(unknown) > 1:
        raise RuntimeError("only one dimension can be inferred")
    if unknown:
        if known == 0:
            raise RuntimeError(f"cannot reshape tensor of 0 elements into shape {shape} because "
                               "the unspecified dimension size -1 can be any value and is "
                               "ambiguous")
        if count % known == 0:
            shape[unknown[0]] = count // known
            return Size(shape)
    elif known == count:
        return Size(shape)
    raise RuntimeError(f"shape '{shape}' is invalid for input of size {count}")


def view_strides(old_shape, old_strides, shape):
    """Strides of ``shape`` over the same elements, or None if they need a copy.

    Old dimensions are grouped into runs that step through memory as one; each new dimension must
    lie within one run.
    """
    if 0 in old_shape or old_strides == contiguous_strides(old_shape):
        return contiguous_strides(shape)
    dims = [(n, s) for n, s in zip(old_shape, old_strides, strict=True) if n != 1]
    runs = []                               # [elements, innermost stride], innermost run last
    for size, stride in dims:
        if runs and runs[-1][1] == size * stride:
            runs[-1] = [runs[-1][0] * size, stride]
        else:
            runs.append([size, stride])
    strides, left, step = [0] * len(shape), 1, 1
    run = len(runs)
    for d in range(len(shape) - 1, -1, -1):
        if left == 1 and shape[d] != 1:
            run -= 1
            if run < 0:
                return None
            left, step = runs[run]
        strides[d] = step
        if left % shape[d]:
            return None
        left //= shape[d]
        step *= shape[d]
    return tuple(strides)


@structured("view(Tensor self, int[] size) -> Tensor", view=True, varargs=True)
def _view(self, size):
    """The same elements in another shape; one size may be -1. Needs compatible strides."""
    shape = infer_size(size, numel(self))
    strides = view_strides(self._shape, self._strides, shape)
    if strides is None:
        raise RuntimeError("view size is not compatible with input tensor's size and stride (at "
                           "least one dimension spans across two contiguous subspaces). Use "
                           ".reshape(...) instead.")
    return _with(self, shape, strides)


@_view.gradient("self")
def _(grad, self_form):
    return ops.reshape(grad, self_form._shape)


@composite("reshape(Tensor self, int[] shape) -> Tensor", varargs=True)
def reshape(self, shape):
    """The elements in row-major order in another shape: a view where possible, else a copy."""
    wanted = infer_size(shape, numel(self), "reshape")
    if view_strides(self._shape, self._strides, wanted) is not None:
        return ops.view(self, wanted)
    return ops.view(ops.contiguous(self), wanted)


@structured("as_strided(Tensor self, int[] size, int[] stride, int? storage_offset=None) -> Tensor",
            view=True, inplace=True)
def as_strided(self, size, stride, storage_offset):
    """A view with any shape, strides and offset inside the storage; RuntimeError outside it."""
    whole_of(self)
    offset = self._offset if storage_offset is None else storage_offset
    if len(size) != len(stride):
        raise RuntimeError("mismatch in length of strides and shape")
    if min(size, default=0) < 0 or min(stride, default=0) < 0 or offset < 0:
        raise RuntimeError("as_strided: Negative sizes, strides or offsets are not supported: got "
                           f"size {list(size)}, stride {list(stride)}, offset {offset}")
    last = offset + sum((n - 1) * s for n, s in zip(size, stride, strict=True))
    if 0 not in size and (last + 1) * self.dtype.itemsize > self._storage.nbytes():
        raise RuntimeError(f"setStorage: sizes {list(size)}, strides {list(stride)}, storage "
                           f"offset {offset}, and itemsize {self.dtype.itemsize} requiring a "
                           f"storage size of {(last + 1) * self.dtype.itemsize} are out of bounds "
                           f"for storage of size {self._storage.nbytes()}")
    return _with(self, size, stride, offset)


@as_strided.gradient("self")
def _(grad, self_form, size, stride, storage_offset):
    offset = 0 if storage_offset is None else storage_offset - self_form._offset
    return ops._as_strided_backward(grad, self_form._shape, self_form._strides, stride, offset)


@structured("_as_strided_backward(Tensor grad, int[] shape, int[] strides, int[] view_strides, "
            "int offset) -> Tensor", method=False)
def _as_strided_backward(grad, shape, strides, view_strides, offset):
    """Sum ``grad`` into the positions that an ``as_strided`` view read."""
    from ...runtime import dtypes
    from ..structured import zeros
    size, before = _reach(shape, strides, grad._shape, view_strides, offset)
    flat = zeros((size,), grad.dtype, grad.device)
    if numel(grad) and size:
        index = ops.as_strided(ops.arange(size, dtype=dtypes.int64), grad._shape, view_strides,
                               offset + before)
        ops.index_add_(flat, 0, ops.reshape(index, (-1,)), ops.reshape(grad, (-1,)))
        if is_contiguous(shape, strides):
            return _with(flat, shape, strides, before)
    return ops.as_strided(flat, shape, strides, before) if size else zeros(shape, grad.dtype)


def _reach(shape, strides, view_shape, view_strides, offset):
    """``(elements, before)`` that a tensor and a view from ``offset`` on take together, and how
    many of them lie before the tensor's first."""
    if 0 in shape:
        return 0, 0
    ends = [1 + sum((n - 1) * s for n, s in zip(sizes, steps, strict=True))
            for sizes, steps in ((shape, strides), (view_shape, view_strides))]
    before = max(0, -offset)
    return before + max(ends[0], offset + ends[1]), before


@_as_strided_backward.gradient("grad")
def _(grad, grad_form, shape, strides, view_strides, offset):
    size, before = _reach(shape, strides, grad_form._shape, view_strides, offset)
    if not size:
        return ops.zeros(*grad_form._shape, dtype=grad.dtype)
    whole = ops.zeros(size, dtype=grad.dtype)
    ops.copy_(ops.as_strided(whole, shape, strides, before), grad)
    return ops.as_strided(whole, grad_form._shape, view_strides, offset + before)


@structured("permute(Tensor self, int[] dims) -> Tensor", view=True, varargs=True)
def permute(self, dims):
    """Dimensions in another order."""
    ndim = len(self._shape)
    if len(dims) != ndim:
        raise RuntimeError("permute(sparse_coo): number of dimensions in the tensor input does not "
                           "match the length of the desired ordering of dimensions i.e. "
                           f"input.dim() = {ndim} is not equal to len(dims) = {len(dims)}".replace(
                               "(sparse_coo)", ""))
    order = tuple(wrap_dim(d, ndim) for d in dims)
    if len(set(order)) != ndim:
        raise RuntimeError("permute(): duplicate dims are not allowed.")
    return _with(self, [self._shape[d] for d in order], [self._strides[d] for d in order])


@permute.gradient("self")
def _(grad, dims):
    order = [d % len(dims) for d in dims]
    return ops.permute(grad, [order.index(d) for d in range(len(order))])


@structured("transpose(Tensor self, int dim0, int dim1) -> Tensor", view=True, inplace=True,
            aliases=("swapaxes", "swapdims"))
def transpose(self, dim0, dim1):
    """Two dimensions exchanged."""
    ndim = len(self._shape)
    a, b = wrap_dim(dim0, ndim), wrap_dim(dim1, ndim)
    if not ndim:
        return _with(self, (), ())
    shape, strides = list(self._shape), list(self._strides)
    shape[a], shape[b] = shape[b], shape[a]
    strides[a], strides[b] = strides[b], strides[a]
    return _with(self, shape, strides)


@transpose.gradient("self")
def _(grad, dim0, dim1):
    return ops.transpose(grad, dim0, dim1)


@structured("t(Tensor self) -> Tensor", view=True, inplace=True)
def t(self):
    """Transpose of a matrix; tensors with fewer dimensions stay."""
    if len(self._shape) > 2:
        raise RuntimeError(f"t() expects a tensor with <= 2 dimensions, but self is "
                           f"{len(self._shape)}D")
    return _with(self, self._shape[::-1], self._strides[::-1])


@t.gradient("self")
def _(grad):
    return ops.t(grad)


@structured("alias(Tensor self) -> Tensor", view=True, method=False)
def alias(self):
    """Another tensor over the same elements."""
    return _with(self, self._shape, self._strides)


@alias.gradient("self")
def _(grad):
    return grad


@composite("broadcast_to(Tensor self, int[] size) -> Tensor")
def broadcast_to(self, size):
    """``expand`` under NumPy's name."""
    return ops.expand(self, size)


@structured("expand(Tensor self, int[] size, *, bool implicit=False) -> Tensor", view=True,
            varargs=True)
def expand(self, size, implicit):
    """Dimensions of size 1 repeated without copying (stride 0); -1 keeps a size."""
    lead = len(size) - len(self._shape)
    if lead < 0:
        raise RuntimeError(f"expand({{{list(self._shape)}}}, size={list(size)}): the number of "
                           f"sizes provided ({len(size)}) must be greater or equal to the number "
                           f"of dimensions in the tensor ({len(self._shape)})")
    shape, strides, count = [], [], 1
    for d, want in enumerate(size):
        have = self._shape[d - lead] if d >= lead else None
        if want == -1 and have is None:
            raise RuntimeError(f"The expanded size of the tensor (-1) isn't allowed in a leading, "
                               f"non-existing dimension {d}")
        if want == -1:
            want = have
        if want < 0 or have not in (None, 1, want):
            raise RuntimeError(f"The expanded size of the tensor ({want}) must match the existing "
                               f"size ({have}) at non-singleton dimension {d}.  Target sizes: "
                               f"{list(size)}.  Tensor sizes: {list(self._shape)}")
        shape.append(want)
        count *= want
        same = have is not None and have == want
        strides.append(self._strides[d - lead] if same else 0)
        if count > MAX_BYTES:
            raise RuntimeError("numel: integer multiplication overflow: expand to sizes "
                               f"{list(size)} has {count} elements or more")
    return _with(self, shape, strides)


@expand.gradient("self")
def _(grad):
    return grad                      # the tape sums it to the input's shape


@structured("unsqueeze(Tensor self, int dim) -> Tensor", view=True, inplace=True)
def unsqueeze(self, dim):
    """A dimension of size 1 inserted at ``dim``."""
    d = wrap_dim(dim, len(self._shape) + 1)
    shape, strides = list(self._shape), list(self._strides)
    step = shape[d] * strides[d] if d < len(shape) else 1
    shape.insert(d, 1)
    strides.insert(d, step)
    return _with(self, shape, strides)


@unsqueeze.gradient("self")
def _(grad, self_form):
    return ops.reshape(grad, self_form._shape)


@structured("squeeze(Tensor self, int[]? dim=None) -> Tensor", view=True, inplace=True)
def squeeze(self, dim):
    """Dimensions of size 1 removed: all of them, or those among ``dim``."""
    ndim = len(self._shape)
    dims = range(ndim) if dim is None else wrap_dims(tuple(dim), ndim) if dim else ()
    gone = {d for d in dims if self._shape[d] == 1}
    keep = [d for d in range(ndim) if d not in gone]
    return _with(self, [self._shape[d] for d in keep], [self._strides[d] for d in keep])


@squeeze.gradient("self")
def _(grad, self_form):
    return ops.reshape(grad, self_form._shape)
