"""Compile several kernels at once, in forked copies of this process.

Numba compiles on one thread at a time, so threads gain nothing. A copy has Numba imported and
warm, compiles its share and puts it in the store, where this process finds it. Whatever a copy does
not deliver is compiled here, so that the worst that can happen to it costs time only.
"""
import os
import sys
import threading
import warnings

from . import build, cpu, store

LEAST = 3           # kernels for which a copy pays


def compile_all(kernels):
    """Compile ``kernels``, which wait and are not in the store, and put them in this process."""
    kernels = list(kernels)
    jobs = min(_jobs(), len(kernels) // 2)
    if len(kernels) < LEAST or jobs < 2 or not _may_fork():
        for kernel in kernels:
            build.compile_now(kernel)
        return
    build.compile_now(kernels.pop())    # warms Numba up for the copies
    shares = [kernels[i::jobs] for i in range(jobs)]
    children = [_start(share) for share in shares[1:]]
    try:
        for kernel in shares[0]:
            build.compile_now(kernel)
    finally:
        for child in children:
            os.waitpid(child, 0)
    for share in shares[1:]:
        for kernel in share:
            if build.link_stored(kernel):
                build.counters["compiled"] += 1
                build.counters["loaded"] -= 1
            else:
                build.compile_now(kernel)


def _jobs():
    """How many processes to compile in: ``NTORCH_COMPILE_JOBS``, else the cores we may use."""
    text = os.environ.get("NTORCH_COMPILE_JOBS", "")
    return int(text) if text.isdigit() else min(cpu.default_threads(), 8)


def _may_fork():
    """Whether a copy of this process can compile and hand over: made on Linux from the main thread,
    with a store that other processes see."""
    return (sys.platform == "linux" and store.writable() is not None
            and threading.current_thread() is threading.main_thread())


def _start(share):
    """Fork a copy that compiles ``share``; returns its process number."""
    from numba.core.compiler_lock import global_compiler_lock
    with warnings.catch_warnings(), global_compiler_lock:   # so that no other thread is in Numba
        # our pool's threads are in no lock that the copy needs
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child:
        return child
    status = 1
    try:
        for kernel in share:
            build.compile_to_store(kernel)
        status = 0
    finally:
        os._exit(status)        # no handlers, buffers or destructors of the original's
