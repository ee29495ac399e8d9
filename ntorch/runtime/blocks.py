"""Buffers: blocks of 64-byte aligned memory, kept by size class when they are freed.

Fresh pages cost about 0.4 ns a byte (0.05 with huge pages), more than many kernels take, so a freed
block goes on the list of its class and the next request of that class takes it from there. Classes
are 64 bytes apart up to 512, then eight to each power of two, so at most an eighth is unused. All
fast paths are single list operations, which the GIL makes atomic: no lock is taken, and a garbage
collection in the middle may free blocks.

``NTORCH_POOL_BYTES`` caps what is kept (default: 1 GiB or an eighth of the memory, whichever is
less).
"""
import ctypes
import mmap
import os

import numpy as np

ALIGNMENT = 64
HUGE = 1 << 20                  # from here on blocks are mapped by themselves
_LARGEST = (1 << 63) - 1
_KNOWN_SIZES = 8192             # exact sizes whose class is remembered


class Bucket:
    """One size class: ``free`` holds ``(address, block)`` pairs ready for use."""

    __slots__ = ("nbytes", "free", "limit")

    def __init__(self, nbytes, limit):
        self.nbytes, self.free, self.limit = nbytes, [], limit


class Block:
    """A piece of memory: ``address``, its ``bucket`` and what owns the bytes."""

    __slots__ = ("address", "bucket", "owner")

    def __init__(self, address, bucket, owner):
        self.address, self.bucket, self.owner = address, bucket, owner


def _physical_memory():
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 8 << 30


def _default_cap():
    text = os.environ.get("NTORCH_POOL_BYTES", "").strip()
    if text.isdigit():
        return int(text)
    return min(1 << 30, _physical_memory() // 8)


def class_size(nbytes):
    """The size of the class that a request of ``nbytes`` (at least 1) belongs to."""
    if nbytes <= 512:
        return (nbytes + 63) & -64
    step = 1 << ((nbytes - 1).bit_length() - 4)
    return (nbytes + step - 1) & -step


def _map(nbytes):
    """Fresh private zero pages as ``(address, owner)``, in huge pages where there are any."""
    unix = hasattr(mmap, "MAP_PRIVATE")     # the default there is shared with forked children
    private = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if unix else {}
    area = mmap.mmap(-1, nbytes, **private)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        try:
            area.madvise(mmap.MADV_HUGEPAGE)
        except OSError:             # a kernel built without them: ordinary pages do as well
            pass
    view = np.frombuffer(area, np.uint8)
    return view.__array_interface__["data"][0], view


def heap(nbytes):
    """``(address, owner)`` of aligned memory from the C heap."""
    array = np.empty(nbytes + ALIGNMENT, np.uint8)
    address = array.__array_interface__["data"][0]
    return (address + ALIGNMENT - 1) & -ALIGNMENT, array


def check_size(nbytes):
    """RuntimeError for a size that no block can have."""
    if nbytes < 0:
        raise RuntimeError(f"Trying to allocate a storage of negative size {nbytes}; sizes must be "
                           "non-negative")
    if nbytes > _LARGEST:
        raise RuntimeError(f"Storage size calculation overflowed: {nbytes} bytes are more than a "
                           "64-bit size can hold")


def out_of_memory(nbytes):
    """The exception for a block that the system does not give."""
    return RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to "
                        f"allocate {nbytes} bytes. Error code 12 (Cannot allocate memory)")


class Pool:
    """Size-classed blocks; see the module's text. ``cap`` is the most bytes kept unused."""

    def __init__(self, cap=None):
        self.cap = _default_cap() if cap is None else cap
        self.buckets = {}           # class size -> Bucket
        self.takers = {}            # exact request -> pop method of its class's list
        self.fresh = 0              # blocks taken from the system
        self.large_kept = 0         # bytes on the lists of large classes; corrected by `_recount`

    def allocate(self, nbytes):
        """``(address, block)`` of at least ``nbytes`` uninitialised bytes, 64-byte aligned.

        Zero bytes have no block: ``(0, None)``. RuntimeError for a negative size, one that
        overflows 64 bits, or one the system has no memory for.
        """
        try:
            return self.takers[nbytes]()
        except LookupError:         # an unknown size, or nothing free
            return self._allocate_fresh(nbytes)

    def free(self, block):
        """Take back a block that ``allocate`` gave."""
        bucket = block.bucket
        if bucket.nbytes >= HUGE:
            self._free_large(block, bucket)
        elif len(bucket.free) < bucket.limit:
            bucket.free.append((block.address, block))

    def _bucket(self, nbytes):
        size = class_size(nbytes)
        bucket = self.buckets.get(size)
        if bucket is None:
            # a small class keeps up to a 64th of the cap, so their sum stays near the cap
            limit = max(4, min(4096, self.cap // 64 // size)) if self.cap else 0
            bucket = self.buckets.setdefault(size, Bucket(size, limit))
        return bucket

    def _allocate_fresh(self, nbytes):
        nbytes = int(nbytes)
        if nbytes == 0:
            return 0, None
        check_size(nbytes)
        bucket = self._bucket(nbytes)
        if len(self.takers) >= _KNOWN_SIZES:
            self.takers.clear()
        if bucket.nbytes < HUGE:
            self.takers[nbytes] = bucket.free.pop
        try:
            found = bucket.free.pop()
        except IndexError:
            return self._from_system(bucket, nbytes)
        if bucket.nbytes >= HUGE:
            self.large_kept -= bucket.nbytes
        return found

    def _from_system(self, bucket, nbytes):
        source = _map if bucket.nbytes >= HUGE else heap
        try:
            address, owner = source(bucket.nbytes)
        except (MemoryError, OSError, OverflowError, ValueError):
            self.trim()
            try:
                address, owner = source(bucket.nbytes)
            except (MemoryError, OSError, OverflowError, ValueError):
                raise out_of_memory(nbytes) from None
        self.fresh += 1
        return address, Block(address, bucket, owner)

    def _free_large(self, block, bucket):
        size = bucket.nbytes
        if self.large_kept + size > self.cap:
            self._recount()
            if self.large_kept + size > self.cap:
                self._evict(size)
                if self.large_kept + size > self.cap:
                    return              # the owner goes with the block, and the pages with it
        self.large_kept += size
        bucket.free.append((block.address, block))

    def _recount(self):
        """``large_kept`` is kept without a lock and may drift by a lost update: count afresh."""
        self.large_kept = sum(bucket.nbytes * len(bucket.free) for bucket in list(
            self.buckets.values()) if bucket.nbytes >= HUGE)

    def _evict(self, wanted):
        """Drop blocks of the fullest large classes until ``wanted`` bytes fit under the cap."""
        target = self.cap - wanted
        large = [bucket for bucket in list(self.buckets.values()) if bucket.nbytes >= HUGE]
        for bucket in sorted(large, key=lambda b: -b.nbytes * len(b.free)):
            while self.large_kept > target and bucket.free:
                try:
                    bucket.free.pop(0)
                except IndexError:      # another thread took the last one
                    break
                self.large_kept -= bucket.nbytes

    def zeroed(self, nbytes):
        """Like ``allocate``, with every byte zero; fresh mappings are zero already."""
        if class_size(nbytes) >= HUGE if 0 < nbytes <= _LARGEST else False:
            bucket = self._bucket(nbytes)
            if not bucket.free:
                return self._from_system(bucket, nbytes)
        address, block = self.allocate(nbytes)
        if block is not None:
            ctypes.memset(address, 0, nbytes)
        return address, block

    def trim(self):
        """Give every unused block back to the system; returns how many bytes that was."""
        released = 0
        for bucket in list(self.buckets.values()):
            released += bucket.nbytes * len(bucket.free)
            bucket.free.clear()
        self._recount()
        return released

    def stats(self):
        """``{"cached_bytes", "cached_blocks", "fresh_blocks", "cap_bytes"}`` of this pool."""
        buckets = list(self.buckets.values())
        return {"cached_bytes": sum(b.nbytes * len(b.free) for b in buckets),
                "cached_blocks": sum(len(b.free) for b in buckets),
                "fresh_blocks": self.fresh, "cap_bytes": self.cap}
