"""Composite entries: plain Python over other ops. Their gradient comes from the tape."""
import inspect

from .registry import Entry, register


def composite(signature, **flags):
    """Register a Python function over ``ops`` under a torch signature.

    The function takes the arguments of the signature in order. An ``out`` argument in the
    signature is handled by the table: the result is copied into it.
    """
    def attach(function):
        entry = Entry(signature, function, composite=True, **flags)
        return register(entry)
    return attach


class PythonEntry(Entry):
    """An entry whose overloads no single schema can express: the function parses them itself."""

    def __init__(self, name, function, **flags):
        super().__init__(f"{name}() -> Tensor", function, composite=True, **flags)

    @property
    def function(self):
        return self.host


def overloaded(name, **flags):
    """Register a function with a Python signature of its own (``max(x)``, ``max(x, dim)``, ...)."""
    def attach(function):
        entry = PythonEntry(name, function, **flags)
        entry.doc = inspect.getdoc(function)
        function.__module__ = "ntorch"
        return register(entry)
    return attach
