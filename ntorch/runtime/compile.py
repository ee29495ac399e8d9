"""The cold path: Numba compiles a plain Python function to an object file.

A function is rebuilt with its globals resolved: stubs become intrinsics, ``T`` and float constants
become the compute type, other kernel functions are compiled and linked.
"""
import functools
import types

import numba
import numpy as np
from numba.extending import overload

from ..kernels.stubs import T as ComputeType
from ..kernels.stubs import specialised, typed
from . import intrinsics, target
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


def _rebuilt(fn, T, reassoc, inline=False):
    """``fn`` with its names resolved for compute type ``T``."""
    real = _real(T)
    resolved = {name: _resolve(value, T, reassoc, inline) for name, value in resolve(fn).items()}
    integers = getattr(fn, "__scalar__", False) and T in ("f4", "f8", "c8", "c16")
    code = _cast_constants(fn.__code__, real, integers)
    namespace = {"__builtins__": __builtins__, "__name__": fn.__module__, **resolved}
    cells = tuple(types.CellType(resolved[name]) for name in code.co_freevars) or None
    return types.FunctionType(code, namespace, fn.__name__, fn.__defaults__, cells)


def _resolve(value, T, reassoc, inline=False):
    if value is ComputeType:
        return SCALAR[T]
    if hasattr(value, "__stub__"):
        return _intrinsic(value.__stub__)
    if isinstance(value, typed):
        return _overloaded(value, T, reassoc)
    if isinstance(value, specialised):
        return jit_function(value.function, value.code, value.reassoc, True)
    if isinstance(value, types.FunctionType) and value.__module__.startswith("ntorch"):
        return jit_function(value, T, reassoc, inline)
    if type(value) is float:
        return _real(T)(value)
    return value


def _intrinsic(name):
    """The compiled twin of a stub; the intrinsics live in ``intrinsics*.py`` and
    ``microkernel.py``."""
    import importlib
    for module in ("intrinsics", "intrinsics_pointer", "intrinsics_pool", "intrinsics_winograd",
                   "microkernel"):
        try:
            found = getattr(importlib.import_module(f"{__package__}.{module}"), name, None)
        except ModuleNotFoundError:
            continue
        if found is not None:
            return found
    raise NameError(f"kernel stub {name} has no intrinsic in ntorch.runtime")


@functools.cache
def _overloaded(entry, T, reassoc):
    """A Numba-callable stand-in that picks ``entry``'s variant by the first argument's type."""
    by_type = {intrinsics.NUMBA_TYPES[code]: (variant, {"c8": "f4", "c16": "f8"}.get(code, code))
               for code, variant in entry.variants.items()}
    # a function of the right arity: overload matches the stand-in's signature
    count = next(iter(entry.variants.values())).__code__.co_argcount
    names = ", ".join(f"a{i}" for i in range(count))
    scope = {}
    exec(f"def {entry.__name__}({names}):\n    raise TypeError", scope)
    stand_in = scope[entry.__name__]

    def choose(first, *rest):
        first = numba.types.unliteral(first)
        if isinstance(first, (numba.types.Integer, numba.types.Boolean)):
            first = numba.types.int64       # one variant serves all integers and bool
        if first not in by_type:
            return None
        variant, code = by_type[first]
        inner = jit_function(variant, code, reassoc, inline=True)
        space = {"inner": inner}
        exec(f"def implementation({names}):\n    return inner({names})", space)
        return space["implementation"]

    exec(f"def typer({names}):\n    return choose({names})", {"choose": choose}, scope)
    overload(stand_in, jit_options=_options(reassoc, inline=True), inline="never")(scope["typer"])
    return stand_in


def entry_source(params, name):
    """Source of the C entry point: unpack the table of slots, call the range function."""
    lines, arguments, slot = [f"def {name}(args, begin, end):"], [], 0
    for index, kind in enumerate(params):
        variable = f"p{index}"
        if ":" in kind:
            rank = int(kind.split(":")[1][:-1])
            lines.append(f"    {variable} = table_array(args, {slot}, '{kind}')")
            slot += 1 + rank * (1 if kind.endswith("C") else 2)
        else:
            load = {"i": f"args[{slot}]", "p": f"args[{slot}]",
                    "f": f"bits_i64_to_f64(args[{slot}])",
                    "T": f"T(bits_i64_to_f64(args[{slot}]))"}[kind]
            lines.append(f"    {variable} = {load}")
            slot += 1
        arguments.append(variable)
    lines.append(f"    body({', '.join([*arguments, 'begin', 'end'])})")
    return "\n".join(lines) + "\n"


def compile_object(fn, params, T, reassoc, key):
    """``(symbol, object bytes)`` of ``fn`` as ``void(int64_t *args, int64_t begin, int64_t end)``.

    A parameter kind of ``("table",)`` alone hands ``fn`` the table itself. ``("slots",)`` does so
    too, for bodies that use pointer stubs: they need no function of their own around arrays in
    order to vectorise, which saves a third of the compilation.
    """
    name = "nt_" + key[:24]
    int64 = numba.types.int64
    signature = numba.types.void(numba.types.CPointer(int64), int64, int64)
    if params == ("slots",):
        entry = _rebuilt(fn, T, reassoc)
    else:
        scope = {"table_array": intrinsics.table_array, "T": SCALAR[T],
                 "bits_i64_to_f64": intrinsics.bits_i64_to_f64,
                 "body": jit_function(fn, T, reassoc)}
        if params == ("table",):
            source = f"def {name}(args, begin, end):\n    body(args, begin, end)\n"
        else:
            source = entry_source(params, name)
        exec(source, scope)
        entry = scope[name]
    symbol, module = target.kernel_module(entry, signature, _options(reassoc), name)
    return symbol, target.emit(module)
