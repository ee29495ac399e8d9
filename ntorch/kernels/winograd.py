"""3x3 convolution by minimal filtering: F(2x2, 3x3) (Winograd 1980; Lavin and Gray, CVPR 2016).

The output is cut into tiles of 2x2 positions, each of which sees 4x4 of the image. Image tiles and
filters are transformed (``winograd_stubs.MATRICES``); then 16 matrix products over the channels,
one for each element of a transformed tile, take the place of the convolution: 16 multiplications
for four outputs where the definition needs 36. The transforms are sums and halvings of a few
numbers, so the error stays that of the direct sum (measured: ``tests/test_winograd.py``).

Within a task everything is laid out with the channels innermost, where all of it is vectors of
neighbouring elements whatever the size of the image:

    lines of the image, transposed (positions x channels)
    -> 16 planes of transformed tiles (tiles x channels)
    -> 16 products with the transformed filters (tiles x filters)
    -> two lines of the output (positions x filters), transposed for the epilogue.

A product's result goes to the plane before the one it reads, which is not needed any more. The
filters are transformed once, to panels, before the products. A task is some rows of tiles, over all
channels and filters: what a task computes does not depend on the cut. What is not finite then is
computed again (``winograd_repair.py``). Plans (``winograd_words.py``) have the header, the memory
and the epilogue of ``gemm.py``; N is the filters' dimension, and an epilogue gets rows of the
output, transposed, as tiles of all filters x ``NR`` positions. The gradient in the filters:
``winograd_weight.py``.
"""
import functools

from .gemm import (
    A_BASE,
    FILL_A,
    FILL_A_BLOCKS,
    LANE_BYTES,
    PRODUCT,
    PRODUCT_AT,
    SCRATCH,
    STORE,
    STORE_AT,
    TASKS,
    TILE_BASE,
)
from .gemm_stubs import (
    call_kernel,
    multiply_tile,
    read_number,
    stack_array,
    take_number,
    turn_square,
)
from .stubs import T
from .winograd_repair import repair_lines
from .winograd_stubs import array_at, note_strange, transform_square
from .winograd_words import (
    ACROSS,
    ALL_ROWS,
    BY_CHANNEL,
    BY_FILTER,
    CHANNELS,
    DOWN,
    FILTERS,
    GRADS,
    HEIGHT,
    IMAGE,
    IMAGE_SIZE,
    LINE,
    LINES,
    OUT_HEIGHT,
    OUT_LINE,
    OUT_PITCH,
    OUT_WIDTH,
    PAD_X,
    PAD_Y,
    PANELS,
    PITCH,
    PLANE,
    PLANES,
    POSITION_ROW,
    ROWS,
    STAGE,
    SUMS,
    TURNED,
    WEIGHT,
    WEIGHT_SIZE,
    WIDTH,
)

RING = 4                # lines of the image that are kept: those of one row of tiles


def product_kernel(rows, vectors, lanes):
    """``c[p] = a[p] @ b[p]`` for planes p; register tiles as in ``gemm.product_kernel``.

    ``a[p][i, k]`` is at ``p * a_plane + i * a_row + k * a_step``, ``b[p][k, j]`` at ``p * b_plane +
    j // width * b_panel + k * b_step + j % width``. c has room for whole register tiles. Range:
    planes.
    """
    width = vectors * lanes
    two_thirds, third, half = max(1, rows * 2 // 3), max(1, rows // 3), max(1, vectors // 2)

    def product(a, b, c, a_plane, a_row, a_step, b_plane, b_panel, b_step, c_plane, c_row, depth,
                m, n, accumulate, begin, end):
        for plane in range(begin, end):
            for panel in range((n + width - 1) // width):
                columns = n - panel * width
                right = plane * b_plane + panel * b_panel
                for k in range(0, depth, 256):
                    kc, more = min(256, depth - k), max(accumulate, k)
                    at, to = plane * a_plane + k * a_step, plane * c_plane + panel * width
                    i = 0
                    while i < m:
                        left = m - i
                        if columns > half * lanes:
                            if left > two_thirds:
                                multiply_tile(a, at, a_row, a_step, b, right, b_step, c, to, c_row,
                                              kc, more, width, rows, vectors, lanes, 0)
                            elif left > third:
                                multiply_tile(a, at, a_row, a_step, b, right, b_step, c, to, c_row,
                                              kc, more, width, two_thirds, vectors, lanes, 0)
                            else:
                                multiply_tile(a, at, a_row, a_step, b, right, b_step, c, to, c_row,
                                              kc, more, width, third, vectors, lanes, 0)
                        elif left > third:
                            multiply_tile(a, at, a_row, a_step, b, right, b_step, c, to, c_row,
                                          kc, more, width, rows, half, lanes, 0)
                        else:
                            multiply_tile(a, at, a_row, a_step, b, right, b_step, c, to, c_row,
                                          kc, more, width, third, half, lanes, 0)
                        i += rows
                        at += rows * a_row
                        to += rows * c_row
                    right += 256 * b_step
    return product


def turn_lines(source, at, row, out, to, step, lines, depth):
    """``out[to + k * step + i] = source[at + i * row + k]`` for i < ``lines``, k < ``depth``.

    Squares of 8 or 4 that overlap at the end leave no remainder; ``lines`` is 8 or more.
    """
    i = 0
    while i < lines:
        i = min(i, lines - 8)
        here, there = at + i * row, to + i
        if depth >= 8:
            for k in range(0, depth - 7, 8):
                turn_square(source, here + k, row, out, there + k * step, step, 8)
            if depth % 8 != 0:
                k = depth - 8
                turn_square(source, here + k, row, out, there + k * step, step, 8)
        else:
            for k in range(depth):
                for j in range(8):
                    out[there + k * step + j] = source[here + j * row + k]
        i += 8


def load_line(plan, lines, image, y):
    """Line ``y`` of the padded image, transposed, to its place in the ring."""
    line, pitch, width = plan[LINE], plan[PITCH], plan[WIDTH]
    inside, to = y - plan[PAD_Y], y % RING * pitch
    if inside < 0 or inside >= plan[HEIGHT]:
        ring = lines[to:to + pitch]
        for i in range(pitch):
            ring[i] = T(0)
        return
    plane = plan[HEIGHT] * width
    source = array_at(T(0), plan, IMAGE, plan[IMAGE_SIZE])
    turn_lines(source, image * plan[CHANNELS] * plane + inside * width, plane, lines,
               to + plan[PAD_X] * line, line, plan[CHANNELS], width)


@functools.cache
def tiles_of(lanes):
    """``load_tiles(plan, planes, first, image, begin, end)`` with vectors of ``lanes``."""
    def load_tiles(plan, planes, first, image, begin, end):
        """Transform the rows ``[begin, end)`` of tiles of an image, to ``planes`` from element
        ``first`` on."""
        line, pitch, plane = plan[LINE], plan[PITCH], plan[PLANE]
        lines = array_at(T(0), plan, LINES, RING * pitch)
        for row in range(begin, end):
            for y in range(2 * row if row == begin else 2 * row + 2, 2 * row + 4):
                load_line(plan, lines, image, y)
            start, jump = 0, 0
            if row % 2 == 1:        # the upper half of the tile is in the ring's upper half
                start, jump = 2 * pitch, -RING * pitch
            for across in range(plan[ACROSS]):
                for v in range(0, plan[CHANNELS], lanes):
                    transform_square(lines, start + 2 * across * line + v, pitch, line, jump,
                                     planes, first + v, 4 * plane, plane, "image", lanes)
                first += line
    return load_tiles


@functools.cache
def filters_of(width, lanes):
    """``fill_filters(plan, task)``: transform the filters of a panel, for a block of channels."""
    room = 9 * width

    def fill_filters(plan, task):
        channels = plan[CHANNELS]
        panel = task // plan[FILL_A_BLOCKS]
        block = task - panel * plan[FILL_A_BLOCKS]
        weight = array_at(T(0), plan, WEIGHT, plan[WEIGHT_SIZE])
        out = array_at(T(0), plan, A_BASE, 16 * plan[PANELS] * channels * width)
        stage = stack_array(T(0), room)
        for i in range(room):
            stage[i] = T(0)
        count = min(width, plan[FILTERS] - panel * width)
        plane = plan[PANELS] * channels * width
        corner, row, column = 0, 3 * width, width
        if plan[TURNED] == 1:
            corner, row, column = 8 * width, -3 * width, -width
        for c in range(block * channels // plan[FILL_A_BLOCKS],
                       (block + 1) * channels // plan[FILL_A_BLOCKS]):
            at = panel * width * plan[BY_FILTER] + c * plan[BY_CHANNEL]
            for i in range(count):
                for tap in range(9):
                    stage[tap * width + i] = weight[at + tap]
                at += plan[BY_FILTER]
            for v in range(0, width, lanes):
                transform_square(stage, corner + v, row, column, 0, out,
                                 (panel * channels + c) * width + v, 4 * plane, plane, "weight",
                                 lanes)
    return fill_filters


@functools.cache
def finish_of(width, lanes):
    """``finish_row(plan, planes, first, image, row)``: a row of tiles to two lines of output."""
    def finish_row(plan, planes, first, image, row):
        line, pitch, plane = plan[OUT_LINE], plan[OUT_PITCH], plan[PLANE]
        filters, across = plan[FILTERS], plan[OUT_WIDTH]
        stage = array_at(T(0), plan, STAGE, 2 * pitch)
        tile = array_at(T(0), plan, TILE_BASE, line * width)
        notes, strange = stack_array(T(0), lanes), T(0)
        for i in range(lanes):
            notes[i] = T(0)
        for x in range(plan[ACROSS]):
            for v in range(0, filters, lanes):
                transform_square(planes, first + x * line + v, 4 * plane, plane, 0, stage,
                                 2 * x * line + v, pitch, line, "sums", lanes)
                note_strange(stage, 2 * x * line + v, pitch, line, notes, lanes)
        for i in range(lanes):
            strange += notes[i]
        if strange != T(0):             # NaN
            repair_lines(plan, stage, image, row)
        store = plan[plan[STORE_AT]:]
        for i in range(min(2, plan[OUT_HEIGHT] - 2 * row)):
            for x in range(0, across, width):
                count = min(width, across - x)
                for o in range(0, filters, 8):
                    for k in range((count - 1) // 8 * 8, -1, -8):   # a narrow tile's row overlaps
                        turn_square(stage, i * pitch + (x + k) * line + o, line, tile,
                                    o * width + k, width, 8)
                store[0], store[1], store[2] = plan[TILE_BASE], filters, width
                store[3], store[4] = image, 0
                store[5], store[6] = (2 * row + i) * plan[POSITION_ROW] + x, count
                call_kernel(plan, STORE, plan[STORE_AT], 0, filters)
    return finish_row


def start_lane(plan, words, lane):
    """Give a lane its copy of the plan, with the addresses of its scratch memory."""
    for i in range(words.size):
        plan[i] = words[i]
    scratch = plan[SCRATCH] + lane * plan[LANE_BYTES]
    plan[TILE_BASE] += scratch
    plan[LINES] += scratch
    plan[PLANES] += scratch
    plan[STAGE] += scratch
    plan[GRADS] += scratch
    plan[SUMS] += scratch
    lines = array_at(T(0), plan, LINES, RING * plan[PITCH])
    for i in range(RING * plan[PITCH]):         # what is right and left of the image stays zero
        lines[i] = T(0)


def conv_kernel(width, lanes):
    """The kernel that works through a convolution; as ``gemm.contract_tasks``."""
    load_tiles, fill_filters = tiles_of(lanes), filters_of(width, lanes)
    finish_row = finish_of(width, lanes)

    def conv_rows(plan, begin, end):
        down, plane = plan[DOWN], plan[PLANE]
        planes = array_at(T(0), plan, PLANES, 17 * plane)
        row = begin
        while row < end:
            image = row // down
            stop = min(end, (image + 1) * down)
            load_tiles(plan, planes, plane + (row - begin) * plan[ACROSS] * plan[LINE], image,
                       row - image * down, stop - image * down)
            row = stop
        product = plan[plan[PRODUCT_AT]:]
        product[0], product[2] = plan[PLANES] + 4 * plane, plan[A_BASE]
        product[4], product[15] = plan[PLANES], (end - begin) * plan[ACROSS]
        call_kernel(plan, PRODUCT, plan[PRODUCT_AT], 0, 16)
        for row in range(begin, end):
            image = row // down
            finish_row(plan, planes, (row - begin) * plan[ACROSS] * plan[OUT_LINE], image,
                       row - image * down)

    def conv_tasks(words, lanes, counters, begin, end):
        for lane in range(begin, end):
            plan = lanes[lane]
            start_lane(plan, words, lane)
            task = take_number(counters, 0)
            while task < plan[FILL_A]:
                fill_filters(plan, task)
                take_number(counters, 16)
                task = take_number(counters, 0)
            while read_number(counters, 16) < plan[FILL_A]:
                pass
            task = take_number(counters, 32)
            while task < plan[TASKS]:
                conv_rows(plan, task * plan[ROWS], min((task + 1) * plan[ROWS], plan[ALL_ROWS]))
                task = take_number(counters, 32)
    return conv_tasks
