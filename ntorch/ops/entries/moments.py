"""Spread around the mean: var, std, var_mean, std_mean."""
import math

from ...runtime import dtypes
from ..base import wrap_dims
from ..composite import overloaded
from ..registry import ops
from .reductions import _into


def _moment_arguments(name, dim, unbiased, correction, keepdim):
    """The overloads ``(unbiased)``, ``(dim, unbiased, keepdim)`` and ``(dim, correction,
    keepdim)``."""
    if isinstance(dim, bool):
        dim, unbiased = None, dim
    if unbiased is not None:
        if correction is not None:
            raise TypeError(f"{name}() takes unbiased={unbiased} or correction={correction}, not "
                            "both")
        correction = 1 if unbiased else 0
    return dim, 1 if correction is None else correction, keepdim


def _variance(input, dim, correction, keepdim):
    if input.dtype.category < dtypes.FLOAT:
        raise RuntimeError("std and var only support floating point and complex dtypes")
    ndim = len(input._shape)
    dims = wrap_dims(dim, ndim, "var")
    count = 1
    for d in dims:
        count *= input._shape[d]
    center = ops.mean(input, dims, True)
    apart = input - center
    square = apart * apart if not input.dtype.is_complex else ops.real(apart * ops.conj(apart))
    total = ops.sum(square, dims, keepdim)
    left = count - correction
    spread = total / left if left > 0 else total * (math.inf if count > 1 or left < 0 else math.nan)
    if left <= 0:
        spread = total / 0.0
    return spread, (center if keepdim else ops.reshape(center, spread._shape))


def _moments(name, finish):
    def moment(input, dim=None, unbiased=None, keepdim=False, *, correction=None, out=None):
        dim, correction, keepdim = _moment_arguments(name, dim, unbiased, correction, keepdim)
        result = finish(*_variance(input, dim, correction, keepdim))
        if out is None:
            return result
        if pair:
            raise TypeError(f"{name}() got an unexpected keyword argument 'out'")
        return _into(out, result)
    pair = name.endswith("_mean")
    moment.__name__ = name
    moment.__doc__ = (f"``{name}`` over ``dim``: squared distances from the mean, divided by "
                      "``max(0, n - correction)``; the mean is computed first (two passes).")
    return overloaded(name, out=not pair)(moment)


_moments("var", lambda spread, center: spread)
_moments("std", lambda spread, center: ops.sqrt(spread))
_moments("var_mean", lambda spread, center: (spread, center))
_moments("std_mean", lambda spread, center: (ops.sqrt(spread), center))
