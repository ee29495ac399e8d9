"""Structured entries: a host function that checks, allocates and launches range kernels.

A host function takes the arguments of its signature in order and returns new tensors. It runs with
gradient recording off. ``run`` describes a launch by pairs: ``("C", tensor)`` a contiguous array,
``("A", tensor)`` a strided one, ``("i", 3)``, ``("f", 0.5)``, ``("T", eps)``, ``("p", address)``.
"""
from ..runtime import build, dtypes, launch, recording
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


def _read(arguments, T):
    """``(kinds, slots, T, whether anything is on the meta device)`` of the pairs ``arguments``."""
    kinds, slots, meta = [], [], False
    recorder = recording.current() if recording.active else None
    for kind, value in arguments:
        if kind == "C" or kind == "A":
            shape, dtype = value._shape, value.dtype
            rank = len(shape)
            kinds.append(_kinds.get((kind, dtype, rank)) or _kind(kind, dtype, rank))
            slots.append(value._address if recorder is None else recorder.fake_address(value))
            slots.extend(shape)         # not +=: Size adds itself from the right
            if kind == "A":
                slots.extend(value._strides)
            if value._storage.device is META:
                meta = True
            if T is None and dtype.category >= dtypes.FLOAT:
                T = dtype.compute
        else:
            kinds.append(kind)
            slots.append(build.double_bits(value) if kind in "fT" else _slot(value))
    return tuple(kinds), slots, T or "f4", meta


def _slot(value):
    """An integer as a slot holds it; one that a recorded program asks for at every run as it is."""
    if type(value) is int:
        return value
    return value.int_slot() if getattr(value, "is_dynamic", False) else int(value)


def run(fn, arguments, n, grain, T=None, reassoc=False):
    """Build (memoised) ``fn`` for these arguments and run it over the range ``[0, n)``.

    ``T`` defaults to the compute code of the first floating array (float32 where there is none). On
    the meta device nothing runs. ``grain``: items worth one task of some ten microseconds.
    """
    kinds, slots, T, meta = _read(arguments, T)
    if not meta and n > 0:
        launch.run(build.kernel(fn, kinds, T=T, reassoc=reassoc), slots, n, grain)


class Prepared:
    """``run`` on other arrays of the same forms: all is decided but the addresses.

    Python that a call does not run is worth more than its own time: behind a kernel that streamed
    megabytes, little of the interpreter is left in the caches.
    """

    def __init__(self, fn, arguments, n, grain, T=None, reassoc=False):
        kinds, self.slots, T, _ = _read(arguments, T)
        self.kernel = build.kernel(fn, kinds, T=T, reassoc=reassoc)
        self.pack, self.n, self.grain = launch.packer(len(self.slots)), n, grain
        self.places, place = [], 0
        for kind in kinds:
            if ":" in kind:
                self.places.append(place)
            place += 1 + (int(kind.split(":")[1][:-1]) * (2 if kind[-1] == "A" else 1)
                          if ":" in kind else 0)

    def run(self, *addresses):
        """Launch on the arrays at ``addresses``, in the order of the arguments."""
        slots = self.slots.copy()
        for place, address in zip(self.places, addresses, strict=True):
            slots[place] = address
        launch.run_table(self.kernel, self.pack(*slots), self.n, self.grain)


__all__ = ["Prepared", "arr", "as_dtype", "code", "compute_dtype", "contiguous", "empty", "host",
           "product", "run", "strided", "structured", "zeros"]
