"""The last step of backward: adding a gradient to ``.grad`` of a leaf."""
import sys
import threading

from ..ops import base
from ..ops.registry import ops
from .modes import state

_lock = threading.Lock()        # backward passes of several threads may share leaves


def accumulate(variable, grad):
    """``variable.grad += grad``.

    A first gradient that nobody else holds is kept as it is; a later one is added in place, unless
    the gradient is itself being recorded (``create_graph``).
    """
    with _lock:
        _add(variable, grad)
    hooks = variable.__dict__.get("_post_accumulate_hooks")
    if hooks:
        for hook in list(hooks.values()):
            hook(variable)


def _add(variable, grad):
    if state.tracer is not None:
        variable = state.tracer.note_grad(variable)
    old = variable._grad
    if old is None:
        variable._grad = grad if state.enabled else _own(grad)
    elif state.enabled:
        variable._grad = ops.add(old, grad)
    else:
        ops.add_(old, grad)


def _own(grad):
    """The gradient without history: taken over if this is its only user, else copied."""
    # references: the local here, _add's, accumulate's, the engine's tuple, getrefcount's argument
    lone = (grad._base is None and sys.getrefcount(grad) <= 7
            and sys.getrefcount(grad._storage) <= 3
            and base.is_contiguous(grad._shape, grad._strides))
    return base.alias(grad) if lone else base.alias(ops.clone(grad))
