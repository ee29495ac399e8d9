"""Parametrizations that keep a property of the weight: orthogonal, of norm 1, ..."""
import ntorch

from .. import functional as F
from ..modules.module import Module
from .parametrize import register_parametrization
from .weight_norm import norm_except_dim


class _WeightNorm(Module):
    def __init__(self, dim=0):
        super().__init__()
        self.dim = dim

    def forward(self, weight_g, weight_v):
        return weight_v * (weight_g / norm_except_dim(weight_v, self.dim))

    def right_inverse(self, weight):
        """Length and direction of ``weight``."""
        return norm_except_dim(weight, self.dim), weight


def weight_norm(module, name="weight", dim=0):
    """``w = g v / ||v||`` (arXiv 1602.07868): ``original0`` is g, ``original1`` v."""
    register_parametrization(module, name, _WeightNorm(dim), unsafe=True)
    return module


class _SpectralNorm(Module):
    def __init__(self, weight, n_power_iterations=1, dim=0, eps=1e-12):
        super().__init__()
        if n_power_iterations <= 0:
            raise ValueError("Expected n_power_iterations to be positive, but got "
                             f"n_power_iterations={n_power_iterations}")
        self.dim = dim if dim >= 0 else dim + weight.dim()
        self.n_power_iterations, self.eps = n_power_iterations, eps
        if weight.dim() > 1:
            matrix = self._matrix(weight)
            u = F.normalize(matrix.new_empty(matrix.size(0)).normal_(0, 1), dim=0, eps=eps)
            v = F.normalize(matrix.new_empty(matrix.size(1)).normal_(0, 1), dim=0, eps=eps)
            self.register_buffer("_u", u)
            self.register_buffer("_v", v)
            self._iterate(matrix, 15)

    def _matrix(self, weight):
        order = [self.dim, *(d for d in range(weight.dim()) if d != self.dim)]
        return weight.permute(*order).flatten(1)

    def _iterate(self, matrix, count):
        with ntorch.no_grad():
            for _ in range(count):
                self._u.copy_(F.normalize(ntorch.mv(matrix, self._v), dim=0, eps=self.eps))
                self._v.copy_(F.normalize(ntorch.mv(matrix.t(), self._u), dim=0, eps=self.eps))

    def forward(self, weight):
        if weight.dim() == 1:
            return F.normalize(weight, dim=0, eps=self.eps)
        matrix = self._matrix(weight)
        if self.training:
            self._iterate(matrix, self.n_power_iterations)
        u, v = self._u.clone(), self._v.clone()
        return weight / ntorch.vdot(u, ntorch.mv(matrix, v))

    def right_inverse(self, value):
        """The weight itself."""
        return value


def spectral_norm(module, name="weight", n_power_iterations=1, eps=1e-12, dim=None):
    """The weight over its largest singular value (arXiv 1802.05957)."""
    if dim is None:
        dim = 1 if type(module).__name__.startswith("ConvTranspose") else 0
    weight = getattr(module, name)
    register_parametrization(module, name, _SpectralNorm(weight.detach(), n_power_iterations, dim,
                                                         eps))
    return module


class _Orthogonal(Module):
    """Cayley map or matrix exponential of the skew-symmetric part, times a base."""

    def __init__(self, weight, kind, use_trivialization=True):
        super().__init__()
        self.kind = kind
        self.wide = weight.size(-2) < weight.size(-1)
        square = weight.transpose(-2, -1) if self.wide else weight
        if use_trivialization:
            self.register_buffer("base", ntorch.linalg.qr(square, mode="complete")[0])
        else:
            self.register_buffer("base", None)

    def forward(self, x):
        x = x.transpose(-2, -1) if self.wide else x
        rows, columns = x.shape[-2:]
        if rows != columns:
            blank = x.new_zeros((*x.shape[:-2], rows, rows - columns))
            x = ntorch.cat([x.tril(), blank], -1)
        skew = x.tril(-1)
        skew = skew - skew.transpose(-2, -1)
        if self.kind == "matrix_exp":
            q = ntorch.linalg.matrix_exp(skew)
        else:
            eye = ntorch.eye(rows, dtype=x.dtype, device=x.device)
            q = ntorch.linalg.solve(eye + skew / 2, eye - skew / 2)
        if self.base is not None:
            q = ntorch.matmul(self.base, q)
        q = q[..., :columns]
        return q.transpose(-2, -1) if self.wide else q

    def right_inverse(self, value):
        """An original that gives the orthogonal matrix nearest in its columns to ``value``."""
        if self.base is None:
            raise NotImplementedError("It is not possible to assign to the matrix exponential or "
                                      "the Cayley parametrizations when use_trivialization=False.")
        q = value.transpose(-2, -1) if self.wide else value
        rows, columns = q.shape[-2:]
        full, upper = ntorch.linalg.qr(q, mode="complete")
        signs = ntorch.diagonal(upper, 0, -2, -1).sign()
        self.base.copy_(full)
        self.base[..., :columns] = full[..., :columns] * signs.unsqueeze(-2)
        zero = ntorch.zeros_like(value)
        return zero


def orthogonal(module, name="weight", orthogonal_map=None, *, use_trivialization=True):
    """Keep the weight (semi-)orthogonal, by "matrix_exp" or "cayley" (arXiv 1901.08428).

    ``ValueError`` for a weight with fewer than 2 dimensions or an unknown map.
    """
    weight = getattr(module, name)
    if weight.dim() < 2:
        raise ValueError("Expected a matrix or batch of matrices. Got a tensor of "
                         f"{weight.dim()} dimensions.")
    kind = orthogonal_map or "matrix_exp"
    if kind not in ("matrix_exp", "cayley"):
        raise ValueError("orthogonal_map has to be one of \"matrix_exp\", \"cayley\". Got: "
                         f"{orthogonal_map}")
    register_parametrization(module, name, _Orthogonal(weight.detach(), kind, use_trivialization),
                             unsafe=True)
    return module


__all__ = ["orthogonal", "spectral_norm", "weight_norm"]
