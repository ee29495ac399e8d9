"""Runs workloads: the variants take turns, each in its own living process or a new one a sample."""
import contextlib
import statistics
import time

from .process import Process, Stores

PAUSE = 0.02        # lets the threads of the variant that ran before go to sleep
ROUNDS = {"cold": 2, "warm": 3}     # at most: a cold start of torch.compile takes 10 s and more


def _summary(samples, best):
    """Middle, spread and samples; with ``best`` the least sample stands for the middle."""
    ordered = sorted(samples)
    median = statistics.median(ordered)
    low, high = ordered[len(ordered) // 4], ordered[(3 * len(ordered)) // 4]
    return {"median": ordered[0] if best else median, "samples": samples,
            "spread": (high - low) / 2 / median if median else 0.0}


def _judge(workload, found):
    """Ratios to the first variant, and whether all that is to be reached is (None: unknown)."""
    ours, *others = workload.variants
    if "median" not in found.get(ours, {}):
        return {"ratios": {}, "met": None}
    least = max(found[ours]["median"], 1e-9)
    ratios = {name: found[name]["median"] / least for name in others
              if "median" in found.get(name, {})}
    verdicts = [ratios[name] >= goal if name in ratios else None
                for name, goal in workload.goals.items()]
    if workload.ceiling is not None:
        verdicts.append(least <= workload.ceiling)
    met = None if not verdicts or (None in verdicts and False not in verdicts) else all(verdicts)
    return {"ratios": ratios, "met": met}


def _agree(workload, found):
    """Whether all results equal ours as far as their digests tell; None if unknown."""
    ours, *others = (found.get(name, {}).get("digest") for name in workload.variants)
    others = [digest for digest in others if digest is not None]
    if ours is None or not others:
        return None
    return all(abs(ours - other) <= workload.tolerance * max(abs(ours), abs(other), 1e-12)
               for other in others)


class Runner:
    """Measures workloads one after the other. Processes live until it is closed."""

    def __init__(self, threads, rounds, seconds, best=False):
        self.threads, self.rounds, self.seconds, self.best = threads, rounds, seconds, best
        self.living, self.stores = {}, Stores()

    def close(self):
        """End all processes."""
        for process in self.living.values():
            process.close()
        self.stores.close()

    def process(self, variant):
        """The living process of a variant."""
        if variant not in self.living:
            self.living[variant] = Process(variant, self.threads)
        return self.living[variant]

    def run(self, workload, peaks):
        """Measure one workload; returns its row of the report as a dict."""
        found = self._calls(workload) if workload.kind == "call" else self._processes(workload)
        row = {"workload": workload.name, "family": workload.family, "kind": workload.kind,
               "unit": workload.unit, "variants": list(workload.variants), "results": found,
               "agree": _agree(workload, found), "goals": workload.goals,
               "ceiling": workload.ceiling, "bound": None, "reached": None,
               **_judge(workload, found)}
        ours = found.get(workload.variants[0], {})
        if workload.kind == "call" and "median" in ours:
            row["bound"], least = peaks.bound(workload)
            row["reached"] = least / ours["median"] if least else None
        return row

    def _calls(self, workload):
        """``{variant: summary or {"error"}}`` of a workload timed in the living workers."""
        found, samples, digests = {}, {}, {}
        for variant in workload.variants:
            answer = self.process(variant).ask(do="prepare", workload=workload.name)
            if answer["ok"]:
                samples[variant], digests[variant] = [], answer["digest"]
            else:
                found[variant] = answer
        for turn in range(self.rounds):
            for variant in workload.variants[::-1 if turn % 2 else 1]:
                if variant not in samples:
                    continue
                time.sleep(PAUSE)
                answer = self.process(variant).ask(do="measure", seconds=self.seconds)
                if answer["ok"]:
                    samples[variant] += answer["samples"]
                else:
                    found[variant] = answer
                    del samples[variant]
        for variant, values in samples.items():
            found[variant] = {**_summary(values, self.best), "digest": digests[variant]}
        return found

    def _processes(self, workload):
        """The same for a workload whose every sample is a new process."""
        sample = {"cold": self._cold, "warm": self._warm}.get(workload.kind, self._single)
        rounds = min(self.rounds, ROUNDS.get(workload.kind, 5))
        samples, failed, digests = {}, {}, {}
        for turn in range(rounds):
            for variant in workload.variants:
                if variant in failed:
                    continue
                if not turn:
                    self._fill(workload, variant)
                answer, value = sample(workload, variant)
                if answer["ok"]:
                    samples.setdefault(variant, []).append(value)
                    digests[variant] = answer.get("digest")
                else:
                    failed[variant] = answer
        return failed | {variant: {**_summary(values, self.best), "digest": digests[variant]}
                         for variant, values in samples.items() if variant not in failed}

    def _fill(self, workload, variant):
        """Run once, so that later samples find caches and kernel stores filled."""
        if workload.kind == "cold":
            return
        if workload.kind != "warm":
            self._single(workload, variant)
        elif self.stores.filled(workload.of, variant) is None:
            self._cold(workload, variant)

    @contextlib.contextmanager
    def _fresh(self, variant, store=None):
        process = Process(variant, self.threads, store)
        try:
            yield process
        finally:
            process.close()

    def _single(self, workload, variant):
        """What the workload measures, or the wall time of its process if it tells nothing."""
        start = time.perf_counter()
        with self._fresh(variant) as process:
            answer = process.ask(do="single", workload=workload.name)
        wall = time.perf_counter() - start
        return answer, wall if answer.get("value") is None else answer["value"]

    def _cold(self, workload, variant):
        """Seconds of the first call with an empty store."""
        with self._fresh(variant, self.stores.empty(workload.of, variant)) as process:
            answer = process.ask(do="first", workload=workload.of)
        return answer, answer.get("value")

    def _warm(self, workload, variant):
        """Seconds from the start of a process to the end of its first call, store filled."""
        start = time.monotonic()
        with self._fresh(variant, self.stores.filled(workload.of, variant)) as process:
            answer = process.ask(do="first", workload=workload.of)
        return answer, answer.get("ended", start) - start
