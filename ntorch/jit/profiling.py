"""``jit.profile``: how long each launch of a compiled function takes."""
import array
import time
import typing

from ..runtime import build, launch, pool, program_native
from .drawing import programs_of, work_of

_END = launch.packer(1)
_HEAD = f"{'time':>9} {'share':>6} {'moved':>9} {'GB/s':>7} {'flops':>9} {'GFLOP/s':>8}  launch"


class Step(typing.NamedTuple):
    """One launch of a program: its place in the run, median seconds, bytes moved and arithmetic
    (rough, 0 for what is not known), and which kernel runs it."""
    program: str
    place: int
    name: str
    kernel: str
    seconds: float
    bytes: int
    flops: float


class Profile:
    """The ``Step`` of every launch in ``steps``, in the order of the run; print it for a table.

    ``seconds`` is the median time of whole calls, Python before and after the programs included.
    """

    def __init__(self, steps, seconds, runs):
        self.steps, self.seconds, self.runs = steps, seconds, runs

    def __str__(self):
        total = sum(step.seconds for step in self.steps)
        title = None
        lines = [f"{1e3 * total:.3f} ms in {len(self.steps)} launches, {1e3 * self.seconds:.3f} ms "
                 f"a call; medians of {self.runs} runs"]
        for step in self.steps:
            if step.program != title:
                title = step.program
                lines += [title, _HEAD]
            rates = [f"{work / max(step.seconds, 1e-9) / 1e9:.3g}" if work else ""
                     for work in (step.bytes, step.flops)]
            lines.append(
                f"{1e6 * step.seconds:6.1f} us {100 * step.seconds / max(total, 1e-12):5.1f}% "
                f"{step.bytes / 1e6:6.2f} MB {rates[0]:>7} {step.flops / 1e6:7.1f} M {rates[1]:>8}"
                f"  {step.place}. {step.name[:60]} [{step.kernel}]")
        return "\n".join(lines)


class _Timed:
    """Stands in for a program's native call while it is timed."""

    def __init__(self, title, program):
        self.title, self.program, self.call = title, program, program.call
        self.alone = program.alone      # a single launch goes to its kernel, past the native call
        self.runs = []
        kernel = build.kernel(program_native.time_sleeping if pool.futex_number() else
                              program_native.time_spinning, ("table",))
        self.timed = kernel.call_released

    def __call__(self, table, begin, end):
        ticks = array.array("q", [0]) * (len(self.program.steps_of) + 1)
        self.timed(table + _END(ticks.buffer_info()[0]), begin, end)
        if ticks[-1]:
            self.runs.append(ticks)

    def steps(self, second):
        """The ``Step`` of each launch; ``second``: how many ticks one has."""
        for place, node in enumerate(self.program.steps_of):
            taken = sorted(ticks[place + 1] - ticks[place] for ticks in self.runs)
            kernel = getattr(node, "kernel", None)
            yield Step(self.title, place, node.name, getattr(kernel, "name", ""),
                       taken[len(taken) // 2] / second, *work_of(getattr(node, "node", node)))


def profile(program, *arguments, runs=20, **keywords):
    """Call a compiled function ``runs`` times and time each of its launches: a ``Profile``.

    These are real calls: a training step trains. Calls that trace come before and are not timed.
    Give the arguments of a call whose program is wanted; the gradient's program is timed only if
    the function runs it, as a compiled training step does.

    TypeError for what is not compiled; RuntimeError if no program ran to its end (a function that
    runs in segments has none of its own) or this processor has no clock that kernels can read.
    """
    for _ in range(4):                  # gradients that appear make another trace
        known = len(programs_of(program))
        program(*arguments, **keywords)
        if len(programs_of(program)) == known:
            break
    timed = [_Timed(title, found) for title, found in programs_of(program)]
    calls, start, first = [], time.perf_counter(), _clock()
    for each in timed:
        each.program.call, each.program.alone = each, None
    try:
        for _ in range(runs):
            before = time.perf_counter()
            program(*arguments, **keywords)
            calls.append(time.perf_counter() - before)
    finally:
        for each in timed:
            each.program.call, each.program.alone = each.call, each.alone
    second = (_clock() - first) / (time.perf_counter() - start)
    if not second:
        raise RuntimeError("jit.profile: kernels cannot read a clock on this processor")
    steps = [step for each in timed if each.runs for step in each.steps(second)]
    if not steps:
        raise RuntimeError("jit.profile: no program ran; explain() of the compiled function says "
                           "why it has none for these arguments")
    return Profile(steps, sorted(calls)[len(calls) // 2], runs)


def _clock():
    """The clock that kernels read."""
    ticks = array.array("q", [0])
    build.kernel(program_native.read_time, ("table",)).call(_END(ticks.buffer_info()[0]), 0, 1)
    return ticks[0]


__all__ = ["Profile", "Step", "profile"]
