"""Define-by-run differentiation: the tape, backward, Function, modes and numerical checks."""
from .api import backward, grad
from .modes import (
    enable_grad,
    inference_mode,
    is_grad_enabled,
    is_inference_mode_enabled,
    no_grad,
    set_grad_enabled,
)
from .tensor_hooks import register_post_accumulate_hook, register_tensor_hook, retain_grad

_LAZY = {"Function": "function", "once_differentiable": "function", "gradcheck": "gradcheck",
         "gradgradcheck": "gradcheck", "detect_anomaly": "anomaly", "set_detect_anomaly": "anomaly",
         "is_anomaly_enabled": "anomaly", "saved_tensors_hooks": "saved", "save_on_cpu": "saved",
         "disable_saved_tensors_hooks": "saved"}


def __getattr__(name):
    import importlib
    if name in _LAZY:
        value = getattr(importlib.import_module(f"{__name__}.{_LAZY[name]}"), name)
    elif name == "Variable":
        from ..tensor import Tensor as value
    elif name in ("functional", "graph", "function", "profiler", "gradcheck", "anomaly"):
        return importlib.import_module(f"{__name__}.{name}")
    elif name == "grad_mode":           # torch's name of the module
        from . import modes as value
    else:
        raise AttributeError(f"module 'ntorch.autograd' has no attribute {name!r}")
    globals()[name] = value
    return value


__all__ = ["backward", "enable_grad", "grad", "inference_mode", "is_grad_enabled",
           "is_inference_mode_enabled", "no_grad", "register_post_accumulate_hook",
           "register_tensor_hook", "retain_grad", "set_grad_enabled"]
