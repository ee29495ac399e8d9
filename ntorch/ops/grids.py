"""Tensors as kernels of indexing, sorting and scans see them: (outer, dim, inner), raw words."""
import ctypes

from ..kernels import indexing as kernels
from ..runtime import dtypes, recording
from ..runtime.device import META
from .base import (
    empty,
    is_contiguous,
    make,
    memory_of,
    numel,
    product,
    reshaped,
    wrap_dim,
)
from .outputs import write_out
from .registry import Entry, ops, register
from .structured import as_dtype, contiguous, run

GRAIN = 16384       # elements in one task
_RAW = {1: dtypes.uint8, 2: dtypes.int16, 4: dtypes.int32, 8: dtypes.int64, 16: dtypes.complex128}


def raw(tensor):
    """``tensor`` as words of its element size: kernels that only move elements take these."""
    word = _RAW[tensor.dtype.itemsize]
    return make(tensor._storage, word, tensor._shape, tensor._strides, tensor._offset)


def sides(shape, d):
    """(outer, n, inner) sizes around dimension ``d``; a zero-dim shape is (1, 1, 1)."""
    if not shape:
        return 1, 1, 1
    return product(shape[:d]), shape[d], product(shape[d + 1:])


def grid(tensor, d):
    """The contiguous ``tensor`` as an (outer, n, inner) array around dimension ``d``."""
    return reshaped(tensor, sides(tensor._shape, d))


def flat(tensor):
    """The contiguous ``tensor`` as one dimension."""
    return reshaped(tensor, (numel(tensor),))


def rows_grain(inner):
    """How many items of ``inner`` elements make one task."""
    return max(1, GRAIN // max(inner, 1))


def lanes(outer, inner):
    """Items of a writing kernel: see ``kernels.indexing``."""
    return outer * -(-inner // kernels.BLOCK)


def int64(index):
    """An index tensor as contiguous int64."""
    return contiguous(as_dtype(index, dtypes.int64))


def first_outside(index, low, high):
    """The first element of a contiguous int64 tensor outside [low, high), or None."""
    place = read_int(_outside(index, low, high)) if _has_data(index) else -1
    return None if place < 0 else read_int(index, place)


def _has_data(index):
    return index._storage.device is not META and numel(index) > 0


def _outside(index, low, high):
    """The place of that first element, or -1, as an int64 tensor."""
    found = empty((1,), dtypes.int64)
    run(kernels.find_outside, [("C", flat(index)), ("i", low), ("i", high), ("C", found)], 1, 1)
    return found


def read_int(tensor, place=0):
    """An element of a contiguous int64 tensor as a Python int."""
    return ctypes.c_int64.from_address(memory_of(tensor) + 8 * place).value


def demand(name, found, fail, *extra):
    """Call ``fail(value, *extra)``, which raises, unless the first int64 of ``found`` is negative.

    While a program is recorded that is looked at when the program runs, and ``fail`` gets what the
    tensors ``extra`` hold then.
    """
    recorder = recording.current() if recording.active else None
    if recorder is not None:
        recorder.check(name, found, fail, extra)
        return
    value = read_int(found)
    if value >= 0:
        fail(value, *extra)


def need_true(condition, error):
    """Raise ``error`` unless the zero-dim bool tensor is true."""
    def fail(_):
        raise error
    if not recording.active:
        if not condition.item():
            raise error
        return
    demand("values", ops.sub(ops.to_dtype(ops.logical_not(condition), dtypes.int64), 1), fail)


def check_inside(index, low, high, error):
    """Raise ``error(value)`` for the first element of a contiguous int64 tensor outside
    [low, high)."""
    def fail(place, index):
        raise error(read_int(index, place))
    if _has_data(index):
        demand("index", _outside(index, low, high), fail, index)


def check_index(index, size, error=RuntimeError, dim=0, low=0, op=""):
    """Raise ``error`` in torch's words if an index is outside [low, size)."""
    check_inside(index, low, size, lambda bad: error(
        f"{op}index {bad} is out of bounds for dimension {dim} with size {size}"))


class UpdatingEntry(Entry):
    """An entry whose result is its first argument with some elements written.

    ``prepare(*arguments)`` checks everything and returns ``write(target)``, which updates a
    contiguous tensor that holds the first argument's values. So the in-place and ``out=`` forms
    write where they should, without a temporary, and bad arguments leave nothing half-written.
    """

    def __init__(self, signature, prepare, **flags):
        flags.setdefault("inplace", True)
        flags.setdefault("out", True)
        super().__init__(signature, self._execute, **flags)
        self.prepare = prepare
        self.doc = (prepare.__doc__ or "").strip()
        self.native_out = True

    def result_types(self, arguments):
        """The result has the type of the first argument."""
        return arguments[0].dtype, arguments[0].dtype

    def result_shape(self, arguments):
        """The result has the shape of the first argument."""
        return arguments[0]._shape

    def _execute(self, *arguments, out=None):
        source = arguments[0]
        write = self.prepare(*arguments)
        if out is None:
            out = empty(source._shape, source.dtype, source._storage.device)
        if out is not source:
            ops.copy_(out, source)
        if is_contiguous(out._shape, out._strides):
            write(out)
        else:
            copy = contiguous(out)
            write(copy)
            ops.copy_(out, copy)
        return out


def updating(signature, **flags):
    """Register a ``prepare`` function as an updating entry."""
    def attach(prepare):
        return register(UpdatingEntry(signature, prepare, **flags))
    return attach


def within(target, shape, d, write):
    """Call ``write`` on the part of ``target`` whose sizes, but for dimension ``d``, are
    ``shape``'s."""
    part = target
    for k, size in enumerate(shape):
        if k != d and size != part._shape[k]:
            part = ops.slice(part, k, 0, size)
    if part is target:
        write(target)
        return
    copy = contiguous(part)
    write(copy)
    ops.copy_(part, copy)


def narrowed(tensor, shape, keep=None):
    """``tensor`` cut to ``shape``, but for dimension ``keep``, and contiguous."""
    for k, size in enumerate(shape):
        if k != keep and size != tensor._shape[k]:
            tensor = ops.slice(tensor, k, 0, size)
    return contiguous(tensor)


def calculable(tensor):
    """``tensor`` in a type that kernels add in: float32 for half types, uint8 for bool."""
    if tensor.dtype is dtypes.bool_:
        return make(tensor._storage, dtypes.uint8, tensor._shape, tensor._strides, tensor._offset)
    return as_dtype(tensor, dtypes.float32) if tensor.dtype.is_half else tensor


def calculate(target, write):
    """Run ``write`` on ``target`` in a type that kernels calculate in, then convert back."""
    work = calculable(target)
    write(work)
    if target.dtype.is_half:
        ops.copy_(target, work)


__all__ = ["UpdatingEntry", "calculable", "calculate", "check_index", "check_inside", "demand",
           "first_outside", "flat", "grid", "int64", "lanes", "narrowed", "need_true", "raw",
           "read_int", "reshaped", "rows_grain", "sides", "updating", "within", "wrap_dim",
           "write_out"]
