"""Typed storages: ``FloatStorage`` and its siblings, a dtype over the bytes of a storage."""
import numpy as np

from .ops.registry import ops
from .runtime import dtypes
from .runtime.storage import Storage


class TypedStorage:
    """Elements of one dtype over a storage's bytes, indexable like a list."""

    dtype = None

    def __init__(self, storage=0, dtype=None):
        self.dtype = dtype or type(self).dtype or dtypes.get_default_dtype()
        if isinstance(storage, int):
            storage = Storage(storage * self.dtype.itemsize)
        elif not isinstance(storage, Storage):
            storage = ops.tensor(list(storage), dtype=self.dtype)._storage
        self._untyped_storage = storage

    def untyped(self):
        """The bytes."""
        return self._untyped_storage

    def __len__(self):
        return self._untyped_storage.nbytes() // self.dtype.itemsize

    size = __len__

    def nbytes(self):
        """Size in bytes."""
        return self._untyped_storage.nbytes()

    def element_size(self):
        """Bytes of one element."""
        return self.dtype.itemsize

    def data_ptr(self):
        """Address of the first byte."""
        return self._untyped_storage.data_ptr()

    @property
    def device(self):
        """Where the bytes are."""
        return self._untyped_storage.device

    def _tensor(self):
        return ops.empty(0, dtype=self.dtype).set_(self._untyped_storage)

    def __getitem__(self, index):
        picked = self._tensor()[index]
        return picked.item() if isinstance(index, int) else TypedStorage(
            picked.clone()._storage, self.dtype)

    def __setitem__(self, index, value):
        self._tensor()[index] = value

    def fill_(self, value):
        """Set every element."""
        self._tensor().fill_(value)
        return self

    def tolist(self):
        """The elements as Python numbers."""
        return self._tensor().tolist()

    def __iter__(self):
        return iter(self.tolist())

    def clone(self):
        """A copy."""
        return TypedStorage(self._untyped_storage.clone(), self.dtype)

    def __repr__(self):
        body = "\n".join(f" {v}" for v in self.tolist())
        return (f"{body}\n[torch.storage.TypedStorage(dtype={self.dtype}, device={self.device}) of "
                f"size {len(self)}]")

    def __reduce__(self):
        return _rebuild, (self._untyped_storage.numpy().tobytes(), self.dtype)

    def __deepcopy__(self, memo):
        return self.clone()


def _rebuild(data, dtype):
    storage = Storage(len(data))
    if data:
        storage.numpy()[:] = np.frombuffer(data, np.uint8)
    return TypedStorage(storage, dtype)


def _typed(name, dtype):
    return type(name, (TypedStorage,), {"dtype": dtype, "__module__": "ntorch",
                                        "__doc__": f"A storage of {dtype.name} elements."})


FloatStorage = _typed("FloatStorage", dtypes.float32)
DoubleStorage = _typed("DoubleStorage", dtypes.float64)
HalfStorage = _typed("HalfStorage", dtypes.float16)
BFloat16Storage = _typed("BFloat16Storage", dtypes.bfloat16)
LongStorage = _typed("LongStorage", dtypes.int64)
IntStorage = _typed("IntStorage", dtypes.int32)
ShortStorage = _typed("ShortStorage", dtypes.int16)
CharStorage = _typed("CharStorage", dtypes.int8)
ByteStorage = _typed("ByteStorage", dtypes.uint8)
BoolStorage = _typed("BoolStorage", dtypes.bool_)
ComplexFloatStorage = _typed("ComplexFloatStorage", dtypes.complex64)
ComplexDoubleStorage = _typed("ComplexDoubleStorage", dtypes.complex128)
