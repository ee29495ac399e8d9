"""Simplification: what a graph does not need to do.

* *whole buffers*: copies between buffers of one layout, and constants (``copies.py``).
* *copies*: a Map of the identity between equal dtypes into a temporary: readers read the source.
* *casts*: back and forth through a type that holds every value of the first is a copy.
* *units*: ``x * 1`` is a copy.
* *common*: a Map or Reduce of the same function and operands as an earlier one: readers read its
  result.
* *dead*: results that nobody reads.
* *slices*: sums of what is zero but for a slice (``slices.py``).

A reader is only moved to another buffer if neither that nor the old one is written in between.
"""
from .copies import drop_copies, fold_constants, replaceable, replaced
from .ir import Dynamic, Map, Reduce, View
from .slices import join_slices

EXACT = {               # compute-free widenings: every value of the first is one of the second
    "b1": "b1 u1 i1 i2 i4 i8 h2 g2 f4 f8 c8 c16", "u1": "u1 i2 i4 i8 h2 g2 f4 f8 c8 c16",
    "i1": "i1 i2 i4 i8 h2 g2 f4 f8 c8 c16", "i2": "i2 i4 i8 f4 f8 c8 c16", "i4": "i4 i8 f8 c16",
    "i8": "i8", "h2": "h2 f4 f8 c8 c16", "g2": "g2 f4 f8 c8 c16", "f4": "f4 f8 c8 c16",
    "f8": "f8 c16", "c8": "c8 c16", "c16": "c16",
}


def simplify(graph):
    """Rewrite ``graph.nodes`` in place."""
    drop_copies(graph)
    fold_constants(graph)
    writes, seen = _Writes(graph.nodes), {}
    for position in range(len(graph.nodes)):
        _shorten_cast(graph, writes, position)
        node = graph.nodes[position]
        source = copied(node)
        if source is not None:
            result = node.results[0]
            if (writes.once(result.buffer) and result.buffer is not source.buffer
                    and _redirect(graph, writes, position, result, source)):
                continue
        _share(graph, writes, seen, position)
    drop_dead(graph)
    join_slices(graph)


class _Writes:
    """Positions at which each buffer is written and read. Nodes that became dead still count."""

    def __init__(self, nodes):
        self.nodes, self.written, self.read = nodes, {}, {}
        for position, node in enumerate(nodes):
            for buffer in node.written_buffers():
                self.written.setdefault(buffer, []).append(position)
            for buffer in node.read_buffers():
                self.read.setdefault(buffer, []).append(position)

    def stable(self, buffer, first, last):
        """Whether nothing writes ``buffer`` behind ``first`` and before or at ``last``."""
        return not any(first < p <= last for p in self.written.get(buffer, ()))

    def moved(self, position, old, new):
        """A node reads ``new`` instead of ``old``."""
        self.read[old].remove(position)
        readers = self.read.setdefault(new, [])
        if position not in readers:
            readers.append(position)

    def once(self, buffer):
        """Whether a temporary has one writer and is not seen after the run."""
        return not buffer.outlives and len(self.written.get(buffer, ())) == 1


def _whole(view):
    """Whether a view is its whole buffer, each element once."""
    return view.offset == 0 and view.numel() * view.dtype.itemsize == view.buffer.nbytes


def _through(view, old, new):
    """``view`` of the buffer behind ``old`` as the same elements of ``new``, or None."""
    if view.dtype is not old.dtype or view.offset != old.offset:
        return _sliced(view, old, new)
    if view.shape == old.shape and view.strides == old.strides:
        return new
    return _sliced(view, old, new)


def _sliced(view, old, new):
    """Dimensions of ``view`` found again among those of ``old``: permutations and broadcasts."""
    if view.dtype is not old.dtype or view.offset != old.offset or 0 in view.shape:
        return None
    steps = {}
    for size, stride, target in zip(old.shape, old.strides, new.strides, strict=True):
        if size != 1:
            steps[stride] = (size, target)
    strides = []
    for size, stride in zip(view.shape, view.strides, strict=True):
        if size == 1 or stride == 0:
            strides.append(0)
            continue
        found = steps.pop(stride, None)
        if found is None or size > found[0]:
            return None
        strides.append(found[1])
    return new._replace(shape=view.shape, strides=tuple(strides))


def _redirect(graph, writes, position, old, new):
    """Let every reader of ``old`` behind ``position`` read ``new``; False if one cannot."""
    readers = [p for p in writes.read.get(old.buffer, ()) if p > position]
    moved = {}
    for p in readers:
        node = graph.nodes[p]
        if type(node) not in (Map, Reduce) or not writes.stable(new.buffer, position, p - 1):
            return False
        if new.buffer in node.written_buffers():
            return False
        views = node.operands if type(node) is Map else (node.source,)
        replaced = []
        for view in views:
            if type(view) is View and view.buffer is old.buffer:
                view = _through(view, old, new)
                if view is None:
                    return False
            replaced.append(view)
        moved[p] = replaced
    for p, views in moved.items():
        graph.nodes[p] = _with_operands(graph.nodes[p], views)
        writes.moved(p, old.buffer, new.buffer)
    return bool(moved)


def _stand_for(graph, writes, position, old, new):
    """Let every reader of ``old`` behind ``position``, launches too, read ``new``: whole buffers of
    one layout. Nothing happens if one cannot."""
    if old.strides != new.strides or not (_whole(old) and _whole(new)):
        return
    readers = [p for p in writes.read.get(old.buffer, ()) if p > position]
    last = max(readers, default=position)
    if writes.stable(new.buffer, position, last) and all(
            replaceable(graph.nodes[p], old.buffer, new.buffer, 0) for p in readers):
        for p in readers:
            graph.nodes[p] = replaced(graph.nodes[p], old.buffer, new.buffer, 0)
            writes.moved(p, old.buffer, new.buffer)


def _with_operands(node, views):
    if type(node) is Map:
        made = Map(node.name, node.scalar, node.compute, tuple(views), node.results,
                   node.result_code)
    else:
        made = Reduce(node.name, node.entry, views[0], node.dims, node.compute, node.result)
    made.origin = node.origin
    return made


def copied(node):
    """The operand of which a Map's result is an exact copy, or None."""
    if type(node) is not Map or len(node.results) != 1:
        return None
    views = [o for o in node.operands if type(o) is View]
    if len(views) != 1 or views[0].dtype is not node.results[0].dtype:
        return None
    code = views[0].dtype.code
    if node.compute.code not in EXACT[code].split() and node.compute.compute != code:
        return None
    numbers = [o for o in node.operands if type(o) is not View]
    if any(type(n) is Dynamic for n in numbers):
        return None
    if is_identity(node.scalar) and not numbers:
        return views[0]
    if len(numbers) == 1 and numbers[0] == 1 and node.scalar.__code__.co_code == _PRODUCT:
        return views[0]
    return None


_IDENTITY = (lambda x: x).__code__.co_code
_PRODUCT = (lambda x, y: x * y).__code__.co_code


def is_identity(scalar):
    """Whether a scalar function returns its only argument."""
    code = scalar.__code__
    return code.co_argcount == 1 and code.co_code == _IDENTITY


def _is_cast(node):
    return (type(node) is Map and len(node.results) == 1 and len(node.operands) == 1
            and type(node.operands[0]) is View and is_identity(node.scalar))


def _shorten_cast(graph, writes, position):
    """A cast of a cast through a type that loses nothing becomes one cast."""
    node = graph.nodes[position]
    if not _is_cast(node):
        return
    middle = node.operands[0]
    first = writes.written.get(middle.buffer, [position])[0]
    made = graph.nodes[first]
    if first >= position or not writes.once(middle.buffer) or not _is_cast(made):
        return
    source = made.operands[0]
    if (source.dtype is middle.dtype or made.results[0].dtype is not middle.dtype
            or middle.dtype.code not in EXACT[source.dtype.code].split()
            or made.compute.code not in EXACT[source.dtype.code].split()):
        return
    view = _through(middle, made.results[0], source)
    if (view is None or not writes.stable(source.buffer, first, position - 1)
            or source.buffer in node.written_buffers()):
        return
    graph.nodes[position] = _with_operands(node, (view,))
    writes.moved(position, middle.buffer, source.buffer)


def _key(node):
    """What decides the value of a node, or None if it cannot be shared."""
    if type(node) is Map and len(node.results) == 1:
        operands = []
        for o in node.operands:
            if type(o) is Dynamic:
                operands.append(("dynamic", id(o)))
            else:
                operands.append(o if type(o) is View else (type(o), repr(o)))
        result = node.results[0]
        return (node.scalar, node.compute, tuple(operands), result.dtype, result.shape)
    if type(node) is Reduce:
        return (node.entry, node.source, tuple(node.dims), node.compute, node.result.dtype)
    return None


def _result(node):
    return node.results[0] if type(node) is Map else node.result


def _share(graph, writes, seen, position):
    """Let readers of a node that computes what an earlier one did read the earlier result."""
    node = graph.nodes[position]
    key = _key(node)
    if key is None:
        return
    before = seen.get(key)
    if before is None or not _still(graph, writes, before, position):
        seen[key] = position
        return
    old, new = _result(node), _result(graph.nodes[before])
    if writes.once(old.buffer) and not _redirect(graph, writes, position, old, new):
        _stand_for(graph, writes, position, old, new)


def _still(graph, writes, before, position):
    """Whether operands and result of an earlier node are what they were."""
    node = graph.nodes[before]
    if node.written_buffers() & node.read_buffers():
        return False
    return all(writes.stable(buffer, before, position)
               for buffer in node.read_buffers() | node.written_buffers())


def drop_dead(graph):
    """Drop Maps and Reduces whose results nobody reads."""
    needed, kept = set(), []
    for node in reversed(graph.nodes):
        results = node.written_buffers()
        if type(node) in (Map, Reduce) and not any(b.outlives or b in needed for b in results):
            continue
        needed |= node.read_buffers()
        kept.append(node)
    graph.nodes = kept[::-1]
