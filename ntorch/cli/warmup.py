"""``python -m ntorch warmup``: compile the kernels of a model before it is used."""
import collections
import json
import os
import subprocess
import sys
import threading
import time

from . import warming

WORKER = "ntorch.cli.warming"


def add_parser(commands):
    """Add the ``warmup`` command to an argparse subparsers object."""
    warmup = commands.add_parser(
        "warmup", help="compile the kernels of a model before it is used",
        description="Compiles every kernel of a model, eager and compiled, so that later processes "
        "find them all in the store (NTORCH_CACHE_DIR). 'cache export' carries them elsewhere.")
    warmup.add_argument("place", metavar="package.module:factory", nargs="?",
                        help="what returns the model, or the function itself if it needs arguments")
    warmup.add_argument("inputs", metavar="f32[32,1,28,28]", nargs="*",
                        help="dtype and shape of each argument; a name such as N in place of a "
                        "size stands for any number")
    warmup.add_argument("--grad", action="store_true", help="backward too, in training mode")
    warmup.add_argument("--step", metavar="OPTIMIZER",
                        help="whole training steps with this optimizer of ntorch.optim, e.g. Adam")
    warmup.add_argument("--jobs", type=int, default=None, metavar="N",
                        help="processes that compile (default: one a core)")
    warmup.add_argument("--cpu", metavar="NAME",
                        help="build for another processor, e.g. x86-64-v3; processes that shall "
                        "find these kernels set NTORCH_CPU to the same name")
    warmup.add_argument("--no-check", action="store_true",
                        help="do not run the model once at the end, which finds what was missed")
    warmup.add_argument("--record", metavar="SCRIPT", nargs="+",
                        help="run this script (with its arguments) and keep every kernel it uses")
    warmup.set_defaults(run=run)


def run(chosen):
    """Run the command; exit status 1 if the model could not be run."""
    problem = _problem(chosen)
    if problem:
        print(f"ntorch warmup: {problem}", file=sys.stderr)
        return 2
    environment = dict(os.environ)
    if chosen.cpu:
        environment["NTORCH_CPU"] = chosen.cpu
    if chosen.record:
        return subprocess.run([sys.executable, "-m", WORKER, "record", *chosen.record],
                              env=environment).returncode
    what = json.dumps({"place": chosen.place, "inputs": chosen.inputs, "grad": chosen.grad,
                       "step": chosen.step})
    start, jobs = time.perf_counter(), chosen.jobs or _cores()
    team = _Team(what, jobs, environment)
    team.run()
    return _report(chosen, team, what, environment, time.perf_counter() - start)


def _cores():
    from ..runtime import cpu
    return len(cpu.affinity())


def _problem(chosen):
    """What is wrong with the options, or None."""
    if bool(chosen.record) == bool(chosen.place):
        return "give either package.module:factory or --record SCRIPT"
    if chosen.record and not os.path.exists(chosen.record[0]):
        return f"--record {chosen.record[0]}: no such file"
    if chosen.jobs is not None and chosen.jobs < 1:
        return f"--jobs {chosen.jobs}: expected a positive number"
    try:
        for text in chosen.inputs:
            warming.parse_signature(text)
    except ValueError as error:
        return str(error)
    return _unknown_processor(chosen.cpu) if chosen.cpu else None


def _unknown_processor(name):
    """What LLVM has against a processor's name; it says so on stderr only."""
    code = ("import sys, llvmlite.binding as b; b.initialize_native_target(); "
            "b.Target.from_default_triple().create_target_machine(cpu=sys.argv[1])")
    result = subprocess.run([sys.executable, "-c", code, name], capture_output=True, text=True)
    if "not a recognized processor" in result.stderr or result.returncode:
        return (f"--cpu {name}: LLVM knows no such processor of this architecture; for others, "
                "warm up on a machine of that kind")
    return None


class _Team:
    """Processes that each find the same kernels, and compile them as they are handed out."""

    def __init__(self, what, jobs, environment):
        # blocks full of 0xFF make the results of kernels that do nothing harmless: -1 is no bad
        # index; one thread, because workers of the pool would call what is not there
        environment = {**environment, "NTORCH_GUARD": "1", "NTORCH_NUM_THREADS": "1"}
        self.processes = [subprocess.Popen(
            [sys.executable, "-m", WORKER, "collect", what], env=environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            for _ in range(jobs)]
        self.queue, self.lock = collections.deque(), threading.Lock()
        self.found, self.compiled, self.bar = 0, 0, None
        self.problems, self.errors, self.queued = {}, {}, set()

    def run(self):
        """Compile everything, with a progress bar."""
        from tqdm import tqdm
        with tqdm(total=0, unit="kernel", desc="compiling", dynamic_ncols=True) as self.bar:
            crew = [threading.Thread(target=self._serve, args=(p,)) for p in self.processes]
            for thread in crew:
                thread.start()
            for thread in crew:
                thread.join()

    def _serve(self, process):
        notes = []
        reading = threading.Thread(target=lambda: notes.append(process.stderr.read()))
        reading.start()
        try:
            answer = self._answer(process)
            if answer is not None:
                self._add(answer)
                self._feed(process)
        finally:
            process.stdin.close()
            process.wait()
            reading.join()
        if process.returncode:
            self.problems["a compiling process"] = (notes[0].strip().splitlines() or ["died"])[-1]

    def _answer(self, process):
        line = process.stdout.readline()
        return json.loads(line) if line else None

    def _add(self, answer):
        with self.lock:
            self.found = max(self.found, answer["found"])
            self.errors.update(answer["errors"])
            fresh = [k for k in answer["missing"] if k not in self.queued]
            self.queued.update(fresh)
            self.queue.extend(fresh)
            self.bar.total = len(self.queued)
            self.bar.refresh()

    def _feed(self, process):
        while True:
            with self.lock:
                if not self.queue:
                    return
                key = self.queue.popleft()
            try:
                process.stdin.write(key + "\n")
                process.stdin.flush()
            except BrokenPipeError:
                return
            answer = self._answer(process)
            with self.lock:
                self.bar.update()
                if answer is None:
                    return              # it died; the check compiles what is left
                self.compiled += "done" in answer
                if "failed" in answer:
                    self.problems[answer["failed"][:12]] = answer["error"]


def _report(chosen, team, what, environment, seconds):
    from ..runtime import store
    if "making the model" in team.errors:       # there was nothing to compile for
        print(f"ntorch warmup: making the model: {team.errors['making the model']}",
              file=sys.stderr)
        return 1
    print(f"{team.found} kernels found, {team.compiled} compiled in {seconds:.1f} s by "
          f"{len(team.processes)} processes; store {store.directory()}")
    for name, problem in team.problems.items():
        print(f"{name}: {problem}", file=sys.stderr)
    if chosen.no_check:
        return 1 if team.problems else 0
    missing = _lacking(environment)
    if missing:
        print(f"not checked by running: this processor lacks {', '.join(missing)}")
        return 1 if team.problems else 0
    result = subprocess.run([sys.executable, "-m", WORKER, "check", what], env=environment,
                            stdout=subprocess.PIPE, text=True)
    if result.returncode or not result.stdout.strip():
        print("ntorch warmup: the run that checks the kernels ended early", file=sys.stderr)
        return 1
    answer = json.loads(result.stdout.strip().splitlines()[-1])
    print(f"checked: a run asks for {answer['kernels']} kernels; {answer['compiled']} had been "
          "missed and are compiled now")
    for name, error in answer["errors"].items():
        print(f"ntorch warmup: {name}: {error}", file=sys.stderr)
    if answer["errors"] and not chosen.inputs:
        print("ntorch warmup: no signature was given; give one such as f32[32,1,28,28] for each "
              "argument of the model", file=sys.stderr)
    return 1 if answer["errors"] else 0


def _lacking(environment):
    """What this processor lacks to run kernels of the named target."""
    from ..runtime import load
    name = environment.get("NTORCH_CPU", "")
    if not name:
        return []
    return load.lacking(f"{name};" + ",".join("+" + f for f in load.features_of(name)))
