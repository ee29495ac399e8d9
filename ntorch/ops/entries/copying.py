"""Copies and conversions: copy_, clone, contiguous, to, fill_, zero_."""
import ctypes

from ...runtime import dtypes, recording
from ...runtime.device import META, check_available
from ..base import TensorBase, broadcast_shapes, empty, is_contiguous, make, numel
from ..composite import composite
from ..outputs import check_no_partial_overlap, check_writable, is_dense
from ..pointwise import PointwiseEntry, _result_strides
from ..registry import ops
from ..structured import structured
from ..turning import turn


def _same_value(x):
    return x


def _value(value):
    return value


_same_value.__scalar__ = _value.__scalar__ = True
# not in the table: what they compute has entries below that also say how it differentiates
IDENTITY = PointwiseEntry("identity(Tensor self) -> Tensor", _same_value, lambda d: (d, d))
CONSTANT = PointwiseEntry("constant(Scalar value) -> Tensor", _value, lambda d: (d, d))


def write(target, source):
    """Copy ``source`` (any dtype, broadcastable) into ``target`` without recording."""
    if target._storage.device is META:
        return target
    if source._storage.device is META:
        raise NotImplementedError("Cannot copy out of meta tensor; no data! (copy_)")
    if not numel(target):
        return target
    if target._storage is source._storage and target._address != source._address:
        source = _duplicate(source)         # overlapping ranges: read everything first
    if (target.dtype is source.dtype and target._shape == source._shape
            and is_contiguous(target._shape, target._strides)
            and is_contiguous(source._shape, source._strides)
            and numel(target) <= 4096
            and recording.current() is None):
        ctypes.memmove(target._address, source._address, numel(target) * target.dtype.itemsize)
        return target
    if recording.current() is None and turn(target, source):
        return target
    IDENTITY._into((source,), target)
    return target


def _duplicate(source):
    copy = empty(source._shape, source.dtype, source._storage.device)
    return IDENTITY._into((source,), copy)


@structured("copy_(Tensor self, Operand src, bool non_blocking=False) -> Tensor", inplace_only=True)
def copy_(self, src, non_blocking):
    """Overwrite ``self`` with ``src``, broadcast and converted to its dtype; returns ``self``.

    RuntimeError if ``src`` does not broadcast to the shape of ``self``, if elements of ``self``
    share memory, or if both are dense and overlap in part.
    """
    if not isinstance(src, TensorBase):
        raise TypeError(f"copy_(): argument 'other' (position 1) must be Tensor, not "
                        f"{type(src).__name__}")
    if tuple(broadcast_shapes(self._shape, src._shape)) != tuple(self._shape):
        raise RuntimeError(f"output with shape {list(self._shape)} doesn't match the broadcast "
                           f"shape {list(broadcast_shapes(self._shape, src._shape))}")
    check_writable("copy_", self)
    if src._storage is self._storage and is_dense(self) and is_dense(src):
        check_no_partial_overlap("copy_", self, (src,))
    return write(self, src)


@copy_.gradient("src")
def _(grad):
    return grad


@copy_.gradient("self")
def _(grad):
    return None


@structured("fill_(Tensor self, Operand value) -> Tensor", inplace_only=True)
def fill_(self, value):
    """Set every element to ``value``, a number or a zero-dim tensor."""
    if isinstance(value, TensorBase):
        if value._shape:
            raise RuntimeError("fill_ only supports 0-dimension value tensor but got tensor with "
                               f"{len(value._shape)} dimensions.")
        return write(self, value)
    if isinstance(value, complex) and not self.dtype.is_complex:
        raise RuntimeError(f"value cannot be converted to type without overflow: {value} to "
                           f"{self.dtype}")
    if self._storage.device is not META and numel(self):
        CONSTANT._into((_fits(value, self.dtype),), self)
    return self


def _fits(value, dtype):
    """``value`` as a number that ``dtype`` holds; RuntimeError if it does not."""
    if dtype.category == dtypes.INT:
        low, high = ((0, 255) if dtype is dtypes.uint8 else
                     (-(1 << 8 * dtype.itemsize - 1), (1 << 8 * dtype.itemsize - 1) - 1))
        if isinstance(value, float):
            if value != value or value in (float("inf"), float("-inf")):
                raise RuntimeError(f"value cannot be converted to type {dtype} without overflow")
            value = int(value)
        # torch lets negative numbers wrap around in unsigned types
        if not (low if dtype.is_signed else -high - 1) <= value <= high:
            raise RuntimeError(f"value cannot be converted to type {dtype} without overflow")
    return bool(value) if dtype.category == dtypes.BOOL else value


@fill_.gradient("value")
def _(grad):
    return ops.sum(grad)


@fill_.gradient("self")
def _(grad):
    return None


@composite("fill(Tensor self, Operand value) -> Tensor", method=False)
def fill(self, value):
    """A copy of ``self`` with every element set to ``value``."""
    return ops.fill_(ops.clone(self), value)


@structured("zero_(Tensor self) -> Tensor", inplace_only=True)
def zero_(self):
    """Set every element to zero."""
    if self._storage.device is META or not numel(self):
        return self
    if is_contiguous(self._shape, self._strides) and recording.current() is None:
        ctypes.memset(self._address, 0, numel(self) * self.dtype.itemsize)
        return self
    return CONSTANT._into((0,), self)


@zero_.gradient("self")
def _(grad):
    return None


@structured("clone(Tensor self, *, MemoryFormat? memory_format=None) -> Tensor")
def clone(self, memory_format):
    """A copy with storage of its own. Dense strides are kept unless contiguous_format is asked."""
    copy = empty(self._shape, self.dtype, self._storage.device)
    if memory_format is None or str(memory_format).endswith("preserve_format"):
        copy._strides = _result_strides(self._shape, [self])
    return write(copy, self)


@clone.gradient("self")
def _(grad):
    return grad


@composite("contiguous(Tensor self, *, MemoryFormat? memory_format=None) -> Tensor")
def contiguous(self, memory_format):
    """The tensor itself if its elements lie in row-major order, else a copy in which they do."""
    if is_contiguous(self._shape, self._strides):
        return self
    return _row_major_copy(self)


@structured("_row_major(Tensor self) -> Tensor", method=False)
def _row_major(self):
    """A row-major copy."""
    return write(empty(self._shape, self.dtype, self._storage.device), self)


@_row_major.gradient("self")
def _(grad):
    return grad


def _row_major_copy(tensor):
    return ops._row_major(tensor)


@structured("to_dtype(Tensor self, ScalarType dtype) -> Tensor", method=False)
def to_dtype(self, dtype):
    """A copy converted to ``dtype``: floats truncate to integers, nonzero is True."""
    copy = empty(self._shape, dtype, self._storage.device)
    copy._strides = _result_strides(self._shape, [self])
    return write(copy, self)


to_dtype.backward_name = "ToCopyBackward0"


@to_dtype.gradient("self")
def _(grad):
    return grad          # the tape converts it back to the input's dtype


@structured("_to_device(Tensor self, Device device) -> Tensor", method=False)
def _to_device(self, device):
    """A copy on another device."""
    target = check_available(device)
    if self._storage.device is META and target is not META:
        raise NotImplementedError("Cannot copy out of meta tensor; no data!")
    return write(empty(self._shape, self.dtype, target), self)


@_to_device.gradient("self")
def _(grad, self):
    return ops._to_device(grad, self.device)


@structured("_detached(Tensor self) -> Tensor", method=False, view=True, differentiable=False)
def _detached(self):
    """The same elements without history."""
    return make(self._storage, self.dtype, self._shape, self._strides, self._offset)
