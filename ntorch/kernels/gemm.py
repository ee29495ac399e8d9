"""The contraction engine: ``out = epilogue(A @ B)`` over packed panels, cut into independent tasks.

One matrix product serves matmul, linear, bmm, convolution and the recurrent layers. They differ in
two *packers*, which bring the operands into panels, and one *epilogue*, which takes finished sums
away. Product, packers and epilogue are separate kernels, each compiled once and called through its
address, so another operand layout or a fused activation needs no new matrix product.

Panels
    A (M x K) is kept in panels of ``MR`` rows, B (K x N) in panels of ``NR`` columns. Both are
    "lines x depth": a line is a row of A or a column of B. Within one K block of depth ``kc``,
    line ``l`` at depth ``k`` is at ``((l // R) * kc + k) * R + l % R``, counted from the first line
    of the block (a multiple of R). Lines past the last are zeros up to a whole panel. The K blocks
    are ``[0, KC), [KC, 2 KC), ...``; they depend on K alone. A *shared* operand is packed whole,
    once, before the product: K block ``k0`` starts at element ``k0 * panels * R``.

Packer: ``pack(panel, batch, k0, kc, <own parameters>, begin, end)``
    writes the lines ``[begin, end)`` at the depths ``[k0, k0 + kc)`` of matrix ``batch`` to
    ``panel`` (``T:1C``, of exactly the block's size), zero lines included. ``begin`` is a multiple
    of R; ``end`` is one, or the number of lines. Slots: ``panel`` 2, then batch, k0, kc, then its
    own.

Epilogue: ``store(tile, batch, row, column, columns, <own parameters>, begin, end)``
    takes rows ``[begin, end)`` of ``tile`` (``T:2C``, NR wide): ``tile[i, j]`` is the finished sum
    of output element ``(row + i, column + j)``, ``j < columns`` of matrix ``batch``. It may change
    ``tile``. Every output element is passed exactly once. Slots: ``tile`` 3, then batch, row,
    column, columns, then its own.

Product: ``product(a, b, tile, kc, rows, columns, accumulate, begin, end)``
    multiplies the row panels ``[begin, end)`` of a block of A by one panel of B.

Tasks
    A task is a block of whole panels of one matrix: some row panels times some column panels, over
    all of K. It packs the operands that are not shared, and sums into a tile of its own.
    Each element's sum runs over k in ascending order with the K blocks as above, so how the
    tasks are cut and which thread runs them cannot be seen in the result.

Plan
    What is to be done is one row of int64: the header named by the constants below, then the tables
    of product, packers and epilogue, whose first slots ``contract_block`` rewrites for each call.
    Each lane (a thread's worth of scratch memory) works on a copy of the row.
    ``ops/contraction_plan.py`` writes plans.
"""
from .gemm_stubs import call_kernel, multiply_tile, read_number, take_number

LOOPS_STAY_ROLLED = True

# Header of a plan. *_BASE are addresses, counted from the lane's scratch memory if not shared;
# *_BATCH bytes between the matrices of a shared operand; *_AT say where in the row a kernel's table
# starts. FILL_*: tasks, and blocks a matrix, of the shared packing that comes before the product.
(TASKS, M_BLOCKS, N_BLOCKS, M, N, K, M_PANELS, N_PANELS, MR, NR, KC, ITEM,
 A_SHARED, A_BASE, A_BATCH, B_SHARED, B_BASE, B_BATCH, TILE_BASE, TILE_STEP,
 PRODUCT, PACK_A, PACK_B, STORE, PRODUCT_AT, A_AT, B_AT, STORE_AT,
 FILL_A, FILL_A_BLOCKS, FILL_B, FILL_B_BLOCKS, SCRATCH, LANE_BYTES) = range(34)
HEADER = 34
PACK_SLOTS, STORE_SLOTS, PRODUCT_SLOTS = 5, 7, 10       # slots before a kernel's own parameters


def product_kernel(rows, vectors, lanes):
    """The product for register tiles of ``rows`` x (``vectors`` x ``lanes``).

    Panels are always full width; where fewer rows or columns are wanted, smaller tiles spare the
    arithmetic on padding: two thirds and one third of the rows, half of the columns.
    """
    width = vectors * lanes
    two_thirds, third, half = max(1, rows * 2 // 3), max(1, rows // 3), max(1, vectors // 2)

    def product(a, b, tile, kc, m, columns, accumulate, begin, end):
        for panel in range(begin, end):
            left = m - panel * rows
            at = panel * rows * kc
            to = panel * rows * width
            if columns > half * lanes:
                if left > two_thirds:
                    multiply_tile(a, at, 1, rows, b, 0, width, tile, to, width, kc, accumulate,
                                  width, rows, vectors, lanes, 0)
                elif left > third:
                    multiply_tile(a, at, 1, rows, b, 0, width, tile, to, width, kc, accumulate,
                                  width, two_thirds, vectors, lanes, 0)
                else:
                    multiply_tile(a, at, 1, rows, b, 0, width, tile, to, width, kc, accumulate,
                                  width, third, vectors, lanes, 0)
            elif left > third:
                multiply_tile(a, at, 1, rows, b, 0, width, tile, to, width, kc, accumulate,
                              width, rows, half, lanes, 0)
            else:
                multiply_tile(a, at, 1, rows, b, 0, width, tile, to, width, kc, accumulate,
                              width, third, half, lanes, 0)
    return product


def _pack_block(plan, function, at, base, batch, k0, kc, begin, end, size):
    """Have a packer write lines ``[begin, end)`` of one K block at address ``base``."""
    plan[at] = base
    plan[at + 1] = size
    plan[at + 2] = batch
    plan[at + 3] = k0
    plan[at + 4] = kc
    call_kernel(plan, function, at, begin, end)


def contract_block(plan, batch, row_begin, row_end, col_begin, col_end):
    """Compute and store the row panels x column panels of matrix ``batch``, over all of K.

    Serial; the plan's scratch memory must fit the block. Other kernels may call it directly.
    """
    mr, nr, depth, item = plan[MR], plan[NR], plan[K], plan[ITEM]
    row, column0 = row_begin * mr, col_begin * nr
    rows = min(plan[M], row_end * mr) - row
    panels = row_end - row_begin
    a = plan[A_BASE] + batch * plan[A_BATCH] * plan[A_SHARED]
    b = plan[B_BASE] + batch * plan[B_BATCH] * plan[B_SHARED]
    task, out = plan[plan[PRODUCT_AT]:], plan[plan[STORE_AT]:]
    k0 = 0
    while k0 == 0 or k0 < depth:
        kc = min(plan[KC], depth - k0)
        a_block, b_block = a, b
        if plan[A_SHARED] == 1:
            a_block += (k0 * plan[M_PANELS] + row_begin * kc) * mr * item
        else:
            _pack_block(plan, PACK_A, plan[A_AT], a, batch, k0, kc, row, row + rows,
                        panels * mr * kc)
        if plan[B_SHARED] == 1:
            b_block += (k0 * plan[N_PANELS] + col_begin * kc) * nr * item
        else:
            _pack_block(plan, PACK_B, plan[B_AT], b, batch, k0, kc, column0,
                        min(col_end * nr, plan[N]), (col_end - col_begin) * nr * kc)
        task[0], task[1] = a_block, panels * mr * kc
        task[3], task[5] = nr * kc, panels * mr * nr
        task[6], task[7], task[9] = kc, rows, k0
        for panel in range(col_end - col_begin):
            column = column0 + panel * nr
            tile = plan[TILE_BASE] + panel * plan[TILE_STEP]
            task[2], task[4] = b_block + panel * kc * nr * item, tile
            task[8] = min(nr, plan[N] - column)
            call_kernel(plan, PRODUCT, plan[PRODUCT_AT], 0, panels)
            if k0 + kc == depth:
                out[0], out[1], out[2] = tile, rows, nr
                out[3], out[4], out[5], out[6] = batch, row, column, min(nr, plan[N] - column)
                call_kernel(plan, STORE, plan[STORE_AT], 0, rows)
        k0 += max(kc, 1)


def fill_block(plan, task, a_side):
    """Pack one block of panels of an operand that is to be shared, over all of K."""
    lines, panels, width, blocks = plan[N], plan[N_PANELS], plan[NR], plan[FILL_B_BLOCKS]
    base, stride, function, at = plan[B_BASE], plan[B_BATCH], PACK_B, plan[B_AT]
    if a_side:
        lines, panels, width, blocks = plan[M], plan[M_PANELS], plan[MR], plan[FILL_A_BLOCKS]
        base, stride, function, at = plan[A_BASE], plan[A_BATCH], PACK_A, plan[A_AT]
    batch = task // blocks
    block = task - batch * blocks
    begin = block * panels // blocks
    end = (block + 1) * panels // blocks
    k0 = 0
    while k0 < plan[K]:
        kc = min(plan[KC], plan[K] - k0)
        to = base + batch * stride + (k0 * panels + begin * kc) * width * plan[ITEM]
        _pack_block(plan, function, at, to, batch, k0, kc, begin * width,
                    min(end * width, lines), (end - begin) * width * kc)
        k0 += kc


def contract_tasks(words, lanes, counters, begin, end):
    """Work through a contraction with the lanes ``[begin, end)``; row ``i`` of ``lanes`` is lane
    i's.

    First operands that are to be shared are packed, then the tasks are done; both are taken by
    number from ``counters``, which are zero at the start, so a lane run late finds nothing to do.
    """
    for lane in range(begin, end):
        plan = lanes[lane]
        for i in range(words.size):
            plan[i] = words[i]
        scratch = plan[SCRATCH] + lane * plan[LANE_BYTES]
        plan[TILE_BASE] += scratch
        plan[A_BASE] += scratch * (1 - plan[A_SHARED])
        plan[B_BASE] += scratch * (1 - plan[B_SHARED])
        fills = plan[FILL_A] + plan[FILL_B]
        if fills > 0:
            task = take_number(counters, 0)
            while task < fills:
                if task < plan[FILL_A]:
                    fill_block(plan, task, True)
                else:
                    fill_block(plan, task - plan[FILL_A], False)
                take_number(counters, 16)
                task = take_number(counters, 0)
            while read_number(counters, 16) < fills:
                pass
        blocks = plan[M_BLOCKS] * plan[N_BLOCKS]
        task = take_number(counters, 32)
        while task < plan[TASKS]:
            batch = task // blocks
            block = task - batch * blocks
            column = block // plan[M_BLOCKS]
            row = block - column * plan[M_BLOCKS]
            contract_block(plan, batch, row * plan[M_PANELS] // plan[M_BLOCKS],
                           (row + 1) * plan[M_PANELS] // plan[M_BLOCKS],
                           column * plan[N_PANELS] // plan[N_BLOCKS],
                           (column + 1) * plan[N_PANELS] // plan[N_BLOCKS])
            task = take_number(counters, 32)
