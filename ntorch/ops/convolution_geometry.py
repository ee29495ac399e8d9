"""Sizes of convolutions, and tables of where their taps lie in spread images."""
import functools
import itertools
import typing

import numpy as np

from .base import product
from .host_tables import Table


class Geometry(typing.NamedTuple):
    """Sizes of one convolution, three spatial dimensions each."""
    kernel: tuple
    stride: tuple
    padding: tuple
    dilation: tuple
    image: tuple
    grid: tuple         # output sizes

    @property
    def phases(self):
        """How many phases the stride cuts an image into."""
        return product(self.stride)

    @property
    def spread(self):
        """Sizes of one phase of the spread image: enough for every tap of every output."""
        return tuple(g + (k - 1) * d // s for g, k, d, s in zip(
            self.grid, self.kernel, self.dilation, self.stride, strict=True))

    @property
    def is_plain(self):
        """Whether the image is its own spread."""
        return self.phases == 1 and not any(self.padding) and self.spread == self.image

    @property
    def positions(self):
        """How many virtual positions there are, up to the last output."""
        _, rows, width = self.spread
        d, h, w = self.grid
        return ((d - 1) * rows + h - 1) * width + w

    def taps(self):
        """For each tap ``(phase, shift in the spread grid, per-dimension shifts)``."""
        _, rows, width = self.spread
        found = []
        for tap in itertools.product(*map(range, self.kernel)):
            reach = [t * d for t, d in zip(tap, self.dilation, strict=True)]
            phase = [r % s for r, s in zip(reach, self.stride, strict=True)]
            shift = tuple(r // s for r, s in zip(reach, self.stride, strict=True))
            number = (phase[0] * self.stride[1] + phase[1]) * self.stride[2] + phase[2]
            found.append((number, (shift[0] * rows + shift[1]) * width + shift[2], shift, phase))
        return found


@functools.lru_cache(maxsize=512)
def tap_offsets(geometry, channels):
    """Offset of depth ``c * taps + tap`` (forward) in a spread image."""
    plane = product(geometry.spread)
    image = plane * geometry.phases
    taps = [phase * plane + shift for phase, shift, _, _ in geometry.taps()]
    return Table([c * image + t for c in range(channels) for t in taps])


@functools.lru_cache(maxsize=512)
def line_offsets(geometry, channels):
    """Offset of line ``tap * C + c`` (weight gradient) in a spread image."""
    plane = product(geometry.spread)
    image = plane * geometry.phases
    return Table([c * image + phase * plane + shift for phase, shift, _, _ in geometry.taps()
                  for c in range(channels)])


@functools.lru_cache(maxsize=256)
def rows_table(count, step):
    """``[0, step, 2 step, ...]``."""
    return Table(np.arange(count) * step)
