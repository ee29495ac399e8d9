"""Average and power-average pooling."""
from ...kernels import pool as kernels
from ..base import empty, product
from ..composite import composite, overloaded
from ..registry import ops
from ..structured import as_dtype, run, structured
from ..windows import (
    check_real,
    computed,
    filled,
    grain,
    per_dimension,
    planes,
    pooled_shape,
)
from . import pooling_tiles as tiles


def _integers(kernel, stride, padding, include_pad, override):
    return [("i", v) for v in (*filled(kernel, 1), *filled(stride, 1), *filled(padding, 0),
                               include_pad, override or 0)]


@structured("_avg_pool(Tensor self, int[] kernel_size, int[] stride, int[] padding, bool "
            "ceil_mode, bool count_include_pad, int? divisor_override) -> Tensor", method=False)
def _avg_pool(self, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override):
    """Mean of each window of ``self`` ([N], C, *spatial); the number of dimensions is that of
    ``kernel_size``. Integers divide towards zero."""
    n = len(kernel_size)
    op = f"avg_pool{n}d"
    shape = pooled_shape(op, self._shape, kernel_size, stride, padding, (1,) * n, ceil_mode)
    check_real(op, self)
    x = computed(self)
    out = empty(shape, x.dtype, x._storage.device)
    if tiles.tile(self.dtype, x._shape, kernel_size, stride, padding, (1,), ceil_mode):
        tiles.mean(x, out, kernel_size, divisor_override)
        return as_dtype(out, self.dtype)
    source, target = planes(x, n), planes(out, n)
    column = empty((source._shape[0], source._shape[3]), x.dtype, x._storage.device)
    run(kernels.avg_pool, [("C", source), ("C", target), ("C", column), *_integers(
        kernel_size, stride, padding, count_include_pad, divisor_override)],
        n=source._shape[0], grain=grain(product(source._shape[1:])), T=x.dtype.code)
    return as_dtype(out, self.dtype)


@_avg_pool.gradient("self")
def _(grad, self, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override):
    return ops._avg_pool_backward(grad, self.shape, kernel_size, stride, padding, ceil_mode,
                                  count_include_pad, divisor_override)


@structured("_avg_pool_backward(Tensor self, int[] size, int[] kernel_size, int[] stride, "
            "int[] padding, bool ceil_mode, bool count_include_pad, int? divisor_override) "
            "-> Tensor", method=False)
def _avg_pool_backward(self, size, kernel_size, stride, padding, ceil_mode, count_include_pad,
                       divisor_override):
    """Each position of ``size`` gets the shares of the windows it is in."""
    n = len(kernel_size)
    g = computed(self)
    gx = empty(size, g.dtype, g._storage.device)
    if tiles.tile(self.dtype, size, kernel_size, stride, padding, (1,), ceil_mode):
        tiles.share(g, gx, kernel_size, divisor_override)
        return as_dtype(gx, self.dtype)
    target = planes(gx, n)
    column = empty((target._shape[0], target._shape[3]), g.dtype, g._storage.device)
    run(kernels.avg_pool_backward,
        [("C", planes(g, n)), ("C", target), ("C", column), *_integers(
            kernel_size, stride, padding, count_include_pad, divisor_override)],
        n=target._shape[0], grain=grain(product(target._shape[1:])), T=g.dtype.code)
    return as_dtype(gx, self.dtype)


@_avg_pool_backward.gradient("self")
def _(grad, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override):
    return ops._avg_pool(grad, kernel_size, stride, padding, ceil_mode, count_include_pad,
                         divisor_override)


def _average(n, input, kernel_size, stride, padding, ceil_mode, count_include_pad,
             divisor_override=None):
    op = f"avg_pool{n}d"
    if divisor_override == 0:
        raise RuntimeError(f"{op}: divisor must be not zero")
    kernel, steps, pads = (per_dimension(op, name, value, n) for name, value in (
        ("kernel_size", kernel_size),
        ("stride", kernel_size if stride in (None, (), []) else stride), ("padding", padding)))
    return ops._avg_pool(input, kernel, steps, pads, ceil_mode, count_include_pad, divisor_override)


@overloaded("avg_pool1d", namespace="nn.functional", method=False)
def avg_pool1d(input, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True):
    """Mean over windows of ``input`` ([N], C, L), floating point or int64.

    ``stride`` defaults to ``kernel_size``; padding with zeros counts in the mean if
    ``count_include_pad``. RuntimeError for sizes that have no output.
    """
    return _average(1, input, kernel_size, stride, padding, ceil_mode, count_include_pad)


@composite("avg_pool2d(Tensor self, int[] kernel_size, int[]? stride=None, int[] padding=0, "
           "bool ceil_mode=False, bool count_include_pad=True, int? divisor_override=None, *, "
           "Tensor? out=None) -> Tensor", namespace="nn.functional", method=False,
           exact_out="dtype")
def avg_pool2d(self, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override):
    """Mean over windows of ``self`` ([N], C, H, W); ``divisor_override`` replaces the count.

    Otherwise as ``avg_pool1d``. RuntimeError also for a divisor of 0.
    """
    return _average(2, self, kernel_size, stride, padding, ceil_mode, count_include_pad,
                    divisor_override)


@composite("avg_pool3d(Tensor self, int[] kernel_size, int[]? stride=None, int[] padding=0, "
           "bool ceil_mode=False, bool count_include_pad=True, int? divisor_override=None, *, "
           "Tensor? out=None) -> Tensor", namespace="nn.functional", method=False,
           exact_out="dtype")
def avg_pool3d(self, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override):
    """Mean over windows of ``self`` ([N], C, D, H, W); otherwise as ``avg_pool2d``."""
    return _average(3, self, kernel_size, stride, padding, ceil_mode, count_include_pad,
                    divisor_override)


def _power_average(n, input, norm_type, kernel_size, stride, ceil_mode):
    kernel = per_dimension(f"lp_pool{n}d", "kernel_size", kernel_size, n)
    mean = _average(n, ops.pow(input, norm_type), kernel, stride, 0, ceil_mode, True)
    # the sign keeps an odd power's root real and its gradient finite at 0
    total = ops.mul(ops.mul(ops.sign(mean), ops.relu(ops.abs(mean))), product(kernel))
    return ops.pow(total, 1.0 / norm_type)


@overloaded("lp_pool1d", namespace="nn.functional", method=False)
def lp_pool1d(input, norm_type, kernel_size, stride=None, ceil_mode=False):
    """``(sum over the window of x ** p) ** (1 / p)`` with p = ``norm_type``; ([N], C, L)."""
    return _power_average(1, input, norm_type, kernel_size, stride, ceil_mode)


@overloaded("lp_pool2d", namespace="nn.functional", method=False)
def lp_pool2d(input, norm_type, kernel_size, stride=None, ceil_mode=False):
    """``(sum over the window of x ** p) ** (1 / p)`` with p = ``norm_type``; ([N], C, H, W)."""
    return _power_average(2, input, norm_type, kernel_size, stride, ceil_mode)


@overloaded("lp_pool3d", namespace="nn.functional", method=False)
def lp_pool3d(input, norm_type, kernel_size, stride=None, ceil_mode=False):
    """``(sum over the window of x ** p) ** (1 / p)`` with p = ``norm_type``; ([N], C, D, H, W)."""
    return _power_average(3, input, norm_type, kernel_size, stride, ceil_mode)
