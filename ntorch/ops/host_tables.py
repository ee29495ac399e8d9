"""Small integer tables that host functions fill in Python and hand to kernels."""
import numpy as np

from ..runtime import dtypes
from ..runtime.storage import array_view
from .base import empty


def numpy_view(tensor):
    """The elements of a CPU tensor as a NumPy array over the same memory."""
    size = tensor.dtype.itemsize
    return array_view(tensor._storage, tensor._address, tensor._shape,
                      [stride * size for stride in tensor._strides], np.dtype(tensor.dtype.numpy))


def int_table(values, *shape):
    """An int64 tensor of ``shape`` (default: one row) holding ``values``."""
    table = empty(shape or (len(values),), dtypes.int64)
    numpy_view(table)[...] = values
    return table
