"""The memory of a running contraction: where its counters, plans, packed operands and scratch lie.

``contraction_plan`` gives a contraction memory of its own; a recorded program gives all of its
contractions places in one arena. Both lay it out as described here.
"""
import typing

from ..kernels import gemm

WORD = 8
COUNTERS = 512                  # bytes: three counters, 128 bytes apart


def ceil_div(a, b):
    """``a / b`` rounded up."""
    return -(-a // b)


class Frame(typing.NamedTuple):
    """The memory of a running contraction, as byte offsets: counters at 0, then the plan with a
    copy for each lane, packed A, packed B, and the lanes' scratch memory."""
    words: int
    a: int
    b: int
    scratch: int
    nbytes: int


def frame(lay, n_words):
    """The ``Frame`` of a contraction of ``Layout`` ``lay`` whose plan has ``n_words`` words."""
    return _frame(n_words, lay.lanes, lay.lane_bytes, lay.a_bytes, lay.b_bytes)


def _frame(n_words, lanes, lane_bytes, a_bytes, b_bytes):
    a = COUNTERS + ceil_div(n_words * (lanes + 1) * WORD, 64) * 64
    scratch = a + a_bytes + b_bytes
    return Frame(COUNTERS, a, a + a_bytes, scratch, scratch + lanes * lane_bytes)


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
