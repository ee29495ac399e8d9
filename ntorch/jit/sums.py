"""Where the sums of a contraction go: what its epilogue does, in words that another can follow.

Elements are named by *where the contraction has them*: matrix, row and column counted through as
one number, in which each dimension of a view is a range. A view of the result then is a list of
``(low, high, stride)``: to go from multiples of ``low`` to multiples of ``high`` of that number is
to go along one dimension.
"""
import typing

from ..kernels import gemm
from ..ops.base import product
from .ir import Pointer


class Operand(typing.NamedTuple):
    """Memory that an epilogue reads or writes: its first element, type, and ranges."""
    pointer: typing.Any
    code: str
    ranges: tuple


class Space(typing.NamedTuple):
    """The elements of a contraction's result.

    ``sizes`` are matrices, rows, columns; ``cuts`` the numbers at which ranges begin; ``grid`` is
    None, or depth, height, width, the row width and rows of a plane that positions are counted in,
    and the shifts of position 0.
    """
    sizes: tuple
    cuts: frozenset
    grid: tuple | None

    @property
    def total(self):
        """How many elements there are."""
        return product(self.sizes)


class Described(typing.NamedTuple):
    """What a contraction's own epilogue does: ``first`` and ``scales`` as in ``Chain``."""
    out: Pointer
    space: Space
    first: str
    added: typing.Any           # an Operand or None
    scales: tuple


def own_slots(contract):
    """The slots that its epilogue has of its own."""
    return contract.slots[contract.slots[gemm.STORE_AT] + gemm.STORE_SLOTS:]


def describe(contract):
    """The ``Described`` of a contraction; None if its epilogue cannot be replaced."""
    form = contract.store
    if form is None or form.kind not in ("plain", "affine", "grid", "phase"):
        return None
    own = own_slots(contract)
    if type(own[0]) is not Pointer:
        return None
    return (_matrix if form.kind in ("plain", "affine") else _positions)(own, form)


def _matrix(own, form):
    out, batch, m, n = own[:4]
    space = Space((batch, m, n), frozenset((1, n, m * n, batch * m * n)), None)
    if form.kind == "plain":
        return Described(out, space, "plain", None, ())
    c, _, inner, outer, step, row, col, alpha, beta = own[4:13]
    if type(c) is not Pointer:
        return Described(out, space, "affine", None, (alpha,))
    deep = m * n * inner
    ranges = [(1, n, col), (n, m * n, row)]
    ranges += [(m * n, batch * m * n, outer)] if inner == 1 else [
        (m * n, deep, step), (deep, batch * m * n, outer)]
    space = space._replace(cuts=space.cuts | {deep})
    return Described(out, space, "affine", Operand(c, form.code, tuple(ranges)), (alpha, beta))


def _positions(own, form):
    """Epilogues over the positions of a picture, possibly with gaps between its rows."""
    out, planes, rows, depth, height, width, bias, _, groups, wide, tall = own[:11]
    shifts = (0, 0, 0)
    if form.kind == "phase":
        if tuple(own[11:14]) != (1, 1, 1):
            return None                 # the other positions come from other contractions
        shifts = tuple(own[14:17])
    size = depth * height * width
    total, plane = planes * rows * size, rows * size
    cuts = {1, size, plane, plane * groups, total}
    dense = not any(shifts) and (depth == height == 1 or (
        wide == width and (depth == 1 or tall == height)))
    grid = None
    if not dense:
        grid = (depth, height, width, wide, tall, *shifts)
        cuts |= {width, width * height}
    added = None
    if type(bias) is Pointer:
        added = Operand(bias, form.T, ((size, plane, 1), (plane, plane * groups, rows)))
    return Described(out, Space((planes, rows, size), frozenset(cuts), grid), "shift", added, ())


def refine(contract):
    """Say precisely what a contraction reads and writes: its epilogue's first slot is the result
    and the only memory it writes but the scratch memory."""
    form = contract.store
    if form is not None and type(own_slots(contract)[0]) is Pointer:
        at = contract.slots[gemm.STORE_AT] + gemm.STORE_SLOTS
        contract.writes = {contract.slots[at].buffer}
        # a phase of several adds its positions to what others wrote
        partly = form.kind == "phase" and tuple(own_slots(contract)[11:14]) != (1, 1, 1)
        contract.reads = {s.buffer for k, s in enumerate(contract.slots)
                          if type(s) is Pointer and (k != at or partly)}


def chained(cuts):
    """The cuts in order if each divides the next, else None."""
    found = sorted(cuts)
    return found if all(b % a == 0 for a, b in zip(found, found[1:], strict=False)) else None


def stride_at(operand, low):
    """The operand's step along the range that begins at ``low``."""
    for begin, end, stride in operand.ranges:
        if begin <= low < end:
            return stride * (low // begin)
    return 0
