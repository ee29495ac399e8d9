"""Which copies are transpositions, and how they are launched (``kernels/turning.py``)."""
import functools

from ..kernels import turning as kernels
from ..runtime import build, cpu, launch
from .base import numel
from .host_tables import int_table
from .pointwise import coalesce

LEAST = 4096            # elements worth it
_ROWS = 64              # of a block
_TASK = 1 << 15         # elements of a task


@functools.lru_cache(maxsize=4096)
def _plan(shape, source, target, itemsize):
    """``(kernel, elements reached in both, form, items, grain)`` of a copy between these strides,
    else None."""
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
    return kernel, extents, int_table(words), items * blocks, max(1, _TASK // block)


def turn(target, source):
    """Copy if that is a transposition; whether it was. Same shape, type and no shared elements."""
    if (target.dtype is not source.dtype or target.dtype.itemsize not in (4, 8)
            or target._shape != source._shape or numel(target) < LEAST):
        return False
    plan = _plan(target._shape, source._strides, target._strides, target.dtype.itemsize)
    if plan is None:
        return False
    kernel, extents, form, items, grain = plan
    launch.run(kernel, [source._address, extents[0], target._address, extents[1], form._address,
                        form._shape[0]], items, grain)
    return True
