"""Embedding tables: rows by index, and one-hot rows; bags are in ``embedding_bag.py``."""
from ...kernels import embedding as kernels
from ...runtime import dtypes, recording
from ...runtime.device import META
from ..base import TensorBase, empty, product
from ..composite import overloaded
from ..registry import ops
from ..rows import check_rows, column_grain, flat_indices, occurrences, padding_index
from ..structured import as_dtype, compute_dtype, contiguous, run, structured, zeros
from ..windows import check_when_run, computed, grain, reshaped


@structured("_embedding(Tensor weight, Tensor indices, int padding_idx=-1, "
            "bool scale_grad_by_freq=False) -> Tensor", method=False)
def _embedding(weight, indices, padding_idx, scale_grad_by_freq):
    """``weight[indices]``, rows of a (rows, width) table; (*indices.shape, width)."""
    if len(weight._shape) != 2:
        raise RuntimeError(f"'weight' must be 2-D, got {list(weight._shape)}")
    index, table = flat_indices("embedding", indices), contiguous(weight)
    check_rows(index, table._shape[0])
    count, width = index._shape[0], table._shape[1]
    out = empty((*indices._shape, width), table.dtype, table._storage.device)
    run(kernels.take_rows, [("C", table), ("C", index), ("C", reshaped(out, (count, width)))],
        n=count, grain=grain(width))
    return out


@_embedding.gradient("weight")
def _(grad, weight, indices, padding_idx, scale_grad_by_freq):
    return ops.embedding_dense_backward(grad, indices, weight.shape[0], padding_idx,
                                        scale_grad_by_freq)


@structured("embedding_dense_backward(Tensor grad_output, Tensor indices, int num_weights, "
            "int padding_idx, bool scale_grad_by_freq) -> Tensor", method=False)
def embedding_dense_backward(grad_output, indices, num_weights, padding_idx, scale_grad_by_freq):
    """``out[indices[i]] += grad[i]`` over a (num_weights, width) table of zeros.

    Rows of ``padding_idx`` get nothing; with ``scale_grad_by_freq`` a row is divided by how often
    its index occurs.
    """
    index, g = flat_indices("embedding", indices), computed(grad_output)
    check_rows(index, num_weights)
    count, width = index._shape[0], g._shape[-1]
    out = zeros((num_weights, width), g.dtype, g._storage.device)
    often = occurrences(index, num_weights) if scale_grad_by_freq else \
        empty((0,), dtypes.int64, g._storage.device)
    run(kernels.add_rows,
        [("C", reshaped(g, (count, width))), ("C", index), ("C", often), ("i", padding_idx),
         ("C", out)], n=width, grain=column_grain(width, count))
    return as_dtype(out, grad_output.dtype)


@structured("_index_weights(Tensor indices, int num_weights, int padding_idx, "
            "bool scale_grad_by_freq) -> Tensor", method=False, differentiable=False)
def _index_weights(indices, num_weights, padding_idx, scale_grad_by_freq):
    """The factor of each index's row in the table's gradient, float64, (*indices.shape, 1)."""
    index = flat_indices("embedding", indices)
    weights = ops.to_dtype(ops.ne(index, padding_idx), dtypes.float64)
    if scale_grad_by_freq:
        often = reshaped(occurrences(index, num_weights), (num_weights, 1))
        weights = weights / ops.reshape(ops._embedding(often, index), (-1,))
    return ops.reshape(weights, (*indices._shape, 1))


@embedding_dense_backward.gradient("grad_output")
def _(grad, indices, num_weights, padding_idx, scale_grad_by_freq):
    rows = ops._embedding(grad, indices)
    if padding_idx < 0 and not scale_grad_by_freq:
        return rows
    weights = ops._index_weights(indices, num_weights, padding_idx, scale_grad_by_freq)
    return rows * ops.to_dtype(weights, rows.dtype)


@structured("embedding_renorm_(Tensor weight, Tensor indices, float max_norm, float norm_type) "
            "-> Tensor", method=False, inplace_only=True, differentiable=False)
def embedding_renorm_(weight, indices, max_norm, norm_type):
    """Scale, in place, the rows that ``indices`` names to a norm of at most ``max_norm``."""
    index = flat_indices("embedding_renorm_", indices)
    check_rows(index, weight._shape[0])
    table = contiguous(as_dtype(weight, compute_dtype(weight)))
    run(kernels.renormalize_rows, [("C", table), ("C", index), ("T", max_norm), ("T", norm_type)],
        n=1, grain=1)
    if table is not weight:
        ops.copy_(weight, table)
    return weight


@overloaded("embedding", namespace="nn.functional", method=False)
def embedding(input, weight, padding_idx=None, max_norm=None, norm_type=2.0,
              scale_grad_by_freq=False, sparse=False):
    """Rows ``weight[input]`` of a table: (*input.shape, width).

    Args:
        input: int32 or int64 indices of any shape.
        weight: (rows, width).
        padding_idx: a row whose gradient is 0.
        max_norm: rows that are looked up and have a larger ``norm_type``-norm are scaled down to
            it, in place.
        scale_grad_by_freq: divide a row's gradient by how often its index occurs.
        sparse: accepted; gradients are dense.

    IndexError for an index outside the table, before anything is written.
    """
    if not isinstance(weight, TensorBase):
        raise TypeError(f"embedding(): argument 'weight' (position 2) must be Tensor, not "
                        f"{type(weight).__name__}")
    padding = -1 if padding_idx is None else padding_index(padding_idx, weight._shape[0])
    if max_norm is not None:
        ops.embedding_renorm_(weight.detach(), input, float(max_norm), float(norm_type))
    return ops._embedding(weight, input, padding, scale_grad_by_freq)


@overloaded("one_hot", namespace="nn.functional", method=False)
def one_hot(tensor, num_classes=-1):
    """int64 rows with a 1 at each class of ``tensor`` (int64), 0 elsewhere: (*shape, num_classes).

    ``num_classes`` of -1 is one more than the largest class. RuntimeError for another dtype, a
    negative class or one that is too large.
    """
    return ops._one_hot(tensor, num_classes)


def _checked_classes(row, num_classes):
    """``num_classes``, found out if it is -1; RuntimeError for a class outside them.

    While a program is recorded and the number is given, classes are looked at when it runs.
    """
    if recording.active and num_classes > 0 and recording.current() is not None:
        check_when_run(row, num_classes, lambda row: _checked_classes(row, num_classes))
        return num_classes
    low, high = (int(f(row).item()) for f in (ops.amin, ops.amax))
    if low < 0:
        raise RuntimeError(f"Class values must be non-negative, got {low}.")
    if num_classes == -1:
        num_classes = high + 1
    if high >= num_classes > 0:
        raise RuntimeError(f"Class values must be smaller than num_classes, got {high} for "
                           f"num_classes = {num_classes}.")
    return num_classes


@structured("_one_hot(Tensor self, int num_classes) -> Tensor", method=False, differentiable=False)
def _one_hot(self, num_classes):
    """See ``one_hot``."""
    if self.dtype is not dtypes.int64:
        raise RuntimeError("one_hot is only applicable to index tensor of type LongTensor: "
                           f"expected int64, got {self.dtype}")
    count = product(self._shape)
    if count == 0 and num_classes <= 0:
        raise RuntimeError("Can not infer total number of classes from empty tensor.")
    row = reshaped(contiguous(self), (count,))
    if count and self._storage.device is not META:
        num_classes = _checked_classes(row, num_classes)
    if num_classes < 1:
        raise RuntimeError(f"num_classes should be positive, got {num_classes}")
    out = empty((*self._shape, num_classes), dtypes.int64, self._storage.device)
    run(kernels.one_hot, [("C", row), ("C", reshaped(out, (count, num_classes)))], n=count,
        grain=grain(num_classes))
    return out
