"""THE TABLE: every operation is one entry here; ``ntorch.ops.<name>`` is each of them, callable."""
from .registry import namespace, ops


def __getattr__(name):
    if name.startswith("__"):
        raise AttributeError(name)
    return getattr(ops, name)


__all__ = ["namespace", "ops"]
