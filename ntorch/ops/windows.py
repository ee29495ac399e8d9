"""Shape rules of pooling windows and what else host functions with range kernels share."""
import numpy as np

from ..kernels import embedding as index_kernels
from ..kernels.indexing import find_outside
from ..runtime import dtypes, recording
from ..runtime.device import META
from ..runtime.storage import Storage
from .base import empty, integer, make, product, reshaped
from .structured import as_dtype, compute_dtype, contiguous, run

WORDS = {1: "one int", 2: "two ints", 3: "three ints"}
GRAIN = 1 << 15         # elements worth one task: some ten microseconds


def per_dimension(op, name, value, n):
    """``value``, an int or a sequence of 1 or ``n`` ints, as ``n`` ints; RuntimeError otherwise."""
    values = tuple(value) if isinstance(value, (tuple, list)) else (value,)
    if len(values) not in (1, n):
        raise RuntimeError(f"{op}: {name} must either be a single int, or a tuple of {WORDS[n]}, "
                           f"got {value}")
    values = tuple(integer(v, op, name) for v in values)
    return values * n if len(values) == 1 else values


def check_input(op, shape, n):
    """RuntimeError unless ``shape`` is ([N], C, *spatial) with nothing but N empty."""
    if len(shape) not in (n + 1, n + 2) or 0 in shape[len(shape) - n - 1:]:
        raise RuntimeError(f"{op}: Expected {n + 1}D or {n + 2}D (batch mode) tensor with optional "
                           f"0 dim batch size for input, but got: {list(shape)}")


def output_length(size, kernel, stride, padding, dilation, ceil_mode):
    """Number of windows along one dimension; with ``ceil_mode`` the last may stick out, but it
    starts inside the input or the padding on the left."""
    room = size + 2 * padding - dilation * (kernel - 1) - 1
    count = (room + (stride - 1 if ceil_mode else 0)) // stride + 1
    if ceil_mode and (count - 1) * stride >= size + padding:
        count -= 1
    return count


def pooled_shape(op, shape, kernel, stride, padding, dilation, ceil_mode):
    """Output shape of a pooling; RuntimeError in torch's words for what has none."""
    n = len(kernel)
    for name, values in (("kernel size", kernel), ("stride", stride), ("dilation", dilation)):
        if min(values) <= 0:
            raise RuntimeError(f"{op}: {name} must be greater than zero, but got {list(values)}")
    for k, p, d in zip(kernel, padding, dilation, strict=True):
        if p < 0:
            raise RuntimeError(f"{op}: pad must be non-negative, but got pad: {p}")
        if p > ((k - 1) * d + 1) // 2:
            raise RuntimeError(f"{op}: pad should be at most half of effective kernel size, but "
                               f"got pad={p}, kernel_size={k} and dilation={d}")
    check_input(op, shape, n)
    sizes = tuple(output_length(*each, ceil_mode)
                  for each in zip(shape[-n:], kernel, stride, padding, dilation, strict=True))
    if min(sizes) < 1:
        raise RuntimeError(f"{op}: Given input size: {list(shape[-n - 1:])}. Calculated output "
                           f"size: {[shape[-n - 1], *sizes]}. Output size is too small")
    return (*shape[:-n], *sizes)


def planes(tensor, n):
    """A row-major tensor as (planes, depth, height, width); ``n`` dimensions are spatial."""
    shape = tensor._shape
    lead = product(shape[:-n])
    return reshaped(tensor, (lead, *(1,) * (3 - n), *shape[-n:]))


def flat_planes(tensor, n):
    """A row-major tensor as (planes, elements of a plane)."""
    shape = tensor._shape
    return reshaped(tensor, (product(shape[:-n]), product(shape[-n:])))


def filled(values, fill):
    """``values`` with ``fill`` before them, three in all: depth, height, width."""
    return (fill,) * (3 - len(values)) + tuple(values)


def computed(tensor):
    """The tensor row-major and in the type that kernels calculate in."""
    return contiguous(as_dtype(tensor, compute_dtype(tensor)))


def parameter(value, like):
    """An optional parameter as a flat row in the type of ``like``; no elements for None."""
    if value is None:
        return empty((0,), like.dtype, like._storage.device)
    value = as_dtype(computed(value), like.dtype)
    return reshaped(value, (product(value._shape),))


def grain(elements):
    """How many items of ``elements`` elements make one task."""
    return max(1, GRAIN // max(1, elements))


def check_real(op, tensor, integers=True):
    """NotImplementedError for bool and complex tensors, and integers unless allowed."""
    if tensor.dtype.category not in (dtypes.INT, dtypes.FLOAT) or (
            tensor.dtype.category == dtypes.INT and not integers):
        raise NotImplementedError(f"\"{op}\" not implemented for '{tensor.dtype}'")


def flags(count):
    """Zeroed int64 words that a kernel may set: as a tensor, and as the NumPy array under it."""
    words = np.zeros(count, np.int64)
    address = words.__array_interface__["data"][0]
    storage = Storage.borrow(address, words.nbytes, words)
    return make(storage, dtypes.int64, (count,), (1,), 0), words


def check_when_run(row, limit, fail):
    """Have the program that is being recorded call ``fail(row)``, which raises, when it finds an
    index of a row outside [0, limit)."""
    found = empty((1,), dtypes.int64)
    run(find_outside, [("C", row), ("i", 0), ("i", limit), ("C", found)], n=1, grain=1)
    recording.current().check("index", found, lambda _, row: fail(row), (row,))


def check_indices(indices, limit, message):
    """Raise ``message(index)`` if an index of a row-major integer tensor is not in [0, limit)."""
    count = product(indices._shape)
    if indices._storage.device is META or not count:
        return
    row = reshaped(indices, (count,))
    if recording.active and recording.current() is not None:
        check_when_run(row, limit, lambda row: check_indices(row, limit, message))
        return
    bounds, words = flags(2)
    run(index_kernels.index_bounds, [("C", row), ("C", bounds)], n=1, grain=1)
    low, high = words.tolist()
    if low < 0 or high >= limit:
        raise message(low if low < 0 else high)
