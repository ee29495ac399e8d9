"""Norms of vectors and matrices."""
import math

from ...runtime import dtypes
from ..base import wrap_dim, wrap_dims
from ..composite import composite, overloaded
from ..dtype_rules import _scalar_name
from ..outputs import write_out
from ..registry import ops
from ..structured import structured
from .reductions import restore_dims


def _magnitude(x):
    return ops.abs(x)


def _fits(numbers, x):
    """``numbers`` (real) in the type of ``x``, which may be complex."""
    return ops.to_dtype(numbers, x.dtype)


@structured("_vector_norm(Tensor self, float p, int[1]? dim, bool keepdim=False) -> Tensor",
            method=False)
def _vector_norm(self, p, dim, keepdim):
    """``sum(abs(x) ** p) ** (1 / p)`` over ``dim``; p of inf, -inf and 0 are their limits."""
    if p == 2.0 and not self.dtype.is_complex:
        return ops.sqrt(ops.sum(self * self, dim, keepdim))
    size = _magnitude(self)
    if p == 2.0:
        return ops.sqrt(ops.sum(size * size, dim, keepdim))
    if p == 1.0:
        return ops.sum(size, dim, keepdim)
    if abs(p) == math.inf:
        dims = wrap_dims(dim, len(self._shape))
        return (ops.amax if p > 0 else ops.amin)(size, dims, keepdim)
    if p == 0.0:
        return ops.sum(ops.to_dtype(ops.ne(self, 0), size.dtype), dim, keepdim)
    return ops.pow(ops.sum(ops.pow(size, p), dim, keepdim), 1.0 / p)


@_vector_norm.gradient("self")
def _(grad, self, result, p, dim, keepdim):
    ndim = len(self._shape)
    grad, result = (restore_dims(t, dim, keepdim, ndim) for t in (grad, result))
    if p == 0.0:
        return ops.zeros_like(self)
    if p == 1.0:
        return ops.sgn(self) * grad
    zero = ops.eq(result, 0)
    if abs(p) == math.inf:
        extreme = ops.to_dtype(ops.eq(_magnitude(self), result), grad.dtype)
        return ops.sgn(self) * (extreme * (grad / ops.sum(extreme, dim, True)))
    # at 0 the norm has no gradient: 0 is taken, without dividing by the norm
    safe = ops.masked_fill(result, zero, 1.0)
    if p == 2.0:
        return self * ops.masked_fill(grad / safe, zero, 0.0)
    factor = ops.masked_fill(grad / ops.pow(safe, p - 1), zero, 0.0)
    size = _magnitude(self)
    if p >= 2.0:
        return self * (ops.pow(size, p - 2) * factor)
    nothing = ops.eq(self, 0)
    slope = ops.pow(ops.masked_fill(size, nothing, 1.0), p - 1)
    return ops.sgn(self) * (ops.masked_fill(slope, nothing, 0.0) * factor)


def _check_floating(op, x, dtype):
    kind = x.dtype if dtype is None else dtype
    if kind.category < dtypes.FLOAT:
        raise RuntimeError(f"{op}: Expected a floating point or complex tensor as input. Got "
                           f"{_scalar_name(kind)}")
    return x if dtype is None or dtype is x.dtype else ops.to_dtype(x, dtype)


def _finish(op, result, out):
    return result if out is None else write_out(op, out, result)


@overloaded("linalg_vector_norm", method=False, out=True)
def linalg_vector_norm(x, ord=2, dim=None, keepdim=False, *, dtype=None, out=None):
    """``sum(abs(x) ** ord) ** (1 / ord)`` over ``dim``, or over all elements.

    ``ord`` may be inf, -inf (largest, smallest magnitude) and 0 (how many are not zero).
    RuntimeError for integers, and for an empty reduction that has no identity.
    """
    x = _check_floating("linalg.vector_norm", x, dtype)
    dims = wrap_dims(dim, len(x._shape))
    if (ord < 0 or ord == math.inf) and any(x._shape[d] == 0 for d in dims):
        raise RuntimeError(f"linalg.vector_norm cannot compute the {ord} norm on an empty tensor "
                           "because the operation does not have an identity")
    return _finish("linalg.vector_norm", ops._vector_norm(x, float(ord), dims, keepdim), out)


@structured("_singular_values(Tensor self) -> (Tensor, Tensor, Tensor)", method=False)
def _singular_values(self):
    """Singular values with the vectors their gradient needs, by LAPACK."""
    import numpy as np
    if self.is_meta:
        *batch, m, n = self._shape
        k = min(m, n)
        return (ops.empty((*batch, k), dtype=self.dtype.to_real(), device="meta"),
                ops.empty((*batch, m, k), dtype=self.dtype, device="meta"),
                ops.empty((*batch, k, n), dtype=self.dtype, device="meta"))
    u, s, vh = np.linalg.svd(self._array(), full_matrices=False)
    return tuple(ops.from_numpy(np.ascontiguousarray(m)) for m in (s, u, vh))


@_singular_values.gradient("self")
def _(grad, result1, result2):
    return ops.matmul(result1 * ops.unsqueeze(_fits(grad, result1), -2), result2)


@overloaded("linalg_svdvals", method=False, out=True)
def linalg_svdvals(A, *, driver=None, out=None):
    """Singular values of (batches of) matrices, largest first."""
    if len(A._shape) < 2:
        raise RuntimeError("linalg.svdvals: The input tensor A must have at least 2 dimensions.")
    return _finish("linalg.svdvals", ops._singular_values(
        _check_floating("linalg.svdvals", A, None))[0], out)


@overloaded("linalg_matrix_norm", method=False, out=True)
def linalg_matrix_norm(A, ord="fro", dim=(-2, -1), keepdim=False, *, dtype=None, out=None):
    """Norm of the matrices in two dimensions: 'fro', 'nuc', or ord of 1, -1, 2, -2, inf, -inf."""
    A = _check_floating("linalg.matrix_norm", A, dtype)
    rows, columns = wrap_dims(tuple(dim), len(A._shape))
    if ord == "fro":
        return _finish("linalg.matrix_norm", ops._vector_norm(A, 2.0, (rows, columns), keepdim),
                       out)
    if ord in ("nuc", 2, -2):
        values = ops._singular_values(ops.movedim(A, (rows, columns), (-2, -1)))[0]
        found = (ops.sum(values, -1) if ord == "nuc" else
                 ops.amax(values, -1) if ord == 2 else ops.amin(values, -1))
        if keepdim:
            for d in sorted((rows, columns)):
                found = ops.unsqueeze(found, d)
    elif ord in (1, -1, math.inf, -math.inf):
        along, over = (rows, columns) if abs(ord) == 1 else (columns, rows)
        sums = ops.sum(_magnitude(A), along, True)
        found = (ops.amax if ord > 0 else ops.amin)(sums, over, True)
        if not keepdim:
            found = ops.squeeze(found, (rows, columns))
    else:
        raise RuntimeError(f"linalg.matrix_norm: Order {ord} not supported.")
    return _finish("linalg.matrix_norm", found, out)


@overloaded("linalg_norm", method=False, out=True)
def linalg_norm(A, ord=None, dim=None, keepdim=False, *, out=None, dtype=None):
    """Vector norm of all elements or one dimension, matrix norm of two."""
    dims = None if dim is None else tuple(dim) if isinstance(dim, (tuple, list)) else (dim,)
    if ord is None:
        return linalg_vector_norm(A, 2, dims, keepdim, dtype=dtype, out=out)
    if dims is None and len(A._shape) not in (1, 2):
        raise RuntimeError("linalg.norm: If dim is not specified but ord is, the input must be 1D "
                           f"or 2D. Got {len(A._shape)}D.")
    if (dims is None and len(A._shape) == 2) or (dims is not None and len(dims) == 2):
        return linalg_matrix_norm(A, ord, dims or (0, 1), keepdim, dtype=dtype, out=out)
    if isinstance(ord, str):
        raise RuntimeError(f"linalg.norm: Order {ord} not supported for vectors.")
    return linalg_vector_norm(A, ord, dims, keepdim, dtype=dtype, out=out)


@overloaded("norm", out=True)
def norm(input, p="fro", dim=None, keepdim=False, out=None, dtype=None):
    """``torch.norm``: 'fro' (also None) over any dimensions, 'nuc' over two, or the p-norm."""
    if p == "nuc":
        dims = dim if dim is not None else (-2, -1)
        return linalg_matrix_norm(input, "nuc", dims, keepdim, dtype=dtype, out=out)
    if isinstance(p, str) and p != "fro":
        raise RuntimeError(f"only valid string values are 'fro' and 'nuc', found {p}")
    order = 2.0 if p in ("fro", None) else float(p)
    dims = None if dim is None else dim if isinstance(dim, (tuple, list)) else (dim,)
    return linalg_vector_norm(input, order, dims, keepdim, dtype=dtype, out=out)


@overloaded("dist")
def dist(input, other, p=2):
    """``norm_p(input - other)`` of all elements."""
    return ops._vector_norm(input - other, float(p), None, False)


@composite("renorm(Tensor self, Scalar p, int dim, Scalar maxnorm, *, Tensor? out=None) -> Tensor",
           inplace=True, exact_out="dtype")
def renorm(self, p, dim, maxnorm):
    """Slices along ``dim`` whose p-norm exceeds ``maxnorm`` scaled down to it."""
    if p <= 0:
        raise RuntimeError("renorm: non-positive-norm not supported")
    if maxnorm < 0:
        raise RuntimeError(f"renorm: expected maxnorm to be >= 0 but got {maxnorm}")
    if len(self._shape) < 2:
        raise RuntimeError(f"renorm: input needs at least 2 dimensions, got {len(self._shape)} "
                           "dimensions")
    d = wrap_dim(dim, len(self._shape))
    rest = tuple(k for k in range(len(self._shape)) if k != d)
    size = ops._vector_norm(self, float(p), rest, True)
    factor = ops.where(size > maxnorm, maxnorm / (size + 1e-7), ops.ones_like(size))
    return self * factor
