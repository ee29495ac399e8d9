"""``save`` and ``load``: PyTorch's checkpoint files, written and read without PyTorch.

A file is a ZIP archive of stored records (:mod:`.archive`): ``data.pkl`` is the object as a pickle
in which storages are references, ``data/0``, ``data/1``, ... are the bytes of the storages. Reading
does not run code from the file (:mod:`.unpickler`) unless ``weights_only=False`` asks for it.
"""

from __future__ import annotations

import io
import os
import pickle
import sys
import warnings
from collections.abc import Callable
from typing import Any

import ntorch
import ntorch._utils as _utils

from ..runtime.archive import ArchiveReader, ArchiveWriter
from . import legacy, names
from .files import is_path, reading, writing
from .locations import default_restore_location, location_tag, register_package, restorer
from .names import (
    StorageKind,
    add_safe_globals,
    clear_safe_globals,
    get_safe_globals,
    safe_globals,
)
from .pickler import StorageTable, pickler_class
from .unpickler import SafeUnpickler

__all__ = [
    "add_safe_globals",
    "clear_safe_globals",
    "default_restore_location",
    "get_safe_globals",
    "load",
    "location_tag",
    "register_package",
    "safe_globals",
    "save",
]

DEFAULT_PROTOCOL = 2


def save(
    obj: object,
    f: Any,
    pickle_module: Any = pickle,
    pickle_protocol: int = DEFAULT_PROTOCOL,
    _use_new_zipfile_serialization: bool = True,
) -> None:
    """Write an object to a file that :func:`load`, and PyTorch, can read.

    Tensors that share a storage still do after loading; a view saves its whole storage.

    Args:
        obj: tensors, state dicts, modules, and anything that can be pickled.
        f: a path, whose file appears or changes only when everything is written, or an object
            with ``write``.
        pickle_module: pickles the object; PyTorch can only read what ``pickle`` itself wrote.
        pickle_protocol: the pickle's protocol.
        _use_new_zipfile_serialization: False writes the format of PyTorch before 1.6.

    Raises:
        RuntimeError: the folder does not exist, or one storage is used with two dtypes.
        AttributeError: ``f`` has no ``write``.
    """
    if not _use_new_zipfile_serialization:
        with writing(f) as file:
            legacy.save(obj, file, pickle_module, pickle_protocol)
        return
    # Pickled first: an object that cannot be leaves nothing behind.
    table = StorageTable(lambda number, storage: str(number))
    data = io.BytesIO()
    pickler_class(pickle_module)(data, pickle_protocol, table.reference).dump(obj)
    with writing(f) as file:
        archive = ArchiveWriter(file.write, _archive_name(f))
        archive.add("data.pkl", data.getbuffer())
        archive.add(".format_version", b"1")
        archive.add(".storage_alignment", b"64")
        archive.add("byteorder", sys.byteorder.encode())
        for key, (storage, _) in table.storages.items():
            octets = storage if storage.device.type == "cpu" else storage.cpu()
            archive.add(f"data/{key}", _utils.storage_bytes(octets))
        archive.add("version", b"3\n")
        archive.add(".data/serialization_id", archive.serialization_id().encode())
        archive.close()


def _archive_name(f: Any) -> str:
    """The folder inside the archive: the file's name without its ending."""
    if not is_path(f):
        return "archive"
    stem = os.path.splitext(os.path.basename(os.fsdecode(f)))[0]
    return stem if stem.isascii() and stem.strip(".") and "\\" not in stem else "archive"


def load(
    f: Any,
    map_location: Any = None,
    pickle_module: Any = None,
    *,
    weights_only: bool | None = None,
    mmap: bool | None = None,
    **pickle_load_args: Any,
) -> Any:
    """Read an object that :func:`save`, or PyTorch, has written.

    Args:
        f: a path or a seekable file object.
        map_location: where storages go: a device or its name, a dict from the saved name to
            another, or a function ``(storage, name) -> storage or None``. Default: where they
            were when they were saved.
        pickle_module: unpickles the object; only with ``weights_only=False``.
        weights_only: True (the default) reads tensors and plain data and runs nothing; other
            classes must be allowed with :func:`add_safe_globals`. False unpickles anything,
            which can run any code in the file: only for files you trust.
        mmap: map the file instead of reading it, so that bytes are read when they are used.
            Needs a path and the ZIP format; checksums of storages are then not checked.

    Raises:
        pickle.UnpicklingError: the pickle is damaged, or asks for what is not allowed.
        RuntimeError: the file is corrupt or truncated, or a device is not there.
        EOFError: the file is empty.
    """
    if weights_only is None:
        weights_only = pickle_module is None
    if weights_only and pickle_module is not None:
        raise RuntimeError(
            "load: Can not safely load weights when explicit pickle_module is specified; give "
            "weights_only=False if you trust the file"
        )
    if weights_only and pickle_load_args:
        warnings.warn("pickle_load_args only works if `weights_only=False`.", stacklevel=2)
    if mmap and not is_path(f):
        raise ValueError("load: f must be a file path in order to use the mmap argument")
    make = _unpickler(pickle_module or pickle, weights_only, pickle_load_args)
    with reading(f) as file:
        try:
            return _load(file, restorer(map_location), make, os.fsdecode(f) if mmap else None)
        except pickle.UnpicklingError as error:
            if not weights_only:
                raise
            raise pickle.UnpicklingError(
                f"Weights only load failed. {error}. Nothing in the file was run. Loading it with "
                "weights_only=False can run any code in it: do that only if you trust it."
            ) from None


def _unpickler(
    pickle_module: Any, weights_only: bool, arguments: dict[str, Any]
) -> Callable[[Any, Any], Any]:
    encoding = arguments.get("encoding", "utf-8")
    if weights_only:
        return lambda file, load_storage: SafeUnpickler(file, load_storage, encoding)

    class TranslatingUnpickler(pickle_module.Unpickler):
        """The full unpickler, with PyTorch's names turned into ours."""

        def find_class(self, module: str, name: str) -> Any:
            value = names.known().get(names.canonical(module, name))
            return super().find_class(*_ours(module, name)) if value is None else value

    def make(file: Any, load_storage: Any) -> Any:
        unpickler = TranslatingUnpickler(file, **{**arguments, "encoding": encoding})
        if load_storage is not None:
            unpickler.persistent_load = load_storage
        return unpickler

    return make


def _ours(module: str, name: str) -> tuple[str, str]:
    """Where ntorch keeps what PyTorch keeps at ``module.name``."""
    if module != "torch" and not module.startswith("torch."):
        return module, name
    # Classes move between the files of a package, but not between packages.
    for package in ("ntorch.nn", "ntorch.optim", "ntorch.distributions", "ntorch.utils.data"):
        if f"n{module}.".startswith(f"{package}."):
            return package, name
    return f"n{module}", name


def _load(file: Any, restore: Any, make: Any, mapped: str | None) -> Any:
    start = file.tell()
    is_zip = file.read(4) == b"PK\x03\x04"
    file.seek(start)
    if not is_zip:
        if mapped is not None:
            raise RuntimeError(
                "load: mmap can only be used with files in the ZIP format; save the checkpoint "
                "again to use it"
            )
        if file.read(262)[257:] == b"ustar":
            raise RuntimeError("load: files in the .tar format of PyTorch 0.1 are not supported")
        file.seek(start)
        return legacy.load(file, restore, make)
    archive = ArchiveReader(file)
    if "constants.pkl" in archive:
        raise RuntimeError("load: the file is a TorchScript archive; use ntorch.jit.load")
    storages = _Storages(archive, restore, mapped)
    return make(io.BytesIO(archive.read("data.pkl")), storages.load).load()


class _Storages:
    """The storages of an archive, each read when the pickle first refers to it."""

    def __init__(self, archive: ArchiveReader, restore: Any, mapped: str | None):
        self._archive = archive
        self._restore = restore
        self._mapped = _map_file(mapped) if mapped is not None else None
        self._loaded: dict[str, Any] = {}
        order = archive.read("byteorder").decode() if "byteorder" in archive else "little"
        if order not in ("little", "big"):
            raise ValueError(f"load: Unknown endianness type: {order!r}")
        self._swap = order != sys.byteorder

    def load(self, saved_id: Any) -> Any:
        """The storage that a persistent id ``("storage", kind, key, location, count)`` names."""
        if len(saved_id) != 5 or saved_id[0] not in ("storage", b"storage"):
            raise pickle.UnpicklingError(f"load: Unknown saved id type: {saved_id[:1]!r}")
        _, kind, key, location, count = saved_id
        if not isinstance(kind, StorageKind) or type(key) is not str or type(count) is not int:
            raise pickle.UnpicklingError("load: a storage reference is corrupt")
        dtype = kind.dtype or ntorch.uint8
        tag = location.decode("ascii") if isinstance(location, bytes) else str(location)
        if key not in self._loaded:
            storage = self._read(f"data/{key}", dtype, count)
            self._loaded[key] = self._restore(storage, tag)
        storage = self._loaded[key]
        return storage if kind.dtype is None else ntorch.TypedStorage(storage, dtype)

    def _read(self, name: str, dtype: Any, count: int) -> Any:
        nbytes = count * dtype.itemsize
        if self._archive.size(name) != nbytes:
            raise RuntimeError(
                f"load: record {name!r} has {self._archive.size(name)} bytes where the pickle "
                f"says {nbytes}; the file is corrupt"
            )
        if self._mapped is not None and nbytes and self._archive.is_stored(name):
            start = self._archive.offset(name)
            if start + nbytes > len(self._mapped):
                raise RuntimeError(f"load: record {name!r} lies outside the file; it is corrupt")
            storage = ntorch.from_numpy(self._mapped[start : start + nbytes]).untyped_storage()
        else:
            storage = _utils.new_storage(nbytes)
            self._archive.read_into(name, _utils.storage_bytes(storage)[:nbytes])
        if self._swap:
            octets = _utils.storage_bytes(storage)
            octets[:] = legacy.swapped(octets, dtype, True)
        return storage


def _map_file(path: str) -> Any:
    """The whole file as bytes that can be written to without changing it (copy on write)."""
    import mmap

    import numpy as np

    with open(path, "rb") as file:
        view = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    return np.frombuffer(view, np.uint8)
