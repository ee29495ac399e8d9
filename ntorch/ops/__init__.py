"""THE TABLE: every operation is one entry here; ``ntorch.ops.<name>`` is each of them, callable."""
import pkgutil

from .registry import namespace, of_namespace, ops

# no op is named like a module: ``from . import loops`` must not load the table to find out
_rooms = {module.name for module in pkgutil.iter_modules(__path__)}


def __getattr__(name):
    if name.startswith("__") or name in _rooms:
        raise AttributeError(name)
    return getattr(ops, name)


__all__ = ["namespace", "of_namespace", "ops"]
