"""Pooling whose windows tile the input: stride as the kernel, no padding, no dilation.

Who does not ask for indices of maxima gets their places as taps in the window, one byte each; a
gradient reaches each input element by one comparison.
"""
from ...kernels import pool_tiles as kernels
from ...runtime import cpu, dtypes
from ..base import TensorBase, empty, product, reshaped
from ..registry import ops
from ..structured import as_dtype, contiguous, run, structured
from ..windows import check_real, computed, filled, grain, planes, pooled_shape

MOST_TAPS = 64          # their code is straight on
MOST_WIDE = 4           # taps side by side that vectors are cut into


def tiles(x, kernel, stride, padding, dilation, ceil_mode):
    """Whether pooling ``x`` so is served here. Sizes that are wrong are left to the general form,
    which knows what to say."""
    return isinstance(x, TensorBase) and tile(
        x.dtype, x._shape, kernel, stride, padding, dilation, ceil_mode)


def tile(dtype, shape, kernel, stride, padding, dilation, ceil_mode):
    """The same of the form of ``x``."""
    n = len(kernel)
    return (dtype.is_floating_point and len(shape) >= n
            and list(stride) == list(kernel) and not any(padding) and set(dilation) <= {1}
            and min(kernel) > 0 and product(kernel) <= MOST_TAPS and kernel[-1] <= MOST_WIDE
            and not (ceil_mode and any(s % k for s, k in zip(shape[-n:], kernel, strict=True))))


def _flat(*tensors):
    return [("C", reshaped(tensor, (product(tensor._shape),))) for tensor in tensors]


def _sizes(whole, windows, n):
    return [("i", size) for tensor in (whole, windows) for size in planes(tensor, n)._shape[1:]]


def _lanes(x):
    """Windows that a vector operation takes, of half the widest vectors: rows of windows are short,
    and ``kw`` times as many taps are loaded."""
    return max(cpu.vector_bits() // 2, 128) // (8 * x.dtype.itemsize)


def _grain(plane, n):
    """Planes of one task."""
    return grain(2 * product(plane[-n:]))


def _register(n):
    def host(self, kernel_size):
        shape = pooled_shape(f"max_pool{n}d", self._shape, kernel_size, kernel_size, (0,) * n,
                             (1,) * n, False)
        check_real(f"max_pool{n}d", self)
        x = computed(self)
        out, where = (empty(shape, d, self._storage.device) for d in (x.dtype, dtypes.uint8))
        run(kernels.maxima_for(*filled(kernel_size, 1), _lanes(x)),
            [*_flat(x, out, where), *_sizes(x, out, n)], n=product(shape[:-n]),
            grain=_grain(x._shape, n))
        return as_dtype(out, self.dtype), where

    host.__doc__ = f"""Largest element of each window, and its tap, uint8.

    ``self`` ([N], C, *spatial), floating, {n} spatial dimensions; windows lie side by side, and
    what is behind the last is in none. Among equal values the first tap; NaN if there is one."""
    entry = structured(f"_max_pool{n}d_tiles(Tensor self, int[{n}] kernel_size)"
                       " -> (Tensor, Tensor)", method=False)(host)
    entry.backward_name = f"MaxPool{n}DWithIndicesBackward0"

    @entry.gradient("self")
    def _(grad0, self, result1, kernel_size):
        return ops._spread_maxima(grad0, result1, kernel_size, self.shape[-n:])


for _n in (1, 2, 3):
    _register(_n)


def mean(x, out, kernel, divisor):
    """Launch the mean of tiles: ``x`` and ``out`` of one compute type."""
    _launch_means(kernels.means_for, x, out, x, out, kernel, divisor)


def share(grad, out, kernel, divisor):
    """Launch its gradient."""
    _launch_means(kernels.shares_for, grad, out, out, grad, kernel, divisor)


def _launch_means(maker, source, target, whole, windows, kernel, divisor):
    n, divisor = len(kernel), float(divisor or product(kernel))
    run(maker(*filled(kernel, 1), _lanes(source)),
        [*_flat(source, target), *_sizes(whole, windows, n), ("T", divisor)],
        n=product(whole._shape[:-n]), grain=_grain(whole._shape, n))


@structured("_spread_maxima(Tensor self, Tensor taps, int[] kernel_size, int[] size) -> Tensor",
            method=False)
def _spread_maxima(self, taps, kernel_size, size):
    """A tensor of ``size`` that is ``self`` at the tap of each window, and else 0."""
    n = len(size)
    x = computed(self)
    out = empty((*x._shape[:-n], *size), x.dtype, x._storage.device)
    run(kernels.gradients_for(*filled(kernel_size, 1), _lanes(x)),
        [*_flat(x, contiguous(taps), out), *_sizes(out, x, n)],
        n=product(x._shape[:-n]), grain=_grain(size, n))
    return as_dtype(out, self.dtype)


@_spread_maxima.gradient("self")
def _(grad, taps, kernel_size):
    return ops._pick_maxima(grad, taps, kernel_size)


@structured("_pick_maxima(Tensor self, Tensor taps, int[] kernel_size) -> Tensor", method=False)
def _pick_maxima(self, taps, kernel_size):
    """The element of ``self`` at the tap of each window."""
    n = len(kernel_size)
    x = computed(self)
    out = empty(taps._shape, x.dtype, x._storage.device)
    run(kernels.pick_maxima,
        [*_flat(x, contiguous(taps), out), *_sizes(x, out, n),
         *(("i", k) for k in filled(kernel_size, 1))],
        n=product(out._shape[:-n]), grain=_grain(x._shape, n))
    return as_dtype(out, self.dtype)


@_pick_maxima.gradient("self")
def _(grad, self, taps, kernel_size):
    return ops._spread_maxima(grad, taps, kernel_size, self.shape[-len(kernel_size):])
