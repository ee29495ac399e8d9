"""Exchange of tensors with other libraries without copying: the DLPack protocol, version 1.0.

A producer wraps a C structure in a capsule named ``dltensor`` (or ``dltensor_versioned``). The one
consumer renames it to ``used_...`` and calls the structure's deleter when it has done. A capsule
that nobody has consumed deletes the structure itself. See https://dmlc.github.io/dlpack.
"""

from __future__ import annotations

import ctypes
import math
from typing import Any

import ntorch

__all__ = ["from_dlpack", "to_dlpack"]

CPU, PINNED = 1, 3
READ_ONLY, IS_COPIED = 1, 2
PLAIN, VERSIONED = b"dltensor", b"dltensor_versioned"
VERSION = (1, 0)

# DLDataTypeCode and bits of every dtype.
DTYPES = {
    "bool": (6, 8),
    "uint8": (1, 8),
    "int8": (0, 8),
    "int16": (0, 16),
    "int32": (0, 32),
    "int64": (0, 64),
    "float16": (2, 16),
    "bfloat16": (4, 16),
    "float32": (2, 32),
    "float64": (2, 64),
    "complex64": (5, 64),
    "complex128": (5, 128),
}
_NAMES = {code: name for name, code in DTYPES.items()}


class _Tensor(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    ]


_Deleter = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_Destructor = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)


class _Managed(ctypes.Structure):
    _fields_ = [("tensor", _Tensor), ("context", ctypes.c_void_p), ("deleter", ctypes.c_void_p)]


class _ManagedVersioned(ctypes.Structure):
    _fields_ = [
        ("major", ctypes.c_uint32),
        ("minor", ctypes.c_uint32),
        ("context", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p),
        ("flags", ctypes.c_uint64),
        ("tensor", _Tensor),
    ]


_LAYOUTS = {VERSIONED: _ManagedVersioned, PLAIN: _Managed}


def _api(name: str, result: Any, *arguments: Any) -> Any:
    return ctypes.PYFUNCTYPE(result, *arguments)((name, ctypes.pythonapi))


_new = _api("PyCapsule_New", ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, _Destructor)
_set_name = _api("PyCapsule_SetName", ctypes.c_int, ctypes.py_object, ctypes.c_char_p)
# By address: a destructor sees its capsule when no reference to it can be made any more.
_is_valid = _api("PyCapsule_IsValid", ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p)
_pointer = _api("PyCapsule_GetPointer", ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)

# Structures that somebody may still use, with what they refer to, by address.
_exported: dict[int, tuple[Any, ...]] = {}


@_Deleter
def _delete(address: int) -> None:
    _exported.pop(address, None)


@_Destructor
def _destroy(capsule: int) -> None:
    for name, layout in _LAYOUTS.items():
        if _is_valid(capsule, name):
            _run_deleter(_pointer(capsule, name), layout)


# The last arrays may go after this module has been torn down, so these may never be freed; nor may
# the names, which capsules do not copy.
_USED = {PLAIN: b"used_" + PLAIN, VERSIONED: b"used_" + VERSIONED}
for _immortal in (_delete, _destroy, PLAIN, VERSIONED, *_USED.values(), _exported):
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(_immortal))


def _run_deleter(address: int, layout: type) -> None:
    deleter = layout.from_address(address).deleter
    if deleter:
        _Deleter(deleter)(address)


def to_dlpack(
    tensor: Any, *, max_version: tuple[int, int] | None = None, copied: bool = False
) -> Any:
    """A capsule for the memory of a CPU tensor, which it keeps alive.

    Args:
        tensor: shares its memory with the consumer.
        max_version: the newest version the consumer knows; from (1, 0) on the capsule holds the
            versioned structure.
        copied: tell the consumer that nobody else has this memory.

    Raises:
        BufferError: the tensor is not on the CPU.
    """
    if tensor.device.type != "cpu":
        raise BufferError(f"to_dlpack: expected a tensor on the CPU, but got {tensor.device}")
    versioned = max_version is not None and tuple(max_version) >= VERSION
    managed = _ManagedVersioned() if versioned else _Managed()
    if versioned:
        managed.major, managed.minor = VERSION
        managed.flags = IS_COPIED if copied else 0
    managed.deleter = ctypes.cast(_delete, ctypes.c_void_p).value
    shape = (ctypes.c_int64 * max(tensor.dim(), 1))(*tensor.shape)
    strides = (ctypes.c_int64 * max(tensor.dim(), 1))(*tensor.stride())
    described = managed.tensor
    described.data = tensor.data_ptr()
    described.device_type, described.device_id = CPU, 0
    described.ndim = tensor.dim()
    described.code, described.bits = DTYPES[_name(tensor.dtype)]
    described.lanes = 1
    described.shape = ctypes.cast(shape, ctypes.POINTER(ctypes.c_int64))
    described.strides = ctypes.cast(strides, ctypes.POINTER(ctypes.c_int64))
    address = ctypes.addressof(managed)
    _exported[address] = managed, shape, strides, tensor.untyped_storage()
    return _new(address, VERSIONED if versioned else PLAIN, _destroy)


def _name(dtype: Any) -> str:
    return str(dtype).rpartition(".")[2]


class _Owner:
    """Keeps imported memory alive: its end is the end of the consumer."""

    def __init__(self, address: int, layout: type):
        self._address = address
        self._layout = layout

    def __del__(self, run: Any = _run_deleter) -> None:
        run(self._address, self._layout)


def from_dlpack(ext_tensor: Any, *, device: Any = None, copy: bool | None = None) -> Any:
    """A tensor over the memory of an object with ``__dlpack__``, or of a DLPack capsule.

    Args:
        ext_tensor: the object, or the capsule, which is used up.
        device: move the tensor there.
        copy: True copies, False refuses to, None copies if it must.

    Raises:
        BufferError: memory that is not on the CPU or is read-only, a dtype there is none for, or
            strides that run backwards.
        TypeError: not an object of this protocol.
    """
    capsule = ext_tensor
    if hasattr(ext_tensor, "__dlpack__"):
        kind = ext_tensor.__dlpack_device__()[0]
        if int(kind) not in (CPU, PINNED):
            raise BufferError(
                f"from_dlpack: expected memory on the CPU, but got DLPack device type {int(kind)}"
            )
        capsule = _ask(ext_tensor, copy)
    elif type(ext_tensor).__name__ != "PyCapsule":
        raise TypeError(
            "from_dlpack: expected an object with __dlpack__ or a DLPack capsule, but got "
            f"{type(ext_tensor).__name__}"
        )
    tensor = _consume(capsule, bool(copy))
    return tensor if device is None else tensor.to(device)


def _ask(producer: Any, copy: bool | None) -> Any:
    wanted = {} if copy is None else {"copy": copy}
    try:
        return producer.__dlpack__(max_version=VERSION, **wanted)
    except TypeError:
        # A producer from before version 1.0 takes no such arguments.
        return producer.__dlpack__()


def _consume(capsule: Any, copy: bool) -> Any:
    name = next((n for n in _LAYOUTS if _is_valid(id(capsule), n)), None)
    if name is None:
        raise TypeError("from_dlpack: the capsule is no DLPack capsule, or has been used already")
    address, layout = _pointer(id(capsule), name), _LAYOUTS[name]
    managed = layout.from_address(address)
    flags = managed.flags if layout is _ManagedVersioned else 0
    if layout is _ManagedVersioned and managed.major != VERSION[0]:
        raise BufferError(
            f"from_dlpack: expected version {VERSION[0]} of DLPack, but got {managed.major}"
        )
    if flags & READ_ONLY and not copy:
        raise BufferError("from_dlpack: the memory is read-only; copy it first, or give copy=True")
    dtype, shape, strides = _described(managed.tensor)
    # From here on the structure is ours to delete.
    _set_name(capsule, _USED[name])
    owner = _Owner(address, layout)
    start = (managed.tensor.data or 0) + managed.tensor.byte_offset
    reach = 1 + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
    nbytes = reach * dtype.itemsize if math.prod(shape) else 0
    storage = ntorch.UntypedStorage.borrow(start, nbytes, owner)
    tensor = ntorch.empty(0, dtype=dtype).set_(storage, 0, shape, strides)
    return tensor.clone() if copy and not flags & IS_COPIED else tensor


def _described(tensor: _Tensor) -> tuple[Any, tuple[int, ...], tuple[int, ...]]:
    if tensor.device_type not in (CPU, PINNED):
        raise BufferError(
            f"from_dlpack: expected memory on the CPU, but got device type {tensor.device_type}"
        )
    name = _NAMES.get((tensor.code, tensor.bits)) if tensor.lanes == 1 else None
    if name is None:
        raise BufferError(
            f"from_dlpack: there is no dtype for DLPack type code {tensor.code} with "
            f"{tensor.bits} bits and {tensor.lanes} lanes"
        )
    shape = tuple(tensor.shape[: tensor.ndim]) if tensor.ndim else ()
    if tensor.ndim and tensor.strides:
        strides = tuple(tensor.strides[: tensor.ndim])
    else:
        strides = tuple(math.prod(shape[i + 1 :]) for i in range(len(shape)))
    if any(s < 0 for n, s in zip(shape, strides, strict=True) if n > 1):
        raise BufferError(f"from_dlpack: strides {strides} run backwards; copy the array first")
    # The stride of a dimension of size 1 is never used, and may be anything.
    strides = tuple(max(s, 0) for s in strides)
    return getattr(ntorch, name), shape, strides
