"""What compiled calls return besides tensors: containers made anew at each call, numbers of the
call, and objects that were there before."""
import collections
import dataclasses
import functools
import gc
import sys
import types

import numpy as np

from ..ops.base import Size, TensorBase, collected
from ..runtime import recording
from .guards import is_value
from .ir import Dynamic
from .tree import fields_of, tensors_of
from .unfit import Unfit

_CONSTANT = (type, types.FunctionType, types.BuiltinFunctionType, types.MethodType,
             types.ModuleType)
_SEQUENCES = (list, tuple, set, frozenset, collections.deque)


def _parts(value):
    """What a container or record holds; None if it is neither."""
    if isinstance(value, _SEQUENCES):
        return list(value)
    if isinstance(value, dict):
        return list(dict.values(value))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [getattr(value, name) for name in fields_of(value)]
    return None


def fresh_of(result, since):
    """Ids of the things in a result that a watched function made itself (``guard_watch.Watch`` lets
    the youngest generation of the collector be those). None if objects were collected ``since``:
    then nobody knows."""
    if collected()[1:] != since[1:]:
        return None
    found, stack = {}, [result]
    while stack:
        value = stack.pop()
        if isinstance(value, TensorBase | Dynamic) or is_value(value) or id(value) in found:
            continue
        found[id(value)] = value
        stack += _parts(value) or ()
    if not found:
        return frozenset()
    young = {id(thing) for thing in gc.get_objects(0)}
    value = stack = None
    # what holds nothing that the collector follows is unknown to it: is anybody else holding it?
    return frozenset(i for i in found if i in young or (
        not gc.is_tracked(found[i]) and sys.getrefcount(found[i]) <= 3))


def settled(value, original, real_of):
    """A result of a trace that is no program, with arguments in place of their stand-ins, the
    caller's containers in place of their copies, and plain numbers."""
    if isinstance(value, TensorBase):
        return original(value)
    if type(value) is Dynamic:
        return value.value
    if id(value) in real_of:
        return real_of[id(value)]
    parts = None if is_value(value) else _parts(value)
    if not parts:
        return value
    made = [settled(v, original, real_of) for v in parts]
    if all(a is b for a, b in zip(made, parts, strict=True)):
        return value
    return _filled(value, made)


def _filled(value, parts):
    """A container of the kind of ``value`` that holds ``parts``; lists, dicts and records are
    changed in place, for others may hold them."""
    if isinstance(value, tuple):
        return getattr(type(value), "_make", type(value))(parts)
    if isinstance(value, dict):
        for key, part in zip(list(dict.keys(value)), parts, strict=True):
            dict.__setitem__(value, key, part)
    elif isinstance(value, list | collections.deque):
        for place, part in enumerate(parts):
            value[place] = part
    elif isinstance(value, set):
        value.clear()
        value.update(parts)
    elif isinstance(value, frozenset):
        return type(value)(parts)
    else:
        for name, part in zip(fields_of(value), parts, strict=True):
            object.__setattr__(value, name, part)
    return value


def kept_numbers(graph, made, nest):
    """Who keeps numbers of the call, ``Dynamic`` ones among ``made``, besides the graph and the
    ``nest`` of arguments: dicts, lists and deques."""
    numbers = [n for n in made if type(n) is Dynamic]
    if not numbers:
        return []
    stack, seen = [nest], {}
    known = {id(graph.actions), id(made), id(numbers), id(seen)}
    for node in graph.nodes:
        known |= {id(getattr(node, name, None)) for name in ("operands", "slots")}
    while stack:
        value = stack.pop()
        if id(value) in seen:
            continue
        seen[id(value)] = value
        if not (isinstance(value, dict) and any(type(key) is Dynamic for key in value)):
            known |= {id(value), id(getattr(value, "__dict__", None))}
        stack += _parts(value) or ()
    found = []
    for holder in gc.get_referrers(*numbers):
        space = getattr(holder, "__dict__", holder)     # an object's own holds its attributes
        if isinstance(space, dict | list | collections.deque) and not {
                id(holder), id(space)} & known:
            found.append(space)
    return found


def give_numbers(keepers):
    """Let keepers of numbers of the call keep plain ones."""
    for space in keepers:
        if isinstance(space, dict):
            items = list(dict.items(space))
            if any(type(key) is Dynamic for key, _ in items):
                space.clear()
            for key, value in items:
                dict.__setitem__(space, _plain(key), _plain(value))
        else:
            for place, value in enumerate(space):
                space[place] = _plain(value)


def _plain(value):
    return value.value if type(value) is Dynamic else value


class Rebuilder:
    """Makes the result of a call: ``rebuild(tensors)``, of an iterator over its tensors."""

    def __init__(self, result, fresh, copies):
        self.fresh, self.copies = fresh, copies
        self.make = self._maker(result)

    def __call__(self, tensors):
        return self.make(tensors)

    def _maker(self, value):
        if isinstance(value, TensorBase):
            return next
        if type(value) is Dynamic:
            return lambda tensors: value.read()
        if id(value) in self.copies:
            raise Unfit("it returns a list or dict that it was given")
        parts = None if is_value(value) else _parts(value)
        if parts is not None and (isinstance(value, tuple) or self._is_fresh(value)):
            _check_plain(value)
            return self._container(value, [self._maker(p) for p in parts])
        if parts is not None:
            return _kept(value)
        if is_value(value) or not self._is_fresh(value):
            return lambda tensors: value
        if isinstance(value, np.ndarray):
            return lambda tensors: value.copy()
        if not isinstance(value, _CONSTANT) or _has_state(value):
            raise Unfit(f"it returns a new object of class {type(value).__qualname__}")
        return lambda tensors: value

    def _is_fresh(self, value):
        if self.fresh is None:
            raise Unfit("objects were collected during the trace: what it made itself is not known")
        return id(value) in self.fresh

    def _container(self, value, makers):
        kind = type(value)
        if isinstance(value, dict):
            return functools.partial(_dict, value, list(zip(dict.keys(value), makers,
                                                            strict=True)))
        if isinstance(value, _SEQUENCES):
            make = getattr(kind, "_make", kind)
            if kind is tuple or kind is list:
                return lambda tensors: kind([m(tensors) for m in makers])
            if kind is collections.deque:
                make = functools.partial(collections.deque, maxlen=value.maxlen)
            return lambda tensors: make([m(tensors) for m in makers])
        return functools.partial(_record, value, list(zip(fields_of(value), makers, strict=True)))


def _kept(value):
    """How a call gives a container that was there before: as it is, past its tensors."""
    held = tensors_of(value)
    if any(recording.is_fake(t._address) for t in held):
        raise Unfit("it returns a container that was there before, with tensors of the call")

    count = len(held)           # of the tensors none is kept alive

    def keep(tensors):
        for _ in range(count):
            next(tensors)
        return value
    return keep


def _check_plain(value):
    """Unfit if a container is more than what it holds: then only its own code can make another."""
    kind = type(value)
    plain = (list, dict, set, frozenset, tuple, Size, collections.deque, collections.OrderedDict,
             collections.defaultdict)
    if isinstance(value, set | frozenset | collections.deque) and tensors_of(_parts(value)):
        raise Unfit(f"it returns a {kind.__qualname__} of tensors")
    if kind in plain or isinstance(value, tuple) and hasattr(kind, "_make"):
        return
    extra = set(getattr(value, "__dict__", ()))
    if dataclasses.is_dataclass(value):
        extra -= {f.name for f in dataclasses.fields(value)}
    elif kind.__new__ not in [k.__new__ for k in plain] or isinstance(
            value, tuple | set | frozenset | collections.deque):
        extra.add("__new__")
    if extra:
        raise Unfit(f"it returns a new object of class {kind.__qualname__}")


def _has_state(value):
    """Whether a function is one of this call: bound to an object, or with values of its own."""
    return isinstance(value, types.MethodType) or isinstance(value, types.FunctionType) and bool(
        value.__closure__ or value.__defaults__ or value.__kwdefaults__)


def _dict(value, makers, tensors):
    made = type(value).__new__(type(value))
    if isinstance(value, collections.defaultdict):
        made.default_factory = value.default_factory
    for key, make in makers:
        (collections.OrderedDict if isinstance(made, collections.OrderedDict)
         else dict).__setitem__(made, key, make(tensors))
    return made


def _record(value, makers, tensors):
    made = object.__new__(type(value))
    for name, make in makers:
        object.__setattr__(made, name, make(tensors))
    return made
