"""Generated loops for groups without a reduction: one pass over all elements."""
from ..ops.base import product
from ..ops.pointwise import coalesce
from .expression import Value

GRAIN = 32768           # elements in one task of a cheap expression


class Writer:
    """Lines of source, with indentation."""

    def __init__(self):
        self.lines, self.depth = [], 0

    def add(self, *lines):
        """Append lines at the present depth."""
        self.lines += ["    " * self.depth + line for line in lines]

    def open(self, line):
        """Append a line that opens a block."""
        self.add(line)
        self.depth += 1

    def close(self):
        """End the innermost block."""
        self.depth -= 1

    def text(self):
        """The source."""
        return "\n".join(self.lines) + "\n"


class Layout:
    """How operands step along one dimension: ``C`` by one, ``B`` not at all, ``A`` by a slot."""

    def __init__(self, operands, strides, single):
        self.of = {}
        for operand, stride in zip(operands, strides, strict=True):
            if stride == 1 or single:
                self.of[operand] = "C"
            else:
                self.of[operand] = "B" if stride == 0 and operand.written is None else "A"

    def index(self, operand, step):
        """Source of the index of element ``i`` behind the operand's pointer."""
        kind = self.of[operand]
        return "i" if kind == "C" else "0" if kind == "B" else f"i * {step(operand)}"


def emit(writer, expression, values, done, load):
    """Lines that compute ``values`` that are not in ``done`` yet, in order."""
    for value in values:
        if value in done:
            continue
        done.add(value)
        if value.kind == "load":
            writer.add(f"{value.name} = {load(value.operand)}")
        else:
            writer.add(f"{value.name} = {expression.call_text(value)}")


def settled(expression, layout):
    """Values that do not change along the inner loop."""
    still = set()
    for value in expression.values:
        if value.kind == "load":
            if layout.of[value.operand] == "B":
                still.add(value)
        elif all(a in still for a in value.arguments if type(a) is Value):
            still.add(value)
    return still


def pointwise(expression):
    """``(text, slots after the pointers, n, grain)`` of a group without a reduction."""
    operands = expression.operands
    sizes, strides = coalesce(expression.group.sizes, [o.access.strides for o in operands])
    n = product(sizes)
    layout = Layout(operands, [s[0] if s else 1 for s in strides], n == 1)
    flat = len(sizes) <= 1 and "A" not in layout.of.values()
    writer = Writer()
    writer.open("def body(args, begin, end):")
    lines, slot = expression.scalar_lines(len(operands))
    writer.add(*lines)
    slots = list(expression.slots)
    if flat:
        _flat(writer, expression, layout)
    else:
        slots += [*sizes, *(s for stride in strides for s in stride)]
        _strided(writer, expression, layout, slot, len(sizes))
    work = 4 * len(operands) + expression.flops()
    return writer.text(), slots, n, max(1024, GRAIN * 16 // max(16, work))


def _body(writer, expression, layout, count, step):
    """The innermost loop, with what does not change in it in front."""
    tags = expression.n_written
    still = settled(expression, layout)

    def load(operand):
        index = layout.index(operand, step)
        return f"load_at(p{operand.index}, {index}, '{operand.tag(tags)}')"
    done = set()
    emit(writer, expression, [v for v in expression.values if v in still], done, load)
    writer.open(f"for i in range({count}):")
    emit(writer, expression, expression.values, done, load)
    for operand, value in expression.stores:
        writer.add(f"store_at(p{operand.index}, {layout.index(operand, step)}, {value.name}, "
                   f"'{operand.tag(tags)}')")
    writer.close()


def _flat(writer, expression, layout):
    writer.add("n = end - begin")
    for o in expression.operands:
        first = "0" if layout.of[o] == "B" else "begin"
        writer.add(f"p{o.index} = table_pointer(args, {o.index}, {first}, '{o.code}')")
    _body(writer, expression, layout, "n", None)


def _strided(writer, expression, layout, slot, rank):
    """Rows of the inner dimension, with ``rank - 1`` dimensions outside."""
    def stride(operand, d):
        return f"args[{slot + rank + operand.index * rank + d}]"
    writer.add(f"inner = args[{slot}]", "position = begin")
    writer.open("while position < end:")
    writer.add("row = position // inner", "column = position - row * inner",
               "m = min(inner - column, end - position)")
    unravel(writer, "row", [f"args[{slot + d}]" for d in range(1, rank)], "x")
    for o in expression.operands:
        terms = [f"x{d - 1} * {stride(o, d)}" for d in range(1, rank)]
        if layout.of[o] != "B":
            terms.insert(0, "column" + ("" if layout.of[o] == "C" else f" * {stride(o, 0)}"))
        if layout.of[o] == "A":
            writer.add(f"t{o.index} = {stride(o, 0)}")
        writer.add(f"p{o.index} = table_pointer(args, {o.index}, {' + '.join(terms) or '0'}, "
                   f"'{o.code}')")
    _body(writer, expression, layout, "m", lambda operand: f"t{operand.index}")
    writer.add("position += m")
    writer.close()


def unravel(writer, number, sizes, prefix):
    """Lines that cut ``number`` into indices ``<prefix>0``, ... below ``sizes``, inner first."""
    rest = number
    for d, size in enumerate(sizes[:-1]):
        writer.add(f"{prefix}q{d} = {rest} // {size}", f"{prefix}{d} = {rest} - {prefix}q{d} * "
                   f"{size}")
        rest = f"{prefix}q{d}"
    if sizes:
        writer.add(f"{prefix}{len(sizes) - 1} = {rest}")
