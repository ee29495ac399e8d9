"""Compiled programs: tracing, saving, loading and looking at them.

``trace`` and ``script`` compile a function or module, ``save`` and ``load`` carry it in a file
without its Python code, ``draw`` shows its kernels. ``verdicts`` lists what eager mode runs as
programs: composites and gradient rules.
"""
import importlib

_PLACES = {
    **dict.fromkeys((
        "trace", "script", "freeze", "optimize_for_inference", "annotate", "interface", "Final",
        "Traced", "ScriptModule", "ScriptFunction"), "api"),
    **dict.fromkeys(("ignore", "unused", "export", "is_scripting", "is_tracing", "Error"), "marks"),
    "verdicts": "inline", "save": "saving", "LoadedProgram": "stored", "draw": "drawing",
    "profile": "profiling",
}


def load(file):
    """The program in a file that ``save`` wrote; see ``stored.load_program``."""
    from .stored import load_program
    return load_program(file)


def __getattr__(name):
    if name not in _PLACES:
        raise AttributeError(f"module 'ntorch.jit' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_PLACES[name]}"), name)
    globals()[name] = value
    return value


def __dir__():
    return sorted({*globals(), *_PLACES})


__all__ = ["load", *_PLACES]
