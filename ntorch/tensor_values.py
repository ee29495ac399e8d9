"""The part of Tensor that gives its elements to Python and NumPy."""
import ctypes

import numpy as np

from .ops.base import TensorBase, numel
from .ops.registry import ops
from .runtime import dtypes, recording, storage
from .runtime.device import META
from .runtime.dtypes import FLOAT

_READERS = {dtypes.float32: ctypes.c_float, dtypes.float64: ctypes.c_double,
            dtypes.int64: ctypes.c_int64, dtypes.int32: ctypes.c_int32,
            dtypes.int16: ctypes.c_int16,
            dtypes.int8: ctypes.c_int8, dtypes.uint8: ctypes.c_uint8, dtypes.bool_: ctypes.c_bool}


class Values(TensorBase):
    """Conversions to numbers, lists, arrays and text."""

    def _check_data(self, op):
        if self._storage.device is META:
            raise NotImplementedError(f"Cannot copy out of meta tensor; no data! ({op})")

    def _array(self):
        """A NumPy view; half types as 16-bit words for bfloat16."""
        kind = dtypes.NUMPY_VIEW[self.dtype]
        steps = [s * self.dtype.itemsize for s in self._strides]
        return storage.array_view(self._storage, self._address, tuple(self._shape), steps, kind)

    def numpy(self, *, force=False):
        """A NumPy array that shares memory. TypeError for bfloat16, RuntimeError with a gradient
        unless ``force``."""
        if force:
            return self.detach().cpu().numpy()
        if self._requires_grad:
            raise RuntimeError("Can't call numpy() on Tensor that requires grad. Use "
                               "tensor.detach().numpy() instead.")
        if self.dtype is dtypes.bfloat16:
            raise TypeError("Got unsupported ScalarType BFloat16")
        self._check_data("numpy")
        return self._array()

    def __array__(self, dtype=None, copy=None):
        array = self.numpy()
        if dtype is not None and np.dtype(dtype) != array.dtype:
            if copy is False:
                raise ValueError("a copy is needed to convert the dtype")
            return array.astype(dtype)
        return array.copy() if copy else array

    def __array_wrap__(self, array, context=None, return_scalar=False):
        if array.dtype == bool:
            array = array.astype(np.uint8)
        return ops.from_numpy(np.ascontiguousarray(array))

    def tolist(self):
        """Nested Python numbers."""
        self._check_data("tolist")
        source = self.detach()
        if self.dtype is dtypes.bfloat16:
            source = ops.to_dtype(source, dtypes.float32)
        return source._array().tolist()

    def item(self):
        """The single element as a Python number; RuntimeError if there is not exactly one."""
        if numel(self) != 1:
            raise RuntimeError(f"a Tensor with {numel(self)} elements cannot be converted to "
                               "Scalar")
        if self._storage.device is META:
            raise RuntimeError("Tensor.item() cannot be called on meta tensors")
        read = _READERS.get(self.dtype)
        if read is not None:
            return read.from_address(recording.touch(self)).value
        source = self.detach()
        if self.dtype is dtypes.bfloat16:
            source = ops.to_dtype(source, dtypes.float32)
        return source._array().item()

    def __bool__(self):
        if numel(self) != 1:
            raise RuntimeError("Boolean value of Tensor with " + ("no values"
                                                                  if not numel(self) else
                               "more than one value") + " is ambiguous")
        return bool(self.item())

    def _number(self):
        if numel(self) != 1:
            raise ValueError("only one element tensors can be converted to Python scalars, got "
                             f"one with {numel(self)}")
        return self.item()

    def _real_number(self, kind):
        value = self._number()
        if isinstance(value, complex):
            if value.imag:
                raise RuntimeError(f"value cannot be converted to type {kind} without overflow: "
                                   f"{value} has an imaginary part")
            return value.real
        return value

    def __float__(self):
        return float(self._real_number("double"))

    def __int__(self):
        return int(self._real_number("int64"))

    def __complex__(self):
        return complex(self._number())

    def __index__(self):
        if self.dtype.category >= FLOAT or numel(self) != 1:
            raise TypeError("only integer tensors of a single element can be converted to an index")
        return int(self.item())

    def __len__(self):
        if not self._shape:
            raise TypeError("len() of a 0-d tensor")
        return self._shape[0]

    def __iter__(self):
        if not self._shape:
            raise TypeError("iteration over a 0-d tensor")
        return iter(ops.unbind(self, 0))

    def __contains__(self, element):
        if isinstance(element, (TensorBase, int, float, complex, bool)):
            return bool(ops.any(ops.eq(self, element)))
        raise RuntimeError("Tensor.__contains__ only supports Tensor or scalar, but you passed in "
                           f"a {type(element)}.")

    def __repr__(self, *, tensor_contents=None):
        from .printing import tensor_repr
        return tensor_repr(self) if tensor_contents is None else tensor_repr(
            self, tensor_contents=tensor_contents)

    def __format__(self, spec):
        if not self._shape:
            return format(self.item(), spec)
        return object.__format__(self, spec)
