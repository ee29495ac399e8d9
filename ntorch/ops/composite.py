"""Composite entries: plain Python over other ops. Their gradient comes from the tape.

Where several kernels come of it, large calls run as one program (``jit/inline.py``): the Python
runs once for each form of its arguments. It must therefore be a function of them: no state, no
random numbers (or it is found out and runs op by op). Warnings go through ``errors.warn``, and a
check of values through ``errors.refuse``.
"""
import inspect

from .registry import Entry, _interpreter, register

_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def composite(signature, **flags):
    """Register a Python function over ``ops`` under a torch signature.

    The function takes the arguments of the signature in order. An ``out`` argument in the
    signature is handled by the table: the result is copied into it. ``fuse=False`` says that it
    makes one kernel whatever its arguments are.
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
        """The function itself; if it may be fused, one like it that asks the tape to run it."""
        made = self.__dict__.get("_function")
        if made is None:
            parameters = inspect.signature(self.host).parameters.values()
            asks = all(p.kind in _NAMED for p in parameters) and self.may_fuse()
            made = self._function = _asking(self, parameters) if asks else self.host
        return made


def _asking(entry, parameters):
    """``name(...)`` with the host's signature, which hands the arguments in order to the tape."""
    scope = {"call": _interpreter["call"], "host": entry.host, "entry": entry}
    text, passed, star = [], [], False
    for p in parameters:
        if p.kind is p.KEYWORD_ONLY and not star:
            text.append("*")
            star = True
        if p.default is p.empty:
            text.append(p.name)
        else:
            scope["_d_" + p.name] = p.default
            text.append(f"{p.name}=_d_{p.name}")
        passed.append(f"{p.name}={p.name}" if star else p.name)
    names = [p.name for p in parameters]
    lines = [f"def {entry.name}({', '.join(text)}):"]
    if "out" in names:          # who writes into given memory is not fused
        lines += ["    if out is not None:", f"        return host({', '.join(passed)})"]
    lines += [f"    return call(entry, ({', '.join(names)},))",
              f"def python({', '.join(names)}):", f"    return host({', '.join(passed)})"]
    exec(compile("\n".join(lines), "<ntorch>", "exec"), scope)
    function, entry.python = scope[entry.name], scope["python"]
    function.__doc__, function.__module__ = entry.doc, "ntorch"
    function.__qualname__, function.__wrapped__ = entry.name, entry.host
    return function


def overloaded(name, **flags):
    """Register a function with a Python signature of its own (``max(x)``, ``max(x, dim)``, ...)."""
    def attach(function):
        entry = PythonEntry(name, function, **flags)
        entry.doc = inspect.getdoc(function)
        function.__module__ = "ntorch"
        return register(entry)
    return attach
