"""Convolution of few channels, straight from the image: no operand of a product is written out.

A task is a *box* of an image: the output positions between two cuts of its outermost dimension, for
all filters. What the box sees of the image is spread (``conv.py``) to scratch memory that stays in
the cache; there every tap is the box shifted by a constant, and a *line* is a tap of a channel.
Vectors lie along rows of the output. A register tile is some filters at some vectors; it goes
through all lines with one load for each vector and one broadcast for each filter
(``conv_stubs.multiply_taps``). A vector that sticks out at the end of a row computes numbers that
nobody wants, in the place of the next row's first positions; those are stored after it. So the
tile holds the sums of adjacent output positions without gaps, and an epilogue sees a plain matrix.

Plans have the header, the memory and the epilogue of ``gemm.py``; A holds the filters in panels,
lines x ``rows``.
"""
from . import gemm
from .conv_stubs import multiply_taps
from .gemm import A_BASE, FILL_A, LANE_BYTES, NR, SCRATCH, STORE, STORE_AT, TASKS, TILE_BASE
from .gemm_runs import move_run
from .gemm_stubs import call_kernel, read_number, take_number
from .stubs import T
from .winograd_stubs import array_at

LOOPS_STAY_ROLLED = True

# A plan's own words. SPAN_*: the spread of a box, one phase of one channel. A box is STEP outputs
# along dimension AXIS, INNER positions each, of the POSITIONS of an output; CUTS boxes make it.
# From PANELS on they are the table of the kernel TAPS, which does register tiles of ROWS filters:
# addresses and sizes of arrays, then its numbers.
(IMAGE, IMAGE_SIZE, CHANNELS, DEPTH, HEIGHT, WIDTH, PAD_Z, PAD_Y, PAD_X,
 STRIDE_Z, STRIDE_Y, STRIDE_X, SPAN_Z, SPAN_Y, SPAN_X,
 AXIS, STEP, INNER, CUTS, POSITIONS, GROUPS, FILTERS, BLOCKS, TOGETHER, ROWS, TILE_VECTORS,
 WEIGHT, WEIGHT_SIZE, BY_GROUP, BY_FILTER, WEIGHTS_AT, TAPS,
 PANELS, PANELS_SIZE, SPREAD, SPREAD_SIZE, TILE, TILE_SIZE, LINES_AT, LINES, SPOTS_AT, SPOTS,
 PLACES_AT, VECTORS, PANEL, FIRST, LAST, WIDE,
 ) = range(gemm.HEADER, gemm.HEADER + 48)
WORDS = gemm.HEADER + 48


def load_line(source, at, step, spread, to, count):
    """``count`` elements of the image, ``step`` apart."""
    if step == 1:
        move_run(source, at, spread, to, count)
    elif step == 2:
        for i in range(count):
            spread[to + i] = source[at + 2 * i]
    else:
        for i in range(count):
            spread[to + i] = source[at + i * step]


def clear(spread, begin, end):
    """Zeros."""
    part = spread[begin:end]
    for i in range(part.shape[0]):
        part[i] = T(0)


def load_box(plan, spread, batch, box):
    """Spread what box ``box`` sees of image ``batch`` (counted over images and groups).

    The scratch memory was all zeros at first, and what lies left and right of the image still is,
    unless rows themselves are cut.
    """
    source = array_at(T(0), plan, IMAGE, plan[IMAGE_SIZE])
    height, width, span, axis = plan[HEIGHT], plan[WIDTH], plan[SPAN_X], plan[AXIS]
    step_z, step_y, step_x = plan[STRIDE_Z], plan[STRIDE_Y], plan[STRIDE_X]
    first = box * plan[STEP]
    top_z = (first * step_z if axis == 0 else 0) - plan[PAD_Z]
    top_y = (first * step_y if axis == 1 else 0) - plan[PAD_Y]
    left = (first * step_x if axis == 2 else 0) - plan[PAD_X]
    plane, to = batch * plan[CHANNELS] * plan[DEPTH], 0
    for _ in range(plan[CHANNELS]):
        for phase_z in range(step_z):
            for phase_y in range(step_y):
                for phase_x in range(step_x):
                    shift = left + phase_x
                    begin = min(max(0, (step_x - 1 - shift) // step_x), span)
                    end = max(begin, min(span, (width - shift + step_x - 1) // step_x))
                    for qz in range(plan[SPAN_Z]):
                        z = top_z + phase_z + qz * step_z
                        for qy in range(plan[SPAN_Y]):
                            y = top_y + phase_y + qy * step_y
                            if axis == 2:
                                clear(spread, to, to + span)
                            if z >= 0 and z < plan[DEPTH] and y >= 0 and y < height:
                                at = ((plane + z) * height + y) * width + begin * step_x + shift
                                load_line(source, at, step_x, spread, to + begin, end - begin)
                            elif axis != 2:
                                clear(spread, to + begin, to + end)
                            to += span
        plane += plan[DEPTH]


def fill_filters(plan, task):
    """Bring a panel of the filters of a group into its place in A."""
    group, rows = task // plan[BLOCKS], plan[ROWS]
    block = task - group * plan[BLOCKS]
    weight = array_at(T(0), plan, WEIGHT, plan[WEIGHT_SIZE])
    places = array_at(0, plan, WEIGHTS_AT, plan[LINES])
    out = array_at(T(0), plan, PANELS, plan[PANELS_SIZE])
    to = task * plan[LINES] * rows
    base = group * plan[BY_GROUP] + block * rows * plan[BY_FILTER]
    count = min(rows, plan[FILTERS] - block * rows)
    for k in range(plan[LINES]):
        for i in range(rows):
            value = T(0)
            if i < count:
                value = weight[base + i * plan[BY_FILTER] + places[k]]
            out[to + i] = value
        to += rows


def start_lane(plan, words, lane):
    """Give a lane its copy of the plan, with the addresses of its scratch memory."""
    for i in range(words.size):
        plan[i] = words[i]
    scratch = plan[SCRATCH] + lane * plan[LANE_BYTES]
    plan[TILE] = plan[TILE_BASE] + scratch
    plan[SPREAD] += scratch
    plan[PANELS] = plan[A_BASE]
    clear(array_at(T(0), plan, SPREAD, plan[SPREAD_SIZE]), 0, plan[SPREAD_SIZE])


def taps_kernel(rows, vectors, lanes):
    """The register tiles of ``rows`` filters x ``vectors`` of ``lanes`` elements: the blocks of
    filters ``[begin, end)`` from panel ``panel`` on, at the vectors ``[first, last)``."""
    def multiply_blocks(panels, spread, tile, lines, spots, places, panel, first, last, wide, begin,
                        end):
        depth, start = lines.size, places[first]
        for block in range(begin, end):
            at = (panel + block) * depth * rows
            to = block * rows * wide - start
            for v in range(first, last, vectors):
                multiply_taps(panels, at, spread, lines, depth, spots, places, v, tile, to, wide,
                              rows, vectors, lanes)
    return multiply_blocks


def store_tile(plan, batch, block, blocks, position, columns):
    """Hand the sums of ``blocks`` blocks of filters at some positions to the epilogue."""
    store = plan[plan[STORE_AT]:]
    count = min(blocks * plan[ROWS], plan[FILTERS] - block * plan[ROWS])
    store[0], store[1], store[2] = plan[TILE], count, plan[NR]
    store[3], store[4], store[5], store[6] = batch, block * plan[ROWS], position, columns
    call_kernel(plan, STORE, plan[STORE_AT], 0, count)


def convolve_box(plan, task):
    """All sums of box ``task``, counted over images, groups and boxes."""
    batch = task // plan[CUTS]
    box = task - batch * plan[CUTS]
    last = plan[VECTORS]
    places = array_at(0, plan, PLACES_AT, last)
    load_box(plan, array_at(T(0), plan, SPREAD, plan[SPREAD_SIZE]), batch, box)
    before = box * plan[STEP] * plan[INNER]
    count = min(plan[STEP] * plan[INNER], plan[POSITIONS] - before)
    panel = (batch - batch // plan[GROUPS] * plan[GROUPS]) * plan[BLOCKS]
    v = 0
    while v < last and places[v] < count:
        start, end = places[v], min(v + plan[TILE_VECTORS], last)
        stop = min(count, places[end]) if end < last else count
        plan[FIRST], plan[LAST] = v, end
        for block in range(0, plan[BLOCKS], plan[TOGETHER]):
            blocks = min(plan[TOGETHER], plan[BLOCKS] - block)
            plan[PANEL] = panel + block
            call_kernel(plan, TAPS, PANELS, 0, blocks)
            store_tile(plan, batch, block, blocks, before + start, stop - start)
        v = end


def direct_tasks(words, lanes, counters, begin, end):
    """Work through a convolution with the lanes ``[begin, end)``, as ``gemm.contract_tasks``."""
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
            convolve_box(plan, task)
            task = take_number(counters, 32)
