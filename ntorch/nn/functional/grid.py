"""Sampling an image at given places: ``grid_sample`` and ``affine_grid`` (arXiv 1506.02025)."""
import warnings

import ntorch

from .resample import _cubic_weights


def affine_grid(theta, size, align_corners=None):
    """The sampling grid of affine maps.

    theta (N, 2, 3) with size (N, C, H, W) gives (N, H, W, 2); (N, 3, 4) with (N, C, D, H, W) gives
    (N, D, H, W, 3). Coordinates run from -1 to 1 over the image, corner centres with
    ``align_corners``, else outer edges.
    """
    n = len(size) - 2
    if align_corners is None:
        warnings.warn("Default grid_sample and affine_grid behavior has changed to "
                      "align_corners=False since 1.3.0. Please specify align_corners=True if the "
                      "old behavior is desired.", stacklevel=2)
        align_corners = False
    if not theta.is_floating_point():
        raise ValueError(f"Expected theta to have floating point type, but got {theta.dtype}")
    if n not in (2, 3):
        raise NotImplementedError("affine_grid only supports 4D and 5D sizes, for 2D and 3D affine "
                                  f"transforms, respectively. Got size {size}")
    if theta.dim() != 3 or tuple(theta.shape[1:]) != (n, n + 1):
        raise ValueError(f"Expected a batch of {n}D affine matrices of shape Nx{n}x{n + 1} for "
                         f"size {size}. Got {theta.shape}.")
    if min(size) <= 0:
        raise ValueError(f"Expected non-zero, positive output size. Got {size}")
    axes = []
    for d, length in enumerate(size[2:]):
        steps = ntorch.arange(length, dtype=theta.dtype, device=theta.device)
        if align_corners:
            line = steps * (2.0 / (length - 1)) - 1 if length > 1 else steps * 0
        else:
            line = (steps * 2 + 1) / length - 1
        axes.append(line.view([-1 if k == d else 1 for k in range(n)]).expand(*size[2:]))
    ones = ntorch.ones(tuple(size[2:]), dtype=theta.dtype, device=theta.device)
    base = ntorch.stack([*axes[::-1], ones], -1).reshape(1, -1, n + 1)
    return ntorch.matmul(base, theta.transpose(1, 2)).view(size[0], *size[2:], n)


def _unnormalised(x, length, align_corners):
    if align_corners:
        return (x + 1) / 2 * (length - 1)
    return ((x + 1) * length - 1) / 2


def _reflected(x, low2, high2):
    """``x`` mirrored into [low2 / 2, high2 / 2]."""
    if low2 == high2:
        return x * 0
    low, span = low2 / 2, (high2 - low2) / 2
    away = (x - low).abs()
    extra = away - (away / span).floor() * span
    flips = (away / span).floor()
    odd = flips - (flips / 2).floor() * 2
    return ntorch.where(odd == 0, extra + low, span - extra + low)


def _padded(x, length, padding_mode, align_corners):
    if padding_mode == "border":
        return x.clamp(min=0, max=length - 1)
    if padding_mode == "reflection":
        if align_corners:
            x = _reflected(x, 0, 2 * (length - 1))
        else:
            x = _reflected(x, -1, 2 * length - 1)
        return x.clamp(min=0, max=length - 1)
    return x


def _pick(flat, places, sizes):
    """Values of ``flat`` (N, C, prod(sizes)) at integer ``places``, zero outside."""
    index, inside = 0, None
    for place, length in zip(places, sizes, strict=True):
        fits = (place >= 0) & (place <= length - 1)
        inside = fits if inside is None else inside & fits
        index = index * length + place.clamp(min=0, max=length - 1).to(ntorch.int64)
    shape = index.shape
    index = index.reshape(shape[0], 1, -1).expand(-1, flat.size(1), -1)
    values = flat.gather(2, index).view(flat.size(0), flat.size(1), *shape[1:])
    return values * inside.unsqueeze(1).to(flat.dtype)


def _linear_sample(flat, places, sizes):
    floors = [place.floor() for place in places]
    total = 0
    for corner in range(2 ** len(sizes)):
        weight, at = 1, []
        for d, (place, low) in enumerate(zip(places, floors, strict=True)):
            high = corner >> d & 1
            at.append(low + high)
            weight = weight * ((place - low) if high else (low + 1 - place))
        total = total + _pick(flat, [a.detach() for a in at], sizes) * weight.unsqueeze(1)
    return total


def _cubic_sample(flat, places, sizes, padding_mode, align_corners):
    floors = [place.floor() for place in places]
    weights = [_cubic_weights(place - low) for place, low in zip(places, floors, strict=True)]
    total = 0
    for i in range(4):
        row = 0
        for j in range(4):
            at = [_padded(low + offset - 1, length, padding_mode, align_corners).detach()
                  for low, offset, length in zip(floors, (i, j), sizes, strict=True)]
            row = row + _pick(flat, at, sizes) * weights[1][j].unsqueeze(1)
        total = total + row * weights[0][i].unsqueeze(1)
    return total


def _check(input, grid, mode, padding_mode):
    if mode not in ("bilinear", "nearest", "bicubic"):
        raise ValueError("nn.functional.grid_sample(): expected mode to be 'bilinear', 'nearest' "
                         f"or 'bicubic', but got: '{mode}'")
    if padding_mode not in ("zeros", "border", "reflection"):
        raise ValueError("nn.functional.grid_sample(): expected padding_mode to be 'zeros', "
                         f"'border', or 'reflection', but got: '{padding_mode}'")
    n = input.dim() - 2
    if n not in (2, 3) or grid.dim() != input.dim():
        raise RuntimeError("grid_sampler(): expected 4D or 5D input and grid with same number of "
                           f"dimensions, but got input with sizes {list(input.shape)} and grid "
                           f"with sizes {list(grid.shape)}")
    if input.size(0) != grid.size(0):
        raise RuntimeError("grid_sampler(): expected grid and input to have same batch size, but "
                           f"got input with sizes {list(input.shape)} and grid with sizes "
                           f"{list(grid.shape)}")
    if grid.size(-1) != n:
        raise RuntimeError(f"grid_sampler(): expected grid to have size {n} in last dimension, but "
                           f"got grid with sizes {list(grid.shape)}")
    if mode == "bicubic" and n != 2:
        raise RuntimeError("grid_sampler(): bicubic interpolation only supports 4D input")
    if min(input.shape[2:]) <= 0:
        raise RuntimeError("grid_sampler(): expected input to have non-empty spatial dimensions, "
                           f"but input has sizes {list(input.shape)}")


def grid_sample(input, grid, mode="bilinear", padding_mode="zeros", align_corners=None):
    """Values of ``input`` at the places in ``grid``, whose last dimension holds (x, y[, z]).

    Shapes: input (N, C, H, W), grid (N, Ho, Wo, 2) to (N, C, Ho, Wo); with one more dimension for
    volumes. Coordinates run from -1 to 1. ``padding_mode`` says what lies outside: zeros, the
    border or reflections. ``ValueError`` for other modes, ``RuntimeError`` for shapes that do not
    fit.
    """
    _check(input, grid, mode, padding_mode)
    if align_corners is None:
        warnings.warn("Default grid_sample and affine_grid behavior has changed to "
                      "align_corners=False since 1.3.0. Please specify align_corners=True if the "
                      "old behavior is desired. See the documentation of grid_sample for details.",
                      stacklevel=2)
        align_corners = False
    sizes = list(input.shape[2:])
    flat = input.flatten(2)
    places = [_unnormalised(grid[..., len(sizes) - 1 - d], length, align_corners)
              for d, length in enumerate(sizes)]
    if mode == "bicubic":
        return _cubic_sample(flat, places, sizes, padding_mode, align_corners)
    places = [_padded(place, length, padding_mode, align_corners)
              for place, length in zip(places, sizes, strict=True)]
    if mode == "nearest":
        nearest = [place.round() for place in places]
        values = _pick(flat, [place.detach() for place in nearest], sizes)
        if not grid.requires_grad:
            return values
        one = 1 + sum(place - place.detach() for place in nearest)    # the gradient is zero
        return values * one.unsqueeze(1)
    return _linear_sample(flat, places, sizes)
