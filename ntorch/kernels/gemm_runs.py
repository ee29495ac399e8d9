"""Copies of short runs for the epilogues of contractions (``jit/epilogue_code.py``).

A run is some of the columns of a tile. Blocks of eight and four that overlap at the end leave no
remainder, so that a run costs a few vector moves and no call of ``memcpy``.
"""
from .gemm_stubs import move_line


def move_run(source, at, out, to, size):
    """``out[to + i] = source[at + i]`` for i < ``size``; both of one type, side by side."""
    if size >= 8:
        for i in range(0, size - 7, 8):
            move_line(source, at + i, out, to + i, 8)
        move_line(source, at + size - 8, out, to + size - 8, 8)
    elif size >= 4:
        move_line(source, at, out, to, 4)
        move_line(source, at + size - 4, out, to + size - 4, 4)
    else:
        for i in range(size):
            move_line(source, at + i, out, to + i, 1)
