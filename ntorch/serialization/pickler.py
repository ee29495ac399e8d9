"""Pickles as PyTorch writes them: our tensors, dtypes and sizes under PyTorch's names."""

from __future__ import annotations

import functools
import pickle
import sys
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import ntorch
import ntorch._utils as _utils

from . import names
from .locations import location_tag


@functools.cache
def _written_names() -> dict[int, tuple[str, str]]:
    """Identity of an object -> the name that stands for it in a checkpoint."""
    table: dict[int, tuple[str, str]] = {}
    for name, value in names.known().items():
        # The first name is the one that is written.
        table.setdefault(id(value), name)
    return table


def _reduce_tensor(tensor: Any) -> tuple[Any, ...]:
    if isinstance(tensor, ntorch.nn.Parameter):
        data = tensor.data if type(tensor) is ntorch.nn.Parameter else tensor.detach()
        state = _attributes(tensor)
        base = (data, tensor.requires_grad, OrderedDict())
        if type(tensor) is ntorch.nn.Parameter and state:
            return _utils.rebuild_parameter_with_state, (*base, state)
        if type(tensor) is ntorch.nn.Parameter:
            return _utils.rebuild_parameter, base
    function, arguments = _reduce_plain(tensor)
    if type(tensor) is ntorch.nn.Buffer:
        # The module knows which of its tensors are buffers; a checkpoint has tensors.
        return function, arguments
    state = _attributes(tensor)
    if type(tensor) in (ntorch.Tensor, ntorch.nn.Parameter) and not state:
        return function, arguments
    return _utils.rebuild_subclass, (function, type(tensor), arguments, state)


def _attributes(tensor: Any) -> dict[str, Any]:
    """What the user has put on the tensor (slots and private state of Tensor are not that)."""
    own = getattr(tensor, "__dict__", None) or {}
    return {name: value for name, value in own.items() if name != "dtype" and name[:1] != "_"}


def _reduce_plain(tensor: Any) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    # a tuple of its own: one shared with another tensor would be a reference in the file
    size, stride = tuple(tensor.size()), tuple(list(tensor.stride()))
    if tensor.device.type == "meta":
        return _utils.rebuild_meta_tensor, (tensor.dtype, size, stride, tensor.requires_grad)
    view = ntorch.TypedStorage(tensor.untyped_storage(), tensor.dtype)
    offset = tensor.storage_offset()
    return _utils.rebuild_tensor, (
        view, offset, size, stride, tensor.requires_grad, OrderedDict(),
    )  # fmt: skip


def reduce_known(obj: Any) -> Any:
    """How one of ntorch's own objects is written; NotImplemented for all others."""
    if isinstance(obj, ntorch.Tensor):
        return _reduce_tensor(obj)
    if isinstance(obj, ntorch.dtype):
        return str(obj).rpartition(".")[2]
    if isinstance(obj, ntorch.device):
        index = () if obj.index is None else (obj.index,)
        return ntorch.device, (obj.type, *index)
    if isinstance(obj, ntorch.Size):
        return ntorch.Size, (tuple(obj),)
    if isinstance(obj, ntorch.layout):
        return names.known()["torch.serialization", "_get_layout"], ("torch.strided",)
    return NotImplemented


def pickler_class(pickle_module: Any) -> type:
    """The pickler to use: writing PyTorch's names needs the one that is written in Python."""
    base = pickle._Pickler if pickle_module is pickle else pickle_module.Pickler

    class CheckpointPickler(base):
        """Storages go to records of their own, known objects under PyTorch's names."""

        def __init__(self, file: Any, protocol: int, storage_id: Callable[[Any, Any], Any]):
            super().__init__(file, protocol=protocol)
            self._storage_id = storage_id

        def persistent_id(self, obj: Any) -> Any:
            if isinstance(obj, ntorch.TypedStorage):
                return self._storage_id(obj.untyped(), obj.dtype)
            if isinstance(obj, ntorch.UntypedStorage):
                return self._storage_id(obj, None)
            return None

        def reducer_override(self, obj: Any) -> Any:
            if id(obj) in _written_names() and not isinstance(obj, type):
                return _written_names()[id(obj)][1]
            result = reduce_known(obj)
            if result is NotImplemented and hasattr(base, "reducer_override"):
                return super().reducer_override(obj)
            return result

        def save_global(self, obj: Any, name: Any = None) -> None:
            known = _written_names().get(id(obj))
            if known is None:
                super().save_global(obj, name)
                return
            if self.proto >= 4:
                self.save(known[0])
                self.save(known[1])
                self.write(pickle.STACK_GLOBAL)
            else:
                self.write(pickle.GLOBAL + "{}\n{}\n".format(*known).encode())
            self.memoize(obj)

    return CheckpointPickler


class StorageTable:
    """Numbers the storages a pickle refers to, in the order in which it meets them."""

    def __init__(self, key: Callable[[int, Any], str]):
        self._key = key
        self._keys: dict[Any, tuple[str, Any]] = {}
        self.storages: dict[str, tuple[Any, Any]] = {}

    def reference(self, storage: Any, dtype: Any) -> tuple[Any, ...]:
        """The tuple that stands for ``storage`` in the pickle.

        Raises:
            RuntimeError: the same bytes were met before with another dtype, which the format
                cannot express.
        """
        octets = ntorch.uint8 if dtype is None else dtype
        address = 0 if storage.device.type == "meta" else storage.data_ptr()
        identity = (address, storage.nbytes()) if address else id(storage)
        key, first = self._keys.setdefault(
            identity, (self._key(len(self._keys), storage), octets)
        )
        if first != octets:
            raise RuntimeError(
                "Cannot save multiple tensors or storages that view the same data as different "
                f"types ({first} and {octets}); save a clone of one of them"
            )
        self.storages.setdefault(key, (storage, octets))
        kind = names.storage_kinds()[dtype]
        # Interned, so that the pickle holds it once.
        location = sys.intern(location_tag(storage))
        count = storage.nbytes() // octets.itemsize
        return ("storage", kind, key, location, count)
