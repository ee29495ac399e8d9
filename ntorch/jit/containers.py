"""Containers among the arguments of a traced call: a trace works on copies, with stand-ins in place
of tensors, and what the function does to them has to happen to the caller's."""
import collections

from ..ops.base import TensorBase
from .ir import Dynamic
from .signature import fields_of, is_record
from .tree import replaced


class Containers:
    """Pairs of a container of the call and its copy, with what the copy held at first."""

    def __init__(self, real, copies):
        self.pairs, self.real_of = [], {}
        self._pair(real, copies)

    def _pair(self, real, copy):
        if isinstance(real, TensorBase) or real is copy:
            return
        if isinstance(real, dict):
            inside = [(value, dict.get(copy, key)) for key, value in dict.items(real)]
        elif isinstance(real, list | tuple | collections.deque):
            inside = list(zip(real, copy, strict=True))
        elif is_record(real):
            inside = [(value, getattr(copy, name)) for name, value in fields_of(real)]
        else:
            return
        if not isinstance(real, tuple):
            self.pairs.append((real, copy, _contents(copy)))
            self.real_of[id(copy)] = real
        for one, other in inside:
            self._pair(one, other)

    def changed(self):
        """Whether the function changed a container."""
        return any(not _same(_contents(copy), before) for _, copy, before in self.pairs)

    def write_back(self, originals):
        """Change the caller's containers as their copies were; ``originals`` maps ids of stand-ins
        to arguments."""
        def back(value):
            if type(value) is Dynamic:
                return value.value
            if id(value) in self.real_of:
                return self.real_of[id(value)]
            return replaced(value, lambda t: originals.get(id(t), t))
        for real, copy, before in self.pairs:
            now = _contents(copy)
            if _same(now, before):
                continue
            if isinstance(real, dict):
                dict.clear(real)
                for key, value in now:
                    dict.__setitem__(real, key, back(value))
            elif isinstance(real, list | collections.deque):
                real.clear()
                real.extend(back(value) for _, value in now)
            else:
                for name, value in now:
                    object.__setattr__(real, name, back(value))


def _contents(container):
    """``(key, value)`` of everything in it, in order."""
    if isinstance(container, dict):
        return list(dict.items(container))
    if isinstance(container, list | collections.deque):
        return list(enumerate(container))
    return list(fields_of(container))


def _same(one, other):
    return len(one) == len(other) and all(
        key == key_ and value is value_
        for (key, value), (key_, value_) in zip(one, other, strict=True))
