"""Transposed copies: what lies side by side in the source is a step apart in the target, and the
other way round. Squares are turned in registers, so that both sides move whole vectors."""
import functools

from .gemm_stubs import turn_square

# The form of a copy. ROWS lie side by side in the source, COLUMNS in the target; COLUMN_STEP: from
# one column to the next in the source, ROW_STEP: from one row to the next in the target. Then of
# each outer dimension: its size, its steps in source and target.
ROWS, COLUMNS, COLUMN_STEP, ROW_STEP, BLOCKS, DEPTH = range(6)
OUTER = 6


@functools.cache
def turn_kernel(size):
    """``turn(source, target, form, begin, end)`` by squares of ``size``; no side is smaller.
    Range: blocks of rows of all matrices."""
    def turn(source, target, form, begin, end):
        rows, columns, blocks = form[ROWS], form[COLUMNS], form[BLOCKS]
        column_step, row_step = form[COLUMN_STEP], form[ROW_STEP]
        for item in range(begin, end):
            rest = item // blocks
            block = item - rest * blocks
            at, to = 0, 0
            for d in range(form[DEPTH]):
                count = form[OUTER + 3 * d]
                index = rest % count
                rest //= count
                at += index * form[OUTER + 3 * d + 1]
                to += index * form[OUTER + 3 * d + 2]
            first, last = block * rows // blocks, (block + 1) * rows // blocks
            for column in range(0, columns, size):
                c = min(column, columns - size)     # the last squares overlap those before
                for row in range(first, last, size):
                    r = min(row, rows - size)
                    turn_square(source, at + c * column_step + r, column_step, target,
                                to + r * row_step + c, row_step, size)
    return turn
