"""Signatures: what of the arguments, and of the thread's modes, a program was made for.

``flatten`` takes nested containers apart into a hashable *spec*, tensors and numbers; ``unflatten``
puts them together again. ``signature`` adds the form of every tensor, which of them share memory,
and the modes of the thread: two calls with equal keys may run the same program.
"""
import collections
import dataclasses
import hashlib
import operator

import numpy as np

from ..autograd.modes import state
from ..ops.base import TensorBase
from ..runtime.dtypes import _Default
from ..tensor import Tensor
from .guards import is_value

_modes = operator.attrgetter("enabled", "inference", "create_graph", "anomaly", "saved_hooks")
_form = operator.attrgetter("__class__", "dtype", "_shape", "_strides", "_storage.device",
                            "_requires_grad", "_inference")
_TENSOR, _FREE = "tensor", "number"
_ONE = ("args", (_TENSOR,), ())
_TWO = ("args", (_TENSOR, _TENSOR), ())
_NUMBERS = (int, float, complex)


class Same:
    """An object as part of a key: equal to itself only, whatever its own ``==`` says."""

    __slots__ = ("thing",)

    def __init__(self, thing):
        self.thing = thing

    def __hash__(self):
        return id(self.thing)

    def __eq__(self, other):
        return type(other) is Same and other.thing is self.thing

    def __repr__(self):
        return f"this {type(self.thing).__qualname__}"


def context():
    """What holds for a whole thread or process and changes results: grad mode, inference mode,
    anomaly and saved-tensor hooks, the default dtype."""
    return (*_modes(state), _Default.floating)


def signature(args, kwargs, free=()):
    """``(key, tensors, numbers, spec)`` of a call.

    ``key`` is hashable; ``tensors`` and ``numbers`` (int, float and complex, without bool) are in
    the order in which ``unflatten(spec, tensors, numbers)`` wants them to give ``(args, kwargs)``.
    Numbers whose positions are in ``free`` count in the key by their type only.
    """
    if not kwargs and not free:
        count = len(args)
        if count == 1:
            x = args[0]
            if type(x) is Tensor:
                form = _form(x)
                if not form[5]:
                    return (1, _modes(state), _Default.floating, form), args, (), _ONE
        elif count == 2:
            x, y = args
            if type(x) is Tensor and type(y) is Tensor and x._storage is not y._storage:
                first, second = _form(x), _form(y)
                if not (first[5] or second[5]):
                    return (2, _modes(state), _Default.floating, first, second), args, (), _TWO
    tensors, numbers = [], []
    spec = ("args", tuple([_flatten(a, tensors, numbers, free) for a in args]),
            tuple([(name, _flatten(a, tensors, numbers, free)) for name, a in kwargs.items()]))
    forms = tuple([_full_form(t) for t in tensors])
    return (context(), spec, forms, _aliases(tensors)), tensors, numbers, spec


def _full_form(tensor):
    if not tensor._requires_grad:
        return _form(tensor)
    hooks = [tensor.__dict__.get(name) for name in ("_hooks", "_post_accumulate_hooks")]
    return (*_form(tensor), tensor.is_leaf, *[Same(h) if h else None for h in hooks])


def _aliases(tensors):
    """Which tensors are one object, and which share a storage, at what distance in bytes."""
    if len(tensors) < 2:
        return ()
    objects, storages, pattern = {}, {}, []
    for i, t in enumerate(tensors):
        one = objects.setdefault(id(t), i)
        other = storages.setdefault(id(t._storage), i)
        if other != i:
            pattern.append((i, one, other, t._address - tensors[other]._address))
    return tuple(pattern)


def flatten(value):
    """``(spec, tensors, numbers)`` of a value: containers taken apart, objects by identity."""
    tensors, numbers = [], []
    return _flatten(value, tensors, numbers, ()), tensors, numbers


def _flatten(value, tensors, numbers, free):
    if isinstance(value, TensorBase):
        tensors.append(value)
        return _TENSOR
    kind = type(value)
    if kind in _NUMBERS:
        numbers.append(value)
        return (_FREE, kind) if len(numbers) - 1 in free else ("=", kind, _bits(value))
    if isinstance(value, list | tuple | collections.deque):
        return ("sequence", kind, tuple([_flatten(v, tensors, numbers, free) for v in value]))
    if isinstance(value, dict):
        parts = [(_key(k), _flatten(v, tensors, numbers, free)) for k, v in dict.items(value)]
        extra = Same(value.default_factory) if isinstance(
            value, collections.defaultdict) else None
        return ("dict", kind, tuple(parts), extra)
    if isinstance(value, slice):
        parts = (value.start, value.stop, value.step)
        return ("slice", kind, tuple([_flatten(v, tensors, numbers, free) for v in parts]))
    if is_record(value):
        parts = [(name, _flatten(v, tensors, numbers, free)) for name, v in fields_of(value)]
        return ("record", kind, tuple(parts))
    if is_value(value):
        return ("value", kind, _Typed(value))
    if isinstance(value, np.ndarray) and not value.dtype.hasobject:
        digest = hashlib.blake2b(np.ascontiguousarray(value).view(np.uint8)).digest() if (
            value.size) else b""
        return ("array", Same(value), value.shape, value.dtype.str, digest)
    return ("object", Same(value))


def is_record(value):
    """Whether ``value`` is an instance of a dataclass, which counts by content."""
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def fields_of(record):
    """``(name, value)`` of the attributes of a dataclass instance."""
    names = [f.name for f in dataclasses.fields(record) if hasattr(record, f.name)]
    more = [name for name in getattr(record, "__dict__", ()) if name not in names]
    return [(name, getattr(record, name)) for name in (*names, *more)]


class _Typed:
    """A value as part of a key, equal to what ``guards.same`` says is the same."""

    __slots__ = ("value",)

    def __init__(self, value):
        self.value = value

    def __hash__(self):
        return hash(repr(self.value))

    def __eq__(self, other):
        from .guards import same
        return type(other) is _Typed and same(other.value, self.value)


def _bits(number):
    """A number as a hashable that tells 0.0 from -0.0 and finds NaN equal to itself."""
    if type(number) is int or (number == number and number):
        return number
    return repr(number)


def _key(key):
    """A key of a dict: values by type and content, objects by identity."""
    return (type(key), key) if is_value(key) else Same(key)


def unflatten(spec, tensors, numbers=()):
    """What ``flatten`` took apart; of a spec from ``signature``, ``(args, kwargs)``."""
    tensors, numbers = iter(tensors), iter(numbers)
    if type(spec) is tuple and spec[0] == "args":
        args = tuple([_rebuild(s, tensors, numbers) for s in spec[1]])
        return args, {name: _rebuild(s, tensors, numbers) for name, s in spec[2]}
    return _rebuild(spec, tensors, numbers)


def _rebuild(spec, tensors, numbers):
    if spec is _TENSOR:
        return next(tensors)
    what, kind = spec[:2]
    if what in (_FREE, "="):
        return next(numbers)
    if what == "object" or what == "array":
        return kind.thing
    if what == "value":
        return spec[2].value
    if what == "dict":
        return _rebuild_dict(spec, tensors, numbers)
    if what == "record":
        made = object.__new__(kind)
        for name, part in spec[2]:
            object.__setattr__(made, name, _rebuild(part, tensors, numbers))
        return made
    parts = [_rebuild(s, tensors, numbers) for s in spec[2]]
    if what == "slice":
        return slice(*parts)
    return kind(*parts) if hasattr(kind, "_fields") else kind(parts)


def _rebuild_dict(spec, tensors, numbers):
    _, kind, parts, extra = spec
    made = kind.__new__(kind)
    if extra is not None:
        made.default_factory = extra.thing
    for key, part in parts:
        key = key.thing if type(key) is Same else key[1]
        value = _rebuild(part, tensors, numbers)
        (collections.OrderedDict if isinstance(made, collections.OrderedDict)
         else dict).__setitem__(made, key, value)
    return made
