"""The gradient of a direct convolution in its filters: vectors along rows of the output again.

The product of one filter's gradient and one line of the spread image (``conv_direct.py``) is summed
over all positions. Register tiles of some filters x some lines hold a vector of sums for each pair
(``conv_stubs.sum_taps``); their lanes are added up when all positions are through. What is summed,
and in which order, depends on sizes alone: images are cut in *parts*, each with sums of its own,
and the parts are added in order.

A part goes through its boxes of images some at a time: their spreads lie behind each other, and the
rows of their gradients in whole vectors, padded with zeros. Beyond the end of a row the image does
not count, so an infinity there meets no zero.
"""
from .conv_direct import (
    CUTS,
    FILTERS,
    GROUPS,
    INNER,
    LINES,
    POSITIONS,
    ROWS,
    SPREAD,
    SPREAD_SIZE,
    STEP,
    TAPS,
    VECTORS,
    WORDS,
    clear,
    load_box,
)
from .conv_stubs import sum_lanes, sum_taps
from .gemm import B_BASE, LANE_BYTES, SCRATCH, STORE_AT, STORE_SLOTS, TASKS
from .gemm_runs import move_run
from .gemm_stubs import call_kernel, read_number, take_number
from .stubs import T
from .winograd_stubs import array_at

LOOPS_STAY_ROLLED = True

# Further words of a plan. BATCH: boxes that are done at a time. *_BLOCKS: register tiles of all
# filters and of all lines of a group. ROW: how long rows of the output are in a box. WIDTH: lines
# of a register tile. From GRADS on they are the table of the kernel TAPS. COUNTS: how many lanes of
# a vector count; a lane's own. PITCH: from one filter's gradient to the next. DONE: vectors.
(GRAD, GRAD_SIZE, IMAGES, PARTS, BATCH, FILTER_BLOCKS, LINE_BLOCKS, ROW, WIDTH, FINISH,
 GRADS, GRADS_SIZE, SPREADS, SPREADS_SIZE, SUMS, SUMS_SIZE, LINES_OF, LINES_OF_SIZE, SPOTS_OF,
 SPOTS_OF_SIZE, COUNTS, COUNTS_SIZE, PITCH, DONE) = range(WORDS, WORDS + 24)
WEIGHT_WORDS = WORDS + 24


def vectors_of(plan, lanes):
    """How many vectors a row of the output takes."""
    return (plan[ROW] + lanes - 1) // lanes


def load_grads(plan, grads, batch, before, count, number, lanes):
    """Rows of the gradient of ``count`` positions from ``before`` on, as vectors of the
    ``number``-th box."""
    source = array_at(T(0), plan, GRAD, plan[GRAD_SIZE])
    row, wide = plan[ROW], vectors_of(plan, lanes) * lanes
    for i in range(plan[FILTERS]):
        at = (batch * plan[FILTERS] + i) * plan[POSITIONS] + before
        to = i * plan[PITCH] + number * plan[VECTORS] * lanes
        for start in range(0, count, row):
            length = min(row, count - start)
            move_run(source, at + start, grads, to, length)
            if length < row:
                clear(grads, to + length, to + wide)
            to += wide


def start_weight_lane(plan, words, lane, lanes):
    """Give a lane its copy of the plan, with the addresses of its scratch memory."""
    for i in range(words.size):
        plan[i] = words[i]
    scratch = plan[SCRATCH] + lane * plan[LANE_BYTES]
    plan[GRADS] += scratch
    plan[SPREADS] = plan[SPREAD] + scratch
    plan[SUMS] += scratch
    plan[COUNTS] += scratch
    clear(array_at(T(0), plan, SPREADS, plan[SPREADS_SIZE]), 0, plan[SPREADS_SIZE])
    clear(array_at(T(0), plan, GRADS, plan[GRADS_SIZE]), 0, plan[GRADS_SIZE])
    counts = array_at(0, plan, COUNTS, plan[COUNTS_SIZE])
    each = vectors_of(plan, lanes)
    for e in range(counts.size):
        counts[e] = min(lanes, plan[ROW] - e % each * lanes)


def finish_sums(plan, begin, end):
    """Add the parts of some elements up."""
    size = plan[FILTERS] * plan[LINES] * plan[GROUPS]
    parts = array_at(T(0), plan, B_BASE, plan[PARTS] * size)
    out = array_at(T(0), plan, plan[STORE_AT] + STORE_SLOTS, size)[begin:end]
    for part in range(plan[PARTS]):
        one = parts[part * size + begin:part * size + end]
        if part == 0:
            for i in range(out.size):
                out[i] = one[i]
        else:
            for i in range(out.size):
                out[i] += one[i]


def sums_kernel(rows, taps, lanes):
    """The register tiles of ``rows`` filters x ``taps`` lines: the blocks of filters ``[begin,
    end)`` with all lines, at the first ``vectors`` vectors."""
    def sum_blocks(grads, spread, sums, lines, spots, counts, pitch, vectors, begin, end):
        each = lines.size // taps
        for block in range(begin, end):
            to = block * each * rows * taps * lanes
            for line in range(0, lines.size, taps):
                sum_taps(grads, block * rows * pitch, pitch, spread, lines, line, spots, counts,
                         vectors, sums, to, rows, taps, lanes)
                to += rows * taps * lanes
    return sum_blocks


def weight_kernel(lanes):
    """The kernel that works through a gradient in filters."""
    def give_sums(plan, sums, task):
        out = array_at(T(0), plan, B_BASE, plan[TASKS] * plan[FILTERS] * plan[LINES])
        rows, width = plan[ROWS], plan[WIDTH]
        to = task * plan[FILTERS] * plan[LINES]
        for o in range(plan[FILTERS]):
            block = o // rows
            row = (block * plan[LINE_BLOCKS] * rows + o - block * rows) * width
            for first in range(0, plan[LINES], width):
                for k in range(min(width, plan[LINES] - first)):
                    out[to] = sum_lanes(sums, (row + k) * lanes, lanes)
                    to += 1
                row += rows * width

    def sum_part(plan, task):
        part = task // plan[GROUPS]
        group, each = task - part * plan[GROUPS], plan[SPREAD_SIZE]
        spread = array_at(T(0), plan, SPREADS, plan[SPREADS_SIZE])
        grads = array_at(T(0), plan, GRADS, plan[GRADS_SIZE])
        sums = array_at(T(0), plan, SUMS, plan[SUMS_SIZE])
        counts = array_at(0, plan, COUNTS, plan[COUNTS_SIZE])
        clear(sums, 0, plan[SUMS_SIZE])
        units, full = plan[IMAGES] * plan[CUTS], plan[STEP] * plan[INNER]
        unit, last = part * units // plan[PARTS], (part + 1) * units // plan[PARTS]
        while unit < last:
            number, vectors, count = 0, 0, full
            while number < plan[BATCH] and unit < last:
                image = unit // plan[CUTS]
                before = (unit - image * plan[CUTS]) * full
                batch, count = image * plan[GROUPS] + group, min(full, plan[POSITIONS] - before)
                load_box(plan, spread[number * each:number * each + each], batch,
                         unit - image * plan[CUTS])
                load_grads(plan, grads, batch, before, count, number, lanes)
                number += 1
                unit += 1
                vectors += (count + plan[ROW] - 1) // plan[ROW] * vectors_of(plan, lanes)
            if count < plan[ROW]:           # what is left of a row that is cut
                vectors = (count + lanes - 1) // lanes
                counts[vectors - 1] = count - (vectors - 1) * lanes
            plan[DONE] = vectors
            call_kernel(plan, TAPS, GRADS, 0, plan[FILTER_BLOCKS])
            counts[vectors - 1] = min(lanes, plan[ROW] - (vectors - 1) % vectors_of(
                plan, lanes) * lanes)
        give_sums(plan, sums, task)

    def weight_tasks(words, lanes_, counters, begin, end):
        for lane in range(begin, end):
            plan = lanes_[lane]
            start_weight_lane(plan, words, lane, lanes)
            task = take_number(counters, 0)
            while task < plan[TASKS]:
                sum_part(plan, task)
                take_number(counters, 16)
                task = take_number(counters, 0)
            while read_number(counters, 16) < plan[TASKS]:
                pass
            size = plan[FILTERS] * plan[LINES] * plan[GROUPS]
            task = take_number(counters, 32)
            while task < plan[FINISH]:
                finish_sums(plan, task * size // plan[FINISH], (task + 1) * size // plan[FINISH])
                task = take_number(counters, 32)
    return weight_tasks
