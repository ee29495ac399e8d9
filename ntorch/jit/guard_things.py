"""Things with an identity that a walk over Python state meets: tensors, functions, methods ...

Each method guards the state of one kind of thing; that a name refers to the thing is guarded by
whoever found it there. Classes and plain objects are in ``guard_walk``, layers and optimizers in
``guard_modules``.
"""
import contextvars
import functools
import sys
import types
import weakref

import numpy as np

from ..ops.base import TensorBase
from ..ops.generator import Generator
from .dynamic import Dynamic
from .guard_code import USER, owner_of
from .guards import MISSING, Path, is_value

_OPAQUE = (types.BuiltinFunctionType, types.MethodWrapperType, types.WrapperDescriptorType,
           types.MethodDescriptorType, types.GetSetDescriptorType, types.MemberDescriptorType,
           types.CodeType, types.FrameType, types.TracebackType, types.GenericAlias,
           weakref.ProxyType, weakref.CallableProxyType,
           Generator,       # what it draws is drawn at every run; who looks at it is told of
           Dynamic)         # asked for anew at every run
_HASHED = 1 << 16       # bytes of a NumPy array whose content is compared


class Known:
    """An object whose attributes are read by name: ``space`` is its dict, ``shared`` the names that
    its class defines (name -> owner), ``whole`` says that every attribute counts."""

    __slots__ = ("thing", "space", "shared", "whole", "text", "slots")

    def __init__(self, thing, space, text, shared=None, whole=False, slots=()):
        self.thing, self.space, self.text = thing, space, text
        self.shared, self.whole, self.slots = shared or {}, whole, slots


class Things:
    """The part of ``Walk`` that knows kinds of things."""

    def visit(self, thing, text):
        """Guard the state of an object whose identity is somebody else's guard."""
        if id(thing) in self.seen or type(thing) in _OPAQUE or is_value(thing):
            return
        self.seen[id(thing)] = thing
        for kinds, how in self._ways():
            if issubclass(type(thing), kinds):
                how(thing, text)
                return
        self._object(thing, text)

    def _ways(self):
        nn = sys.modules.get("ntorch.nn.modules.module")
        optim = sys.modules.get("ntorch.optim.optimizer")
        yield TensorBase, self._tensor
        yield types.FunctionType, self._function
        yield type, self._class
        if nn is not None:
            yield nn.Module, self._module
        if optim is not None:
            yield optim.Optimizer, self._optimizer
        yield types.ModuleType, self._python_module
        yield types.MethodType, self._method
        yield property, self._property
        yield (staticmethod, classmethod), self._wrapped
        yield functools.partial, self._partial
        yield contextvars.ContextVar, self._context
        yield weakref.ref, self._reference
        yield np.ndarray, self._array

    def _tensor(self, tensor, text):
        self.tensors.append(tensor)
        d = tensor.__dict__
        # whoever shows a tensor other memory or gives it another form makes a new ``_shape``, and
        # a storage that moves makes a new ``_address``: their identities stand for all the rest
        wants = d.get("_requires_grad", False)
        flag = f"{{0}}['_requires_grad'] is {wants}" if "_requires_grad" in d else (
            "not {0}.get('_requires_grad')")
        self.add("{0}['_shape'] is {1} and {0}['_address'] is {2} and " + flag,
                 (d, d["_shape"], d["_address"]),
                 f"the memory, the form or requires_grad of {text} changed", owner=tensor)
        if any(not name.startswith("_") and name != "dtype" for name in d):
            self.remember(Known(tensor, d, text))       # somebody hung attributes on it
        absent = []
        for name in ("_hooks", "_post_accumulate_hooks"):
            if d.get(name) is not None:
                self.value(Path(f"{{0}}[{name!r}]", (d,), f"hooks of {text}"), d[name])
            elif wants and name not in d:
                absent.append(f"{name!r} not in {{0}}")
        if absent:
            self.add(" and ".join(absent), (d,), f"{text} got a hook", owner=tensor)

    def _function(self, function, text):
        code = function.__code__
        self.functions[id(code)].append(function)
        if "__wrapped__" in function.__dict__:
            self.visit(function.__wrapped__, f"{text}.__wrapped__")
        if owner_of(code.co_filename, function.__module__ or "") == USER:
            self.remember(Known(function, function.__dict__, f"function {function.__name__}"))
            if id(code) in self.executed:
                self._function_state(function)
        else:
            self._cells(function, text)

    def _function_state(self, function):
        name = function.__qualname__
        code = function.__code__
        self.add("{0}.__code__ is {1}", (function, code), f"the code of {name} was replaced")
        for field in ("__defaults__", "__kwdefaults__"):
            self.value(Path(f"{{0}}.{field}", (function,), f"{field} of {name}"),
                       getattr(function, field))
        self._cells(function, name)

    def _cells(self, function, text):
        if function.__closure__:
            names = function.__code__.co_freevars
            for name, cell in zip(names, function.__closure__, strict=True):
                try:
                    held = cell.cell_contents
                except ValueError:
                    continue            # not assigned yet
                self.value(Path("{0}.cell_contents", (cell,), f"{name} in the closure of {text}"),
                           held)

    def _method(self, method, text):
        self.visit(method.__self__, f"{text}.__self__")
        self.visit(method.__func__, f"{text}.__func__")

    def _property(self, thing, text):
        for function in (thing.fget, thing.fset, thing.fdel):
            if function is not None:
                self.visit(function, text)

    def _wrapped(self, thing, text):
        self.visit(thing.__func__, text)

    def _partial(self, thing, text):
        self.visit(thing.func, f"{text}.func")
        self.value(Path("{0}.args", (thing,), f"{text}.args"), thing.args)
        self.value(Path("{0}.keywords", (thing,), f"{text}.keywords"), thing.keywords)

    def _context(self, variable, text):
        self.value(Path("{0}.get({1})", (variable, MISSING), f"context variable {variable.name}"),
                   variable.get(MISSING))

    def _reference(self, reference, text):
        self.value(Path("{0}()", (reference,), f"what {text} refers to"), reference())

    def _python_module(self, module, text):
        name = module.__name__
        if owner_of(getattr(module, "__file__", None) or "<built-in>", name) == USER:
            self.remember(Known(module, vars(module), f"module {name}"))

    def _array(self, array, text):
        if id(array) in self.seen:
            return
        self.seen[id(array)] = array
        if array.nbytes <= _HASHED and not array.dtype.hasobject:
            form = (array.shape, array.dtype, array.tobytes())
            self.add("({0}.shape, {0}.dtype, {0}.tobytes()) == {1}", (array, form),
                        f"the content of the array {text} changed")
        else:
            form = array.__array_interface__
            self.add("{0}.__array_interface__ == {1}", (array, form),
                        f"the array {text} has other memory or another form")

    def _module(self, module, text):
        from .guard_modules import visit_module
        visit_module(self, module, text)

    def _optimizer(self, optimizer, text):
        from .guard_modules import visit_optimizer
        visit_optimizer(self, optimizer, text)
