"""Padding: constant, reflected, replicated and circular borders, as composites over views."""
from ...runtime import dtypes
from ..composite import composite
from ..registry import ops


def _pairs(pad, ndim):
    """``pad`` as (dimension, before, after), the last dimension first."""
    if len(pad) % 2:
        raise RuntimeError(f"Padding length must be divisible by 2, got {len(pad)}")
    if len(pad) > 2 * ndim:
        raise RuntimeError("Padding length should be less than or equal to two times the input "
                           f"dimension but got padding length {len(pad)} and input of dimension "
                           f"{ndim}")
    return [(ndim - 1 - k, pad[2 * k], pad[2 * k + 1]) for k in range(len(pad) // 2)]


@composite("constant_pad_nd(Tensor self, int[] pad, Scalar value=0) -> Tensor", method=False)
def constant_pad_nd(self, pad, value):
    """``self`` with ``value`` around it; negative amounts cut off. See ``pad``."""
    shape, inner = list(self._shape), self
    places = []
    for d, before, after in _pairs(pad, len(shape)):
        size = self._shape[d]
        if size + before + after < 0:
            raise RuntimeError(f"The input size {size}, plus negative padding {before} and {after} "
                               f"resulted in a negative output size, which is invalid. Check "
                               f"dimension {d} of your input.")
        cut, stop = max(-before, 0), size - max(-after, 0)
        if cut or stop != size:
            inner = ops.slice(inner, d, min(cut, size), max(stop, min(cut, size)))
        shape[d] = size + before + after
        places.append((d, max(before, 0)))
    value = bool(value) if self.dtype is dtypes.bool_ else value
    result = ops.full(shape, value, dtype=self.dtype, device=self.device)
    place = result
    for d, start in places:
        place = ops.slice(place, d, start, start + inner._shape[d])
    ops.copy_(place, inner)
    return result


def _check_border(mode, d, size, before, after, ndim):
    limit = size if mode == "reflect" else size + 1
    if mode == "reflect" and (before >= limit or after >= limit):
        raise RuntimeError(
            f"Argument #4: Padding size should be less than the corresponding input dimension, but "
            f"got: padding ({before}, {after}) at dimension {d} of input of size {size}")
    if mode == "circular" and (before > size or after > size):
        raise RuntimeError("Padding value causes wrapping around more than once.")
    if size + before + after <= 0 and (before < 0 or after < 0):
        raise RuntimeError(f"Negative padding value is resulting in an empty dimension: size "
                           f"{size} with padding ({before}, {after}) at dimension {d}")
    if size == 0:
        raise RuntimeError(f"Expected {ndim}D tensor with non-zero sizes to pad with mode "
                           f"'{mode}', but dimension {d} has size 0")


def _sources(n, before, after, mode):
    """Which element each padded place shows, where some are cut off."""
    places = []
    for at in range(-before, n + after):
        if mode == "reflect" and n > 1:
            at %= 2 * n - 2
            at = min(at, 2 * n - 2 - at)
        places.append(min(max(at, 0), n - 1))
    return ops.tensor(places, dtype=dtypes.int64)


def _bordered(self, d, before, after, mode):
    """One dimension padded: pieces of the tensor joined along it."""
    n = self._shape[d]
    _check_border(mode, d, n, before, after, len(self._shape))
    if (before < 0 or after < 0) and mode == "circular":     # what is left is what wraps around
        self = ops.slice(self, d, max(-before, 0), n - max(-after, 0))
        before, after, n = max(before, 0), max(after, 0), self._shape[d]
    if before < 0 or after < 0:
        return ops.index_select(self, d, _sources(n, before, after, mode))
    if not before and not after:
        return self
    left = right = None
    if mode == "circular":
        left, right = ops.slice(self, d, n - before, n), ops.slice(self, d, 0, after)
    elif mode == "reflect":
        left = ops.flip(ops.slice(self, d, 1, before + 1), (d,))
        right = ops.flip(ops.slice(self, d, n - 1 - after, n - 1), (d,))
    else:
        def widened(piece, count):
            return ops.expand(piece, [count if k == d else s for k, s in enumerate(piece._shape)])
        left = widened(ops.slice(self, d, 0, 1), before)
        right = widened(ops.slice(self, d, n - 1, n), after)
    parts = ([left] if before else []) + [self] + ([right] if after else [])
    return ops._cat(parts, d)


@composite("pad(Tensor self, int[] pad, str mode='constant', float? value=None) -> Tensor",
           method=False, namespace="nn.functional")
def pad(self, pad, mode, value):
    """``self`` with borders: ``pad`` gives (before, after) of the last dimension, then of the one
    before it, and so on; negative amounts cut off.

    ``mode``: "constant" (``value``, 0 if None), "reflect" (mirrored, the edge not repeated),
    "replicate" (the edge repeated), "circular" (wrapped around). The latter three take 1 to 3
    trailing dimensions of a tensor with one or two more.
    """
    if mode == "constant":
        return ops.constant_pad_nd(self, pad, 0 if value is None else value)
    if value is not None and value != 0:
        raise ValueError(f'Padding mode "{mode}" doesn\'t take in value argument')
    if mode not in ("reflect", "replicate", "circular"):
        raise NotImplementedError(f"Unrecognised padding mode {mode}")
    ndim, count = len(self._shape), len(pad) // 2
    if len(pad) % 2:
        raise RuntimeError(f"Padding length must be divisible by 2, got {len(pad)}")
    if not 1 <= count <= 3 or ndim not in (count + 1, count + 2):
        raise NotImplementedError("Only 2D, 3D, 4D, 5D padding with non-constant padding are "
                                  f"supported for now, got a {ndim}D tensor and {len(pad)} amounts")
    for d, before, after in _pairs(pad, ndim):
        self = _bordered(self, d, before, after, mode)
    return ops.clone(self) if not any(pad) else self
