"""The seam to the fuser: composites and gradient rules run as one program instead of op by op.

The tape asks here before it runs the Python of a composite or the rules of a node. ``bind`` is told
where the fuser lives (``jit/inline.py``, which stands above the tape); it is loaded when the first
call is large enough to ask it.
"""
from ..ops.base import TensorBase
from .modes import state

LEAST = 512             # elements from which a call may be worth a program
_bound = {}


def bind(load):
    """Say where the fuser is: ``load()`` gives it."""
    _bound["load"] = load


def is_large(values):
    """Whether one of ``values`` is a tensor with so many elements that a program may pay."""
    for value in values:
        if isinstance(value, TensorBase):
            count = 1
            for size in value._shape:
                count *= size
            if count >= LEAST:
                return True
    return False


def gives_large(inputs):
    """The same of the gradients for a node's ``inputs``."""
    for _, meta in inputs:
        if type(meta) is tuple:
            count = 1
            for size in meta[0]:
                count *= size
            if count >= LEAST:
                return True
    return False


def fuser():
    """The fuser, or None: nobody said where it is, or this thread's modes are eager's alone."""
    if (state.tracer is not None or state.inference or state.create_graph or state.anomaly
            or state.saved_hooks):
        return None
    found = _bound.get("fuser")
    if found is None and "load" in _bound:
        found = _bound["fuser"] = _bound["load"]()
    return found
