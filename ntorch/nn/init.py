"""Initialisers: fill a tensor in place, without recording gradients, and return it.

The random ones draw from the CPU generator in the same order as PyTorch, so the same seed gives the
same weights. Each takes ``generator``.
"""
import math
import warnings

import ntorch

_LINEAR_LIKE = frozenset(
    ("linear", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d",
     "conv_transpose3d", "sigmoid"))


def calculate_gain(nonlinearity, param=None):
    """The factor that keeps the variance through ``nonlinearity``.

    1 for linear layers and sigmoid, 5/3 for tanh, sqrt(2) for relu, sqrt(2 / (1 + slope^2)) for
    leaky_relu (``param`` is the slope, 0.01 by default), 3/4 for selu. ``ValueError`` otherwise.
    """
    if nonlinearity in _LINEAR_LIKE:
        return 1
    if nonlinearity == "tanh":
        return 5.0 / 3
    if nonlinearity == "relu":
        return math.sqrt(2.0)
    if nonlinearity == "leaky_relu":
        if param is None:
            param = 0.01
        elif isinstance(param, bool) or not isinstance(param, int | float):
            raise ValueError(f"negative_slope {param} not a valid number")
        return math.sqrt(2.0 / (1 + param ** 2))
    if nonlinearity == "selu":
        return 3.0 / 4
    raise ValueError(f"Unsupported nonlinearity {nonlinearity}")


def uniform_(tensor, a=0.0, b=1.0, generator=None):
    """Values uniform in ``[a, b)``."""
    with ntorch.no_grad():
        return tensor.uniform_(a, b, generator=generator)


def normal_(tensor, mean=0.0, std=1.0, generator=None):
    """Values of a normal distribution."""
    with ntorch.no_grad():
        return tensor.normal_(mean, std, generator=generator)


def trunc_normal_(tensor, mean=0.0, std=1.0, a=-2.0, b=2.0, generator=None):
    """Values of a normal distribution cut to ``[a, b]``, by rejection.

    Where the interval holds more than 0.3 of the distribution, normal numbers are drawn until they
    lie inside; else uniform ones are accepted in proportion to the density.
    """
    if tensor.is_meta:
        return tensor
    if mean < a - 2 * std or mean > b + 2 * std:
        warnings.warn("mean is more than 2 std from [a, b] in nn.init.trunc_normal_. The "
                      "distribution of values may be incorrect.", stacklevel=2)
    inside = _normal_cdf((b - mean) / std) - _normal_cdf((a - mean) / std)
    with ntorch.no_grad():
        if inside > 0.3:
            return _redrawn_normals(tensor, mean, std, a, b, generator)
        return _thinned_uniforms(tensor, mean, std, a, b, generator)


def _redrawn_normals(tensor, mean, std, a, b, generator):
    # whole tensors are drawn again, not only what was rejected: the stream stays torch's
    low, high = tensor.new_tensor(a).item(), tensor.new_tensor(b).item()
    result = tensor.normal_(mean, std, generator=generator)
    while True:
        outside = (result < low) | (result > high)
        if not outside.any():
            break
        fresh = ntorch.empty_like(result).normal_(mean, std, generator=generator)
        result = ntorch.where(outside, fresh, result)
    return tensor if result is tensor else tensor.copy_(result)


def _thinned_uniforms(tensor, mean, std, a, b, generator):
    peak = -0.5 * ((max(a, min(mean, b)) - mean) / std) ** 2

    def rejected(values):
        log_density = ((values - mean) / std) ** 2 * -0.5 - peak
        return ntorch.empty_like(values).uniform_(generator=generator).log_() > log_density

    result = tensor.uniform_(a, b, generator=generator)
    pending = rejected(result)
    while pending.any():
        fresh = ntorch.empty_like(result).uniform_(a, b, generator=generator)
        result = ntorch.where(pending, fresh, result)
        pending = ntorch.where(pending, rejected(fresh), pending)
    return tensor if result is tensor else tensor.copy_(result)


def _normal_cdf(x):
    return (1.0 + math.erf(x / math.sqrt(2.0))) / 2.0


def constant_(tensor, val):
    """``val`` everywhere."""
    with ntorch.no_grad():
        return tensor.fill_(val)


def ones_(tensor):
    """1 everywhere."""
    return constant_(tensor, 1.0)


def zeros_(tensor):
    """0 everywhere."""
    with ntorch.no_grad():
        return tensor.zero_()


def eye_(tensor):
    """The identity matrix; ``ValueError`` unless the tensor has 2 dimensions."""
    if tensor.ndimension() != 2:
        raise ValueError("Only tensors with 2 dimensions are supported")
    with ntorch.no_grad():
        rows, columns = tensor.shape
        tensor.zero_()
        for i in range(min(rows, columns)):
            tensor[i, i] = 1
    return tensor


def dirac_(tensor, groups=1):
    """The kernel of an identity convolution, for as many channels as possible in each group.

    ``ValueError`` unless the tensor has 3 to 5 dimensions and its first is a multiple of groups.
    """
    if tensor.ndimension() not in (3, 4, 5):
        raise ValueError("Only tensors with 3, 4, or 5 dimensions are supported")
    sizes = tensor.size()
    if sizes[0] % groups != 0:
        raise ValueError("dim 0 must be divisible by groups")
    per_group = sizes[0] // groups
    centre = tuple(n // 2 for n in sizes[2:])
    with ntorch.no_grad():
        tensor.zero_()
        for group in range(groups):
            for d in range(min(per_group, sizes[1])):
                tensor[(group * per_group + d, d, *centre)] = 1
    return tensor


def _calculate_fan_in_and_fan_out(tensor):
    if tensor.dim() < 2:
        raise ValueError(
            "Fan in and fan out can not be computed for tensor with fewer than 2 dimensions")
    field = math.prod(tensor.shape[2:])
    return tensor.size(1) * field, tensor.size(0) * field


def _calculate_correct_fan(tensor, mode):
    mode = mode.lower()
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f"Mode {mode} not supported, please use one of ['fan_in', 'fan_out']")
    fan_in, fan_out = _calculate_fan_in_and_fan_out(tensor)
    return fan_in if mode == "fan_in" else fan_out


def fan_in_uniform_(tensor, weight):
    """Uniform in ``(-k, k)``, ``k = 1 / sqrt(fan_in of weight)``: how biases start."""
    fan_in, _ = _calculate_fan_in_and_fan_out(weight)
    bound = 1 / math.sqrt(fan_in) if fan_in > 0 else 0
    return uniform_(tensor, -bound, bound)


def xavier_uniform_(tensor, gain=1.0, generator=None):
    """Uniform in ``(-a, a)``, ``a = gain sqrt(6 / (fan_in + fan_out))`` (Glorot & Bengio 2010)."""
    fan_in, fan_out = _calculate_fan_in_and_fan_out(tensor)
    bound = math.sqrt(3.0) * gain * math.sqrt(2.0 / float(fan_in + fan_out))
    return uniform_(tensor, -bound, bound, generator)


def xavier_normal_(tensor, gain=1.0, generator=None):
    """Normal with ``std = gain sqrt(2 / (fan_in + fan_out))`` (Glorot & Bengio 2010)."""
    fan_in, fan_out = _calculate_fan_in_and_fan_out(tensor)
    std = gain * math.sqrt(2.0 / float(fan_in + fan_out))
    return normal_(tensor, 0.0, std, generator)


def _kaiming_std(tensor, a, mode, nonlinearity):
    gain = calculate_gain(nonlinearity, a)
    return gain / math.sqrt(_calculate_correct_fan(tensor, mode))


def _is_empty(tensor):
    if 0 in tensor.shape:
        warnings.warn("Initializing zero-element tensors is a no-op", stacklevel=3)
        return True
    return False


def kaiming_uniform_(tensor, a=0, mode="fan_in", nonlinearity="leaky_relu", generator=None):
    """Uniform in ``(-b, b)``, ``b = gain sqrt(3 / fan)`` (He et al. 2015)."""
    if _is_empty(tensor):
        return tensor
    bound = math.sqrt(3.0) * _kaiming_std(tensor, a, mode, nonlinearity)
    return uniform_(tensor, -bound, bound, generator)


def kaiming_normal_(tensor, a=0, mode="fan_in", nonlinearity="leaky_relu", generator=None):
    """Normal with ``std = gain / sqrt(fan)`` (He et al. 2015)."""
    if _is_empty(tensor):
        return tensor
    return normal_(tensor, 0.0, _kaiming_std(tensor, a, mode, nonlinearity), generator)


def orthogonal_(tensor, gain=1, generator=None):
    """A (semi-)orthogonal matrix times ``gain``; later dimensions are flattened (Saxe 2013).

    ``ValueError`` unless the tensor has at least 2 dimensions.
    """
    if tensor.ndimension() < 2:
        raise ValueError("Only tensors with 2 or more dimensions are supported")
    if tensor.numel() == 0:
        return tensor
    with ntorch.no_grad():
        rows, columns = tensor.size(0), tensor.numel() // tensor.size(0)
        flat = ntorch.empty((rows, columns), dtype=tensor.dtype, device=tensor.device)
        flat.normal_(0, 1, generator=generator)
        q, r = ntorch.linalg.qr(flat.t() if rows < columns else flat)
        q = q * ntorch.diagonal(r).sign()       # makes the distribution uniform (arXiv 0609050)
        q = q.t() if rows < columns else q
        tensor.view_as(q).copy_(q)
        return tensor.mul_(gain)


def sparse_(tensor, sparsity, std=0.01, generator=None):
    """A matrix with a fraction ``sparsity`` of zeros in each column, else normal (Martens 2010)."""
    if tensor.ndimension() != 2:
        raise ValueError("Only tensors with 2 dimensions are supported")
    rows, columns = tensor.shape
    zeros = int(math.ceil(sparsity * rows))
    with ntorch.no_grad():
        tensor.normal_(0, std, generator=generator)
        for column in range(columns):
            tensor[ntorch.randperm(rows)[:zeros], column] = 0
    return tensor


def _old_name(function):
    """``xavier_normal`` and friends: the names without underscore, which warn."""
    new = function.__name__
    old = new[:-1]

    def renamed(*args, **kwargs):
        warnings.warn(f"`nn.init.{old}` is now deprecated in favor of `nn.init.{new}`.",
                      FutureWarning, stacklevel=2)
        return function(*args, **kwargs)

    renamed.__name__ = old
    renamed.__doc__ = f"Deprecated name of ``{new}``."
    return renamed


uniform, normal, constant = _old_name(uniform_), _old_name(normal_), _old_name(constant_)
eye, dirac = _old_name(eye_), _old_name(dirac_)
xavier_uniform, xavier_normal = _old_name(xavier_uniform_), _old_name(xavier_normal_)
kaiming_uniform, kaiming_normal = _old_name(kaiming_uniform_), _old_name(kaiming_normal_)
orthogonal, sparse = _old_name(orthogonal_), _old_name(sparse_)
