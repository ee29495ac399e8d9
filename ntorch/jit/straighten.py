"""Transpositions among the operands of loops, copied by squares before the loops run.

A loop that goes along the rows of its result and down the columns of an operand takes a cache line
for each element of that operand. Such operands are copied first (``ops/turning.py``), as eager mode
does; what is a copy already becomes one of those. Operands that nobody writes in between share a
copy.
"""
from ..ops.base import product
from ..ops.turning import dense_strides, operand_plan, plan_of
from .codegen import launch, pointer_of
from .ir import Map, Pointer, View
from .simplify import copied

NEAR = 16           # nodes on, at most, that a copy is kept for

def straighten(graph):
    """Copy what is transposed; changes ``graph.nodes`` and the operands of its Maps."""
    nodes, copies = [], {}
    for recorded in graph.nodes:
        node, made = recorded, []
        for key in [key for key, (_, place) in copies.items() if len(nodes) - place > NEAR]:
            del copies[key]             # memory costs more than another copy
        if isinstance(node, Map):
            plan = _copy_plan(node)
            if plan is not None:
                node = _turn(graph, copied(node), node.results[0], plan)
            else:
                node.operands = tuple([_straight(graph, node, operand, copies, made, len(nodes))
                                       for operand in node.operands])
        for written in node.written_buffers():
            for key in [key for key in copies if key[0].buffer is written]:
                del copies[key]
        nodes += [*made, node]
    graph.nodes = nodes


def _copy_plan(node):
    """The plan of a Map that is a transposed copy, else None."""
    source, result = copied(node), node.results[0]
    if source is None or source.buffer is result.buffer:
        return None
    return None if 0 in source.strides else plan_of(node.shape, source.strides, result.strides,
                                                    result.dtype.itemsize)


def _straight(graph, node, operand, copies, made, place):
    """The operand, or a copy of it that is read like the result; the launch goes to ``made``."""
    if type(operand) is not View or operand.buffer in node.written_buffers():
        return operand
    strides = dense_strides(node.shape, node.results[0].strides)
    plan = operand_plan(node.shape, operand.strides, strides, operand.dtype.itemsize)
    if plan is None:
        return operand
    found, _ = copies.get((operand, strides), (None, 0))
    if found is None:
        buffer = graph.buffer(product(node.shape) * operand.dtype.itemsize, "temp")
        found = View(buffer, operand.dtype, operand.shape, strides, 0)
        copies[operand, strides] = found, place
        made.append(_turn(graph, operand, found, plan))
        made[-1].origin = node.origin
    return found


def _turn(graph, source, result, plan):
    """The launch of a transposed copy."""
    kernel, extents, words, items, grain = plan
    form = graph.buffer(8 * len(words), "table", storage=list(words))
    return launch("transposed", kernel, [pointer_of(source), extents[0], pointer_of(result),
                                         extents[1], Pointer(form, 0), len(words)],
                  items, grain, {result.buffer})
