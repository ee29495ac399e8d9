"""The intrinsic of ``gemm_few.py``, with its meaning in plain Python.

Its compiled twin is in ``runtime/microkernel_few.py``.
"""
from .gemm_stubs import multiply_tile
from .stubs import stub


@stub
def multiply_copying(a, a_at, a_row, b, b_at, b_step, c, c_at, c_row, depth, accumulate, source, at,
                     line, have, wide, out, to, rows, vectors, lanes):
    """``multiply_tile`` of whole vectors with ``a_step`` 1, which meanwhile copies.

    ``out[to + i * a_row + k] = source[at + i * line + k]`` for i < ``have`` <= ``rows`` and
    k < ``wide // lanes * lanes`` or ``depth // lanes * lanes``, whichever is less, and perhaps some
    more k < ``wide``; ``wide`` is at least ``lanes``. The strides and the last three arguments are
    literals. It asks for the lines that come after these, too. Nothing checks the bounds.
    """
    multiply_tile(a, a_at, a_row, 1, b, b_at, b_step, c, c_at, c_row, depth, accumulate,
                  vectors * lanes, rows, vectors, lanes, 0)
    for i in range(have):
        for k in range(min(wide, depth) // lanes * lanes):
            out[to + i * a_row + k] = source[at + i * line + k]
