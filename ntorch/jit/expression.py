"""What a group computes, as values: loads, calls of scalar functions, reductions, and stores.

Elements that a member wrote are values for the members behind it, so a temporary that nobody else
reads needs no memory; each view is loaded once and stored once. A value is held in the type it
would be stored in: a half result is rounded to half and widened again, so that fusing changes no
bit of it.
"""
import functools

from ..kernels.stubs import typed
from ..ops.loops import _load, _store
from ..runtime.fingerprint import resolve
from .codegen import number_kind, number_slots
from .ir import Map
from .spaces import Access


class Value:
    """A value of the expression; ``stage`` is the pass over the columns that knows it.

    ``kind`` is "load", "call", "item" (one of a call's results) or "reduce". ``full`` values differ
    from column to column, others belong to a row.
    """

    __slots__ = ("kind", "name", "code", "full", "stage", "arguments", "node", "operand", "item",
                 "result_access")

    def __init__(self, kind, name, code, full, stage, arguments=(), node=None):
        self.kind, self.name, self.code, self.full, self.stage = kind, name, code, full, stage
        self.arguments, self.node, self.operand = arguments, node, None
        self.item = 0
        self.result_access = None       # where a detached reduction's result belongs


class Operand:
    """A view that the kernel uses. ``written`` numbers the views it writes."""

    __slots__ = ("access", "index", "full", "written", "loaded", "stage")

    def __init__(self, access, index, full):
        self.access, self.index, self.full = access, index, full
        self.written, self.loaded, self.stage = None, False, 0

    def tag(self, count):
        """What a load or store of it may overlap, of ``count`` written operands."""
        return f"{'-' if self.written is None else self.written}/{count}"

    @property
    def code(self):
        """The kernel code of the element type."""
        return self.access.dtype.code


class Expression:
    """The values of a group. ``needed(buffer)`` says whether anybody outside reads what is
    written."""

    def __init__(self, group, needed):
        self.group = group
        self.values, self.operands, self.stores, self.detached = [], [], [], []
        self.functions, self.names, self.slots, self.scalars = [], {}, [], []
        self._by_access, self._operand_of = {}, {}
        for member in group.members:
            self._member(member)
        written = [a for a in group.written() if needed(a.buffer)]
        for k, access in enumerate(written):
            value = self._by_access[access]
            operand = self._operand(access)
            operand.written = k
            self.stores.append((operand, value))
        self.n_written = len(written)
        self._prune()
        self.stages = 1 + max([v.stage for v in self.values if v.full]
                              + [v.stage - 1 for v in self.values if v.kind == "reduce"],
                              default=0)

    def detach_results(self):
        """Take results of reductions out of the stores: another launch will write them."""
        self.detached = [value for _, value in self.stores if value.kind == "reduce"]
        for operand, value in self.stores:
            if value.kind == "reduce":
                value.result_access = operand.access
        self.stores = [(o, v) for o, v in self.stores if v.kind != "reduce"]
        kept = {o for o, _ in self.stores}
        self.operands = [o for o in self.operands if o.loaded or o in kept]
        self.n_written = len(self.stores)
        for index, operand in enumerate(self.operands):
            operand.index, operand.written = index, None
        for number, (operand, _) in enumerate(self.stores):
            operand.written = number
        return self

    def _prune(self):
        """Forget values that reach no store, and number operands: read ones, then written ones."""
        live, stack = set(), [value for _, value in self.stores]
        while stack:
            value = stack.pop()
            if value not in live:
                live.add(value)
                stack += [a for a in value.arguments if type(a) is Value]
        self.values = [v for v in self.values if v in live]
        loaded = {v.operand for v in self.values if v.kind == "load"}
        kept = [o for o in self.operands if o in loaded and o.written is None]
        kept += [o for o in self.operands if o.written is not None]
        for index, operand in enumerate(kept):
            operand.index, operand.loaded = index, operand in loaded
        self.operands = kept

    def _operand(self, access):
        found = self._operand_of.get(access)
        if found is None:
            columns = self.group.columns
            full = columns is None or any(access.strides[d] for d in columns)
            found = self._operand_of[access] = Operand(access, len(self.operands), full)
            self.operands.append(found)
        return found

    def _new(self, *fields):
        value = Value(fields[0], f"v{len(self.values)}", *fields[1:])
        self.values.append(value)
        return value

    def _read(self, access):
        value = self._by_access.get(access)
        if value is None:
            operand = self._operand(access)
            value = self._new("load", operand.code, operand.full, 0)
            value.operand = operand
            self._by_access[access] = value
        return value

    def function(self, function, code, reassoc=False):
        """The name of a scalar function in the generated source."""
        key = (function, code, reassoc)
        if key not in self.names:
            self.names[key] = f"f{len(self.functions)}"
            self.functions.append(key)
        return self.names[key]

    def _member(self, member):
        node = member.node
        if not isinstance(node, Map):
            source = self._read(member.arguments[0])
            value = self._new("reduce", node.result.dtype.code, False, source.stage + 1, (source,),
                              node)
            self._by_access[member.results[0]] = value
            return
        compute, arguments = node.compute, []
        for argument in member.arguments:
            arguments.append(self._read(argument) if type(argument) is Access
                             else self._scalar(argument, compute))
        inputs = [a for a in arguments if type(a) is Value]
        stage = max([a.stage for a in inputs], default=0)
        full = member.full and (self.group.columns is None or any(
            any(r.strides[d] for d in self.group.columns) for r in member.results))
        single = len(member.results) == 1
        call = self._new("call", member.results[0].dtype.code if single else None, full, stage,
                         tuple(arguments), node)
        for k, access in enumerate(member.results):
            value = call
            if not single:
                value = self._new("item", access.dtype.code, full, stage, (call,), node)
                value.item = k
            self._by_access[access] = value

    def _scalar(self, number, dtype):
        """The name of a number operand; its slots follow the pointers."""
        kind, code = number_kind(dtype), dtype.compute
        name = f"s{len(self.scalars)}"
        self.scalars.append((name, kind, code))
        self.slots += number_slots(number, kind)
        return name

    def scalar_lines(self, slot):
        """Lines that read the numbers, whose first slot is ``slot``."""
        lines = []
        for name, kind, code in self.scalars:
            if kind == "z":
                text = f"complex(bits_i64_to_f64(args[{slot}]), bits_i64_to_f64(args[{slot + 1}]))"
            else:
                text = f"bits_i64_to_f64(args[{slot}])" if kind == "T" else f"args[{slot}]"
            lines.append(f"{name} = {code}_({text})")
            slot += 2 if kind == "z" else 1
        return lines, slot

    def call_text(self, value):
        """Source of a call or an item; arguments are names of values already computed."""
        node = value.node
        compute = node.compute.compute
        if value.kind == "item":
            return _store(value.code, node.result_code, f"{value.arguments[0].name}[{value.item}]")
        arguments = [a if type(a) is str else _load(a.code, compute, a.name).replace(
            "T(", compute + "_(") for a in value.arguments]
        text = f"{self.function(node.scalar, compute)}({', '.join(arguments)})"
        return text if value.code is None else _store(value.code, node.result_code, text)

    def reductions(self):
        """The reduce values, in order."""
        return [v for v in self.values if v.kind == "reduce"]

    def flops(self):
        """Rough cost of one element: arithmetic instructions of the scalar functions."""
        return sum(cost(v.node.scalar) for v in self.values if v.kind == "call")


@functools.cache
def cost(scalar):
    """Rough number of arithmetic operations of a scalar function; an elementary function counts
    20."""
    own = sum(code in (0x7A, 122) for code in scalar.__code__.co_code[::2])
    called = sum(20 for value in resolve(scalar).values() if isinstance(value, typed))
    return max(1, own) + called
