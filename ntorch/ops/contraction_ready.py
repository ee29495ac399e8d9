"""Plans that were laid out once: what is left of an eager product's Python is to put in addresses.
"""
import ctypes
import struct

from ..runtime import launch, memory
from .contraction_frame import COUNTERS, WORD, driver_slots, frame, frame_words

RELEASE_FLOPS = 1_000_000       # from here on a serial product lets other Python threads run
_PUT = struct.Struct("q").pack_into
_TABLE = launch.packer(7)


class Ready:
    """A plan to be run again and again by ``kernel``, with other addresses.

    ``words`` have names (strings) in place of what is not known yet; ``run`` takes a value for each
    of ``names``. The memory of a run is taken for that run, so threads may run one at once.
    """

    __slots__ = ("kernel", "_image", "_given", "_moved", "_places", "_shape", "_released")

    def __init__(self, kernel, words, lay, names):
        n_words = len(words)
        self.kernel, self._shape = kernel, (n_words, lay.lanes)
        self._places = places = frame(lay, n_words)
        self._moved = [(COUNTERS + slot * WORD, offset)
                       for slot, offset in frame_words(lay, places).items()]
        self._given = [COUNTERS + words.index(name) * WORD for name in names]
        known = [0 if type(word) is str else word for word in words]
        self._image = bytes(COUNTERS) + launch.packer(n_words)(*known)
        self._released = lay.lanes == 1 and lay.flops > RELEASE_FLOPS

    def run(self, values):
        """Run the plan with ``values`` in place of the names."""
        image, places = bytearray(self._image), self._places
        for at, value in zip(self._given, values, strict=True):
            _PUT(image, at, value)
        address, block = memory.allocate(places.nbytes)
        try:
            for at, offset in self._moved:
                _PUT(image, at, address + offset)
            if places.fences:
                memory.fence(address, places.fences)
            counters = address + places.counters
            ctypes.memmove(counters, bytes(image), len(image))
            table = _TABLE(*driver_slots(counters, *self._shape))
            if self._released:
                self.kernel.call_released(table, 0, 1)
            else:
                launch.run_table(self.kernel, table, self._shape[1], 1)
        finally:
            memory.free(block)
