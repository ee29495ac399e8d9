"""torch.jit's names: functions and modules as programs, by tracing."""
import functools
import typing

from ..autograd.modes import no_grad
from ..ops.base import TensorBase
from ..ops.registry import ops
from .compile import Compiled
from .explain import source_text
from .marks import is_exported, name_of
from .saving import save
from .tree import replaced, tensors_of

Final = typing.Final


class Traced:
    """A function or module as programs, one for each form of its inputs; call it like that.

    Attributes of a traced module (``parameters``, ``state_dict``, ``eval``, ...) are reached
    through it. ``save(file)`` writes what ``ntorch.jit.load`` reads.
    """

    def __init__(self, function, kind="trace"):
        self.compiled = Compiled(function, fullgraph=True, kind=kind)
        functools.update_wrapper(self, function, updated=())

    def __call__(self, *arguments, **keywords):
        try:
            return self.compiled(*arguments, **keywords)
        except RuntimeError as error:
            if "fullgraph=True" not in str(error):
                raise
            name = name_of(self.original)
            reason = str(error).partition(": the function cannot be one program: ")[2]
            raise RuntimeError(
                f"jit: {name} cannot be one program: {reason}. What depends on the values of "
                "tensors cannot be traced: write it with ntorch.where, or use ntorch.compile, "
                "which runs such functions in segments") from None

    @property
    def original(self):
        """The function or module that was given."""
        return self.compiled.function

    def save(self, file):
        """Write the programs to a file; see ``jit.save``."""
        save(self, file)

    @property
    def graph(self):
        """The steps of the programs as text."""
        return "\n\n".join("\n".join(map(repr, p.nodes)) for p in self._programs())

    def source(self):
        """The generated kernels as the Python they are."""
        return "\n".join(source_text(p) for p in self._programs())

    code = property(source)

    def explain(self):
        """What was traced, and why."""
        return self.compiled.explain()

    def _programs(self):
        made = [p for v in self.compiled.programs() for p in (v.forward, v.backward)]
        return [p for p in made if p is not None]

    def __getattr__(self, name):
        if name == "compiled":
            raise AttributeError(name)
        value = getattr(self.original, name)
        if self.compiled.kind == "script" and is_exported(value):
            value = self.__dict__[name] = ScriptFunction(value, "script")
        return value

    def __repr__(self):
        return f"{type(self).__name__}({self.original!r})"


class ScriptFunction(Traced):
    """A traced function."""


class ScriptModule(Traced):
    """A traced module."""

    def eval(self):
        """Evaluation mode, for which it is traced again."""
        self.original.eval()
        return self

    def train(self, mode=True):
        """Training mode, for which it is traced again."""
        self.original.train(mode)
        return self


def _wrapped(obj, kind):
    return (ScriptModule if hasattr(obj, "named_parameters") else ScriptFunction)(obj, kind)


def trace(func, example_inputs=None, optimize=None, check_trace=True, check_inputs=None,
          check_tolerance=1e-5, strict=True, *, example_kwarg_inputs=None):
    """Trace a function or module with example inputs; returns what runs as one program.

    ``example_inputs`` is a tensor or a tuple of arguments. With ``check_trace`` the program's
    results are compared with the function's own (and for each tuple of ``check_inputs``).
    RuntimeError if they differ by more than ``check_tolerance``, or if the function reads values of
    tensors, so that it is no single program. Inputs of other shapes are traced when they come.
    """
    del optimize, strict
    if isinstance(func, Traced):
        return func
    given = _arguments(example_inputs)
    keywords = dict(example_kwarg_inputs or {})
    traced = _wrapped(func, "trace")
    with no_grad():
        for arguments in (given, *map(_arguments, check_inputs or ())):
            # before the trace: what Python imports and sets up at a first call is no part of it
            expected = func(*replaced(arguments, ops.clone), **keywords) if check_trace else None
            found = traced(*arguments, **keywords)
            if check_trace:
                _compare(expected, found, check_tolerance)
    return traced


def _arguments(example):
    if example is None:
        return ()
    if isinstance(example, TensorBase):
        return (example,)
    return tuple(example)


def _compare(expected, found, tolerance):
    for number, (a, b) in enumerate(zip(tensors_of(expected), tensors_of(found), strict=True)):
        if a._shape != b._shape or a.dtype is not b.dtype or not ops.allclose(
                a, b, rtol=tolerance, atol=tolerance, equal_nan=True):
            raise RuntimeError(
                f"jit.trace: result {number} of the program differs from that of the function; a "
                "function that draws random numbers differs from call to call: give "
                "check_trace=False")


def script(obj, optimize=None, _frames_up=0, _rcb=None, example_inputs=None):
    """A function or module that is traced at its first call, and anew for other forms of inputs.

    There is no compiler of Python here: control flow that depends on sizes, dtypes and Python
    values is followed when it is traced; flow that depends on values in tensors raises RuntimeError
    at the call, and says which op read a value. Functions marked ``ignore``, ``unused`` and
    ``export`` are treated as those say (``marks.py``). TypeError for what cannot be called.
    """
    del optimize, _frames_up, _rcb
    if isinstance(obj, (Traced, type)):
        return obj              # classes need no declaration
    if not callable(obj):
        raise TypeError(f"jit.script expects a function or module, but got {type(obj).__name__}")
    scripted = _wrapped(obj, "script")
    for arguments in example_inputs or ():
        scripted(*arguments)
    return scripted


def interface(cls):
    """A class that stands for others; Python needs no such declaration."""
    return cls


def annotate(the_type, value):
    """``value``; the type is for readers."""
    del the_type
    return value


def freeze(module, preserved_attrs=None, optimize_numerics=True):
    """A traced module in evaluation mode. Its programs bind parameters by themselves: ``save``
    writes them as constants. RuntimeError in training mode."""
    del preserved_attrs, optimize_numerics
    if getattr(module, "training", False):
        raise RuntimeError("jit.freeze expects a module in evaluation mode; call eval() first")
    return module


def optimize_for_inference(module, other_methods=None):
    """``freeze``: every program is optimised when it is made."""
    del other_methods
    return freeze(module)


__all__ = ["Final", "ScriptFunction", "ScriptModule", "Traced", "annotate", "freeze", "interface",
           "optimize_for_inference", "script", "trace"]
