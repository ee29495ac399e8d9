"""Structured entries: a host function that checks, allocates and launches range kernels.

A host function takes the arguments of its signature in order and returns new tensors. It runs with
gradient recording off. ``run`` describes a launch by pairs: ``("C", tensor)`` a contiguous array,
``("A", tensor)`` a strided one, ``("i", 3)``, ``("f", 0.5)``, ``("T", eps)``, ``("p", address)``.
"""
from ..runtime import build, dtypes, launch
from ..runtime.device import META
from .base import empty, is_contiguous, product
from .registry import Entry, ops, register


def structured(signature, **flags):
    """Register a host function as the entry of ``signature``."""
    def attach(function):
        return register(Entry(signature, function, **flags))
    return attach


host = structured      # the host family (LAPACK, FFT): the same contract, no kernel of ours


def contiguous(tensor):
    """The tensor itself if it is row-major, else a row-major copy."""
    if is_contiguous(tensor._shape, tensor._strides):
        return tensor
    return ops.clone(tensor).contiguous() if not tensor._shape else _row_major(tensor)


def _row_major(tensor):
    copy = empty(tensor._shape, tensor.dtype, tensor.device)
    ops.copy_(copy, tensor)
    return copy


def zeros(shape, dtype=None, device=None):
    """A row-major tensor of zeros."""
    result = empty(shape, dtype, device)
    ops.zero_(result)
    return result


def as_dtype(tensor, dtype):
    """The tensor in ``dtype``; itself if it already is."""
    return tensor if tensor.dtype is dtype else ops.to_dtype(tensor, dtype)


def compute_dtype(tensor):
    """The type a kernel calculates in: float32 for half types, else the tensor's own."""
    return dtypes.float32 if tensor.dtype.is_half else tensor.dtype


def code(dtype):
    """The kernel type code of a dtype: ``"f4"``."""
    return dtype.code


def arr(tensor):
    """Slots of a C-contiguous array parameter: pointer, then sizes."""
    return [tensor._address, *tensor._shape]


def strided(tensor):
    """Slots of a strided array parameter: pointer, sizes, strides in elements."""
    return [tensor._address, *tensor._shape, *tensor._strides]


_kinds = {}         # ("C" or "A", dtype, rank) -> parameter kind


def _kind(layout, dtype, rank):
    found = _kinds[layout, dtype, rank] = f"{dtype.code}:{rank}{layout}"
    return found


def run(fn, arguments, n, grain, T=None, reassoc=False):
    """Build (memoised) ``fn`` for these arguments and run it over the range ``[0, n)``.

    ``T`` defaults to the compute code of the first floating array (float32 where there is none). On
    the meta device nothing runs. ``grain``: items worth one task of some ten microseconds.
    """
    kinds, slots, meta = [], [], False
    for kind, value in arguments:
        if kind == "C" or kind == "A":
            shape, dtype = value._shape, value.dtype
            rank = len(shape)
            kinds.append(_kinds.get((kind, dtype, rank)) or _kind(kind, dtype, rank))
            slots.append(value._address)
            slots.extend(shape)         # not +=: Size adds itself from the right
            if kind == "A":
                slots.extend(value._strides)
            if value._storage.device is META:
                meta = True
            if T is None and dtype.category >= dtypes.FLOAT:
                T = dtype.compute
        else:
            kinds.append(kind)
            slots.append(build.double_bits(value) if kind in "fT" else int(value))
    if meta or n <= 0:
        return
    kernel = build.kernel(fn, tuple(kinds), T=T or "f4", reassoc=reassoc)
    launch.run(kernel, slots, n, grain)


__all__ = ["arr", "as_dtype", "code", "compute_dtype", "contiguous", "empty", "host", "product",
           "run", "strided", "structured", "zeros"]
