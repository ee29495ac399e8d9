"""What the updates of optimizers share: numbers that change per step, and who is updated together.

While a program is recorded (``runtime/recording.py``) learning rate and step counts must not become
Python numbers, which every run of the program would repeat.
"""
import ntorch

from ..ops.base import contiguous_strides, is_contiguous
from ..runtime import recording

_SINGLE, _DOUBLE = ntorch.float32, ntorch.float64


def recorder():
    """The recorder of this thread, or None: see ``runtime/recording.py``."""
    return recording.current() if recording.active else None


def rate(group):
    """The learning rate of a group as a number.

    While a program is recorded it is one that every run of the program asks for anew, so schedulers
    work on; nothing may be calculated from it in Python.
    """
    return moving(lambda: float(group["lr"]))


def moving(read):
    """``read()``, a number that schedulers change; a dynamic one while a program is recorded.

    Where it is needed as a plain number after all, that number is part of what was recorded.
    """
    recording_to = recorder()
    if recording_to is None:
        return read()
    made = recording_to.dynamic(read)
    made.freeze = lambda _: recording_to.pin(read)
    return made


def pinned(read):
    """``read()``; what is recorded from it holds only as long as that stays as it is."""
    recording_to = recorder()
    return read() if recording_to is None else recording_to.pin(read)


def rate_to_calculate(group):
    """The learning rate for updates that are written in tensor operations.

    What the group holds; while a program is recorded, a zero-dim float64 tensor that every run of
    the program fills with it.
    """
    held, recording_to = group["lr"], recorder()
    if recording_to is None or isinstance(held, ntorch.Tensor):
        return held
    filled = ntorch.empty((), dtype=_DOUBLE)
    recording_to.host_fill("lr", filled, lambda real: real.fill_(float(group["lr"])))
    return filled


def steps_to_calculate(step):
    """A step count as a number; while a program is recorded, as a zero-dim float64 tensor."""
    return step.item() if recorder() is None else step.to(_DOUBLE)


def add_scaled(target, tensor, factor):
    """``target += factor tensor`` for a number or a zero-dim tensor."""
    if isinstance(factor, ntorch.Tensor):
        target.add_(tensor * factor)
    else:
        target.add_(tensor, alpha=factor)


def add_quotient(target, above, below, factor):
    """``target += factor above / below`` for a number or a zero-dim tensor."""
    if isinstance(factor, ntorch.Tensor):
        target.add_(above / below * factor)
    else:
        target.addcdiv_(above, below, value=factor)


def fusible(tensors):
    """Whether the fused kernels take ``tensors``: contiguous, all float32 or all float64."""
    first = tensors[0]
    dtype, shape, strides = first.dtype, first._shape, first._strides
    if dtype is not _SINGLE and dtype is not _DOUBLE:
        return False
    if strides != contiguous_strides(shape) and not is_contiguous(shape, strides):
        return False
    for tensor in tensors:
        if tensor.dtype is not dtype or tensor._strides != strides or tensor._shape != shape:
            return False
    return True


def by_dtype(lists):
    """The parallel ``lists`` cut by the dtype of the first; empty lists stay empty."""
    kinds = {tensor.dtype for tensor in lists[0]}
    if len(kinds) < 2:
        return [lists] if kinds else []
    parts = []
    for kind in kinds:
        chosen = [i for i, tensor in enumerate(lists[0]) if tensor.dtype is kind]
        parts.append([[held[i] for i in chosen] if held else held for held in lists])
    return parts
