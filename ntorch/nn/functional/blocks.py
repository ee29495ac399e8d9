"""Sliding blocks and rearranged pixels."""
import ntorch


def _pair(value):
    return (value, value) if isinstance(value, int) else tuple(value)


def _blocks(size, kernel_size, dilation, padding, stride):
    """Flat indices (kernel, L) into the padded image, its size, and the number of blocks."""
    kernel, dilation, padding, stride = map(_pair, (kernel_size, dilation, padding, stride))
    padded = [n + 2 * p for n, p in zip(size, padding, strict=True)]
    counts = [(n - d * (k - 1) - 1) // s + 1
              for n, k, d, s in zip(padded, kernel, dilation, stride, strict=True)]
    rows, columns = [
        (ntorch.arange(k) * d).unsqueeze(1) + (ntorch.arange(max(c, 0)) * s).unsqueeze(0)
        for k, d, c, s in zip(kernel, dilation, counts, stride, strict=True)]
    flat = rows[:, None, :, None] * padded[1] + columns[None, :, None, :]
    return flat.reshape(-1), padded, counts, padding, kernel


def _check_positive(op, **settings):
    for name, value in settings.items():
        if any(v <= 0 for v in _pair(value)):
            raise RuntimeError(f"{op}: {name} should be greater than zero, but got {value}")


def unfold(input, kernel_size, dilation=1, padding=0, stride=1):
    """The sliding blocks of (N, C, H, W) as columns (N, C kh kw, L); also without N.

    ``RuntimeError`` for other ranks, or when no block fits.
    """
    _check_positive("unfold", kernel_size=kernel_size, dilation=dilation, stride=stride)
    if input.dim() not in (3, 4):
        raise RuntimeError("Expected 3D or 4D (batch mode) tensor with possibly 0 batch size and "
                           "other non-zero dimensions for input, but got: "
                           f"{list(input.shape)}")
    if input.dim() == 3:
        return unfold(input.unsqueeze(0), kernel_size, dilation, padding, stride).squeeze(0)
    index, _, counts, pads, kernel = _blocks(input.shape[2:], kernel_size, dilation, padding,
                                             stride)
    if min(counts) < 1:
        raise RuntimeError(
            f"Given input with spatial size {tuple(input.shape[2:])}, kernel_size={kernel}, "
            f"dilation={_pair(dilation)}, padding={pads}, calculated shape of the array of sliding "
            f"blocks as {tuple(counts)}, but its components must be at least one.")
    batch, channels = input.shape[:2]
    padded = ntorch.nn.functional.pad(input, (pads[1], pads[1], pads[0], pads[0]))
    columns = padded.flatten(2).index_select(2, index.to(input.device))
    return columns.reshape(batch, channels * kernel[0] * kernel[1], counts[0] * counts[1])


def fold(input, output_size, kernel_size, dilation=1, padding=0, stride=1):
    """Adds sliding blocks (N, C kh kw, L) up into an image (N, C, *output_size); also without N.

    ``RuntimeError`` if the number of rows or columns does not fit.
    """
    _check_positive("fold", kernel_size=kernel_size, dilation=dilation, stride=stride)
    if input.dim() not in (2, 3):
        raise RuntimeError("Expected 2D or 3D (batch mode) tensor for input with possibly 0 batch "
                           f"size and non-zero dimensions for input, but got: {list(input.shape)}")
    if input.dim() == 2:
        return fold(input.unsqueeze(0), output_size, kernel_size, dilation, padding,
                    stride).squeeze(0)
    size = _pair(output_size)
    index, padded, counts, pads, kernel = _blocks(size, kernel_size, dilation, padding, stride)
    area = kernel[0] * kernel[1]
    if input.size(1) % area != 0:
        raise RuntimeError(
            "Expected size of input's dimension 1 to be divisible by the product of kernel_size, "
            f"but got input.size(1)={input.size(1)} and kernel_size={kernel}.")
    if input.size(2) != counts[0] * counts[1]:
        raise RuntimeError(
            f"Given output_size={size}, kernel_size={kernel}, dilation={_pair(dilation)}, "
            f"padding={pads}, stride={_pair(stride)}, expected size of input's dimension 2 to "
            f"match the calculated number of sliding blocks {counts[0]} * {counts[1]} = "
            f"{counts[0] * counts[1]}, but got input.size(2)={input.size(2)}.")
    batch, channels = input.size(0), input.size(1) // area
    flat = input.new_zeros((batch, channels, padded[0] * padded[1]))
    flat = flat.index_add(2, index.to(input.device), input.reshape(batch, channels, -1))
    image = flat.view(batch, channels, *padded)
    return image[:, :, pads[0]:padded[0] - pads[0], pads[1]:padded[1] - pads[1]].contiguous()


def pixel_shuffle(input, upscale_factor):
    """(*, C r^2, H, W) to (*, C, H r, W r) (arXiv 1609.05158)."""
    r = upscale_factor
    if input.dim() < 3:
        raise RuntimeError("pixel_shuffle expects input to have at least 3 dimensions, but got "
                           f"input with {input.dim()} dimension(s)")
    if r <= 0:
        raise RuntimeError(f"pixel_shuffle expects a positive upscale_factor, but got {r}")
    *batch, channels, height, width = input.shape
    if channels % (r * r) != 0:
        raise RuntimeError("pixel_shuffle expects its input's 'channel' dimension to be divisible "
                           f"by the square of upscale_factor, but input.size(-3)={channels} is not "
                           f"divisible by {r * r}")
    split = input.reshape(*batch, channels // (r * r), r, r, height, width)
    n = len(batch)
    order = (*range(n), n, n + 3, n + 1, n + 4, n + 2)
    return split.permute(order).reshape(*batch, channels // (r * r), height * r, width * r)


def pixel_unshuffle(input, downscale_factor):
    """(*, C, H r, W r) to (*, C r^2, H, W): undoes ``pixel_shuffle``."""
    r = downscale_factor
    if input.dim() < 3:
        raise RuntimeError("pixel_unshuffle expects input to have at least 3 dimensions, but got "
                           f"input with {input.dim()} dimension(s)")
    if r <= 0:
        raise RuntimeError(f"pixel_unshuffle expects a positive downscale_factor, but got {r}")
    *batch, channels, height, width = input.shape
    for name, place, size in (("height", -2, height), ("width", -1, width)):
        if size % r != 0:
            raise RuntimeError(f"pixel_unshuffle expects {name} to be divisible by "
                               f"downscale_factor, but input.size({place})={size} is not divisible "
                               f"by {r}")
    split = input.reshape(*batch, channels, height // r, r, width // r, r)
    n = len(batch)
    order = (*range(n), n, n + 2, n + 4, n + 1, n + 3)
    return split.permute(order).reshape(*batch, channels * r * r, height // r, width // r)


def channel_shuffle(input, groups):
    """Channels (N, g k, *) in the order (N, k g, *) (arXiv 1707.01083)."""
    if input.dim() < 3:
        raise RuntimeError("channel_shuffle expects input with > 2 dims, but got input with sizes "
                           f"{list(input.shape)}")
    if groups <= 0:
        raise RuntimeError(f"Number of groups to divide channels in must be positive. Value of "
                           f"groups:{groups}")
    batch, channels, *rest = input.shape
    if channels % groups != 0:
        raise RuntimeError("Number of channels must be divisible by groups. Got "
                           f"{channels} channels and {groups} groups.")
    split = input.reshape(batch, groups, channels // groups, *rest)
    return split.transpose(1, 2).reshape(input.shape)


def pdist(input, p=2.0):
    """The p-norm distances of all pairs of rows of (N, M): a vector of N (N - 1) / 2."""
    if input.dim() != 2:
        raise RuntimeError(f"pdist only supports 2D tensors, got: {input.dim()}D")
    first, second = ntorch.triu_indices(input.size(0), input.size(0), 1).unbind(0)
    return ntorch.nn.functional.pairwise_distance(
        input.index_select(0, first), input.index_select(0, second), p, eps=0.0)
