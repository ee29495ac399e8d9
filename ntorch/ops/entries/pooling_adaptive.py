"""Adaptive pooling: the output size is given, the windows follow."""
from ...kernels import adaptive_pool as kernels
from ...runtime import dtypes
from ..base import empty, product
from ..composite import overloaded
from ..registry import ops
from ..structured import as_dtype, run, structured
from ..windows import check_input, check_real, computed, grain, per_dimension, planes, reshaped


def _output_size(op, shape, output_size, n):
    """``n`` output sizes; None stands for the input's. ValueError if there are more of them than
    dimensions to pool, RuntimeError for bad counts or sizes."""
    if not isinstance(output_size, (tuple, list)):
        output_size = (output_size,) * n
    elif n > 1 and len(shape) <= len(output_size):
        raise ValueError(f"{op}: Input dimension should be at least {len(output_size) + 1}, got "
                         f"{len(shape)}")
    check_input(op, shape, n)
    if len(output_size) == 1:
        output_size = tuple(output_size) * n
    if len(output_size) != n:
        raise RuntimeError(f"{op}: 'output_size' should contain {n} ints, got {list(output_size)}")
    sizes = tuple(have if want is None else want
                  for want, have in zip(output_size, shape[-n:], strict=True))
    sizes = per_dimension(op, "output_size", sizes, n)
    if min(sizes) < 0:
        raise RuntimeError(f"{op}: elements of output_size must be greater than or equal to 0 but "
                           f"received {list(sizes)}")
    return sizes


def _collapsed(tensor, n, size):
    """Planes of ``tensor``; as single rows where every output covers its whole plane."""
    if product(size) != 1:
        return planes(tensor, n)
    shape = tensor._shape
    return reshaped(tensor, (product(shape[:-n]), 1, 1, product(shape[-n:])))


@structured("_adaptive_avg_pool(Tensor self, int[] output_size) -> Tensor", method=False)
def _adaptive_avg_pool(self, output_size):
    """Mean of window i of O, positions floor(i I / O) to ceil((i + 1) I / O), in each dimension."""
    n = len(output_size)
    op = f"adaptive_avg_pool{n}d"
    check_input(op, self._shape, n)
    check_real(op, self, integers=False)
    x = computed(self)
    out = empty((*x._shape[:-n], *output_size), x.dtype, x._storage.device)
    run(kernels.adaptive_avg_pool, [("C", _collapsed(x, n, output_size)), ("C", planes(out, n))],
        n=product(x._shape[:-n]), grain=grain(product(x._shape[-n:])), reassoc=True)
    return as_dtype(out, self.dtype)


@_adaptive_avg_pool.gradient("self")
def _(grad, self, output_size):
    return ops._adaptive_avg_pool_backward(grad, self.shape[-len(output_size):])


@structured("_adaptive_avg_pool_backward(Tensor self, int[] size) -> Tensor", method=False)
def _adaptive_avg_pool_backward(self, size):
    """Each window over planes of shape ``size`` shares its gradient equally."""
    n = len(size)
    g = computed(self)
    gx = empty((*g._shape[:-n], *size), g.dtype, g._storage.device)
    run(kernels.adaptive_avg_pool_backward,
        [("C", planes(g, n)), ("C", _collapsed(gx, n, g._shape[-n:]))],
        n=product(g._shape[:-n]), grain=grain(product(size)))
    return as_dtype(gx, self.dtype)


@_adaptive_avg_pool_backward.gradient("self")
def _(grad, self, size):
    return ops._adaptive_avg_pool(grad, self.shape[-len(size):])


@structured("_adaptive_max_pool(Tensor self, int[] output_size) -> (Tensor, Tensor)", method=False)
def _adaptive_max_pool(self, output_size):
    """Maximum of each adaptive window and its flat index in the plane; NaN wins."""
    n = len(output_size)
    op = f"adaptive_max_pool{n}d"
    check_input(op, self._shape, n)
    check_real(op, self, integers=False)
    x = computed(self)
    out, index = (empty((*x._shape[:-n], *output_size), d, x._storage.device)
                  for d in (x.dtype, dtypes.int64))
    run(kernels.adaptive_max_pool,
        [("C", planes(x, n)), ("C", planes(out, n)), ("C", planes(index, n)),
         ("T", float("-inf"))],
        n=product(x._shape[:-n]), grain=grain(product(x._shape[-n:])))
    return as_dtype(out, self.dtype), index


@_adaptive_max_pool.gradient("self")
def _(grad0, self, output_size, result1):
    return ops._scatter_planes(grad0, result1, self.shape[-len(output_size):])


_AVERAGE = """Mean of windows that divide the input evenly into ``output_size`` parts.

    Window i of O covers positions floor(i I / O) to ceil((i + 1) I / O). ``input`` ([N], C,
    {spatial}), floating point; a size of None keeps the input's. RuntimeError for sizes below 0.
    """
_MAXIMUM = """Maximum of windows that divide the input evenly into ``output_size`` parts.

    Windows as in ``adaptive_avg_pool{n}d``; with ``return_indices`` also the flat index of each
    maximum in its ({spatial}) plane, int64. RuntimeError for sizes below 0.
    """


def _register(n):
    spatial = ("L", "H, W", "D, H, W")[n - 1]
    average, maximum = f"adaptive_avg_pool{n}d", f"adaptive_max_pool{n}d"

    def mean(input, output_size):
        sizes = _output_size(average, input._shape, output_size, n)
        if (product(sizes) == 1 and product(input._shape[-n:])
                and input.dtype.category == dtypes.FLOAT):
            return ops.mean(input, tuple(range(-n, 0)), True)   # fuses with what is around it
        return ops._adaptive_avg_pool(input, sizes)

    def largest(input, output_size, return_indices=False):
        out, index = ops._adaptive_max_pool(
            input, _output_size(maximum, input._shape, output_size, n))
        return (out, index) if return_indices else out

    mean.__doc__ = _AVERAGE.format(spatial=spatial)
    largest.__doc__ = _MAXIMUM.format(spatial=spatial, n=n)
    mean.__name__, largest.__name__ = average, maximum
    overloaded(average, namespace="nn.functional", method=False)(mean)
    overloaded(maximum, namespace="nn.functional", method=False)(largest)


for _n in (1, 2, 3):
    _register(_n)
