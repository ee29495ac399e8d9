"""Layouts and memory formats, as names: storage here is strided, row-major unless viewed."""
from .ops.base import is_contiguous


class layout:
    """How a tensor's elements are stored; ``strided`` is the one kind."""

    def __init__(self, name):
        self.name = name

    def __repr__(self):
        return "torch." + self.name

    def __reduce__(self):
        return _by_name, (self.name,)


class memory_format:
    """An order of the dimensions in memory."""

    def __init__(self, name):
        self.name = name

    def __repr__(self):
        return "torch." + self.name

    def __reduce__(self):
        return _by_name, (self.name,)


strided = layout("strided")
sparse_coo = layout("sparse_coo")
contiguous_format = memory_format("contiguous_format")
channels_last = memory_format("channels_last")
channels_last_3d = memory_format("channels_last_3d")
preserve_format = memory_format("preserve_format")
_ALL = {f.name: f for f in (strided, sparse_coo, contiguous_format, channels_last, channels_last_3d,
                            preserve_format)}


def _by_name(name):
    return _ALL[name]


def matches(tensor, format_):
    """Whether ``tensor`` is dense in the given memory format (row-major if None)."""
    if format_ is None or format_ is contiguous_format:
        return is_contiguous(tensor._shape, tensor._strides)
    wanted = {channels_last: 4, channels_last_3d: 5}.get(format_)
    if wanted is None:
        raise RuntimeError(f"preserve memory format is unsupported by the contiguity check: "
                           f"{format_}")
    if len(tensor._shape) != wanted:
        return False
    order = [0, *range(2, wanted), 1]
    return is_contiguous([tensor._shape[d] for d in order], [tensor._strides[d] for d in order])
