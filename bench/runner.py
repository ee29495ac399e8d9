"""Runs workloads: the libraries take turns, each in its own living process."""
import json
import os
import statistics
import subprocess
import sys
import time

PAUSE = 0.02        # lets the threads of the library that ran before go to sleep
TOLERANCE = 2e-3    # relative difference of results above which they count as different


class Library:
    """A worker process for one library."""

    def __init__(self, name, threads):
        self.name, self.threads = name, threads
        self.process = None

    def _start(self):
        variables = dict.fromkeys(
            ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NTORCH_NUM_THREADS"), str(self.threads))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bench.worker", self.name, str(self.threads)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, **variables})

    def ask(self, **request):
        """The worker's answer, a dict with "ok"."""
        if self.process is None:
            self._start()
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            status = self.process.wait()
            self.process = None
            return {"ok": False, "error": f"the process ended with status {status}"}
        return json.loads(line)

    def close(self):
        """End the process."""
        if self.process is not None:
            self.process.stdin.close()
            self.process.stdout.close()
            self.process.wait(timeout=30)
            self.process = None


def _summary(samples, best):
    """Middle, spread and samples; with ``best`` the least sample stands for the middle."""
    ordered = sorted(samples)
    median = statistics.median(ordered)
    low, high = ordered[len(ordered) // 4], ordered[(3 * len(ordered)) // 4]
    return {"median": ordered[0] if best else median, "samples": samples,
            "spread": (high - low) / 2 / median if median else 0.0}


def _run_calls(workload, libraries, rounds, seconds, best):
    """``{library: summary or {"error"}}`` of a workload timed in the living workers."""
    found, samples, digests = {}, {}, {}
    for library in libraries:
        answer = library.ask(do="prepare", workload=workload.name)
        if answer["ok"]:
            samples[library.name], digests[library.name] = [], answer["digest"]
        else:
            found[library.name] = answer
    for turn in range(rounds):
        order = libraries if turn % 2 == 0 else libraries[::-1]
        for library in order:
            if library.name not in samples:
                continue
            time.sleep(PAUSE)
            answer = library.ask(do="measure", seconds=seconds)
            if answer["ok"]:
                samples[library.name] += answer["samples"]
            else:
                found[library.name] = answer
                del samples[library.name]
    for name, values in samples.items():
        found[name] = {**_summary(values, best), "digest": digests[name]}
    return found


def _run_processes(workload, libraries, rounds, best):
    """The same for a workload whose every sample is a new process."""
    found = {}
    for turn in range(rounds + 1):          # the first fills caches and kernel stores
        for library in libraries:
            fresh = Library(library.name, library.threads)
            start = time.perf_counter()
            answer = fresh.ask(do="single", workload=workload.name)
            fresh.close()
            wall = time.perf_counter() - start
            if not answer["ok"]:
                found[library.name] = answer
            elif turn and isinstance(found.get(library.name, []), list):
                value = wall if answer["value"] is None else answer["value"]
                found.setdefault(library.name, []).append(value)
    return {name: _summary(values, best) if isinstance(values, list) else values
            for name, values in found.items()}


def _agree(found):
    """Whether the libraries' results are the same as far as their digests tell; None if unknown."""
    digests = [entry.get("digest") for entry in found.values()]
    if len(digests) < 2 or None in digests:
        return None
    first, second = digests
    return abs(first - second) <= TOLERANCE * max(abs(first), abs(second), 1e-12)


def run(workload, libraries, peaks, rounds, seconds, best=False):
    """Measure one workload; returns its row of the report as a dict."""
    if workload.kind == "call":
        found = _run_calls(workload, libraries, rounds, seconds, best)
    else:
        found = _run_processes(workload, libraries, rounds, best)
    ours = found[libraries[0].name]
    row = {"workload": workload.name, "family": workload.family, "kind": workload.kind,
           "unit": workload.unit, "results": found, "agree": _agree(found), "goal": workload.goal,
           "ceiling": workload.ceiling, "ratio": None, "met": None, "bound": None, "reached": None}
    if "median" not in ours:
        return row
    if len(libraries) > 1 and "median" in found[libraries[1].name]:
        row["ratio"] = found[libraries[1].name]["median"] / max(ours["median"], 1e-9)
    if workload.kind == "call":
        row["bound"], least = peaks.bound(workload)
        row["reached"] = least / ours["median"] if least else None
    verdicts = []
    if workload.goal is not None and row["ratio"] is not None:
        verdicts.append(row["ratio"] >= workload.goal)
    if workload.ceiling is not None:
        verdicts.append(ours["median"] <= workload.ceiling)
    row["met"] = all(verdicts) if verdicts else None
    return row
