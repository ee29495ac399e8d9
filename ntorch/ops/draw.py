"""Filling tensors with random numbers: which words are drawn, in which order, and what they become.

The order of draws is torch's: elements in memory order (largest stride first), one 32-bit word for
a float32 uniform, two for a float64 one; normals by blocks of 16 where the tensor is contiguous and
has 16 elements or more, else by float64 pairs with the second of a pair kept for the next scalar
draw.
"""
import numpy as np

from ..kernels import random as kernels
from ..runtime import dtypes, recording
from ..runtime.device import META
from ..runtime.storage import array_view
from .base import contiguous_strides, empty, is_contiguous, make, numel, product, reshaped
from .registry import ops
from .structured import run

CHUNK = 1 << 18         # words drawn at a time: bounds the scratch memory
GRAIN = 1 << 14         # elements that make one parallel task


def _array(vector):
    """A flat tensor as a NumPy array over the same memory."""
    size = vector.dtype.itemsize
    return array_view(vector._storage, vector._address, vector._shape, (size,), vector.dtype.numpy)


def flat(tensor):
    """The contiguous ``tensor`` as one dimension over the same memory."""
    return make(tensor._storage, tensor.dtype, (numel(tensor),), (1,), tensor._offset)


def part(vector, start, count):
    """``count`` elements of a flat tensor from ``start`` on."""
    return make(vector._storage, vector.dtype, (count,), (1,), vector._offset + start)


def memory_order(tensor):
    """``tensor`` with its dimensions permuted so that the largest stride comes first."""
    return memory_order_like(tensor, tensor)


def memory_order_like(tensor, like):
    """``tensor`` permuted as ``memory_order`` permutes ``like``, which has its shape."""
    order = sorted(range(len(like._shape)), key=lambda d: -like._strides[d])
    return make(tensor._storage, tensor.dtype, [tensor._shape[d] for d in order],
                tuple(tensor._strides[d] for d in order), tensor._offset)


def fill(tensor, dtype, draw):
    """Write ``draw(vector)`` to ``tensor``: ``vector`` is a flat one of ``dtype``, drawn in order.

    A contiguous tensor of that dtype is written in place; others get a converted copy. While a
    program is recorded, so does every tensor: see ``drawn``.
    """
    n = numel(tensor)
    if tensor._storage.device is META or n == 0:
        return tensor
    ordered = memory_order(tensor)
    direct = (tensor.dtype is dtype and is_contiguous(ordered._shape, ordered._strides)
              and _recorder() is None)
    vector = drawn(flat(ordered) if direct else empty((n,), dtype), draw)
    if not direct:
        ops.copy_(ordered, reshaped(vector, ordered._shape))
    return tensor


def _recorder():
    return recording.current() if recording.active else None


def drawn(vector, draw):
    """``draw(vector)``, which fills a flat tensor that is nobody else's; returns the vector.

    While a program is recorded the drawing is left to its runs, so that each has fresh numbers,
    drawn in the order in which the program was written.
    """
    recorder = _recorder()
    if recorder is None:
        draw(vector)
    else:
        recorder.host_fill("random", vector, draw)
    return vector


def _chunks(vector, words_each, generator):
    """Pairs of (words, the part of ``vector`` they are for), in order."""
    n, size = vector._shape[0], CHUNK // words_each
    scratch = empty((min(n, size) * words_each,), dtypes.int32)
    for start in range(0, n, size):
        count = min(size, n - start)
        yield generator.words(part(scratch, 0, count * words_each)), part(vector, start, count)


def limit_of(bound, dtype):
    """The least number of the compute type that rounds to ``bound`` in ``dtype`` or above.

    Uniform draws that reach it are replaced by the lower bound, so that ``bound`` is never drawn.
    """
    if not dtype.is_half:
        return dtype.numpy.type(bound)
    bits, least = (11, 2.0 ** -24) if dtype is dtypes.float16 else (8, 2.0 ** -133)
    top = np.float64(np.float32(bound))
    step = max(np.ldexp(1.0, np.frexp(top)[1] - bits), least)
    rounded = np.round(top / step) * step           # numpy rounds ties to even, as a store does
    power_of_two = rounded > 0 and np.frexp(rounded)[0] == 0.5
    below = max(step / 2, least) if power_of_two else step
    middle = np.float32(rounded - below / 2)
    even = np.round(rounded / step) % 2 == 0
    return middle if even else np.nextafter(middle, np.float32(np.inf))


def uniform(vector, low, high, generator, limit=None):
    """Fill a flat float32 or float64 vector with numbers uniform in [low, high)."""
    kind = vector.dtype.numpy.type
    low, high = kind(low), kind(high)
    limit = high if limit is None else limit
    double = vector.dtype is dtypes.float64
    kernel = kernels.uniform53 if double else kernels.uniform24
    for words, target in _chunks(vector, 2 if double else 1, generator):
        run(kernel, [("C", words), ("C", target), ("T", low), ("T", high - low), ("T", limit)],
            target._shape[0], GRAIN, T=vector.dtype.code)


def normal_blocks(vector, mean, std, generator, half=False):
    """Fill a flat vector of at least 16 elements with normals, by blocks of 16.

    ``half``: the numbers are for a half type, whose incomplete block torch does not draw first.
    """
    n = vector._shape[0]
    body = part(vector, 0, n // 16 * 16)
    uniform(body if half else vector, 0, 1, generator)
    _box_muller(body, mean, std)
    if n % 16:                      # the last 16 are drawn anew, overlapping the last whole block
        tail = part(vector, n - 16, 16)
        uniform(tail, 0, 1, generator)
        _box_muller(tail, mean, std)


def _box_muller(vector, mean, std):
    arguments = [("C", vector), ("T", mean), ("T", std)]
    blocks = vector._shape[0] // 16
    if vector.dtype is dtypes.float64:
        run(kernels.normal_blocks64, arguments, blocks, GRAIN // 64, T="f8")
    else:
        run(kernels.normal_blocks32, [*arguments, ("i", 8)], blocks, GRAIN // 16)


def standard_pairs(vector, generator):
    """Fill a flat float64 vector with standard normals, pair by pair, using the cached one
    first."""
    n = vector._shape[0]
    cached = generator.take_normal()
    first = 0 if cached is None else 1
    even = (n - first + 1) // 2 * 2
    pairs = empty((even,), dtypes.float64)
    uniform(pairs, 0, 1, generator)
    run(kernels.normal_pairs, [("C", pairs)], even // 2, GRAIN // 8, T="f8")
    source, target = _array(pairs), _array(vector)
    target[:first] = cached
    target[first:] = source[:n - first]
    if even > n - first:
        generator.put_normal(float(source[-1]))


def normal_scalars(vector, mean, std, generator):
    """``mean + std * z`` over ``standard_pairs``."""
    standard_pairs(vector, generator)
    run(kernels.affine, [("C", vector), ("T", std), ("T", mean)], vector._shape[0], GRAIN, T="f8")


def transformed(kernel, *parameters):
    """A draw that fills float64 uniforms in [0, 1) and maps them by ``kernel`` in place."""
    def draw(vector, generator):
        uniform(vector, 0, 1, generator)
        run(kernel, [("C", vector), *(("T", value) for value in parameters)], vector._shape[0],
            GRAIN // 8, T="f8")
    return draw


def integers(vector, low, span, wide, generator):
    """Fill a flat int64 vector with ``low + word % span``; ``wide`` words have 64 bits."""
    kernel = kernels.integers64 if wide else kernels.integers32
    for words, target in _chunks(vector, 2 if wide else 1, generator):
        run(kernel, [("C", words), ("C", target), ("i", _signed(span)), ("i", _signed(low))],
            target._shape[0], GRAIN)


def _signed(value):
    """An unsigned 64-bit value as the int64 with the same bits."""
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >> 63 else value


def permutation(vector, generator):
    """Fill a flat int64 vector with a random order of 0 .. n-1."""
    n = vector._shape[0]
    words = generator.words(empty((max(n - 1, 0),), dtypes.int32))
    run(kernels.permute, [("C", words), ("C", vector)], 1, 1)


def keep_mask(shape, keep, generator):
    """A bool tensor, true with probability ``keep``: Philox, keyed by the generator's next word.

    A recorded program asks for the key at every run.
    """
    words, mask = _mask_memory(shape)
    recorder = _recorder()

    def word():
        return _signed(generator.random64())
    key = word() if recorder is None else recorder.dynamic(word)
    run(kernels.keep_mask, [("C", words), ("i", round(keep * 2 ** 32)), ("i", key), ("i", 0)],
        words._shape[0], GRAIN // 4)
    return mask


def _mask_memory(shape):
    """``(words, mask)``: a row of int32 and, in its memory, bools of ``shape``."""
    words = empty(((product(shape) + 3) // 4,), dtypes.int32)
    return words, make(words._storage, dtypes.bool_, shape, contiguous_strides(shape), 0)


def drop_out(x, keep, scale, generator):
    """``(x mask scale, mask)`` for a contiguous ``x``, with the mask of ``keep_mask``."""
    words, mask = _mask_memory(x._shape)
    out = empty(x._shape, x.dtype)
    run(kernels.drop_out, [
        ("C", words), ("C", flat(make(words._storage, dtypes.uint8, x._shape, x._strides, 0))),
        ("C", flat(x)), ("C", flat(out)), ("i", round(keep * 2 ** 32)),
        ("i", _signed(generator.random64())), ("i", 0), ("T", scale)], words._shape[0], GRAIN // 4)
    return out, mask
