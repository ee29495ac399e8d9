"""The list of workloads: what each does, how much it moves and computes, what it should reach."""
import dataclasses
import importlib
import pkgutil

from .variants import EAGER

WORKLOADS = {}


@dataclasses.dataclass(frozen=True)
class Workload:
    """One thing to measure.

    ``prepare(torch)`` returns the function to time, whose result is compared between variants;
    ``prepare(torch, code)`` where ``compiled``, with a ``variants.Code``. ``jax(jax)`` does the
    same in JAX's API.
    ``variants`` are the columns, ours first. ``bytes`` and ``flops`` are what one call must at
    least move and compute. ``goals`` maps a variant to the ratio to reach (its time divided by
    ours), ``ceiling`` is the most seconds, ``tolerance`` the relative difference of results above
    which they count as different.
    ``kind`` is "call" (timed in a living process) or says what a new process a sample tells:
    "process" (seconds), "memory" (megabytes), "cold" (seconds of the first call of the workload
    named ``of``, all stores empty) or "warm" (seconds from the start of the process to the result
    of the first call, stores filled).
    """
    name: str
    family: str
    prepare: object
    variants: tuple = EAGER
    compiled: bool = False
    jax: object = None
    bytes: float = 0.0
    flops: float = 0.0
    goals: dict = dataclasses.field(default_factory=dict)
    ceiling: float | None = None
    tolerance: float = 2e-3
    kind: str = "call"
    of: str | None = None

    @property
    def unit(self):
        """What samples are in: seconds or megabytes."""
        return "MB" if self.kind == "memory" else "s"

    @property
    def has_goal(self):
        """Whether it is to reach anything."""
        return bool(self.goals) or self.ceiling is not None


def add(name, family, prepare, goal=None, **attributes):
    """List a workload; ``goal`` is short for a goal against torch alone."""
    if name in WORKLOADS:
        raise ValueError(f"two workloads are named {name!r}")
    if goal is not None:
        attributes["goals"] = {"torch": goal}
    WORKLOADS[name] = Workload(name, family, prepare, **attributes)


def workload(name, **attributes):
    """Decorator: list ``prepare`` as a workload of the family its file is named after."""
    def listed(prepare):
        add(name, prepare.__module__.rpartition(".")[2], prepare, **attributes)
        return prepare
    return listed


def load_all():
    """Import every file of workloads; returns ``{name: Workload}``."""
    from . import workloads
    for module in pkgutil.iter_modules(workloads.__path__):
        importlib.import_module(f"{workloads.__name__}.{module.name}")
    return WORKLOADS
