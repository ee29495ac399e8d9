"""The memory of a running contraction: where its counters, plans, packed operands and scratch lie.

``contraction_plan`` gives a contraction memory of its own; a recorded program gives all of its
contractions places in one arena. Both lay it out as described here.
"""
import functools
import typing

from ..kernels import gemm
from ..runtime import memory

WORD = 8
COUNTERS = 512                  # bytes: three counters, 128 bytes apart


def ceil_div(a, b):
    """``a / b`` rounded up."""
    return -(-a // b)


class Frame(typing.NamedTuple):
    """The memory of a running contraction, as byte offsets: counters, behind them the plan with a
    copy for each lane; packed A, packed B, the lanes' scratch memory; ``memory.lay_out``'s fences.
    """
    counters: int
    a: int
    b: int
    scratch: int
    nbytes: int
    fences: tuple


def frame(lay, n_words):
    """The ``Frame`` of a contraction of ``Layout`` ``lay`` whose plan has ``n_words`` words."""
    return _frame(n_words, lay.lanes, lay.lane_bytes, lay.a_bytes, lay.b_bytes, lay.fences)


@functools.lru_cache(maxsize=4096)
def _frame(n_words, lanes, lane_bytes, a_bytes, b_bytes, lane_fences):
    plans = COUNTERS + n_words * (lanes + 1) * WORD
    offsets, nbytes, fences = memory.lay_out((plans, a_bytes, b_bytes, lanes * lane_bytes))
    inner = [offsets[3] + lane * lane_bytes + at for lane in range(lanes) for at in lane_fences]
    return Frame(*offsets, nbytes, (*fences, *inner))


def frame_words(lay, places):
    """``{slot of the plan: byte offset in the frame}`` of what is known when memory is."""
    found = {gemm.SCRATCH: places.scratch}
    if lay.a_bytes:
        found[gemm.A_BASE] = places.a
    if lay.b_bytes:
        found[gemm.B_BASE] = places.b
    return found


def driver_slots(address, n_words, lanes):
    """The table of the kernel that works through a plan whose frame is at ``address``."""
    words = address + COUNTERS
    return words, n_words, words + n_words * WORD, lanes, n_words, address, COUNTERS // WORD
