"""From the source text of a kernel to a compiled one: text, scalar functions and identities are all
there is to it, so equal structure is one kernel, and another process can build it from the same
description."""
import functools
import typing

from ..kernels import gemm_stubs, half, stubs, window_stubs
from ..ops import registry
from ..ops.loops import _cast
from ..ops.pointwise import PointwiseEntry
from ..ops.reduction import ReductionEntry
from ..runtime import build

CODES = ("b1", "u1", "i1", "i2", "i4", "i8", "f4", "f8", "c8", "c16")
_SCOPE = {"T": stubs.T, "table_pointer": stubs.table_pointer, "load_at": stubs.load_at,
          "store_at": stubs.store_at, "bits_i64_to_f64": stubs.bits_i64_to_f64,
          "half_to_float": half.f16_to_f32, "bfloat16_to_float": half.bf16_to_f32,
          "stack_array": gemm_stubs.stack_array, "table_vector": stubs.table_vector,
          "tile_maxima": window_stubs.tile_maxima,
          "float_to_half": half.f32_to_f16, "float_to_bfloat16": half.f32_to_bf16}


class Spec(typing.NamedTuple):
    """A kernel before it is built. ``functions`` are ``(function, compute code, reassoc)``, named
    ``f0``, ``f1``, ... in ``text``; ``identities`` are numbers named ``z0``, ..."""
    text: str
    functions: tuple
    identities: tuple
    reassoc: bool
    name: str

    def key(self):
        """What decides the kernel; its name does not."""
        return (self.text, self.functions, tuple(map(repr, self.identities)), self.reassoc)

    def portable(self):
        """The spec with functions as ``(module, path, code, reassoc)``, which another process can
        give to ``from_portable``; None if a function cannot be found by name."""
        named = []
        for function, code, reassoc in self.functions:
            place = (function.__module__, function.__qualname__)
            if _find(*place) is not function:
                name = _entry_of().get(function)    # made by a helper: no name of its own
                if name is None:
                    return None
                place = ("", name)
            named.append((*place, code, reassoc))
        return (self.text, tuple(named), self.identities, self.reassoc, self.name)


def from_portable(portable):
    """The ``Spec`` that ``portable`` describes."""
    text, named, identities, reassoc, name = portable
    functions = tuple((_find(module, path), code, flag) for module, path, code, flag in named)
    return Spec(text, functions, identities, reassoc, name)


def _find(module, path):
    """A scalar function by module and qualified name, through the entry that took its place, or of
    the pointwise entry ``path`` if ``module`` is empty."""
    import sys
    if not module:
        return registry.find(path).scalar
    found = sys.modules.get(module)
    if found is None:
        import importlib
        try:
            found = importlib.import_module(module)
        except ImportError:
            return None
    for part in path.split("."):
        if isinstance(found, ReductionEntry):
            found = dict(zip(("map", "combine", "finish"), found.functions, strict=True)).get(part)
        else:
            found = getattr(found, part, None)
    return found.scalar if isinstance(found, PointwiseEntry) else found


@functools.cache
def _entry_of():
    """{scalar function: name of its entry}."""
    registry.load_all()
    return {entry.scalar: name for name, entry in registry._entries.items()
            if isinstance(entry, PointwiseEntry)}


_kernels = {}


def find(spec):
    """The compiled kernel of ``spec``; memoised."""
    key = spec.key()
    found = _kernels.get(key)
    if found is None:
        found = _kernels[key] = _build(spec)
    return found


def body(spec):
    """The Python function of ``spec``."""
    scope = dict(_SCOPE, __name__="ntorch.generated")
    for code in CODES:
        scope[code + "_"] = _cast(code)
    for k, (function, code, reassoc) in enumerate(spec.functions):
        scope[f"f{k}"] = stubs.specialised(function, code, reassoc)
    for k, number in enumerate(spec.identities):
        scope[f"z{k}"] = number
    exec(spec.text, scope)
    return scope["body"]


def _build(spec):
    return build.kernel(body(spec), ("slots",), T="f4", reassoc=spec.reassoc, name=spec.name)
