"""The memory of a trace: regions of fake addresses, and the buffers they stand for.

A new storage gets a region of its own; a real tensor that takes part is seen through a proxy, whose
region stands for an input buffer. What a host function computes from the addresses is found again
by ``pointer``.
"""
import bisect
import sys
import weakref

from ..ops.base import TensorBase, make
from ..runtime import recording
from ..runtime.device import META
from ..runtime.storage import Storage
from .ir import Graph, Pointer

_GAP = 4096             # between regions, so that an address just behind one is nobody's


class TraceError(RuntimeError):
    """An op did something that the recorder cannot follow."""


class SharedArgument(TraceError):
    """The function holds a tensor that shares memory with an argument."""


class Region:
    """A range of fake addresses and what it stands for now."""

    __slots__ = ("start", "nbytes", "buffer", "graph", "lazy", "real", "read_only")

    def __init__(self, start, nbytes):
        self.start, self.nbytes = start, nbytes
        self.buffer = self.graph = None
        self.lazy = None        # weak reference to the lazy storage
        self.real = None        # the storage it stands for, if there is one


def held_beyond(storages, known):
    """Those of ``storages`` that more than ``known(storage)`` things hold besides this list and the
    caller's names, by their counts of references: only for them the process is searched."""
    storages.append(Storage.__new__(Storage))       # held by nobody else
    counts = [sys.getrefcount(storage) for storage in storages]
    nobody = counts.pop()
    del storages[-1]
    return [s for s, count in zip(storages, counts, strict=True) if count != nobody + known(s)]


class Memory:
    """Regions and proxies of one trace."""

    def __init__(self):
        self.graph = Graph()
        self.starts, self.regions = [], []
        self.next = recording.FAKE + _GAP
        self.inputs = {}            # real storage -> its region
        self.proxies = {}           # real storage -> proxy storage
        self.proxied = {}           # proxy storage -> real storage
        self.captured = {}          # id -> real tensors that ops were applied to
        self.moved = []
        self.most_views = 1000
        self.views = []             # weak references to tensors that were made over fake addresses
        self.partly = set()         # storages of arguments of which only a part has a region

    def next_graph(self):
        """What was recorded has run: begin anew, and forget views that nobody holds."""
        self.graph = Graph()
        if len(self.views) > self.most_views:
            self.views = [r for r in self.views if r() is not None]
            self.most_views = 2 * len(self.views) + 1000

    def _region(self, nbytes):
        region = Region(self.next, nbytes)
        self.next += (nbytes + _GAP + 63) & -64
        self.starts.append(region.start)
        self.regions.append(region)
        return region

    def storage(self, storage, nbytes):
        """Called by every new storage: ``(fake address, no block)``."""
        if not nbytes:
            return 0, None
        region = self._region(nbytes)
        region.lazy = weakref.ref(storage)
        region.buffer, region.graph = self.graph.buffer(nbytes, "temp"), self.graph
        return region.start, None

    def scratch(self, nbytes):
        """The fake address of a temporary without a storage."""
        region = self._region(max(1, nbytes))
        region.buffer, region.graph = self.graph.buffer(max(1, nbytes), "temp"), self.graph
        return region.start

    def _find(self, address):
        region = self.regions[bisect.bisect_right(self.starts, address) - 1]
        if address - region.start > region.nbytes:
            raise TraceError("tracing: an address outside every traced tensor reached a kernel; "
                               "an op computed it in a way the recorder does not know")
        return region

    def _buffer(self, region):
        """The region's buffer in the present graph."""
        if region.graph is not self.graph:
            storage = region.real
            if storage is None and region.lazy is not None:
                storage = region.lazy()
            if storage is None:
                raise TraceError("tracing: a temporary of an op was used after its segment ran")
            region.buffer = self.graph.buffer(region.nbytes, "input", storage)
            region.graph = self.graph
        return region.buffer

    def pointer(self, address):
        """The ``Pointer`` for a fake address."""
        region = self._find(address)
        return Pointer(self._buffer(region), address - region.start)

    def input_region(self, storage, kind="input"):
        """The region that stands for a real storage."""
        region = self.inputs.get(storage)
        if region is None:
            region = self.inputs[storage] = self._region(storage._nbytes)
            region.real = storage
            region.buffer = self.graph.buffer(storage._nbytes, kind, storage)
            region.graph = self.graph
        return region

    def fake_address(self, tensor):
        """The fake address of any tensor's first element; real ones become inputs."""
        storage = tensor._storage
        if not recording.is_fake(storage.address):
            if storage.device is META or not storage._nbytes:
                return tensor._address
            storage = self._proxy_storage(storage)
        return storage.address + tensor._offset * tensor.dtype.itemsize

    def _proxy_storage(self, storage):
        proxy = self.proxies.get(storage)
        if proxy is None:
            if storage in self.partly:
                raise SharedArgument("an argument shares memory with a tensor the function holds")
            region = self.input_region(storage)
            proxy = Storage.__new__(Storage)
            proxy.address, proxy._nbytes, proxy._block = region.start, storage._nbytes, None
            proxy.device, proxy.version = storage.device, storage.version
            self.proxies[storage], self.proxied[proxy] = proxy, storage
        return proxy

    def proxy(self, tensor):
        """The tensor itself if it is lazy, else a view of the same form over an input."""
        storage = tensor._storage
        if recording.is_fake(storage.address) or storage.device is META or not storage._nbytes:
            return tensor
        self.captured.setdefault(id(tensor), tensor)
        return make(self._proxy_storage(storage), tensor.dtype, tensor._shape, tensor._strides,
                    tensor._offset)

    def _proxy_all(self, value):
        if isinstance(value, TensorBase):
            return self.proxy(value)
        if type(value) in (tuple, list):
            return type(value)([self._proxy_all(v) for v in value])
        return value

    def _original(self, result, arguments, proxies):
        """``result`` over the real storage if a host function gave back (a view of) its input."""
        if type(result) in (tuple, list):
            made = [self._original(r, arguments, proxies) for r in result]
            return type(result)(made)
        if not isinstance(result, TensorBase) or result._storage not in self.proxied:
            return result
        for given, seen in zip(arguments, proxies, strict=True):
            if seen is result:
                return given
        return make(self.proxied[result._storage], result.dtype, result._shape, result._strides,
                    result._offset)


def storages_of(values):
    """The storages of the tensors among ``values``, lists and tuples looked into."""
    for value in values:
        if isinstance(value, TensorBase):
            yield value._storage
        elif type(value) in (tuple, list):
            yield from storages_of(value)
