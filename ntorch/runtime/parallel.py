"""Compile several kernels at once, in forked copies of this process.

Numba compiles on one thread at a time, so threads gain nothing. A copy has Numba imported and
warm, compiles and puts kernels in the store, where this process finds them. Who is done with one
takes the next, long ones first. Whatever a copy does not deliver is compiled here, so that the
worst that can happen to it costs time only.
"""
import os
import sys
import threading
import warnings

from . import build, cpu, store
from .fingerprint import extent

LEAST = 3           # kernels for which a copy pays


def compile_all(kernels):
    """Compile ``kernels``, which wait and are not in the store, and put them in this process."""
    kernels = sorted(kernels, key=lambda kernel: -extent(kernel.recipe[0]))
    jobs = min(_jobs(), len(kernels) // 2)
    if len(kernels) < LEAST or jobs < 2 or not _may_fork():
        for kernel in kernels:
            build.compile_now(kernel)
        return
    if not build.counters["compiled"]:
        build.compile_now(kernels.pop())    # warms Numba up for the copies
    turns = _Turns(len(kernels))
    children = []
    try:
        children += [_start(kernels, turns) for _ in range(jobs - 1)]
        for turn in turns:
            build.compile_now(kernels[turn])
    finally:
        for child in children:
            os.waitpid(child, 0)
        turns.close()
    for kernel in kernels:
        if kernel.is_ready():
            continue
        if build.link_stored(kernel):
            build.counters["compiled"] += 1
            build.counters["loaded"] -= 1
        else:
            build.compile_now(kernel)


class _Turns:
    """The numbers below ``count``, each given to one of the processes that ask: they lie in a pipe
    from which each reads one at a time."""

    SIZE = 4

    def __init__(self, count):
        self.source, target = os.pipe()
        with open(target, "wb") as file:
            # a pipe takes 64 KB; kernels beyond its room are compiled at the end
            file.write(b"".join(i.to_bytes(self.SIZE, "little") for i in range(min(count, 8192))))

    def __iter__(self):
        while len(number := os.read(self.source, self.SIZE)) == self.SIZE:
            yield int.from_bytes(number, "little")

    def close(self):
        """Nobody asks any more."""
        os.close(self.source)


def _jobs():
    """How many processes to compile in: ``NTORCH_COMPILE_JOBS``, else the cores we may use."""
    text = os.environ.get("NTORCH_COMPILE_JOBS", "")
    return int(text) if text.isdigit() else min(cpu.default_threads(), 8)


def _may_fork():
    """Whether a copy of this process can compile and hand over: made on Linux from the main thread,
    with a store that other processes see."""
    return (sys.platform == "linux" and store.writable() is not None
            and threading.current_thread() is threading.main_thread())


def _start(kernels, turns):
    """Fork a copy that compiles those of ``kernels`` whose turns it gets; its process number."""
    from numba.core.compiler_lock import global_compiler_lock
    with warnings.catch_warnings(), global_compiler_lock:   # so that no other thread is in Numba
        # our pool's threads are in no lock that the copy needs
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child:
        return child
    status = 1
    try:
        for turn in turns:
            build.compile_to_store(kernels[turn])
        status = 0
    finally:
        os._exit(status)        # no handlers, buffers or destructors of the original's
