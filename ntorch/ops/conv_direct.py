"""Host side of direct convolution (``kernels/conv_direct.py``): which convolutions it suits, how
they are cut, their plans. The gradient in the filters: ``conv_direct_weight.py``."""
import functools
import typing

from ..kernels import conv_direct as kernels
from ..kernels import gemm
from ..runtime import build, pool, recording
from .base import numel, product
from .contraction_frame import ceil_div
from .contraction_plan import ITEM_BYTES, Layout, launch_plan
from .contraction_tiles import target, tile
from .host_tables import Table

# Register tiles, filters x vectors: as many accumulators as leave room for a line's vectors.
TILES = {"avx512": ((2, 8), (4, 6), (6, 4), (8, 3)), "neon": ((2, 8), (4, 6), (6, 4), (8, 3)),
         "avx2": ((2, 4), (4, 3), (6, 2)), "portable": ((2, 4), (4, 3), (6, 2))}
BOX_BYTES = 256 << 10
LEASTTASK_KINDS = 4             # a thread, if there is work for as many
TASK_FLOPS = 500_000
TOGETHER = 16               # filters that an epilogue gets at a time, about
TILE_VECTORS = 8            # and vectors of positions
FEW = 16                    # filters or channels, for which packing operands does not pay
MOST_FILTERS = 96
LEAST_SHARE = 0.55          # of the vectors along rows that must be wanted, if filters are not few


class Sweep(typing.NamedTuple):
    """One convolution of images (N, groups * channels, D, H, W) with ``filters`` a group.

    ``taps`` are ``(phase of the stride, shift in three dimensions, offset in the weight)``; the
    weight of line (channel, tap) for filter f of group g is at ``g * by_group + f * by_filter +
    channel * by_channel + offset``.
    """
    images: int
    groups: int
    channels: int
    filters: int
    image: tuple
    grid: tuple
    stride: tuple
    padding: tuple
    taps: tuple
    by_group: int
    by_filter: int
    by_channel: int

    @property
    def reach(self):
        """The largest shift in each dimension."""
        return tuple(max(shift[d] for _, shift, _ in self.taps) for d in range(3))

    @property
    def flops(self):
        """Operations of the sums."""
        return (2 * self.images * self.groups * product(self.grid) * self.channels
                * len(self.taps) * self.filters)


@functools.lru_cache(maxsize=512)
def forward_sweep(geometry, images, groups, channels, filters):
    """The ``Sweep`` of a convolution with weights (groups * filters, channels, taps)."""
    taps = tuple((phase, shift, number) for number, (phase, _, shift, _) in enumerate(
        geometry.taps()))
    depth = channels * len(taps)
    return Sweep(images, groups, channels, filters, geometry.image, geometry.grid, geometry.stride,
                 geometry.padding, taps, filters * depth, depth, len(taps))


@functools.lru_cache(maxsize=512)
def adjoint_sweeps(geometry, images, groups, channels, filters):
    """The adjoint of a convolution with weights (groups * channels, filters, taps), from images
    (N, groups * channels, grid): a list of ``(Sweep, shift)``, one for each phase of the stride
    that a tap reaches. Output ``q`` of a sweep is ``q * stride + shift`` of the image.
    """
    phases = {}
    for number, (_, _, shift, phase) in enumerate(geometry.taps()):
        phases.setdefault(tuple(phase), []).append((number, shift))
    count, found = product(geometry.kernel), []
    for phase, taps in phases.items():
        reach = tuple(max(shift[d] for _, shift in taps) for d in range(3))
        # output q of the phase, from ``first`` on, is at q * stride + phase - padding
        first = [ceil_div(p - f, s) for p, f, s in zip(
            geometry.padding, phase, geometry.stride, strict=True)]
        grid = tuple(ceil_div(i + p - f, s) - q for i, p, f, s, q in zip(
            geometry.image, geometry.padding, phase, geometry.stride, first, strict=True))
        if min(grid) <= 0:
            continue
        turned = tuple((0, tuple(r - s for r, s in zip(reach, shift, strict=True)), number)
                       for number, shift in taps)
        sweep = Sweep(images, groups, channels, filters, geometry.grid, grid, (1, 1, 1),
                      tuple(r - q for r, q in zip(reach, first, strict=True)), turned,
                      channels * filters * count, count, filters * count)
        found.append((sweep, tuple(q * s + f - p for q, s, f, p in zip(
            first, geometry.stride, phase, geometry.padding, strict=True))))
    return found


def row_share(sweep, lanes):
    """How much of the vectors along rows is wanted."""
    width = sweep.grid[2]
    return width / (ceil_div(width, lanes) * lanes)


def suits(sweep, T):
    """Whether ``convolve`` does it faster than a matrix product, whose operands are packed: where
    filters are few, or rows fill vectors. Of one tap alone there is little to be saved."""
    if not sweep.channels or len(sweep.taps) == 1 and sweep.channels > FEW:
        return False
    return sweep.filters <= FEW or (sweep.filters <= MOST_FILTERS
                                    and row_share(sweep, tile(T).lanes) >= LEAST_SHARE)


class Boxes(typing.NamedTuple):
    """How images are cut in boxes: ``count`` of ``step`` outputs along dimension ``axis``."""
    axis: int
    step: int
    count: int
    size: tuple             # outputs of a box
    span: tuple             # of one phase of its spread

    def cells(self, sweep):
        """Elements of the spread of a box."""
        return product(self.span) * product(sweep.stride) * sweep.channels


def boxes_of(sweep, bytes_of, wanted):
    """The ``Boxes``, at least ``wanted`` of them if there are so many, whose ``bytes_of(size,
    span)`` stay in the cache."""
    reach = sweep.reach
    axis = next((d for d in range(2) if sweep.grid[d] > 1 or reach[d]), 2)

    def cut(step):
        size = (*sweep.grid[:axis], step, *sweep.grid[axis + 1:])
        return size, tuple(s + r for s, r in zip(size, reach, strict=True))
    count = sweep.grid[axis]
    boxes = max(1, min(count, wanted))
    while boxes < count and bytes_of(*cut(ceil_div(count, boxes))) > BOX_BYTES:
        boxes += 1
    step = ceil_div(count, boxes)
    return Boxes(axis, step, ceil_div(count, step), *cut(step))


def lines_of(sweep, span):
    """Offset of each line in the spread of a box, and in the weight."""
    plane = product(span)
    image = plane * product(sweep.stride)
    offsets, weights = [], []
    for channel in range(sweep.channels):
        for phase, (z, y, x), offset in sweep.taps:
            offsets.append(channel * image + phase * plane + (z * span[1] + y) * span[2] + x)
            weights.append(channel * sweep.by_channel + offset)
    return offsets, weights


def spots_of(size, span, lanes):
    """Where the vectors of a box begin: in its spread, and among its outputs."""
    spots, places = [], []
    for z in range(size[0]):
        for y in range(size[1]):
            for x in range(0, size[2], lanes):
                spots.append((z * span[1] + y) * span[2] + x)
                places.append((z * size[1] + y) * size[2] + x)
    return spots, places


def rounded_up(elements, item):
    """Bytes of elements, to a whole cache line."""
    return ceil_div(elements * item, 64) * 64


def lay_scratch(words, item, *parts):
    """Lay out a lane's scratch memory: ``(slot, elements)`` each."""
    end = 0
    for slot, elements in parts:
        words[slot] = end
        end += rounded_up(elements, item)
    words[gemm.LANE_BYTES] = end
    return end


def common_words(sweep, boxes, image, size):
    """``(slot, value)`` of the words that both kinds of plan have."""
    def three(first, values):
        return zip(range(first, first + 3), values, strict=True)
    return (
        (kernels.IMAGE, image),
        (kernels.IMAGE_SIZE, sweep.images * sweep.groups * sweep.channels * product(sweep.image)),
        (kernels.CHANNELS, sweep.channels), *three(kernels.DEPTH, sweep.image),
        *three(kernels.PAD_Z, sweep.padding), *three(kernels.STRIDE_Z, sweep.stride),
        *three(kernels.SPAN_Z, boxes.span), (kernels.SPREAD_SIZE, size),
        (kernels.AXIS, boxes.axis), (kernels.STEP, boxes.step),
        (kernels.INNER, product(boxes.size) // boxes.step), (kernels.CUTS, boxes.count),
        (kernels.POSITIONS, product(sweep.grid)), (kernels.GROUPS, sweep.groups),
        (kernels.FILTERS, sweep.filters), (kernels.LINES, sweep.channels * len(sweep.taps)))


def table_words(slot, table):
    """``(slot, value)`` of the address and the size of a table of numbers."""
    return (slot, table.tensor._address), (slot + 1, len(table.array))


def address_of(kernel):
    """What stands for a kernel in a plan: while recording itself, so that a program that puts
    another in its place never has to build it."""
    recorded = recording.active and recording.current() is not None
    return kernel if recorded else kernel.address


class Cut(typing.NamedTuple):
    """What of a plan depends on sizes alone: the register tile, boxes and tables."""
    rows: int
    vectors: int
    boxes: Boxes
    size: int               # elements of the spread of a box
    lines: Table
    weights: Table
    spots: Table
    places: Table


TASK_KINDS = "i8:1C", "i8:2C", "i8:1C"


@functools.cache
def _kernel(T):
    return build.kernel(kernels.direct_tasks, TASK_KINDS, T=T)


@functools.cache
def _taps(rows, vectors, lanes, T):
    kinds = (f"{T}:1C",) * 3 + ("i8:1C",) * 3 + ("i",) * 4
    return build.kernel(kernels.taps_kernel(rows, vectors, lanes), kinds, T=T)


def tile_for(filters):
    """The register tile that does ``filters`` in the least time.

    Two multiplications and two loads a cycle; a vector at any address counts as two loads.
    """
    def cycles(shape):
        rows, vectors = shape
        loads = (2 * vectors + rows) / (2 * vectors)
        return ceil_div(filters, rows) * max(rows / 2, loads), -rows
    return min(TILES[target()], key=cycles)


@functools.lru_cache(maxsize=512)
def _cut(sweep, T, threads):
    lanes, item = tile(T).lanes, ITEM_BYTES[T]
    rows, vectors = tile_for(sweep.filters)
    matrices = sweep.images * sweep.groups
    wanted = min(LEASTTASK_KINDS * threads, sweep.flops // TASK_FLOPS) if threads > 1 else 1
    boxes = boxes_of(sweep, lambda size, span: item * sweep.channels * product(span)
                   * product(sweep.stride), ceil_div(wanted, matrices))
    spots, places = spots_of(boxes.size, boxes.span, lanes)
    extra = -len(spots) % vectors       # what is left of the last tile is done twice
    tables = (*lines_of(sweep, boxes.span), spots + spots[-1:] * extra,
              places + places[-1:] * extra)
    return Cut(rows, vectors, boxes, boxes.cells(sweep) + lanes, *map(Table, tables))


def convolve(image, weight, sweep, store, T):
    """Give the sums of ``image`` (an address) and ``weight`` (a tensor) to the epilogue ``store``:
    matrices are images and groups, rows filters of a group, columns output positions."""
    threads, lanes, item = pool.get_num_threads(), tile(T).lanes, ITEM_BYTES[T]
    cut = _cut(sweep, T, threads)
    rows, vectors, boxes = cut.rows, cut.vectors, cut.boxes
    tile_vectors = max(1, TILE_VECTORS // vectors) * vectors
    wide = tile_vectors * lanes
    blocks, depth = ceil_div(sweep.filters, rows), sweep.channels * len(sweep.taps)
    together = min(blocks, max(1, TOGETHER // rows))
    tasks = sweep.images * sweep.groups * boxes.count
    words = [0] * kernels.WORDS
    for slot, value in (
            *common_words(sweep, boxes, image, cut.size), (gemm.NR, wide),
            (gemm.STORE, address_of(store.kernel)), (gemm.STORE_AT, kernels.WORDS),
            (gemm.TASKS, tasks), (gemm.FILL_A, sweep.groups * blocks), (kernels.BLOCKS, blocks),
            (kernels.TOGETHER, together), (kernels.ROWS, rows),
            (kernels.TAPS, address_of(_taps(rows, vectors, lanes, T))),
            (kernels.PANELS_SIZE, sweep.groups * blocks * depth * rows),
            (kernels.TILE_SIZE, together * rows * wide), (kernels.WIDE, wide),
            *table_words(kernels.LINES_AT, cut.lines), *table_words(kernels.SPOTS_AT, cut.spots),
            *table_words(kernels.PLACES_AT, cut.places),
            (kernels.TILE_VECTORS, tile_vectors), (kernels.WEIGHT, weight._address),
            (kernels.WEIGHT_SIZE, numel(weight)), (kernels.BY_GROUP, sweep.by_group),
            (kernels.BY_FILTER, sweep.by_filter),
            (kernels.WEIGHTS_AT, cut.weights.tensor._address)):
        words[slot] = value
    lane = lay_scratch(words, item, (gemm.TILE_BASE, together * rows * wide),
                    (kernels.SPREAD, cut.size))
    launch_plan(_kernel(T),
                words + [0] * gemm.STORE_SLOTS + list(store.slots),
                Layout((), lanes_for(sweep, tasks, threads), lane,
                       rounded_up(sweep.groups * blocks * depth * rows, item), 0, sweep.flops),
                store.form)


def lanes_for(sweep, tasks, threads):
    return min(threads, tasks) if sweep.flops > 2 * TASK_FLOPS else 1
