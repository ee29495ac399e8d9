"""What a function over the table may launch, read off its code.

Whoever runs several launches as one kernel (``jit/inline.py``) asks first whether a composite or a
gradient rule can have any to merge: operators and pointwise and reduction ops, its own and those of
the functions it calls. Too high a count costs time, not a result.
"""
import functools
import opcode
import sys
import types
import typing

from . import registry
from .pointwise import PointwiseEntry
from .reduction import ReductionEntry

ENOUGH = 2              # launches from which there may be something to merge
_DEEPEST = 4            # calls of functions that are followed
_ATTRIBUTE = {opcode.opmap[name] for name in ("LOAD_ATTR", "LOAD_METHOD") if name in opcode.opmap}
_GLOBAL, _CELL = opcode.opmap["LOAD_GLOBAL"], opcode.opmap["LOAD_DEREF"]
_BINARY, _NEGATIVE = opcode.opmap["BINARY_OP"], opcode.opmap["UNARY_NEGATIVE"]
_SUBSCRIPT = 26         # a binary operation that computes nothing, of newer versions of Python
_ATTRIBUTE_SHIFT = 1 if sys.version_info >= (3, 12) else 0


def may_fuse(*functions, by_operators=False):
    """Whether ``functions``, run one after the other, may launch several kernels.

    With ``by_operators`` even if they name no op and only add and multiply themselves: of what else
    they call that may be done to sizes.
    """
    scan = _Scan()
    for function in functions:
        scan.follow(function, 0)
    own = sum(_uses(function.__code__).operators for function in functions)
    several = scan.operators + scan.named >= ENOUGH
    return several and scan.named > 0 or by_operators and own >= ENOUGH


class _Scan:
    """Counts of one walk over a function and what it calls."""

    def __init__(self):
        self.operators, self.named, self.seen = 0, 0, set()

    def follow(self, function, depth):
        """Count what ``function`` does."""
        code = function.__code__
        if code in self.seen or depth > _DEEPEST:
            return
        self.seen.add(code)
        uses = _uses(code)
        self.operators += uses.operators
        for name in uses.attributes:
            self._entry(name, depth)
        cells = dict(zip(code.co_freevars, function.__closure__ or (), strict=True))
        for name in uses.outer:
            self._called(cells.get(name), function.__globals__.get(name), depth)

    def _entry(self, name, depth):
        entry = registry.find(name) or (registry.find(name[:-1]) if name[-1] == "_" else None)
        if isinstance(entry, (PointwiseEntry, ReductionEntry)):
            self.named += 1
        elif entry is not None:
            self._host(entry, depth)

    def _host(self, entry, depth):
        # a host function without launches of its own is as good as a composite
        code = getattr(entry.host, "__code__", None)
        if code is not None and "run" not in code.co_names:
            self.follow(entry.host, depth + 1)

    def _called(self, cell, value, depth):
        if cell is not None:
            try:
                value = cell.cell_contents
            except ValueError:          # not filled yet
                return
        if isinstance(value, registry.Entry):
            self._host(value, depth)
        elif isinstance(value, types.FunctionType) and value.__module__.startswith(
                __package__ + "."):
            self.follow(value, depth + 1)


class _Uses(typing.NamedTuple):
    """How many arithmetic operators a function has, and the names it looks up."""
    operators: int
    attributes: tuple
    outer: tuple


@functools.lru_cache(maxsize=4096)
def _uses(code):
    """The ``_Uses`` of a code object and of the functions defined inside."""
    operators, attributes, outer = 0, [], []
    text, extended = code.co_code, 0
    for at in range(0, len(text), 2):
        operation, argument = text[at], text[at + 1] | extended
        extended = argument << 8 if operation == opcode.EXTENDED_ARG else 0
        if operation == _NEGATIVE or operation == _BINARY and argument != _SUBSCRIPT:
            operators += 1
        elif operation in _ATTRIBUTE:
            attributes.append(code.co_names[argument >> _ATTRIBUTE_SHIFT])
        elif operation == _GLOBAL:
            outer.append(code.co_names[argument >> 1])
        elif operation == _CELL:
            outer.append(_local_name(code, argument))
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            inner = _uses(constant)
            operators += inner.operators
            attributes += inner.attributes
            outer += inner.outer
    return _Uses(operators, tuple(attributes), tuple(outer))


def _local_name(code, number):
    """The name of a variable by its place among a frame's: locals, cells, then free ones."""
    names = [*code.co_varnames, *(c for c in code.co_cellvars if c not in code.co_varnames),
             *code.co_freevars]
    return names[number]
