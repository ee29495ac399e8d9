"""Tensors from their parts: what pickles and checkpoints call to put a tensor together again."""

from __future__ import annotations

import importlib.util
import math
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import ntorch

__all__ = [
    "cuda_is_available",
    "new_storage",
    "rebuild_meta_tensor",
    "rebuild_parameter",
    "rebuild_parameter_with_state",
    "rebuild_subclass",
    "rebuild_tensor",
    "rebuild_tensor_v1",
    "rebuild_tensor_v3",
    "storage_bytes",
]


def new_storage(nbytes: int, device: Any = "cpu") -> Any:
    """A storage of ``nbytes`` bytes whose contents are not set."""
    return ntorch.UntypedStorage(nbytes, ntorch.device(device))


def cuda_is_available() -> bool:
    """Whether there is a GPU, asked without failing where the package has no ``cuda``."""
    if importlib.util.find_spec("ntorch.cuda") is None:
        return False
    return ntorch.cuda.is_available()


def storage_bytes(storage: Any) -> memoryview:
    """The bytes of a CPU storage: writable, shared with it, nothing copied."""
    return memoryview(storage.numpy()) if storage.nbytes() else memoryview(bytearray())


def rebuild_tensor(
    storage: ntorch.TypedStorage,
    storage_offset: int,
    size: Sequence[int],
    stride: Sequence[int],
    requires_grad: bool = False,
    backward_hooks: Any = None,
    metadata: Any = None,
) -> Any:
    """A tensor that views ``storage`` with the given offset, size and stride, in elements.

    Raises:
        RuntimeError: negative numbers, size and stride of different lengths, or a view that
            reaches beyond the storage.
    """
    if not isinstance(storage, ntorch.TypedStorage):
        raise RuntimeError(
            f"rebuild_tensor: expected a storage with a dtype, but got {type(storage).__name__}"
        )
    tensor = rebuild_tensor_v1(storage, storage_offset, size, stride)
    if requires_grad:
        tensor.requires_grad_(True)
    _set_hooks(tensor, backward_hooks)
    return tensor


def rebuild_tensor_v1(
    storage: ntorch.TypedStorage, storage_offset: int, size: Sequence[int], stride: Sequence[int]
) -> Any:
    """:func:`rebuild_tensor` without gradient flags, as files before version 0.4 have it."""
    check_view(len(storage), storage_offset, size, stride)
    tensor = ntorch.empty(0, dtype=storage.dtype, device=storage.device)
    return tensor.set_(storage.untyped(), storage_offset, tuple(size), tuple(stride))


def rebuild_tensor_v3(
    storage: ntorch.TypedStorage,
    storage_offset: int,
    size: Sequence[int],
    stride: Sequence[int],
    requires_grad: bool,
    backward_hooks: Any,
    dtype: Any,
    metadata: Any = None,
) -> Any:
    """:func:`rebuild_tensor` of a storage saved as plain bytes, the dtype beside it."""
    if not isinstance(storage, ntorch.TypedStorage) or not isinstance(dtype, ntorch.dtype):
        raise RuntimeError("rebuild_tensor_v3: expected a storage and a dtype")
    typed = ntorch.TypedStorage(storage.untyped(), dtype)
    return rebuild_tensor(typed, storage_offset, size, stride, requires_grad, backward_hooks)


def check_view(elements: int, offset: int, size: Sequence[int], stride: Sequence[int]) -> None:
    """RuntimeError unless the view lies within a storage of ``elements`` elements."""
    numbers = [offset, *size, *stride]
    if any(type(n) is not int for n in numbers) or len(size) != len(stride):
        raise RuntimeError(
            "rebuild_tensor: expected integers and as many strides as sizes, but got "
            f"offset={offset!r}, size={tuple(size)!r}, stride={tuple(stride)!r}"
        )
    if min(numbers) < 0:
        raise RuntimeError(
            "rebuild_tensor: expected no negative numbers, but got "
            f"offset={offset}, size={tuple(size)}, stride={tuple(stride)}"
        )
    last = offset + sum((n - 1) * s for n, s in zip(size, stride, strict=True))
    needed = last + 1 if math.prod(size) else offset
    if needed > elements or math.prod(max(n, 1) for n in size) >= 2**63:
        raise RuntimeError(
            f"rebuild_tensor: a view of size {tuple(size)}, stride {tuple(stride)} and offset "
            f"{offset} needs {needed} elements, out of bounds for storage of {elements}; "
            "the file is corrupt"
        )


def rebuild_meta_tensor(
    dtype: Any, size: Sequence[int], stride: Sequence[int], requires_grad: bool
) -> Any:
    """A tensor on the meta device: shape and dtype, no data."""
    check_view(2**63, 0, size, stride)
    tensor = ntorch.empty_strided(tuple(size), tuple(stride), dtype=dtype, device="meta")
    return tensor.requires_grad_(requires_grad)


def rebuild_parameter(data: Any, requires_grad: bool, backward_hooks: Any) -> Any:
    """``nn.Parameter(data, requires_grad)``."""
    parameter = ntorch.nn.Parameter(_checked(data), bool(requires_grad))
    _set_hooks(parameter, backward_hooks)
    return parameter


def rebuild_parameter_with_state(
    data: Any, requires_grad: bool, backward_hooks: Any, state: Any
) -> Any:
    """:func:`rebuild_parameter`, with attributes put on the parameter."""
    return _with_state(rebuild_parameter(data, requires_grad, backward_hooks), state)


def rebuild_subclass(rebuild: Any, kind: type, arguments: Sequence[Any], state: Any) -> Any:
    """The tensor that ``rebuild(*arguments)`` gives, as a ``kind``, with attributes put on it."""
    known = (rebuild_tensor, rebuild_tensor_v1, rebuild_tensor_v3, rebuild_meta_tensor)
    if not any(rebuild is function for function in known):
        raise RuntimeError(f"rebuild_subclass: expected a function of this module, got {rebuild!r}")
    if not isinstance(kind, type) or not issubclass(kind, ntorch.Tensor):
        raise RuntimeError(f"rebuild_subclass: expected a class of tensors, but got {kind!r}")
    tensor = rebuild(*arguments)
    if type(tensor) is not kind:
        requires_grad, tensor = tensor.requires_grad, tensor.detach()
        tensor.__class__ = kind
        tensor.requires_grad_(requires_grad)
    return _with_state(tensor, state)


def _checked(value: Any) -> Any:
    if not isinstance(value, ntorch.Tensor):
        raise RuntimeError(f"rebuild: expected a tensor, but got {type(value).__name__}")
    return value


def _set_hooks(tensor: Any, hooks: Any) -> None:
    if hooks is not None and not isinstance(hooks, OrderedDict):
        raise RuntimeError(
            f"rebuild: expected backward hooks in an OrderedDict, but got {type(hooks).__name__}"
        )
    if hooks:
        tensor._backward_hooks = hooks


def _with_state(tensor: Any, state: Any) -> Any:
    # What pickle's BUILD does: a dict, or a pair of dicts (attributes, slots).
    parts = state if isinstance(state, tuple) else (state,)
    for part in parts:
        for name, value in (part or {}).items():
            if not isinstance(name, str) or name.startswith("__") or hasattr(type(tensor), name):
                raise RuntimeError(f"rebuild: {name!r} cannot be set as an attribute of a tensor")
            setattr(tensor, name, value)
    return tensor
