"""Simplification of whole buffers: plain copies that one buffer could stand for, and constants.

A copy from a buffer to another of the same layout is dropped and one of the two takes the place of
both: the source that of the copy, if neither is written while the copy is read; or the copy that of
the source, if it is only the place where a result shall end up.
"""
import operator

import numpy as np

from ..runtime import dtypes
from .ir import Dynamic, Launch, Map, Pointer, Reduce, View, Zero, pointed

_IDENTITY = (lambda x: x).__code__.co_code
_FOLDED = {code.__code__.co_code: function for code, function in (
    (lambda x, y: x + y, operator.add), (lambda x, y: x - y, operator.sub),
    (lambda x, y: x * y, operator.mul), (lambda x, y: x / y, operator.truediv),
    (lambda x: -x, operator.neg), (lambda x: x, lambda x: x))}


class Uses:
    """Positions of the nodes that read and write each buffer."""

    def __init__(self, nodes):
        self.read, self.written = {}, {}
        for position, node in enumerate(nodes):
            self.note(position, node)

    def note(self, position, node):
        """Add a node."""
        for found, buffers in ((self.read, node.read_buffers()),
                               (self.written, node.written_buffers())):
            for buffer in buffers:
                found.setdefault(buffer, set()).add(position)

    def of(self, buffer):
        """All positions."""
        return self.read.get(buffer, set()) | self.written.get(buffer, set())

    def forget(self, position, buffer):
        """Take a node out."""
        self.read.get(buffer, set()).discard(position)
        self.written.get(buffer, set()).discard(position)


def drop_copies(graph):
    """Drop copies between buffers of the same layout."""
    nodes, uses, dropped = graph.nodes, Uses(graph.nodes), set()
    for position, node in enumerate(nodes):
        pair = _plain_copy(node)
        if pair is None:
            continue
        source, result = pair
        if _reads_source(uses, position, source, result):
            old, new, shift = result.buffer, source.buffer, source.offset * source.dtype.itemsize
        elif _lands(uses, position, source, result):
            old, new, shift = source.buffer, result.buffer, 0
        else:
            continue
        if not _replace(nodes, uses, position, old, new, shift):
            continue
        dropped.add(position)
        uses.forget(position, source.buffer)
        uses.forget(position, result.buffer)
    graph.nodes = [node for position, node in enumerate(nodes) if position not in dropped]


def _plain_copy(node):
    """``(source, result)`` of a Map that copies elements to a whole buffer of the same layout."""
    if (type(node) is not Map or len(node.results) != 1 or len(node.operands) != 1
            or type(node.operands[0]) is not View
            or node.scalar.__code__.co_code != _IDENTITY):
        return None
    source, result = node.operands[0], node.results[0]
    if source.dtype is not result.dtype or source.buffer is result.buffer:
        return None
    if node.compute is not source.dtype and node.compute.compute != source.dtype.code:
        return None
    strides = [(a, b) for n, a, b in zip(source.shape, source.strides, result.strides, strict=True)
               if n != 1]
    whole = result.offset == 0 and result.numel() * result.dtype.itemsize == result.buffer.nbytes
    return (source, result) if whole and all(a == b for a, b in strides) else None


def _reads_source(uses, position, source, result):
    """Whether whoever reads the copy may read the source."""
    if result.buffer.outlives or uses.written.get(result.buffer) != {position}:
        return False
    last = max(uses.read.get(result.buffer, ()), default=position)
    return not any(position < p <= last for p in uses.written.get(source.buffer, ()))


def _lands(uses, position, source, result):
    """Whether the source may be made where its copy goes."""
    if source.buffer.outlives or source.buffer.kind != "temp" or result.buffer.kind != "temp":
        return False
    if source.buffer.nbytes != result.buffer.nbytes or source.offset:
        return False
    if any(p < position for p in uses.of(result.buffer)):
        return False
    later = [p for p in uses.of(source.buffer) if p > position]
    written = uses.written.get(source.buffer, set()) | uses.written.get(result.buffer, set())
    return not later or not any(p > position for p in written)


def _replace(nodes, uses, position, old, new, shift):
    """Let every node but the copy use ``new`` in place of ``old``; False if one cannot."""
    places = sorted(uses.of(old) - {position})
    if not all(replaceable(nodes[p], old, new, shift) for p in places):
        return False
    for p in places:
        nodes[p] = replaced(nodes[p], old, new, shift)
        uses.forget(p, old)
        uses.note(p, nodes[p])
    return True


def replaceable(node, old, new, shift):
    """Whether ``replaced`` knows how."""
    if isinstance(node, Launch):
        return not any(old in pointed([s]) for s in node.slots
                       if type(s) is Pointer and s.buffer.kind == "table")
    if type(node) not in (Map, Reduce, Zero):
        return False
    views = _views(node)
    if type(node) is Map and new in node.written_buffers() | node.read_buffers():
        return False
    return all(shift % v.dtype.itemsize == 0 for v in views if v.buffer is old)


def _views(node):
    if type(node) is Map:
        return [v for v in (*node.operands, *node.results) if type(v) is View]
    return [node.source, node.result] if type(node) is Reduce else []


def replaced(node, old, new, shift):
    """The node with ``new``, ``shift`` bytes on, in place of ``old``."""
    def view(v):
        if type(v) is not View or v.buffer is not old:
            return v
        return v._replace(buffer=new, offset=v.offset + shift // v.dtype.itemsize)

    def slot(s):
        return Pointer(new, s.offset + shift) if type(s) is Pointer and s.buffer is old else s
    if type(node) is Map:
        made = Map(node.name, node.scalar, node.compute, tuple(map(view, node.operands)),
                   tuple(map(view, node.results)), node.result_code)
    elif type(node) is Reduce:
        made = Reduce(node.name, node.entry, view(node.source), node.dims, node.compute,
                      view(node.result))
    elif type(node) is Zero:
        made = Zero(slot(node.pointer), node.nbytes)
    else:
        node.slots = [slot(s) for s in node.slots]
        same = node.writes is node.reads
        node.reads = {new if b is old else b for b in node.reads}
        node.writes = node.reads if same else {new if b is old else b for b in node.writes}
        return node
    made.origin = node.origin
    return made


def fold_constants(graph):
    """Numbers in place of views of constants: operands that one number fills."""
    uses, constants = Uses(graph.nodes), {}
    for position, node in enumerate(graph.nodes):
        if type(node) is not Map:
            continue
        if any(type(o) is View and o.buffer in constants for o in node.operands):
            operands = tuple(_number(o, constants, node.compute) for o in node.operands)
            made = Map(node.name, node.scalar, node.compute, operands, node.results,
                       node.result_code)
            made.origin = node.origin
            graph.nodes[position] = node = made
        value = _constant(node)
        if value is not None:
            buffer = node.results[0].buffer
            if not buffer.outlives and uses.written.get(buffer) == {position}:
                constants[buffer] = (value, node.results[0].dtype)


def _number(operand, constants, compute):
    """The number that a view is full of, if the expression then sees the same value."""
    if type(operand) is not View or operand.buffer not in constants:
        return operand
    value, dtype = constants[operand.buffer]
    if operand.dtype is not dtype:
        return operand
    if type(value) is Dynamic:
        return value if dtype.code == compute.compute and dtype.code in ("f4", "f8") else operand
    if isinstance(value, float) and compute.category < dtypes.FLOAT:
        return operand
    return value


def _constant(node):
    """The number that fills the result of a Map, as it is stored; None if there is none."""
    if len(node.results) != 1 or any(type(o) is View for o in node.operands):
        return None
    result = node.results[0]
    if result.offset or result.numel() * result.dtype.itemsize != result.buffer.nbytes:
        return None
    function, code = _FOLDED.get(node.scalar.__code__.co_code), result.dtype.code
    if function is None or node.scalar.__code__.co_names or node.compute is not result.dtype:
        return None
    numbers = node.operands
    if type(numbers[0]) is Dynamic:
        return numbers[0] if len(numbers) == 1 and _is_identity(node) else None
    if any(type(n) not in (int, float, bool) for n in numbers):
        return None
    if code in ("f4", "f8"):
        kind = np.float32 if code == "f4" else np.float64
        with np.errstate(all="ignore"):
            return float(kind(function(*map(kind, numbers))))
    if code == "i8" and _is_identity(node) and type(numbers[0]) is int:
        return numbers[0] if -(1 << 53) < numbers[0] < 1 << 53 else None
    return bool(numbers[0]) if code == "b1" and _is_identity(node) else None


def _is_identity(node):
    return node.scalar.__code__.co_code == _IDENTITY
