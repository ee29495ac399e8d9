"""The gradient of a 3x3 convolution in its filters, by minimal filtering: F(3x3, 2x2), transposed.

Layout and conventions: ``winograd.py``.
"""
import functools

from .gemm import B_BASE, PRODUCT, PRODUCT_AT, STORE_AT, STORE_SLOTS, TASKS
from .gemm_stubs import call_kernel, read_number, take_number
from .stubs import T
from .winograd import start_lane, tiles_of, turn_lines
from .winograd_repair import repair_filter
from .winograd_stubs import array_at, transform_square
from .winograd_words import (
    ACROSS,
    ALL_ROWS,
    CHANNELS,
    DOWN,
    FILTER_BLOCKS,
    FILTERS,
    GRAD,
    GRAD_SIZE,
    GRADS,
    LINE,
    OUT_HEIGHT,
    OUT_LINE,
    OUT_PITCH,
    OUT_PLANE,
    OUT_WIDTH,
    PART,
    PART_LINE,
    PART_PLANE,
    PLANE,
    PLANES,
    ROWS,
    STAGE,
    SUMS,
)


@functools.cache
def grads_of(lanes):
    """``load_grads(plan, planes, first, image, begin, end)``, as ``tiles_of`` for the gradient of
    the output."""
    def load_grads(plan, planes, first, image, begin, end):
        """Transform rows of 2x2 positions of the gradient."""
        line, pitch, plane = plan[OUT_LINE], plan[OUT_PITCH], plan[OUT_PLANE]
        height, width = plan[OUT_HEIGHT], plan[OUT_WIDTH]
        grad = array_at(T(0), plan, GRAD, plan[GRAD_SIZE])
        stage = array_at(T(0), plan, STAGE, 2 * pitch)
        for row in range(begin, end):
            for i in range(2):
                if 2 * row + i < height:
                    turn_lines(grad, (image * plan[FILTERS] * height + 2 * row + i) * width,
                               height * width, stage, i * pitch, line, plan[FILTERS], width)
                else:
                    empty = stage[pitch:2 * pitch]
                    for k in range(pitch):
                        empty[k] = T(0)
            for across in range(plan[ACROSS]):
                for v in range(0, plan[FILTERS], lanes):
                    transform_square(stage, 2 * across * line + v, pitch, line, 0, planes,
                                     first + v, 4 * plane, plane, "grad", lanes)
                first += line
    return load_grads


@functools.cache
def weights_of(lanes):
    """``finish_filters(plan, begin, end)``: add the parts of filters up and transform them back."""
    def finish_filters(plan, begin, end):
        line, channels = plan[PART_LINE], plan[CHANNELS]
        parts = array_at(T(0), plan, B_BASE, plan[TASKS] * plan[PART])
        sums = array_at(T(0), plan, SUMS, 25 * line)
        out = array_at(T(0), plan, plan[STORE_AT] + STORE_SLOTS, 9 * channels * plan[FILTERS])
        for o in range(begin, end):
            for plane in range(16):
                at = plane * plan[PART_PLANE] + o * line
                total, part = sums[plane * line:(plane + 1) * line], parts[at:at + line]
                for c in range(line):
                    total[c] = part[c]
                for k in range(1, plan[TASKS]):
                    part = parts[k * plan[PART] + at:k * plan[PART] + at + line]
                    for c in range(line):
                        total[c] += part[c]
            for v in range(0, channels, lanes):
                transform_square(sums, v, 4 * line, line, 0, sums, 16 * line + v, 3 * line, line,
                                 "weight_sums", lanes)
            for tap in range(9):
                result = sums[(16 + tap) * line:(16 + tap) * line + channels]
                for c in range(channels):
                    out[(o * channels + c) * 9 + tap] = result[c]
            repair_filter(plan, out, o)
    return finish_filters


@functools.cache
def part_of(lanes):
    """``sum_part(plan, part)``: the 16 sums of one part of the tiles, in order."""
    load_tiles, load_grads = tiles_of(lanes), grads_of(lanes)

    def sum_part(plan, part):
        down, row = plan[DOWN], part * plan[ALL_ROWS] // plan[TASKS]
        last = (part + 1) * plan[ALL_ROWS] // plan[TASKS]
        planes = array_at(T(0), plan, PLANES, 16 * plan[PLANE])
        grads = array_at(T(0), plan, GRADS, 16 * plan[OUT_PLANE])
        product = plan[plan[PRODUCT_AT]:]
        product[0], product[2] = plan[GRADS], plan[PLANES]
        product[4], product[17] = plan[B_BASE] + 4 * part * plan[PART], 0
        while row < last:
            begin, end = row, min(last, row + plan[ROWS])
            while row < end:
                image = row // down
                stop = min(end, (image + 1) * down)
                at = (row - begin) * plan[ACROSS]
                load_tiles(plan, planes, at * plan[LINE], image, row - image * down,
                           stop - image * down)
                load_grads(plan, grads, at * plan[OUT_LINE], image, row - image * down,
                           stop - image * down)
                row = stop
            product[14] = (end - begin) * plan[ACROSS]
            call_kernel(plan, PRODUCT, plan[PRODUCT_AT], 0, 16)
            product[17] = 1
    return sum_part


def weight_kernel(lanes):
    """The kernel that works through a gradient in the filters.

    Tiles are cut in parts by their number alone; each part has 16 sums of its own, over its tiles
    in order, and the parts are added in order: no bit depends on who does what.
    """
    sum_part, finish_filters = part_of(lanes), weights_of(lanes)

    def weight_tasks(words, lanes, counters, begin, end):
        for lane in range(begin, end):
            plan = lanes[lane]
            start_lane(plan, words, lane)
            stage = array_at(T(0), plan, STAGE, 2 * plan[OUT_PITCH])
            for i in range(2 * plan[OUT_PITCH]):
                stage[i] = T(0)
            task = take_number(counters, 0)
            while task < plan[TASKS]:
                sum_part(plan, task)
                take_number(counters, 16)
                task = take_number(counters, 0)
            while read_number(counters, 16) < plan[TASKS]:
                pass
            blocks, task = plan[FILTER_BLOCKS], take_number(counters, 32)
            while task < blocks:
                finish_filters(plan, task * plan[FILTERS] // blocks,
                               (task + 1) * plan[FILTERS] // blocks)
                task = take_number(counters, 32)
    return weight_tasks
