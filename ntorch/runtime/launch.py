"""Run a kernel over a range: in the caller when the work is small, through the thread pool if
not."""
import functools
import struct

from . import recording


@functools.cache
def packer_of(count):
    """The ``struct`` of a table of ``count`` int64 slots."""
    return struct.Struct(f"{count}q")


@functools.cache
def packer(count):
    """``pack(*slots) -> bytes`` for a table of ``count`` int64 slots."""
    return packer_of(count).pack


def run(kernel, slots, n, grain):
    """Run ``kernel`` on the table ``slots`` over ``[0, n)``, in chunks of about ``grain`` items.

    The chunk size depends on ``n`` and ``grain`` alone, never on the number of threads, so results
    are the same bit for bit however many there are.
    """
    if recording.active and (recorder := recording.current()) is not None:
        recorder.launch(kernel, slots, n, grain)
        return
    table = packer(len(slots))(*slots)
    run_table(kernel, table, n, grain)


def run_table(kernel, table, n, grain):
    """``run`` with the slots packed already."""
    if n <= 0:
        return
    if recording.active and (recorder := recording.current()) is not None:
        recorder.launch(kernel, packer_of(len(table) // 8).unpack(table), n, grain)
        return
    if n <= grain:
        kernel.call(table, 0, n)
    else:
        _parallel(kernel, table, n, grain if grain > 1 else 1)


def _parallel(*launch):
    """``pool.parallel``, which takes this one's place: the pool is imported by its first launch."""
    global _parallel
    from .pool import parallel
    _parallel = parallel
    parallel(*launch)
