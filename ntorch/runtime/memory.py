"""The memory of this process: one pool of blocks (``blocks.py``), and how a block is cut.

``NTORCH_GUARD`` is for tests: it chooses a pool of ``guard.py``. With ``1`` every block lies
between canaries, is filled with 0xFF (NaN for floats), and is checked when it is freed: that finds
what wrote outside. With ``behind`` each block ends where a page begins that nobody may touch, with
``before`` it begins where such a page ends, and so does every piece that ``lay_out`` cuts: a read
outside ends the process, whatever code made it.
"""
import os

from .blocks import ALIGNMENT, Pool


def _make_pool():
    mode = os.environ.get("NTORCH_GUARD", "0").strip()
    if mode in ("", "0"):
        return Pool()
    from . import guard
    return guard.PagePool(mode) if mode in ("behind", "before") else guard.GuardedPool()


pool = _make_pool()
allocate = pool.allocate
free = pool.free
zeroed = pool.zeroed
trim = pool.trim
stats = pool.stats
guarded = hasattr(pool, "check_guards")     # whether ``NTORCH_GUARD`` asks for blocks so watched
fenced = hasattr(pool, "fence")             # whether by forbidden pages
GRANULE = pool.fence_bytes if fenced else ALIGNMENT     # ``lay_out`` wants such an address


def lay_out(sizes):
    """Where pieces of these sizes lie in one block: ``(offsets, bytes of the block, fences)``.

    They lie behind each other, each at a multiple of ``ALIGNMENT``; where ``fenced``, with pages at
    the offsets ``fences`` before, between and behind them, which ``fence`` forbids.
    """
    if fenced:
        offsets, nbytes, fences = pool.lay_out(sizes)
        return offsets, nbytes, tuple(fences)
    offsets, at = [], 0
    for nbytes in sizes:
        offsets.append(at)
        at += -(-nbytes // ALIGNMENT) * ALIGNMENT
    return offsets, at, ()


def fence(address, fences):
    """Forbid the pages at offsets ``fences`` of the block at ``address`` until it is freed."""
    if fences:
        pool.fence(address, fences)


def check_guards():
    """Check the canaries of every live block; returns the number of violations so far (0 without
    ``NTORCH_GUARD``)."""
    return pool.check_guards() if guarded else 0


def guard_violations():
    """Descriptions of every write outside an array seen so far (empty without the guard)."""
    return list(pool.violations) if guarded else []
