"""Fractional max pooling: windows at pseudo-random steps (arXiv 1412.6071)."""
import ntorch


def _starts(samples, size, out, pool):
    """Where each of ``out`` windows of width ``pool`` begins: (N, C, out)."""
    if out == 1:
        return ntorch.full((*samples.shape, 1), size - pool, dtype=ntorch.int64,
                           device=samples.device)
    step = (size - pool) / (out - 1)
    places = ntorch.arange(out - 1, device=samples.device)
    u = samples.unsqueeze(-1)
    inner = ((places + u) * step).to(ntorch.int64) - (u * step).to(ntorch.int64)
    last = ntorch.full((*samples.shape, 1), size - pool, dtype=ntorch.int64,
                       device=samples.device)
    return ntorch.cat([inner, last], -1)


def _spread(value, n):
    return (value,) * n if isinstance(value, int | float) else tuple(value)


def _output_size(name, n, sizes, output_size, output_ratio):
    if output_size is None and output_ratio is None:
        raise ValueError(f"{name} requires specifying either an output_size or an output_ratio")
    if output_size is not None:
        return _spread(output_size, n)
    return tuple(int(size * ratio)
                 for size, ratio in zip(sizes, _spread(output_ratio, n), strict=True))


def _pool(name, n, input, kernel_size, output_size, output_ratio, samples):
    if input.dim() not in (n + 1, n + 2):
        raise RuntimeError(f"{name}: Expected {n + 1}D or {n + 2}D tensor, but got: "
                           f"{list(input.shape)}")
    if input.dim() == n + 1:
        values, indices = _pool(name, n, input.unsqueeze(0), kernel_size, output_size,
                                output_ratio, samples)
        return values.squeeze(0), indices.squeeze(0)
    batch, channels, *sizes = input.shape
    kernel = _spread(kernel_size, n)
    out = _output_size(name, n, sizes, output_size, output_ratio)
    for size, k, o in zip(sizes, kernel, out, strict=True):
        if o + k - 1 > size:
            raise RuntimeError(f"{name}: pool size {k} too large relative to input size {size} "
                               f"and output size {o}")
    if samples is None:
        samples = ntorch.rand(batch, channels, n, dtype=input.dtype, device=input.device)
    samples = samples[:batch]       # an input without batch takes the first
    # samples stand in the order width, height, but depth, height, width
    flat = ntorch.zeros((batch, channels) + (1,) * (2 * n), dtype=ntorch.int64,
                        device=input.device)
    for d, (size, k, o) in enumerate(zip(sizes, kernel, out, strict=True)):
        starts = _starts(samples[..., d if n == 3 else 1 - d], size, o, k)
        window = starts.unsqueeze(-1) + ntorch.arange(k, device=input.device)
        shape = [batch, channels] + [1] * (2 * n)
        shape[2 + d], shape[2 + n + d] = o, k
        flat = flat * size + window.reshape(shape)
    flat = flat.reshape(batch, channels, -1)
    taken = input.flatten(2).gather(2, flat)
    area = flat.size(2) // max(1, _product(out))
    values, places = taken.view(batch, channels, -1, area).max(-1)
    indices = flat.view(batch, channels, -1, area).gather(-1, places.unsqueeze(-1)).squeeze(-1)
    return values.view(batch, channels, *out), indices.view(batch, channels, *out)


def _product(sizes):
    product = 1
    for size in sizes:
        product *= size
    return product


def fractional_max_pool2d_with_indices(input, kernel_size, output_size=None, output_ratio=None,
                                       return_indices=False, _random_samples=None):
    """Fractional max pooling of (N, C, H, W) or (C, H, W): the values and their flat places.

    ``output_size``, or ``output_ratio`` of the input's size, gives the size of the result.
    """
    return _pool("fractional_max_pool2d", 2, input, kernel_size, output_size, output_ratio,
                 _random_samples)


def fractional_max_pool3d_with_indices(input, kernel_size, output_size=None, output_ratio=None,
                                       return_indices=False, _random_samples=None):
    """Fractional max pooling of (N, C, D, H, W) or (C, D, H, W): the values and their places."""
    return _pool("fractional_max_pool3d", 3, input, kernel_size, output_size, output_ratio,
                 _random_samples)


def fractional_max_pool2d(input, kernel_size, output_size=None, output_ratio=None,
                          return_indices=False, _random_samples=None):
    """Fractional max pooling of (N, C, H, W); with ``return_indices`` the places too."""
    both = fractional_max_pool2d_with_indices(input, kernel_size, output_size, output_ratio,
                                              return_indices, _random_samples)
    return both if return_indices else both[0]


def fractional_max_pool3d(input, kernel_size, output_size=None, output_ratio=None,
                          return_indices=False, _random_samples=None):
    """Fractional max pooling of (N, C, D, H, W); with ``return_indices`` the places too."""
    both = fractional_max_pool3d_with_indices(input, kernel_size, output_size, output_ratio,
                                              return_indices, _random_samples)
    return both if return_indices else both[0]
