"""Optimizers, with PyTorch's names, options and state dicts."""
import importlib

_HOME = {
    "Optimizer": "optimizer", "SGD": "sgd", "Adam": "adam", "AdamW": "adam",
    "Adadelta": "adaptive", "Adagrad": "adaptive", "RMSprop": "adaptive", "Rprop": "adaptive",
    "Adamax": "moments", "NAdam": "moments", "RAdam": "moments", "ASGD": "moments",
    "LBFGS": "lbfgs",
}
_SUBMODULES = frozenset(("lr_scheduler", "optimizer", "sgd", "adam"))


def __getattr__(name):
    if name in _HOME:
        try:
            found = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
        except ModuleNotFoundError as error:
            raise AttributeError(f"module 'ntorch.optim' has no attribute '{name}'") from error
    elif name in _SUBMODULES:
        found = importlib.import_module(f"{__name__}.{name}")
    else:
        raise AttributeError(f"module 'ntorch.optim' has no attribute '{name}'")
    globals()[name] = found
    return found


def __dir__():
    return sorted({*globals(), *_HOME, *_SUBMODULES})


__all__ = [*_HOME, "lr_scheduler"]
