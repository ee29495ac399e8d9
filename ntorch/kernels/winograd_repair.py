"""What minimal filtering makes of infinities and NaN, done again as the definition has it.

A transform adds up all 16 elements of a tile, so an infinity, a NaN or an overflow would be seen by
outputs whose own 3x3 have none, and infinities would cancel to NaN. Results that are not finite
are therefore computed anew, directly, line by line; all others stay as they are.
"""
from .gemm import TILE_BASE
from .stubs import T
from .winograd_stubs import array_at
from .winograd_words import (
    ALL_ROWS,
    BY_CHANNEL,
    BY_FILTER,
    CHANNELS,
    DOWN,
    FILTERS,
    GRAD,
    GRAD_SIZE,
    HEIGHT,
    IMAGE,
    IMAGE_SIZE,
    OUT_HEIGHT,
    OUT_LINE,
    OUT_PITCH,
    OUT_WIDTH,
    PAD_X,
    PAD_Y,
    SUMS,
    TURNED,
    WEIGHT,
    WEIGHT_SIZE,
    WIDTH,
)

NOWHERE = -1 << 60      # a start may be negative: position 0 may see the padding


def count_strange(values, at, step, count):
    """How many of ``values[at + i * step]``, i < ``count``, are infinite or NaN."""
    found = 0
    for i in range(count):
        value = values[at + i * step]
        found += int(value - value != T(0))
    return found


def inside(plan, tap):
    """The positions ``[first, last)`` of a line of output that see the image with this tap."""
    shift = plan[PAD_X] - tap % 3
    return max(0, shift), min(plan[OUT_WIDTH], plan[WIDTH] + shift)


def seen_from(plan, image, channel, y, tap):
    """Where in the images is what position 0 of line ``y`` of the output sees with this tap;
    NOWHERE if that is above or below the image."""
    y += tap // 3 - plan[PAD_Y]
    if y < 0 or y >= plan[HEIGHT]:
        return NOWHERE
    line = (image * plan[CHANNELS] + channel) * plan[HEIGHT] + y
    return line * plan[WIDTH] + tap % 3 - plan[PAD_X]


def add_scaled(line, weight, sums):
    """``sums += line * weight``."""
    for x in range(sums.shape[0]):
        sums[x] += line[x] * weight


def add_products(a, b, sums):
    """``sums += a * b``."""
    for x in range(sums.shape[0]):
        sums[x] += a[x] * b[x]


def line_of(plan, image, y, o, sums):
    """``sums`` = line ``y`` of the output of filter ``o``."""
    source = array_at(T(0), plan, IMAGE, plan[IMAGE_SIZE])
    weight = array_at(T(0), plan, WEIGHT, plan[WEIGHT_SIZE])
    for x in range(sums.shape[0]):
        sums[x] = T(0)
    for c in range(plan[CHANNELS]):
        at = o * plan[BY_FILTER] + c * plan[BY_CHANNEL]
        for tap in range(9):
            first, last = inside(plan, tap)
            start = seen_from(plan, image, c, y, tap)
            if start != NOWHERE and first < last:
                add_scaled(source[start + first:start + last],
                           weight[at + (8 - tap if plan[TURNED] == 1 else tap)], sums[first:last])


def repair_lines(plan, stage, image, row):
    """The two lines of output of a row of tiles, in ``stage``, by positions and filters."""
    line, width, filters = plan[OUT_LINE], plan[OUT_WIDTH], plan[FILTERS]
    for i in range(min(2, plan[OUT_HEIGHT] - 2 * row)):
        at, strange = i * plan[OUT_PITCH], 0
        for x in range(width):
            strange += count_strange(stage, at + x * line, 1, filters)
        if strange > 0:
            sums = array_at(T(0), plan, TILE_BASE, width)
            for o in range(filters):
                if count_strange(stage, at + o, line, width) > 0:
                    line_of(plan, image, 2 * row + i, o, sums)
                    for x in range(width):
                        if count_strange(stage, at + x * line + o, 1, 1) > 0:
                            stage[at + x * line + o] = sums[x]


def tap_of(plan, o, c, tap, sums):
    """The gradient in one tap of filter ``o``; ``sums`` has room for a line of output."""
    source = array_at(T(0), plan, IMAGE, plan[IMAGE_SIZE])
    grad = array_at(T(0), plan, GRAD, plan[GRAD_SIZE])
    first, last = inside(plan, tap)
    height, width, total = plan[OUT_HEIGHT], plan[OUT_WIDTH], T(0)
    for x in range(width):
        sums[x] = T(0)
    for image in range(plan[ALL_ROWS] // plan[DOWN]):
        for y in range(height):
            start = seen_from(plan, image, c, y, tap)
            if start != NOWHERE and first < last:
                at = ((image * plan[FILTERS] + o) * height + y) * width
                add_products(source[start + first:start + last], grad[at + first:at + last],
                             sums[first:last])
    for x in range(width):
        total += sums[x]
    return total


def repair_filter(plan, out, o):
    """The gradient in the taps of filter ``o``, in ``out``."""
    channels = plan[CHANNELS]
    if count_strange(out, 9 * channels * o, 1, 9 * channels) > 0:
        sums = array_at(T(0), plan, SUMS, plan[OUT_WIDTH])
        for c in range(channels):
            for tap in range(9):
                at = 9 * (channels * o + c) + tap
                if count_strange(out, at, 1, 1) > 0:
                    out[at] = tap_of(plan, o, c, tap, sums)
