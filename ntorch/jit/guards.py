"""Guards: what must still hold for a recorded trace to stand for its function.

A trace is made with the values that Python state (globals, closures, attributes, containers) had
at that time. Each such value is a ``Guard``: a Python expression over constants. ``Guards``
compiles all of them into one function of straight-line comparisons, asked before every run.
``guard_watch.Watch`` finds out what the function read; ``signature.signature`` covers arguments.
"""
import collections
import enum
import functools
import math
import operator
import sys
import types

import numpy as np

from ..ops.base import Size, TensorBase
from ..runtime.device import device
from ..runtime.dtypes import dtype

_PLAIN = frozenset((type(None), bool, int, float, complex, str, bytes, range, slice, dtype, device,
                    type(Ellipsis), type(NotImplemented)))
MOST = 200              # containers with more elements are guarded by identity and length
_WRONG = (KeyError, AttributeError, IndexError, ValueError, TypeError, RuntimeError,
          ReferenceError, LookupError)


def is_value(value, depth=4):
    """Whether ``value`` is compared by type and content: numbers, text, dtypes, tuples of these.

    Here and below types are asked, not ``isinstance``, which runs code of proxies.
    """
    kind = type(value)
    if kind in _PLAIN or issubclass(kind, (enum.Enum, np.generic)):
        return True
    if depth and issubclass(kind, (tuple, frozenset)) and len(value) <= MOST:
        return all(is_value(v, depth - 1) for v in value)
    return False


def same(new, old):
    """Whether two values (``is_value(old)``) are of one type and equal; floats bit by bit.

    1, 1.0 and True differ, and so do 0.0 and -0.0; NaN equals NaN.
    """
    kind = type(old)
    if type(new) is not kind:
        return False
    if kind is float:
        return (new == old and math.copysign(1.0, new) == math.copysign(1.0, old)
                or (new != new and old != old))
    if kind is complex:
        return same(new.real, old.real) and same(new.imag, old.imag)
    if issubclass(kind, enum.Enum) or kind is dtype or kind is device:
        return new is old
    if issubclass(kind, tuple):
        return len(new) == len(old) and all(map(same, new, old))
    if kind is slice:
        return same((new.start, new.stop, new.step), (old.start, old.stop, old.step))
    if kind is frozenset:
        return _typed(new) == _typed(old)
    if issubclass(kind, np.generic):
        return new.dtype == old.dtype and new.tobytes() == old.tobytes()
    return kind in _PLAIN and new == old


def _typed(elements):
    return {(type(e), e) for e in elements}


def same_set(new, old):
    """Whether a set holds the elements of ``old``: values by type and content, objects by
    identity."""
    if len(new) != len(old):
        return False
    return _marks(new) == _marks(old)


def _marks(elements):
    return {(type(e), e) if is_value(e) else id(e) for e in elements}


def same_order(new, keys):
    """Whether the keys of a dict are ``keys`` and in that order."""
    return all(map(operator.is_, new, keys)) or all(
        a is b or (is_value(b) and same(a, b)) for a, b in zip(new, keys, strict=True))


class Missing:
    """Stands for what is not there."""

    def __repr__(self):
        return "nothing"


MISSING = Missing()
_HELPERS = {"same": same, "same_set": same_set, "same_order": same_order, "MISSING": MISSING,
            "dict_get": dict.get, "list_item": list.__getitem__, "tuple_item": tuple.__getitem__}


class Path:
    """How to reach a value: an expression over constants, and the same in words."""

    __slots__ = ("read", "constants", "text")

    def __init__(self, read, constants, text):
        self.read, self.constants, self.text = read, constants, text

    def item(self, key, text=None, form="{path}[{key}]"):
        """The element ``key``."""
        if type(key) is int or (type(key) is str and key.replace(".", "_").replace(
                "_", "a").isalnum()):       # a literal is cheaper to look up with
            return Path(form.replace("{path}", self.read).replace("{key}", repr(key)),
                        self.constants, text or f"{self.text}[{key!r}]")
        number = "{" + str(len(self.constants)) + "}"
        read = form.replace("{path}", self.read).replace("{key}", number)
        return Path(read, (*self.constants, key), text or f"{self.text}[{key!r}]")


class Guard:
    """One comparison.

    ``test`` is an expression with ``{0}``, ``{1}`` ... for the objects ``constants``; it is true
    while the guard holds. ``read`` gives what the value is now and ``old`` what it was, for the
    words of ``describe``; without ``read``, ``text`` says what is wrong when the test fails.
    ``owner`` is the tensor whose memory and form the guard is about, if it is one of those.
    """

    __slots__ = ("test", "constants", "text", "read", "old", "owner")

    def __init__(self, test, constants, text, read=None, old=None, owner=None):
        self.test, self.constants, self.text = test, constants, text
        self.read, self.old, self.owner = read, old, owner

    def _evaluate(self, expression):
        names = [f"c{i}" for i in range(len(self.constants))]
        scope = dict(zip(names, self.constants, strict=True))
        return eval(expression.format(*names), _HELPERS | scope)

    def holds(self):
        """Whether the value is still what it was."""
        try:
            return bool(self._evaluate(self.test))
        except _WRONG:
            return False

    def describe(self):
        """What changed, in words: ``self.scale of Net changed from 2.0 to 3.0``."""
        if self.read is None:
            return self.text
        try:
            new = brief(self._evaluate(self.read))
        except _WRONG:
            return f"{self.text} is gone; it was {brief(self.old)}"
        old = brief(self.old)
        if new == old:
            return f"{self.text} is another object than it was: {old}"
        return f"{self.text} changed from {old} to {new}"


def brief(value):
    """A short description that never computes anything and never runs foreign code."""
    kind = type(value)
    if issubclass(kind, TensorBase):
        return f"{kind.__name__}{list(value._shape)} of {value.dtype}"
    if is_value(value):
        text = repr(value)
        return text if len(text) <= 60 else text[:57] + "..."
    if issubclass(kind, np.ndarray):
        return f"array{list(value.shape)} of {value.dtype}"
    if kind in (Summary, Missing):
        return repr(value)
    if issubclass(kind, type):
        return f"class {value.__qualname__}"
    if kind in (types.FunctionType, types.BuiltinFunctionType, types.MethodType):
        return f"{kind.__name__} {value.__qualname__}"
    if kind in (list, tuple, dict, set, frozenset, collections.OrderedDict, collections.deque):
        return repr(Summary(value))
    return f"{kind.__qualname__} object"


class Summary:
    """Stands for a container as it was, whose length is all that is told of it."""

    def __init__(self, value):
        self.kind, self.count = type(value).__qualname__, len(value)

    def __repr__(self):
        return f"{self.kind} of {self.count}"


class Guards:
    """All guards of one trace. ``check()`` is one generated function; ``explain()`` names the first
    guard that fails, in words; ``count`` is their number; ``source`` the function's text."""

    def __init__(self, guards):
        self._guards = tuple(guards)
        self.count = len(self._guards)
        source, scope = _source(self._guards)
        self.source = sys.intern(source)        # traces that differ in sizes alone share it
        exec(_compiled(self.source), scope)
        self.check = scope["check"]

    @classmethod
    def build(cls, guards):
        """The guards, each test once, those most likely to fail first."""
        unique = {}
        for guard in guards:
            unique.setdefault((guard.test, tuple(map(id, guard.constants))), guard)
        return cls(sorted(unique.values(), key=_rank))

    def failing(self):
        """The guards that do not hold now."""
        return [guard for guard in self._guards if not guard.holds()]

    def explain(self):
        """What changed first, or an empty string if everything holds."""
        for guard in self._guards:
            if not guard.holds():
                return guard.describe()
        return ""

    def __iter__(self):
        return iter(self._guards)


@functools.lru_cache(maxsize=64)
def _compiled(source):
    """The code of a guard function; traces that differ in sizes alone ask for the same."""
    return compile(source, "<ntorch guards>", "exec")


def _rank(guard):
    """Numbers and flags change most, then what names are bound to; tensors hardly ever."""
    if guard.owner is not None:
        return 2
    return 0 if guard.read is not None and is_value(guard.old) else 1


def _source(guards):
    """Text of ``check``, and what its names stand for.

    Constants are globals of the function: unlike closure variables, they cost nothing at entry.
    """
    names, scope, lines = {}, {"WRONG": _WRONG, "__name__": __name__, **_HELPERS}, []
    for guard in guards:
        used = []
        for constant in guard.constants:
            name = names.get(id(constant))
            if name is None:
                name = names[id(constant)] = f"c{len(names)}"
                scope[name] = constant
            used.append(name)
        lines.append(f"        if not ({guard.test.format(*used)}):\n            return False\n")
    body = "".join(lines) or "        pass\n"
    return ("def check():\n    try:\n" + body + "    except WRONG:\n        return False\n"
            "    return True\n"), scope


__all__ = ["MISSING", "MOST", "Guard", "Guards", "Size", "brief", "is_value", "same"]
