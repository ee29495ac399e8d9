"""Plans for the contraction engine: register tiles, blocking, scratch memory, launches.

``contract`` computes ``epilogue(A @ B)`` for operands given as packers (``Source``) or packed
before (``Packed``). The contracts of packers and epilogues are in ``kernels/gemm.py``; this module
knows addresses and sizes, not tensors.
"""
import functools
import operator
import typing

from ..kernels import gemm
from ..runtime import build, memory, pool, recording
from .contraction_frame import ceil_div
from .contraction_ready import Ready
from .contraction_tiles import TILES, Tile, set_tiles, target, tile

SHARED_LIMIT = 256 << 20        # an operand larger than this, packed, is packed block by block
BLOCK_BYTES = 160 << 10         # what a task keeps of A: a part of the second-level cache
TILE_BYTES = 320 << 10          # what a task keeps of unfinished sums
FILL_ELEMENTS = 32768           # what one task packs of a shared operand
WIDE_BLOCK = 256                # from this many columns a task packs its own A
TASK_FLOPS = 2_000_000          # a task is at least some twenty microseconds of work


K_BLOCK = 256
ITEM_BYTES = {"f4": 4, "f8": 8}
_NO_PRODUCT, _NO_PACK, _NO_STORE = ((0,) * count for count in (
    gemm.PRODUCT_SLOTS, gemm.PACK_SLOTS, gemm.STORE_SLOTS))


@functools.cache
def _product(shape, T):
    kinds = (f"{T}:1C",) * 3 + ("i",) * 4
    return build.kernel(gemm.product_kernel(shape.rows, shape.vectors, shape.lanes), kinds, T=T)


@functools.cache
def _driver():
    return build.kernel(gemm.contract_tasks, ("i8:1C", "i8:2C", "i8:1C"))


class Source(typing.NamedTuple):
    """An operand to be packed: a packer kernel, the slots of its own parameters, and whether all
    matrices of the batch are one and the same."""
    packer: typing.Any
    slots: tuple
    repeated: bool = False


class Form(typing.NamedTuple):
    """What an epilogue does, for whoever puts another in its place (``jit/epilogue.py``).

    ``kind`` names the kernel, and with it what its own slots mean: ``plain`` and ``affine``
    (``gemm_pack.store_kernel``, ``store_affine_kernel``), ``grid``, ``phase`` and ``weight`` (the
    epilogues of ``kernels/conv.py``). ``code`` is the type of the result, ``T`` that of the sums.
    """
    kind: str
    code: str
    T: str


class Epilogue(typing.NamedTuple):
    """What takes the sums away: a kernel and the slots of its own parameters."""
    kernel: typing.Any
    slots: tuple
    form: typing.Any = None


class Packed:
    """An operand packed whole. ``side`` is "a" or "b"; keeps its memory while it lives."""

    __slots__ = ("address", "batch_bytes", "side", "shape", "target", "_block", "__weakref__")
    slots = ()

    def __init__(self, address, block, batch_bytes, side, shape):
        self.address, self._block = address, block
        self.batch_bytes, self.side, self.shape = batch_bytes, side, shape
        self.target = target()

    def __del__(self, free=memory.free):
        if self._block is not None:
            free(self._block)


def k_block(k):
    """Depth of the K blocks: equal parts of at most ``K_BLOCK``. It depends on ``k`` alone."""
    parts = ceil_div(k, K_BLOCK)
    return min(k, ceil_div(ceil_div(k, parts), 8) * 8) if parts > 1 else k


class Layout(typing.NamedTuple):
    """How a contraction of given sizes is cut; what of its plan does not depend on addresses."""
    header: tuple
    lanes: int
    lane_bytes: int         # scratch memory of a lane
    a_bytes: int            # the shared A and B, if they are packed here
    b_bytes: int
    flops: int
    fences: tuple = ()      # of ``memory.lay_out``, in the scratch memory of a lane


def _cut(m_panels, n_panels, shape, kc, k, batch, item, threads):
    """How many blocks of rows and columns a matrix is cut into: by cache, then by work."""
    rows, columns = shape.rows, shape.width
    block_rows = max(rows, BLOCK_BYTES // (max(kc, 1) * item))
    m_blocks = ceil_div(m_panels, max(1, block_rows // rows))
    tall = ceil_div(m_panels, m_blocks) * rows
    wide = TILE_BYTES // (tall * item) if k > kc else 1024
    n_blocks = ceil_div(n_panels, max(1, wide // columns))
    work = 2.0 * m_panels * rows * n_panels * columns * max(k, 1) * batch
    wanted = min(4 * threads, work / TASK_FLOPS) if threads > 1 else 1
    if m_blocks == 1 and m_panels * rows <= n_panels * columns and n_panels * batch >= 2 * threads:
        # A, the smaller side, is shared, and each task packs a part of B that no other needs
        return 1, max(n_blocks, evenly(n_panels, ceil_div(int(wanted), batch), batch, threads))
    while batch * m_blocks * n_blocks < wanted:
        if m_panels // m_blocks >= 2 * (n_panels // n_blocks) and m_panels > m_blocks:
            m_blocks += 1
        elif n_panels > n_blocks:
            n_blocks += 1
        elif m_panels > m_blocks:
            m_blocks += 1
        else:
            break
    return _even(m_blocks, m_panels, n_blocks * batch, work, threads), n_blocks


def evenly(parts, wanted, times, threads):
    """How many blocks to make of ``parts``: ``wanted`` or up to twice as many, for threads that
    take blocks ``times`` over to end together."""
    wanted = max(1, min(parts, wanted))
    return min(range(wanted, min(parts, 2 * wanted) + 1),
               key=lambda blocks: ceil_div(blocks * times, threads) * ceil_div(parts, blocks))


def _even(m_blocks, m_panels, times, work, threads):
    """``m_blocks`` or a few more, so that lanes with the same number of tasks end together; each
    block of rows makes ``times`` tasks."""
    if threads < 2:
        return m_blocks
    most = min(m_panels, m_blocks + threads, int(work / TASK_FLOPS) // times)

    def longest(blocks):
        return ceil_div(blocks * times, threads) * ceil_div(m_panels, blocks)
    best = min(range(m_blocks, max(m_blocks, most) + 1), key=longest)
    return best if longest(best) < 0.97 * longest(m_blocks) else m_blocks


class Shape(typing.NamedTuple):
    """What a layout depends on besides how it is cut."""
    batch: int
    m: int
    n: int
    k: int
    T: str
    tile: Tile
    a_packed: bool          # operands packed before
    b_packed: bool
    own_slots: tuple        # how many slots of their own packer a, packer b and the epilogue have


class Fill(typing.NamedTuple):
    """An operand that the contraction packs whole first, because several tasks read it."""
    matrices: int = 0
    blocks: int = 0
    bytes: int = 0          # of all matrices


NO_FILL = Fill()


def _fill(again, matrices, panels, width, k, item):
    size = panels * width * k * item
    if not again or not 0 < size * matrices <= SHARED_LIMIT:
        return NO_FILL
    blocks = max(1, min(panels, size // (item * FILL_ELEMENTS)))
    return Fill(matrices, blocks, ceil_div(size * matrices, 64) * 64)


def _layout_of(shape, m_blocks, n_blocks, fill_a, fill_b, repeated, lanes):
    """The layout with these blocks; ``repeated``: whether all matrices of A, of B, are one."""
    batch, m, n, k, T, reg, a_packed, b_packed, own_slots = shape
    item, kc = ITEM_BYTES[T], k_block(k)
    m_panels, n_panels = ceil_div(m, reg.rows), ceil_div(n, reg.width)
    tall, wide = ceil_div(m_panels, m_blocks) * reg.rows, ceil_div(n_panels, n_blocks)
    panel = tall * reg.width * item
    step = panel if k > kc else 0
    a_shared, b_shared = a_packed or fill_a.blocks > 0, b_packed or fill_b.blocks > 0
    (at_tile, at_a, at_b), end, fences = memory.lay_out((
        panel * (wide if step else 1), 0 if a_shared else tall * kc * item,
        0 if b_shared else wide * reg.width * kc * item))
    stride_a, stride_b = (0 if same else panels * width * k * item for same, panels, width in (
        (repeated[0], m_panels, reg.rows), (repeated[1], n_panels, reg.width)))
    tables = (gemm.PRODUCT_SLOTS, gemm.PACK_SLOTS + own_slots[0], gemm.PACK_SLOTS + own_slots[1])
    starts = [gemm.HEADER + sum(tables[:i]) for i in range(4)]
    header = (batch * m_blocks * n_blocks, m_blocks, n_blocks, m, n, k, m_panels, n_panels,
              reg.rows, reg.width, kc, item, int(a_shared), at_a, stride_a, int(b_shared), at_b,
              stride_b, at_tile, step, 0, 0, 0, 0, *starts,
              fill_a.matrices * fill_a.blocks, fill_a.blocks,
              fill_b.matrices * fill_b.blocks, fill_b.blocks, 0, end)
    return Layout(header, lanes, end, fill_a.bytes, fill_b.bytes, 2 * batch * m * n * k, fences)


@functools.lru_cache(maxsize=4096)
def layout(shape, repeated, threads):
    """The ``Layout`` of a contraction; ``repeated``: whether all matrices of A, of B, are one."""
    reg, kc, item, k = shape.tile, k_block(shape.k), ITEM_BYTES[shape.T], shape.k
    m_panels, n_panels = ceil_div(shape.m, reg.rows), ceil_div(shape.n, reg.width)
    m_blocks, n_blocks = _cut(m_panels, n_panels, reg, kc, k, shape.batch, item, threads)
    matrices = [1 if same else shape.batch for same in repeated]
    # a block of A that is used for many columns can as well be packed by each task
    again_a = not shape.a_packed and n_blocks > 1 and (
        n_panels * reg.width < WIDE_BLOCK * n_blocks or (repeated[0] and shape.batch > 1))
    again_b = not shape.b_packed and (m_blocks > 1 or (repeated[1] and shape.batch > 1))
    tasks = shape.batch * m_blocks * n_blocks
    small = tasks < 2 or 2 * shape.batch * shape.m * shape.n * k < TASK_FLOPS
    return _layout_of(shape, m_blocks, n_blocks,
                      _fill(again_a, matrices[0], m_panels, reg.rows, k, item),
                      _fill(again_b, matrices[1], n_panels, reg.width, k, item), repeated,
                      1 if small else min(tasks, threads))


@functools.lru_cache(maxsize=1024)
def _whole(shape):
    """A layout with one task per product and nothing shared but what is packed before."""
    return _layout_of(shape, 1, 1, NO_FILL, NO_FILL, (False, False), 1)


_address = operator.attrgetter("address")


def _itself(kernel):
    return kernel


def _words(lay, product, a, b, epilogue):
    """The plan of a layout with its kernels and their parameters; addresses of B and of the scratch
    memory are still to be put in. While recording, the kernels themselves stand for their
    addresses: they are built with all others of the program, if it still has them."""
    recorded = recording.active and recording.current() is not None
    address = _itself if recorded else _address
    words = [*lay.header, *_NO_PRODUCT, *_NO_PACK, *a.slots, *_NO_PACK, *b.slots, *_NO_STORE,
             *epilogue.slots]
    if type(a) is Packed:
        words[gemm.A_BASE], words[gemm.A_BATCH] = a.address, a.batch_bytes
    else:
        words[gemm.PACK_A] = address(a.packer)
    if type(b) is Packed:
        words[gemm.B_BASE], words[gemm.B_BATCH] = b.address, b.batch_bytes
    else:
        words[gemm.PACK_B] = address(b.packer)
    words[gemm.STORE] = address(epilogue.kernel)
    words[gemm.PRODUCT] = address(product)
    return words


def _run(words, lay, kernel=None):
    """Give a plan its memory and run it."""
    Ready(kernel or _driver(), words, lay, ()).run(())


def prepack(side, source, batch, lines, k, T):
    """Pack an operand whole: side "a", whose ``lines`` are rows, or "b", whose are columns.

    While recording this gives ``source`` itself: a program packs when it runs, in its own memory.
    """
    if recording.active and recording.current() is not None:
        return source
    shape = tile(T)
    width = shape.rows if side == "a" else shape.width
    item = ITEM_BYTES[T]
    batches = 1 if source.repeated else batch
    panels = ceil_div(lines, width)
    size = panels * width * k * item
    address, block = memory.allocate(max(1, batches * size))
    batch_bytes = 0 if source.repeated else size
    packed = Packed(address, block, batch_bytes, side, (batch, lines, k, T))
    blocks = max(1, min(panels, size // (item * FILL_ELEMENTS)))
    words = [0] * gemm.HEADER + [0] * gemm.PACK_SLOTS + list(source.slots)
    for slot, value in ((gemm.N, lines), (gemm.K, k), (gemm.N_PANELS, panels), (gemm.NR, width),
                        (gemm.KC, k_block(k)), (gemm.ITEM, item), (gemm.A_SHARED, 1),
                        (gemm.B_SHARED, 1), (gemm.B_BASE, address), (gemm.B_BATCH, batch_bytes),
                        (gemm.PACK_B, source.packer.address), (gemm.B_AT, gemm.HEADER),
                        (gemm.FILL_B, batches * blocks), (gemm.FILL_B_BLOCKS, blocks)):
        words[slot] = value
    flops = batches * size      # packing an element costs about what a few operations do
    lanes = 1 if flops < TASK_FLOPS else min(batches * blocks, pool.get_num_threads())
    _run(words, Layout((), lanes, 0, 0, 0, flops))
    return packed


def _check(operand, side, lines, k, T):
    if type(operand) is Packed:
        if operand.side != side or operand.shape[1:] != (lines, k, T):
            raise ValueError(f"contract: operand {side} was packed for {operand.shape}, expected "
                             f"{lines} lines of depth {k} in {T}; pack it for this product")
        if operand.target != target():
            raise ValueError("contract: the operand was packed for another target; pack it again")


def _shape(m, n, k, a, b, epilogue, batch, T):
    _check(a, "a", m, k, T)
    _check(b, "b", n, k, T)
    return Shape(batch, m, n, k, T, tile(T), type(a) is Packed, type(b) is Packed,
                 (len(a.slots), len(b.slots), len(epilogue.slots)))


def contract(m, n, k, a, b, epilogue, *, batch=1, T="f4"):
    """Compute ``epilogue(A[i] @ B[i])`` for ``batch`` products of (m, k) by (k, n).

    ``a`` and ``b`` are a ``Source`` or ``Packed``, ``epilogue`` an ``Epilogue``; compute type ``T``
    is ``"f4"`` or ``"f8"``. Every element of the result is handed to the epilogue once, whatever k
    is. The same bits come out for any number of threads. ValueError for a ``Packed`` operand of
    other sizes.
    """
    if batch * m * n == 0:
        return
    launch_plan(*laid_out(m, n, k, a, b, epilogue, batch, T))


def laid_out(m, n, k, a, b, epilogue, batch, T):
    """What ``launch_plan`` takes, of ``contract``."""
    repeated = type(a) is Source and a.repeated, type(b) is Source and b.repeated
    shape = _shape(m, n, k, a, b, epilogue, batch, T)
    lay = layout(shape, repeated, pool.get_num_threads())
    return _driver(), _words(lay, _product(shape.tile, T), a, b, epilogue), lay, epilogue.form


def launch_plan(kernel, words, lay, form):
    """Run a plan by the kernel that works through it, or record it; its epilogue is of ``form``."""
    recorder = recording.current() if recording.active else None
    if recorder is None:
        _run(words, lay, kernel)
    else:
        recorder.contract(kernel, words, lay, form)


def plan(m, n, k, a, b, epilogue, *, batch=1, T="f4"):
    """``(words, scratch bytes)`` for kernels that call ``gemm.contract_block`` themselves.

    Operands that are not ``Packed`` are packed by every call. Put the words in
    an int64 array, add the address of 64-byte aligned scratch memory to slot ``gemm.TILE_BASE``
    and, for an operand that is not ``Packed``, to ``gemm.A_BASE`` or ``gemm.B_BASE``; ``place``
    does that. Then ``contract_block(words, i, 0, words[gemm.M_PANELS], 0, words[gemm.N_PANELS])``
    computes product ``i``. It can be a time step: the batch strides of packers and epilogue then
    walk along the sequence.
    """
    shape = _shape(m, n, k, a, b, epilogue, batch, T)
    lay = _whole(shape)
    return _words(lay, _product(shape.tile, T), a, b, epilogue), lay.lane_bytes


def place(words, scratch):
    """Put the address of scratch memory in the words of a ``plan``."""
    words[gemm.TILE_BASE] += scratch
    if not words[gemm.A_SHARED]:
        words[gemm.A_BASE] += scratch
    if not words[gemm.B_SHARED]:
        words[gemm.B_BASE] += scratch
    return words


__all__ = ["TILES", "Epilogue", "Form", "Packed", "Ready", "Source", "ceil_div", "contract",
           "k_block", "laid_out", "place", "plan", "prepack", "set_tiles", "target", "tile"]
