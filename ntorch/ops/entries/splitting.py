"""Views composed of views: narrow, split, chunk, unbind, flatten, movedim, ..."""
from ...runtime import dtypes
from ..base import (
    Size,
    TensorBase,
    broadcast_shapes,
    integer,
    numel,
    view,
    whole_of,
    wrap_dim,
    wrap_dims,
)
from ..composite import composite, overloaded
from ..registry import ops
from ..structured import structured
from .views import infer_size


@overloaded("narrow")
def narrow(input, dim, start, length):
    """``length`` slices from ``start`` on along ``dim``, a view. RuntimeError out of range."""
    if not input._shape:
        raise RuntimeError("narrow() cannot be applied to a 0-dim tensor.")
    d = wrap_dim(dim, len(input._shape))
    size = input._shape[d]
    if isinstance(start, TensorBase):
        if start._shape or start.dtype.category != dtypes.INT:
            raise RuntimeError("start must be an 0-dim integral Tensor.")
        start = int(start)
    if length < 0:
        raise RuntimeError("narrow(): length must be non-negative.")
    if not -size <= start <= size:
        raise IndexError(f"start out of range (expected to be in range of [{-size}, {size}], but "
                         f"got {start})")
    start += size if start < 0 else 0
    if start + length > size:
        raise RuntimeError(f"start ({start}) + length ({length}) exceeds dimension size ({size}).")
    return ops.slice(input, d, start, start + length)


def _sections(size, split_size, dim):
    if split_size < 0:
        raise RuntimeError("split expects split_size be non-negative, but got "
                           f"split_size={split_size}")
    if split_size == 0 and size != 0:
        raise RuntimeError(f"split expects split_size > 0 for dimension {dim} of size {size}, but "
                           "got split_size=0")
    count = max((size + split_size - 1) // split_size, 1) if split_size else 1
    return [split_size if i < count - 1 else size - split_size * (count - 1) for i in range(count)]


@overloaded("split")
def split(tensor, split_size_or_sections=None, dim=0, **keywords):
    """Consecutive views along ``dim``: pieces of a given size (the last may be smaller), or of each
    of the sizes in a list."""
    sizes = keywords.get("split_size", split_size_or_sections)
    if not tensor._shape:
        raise RuntimeError("split expects at least a 1-dimensional tensor")
    d = wrap_dim(dim, len(tensor._shape))
    if not isinstance(sizes, (tuple, list)):
        sizes = _sections(tensor._shape[d], integer(sizes, "split", "split_size"), d)
    return split_with_sizes(tensor, sizes, d)


@overloaded("split_with_sizes")
def split_with_sizes(input, split_sizes, dim=0):
    """Consecutive views along ``dim`` with the given sizes, which must add up."""
    d = wrap_dim(dim, len(input._shape))
    if any(n < 0 for n in split_sizes):
        raise RuntimeError("split_with_sizes expects split_sizes have only non-negative entries, "
                           f"but got split_sizes={list(split_sizes)}")
    if sum(split_sizes) != input._shape[d]:
        raise RuntimeError(f"split_with_sizes expects split_sizes to sum exactly to "
                           f"{input._shape[d]} (input tensor's size at dimension {d}), but got "
                           f"split_sizes={list(split_sizes)}")
    start, pieces = 0, []
    for n in split_sizes:
        pieces.append(ops.slice(input, d, start, start + n))
        start += n
    return tuple(pieces)


@overloaded("unsafe_split")
def unsafe_split(tensor, split_size, dim=0):
    """``split`` under the name that promises not to write the pieces."""
    return split(tensor, split_size, dim)


@composite("chunk(Tensor self, int chunks, int dim=0) -> Tensor", aliases=("unsafe_chunk",))
def chunk(self, chunks, dim):
    """At most ``chunks`` views of equal size along ``dim``, the last one perhaps smaller."""
    if not self._shape:
        raise RuntimeError("chunk expects at least a 1-dimensional tensor")
    if chunks <= 0:
        raise RuntimeError(f"chunk expects `chunks` to be greater than 0, got: {chunks}")
    d = wrap_dim(dim, len(self._shape))
    size = self._shape[d]
    step = (size + chunks - 1) // chunks
    if step == 0:
        return split_with_sizes(self, [0] * chunks, d)
    return split(self, step, d)


@overloaded("tensor_split")
def tensor_split(input, indices_or_sections=None, dim=0, *, indices=None, sections=None):
    """Views along ``dim`` cut at the given indices, or into nearly equal ``sections``."""
    where = next(v for v in (indices_or_sections, indices, sections) if v is not None)
    if not input._shape:
        raise RuntimeError("tensor_split expected at least a 1-dimensional tensor, but got a "
                           "tensor with 0 dims")
    if isinstance(where, TensorBase):
        if where.device.type != "cpu":
            raise RuntimeError("tensor_split expected tensor_indices_or_sections to be on cpu")
        if where.dtype is not dtypes.int64:
            raise RuntimeError("tensor_split expected tensor_indices_or_sections to have dtype of "
                               f"long, but got {where.dtype}")
        if where.dim() > 1:
            raise RuntimeError("tensor_split expected tensor_indices_or_sections to be a zero-"
                               "dimensional or one-dimensional tensor, but got a tensor with "
                               f"{where.dim()} dims")
        where = where.tolist()
    d = wrap_dim(dim, len(input._shape))
    size = input._shape[d]
    if isinstance(where, int):
        if where <= 0:
            raise RuntimeError(f"number of sections must be larger than 0, got {where}")
        base, extra = divmod(size, where)
        return split_with_sizes(input, [base + (i < extra) for i in range(where)], d)
    cuts = [0, *where, size]
    return tuple(ops.slice(input, d, a, b) for a, b in zip(cuts, cuts[1:], strict=False))


def _named_split(name, dim_of, least):
    def split_along(input, indices_or_sections=None, *, indices=None, sections=None):
        where = next(v for v in (indices_or_sections, indices, sections) if v is not None)
        if len(input._shape) < least:
            raise RuntimeError(f"torch.{name} requires a tensor with at least {least} dimension"
                               f"{'s' if least > 1 else ''}, but got a tensor with "
                               f"{len(input._shape)} dimensions!")
        d = dim_of(len(input._shape))
        if isinstance(where, int) and where and input._shape[d] % where:
            raise RuntimeError(f"torch.{name} attempted to split along dimension {d}, but the size "
                               f"of the dimension {input._shape[d]} is not divisible by the "
                               f"split_size {where}!")
        return tensor_split(input, where, d)
    split_along.__name__ = name
    split_along.__doc__ = f"``tensor_split`` along the dimension of ``{name}``; equal parts only."
    return overloaded(name)(split_along)


_named_split("hsplit", lambda ndim: 0 if ndim == 1 else 1, 1)
_named_split("vsplit", lambda ndim: 0, 2)
_named_split("dsplit", lambda ndim: 2, 3)


@structured("unbind(Tensor self, int dim=0) -> (Tensor, Tensor)", view=True)
def unbind(self, dim):
    """All slices along ``dim``, as a tuple of views."""
    if not self._shape:
        raise IndexError("Dimension specified as 0 but tensor has no dimensions")
    d = wrap_dim(dim, len(self._shape))
    shape = self._shape[:d] + self._shape[d + 1:]
    strides = self._strides[:d] + self._strides[d + 1:]
    return tuple(view(self, shape, strides, self._offset + i * self._strides[d])
                 for i in range(self._shape[d]))


@unbind.gradient("self")
def _(grads, self_form, dim):
    zero = None
    filled = []
    for grad in grads:
        if grad is None:
            if zero is None:
                d = dim % len(self_form._shape)
                zero = ops.zeros(self_form._shape[:d] + self_form._shape[d + 1:],
                                 dtype=self_form.dtype,
                                 device=self_form.device)
            grad = zero
        filled.append(grad)
    return ops.stack(filled, dim)


@overloaded("movedim", aliases=("moveaxis",))
def movedim(input, source, destination):
    """Dimensions ``source`` moved to positions ``destination``; the others keep their order."""
    ndim = len(input._shape)
    source = (source,) if not isinstance(source, (tuple, list)) else source
    destination = (destination,) if not isinstance(destination, (tuple, list)) else destination
    if len(source) != len(destination):
        raise RuntimeError(f"movedim: Invalid source or destination dims: source ({list(source)} "
                           "dims) should contain the same number of dims as destination "
                           f"({list(destination)} dims)")
    for what, dims in (("source", source), ("destination", destination)):
        wrapped = [wrap_dim(d, ndim) for d in dims]
        if len(set(wrapped)) != len(wrapped):
            raise RuntimeError(f"movedim: repeated dim in `{what}` ({list(dims)})")
    source = [wrap_dim(d, ndim) for d in source]
    destination = [wrap_dim(d, ndim) for d in destination]
    rest = iter(d for d in range(ndim) if d not in source)
    placed = dict(zip(destination, source, strict=True))
    return ops.permute(input, [placed[d] if d in placed else next(rest) for d in range(ndim)])


@composite("flatten(Tensor self, int start_dim=0, int end_dim=-1) -> Tensor")
def flatten(self, start_dim, end_dim):
    """The dimensions from ``start_dim`` to ``end_dim`` joined into one."""
    ndim = len(self._shape)
    a, b = wrap_dim(start_dim, ndim), wrap_dim(end_dim, ndim)
    if a > b:
        raise RuntimeError("flatten() has invalid args: start_dim cannot come after end_dim")
    if not ndim:
        return ops.reshape(self, (1,))
    if a == b:
        return self
    count = Size(self._shape[a:b + 1]).numel()
    return ops.reshape(self, (*self._shape[:a], count, *self._shape[b + 1:]))


@overloaded("unflatten")
def unflatten(input, dim, sizes):
    """Dimension ``dim`` seen as several of the given sizes; one may be -1."""
    d = wrap_dim(dim, len(input._shape))
    if not isinstance(sizes, (tuple, list)):
        raise TypeError(f"unflatten(): argument 'sizes' (position 2) must be tuple of ints, not "
                        f"{type(sizes).__name__}")
    if not sizes:
        raise RuntimeError("unflatten: sizes must be non-empty")
    try:
        shape = infer_size(sizes, input._shape[d], "unflatten")
    except RuntimeError:
        if -1 in sizes:
            raise
        raise RuntimeError(f"unflatten: Provided sizes {list(sizes)} don't multiply up to the size "
                           f"of dim {d} ({input._shape[d]}) in the input tensor") from None
    return ops.view(input, (*input._shape[:d], *shape, *input._shape[d + 1:]))


@composite("ravel(Tensor self) -> Tensor")
def ravel(self):
    """All elements in one dimension; a view where possible."""
    return ops.reshape(self, (-1,))


@composite("expand_as(Tensor self, Tensor other) -> Tensor")
def expand_as(self, other):
    """``expand`` to the shape of ``other``."""
    return ops.expand(self, other._shape)


@composite("view_as(Tensor self, Tensor other) -> Tensor")
def view_as(self, other):
    """``view`` in the shape of ``other``."""
    return ops.view(self, other._shape)


@composite("reshape_as(Tensor self, Tensor other) -> Tensor")
def reshape_as(self, other):
    """``reshape`` to the shape of ``other``."""
    return ops.reshape(self, other._shape)


@composite("adjoint(Tensor self) -> Tensor", fuse=False)
def adjoint(self):
    """Conjugate transpose of the last two dimensions."""
    swapped = ops.transpose(self, -2, -1)
    return ops.conj(swapped) if self.dtype.is_complex else swapped


def _overloaded_sum_to_size(op):
    def sum_to_size(input, *size):
        """Sum over dimensions so that the result has ``size``, to which ``input`` was broadcast."""
        size = tuple(size[0]) if len(size) == 1 and not hasattr(size[0], "__index__") else size
        if tuple(size) == tuple(input._shape):
            return input
        lead = len(input._shape) - len(size)
        if lead < 0 or any(want not in (1, have) for want, have in
                           zip(size, input._shape[max(lead, 0):], strict=False)):
            raise RuntimeError(f"size {{{list(size)}}} is not expandable to size "
                               f"{{{list(input._shape)}}}.")
        dims = [*range(lead), *(d for d in range(lead, len(input._shape))
                                if size[d - lead] == 1 and input._shape[d] != 1)]
        kept = ops.sum(input, dims, True) if dims else input
        return ops.reshape(kept, size) if lead else kept
    return overloaded(op)(sum_to_size)


_overloaded_sum_to_size("sum_to_size")


@overloaded("broadcast_tensors", method=False)
def broadcast_tensors(*tensors):
    """Views of the tensors with the shape they broadcast to."""
    if len(tensors) == 1 and isinstance(tensors[0], (tuple, list)):
        tensors = tensors[0]
    shape = broadcast_shapes(*[t._shape for t in tensors])
    return tuple(ops.expand(t, shape) for t in tensors)


@overloaded("view_dtype", method=False)
def view_dtype(input, dtype):
    """The same bytes read as another dtype (``x.view(torch.int32)``)."""
    have, want = input.dtype.itemsize, dtype.itemsize
    if have == want:
        return _reinterpret(input, dtype, input._shape, input._strides, input._offset)
    if not input._shape:
        raise RuntimeError(f"self.dim() cannot be 0 to view {input.dtype} as {dtype} (different "
                           "element sizes)")
    if input._strides[-1] != 1:
        raise RuntimeError(f"self.stride(-1) must be 1 to view {input.dtype} as {dtype} "
                           f"(different element sizes), but got {input._strides[-1]}")
    if have > want:
        ratio = have // want
        return _reinterpret(input, dtype, (*input._shape[:-1], input._shape[-1] * ratio),
                            (*(s * ratio for s in input._strides[:-1]), 1), input._offset * ratio)
    ratio = want // have
    whole_of(input)         # where in its storage it lies decides
    if input._shape[-1] % ratio or input._offset % ratio or any(
            s % ratio for s in input._strides[:-1]):
        raise RuntimeError(f"self.size(-1) must be divisible by {ratio} to view {input.dtype} as "
                           f"{dtype} (different element sizes), but got {input._shape[-1]}")
    return _reinterpret(input, dtype, (*input._shape[:-1], input._shape[-1] // ratio),
                        (*(s // ratio for s in input._strides[:-1]), 1), input._offset // ratio)


def _reinterpret(tensor, dtype, shape, strides, offset):
    result = view(tensor, Size(shape), tuple(strides), 0)
    result.dtype, result._offset = dtype, offset
    result._address = tensor._storage.address + offset * dtype.itemsize
    result._base = None
    return result


__all__ = ["numel", "wrap_dims"]
