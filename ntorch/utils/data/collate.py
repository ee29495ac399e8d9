"""Making one batch of a list of samples, and tensors of single samples."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, MutableMapping, MutableSequence, Sequence
from typing import Any

import numpy as np

import ntorch

_CollateMap = dict[Any, Callable[..., Any]]

UNSUPPORTED = (
    "default_collate: batch must contain tensors, numpy arrays, numbers, dicts or lists; "
    "found {}; give DataLoader a collate_fn for it"
)


def collate(batch: Sequence[Any], *, collate_fn_map: _CollateMap | None = None) -> Any:
    """Merge samples: mappings key by key, sequences place by place, the rest by the table.

    Args:
        batch: samples of the same kind.
        collate_fn_map: type (or tuple of types) -> function ``(batch, *, collate_fn_map)``; asked
            for the exact type first, then in order for a base class.

    Raises:
        RuntimeError: sequences of different lengths.
        TypeError: a kind of sample there is no rule for.
    """
    first = batch[0]
    table = collate_fn_map or {}
    rule = table.get(type(first))
    if rule is None:
        rule = next((table[kind] for kind in table if isinstance(first, kind)), None)
    if rule is not None:
        return rule(batch, collate_fn_map=collate_fn_map)
    if isinstance(first, Mapping):
        merged = {
            key: collate([sample[key] for sample in batch], collate_fn_map=collate_fn_map)
            for key in first
        }
        return _like_mapping(first, merged)
    if not isinstance(first, Sequence):
        raise TypeError(UNSUPPORTED.format(type(first)))
    if not _is_namedtuple(first) and any(len(sample) != len(first) for sample in batch):
        raise RuntimeError(
            "each element in list of batch should be of equal size, but the sizes are "
            f"{sorted({len(sample) for sample in batch})}"
        )
    columns = zip(*batch, strict=False)
    return _like_sequence(first, [collate(c, collate_fn_map=collate_fn_map) for c in columns])


def _is_namedtuple(value: Any) -> bool:
    return isinstance(value, tuple) and hasattr(value, "_fields")


def _like_mapping(model: Any, items: dict[Any, Any]) -> Any:
    """``items`` in a mapping of the type of ``model``, and with its other attributes."""
    try:
        if isinstance(model, MutableMapping):
            result = copy.copy(model)
            result.update(items)
            return result
        return type(model)(items)
    except TypeError:
        # Not every mapping can be copied or made from a dict.
        return items


def _like_sequence(model: Any, items: list[Any]) -> Any:
    """``items`` in a sequence of the type of ``model``; plain tuples become lists."""
    if _is_namedtuple(model):
        return type(model)(*items)
    if isinstance(model, tuple):
        return items
    try:
        if isinstance(model, MutableSequence):
            result = copy.copy(model)
            for i, item in enumerate(items):
                result[i] = item
            return result
        return type(model)(items)
    except TypeError:
        # For example range, which cannot be made from a list.
        return items


def collate_tensor_fn(batch: Sequence[Any], *, collate_fn_map: Any = None) -> Any:
    return ntorch.stack(list(batch), 0)


def collate_numpy_array_fn(batch: Sequence[Any], *, collate_fn_map: Any = None) -> Any:
    if batch[0].dtype.kind in "SUOV":
        raise TypeError(UNSUPPORTED.format(batch[0].dtype))
    return collate([ntorch.as_tensor(b) for b in batch], collate_fn_map=collate_fn_map)


def collate_numpy_scalar_fn(batch: Sequence[Any], *, collate_fn_map: Any = None) -> Any:
    return ntorch.as_tensor(np.asarray(batch))


def collate_float_fn(batch: Sequence[Any], *, collate_fn_map: Any = None) -> Any:
    return ntorch.tensor(list(batch), dtype=ntorch.float64)


def collate_int_fn(batch: Sequence[Any], *, collate_fn_map: Any = None) -> Any:
    return ntorch.tensor(list(batch))


def collate_str_fn(batch: Sequence[Any], *, collate_fn_map: Any = None) -> Any:
    return batch


default_collate_fn_map: _CollateMap = {
    ntorch.Tensor: collate_tensor_fn,
    np.ndarray: collate_numpy_array_fn,
    (np.bool_, np.number, np.object_): collate_numpy_scalar_fn,
    float: collate_float_fn,
    int: collate_int_fn,
    str: collate_str_fn,
    bytes: collate_str_fn,
}


def default_collate(batch: Sequence[Any]) -> Any:
    """One batch of a list of samples, with a new first dimension.

    Tensors and NumPy arrays are stacked; floats give float64, ints int64; strings and bytes stay
    a list; dicts, named tuples, tuples (as lists) and lists are merged item by item. More kinds:
    add to ``default_collate_fn_map``.

    Raises:
        RuntimeError: samples of different lengths or shapes.
        TypeError: samples of another kind.
    """
    return collate(batch, collate_fn_map=default_collate_fn_map)


def default_convert(data: Any) -> Any:
    """A sample with its NumPy arrays and numbers turned into tensors, and nothing else changed.

    It is what a loader does to samples when it makes no batches.
    """
    if isinstance(data, ntorch.Tensor):
        return data
    if isinstance(data, np.ndarray) and data.dtype.kind in "SUOV":
        return data
    if isinstance(data, (np.ndarray, np.number, np.bool_)):
        return ntorch.as_tensor(data)
    if isinstance(data, Mapping):
        return _like_mapping(data, {key: default_convert(data[key]) for key in data})
    if isinstance(data, Sequence) and not isinstance(data, (str, bytes)):
        return _like_sequence(data, _convert_all(data))
    return data


def _convert_all(items: Iterable[Any]) -> list[Any]:
    return [default_convert(item) for item in items]
