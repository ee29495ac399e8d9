"""The thread pool: one crew of workers that runs ranges of kernels.

A worker is a daemon thread inside a compiled loop (``pool_native.py``), without the GIL; it spins
for about half a millisecond after a launch and then sleeps in the operating system. One launch runs
at a time: whoever finds the crew busy, from another Python thread, runs its range itself. Kernels
give the same bits however a range is cut, and it is cut by size alone, so the result does not
depend on who runs what.
"""
import atexit
import ctypes
import os
import struct
import sys
import threading

import numpy as np

from . import build, cpu
from . import pool_native as native

_FUTEX_NUMBERS = {"x86_64": 202, "aarch64": 98, "riscv64": 98, "ppc64le": 221, "s390x": 238}
_LOOP = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
_MOST_CHUNKS = 1024             # a launch is cut no finer than this, whatever its grain
_write_launch = struct.Struct("2q").pack_into       # the words KERNEL and CHUNK
_KERNEL = 8 * native.KERNEL


def futex_number():
    """Number of the futex system call here, 0 where there is none."""
    return _FUTEX_NUMBERS.get(cpu.arch(), 0) if sys.platform == "linux" else 0


def _loop(function):
    """A compiled pool loop, callable with an address and two integers, without the GIL."""
    return _LOOP(build.kernel(function, ("table",)).address)


class Crew:
    """``count`` workers and the state they share with the launching thread."""

    def __init__(self, count, futex=None, flush=0):
        number = futex_number() if futex is None else futex
        self.count, self.futex = count, number
        size = native.words(count + 1)
        room = np.zeros(size + 16, np.int64)
        skip = -(room.ctypes.data // 8) % 16        # the state starts on a 128-byte boundary
        self.words = room[skip:skip + size]
        self.view = memoryview(self.words).cast("B")
        self.address = self.words.ctypes.data
        self.words[native.FUTEX_NUMBER] = number
        self.words[native.THREADS] = count + 1
        self.words[native.FLUSH] = flush
        self.launch = build.kernel(native.launch if number else native.launch_spinning,
                                   ("table",)).call_released
        self._loop = _loop(native.worker if number else native.worker_step)
        self._stop = _loop(native.stop if number else native.stop_spinning)
        self._parked = threading.Semaphore(0)
        life = self._work if number else self._work_parking
        self.threads = [threading.Thread(target=life, args=(i + 1,), name=f"ntorch-worker-{i}",
                                         daemon=True) for i in range(count)]
        for thread in self.threads:
            thread.start()

    def run(self, kernel, table, n, chunk):
        """Run ``kernel`` over ``[0, n)`` in chunks; the caller holds the launch lock."""
        _write_launch(self.view, _KERNEL, kernel.address, chunk)
        if not self.futex and self.words[native.SLEEPERS]:
            self._parked.release(int(self.words[native.SLEEPERS]))
        self.launch(table, self.address, n)

    def stop(self, timeout=5.0):
        """Let every worker return and wait for them; the caller holds the launch lock."""
        self._stop(self.address, 0, 0)
        self._parked.release(max(1, self.count))
        for thread in self.threads:
            thread.join(timeout)

    def _work(self, thread):
        self._loop(self.address, 0, thread)

    def _work_parking(self, thread):
        words = self.words
        while not words[native.STOP]:
            seen = int(words[native.EPOCH])
            self._loop(self.address, seen, thread)
            words[native.SLEEPERS] += 1
            if words[native.EPOCH] == seen:
                self._parked.acquire(timeout=0.5)
            words[native.SLEEPERS] -= 1


class _Pool:
    """What this process has: the crew once there is one, its lock, and the settings."""

    def __init__(self):
        self.lock = threading.Lock()        # held while a launch runs
        self.building = threading.RLock()   # held while crew or settings change
        self.crew = None
        self.threads = None                 # None until asked for or set
        self.flush = 0


_pool = _Pool()


def _after_fork():
    """A child has no workers and its locks may be held by threads that do not exist in it."""
    _pool.lock, _pool.building = threading.Lock(), threading.RLock()
    _pool.crew = None


def _at_exit():
    _pool.threads = 1               # whatever still runs is run by its caller
    _disband()


def _disband():
    with _pool.building:
        crew = _pool.crew
        if crew is not None:
            with _pool.lock:
                _pool.crew = None
                crew.stop()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
atexit.register(_at_exit)


def _gather():
    """The crew, made if it is not there; None if one thread is all there shall be."""
    with _pool.building:
        count = get_num_threads()
        if _pool.crew is None and count > 1:
            try:
                _pool.crew = Crew(count - 1, flush=_pool.flush)
            except RuntimeError:            # no more threads may be started: do without
                _pool.threads = 1
        return _pool.crew


def parallel(kernel, table, n, chunk):
    """Run ``kernel`` on the packed ``table`` over ``[0, n)`` in chunks of ``chunk`` items.

    Returns when all is done. Runs in the caller alone if one thread is set, or if another Python
    thread's launch is under way.
    """
    crew = _pool.crew
    if crew is None and (_pool.threads == 1 or _gather() is None):
        kernel.call_released(table, 0, n)
        return
    lock = _pool.lock
    if not lock.acquire(False):
        kernel.call_released(table, 0, n)
        return
    try:
        crew = _pool.crew
        if crew is None:                    # disbanded since
            kernel.call_released(table, 0, n)
        else:
            least = -(-n // _MOST_CHUNKS)
            crew.run(kernel, table, n, chunk if chunk > least else least)
    finally:
        lock.release()


def hold():
    """The crew for launches of a program's own, until ``let_go``; None if there is none to have."""
    if _pool.crew is None and (_pool.threads == 1 or _gather() is None):
        return None
    if not _pool.lock.acquire(False):
        return None
    crew = _pool.crew
    if crew is None:
        _pool.lock.release()
    elif not crew.futex and crew.words[native.SLEEPERS]:
        crew._parked.release(int(crew.words[native.SLEEPERS]))
    return crew


def let_go():
    """Give back what ``hold`` gave."""
    _pool.lock.release()


def get_num_threads():
    """How many threads kernels run on, the calling one included."""
    count = _pool.threads
    if count is None:
        count = _pool.threads = cpu.default_threads()
    return count


def set_num_threads(count):
    """Run kernels on ``count`` threads from now on.

    TypeError unless ``count`` is an int; RuntimeError unless it is positive.
    """
    if isinstance(count, bool) or not hasattr(count, "__index__"):
        raise TypeError(f"set_num_threads expects an int, but got {type(count).__name__}")
    count = count.__index__()
    if count <= 0:
        raise RuntimeError(f"set_num_threads expects a positive integer, got {count}")
    with _pool.building:
        if count != get_num_threads():
            _pool.threads = count
            _disband()


def set_flush_denormal(mode):
    """Make float arithmetic in kernels flush denormals to zero, in this thread and all workers.

    Returns whether the processor supports it.
    """
    loop = _loop(native.set_flush_denormal)
    result = np.zeros(1, np.int64)
    loop(result.ctypes.data, int(bool(mode)), 0)
    if result[0] < 0:
        return False
    with _pool.building, _pool.lock:
        _pool.flush = int(bool(mode))
        if _pool.crew is not None:
            _pool.crew.words[native.FLUSH] = _pool.flush
    return True
