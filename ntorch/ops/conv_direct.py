"""Host side of direct convolution (``kernels/conv_direct.py``, ``conv_direct_weight.py``): which
convolutions it suits, how they are cut, their plans."""
import functools
import typing

from ..kernels import conv_direct as kernels
from ..kernels import conv_direct_weight as weight_kernels
from ..kernels import gemm
from ..runtime import build, pool, recording
from .base import numel, product
from .contraction_frame import ceil_div
from .contraction_plan import ITEM_BYTES, Form, Layout, launch_plan
from .contraction_tiles import target, tile
from .host_tables import Table

# Register tiles, filters x vectors: as many accumulators as leave room for a line's vectors.
TILES = {"avx512": ((2, 8), (4, 6), (6, 4), (8, 3)), "neon": ((2, 8), (4, 6), (6, 4), (8, 3)),
         "avx2": ((2, 4), (4, 3), (6, 2)), "portable": ((2, 4), (4, 3), (6, 2))}
# Of gradients in filters: filters x lines.
WEIGHT_TILES = {"avx512": ((3, 8), (4, 6), (6, 4)), "neon": ((3, 8), (4, 6), (6, 4)),
                "avx2": ((2, 5), (3, 3), (4, 2)), "portable": ((2, 5), (3, 3), (4, 2))}
BOX_BYTES = 256 << 10
LEAST_TASKS = 4             # a thread, if there is work for as many
TASK_FLOPS = 500_000
TOGETHER = 16               # filters that an epilogue gets at a time, about
TILE_VECTORS = 8            # and vectors of positions
MOST_PARTS = 8              # of a sum over all positions
PART_VECTORS = 128          # at least: each part has sums of its own to be put away
BATCH_VECTORS = 96          # that a tile of sums goes through before it is put away
FEW = 16                    # filters or channels, for which packing operands does not pay
MOST_FILTERS = 96
LEAST_SHARE = 0.55          # of the vectors along rows that must be wanted, if filters are not few
FEW_WEIGHTS, MOST_WEIGHTS, MOST_WEIGHTS_OF_FEW = 4096, 10_000, 30_000


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


def _row_share(sweep, lanes):
    """How much of the vectors along rows is wanted."""
    width = sweep.grid[2]
    return width / (ceil_div(width, lanes) * lanes)


def suits(sweep, T):
    """Whether ``convolve`` does it faster than a matrix product, whose operands are packed: where
    filters are few, or rows fill vectors. Of one tap alone there is little to be saved."""
    if not sweep.channels or len(sweep.taps) == 1 and sweep.channels > FEW:
        return False
    return sweep.filters <= FEW or (sweep.filters <= MOST_FILTERS
                                    and _row_share(sweep, tile(T).lanes) >= LEAST_SHARE)


def suits_weight(sweep, T):
    """Whether ``weight_gradient`` does it faster: where a vector for each weight fits the cache,
    as in ``suits``."""
    if not sweep.channels or len(sweep.taps) == 1 and sweep.channels > FEW:
        return False
    weights, few = sweep.filters * sweep.channels * len(sweep.taps), sweep.filters <= FEW
    if _row_share(sweep, tile(T).lanes) < LEAST_SHARE:
        return few and weights <= FEW_WEIGHTS
    return weights <= (MOST_WEIGHTS_OF_FEW if few else MOST_WEIGHTS)


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


def _boxes(sweep, bytes_of, wanted):
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


def _lines(sweep, span):
    """Offset of each line in the spread of a box, and in the weight."""
    plane = product(span)
    image = plane * product(sweep.stride)
    offsets, weights = [], []
    for channel in range(sweep.channels):
        for phase, (z, y, x), offset in sweep.taps:
            offsets.append(channel * image + phase * plane + (z * span[1] + y) * span[2] + x)
            weights.append(channel * sweep.by_channel + offset)
    return offsets, weights


def _spots(size, span, lanes):
    """Where the vectors of a box begin: in its spread, and among its outputs."""
    spots, places = [], []
    for z in range(size[0]):
        for y in range(size[1]):
            for x in range(0, size[2], lanes):
                spots.append((z * span[1] + y) * span[2] + x)
                places.append((z * size[1] + y) * size[2] + x)
    return spots, places


def _up(elements, item):
    """Bytes of elements, to a whole cache line."""
    return ceil_div(elements * item, 64) * 64


def _scratch(words, item, *parts):
    """Lay out a lane's scratch memory: ``(slot, elements)`` each."""
    end = 0
    for slot, elements in parts:
        words[slot] = end
        end += _up(elements, item)
    words[gemm.LANE_BYTES] = end
    return end


def _common(sweep, boxes, image, size):
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


def _table(slot, table):
    """``(slot, value)`` of the address and the size of a table of numbers."""
    return (slot, table.tensor._address), (slot + 1, len(table.array))


def _address(kernel):
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


_TASKS = "i8:1C", "i8:2C", "i8:1C"


@functools.cache
def _kernel(T):
    return build.kernel(kernels.direct_tasks, _TASKS, T=T)


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
    wanted = min(LEAST_TASKS * threads, sweep.flops // TASK_FLOPS) if threads > 1 else 1
    boxes = _boxes(sweep, lambda size, span: item * sweep.channels * product(span)
                   * product(sweep.stride), ceil_div(wanted, matrices))
    spots, places = _spots(boxes.size, boxes.span, lanes)
    extra = -len(spots) % vectors       # what is left of the last tile is done twice
    tables = (*_lines(sweep, boxes.span), spots + spots[-1:] * extra, places + places[-1:] * extra)
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
            *_common(sweep, boxes, image, cut.size), (gemm.NR, wide),
            (gemm.STORE, _address(store.kernel)), (gemm.STORE_AT, kernels.WORDS),
            (gemm.TASKS, tasks), (gemm.FILL_A, sweep.groups * blocks), (kernels.BLOCKS, blocks),
            (kernels.TOGETHER, together), (kernels.ROWS, rows),
            (kernels.TAPS, _address(_taps(rows, vectors, lanes, T))),
            (kernels.PANELS_SIZE, sweep.groups * blocks * depth * rows),
            (kernels.TILE_SIZE, together * rows * wide), (kernels.WIDE, wide),
            *_table(kernels.LINES_AT, cut.lines), *_table(kernels.SPOTS_AT, cut.spots),
            *_table(kernels.PLACES_AT, cut.places),
            (kernels.TILE_VECTORS, tile_vectors), (kernels.WEIGHT, weight._address),
            (kernels.WEIGHT_SIZE, numel(weight)), (kernels.BY_GROUP, sweep.by_group),
            (kernels.BY_FILTER, sweep.by_filter),
            (kernels.WEIGHTS_AT, cut.weights.tensor._address)):
        words[slot] = value
    lane = _scratch(words, item, (gemm.TILE_BASE, together * rows * wide),
                    (kernels.SPREAD, cut.size))
    launch_plan(_kernel(T),
                words + [0] * gemm.STORE_SLOTS + list(store.slots),
                Layout((), _lanes(sweep, tasks, threads), lane,
                       _up(sweep.groups * blocks * depth * rows, item), 0, sweep.flops),
                store.form)


def _lanes(sweep, tasks, threads):
    return min(threads, tasks) if sweep.flops > 2 * TASK_FLOPS else 1


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
    return build.kernel(weight_kernels.weight_kernel(lanes), _TASKS, T=T)


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
    boxes = _boxes(sweep, bytes_of, ceil_div(parts, sweep.images))
    spots, _ = _spots(boxes.size, boxes.span, lanes)
    cells = boxes.cells(sweep) + lanes
    units, batch = sweep.images * boxes.count, 1
    parts = min(parts, units)
    if boxes.count == 1:
        each = ceil_div(units, parts)
        batch = max(1, min(ceil_div(BATCH_VECTORS, len(spots)), each,
                           BOX_BYTES // bytes_of(boxes.size, boxes.span)))
        batch = ceil_div(each, ceil_div(each, batch))
    lines, _ = _lines(sweep, boxes.span)
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
            *_common(sweep, boxes, image, cut.size), (gemm.STORE_AT, len(words)),
            (gemm.TASKS, tasks), (kernels.VECTORS, cut.vectors), (kernels.ROWS, cut.rows),
            (kernels.TAPS, _address(_sums(cut.rows, cut.taps, lanes, T))),
            *_table(weight_kernels.LINES_OF, cut.lines),
            *_table(weight_kernels.SPOTS_OF, cut.spots), (weight_kernels.GRAD, grad),
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
    lane = _scratch(words, item, (kernels.SPREAD, cut.batch * cut.size),
                    (weight_kernels.GRADS, grads), (weight_kernels.SUMS, sums * lanes),
                    (weight_kernels.COUNTS, cut.batch * cut.vectors * 8 // item))
    launch_plan(_weight_kernel(lanes, T),
                [*words, *(0,) * gemm.STORE_SLOTS, out, size],
                Layout((), _lanes(sweep, tasks, threads), lane, 0, _up(cut.parts * size, item),
                       sweep.flops), Form("weight", T, T))

