"""Extremes with their positions, and the larger and smaller of two numbers with NaN kept.

The position is that of the first extreme element, or of the first NaN. Along a row it is looked for
in two steps, because a search cannot be vectorised and an extreme value can: which block of
the row has it, then where it is in that block.
"""
from .stubs import maximum_, minimum_, select, typed

BLOCK = 256
SHORT = 32              # elements up to which a row is searched at once


def _larger(a, b):
    return a if a > b else b


def _smaller(a, b):
    return a if a < b else b


def _larger_float(a, b):
    return maximum_(a, b)


def _smaller_float(a, b):
    return minimum_(a, b)


_INTEGERS = ("b1", "u1", "i1", "i2", "i4", "i8")
larger = typed("larger", f4=_larger_float, f8=_larger_float, **dict.fromkeys(_INTEGERS, _larger))
smaller = typed("smaller", f4=_smaller_float, f8=_smaller_float,
                **dict.fromkeys(_INTEGERS, _smaller))


def _above(a, b):
    return a > b


def _below(a, b):
    return a < b


def _arg_extreme(extreme, beyond):
    """The kernels of one direction: ``(rows, columns, parts, pick)``.

    ``rows(x, values, indices, begin, end)``: extremes of ``x[o, :]``; range: rows.
    ``columns(x, values, indices, begin, end)``: of ``x[o, :, i]``; range: outer * inner.
    ``parts(x, values, indices, size, begin, end)``: of pieces of ``size`` elements of a row, with
    positions in the row; range: pieces. ``pick(values, indices, value, index, begin, end)``: the
    extreme of those, the first of equal ones.
    """
    def in_row(row):
        """Position of the extreme of a row that has elements."""
        best, start, n = row[0], 0, row.shape[0]
        if n <= SHORT:
            for k in range(1, n):
                if (beyond(row[k], best) or row[k] != row[k]) and best == best:
                    best, start = row[k], k
            return start
        for k in range(0, n, BLOCK):
            block = row[k:min(k + BLOCK, n)]
            top = block[0]
            for j in range(1, block.shape[0]):
                top = extreme(top, block[j])
            if beyond(top, best) or top != top:
                best, start = top, k
                if top != top:
                    break
        for k in range(start, n):
            if row[k] == best or row[k] != row[k]:
                return k
        return start

    def along_columns(x, o, values, indices, first, last):
        """Extremes of ``x[o, :, i]`` for ``first`` <= i < ``last``, which lie side by side."""
        best, place = values[o, first:last], indices[o, first:last]
        row = x[o, 0, first:last]
        for i in range(last - first):
            best[i] = row[i]
            place[i] = 0
        for k in range(1, x.shape[1]):
            row = x[o, k, first:last]
            for i in range(last - first):
                taken = (beyond(row[i], best[i]) | (row[i] != row[i])) & (best[i] == best[i])
                place[i] = select(taken, k, place[i])
                best[i] = select(taken, row[i], best[i])

    def rows(x, values, indices, begin, end):
        for o in range(begin, end):
            place = in_row(x[o])
            values[o] = x[o, place]
            indices[o] = place

    def columns(x, values, indices, begin, end):
        inner = x.shape[2]
        item = begin
        while item < end:
            o = item // inner
            i = item - o * inner
            last = min(inner, i + end - item)
            along_columns(x, o, values, indices, i, last)
            item += last - i

    def parts(x, values, indices, size, begin, end):
        for part in range(begin, end):
            start = part * size
            place = start + in_row(x[start:min(start + size, x.shape[0])])
            values[part] = x[place]
            indices[part] = place

    def pick(values, indices, value, index, begin, end):
        part = in_row(values)
        value[0] = values[part]
        index[0] = indices[part]
    return rows, columns, parts, pick


argmax = _arg_extreme(larger, _above)
argmin = _arg_extreme(smaller, _below)
