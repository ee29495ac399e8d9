"""Marks on functions that ``jit.script`` honours: what stays Python, what is left out.

A marked function is wrapped: at each call the wrapper asks the thread's recorder, if there is one,
whether it records for ``jit.script``. Everywhere else the function is what it was.
"""
import functools

from ..runtime import recording

_MARK = "_torchscript_modifier"
DROPPED = "This Python function is annotated to be ignored and cannot be run"


class Error(RuntimeError):
    """What a scripted function raises by itself."""


def ignore(drop=False, **keywords):
    """Decorator: under ``jit.script`` the function stays a call of Python, at every call.

    What was recorded before it is run first, so that it sees real values; what it does (side
    effects, NumPy, branches on values) it does as without ``script``, and what it returns goes on
    in the next program. A file of ``jit.save`` cannot call Python: saving raises RuntimeError.
    With ``drop=True`` the function is left out, as ``unused`` says. ``trace`` and ``compile``
    run through it. RuntimeError if ``drop`` is neither a bool nor a function.
    """
    if callable(drop) or isinstance(drop, property):
        return _marked(drop, _plainly, "ignored (leave as a call to Python, cannot be "
                       "torch.jit.save'd)")
    if not isinstance(drop, bool):
        raise RuntimeError(f"Argument to @jit.ignore must be a bool or a function but got {drop}")
    return unused if drop or keywords.get("drop_on_export") else ignore


def unused(function):
    """Decorator: under ``jit.script``, and so in a file of ``jit.save``, a call of the function
    raises ``jit.Error``; elsewhere it is what it was. A property may be marked too."""
    return _marked(function, _never, "unused (ignored and replaced with raising of an exception)")


def export(function):
    """Decorator: ``jit.script`` of a module makes programs of this method, as of ``forward``."""
    try:
        setattr(function, _MARK, "export (compile this function even if nothing calls it)")
    except AttributeError:
        pass            # a builtin is no method of a module
    return function


def is_exported(method):
    """Whether a method was marked with ``export``."""
    return getattr(method, _MARK, "").startswith("export")


def _marked(function, call, mark):
    if isinstance(function, property):
        return property(*(f and _marked(f, call, mark) for f in (
            function.fget, function.fset, function.fdel)), function.__doc__)
    if isinstance(function, staticmethod | classmethod):
        return type(function)(_marked(function.__func__, call, mark))

    @functools.wraps(function)
    def marked(*args, **kwargs):
        if recording.active and is_scripting():
            return call(function, args, kwargs)
        return function(*args, **kwargs)
    setattr(marked, _MARK, mark)
    return marked


def name_of(function):
    """How errors name a function."""
    return getattr(function, "__qualname__", None) or type(function).__qualname__


def _plainly(function, args, kwargs):
    from .compile import paused
    name = name_of(function)
    recording.current().ignored.append(name)
    with paused(f"{name}, which is marked jit.ignore, was called"):
        return function(*args, **kwargs)


def _never(function, args, kwargs):
    raise Error(f"{name_of(function)}: {DROPPED} by jit.script. It is marked jit.unused or "
                "jit.ignore(drop=True): do not call it, or mark it jit.ignore, which leaves the "
                "call to Python")


def _kind():
    recorder = recording.current() if recording.active else None
    return None if recorder is None else recorder.kind


def is_scripting():
    """Whether a function or module that ``jit.script`` was given runs on this thread: False in
    plain Python, in functions marked ``ignore``, and under ``trace`` and ``compile``."""
    return _kind() == "script"


def is_tracing():
    """Whether ``jit.trace`` records on this thread."""
    return _kind() == "trace"


def is_compiling():
    """Whether ``compile``, ``trace`` or ``script`` records on this thread, and not ``lazy()``."""
    return _kind() in ("compile", "trace", "script")


__all__ = ["DROPPED", "Error", "export", "ignore", "is_compiling", "is_exported", "is_scripting",
           "is_tracing", "name_of", "unused"]
