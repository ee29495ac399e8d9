"""Kernels: from a plain Python function and parameter kinds to an address in this process.

``kernel(fn, params)`` looks in the store under a hash of everything that decides the machine code.
On a hit, llvmlite links the object and Numba is never imported. On a miss ``compile.py`` compiles
``void kernel(int64_t *args, int64_t begin, int64_t end)`` and the object goes in the store.

Parameter kinds: ``f4:3C`` C-contiguous array (slots: pointer, sizes), ``f4:3A`` strided array
(pointer, sizes, strides in elements), ``i`` int64, ``f`` float64, ``T`` scalar of the compute type
(both passed as the bits of a double), ``p`` raw address.
"""
import ctypes
import functools
import hashlib
import importlib.metadata
import os
import pathlib
import struct
import sys
import threading

from . import load, store
from .fingerprint import fingerprint

_SIGNATURE = (None, ctypes.c_char_p, ctypes.c_int64, ctypes.c_int64)
_HOLDING_GIL = ctypes.PYFUNCTYPE(*_SIGNATURE)
_RELEASING_GIL = ctypes.CFUNCTYPE(*_SIGNATURE)
_kernels = {}
_building = threading.RLock()
os.register_at_fork(after_in_child=lambda: globals().update(_building=threading.RLock()))
counters = {"compiled": 0, "loaded": 0}
_pack_double, _unpack_integer = struct.Struct("d").pack, struct.Struct("q").unpack


def double_bits(value):
    """The bits of ``value`` as float64, in an int: what an ``f`` or ``T`` slot holds."""
    return _unpack_integer(_pack_double(value))[0]


class Kernel:
    """A compiled range kernel.

    ``address`` is that of the C function; ``call(table, begin, end)`` runs it holding the GIL (for
    work of microseconds), ``call_released`` without the GIL. ``table`` is packed int64 slots.
    """

    __slots__ = ("name", "key", "address", "call", "call_released")

    def __init__(self, name, key, address):
        self.name, self.key, self.address = name, key, address
        self.call = _HOLDING_GIL(address)
        self.call_released = _RELEASING_GIL(address)

    def __repr__(self):
        return f"<kernel {self.name} {self.key[:12]}>"


@functools.cache
def boundscheck():
    """Whether kernels are built with Numba's bounds check (``NUMBA_BOUNDSCHECK=1``)."""
    return os.environ.get("NUMBA_BOUNDSCHECK", "0") not in ("", "0")


@functools.cache
def _environment():
    """What decides machine code besides the kernel: versions, processor, the builder's own
    source."""
    folder = pathlib.Path(__file__).parent
    own = hashlib.sha256()
    for path in sorted(folder.glob("*intrinsics*.py")) + [
            folder / "compile.py", folder / "microkernel.py"]:
        if path.exists():
            own.update(path.read_bytes())
    versions = [importlib.metadata.version(name) for name in ("numba", "llvmlite")]
    return repr((versions, sys.version_info[:2], sys.platform, load.host_cpu(),
                 boundscheck(), own.hexdigest()))


def kernel_key(fn, params, T, reassoc):
    """The content hash that names this kernel in the store."""
    text = repr((fingerprint(fn), params, T, reassoc, _environment()))
    return hashlib.sha256(text.encode()).hexdigest()[:40]


def kernel(fn, params, T="f4", reassoc=False, name=None):
    """The compiled ``Kernel`` of ``fn`` for these parameter kinds; memoised per process.

    ``T`` is the code of the compute type; ``reassoc`` lets sums be reordered, which a reduction
    needs in order to vectorise. Raises what Numba raises if ``fn`` does not compile.
    """
    memo = (fn, params, T, reassoc)
    found = _kernels.get(memo)
    if found is None:
        with _building:                 # Numba compiles on one thread at a time
            found = _kernels.get(memo)
            if found is None:
                found = _kernels[memo] = _build(fn, tuple(params), T, reassoc, name or fn.__name__)
    return found


def _build(fn, params, T, reassoc, name):
    key = kernel_key(fn, params, T, reassoc)
    stored = store.get(key)
    if stored is not None:
        try:
            address = load.link(stored[1], stored[0])
            counters["loaded"] += 1
            return Kernel(name, key, address)
        except (RuntimeError, KeyError):
            store.discard(key)       # intact but not linkable: compile it again
    from .compile import compile_object
    symbol, body = compile_object(fn, params, T, reassoc, key)
    counters["compiled"] += 1
    if os.environ.get("NTORCH_DEBUG") and "cache" in os.environ["NTORCH_DEBUG"]:
        print(f"ntorch: compiled {name} {params} T={T} {key[:12]}", file=sys.stderr)
    store.put(key, symbol, body, {"name": name, "params": list(params), "T": T})
    return Kernel(name, key, load.link(body, symbol))
