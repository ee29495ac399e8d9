"""``ntorch.compile`` and ``ntorch.lazy``: run whole functions as programs of fused kernels."""
import contextlib
import functools

import ntorch
from ntorch.nn import Module

_switch = {"on": True}


class OptimizedModule(Module):
    """A module whose calls run as programs; attributes and state are those of the module itself.

    ``_orig_mod`` is the module, as in torch.
    """

    def __init__(self, module, **options):
        super().__init__()
        self._orig_mod = module
        self.__dict__["_program"] = _compiled(module, **options)
        object.__setattr__(self, "__doc__", module.__doc__)

    def __call__(self, *args, **kwargs):
        return self._program(*args, **kwargs) if _switch["on"] else self._orig_mod(*args, **kwargs)

    def __getattr__(self, name):
        if name == "_orig_mod":
            return self._modules["_orig_mod"]
        own = self._modules["_orig_mod"]
        if name in ("source", "graph") and not hasattr(own, name):
            return getattr(self._program, name)
        return getattr(own, name)

    def __setattr__(self, name, value):
        own = "_orig_mod" not in self.__dict__.get("_modules", ())      # still in __init__
        if own or name in ("training", "_orig_mod"):
            return super().__setattr__(name, value)
        return setattr(self._orig_mod, name, value)

    def train(self, mode=True):
        """Put the module in training mode (or, with False, evaluation mode)."""
        self._orig_mod.train(mode)
        return super().train(mode)

    def explain(self):
        """What was traced, why, and what came out."""
        return self._program.explain()

    def programs(self):
        """The compiled variants."""
        return self._program.programs()

    def __reduce_ex__(self, protocol):
        return OptimizedModule, (self._orig_mod,)


def _compiled(function, fullgraph=False, dynamic=None):
    from .jit.compile import Compiled
    return Compiled(function, fullgraph, dynamic)


def compile(model=None, *, fullgraph=False, dynamic=None, backend="ntorch", mode=None,
            options=None, disable=False):
    """Run ``model`` (a module, function or method) as one program of fused kernels.

    The first call with a new signature (shapes, dtypes, what the Python reads) traces and compiles;
    later ones run the program. Results, gradients, changed arguments and random numbers are those
    of the plain call. What cannot be one program (a value read in the middle) runs in segments;
    with ``fullgraph`` it raises RuntimeError. ``compiled.explain()`` says what happened. Works as a
    decorator too. Sizes never reach generated kernels: a new batch size costs a trace, and
    compilation only if it is the first on its side of a threshold, such as products of few rows.
    With ``dynamic=True`` a dimension that has a second size is tried with many others, and what
    they need is compiled at once, so that no later size compiles. ``mode`` and ``options`` choose
    nothing here, nor do torch's names of backends. ``backend="eager"`` or ``disable=True`` give the
    function back as it is.

    TypeError if ``model`` cannot be called or ``backend`` is no name; RuntimeError if a name of a
    backend or mode is unknown.
    """
    if model is None:
        return functools.partial(compile, fullgraph=fullgraph, dynamic=dynamic, backend=backend,
                                 mode=mode, options=options, disable=disable)
    if not callable(model):
        raise TypeError(f"compile() expected a module or function, got {type(model).__name__}; "
                        "pass something that can be called")
    _check_options(backend, mode)
    if disable or backend == "eager":
        return model
    if isinstance(model, Module):
        return OptimizedModule(model, fullgraph=fullgraph, dynamic=dynamic)
    return _compiled(model, fullgraph, dynamic)


BACKENDS = ("ntorch", "eager")
# what programs for torch ask for by name; all of them mean this compiler
_TORCHS = ("inductor", "aot_eager", "cudagraphs", "openxla", "onnxrt", "tvm", "ipex")
MODES = ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")


def _check_options(backend, mode):
    """RuntimeError for names that neither torch nor ntorch has; TypeError for backends of one's
    own, which get a graph of torch.fx."""
    if not isinstance(backend, str):
        raise TypeError(f"compile(): expected the name of a backend, one of {', '.join(BACKENDS)}, "
                        f"got {backend!r}; backends that are functions take graphs of torch.fx, "
                        "which ntorch does not make")
    if backend not in (*BACKENDS, *_TORCHS):
        raise RuntimeError(f"compile(): invalid backend {backend!r}; expected one of "
                           f"{', '.join(BACKENDS)}, or a name that torch has for one")
    if mode is not None and mode not in MODES:
        raise RuntimeError(f"Unrecognized mode={mode}, should be one of: {', '.join(MODES)}")


def lazy():
    """A context in which ops are recorded and run, fused, only when a value is needed.

    ``item``, ``numpy``, printing or ``bool`` need a value; the end of the context needs all that
    are still held.
    """
    from .jit.compile import lazily
    return lazily()


def is_compiling():
    """Whether ``compile``, ``jit.trace`` or ``jit.script`` runs a function's Python on this thread;
    in ``lazy()``, which is eager mode in all but time, it is False."""
    from .jit.marks import is_compiling as compiling
    return compiling()


def is_dynamo_compiling():
    """The same as ``is_compiling``."""
    return is_compiling()


def disable(fn=None, recursive=True):
    """Decorator: what ``fn`` does is never part of a trace; it runs as it is, on real values."""
    if fn is None:
        return functools.partial(disable, recursive=recursive)

    @functools.wraps(fn)
    def plainly(*args, **kwargs):
        from .jit.compile import paused
        with paused():
            return fn(*args, **kwargs)
    return plainly


def reset():
    """Forget every program of segments and of eager mode; compiled functions keep theirs."""
    from .jit import inline, segments
    segments.clear()
    inline.clear()


def list_backends(exclude_tags=()):
    """The names that ``compile(backend=...)`` takes."""
    return ["eager", "ntorch"]


@contextlib.contextmanager
def set_stance(stance="default"):
    """Within the context, ``"force_eager"`` makes compiled modules run their Python."""
    if stance not in ("default", "force_eager"):
        raise RuntimeError(f"set_stance: expected 'default' or 'force_eager', got {stance!r}")
    before, _switch["on"] = _switch["on"], stance == "default"
    try:
        yield
    finally:
        _switch["on"] = before


def cudagraph_mark_step_begin():
    """Nothing to mark on a CPU; for programs written for torch."""


__all__ = ["OptimizedModule", "compile", "disable", "is_compiling", "lazy", "list_backends",
           "ntorch", "reset", "set_stance"]
