"""Storage: bytes on a device, their address and a version counter that in-place writes bump."""
import ctypes

import numpy as np

from . import memory, recording
from .device import CPU, META

on_move = []        # told of a storage whose bytes moved, while old and new memory both live


class Storage:
    """``nbytes`` bytes on ``device``; ``address`` is 0 on the meta device, which has no data.

    ``version`` counts in-place writes, so that backward can tell a saved tensor has changed.
    """

    __slots__ = ("address", "_nbytes", "_block", "device", "version", "__weakref__")

    def __init__(self, nbytes=0, device=CPU, allocate=memory.allocate):
        self._nbytes = nbytes
        self.device = device
        self.version = 0
        if device is META:
            self.address, self._block = 0, None
        elif recording.active and (recorder := recording.current()) is not None:
            self.address, self._block = recorder.storage(self, nbytes)
        else:
            self.address, self._block = allocate(nbytes)

    def __del__(self, free=memory.free):
        try:
            block = self._block
        except AttributeError:      # __init__ raised
            return
        if block is not None and type(block) is not Borrowed:
            free(block)

    @classmethod
    def borrow(cls, address, nbytes, owner):
        """A storage over memory that ``owner`` keeps alive (a NumPy array, a DLPack capsule)."""
        self = cls.__new__(cls)
        self.address, self._nbytes, self._block = address, nbytes, Borrowed(owner)
        self.device, self.version = CPU, 0
        return self

    def nbytes(self):
        """Size in bytes."""
        return self._nbytes

    size = __len__ = nbytes

    def data_ptr(self):
        """Address of the first byte."""
        return self.address

    def numpy(self):
        """The bytes as a uint8 NumPy array that shares this memory and keeps it alive."""
        return bytes_view(self, self.address, self._nbytes)

    def resize_(self, nbytes):
        """Change the size, keeping the bytes that fit; RuntimeError for borrowed memory."""
        if isinstance(self._block, Borrowed):
            if nbytes > self._nbytes:
                raise RuntimeError("Trying to resize storage that is not resizable")
            self._nbytes = nbytes
            return self
        fresh = _allocated(nbytes, self.device)
        if self.device is not META:
            ctypes.memmove(fresh.address, self.address, min(nbytes, self._nbytes))
        had, self._nbytes, fresh._nbytes = self._nbytes, nbytes, self._nbytes
        self._take(fresh.address, fresh._block, fresh, had)
        return self

    def share_(self):
        """Move the bytes to memory that forked and spawned processes see too."""
        from .shared import Segment
        if not self.is_shared_memory and self.device is not META:
            segment = Segment.create(self._nbytes)
            ctypes.memmove(segment.address, self.address, self._nbytes)
            spare = _allocated(0, self.device)
            self._take(segment.address, Borrowed(segment), spare, self._nbytes)
        return self

    @property
    def segment(self):
        """The shared segment that holds the bytes, or None."""
        owner = getattr(self._block, "owner", None)
        return owner if getattr(owner, "is_shared", False) else None

    def _take(self, address, block, spare, had):
        """Point to other memory; ``spare`` gets the old one, and views learn the new address."""
        spare.address, self.address = self.address, address
        spare._block, self._block = self._block, block
        if had:
            for follow in on_move:
                follow(self)

    def clone(self):
        """A copy on the same device."""
        copy = _allocated(self._nbytes, self.device)
        if self.device is not META:
            ctypes.memmove(copy.address, self.address, self._nbytes)
        return copy

    def copy_(self, other):
        """Overwrite with the bytes of ``other``, which has the same size."""
        if other.nbytes() != self._nbytes:
            raise RuntimeError(f"copy_: expected {self._nbytes} bytes, got {other.nbytes()}")
        ctypes.memmove(self.address, other.address, self._nbytes)
        return self

    def __reduce__(self):
        if self.device is META:
            return Storage, (self._nbytes, META)
        return _rebuild, (self.numpy().tobytes(),)

    @property
    def is_shared_memory(self):
        """Whether other processes see writes (``Tensor.share_memory_``)."""
        return self.segment is not None


def _allocated(nbytes, device):
    """A storage whose memory is there now, whatever is being recorded."""
    if not recording.active:
        return Storage(nbytes, device)
    recorder = recording.swap(None)
    try:
        return Storage(nbytes, device)
    finally:
        recording.swap(recorder)


def _rebuild(data):
    storage = _allocated(len(data), CPU)
    ctypes.memmove(storage.address, data, len(data))
    return storage


class Borrowed:
    """Marks a block that the storage does not own, and keeps its owner alive."""

    __slots__ = ("owner",)

    def __init__(self, owner):
        self.owner = owner


class _Exporter:
    """What NumPy holds as ``base`` of a shared array: keeps the storage alive."""

    def __init__(self, storage, interface):
        self.storage = storage
        self.__array_interface__ = interface


def bytes_view(storage, address, nbytes):
    """A uint8 NumPy array over ``nbytes`` bytes at ``address`` of ``storage``."""
    return array_view(storage, address, (nbytes,), (1,), np.dtype(np.uint8))


def array_view(storage, address, shape, byte_strides, numpy_dtype):
    """A NumPy array over memory of ``storage``, which it keeps alive."""
    if 0 in shape:
        return np.empty(shape, numpy_dtype)
    if recording.active and (recorder := recording.current()) is not None:
        storage, address = recorder.real(storage, address)
    elif recording.is_fake(address):
        recording.abandoned()
    return np.asarray(_Exporter(storage, {
        "version": 3, "typestr": numpy_dtype.str, "shape": tuple(shape),
        "strides": tuple(byte_strides), "data": (address, False)}))
