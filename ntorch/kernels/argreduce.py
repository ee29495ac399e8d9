"""Extremes with their positions, and the larger and smaller of two numbers with NaN kept."""
from .stubs import maximum_, minimum_, typed


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


def argmax(x, values, indices, begin, end):
    """Largest of ``x[o, :, i]`` and its first position; the first NaN wins. Range: outer *
    inner."""
    inner = x.shape[2]
    for item in range(begin, end):
        o = item // inner
        i = item - o * inner
        best = x[o, 0, i]
        place = 0
        for k in range(1, x.shape[1]):
            v = x[o, k, i]
            if (v > best or v != v) and best == best:
                best = v
                place = k
        values[o, i] = best
        indices[o, i] = place


def argmin(x, values, indices, begin, end):
    """Smallest of ``x[o, :, i]`` and its first position; the first NaN wins. Range: outer *
    inner."""
    inner = x.shape[2]
    for item in range(begin, end):
        o = item // inner
        i = item - o * inner
        best = x[o, 0, i]
        place = 0
        for k in range(1, x.shape[1]):
            v = x[o, k, i]
            if (v < best or v != v) and best == best:
                best = v
                place = k
        values[o, i] = best
        indices[o, i] = place
