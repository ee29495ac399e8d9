"""Pooling windows over planes: maximum and mean, forward and backward.

One kernel serves one, two and three dimensions: a plane is (depth, height, width), with sizes of 1
where a dimension is missing. Vector loops run along whole contiguous rows of the input.
"""
import functools

import numpy as np

from .stubs import T, select

# Numba wraps negative indices: a select that keeps a strided load from becoming a vector. An
# unsigned index is taken as it is.
u = np.uint64


def first_tap(start, dilation):
    """The first tap of a window starting at ``start`` that is not before position 0."""
    return (dilation - 1 - start) // dilation if start < 0 else 0


def last_tap(start, dilation, taps, size):
    """One past the last tap of a window starting at ``start`` that is before ``size``."""
    room = size - 1 - start
    return min(taps, room // dilation + 1) if room >= 0 else 0


def window_max(x, d0, h0, w0, kd, kh, kw, dd, dh, dw, lowest):
    """Maximum of one window that may stick out of ``x`` (D, H, W), and its flat index.

    A NaN replaces whatever there is; the index is -1 if no tap is inside.
    """
    D, H, W = x.shape
    best, where = lowest, -1
    for a in range(first_tap(d0, dd), last_tap(d0, dd, kd, D)):
        d = d0 + a * dd
        for b in range(first_tap(h0, dh), last_tap(h0, dh, kh, H)):
            h = h0 + b * dh
            for c in range(first_tap(w0, dw), last_tap(w0, dw, kw, W)):
                w = w0 + c * dw
                value = x[d, h, w]
                if value > best or value != value or where < 0:
                    best, where = value, (d * H + h) * W + w
    return best, where


def max_pool(x, out, index, kd, kh, kw, sd, sh, sw, pd, ph, pw, dd, dh, dw, lowest, begin, end):
    """Maximum and its flat index in the plane, of the windows of planes ``begin`` to ``end``.

    ``x`` (planes, D, H, W); ``out`` and ``index`` (planes, OD, OH, OW). Among equal values the
    first wins; a NaN wins over everything.
    """
    OD, OH, OW = out.shape[1], out.shape[2], out.shape[3]
    for plane in range(begin, end):
        for od in range(OD):
            for oh in range(OH):
                for ow in range(OW):
                    best, where = window_max(
                        x[plane], od * sd - pd, oh * sh - ph, ow * sw - pw, kd, kh, kw, dd, dh,
                        dw, lowest)
                    out[plane, od, oh, ow] = best
                    index[plane, od, oh, ow] = where


def whole_windows_for(kd, kh, kw):
    """Maxima of the windows at every column of one row of windows, taps unrolled.

    One vector loop holds maximum and index in registers. Taps above or below the plane are replaced
    by the nearest inside, which the window has too.
    """
    def whole_windows(x, best_row, where_row, d0, h0, n):
        D, H, W = x.shape
        for w in range(n):
            d, h = min(max(d0, 0), D - 1), min(max(h0, 0), H - 1)
            best, where = x[u(d), u(h), u(w)], np.int32((d * H + h) * W)
            for a in range(kd):
                for b in range(kh):
                    d, h = min(max(d0 + a, 0), D - 1), min(max(h0 + b, 0), H - 1)
                    for c in range(kw):
                        value = x[u(d), u(h), u(w + c)]
                        # a NaN replaces whatever there is, also an earlier NaN
                        take = (value > best) | (value != value)
                        best = select(take, value, best)
                        where = select(take, np.int32((d * H + h) * W + c), where)
            best_row[w] = best
            where_row[w] = where

    return whole_windows


def cut_window_for(kd, kh, kw):
    """Maximum of one window that may stick out on any side, taps unrolled."""
    def cut_window(x, d0, h0, w0):
        D, H, W = x.shape
        d, h, w = max(d0, 0), max(h0, 0), max(w0, 0)
        best, where = x[d, h, w], (d * H + h) * W + w
        for a in range(kd):
            for b in range(kh):
                for c in range(kw):
                    d, h = min(max(d0 + a, 0), D - 1), min(max(h0 + b, 0), H - 1)
                    w = min(max(w0 + c, 0), W - 1)
                    value = x[u(d), u(h), u(w)]
                    take = (value > best) | (value != value)
                    best = select(take, value, best)
                    where = select(take, (d * H + h) * W + w, where)
        return best, where

    return cut_window


@functools.cache
def max_pool_for(kd, kh, kw):
    """``max_pool`` for one kernel size, without dilation: its taps are constants.

    It computes a window at every column; a stride then takes some of them. ``best`` and ``where``
    (planes, W) are scratch. Planes must have less than 2**31 elements.
    """
    whole_windows, cut_window = whole_windows_for(kd, kh, kw), cut_window_for(kd, kh, kw)

    def max_pool_unrolled(x, out, index, best, where, sd, sh, sw, pd, ph, pw, begin, end):
        OD, OH, OW = out.shape[1], out.shape[2], out.shape[3]
        n = x.shape[3] - kw + 1
        for plane in range(begin, end):
            best_row, where_row = best[plane], where[plane]
            for od in range(OD):
                for oh in range(OH):
                    d0, h0 = od * sd - pd, oh * sh - ph
                    row, at = out[plane, od, oh], index[plane, od, oh]
                    whole_windows(x[plane], best_row, where_row, d0, h0, n)
                    for i in range(OW):
                        w = i * sw - pw
                        if w >= 0 and w < n:
                            row[i] = best_row[u(w)]
                            at[i] = w + where_row[u(w)]
                        else:
                            row[i], at[i] = cut_window(x[plane], d0, h0, w)

    return max_pool_unrolled


def scatter_planes(grad, index, out, begin, end):
    """``out[p, index[p, i]] += grad[p, i]`` in each plane, onto zeros; an index of -1 is left out.

    ``grad`` and ``index`` (planes, n), ``out`` (planes, m).
    """
    n, m = grad.shape[1], out.shape[1]
    for plane in range(begin, end):
        row, source, where = out[plane], grad[plane], index[plane]
        for i in range(m):
            row[i] = T(0)
        for i in range(n):
            if where[i] >= 0:
                row[where[i]] += source[i]


def gather_planes(x, index, out, begin, end):
    """``out[p, i] = x[p, index[p, i]]`` in each plane, 0 where the index is -1.

    ``x`` (planes, m), ``index`` and ``out`` (planes, n).
    """
    for plane in range(begin, end):
        row, target, where = x[plane], out[plane], index[plane]
        for i in range(target.shape[0]):
            target[i] = row[where[i]] if where[i] >= 0 else T(0)


def place_planes(x, index, out, begin, end):
    """``out[p, index[p, i]] = x[p, i]`` in each plane, onto zeros: the last of equals stays."""
    n, m = x.shape[1], out.shape[1]
    for plane in range(begin, end):
        row, source, where = out[plane], x[plane], index[plane]
        for i in range(m):
            row[i] = T(0)
        for i in range(n):
            row[where[i]] = source[i]


def window_count(start, taps, padding, size, include_pad):
    """How many positions along one dimension a mean is over.

    Padding counts if ``include_pad``; what ``ceil_mode`` lets stick out beyond it never does.
    """
    if include_pad:
        return min(start + taps, size + padding) - start
    return min(start + taps, size) - max(start, 0)


def window_divisor(rows, ow, kw, sw, pw, W, include_pad, override):
    """The number a window's sum is divided by; ``rows`` is the count of the other dimensions."""
    if override != 0:
        return override
    return rows * window_count(ow * sw - pw, kw, pw, W, include_pad)


def avg_pool(x, out, column, kd, kh, kw, sd, sh, sw, pd, ph, pw, include_pad, override,
             begin, end):
    """Mean of the windows of planes ``begin`` to ``end``; ``override`` is a divisor, or 0.

    ``x`` (planes, D, H, W), ``out`` (planes, OD, OH, OW); ``column`` (planes, W) is scratch for the
    sums over depth and height.
    """
    D, H, W = x.shape[1], x.shape[2], x.shape[3]
    OD, OH, OW = out.shape[1], out.shape[2], out.shape[3]
    for plane in range(begin, end):
        sums = column[plane]
        for od in range(OD):
            d0 = od * sd - pd
            for oh in range(OH):
                h0 = oh * sh - ph
                for i in range(W):
                    sums[i] = T(0)
                for d in range(max(d0, 0), min(d0 + kd, D)):
                    for h in range(max(h0, 0), min(h0 + kh, H)):
                        row = x[plane, d, h]
                        for i in range(W):
                            sums[i] += row[i]
                rows = (window_count(d0, kd, pd, D, include_pad)
                        * window_count(h0, kh, ph, H, include_pad))
                means = out[plane, od, oh]
                for i in range(OW):
                    total = T(0)
                    for w in range(max(i * sw - pw, 0), min(i * sw - pw + kw, W)):
                        total += sums[u(w)]
                    means[i] = total / T(
                        window_divisor(rows, i, kw, sw, pw, W, include_pad, override))


def avg_pool_backward(grad, gx, column, kd, kh, kw, sd, sh, sw, pd, ph, pw, include_pad, override,
                      begin, end):
    """Gradient of ``avg_pool``: every window hands each of its positions an equal share.

    ``grad`` (planes, OD, OH, OW), ``gx`` (planes, D, H, W); ``column`` (planes, W) is scratch.
    """
    D, H, W = gx.shape[1], gx.shape[2], gx.shape[3]
    OD, OH, OW = grad.shape[1], grad.shape[2], grad.shape[3]
    for plane in range(begin, end):
        shares = column[plane]
        for d in range(D):
            for h in range(H):
                row = gx[plane, d, h]
                for i in range(W):
                    row[i] = T(0)
        for od in range(OD):
            d0 = od * sd - pd
            for oh in range(OH):
                h0 = oh * sh - ph
                rows = (window_count(d0, kd, pd, D, include_pad)
                        * window_count(h0, kh, ph, H, include_pad))
                for i in range(W):
                    shares[i] = T(0)
                for i in range(OW):
                    share = grad[plane, od, oh, i] / T(
                        window_divisor(rows, i, kw, sw, pw, W, include_pad, override))
                    for w in range(max(i * sw - pw, 0), min(i * sw - pw + kw, W)):
                        shares[u(w)] += share
                for d in range(max(d0, 0), min(d0 + kd, D)):
                    for h in range(max(h0, 0), min(h0 + kh, H)):
                        row = gx[plane, d, h]
                        for i in range(W):
                            row[i] += shares[i]
