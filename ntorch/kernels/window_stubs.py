"""Intrinsics of pooling windows that tile a plane, with their meaning in plain Python.

Their compiled twins are in ``runtime/intrinsics_windows.py``. Nothing checks the bounds.
"""
from .stubs import stub


@stub
def tile_maxima(x, at, plane, row, out, where, to, count, kd, kh, kw, lanes):
    """Maximum and its place of ``count`` windows side by side, ``lanes`` of them at a time.

    Window i begins at ``x[at + i * kw]``; its planes are ``plane``, its rows ``row`` elements
    apart. ``out[to + i]`` is the maximum, ``where[to + i]`` its tap: the first of equals, the last
    of NaNs. The last four arguments are literals.
    """
    for i in range(count):
        best, place = x[at + i * kw], 0
        for tap in range(kd * kh * kw):
            a, b, c = tap // (kh * kw), tap // kw % kh, tap % kw
            value = x[at + a * plane + b * row + i * kw + c]
            if value > best or value != value:
                best, place = value, tap
        out[to + i] = best
        where[to + i] = place


@stub
def spread_tiles(source, where, at, out, to, plane, row, count, kd, kh, kw, lanes):
    """``count`` windows side by side from the gradients of their maxima.

    The element of window i at its tap ``where[at + i]`` is ``source[at + i]``, all others are 0.
    Windows lie in ``out`` as in the ``x`` of ``tile_maxima``, from ``to`` on. The last four
    arguments are literals.
    """
    for i in range(count):
        for tap in range(kd * kh * kw):
            a, b, c = tap // (kh * kw), tap // kw % kh, tap % kw
            out[to + a * plane + b * row + i * kw + c] = (
                source[at + i] if where[at + i] == tap else 0)


@stub
def tile_means(x, at, plane, row, out, to, count, divisor, kd, kh, kw, lanes):
    """The sum, divided by ``divisor``, of ``count`` windows side by side; else as ``tile_maxima``.

    Each column of a window is summed before they are added up, which decides the rounding.
    """
    for i in range(count):
        total = x.dtype.type(0)
        for c in range(kw):
            column = x.dtype.type(0)
            for a in range(kd):
                for b in range(kh):
                    column += x[at + a * plane + b * row + i * kw + c]
            total += column
        out[to + i] = total / divisor


@stub
def fill_tiles(source, at, out, to, plane, row, count, divisor, kd, kh, kw, lanes):
    """``count`` windows side by side, each full of its ``source[at + i] / divisor``; else as
    ``spread_tiles``."""
    for i in range(count):
        for tap in range(kd * kh * kw):
            a, b, c = tap // (kh * kw), tap // kw % kh, tap % kw
            out[to + a * plane + b * row + i * kw + c] = source[at + i] / divisor
