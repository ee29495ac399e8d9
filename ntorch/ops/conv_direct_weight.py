"""Host side of the gradient in the filters of direct convolution
(``kernels/conv_direct_weight.py``): which it suits, how it is cut, its plan."""
import functools
import typing

from ..kernels import conv_direct as kernels
from ..kernels import conv_direct_weight as weight_kernels
from ..kernels import gemm
from ..runtime import build, pool
from .base import product
from .contraction_frame import ceil_div
from .contraction_plan import ITEM_BYTES, Form, Layout, launch_plan
from .contraction_tiles import target, tile
from .conv_direct import (
    BOX_BYTES,
    FEW,
    LEAST_SHARE,
    TASK_KINDS,
    Boxes,
    address_of,
    boxes_of,
    common_words,
    lanes_for,
    lay_scratch,
    lines_of,
    rounded_up,
    row_share,
    spots_of,
    table_words,
)
from .host_tables import Table

# Register tiles, filters x lines.
WEIGHT_TILES = {"avx512": ((3, 8), (4, 6), (6, 4)), "neon": ((3, 8), (4, 6), (6, 4)),
                "avx2": ((2, 5), (3, 3), (4, 2)), "portable": ((2, 5), (3, 3), (4, 2))}
MOST_PARTS = 8              # of a sum over all positions
PART_VECTORS = 128          # at least: each part has sums of its own to be put away
BATCH_VECTORS = 96          # that a tile of sums goes through before it is put away
FEW_WEIGHTS, MOST_WEIGHTS, MOST_WEIGHTS_OF_FEW = 4096, 10_000, 30_000


def suits_weight(sweep, T):
    """Whether ``weight_gradient`` does it faster: where a vector for each weight fits the cache,
    as in ``suits``."""
    if not sweep.channels or len(sweep.taps) == 1 and sweep.channels > FEW:
        return False
    weights, few = sweep.filters * sweep.channels * len(sweep.taps), sweep.filters <= FEW
    if row_share(sweep, tile(T).lanes) < LEAST_SHARE:
        return few and weights <= FEW_WEIGHTS
    return weights <= (MOST_WEIGHTS_OF_FEW if few else MOST_WEIGHTS)


class WeightCut(typing.NamedTuple):
    """What of a plan of a gradient in filters depends on sizes alone."""
    rows: int
    taps: int
    boxes: Boxes
    size: int
    parts: int
    batch: int              # boxes that are done at a time
    vectors: int            # of a box
    lines: Table
    spots: Table


@functools.cache
def _weight_kernel(lanes, T):
    return build.kernel(weight_kernels.weight_kernel(lanes), TASK_KINDS, T=T)


@functools.cache
def _sums(rows, taps, lanes, T):
    kinds = (f"{T}:1C",) * 3 + ("i8:1C",) * 3 + ("i",) * 2
    return build.kernel(weight_kernels.sums_kernel(rows, taps, lanes), kinds, T=T)


def weight_tile_for(filters, lines):
    """The register tile that does ``filters`` x ``lines`` in the least time."""
    def cycles(shape):
        rows, taps = shape
        each = max(rows * taps / 2, (rows + 2 * taps) / 2)
        return ceil_div(filters, rows) * ceil_div(lines, taps) * each, -rows
    return min(WEIGHT_TILES[target()], key=cycles)


@functools.lru_cache(maxsize=512)
def _weight_cut(sweep, T):
    lanes, item, depth = tile(T).lanes, ITEM_BYTES[T], sweep.channels * len(sweep.taps)
    rows, taps = weight_tile_for(sweep.filters, depth)
    high = ceil_div(sweep.filters, rows) * rows

    def bytes_of(size, span):
        return item * (sweep.channels * product(span) * product(sweep.stride)
                       + high * product(size[:2]) * ceil_div(size[2], lanes) * lanes)
    vectors = sweep.images * product(sweep.grid[:2]) * ceil_div(sweep.grid[2], lanes)
    parts = max(1, min(MOST_PARTS // sweep.groups, vectors // PART_VECTORS))
    parts = 1 << parts.bit_length() - 1         # so that threads end together
    boxes = boxes_of(sweep, bytes_of, ceil_div(parts, sweep.images))
    spots, _ = spots_of(boxes.size, boxes.span, lanes)
    cells = boxes.cells(sweep) + lanes
    units, batch = sweep.images * boxes.count, 1
    parts = min(parts, units)
    if boxes.count == 1:
        each = ceil_div(units, parts)
        batch = max(1, min(ceil_div(BATCH_VECTORS, len(spots)), each,
                           BOX_BYTES // bytes_of(boxes.size, boxes.span)))
        batch = ceil_div(each, ceil_div(each, batch))
    lines, _ = lines_of(sweep, boxes.span)
    lines += lines[-1:] * (-depth % taps)
    spots = [number * cells + spot for number in range(batch) for spot in spots]
    return WeightCut(rows, taps, boxes, cells, parts, batch, len(spots) // batch, Table(lines),
                     Table(spots))


def weight_gradient(image, grad, out, sweep, T):
    """The gradient in the filters to ``out`` (groups, filters, lines): for each filter and line the
    sum of products over all images and positions.

    ``image``, ``grad`` and ``out`` are addresses. The offsets in the weight are not looked at.
    """
    threads, lanes, item = pool.get_num_threads(), tile(T).lanes, ITEM_BYTES[T]
    cut = _weight_cut(sweep, T)
    boxes, depth = cut.boxes, sweep.channels * len(sweep.taps)
    size = sweep.groups * sweep.filters * depth
    # an odd number of vectors: rows a power of two apart would want the same few cache lines
    wide = (cut.batch * cut.vectors | 1) * lanes
    row_blocks, line_blocks = ceil_div(sweep.filters, cut.rows), ceil_div(depth, cut.taps)
    grads, sums = row_blocks * cut.rows * wide, row_blocks * line_blocks * cut.rows * cut.taps
    tasks = cut.parts * sweep.groups
    words = [0] * weight_kernels.WEIGHT_WORDS
    for slot, value in (
            *common_words(sweep, boxes, image, cut.size), (gemm.STORE_AT, len(words)),
            (gemm.TASKS, tasks), (kernels.VECTORS, cut.vectors), (kernels.ROWS, cut.rows),
            (kernels.TAPS, address_of(_sums(cut.rows, cut.taps, lanes, T))),
            *table_words(weight_kernels.LINES_OF, cut.lines),
            *table_words(weight_kernels.SPOTS_OF, cut.spots), (weight_kernels.GRAD, grad),
            (weight_kernels.GRAD_SIZE, sweep.images * sweep.groups * sweep.filters
             * product(sweep.grid)), (weight_kernels.IMAGES, sweep.images),
            (weight_kernels.PARTS, cut.parts), (weight_kernels.BATCH, cut.batch),
            (weight_kernels.GRADS_SIZE, grads), (weight_kernels.SUMS_SIZE, sums * lanes),
            (weight_kernels.SPREADS_SIZE, cut.batch * cut.size),
            (weight_kernels.COUNTS_SIZE, cut.batch * cut.vectors), (weight_kernels.WIDTH, cut.taps),
            (weight_kernels.FILTER_BLOCKS, row_blocks), (weight_kernels.LINE_BLOCKS, line_blocks),
            (weight_kernels.ROW, boxes.size[2]), (weight_kernels.PITCH, wide),
            (weight_kernels.FINISH, ceil_div(size * cut.parts, 32768))):
        words[slot] = value
    lane = lay_scratch(words, item, (kernels.SPREAD, cut.batch * cut.size),
                    (weight_kernels.GRADS, grads), (weight_kernels.SUMS, sums * lanes),
                    (weight_kernels.COUNTS, cut.batch * cut.vectors * 8 // item))
    launch_plan(_weight_kernel(lanes, T),
                [*words, *(0,) * gemm.STORE_SLOTS, out, size],
                Layout((), lanes_for(sweep, tasks, threads), lane, 0,
                       rounded_up(cut.parts * size, item), sweep.flops), Form("weight", T, T))
