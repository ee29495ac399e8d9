"""Checks of tensors that are written: dtype, shape, device, overlap; and the writing itself."""
import warnings

from ..runtime import dtypes
from ..runtime.device import CPU
from . import base
from .base import TensorBase
from .dtype_rules import _scalar_name
from .registry import ops


def check_castable(op, source, target):
    """RuntimeError unless a result of type ``source`` may be written into ``target``."""
    if not dtypes.can_cast(source, target):
        raise RuntimeError(f"result type {_scalar_name(source)} can't be cast to the desired "
                           f"output type {_scalar_name(target)}")


def check_same_dtype(op, out, dtype):
    """RuntimeError unless ``out`` has the type of the result: some ops do not convert."""
    if out.dtype is not dtype:
        raise RuntimeError(f"{op}(): Expected out tensor to have dtype {dtype}, but got "
                           f"{out.dtype} instead")


def check_writable(op, tensor):
    """RuntimeError if two elements of ``tensor`` share memory: writing to it has no meaning."""
    for size, stride in zip(tensor._shape, tensor._strides, strict=True):
        if stride == 0 and size > 1:
            raise RuntimeError(
                "unsupported operation: more than one element of the written-to tensor refers to a "
                "single memory location. Please clone() the tensor before performing the operation "
                f"({op}).")


def is_dense(tensor):
    """Whether the elements fill a range of memory, in any order, each once."""
    expected = 1
    for stride, size in sorted(zip(tensor._strides, tensor._shape, strict=True)):
        if size != 1:
            if stride != expected:
                return False
            expected *= size
    return True


def overlap_error(op):
    """The error for outputs that overlap inputs in part."""
    return RuntimeError("unsupported operation: some elements of the input tensor and the "
                        "written-to tensor refer to a single memory location. Please clone() the "
                        f"tensor before performing the operation ({op}).")


def _span(tensor):
    last = sum((size - 1) * stride for size, stride in
               zip(tensor._shape, tensor._strides, strict=True))
    return tensor._address, tensor._address + (last + 1) * tensor.dtype.itemsize


def check_no_partial_overlap(op, out, inputs):
    """RuntimeError if ``out`` shares some memory with an input without being the same view."""
    if not base.numel(out):
        return
    low, high = _span(out)
    for tensor in inputs:
        if not isinstance(tensor, TensorBase) or not base.numel(tensor):
            continue
        if tensor._storage is not out._storage:
            continue
        same = (tensor._address == out._address and tensor._strides == out._strides
                and tensor._shape == out._shape)
        start, end = _span(tensor)
        if not same and low < end and start < high and _really_overlaps(out, tensor):
            raise overlap_error(op)


def check_apart(op, out, inputs):
    """RuntimeError if ``out`` shares any memory with an input."""
    if base.numel(out):
        low, high = _span(out)
        for tensor in inputs:
            if isinstance(tensor, TensorBase) and base.numel(tensor):
                start, end = _span(tensor)
                if low < end and start < high and tensor._storage is out._storage:
                    raise overlap_error(op)


def _really_overlaps(a, b):
    """False only for views that interleave without touching (odd and even elements)."""
    if a._strides == b._strides and a._strides:
        step = min((s for s in a._strides if s), default=1)
        return (a._address - b._address) // a.dtype.itemsize % step == 0
    return True


def write_key(arguments, out):
    """What the checks of an in-place or ``out=`` call, and its plan, depend on; None where it
    depends on more: on where in one storage the operands lie, or on a device."""
    storage = out._storage
    if storage.device is not CPU:
        return None
    key = [out.dtype, out._shape, out._strides]
    for a in arguments:
        if not isinstance(a, TensorBase):
            key.append(type(a))
            continue
        if a._storage is not storage:
            if a._storage.device is not CPU:
                return None
            key += (a.dtype, a._shape, a._strides)
        elif a is out or (a._address == out._address and a._strides == out._strides
                          and a._shape == out._shape):
            key += ("out", a.dtype)
        else:
            return None
    return tuple(key)


def copy_into(op, result, out):
    """Write ``result`` into ``out``, which has its shape already."""
    if result is not out:
        ops.copy_(out, result)


def prepare_out(op, out, shape, dtype, device):
    """Resize ``out`` to ``shape`` if it must be, warning when it held something, as torch does."""
    if not isinstance(out, TensorBase):
        raise TypeError(f"{op}(): argument 'out' must be Tensor, not {type(out).__name__}")
    check_castable(op, dtype, out.dtype)
    if out._storage.device is not device:
        raise RuntimeError(f"{op}: Expected out tensor to be on device {device}, but got "
                           f"{out._storage.device} instead")
    check_writable(op, out)
    if tuple(out._shape) != tuple(shape):
        if base.numel(out):
            warnings.warn(
                "An output with one or more elements was resized since it had shape "
                f"{list(out._shape)}, which does not match the required output shape "
                f"{list(shape)}. This behavior is deprecated, and in a future PyTorch release "
                "outputs will not be resized unless they have zero elements.", stacklevel=4)
        out.resize_(shape)


def write_out(op, out, result, inputs=(), exact=False):
    """The ``out=`` form of what computes a fresh ``result``: resize, copy, return ``out``.

    RuntimeError if its type cannot hold the result, or with ``exact`` is another one; if ``out``
    overlaps itself or lies in the storage of one of ``inputs``; if a gradient is wanted.
    """
    if isinstance(out, TensorBase):
        if any(t is not None and base.numel(t) and t._storage is out._storage for t in inputs):
            raise overlap_error(op)
        if result._requires_grad or out._requires_grad:
            raise RuntimeError(f"{op}(): functions with out=... arguments don't support automatic "
                               "differentiation, but one of the arguments requires grad.")
        if exact:
            check_same_dtype(op, out, result.dtype)
    prepare_out(op, out, result._shape, result.dtype, result._storage.device)
    copy_into(op, result, out)
    return out
