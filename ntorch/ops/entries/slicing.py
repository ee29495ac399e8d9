"""Views of a part: select, slice, diagonal, unfold, and the gradients that put parts back."""
from ..base import (
    wrap_dim,
)
from ..registry import ops
from ..structured import structured
from .views import _with


@structured("select(Tensor self, int dim, int index) -> Tensor", view=True)
def select(self, dim, index):
    """The slice at ``index`` along ``dim``, without that dimension; IndexError out of range."""
    if not self._shape:
        raise IndexError("select() cannot be applied to a 0-dim tensor.")
    d = wrap_dim(dim, len(self._shape))
    size = self._shape[d]
    if not -size <= index < size:
        raise IndexError(f"select(): index {index} out of range for tensor of size "
                         f"{list(self._shape)} at dimension {d}")
    index += size if index < 0 else 0
    return _with(self, self._shape[:d] + self._shape[d + 1:],
                 self._strides[:d] + self._strides[d + 1:],
                 self._offset + index * self._strides[d])


@select.gradient("self")
def _(grad, self_form, dim, index):
    return ops.select_backward(grad, self_form._shape, dim, index)


@structured("select_backward(Tensor grad, int[] input_sizes, int dim, int index) -> Tensor",
            method=False)
def select_backward(grad, input_sizes, dim, index):
    """Zeros of ``input_sizes`` with ``grad`` at ``index`` along ``dim``."""
    from ..structured import zeros
    result = zeros(input_sizes, grad.dtype, grad.device)
    ops.copy_(ops.select(result, dim, index), grad)
    return result


@select_backward.gradient("grad")
def _(grad, dim, index):
    return ops.select(grad, dim, index)


@structured("slice(Tensor self, int dim=0, int? start=None, int? end=None, int step=1) -> Tensor",
            view=True, method=False)
def slice_(self, dim, start, end, step):
    """Every ``step``-th slice in ``[start, end)`` along ``dim``, with Python's clamping."""
    if not self._shape:
        raise RuntimeError("slice() cannot be applied to a 0-dim tensor.")
    d = wrap_dim(dim, len(self._shape))
    if step <= 0:
        raise RuntimeError("slice step must be positive")
    size = self._shape[d]
    first, last, _ = slice(start, end, step).indices(size)
    count = max(0, (last - first + step - 1) // step)
    shape, strides = list(self._shape), list(self._strides)
    offset = self._offset + first * strides[d] if count else self._offset
    shape[d] = count
    strides[d] *= step
    return _with(self, shape, strides, offset)


@slice_.gradient("self")
def _(grad, self_form, dim, start, end, step):
    return ops.slice_backward(grad, self_form._shape, dim, start, end, step)


@structured("slice_backward(Tensor grad, int[] input_sizes, int dim, int? start, int? end, int "
            "step) -> Tensor", method=False)
def slice_backward(grad, input_sizes, dim, start, end, step):
    """Zeros of ``input_sizes`` with ``grad`` in the slice."""
    from ..structured import zeros
    result = zeros(input_sizes, grad.dtype, grad.device)
    ops.copy_(ops.slice(result, dim, start, end, step), grad)
    return result


@slice_backward.gradient("grad")
def _(grad, dim, start, end, step):
    return ops.slice(grad, dim, start, end, step)


@structured("diagonal(Tensor self, int offset=0, int dim1=0, int dim2=1) -> Tensor", view=True)
def diagonal(self, offset, dim1, dim2):
    """The diagonal ``offset`` above the main one of the planes of two dimensions, as the last
    one."""
    ndim = len(self._shape)
    a, b = wrap_dim(dim1, ndim), wrap_dim(dim2, ndim)
    if a == b:
        raise RuntimeError(f"diagonal dimensions cannot be identical {dim1}, {dim2}")
    rows, columns = self._shape[a], self._shape[b]
    count = max(min(rows, columns - offset) if offset >= 0 else min(rows + offset, columns), 0)
    step = self._strides[b] * offset if offset >= 0 else -self._strides[a] * offset
    keep = [d for d in range(ndim) if d not in (a, b)]
    return _with(self, [*(self._shape[d] for d in keep), count],
                 [*(self._strides[d] for d in keep), self._strides[a] + self._strides[b]],
                 self._offset + (step if count else 0))


@diagonal.gradient("self")
def _(grad, self_form, offset, dim1, dim2):
    return ops.diagonal_backward(grad, self_form._shape, offset, dim1, dim2)


@structured("diagonal_backward(Tensor grad, int[] input_sizes, int offset, int dim1, int dim2) -> "
            "Tensor", method=False)
def diagonal_backward(grad, input_sizes, offset, dim1, dim2):
    """Zeros of ``input_sizes`` with ``grad`` on the diagonal."""
    from ..structured import zeros
    result = zeros(input_sizes, grad.dtype, grad.device)
    ops.copy_(ops.diagonal(result, offset, dim1, dim2), grad)
    return result


@diagonal_backward.gradient("grad")
def _(grad, offset, dim1, dim2):
    return ops.diagonal(grad, offset, dim1, dim2)


@structured("unfold(Tensor self, int dimension, int size, int step) -> Tensor", view=True)
def unfold(self, dimension, size, step):
    """Windows of ``size`` every ``step`` along a dimension, as a new last dimension."""
    d = wrap_dim(dimension, len(self._shape))
    extent = self._shape[d] if self._shape else 1
    if size < 0 or size > extent:
        raise RuntimeError(f"maximum size for tensor at dimension {d} is {extent} but size is "
                           f"{size}")
    if step <= 0:
        raise RuntimeError(f"step is {step} but must be > 0")
    if not self._shape:
        return _with(self, (size,), (1,))
    shape, strides = list(self._shape), list(self._strides)
    shape[d] = (extent - size) // step + 1
    strides.append(strides[d])
    strides[d] *= step
    return _with(self, [*shape, size], strides)


@unfold.gradient("self")
def _(grad, self_form, dimension, size, step):
    index = ops.unfold(ops.arange(self_form._shape[dimension] if self_form._shape else 1), 0, size,
                       step)
    if not self_form._shape:
        return ops.sum(grad)
    moved = ops.transpose(grad, dimension % len(self_form._shape),
                          -2) if len(self_form._shape) > 1 else grad
    flat = ops.reshape(moved, (*moved._shape[:-2], -1))
    shape = list(self_form._shape)
    shape[dimension], shape[-1] = shape[-1], shape[dimension]
    zeros = ops.zeros(shape, dtype=grad.dtype, device=grad.device)
    summed = ops.index_add(zeros, len(shape) - 1, ops.reshape(index, (-1,)), flat)
    return ops.transpose(summed, dimension, -1)
