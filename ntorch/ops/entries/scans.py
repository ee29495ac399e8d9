"""Running sums, products, extremes and log-sums along one dimension."""
from ...kernels import scan as kernels
from ...runtime import dtypes
from ..base import empty, numel, wrap_dim
from ..composite import composite, overloaded
from ..dtype_rules import _scalar_name
from ..grids import calculable, grid, rows_grain, write_out
from ..registry import ops
from ..structured import as_dtype, contiguous, run, structured
from .extremes import return_type

_STATE = {dtypes.float32: dtypes.float64}     # running values are kept wider than the elements


def _scan_dtype(op, self, dtype):
    if dtype is dtypes.bool_:
        raise NotImplementedError(f"\"{op}_out_cpu\" not implemented for 'Bool'")
    if dtype is not None:
        return dtype
    return dtypes.int64 if self.dtype.category < dtypes.FLOAT else self.dtype


def _scan(op, kernel, self, dim, dtype):
    """Run a scan whose running value has the elements' kind."""
    d = wrap_dim(dim, len(self._shape), op)
    result = _scan_dtype(op, self, dtype)
    source = calculable(contiguous(as_dtype(self, result)))
    out = empty(self._shape, source.dtype, self._storage.device)
    if numel(self):
        source, target = grid(source, d), grid(out, d)
        outer, n, inner = source._shape
        state = empty((outer, inner), _STATE.get(source.dtype, source.dtype), self._storage.device)
        run(kernel, [("C", source), ("C", target), ("C", state)], outer, rows_grain(n * inner),
            T=source.dtype.code if source.dtype.category >= dtypes.FLOAT else "f4")
    return as_dtype(out, result)


@structured("cumsum(Tensor self, int dim, *, ScalarType? dtype=None, Tensor? out=None) -> Tensor",
            inplace=True, out_dtype=True)
def cumsum(self, dim, dtype):
    """Running sum along ``dim``; integers are summed in int64, float32 in float64."""
    return _scan("cumsum", kernels.cumulative_sum, self, dim, dtype)


@cumsum.gradient("self")
def _(grad, dim):
    if not grad._shape:
        return grad
    return ops.flip(ops.cumsum(ops.flip(grad, (dim,)), dim), (dim,))


@structured("cumprod(Tensor self, int dim, *, ScalarType? dtype=None, Tensor? out=None) -> Tensor",
            inplace=True, out_dtype=True)
def cumprod(self, dim, dtype):
    """Running product along ``dim``; integers are multiplied in int64, float32 in float64."""
    return _scan("cumprod", kernels.cumulative_product, self, dim, dtype)


def _reverse_sum(tensor, dim):
    return ops.flip(ops.cumsum(ops.flip(tensor, (dim,)), dim), (dim,))


@cumprod.gradient("self")
def _(grad, self, dim, dtype):
    if not self._shape:
        return grad
    if self.dtype is not grad.dtype:
        self = ops.to_dtype(self, grad.dtype)
    factor = ops.conj(self) if self.dtype.is_complex else self
    zero = ops.eq(factor, 0)
    if not ops.any(zero.detach()).item():
        return _reverse_sum(grad * ops.cumprod(factor, dim), dim) / factor
    return _cumprod_with_zeros(grad, factor, dim)


def _cumprod_with_zeros(grad, factor, dim):
    """Where some factors are zero: for each i, sum over j >= i of grad_j times the other factors.

    Factors are replaced by 1 one position at a time: quadratic in the size, but it divides nothing.
    """
    n = factor._shape[dim]
    parts = []
    for i in range(n):
        before = ops.slice(factor, dim, 0, i)
        after = ops.slice(factor, dim, i + 1, n)
        one = ops.ones_like(ops.slice(factor, dim, i, i + 1))
        products = ops.cumprod(ops.cat([before, one, after], dim), dim)
        tail = ops.slice(products, dim, i, n) * ops.slice(grad, dim, i, n)
        parts.append(ops.sum(tail, dim, True))
    return ops.cat(parts, dim) if parts else ops.zeros_like(factor)


def _extreme(name, kernel, last):
    @structured(f"_{name}(Tensor self, int dim) -> (Tensor, Tensor)", method=False)
    def extreme(self, dim):
        d = wrap_dim(dim, len(self._shape), name)
        if self.dtype.is_complex:
            raise NotImplementedError(
                f"\"{name}_cpu\" not implemented for '{_scalar_name(self.dtype)}'")
        source = contiguous(self)
        work = calculable(source)
        out = empty(self._shape, work.dtype, self._storage.device)
        places = empty(self._shape, dtypes.int64, self._storage.device)
        if numel(self):
            view = grid(work, d)
            run(last if view._shape[2] == 1 else kernel,
                [("C", view), ("C", grid(out, d)), ("C", grid(places, d))], view._shape[0],
                rows_grain(view._shape[1] * view._shape[2]))
        return as_dtype(out, self.dtype), places

    @extreme.gradient("self")
    def _(grad0, self, result1, dim):
        if not self._shape:
            return grad0
        return ops.scatter_add(ops.zeros_like(self, dtype=grad0.dtype), dim, result1, grad0)

    def public(input, dim, *, out=None):  # noqa: A002 - torch's keyword
        values, indices = getattr(ops, "_" + name)(input, dim)
        if out is not None:
            values, indices = (write_out(name, target, got, (input,), True)
                               for target, got in zip(out, (values, indices), strict=True))
        return return_type(name)((values, indices))
    public.__name__ = name
    public.__doc__ = (f"Running {name[3:]}imum along ``dim`` and where it was last reached, as "
                      "``(values, indices)``; a NaN stays.")
    overloaded(name, out=True)(public)


_extreme("cummax", kernels.cumulative_max, kernels.cumulative_max_last)
_extreme("cummin", kernels.cumulative_min, kernels.cumulative_min_last)


@structured("logcumsumexp(Tensor self, int dim, *, Tensor? out=None) -> Tensor", exact_out="dtype")
def logcumsumexp(self, dim):
    """Running ``log(sum(exp(self)))`` along ``dim``, without overflow. Real floating types only."""
    d = wrap_dim(dim, len(self._shape), "logcumsumexp")
    if not self.dtype.is_floating_point:
        raise NotImplementedError(
            f"\"logcumsumexp_out_cpu\" not implemented for '{_scalar_name(self.dtype)}'")
    source = calculable(contiguous(self))
    out = empty(self._shape, source.dtype, self._storage.device)
    if numel(self):
        view = grid(source, d)
        run(kernels.cumulative_logsumexp, [("C", view), ("C", grid(out, d))], view._shape[0],
            rows_grain(8 * view._shape[1] * view._shape[2]))
    return as_dtype(out, self.dtype)


@logcumsumexp.gradient("self")
def _(grad, self, result, dim):
    if not self._shape:
        return grad
    # grad_i e^{x_i} summed from e^{-result_j}: in logs, positive and negative parts apart
    low = ops.full_like(grad, -float("inf"))

    def part(sign):
        shares = ops.log(ops.clamp(grad * sign, 0))
        shares = ops.where(ops.gt(grad * sign, 0), shares - result, low)
        backwards = ops.logcumsumexp(ops.flip(shares, (dim,)), dim)
        return ops.exp(ops.flip(backwards, (dim,)) + self)
    return part(1.0) - part(-1.0)


@composite("diff(Tensor self, int n=1, int dim=-1, Tensor? prepend=None, Tensor? append=None, *, "
           "Tensor? out=None) -> Tensor")
def diff(self, n, dim, prepend, append):
    """The ``n``-th difference of neighbours along ``dim``, after joining ``prepend`` and
    ``append``."""
    if not self._shape:
        raise RuntimeError("diff expects input to be at least one-dimensional")
    if n < 0:
        raise RuntimeError(f"order must be non-negative but got {n}")
    d = wrap_dim(dim, len(self._shape), "diff")
    parts = [t for t in (prepend, self, append) if t is not None]
    if n == 0:
        return ops.clone(self) if len(parts) == 1 else ops.cat(parts, d)
    joined = ops.cat(parts, d) if len(parts) > 1 else self
    for _ in range(min(n, joined._shape[d])):
        size = joined._shape[d]
        after, before = ops.slice(joined, d, 1, size), ops.slice(joined, d, 0, max(size - 1, 0))
        joined = (ops.logical_xor(after, before) if joined.dtype is dtypes.bool_ else
                  ops.sub(after, before))
    return joined
