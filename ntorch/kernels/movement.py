"""Rearranging elements: triangles, reflections, diagonals. Arrays hold raw words of an element."""
import numpy as np

from .stubs import T, fma


def triangle(source, out, diagonal, upper, begin, end):
    """Keep ``column - row >= diagonal`` (upper) or ``<=`` (lower), zero elsewhere; range over rows.

    Arrays are (batch, rows, columns); an item is one row.
    """
    rows, columns = source.shape[1], source.shape[2]
    for item in range(begin, end):
        b, r = item // rows, item % rows
        edge = min(max(r + diagonal + (0 if upper else 1), 0), columns)
        line, target = source[b, r], out[b, r]
        for c in range(edge):
            target[c] = 0 if upper else line[c]
        for c in range(edge, columns):
            target[c] = line[c] if upper else 0


def flip(source, out, begin, end):
    """``out[o, j, :] = source[o, n - 1 - j, :]``; range over (outer, j)."""
    n, inner = source.shape[1], source.shape[2]
    for item in range(begin, end):
        o, j = item // n, item % n
        row, target = source[o, n - 1 - j], out[o, j]
        for t in range(inner):
            target[t] = row[t]


def flip_last(source, out, begin, end):
    """Reverse each row of a (rows, n) array; range over rows."""
    n = source.shape[1]
    for r in range(begin, end):
        row, target = source[r], out[r]
        for i in range(n):
            target[i] = row[np.uint64(n - 1 - i)]       # unsigned: never counted from the end


def sequence(out, start, step, begin, end):
    """``out[i] = start + step * i``."""
    target = out[begin:end]
    for i in range(len(target)):
        target[i] = start + step * (begin + i)


def spaced(out, first, last, step, begin, end):
    """Evenly spaced numbers: up from ``first`` in the first half, down from ``last`` in the second,
    each with one rounding."""
    n = out.shape[0]
    half = min(max(n // 2, begin), end)
    left, right, rest = out[begin:half], out[half:end], n - 1 - half
    for i in range(len(left)):
        left[i] = fma(step, T(begin + i), first)
    for i in range(len(right)):
        right[i] = fma(-step, T(rest - i), last)
