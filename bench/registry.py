"""The list of workloads: what each does, how much it moves and computes, what it should reach."""
import dataclasses
import importlib
import pkgutil

WORKLOADS = {}


@dataclasses.dataclass(frozen=True)
class Workload:
    """One thing to measure.

    ``prepare(torch)`` returns the function to time, whose result is compared between libraries.
    ``bytes`` and ``flops`` are what one call must at least move and compute. ``goal`` is the ratio
    to reach (the other library's time divided by ntorch's), ``ceiling`` the most seconds.
    ``kind`` is "call" (timed in a living process), "process" (a new process a sample, seconds) or
    "memory" (a new process a sample, megabytes).
    """
    name: str
    family: str
    prepare: object
    bytes: float = 0.0
    flops: float = 0.0
    goal: float | None = None
    ceiling: float | None = None
    kind: str = "call"

    @property
    def unit(self):
        """What samples are in: seconds or megabytes."""
        return "MB" if self.kind == "memory" else "s"


def workload(name, **attributes):
    """Decorator: list ``prepare`` as a workload of the family its file is named after."""
    def add(prepare):
        family = prepare.__module__.rpartition(".")[2]
        WORKLOADS[name] = Workload(name, family, prepare, **attributes)
        return prepare
    return add


def load_all():
    """Import every file of workloads; returns ``{name: Workload}``."""
    from . import workloads
    for module in pkgutil.iter_modules(workloads.__path__):
        importlib.import_module(f"{workloads.__name__}.{module.name}")
    return WORKLOADS
