"""Batches from a worker to its parent: through shared memory where they are large.

A message is a pickle, with the bytes of arrays and tensors kept out of it. Small ones travel in
the message. Large ones are copied into a *segment*: a file without a name that both processes
map, handed over as a descriptor. When the last tensor on it is gone in the parent, the worker
uses the segment again, so its pages are already there. A segment has no name and so cannot be left
behind, whichever process is killed.
"""

from __future__ import annotations

import math
import mmap
import os
import pickle
import struct
import tempfile
import weakref
from collections import deque
from collections.abc import Sequence
from multiprocessing import reduction
from typing import Any

import numpy as np

import ntorch
import ntorch._utils as _utils

# Up to here a copy through the socket is cheaper than what a segment costs to set up.
INLINE_BYTES = 1 << 15
ALIGNMENT = 64
SMALLEST_SEGMENT = 1 << 20
HEADER = struct.Struct("<QQ")


class BatchPickler(pickle.Pickler):
    """Pickles tensors as the bytes they show: not the rest of a storage they are a view of."""

    def reducer_override(self, obj: Any) -> Any:
        if type(obj) not in (ntorch.Tensor, ntorch.nn.Parameter) or obj.device.type != "cpu":
            return NotImplemented
        if obj.requires_grad and obj.grad_fn is not None:
            raise RuntimeError(
                "DataLoader: a worker cannot send a non-leaf tensor which requires_grad, because "
                "its graph stays in the worker. Detach it first"
            )
        values = obj.detach().contiguous()
        start = values.storage_offset() * values.dtype.itemsize
        nbytes = values.numel() * values.dtype.itemsize
        octets = _utils.storage_bytes(values.untyped_storage())[start : start + nbytes]
        name = str(values.dtype).rpartition(".")[2]
        is_parameter = type(obj) is not ntorch.Tensor
        data = pickle.PickleBuffer(octets), name, tuple(values.shape)
        return rebuild, (*data, obj.requires_grad, is_parameter)


def rebuild(
    octets: Any, dtype_name: str, shape: tuple[int, ...], requires_grad: bool, is_parameter: bool
) -> Any:
    """The tensor whose bytes are in ``octets``, which it shares."""
    dtype = getattr(ntorch, dtype_name)
    if math.prod(shape) == 0:
        tensor = ntorch.empty(shape, dtype=dtype)
    else:
        storage = ntorch.from_numpy(np.frombuffer(octets, np.uint8)).untyped_storage()
        stride = [math.prod(shape[i + 1 :]) for i in range(len(shape))]
        tensor = _utils.rebuild_tensor(ntorch.TypedStorage(storage, dtype), 0, shape, stride)
    if is_parameter:
        return ntorch.nn.Parameter(tensor, requires_grad)
    return tensor.requires_grad_(requires_grad)


def encode(obj: Any) -> tuple[bytes, list[memoryview]]:
    """``obj`` as a pickle, and the bytes that were kept out of it."""
    import io

    buffers: list[pickle.PickleBuffer] = []
    body = io.BytesIO()
    BatchPickler(body, protocol=5, buffer_callback=buffers.append).dump(obj)
    return body.getvalue(), [b.raw() for b in buffers]


def _layout(sizes: Sequence[int]) -> tuple[list[tuple[int, int]], int]:
    """Where buffers of these sizes begin and end, one behind the other, and the end of all."""
    spans, end = [], 0
    for size in sizes:
        spans.append((end, end + size))
        end += -(-size // ALIGNMENT) * ALIGNMENT
    return spans, end


def _unnamed_file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("ntorch-batch", os.MFD_CLOEXEC)
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


class Sender:
    """The worker's end: sends objects, and owns the segments."""

    def __init__(self, connection: Any):
        self._connection = connection
        self._maps: dict[int, mmap.mmap] = {}
        self._free: set[int] = set()
        self._count = 0

    def release(self, free: Sequence[int], drop: Sequence[int]) -> None:
        """The parent needs these segments no longer; the second ones it has unmapped too."""
        self._free.update(free)
        for number in drop:
            self._maps.pop(number).close()

    def send(self, tag: Any, obj: Any) -> None:
        """Send ``obj``, which is pickled before anything is sent, so that an error is clean."""
        body, buffers = encode(obj)
        spans, total = _layout([len(b) for b in buffers])
        if total <= INLINE_BYTES:
            self._send(tag, None, spans, body, b"".join(_padded(buffers)), None)
            return
        number, handle = self._segment(total)
        target = self._maps[number]
        for (start, stop), buffer in zip(spans, buffers, strict=True):
            target[start:stop] = buffer
        self._send(tag, (number, len(target), handle is not None), spans, body, b"", handle)

    def _send(
        self, tag: Any, segment: Any, spans: Any, body: bytes, inline: bytes, handle: int | None
    ) -> None:
        head = pickle.dumps((tag, segment, spans))
        sizes = HEADER.pack(len(head), len(body))
        self._connection.send_bytes(b"".join((sizes, head, body, inline)))
        if handle is not None:
            reduction.send_handle(self._connection, handle, os.getppid())
            os.close(handle)

    def _segment(self, size: int) -> tuple[int, int | None]:
        """A free segment, and its descriptor if the parent does not have it yet."""
        fitting = [n for n in self._free if len(self._maps[n]) >= size]
        if fitting:
            number = min(fitting, key=lambda n: len(self._maps[n]))
            self._free.remove(number)
            return number, None
        # A power of two, so that batches of varying size find one another's segments; pages
        # that are never written take no memory.
        capacity = max(SMALLEST_SEGMENT, 1 << (size - 1).bit_length())
        handle = _unnamed_file()
        os.ftruncate(handle, capacity)
        self._count += 1
        self._maps[self._count] = mmap.mmap(handle, capacity)
        return self._count, handle


def _padded(buffers: Sequence[memoryview]) -> list[bytes | memoryview]:
    parts: list[bytes | memoryview] = []
    for buffer in buffers:
        parts += [buffer, bytes(-len(buffer) % ALIGNMENT)]
    return parts


class Receiver:
    """The parent's end: receives objects, and tells when their memory may be used again."""

    def __init__(self, connection: Any, idle_limit: int):
        self._connection = connection
        self._idle_limit = idle_limit
        self._maps: dict[int, mmap.mmap] = {}
        self._done: deque[int] = deque()
        self._busy: set[int] = set()

    def released(self) -> tuple[list[int], list[int]]:
        """Segments nothing refers to any more: to be used again, and to be given up."""
        free, drop = [], []
        while self._done:
            number = self._done.popleft()
            self._busy.discard(number)
            # A burst of batches that were kept for long should not keep its memory for ever.
            if len(self._maps) - len(self._busy) > self._idle_limit:
                del self._maps[number]
                drop.append(number)
            else:
                free.append(number)
        return free, drop

    def receive(self) -> tuple[Any, Any]:
        """The next tag and object. EOFError or OSError if the worker is gone."""
        message = bytearray(self._connection.recv_bytes())
        head_size, body_size = HEADER.unpack_from(message)
        view = memoryview(message)[HEADER.size :]
        tag, segment, spans = pickle.loads(view[:head_size])
        body = view[head_size : head_size + body_size]
        data = view[head_size + body_size :]
        if segment is not None:
            data = self._map(*segment)
        buffers = [data[start:stop] for start, stop in spans]
        return tag, pickle.loads(body, buffers=buffers)

    def _map(self, number: int, size: int, is_new: bool) -> memoryview:
        if is_new:
            handle = reduction.recv_handle(self._connection)
            try:
                self._maps[number] = mmap.mmap(handle, size)
            finally:
                os.close(handle)
        self._busy.add(number)
        # Everything made of this memory keeps this array alive, and nothing else does.
        root = np.frombuffer(self._maps[number], np.uint8)
        weakref.finalize(root, self._done.append, number).atexit = False
        return memoryview(root)
