"""Maximum pooling and its inverse; the averages are in ``pooling_average.py``, windows that
tile the input in ``pooling_tiles.py``."""
from ...kernels import pool as kernels
from ...runtime import dtypes
from ..base import empty, product
from ..composite import overloaded
from ..registry import ops
from ..structured import as_dtype, contiguous, run, structured
from ..windows import (
    check_indices,
    check_real,
    computed,
    filled,
    flat_planes,
    grain,
    per_dimension,
    planes,
    pooled_shape,
)
from .pooling_tiles import tiles

MOST_UNROLLED = 27      # taps; beyond, the code grows faster than it gains
INT32_PLANE = 1 << 31   # the unrolled kernels hold indices in 32 bits


def _integers(kernel, stride, padding, dilation):
    return [("i", v) for values in (filled(kernel, 1), filled(stride, 1), filled(padding, 0),
                                    filled(dilation, 1)) for v in values]


def _launch_max_pool(x, out, index, kernel, stride, padding, dilation):
    """Run the unrolled kernel where there is one, else the general one."""
    count, _, _, width = x._shape
    plane = product(x._shape[1:])
    kind, size = x.dtype.code, plane + product(out._shape[1:])
    if max(dilation) > 1 or product(kernel) > MOST_UNROLLED or plane >= INT32_PLANE:
        lowest = float("-inf") if x.dtype.is_floating_point else 0.0
        run(kernels.max_pool, [("C", x), ("C", out), ("C", index),
                               *_integers(kernel, stride, padding, dilation), ("T", lowest)],
            n=count, grain=grain(size), T=kind)
        return
    best = empty((count, width), x.dtype, x._storage.device)
    where = empty((count, width), dtypes.int32, x._storage.device)
    steps = [("i", v) for v in (*filled(stride, 1), *filled(padding, 0))]
    run(kernels.max_pool_for(*filled(kernel, 1)),
        [("C", x), ("C", out), ("C", index), ("C", best), ("C", where), *steps],
        n=count, grain=grain(size), T=kind)


def _max_pool(n, self, kernel_size, stride, padding, dilation, ceil_mode):
    op = f"max_pool{n}d"
    shape = pooled_shape(op, self._shape, kernel_size, stride or kernel_size, padding, dilation,
                         ceil_mode)
    check_real(op, self)
    x = computed(self)
    out, index = (empty(shape, d, self._storage.device) for d in (x.dtype, dtypes.int64))
    _launch_max_pool(planes(x, n), planes(out, n), planes(index, n), kernel_size,
                     stride or kernel_size, padding, dilation)
    return as_dtype(out, self.dtype), index


_INDEXED = """Largest element of each window, and its flat index in the ({spatial}) plane.

    ``out[..., o] = max_k x[..., o * stride - padding + k * dilation]`` over the positions that
    exist; among equal values the first; NaN if there is one. ``self`` ([N], C, {spatial}), any
    real type; indices are int64. RuntimeError for sizes that have no output."""


def _register_max_pool(n):
    spatial = ("L", "H, W", "D, H, W")[n - 1]

    def host(self, kernel_size, stride, padding, dilation, ceil_mode):
        return _max_pool(n, self, kernel_size, stride, padding, dilation, ceil_mode)

    host.__doc__ = _INDEXED.format(spatial=spatial)
    entry = structured(
        f"max_pool{n}d_with_indices(Tensor self, int[{n}] kernel_size, int[{n}] stride=[], "
        f"int[{n}] padding=0, int[{n}] dilation=1, bool ceil_mode=False) -> (Tensor, Tensor)",
        method=False)(host)
    entry.backward_name = f"MaxPool{n}DWithIndicesBackward0"

    @entry.gradient("self")
    def _(grad0, self, result1):
        return ops._scatter_planes(grad0, result1, self.shape[-n:])

    def public(input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False,
               return_indices=False):
        sizes = [per_dimension(f"max_pool{n}d", name, value, n) for name, value in (
            ("kernel_size", kernel_size), ("stride", kernel_size if stride in (None, (), [])
                                           else stride),
            ("padding", padding), ("dilation", dilation))]
        if not return_indices and tiles(input, *sizes, ceil_mode):
            return getattr(ops, f"_max_pool{n}d_tiles")(input, sizes[0])[0]
        out, index = entry.function(input, *sizes, ceil_mode)
        return (out, index) if return_indices else out

    public.__doc__ = f"""Maximum over windows of {("one", "two", "three")[n - 1]} dimensions.

    ``input`` ([N], C, {spatial}); ``stride`` defaults to ``kernel_size``; padding counts as absent;
    ``ceil_mode`` lets the last window stick out. With ``return_indices`` also the flat index of
    each maximum in its plane, int64, as ``max_unpool{n}d`` takes it. The gradient goes to that
    element alone. RuntimeError for sizes that have no output.
    """
    public.__name__ = f"max_pool{n}d"
    overloaded(f"max_pool{n}d", namespace="nn.functional", method=False)(public)


for _n in (1, 2, 3):
    _register_max_pool(_n)


@structured("_scatter_planes(Tensor self, Tensor indices, int[] size) -> Tensor", method=False)
def _scatter_planes(self, indices, size):
    """``out[..., indices[..., i]] += self[..., i]`` on zeros, within planes of shape ``size``."""
    n = len(size)
    x = computed(self)
    out = empty((*x._shape[:-n], *size), x.dtype, x._storage.device)
    flat = flat_planes(out, n)
    run(kernels.scatter_planes,
        [("C", flat_planes(x, n)), ("C", flat_planes(contiguous(indices), n)), ("C", flat)],
        n=flat._shape[0], grain=grain(flat._shape[1]), T=x.dtype.code)
    return as_dtype(out, self.dtype)


@_scatter_planes.gradient("self")
def _(grad, indices, size):
    return ops._gather_planes(grad, indices, len(size))


@structured("_gather_planes(Tensor self, Tensor indices, int n) -> Tensor", method=False)
def _gather_planes(self, indices, n):
    """``out[..., i] = self[..., indices[..., i]]`` within planes of the last ``n`` dimensions."""
    x = computed(self)
    out = empty(indices._shape, x.dtype, x._storage.device)
    flat = flat_planes(out, n)
    run(kernels.gather_planes,
        [("C", flat_planes(x, n)), ("C", flat_planes(contiguous(indices), n)), ("C", flat)],
        n=flat._shape[0], grain=grain(flat._shape[1]), T=x.dtype.code)
    return as_dtype(out, self.dtype)


@_gather_planes.gradient("self")
def _(grad, self, indices, n):
    return ops._scatter_planes(grad, indices, self.shape[-n:])


@structured("_max_unpool(Tensor self, Tensor indices, int[] output_size) -> Tensor", method=False)
def _max_unpool(self, indices, output_size):
    """``out[..., indices[..., i]] = self[..., i]`` on zeros, within planes of ``output_size``."""
    n = len(output_size)
    op = f"max_unpool{n}d"
    if indices.dtype is not dtypes.int64:
        raise RuntimeError(f"{op}: elements in indices should be type int64 but got: "
                           f"{indices.dtype}")
    if indices._shape != self._shape:
        raise RuntimeError(f"{op}: Expected shape of indices to be same as that of the input "
                           f"tensor ({list(self._shape)}) but got indices tensor with shape: "
                           f"{list(indices._shape)}")
    if len(self._shape) not in (n + 1, n + 2) or 0 in self._shape[-n:]:
        raise RuntimeError(f"{op}: Input to {op} should be a {n + 1}d or {n + 2}d Tensor with "
                           f"non-zero spatial sizes, but got {list(self._shape)}")
    x, index = computed(self), contiguous(indices)
    size = product(output_size)
    check_indices(index, size, lambda wrong: RuntimeError(
        f"{op}: Found an invalid max index: {wrong} (output volumes are of size "
        f"{'x'.join(map(str, output_size))})"))
    out = empty((*x._shape[:-n], *output_size), x.dtype, x._storage.device)
    run(kernels.place_planes,
        [("C", flat_planes(x, n)), ("C", flat_planes(index, n)), ("C", flat_planes(out, n))],
        n=product(x._shape[:-n]), grain=grain(size), T=x.dtype.code)
    return as_dtype(out, self.dtype)


@_max_unpool.gradient("self")
def _(grad, indices, output_size):
    return ops._gather_planes(grad, indices, len(output_size))


def _unpool_size(op, shape, kernel, stride, padding, output_size):
    """The spatial size to unpool to; ValueError for one that cannot be."""
    n = len(kernel)
    natural = tuple((size - 1) * s + k - 2 * p for size, k, s, p in
                    zip(shape[-n:], kernel, stride, padding, strict=True))
    if output_size is None:
        return natural
    wanted = tuple(output_size)[-n:] if len(output_size) == n + 2 else tuple(output_size)
    if len(wanted) != n:
        raise ValueError(f"output_size should be a sequence containing {n} or {n + 2} elements, "
                         f"but it has a length of '{len(output_size)}'")
    for size, middle, step in zip(wanted, natural, stride, strict=True):
        if not middle - step < size < middle + step:
            low, high = ([m + sign * s for m, s in zip(natural, stride, strict=True)]
                         for sign in (-1, 1))
            raise ValueError(f"{op}: invalid output_size {wanted}: each element must be between "
                             f"{low} and {high}")
    return wanted


def _register_max_unpool(n):
    op = f"max_unpool{n}d"

    def public(input, indices, kernel_size, stride=None, padding=0, output_size=None):
        kernel = per_dimension(op, "kernel_size", kernel_size, n)
        steps = per_dimension(op, "stride", kernel if stride is None else stride, n)
        pads = per_dimension(op, "padding", padding, n)
        if min(steps) <= 0:
            raise RuntimeError(f"{op}: strides should be greater than zero, but got stride: "
                               f"{steps}")
        size = _unpool_size(op, input._shape, kernel, steps, pads, output_size)
        return ops._max_unpool(input, indices, size)

    public.__doc__ = f"""Partial inverse of ``max_pool{n}d``: zeros but for the maxima.

    ``input`` and ``indices`` (int64, as the pooling returned them) have one shape; ``output_size``
    says which of the possible input sizes is wanted, by default
    ``(size - 1) * stride + kernel_size - 2 * padding``. RuntimeError for an index outside it.
    """
    public.__name__ = op
    overloaded(op, namespace="nn.functional", method=False)(public)


for _n in (1, 2, 3):
    _register_max_unpool(_n)
