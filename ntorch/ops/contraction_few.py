"""Plans of products with few rows or few columns (``kernels/gemm_few.py``): cuts, scratch memory.

``suits`` says, by sizes, whether a product is better done so; ``laid_out`` gives its plan.
"""
import functools
import math
import typing

import numpy as np

from ..kernels import gemm, gemm_few, half
from ..runtime import build, memory, pool, recording
from .contraction_plan import (
    ITEM_BYTES,
    K_BLOCK,
    TASK_FLOPS,
    Layout,
    ceil_div,
    evenly,
    k_block,
    tile,
)

WIDENED = {"h2": (half.f16_to_f32, np.uint16(0)), "g2": (half.bf16_to_f32, np.uint16(0))}
TASKS_A_LANE = 4            # as many tasks for each thread even out what they are late
MOST_LINES = 256            # of the side that is packed
LEAST_DEPTH = 128           # below, turning sums costs more than packing would


class Few(typing.NamedTuple):
    """A product ``A @ B`` in which B has few columns; ``turned``: its transpose is wanted."""
    batch: int
    m: int
    n: int
    k: int
    T: str
    turned: bool
    repeated: bool          # whether all matrices of B are one
    slots: tuple            # how many slots of their own packer b and the epilogue have


def suits(many, few, k, reg):
    """Whether products of ``many`` lines, which lie side by side along k, by ``few`` others are
    better done so than by packing both sides.

    Where numbers do not fill vectors for nothing, several that lie side by side are loaded at once,
    from panels.
    """
    return few <= min(MOST_LINES, many) and k >= LEAST_DEPTH and reg.spread == 1


@functools.cache
def _shape_of(T, target_tile):
    """``(strip, apart, square)`` of the kernel for a register tile."""
    width = target_tile.width
    strip = math.lcm(target_tile.rows, width)
    whole = 16 if target_tile.lanes >= 16 else 8
    # an odd number of cache lines apart, rows lie in different sets of the cache
    return strip, K_BLOCK + 64 // ITEM_BYTES[T], math.gcd(whole, width)


@functools.cache
def _kernel(target_tile, code, T):
    function = gemm_few.few_kernel(target_tile.rows, target_tile.vectors, target_tile.lanes,
                                   *_shape_of(T, target_tile), *WIDENED.get(code, ()))
    return build.kernel(function, ("i8:1C", "i8:2C", "i8:1C"), T=T)


def _blocks(parts, work, batch, threads):
    """How many tasks the ``parts`` of A make for each matrix."""
    wanted = min(TASKS_A_LANE * threads, int(work // TASK_FLOPS))
    if threads < 2 or wanted < 2:
        return 1
    return evenly(parts, ceil_div(wanted, batch), batch, threads)


@functools.lru_cache(maxsize=4096)
def layout(few, reg, threads):
    """``(words but for addresses, Layout)``."""
    batch, m, n, k, T, turned, repeated, slots = few
    item, width, kc = ITEM_BYTES[T], reg.width, k_block(k)
    strip, apart, _ = _shape_of(T, reg)
    # parts as high as the epilogue's lines are wide leave it whole lines, small ones cut evenly
    part = width if m >= 2 * TASKS_A_LANE * width else reg.rows
    parts, panels = ceil_div(m, part), ceil_div(n, width)
    flops = 2 * batch * m * n * k
    blocks = _blocks(parts, flops, batch, threads)
    matrices = 1 if repeated else batch
    b_bytes = panels * width * k * item
    (at_tile, at_lines, at_turned), end, fences = memory.lay_out((
        panels * strip * width * item, 2 * reg.rows * apart * item,
        width * width * item if turned else 0))
    words = [0] * (gemm_few.WORDS + gemm.PACK_SLOTS)
    for slot, value in (
            (gemm.TASKS, batch * blocks), (gemm.M_BLOCKS, blocks), (gemm.N_BLOCKS, 1), (gemm.M, m),
            (gemm.N, n), (gemm.K, k), (gemm.M_PANELS, parts), (gemm.N_PANELS, panels),
            (gemm.MR, part), (gemm.NR, width), (gemm.KC, kc), (gemm.ITEM, item),
            (gemm.B_SHARED, 1), (gemm.B_BATCH, 0 if repeated else b_bytes),
            (gemm.TILE_BASE, at_tile), (gemm.B_AT, gemm_few.WORDS),
            (gemm.STORE_AT, len(words) + slots[0]), (gemm.FILL_B, matrices * panels if k else 0),
            (gemm.FILL_B_BLOCKS, panels), (gemm.LANE_BYTES, end), (gemm_few.TURNED, int(turned)),
            (gemm_few.LINES_BASE, at_lines), (gemm_few.TURNED_BASE, at_turned),
            (gemm_few.B_SIZE, matrices * panels * width * k)):
        words[slot] = value
    tasks = batch * blocks
    lanes = 1 if tasks < 2 or flops < TASK_FLOPS else min(tasks, threads)
    return words, Layout((), lanes, end, 0, ceil_div(matrices * b_bytes, 64) * 64, flops, fences)


def laid_out(m, n, k, address, matrix, b, epilogue, turned, batch, code, T):
    """What ``contraction_plan.launch_plan`` takes, for ``epilogue(A[i] @ B[i])``, or for that of
    the transposed products if ``turned``. No size is 0 but perhaps ``k``.

    A's matrices, of type ``code`` and computed in ``T``, begin at ``address`` and lie as
    ``matrix`` says (a ``contraction.Matrix``), columns side by side; ``b`` is the ``Source`` of
    (k, n) matrices.
    """
    reg = tile(T)
    words, lay = layout(Few(batch, m, n, k, T, turned, b.repeated,
                            (len(b.slots), len(epilogue.slots))), reg, pool.get_num_threads())
    recorded = recording.active and recording.current() is not None
    packer, store = (b.packer, epilogue.kernel) if recorded else (
        b.packer.address, epilogue.kernel.address)
    words = [*words, *b.slots, *(0,) * gemm.STORE_SLOTS, *epilogue.slots]
    words[gemm.PACK_B], words[gemm.STORE] = packer, store
    words[gemm_few.SOURCE:gemm_few.LINE + 1] = address, *matrix.spot, matrix.row
    return _kernel(reg, code, T), words, lay, epilogue.form


__all__ = ["Few", "laid_out", "layout", "suits"]
