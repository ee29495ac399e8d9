"""One variant in a process of its own: reads requests as lines of JSON, answers with such lines.

``{"do": "prepare", "workload": NAME}`` makes a workload ready and tells a digest of its result,
``{"do": "measure", "seconds": S}`` runs it for about that long and tells seconds a call,
``{"do": "first", "workload": NAME}`` sets a workload up and tells the seconds of its first call
and the system's clock at its end,
``{"do": "single", "workload": NAME}`` runs a "process" or "memory" workload once,
``{"do": "quit"}`` ends.
"""
import gc
import importlib
import json
import os
import sys
import time
import traceback

from .variants import Code, forget, library_of

SHORTEST_SAMPLE = 200e-6        # cheaper calls are timed in groups


class Worker:
    """The state between requests: the library, and the function to time."""

    def __init__(self, variant, threads):
        self.variant, self.threads = variant, threads
        self.module = None
        self.call, self.group = None, 1

    def imported(self):
        """The variant's library, with its threads set."""
        if self.module is None:
            self.module = importlib.import_module(library_of(self.variant))
            if hasattr(self.module, "set_num_threads"):
                self.module.set_num_threads(self.threads)
        return self.module

    def _set_up(self, workload):
        """The function to time."""
        module = self.imported()
        self.call = None
        gc.collect()
        forget(self.variant, module)
        if self.variant == "jax.jit":
            return workload.jax(module)
        module.manual_seed(0)
        code = (Code(self.variant),) if workload.compiled else ()
        return workload.prepare(module, *code)

    def prepare(self, workload):
        """Set up, run a few times (kernels are compiled then), choose the group size."""
        self.call = self._set_up(workload)
        digest = _digest(self.call())
        for _ in range(2):
            self.call()
        start = time.perf_counter()
        self.call()
        once = max(time.perf_counter() - start, 1e-7)
        self.group = max(1, int(SHORTEST_SAMPLE / once))
        return {"digest": digest}

    def measure(self, seconds):
        """Seconds per call of as many groups as fit in ``seconds``, at least three."""
        call, group, samples = self.call, range(self.group), []
        call()
        end = time.perf_counter() + seconds
        while len(samples) < 3 or time.perf_counter() < end:
            start = time.perf_counter()
            for _ in group:
                call()
            samples.append((time.perf_counter() - start) / self.group)
        return {"samples": samples}

    def first(self, workload):
        """Seconds of the first call after setting up."""
        call = self._set_up(workload)
        start = time.perf_counter()
        result = call()
        seconds = time.perf_counter() - start
        return {"value": seconds, "ended": time.monotonic(), "digest": _digest(result)}

    def single(self, workload):
        """Run a "process" or "memory" workload; what it returns is the sample."""
        code = (Code(self.variant),) if workload.compiled else ()
        return {"value": workload.prepare(library_of(self.variant), *code)}


def _digest(result):
    """A number that two libraries must agree on for the same workload, or None."""
    if result is None or not hasattr(result, "detach"):
        return None
    values = result.detach().double()
    return float(values.abs().mean())


def _handle(worker, request, workloads):
    action = request["do"]
    if action == "version":
        return {"version": str(getattr(worker.imported(), "__version__", "?"))}
    if action == "measure":
        return worker.measure(request["seconds"])
    return getattr(worker, action)(workloads[request["workload"]])


def main():
    """Serve requests until "quit" or the end of the input."""
    from .registry import load_all
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)               # whatever a library prints must not reach the answers
    workloads = load_all()
    worker = Worker(sys.argv[1], int(sys.argv[2]))
    for line in sys.stdin:
        request = json.loads(line)
        if request["do"] == "quit":
            break
        try:
            answer = {"ok": True, **_handle(worker, request, workloads)}
        except Exception as error:      # told to the parent, which goes on with other workloads
            answer = {"ok": False, "error": f"{type(error).__name__}: {error}",
                      "traceback": traceback.format_exc()}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
