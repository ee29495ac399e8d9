"""``beta * self + alpha * product``: addmm, baddbmm, addmv, addr, addbmm."""
from ...runtime.dtypes import FLOAT
from ..base import product
from ..registry import ops
from ..structured import structured
from .contraction import (
    affine_product,
    cannot_multiply,
    check_batches,
    check_expands,
    check_ndim,
    column,
    in_shape,
)


def scaled(tensor, factor, conjugate=False):
    """``tensor`` times a Python number, or times its conjugate."""
    if factor == 1:
        return tensor
    return tensor * (factor.conjugate() if conjugate and isinstance(factor, complex) else factor)


@structured("addmm(Tensor self, Tensor mat1, Tensor mat2, *, Scalar beta=1, Scalar alpha=1, "
            "Tensor? out=None) -> Tensor", inplace=True, exact_out="dtype")
def addmm(self, mat1, mat2, beta, alpha):
    """``beta * self + alpha * mat1 @ mat2``; self broadcasts, and is not read if beta is 0."""
    check_ndim("addmm", mat1, 2, "mat1")
    check_ndim("addmm", mat2, 2, "mat2")
    if mat1._shape[1] != mat2._shape[0]:
        raise cannot_multiply(mat1._shape, mat2._shape)
    return affine_product("addmm", self, mat1, mat2, (), beta, alpha)


@addmm.gradient("self")
def _(grad, beta):
    return scaled(grad, beta, True)


@addmm.gradient("mat1")
def _(grad, mat2, alpha):
    return scaled(ops.mm(grad, ops.adjoint(mat2)), alpha, True)


@addmm.gradient("mat2")
def _(grad, mat1, alpha):
    return scaled(ops.mm(ops.adjoint(mat1), grad), alpha, True)


@structured("baddbmm(Tensor self, Tensor batch1, Tensor batch2, *, Scalar beta=1, Scalar alpha=1, "
            "Tensor? out=None) -> Tensor", inplace=True, exact_out="dtype")
def baddbmm(self, batch1, batch2, beta, alpha):
    """``beta * self + alpha * batch1 @ batch2`` matrix by matrix."""
    check_ndim("baddbmm", batch1, 3, "batch1")
    check_ndim("baddbmm", batch2, 3, "batch2")
    check_batches(batch1, batch2)
    return affine_product("baddbmm", self, batch1, batch2, (batch1._shape[0],), beta, alpha)


@baddbmm.gradient("self")
def _(grad, beta):
    return scaled(grad, beta, True)


@baddbmm.gradient("batch1")
def _(grad, batch2, alpha):
    return scaled(ops.bmm(grad, ops.adjoint(batch2)), alpha, True)


@baddbmm.gradient("batch2")
def _(grad, batch1, alpha):
    return scaled(ops.bmm(ops.adjoint(batch1), grad), alpha, True)


@structured("addmv(Tensor self, Tensor mat, Tensor vec, *, Scalar beta=1, Scalar alpha=1, "
            "Tensor? out=None) -> Tensor", inplace=True, exact_out="dtype")
def addmv(self, mat, vec, beta, alpha):
    """``beta * self + alpha * mat @ vec``; self broadcasts to (n,)."""
    if len(mat._shape) != 2 or len(vec._shape) != 1 or len(self._shape) > 1:
        raise RuntimeError(f"vector + matrix @ vector expected, got {len(self._shape)}, "
                           f"{len(mat._shape)}, {len(vec._shape)}")
    if mat._shape[1] != vec._shape[0] or (self._shape and self._shape[0] not in (1, mat._shape[0])):
        raise RuntimeError(f"size mismatch, got input ({product(self._shape)}), mat "
                           f"({mat._shape[0]}x{mat._shape[1]}), vec ({vec._shape[0]})")
    wide = column(self) if self._shape else self
    result = affine_product("addmv", wide, mat, column(vec), (), beta, alpha)
    return in_shape(result, mat._shape[:1])


@addmv.gradient("self")
def _(grad, beta):
    return scaled(grad, beta, True)


@addmv.gradient("mat")
def _(grad, vec, alpha):
    return scaled(ops.outer(grad, ops.conj(vec) if vec.dtype.is_complex else vec), alpha, True)


@addmv.gradient("vec")
def _(grad, mat, alpha):
    return scaled(ops.mv(ops.adjoint(mat), grad), alpha, True)


def _conj(tensor):
    return ops.conj(tensor) if tensor.dtype.is_complex else tensor


@structured("addr(Tensor self, Tensor vec1, Tensor vec2, *, Scalar beta=1, Scalar alpha=1, "
            "Tensor? out=None) -> Tensor", inplace=True)
def addr(self, vec1, vec2, beta, alpha):
    """``beta * self + alpha * outer(vec1, vec2)``; self is not read if beta is 0."""
    for name, vector in (("vec1", vec1), ("vec2", vec2)):
        if len(vector._shape) != 1:
            raise RuntimeError(f"addr: Expected 1-D argument {name}, but got "
                               f"{len(vector._shape)}-D")
    for name, factor in (("beta", beta), ("alpha", alpha)):
        if isinstance(factor, float) and self.dtype.category < FLOAT:
            raise RuntimeError(f"addr: For integral input tensors, argument {name} must not be a "
                               "floating point number.")
    check_expands(self, (vec1._shape[0], vec2._shape[0]))
    rank_one = scaled(ops.outer(vec1, vec2), alpha)
    if beta == 0:
        return rank_one
    return ops.add(scaled(self, beta), rank_one)


@addr.gradient("self")
def _(grad, beta):
    return scaled(grad, beta, True)


@addr.gradient("vec1")
def _(grad, vec2, alpha):
    return scaled(ops.mv(grad, _conj(vec2)), alpha, True)


@addr.gradient("vec2")
def _(grad, vec1, alpha):
    return scaled(ops.mv(ops.transpose(grad, 0, 1), _conj(vec1)), alpha, True)


@structured("addbmm(Tensor self, Tensor batch1, Tensor batch2, *, Scalar beta=1, Scalar alpha=1, "
            "Tensor? out=None) -> Tensor", inplace=True)
def addbmm(self, batch1, batch2, beta, alpha):
    """``beta * self + alpha * sum over i of batch1[i] @ batch2[i]``: one product of depth b * m."""
    check_ndim("addbmm", batch1, 3, "batch1")
    check_ndim("addbmm", batch2, 3, "batch2")
    check_batches(batch1, batch2)
    b, n, m = batch1._shape
    left = ops.reshape(ops.transpose(batch1, 0, 1), (n, b * m))
    right = ops.reshape(batch2, (b * m, batch2._shape[2]))
    return ops.addmm(self, left, right, beta=beta, alpha=alpha)


@addbmm.gradient("self")
def _(grad, beta):
    return scaled(grad, beta, True)


@addbmm.gradient("batch1")
def _(grad, batch2, alpha):
    return scaled(ops.matmul(grad, ops.adjoint(batch2)), alpha, True)


@addbmm.gradient("batch2")
def _(grad, batch1, alpha):
    return scaled(ops.matmul(ops.adjoint(batch1), grad), alpha, True)
