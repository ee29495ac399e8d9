"""``python -m bench``: measure ntorch, beside PyTorch where it is installed."""
import argparse
import importlib.util
import json
import os
import sys
import time

from . import machine, report, runner
from .registry import load_all


def _parser():
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--only", action="append", default=[], metavar="WORD",
                        help="only workloads with this word in name or family; may be repeated")
    parser.add_argument("--against", default="torch", metavar="LIBRARY",
                        help="compare with this module (default torch); 'none' for nothing")
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--rounds", type=int, help="turns per library and workload (default 6)")
    parser.add_argument("--seconds", type=float, help="seconds a turn (default 0.12)")
    parser.add_argument("--quick", action="store_true", help="show that all workloads run")
    parser.add_argument("--best", action="store_true",
                        help="compare least times instead of medians: for a busy machine")
    parser.add_argument("--goals", action="store_true", help="only workloads that have a goal")
    parser.add_argument("--json", metavar="FILE", help="write everything measured to FILE")
    parser.add_argument("--markdown", metavar="FILE", help="write the table to FILE")
    parser.add_argument("--list", action="store_true", help="list the workloads and end")
    return parser


def _chosen(options):
    words = [word.lower() for word in options.only]
    for workload in load_all().values():
        text = f"{workload.family} {workload.name}".lower()
        has_goal = workload.goal is not None or workload.ceiling is not None
        if (not words or any(word in text for word in words)) and (has_goal or not options.goals):
            yield workload


def _libraries(options):
    names = ["ntorch"]
    if options.against != "none":
        if importlib.util.find_spec(options.against) is None:
            print(f"{options.against} is not installed: measuring ntorch alone", file=sys.stderr)
        else:
            names.append(options.against)
    return [runner.Library(name, options.threads) for name in names]


def _measure(chosen, libraries, options):
    rounds = options.rounds or (2 if options.quick else 6)
    seconds = options.seconds or (0.01 if options.quick else 0.12)
    peaks = machine.Peaks(options.threads)
    names = [library.name for library in libraries]
    print(report.head(names), flush=True)
    rows = []
    for workload in chosen:
        few = min(rounds, 1 if options.quick else 5)
        row = runner.run(workload, libraries, peaks, few if workload.kind != "call" else rounds,
                         seconds, options.best)
        rows.append(row)
        print(report.line(report.cells(row, names)), flush=True)
    return rows, peaks


def main(arguments=None):
    """Run the bench; exit status 1 if a workload failed on ntorch or the results differ."""
    options = _parser().parse_args(arguments)
    chosen = list(_chosen(options))
    if options.list or not chosen:
        for workload in chosen:
            print(f"{workload.family:14} {workload.name}")
        return 0 if chosen else 2
    os.environ.setdefault("OPENBLAS_NUM_THREADS", str(options.threads))
    libraries = _libraries(options)
    versions = {library.name: library.ask(do="version").get("version") for library in libraries}
    about = {**machine.describe(), "threads": options.threads, "versions": versions,
             "time": time.strftime("%Y-%m-%d %H:%M:%S")}
    print(f"{about['processor']}, {about['cores']} cores, {options.threads} threads; "
          + ", ".join(f"{name} {version}" for name, version in versions.items()))
    try:
        rows, peaks = _measure(chosen, libraries, options)
    finally:
        for library in libraries:
            library.close()
    _write(options, about, rows, peaks, list(versions))
    failed = report.failures(rows)
    for name, library, error in failed:
        print(f"failed: {name} with {library}: {error}", file=sys.stderr)
    broken = any(library == "ntorch" for _, library, _ in failed)
    return 1 if broken or any(row["agree"] is False for row in rows) else 0


def _write(options, about, rows, peaks, names):
    if options.json:
        with open(options.json, "w") as file:
            json.dump({"machine": {**about, "flops": peaks.flops}, "rows": rows}, file, indent=1)
    if options.markdown:
        with open(options.markdown, "w") as file:
            file.write(report.markdown(rows, names) + "\n")


if __name__ == "__main__":
    sys.exit(main())
