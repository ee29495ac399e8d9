"""NumPy arrays between pages that nobody may touch, for runs with ``NTORCH_GUARD=behind`` or
``before``: tensors that share an array's memory are then watched like all others.

NumPy's allocator is replaced (NEP 49) by functions that Numba compiles: the collector may free
arrays when Python code can no longer run. An array's pages are one that holds their size and its
own, a forbidden one, the array's, a forbidden one.
"""
import ctypes
import mmap

import numpy as np
from numba import cfunc, types
from numba.core import cgutils
from numba.extending import intrinsic

PAGE = mmap.PAGESIZE
ACCESS = mmap.PROT_READ | mmap.PROT_WRITE
PRIVATE = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
SET_HANDLER = 304               # place of PyDataMem_SetHandler in NumPy's C API
WORD = types.intp
_kept = []


class Handler(ctypes.Structure):
    """``PyDataMem_Handler`` of ``numpy/ndarraytypes.h``."""
    _fields_ = [("name", ctypes.c_char * 127), ("version", ctypes.c_uint8),
                ("context", ctypes.c_void_p), ("malloc", ctypes.c_void_p),
                ("calloc", ctypes.c_void_p), ("realloc", ctypes.c_void_p),
                ("free", ctypes.c_void_p)]


def _libc(name, count):
    function = getattr(ctypes.CDLL(None), name)
    function.restype, function.argtypes = ctypes.c_ssize_t, (ctypes.c_ssize_t,) * count
    return function


@intrinsic
def peek(typingctx, address):
    """The word at ``address``."""
    def codegen(context, builder, signature, arguments):
        kind = context.get_value_type(WORD)
        return builder.load(builder.inttoptr(arguments[0], kind.as_pointer()))
    return WORD(WORD), codegen


@intrinsic
def poke(typingctx, address, value):
    """Write the word at ``address``."""
    def codegen(context, builder, signature, arguments):
        kind = context.get_value_type(WORD)
        builder.store(arguments[1], builder.inttoptr(arguments[0], kind.as_pointer()))
        return cgutils.get_null_value(context.get_value_type(WORD))
    return WORD(WORD, WORD), codegen


def _functions(behind):
    """``malloc``, ``calloc``, ``realloc`` and ``free``, compiled."""
    mapped, protect = _libc("mmap", 6), _libc("mprotect", 3)
    unmap, copy = _libc("munmap", 2), _libc("memcpy", 3)
    page, access, private = PAGE, ACCESS, PRIVATE

    @cfunc(WORD(WORD, WORD))
    def malloc(context, size):
        size = max(size, 1)
        inner = (size + page - 1) // page * page
        total = inner + 3 * page
        start = mapped(0, total, access, private, -1, 0)
        if start == -1:
            return 0
        poke(start, total)
        poke(start + 8, size)
        protect(start + page, page, 0)
        protect(start + total - page, page, 0)
        return start + 2 * page + (inner - size if behind else 0)

    @cfunc(WORD(WORD, WORD, WORD))
    def calloc(context, count, size):
        return malloc(context, count * size)        # fresh pages are zero

    @cfunc(types.void(WORD, WORD, WORD))
    def free(context, address, size):
        if address != 0:
            start = address // page * page - 2 * page
            unmap(start, peek(start))

    @cfunc(WORD(WORD, WORD, WORD))
    def realloc(context, address, size):
        fresh = malloc(context, size)
        if address != 0 and fresh != 0:
            had = peek(address // page * page - 2 * page + 8)
            copy(fresh, address, min(had, size))
            free(context, address, had)
        return fresh

    return malloc, calloc, realloc, free


def install(side):
    """Give NumPy these functions, in this thread, for good."""
    functions = _functions(side == "behind")
    handler = Handler(b"fenced", 1, None, *(f.address for f in functions))
    api = ctypes.pythonapi
    api.PyCapsule_GetPointer.restype = ctypes.c_void_p
    api.PyCapsule_GetPointer.argtypes = (ctypes.py_object, ctypes.c_char_p)
    api.PyCapsule_New.restype = ctypes.py_object
    api.PyCapsule_New.argtypes = (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)
    table = api.PyCapsule_GetPointer(np._core._multiarray_umath._ARRAY_API, None)
    address = ctypes.c_void_p.from_address(table + 8 * SET_HANDLER).value
    name = ctypes.c_char_p(b"mem_handler")
    capsule = api.PyCapsule_New(ctypes.addressof(handler), name, None)
    _kept.extend((functions, handler, name, capsule))
    for thing in _kept:                             # arrays outlive this module
        api.Py_IncRef(ctypes.py_object(thing))
    ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.py_object)(address)(capsule)
