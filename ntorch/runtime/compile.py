"""The cold path: Numba compiles a plain Python function to an object file.

A function is rebuilt with its globals resolved: stubs become intrinsics, ``T`` and float constants
become the compute type, other kernel functions are compiled and linked.
"""
import functools
import types

import numba
import numpy as np

from ..kernels.stubs import ROLLED, specialised, stays_rolled, typed
from ..kernels.stubs import T as ComputeType
from . import cpu, intrinsics, target
from .fingerprint import resolve

SCALAR = {"f4": np.float32, "f8": np.float64, "c8": np.complex64, "c16": np.complex128,
          "b1": np.bool_, "u1": np.uint8, "i1": np.int8, "i2": np.int16, "i4": np.int32,
          "i8": np.int64}
# never nnan or ninf: NaN and inf must survive; nor arcp: 49 * (1 / 49) is not 1, and 1 / sqrt(x)
# becomes an estimate that is NaN at 0
FASTMATH = frozenset({"contract", "nsz"})


def _options(reassoc, inline=False):
    from .build import boundscheck
    flags = set(FASTMATH) | ({"reassoc"} if reassoc else set())
    return {"forceinline": inline, "fastmath": flags, "error_model": "numpy",
            "boundscheck": boundscheck(), "_nrt": False}


def _real(T):
    """The type that float literals take: a complex kernel's literals are real."""
    return {"c8": np.float32, "c16": np.float64, "f4": np.float32}.get(T, np.float64)


def _cast_constants(code, scalar, integers=False):
    """``code`` with float literals as ``scalar``: Numba would type ``0.5 * x32`` as float64.

    With ``integers`` (the expression of a pointwise entry in a floating type) int literals too.
    """
    kinds = (float, int) if integers else (float,)
    constants = tuple(
        scalar(c) if type(c) in kinds else
        _cast_constants(c, scalar, integers) if isinstance(c, types.CodeType) else c
        for c in code.co_consts)
    return code.replace(co_consts=constants)


@functools.cache
def jit_function(fn, T, reassoc, inline=False):
    """``fn`` as a Numba dispatcher, its names resolved for compute type ``T``.

    Scalar functions are inlined whatever they cost: a loop around a call does not vectorise.
    """
    inline = inline or getattr(fn, "__scalar__", False)
    return target.jit(**_options(reassoc, inline))(_rebuilt(fn, T, reassoc, inline))


def _rebuilt(fn, T, reassoc, inline):
    """``fn`` with its names resolved for compute type ``T``."""
    real = _real(T)
    resolved = {name: _resolve(value, T, reassoc, inline) for name, value in resolve(fn).items()}
    integers = getattr(fn, "__scalar__", False) and T in ("f4", "f8", "c8", "c16")
    code = _cast_constants(fn.__code__, real, integers)
    namespace = {"__builtins__": __builtins__, "__name__": fn.__module__,
                 ROLLED: stays_rolled(fn), **resolved}
    cells = tuple(types.CellType(resolved[name]) for name in code.co_freevars) or None
    return types.FunctionType(code, namespace, fn.__name__, fn.__defaults__, cells)


def _resolve(value, T, reassoc, inline=False):
    if value is ComputeType:
        return SCALAR[T]
    if hasattr(value, "__stub__"):
        return _intrinsic(value.__stub__)
    if hasattr(value, "__instruction__") and cpu.converts_halves():
        return _intrinsic(value.__instruction__)
    if isinstance(value, typed):
        return _chosen(value, T, reassoc)
    if isinstance(value, specialised):
        return jit_function(value.function, value.code, value.reassoc, True)
    if isinstance(value, types.FunctionType) and value.__module__.startswith("ntorch"):
        return jit_function(value, T, reassoc, inline)
    if type(value) is float:
        return _real(T)(value)
    return value


def _intrinsic(name):
    """The compiled twin of a stub; the intrinsics live in ``intrinsics*.py`` and
    ``microkernel*.py``."""
    import importlib
    for module in ("intrinsics", "intrinsics_pointer", "intrinsics_pool", "intrinsics_winograd",
                   "intrinsics_conv", "intrinsics_windows", "microkernel", "microkernel_few"):
        try:
            found = getattr(importlib.import_module(f"{__package__}.{module}"), name, None)
        except ModuleNotFoundError:
            continue
        if found is not None:
            return found
    raise NameError(f"kernel stub {name} has no intrinsic in ntorch.runtime")


@functools.cache
def _chosen(entry, T, reassoc):
    """What picks ``entry``'s variant by the first argument's type, as a Numba dispatcher."""
    by_type = {intrinsics.NUMBA_TYPES[code]: (variant, {"c8": "f4", "c16": "f8"}.get(code, code))
               for code, variant in entry.variants.items()}

    def choose(first):
        first = numba.types.unliteral(first)
        if isinstance(first, (numba.types.Integer, numba.types.Boolean)):
            first = numba.types.int64       # one variant serves all integers and bool
        if first not in by_type:
            raise numba.errors.TypingError(f"{entry.__name__} has no variant for {first}; it has "
                                    f"{sorted(entry.variants)}")
        variant, code = by_type[first]
        return jit_function(variant, code, reassoc, inline=True)
    return target.Choice(entry.__name__, choose)


def compile_object(fn, params, T, reassoc, key):
    """``(symbol, object bytes)`` of ``fn`` as ``void(int64_t *args, int64_t begin, int64_t end)``.

    A parameter kind of ``("table",)`` or ``("slots",)`` alone hands ``fn`` the table itself.
    """
    name = "nt_" + key[:24]
    kinds = None if params in (("table",), ("slots",)) else params
    module = target.kernel_module(jit_function(fn, T, reassoc), kinds, T, name)
    return name, target.emit(module)
