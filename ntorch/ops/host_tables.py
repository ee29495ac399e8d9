"""Small integer tables that host functions fill in Python and hand to kernels."""
import numpy as np

from ..runtime import dtypes, recording
from ..runtime.storage import array_view
from .base import empty


def numpy_view(tensor):
    """The elements of a CPU tensor as a NumPy array over the same memory."""
    size = tensor.dtype.itemsize
    return array_view(tensor._storage, tensor._address, tensor._shape,
                      [stride * size for stride in tensor._strides], np.dtype(tensor.dtype.numpy))


def int_table(values, *shape):
    """An int64 tensor of ``shape`` (default: one row) holding ``values``.

    Values may be addresses: a recorder is told what the table holds, and puts this run's addresses
    in at every run.
    """
    table = empty(shape or (len(values),), dtypes.int64)
    recorder = recording.current() if recording.active else None
    if recorder is not None:
        words = np.asarray(values, np.int64).reshape(-1).tolist()
        if any(map(recording.is_fake, words)):
            recorder.fill_words(table._storage, words)
            return table
    numpy_view(table)[...] = values
    return table


class Table:
    """int64 numbers for kernels to read."""

    def __init__(self, numbers):
        self.array = np.ascontiguousarray(numbers, dtype=np.int64)
        self._tensor = None

    @property
    def tensor(self):
        """The numbers as a tensor: one that is kept, or while recording one of the recording's."""
        if recording.active and recording.current() is not None:
            return int_table(self.array)
        if self._tensor is None:
            self._tensor = int_table(self.array)
        return self._tensor

    @property
    def slots(self):
        """Slots of an ``i8:1C`` parameter."""
        return self.tensor._address, len(self.array)
