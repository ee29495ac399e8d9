"""Pointwise heads of pooling: computed plane by plane, just before it is pooled.

``absorb_all`` looks, in front of each launch of ``pool_tiles.maxima_for``, for the Maps that make
its input element by element (the scale and shift of a batch norm, an activation), and puts a
kernel in its place that computes them too: no element is in two windows, so none is computed
twice. Rows are made on the stack and pooled there; what nobody else reads is never stored.
"""
import sys

from ..ops.base import product
from . import source
from .codegen import pointer_of
from .commute import refine, windows_of
from .expression import Expression, cost
from .ir import Fused, Map
from .loopnest import Layout, Writer, emit, settled, unravel
from .simplify import drop_dead
from .spaces import MAX_OPERANDS, group_of, overlay

ROOM = 4096             # elements of rows that are made before they are pooled
SHARED = 4              # operations of an element that is rather computed again than read


def absorb_all(graph):
    """Have every pooling compute the Maps in front of it; changes ``graph.nodes``."""
    found = [(place, node) for place, node in enumerate(graph.nodes)
             if windows_of(node, "windows")]
    for _, node in found:
        refine(node, "windows")
    uses = _Uses(graph.nodes)
    heads = [(place, _Head.of(uses, place, windows_of(node, "windows"))) for place, node in found]
    for place, head in heads:
        if head is not None:
            graph.nodes[place] = head.launch()
    if any(head for _, head in heads):
        drop_dead(graph)                # what only they read


class _Uses:
    """Who reads and writes each buffer: positions of nodes."""

    def __init__(self, nodes):
        self.nodes, self.read, self.written = nodes, {}, {}
        for position, node in enumerate(nodes):
            for buffer in node.read_buffers():
                self.read.setdefault(buffer, []).append(position)
            for buffer in node.written_buffers():
                self.written.setdefault(buffer, []).append(position)

    def maker(self, buffer, place):
        """Position of the Map that alone makes a whole temporary, of what is the same at ``place``;
        None if there is none."""
        writers = self.written.get(buffer, ())
        if buffer.kind != "temp" or len(writers) != 1 or writers[0] >= place:
            return None
        node = self.nodes[writers[0]]
        if type(node) is not Map or len(node.results) != 1 or node.compute.is_complex:
            return None
        result = node.results[0]
        changed = any(writers[0] <= p < place for b in node.read_buffers()
                      for p in self.written.get(b, ()))
        whole = result.offset == 0 and result.numel() * result.dtype.itemsize == buffer.nbytes
        return None if changed or not whole else writers[0]


class _Head:
    """A pooling and the Maps that its kernel is to compute."""

    def __init__(self, node, windows, group):
        self.node, self.windows, self.group = node, windows, group
        self.height, self.width = node.slots[7:9]
        self.expression = Expression(group, lambda buffer: buffer is node.slots[0].buffer)
        strides = _row_major(group.sizes)
        every = [(o, [s if n > 1 else 0 for n, s in zip(group.sizes, o.access.strides,
                                                        strict=True)])
                 for o in self.expression.operands]
        self.whole = [o for o, steps in every if steps == strides]
        self.even = {o: steps for o, steps in every if steps != strides}
        self.sizes = list(group.sizes)

    @classmethod
    def of(cls, uses, place, windows):
        """The ``_Head`` of the pooling at ``place``; None if there is nothing to absorb."""
        node = uses.nodes[place]
        x, (depth, _, width) = node.slots[0], node.slots[6:9]
        if x.offset or depth != 1 or windows.kh * width > ROOM:
            return None
        first = uses.maker(x.buffer, place)
        if first is None or x.buffer.outlives or uses.read.get(x.buffer) != [place]:
            return None
        head = cls(node, windows, _grown(uses, place, group_of(uses.nodes[first], first)))
        return head if head.by_planes() else None

    def by_planes(self):
        """Keep of the dimensions those that count planes, ``sizes`` and the steps of ``even``
        operands; False if one is neither whole nor the same all over a plane."""
        plane, inner = self.height * self.width, 1
        if any(o.written is not None for o in self.even):
            return False
        while inner < plane and self.sizes:
            inner *= self.sizes.pop()
            if any([steps.pop() for steps in self.even.values()]):
                return False
        if inner > plane:               # one dimension counts planes and positions
            self.sizes.append(inner // plane)
            for steps in self.even.values():
                steps.append(0)
        return inner % plane == 0 and product(self.sizes) == self.node.n

    def launch(self):
        """The launch of both."""
        node, expression = self.node, self.expression
        text, slots = self._text()
        members = [m.node for m in self.group.members]
        name = "_".join(dict.fromkeys([*(m.name for m in members), node.name]))[:48]
        spec = source.Spec(text, tuple(expression.functions), (), False, name)
        operands = [o for o in expression.operands if o.written is None]
        made = Fused(name, spec, [*(pointer_of(o.access) for o in operands), node.slots[2],
                                  node.slots[4], *slots], node.n, node.grain)
        made.reads = {o.access.buffer for o in operands}
        made.writes, made.origin = node.writes, node.origin
        made.members, made.source = [*map(repr, members), repr(node)], sys.intern(text)
        made.bytes = sum(o.access.buffer.nbytes for o in operands) + sum(
            b.nbytes for b in node.writes)
        made.flops = expression.flops() * product(self.group.sizes)
        return made

    def _text(self):
        """``(source, slots after the pointers)``."""
        expression, (kh, kw, lanes) = self.expression, self.windows[1:]
        (out, value), = expression.stores
        count, writer = len(expression.operands) - 1, Writer()
        writer.open("def body(args, begin, end):")
        lines, slot = expression.scalar_lines(count + 2)
        rows, width = self.node.slots[10:12]
        writer.add(*lines, "H, W, OH, OW, step, block = " + ", ".join(
            f"args[{slot + k}]" for k in range(6)),
            f"maxima = table_vector(args, {count}, 0, OH * OW * end, 1, '{out.code}:1C')",
            f"taps = table_vector(args, {count + 1}, 0, OH * OW * end, 1, 'u1:1C')",
            f"made = stack_array({out.code}_(0), {ROOM})")
        slots = [*expression.slots, self.height, self.width, rows, width, kh * self.width,
                 max(1, ROOM // (kh * self.width)), *self.sizes]
        writer.open("for plane in range(begin, end):")
        load, done = self._planes(writer, slot + 6, slots)
        writer.open("for first in range(0, OH, block):")
        writer.add("n = min(block, OH - first)")
        for o in self.whole:
            if o is not out:
                writer.add(f"p{o.index} = table_pointer(args, {o.index}, plane * H * W + first * "
                           f"step, '{o.code}')")
        writer.open("for i in range(n * step):")
        emit(writer, expression, expression.values, done, load)
        writer.add(f"made[i] = {value.name}")
        writer.close()
        writer.open("for row in range(n):")
        writer.add("tile_maxima(made, row * step, 0, W, maxima, taps, "
                   f"((plane * OH) + first + row) * OW, OW, 1, {kh}, {kw}, {lanes})")
        return writer.text(), slots

    def _planes(self, writer, slot, slots):
        """Lines that find a plane and compute what is the same all over it; returns the source of
        loads, and those values. Strides are added to ``slots``, sizes begin at ``slot``."""
        expression, depth = self.expression, len(self.sizes)
        unravel(writer, "plane", [f"args[{slot + d}]" for d in reversed(range(depth))], "x")
        at = slot + depth
        for o, steps in self.even.items():
            terms = []
            for d, step in enumerate(reversed(steps)):
                if step:
                    terms.append(f"x{d} * args[{at}]")
                    slots.append(step)
                    at += 1
            writer.add(f"p{o.index} = table_pointer(args, {o.index}, {' + '.join(terms) or '0'}, "
                       f"'{o.code}')")
        layout = Layout(expression.operands, [int(o in self.whole) for o in expression.operands],
                        False)

        def load(operand):
            return f"load_at(p{operand.index}, {layout.index(operand, None)}, '-/1')"
        still, done = settled(expression, layout), set()
        emit(writer, expression, [v for v in expression.values if v in still], done, load)
        return load, done


def _row_major(sizes):
    strides, step = [], 1
    for size in reversed(sizes):
        strides.append(step if size > 1 else 0)
        step *= size
    return strides[::-1]


def _grown(uses, place, group):
    """The group with the Maps that it reads from, as far as they are of its size and cheap or
    nobody else's."""
    total, refused = product(group.sizes), set()
    while True:
        found = next((m for a in group.accesses() if a not in refused and a not in group.written()
                      for m in [_merged(uses, place, group, a, total, refused)] if m), None)
        if found is None:
            return group
        group = found


def _merged(uses, place, group, access, total, refused):
    """The group with the Map that makes what it reads by ``access``, or None: then it is
    ``refused``."""
    position = uses.maker(access.buffer, place)
    refused.add(access)
    if position is None or group.nodes >> position & 1:
        return None
    node = uses.nodes[position]
    alone = not access.buffer.outlives and all(
        group.nodes >> p & 1 for p in uses.read[access.buffer])
    if product(node.shape) != total or not alone and cost(node.scalar) > SHARED:
        return None
    first = group_of(node, position)
    result = first.written()[0]
    if result.offset != access.offset or result.dtype is not access.dtype:
        return None
    made = overlay(first, group, result, access)
    if type(made) is str or product(made.sizes) != total or len(
            made.accesses()) - len(made.members) >= MAX_OPERANDS:
        return None
    return made


__all__ = ["absorb_all"]
