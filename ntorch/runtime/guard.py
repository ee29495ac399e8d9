"""Pools that watch what kernels do to memory, for tests: see ``memory.py``."""
import ctypes
import mmap
import sys

from .blocks import Pool, check_size, heap, out_of_memory


class GuardedBlock:
    """A block and its ``canaries``: triples (side, address, bytes that must be there)."""

    __slots__ = ("address", "nbytes", "owner", "canaries", "__weakref__")

    def __init__(self, address, nbytes, owner, before, behind):
        self.address, self.nbytes, self.owner = address, nbytes, owner
        self.canaries = (("before", address - before, _canary(before)),
                         ("behind", address + nbytes, _canary(behind)))
        for _, place, canary in self.canaries:
            ctypes.memmove(place, canary, len(canary))
        ctypes.memset(address, 0xFF, nbytes)


def _canary(length):
    return (bytes((0xA5, 0x5A, 0xC3, 0x3C)) * -(-length // 4))[:length]


class GuardedPool(Pool):
    """Every block by itself between canaries, poisoned with 0xFF, checked when freed."""

    MARGIN = 128

    def __init__(self, cap=0):
        super().__init__(cap)
        self.live = {}
        self.violations = []

    def allocate(self, nbytes):
        """Like ``Pool.allocate``; the canary behind begins right at byte ``nbytes``."""
        nbytes = int(nbytes)
        if nbytes == 0:
            return 0, None
        check_size(nbytes)
        try:
            block = self._block(nbytes)
        except (MemoryError, OSError, ValueError):
            raise out_of_memory(nbytes) from None
        self.live[id(block)] = block
        self.fresh += 1
        return block.address, block

    def _block(self, nbytes):
        start, owner = heap(nbytes + 2 * self.MARGIN)
        return GuardedBlock(start + self.MARGIN, nbytes, owner, self.MARGIN, self.MARGIN)

    def free(self, block):
        """Check the canaries and let the memory go; a violation is recorded and printed."""
        self.live.pop(id(block), None)
        self._check(block, "when it was freed")

    def zeroed(self, nbytes):
        """Like ``Pool.zeroed``."""
        address, block = self.allocate(nbytes)
        if block is not None:
            ctypes.memset(address, 0, nbytes)
        return address, block

    def _check(self, block, when):
        for side, place, canary in block.canaries:
            found = ctypes.string_at(place, len(canary))
            if found == canary:
                continue
            first = next(i for i, byte in enumerate(canary) if found[i] != byte)
            message = (f"a kernel wrote outside its array: byte {place + first - block.address} of "
                       f"a block of {block.nbytes} bytes ({side} it) was changed; seen {when}")
            self.violations.append(message)
            ctypes.memmove(place, canary, len(canary))      # report each write once
            print(f"ntorch guard: {message}", file=sys.stderr)

    def check_guards(self):
        """Check every live block; returns the number of violations so far."""
        for block in list(self.live.values()):
            self._check(block, "by check_guards()")
        return len(self.violations)


class PagePool(GuardedPool):
    """Every block between two pages that nobody may touch.

    ``side`` "behind": it ends where the second begins, so it is only as aligned as its size;
    "before": it begins where the first ends. The rest of its own last or first page is a canary.
    Beyond ``MOST`` live ones blocks are those of ``GuardedPool``: the system limits mappings.
    """

    MOST = 16384

    def __init__(self, side="behind"):
        super().__init__()
        self.side, self.fence_bytes = side, mmap.PAGESIZE
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._libc.mmap.restype = ctypes.c_void_p
        self._libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, *(ctypes.c_int,) * 3,
                                    ctypes.c_long)
        self._libc.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
        self._libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)

    def _block(self, nbytes):
        if len(self.live) >= self.MOST and nbytes < self.fence_bytes:
            return super()._block(nbytes)
        (offset,), size, _ = self.lay_out([nbytes])
        start = self._libc.mmap(None, size, 0, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)
        if start in (None, ctypes.c_void_p(-1).value):
            raise OSError(ctypes.get_errno(), "mmap")
        inner, page = size - 2 * self.fence_bytes, self.fence_bytes
        if self._libc.mprotect(start + page, inner, mmap.PROT_READ | mmap.PROT_WRITE):
            self._libc.munmap(start, size)
            raise OSError(ctypes.get_errno(), "mprotect")
        before = offset - page
        return GuardedBlock(start + offset, nbytes, (start, size), before, inner - nbytes - before)

    def free(self, block):
        """Check what is left of the block's pages, and unmap them: a later use ends the process."""
        super().free(block)
        if type(block.owner) is tuple:
            self._libc.munmap(*block.owner)

    def lay_out(self, sizes):
        """See the function ``lay_out``."""
        page = self.fence_bytes
        offsets, fences, at = [], [0], page
        for nbytes in sizes:
            size = -(-nbytes // page) * page
            offsets.append(at + size - nbytes if self.side == "behind" else at)
            fences.append(at + size)
            at += size + page
        return offsets, at, fences

    def fence(self, address, fences):
        """See the function ``fence``."""
        for offset in fences:
            self._libc.mprotect(address + offset, self.fence_bytes, 0)
