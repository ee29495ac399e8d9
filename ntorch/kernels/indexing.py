"""Moving elements by index: gather, scatter, rows by index, positions of true elements.

Tensors come as (outer, dim, inner) arrays around the indexed dimension; kernels that only move
elements are built per element size, not per dtype. Indices are int64 and have been checked by
``find_outside`` before anything is written. Kernels that write by index take as range the lanes
(outer, block of inner), so that two tasks never write one element and order within a lane is kept.
"""
import numpy as np

from .stubs import select

BLOCK = 64      # inner elements in one lane of a writing kernel


def find_outside(index, low, high, found, begin, end):
    """``found[0]`` = position of the first index outside [low, high), or -1."""
    n = len(index)
    found[0] = -1
    start = 0
    while start < n:        # count first, by blocks: that loop vectorises, the search does not
        stop = min(start + 1024, n)
        part = index[start:stop]
        outside = 0
        for i in range(len(part)):
            outside += (part[i] < low) | (part[i] >= high)
        if outside:
            for i in range(len(part)):
                if part[i] < low or part[i] >= high:
                    found[0] = start + i
                    return
        start = stop


def gather(source, index, out, begin, end):
    """``out[o, j, t] = source[o, index[o, j, t], t]``; range over (outer, j)."""
    count, inner = index.shape[1], index.shape[2]
    o, j = begin // count, begin % count
    for _ in range(begin, end):
        rows, places, target = source[o], index[o, j], out[o, j]
        for t in range(inner):
            target[t] = rows[np.uint64(places[t]), t]
        j += 1
        if j == count:
            o, j = o + 1, 0


def select_rows(source, index, out, begin, end):
    """``out[o, j, :] = source[o, index[j], :]``; range over (outer, j)."""
    count, inner = len(index), source.shape[2]
    o, j = begin // count, begin % count
    for _ in range(begin, end):
        row, target = source[o, index[j]], out[o, j]
        for t in range(inner):
            target[t] = row[t]
        j += 1
        if j == count:
            o, j = o + 1, 0


def gather_last(source, index, out, begin, end):
    """``gather`` where inner is 1; range over outer."""
    for o in range(begin, end):
        row, places, target = source[o, :, 0], index[o, :, 0], out[o, :, 0]
        for j in range(len(places)):
            target[j] = row[np.uint64(places[j])]       # unsigned: no test for a negative index


def select_last(source, index, out, begin, end):
    """``select_rows`` where inner is 1; range over outer."""
    for o in range(begin, end):
        row, target = source[o, :, 0], out[o, :, 0]
        for j in range(len(index)):
            target[j] = row[np.uint64(index[j])]


def _lane(item, inner):
    """``(outer, first, last)`` of a lane."""
    blocks = (inner + BLOCK - 1) // BLOCK
    first = item % blocks * BLOCK
    return item // blocks, first, min(first + BLOCK, inner)


def scatter_set(out, index, source, begin, end):
    """``out[o, index[o, j, t], t] = source[o, j, t]``, the last j winning; range over lanes."""
    for item in range(begin, end):
        o, first, last = _lane(item, index.shape[2])
        for j in range(index.shape[1]):
            for t in range(first, last):
                out[o, index[o, j, t], t] = source[o, j, t]


def scatter_fill(out, index, value, begin, end):
    """``out[o, index[o, j, t], t] = value[0]``; range over lanes."""
    for item in range(begin, end):
        o, first, last = _lane(item, index.shape[2])
        for j in range(index.shape[1]):
            for t in range(first, last):
                out[o, index[o, j, t], t] = value[0]


def scatter_add_last(out, index, source, begin, end):
    """``scatter_add`` where inner is 1; range over outer."""
    for o in range(begin, end):
        row, places, values = out[o, :, 0], index[o, :, 0], source[o, :, 0]
        for j in range(len(places)):
            row[np.uint64(places[j])] += values[j]


def scatter_set_last(out, index, source, begin, end):
    """``scatter_set`` where inner is 1; range over outer."""
    for o in range(begin, end):
        row, places, values = out[o, :, 0], index[o, :, 0], source[o, :, 0]
        for j in range(len(places)):
            row[np.uint64(places[j])] = values[j]


def scatter_add(out, index, source, begin, end):
    """``out[o, index[o, j, t], t] += source[o, j, t]``; range over lanes."""
    for item in range(begin, end):
        o, first, last = _lane(item, index.shape[2])
        for j in range(index.shape[1]):
            for t in range(first, last):
                out[o, index[o, j, t], t] += source[o, j, t]


def scatter_multiply(out, index, source, begin, end):
    """``out[o, index[o, j, t], t] *= source[o, j, t]``; range over lanes."""
    for item in range(begin, end):
        o, first, last = _lane(item, index.shape[2])
        for j in range(index.shape[1]):
            for t in range(first, last):
                out[o, index[o, j, t], t] *= source[o, j, t]


def scatter_max(out, index, source, begin, end):
    """``out[...] = max(out[...], source[o, j, t])``, NaN winning; range over lanes."""
    for item in range(begin, end):
        o, first, last = _lane(item, index.shape[2])
        for j in range(index.shape[1]):
            for t in range(first, last):
                place, new = index[o, j, t], source[o, j, t]
                if new > out[o, place, t] or new != new:
                    out[o, place, t] = new


def scatter_min(out, index, source, begin, end):
    """``out[...] = min(out[...], source[o, j, t])``, NaN winning; range over lanes."""
    for item in range(begin, end):
        o, first, last = _lane(item, index.shape[2])
        for j in range(index.shape[1]):
            for t in range(first, last):
                place, new = index[o, j, t], source[o, j, t]
                if new < out[o, place, t] or new != new:
                    out[o, place, t] = new


def rows_set(out, index, source, begin, end):
    """``out[o, index[j], :] = source[o, j, :]``, the last j winning; range over lanes."""
    for item in range(begin, end):
        o, first, last = _lane(item, source.shape[2])
        for j in range(len(index)):
            target, row = out[o, index[j], first:last], source[o, j, first:last]
            for t in range(len(row)):
                target[t] = row[t]


def rows_fill(out, index, value, begin, end):
    """``out[o, index[j], :] = value[0]``; range over lanes."""
    for item in range(begin, end):
        o, first, last = _lane(item, out.shape[2])
        for j in range(len(index)):
            target = out[o, index[j], first:last]
            for t in range(len(target)):
                target[t] = value[0]


def rows_add(out, index, source, begin, end):
    """``out[o, index[j], :] += source[o, j, :]``; range over lanes."""
    for item in range(begin, end):
        o, first, last = _lane(item, source.shape[2])
        for j in range(len(index)):
            target, row = out[o, index[j], first:last], source[o, j, first:last]
            for t in range(len(row)):
                target[t] += row[t]


def rows_multiply(out, index, source, begin, end):
    """``out[o, index[j], :] *= source[o, j, :]``; range over lanes."""
    for item in range(begin, end):
        o, first, last = _lane(item, source.shape[2])
        for j in range(len(index)):
            target, row = out[o, index[j], first:last], source[o, j, first:last]
            for t in range(len(row)):
                target[t] *= row[t]


def rows_max(out, index, source, begin, end):
    """``out[o, index[j], :] = max(out[...], source[o, j, :])``, NaN winning; range over lanes."""
    for item in range(begin, end):
        o, first, last = _lane(item, source.shape[2])
        for j in range(len(index)):
            for t in range(first, last):
                new = source[o, j, t]
                if new > out[o, index[j], t] or new != new:
                    out[o, index[j], t] = new


def rows_min(out, index, source, begin, end):
    """``out[o, index[j], :] = min(out[...], source[o, j, :])``, NaN winning; range over lanes."""
    for item in range(begin, end):
        o, first, last = _lane(item, source.shape[2])
        for j in range(len(index)):
            for t in range(first, last):
                new = source[o, j, t]
                if new < out[o, index[j], t] or new != new:
                    out[o, index[j], t] = new


def locate(index, size, stride, fresh, place, begin, end):
    """``place`` = (or if not ``fresh``, +=) ``stride * index``; negative indices count from
    ``size``. One task. ``place`` has one element more than ``index``: where the first index
    outside [-size, size) is, or -1.
    """
    n = len(index)
    outside = 0
    target = place[:n]
    for i in range(n):
        at = index[i]
        outside += (at < -size) | (at >= size)
        step = stride * select(at < 0, at + size, at)
        target[i] = select(fresh != 0, step, target[i] + step)
    place[n] = -1
    if outside:
        for i in range(n):
            if index[i] < -size or index[i] >= size:
                place[n] = i
                return


def count_true(flags, counts, chunk, begin, end):
    """``counts[c]`` = how many of ``flags[c * chunk:(c + 1) * chunk]`` are true."""
    for c in range(begin, end):
        part = flags[c * chunk:min((c + 1) * chunk, len(flags))]
        total = 0
        for i in range(len(part)):
            total += part[i] != 0
        counts[c] = total


def write_true(flags, starts, chunk, out, begin, end):
    """Positions of true flags, chunk ``c`` from ``out[starts[c]]`` on."""
    for c in range(begin, end):
        # no branch on the flag, which is as good as random: write always, move on if it was true
        at, stop = starts[c], starts[c + 1]
        for i in range(c * chunk, min((c + 1) * chunk, len(flags))):
            if at == stop:
                break
            out[at] = i
            at += np.int64(flags[i] != 0)


def unravel(positions, sizes, out, begin, end):
    """Rows of coordinates in an array of shape ``sizes`` from row-major positions."""
    ndim = len(sizes)
    for i in range(begin, end):
        at = positions[i]
        for k in range(ndim):
            d = ndim - 1 - k
            out[i, d] = at % sizes[d]
            at = at // sizes[d]


def masked_scatter(out, mask, source, begin, end):
    """Elements of ``source``, in order, to where ``mask`` is true; one task."""
    taken = 0
    for i in range(len(out)):
        if mask[i]:
            out[i] = source[taken]
            taken += 1


def repeat_index(repeats, ends, out, begin, end):
    """``out`` holds each i ``repeats[i]`` times; ``ends`` are the running sums of ``repeats``."""
    for i in range(begin, end):
        for at in range(ends[i] - repeats[i], ends[i]):
            out[at] = i


def count_values(values, out, begin, end):
    """``out[v] += 1`` for each value; one task."""
    for i in range(len(values)):
        out[values[i]] += 1


def starts(counts, out, begin, end):
    """``out[i]`` = sum of ``counts[:i]``, one element more than ``counts``; one task."""
    total = 0
    for i in range(len(counts)):
        out[i] = total
        total += counts[i]
    out[len(counts)] = total
