"""From an object file to an address: llvmlite links it into the process, Numba is not needed."""
import functools
import itertools


@functools.cache
def _jit():
    import llvmlite.binding as llvm
    for initialize in (llvm.initialize_native_target, llvm.initialize_native_asmprinter):
        initialize()
    return llvm, llvm.create_lljit_compiler()


_numbers = itertools.count()      # library names: a failed link uses one up
_trackers = []      # a linked library lives as long as its tracker
RAISING = ("unpickle", "runtime_build_excinfo_struct", "gil_release", "gil_ensure", "do_raise",
           "recreate_record")


@functools.cache
def _raising_symbols():
    """Addresses for the functions that Numba's error path names.

    Kernels raise nothing, so that path is dead code in them and any address does; only a build with
    the bounds check raises, and there Numba is imported and lends its own.
    """
    import ctypes

    from .build import boundscheck
    if boundscheck():
        from numba import _helperlib
        return {"numba_" + name: _helperlib.c_helpers[name] for name in RAISING
                if name in _helperlib.c_helpers}
    abort = ctypes.cast(ctypes.CDLL(None).abort, ctypes.c_void_p).value
    return {"numba_" + name: abort for name in RAISING}


def link(body, symbol):
    """Link the object file ``body`` and return the address of ``symbol``.

    Each object gets a library of its own, so equal symbol names in two objects do not collide.
    Raises RuntimeError if the object does not link.
    """
    llvm, jit = _jit()
    builder = llvm.JITLibraryBuilder().add_object_img(body).add_current_process()
    for name, address in _raising_symbols().items():
        builder.import_symbol(name, address)
    tracker = builder.export_symbol(symbol).link(jit, f"ntorch.{next(_numbers)}")
    _trackers.append(tracker)
    return tracker[symbol]


@functools.cache
def host_cpu():
    """``"name;features"`` of this processor, as LLVM names them: part of every kernel's key."""
    llvm, _ = _jit()
    features = llvm.get_host_cpu_features().flatten()
    return f"{llvm.get_host_cpu_name()};{features}"
