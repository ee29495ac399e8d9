"""``ntorch.linalg``: linear algebra; the entries are in ``ops/entries``."""
from .ops.errors import LinAlgError
from .ops.registry import ops


def __getattr__(name):
    if name.startswith("_"):
        raise AttributeError(f"module 'ntorch.linalg' has no attribute {name!r}")
    try:
        function = getattr(ops, "linalg_" + name)
    except AttributeError:
        raise AttributeError(f"module 'ntorch.linalg' has no attribute {name!r}") from None
    globals()[name] = function
    return function


def __dir__():
    from .ops.registry import entries
    return sorted({"LinAlgError", *(n[7:] for n in entries() if n.startswith("linalg_"))})


__all__ = ["LinAlgError"]
