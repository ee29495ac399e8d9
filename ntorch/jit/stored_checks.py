"""Deferred checks (``ir.Check``) in a file: what their error is and where the bad value lies.

``fail`` is Python, which a file does not hold. So it is tried, when a program is saved, on made-up
tensors whose elements all are a marker; the error it raises is kept as text with a gap.
"""
import ctypes

from ..ops.base import make
from ..runtime.storage import Storage
from .ir import Pointer

MARKER = -786_420_531           # an index nobody has, that fits int32
ERRORS = {"IndexError": IndexError, "RuntimeError": RuntimeError, "ValueError": ValueError}


def described(step, node, program):
    """The check at ``step`` as JSON; RuntimeError if its error cannot be told."""
    tensors = []
    for view in node.extra:
        storage = Storage(view.buffer.nbytes)
        array = storage.numpy()
        size = view.dtype.itemsize
        count = storage.nbytes() // size
        array[:count * size].view(view.dtype.numpy)[:] = MARKER
        tensors.append(make(storage, view.dtype, view.shape, view.strides, view.offset))
    try:
        node.fail(0, *tensors)
    except (IndexError, RuntimeError, ValueError) as error:
        kind, text = type(error).__name__, str(error)
    else:
        raise RuntimeError(f"jit.save: the check {node.name!r} raises nothing that can be kept")
    extra = None
    if node.extra:
        view = node.extra[0]
        base, offset = program._place(Pointer(view.buffer, view.offset * view.dtype.itemsize))
        # the classes' kernel notes a flag and the class; others the place of the bad index
        extra = {"base": base, "offset": offset, "dtype": view.dtype.name,
                 "place": 1 if node.name == "class" else None}
    base, offset = program._place(node.pointer)
    return {"step": step, "base": base, "offset": offset, "error": kind,
            "text": text.replace(str(MARKER), "{}"), "extra": extra}


def fail(check, bases, sizes, dtype_of):
    """Raise the error of a check that failed; ``bases`` are the addresses of the run."""
    value = ctypes.c_int64.from_address(bases[check["base"]] + check["offset"]).value
    extra, bad = check["extra"], value
    if extra is not None:
        size = dtype_of(extra["dtype"]).itemsize
        at = extra["offset"] + size * (value if extra["place"] is None else extra["place"])
        if 0 <= at <= sizes[extra["base"]] - size:
            data = ctypes.string_at(bases[extra["base"]] + at, size)
            bad = int.from_bytes(data, "little", signed=True)
    raise ERRORS[check["error"]](check["text"].replace("{}", str(bad)))
