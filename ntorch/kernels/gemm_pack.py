"""Packers and epilogues of the contraction engine for strided matrices (contract: ``gemm.py``).

The factories take what differs between element types: ``widen`` reads a stored element into the
compute type, ``narrow`` rounds a sum to the stored type. Both default to a plain cast.
"""
import functools

from .gemm_stubs import move_line, turn_square
from .stubs import T

TOGETHER = 2            # panels that are packed side by side: longer runs of every row are read


def same(x):
    """For element types that are computed in as they are stored."""
    return x


def matrix_offset(batch, inner, outer_stride, inner_stride):
    """Where matrix ``batch`` starts: batches lie in two levels, ``inner`` to each outer one."""
    if inner == 1:
        return batch * outer_stride
    outer = batch // inner
    return outer * outer_stride + (batch - outer * inner) * inner_stride


def pack_lines_kernel(width, widen=same):
    """A packer of ``width`` lines a panel for matrices whose neighbouring lines lie side by side.

    Own parameters: ``source`` (flat, from the first element to the last), ``inner``,
    ``outer_stride``, ``inner_stride`` (see ``matrix_offset``), ``line_stride`` (taken as 1),
    ``depth_stride``.
    """
    def pack_lines(panel, batch, k0, kc, source, inner, outer_stride, inner_stride, line_stride,
                   depth_stride, begin, end):
        base = matrix_offset(batch, inner, outer_stride, inner_stride) + k0 * depth_stride
        for first in range(begin, end, width):
            block = panel[(first - begin) * kc:(first - begin + width) * kc]
            lines = min(width, end - first)
            for k in range(kc):
                here = base + first + k * depth_stride
                to = block[k * width:k * width + width]
                if lines == width:
                    full = source[here:here + width]
                    for i in range(width):
                        to[i] = widen(full[i])
                else:
                    part = source[here:here + lines]
                    for i in range(lines):
                        to[i] = widen(part[i])
                    for i in range(lines, width):
                        to[i] = T(0)
    return pack_lines


def pack_moved_kernel(width):
    """The same for elements that are packed as they are: whole lines of panels through registers,
    from ``TOGETHER`` panels' worth of a row at a time.
    """
    rest = pack_lines_kernel(width)

    def pack_moved(panel, batch, k0, kc, source, inner, outer_stride, inner_stride, line_stride,
                   depth_stride, begin, end):
        base = matrix_offset(batch, inner, outer_stride, inner_stride) + k0 * depth_stride
        whole = (end - begin) // width
        for first in range(0, whole, TOGETHER):
            panels = min(TOGETHER, whole - first)
            for k in range(kc):
                here = base + begin + first * width + k * depth_stride
                to = (first * kc + k) * width
                for _ in range(panels):
                    move_line(source, here, panel, to, width)
                    here += width
                    to += kc * width
        if begin + whole * width < end:
            rest(panel[whole * width * kc:], batch, k0, kc, source, inner, outer_stride,
                 inner_stride, line_stride, depth_stride, begin + whole * width, end)
    return pack_moved


def pack_depths_kernel(width, widen=same):
    """The same for any strides, read element by element."""
    def pack_depths(panel, batch, k0, kc, source, inner, outer_stride, inner_stride, line_stride,
                    depth_stride, begin, end):
        base = matrix_offset(batch, inner, outer_stride, inner_stride) + k0 * depth_stride
        for first in range(begin, end, width):
            block = panel[(first - begin) * kc:(first - begin + width) * kc]
            for i in range(width):
                if first + i >= end:
                    for k in range(kc):
                        block[k * width + i] = T(0)
                else:
                    start = base + (first + i) * line_stride
                    for k in range(kc):
                        block[k * width + i] = widen(source[start + k * depth_stride])
    return pack_depths


@functools.cache
def turn_kernel(square):
    """``turn(source, at, row, out, width, lines, depth)``: ``out[k * width + i] = source[at + i *
    row + k]`` for i < ``lines``, k < ``depth``, by squares of ``square`` (8 or 16) lines.

    Depths are outermost, so that what is written is finished a cache line at a time.
    """
    def turn(source, at, row, out, width, lines, depth):
        whole, fours = lines // square * square, lines // 4 * 4
        k = 0
        while k + square <= depth:
            for i in range(0, whole, square):
                turn_square(source, at + i * row + k, row, out, k * width + i, width, square)
            k += square
        for i in range(0, whole):
            line = source[at + i * row:at + i * row + depth]
            for rest in range(k, depth):
                out[rest * width + i] = line[rest]
        k = 0
        if whole < fours:
            while k + 4 <= depth:
                for i in range(whole, fours, 4):
                    turn_square(source, at + i * row + k, row, out, k * width + i, width, 4)
                k += 4
        for i in range(whole, lines):
            line = source[at + i * row:at + i * row + depth]
            for rest in range(k if i < fours else 0, depth):
                out[rest * width + i] = line[rest]
    return turn


def pack_turned_kernel(width, square=8):
    """The same for float32 and float64 whose neighbouring depths lie side by side: transposes in
    registers, by squares of ``square`` lines. ``depth_stride`` is taken as 1.
    """
    turn_panel = turn_kernel(square)

    def pack_turned(panel, batch, k0, kc, source, inner, outer_stride, inner_stride, line_stride,
                    depth_stride, begin, end):
        base = matrix_offset(batch, inner, outer_stride, inner_stride) + k0
        for first in range(begin, end, width):
            block = panel[(first - begin) * kc:(first - begin + width) * kc]
            lines = min(width, end - first)
            if lines < width:
                for k in range(kc):
                    for i in range(lines, width):
                        block[k * width + i] = T(0)
            turn_panel(source, base + first * line_stride, line_stride, block, width, lines, kc)
    return pack_turned


def store_kernel(narrow=same):
    """Epilogue ``out[batch, row + i, column + j] = tile[i, j]``; out is (batch, M, N)."""
    def store(tile, batch, row, column, columns, out, begin, end):
        for i in range(begin, end):
            to = out[batch, row + i, column:column + columns]
            sums = tile[i, :columns]
            for j in range(columns):
                to[j] = narrow(sums[j])
    return store


def store_affine_kernel(widen=same, narrow=same):
    """Epilogue ``out = alpha * tile + beta * c``; c has strides (0 where it is broadcast).

    Own parameters: ``out`` (batch, M, N), ``c`` (flat), its inner, outer_stride, inner_stride,
    row_stride and col_stride, alpha, beta. c is not read if beta is 0.
    """
    def store_affine(tile, batch, row, column, columns, out, c, inner, outer_stride, inner_stride,
                     row_stride, col_stride, alpha, beta, begin, end):
        base = matrix_offset(batch, inner, outer_stride, inner_stride) + column * col_stride
        for i in range(begin, end):
            to = out[batch, row + i, column:column + columns]
            sums = tile[i, :columns]
            start = base + (row + i) * row_stride
            if beta == T(0):
                for j in range(columns):
                    to[j] = narrow(alpha * sums[j])
            elif col_stride == 1:
                added = c[start:start + columns]
                for j in range(columns):
                    to[j] = narrow(alpha * sums[j] + beta * widen(added[j]))
            else:
                for j in range(columns):
                    to[j] = narrow(alpha * sums[j] + beta * widen(c[start + j * col_stride]))
    return store_affine
