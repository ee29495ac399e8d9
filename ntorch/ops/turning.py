"""Which copies are transpositions, and how they are launched (``kernels/turning.py``)."""
import functools

from ..kernels import turning as kernels
from ..runtime import build, cpu, launch
from ..runtime.storage import Storage
from .base import contiguous_strides, product
from .host_tables import int_table
from .pointwise import coalesce

LEAST = 4096            # elements worth it
_ROWS = 64              # of a block
_TASK = 1 << 15         # elements of a task


@functools.lru_cache(maxsize=4096)
def _plan(shape, source, target, itemsize):
    """``(kernel, elements reached in both, words of the form, items, grain)`` of a copy between
    these strides, else None."""
    sizes, (read, written) = coalesce(shape, [source, target])
    size = cpu.vector_bits() // (8 * itemsize)
    if len(sizes) < 2 or written[0] != 1 or sizes[0] < size or min(*read, *written) < 0:
        return None
    side = next((d for d in range(1, len(sizes)) if read[d] == 1 and sizes[d] >= size), None)
    if side is None:
        return None
    outer = [d for d in range(1, len(sizes)) if d != side]
    blocks, items = max(1, sizes[side] // _ROWS), 1
    extents = [1 + sum((n - 1) * s for n, s in zip(sizes, steps, strict=True))
               for steps in (read, written)]
    words = [sizes[side], sizes[0], read[0], written[side], blocks, len(outer)]
    for d in outer:
        words += sizes[d], read[d], written[d]
        items *= sizes[d]
    code = {4: "f4", 8: "f8"}[itemsize]
    kernel = build.kernel(kernels.turn_kernel(size), (code + ":1C", code + ":1C", "i8:1C"), T=code)
    block = sizes[0] * -(-sizes[side] // blocks)
    return kernel, extents, tuple(words), items * blocks, max(1, _TASK // block)


_form = functools.lru_cache(maxsize=4096)(int_table)


def plan_of(shape, source, target, itemsize):
    """The plan of a copy between these strides if it is a transposition worth it, else None."""
    if itemsize not in (4, 8) or product(shape) < LEAST:
        return None
    return _plan(tuple(shape), tuple(source), tuple(target), itemsize)


def launch_plan(plan, source, target):
    """Copy from one address to another."""
    kernel, extents, words, items, grain = plan
    form = _form(words)
    launch.run(kernel, [source, extents[0], target, extents[1], form._address, form._shape[0]],
               items, grain)


def turn(target, source):
    """Copy if that is a transposition; whether it was. Same shape, type and no shared elements."""
    if target.dtype is not source.dtype or target._shape != source._shape:
        return False
    plan = plan_of(target._shape, source._strides, target._strides, target.dtype.itemsize)
    if plan is None:
        return False
    launch_plan(plan, source._address, target._address)
    return True


def operand_plan(shape, strides, wanted, itemsize):
    """The plan of a copy that pays before a loop reads an operand, else None."""
    if product(shape) < 2 * LEAST or 0 in strides:
        return None
    return plan_of(shape, strides, wanted, itemsize)


def straight(shape, operands, result, kept):
    """Which operands of a loop, ``(dtype, strides)`` each, are transpositions of its result.

    A loop would take a cache line for each of their elements. Returns the operands with the strides
    that copies of them have, and ``(number, plan, bytes)`` of each copy; none of the numbers
    ``kept``.
    """
    wanted = dense_strides(shape, result)
    straightened, copies = list(operands), []
    for number, (dtype, strides) in enumerate(operands):
        plan = None if number in kept else operand_plan(shape, strides, wanted, dtype.itemsize)
        if plan is not None:
            straightened[number] = dtype, wanted
            copies.append((number, plan, product(shape) * dtype.itemsize))
    return straightened, copies


def dense_strides(shape, strides):
    """``strides`` if they leave no gaps, else those of rows in order."""
    step = 1
    for stride, size in sorted(zip(strides, shape, strict=True)):
        if size != 1:
            if stride != step:
                return contiguous_strides(shape)
            step *= size
    return strides


def copying_first(copies, convert):
    """What a plan's ``convert`` is if operands are to be copied first; it returns the copies, which
    have to live until the loop is through."""
    def convert_copies(arguments, slots):
        held = []
        for number, plan, nbytes in copies:
            storage = Storage(nbytes)
            launch_plan(plan, slots[number], storage.address)
            slots[number] = storage.address
            held.append(storage)
        if convert is not None:
            convert(arguments, slots)
        return held
    return convert_copies
