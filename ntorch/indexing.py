"""``x[key]`` and ``x[key] = value``: ints, slices, None, Ellipsis, masks and index tensors.

The basic part of a key becomes views; what is left, tensors and masks, goes to the entries
``index`` and ``index_put`` with the placement rules of NumPy and torch. Gradients follow from the
entries.
"""
import numbers

import numpy as np

from .autograd.modes import state
from .ops.base import Size, TensorBase, numel
from .ops.base import view as view_of
from .ops.registry import ops
from .runtime import dtypes

_PLAIN = (dtypes.int64, dtypes.int32)        # dtypes of an index that stands for one dimension


def _as_index(item):
    """A key's array or list as an index tensor."""
    if isinstance(item, TensorBase):
        return item
    if isinstance(item, np.ndarray):
        return ops.as_tensor(item)
    made = ops.tensor(item)
    return ops.to_dtype(made, dtypes.int64) if not numel(made) else made


def _count(item):
    """How many dimensions of the tensor one part of a key consumes."""
    if item is None or item is Ellipsis or isinstance(item, (bool, np.bool_)):
        return 0
    if isinstance(item, TensorBase) and item.dtype in (dtypes.bool_, dtypes.uint8):
        return len(item._shape)
    if isinstance(item, np.ndarray) and item.dtype in (np.bool_, np.uint8):
        return item.ndim
    if isinstance(item, (list, tuple)):
        return _list_dims(item)
    return 1


def _list_dims(item):
    depth = 0
    while isinstance(item, (list, tuple)) and item:
        item, depth = item[0], depth + 1
    return depth if isinstance(item, (bool, np.bool_)) else 1


def _slice_bound(value):
    """A slice's start, stop or step as an int or None; TypeError in torch's words."""
    if value is None or isinstance(value, int):
        return value
    if isinstance(value, TensorBase):
        return int(value.item())
    if hasattr(value, "__index__"):
        return value.__index__()
    raise TypeError("slice indices must be integers or None or have an __index__ method")


def _slice(tensor, d, item):
    start, stop, step = (_slice_bound(v) for v in (item.start, item.stop, item.step))
    step = 1 if step is None else step
    if step <= 0:
        raise ValueError("step must be greater than zero")
    if start is None and stop is None and step == 1:
        return tensor
    return ops.slice(tensor, d, start, stop, step)


def _flag(tensor, d, value):
    """A bool (or zero-dim mask) in a key: a new dimension of size 1 and a one-element mask for
    it."""
    return ops.unsqueeze(tensor, d), ops.full((1,), bool(value), dtype=dtypes.bool_)


def _is_integer(item):
    if isinstance(item, numbers.Integral) and not isinstance(item, (bool, np.bool_)):
        return True
    if isinstance(item, np.ndarray):
        return item.ndim == 0 and item.dtype.kind in "iu"
    return (isinstance(item, TensorBase) and not item._shape
            and item.dtype.category == dtypes.INT and item.dtype is not dtypes.uint8)


def parse(tensor, key):
    """``(view, indices)``: the basic part of ``key`` applied, and index tensors for what is left.

    ``indices`` is None where no tensor is involved. IndexError for a key that does not fit.
    """
    key = key if isinstance(key, tuple) else (key,)
    used = sum(_count(item) for item in key)
    if used > len(tensor._shape):
        raise IndexError(f"too many indices for tensor of dimension {len(tensor._shape)}")
    view, d, indices, seen = tensor, 0, {}, False
    for position, item in enumerate(key):
        if item is Ellipsis:
            if seen:
                # torch lets a second Ellipsis stand for no dimensions at all
                continue
            seen = True
            d += len(tensor._shape) - used
        elif item is None:
            view = ops.unsqueeze(view, d)
            d += 1
        elif isinstance(item, slice):
            view = _slice(view, d, item)
            d += 1
        elif isinstance(item, (bool, np.bool_)):
            view, indices[d] = _flag(view, d, item)
            d += 1
        elif isinstance(item, TensorBase) and not item._shape and item.dtype is dtypes.bool_:
            view, indices[d] = ops.unsqueeze(view, d), ops.reshape(item, (1,))
            d += 1
        elif _is_integer(item):
            view = _integer(view, d, item, position)
        elif isinstance(item, (TensorBase, np.ndarray, list, tuple, range)):
            index = _as_index(item)
            indices[d] = index
            d += len(index._shape) if index.dtype in (dtypes.bool_, dtypes.uint8) else 1
        else:
            error = TypeError if isinstance(item, str) else IndexError      # torch's two
            raise error("only integers, slices (`:`), ellipsis (`...`), None and long or byte "
                        f"Variables are valid indices (got {type(item).__name__})")
    return view, indices


def _integer(view, d, item, position):
    if isinstance(item, TensorBase):
        item = item.item()
    size = view._shape[d]
    if not -size <= item < size:
        raise IndexError(f"index {item} is out of bounds for dimension {position} with size {size}")
    return ops.select(view, d, int(item))


def _listed(view, indices):
    """One entry per dimension up to the last indexed one; masks stand at their first dimension."""
    listed, d = [], 0
    for place in sorted(indices):
        listed += [None] * (place - d)
        index = indices[place]
        listed.append(index)
        d = place + (len(index._shape) if index.dtype in (dtypes.bool_, dtypes.uint8) else 1)
    return tuple(listed)


def _untracked(tensor):
    """Whether views of ``tensor`` need no history: no gradient is wanted and nothing traces."""
    base = tensor._base
    return (not tensor._requires_grad and state.tracer is None
            and (base is None or not base._requires_grad))


def _plain_view(tensor, key):
    """``tensor[key]`` for a key of Python ints and slices in one step; None for other keys."""
    shape, strides, offset, sizes, steps = tensor._shape, tensor._strides, tensor._offset, [], []
    if len(key) > len(shape):
        return None
    for d, item in enumerate(key):
        size, stride = shape[d], strides[d]
        if type(item) is int:
            if not -size <= item < size:
                return None
            offset += (item + size if item < 0 else item) * stride
        elif type(item) is slice and (item.step is None or type(item.step) is int
                                      and item.step > 0):
            try:
                start, stop, step = item.indices(size)
            except TypeError:
                return None
            offset += start * stride if stop > start else min(start, size) * stride
            sizes.append(max(-(-(stop - start) // step), 0))
            steps.append(stride * step)
        else:
            return None
    made = view_of(tensor, Size((*sizes, *shape[len(key):])), (*steps, *strides[len(key):]), offset)
    made._rebased = made._base._rebased
    return made


def _plain_target(tensor, key):
    """The view that a basic key names, where no history is kept; else None."""
    if tensor._shape and _untracked(tensor):
        return _plain_view(tensor, key if type(key) is tuple else (key,))
    return None


def getitem(tensor, key):
    """``tensor[key]``: a view for basic keys, a copy where a tensor, list or mask selects."""
    made = _plain_target(tensor, key)
    if made is not None:
        return made
    if type(key) is int and tensor._shape:
        return _integer(tensor, 0, key, 0)
    if not tensor._shape and _is_integer(key if not isinstance(key, tuple) else (*key, None)[0]):
        raise IndexError("invalid index of a 0-dim tensor. Use `tensor.item()` in Python or "
                         "`tensor.item<T>()` in C++ to convert a 0-dim tensor to a number")
    if isinstance(key, TensorBase) and key._shape and tensor._shape and key.dtype in _PLAIN:
        return ops.index(tensor, (key,))
    view, indices = parse(tensor, key)
    if indices:
        return ops.index(view, _listed(view, indices))
    return ops.alias(view) if view is tensor else view


def _value_for(view, value):
    """The assigned value as a tensor, or a number left as it is; arrays take the target's dtype."""
    if isinstance(value, TensorBase):
        return value
    if isinstance(value, (bool, int, float, complex)) and not isinstance(value, np.generic):
        return value
    if isinstance(value, np.ndarray):
        return ops.to_dtype(ops.as_tensor(value), view.dtype)
    if isinstance(value, (str, bytes)):
        raise TypeError(f"can't assign a {type(value).__name__} to a tensor of {view.dtype}")
    return ops.tensor(value, dtype=view.dtype)


def _strip(value, shape):
    """``value`` without the leading dimensions of size 1 that the target does not have."""
    extra = len(value._shape) - len(shape)
    if extra > 0 and all(n == 1 for n in value._shape[:extra]):
        return ops.reshape(value, value._shape[extra:])
    return value


def _check_fits(value, shape):
    lead = len(shape) - len(value._shape)
    fits = lead >= 0 and all(have in (1, want) for have, want in
                             zip(value._shape, shape[lead:], strict=True))
    if not fits:
        raise RuntimeError(f"shape mismatch: value tensor of shape {list(value._shape)} cannot be "
                           f"broadcast to indexing result of shape {list(shape)}")


def setitem(tensor, key, value):
    """``tensor[key] = value``: ``value`` (number, array, sequence or tensor) is converted and
    broadcast; RuntimeError if it does not fit."""
    view, indices = _plain_target(tensor, key), ()
    if view is None:
        view, indices = parse(tensor, key)
    value = _value_for(view, value)
    if not indices:
        if isinstance(value, TensorBase):
            value = _strip(value, view._shape)
            _check_fits(value, view._shape)
            ops.copy_(view, value)
        else:
            ops.fill_(view, value)
        return
    listed = _listed(view, indices)
    single = not isinstance(value, TensorBase) or numel(value) == 1
    if single and len(listed) == 1 and _is_mask_of(listed[0], view):
        ops.masked_fill_(view, listed[0], ops.reshape(value, ()) if isinstance(value, TensorBase)
                         else value)
        return
    if isinstance(value, TensorBase):
        if single and len(indices) == 1 and listed[-1].dtype is dtypes.bool_:
            value = ops.to_dtype(value, view.dtype)      # torch fills by mask there, which converts
    else:
        number = value
        value = ops.empty((), dtype=view.dtype, device=view.device)
        ops.fill_(value, number)
    ops.index_put_(view, listed, value)


def _is_mask_of(index, view):
    return index.dtype is dtypes.bool_ and index._shape == view._shape
