"""How long a compiled workload takes to its first result, with empty and with filled stores."""
from .. import registry
from ..variants import COMPILED
from . import compiled_forward, compiled_steps

COLD = 5.0          # times faster than torch.compile
WARM = 0.5          # seconds, the process and its imports included
COMPILERS = tuple(name for name in COMPILED if "." in name)


def _first_result(workload):
    """List the cold and the warm start of a compiled workload."""
    variants = tuple(name for name in COMPILERS if name in workload.variants)
    goals = {"torch.compile": COLD} if "torch.compile" in variants else {}
    family, shared = __name__.rpartition(".")[2], {"jax": workload.jax, "of": workload.name}
    registry.add(f"cold: {workload.name}", family, None, variants=variants, kind="cold",
                 goals=goals, tolerance=workload.tolerance, **shared)
    registry.add(f"warm: {workload.name}", family, None, variants=variants, kind="warm",
                 ceiling=WARM, tolerance=workload.tolerance, **shared)


for _workload in list(registry.WORKLOADS.values()):
    if _workload.prepare.__module__ in (compiled_forward.__name__, compiled_steps.__name__):
        _first_result(_workload)
