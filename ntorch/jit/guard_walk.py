"""The walk over Python state: from what a function can name to the values that it may read.

Roots are the function itself, objects among its arguments, and the globals, cells and defaults of
every user function that ran. From there the walk follows attributes that the code names,
containers, and all state of modules, optimizers and other objects whose methods are not user code.
Names come in while functions are entered, so known objects are asked again for each new name: every
value is noted before the code that may change it runs.
"""
import collections
import dataclasses
import sys
import threading
import types

import numpy as np

from ..ops.base import TensorBase
from .guard_code import USER, names_of, owner_of_class
from .guard_modules import OPTIONS_NAMED, options_named
from .guard_things import Known, Things
from .guards import MISSING, MOST, Guard, Path, Summary, is_value

MOST_GUARDS = 20000
_DEPTH = 12
_CONTAINERS = (list, tuple, dict, set, frozenset, collections.deque)


class Walk(Things):
    """Collects ``guards``; ``impure`` holds reasons why no guard can do."""

    def __init__(self):
        self.guards, self.impure, self.tensors = [], {}, []
        self.optimizers = []        # (optimizer, its name) of those that were reached
        self.names, self.maybe, self.everything = {"forward"}, set(), False
        self.seen, self.executed = {}, {}
        self.functions = collections.defaultdict(list)      # id of code -> functions
        self.places = collections.defaultdict(list)         # id of code -> (class, name)
        self._known, self._globals, self._shared_names = [], {}, {}

    # What comes in

    def enter(self, code, space):
        """User code is about to run for the first time, with the globals ``space``."""
        self.executed[id(code)] = code
        found = names_of(code)
        self._read_globals(space, found)
        self._read_imports(space, found)
        if found.attributes & OPTIONS_NAMED and not self.names & OPTIONS_NAMED:
            options_named(self)
        fresh, self.names = found.attributes - self.names, self.names | found.attributes
        absent, self.maybe = found.maybe - self.maybe, self.maybe | found.maybe
        if found.everything and not self.everything:
            self.everything = True
            for known in list(self._known):
                self._read(known, fresh, absent)
        elif fresh or absent:
            for known in list(self._known):
                self._read(known, fresh, absent)
        for function in self.functions.get(id(code), ()):
            self._function_state(function)
        for cls, name in self.places.get(id(code), ()):
            self._class_attribute(cls, name)

    def argument(self, value, depth=0):
        """An argument: the signature covers containers and values, the walk what objects hold."""
        kind = type(value)
        if depth > _DEPTH or is_value(value) or issubclass(kind, (TensorBase, np.ndarray)):
            return
        if issubclass(kind, (list, tuple, set, frozenset, collections.deque)):
            for element in value:
                self.argument(element, depth + 1)
        elif issubclass(kind, dict):
            for element in dict.values(value):
                self.argument(element, depth + 1)
        elif dataclasses.is_dataclass(kind):
            self.visit(kind, f"class {kind.__qualname__}")
            for name in (f.name for f in dataclasses.fields(value)):
                self.argument(getattr(value, name, None), depth + 1)
        else:
            self.visit(value, f"argument of class {kind.__qualname__}")

    def add(self, test, constants, text, read=None, old=None, owner=None):
        """One more guard (see ``Guard``)."""
        if len(self.guards) < MOST_GUARDS:
            self.guards.append(Guard(test, constants, text, read, old, owner))
        else:
            self.impure.setdefault("too much", f"it reads more than {MOST_GUARDS} Python values")

    # Values and containers

    def value(self, path, value, depth=0):
        """Guard what ``path`` leads to now: ``value``."""
        read, number = path.read, "{" + str(len(path.constants)) + "}"
        constants = (*path.constants, value)
        if is_value(value):
            test = f"{read} is {number}"
            if value is not None and value is not True and value is not False:
                test = f"({read} is {number}) or same({read}, {number})"
            self.add(test, constants, path.text, read, value)
        elif issubclass(type(value), _CONTAINERS):
            self._container(path, value, depth)
        else:
            self.add(f"{read} is {number}", constants, path.text, read, value)
            if issubclass(type(value), np.ndarray):
                self._array(value, path.text)
            else:
                self.visit(value, path.text)

    def _container(self, path, value, depth):
        read, kind = path.read, type(value)
        base = len(path.constants)
        if len(value) > MOST or depth > _DEPTH:
            self.add(f"{read} is {{{base}}} and len({read}) == {{{base + 1}}}",
                        (*path.constants, value, len(value)),
                        f"{path.text}, which has {len(value)} elements, was replaced or resized")
            return
        self.add(f"type({read}) is {{{base}}} and len({read}) == {{{base + 1}}}",
                    (*path.constants, kind, len(value)), path.text, read, Summary(value))
        if isinstance(value, dict):
            self._dict(path, value, depth)
        elif isinstance(value, set | frozenset):
            self.add(f"same_set({read}, {{{base}}})", (*path.constants, frozenset(value)),
                        f"the elements of {path.text} changed")
            for element in value:
                if not is_value(element):
                    self.visit(element, f"element of {path.text}")
        else:
            form = "{path}[{key}]"
            if isinstance(value, list | tuple) and kind not in (list, tuple):
                form = ("list" if isinstance(value, list) else "tuple") + "_item({path}, {key})"
            for i, element in enumerate(collections.deque.__iter__(value) if isinstance(
                    value, collections.deque) else tuple(value)):
                self.value(path.item(i, form=form), element, depth + 1)
        if vars(value) if hasattr(value, "__dict__") else False:
            self.visit(value, path.text)

    def _dict(self, path, value, depth):
        base = len(path.constants)
        form = "{path}[{key}]"
        if type(value) not in (dict, collections.OrderedDict):
            form = "dict_get({path}, {key}, MISSING)"
        keys = tuple(dict.keys(value))
        for key in keys:
            name = f"{path.text}[{key!r}]" if is_value(key) else f"an element of {path.text}"
            self.value(path.item(key, name, form), dict.__getitem__(value, key), depth + 1)
            if not is_value(key):
                self.visit(key, f"a key of {path.text}")
        if len(keys) > 1:
            self.add(f"same_order({path.read}, {{{base}}})", (*path.constants, keys),
                        f"the order of {path.text} changed")

    # Classes

    def shared(self, cls):
        """``name -> class`` for what user classes in the line of ``cls`` define."""
        held = self._shared_names.get(id(cls))
        if held is None:
            held = self._shared_names[id(cls)] = (_shared(cls), cls)
        return held[0]

    def _class(self, cls, text):
        shared = self.shared(cls)
        if not shared:
            return
        for name, owner in shared.items():
            code = getattr(_inner(owner.__dict__[name]), "__code__", None)
            if code is not None:
                self.functions[id(code)].append(_inner(owner.__dict__[name]))
                self.places[id(code)].append((cls, name))
                if id(code) in self.executed:
                    self._function_state(_inner(owner.__dict__[name]))
                    self._class_attribute(cls, name)
        self.remember(Known(cls, None, f"class {cls.__qualname__}", shared))

    def _class_attribute(self, cls, name):
        owner = self.shared(cls).get(name)
        if owner is None:
            return
        held = owner.__dict__[name]
        text = f"{name} of class {cls.__qualname__}"
        if isinstance(held, types.FunctionType | property) or not hasattr(held, "__get__"):
            if name.isidentifier() and not name.startswith("__"):
                self.value(Path(f"{{0}}.{name}", (cls,), text), held)
                return
        self.value(Path("{0}[{1}]", (owner.__dict__, name), text), held)

    # Objects

    def _object(self, thing, text):
        cls = type(thing)
        if issubclass(cls, threading.local):      # each thread has attributes of its own
            self.remember(Known(thing, None, text, None, True, tuple(vars(thing))))
            return
        module = cls.__module__ or ""
        if module.startswith("numpy.random") and cls.__name__ in ("Generator", "RandomState"):
            self.impure.setdefault(text, f"{text} draws random numbers that ntorch does not see")
            return
        if hasattr(cls, "__next__"):
            self.impure.setdefault(text, f"{text} is an iterator ({cls.__name__}) that lives on "
                                   "between calls")
            return
        self.visit(cls, f"class {cls.__qualname__}")
        for name in ("__wrapped__", "func"):
            if cls.__module__ == "functools" and hasattr(thing, name):
                self.visit(getattr(thing, name), text)
        own = getattr(thing, "__dict__", None)
        slots = tuple(name for base in cls.__mro__ for name in _slots(base)) if (
            owner_of_class(cls) == USER) else ()
        self.add("type({0}) is {1}", (thing, cls), f"the class of {text} changed")
        if type(own) is dict:
            self.add("{0}.__dict__ is {1}", (thing, own), f"__dict__ of {text} was replaced")
        whole = any(owner_of_class(base) != USER and base not in _BASES for base in cls.__mro__)
        name = text if len(text) < 80 else f"an object of class {cls.__qualname__}"
        self.remember(Known(thing, own if type(own) is dict else None, name, self.shared(cls),
                              whole, slots))

    def remember(self, known):
        """Read the attributes of ``known`` that code names, now and whenever a new name comes."""
        self._known.append(known)
        self._read(known, self.names, self.maybe)

    def _read(self, known, names, maybe):
        space, every = known.space, self.everything and type(known.thing) is not types.ModuleType
        if every and isinstance(known.thing, TensorBase):       # what it is guards itself
            every, names = False, names | {n for n in space if not n.startswith("_")}
        if space is not None:
            whole = known.whole or every
            if whole:
                self.read_whole(space, known.text)
            for name in list(space) if whole else space.keys() & names:
                self.attribute(space, name, known.text)
        for name in list(known.shared) if every else known.shared.keys() & names:
            self._read_shared(known, name)
        for name in known.slots:
            if every or known.whole or name in names:
                self._slot(known, name)
        if space is not None:
            for name in maybe if "__getattr__" not in known.shared else maybe | set(names):
                self._absent(known, name)

    def attribute(self, space, name, text):
        """Guard ``space[name]``, once."""
        if (id(space), name) not in self.seen:
            self.seen[id(space), name] = space
            self.value(self.attribute_path(space, name, text), space[name])

    @staticmethod
    def attribute_path(space, name, text):
        """The path to ``space[name]``, an attribute of what ``text`` names."""
        if isinstance(name, str) and name.isidentifier():
            return Path(f"{{0}}[{name!r}]", (space,), f"{name} of {text}")
        return Path("{0}[{1}]", (space, name), f"{name} of {text}")

    def read_whole(self, space, text):
        """Whatever attribute comes or goes counts."""
        key = (id(space), None)
        if key not in self.seen:
            self.seen[key] = space
            self.add("len({0}) == {1}", (space, len(space)),
                     f"attributes of {text} were added or removed")

    def _read_shared(self, known, name):
        """An attribute that the class defines, and that the object does not hide."""
        cls = known.thing if isinstance(known.thing, type) else type(known.thing)
        key = (id(cls), name, "shared")
        if key not in self.seen:
            self.seen[key] = cls
            self._class_attribute(cls, name)
        if known.space is not None and name not in known.space:
            self._absent(known, name, hides=True)

    def _slot(self, known, name):
        key = (id(known.thing), name, "slot")
        if key not in self.seen and not name.startswith("__"):
            self.seen[key] = known.thing
            held = getattr(known.thing, name, MISSING)
            if held is MISSING:
                self.add(f"not hasattr({{0}}, {name!r})", (known.thing,),
                            f"{name} of {known.text} was set")
            else:
                self.value(Path(f"{{0}}.{name}", (known.thing,), f"{name} of {known.text}"), held)

    def _absent(self, known, name, hides=False):
        space = known.space
        if space is None or name in space or (id(space), name) in self.seen:
            return
        cls = type(known.thing)
        held = cls.__dict__.get(name) if not hides else known.shared[name].__dict__[name]
        if hasattr(type(held), "__set__") and held is not None:
            return                      # a property cannot be hidden
        self.seen[id(space), name] = space
        self.add(f"{name!r} not in {{0}}", (space,), f"{name} of {known.text} was set")

    # Globals

    def _read_globals(self, space, found):
        module = space.get("__name__", "?")
        held = self._globals.setdefault(id(space), (space, set()))[1]
        for name in found.globals - held:
            held.add(name)
            if (id(space), name) in self.seen:
                continue
            self.seen[id(space), name] = space
            if name in space:
                self.value(Path(f"{{0}}[{name!r}]", (space,), f"global {name} of {module}"),
                           space[name])
            else:
                self.add(f"{name!r} not in {{0}}", (space,), f"global {name} of {module} was "
                            "defined")

    def _read_imports(self, space, found):
        """Modules that the function itself imports."""
        package = space.get("__package__")
        for name in found.imports:
            for full in (name, f"{package}.{name}" if package else name, package):
                module = sys.modules.get(full)
                if module is not None:
                    self.visit(module, f"module {full}")


def _slots(cls):
    names = cls.__dict__.get("__slots__", ())
    return (names,) if isinstance(names, str) else tuple(names)


def _inner(held):
    """The function in a staticmethod, a classmethod, a property or a cached property."""
    for name in ("__func__", "fget", "func", "__wrapped__"):
        inner = getattr(held, name, None)
        if isinstance(inner, types.FunctionType):
            return inner
    return held


def _bases():
    import abc
    import typing
    return {object, abc.ABC, typing.Generic, typing.Protocol, types.SimpleNamespace}


_BASES = _bases()


def _shared(cls):
    """``name -> class`` for attributes that user classes of ``cls.__mro__`` define."""
    found = {}
    for base in cls.__mro__:
        if owner_of_class(base) == USER:
            for name in base.__dict__:
                found.setdefault(name, base)
        else:
            for name in base.__dict__:      # what a library class defines hides what comes later
                if name in found or base in _BASES:
                    continue
                found[name] = None
    return {name: owner for name, owner in found.items() if owner is not None}
