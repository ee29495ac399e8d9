"""What this machine can do at most: copy bandwidth by size, float32 matrix products."""
import functools
import os
import platform
import threading
import time

import numpy as np


def describe():
    """Processor, system and interpreter, for the report."""
    model = platform.processor()
    try:
        with open("/proc/cpuinfo") as file:
            model = next(line.partition(":")[2].strip() for line in file if "model name" in line)
    except (OSError, StopIteration):
        pass
    return {"processor": model, "cores": os.cpu_count(), "system": platform.platform(),
            "python": platform.python_version(), "load": os.getloadavg()[0]}


def _together(threads, work):
    """Seconds that ``threads`` threads take for ``work(index)`` each, begun at the same moment."""
    gate = threading.Barrier(threads + 1)

    def run(index):
        gate.wait()
        work(index)

    crew = [threading.Thread(target=run, args=(index,)) for index in range(threads)]
    for thread in crew:
        thread.start()
    gate.wait()
    start = time.perf_counter()
    for thread in crew:
        thread.join()
    return time.perf_counter() - start


class Peaks:
    """Measured peaks, each measured when first asked for."""

    def __init__(self, threads):
        self.threads = threads

    def bandwidth(self, nbytes):
        """Bytes a second that copying reaches when ``nbytes`` are read and written in all."""
        return self._copying(max(16, (int(nbytes) - 1).bit_length()))

    @functools.cache  # noqa: B019 - one object lives as long as the program
    def _copying(self, exponent):
        share = (1 << exponent) // 2 // self.threads
        pairs = [(np.ones(share, np.uint8), np.zeros(share, np.uint8))
                 for _ in range(self.threads)]
        turns = max(1, (1 << 27) >> exponent)

        def work(index):
            source, target = pairs[index]
            for _ in range(turns):
                np.copyto(target, source)

        best = min(_together(self.threads, work) for _ in range(4))
        return 2 * share * self.threads * turns / best

    @functools.cached_property
    def flops(self):
        """Float32 operations a second of NumPy's matrix product, the best of several sizes."""
        best = 0.0
        for n in (512, 1024):
            a = np.random.default_rng(0).standard_normal((n, n), np.float32)
            for _ in range(20):
                start = time.perf_counter()
                a @ a
                best = max(best, 2 * n ** 3 / (time.perf_counter() - start))
        return best

    def bound(self, workload):
        """``(kind, seconds)``: what bounds a workload, and the least time it could take."""
        limits = {"bytes": workload.bytes / self.bandwidth(workload.bytes) if workload.bytes else 0,
                  "flops": workload.flops / self.flops if workload.flops else 0}
        kind = max(limits, key=limits.get)
        return (kind, limits[kind]) if limits[kind] else ("calls", 0.0)
