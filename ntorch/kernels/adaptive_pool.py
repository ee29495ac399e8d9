"""Adaptive pooling: output i of O covers positions floor(i I / O) to ceil((i + 1) I / O).

A plane is (depth, height, width), with sizes of 1 where a dimension is missing.
"""
from .stubs import T


def window_start(i, outputs, size):
    """First position of output ``i``'s window."""
    return (i * size) // outputs


def window_stop(i, outputs, size):
    """One past the last position of output ``i``'s window."""
    return ((i + 1) * size + outputs - 1) // outputs


def row_sum(x):
    """Sum of a row."""
    total = T(0)
    for i in range(x.shape[0]):
        total += x[i]
    return total


def adaptive_avg_pool(x, out, begin, end):
    """Mean of the windows of planes ``begin`` to ``end``.

    ``x`` (planes, D, H, W), ``out`` (planes, OD, OH, OW).
    """
    D, H, W = x.shape[1], x.shape[2], x.shape[3]
    OD, OH, OW = out.shape[1], out.shape[2], out.shape[3]
    for plane in range(begin, end):
        for od in range(OD):
            d0, d1 = window_start(od, OD, D), window_stop(od, OD, D)
            for oh in range(OH):
                h0, h1 = window_start(oh, OH, H), window_stop(oh, OH, H)
                for ow in range(OW):
                    w0, w1 = window_start(ow, OW, W), window_stop(ow, OW, W)
                    total = T(0)
                    for d in range(d0, d1):
                        for h in range(h0, h1):
                            total += row_sum(x[plane, d, h, w0:w1])
                    count = (d1 - d0) * (h1 - h0) * (w1 - w0)
                    out[plane, od, oh, ow] = total / T(count)


def adaptive_avg_pool_backward(grad, gx, begin, end):
    """Gradient of ``adaptive_avg_pool``: each window shares its gradient equally.

    ``grad`` (planes, OD, OH, OW), ``gx`` (planes, D, H, W).
    """
    D, H, W = gx.shape[1], gx.shape[2], gx.shape[3]
    OD, OH, OW = grad.shape[1], grad.shape[2], grad.shape[3]
    for plane in range(begin, end):
        for d in range(D):
            for h in range(H):
                row = gx[plane, d, h]
                for i in range(W):
                    row[i] = T(0)
        for od in range(OD):
            d0, d1 = window_start(od, OD, D), window_stop(od, OD, D)
            for oh in range(OH):
                h0, h1 = window_start(oh, OH, H), window_stop(oh, OH, H)
                for ow in range(OW):
                    w0, w1 = window_start(ow, OW, W), window_stop(ow, OW, W)
                    count = (d1 - d0) * (h1 - h0) * (w1 - w0)
                    share = grad[plane, od, oh, ow] / T(count)
                    for d in range(d0, d1):
                        for h in range(h0, h1):
                            row = gx[plane, d, h, w0:w1]
                            for i in range(w1 - w0):
                                row[i] += share


def adaptive_max_pool(x, out, index, lowest, begin, end):
    """Maximum and its flat index in the plane, of the windows of planes ``begin`` to ``end``.

    ``x`` (planes, D, H, W); ``out`` and ``index`` (planes, OD, OH, OW). Among equal values the
    first wins; a NaN wins over everything.
    """
    D, H, W = x.shape[1], x.shape[2], x.shape[3]
    OD, OH, OW = out.shape[1], out.shape[2], out.shape[3]
    for plane in range(begin, end):
        for od in range(OD):
            d0, d1 = window_start(od, OD, D), window_stop(od, OD, D)
            for oh in range(OH):
                h0, h1 = window_start(oh, OH, H), window_stop(oh, OH, H)
                for ow in range(OW):
                    w0, w1 = window_start(ow, OW, W), window_stop(ow, OW, W)
                    best, where = lowest, (d0 * H + h0) * W + w0
                    for d in range(d0, d1):
                        for h in range(h0, h1):
                            row = x[plane, d, h, w0:w1]
                            for i in range(w1 - w0):
                                value = row[i]
                                if value > best or value != value:
                                    best, where = value, (d * H + h) * W + w0 + i
                    out[plane, od, oh, ow] = best
                    index[plane, od, oh, ow] = where
