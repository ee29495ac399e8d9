"""Memory that several processes map: an unnamed file each, gone with its last user."""
import mmap
import os
import tempfile

import numpy as np


class Segment:
    """``nbytes`` of shared memory at ``address``; ``fileno`` is what another process maps."""

    is_shared = True

    def __init__(self, fileno, nbytes):
        self.fileno, self.nbytes = fileno, nbytes
        self._map = mmap.mmap(fileno, max(nbytes, 1))
        self._view = np.frombuffer(self._map, np.uint8)
        self.address = self._view.__array_interface__["data"][0]

    @classmethod
    def create(cls, nbytes):
        """A fresh segment of zeros; RuntimeError if the system has no room for it."""
        try:
            if hasattr(os, "memfd_create"):
                fileno = os.memfd_create("ntorch", os.MFD_CLOEXEC)
            else:
                with tempfile.TemporaryFile() as file:
                    fileno = os.dup(file.fileno())
            os.ftruncate(fileno, max(nbytes, 1))
            return cls(fileno, nbytes)
        except OSError as error:
            raise RuntimeError(f"unable to make {nbytes} bytes of shared memory: {error}"
                               ) from error

    def __del__(self, close=os.close):
        try:
            fileno = self.fileno
        except AttributeError:      # __init__ raised
            return
        close(fileno)
