"""Dropout in all its forms (arXiv 1207.0580)."""
import math
import warnings

import ntorch

# scale * alpha of SELU: dropped values become minus this (arXiv 1706.02515)
_LIMIT = 1.7580993408473766


def _check(p):
    if p < 0.0 or p > 1.0:
        raise ValueError(f"dropout probability has to be between 0 and 1, but got {p}")


def dropout(input, p=0.5, training=True, inplace=False):
    """In training each value is 0 with probability ``p``, else divided by ``1 - p``."""
    _check(p)
    return ntorch.ops.dropout(input, p, training, inplace=inplace)


def _channel_noise(input, p):
    """1 with probability ``1 - p``, else 0, one for each sample and channel."""
    shape = (*input.shape[:2], *(1,) * (input.dim() - 2))
    return input.new_empty(shape).bernoulli_(1 - p)


def _feature_dropout(input, p, training, inplace):
    if not training or p == 0.0:
        return input
    if p == 1.0:
        noise = input.new_zeros(())
    else:
        noise = _channel_noise(input, p).div_(1 - p)
    return input.mul_(noise) if inplace else input * noise


def _with_batch(input, batched, function, inplace):
    """Apply ``function`` to an input that may lack the batch dimension."""
    if batched:
        return function(input)
    return function(input.unsqueeze_(0)).squeeze_(0) if inplace else function(
        input.unsqueeze(0)).squeeze(0)


def dropout1d(input, p=0.5, training=True, inplace=False):
    """In training whole channels of (N, C, L) or (C, L) are 0 with probability ``p``."""
    _check(p)
    if input.dim() not in (2, 3):
        raise RuntimeError(
            f"dropout1d: Expected 2D or 3D input, but received a {input.dim()}D input. Note that "
            "dropout1d exists to provide channel-wise dropout on inputs with 1 spatial dimension, "
            "a channel dimension, and an optional batch dimension (i.e. 2D or 3D inputs).")
    return _with_batch(input, input.dim() == 3,
                       lambda x: _feature_dropout(x, p, training, inplace), inplace)


def dropout2d(input, p=0.5, training=True, inplace=False):
    """In training whole channels of (N, C, H, W) are 0 with probability ``p``.

    A 3D input counts as (N, C, L).
    """
    _check(p)
    if input.dim() not in (3, 4):
        warnings.warn(f"dropout2d: Received a {input.dim()}-D input to dropout2d, which is "
                      "deprecated and will result in an error in a future release.", stacklevel=2)
    elif input.dim() == 3:
        warnings.warn("dropout2d: Received a 3D input to dropout2d and assuming that channel-wise "
                      "1D dropout behavior is desired - input is interpreted as shape (N, C, L), "
                      "where C is the channel dim.", stacklevel=2)
    return _feature_dropout(input, p, training, inplace)


def dropout3d(input, p=0.5, training=True, inplace=False):
    """In training whole channels of (N, C, D, H, W) or (C, D, H, W) are 0 with probability ``p``.
    """
    _check(p)
    if input.dim() not in (4, 5):
        warnings.warn(f"dropout3d: Received a {input.dim()}-D input to dropout3d, which is "
                      "deprecated and will result in an error in a future release.", stacklevel=2)
    return _with_batch(input, input.dim() != 4,
                       lambda x: _feature_dropout(x, p, training, inplace), inplace)


def _alpha_dropout(input, noise, p, inplace):
    """Set what the noise drops to SELU's limit, then restore mean 0 and variance 1."""
    scale = 1.0 / math.sqrt((1 - p) * (1 + p * _LIMIT ** 2))
    shift = (noise - 1 + p) * (_LIMIT * scale)
    factor = noise * scale
    return input.mul_(factor).add_(shift) if inplace else input * factor + shift


def _alpha(input, p, training, inplace, make_noise):
    _check(p)
    if not training or p == 0.0:
        return input
    if p == 1.0:
        return input.mul_(0) if inplace else input * 0
    return _alpha_dropout(input, make_noise(), p, inplace)


def alpha_dropout(input, p=0.5, training=False, inplace=False):
    """Dropout that keeps mean 0 and variance 1 (arXiv 1706.02515)."""
    return _alpha(input, p, training, inplace,
                  lambda: ntorch.empty_like(input.detach()).bernoulli_(1 - p))


def feature_alpha_dropout(input, p=0.5, training=False, inplace=False):
    """``alpha_dropout`` of whole channels."""
    return _alpha(input, p, training, inplace, lambda: _channel_noise(input, p))
