"""Composites and gradient rules in eager mode: run as one program where that is less work.

The tape asks (``autograd/fusing.py``) with a composite and its arguments, or with a node and what
its rules name. Both are functions of these alone, so the *form* of the arguments (dtypes, shapes,
strides, whether a gradient is wanted; numbers and words by value) decides all: at its first sight
the Python is traced (``inline_trace.py``), and a *verdict* is kept for it. Either it runs op by op
from then on (``Plain``, with the reason), or as the program that was made of it (``Inlined``), the
first time included. So equal calls give equal bits, whenever they are made.
"""
import re

from ..autograd.graph import Form, backward_name
from ..autograd.modes import state
from ..ops.base import TensorBase
from ..runtime.device import CPU
from ..runtime.dtypes import _Default, dtype
from ..tensor import Tensor
from .explain import log
from .inline_trace import Plain, traced

MOST = 32               # forms of one composite or rule that are traced; others run op by op
REMEMBERED = 1024       # forms of one whose verdict is kept
FULL = Plain("others", f"more than {MOST} forms")
_VALUES = frozenset((bool, int, str, type(None), dtype))
_classes = {Tensor: True}       # class -> whether its tensors are as good as plain ones
_tables = []


class Verdicts(dict):
    """What was decided for each form of one composite or rule: form -> ``Plain`` or
    ``Inlined``. ``names``: what of a node's values the rules read, in order."""

    def __init__(self, name, names=()):
        super().__init__()
        self.name, self.names, self.traces = name, names, 0
        self.apart = {}         # pattern of sizes -> the verdict, whatever the sizes are
        _tables.append(self)

    def decide(self, form, tensors, call):
        """The verdict on a form that was not met before."""
        if len(self) >= REMEMBERED or self.traces >= MOST and not self.apart:
            return FULL
        pattern = _pattern(form, {})
        verdict = self.apart.get(pattern)
        if verdict is None:
            if self.traces >= MOST:
                return FULL
            self.traces += 1
            verdict = traced(self.name, tensors, call)
            log("fuse", lambda: f"eager {verdict!r}")
            if not verdict.fused and verdict.for_all_sizes:
                self.apart[pattern] = verdict
        return self.setdefault(form, verdict)


def _pattern(form, numbers):
    """``form`` with sizes and strides replaced by which of them are equal."""
    if type(form) is int and form > 1:
        return numbers.setdefault(form, -1 - len(numbers))
    if isinstance(form, tuple) and not (form and type(form[0]) is type):
        return tuple([_pattern(part, numbers) for part in form])
    return form


def verdicts():
    """Everything that was decided in this process: each has a ``name``; what runs as a program
    (``fused``) has ``explain()``, ``source()`` and ``graph``, what does not a ``reason``."""
    return [verdict for table in list(_tables) for verdict in list(table.values())]


def clear():
    """Forget all verdicts; each call is looked at anew."""
    for table in list(_tables):
        table.clear()
        table.apart.clear()
        table.traces = 0


# --- forms -------------------------------------------------------------------------------------


def _note(value, form, tensors, enabled):
    """Add what of an argument decides a trace to ``form``; False if that cannot be told.
    ``enabled``: whether gradients are recorded."""
    kind = type(value)
    if issubclass(kind, TensorBase):
        known = _classes.get(kind)
        if not (_is_ordinary(kind) if known is None else known) or (
                value._storage.device is not CPU or value._inference):
            return False
        tensors.append(value)
        form.append((value.dtype, value._shape, value._strides,
                     enabled and value._requires_grad))
    elif kind in _VALUES:
        form.append((kind, value))
    elif kind is float:
        form.append((kind, value or repr(value)))       # 0.0 is not -0.0; NaN is no key
        return value == value
    elif kind is list or issubclass(kind, tuple):
        form.append(len(value))
        return all([_note(v, form, tensors, enabled) for v in value])
    elif kind is Form:
        form.append((value._shape, value._strides, value._offset, value.dtype))
        return value.device is CPU
    else:
        return False
    return True


def _is_ordinary(kind):
    """Whether nobody but ntorch says what operators do to tensors of this class."""
    found = _classes[kind] = kind.__module__.startswith("ntorch.")
    return found


class _Hole:
    """The place of a tensor among arguments."""


def _emptied(value):
    """``value`` with holes for its tensors."""
    if isinstance(value, TensorBase):
        return _Hole
    if type(value) is list or isinstance(value, tuple) and any(
            isinstance(v, TensorBase) for v in value):
        return type(value)([_emptied(v) for v in value])
    return value


def _filled(value, tensors):
    """``value`` with the holes filled from the iterator ``tensors``."""
    if value is _Hole:
        return next(tensors)
    if type(value) is list or isinstance(value, tuple) and _Hole in value:
        return type(value)([_filled(v, tensors) for v in value])
    return value


# --- composites --------------------------------------------------------------------------------


class _Composite:
    """A composite with all its arguments but the tensors: ``call(tensors)`` runs its Python."""

    gives_views = False

    def __init__(self, entry, arguments):
        self.python, self.node_name = entry.python, backward_name(entry)
        self.arguments = [_emptied(a) for a in arguments]

    def __call__(self, tensors):
        tensors = iter(tensors)
        return self.python(*[_filled(a, tensors) for a in self.arguments])


def run_composite(entry, arguments):
    """The result of a composite entry."""
    form, tensors, enabled = [_Default.floating], [], state.enabled
    for value in arguments:
        if not _note(value, form, tensors, enabled):
            return entry.python(*arguments)
    known, form = entry.verdicts, tuple(form)
    if known is None:
        known = entry.__dict__.setdefault("verdicts", Verdicts(entry.name))
    verdict = known.get(form)
    if verdict is None:
        verdict = known.decide(form, tensors, _Composite(entry, arguments))
    return verdict.run(tensors) if verdict.fused else entry.python(*arguments)


# --- rules -------------------------------------------------------------------------------------


_GRADIENT = re.compile(r"grads|grad\d*")


class _Rules:
    """The rules of a node with all their values but the tensors."""

    gives_views = True      # of gradients, as the rules themselves do
    node_name = ""

    def __init__(self, node, values, names):
        self.node, self.values, self.names = node, values, names
        self.arguments = [_emptied(values[name]) for name in names]

    def __call__(self, tensors):
        tensors, values = iter(tensors), dict(self.values)
        for name, value in zip(self.names, self.arguments, strict=True):
            values[name] = _filled(value, tensors)
        values["grad"] = values["grads"][0]
        values.update((f"grad{k}", grad) for k, grad in enumerate(values["grads"]))
        return self.node.run_rules(values)


def _verdicts_of(node):
    """The table of a node's record; it names what the rules read, gradients first."""
    names = sorted(n for n in node.record.used if n != "needs" and not _GRADIENT.fullmatch(n))
    node.record.verdicts = Verdicts(node.name(), ("grads", *names))
    return node.record.verdicts


def run_rules(node, values):
    """The gradients of a node's inputs."""
    known = node.record.verdicts
    if known is None:
        known = _verdicts_of(node)
    form, tensors = [_Default.floating], []
    for name in known.names:
        if not _note(values[name], form, tensors, False):
            return node.run_rules(values)
    form += values["needs"].values()
    for _, meta in node.inputs:
        form.append(meta if type(meta) is tuple else len(meta))
    form = tuple(form)
    verdict = known.get(form)
    if verdict is None:
        verdict = known.decide(form, tensors, _Rules(node, values, known.names))
    return verdict.run(tensors) if verdict.fused else node.run_rules(values)
