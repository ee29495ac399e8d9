"""Intrinsics of the contraction engine, with their meaning in plain Python.

Their compiled twins are in ``runtime/microkernel.py``.
"""
import ctypes

import numpy as np

from .stubs import stub


@stub
def multiply_tile(a, a_at, a_row, a_step, b, b_at, b_step, c, c_at, c_row, depth, accumulate,
                  columns, rows, vectors, lanes, masked):
    """``c[i, j] = (accumulate ? c[i, j] : 0) + sum over k < depth of a[i, k] * b[k, j]``.

    The arrays are flat; ``a[i, k]`` is at ``a_at + i * a_row + k * a_step``, ``b[k, j]`` at
    ``b_at + k * b_step + j``, ``c[i, j]`` at ``c_at + i * c_row + j``. i < ``rows`` and
    j < ``vectors * lanes``; these three and ``masked`` are literals. With ``masked`` only the
    columns j < ``columns`` are read and written. Nothing checks the bounds: the caller does.
    """
    width = min(columns, vectors * lanes) if masked else vectors * lanes
    for i in range(rows):
        for j in range(width):
            total = c[c_at + i * c_row + j] if accumulate else c.dtype.type(0)
            for k in range(depth):
                total += a[a_at + i * a_row + k * a_step] * b[b_at + k * b_step + j]
            c[c_at + i * c_row + j] = total


@stub
def call_kernel(table, function_at, arguments_at, begin, end):
    """Call the kernel at address ``table[function_at]`` on the slots from ``arguments_at`` on."""
    kind = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
    kind(int(table[function_at]))(table[arguments_at:].ctypes.data, begin, end)


@stub
def take_number(counters, index):
    """Atomic ``counters[index] += 1``; the value before: each number is taken by one thread."""
    counters[index] += 1
    return int(counters[index]) - 1


@stub
def read_number(counters, index):
    """Atomic read: what was written before the number was counted up is seen after it is read."""
    return int(counters[index])


@stub
def stack_array(like, count):
    """``count`` uninitialised elements of the type of ``like``, gone when the function returns."""
    return np.empty(count, np.asarray(like).dtype)


@stub
def move_line(source, at, out, to, size):
    """``out[to + i] = source[at + i]`` for i < ``size``, a literal, in vector registers.

    For one element type on both sides. Nothing checks the bounds; a slice costs more than the copy.
    """
    for i in range(size):
        out[to + i] = source[at + i]


@stub
def fetch_line(source, at):
    """Ask for the cache line of ``source[at]``, to be written or read some microseconds later.

    ``at`` may lie outside.
    """


@stub
def turn_square(source, at, row, out, to, step, size):
    """``out[to + j * step + i] = source[at + i * row + j]`` for i, j < ``size``, a literal.

    A square block transposed in registers, for float32 and float64. Nothing checks the bounds.
    """
    for i in range(size):
        for j in range(size):
            out[to + j * step + i] = source[at + i * row + j]
