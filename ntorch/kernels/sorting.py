"""Sorting and selection along the last dimension of (rows, n) arrays.

Values are mapped to integers that sort in the same order: NaN above everything, -0 and 0 equal. So
one integer sort serves every dtype, and a descending sort is an ascending one of the inverted keys
(which keeps it stable). Ranges are over rows; scratch arrays have the shape of the keys.
"""
import numpy as np

from .stubs import bits_f32_to_i32, bits_f64_to_i64, select

INSERTION = 24          # runs up to this length are sorted by insertion
RADIX_FROM = 512        # rows from this length on are sorted by radix


def keys_f32(source, keys, flip, begin, end):
    """Keys of float32 values: their bits as a signed integer, NaN largest, negatives reversed."""
    values, target = source[begin:end], keys[begin:end]
    for i in range(len(target)):
        x = values[i]
        bits = bits_f32_to_i32(x)
        key = select(bits < np.int32(0), np.int32(bits ^ np.int32(0x7FFFFFFF)), bits)
        key = select(x == 0.0, np.int32(0), key)
        key = select(x != x, np.int32(0x7FFFFFFF), key)
        target[i] = np.int32(key ^ np.int32(flip))


def keys_f64(source, keys, flip, begin, end):
    """Keys of float64 values; see ``keys_f32``."""
    values, target = source[begin:end], keys[begin:end]
    for i in range(len(target)):
        x = values[i]
        bits = bits_f64_to_i64(x)
        key = select(bits < 0, bits ^ np.int64(0x7FFFFFFFFFFFFFFF), bits)
        key = select(x == 0.0, np.int64(0), key)
        key = select(x != x, np.int64(0x7FFFFFFFFFFFFFFF), key)
        target[i] = key ^ flip


def keys_int(source, keys, flip, begin, end):
    """Integers are their own keys; ``flip`` is -1 to invert the order, else 0."""
    values, target = source[begin:end], keys[begin:end]
    for i in range(len(target)):
        target[i] = values[i] ^ flip


def _insertion(keys, places, first, last):
    for i in range(first + 1, last):
        key, place = keys[i], places[i]
        j = i
        while j > first and keys[j - 1] > key:
            keys[j], places[j] = keys[j - 1], places[j - 1]
            j -= 1
        keys[j], places[j] = key, place


def _merge(keys, places, out_keys, out_places, first, middle, last):
    i, j = first, middle
    for k in range(first, last):
        if j >= last or (i < middle and keys[i] <= keys[j]):
            out_keys[k], out_places[k] = keys[i], places[i]
            i += 1
        else:
            out_keys[k], out_places[k] = keys[j], places[j]
            j += 1


def _merge_sort(keys, places, other_keys, other_places):
    """Stable; the result is in ``keys`` and ``places``."""
    n = len(keys)
    for first in range(0, n, INSERTION):
        _insertion(keys, places, first, min(first + INSERTION, n))
    width = INSERTION
    while width < n:
        for first in range(0, n, 2 * width):
            _merge(keys, places, other_keys, other_places, first, min(first + width, n),
                   min(first + 2 * width, n))
        for i in range(n):
            keys[i], places[i] = other_keys[i], other_places[i]
        width *= 2


def _radix_pass(keys, places, out_keys, out_places, counts, shift, top):
    """One stable pass on 8 bits."""
    n = len(keys)
    for d in range(256):
        counts[d] = 0
    for i in range(n):
        counts[((keys[i] >> shift) & 255) ^ top] += 1
    total = 0
    for d in range(256):
        counts[d], total = total, total + counts[d]
    for i in range(n):
        digit = ((keys[i] >> shift) & 255) ^ top
        at = counts[digit]
        counts[digit] = at + 1
        out_keys[at], out_places[at] = keys[i], places[i]


def _radix_sort(keys, places, other_keys, other_places, counts, bits):
    """Stable, least digit first; the sign byte is offset by 128. Result as in ``_merge_sort``.

    Digits in which no two keys differ, as the upper ones of small integers, need no pass.
    """
    swapped, first, varying = False, keys[0], keys[0] ^ keys[0]
    for i in range(len(keys)):
        varying |= keys[i] ^ first
    for shift in range(0, bits, 8):
        if (varying >> shift) & 255 == 0:
            continue
        top = 128 if shift == bits - 8 else 0
        if swapped:
            _radix_pass(other_keys, other_places, keys, places, counts, shift, top)
        else:
            _radix_pass(keys, places, other_keys, other_places, counts, shift, top)
        swapped = not swapped
    if swapped:
        for i in range(len(keys)):
            keys[i], places[i] = other_keys[i], other_places[i]


def sort_rows(keys, places, other_keys, other_places, counts, bits, begin, end):
    """Sort each row of ``keys`` stably; ``places`` gets where each came from.

    ``counts`` is (rows, 256) scratch; ``bits`` the width of a key.
    """
    n = keys.shape[1]
    for row in range(begin, end):
        for i in range(n):
            places[row, i] = i
        if n >= RADIX_FROM:
            _radix_sort(keys[row], places[row], other_keys[row], other_places[row], counts[row],
                        bits)
        else:
            _merge_sort(keys[row], places[row], other_keys[row], other_places[row])


def _before(key, place, pivot_key, pivot_place):
    return key < pivot_key or (key == pivot_key and place < pivot_place)


def _swap(keys, places, i, j):
    keys[i], keys[j] = keys[j], keys[i]
    places[i], places[j] = places[j], places[i]


def _select(keys, places, k):
    """Reorder so that the ``k`` smallest (key, place) pairs come first (quickselect)."""
    low, high = 0, len(keys) - 1
    while low < high:
        middle = (low + high) // 2
        if _before(keys[middle], places[middle], keys[low], places[low]):
            _swap(keys, places, low, middle)
        if _before(keys[high], places[high], keys[low], places[low]):
            _swap(keys, places, low, high)
        if _before(keys[high], places[high], keys[middle], places[middle]):
            _swap(keys, places, middle, high)
        key, place = keys[middle], places[middle]
        i, j = low, high
        while i <= j:
            while _before(keys[i], places[i], key, place):
                i += 1
            while _before(key, place, keys[j], places[j]):
                j -= 1
            if i <= j:
                _swap(keys, places, i, j)
                i += 1
                j -= 1
        if k - 1 <= j:
            high = j
        elif k - 1 >= i:
            low = i
        else:
            return


def _sink(keys, places, count):
    """Restore the order of a heap whose root was replaced: the greatest (key, place) on top."""
    at, key, place = 0, keys[0], places[0]
    while True:
        child = 2 * at + 1
        if child >= count:
            break
        if child + 1 < count and _before(keys[child], places[child], keys[child + 1],
                                         places[child + 1]):
            child += 1
        if not _before(key, place, keys[child], places[child]):
            break
        keys[at], places[at] = keys[child], places[child]
        at = child
    keys[at], places[at] = key, place


def _smallest(keys, places, heap_keys, heap_places, k):
    """Put the ``k`` smallest pairs first by one pass with a heap: for ``k`` much below the size."""
    for i in range(k):
        heap_keys[i], heap_places[i] = keys[i], i
    _merge_sort(heap_keys, heap_places, keys[:k], places[:k])
    for i in range(k // 2):
        _swap(heap_keys, heap_places, i, k - 1 - i)         # descending: a heap
    for i in range(k, len(keys)):
        if keys[i] < heap_keys[0]:
            heap_keys[0], heap_places[0] = keys[i], i
            _sink(heap_keys, heap_places, k)
    for i in range(k):
        keys[i], places[i] = heap_keys[i], heap_places[i]


def top_rows(keys, places, other_keys, other_places, k, begin, end):
    """The ``k`` smallest keys of each row, sorted, come first; equal keys by place."""
    n = keys.shape[1]
    for row in range(begin, end):
        line, origin, spare, spare_origin = (keys[row], places[row], other_keys[row],
                                             other_places[row])
        if 16 * k <= n:
            _smallest(line, origin, spare, spare_origin, k)
        else:
            for i in range(n):
                origin[i] = i
            if k < n:
                _select(line, origin, k)
        if k < n:
            # by place first: the stable sort by key then leaves equal keys in that order
            _merge_sort(origin[:k], line[:k], spare_origin, spare)
        _merge_sort(line[:k], origin[:k], spare, spare_origin)


def kth_rows(keys, places, k, out, begin, end):
    """``out[row]`` = where the ``k``-th smallest key of the row is (1 is the smallest)."""
    for row in range(begin, end):
        n = keys.shape[1]
        for i in range(n):
            places[row, i] = i
        line, origin = keys[row], places[row]
        _select(line, origin, k)
        best = 0
        for i in range(1, k):
            if _before(line[best], origin[best], line[i], origin[i]):
                best = i
        out[row] = origin[best]


def mode_rows(keys, places, out, begin, end):
    """From sorted keys: ``out[row]`` = where the last of the longest run (smallest key) was."""
    n = keys.shape[1]
    for row in range(begin, end):
        best, start = 0, 0
        for i in range(n):
            if keys[row, i] != keys[row, start]:
                start = i
            if i - start + 1 > best:
                best = i - start + 1
                out[row] = places[row, i]


def search_sorted(edges, values, out, right, shared, order, reorder, begin, end):
    """``out[row, i]`` = how many ``edges`` of the row lie below ``values[row, i]``.

    With ``right`` also those equal to it. NaN lies above everything. ``shared``: one row of edges
    serves all; ``reorder``: ``order`` sorts the edges.
    """
    n = edges.shape[1]
    for row in range(begin, end):
        line = 0 if shared else row
        for i in range(values.shape[1]):
            x, low, high = values[row, i], 0, n
            while low < high:
                middle = (low + high) // 2
                edge = edges[line, order[line, middle]] if reorder else edges[line, middle]
                if right:
                    below = not (edge > x or (edge != edge and x == x))
                else:
                    below = edge < x or (x != x and edge == edge)
                if below:
                    low = middle + 1
                else:
                    high = middle
            out[row, i] = low
