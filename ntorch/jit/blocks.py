"""Generated loops for reductions that are cut in blocks: *partial* and *across*, see ``rows.py``.

Both take all members in one pass. Partial results of the reductions are written behind the
operands, one temporary each, in the compute type; ``reduction``'s combining kernel finishes them.
"""
import re

from ..ops.reduction import BLOCK, LANES, _kernel
from ..ops.reduction import GRAIN as COMBINE_GRAIN
from ..ops.reduction_loops import COMBINE
from .codegen import launch, pointer_of
from .loopnest import Layout, Writer, emit, unravel
from .rows import GRAIN, Geometry, Reduction, pointer

FEW = 12        # operations of an element, up to which four lines are taken at once


def _start(expression, along):
    writer, identities = Writer(), []
    writer.open("def body(args, begin, end):")
    found = [Reduction(expression, v, k, identities)
             for k, v in enumerate(expression.reductions())]
    lines, slot = expression.scalar_lines(len(expression.operands) + len(found))
    writer.add(*lines)
    shape = Geometry(expression, slot)
    inner = shape.column_strides if along else shape.row_strides
    layout = Layout(expression.operands, [inner[o][0] for o in expression.operands], False)
    for o in expression.operands:
        if layout.of[o] == "A":
            step = shape.column_stride(o, 0) if along else shape.row_stride(o, 0)
            writer.add(f"t{o.index} = {step}")
    return writer, identities, found, shape, layout


def _accumulators(expression, found):
    """Index and tag of the memory for partial results of each reduction."""
    base, tags = len(expression.operands), expression.n_written + len(found)
    return {r: (base + r.number, f"{expression.n_written + r.number}/{tags}") for r in found}, tags


def _elements(writer, expression, layout, tags, count, fold):
    """The innermost loop: everything, then ``fold()``."""
    def element(operand):
        return layout.index(operand, _step)

    def load(operand):
        return f"load_at(p{operand.index}, {element(operand)}, '{operand.tag(tags)}')"
    done = set()
    values = [v for v in expression.values if v.kind != "reduce"]
    emit(writer, expression, [v for v in values if v.kind == "load"
                              and layout.of[v.operand] == "B"], done, load)
    writer.open(f"for i in range({count}):")
    emit(writer, expression, values, done, load)
    fold()
    for operand, value in expression.stores:
        if value.kind != "reduce":
            writer.add(f"store_at(p{operand.index}, {element(operand)}, {value.name}, "
                       f"'{operand.tag(tags)}')")
    writer.close()


def partial(expression):
    """``(text, identities, slots, n, grain, shape, blocks)``: blocks of adjacent columns."""
    writer, identities, found, shape, layout = _start(expression, True)
    memory, tags = _accumulators(expression, found)
    blocks = -(-shape.count // BLOCK)
    writer.add(f"inner = {shape.column(0)}", f"blocks = args[{shape.end}]",
               f"count = args[{shape.end + 1}]")
    writer.open("for task in range(begin, end):")
    writer.add("row = task // blocks", f"first = (task - row * blocks) * {BLOCK}",
               f"last = min(first + {BLOCK}, count)")
    unravel(writer, "row", [shape.row(d) for d in range(len(shape.rows))], "x")
    for o in expression.operands:
        writer.add(f"o{o.index} = {shape.row_offset(o)}")
    for r in found:
        writer.add(f"a{r.number} = {r.zero}")
    writer.open("while first < last:")
    writer.add("outer = first // inner", "column = first - outer * inner",
               "m = min(inner - column, last - first)")
    unravel(writer, "outer", [shape.column(d) for d in range(1, len(shape.columns))], "y")
    for o in expression.operands:
        terms = [f"o{o.index}"] + [f"y{d - 1} * {shape.column_stride(o, d)}"
                                   for d in range(1, len(shape.columns))]
        if layout.of[o] != "B":
            terms.append("column" if layout.of[o] == "C" else f"column * t{o.index}")
        writer.add(pointer(o, " + ".join(terms)))
    for r in found:
        writer.add(f"b{r.number} = {r.zero}")
    _elements(writer, expression, layout, tags, "m", lambda: writer.add(
        *(f"b{r.number} = {r.fold(f'b{r.number}', r.element())}" for r in found)))
    for r in found:
        writer.add(f"a{r.number} = {r.fold(f'a{r.number}', f'b{r.number}')}")
    writer.add("first += m")
    writer.close()
    for r in found:
        slot, tag = memory[r]
        writer.add(f"q{r.number} = table_pointer(args, {slot}, task, '{r.code}')",
                   f"store_at(q{r.number}, 0, a{r.number}, '{tag}')")
    slots = [*expression.slots, *shape.slots, blocks, shape.count]
    return (writer.text(), tuple(identities), slots, shape.n_rows * blocks,
            max(1, 2 * GRAIN // BLOCK), shape, blocks)


def across(expression):
    """The same for columns that are far apart: tiles of adjacent rows, blocks of columns."""
    writer, identities, found, shape, layout = _start(expression, False)
    memory, tags = _accumulators(expression, found)
    lanes = shape.rows[0]
    tiles = shape.n_rows // lanes * -(-lanes // LANES)
    block = (max(BLOCK, shape.count) if tiles >= 64 else
             min(BLOCK, max(64, GRAIN // min(lanes, LANES))))
    blocks = -(-shape.count // block)
    writer.add(f"lanes = {shape.row(0)}", f"tiles = (lanes + {LANES - 1}) // {LANES}",
               f"inner = {shape.column(0)}")
    writer.add(*(f"{name} = args[{shape.end + k}]" for k, name in enumerate(
        ("all_tiles", "block_size", "count", "n_rows"))))
    writer.open("for task in range(begin, end):")
    writer.add("block = task // all_tiles", "tile = task - block * all_tiles",
               "high = tile // tiles", f"low = (tile - high * tiles) * {LANES}",
               f"m = min(lanes - low, {LANES})")
    unravel(writer, "high", [shape.row(d) for d in range(1, len(shape.rows))], "h")
    for o in expression.operands:
        terms = [f"h{d - 1} * {shape.row_stride(o, d)}" for d in range(1, len(shape.rows))]
        if layout.of[o] != "B":
            terms.insert(0, "low" if layout.of[o] == "C" else f"low * t{o.index}")
        writer.add(f"o{o.index} = {' + '.join(terms) or '0'}")
    for r in found:
        slot, tag = memory[r]
        writer.add(f"q{r.number} = table_pointer(args, {slot}, block * n_rows + high * lanes + low,"
                   f" '{r.code}')")
        writer.open("for i in range(m):")
        writer.add(f"store_at(q{r.number}, i, {r.zero}, '{tag}')")
        writer.close()
    writer.add("position = block * block_size", "last = min(position + block_size, count)")
    body = _Position(expression, shape, layout, tags, memory)
    if expression.flops() <= FEW:
        # four lines at once: the accumulators are read and written a quarter as often
        body.write(writer, 4)
    body.write(writer, 1)
    slots = [*expression.slots, *shape.slots, tiles, block, shape.count, shape.n_rows]
    work = min(lanes, LANES) * min(block, shape.count)
    return (writer.text(), tuple(identities), slots, tiles * blocks, max(1, GRAIN // work), shape,
            blocks)


class _Position:
    """The loop over the positions of a block of columns, some at a time."""

    def __init__(self, expression, shape, layout, tags, memory):
        self.expression, self.shape, self.layout = expression, shape, layout
        self.tags, self.memory = tags, memory

    def write(self, writer, lines):
        """Write the loop that takes ``lines`` positions at a time."""
        writer.open(f"while position + {lines} <= last:" if lines > 1 else "while position < last:")
        front, inner = [], []
        for line in range(lines):
            start, loop = self._line(line)
            front.append(start)
            inner.append(loop)
        for start in front:
            writer.add(*start)
        writer.open("for i in range(m):")
        for loop in inner:
            writer.add(*loop)
        for r, (_, tag) in self.memory.items():
            elements = [_renamed(r.element(), line) for line in range(lines)]
            while len(elements) > 1:
                elements = [r.fold(*elements[k:k + 2]) for k in range(0, len(elements), 2)]
            total = r.fold(f"load_at(q{r.number}, i, '{tag}')", elements[0])
            writer.add(f"store_at(q{r.number}, i, {total}, '{tag}')")
        writer.close()
        writer.add(f"position += {lines}")
        writer.close()

    def _line(self, line):
        """Lines before and in the inner loop for position ``position + line``."""
        expression, shape, layout = self.expression, self.shape, self.layout
        front, inner = Writer(), Writer()
        unravel(front, f"(position + {line})", [shape.column(d) for d in range(len(shape.columns))],
                "y")
        for o in expression.operands:
            terms = [f"o{o.index}"] + [f"y{d} * {shape.column_stride(o, d)}"
                                       for d in range(len(shape.columns))]
            front.add(pointer(o, " + ".join(terms)))

        def load(operand):
            index = layout.index(operand, _step)
            return f"load_at(p{operand.index}, {index}, '{operand.tag(self.tags)}')"
        done = set()
        values = [v for v in expression.values if v.kind != "reduce"]
        emit(front, expression, [v for v in values if v.kind == "load"
                                 and layout.of[v.operand] == "B"], done, load)
        emit(inner, expression, values, done, load)
        for operand, value in expression.stores:
            inner.add(f"store_at(p{operand.index}, {layout.index(operand, _step)}, {value.name}, "
                      f"'{operand.tag(self.tags)}')")
        return [[_renamed(text, line) for text in part.lines] for part in (front, inner)]


def _step(operand):
    return f"t{operand.index}"


def _renamed(text, line):
    """Names of values, pointers and indices made those of one of several lines."""
    return re.sub(r"\b(v|p|y|yq)(\d+)\b", rf"\1\2_{line}", text) if line else text


def combine(value, memory, n_blocks, steps, shape):
    """The launch that combines the partial results at ``memory`` into a reduction's result."""
    node = value.node
    code = node.compute.compute
    kernel = _kernel(node.entry, COMBINE, (code, value.code, code, False))
    return launch(node.name, kernel, [memory, pointer_of(value.result_access), n_blocks, *steps,
                                      shape.count], shape.n_rows,
                  max(1, COMBINE_GRAIN // n_blocks), {value.result_access.buffer})
