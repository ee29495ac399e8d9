"""Joining, reordering and repeating: cat, stack, flip, roll, repeat, tril, diag, ..."""
from ...kernels import movement as kernels
from ...runtime import dtypes
from ..base import TensorBase, empty, make, numel, product, wrap_dim, wrap_dims
from ..composite import composite, overloaded
from ..grids import grid, raw, reshaped, rows_grain, write_out
from ..registry import ops
from ..structured import as_dtype, contiguous, run, structured
from .copying import write


def _check_cat(tensors, dim):
    """The tensors that count and the wrapped ``dim``; torch skips vectors of no elements."""
    if not tensors:
        raise ValueError("torch.cat(): expected a non-empty list of Tensors")
    where = tensors[0]._storage.device
    for position, tensor in enumerate(tensors):
        if tensor._storage.device is not where:
            raise RuntimeError("cat: Expected all tensors to be on the same device, but found at "
                               f"least two devices, {where} and {tensor._storage.device}! "
                               "Move them with .to(device).")
        if not tensor._shape:
            raise RuntimeError(f"zero-dimensional tensor (at position {position}) cannot be "
                               "concatenated")
    used = [t for t in tensors if t._shape != (0,)] or list(tensors[:1])
    first = used[0]._shape
    d = wrap_dim(dim, len(first), "cat")
    for position, tensor in enumerate(tensors):
        if tensor._shape == (0,):
            continue
        if len(tensor._shape) != len(first):
            raise RuntimeError(f"Tensors must have same number of dimensions: got {len(first)} and "
                               f"{len(tensor._shape)}")
        for k, (size, want) in enumerate(zip(tensor._shape, first, strict=True)):
            if k != d and size != want:
                raise RuntimeError(
                    f"Sizes of tensors must match except in dimension {d}. Expected size {want} "
                    f"but got size {size} for tensor number {position} in the list.")
    return used, d


@structured("_cat(Tensor[] tensors, int dim=0) -> Tensor", method=False)
def _cat(tensors, dim):
    """The tensors joined along ``dim``, in their common type."""
    used, d = _check_cat(tensors, dim)
    kind = tensors[0].dtype
    for tensor in tensors[1:]:
        kind = dtypes.promote_types(kind, tensor.dtype)
    shape = list(used[0]._shape)
    shape[d] = sum(t._shape[d] for t in used)
    out = empty(shape, kind, used[0]._storage.device)
    offset, step = 0, out._strides[d]
    for tensor in used:
        write(make(out._storage, kind, tensor._shape, out._strides, offset), tensor)
        offset += tensor._shape[d] * step
    return out


@_cat.gradient("tensors")
def _(grad, tensors, dim):
    used, d = _check_cat(tensors, dim)
    pieces, start = [], 0
    for tensor in tensors:
        if tensor._shape == (0,) and len(used[0]._shape) != 1:
            pieces.append(ops.zeros_like(tensor))
            continue
        piece = ops.slice(grad, d, start, start + tensor._shape[d])
        start += tensor._shape[d]
        if tensor.dtype is not grad.dtype:
            if grad.dtype.is_complex and not tensor.dtype.is_complex:
                piece = ops.real(piece)
            piece = ops.to_dtype(piece, tensor.dtype)
        pieces.append(piece)
    return tuple(pieces)


def _join(name, doc, build):
    def join(tensors, dim=0, *, out=None, **keywords):
        dim = keywords.get("axis", dim)
        if isinstance(tensors, TensorBase):
            raise TypeError(f"{name}(): argument 'tensors' (position 1) must be tuple of Tensors, "
                            "not Tensor")
        result = build(tuple(tensors), dim)
        return result if out is None else write_out(name, out, result, tensors)
    join.__name__, join.__doc__ = name, doc
    aliases = {"cat": ("concat", "concatenate")}.get(name, ())
    return overloaded(name, method=False, out=True, aliases=aliases)(join)


def _stacked(tensors, dim):
    if not tensors:
        raise RuntimeError("stack expects a non-empty TensorList")
    d = wrap_dim(dim, len(tensors[0]._shape) + 1, "stack")
    for position, tensor in enumerate(tensors):
        if tensor._shape != tensors[0]._shape:
            raise RuntimeError(f"stack expects each tensor to be equal size, but got "
                               f"{list(tensors[0]._shape)} at entry 0 and {list(tensor._shape)} at "
                               f"entry {position}")
    return ops._cat([ops.unsqueeze(t, d) for t in tensors], d)


_join("cat", "Tensors joined along an existing dimension; the other sizes agree.",
      lambda tensors, dim: ops._cat(tensors, dim))
_join("stack", "Tensors of one shape joined along a new dimension.", _stacked)


def _at_least(tensor, ndim):
    """``tensor`` with dimensions of size 1 added as NumPy's atleast_*d do."""
    have = len(tensor._shape)
    if have >= ndim:
        return tensor
    shape = {(0, 1): (1,), (0, 2): (1, 1), (1, 2): (1, *tensor._shape), (0, 3): (1, 1, 1),
             (1, 3): (1, *tensor._shape, 1), (2, 3): (*tensor._shape, 1)}[have, ndim]
    return ops.reshape(tensor, shape)


def _atleast(ndim):
    def atleast(*tensors):
        if len(tensors) == 1 and isinstance(tensors[0], (tuple, list)):
            return tuple(_at_least(t, ndim) for t in tensors[0])
        made = tuple(_at_least(t, ndim) for t in tensors)
        return made[0] if len(made) == 1 else made
    atleast.__name__ = f"atleast_{ndim}d"
    atleast.__doc__ = f"The tensors, with dimensions of size 1 added up to {ndim}."
    overloaded(atleast.__name__, method=False)(atleast)


for _ndim in (1, 2, 3):
    _atleast(_ndim)


def _stack_family(name, ndim, dim_of, doc, aliases=()):
    def join(tensors, *, out=None):
        if isinstance(tensors, TensorBase):
            raise TypeError(f"{name}(): argument 'tensors' (position 1) must be tuple of Tensors, "
                            "not Tensor")
        if not tensors:
            raise RuntimeError(f"{name} expects a non-empty TensorList")
        made = [_at_least(t, ndim) for t in tensors]
        result = ops._cat(made, dim_of(made[0]))
        return result if out is None else write_out(name, out, result, tensors)
    join.__name__, join.__doc__ = name, doc
    overloaded(name, method=False, out=True, aliases=aliases)(join)


_stack_family("hstack", 1, lambda t: 0 if len(t._shape) == 1 else 1,
              "Tensors joined along the second dimension, vectors along the first.")
_stack_family("vstack", 2, lambda t: 0, "Tensors joined along the first dimension, vectors as "
                                        "rows.",
              ("row_stack",))
_stack_family("dstack", 3, lambda t: 2, "Tensors joined along the third dimension.")


@overloaded("column_stack", method=False, out=True)
def column_stack(tensors, *, out=None):
    """Tensors joined along the second dimension, vectors as columns."""
    made = [ops.reshape(t, (numel(t), 1)) if len(t._shape) <= 1 else t for t in tensors]
    result = ops._cat(made, 1)
    return result if out is None else write_out("column_stack", out, result, tensors)


@structured("flip(Tensor self, int[] dims) -> Tensor", varargs=True)
def flip(self, dims):
    """The order of the elements along each of ``dims`` reversed; always a copy."""
    wrapped = wrap_dims(dims, len(self._shape), "flip") if dims else ()
    source = contiguous(self)
    if not wrapped or not numel(self):
        return ops.clone(source)
    for d in wrapped:
        out = empty(self._shape, self.dtype, self._storage.device)
        view, target = grid(raw(source), d), grid(raw(out), d)
        outer, n, inner = view._shape
        if inner == 1:
            run(kernels.flip_last, [("C", reshaped(view, (outer, n))),
                                    ("C", reshaped(target, (outer, n)))], outer, rows_grain(n))
        else:
            run(kernels.flip, [("C", view), ("C", target)], outer * n, rows_grain(inner))
        source = out
    return source


@flip.gradient("self")
def _(grad, dims):
    return ops.flip(grad, dims)


@overloaded("fliplr")
def fliplr(input):  # noqa: A002
    """The second dimension reversed."""
    if len(input._shape) < 2:
        raise RuntimeError("Input must be >= 2-d.")
    return ops.flip(input, (1,))


@overloaded("flipud")
def flipud(input):  # noqa: A002
    """The first dimension reversed."""
    if len(input._shape) < 1:
        raise RuntimeError("Input must be >= 1-d.")
    return ops.flip(input, (0,))


@composite("roll(Tensor self, int[1] shifts, int[1] dims=[]) -> Tensor")
def roll(self, shifts, dims):
    """Elements moved by ``shifts`` along ``dims``, those beyond the end returning at the start.

    Without ``dims`` the flattened tensor is rolled by one shift.
    """
    shifts = shifts if isinstance(shifts, tuple) else (shifts,)
    dims = dims if isinstance(dims, tuple) else (dims,)
    if not shifts:
        raise RuntimeError("`shifts` required")
    if not dims and len(shifts) == 1:
        return ops.reshape(ops.roll(ops.reshape(self, (-1,)), shifts, (0,)), self._shape)
    if len(shifts) != len(dims):
        raise RuntimeError(f"shifts and dimensions must align. shifts: {len(shifts)}, "
                           f"dims:{len(dims)}")
    if not self._shape:
        raise IndexError("Dimension specified as 0 but tensor has no dimensions")
    if not numel(self):
        return ops.clone(self)
    result = self
    for shift, dim in zip(shifts, dims, strict=True):
        d = wrap_dim(dim, len(self._shape), "roll")
        n = self._shape[d]
        cut = (n - shift) % n
        if not cut:
            result = ops.clone(result) if result is self else result
            continue
        result = ops._cat([ops.slice(result, d, cut, n), ops.slice(result, d, 0, cut)], d)
    return result


@composite("rot90(Tensor self, int k=1, int[] dims=[0, 1]) -> Tensor")
def rot90(self, k, dims):
    """Rotation by ``k`` quarter turns in the plane of two dimensions, from the first to the
    second."""
    ndim = len(self._shape)
    if len(dims) != 2:
        raise RuntimeError(f"expected total rotation dims == 2, but got dims = {len(dims)}")
    if ndim < 2:
        raise RuntimeError(f"expected total dims >= 2, but got total dims = {ndim}")
    if dims[0] == dims[1] or abs(dims[0] - dims[1]) == ndim:
        raise RuntimeError("expected rotation dims to be different, but got dim0 = "
                           f"{dims[0]} and dim1 = {dims[1]}")
    for place, dim in enumerate(dims):
        if not -ndim <= dim < ndim:
            raise RuntimeError(f"Rotation dim{place} out of range, dim{place} = {dim}")
    k %= 4
    if k == 0:
        return ops.clone(self)
    if k == 2:
        return ops.flip(self, dims)
    turned = ops.flip(self, (dims[1],) if k == 1 else (dims[0],))
    return ops.clone(ops.transpose(turned, dims[0], dims[1]).contiguous())


@composite("repeat(Tensor self, int[] repeats) -> Tensor", varargs=True)
def repeat(self, repeats):
    """The tensor copied ``repeats[d]`` times along each dimension; new ones come first."""
    lead = len(repeats) - len(self._shape)
    if lead < 0:
        raise RuntimeError("Number of dimensions of repeat dims can not be smaller than number of "
                           "dimensions of tensor")
    if any(n < 0 for n in repeats):
        raise RuntimeError(f"Trying to create tensor with negative dimension {min(repeats)}: "
                           f"{list(repeats)}")
    shape = (1,) * lead + tuple(self._shape)
    paired = [size for n in shape for size in (1, n)]
    spread = [size for r, n in zip(repeats, shape, strict=True) for size in (r, n)]
    result = ops.contiguous(ops.expand(ops.reshape(self, paired), spread))
    result = ops.reshape(result, [r * n for r, n in zip(repeats, shape, strict=True)])
    # nothing was repeated: what came out is a view, and a copy is promised
    return ops.clone(result) if numel(result) == numel(self) else result


@composite("tile(Tensor self, int[] dims) -> Tensor", varargs=True)
def tile(self, dims):
    """``repeat`` where missing leading counts are 1."""
    return ops.repeat(self, (1,) * (len(self._shape) - len(dims)) + tuple(dims))


@overloaded("repeat_interleave", fuse=False)
def repeat_interleave(input, repeats=None, dim=None, *, output_size=None):  # noqa: A002
    """Each element (or slice along ``dim``) ``repeats`` times in a row; ``repeats`` is a number or
    one number per element. With a tensor of counts alone: each index as often as its count."""
    if repeats is None:
        return _counted(input)
    if dim is None:
        input, dim = ops.reshape(input, (-1,)), 0  # noqa: A001
    d = wrap_dim(dim, len(input._shape), "repeat_interleave")
    size = input._shape[d] if input._shape else 1
    if not isinstance(repeats, TensorBase):
        repeats = ops.tensor([repeats] if isinstance(repeats, int) else list(repeats),
                             dtype=dtypes.int64)
    repeats = ops.reshape(repeats, (1,)) if not repeats._shape else repeats
    if len(repeats._shape) != 1:
        raise RuntimeError("repeats must be 0-dim or 1-dim tensor")
    if numel(repeats) == 1:
        repeats = ops.expand(repeats, (size,))
    if numel(repeats) != size:
        raise RuntimeError(f"repeats must have the same size as input along dim, but got "
                           f"repeats.size(0) = {numel(repeats)} and input.size({d}) = {size}")
    return ops.index_select(ops.reshape(input, (1,)) if not input._shape else input, d,
                            _counted(repeats))


def _counted(repeats):
    if len(repeats._shape) != 1:
        raise RuntimeError("repeat_interleave only accept 1D vector as repeat")
    if repeats.dtype not in (dtypes.int64, dtypes.int32):
        raise NotImplementedError("repeat_interleave: repeats has to be Long or Int tensor, got "
                                  f"{repeats.dtype}")
    counts = contiguous(as_dtype(repeats, dtypes.int64))
    if numel(counts) and ops.amin(counts).item() < 0:
        raise RuntimeError("repeats can not be negative")
    from ...kernels import indexing
    ends = ops.cumsum(counts, 0)
    out = empty((int(ends[-1].item()) if numel(counts) else 0,), dtypes.int64)
    run(indexing.repeat_index, [("C", counts), ("C", ends), ("C", out)], numel(counts), 4096)
    return as_dtype(out, repeats.dtype)


def _triangle(name, upper):
    words = "above" if upper else "below"

    @structured(f"{name}(Tensor self, int diagonal=0, *, Tensor? out=None) -> Tensor", inplace=True,
                exact_out="dtype")
    def triangle(self, diagonal):
        if len(self._shape) < 2:
            raise RuntimeError(f"{name}: input tensor must have at least 2 dimensions")
        source = contiguous(self)
        out = empty(self._shape, self.dtype, self._storage.device)
        rows, columns = self._shape[-2:]
        shape = (product(self._shape[:-2]), rows, columns)
        run(kernels.triangle,
            [("C", reshaped(raw(source), shape)), ("C", reshaped(raw(out), shape)),
             ("i", diagonal), ("i", upper)], shape[0] * rows, rows_grain(columns))
        return out
    triangle.doc = (f"The part of each matrix on and {words} a diagonal (0: the main one, "
                    "positive: above it), zero elsewhere.")
    triangle.gradient("self")(lambda grad, diagonal: getattr(ops, name)(grad, diagonal))


_triangle("tril", False)
_triangle("triu", True)
