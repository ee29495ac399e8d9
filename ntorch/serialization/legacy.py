"""The stream format of PyTorch before 1.6: pickles, then the raw bytes of all storages.

In order: a magic number, the protocol version, facts about the machine, the object, the keys of
the storages (each one pickle), then for every key the number of elements (int64) and the elements.
There are no checksums: damage inside the numbers cannot be seen.
"""

from __future__ import annotations

import io
import pickle
import struct
import sys
from collections.abc import Callable
from pickle import UnpicklingError
from typing import Any

import ntorch
import ntorch._utils as _utils

from ..runtime.archive import fill
from .names import StorageKind
from .pickler import StorageTable, pickler_class

MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
PROTOCOL_VERSION = 1001
COUNT = struct.Struct("<q")


def save(obj: Any, file: Any, pickle_module: Any, protocol: int) -> None:
    """Write ``obj`` in the old format."""
    table = StorageTable(lambda number, storage: str(number))

    def reference(storage: Any, dtype: Any) -> tuple[Any, ...]:
        return (*table.reference(storage, dtype), None)

    sizes = {"short": 2, "int": 4, "long": 4}
    facts = {"protocol_version": PROTOCOL_VERSION, "little_endian": True, "type_sizes": sizes}
    head = io.BytesIO()
    for value in (MAGIC_NUMBER, PROTOCOL_VERSION, facts):
        pickle.dump(value, head, protocol=protocol)
    pickler_class(pickle_module)(head, protocol, reference).dump(obj)
    keys = sorted(table.storages)
    pickle.dump(keys, head, protocol=protocol)
    file.write(head.getvalue())
    for key in keys:
        storage, dtype = table.storages[key]
        octets = storage.cpu() if storage.device.type != "cpu" else storage
        file.write(COUNT.pack(storage.nbytes() // dtype.itemsize))
        file.write(swapped(_utils.storage_bytes(octets), dtype, sys.byteorder == "big"))


def load(
    file: Any, restore: Callable[[Any, str], Any], unpickler: Callable[[Any, Any], Any]
) -> Any:
    """Read an object in the old format; ``unpickler(file, persistent_load)`` makes a reader."""
    start = file.tell()
    limit = file.seek(0, io.SEEK_END) - start
    file.seek(start)
    storages: dict[str, tuple[Any, Any]] = {}
    views: dict[Any, Any] = {}

    def persistent_load(saved_id: Any) -> Any:
        return _storage(saved_id, storages, views, restore, limit)

    magic = unpickler(file, None).load()
    if magic != MAGIC_NUMBER:
        raise UnpicklingError("load: Invalid magic number; the file is corrupt or no checkpoint")
    version = unpickler(file, None).load()
    if version != PROTOCOL_VERSION:
        raise RuntimeError(f"load: Invalid protocol version: {version!r}")
    facts = unpickler(file, None).load()
    result = unpickler(file, persistent_load).load()
    keys = unpickler(file, None).load()
    little = facts.get("little_endian", True) if isinstance(facts, dict) else True
    _read_storages(file, keys, storages, little != (sys.byteorder == "little"))
    return result


def _text(value: Any) -> Any:
    return value.decode("ascii") if isinstance(value, bytes) else value


def _storage(
    saved_id: Any,
    storages: dict[str, tuple[Any, Any]],
    views: dict[Any, Any],
    restore: Callable[[Any, str], Any],
    limit: int,
) -> Any:
    if _text(saved_id[0]) == "module" and len(saved_id) == 4:
        return saved_id[1]
    if _text(saved_id[0]) != "storage" or len(saved_id) != 6:
        raise UnpicklingError(f"load: Unknown saved id type: {saved_id[0]!r}")
    _, kind, key, location, count, view = saved_id
    if not isinstance(kind, StorageKind) or type(count) is not int or count < 0:
        raise UnpicklingError("load: a storage reference is corrupt")
    dtype = kind.dtype or ntorch.uint8
    nbytes = count * dtype.itemsize
    if key not in storages:
        if nbytes > limit:
            raise RuntimeError(
                f"load: a storage of {nbytes} bytes cannot be in a file of {limit} bytes; the "
                "file is corrupt or truncated"
            )
        # Allocated now, filled after the object has been read.
        storages[key] = restore(_utils.new_storage(nbytes), _text(location)), dtype
    storage, dtype = storages[key]
    if view is None:
        return ntorch.TypedStorage(storage, dtype)
    view_key, offset, size = view
    if view_key not in views:
        _utils.check_view(storage.nbytes() // dtype.itemsize, offset, (size,), (1,))
        # A part of a storage: tensors on it count from its beginning, the bytes stay shared.
        start, stop = offset * dtype.itemsize, (offset + size) * dtype.itemsize
        views[view_key] = ntorch.TypedStorage(storage[start:stop], dtype)
    return views[view_key]


def _read_storages(
    file: Any, keys: Any, storages: dict[str, tuple[Any, Any]], swap: bool
) -> None:
    if type(keys) is not list or sorted(map(str, keys)) != sorted(map(str, storages)):
        raise UnpicklingError("load: the list of storages does not fit the object; corrupt file")
    for key in keys:
        storage, dtype = storages[key]
        head = file.read(COUNT.size)
        nbytes = COUNT.unpack(head)[0] * dtype.itemsize if len(head) == COUNT.size else None
        if nbytes != storage.nbytes():
            raise RuntimeError(
                f"load: storage {key!r} has {nbytes} bytes where {storage.nbytes()} were "
                "expected; the file is corrupt or truncated"
            )
        if storage.device.type == "meta":
            file.seek(nbytes, io.SEEK_CUR)
            continue
        on_cpu = storage if storage.device.type == "cpu" else _utils.new_storage(nbytes)
        octets = _utils.storage_bytes(on_cpu)
        fill(file, octets)
        octets[:] = swapped(octets, dtype, swap)
        if on_cpu is not storage:
            storage.copy_(on_cpu)


def swapped(octets: memoryview, dtype: Any, swap: bool) -> memoryview:
    """``octets`` with the bytes of every element turned around, if ``swap``."""
    size = dtype.itemsize // 2 if dtype.is_complex else dtype.itemsize
    if not swap or size == 1:
        return octets
    import numpy as np

    return memoryview(np.frombuffer(octets, np.uint8).reshape(-1, size)[:, ::-1].tobytes())
