"""Resizing: ``interpolate`` and its old names, one dimension after the other."""
import warnings

import ntorch

_RANKS = {"nearest": (1, 2, 3), "nearest-exact": (1, 2, 3), "area": (1, 2, 3), "linear": (1,),
          "bilinear": (2,), "trilinear": (3,), "bicubic": (2,)}
_SMOOTH = ("linear", "bilinear", "trilinear", "bicubic")


def _sizes(name, value, n):
    if isinstance(value, list | tuple):
        if len(value) != n:
            raise ValueError(f"Input and output must have the same number of spatial dimensions, "
                             f"but got input with {n} spatial dimensions and {name} of shape "
                             f"{tuple(value)}. Please provide input tensor in (N, C, d1, d2, "
                             f"...,dK) format and {name} in (o1, o2, ...,oK) format.")
        return list(value)
    return [value] * n


def _target(input, size, scale_factor, recompute):
    """Output sizes, and for each dimension the scale to use, or None to take it from the sizes."""
    n = input.dim() - 2
    if size is not None and scale_factor is not None:
        raise ValueError("only one of size or scale_factor should be defined")
    if size is None and scale_factor is None:
        raise ValueError("either size or scale_factor should be defined")
    if size is not None:
        if recompute:
            raise ValueError("recompute_scale_factor is not meaningful with an explicit size.")
        return _sizes("output size", size, n), [None] * n
    scales = _sizes("scale_factor", scale_factor, n)
    out = [int(float(length) * scale)
           for length, scale in zip(input.shape[2:], scales, strict=True)]
    return out, [None] * n if recompute else scales


def _source(out, length, scale, align_corners, dtype, device, clamp):
    """Where each output position lies in the input, for the smooth modes."""
    positions = ntorch.arange(out, dtype=dtype, device=device)
    if align_corners:
        return positions * ((length - 1) / (out - 1) if out > 1 else 0.0)
    step = length / out if scale is None or scale <= 0 else 1.0 / scale
    found = (positions + 0.5) * step - 0.5
    return found.clamp(min=0) if clamp else found


def _shaped(weights, dim, rank):
    return weights.view([-1 if d == dim else 1 for d in range(rank)])


def _linear(input, dim, out, scale, align_corners):
    length, dtype = input.size(dim), _real(input)
    place = _source(out, length, scale, align_corners, dtype, input.device, True)
    low = place.floor().to(ntorch.int64).clamp(max=length - 1)
    high = (low + 1).clamp(max=length - 1)
    share = _shaped((place - low).to(input.dtype), dim, input.dim())
    return (input.index_select(dim, low) * (1 - share)
            + input.index_select(dim, high) * share)


def _cubic_weights(t, a=-0.75):
    """Weights of the four neighbours for the fraction ``t`` (Keys 1981)."""
    def near(x):
        return ((a + 2) * x - (a + 3)) * x * x + 1

    def far(x):
        return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a

    return far(t + 1), near(t), near(1 - t), far(2 - t)


def _cubic(input, dim, out, scale, align_corners):
    length = input.size(dim)
    place = _source(out, length, scale, align_corners, _real(input), input.device, False)
    base = place.floor()
    weights = _cubic_weights(place - base)
    base = base.to(ntorch.int64)
    total = 0
    for offset, weight in zip((-1, 0, 1, 2), weights, strict=True):
        index = (base + offset).clamp(min=0, max=length - 1)
        total = total + input.index_select(dim, index) * _shaped(weight.to(input.dtype), dim,
                                                                 input.dim())
    return total


def _real(input):
    """The dtype that positions are computed in."""
    return ntorch.float64 if input.dtype == ntorch.float64 else ntorch.float32


def _nearest(input, dim, out, scale, exact):
    length = input.size(dim)
    step = length / out if scale is None else 1.0 / scale
    positions = ntorch.arange(out, dtype=ntorch.float32, device=input.device)
    place = ((positions + 0.5) if exact else positions) * step
    index = place.floor().to(ntorch.int64).clamp(max=length - 1)
    return input.index_select(dim, index)


def _antialiased(input, dim, out, scale, align_corners, cubic):
    """A filter as wide as the shrinking: one matrix for the dimension."""
    length = input.size(dim)
    if align_corners:
        step = (length - 1) / (out - 1) if out > 1 else 0.0
    else:
        step = length / out if scale is None or scale <= 0 else 1.0 / scale
    wide = max(step, 1.0)
    positions = ntorch.arange(out, dtype=_real(input), device=input.device)
    centre = (positions + 0.5) * step
    reach = (2.0 if cubic else 1.0) * wide
    low = (centre - reach + 0.5).clamp(min=0).floor()
    high = (centre + reach + 0.5).clamp(max=length).floor()
    taps = ntorch.arange(length, dtype=_real(input), device=input.device)
    distance = ((taps + 0.5).unsqueeze(0) - centre.unsqueeze(1)).abs() / wide
    if cubic:
        _, near, _, _ = _cubic_weights(distance, -0.5)
        far, _, _, _ = _cubic_weights(distance - 1, -0.5)
        weights = ntorch.where(distance < 1, near, ntorch.where(distance < 2, far, 0.0))
    else:
        weights = (1 - distance).clamp(min=0)
    inside = (taps >= low.unsqueeze(1)) & (taps < high.unsqueeze(1))
    weights = ntorch.where(inside, weights, 0.0)
    weights = (weights / weights.sum(1, keepdim=True)).to(input.dtype)
    return ntorch.matmul(input.transpose(dim, -1), weights.t()).transpose(dim, -1)


def _check_mode(input, mode, align_corners, antialias):
    n = input.dim() - 2
    if mode in ("nearest", "area", "nearest-exact") and align_corners is not None:
        raise ValueError("align_corners option can only be set with the interpolating modes: "
                         "linear | bilinear | bicubic | trilinear")
    if antialias and not (mode in ("bilinear", "bicubic") and n == 2):
        raise ValueError("Anti-alias option is restricted to bilinear and bicubic modes and "
                         "requires a 4-D tensor as input")
    if mode in _RANKS and n in (1, 2, 3) and n not in _RANKS[mode]:
        raise NotImplementedError(f"Got {n + 2}D input, but {mode} mode needs "
                                  f"{_RANKS[mode][0] + 2}D input")
    if mode not in _RANKS or n not in (1, 2, 3):
        raise NotImplementedError(
            "Input Error: Only 3D, 4D and 5D input Tensors supported (got "
            f"{input.dim()}D) for the modes: nearest | linear | bilinear | bicubic | trilinear | "
            f"area | nearest-exact (got {mode})")


def interpolate(input, size=None, scale_factor=None, mode="nearest", align_corners=None,
                recompute_scale_factor=None, antialias=False):
    """Resize (N, C, L), (N, C, H, W) or (N, C, D, H, W) to ``size`` or by ``scale_factor``.

    ``mode`` is nearest, nearest-exact, linear (3D), bilinear, bicubic (4D), trilinear (5D) or area.
    ``align_corners`` puts the corner values at the corners of the result; ``antialias`` filters
    before shrinking (bilinear and bicubic). ``ValueError`` or ``NotImplementedError`` for settings
    that do not fit together.
    """
    _check_mode(input, mode, align_corners, antialias)
    out, scales = _target(input, size, scale_factor, recompute_scale_factor)
    if mode == "area":
        n = input.dim() - 2
        return getattr(ntorch.nn.functional, f"adaptive_avg_pool{n}d")(input, tuple(out))
    if any(o <= 0 for o in out) or any(s <= 0 for s in input.shape[2:]):
        raise RuntimeError("Input and output sizes should be greater than 0, but got input "
                           f"{tuple(input.shape[2:])} and output {tuple(out)}")
    result = input
    # the last dimension first: it shrinks or grows the data that later passes read in order
    for d in range(input.dim() - 1, 1, -1):
        o, scale = out[d - 2], scales[d - 2]
        if antialias:
            result = _antialiased(result, d, o, scale, align_corners, mode == "bicubic")
        elif mode == "bicubic":
            result = _cubic(result, d, o, scale, align_corners)
        elif mode in _SMOOTH:
            result = _linear(result, d, o, scale, align_corners)
        else:
            result = _nearest(result, d, o, scale, mode == "nearest-exact")
    return result


def upsample(input, size=None, scale_factor=None, mode="nearest", align_corners=None):
    """Deprecated name of ``interpolate``."""
    warnings.warn("`nn.functional.upsample` is deprecated. Use `nn.functional.interpolate` "
                  "instead.", stacklevel=2)
    return interpolate(input, size, scale_factor, mode, align_corners)


def upsample_nearest(input, size=None, scale_factor=None):
    """Deprecated: ``interpolate(mode="nearest")``."""
    warnings.warn("`nn.functional.upsample_nearest` is deprecated. Use "
                  "`nn.functional.interpolate` instead.", stacklevel=2)
    return interpolate(input, size, scale_factor, mode="nearest")


def upsample_bilinear(input, size=None, scale_factor=None):
    """Deprecated: ``interpolate(mode="bilinear", align_corners=True)``."""
    warnings.warn("`nn.functional.upsample_bilinear` is deprecated. Use "
                  "`nn.functional.interpolate` instead.", stacklevel=2)
    return interpolate(input, size, scale_factor, mode="bilinear", align_corners=True)
