"""Generated loops for groups with reductions.

*rows*: each row is a task; passes over its columns follow one another, a reduction's result is a
number of the row by the next pass. What a later pass needs again is taken from where it was stored,
or from the row of a result that is written later, or computed again if that is cheap.

*partial*: reductions alone, of few long rows: blocks of columns are tasks, whose partial results
another launch combines in order. *across*: columns that are far apart: tiles of adjacent rows with
one accumulator each. The blocks depend on sizes, never on the number of threads.
"""
from ..ops.base import product
from ..ops.loops import _load, _store
from ..ops.pointwise import coalesce
from ..ops.reduction import BLOCK, _identity_map, _keep, identity_of
from .expression import Value, cost
from .loopnest import Layout, Writer, emit, unravel

GRAIN = 65536           # elements in one task
KEEP = 8                # a value this expensive is kept for the next pass rather than recomputed


class Reduction:
    """The names of a reduce value's functions and accumulators."""

    def __init__(self, expression, value, number, identities):
        node = value.node
        self.value, self.number, self.code = value, number, node.compute.compute
        mapped, combine, finish = node.entry.functions
        self.mapped = self.finish = None
        if mapped is not _identity_map:
            self.mapped = expression.function(mapped, self.code, True)
        self.combine = expression.function(combine, self.code, True)
        if finish is not _keep:
            self.finish = expression.function(finish, self.code, True)
        self.zero = f"{self.code}_(z{len(identities)})"
        identities.append(identity_of(node.entry.identity, self.code))

    def element(self):
        """Source of the mapped element."""
        source = self.value.arguments[0]
        text = _load(source.code, self.code, source.name).replace("T(", self.code + "_(")
        return f"{self.mapped}({text})" if self.mapped else text

    def fold(self, total, element):
        """Source of ``combine``."""
        return f"{self.combine}({total}, {element})"

    def result(self, total, count):
        """Source of the finished result, in the type it is stored in."""
        if self.finish:
            total = f"{self.finish}({total}, {self.code}_({count}))"
        return _store(self.value.code, self.code, total)


class Geometry:
    """Rows and columns of a group as slots: sizes, then strides of each operand."""

    def __init__(self, expression, first):
        group, operands = expression.group, expression.operands
        columns = sorted(group.columns)
        rows = [d for d in range(len(group.sizes)) if d not in group.columns]
        self.rows, row_strides = self._merged(expression, rows)
        self.columns, column_strides = self._merged(expression, columns)
        self.n_rows, self.count = product(self.rows), product(self.columns)
        self.first = first
        self.width = len(self.rows) + len(self.columns)
        self.row_strides = dict(zip(operands, row_strides, strict=True))
        self.column_strides = dict(zip(operands, column_strides, strict=True))
        self.slots = [*self.rows, *self.columns]
        for o in operands:
            self.slots += [*self.row_strides[o], *self.column_strides[o]]
        self.end = first + len(self.slots)

    @staticmethod
    def _merged(expression, dims):
        # the last ones lead the order of the dimensions
        leaders = [v.result_access for v in expression.detached]
        accesses = [o.access for o in expression.operands] + leaders
        sizes, strides = coalesce([expression.group.sizes[d] for d in dims],
                                  [[a.strides[d] for d in dims] for a in accesses])
        if not sizes:
            sizes, strides = [1], [[0] for _ in accesses]
        return sizes, strides[:len(expression.operands)]

    def row(self, d):
        """Slot of a row size."""
        return f"args[{self.first + d}]"

    def column(self, d):
        """Slot of a column size."""
        return f"args[{self.first + len(self.rows) + d}]"

    def row_stride(self, operand, d):
        """Slot of a row stride."""
        return f"args[{self.first + self.width * (1 + operand.index) + d}]"

    def column_stride(self, operand, d):
        """Slot of a column stride."""
        return self.row_stride(operand, len(self.rows) + d)

    def row_offset(self, operand, prefix="x", first=0):
        """Source of the operand's offset in row ``<prefix>0``, ..."""
        terms = [f"{prefix}{d} * {self.row_stride(operand, d)}"
                 for d in range(first, len(self.rows)) if self.row_strides[operand][d]]
        return " + ".join(terms) or "0"


def pointer(operand, offset):
    """A line that makes the operand's pointer."""
    return f"p{operand.index} = table_pointer(args, {operand.index}, {offset}, '{operand.code}')"


class Passes:
    """What each pass over the columns computes, and where values wait for later passes."""

    def __init__(self, expression):
        self.expression, self.stages = expression, expression.stages
        self.reductions = expression.reductions()
        self.wide = [(o, v) for o, v in expression.stores if o.full]
        self.homes = {}         # value -> (operand, stage that writes it, last stage it is there)
        for operand, value in self.wide:
            operand.stage = self.stages - 1 if operand.loaded else value.stage
            if not operand.loaded:
                self.homes.setdefault(value, (operand, operand.stage, self.stages))
        self._keep_expensive()

    def roots(self, stage):
        """Values that pass ``stage`` is for."""
        found = [r.arguments[0] for r in self.reductions if r.stage == stage + 1]
        found += [v for o, v in self.wide if o.stage == stage]
        return found + [v for v, (o, at, _) in self.homes.items()
                        if at == stage and (o, v) not in self.wide]

    def available(self, value, stage):
        """The operand from which ``stage`` can load a value of an earlier pass."""
        home = self.homes.get(value)
        return home[0] if home and home[1] < stage <= home[2] else None

    def values(self, stage):
        """Values to compute in a pass, in order, and those to load from their homes."""
        needed, loaded, stack = set(), {}, self.roots(stage)
        while stack:
            value = stack.pop()
            if value in needed or not value.full:
                continue
            needed.add(value)
            home = self.available(value, stage)
            if home is not None:
                loaded[value] = home
            else:
                stack += [a for a in value.arguments if type(a) is Value]
        return [v for v in self.expression.values if v in needed], loaded

    def _keep_expensive(self):
        """Let values that later passes need wait in rows of results that are written later."""
        taken = set()
        for stage in range(1, self.stages):
            while self._keep_one(stage, taken):
                pass

    def _keep_one(self, stage, taken):
        """Find a home for the first value that ``stage`` would recompute at a high price."""
        values, loaded = self.values(stage)
        for value in reversed(values):
            if (value in loaded or value.stage >= stage or value in self.homes
                    or value.kind == "load" or value.code is None or self._cost(value) < KEEP):
                continue
            for operand, stored in self.wide:
                if (operand not in taken and not operand.loaded and operand.stage >= stage
                        and operand.code == value.code and stored is not value):
                    self.homes[value] = (operand, value.stage, operand.stage)
                    taken.add(operand)
                    return True
        return False

    def _cost(self, value):
        own = cost(value.node.scalar) if value.kind == "call" else 0
        return own + sum(self._cost(a) for a in value.arguments
                         if type(a) is Value and a.full and a.kind != "load")


def rows(expression):
    """``(text, identities, slots, n, grain)`` of a kernel whose tasks are rows."""
    writer, identities, tags = Writer(), [], expression.n_written
    writer.open("def body(args, begin, end):")
    lines, slot = expression.scalar_lines(len(expression.operands))
    writer.add(*lines)
    shape = Geometry(expression, slot)
    layout = Layout(expression.operands, [shape.column_strides[o][0] for o in expression.operands],
                    False)
    passes = Passes(expression)
    found = [Reduction(expression, v, k, identities) for k, v in enumerate(passes.reductions)]
    writer.add(f"inner = {shape.column(0)}")
    if any(r.finish for r in found):
        writer.add("count = " + " * ".join(shape.column(d) for d in range(len(shape.columns))))
    for o in expression.operands:
        if layout.of[o] == "A" and o.full:
            writer.add(f"t{o.index} = {shape.column_stride(o, 0)}")
    writer.open("for row in range(begin, end):")
    unravel(writer, "row", [shape.row(d) for d in range(len(shape.rows))], "x")
    for o in expression.operands:
        writer.add(f"o{o.index} = {shape.row_offset(o)}" if o.full else
                   pointer(o, shape.row_offset(o)))
    done = set()
    narrow = [v for v in expression.values if not v.full]

    def load(operand):
        return f"load_at(p{operand.index}, 0, '{operand.tag(tags)}')"
    for stage in range(expression.stages):
        emit(writer, expression, [v for v in narrow if v.kind != "reduce" and v.stage == stage],
             done, load)
        _pass(writer, expression, shape, layout, passes, [
            r for r in found if r.value.stage == stage + 1], stage)
        done |= {r.value for r in found if r.value.stage == stage + 1}
    emit(writer, expression, narrow, done, load)
    for operand, value in expression.stores:
        if not operand.full:
            writer.add(f"store_at(p{operand.index}, 0, {value.name}, '{operand.tag(tags)}')")
    work = shape.count * (expression.flops() + 4 * len(expression.operands)) * expression.stages
    return (writer.text(), tuple(identities), [*expression.slots, *shape.slots], shape.n_rows,
            max(1, GRAIN * 16 // max(1, work)))


def _pass(writer, expression, shape, layout, passes, reductions, stage):
    """One pass over the columns of a row."""
    values, loaded = passes.values(stage)
    if not values and not reductions:
        return
    for r in reductions:
        writer.add(f"a{r.number} = {r.zero}")
    depth = 0
    for d in reversed(range(1, len(shape.columns))):
        writer.open(f"for y{d} in range({shape.column(d)}):")
        depth += 1
    if reductions:
        writer.add("at = 0")
        writer.open("while at < inner:")
        writer.add(f"m = min(inner - at, {BLOCK})")
        depth += 1
    _columns(writer, expression, shape, layout, passes, reductions, stage, values, loaded)
    for r in reductions:
        writer.add(f"a{r.number} = {r.fold(f'a{r.number}', f'b{r.number}')}")
    if reductions:
        writer.add("at += m")
    for _ in range(depth):
        writer.close()
    for r in reductions:
        writer.add(f"{r.value.name} = {r.result(f'a{r.number}', 'count')}")


def _columns(writer, expression, shape, layout, passes, reductions, stage, values, loaded):
    """The loop over adjacent columns."""
    tags = expression.n_written
    stores = [(o, v) for o, v in passes.wide if o.stage == stage]
    stores += [(o, v) for v, (o, at, _) in passes.homes.items()
               if at == stage and (o, v) not in passes.wide]
    used = {v.operand for v in values if v.kind == "load"} | set(loaded.values())
    used |= {o for o, _ in stores}
    for o in sorted(used, key=lambda o: o.index):
        terms = [f"o{o.index}"] + [f"y{d} * {shape.column_stride(o, d)}"
                                   for d in range(1, len(shape.columns))]
        if reductions and layout.of[o] != "B":
            terms.append("at" if layout.of[o] == "C" else f"at * t{o.index}")
        writer.add(pointer(o, " + ".join(terms)))

    def element(operand):
        return layout.index(operand, lambda o: f"t{o.index}")

    def load(operand):
        return f"load_at(p{operand.index}, {element(operand)}, '{operand.tag(tags)}')"
    done = set()
    emit(writer, expression, [v for v in values if v.kind == "load" and v not in loaded
                              and layout.of[v.operand] == "B"], done, load)
    for r in reductions:
        writer.add(f"b{r.number} = {r.zero}")
    writer.open(f"for i in range({'m' if reductions else 'inner'}):")
    for value in values:
        if value in loaded:
            writer.add(f"{value.name} = {load(loaded[value])}")
            done.add(value)
    emit(writer, expression, values, done, load)
    for r in reductions:
        writer.add(f"b{r.number} = {r.fold(f'b{r.number}', r.element())}")
    for operand, value in stores:
        writer.add(f"store_at(p{operand.index}, {element(operand)}, {value.name}, "
                   f"'{operand.tag(tags)}')")
    writer.close()
