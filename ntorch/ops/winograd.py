"""Host side of convolution by minimal filtering (``kernels/winograd.py``): which convolutions it
suits, how they are cut, their plans."""
import functools
import typing

from ..kernels import gemm, winograd, winograd_weight
from ..kernels import winograd_words as place
from ..runtime import build, memory, pool
from .base import product
from .contraction_frame import ceil_div
from .contraction_plan import Epilogue, Form, Layout, launch_plan
from .contraction_tiles import tile

LEAST_CHANNELS = 16
LEAST_TILES = 128           # below, transforming the filters costs what the products save
MOST_ACROSS = 256
BLOCK_BYTES = 512 << 10     # transformed tiles that a task keeps: half of a second-level cache
MOST_PARTS = 8              # of the tiles that a gradient in the filters is summed over
PARTS_BYTES = 32 << 20      # memory for the sums of all of them
MOST_PART_BYTES = 8 << 20
FILL_CHANNELS = 32          # of a panel of filters that one task transforms


class Sizes(typing.NamedTuple):
    """One convolution over images (N, C, H, W) padded by ``padding``, to (N, O, OH, OW)."""
    images: int
    channels: int
    image: tuple
    padding: tuple
    filters: int
    grid: tuple

    @property
    def tiles(self):
        """Rows of tiles of an image, and tiles of a row."""
        return ceil_div(self.grid[0], 2), ceil_div(self.grid[1], 2)


def sizes_of(geometry, images, channels, filters, groups, work):
    """The ``Sizes`` of a convolution that is worth doing here, else None: float32, 3x3 at stride
    1 over enough channels and positions."""
    if (work.code != "f4" or groups != 1 or geometry.kernel != (1, 3, 3)
            or geometry.phases != 1 or geometry.dilation[1:] != (1, 1)
            or geometry.padding[0] or geometry.image[0] != 1):
        return None
    sizes = Sizes(images, channels, geometry.image[1:], geometry.padding[1:], filters,
                  geometry.grid[1:])
    enough = (min(channels, filters) >= LEAST_CHANNELS and min(sizes.grid) >= 2
              and images * product(sizes.tiles) >= LEAST_TILES
              and sizes.tiles[1] <= MOST_ACROSS)
    return sizes if enough else None


class Cut(typing.NamedTuple):
    """How tiles lie in memory, and what of a plan depends on sizes alone."""
    line: int
    pitch: int
    out_line: int
    out_pitch: int
    plane: int
    rows: int
    tasks: int


def _line(channels):
    """Elements from one position to the next: whole panels, and an odd number of cache lines, so
    that neighbours do not compete for one place in the cache."""
    return ceil_div(channels, 32) * 32 + 16


def _rows(across, line, all_rows, register_rows, threads):
    """Rows of tiles in a task: as many as the cache holds, filling whole register tiles best."""
    most = max(1, min(BLOCK_BYTES // (64 * line * across), all_rows // (3 * threads), 64))

    def waste(rows):
        count = rows * across
        third = max(1, register_rows // 3)
        return (ceil_div(count, third) * third + 1.5 * (count % register_rows > 0)) / count
    return min(range(most, 0, -1), key=waste)


def _turned(across, reg):
    """Positions of a line of output, up to the end of the last square of 8 that is turned: squares
    count from the start of a register tile."""
    return ceil_div(2 * across, 8) * 8 + reg.width % 8


@functools.lru_cache(maxsize=256)
def _cut(sizes, reg, threads):
    down, across = sizes.tiles
    all_rows = down * sizes.images
    line, out_line = _line(sizes.channels), _line(sizes.filters)
    wide = max(line, out_line)
    rows = _rows(across, wide, all_rows, reg.rows, threads)
    # planes a multiple of a page apart would all want the same few places of the cache
    plane = ceil_div(ceil_div(rows * across, reg.rows) * reg.rows * wide, 1024) * 1024 + 64
    return Cut(line, (2 * across + 2) * line, out_line, _turned(across, reg) * out_line,
               plane, rows, ceil_div(all_rows, rows))


@functools.cache
def _weight(lanes):
    return build.kernel(winograd_weight.weight_kernel(lanes), ("i8:1C", "i8:2C", "i8:1C"), T="f4")


@functools.cache
def _product(reg):
    kinds = ("f4:1C",) * 3 + ("i",) * 12
    return build.kernel(winograd.product_kernel(reg.rows, reg.vectors, reg.lanes), kinds, T="f4")


@functools.cache
def _conv(width, lanes):
    return build.kernel(winograd.conv_kernel(width, lanes), ("i8:1C", "i8:2C", "i8:1C"), T="f4")


def _up(elements):
    """Bytes of float32 elements, to a whole cache line."""
    return ceil_div(elements * 4, 64) * 64


def _plan(sizes, cut, image, position_row, product_slots, store):
    """The words of a plan, as a list, without what the kinds of product differ in."""
    words = [0] * place.WORDS
    down, across = sizes.tiles
    at = len(words)
    reg = tile("f4")
    for slot, value in (
            (gemm.NR, reg.width), (gemm.PRODUCT, _product(reg).address), (gemm.PRODUCT_AT, at),
            (gemm.STORE, store.kernel.address if store.kernel else 0),
            (gemm.STORE_AT, at + len(product_slots)),
            (place.IMAGE, image), (place.IMAGE_SIZE, sizes.images * sizes.channels
                                      * product(sizes.image)),
            (place.CHANNELS, sizes.channels), (place.HEIGHT, sizes.image[0]),
            (place.WIDTH, sizes.image[1]), (place.PAD_Y, sizes.padding[0]),
            (place.PAD_X, sizes.padding[1]), (place.LINE, cut.line),
            (place.PITCH, cut.pitch), (place.FILTERS, sizes.filters),
            (place.OUT_HEIGHT, sizes.grid[0]), (place.OUT_WIDTH, sizes.grid[1]),
            (place.OUT_LINE, cut.out_line), (place.OUT_PITCH, cut.out_pitch),
            (place.POSITION_ROW, position_row), (place.DOWN, down),
            (place.ACROSS, across), (place.ALL_ROWS, down * sizes.images),
            (place.ROWS, cut.rows), (place.PLANE, cut.plane)):
        words[slot] = value
    return [*words, *product_slots, *(0,) * gemm.STORE_SLOTS, *store.slots]


def _give_scratch(words, *parts):
    """Lay out a lane's scratch memory: ``(slot, elements)`` each; returns its size and fences."""
    offsets, end, fences = memory.lay_out([4 * elements for _, elements in parts])
    for (slot, _), offset in zip(parts, offsets, strict=True):
        words[slot] = offset
    words[gemm.LANE_BYTES] = end
    return end, fences


def convolve(image, weight, turned, sizes, position_row, store):
    """Sums of ``image`` (an address) and filters, given to the epilogue ``store``, whose positions
    are counted in rows of ``position_row``.

    ``weight`` is a tensor (filters, channels, 9 taps) or, ``turned``, (channels, filters, 9 taps)
    whose taps are taken in reverse: the adjoint.
    """
    reg, threads = tile("f4"), pool.get_num_threads()
    cut = _cut(sizes, reg, threads)
    panels, channels = ceil_div(sizes.filters, reg.width), sizes.channels
    filled = panels * channels * reg.width
    slots = [0, 17 * cut.plane, 0, 16 * filled, 0, 17 * cut.plane, cut.plane, cut.line, 1, filled,
             channels * reg.width, reg.width, cut.plane, cut.out_line, channels, 0, sizes.filters,
             0]
    words = _plan(sizes, cut, image, position_row, slots, store)
    blocks = ceil_div(channels, FILL_CHANNELS)
    by = (9, 9 * sizes.filters) if turned else (9 * channels, 9)
    for slot, value in ((gemm.TASKS, cut.tasks), (gemm.FILL_A, panels * blocks),
                        (gemm.FILL_A_BLOCKS, blocks), (place.PANELS, panels),
                        (place.WEIGHT, weight._address),
                        (place.WEIGHT_SIZE, 9 * channels * sizes.filters),
                        (place.BY_FILTER, by[0]), (place.BY_CHANNEL, by[1]),
                        (place.TURNED, int(turned))):
        words[slot] = value
    tile_room = max(cut.out_line * reg.width, sizes.grid[1])    # a repair has a line there
    lane, fences = _give_scratch(words, (gemm.TILE_BASE, tile_room),
                         (place.LINES, winograd.RING * cut.pitch),
                         (place.PLANES, 17 * cut.plane), (place.STAGE, 2 * cut.out_pitch))
    work = 32 * product(sizes.tiles) * sizes.images * channels * sizes.filters
    launch_plan(_conv(reg.width, reg.lanes), words,
                Layout((), min(threads, cut.tasks), lane, _up(16 * filled), 0, work,
                       fences), store.form)


def part_bytes(sizes):
    """Memory for the sums of one part of a gradient in the filters."""
    rows = ceil_div(sizes.filters, tile("f4").rows) * tile("f4").rows
    return 64 * rows * ceil_div(sizes.channels, 32) * 32


def weight_gradient(image, grad, out, sizes):
    """The gradient of a convolution in its filters, to ``out`` (filters, channels, 9 taps).

    ``image``, ``grad`` and ``out`` are addresses.
    """
    reg, threads = tile("f4"), pool.get_num_threads()
    (down, across), filters, channels = sizes.tiles, sizes.filters, sizes.channels
    all_rows, nbytes = down * sizes.images, part_bytes(sizes)
    parts = max(1, min(MOST_PARTS, all_rows, PARTS_BYTES // nbytes))
    line, out_line, part_line = _line(channels), _line(filters), ceil_div(channels, 32) * 32
    # the sums are read and written once for each group of rows: not more often than the tiles
    rows = min(max(1, max(BLOCK_BYTES, nbytes) // (64 * (line + out_line) * across)),
               ceil_div(all_rows, parts))
    plane, out_plane = (ceil_div(rows * across * wide, 1024) * 1024 + 64
                        for wide in (line, out_line))
    cut = Cut(line, (2 * across + 2) * line, out_line, _turned(across, reg) * out_line, plane,
              rows, parts)
    part_plane = nbytes // 64
    slots = [0, 16 * out_plane, 0, 16 * plane, 0, nbytes // 4, out_plane, 1, out_line, plane,
             reg.width, line, part_plane, part_line, 0, filters, channels, 0]
    words = _plan(sizes, cut, image, 0, slots, Epilogue(None, (out, 9 * channels * filters)))
    for slot, value in ((gemm.TASKS, parts), (place.GRAD, grad),
                        (place.GRAD_SIZE, sizes.images * filters * product(sizes.grid)),
                        (place.OUT_PLANE, out_plane), (place.PART, nbytes // 4),
                        (place.PART_PLANE, part_plane), (place.PART_LINE, part_line),
                        (place.FILTER_BLOCKS, ceil_div(filters, 8))):
        words[slot] = value
    lane, fences = _give_scratch(words, (place.LINES, winograd.RING * cut.pitch),
                         (place.PLANES, 16 * plane), (place.GRADS, 16 * out_plane),
                         (place.STAGE, 2 * cut.out_pitch), (place.SUMS, 25 * part_line))
    work = 32 * product(sizes.tiles) * sizes.images * channels * filters
    launch_plan(_weight(reg.lanes), words,
                Layout((), min(threads, parts), lane, 0, parts * nbytes, work, fences),
                Form("weight", "f4", "f4"))
