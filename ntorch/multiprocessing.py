"""The standard ``multiprocessing``, with tensors sent between processes as shared memory.

A tensor put in a queue or passed to a process moves to a shared segment (``share_memory_``); the
other process maps the same bytes, so writes are seen on both sides.
"""
import multiprocessing
from multiprocessing.reduction import DupFd, ForkingPickler

from .nn.parameter import Parameter
from .ops import base
from .runtime.shared import Segment
from .runtime.storage import Storage
from .tensor import Tensor


def share_storage(tensor):
    """Move the storage of ``tensor`` to shared memory."""
    base.storage_of(tensor).share_()


def _rebuild(handle, nbytes, dtype, shape, strides, offset, cls, requires_grad):
    segment = Segment(handle.detach(), nbytes)
    store = Storage.borrow(segment.address, nbytes, segment)
    made = base.make(store, dtype, shape, strides, offset)
    made.__class__ = cls
    made._requires_grad = requires_grad
    return made


def _reduce(tensor):
    if tensor._requires_grad and not tensor.is_leaf:
        raise RuntimeError("Cowardly refusing to serialize non-leaf tensor which requires_grad, "
                           "since autograd does not support crossing process boundaries. If you "
                           "just want to transfer the data, call detach() on the tensor before "
                           "serializing (e.g., putting it on the queue).")
    share_storage(tensor)
    segment = tensor._storage.segment
    return _rebuild, (DupFd(segment.fileno), segment.nbytes, tensor.dtype, tuple(tensor._shape),
                      tensor._strides, tensor._offset, type(tensor), tensor._requires_grad)


ForkingPickler.register(Tensor, _reduce)
ForkingPickler.register(Parameter, _reduce)


def get_all_sharing_strategies():
    """The ways to share memory: file descriptors."""
    return {"file_descriptor"}


def get_sharing_strategy():
    """How memory is shared."""
    return "file_descriptor"


def set_sharing_strategy(new_strategy):
    """Accepts ``file_descriptor``; ValueError for others."""
    if new_strategy not in get_all_sharing_strategies():
        raise ValueError(f"unknown sharing strategy {new_strategy!r}: expected file_descriptor")


def __getattr__(name):
    return getattr(multiprocessing, name)
