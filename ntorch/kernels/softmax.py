"""softmax, log_softmax and their gradients, along rows or along a middle dimension.

The ``_rows`` kernels take (rows, n) and reduce along the contiguous dimension. The ``_columns``
kernels take (outer, n, inner), reduce along the middle, and run vector loops along ``inner``; a
work item is one tile of ``TILE`` columns, so results do not depend on how the range is cut.
"""
import numpy as np

from .math import log
from .math32 import LN2_HI, LN2_LO, LOG2_E, reduced_expm1
from .math64 import exp_f64
from .stubs import (
    T,
    bits_f32_to_i32,
    bits_f64_to_i64,
    bits_i32_to_f32,
    bits_i64_to_f64,
    fma,
    maxnum,
    round_even,
    select,
    typed,
)

LOWEST = float("-inf")
LEAST = -88.0
TILE = 256


def exp_below_f32(x):
    """``e ** x`` for x <= 0 and NaN; 0 below -87.7, where float32 nears its denormals."""
    clamped = select(x < LEAST, LEAST, x)
    n = round_even(clamped * LOG2_E)            # -127 at LEAST: its power of two has the bits of 0
    r = fma(n, -LN2_LO, fma(n, -LN2_HI, clamped))
    scale = bits_i32_to_f32(np.int32(np.int32(np.int32(n) + 127) << 23))
    return (reduced_expm1(r) + 1.0) * scale


exp = typed("exp", f4=exp_below_f32, f8=exp_f64)


def key_f32(x):
    """An int32 that orders like ``x``: negative numbers have their other bits flipped."""
    bits = bits_f32_to_i32(x)
    return bits ^ ((bits >> np.int32(31)) & np.int32(0x7FFFFFFF))


def key_f64(x):
    """An int64 that orders like ``x``."""
    bits = bits_f64_to_i64(x)
    return bits ^ ((bits >> 63) & 0x7FFFFFFFFFFFFFFF)


def from_key_f32(like, key):
    """The float32 whose key this is."""
    return bits_i32_to_f32(key ^ ((key >> np.int32(31)) & np.int32(0x7FFFFFFF)))


def from_key_f64(like, key):
    """The float64 whose key this is."""
    return bits_i64_to_f64(key ^ ((key >> 63) & 0x7FFFFFFFFFFFFFFF))


key_of = typed("key_of", f4=key_f32, f8=key_f64)
from_key = typed("from_key", f4=from_key_f32, f8=from_key_f64)


def row_max(x):
    """Largest element of a row of at least one; a NaN comes out as NaN or is passed over.

    Integers of the same order are compared: without the assumption that there is no NaN, a maximum
    of floats is a chain of dependent steps.
    """
    best = key_of(x[0])
    for i in range(x.shape[0]):
        best = max(best, key_of(x[i]))
    return from_key(x[0], best)


def softmax_rows(x, out, begin, end):
    """``exp(x - max) / sum(exp(x - max))`` of the rows ``begin`` to ``end``."""
    for r in range(begin, end):
        row, result = x[r], out[r]
        n = row.shape[0]
        top = row_max(row)
        total = T(0)
        for i in range(n):
            e = exp(row[i] - top)
            result[i] = e
            total += e
        scale = 1.0 / total
        for i in range(n):
            result[i] *= scale


def log_softmax_rows(x, out, begin, end):
    """``x - max - log(sum(exp(x - max)))`` of the rows ``begin`` to ``end``."""
    for r in range(begin, end):
        row, result = x[r], out[r]
        n = row.shape[0]
        top = row_max(row)
        total = T(0)
        for i in range(n):
            # kept in memory: a build that reorders sums would take top + shift together, which
            # loses the shift beside a large maximum
            result[i] = row[i] - top
            total += exp(row[i] - top)
        shift = log(total)
        for i in range(n):
            result[i] -= shift


def softmax_backward_rows(grad, y, out, begin, end):
    """``(grad - sum(grad * y)) * y`` of the rows ``begin`` to ``end``."""
    for r in range(begin, end):
        g, row, result = grad[r], y[r], out[r]
        n = row.shape[0]
        total = T(0)
        for i in range(n):
            total += g[i] * row[i]
        for i in range(n):
            result[i] = (g[i] - total) * row[i]


def log_softmax_backward_rows(grad, y, out, begin, end):
    """``grad - exp(y) * sum(grad)`` of the rows ``begin`` to ``end``."""
    for r in range(begin, end):
        g, row, result = grad[r], y[r], out[r]
        n = row.shape[0]
        total = T(0)
        for i in range(n):
            total += g[i]
        for i in range(n):
            result[i] = g[i] - exp(row[i]) * total


def tile_bounds(item, inner):
    """``(outer index, first column, one past the last column)`` of a work item."""
    tiles = (inner + TILE - 1) // TILE
    first = item % tiles * TILE
    return item // tiles, first, min(first + TILE, inner)


def column_max(x, top):
    """``top[i] = max_j x[j, i]``."""
    for i in range(top.shape[0]):
        top[i] = LOWEST
    for j in range(x.shape[0]):
        row = x[j]
        for i in range(top.shape[0]):
            top[i] = maxnum(top[i], row[i])


def softmax_columns(x, out, scratch, begin, end):
    """``softmax_rows`` along the middle of (outer, n, inner); ``scratch`` is (outer, 2, inner)."""
    for item in range(begin, end):
        o, lo, hi = tile_bounds(item, x.shape[2])
        n, width = x.shape[1], hi - lo
        top, total = scratch[o, 0, lo:hi], scratch[o, 1, lo:hi]
        column_max(x[o, :, lo:hi], top)
        for i in range(width):
            total[i] = T(0)
        for j in range(n):
            row, result = x[o, j, lo:hi], out[o, j, lo:hi]
            for i in range(width):
                e = exp(row[i] - top[i])
                result[i] = e
                total[i] += e
        for i in range(width):
            total[i] = 1.0 / total[i]
        for j in range(n):
            result = out[o, j, lo:hi]
            for i in range(width):
                result[i] *= total[i]


def log_softmax_columns(x, out, scratch, begin, end):
    """``log_softmax_rows`` along the middle of (outer, n, inner); ``scratch`` (outer, 2, inner)."""
    for item in range(begin, end):
        o, lo, hi = tile_bounds(item, x.shape[2])
        n, width = x.shape[1], hi - lo
        top, total = scratch[o, 0, lo:hi], scratch[o, 1, lo:hi]
        column_max(x[o, :, lo:hi], top)
        for i in range(width):
            total[i] = T(0)
        for j in range(n):
            row = x[o, j, lo:hi]
            for i in range(width):
                total[i] += exp(row[i] - top[i])
        for i in range(width):
            total[i] = log(total[i])
        for j in range(n):
            row, result = x[o, j, lo:hi], out[o, j, lo:hi]
            for i in range(width):
                result[i] = (row[i] - top[i]) - total[i]


def softmax_backward_columns(grad, y, out, scratch, begin, end):
    """``softmax_backward_rows`` along the middle; ``scratch`` is (outer, inner)."""
    for item in range(begin, end):
        o, lo, hi = tile_bounds(item, y.shape[2])
        n, width = y.shape[1], hi - lo
        total = scratch[o, lo:hi]
        for i in range(width):
            total[i] = T(0)
        for j in range(n):
            g, row = grad[o, j, lo:hi], y[o, j, lo:hi]
            for i in range(width):
                total[i] += g[i] * row[i]
        for j in range(n):
            g, row, result = grad[o, j, lo:hi], y[o, j, lo:hi], out[o, j, lo:hi]
            for i in range(width):
                result[i] = (g[i] - total[i]) * row[i]


def log_softmax_backward_columns(grad, y, out, scratch, begin, end):
    """``log_softmax_backward_rows`` along the middle; ``scratch`` is (outer, inner)."""
    for item in range(begin, end):
        o, lo, hi = tile_bounds(item, y.shape[2])
        n, width = y.shape[1], hi - lo
        total = scratch[o, lo:hi]
        for i in range(width):
            total[i] = T(0)
        for j in range(n):
            g = grad[o, j, lo:hi]
            for i in range(width):
                total[i] += g[i]
        for j in range(n):
            g, row, result = grad[o, j, lo:hi], y[o, j, lo:hi], out[o, j, lo:hi]
            for i in range(width):
                result[i] = g[i] - exp(row[i]) * total[i]
