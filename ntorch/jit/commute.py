"""Behind the gradient of a maximum pooling most elements are zero: what is computed of it moves in
front, where there are as many elements as windows.

* A Map that gives 0 where the gradient is 0 (``zero_of``: the gradient of a ReLU), of that and of
  what was pooled, is computed from the gradient and the maxima: those lie at the taps.
* The sum over whole planes of what was so spread is the sum before, if no Map reads it anyway.
"""
import typing

from ..ops.base import contiguous_strides, product
from ..ops.reduction import _identity_map, _keep
from .copies import Uses
from .ir import Launch, Map, Pointer, Reduce, View

_SUM = (lambda a, b: a + b).__code__.co_code


def commute(graph):
    """Rewrite ``graph.nodes`` in place."""
    nodes = graph.nodes
    spreads = [(p, node) for p, node in enumerate(nodes) if windows_of(node, "spreads")]
    if not spreads:
        return
    pools = {}
    for node in nodes:
        for kind in ("windows", "spreads"):
            if windows_of(node, kind):
                refine(node, kind)
        if windows_of(node, "windows"):
            pools[node.slots[4].buffer] = node
    uses, changed = Uses(nodes), {}
    for position, node in spreads:
        found = _find(nodes, uses, position, pools.get(node.slots[2].buffer))
        if found is not None:
            changed[position] = []
            changed[found.place] = _moved(graph, uses, found, changed)
    graph.nodes = [made for p, node in enumerate(nodes) for made in changed.get(p, (node,))]


def windows_of(node, kind):
    """The ``pool_tiles.Windows`` of a launch of that kind, ``"windows"`` that are pooled or
    ``"spreads"`` of their gradient; else None."""
    if not isinstance(node, Launch) or node.kernel is None:
        return None
    found = getattr(node.kernel.recipe[0], kind, None)
    return found if all(type(s) is Pointer for s in node.slots[:5:2]) else None


def refine(node, kind):
    """Say precisely what such a launch reads and writes: three arrays are its first slots."""
    first, second, third = (s.buffer for s in node.slots[:5:2])
    node.reads = {first} if kind == "windows" else {first, second}
    node.writes = {second, third} if kind == "windows" else {third}


class Found(typing.NamedTuple):
    """A ``spread``, the pooling whose gradient it is, and the Map at ``place`` that reads it."""
    spread: Launch
    pool: Launch
    map: Map
    place: int


def _find(nodes, uses, position, pool):
    """The ``Found`` of the spread at ``position``, or None."""
    spread = nodes[position]
    grad, taps, whole = (s.buffer for s in spread.slots[:5:2])
    if pool is None or pool.slots[6:12] != spread.slots[6:12] or (
            windows_of(pool, "windows") != windows_of(spread, "spreads")):
        return None
    readers = uses.read.get(whole, set())
    if whole.outlives or len(readers) != 1 or uses.written[whole] != {position}:
        return None
    place, = readers
    node, pooled, maxima = nodes[place], pool.slots[0].buffer, pool.slots[2].buffer
    if type(node) is not Map or getattr(node.scalar, "zero_of", None) is None:
        return None
    views = [v for v in node.operands if type(v) is View]
    if {v.buffer for v in views} - {whole, pooled} or len(node.results) != 1:
        return None
    zero = node.operands[node.scalar.zero_of]
    code = spread.kernel.recipe[1][0].split(":")[0]
    if type(zero) is not View or zero.buffer is not whole or not all(
            _whole(v, code) for v in (*views, *node.results)):
        return None
    steady = [grad, taps, pooled, maxima, node.results[0].buffer]
    if any(len(uses.written.get(b, ())) != 1 or b.kind != "temp" for b in steady):
        return None
    return Found(spread, pool, node, place)


def _whole(view, code):
    """Whether a view is its whole buffer, row-major, of that type."""
    return (view.dtype.code == code and view.offset == 0
            and view.strides == tuple(contiguous_strides(view.shape))
            and view.numel() * view.dtype.itemsize == view.buffer.nbytes)


def _moved(graph, uses, found, changed):
    """The nodes in place of the Map: it on the windows, and the spread of its result."""
    spread, old = found.spread, found.map
    count, dtype = spread.slots[1], old.results[0].dtype
    few = {spread.slots[4].buffer: spread.slots[0], found.pool.slots[0].buffer:
           found.pool.slots[2]}

    def view(buffer, offset=0):
        return View(buffer, dtype, (count,), (1,), offset // dtype.itemsize)

    operands = tuple(o if type(o) is not View else view(*few[o.buffer]) for o in old.operands)
    small = view(graph.buffer(count * dtype.itemsize, "temp"))
    node = Map(old.name, old.scalar, old.compute, operands, (small,), old.result_code)
    target = old.results[0].buffer
    slots = list(spread.slots)
    slots[0], slots[4] = Pointer(small.buffer, 0), Pointer(target, 0)
    made = Launch(spread.name, spread.kernel, slots, spread.n, spread.grain)
    node.origin, made.origin = old.origin, spread.origin
    refine(made, "spreads")
    readers = sorted(uses.read.get(target, ()))
    if not any(type(graph.nodes[p]) is Map for p in readers):
        for p in readers:
            reduced = type(graph.nodes[p]) is Reduce and _sum(graph.nodes[p], made, small)
            if reduced:
                changed[p] = [reduced]
    return [node, made]


def _sum(node, spread, small):
    """The sum over whole planes from the elements of ``small``, or None."""
    mapped, combine, finish = node.entry.functions
    if mapped is not _identity_map or finish is not _keep or node.entry.identity != 0 or (
            combine.__code__.co_code != _SUM) or not _whole(node.source, small.dtype.code):
        return None
    shape, lead = node.source.shape, 0
    while lead < len(shape) and product(shape[:lead]) != spread.n:
        lead += 1
    if product(shape[:lead]) != spread.n or not set(range(lead, len(shape))) <= set(node.dims):
        return None
    shape = (*shape[:lead], small.shape[0] // spread.n)
    source = small._replace(shape=shape, strides=tuple(contiguous_strides(shape)))
    dims = tuple(d for d in node.dims if d < lead) + (lead,)
    made = Reduce(node.name, node.entry, source, dims, node.compute, node.result)
    made.origin = node.origin
    return made


__all__ = ["commute", "refine", "windows_of"]
