"""Products in which one side is few lines: only that side is packed, the other is read as it lies.

Packing a matrix into panels costs as much as several of the products it is for, so with few of them
the roles are others than in ``gemm.py``. B, the few columns, is packed whole first. A's rows lie
side by side in memory; they are copied as they are, ``rows`` of them and one K block at a time, to
lines a constant apart, which stay in the first-level cache and cannot share its sets. The register
tile broadcasts from them.

A product with few *rows*, ``x @ w.T``, is the transposed one, ``w @ x.T``: its sums are turned,
square by square in registers, before the epilogue sees them, so that epilogues serve both.

A task is some rows of A times all of B, over all of K. It goes by strips of rows that hold whole
register tiles and whole squares. Each element's sum runs over k in
ascending order with the K blocks of ``gemm.py``, so how tasks are cut cannot be seen in the result.

Plans have the header, the memory, the packer of B and the epilogue of ``gemm.py``; M_PANELS counts
parts of A, MR rows each, that tasks are made of.
"""
from . import gemm
from .few_stubs import multiply_copying
from .gemm import (
    B_BASE,
    B_BATCH,
    FILL_B,
    ITEM,
    KC,
    LANE_BYTES,
    M_BLOCKS,
    M_PANELS,
    MR,
    N_PANELS,
    SCRATCH,
    STORE,
    STORE_AT,
    TASKS,
    TILE_BASE,
    K,
    M,
    N,
    fill_block,
)
from .gemm_pack import matrix_offset
from .gemm_stubs import call_kernel, move_line, multiply_tile, read_number, take_number, turn_square
from .stubs import T
from .winograd_stubs import array_at

LOOPS_STAY_ROLLED = True

# A plan's own words. A's matrices lie as ``gemm_pack.matrix_offset`` says, rows LINE apart. TURNED:
# whether the epilogue takes columns for rows. LINES_BASE, TURNED_BASE: scratch memory for the copy
# of A's rows and for turned sums. B_SIZE: elements of B packed, all matrices.
(SOURCE, SOURCE_SIZE, INNER, OUTER_STEP, INNER_STEP, LINE, TURNED, LINES_BASE, TURNED_BASE,
 B_SIZE) = range(gemm.HEADER, gemm.HEADER + 10)
WORDS = gemm.HEADER + 10


def _reading(rows, lanes, apart):
    """``element()``, a number of A's type, and ``copy_lines``, for A of the compute type."""
    def element():
        return T(0)

    def copy_lines(source, at, line, have, out, to, kc):
        """``have`` rows of A; what is in place of those past the last does not matter."""
        for i in range(min(have, rows)):
            here, there = at + i * line, to + i * apart
            if kc >= lanes:
                for k in range(0, kc - lanes + 1, lanes):
                    move_line(source, here + k, out, there + k, lanes)
                move_line(source, here + kc - lanes, out, there + kc - lanes, lanes)
            else:
                for k in range(kc):
                    out[there + k] = source[here + k]
    return element, copy_lines


def _widening(rows, apart, widen, word):
    """The same for A of a type that ``widen`` brings into the compute type; ``word`` is one of its
    elements."""
    def element():
        return word

    def copy_lines(source, at, line, have, out, to, kc):
        """``have`` rows of A."""
        for i in range(min(have, rows)):
            here, there = at + i * line, to + i * apart
            stored, row = source[here:here + kc], out[there:there + kc]
            for k in range(kc):
                row[k] = widen(stored[k])
    return element, copy_lines


def _never(source, at, line, have, wide, lines, held, free, b, b_at, tile, to, kc, k0):
    pass


def few_kernel(rows, vectors, lanes, strip, apart, square, widen=None, word=None):
    """The kernel that works through such a product with register tiles of ``rows`` x (``vectors`` x
    ``lanes``), in strips of ``strip`` rows; as ``gemm.contract_tasks``.

    ``apart``: elements from one copied row to the next. ``square``: side of the squares that sums
    are turned by; it divides the tile's width, which divides ``strip``, as ``rows`` does. ``widen``
    and ``word``: see ``_widening``.
    """
    width = vectors * lanes
    two_thirds, third, half = max(1, rows * 2 // 3), max(1, rows // 3), max(1, vectors // 2)
    narrow = lanes // 2 if lanes >= 8 else lanes
    most = max(width - narrow, half * lanes)        # columns that make less than a whole tile

    copies = widen is None          # rows while it multiplies those before them
    element, copy_lines = _reading(rows, lanes, apart) if copies else _widening(
        rows, apart, widen, word)

    def multiply_panel(lines, held, b, at, tile, to, kc, k0, count, columns):
        """Up to ``rows`` copied lines by one panel of B, of which ``columns`` or more are wanted.

        Panels are always full width; smaller tiles spare the arithmetic on padding.
        """
        if columns > most:
            if count > two_thirds:
                multiply_tile(lines, held, apart, 1, b, at, width, tile, to, width, kc, k0, width,
                              rows, vectors, lanes, 0)
            elif count > third:
                multiply_tile(lines, held, apart, 1, b, at, width, tile, to, width, kc, k0, width,
                              two_thirds, vectors, lanes, 0)
            else:
                multiply_tile(lines, held, apart, 1, b, at, width, tile, to, width, kc, k0, width,
                              third, vectors, lanes, 0)
        else:
            done = 0
            if columns > narrow:
                multiply_tile(lines, held, apart, 1, b, at, width, tile, to, width, kc, k0, width,
                              rows, half, lanes, 0)
                done = half * lanes
            if columns > done:
                multiply_tile(lines, held, apart, 1, b, at + done, width, tile, to + done, width,
                              kc, k0, width, rows, 1, narrow, 0)

    def multiply_ahead(source, at, line, have, wide, lines, held, free, b, b_at, tile, to, kc, k0):
        """``rows`` lines by a whole panel of B, while those that come next are copied."""
        multiply_copying(lines, held, apart, b, b_at, width, tile, to, width, kc, k0, source, at,
                         line, have, wide, lines, free, rows, vectors, lanes)
        if kc // lanes * lanes < wide:          # columns that it may have left
            for i in range(have):
                move_line(source, at + i * line + wide - lanes, lines,
                          free + i * apart + wide - lanes, lanes)

    if not copies:
        multiply_ahead = _never

    def multiply_strip(plan, tile, batch, row, count):
        columns, panels, depth, line = plan[N], plan[N_PANELS], plan[K], plan[LINE]
        source = array_at(element(), plan, SOURCE, plan[SOURCE_SIZE])
        lines = array_at(T(0), plan, LINES_BASE, 2 * rows * apart)
        b = array_at(T(0), plan, B_BASE, plan[B_SIZE])
        from_a = matrix_offset(batch, plan[INNER], plan[OUTER_STEP], plan[INNER_STEP]) + row * line
        from_b = batch * (plan[B_BATCH] // plan[ITEM])
        held, copied, k0 = 0, False, 0
        while k0 == 0 or k0 < depth:
            kc = min(plan[KC], depth - k0)
            for first in range(0, count, rows):
                if not copied:
                    copy_lines(source, from_a + first * line + k0, line, count - first, lines, held,
                               kc)
                # the rows that come next: of this block, or the first ones of the next
                ahead, have, wide = from_a + k0 + kc, count, min(plan[KC], depth - k0 - kc)
                if first + rows < count:
                    ahead, have, wide = ahead + (first + rows) * line - kc, count - first - rows, kc
                have, free = min(have, rows), rows * apart - held
                copied = copies and wide >= lanes and count - first > two_thirds and columns > most
                at, to = from_b + k0 * panels * width, first * width
                for panel in range(panels):
                    if panel == 0 and copied:
                        multiply_ahead(source, ahead, line, have, wide, lines, held, free, b, at,
                                       tile, to, kc, k0)
                    else:
                        multiply_panel(lines, held, b, at, tile, to, kc, k0, count - first,
                                       columns - panel * width)
                    at += kc * width
                    to += strip * width
                if copied:
                    held = free
            k0 += max(kc, 1)

    def store_part(plan, address, count, batch, row, column, columns):
        """Have the epilogue take some lines of sums; ``address`` is the slot that has theirs."""
        out = plan[plan[STORE_AT]:]
        out[0], out[1], out[2] = address, count, width
        out[3], out[4], out[5], out[6] = batch, row, column, columns
        call_kernel(plan, STORE, plan[STORE_AT], 0, count)

    def store_turned(plan, tile, batch, row, count):
        turned = array_at(T(0), plan, TURNED_BASE, width * width)
        for part in range(0, count, width):
            for panel in range(plan[N_PANELS]):
                have = min(width, plan[N] - panel * width)
                at = (panel * strip + part) * width
                for i in range(0, width, square):
                    for j in range(0, have, square):
                        turn_square(tile, at + i * width + j, width, turned, j * width + i, width,
                                    square)
                store_part(plan, plan[TURNED_BASE], have, batch, panel * width, row + part,
                           min(width, count - part))

    def contract_rows(plan, batch, row, count):
        tile = array_at(T(0), plan, TILE_BASE, plan[N_PANELS] * strip * width)
        multiply_strip(plan, tile, batch, row, count)
        if plan[TURNED] == 1:
            store_turned(plan, tile, batch, row, count)
        else:
            for panel in range(plan[N_PANELS]):
                store_part(plan, plan[TILE_BASE] + panel * strip * width * plan[ITEM], count, batch,
                           row, panel * width, min(width, plan[N] - panel * width))

    def contract_few(words, lanes_, counters, begin, end):
        for lane in range(begin, end):
            plan = lanes_[lane]
            for i in range(words.size):
                plan[i] = words[i]
            scratch = plan[SCRATCH] + lane * plan[LANE_BYTES]
            plan[TILE_BASE] += scratch
            plan[LINES_BASE] += scratch
            plan[TURNED_BASE] += scratch
            task = take_number(counters, 0)
            while task < plan[FILL_B]:
                fill_block(plan, task, False)
                take_number(counters, 16)
                task = take_number(counters, 0)
            while read_number(counters, 16) < plan[FILL_B]:
                pass
            task = take_number(counters, 32)
            while task < plan[TASKS]:
                batch = task // plan[M_BLOCKS]
                block = task - batch * plan[M_BLOCKS]
                row = block * plan[M_PANELS] // plan[M_BLOCKS] * plan[MR]
                last = min(plan[M], (block + 1) * plan[M_PANELS] // plan[M_BLOCKS] * plan[MR])
                while row < last:
                    contract_rows(plan, batch, row, min(strip, last - row))
                    row += strip
                task = take_number(counters, 32)
    return contract_few
