"""Reading and writing where a mask is true: masked_fill, masked_select, masked_scatter."""
from ...kernels import indexing as kernels
from ...runtime import dtypes
from ...runtime.device import META
from ..base import TensorBase, broadcast_shapes, empty, numel
from ..composite import composite
from ..dtype_rules import _scalar_name, same
from ..grids import flat, need_true, raw, reshaped, updating
from ..pointwise import pointwise
from ..registry import ops
from ..structured import contiguous, run, structured
from .advanced import _true_positions
from .indexing import select_rows


@pointwise("_masked_fill(Tensor self, Tensor mask, Scalar value) -> Tensor", dtype=same,
           method=False)
def _masked_fill(x, mask, value):
    """``value`` where ``mask``, else ``self``."""
    return value if mask != 0 else x


@_masked_fill.gradient("self")
def _(grad, mask):
    return ops._masked_fill(grad, mask, 0)


def _check_mask(op, mask, words):
    if mask.dtype is not dtypes.bool_:
        raise RuntimeError(f"{op} {words}, but got mask with dtype {_scalar_name(mask.dtype)}")


def _fill_value(self, mask, value):
    """Torch's checks of masked_fill; the number, or a tensor of ``self``'s dtype."""
    _check_mask("masked_fill_", mask, "only supports boolean masks")
    if isinstance(value, TensorBase):
        if value._shape:
            raise RuntimeError("masked_fill_ only supports a 0-dimensional value tensor, but got "
                               f"tensor with {len(value._shape)} dimension(s).")
    if (value.dtype.is_complex if isinstance(value, TensorBase) else isinstance(value, complex)) \
            and not self.dtype.is_complex:
        raise RuntimeError("value cannot be converted to type "
                           f"{_scalar_name(self.dtype).lower()} without overflow")
    if isinstance(value, TensorBase):
        return ops.to_dtype(value, self.dtype)
    if self.dtype.category == dtypes.INT:
        return int(value)
    return bool(value) if self.dtype is dtypes.bool_ else value


@composite("masked_fill(Tensor self, Tensor mask, Any value) -> Tensor", fuse=False)
def masked_fill(self, mask, value):
    """``value`` (a number or zero-dim tensor) where ``mask`` is true, else ``self``; broadcasts."""
    value = _fill_value(self, mask, value)
    if isinstance(value, TensorBase):
        return ops.where(mask, value, self)
    return ops._masked_fill(self, mask, value)


@composite("masked_fill_(Tensor self, Tensor mask, Any value) -> Tensor", fuse=False)
def masked_fill_(self, mask, value):
    """Writes ``value`` into ``self`` where ``mask`` is true."""
    value = _fill_value(self, mask, value)
    if isinstance(value, TensorBase):
        return ops.copy_(self, ops.where(mask, value, self))
    return ops._masked_fill_(self, mask, value)


@structured("masked_select(Tensor self, Tensor mask, *, Tensor? out=None) -> Tensor",
            exact_out=True)
def masked_select(self, mask):
    """The elements of ``self`` where ``mask`` is true, in row-major order; the two broadcast."""
    if mask.dtype is not dtypes.bool_:
        raise RuntimeError("masked_select: expected BoolTensor for mask")
    if self._storage.device is META:
        raise NotImplementedError("masked_select(): the size of the result depends on the data, "
                                  "which a meta tensor does not have")
    shape = broadcast_shapes(self._shape, mask._shape)
    positions = _true_positions(contiguous(ops.expand(mask, shape)))
    source = raw(contiguous(ops.expand(self, shape)))
    out = empty((numel(positions),), self.dtype)
    if numel(out):
        select_rows(reshaped(source, (1, numel(source), 1)), positions, raw(out))
    return out


@masked_select.gradient("self")
def _(grad, self, mask):
    shape = broadcast_shapes(self._shape, mask._shape)
    zeros = ops.zeros(shape, dtype=grad.dtype, device=grad.device)
    return ops.masked_scatter(zeros, ops.expand(mask, shape), grad)


@updating("_masked_scatter(Tensor self, Tensor mask, Tensor source) -> Tensor", method=False)
def _masked_scatter(self, mask, source):
    """``self`` with the elements of ``source``, in order, where ``mask`` (of its shape) is true."""
    _check_mask("masked_scatter_", mask, "only supports boolean masks")
    if source.dtype is not self.dtype:
        raise RuntimeError("masked_scatter: expected self and source to have same dtypes but got "
                           f"{_scalar_name(self.dtype)} and {_scalar_name(source.dtype)}")
    flags = contiguous(ops.expand(mask, self._shape))
    if self._storage.device is not META:
        need_true(ops.le(ops.sum(flags), numel(source)), RuntimeError(
            "Number of elements of source < number of ones in mask"))
    values = flat(raw(contiguous(source)))

    def write(target):
        run(kernels.masked_scatter, [("C", flat(raw(target))), ("C", flat(flags)), ("C", values)],
            1, 1)
    return write


@_masked_scatter.gradient("self")
def _(grad, mask):
    return ops._masked_fill(grad, mask, 0)


@_masked_scatter.gradient("source")
def _(grad, mask, source):
    taken = ops.masked_select(grad, ops.expand(mask, grad._shape))
    missing = numel(source) - numel(taken)
    if missing:
        taken = ops.cat([taken, ops.zeros(missing, dtype=taken.dtype, device=taken.device)])
    return ops.reshape(taken, source._shape)


@composite("masked_scatter(Tensor self, Tensor mask, Tensor source) -> Tensor")
def masked_scatter(self, mask, source):
    """``self`` with the elements of ``source``, in order, where ``mask`` is true; the first two
    broadcast. RuntimeError if ``source`` is too short."""
    shape = broadcast_shapes(self._shape, mask._shape)
    return ops._masked_scatter(ops.expand(self, shape), mask, source)


@composite("masked_scatter_(Tensor self, Tensor mask, Tensor source) -> Tensor")
def masked_scatter_(self, mask, source):
    """Writes the elements of ``source``, in order, into ``self`` where ``mask`` is true."""
    return ops._masked_scatter_(self, mask, source)
