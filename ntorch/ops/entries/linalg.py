"""Linear algebra on the host: LAPACK through SciPy, one matrix of the batch at a time.

The family's form: an entry checks shapes, hands NumPy views of its operands to SciPy, and returns
new tensors; its gradient is written in ops like any other. SciPy is imported at the first call.
"""
import numpy as np

from ...runtime import dtypes
from ...runtime.device import META
from ...runtime.storage import array_view
from ..base import broadcast_shapes, empty, product
from ..composite import composite
from ..errors import LinAlgError
from ..registry import ops
from ..structured import contiguous, host


def _square(op, tensor):
    if len(tensor._shape) < 2:
        raise RuntimeError(f"{op}: The input tensor A must have at least 2 dimensions.")
    if tensor._shape[-1] != tensor._shape[-2]:
        raise RuntimeError(f"{op}: A must be batches of square matrices, but they are "
                           f"{tensor._shape[-2]} by {tensor._shape[-1]} matrices")


def _lapack_type(op, tensor):
    if tensor.dtype.category < dtypes.FLOAT or tensor.dtype.is_half:
        name = tensor.dtype.name
        raise RuntimeError(f"{op}: Expected a floating point or complex tensor as input. Got "
                           f"{name}; LAPACK has float32, float64, complex64 and complex128")


def _numpy(tensor):
    """A contiguous tensor's memory as (batch, rows, cols)."""
    shape = (product(tensor._shape[:-2]), *tensor._shape[-2:])
    item = tensor.dtype.itemsize
    steps = (shape[1] * shape[2] * item, shape[2] * item, item)
    return array_view(tensor._storage, tensor._address, shape, steps, tensor.dtype.numpy)


def _each(function, out, *operands):
    """``out[i] = function(operands[0][i], ...)`` over the batch; on the meta device nothing."""
    if out._storage.device is META or 0 in out._shape:
        return
    to = _numpy(out)
    arrays = [_numpy(contiguous(t)) for t in operands]
    for i in range(len(to)):
        to[i] = function(i, *[a[i] for a in arrays])


@host("linalg_cholesky(Tensor self, *, bool upper=False, Tensor? out=None) -> Tensor", method=False)
def linalg_cholesky(self, upper):
    """Lower triangular L with ``L L^H = A`` for Hermitian positive definite A (..., n, n).

    Reads the lower triangle only (the upper one with ``upper``, which returns ``L^H``). LAPACK
    potrf. ``linalg.LinAlgError`` if a matrix is not positive definite.
    """
    _square("linalg.cholesky", self)
    _lapack_type("linalg.cholesky", self)
    result = empty(self._shape, self.dtype, self._storage.device)

    def factor(i, a):
        from scipy.linalg import get_lapack_funcs
        potrf, = get_lapack_funcs(("potrf",), (a,))
        found, info = potrf(a, lower=not upper, clean=True)
        if info > 0:
            batch = f"(Batch element {i}): " if len(self._shape) > 2 else ""
            raise LinAlgError(
                f"linalg.cholesky: {batch}The factorization could not be completed because the "
                f"input is not positive-definite (the leading minor of order {info} is not "
                "positive-definite).")
        return found

    _each(factor, result, self)
    return result


@linalg_cholesky.gradient("self")
def _(grad, result, upper):
    # Murray, Differentiation of the Cholesky decomposition, arXiv 1602.07527
    factor = ops.adjoint(result) if upper else result
    g = ops.adjoint(grad) if upper else grad
    lower = ops.tril(ops.matmul(ops.adjoint(factor), g))
    middle = 0.5 * (lower + ops.adjoint(ops.tril(lower, -1)))
    inverse = ops.linalg_solve_triangular(ops.adjoint(factor), middle, upper=True)
    return ops.linalg_solve_triangular(factor, inverse, upper=False, left=False)


@composite("cholesky(Tensor self, bool upper=False, *, Tensor? out=None) -> Tensor")
def cholesky(self, upper):
    """``linalg.cholesky`` under its older name."""
    return ops.linalg_cholesky(self, upper=upper)


@host("linalg_solve_triangular(Tensor self, Tensor B, *, bool upper, bool left=True, "
      "bool unitriangular=False, Tensor? out=None) -> Tensor", method=False)
def linalg_solve_triangular(self, B, upper, left, unitriangular):
    """X with ``A X = B`` (``X A = B`` if not ``left``) for triangular A; batches broadcast.

    Only the named triangle of A is read, without its diagonal if ``unitriangular``. LAPACK trtrs.
    """
    op = "linalg.solve_triangular"
    _square(op, self)
    _lapack_type(op, self)
    if self.dtype is not B.dtype:
        raise RuntimeError(f"{op}: Expected A and B to have the same dtype, got {self.dtype} and "
                           f"{B.dtype}")
    side = -2 if left else -1
    if len(B._shape) < 2 or B._shape[side] != self._shape[-1]:
        raise RuntimeError(f"{op}: Incompatible shapes of A and B for the equation "
                           f"{'AX = B' if left else 'XA = B'} ({list(self._shape)} and "
                           f"{list(B._shape)})")
    batch = broadcast_shapes(self._shape[:-2], B._shape[:-2])
    a = ops.expand(self, (*batch, *self._shape[-2:]))
    b = ops.expand(B, (*batch, *B._shape[-2:]))
    result = empty(b._shape, B.dtype, B._storage.device)

    def solve(i, a, b):
        from scipy.linalg import get_lapack_funcs
        trtrs, = get_lapack_funcs(("trtrs",), (a, b))
        if left:
            return trtrs(a, b, lower=not upper, unitdiag=unitriangular)[0]
        return trtrs(a.T, b.T, lower=upper, unitdiag=unitriangular)[0].T

    _each(solve, result, a, b)
    return result


@linalg_solve_triangular.gradient("self", "B")
def _(grad, self, result, upper, left, unitriangular, needs):
    turned = ops.linalg_solve_triangular(ops.adjoint(self), grad, upper=not upper, left=left,
                                         unitriangular=unitriangular)
    if not needs["self"]:
        return None, turned
    x = ops.adjoint(result)
    full = -(ops.matmul(turned, x) if left else ops.matmul(x, turned))
    skip = int(unitriangular)
    return ops.triu(full, skip) if upper else ops.tril(full, -skip), turned


def _is_vector(a, b):
    """torch's rule for B as a batch of vectors in ``linalg.solve``."""
    return len(b._shape) == 1 or (len(a._shape) - 1 == len(b._shape)
                                  and tuple(b._shape) == tuple(a._shape[:-1]))


@host("solve_matrices(Tensor self, Tensor B) -> Tensor", method=False)
def solve_matrices(self, B):
    """X with ``A X = B`` for general square A and matrices B of the same batch. LAPACK gesv."""
    result = empty(B._shape, B.dtype, B._storage.device)

    def solve(i, a, b):
        from scipy.linalg import get_lapack_funcs
        gesv, = get_lapack_funcs(("gesv",), (a, b))
        _, _, x, info = gesv(a, b)
        if info > 0:
            batch = f"(Batch element {i}): " if len(self._shape) > 2 else ""
            raise LinAlgError(f"linalg.solve: {batch}The solver failed because the input "
                                        "matrix is singular.")
        return x

    _each(solve, result, self, B)
    return result


@solve_matrices.gradient("self", "B")
def _(grad, self, result, needs):
    turned = ops.solve_matrices(ops.adjoint(self), grad)
    return -ops.matmul(turned, ops.adjoint(result)) if needs["self"] else None, turned


@composite("linalg_solve(Tensor self, Tensor B, *, bool left=True, Tensor? out=None) -> Tensor",
           method=False)
def linalg_solve(self, B, left):
    """X with ``A X = B`` (``X A = B`` if not ``left``) for square A (..., n, n).

    B is (..., n, k), or (..., n) where its shape is that of A without the last dimension; batches
    broadcast. ``linalg.LinAlgError`` if a matrix is singular.
    """
    op = "linalg.solve"
    _square(op, self)
    _lapack_type(op, self)
    if self.dtype is not B.dtype:
        raise RuntimeError(f"{op}: Expected A and B to have the same dtype, got {self.dtype} and "
                           f"{B.dtype}")
    vector = _is_vector(self, B)
    b = ops.unsqueeze(B, -1) if vector else B
    if not left and vector:
        raise RuntimeError("linalg.solve: Vector broadcasting of the left hand side is not "
                           "supported for left=False")
    if b._shape[-2 if left else -1] != self._shape[-1]:
        raise RuntimeError(f"{op}: Incompatible shapes of A and B for the equation "
                           f"{'AX = B' if left else 'XA = B'} ({list(self._shape)} and "
                           f"{list(b._shape)})")
    batch = broadcast_shapes(self._shape[:-2], b._shape[:-2])
    a = ops.expand(self, (*batch, *self._shape[-2:]))
    b = ops.expand(b, (*batch, *b._shape[-2:]))
    if left:
        x = ops.solve_matrices(a, b)
    else:
        x = ops.transpose(ops.solve_matrices(ops.transpose(a, -2, -1), ops.transpose(b, -2, -1)),
                          -2, -1)
    return ops.squeeze(x, -1) if vector else x


@composite("linalg_inv(Tensor self, *, Tensor? out=None) -> Tensor", method=False,
           aliases=("inverse",))
def linalg_inv(self):
    """Inverse of square matrices (..., n, n). ``linalg.LinAlgError`` if one is singular."""
    _square("linalg.inv", self)
    _lapack_type("linalg.inv", self)
    eye = ops.eye(self._shape[-1], dtype=self.dtype, device=self._storage.device)
    return ops.linalg_solve(self, ops.expand(eye, self._shape))


@host("linalg_qr(Tensor self, str mode='reduced') -> (Tensor, Tensor)", method=False,
      out=True)
def linalg_qr(self, mode):
    """Q with orthonormal columns and upper triangular R with ``A = Q R``. LAPACK geqrf, orgqr.

    For A (..., m, n), ``mode`` "reduced" gives Q (..., m, min(m, n)), "complete" Q (..., m, m), "r"
    an empty Q and R only.
    """
    if mode not in ("reduced", "complete", "r"):
        raise RuntimeError(f"qr received unrecognized mode '{mode}' but expected one of 'reduced' "
                           "(default), 'r', or 'complete'")
    if len(self._shape) < 2:
        raise RuntimeError("linalg.qr: The input tensor A must have at least 2 dimensions.")
    _lapack_type("linalg.qr", self)
    *batch, m, n = self._shape
    inner = m if mode == "complete" else min(m, n)
    device = self._storage.device
    q = empty((0,) if mode == "r" else (*batch, m, inner), self.dtype, device)
    r = empty((*batch, inner, n), self.dtype, device)
    if device is META or 0 in r._shape and 0 in q._shape:
        return q, r
    from scipy.linalg import qr
    to_q = [None] * product(batch) if mode == "r" else _numpy(q)
    words = {"reduced": "economic", "complete": "full", "r": "economic"}
    for source, left, right in zip(_numpy(contiguous(self)), to_q, _numpy(r), strict=True):
        # an empty matrix has nothing to factor: Q is the identity
        found = qr(source, mode=words[mode], check_finite=False) if source.size else (
            np.eye(m, inner), right)
        right[...] = found[1]
        if left is not None:
            left[...] = found[0]
    return q, r


def _square_qr_gradient(q, r, grad_q, grad_r):
    """The gradient of A = Q R with square R; a gradient that is None counts as zero.

    Walter, Lehmann, Lamour, On evaluating higher-order derivatives of the QR decomposition (2012):
    with M = R gR^H - gQ^H Q, gA = (gQ + Q copyltu(M)) R^-H.
    """
    total = 0.0
    if grad_r is not None:
        total = ops.matmul(r, ops.adjoint(grad_r))
    if grad_q is not None:
        total = total - ops.matmul(ops.adjoint(grad_q), q)
    lower = ops.tril(total, -1)
    diagonal = ops.diagonal(total, 0, -2, -1)
    if total.dtype.is_complex:
        diagonal = ops.to_dtype(ops.real(diagonal), total.dtype)
    inside = ops.matmul(q, lower + ops.adjoint(lower) + ops.diag_embed(diagonal))
    inside = inside if grad_q is None else grad_q + inside
    return ops.linalg_solve_triangular(ops.adjoint(r), inside, upper=False, left=False)


@linalg_qr.gradient("self")
def _(grad0, grad1, result0, result1, mode):
    if mode == "r":
        raise RuntimeError("linalg.qr: the derivative depends on Q, which is not computed when "
                           "mode='r'; call it with mode='reduced'")
    q, r = result0, result1
    m, n = q._shape[-2], r._shape[-1]
    if m > n and mode == "complete":
        raise RuntimeError("The QR decomposition is not differentiable when mode='complete' and "
                           "nrows > ncols")
    if m >= n:
        return _square_qr_gradient(q, r, grad0, grad1)
    # A = (X, Y) = Q (U, V) with square U: Y = Q V depends on X through Q alone
    u, v = ops.narrow(r, -1, 0, m), ops.narrow(r, -1, m, n - m)
    if grad1 is None:
        first = _square_qr_gradient(q, u, grad0, None)
        return ops.pad(first, (0, n - m))
    grad_u, grad_v = ops.narrow(grad1, -1, 0, m), ops.narrow(grad1, -1, m, n - m)
    through = ops.matmul(q, ops.matmul(v, ops.adjoint(grad_v)))
    grad_q = through if grad0 is None else grad0 + through
    return ops.cat((_square_qr_gradient(q, u, grad_q, grad_u), ops.matmul(q, grad_v)), -1)


@composite("qr(Tensor self, bool some=True) -> (Tensor, Tensor)", out=True)
def qr(self, some):
    """Q and R of ``A = Q R``, reduced if ``some``; see ``linalg.qr``."""
    return ops.linalg_qr(self, "reduced" if some else "complete")
