"""Run a kernel over a range: in the caller when the work is small, through the thread pool if
not."""
import functools
import struct


@functools.cache
def packer(count):
    """``pack(*slots) -> bytes`` for a table of ``count`` int64 slots."""
    return struct.Struct(f"{count}q").pack


def run(kernel, slots, n, grain):
    """Run ``kernel`` on the table ``slots`` over ``[0, n)``, in chunks of about ``grain`` items.

    The chunk size depends on ``n`` and ``grain`` alone, never on the number of threads, so results
    are the same bit for bit however many there are.
    """
    table = packer(len(slots))(*slots)
    run_table(kernel, table, n, grain)


def run_table(kernel, table, n, grain):
    """``run`` with the slots packed already."""
    if n <= 0:
        return
    if n <= grain:
        kernel.call(table, 0, n)
        return
    from . import pool
    pool.parallel(kernel, table, n, max(1, grain))
