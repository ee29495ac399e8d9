"""Neural network layers, with PyTorch's names. Each family is imported when first used."""
import importlib

from . import modules
from .parameter import Buffer, Parameter, UninitializedBuffer, UninitializedParameter

_SUBMODULES = frozenset(("functional", "init", "modules", "parameter",
                         "utils"))


def __getattr__(name):
    if name in modules.HOME:
        found = getattr(modules, name)
    elif name in _SUBMODULES:
        try:
            found = importlib.import_module(f"{__name__}.{name}")
        except ModuleNotFoundError as error:
            raise AttributeError(f"module 'ntorch.nn' has no attribute '{name}'") from error
    else:
        raise AttributeError(f"module 'ntorch.nn' has no attribute '{name}'")
    globals()[name] = found
    return found


def __dir__():
    return sorted({*globals(), *modules.HOME, *_SUBMODULES})


__all__ = ["Buffer", "Parameter", "UninitializedBuffer", "UninitializedParameter",
           *modules.__all__]
