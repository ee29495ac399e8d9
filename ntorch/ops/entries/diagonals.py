"""Diagonals, and copies with one view replaced: diag, diag_embed, select_scatter, ..."""
from ..base import wrap_dim
from ..composite import composite
from ..registry import ops


@composite("diag(Tensor self, int diagonal=0, *, Tensor? out=None) -> Tensor", exact_out="dtype")
def diag(self, diagonal):
    """A matrix with the vector on a diagonal, or the diagonal of a matrix, as a copy."""
    if len(self._shape) == 1:
        return ops.diag_embed(self, diagonal)
    if len(self._shape) == 2:
        return ops.clone(ops.diagonal(self, diagonal))
    raise RuntimeError(f"diag(): Supports 1D or 2D tensors. Got {len(self._shape)}D")


@composite("diag_embed(Tensor self, int offset=0, int dim1=-2, int dim2=-1) -> Tensor")
def diag_embed(self, offset, dim1, dim2):
    """Matrices, in ``dim1`` and ``dim2`` of the result, with the last dimension on a diagonal."""
    ndim = len(self._shape) + 1
    first, second = wrap_dim(dim1, ndim), wrap_dim(dim2, ndim)
    if first == second:
        raise RuntimeError(f"diagonal dimensions cannot be identical {dim1}, {dim2}")
    n = self._shape[-1] + abs(offset)
    shape = list(self._shape[:-1])
    for d in sorted((first, second)):
        shape.insert(d, n)
    zeros = ops.zeros(shape, dtype=self.dtype, device=self.device)
    return ops.diagonal_scatter(zeros, self, offset, first, second)


@composite("diagflat(Tensor self, int offset=0) -> Tensor")
def diagflat(self, offset):
    """A matrix with the flattened tensor on a diagonal."""
    return ops.diag_embed(ops.reshape(self, (-1,)), offset)


def _scattered(self, src, view):
    """``self`` with ``src`` in place of one of its views."""
    result = ops.clone(self)
    place = view(result)
    if place._shape != src._shape:
        raise RuntimeError("expected src to have a size equal to the slice of self. src size = "
                           f"{list(src._shape)}, slice size = {list(place._shape)}")
    ops.copy_(place, src)
    return result


@composite("diagonal_scatter(Tensor self, Tensor src, int offset=0, int dim1=0, int dim2=1) -> "
           "Tensor")
def diagonal_scatter(self, src, offset, dim1, dim2):
    """``self`` with ``src`` on a diagonal."""
    return _scattered(self, src, lambda t: ops.diagonal(t, offset, dim1, dim2))


@composite("select_scatter(Tensor self, Tensor src, int dim, int index) -> Tensor")
def select_scatter(self, src, dim, index):
    """``self`` with ``src`` in place of ``self.select(dim, index)``."""
    return _scattered(self, src, lambda t: ops.select(t, dim, index))


@composite("slice_scatter(Tensor self, Tensor src, int dim=0, int? start=None, int? end=None, "
           "int step=1, *, Tensor? out=None) -> Tensor")
def slice_scatter(self, src, dim, start, end, step):
    """``self`` with ``src`` in place of a slice along ``dim``."""
    return _scattered(self, src, lambda t: ops.slice(t, dim, start, end, step))


@composite("trace(Tensor self) -> Tensor")
def trace(self):
    """The sum of the main diagonal of a matrix."""
    if len(self._shape) != 2:
        raise RuntimeError("trace: expected a matrix, but got tensor with dim "
                           f"{len(self._shape)}")
    return ops.sum(ops.diagonal(self))
