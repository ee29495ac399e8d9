"""``python -m bench``: measure ntorch, beside PyTorch and JAX where they are installed."""
import argparse
import dataclasses
import json
import os
import sys
import time

from . import machine, report
from .registry import load_all
from .runner import Runner
from .variants import installed, library_of

SLOW = ("cold", "warm")         # kinds that --quick leaves out


def _parser():
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--only", action="append", default=[], metavar="WORD",
                        help="only workloads with this word in name or family; may be repeated")
    parser.add_argument("--against", action="append", metavar="LIBRARY",
                        help="compare with this library (default torch and jax); may be repeated; "
                             "'none' for nothing")
    parser.add_argument("--columns", metavar="LIST",
                        help="these variants instead of the workload's own, ours first: "
                             "ntorch,torch,torch.compile")
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--rounds", type=int, help="turns per variant and workload (default 5)")
    parser.add_argument("--seconds", type=float, help="seconds a turn (default 0.12)")
    parser.add_argument("--quick", action="store_true",
                        help="show that all workloads run; compile times only where --only names "
                             "them")
    parser.add_argument("--best", action="store_true",
                        help="compare least times instead of medians: for a busy machine")
    parser.add_argument("--goals", action="store_true", help="only workloads that have a goal")
    parser.add_argument("--json", metavar="FILE", help="write everything measured to FILE")
    parser.add_argument("--markdown", metavar="FILE", help="write the tables to FILE")
    parser.add_argument("--list", action="store_true", help="list the workloads and end")
    return parser


def _with_columns(workload, options):
    """The workload with the variants that are asked for and can run."""
    against = options.against or ["torch", "jax"]
    if options.columns and workload.kind == "call" and workload.compiled:
        libraries = {library_of(name) for name in workload.variants}
        wanted = [name for name in options.columns.split(",") if library_of(name) in libraries]
    else:
        wanted = [name for name in workload.variants if library_of(name) in ("ntorch", *against)]
    variants = tuple(name for name in wanted if installed(name)
                     and (name != "jax.jit" or workload.jax is not None))
    judged = variants[:1] == workload.variants[:1]
    return dataclasses.replace(workload, variants=variants,
                               goals=workload.goals if judged else {},
                               ceiling=workload.ceiling if judged else None)


def _chosen(options):
    """The workloads asked for; those with the same columns follow one another."""
    words = [word.lower() for word in options.only]
    chosen = [_with_columns(workload, options) for workload in load_all().values()
              if (workload.has_goal or not options.goals)
              and (words or not options.quick or workload.kind not in SLOW)
              and (not words or any(word in f"{workload.family} {workload.name}".lower()
                                    for word in words))]
    places = list(dict.fromkeys(workload.variants for workload in chosen))
    return sorted((workload for workload in chosen if workload.variants),
                  key=lambda workload: places.index(workload.variants))


def _measure(chosen, runner, options):
    peaks = machine.Peaks(options.threads)
    rows = []
    for workload in chosen:
        if not rows or rows[-1]["variants"] != list(workload.variants):
            print(("\n" if rows else "") + report.head(workload.variants), flush=True)
        rows.append(runner.run(workload, peaks))
        print(report.line(report.cells(rows[-1])), flush=True)
    return rows, peaks


def _versions(chosen, runner):
    """``{library: version}``, asked of the first variant of each that is measured."""
    variants = dict.fromkeys(name for workload in chosen for name in workload.variants)
    firsts = {library_of(name): name for name in reversed(variants)}
    return {library: runner.process(firsts[library]).ask(do="version").get("version")
            for library in sorted(firsts, key=("ntorch", "torch", "jax").index)}


def main(arguments=None):
    """Run the bench; exit status 1 if a workload failed on ntorch or the results differ."""
    options = _parser().parse_args(arguments)
    chosen = _chosen(options)
    if options.list or not chosen:
        for workload in chosen:
            print(f"{workload.family:14} {workload.name}")
        return 0 if chosen else 2
    os.environ.setdefault("OPENBLAS_NUM_THREADS", str(options.threads))
    runner = Runner(options.threads, options.rounds or (1 if options.quick else 5),
                    options.seconds or (0.01 if options.quick else 0.12), options.best)
    try:
        versions = _versions(chosen, runner)
        about = {**machine.describe(), "threads": options.threads, "versions": versions,
                 "time": time.strftime("%Y-%m-%d %H:%M:%S")}
        print(f"{about['processor']}, {about['cores']} cores, {options.threads} threads; "
              + ", ".join(f"{name} {version}" for name, version in versions.items()))
        rows, peaks = _measure(chosen, runner, options)
    finally:
        runner.close()
    _write(options, about, rows, peaks)
    failed = report.failures(rows)
    for name, variant, error in failed:
        print(f"failed: {name} with {variant}: {error}", file=sys.stderr)
    broken = any(library_of(variant) == "ntorch" for _, variant, _ in failed)
    return 1 if broken or any(row["agree"] is False for row in rows) else 0


def _write(options, about, rows, peaks):
    if options.json:
        with open(options.json, "w") as file:
            json.dump({"machine": {**about, "flops": peaks.flops}, "rows": rows}, file, indent=1)
    if options.markdown:
        with open(options.markdown, "w") as file:
            file.write(report.markdown(rows) + "\n")


if __name__ == "__main__":
    sys.exit(main())
