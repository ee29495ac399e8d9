"""Kernels: from a plain Python function and parameter kinds to an address in this process.

``kernel(fn, params)`` looks in the store under a hash of everything that decides the machine code.
On a hit, llvmlite links the object and Numba is never imported. On a miss ``compile.py`` compiles
``void kernel(int64_t *args, int64_t begin, int64_t end)`` and the object goes in the store.

Parameter kinds: ``f4:3C`` C-contiguous array (slots: pointer, sizes), ``f4:3A`` strided array
(pointer, sizes, strides in elements), ``i`` int64, ``f`` float64, ``T`` scalar of the compute type
(both passed as the bits of a double), ``p`` raw address.
"""
import contextlib
import ctypes
import functools
import hashlib
import importlib.metadata
import os
import pathlib
import struct
import sys
import threading

from . import load, recording, store
from .fingerprint import fingerprint

_SIGNATURE = (None, ctypes.c_char_p, ctypes.c_int64, ctypes.c_int64)
_HOLDING_GIL = ctypes.PYFUNCTYPE(*_SIGNATURE)
_RELEASING_GIL = ctypes.CFUNCTYPE(*_SIGNATURE)
_kernels = {}
dry = None          # what gathers kernels while a warm-up only collects them
_building = threading.RLock()
os.register_at_fork(after_in_child=lambda: globals().update(_building=threading.RLock()))


class _Local(threading.local):
    waits = False


_local = _Local()
counters = {"compiled": 0, "loaded": 0}
_pack_double, _unpack_integer = struct.Struct("d").pack, struct.Struct("q").unpack


def double_bits(value):
    """The bits of ``value`` as float64, in an int: what an ``f`` or ``T`` slot holds.

    A number that a recorded program asks for anew at every run (``is_dynamic``) stands for itself.
    """
    if type(value) is not float and getattr(value, "is_dynamic", False):
        return value
    return _unpack_integer(_pack_double(value))[0]


class Kernel:
    """A compiled range kernel.

    ``address`` is that of the C function; ``call(table, begin, end)`` runs it holding the GIL (for
    work of microseconds), ``call_released`` without the GIL. ``table`` is packed int64 slots.
    """

    __slots__ = ("name", "key", "recipe", "address", "call", "call_released")

    def __init__(self, name, key, recipe, address=None):
        self.name, self.key, self.recipe = name, key, recipe    # (fn, params, T, reassoc)
        if address is not None:
            self.bind(address)

    def bind(self, address):
        """The kernel is at ``address``."""
        self.call = _HOLDING_GIL(address)
        self.call_released = _RELEASING_GIL(address)
        self.address = address

    def __getattr__(self, what):
        # only asked for slots that are not filled yet: the kernel waits to be built
        if what not in ("address", "call", "call_released"):
            raise AttributeError(what)
        with _building:
            if not self.is_ready():
                _finish(self)
        return object.__getattribute__(self, what)

    def is_ready(self):
        """Whether it is in this process, rather than waiting for its first use."""
        try:
            object.__getattribute__(self, "address")
        except AttributeError:
            return False
        return True

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
    for path in [*sorted(folder.glob("*intrinsics*.py")), *sorted(folder.glob("microkernel*.py")),
                 *(folder / (name + ".py") for name in (
                     "compile", "implementations", "inference", "library", "lowering", "passes",
                     "target")),
                 folder.parent / "kernels" / "winograd_stubs.py"]:
        if path.exists():
            own.update(path.read_bytes())
    return repr((versions(), sys.version_info[:2], sys.platform, load.target_cpu(),
                 boundscheck(), own.hexdigest()))


def versions():
    """Versions of Numba and llvmlite; where Numba is not installed, that of whoever filled the
    store, so that a container without it finds the kernels it was given."""
    found = []
    for name in ("numba", "llvmlite"):
        try:
            found.append(importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            found.append(store.noted().get(name, "none"))
    return found


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
                params = tuple(params)
                found = Kernel(name or fn.__name__, kernel_key(fn, params, T, reassoc),
                               (fn, params, T, reassoc))
                if not _waiting():
                    _finish(found)
                _kernels[memo] = found
    return found


def _waiting():
    """Whether kernels are built at their first use: those of a trace all at once, by ``ready``."""
    return (dry is not None or _local.waits
            or recording.active and recording.current() is not None)


@contextlib.contextmanager
def later():
    """Inside, kernels of this thread are not built yet; ``ready`` builds them, or their use."""
    before, _local.waits = _local.waits, True
    try:
        yield
    finally:
        _local.waits = before


def _finish(kernel):
    """Put the kernel in this process, from the store or compiled."""
    if dry is not None:
        dry.add(kernel)
    elif not link_stored(kernel):
        compile_now(kernel)


def link_stored(kernel):
    """Link the kernel from the store; whether it was there."""
    stored = store.get(kernel.key)
    if stored is None:
        return False
    try:
        kernel.bind(load.link(stored[1], stored[0], kernel.name))
    except (RuntimeError, KeyError):
        store.discard(kernel.key)       # intact but not linkable: compile it again
        return False
    counters["loaded"] += 1
    return True


def compile_now(kernel):
    """Compile the kernel, put it in the store and in this process."""
    symbol, body = compile_to_store(kernel)
    kernel.bind(load.link(body, symbol, kernel.name))


def compile_to_store(kernel):
    """Compile the kernel and put it in the store; returns ``(symbol, object bytes)``."""
    from .compile import compile_object
    fn, params, T, reassoc = kernel.recipe
    symbol, body = compile_object(fn, params, T, reassoc, kernel.key)
    counters["compiled"] += 1
    if os.environ.get("NTORCH_DEBUG") and "cache" in os.environ["NTORCH_DEBUG"]:
        print(f"ntorch: compiled {kernel.name} {params} T={T} {kernel.key[:12]}", file=sys.stderr)
    store.put(kernel.key, symbol, body, {"name": kernel.name, "params": list(params), "T": T,
                                         "target": load.target_cpu()})
    return symbol, body


def object_of(kernel):
    """``(symbol, object bytes)`` of a kernel, compiled again if the store has lost it."""
    return store.get(kernel.key) or compile_to_store(kernel)


def ready(kernels):
    """Build those of ``kernels`` that wait, the compilations side by side."""
    with _building:
        waiting = {k.key: k for k in kernels if not k.is_ready()}
        if not waiting:
            return
        if dry is not None:
            for kernel in waiting.values():
                dry.add(kernel)
        else:
            missing = [k for k in waiting.values() if not link_stored(k)]
            if missing:
                from .parallel import compile_all
                compile_all(missing)
    for kernel in kernels:              # equal keys, other objects
        kernel.address  # noqa: B018 - the kernel is bound by being asked for


def known():
    """The kernels that this process has asked for so far."""
    return list(_kernels.values())


def adopt(name, key, recipe, symbol, body):
    """The kernel ``key``, from an object file that did not come out of the store.

    Found in this process if it is here; with a ``recipe`` it serves ``kernel`` from now on.
    """
    with _building:
        found = next((k for k in _kernels.values() if k.key == key and k.is_ready()), None)
        if found is None:
            found = Kernel(name, key, recipe, load.link(body, symbol, name))
            _kernels[recipe or key] = found
        return found
