"""Pooling by windows that tile the plane: no element is in two.

The place of a maximum is kept as its tap, one byte; its gradient then is not scattered but chosen,
by whole vectors. Arrays are flat, sizes are (depth, height, width) as in ``pool.py``: D, H, W of
the input, OD, OH, OW of the windows. What lies behind the last window belongs to none.
"""
import functools
import typing

import numpy as np

from .stubs import T
from .window_stubs import fill_tiles, spread_tiles, tile_maxima, tile_means

u = np.uint64       # see ``pool.py``


class Windows(typing.NamedTuple):
    """Sizes of windows, and how many vectors take at a time."""
    kd: int
    kh: int
    kw: int
    lanes: int


@functools.cache
def maxima_for(kd, kh, kw, lanes):
    """Maxima and their taps for windows of one size, ``lanes`` of them at a time. By ``windows`` a
    fuser knows the kernel."""
    def max_of_tiles(x, out, where, D, H, W, OD, OH, OW, begin, end):
        to = begin * OD * OH * OW
        for plane in range(begin, end):
            for od in range(OD):
                for oh in range(OH):
                    at = ((plane * D + od * kd) * H + oh * kh) * W
                    tile_maxima(x, at, H * W, W, out, where, to, OW, kd, kh, kw, lanes)
                    to += OW

    max_of_tiles.windows = Windows(kd, kh, kw, lanes)
    return max_of_tiles


def clear_plane(out, plane, size):
    """Zeros: windows do not cover all of a plane."""
    for i in range(plane * size, (plane + 1) * size):
        out[u(i)] = T(0)


@functools.cache
def gradients_for(kd, kh, kw, lanes):
    """``out`` is ``grad`` where a window's maximum was, and else 0."""
    def spread_maxima(grad, where, out, D, H, W, OD, OH, OW, begin, end):
        at, covered = begin * OD * OH * OW, OD * kd * OH * kh * OW * kw
        for plane in range(begin, end):
            if covered < D * H * W:
                clear_plane(out, plane, D * H * W)
            for od in range(OD):
                for oh in range(OH):
                    to = ((plane * D + od * kd) * H + oh * kh) * W
                    spread_tiles(grad, where, at, out, to, H * W, W, OW, kd, kh, kw, lanes)
                    at += OW

    spread_maxima.spreads = Windows(kd, kh, kw, lanes)
    return spread_maxima


@functools.cache
def means_for(kd, kh, kw, lanes):
    """Sums of windows divided by one number."""
    def mean_of_tiles(x, out, D, H, W, OD, OH, OW, divisor, begin, end):
        to = begin * OD * OH * OW
        for plane in range(begin, end):
            for od in range(OD):
                for oh in range(OH):
                    at = ((plane * D + od * kd) * H + oh * kh) * W
                    tile_means(x, at, H * W, W, out, to, OW, divisor, kd, kh, kw, lanes)
                    to += OW

    return mean_of_tiles


@functools.cache
def shares_for(kd, kh, kw, lanes):
    """``out`` is ``grad / divisor`` all over a window, and 0 outside."""
    def share_in_tiles(grad, out, D, H, W, OD, OH, OW, divisor, begin, end):
        at, covered = begin * OD * OH * OW, OD * kd * OH * kh * OW * kw
        for plane in range(begin, end):
            if covered < D * H * W:
                clear_plane(out, plane, D * H * W)
            for od in range(OD):
                for oh in range(OH):
                    to = ((plane * D + od * kd) * H + oh * kh) * W
                    fill_tiles(grad, at, out, to, H * W, W, OW, divisor, kd, kh, kw, lanes)
                    at += OW

    return share_in_tiles


def pick_maxima(x, where, out, D, H, W, OD, OH, OW, kd, kh, kw, begin, end):
    """The elements of ``x`` at the places of maxima: the adjoint of ``gradients_for``'s."""
    for plane in range(begin, end):
        for od in range(OD):
            for oh in range(OH):
                at = ((plane * OD + od) * OH + oh) * OW
                for ow in range(OW):
                    tap = int(where[at + ow])
                    row, c = tap // kw, tap % kw
                    a, b = row // kh, row % kh
                    out[at + ow] = x[((plane * D + od * kd + a) * H + oh * kh + b) * W
                                     + ow * kw + c]
