"""Simplification of sums of slices: what is zero but for slices, added up, is one buffer.

The gradient of a slice is zeros of the whole with the slice's gradient put in; where a tensor was
cut in pieces, backward adds such wholes up. Each piece can as well be written into the sum, which
needs no zeros where pieces cover it. (A sum of zeros and -0.0 would have been 0.0.)
"""
import typing

from .copies import Uses, replaced
from .ir import Map, View

_SUM = (lambda x, y, alpha: x + alpha * y).__code__.co_code
_IDENTITY = (lambda x: x).__code__.co_code


class Padded(typing.NamedTuple):
    """A buffer that the node at ``fill`` sets to zero before those at ``pieces`` write slices."""
    fill: int
    pieces: tuple


def join_slices(graph):
    """Let slices that are padded with zeros and added up be written into the sum."""
    nodes, uses, dropped, joined = graph.nodes, Uses(graph.nodes), set(), {}
    for position, node in enumerate(nodes):
        views = _summands(node)
        if views is None or views[0].buffer is views[1].buffer:
            continue
        both = [joined.get(v.buffer) or _padded(nodes, uses, v) for v in views]
        if None in both or any(uses.read[v.buffer] != {position} for v in views):
            continue
        pieces = (*both[0].pieces, *both[1].pieces)
        results = [r for p in pieces for r in nodes[p].results]
        if not all(disjoint(a, b) for k, a in enumerate(results) for b in results[:k]):
            continue
        first, second = sorted(p.fill for p in both)
        for old in (v.buffer for v in views):
            for p in uses.written.pop(old):
                nodes[p] = replaced(nodes[p], old, node.results[0].buffer, 0)
        dropped |= {second, position}
        joined[node.results[0].buffer] = Padded(first, pieces)
        uses.written[node.results[0].buffer] = {first, *pieces}
        for view in views:
            joined.pop(view.buffer, None)
    for buffer, (fill, pieces) in joined.items():
        results = [r for p in pieces for r in nodes[p].results]
        if sum(r.numel() * r.dtype.itemsize for r in results) == buffer.nbytes:
            dropped.add(fill)
    graph.nodes = [node for position, node in enumerate(nodes) if position not in dropped]


def _summands(node):
    """The views of a plain sum of two whole buffers of the layout of its result, or None."""
    if type(node) is not Map or node.scalar.__code__.co_code != _SUM or len(node.operands) != 3:
        return None
    *views, alpha = node.operands
    result = node.results[0]
    if alpha != 1 or type(alpha) not in (int, float) or not _whole(result):
        return None
    for view in views:
        if type(view) is not View or view.dtype is not result.dtype or not _whole(view) or (
                view.buffer.kind != "temp" or view.buffer.escapes):
            return None
        if view.strides != result.strides or view.buffer.nbytes != result.buffer.nbytes:
            return None
    return views


def _whole(view):
    return view.offset == 0 and view.numel() * view.dtype.itemsize == view.buffer.nbytes


def _padded(nodes, uses, view):
    """The ``Padded`` of a buffer, or None."""
    buffer = view.buffer
    fill, *pieces = sorted(uses.written[buffer])
    if not pieces or not _zeros(nodes[fill], view):
        return None
    for p in pieces:
        if type(nodes[p]) is not Map or len(nodes[p].results) != 1 or (
                nodes[p].results[0].dtype is not view.dtype):
            return None
    return Padded(fill, tuple(pieces))


def _zeros(node, view):
    """Whether a node fills the whole buffer of ``view`` with zeros."""
    if type(node) is not Map or len(node.results) != 1 or not _whole(node.results[0]):
        return False
    return (node.scalar.__code__.co_code == _IDENTITY and len(node.operands) == 1
            and type(node.operands[0]) in (int, float, bool) and repr(node.operands[0]) in (
                "0", "0.0", "False"))


def disjoint(one, other):
    """Whether two views of a buffer certainly share no byte."""
    if one.dtype is not other.dtype:
        return False
    low, high = sorted((one, other), key=lambda view: view.offset)
    distance = high.offset - low.offset
    if _reach(low, None) < distance:
        return True
    # a distance in a gap of the smaller one's steps: slices of one tensor
    for stride in {s for s, n in zip(low.strides, low.shape, strict=True) if n > 1}:
        reaches = _reach(low, stride), _reach(high, stride)
        if None not in reaches and reaches[0] < distance and distance + reaches[1] < stride:
            return True
    return False


def _reach(view, below):
    """How far a view reaches by its steps smaller than ``below``; None unless all others are
    multiples of it."""
    reach = 0
    for size, stride in zip(view.shape, view.strides, strict=True):
        if size == 1:
            continue
        if stride < 0:
            return None if below is not None else 1 << 62
        if below is None or stride < below:
            reach += stride * (size - 1)
        elif stride % below:
            return None
    return reach
