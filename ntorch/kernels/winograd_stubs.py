"""Intrinsics of convolution by minimal filtering, with their meaning in plain Python.

Their compiled twins are in ``runtime/intrinsics_winograd.py``.
"""
import ctypes

import numpy as np

from .stubs import stub

# The transforms of F(2x2, 3x3) by its points 0, 1, -1 and infinity: each is applied to both sides
# of a square, ``P s P^T``. Sums of products of ``image`` and ``weight`` come back by ``sums``; the
# other two are the adjoints of ``sums`` and ``weight``.
MATRICES = {
    "image": ((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, 0, -1)),
    "weight": ((1, 0, 0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0, 0, 1)),
    "sums": ((1, 1, 1, 0), (0, 1, -1, -1)),
    "grad": ((1, 0), (1, 1), (1, -1), (0, -1)),
    "weight_sums": ((1, 0.5, 0.5, 0), (0, 0.5, -0.5, 0), (0, 0.5, 0.5, 1)),
}


@stub
def transform_square(source, at, row, column, jump, out, to, out_row, out_column, kind, lanes):
    """``out = P s P^T`` for ``lanes`` squares that lie side by side; P is ``MATRICES[kind]``.

    ``s[i, j]`` is at ``at + i * row + j * column`` (plus ``jump`` from the third row on), the
    result's ``[i, j]`` at ``to + i * out_row + j * out_column``; ``lanes`` elements each. ``kind``
    and ``lanes`` are literals. Nothing checks the bounds.
    """
    matrix = np.array(MATRICES[kind])
    p, q = matrix.shape
    square = np.array([[[source[at + i * row + (i >= 2) * jump + j * column + lane]
                         for lane in range(lanes)] for j in range(q)] for i in range(q)])
    result = np.einsum("ik,jl,klv->ijv", matrix, matrix, square)
    for i in range(p):
        for j in range(p):
            for lane in range(lanes):
                out[to + i * out_row + j * out_column + lane] = result[i, j, lane]


@stub
def note_strange(values, at, row, column, notes, lanes):
    """Make ``notes[lane]`` NaN if one of its 2x2 values is infinite or NaN; else it stays 0.

    They are at ``at + i * row + j * column + lane``; ``lanes`` is a literal.
    """
    for i in range(2):
        for j in range(2):
            for lane in range(lanes):
                value = values[at + i * row + j * column + lane]
                notes[lane] += value - value


@stub
def array_at(like, table, slot, count):
    """The ``count`` elements of the type of ``like`` at the address in ``table[slot]``."""
    kind = np.asarray(like).dtype
    raw = (ctypes.c_char * (count * kind.itemsize)).from_address(int(table[slot]))
    return np.frombuffer(raw, kind)
