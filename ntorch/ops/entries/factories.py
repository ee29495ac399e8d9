"""Tensors from nothing, from numbers and from arrays."""
import numbers

import numpy as np

from ...runtime import dtypes
from ...runtime.device import CPU, META, check_available
from ...runtime.storage import Storage
from ..base import (
    Size,
    TensorBase,
    checked_nbytes,
    contiguous_strides,
    empty,
    integer,
    make,
    numel,
)
from ..composite import overloaded
from ..registry import ops


def sizes_of(op, size, keywords=()):
    """The shape in ``zeros(2, 3)``, ``zeros((2, 3))`` or ``zeros(size=(2, 3))``."""
    if len(size) == 1 and isinstance(size[0], (tuple, list)):
        size = size[0]
    for position, value in enumerate(size):
        if isinstance(value, (float, str, bool)) and not isinstance(value, numbers.Integral):
            raise TypeError(f"{op}(): argument 'size' (position 1) must be tuple of ints, but "
                            f"found element of type {type(value).__name__} at pos {position}")
    return Size(integer(v, op, "size") for v in size)


def finish(result, requires_grad, out=None):
    """Apply ``requires_grad`` and ``out`` to a fresh tensor."""
    if out is not None:
        if tuple(out._shape) != tuple(result._shape):
            out.resize_(result._shape)
        ops.copy_(out, result)
        return out
    if requires_grad:
        result.requires_grad_(True)
    return result


def check_dtype(op, dtype):
    """TypeError unless ``dtype`` is a dtype or None."""
    if dtype is not None and not isinstance(dtype, dtypes.dtype):
        raise TypeError(f"{op}(): argument 'dtype' must be torch.dtype, not {type(dtype).__name__}")
    return dtype


def _factory(name, fill):
    def factory(*size, out=None, dtype=None, layout=None, device=None, requires_grad=False,
                pin_memory=False, memory_format=None, generator=None, names=None, **keywords):
        shape = sizes_of(name, size or (keywords.pop("size", ()),))
        if keywords:
            raise TypeError(f"{name}() got an unexpected keyword argument '{next(iter(keywords))}'")
        if out is not None and dtype is None:
            dtype = out.dtype
        result = empty(shape, check_dtype(name, dtype), device)
        fill(result)
        return finish(result, requires_grad, out)
    factory.__name__ = name
    return overloaded(name, method=False)(factory)


def _poison(result):
    return result


empty_entry = _factory("empty", _poison)
_factory("zeros", lambda t: ops.zero_(t))
_factory("ones", lambda t: ops.fill_(t, 1))
empty_entry.host.__doc__ = "A tensor of the given sizes whose contents are not defined."


@overloaded("full", method=False)
def full(size, fill_value, *, out=None, dtype=None, layout=None, device=None, requires_grad=False,
         pin_memory=False, names=None):
    """A tensor of ``size`` filled with a number; its dtype follows the number if none is given."""
    if isinstance(fill_value, TensorBase):
        dtype = dtype or fill_value.dtype
    elif dtype is None and out is None:
        dtype = dtypes.of_scalar(fill_value)
    dtype = dtype or (out.dtype if out is not None else None)
    if not isinstance(size, (tuple, list)):
        raise TypeError(f"full(): argument 'size' (position 1) must be tuple of ints, not "
                        f"{type(size).__name__}")
    result = empty(sizes_of("full", (tuple(size),)), check_dtype("full", dtype), device)
    ops.fill_(result, fill_value)
    return finish(result, requires_grad, out)


def _like(name, fill):
    def like(input, *arguments, dtype=None, layout=None, device=None, requires_grad=False,
             memory_format=None, pin_memory=False, **keywords):
        if not isinstance(input, TensorBase):
            raise TypeError(f"{name}(): argument 'input' (position 1) must be Tensor, not "
                            f"{type(input).__name__}")
        result = empty(input._shape, check_dtype(name, dtype) or input.dtype,
                       input.device if device is None else device)
        if not str(memory_format).endswith("contiguous_format"):
            from ..pointwise import _result_strides
            result._strides = _result_strides(input._shape, [input])
        fill(result, *arguments, **keywords)
        return finish(result, requires_grad)
    like.__name__ = name
    like.__doc__ = f"``{name[:-5]}`` with the shape, dtype and device of ``input``."
    return overloaded(name, method=False)(like)


_like("empty_like", _poison)
_like("zeros_like", lambda t: ops.zero_(t))
_like("ones_like", lambda t: ops.fill_(t, 1))
_like("full_like", lambda t, fill_value: ops.fill_(t, fill_value))


def _new(name, function):
    def new(self, *size, dtype=None, device=None, requires_grad=False, layout=None,
            pin_memory=False,
            **keywords):
        shape = sizes_of(name, size or (keywords.pop("size", ()),))
        result = empty(shape, check_dtype(name, dtype) or self.dtype,
                       self.device if device is None else device)
        function(result)
        return finish(result, requires_grad)
    new.__name__ = name
    new.__doc__ = f"``{name[4:]}`` with the dtype and device of this tensor."
    return overloaded(name)(new)


_new("new_empty", _poison)
_new("new_zeros", lambda t: ops.zero_(t))
_new("new_ones", lambda t: ops.fill_(t, 1))


@overloaded("new_full")
def new_full(self, size, fill_value, *, dtype=None, device=None, requires_grad=False, layout=None,
             pin_memory=False):
    """``full`` with the dtype and device of this tensor."""
    return full(size, fill_value, dtype=dtype or self.dtype,
                device=self.device if device is None else device, requires_grad=requires_grad)


@overloaded("new_tensor")
def new_tensor(self, data, *, dtype=None, device=None, requires_grad=False, layout=None,
               pin_memory=False):
    """``tensor`` with the dtype and device of this tensor as defaults."""
    return tensor(data, dtype=dtype or self.dtype, device=self.device if device is None else device,
                  requires_grad=requires_grad)


@overloaded("empty_strided", method=False)
def empty_strided(size, stride, *, dtype=None, layout=None, device=None, requires_grad=False,
                  pin_memory=False):
    """An uninitialised tensor with the given strides, in elements."""
    shape, strides = Size(size), tuple(stride)
    dtype = dtype or dtypes.get_default_dtype()
    checked_nbytes(shape, dtype)
    if len(shape) != len(strides):
        raise RuntimeError(f"dimensionality of sizes ({len(shape)}) must match dimensionality of "
                           f"strides ({len(strides)})")
    if min(strides, default=0) < 0:
        raise RuntimeError(f"as_strided: Negative strides are not supported at the moment, got "
                           f"strides: {list(strides)}")
    last = sum((n - 1) * s for n, s in zip(shape, strides, strict=True)) + 1
    storage = Storage(0 if 0 in shape else last * dtype.itemsize, check_available(device))
    result = make(storage, dtype, shape, strides, 0)
    return finish(result, requires_grad)


@overloaded("new_empty_strided")
def new_empty_strided(self, size, stride, *, dtype=None, device=None, requires_grad=False,
                      layout=None, pin_memory=False):
    """``empty_strided`` with the dtype and device of this tensor."""
    return empty_strided(size, stride, dtype=dtype or self.dtype, device=device or self.device,
                         requires_grad=requires_grad)


@overloaded("from_numpy", method=False)
def from_numpy(ndarray):
    """A tensor that shares memory with a NumPy array; TypeError for other objects or dtypes.

    Byte-swapped arrays and negative strides are refused (ValueError), as in torch.
    """
    if not isinstance(ndarray, np.ndarray):
        raise TypeError(f"expected np.ndarray (got {type(ndarray).__name__})")
    dtype = dtypes.from_numpy(ndarray.dtype)
    if not ndarray.dtype.isnative:
        raise ValueError("given numpy array has byte order different from the native byte order. "
                         "Conversion between byte orders is currently not supported.")
    if any(s < 0 for s in ndarray.strides):
        raise ValueError("At least one stride in the given numpy array is negative, and tensors "
                         "with negative strides are not currently supported. (You can probably "
                         "work around this by making a copy of your array  with array.copy().) ")
    if any(s % ndarray.itemsize for s in ndarray.strides):
        raise ValueError("given numpy array strides not a multiple of the element byte size. Copy "
                         "the numpy array to reallocate the memory.")
    strides = tuple(s // ndarray.itemsize for s in ndarray.strides)
    span = sum((n - 1) * s for n, s in zip(ndarray.shape, strides, strict=True)) + 1
    storage = Storage.borrow(ndarray.ctypes.data, 0 if 0 in ndarray.shape else
                             span * ndarray.itemsize, ndarray)
    if 0 in ndarray.shape or ndarray.ndim == 0:
        strides = contiguous_strides(ndarray.shape)
    return make(storage, dtype, Size(ndarray.shape), strides, 0)


def _shape_of(data):
    shape = []
    while isinstance(data, (list, tuple, range)) or (
            isinstance(data, TensorBase) and data._shape) or isinstance(data, np.ndarray):
        if isinstance(data, (TensorBase, np.ndarray)):
            return [*shape, *data.shape]
        shape.append(len(data))
        if not len(data):
            break
        data = data[0]
    return shape


def _check_regular(data, shape, depth=0):
    if depth == len(shape):
        if isinstance(data, (list, tuple)):
            raise TypeError(f"not a sequence of numbers at dim {depth}")
        return
    if isinstance(data, (TensorBase, np.ndarray)):
        return
    if not isinstance(data, (list, tuple, range)) or len(data) != shape[depth]:
        if isinstance(data, (list, tuple, range)):
            raise ValueError(f"expected sequence of length {shape[depth]} at dim {depth} (got "
                             f"{len(data)})")
        raise TypeError(f"not a sequence: {type(data).__name__} at dim {depth}")
    if depth + 1 < len(shape):
        for item in data:
            _check_regular(item, shape, depth + 1)
    elif any(isinstance(item, (list, tuple)) for item in data):
        raise ValueError(f"too many dimensions '{type(data[0]).__name__}'" if isinstance(
            data[0], (list, tuple)) else f"expected a number at dim {depth}, got a sequence")


def _leaves(data):
    if isinstance(data, (list, tuple, range)):
        for item in data:
            yield from _leaves(item)
    elif isinstance(data, (TensorBase, np.ndarray)):
        yield data
    else:
        yield data


def _infer(data):
    """The dtype of nested numbers: the widest category met, as torch infers it."""
    found = None
    for leaf in _leaves(data):
        if isinstance(leaf, TensorBase):
            d = leaf.dtype
        elif isinstance(leaf, np.ndarray):
            d = dtypes.from_numpy(leaf.dtype)
        elif isinstance(leaf, (bool, int, float, complex, np.generic)):
            d = dtypes.of_scalar(leaf)
        elif leaf is None:
            raise RuntimeError("Could not infer dtype of NoneType")
        elif isinstance(leaf, str):
            raise TypeError("new(): invalid data type 'str'")
        else:
            raise RuntimeError(f"Could not infer dtype of {type(leaf).__name__}")
        found = d if found is None else dtypes.promote_types(found, d)
    return found or dtypes.get_default_dtype()


def _plain(data):
    if isinstance(data, TensorBase):
        return data.tolist()
    if isinstance(data, (list, tuple, range)):
        return [_plain(item) for item in data]
    return data


def _from_data(data, dtype, device):
    if isinstance(data, TensorBase):
        copy = ops.clone(data.detach())
        copy = copy if dtype in (None, copy.dtype) else ops.to_dtype(copy, dtype)
        return copy if device is None else copy.to(device)
    if not isinstance(data, (list, tuple, range, np.ndarray)) and hasattr(data, "__array__"):
        data = np.asarray(data)
    if isinstance(data, np.ndarray):
        if data.dtype == object:
            raise TypeError("can't convert np.ndarray of type numpy.object_.")
        array = np.array(data, order="C", dtype=data.dtype.newbyteorder("="))
        result = ops.clone(from_numpy(array))
    else:
        shape = _shape_of(data)
        _check_regular(data, shape)
        wanted = dtype or _infer(data)
        storage_type = {dtypes.bfloat16: np.float32}.get(wanted, dtypes.NUMPY_VIEW[wanted])
        try:
            array = np.array(_plain(data), dtype=storage_type).reshape(shape)
        except OverflowError:
            raise RuntimeError(f"value cannot be converted to type {wanted} without overflow"
                               ) from None
        except TypeError as error:
            raise TypeError(f"tensor(): cannot make {wanted} from the data: {error}") from None
        result = ops.clone(from_numpy(array))
    if dtype is not None and result.dtype is not dtype:
        result = ops.to_dtype(result, dtype)
    return result if device is None else result.to(device)


@overloaded("tensor", method=False)
def tensor(data, *, dtype=None, device=None, requires_grad=False, pin_memory=False):
    """A tensor with a copy of ``data``: a number, nested sequences, an array or a tensor.

    The dtype is inferred unless given: bool, int64, the default floating type, or its complex type.
    ValueError for ragged sequences, RuntimeError for numbers that do not fit.
    """
    result = _from_data(data, check_dtype("tensor", dtype), device)
    return finish(result, requires_grad)


@overloaded("as_tensor", method=False, aliases=("asarray",))
def as_tensor(data, dtype=None, device=None, *, copy=None, requires_grad=False):
    """``data`` as a tensor, sharing memory with tensors and arrays where dtype and device allow."""
    if copy:
        return tensor(data, dtype=dtype, device=device, requires_grad=requires_grad)
    if isinstance(data, np.ndarray) and data.dtype != object:
        data = from_numpy(data)
    if isinstance(data, TensorBase):
        if dtype is not None and data.dtype is not dtype:
            data = ops.to_dtype(data, dtype)
        return data if device is None else data.to(device)
    return tensor(data, dtype=dtype, device=device, requires_grad=requires_grad)


@overloaded("frombuffer", method=False)
def frombuffer(buffer, *, dtype, count=-1, offset=0, requires_grad=False):
    """A one-dimensional tensor over the memory of a buffer object."""
    view = np.frombuffer(buffer, dtypes.NUMPY_VIEW[dtype], count, offset)
    strided = from_numpy(view) if not dtype.is_half or dtype is dtypes.float16 else None
    if strided is None:
        strided = ops.view_dtype(from_numpy(view.view(np.int16)), dtype)
    return finish(strided, requires_grad)


@overloaded("scalar_tensor", method=False)
def scalar_tensor(value, *, dtype=None, device=None, requires_grad=False):
    """A zero-dim tensor; the default floating type unless a dtype is given."""
    return tensor(value, dtype=dtype or dtypes.get_default_dtype(), device=device,
                  requires_grad=requires_grad)


__all__ = ["CPU", "META", "numel"]
