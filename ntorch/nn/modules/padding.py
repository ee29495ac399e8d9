"""Padding layers: the amounts are (left, right, top, bottom, front, back), or one number."""
from .. import functional as F
from .module import Module
from .utils import ntuple


class _Pad(Module):
    """Pads the last ``spatial`` dimensions in the given ``mode``."""

    spatial = None
    mode = None

    def __init__(self, padding):
        super().__init__()
        self.padding = ntuple(2 * self.spatial)(padding)

    def forward(self, input):
        return F.pad(input, self.padding, self.mode)

    def extra_repr(self):
        return f"{self.padding}"


class _ConstantPadNd(Module):
    """Pads with ``value``."""

    spatial = None

    def __init__(self, padding, value):
        super().__init__()
        self.value = value
        self.padding = ntuple(2 * self.spatial)(padding)

    def forward(self, input):
        return F.pad(input, self.padding, "constant", self.value)

    def extra_repr(self):
        return f"padding={self.padding}, value={self.value}"


class ConstantPad1d(_ConstantPadNd):
    """Pads the last dimension with ``value``."""

    spatial = 1


class ConstantPad2d(_ConstantPadNd):
    """Pads the last 2 dimensions with ``value``."""

    spatial = 2


class ConstantPad3d(_ConstantPadNd):
    """Pads the last 3 dimensions with ``value``."""

    spatial = 3


class _ZeroPad(_ConstantPadNd):
    def __init__(self, padding):
        super().__init__(padding, 0.0)

    def extra_repr(self):
        return f"{self.padding}"


class ZeroPad1d(_ZeroPad):
    """Pads the last dimension with zeros."""

    spatial = 1


class ZeroPad2d(_ZeroPad):
    """Pads the last 2 dimensions with zeros."""

    spatial = 2


class ZeroPad3d(_ZeroPad):
    """Pads the last 3 dimensions with zeros."""

    spatial = 3


class _CircularPad(_Pad):
    mode = "circular"

    def forward(self, input):
        n = self.spatial
        if input.dim() not in (n + 1, n + 2):
            raise ValueError(f"expected {n + 1}D or {n + 2}D input (got {input.dim()}D input)")
        return super().forward(input)


class CircularPad1d(_CircularPad):
    """Pads the last dimension by wrapping around."""

    spatial = 1


class CircularPad2d(_CircularPad):
    """Pads the last 2 dimensions by wrapping around."""

    spatial = 2


class CircularPad3d(_CircularPad):
    """Pads the last 3 dimensions by wrapping around."""

    spatial = 3


class ReflectionPad1d(_Pad):
    """Pads the last dimension by mirroring at the border, which is not repeated."""

    spatial, mode = 1, "reflect"


class ReflectionPad2d(_Pad):
    """Pads the last 2 dimensions by mirroring at the border, which is not repeated."""

    spatial, mode = 2, "reflect"


class ReflectionPad3d(_Pad):
    """Pads the last 3 dimensions by mirroring at the border, which is not repeated."""

    spatial, mode = 3, "reflect"


class ReplicationPad1d(_Pad):
    """Pads the last dimension by repeating the border."""

    spatial, mode = 1, "replicate"


class ReplicationPad2d(_Pad):
    """Pads the last 2 dimensions by repeating the border."""

    spatial, mode = 2, "replicate"


class ReplicationPad3d(_Pad):
    """Pads the last 3 dimensions by repeating the border."""

    spatial, mode = 3, "replicate"
