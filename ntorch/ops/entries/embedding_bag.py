"""Bags of table rows: their sum, mean or maximum, without the rows in between."""
from ...kernels import embedding as kernels
from ...runtime import dtypes
from ..base import empty, product
from ..composite import overloaded
from ..grids import check_inside
from ..registry import ops
from ..rows import column_grain, flat_indices, occurrences, padding_index
from ..structured import as_dtype, contiguous, run, structured, zeros
from ..windows import check_indices, computed, grain, parameter

MODES = ("sum", "mean", "max")


@structured("_embedding_bag(Tensor weight, Tensor indices, Tensor offsets, int mode, "
            "Tensor? per_sample_weights, int padding_idx, bool scale_grad_by_freq) "
            "-> (Tensor, Tensor, Tensor)", method=False)
def _embedding_bag(weight, indices, offsets, mode, per_sample_weights, padding_idx,
                   scale_grad_by_freq):
    """Bags of rows of ``weight``: the results, their sizes and, for maxima, the rows chosen.

    Bag b has ``indices[offsets[b]:offsets[b + 1]]``; indices and offsets are int64 rows.
    """
    table, index = computed(weight), contiguous(indices)
    rows = table._shape[0]
    check_indices(index, rows, lambda wrong: RuntimeError(
        f"embedding_bag: expected every index in the valid range [0, {rows}), got {wrong}"))
    bags, width, device = offsets._shape[0] - 1, table._shape[1], table._storage.device
    out = empty((bags, width), table.dtype, device)
    size = empty((bags,), dtypes.int64, device)
    chosen = empty((bags, width) if mode == 2 else (0, 0), dtypes.int64, device)
    task = grain(width * max(1, index._shape[0] // max(1, bags)))
    if mode == 2:
        run(kernels.bag_maxima,
            [("C", table), ("C", index), ("C", offsets), ("i", padding_idx), ("C", out),
             ("C", chosen), ("C", size)], n=bags, grain=task)
    else:
        run(kernels.bag_sums,
            [("C", table), ("C", index), ("C", offsets),
             ("C", parameter(per_sample_weights, table)), ("i", padding_idx), ("i", mode),
             ("C", out), ("C", size)], n=bags, grain=task)
    return as_dtype(out, weight.dtype), size, chosen


@_embedding_bag.gradient("weight", "per_sample_weights")
def _(grad0, weight, indices, offsets, mode, per_sample_weights, padding_idx, scale_grad_by_freq,
      result1, result2, needs):
    for_weight = for_samples = None
    if grad0 is not None and needs["weight"]:
        for_weight = ops._embedding_bag_backward(
            grad0, indices, offsets, result1, result2, mode, per_sample_weights, weight.shape[0],
            padding_idx, scale_grad_by_freq)
    if grad0 is not None and needs["per_sample_weights"]:
        for_samples = ops._embedding_bag_weights_backward(grad0, weight, indices, offsets,
                                                          padding_idx)
    return for_weight, for_samples


@structured("_embedding_bag_backward(Tensor grad_output, Tensor indices, Tensor offsets, "
            "Tensor bag_size, Tensor chosen, int mode, Tensor? per_sample_weights, int "
            "num_weights, int padding_idx, bool scale_grad_by_freq) -> Tensor", method=False)
def _embedding_bag_backward(grad_output, indices, offsets, bag_size, chosen, mode,
                            per_sample_weights, num_weights, padding_idx, scale_grad_by_freq):
    """The table's gradient, (num_weights, width)."""
    g = computed(grad_output)
    width = g._shape[1]
    out = zeros((num_weights, width), g.dtype, g._storage.device)
    task = column_grain(width, indices._shape[0])
    if mode == 2:
        run(kernels.bag_maxima_gradient, [("C", g), ("C", chosen), ("C", out)], n=width, grain=task)
        return as_dtype(out, grad_output.dtype)
    index = contiguous(indices)
    often = occurrences(index, num_weights) if scale_grad_by_freq else \
        empty((0,), dtypes.int64, g._storage.device)
    run(kernels.bag_rows_gradient,
        [("C", g), ("C", index), ("C", offsets), ("C", parameter(per_sample_weights, g)),
         ("C", bag_size), ("C", often), ("i", padding_idx), ("i", mode), ("C", out)],
        n=width, grain=task)
    return as_dtype(out, grad_output.dtype)


@_embedding_bag_backward.gradient("grad_output", "per_sample_weights")
def _(grad, grad_output, indices, offsets, chosen, mode, per_sample_weights, padding_idx,
      scale_grad_by_freq, needs):
    if scale_grad_by_freq:
        raise RuntimeError("embedding_bag: with scale_grad_by_freq the gradient cannot be "
                           "differentiated again; leave it out or use embedding and sum")
    if mode == 2:
        picked = ops.gather(grad, 0, ops.clamp_min(chosen, 0))
        return ops.where(ops.ge(chosen, 0), picked, ops.zeros_like(picked)), None
    for_samples = None
    if needs["per_sample_weights"]:
        for_samples = ops._embedding_bag_weights_backward(grad_output, grad, indices, offsets,
                                                          padding_idx)
    return ops._embedding_bag(grad, indices, offsets, mode, per_sample_weights, padding_idx,
                              False)[0], for_samples


@structured("_embedding_bag_weights_backward(Tensor grad_output, Tensor weight, Tensor indices, "
            "Tensor offsets, int padding_idx) -> Tensor", method=False)
def _embedding_bag_weights_backward(grad_output, weight, indices, offsets, padding_idx):
    """Per index, the product of its bag's gradient with its row of the table."""
    table, index = computed(weight), contiguous(indices)
    g = as_dtype(computed(grad_output), table.dtype)
    out = zeros(index._shape, table.dtype, table._storage.device)
    bags, width = g._shape
    run(kernels.bag_weights_gradient,
        [("C", g), ("C", table), ("C", index), ("C", offsets), ("i", padding_idx), ("C", out)],
        n=bags, grain=grain(width * max(1, index._shape[0] // max(1, bags))), reassoc=True)
    return as_dtype(out, weight.dtype)


@_embedding_bag_weights_backward.gradient("grad_output", "weight")
def _(grad, grad_output, weight, indices, offsets, padding_idx):
    bags = ops._embedding_bag(weight, indices, offsets, 0, grad, padding_idx, False)
    for_weight = ops._embedding_bag_backward(grad_output, indices, offsets, bags[1], bags[2], 0,
                                             grad, weight.shape[0], padding_idx, False)
    return bags[0], for_weight


def _check(input, weight, per_sample_weights, mode, scale_grad_by_freq, sparse):
    if per_sample_weights is not None and input._shape != per_sample_weights._shape:
        raise ValueError(f"embedding_bag: If per_sample_weights "
                         f"({list(per_sample_weights._shape)}) is not None, then it must have the "
                         f"same shape as the input ({list(input._shape)})")
    if len(weight._shape) != 2:
        raise ValueError(f"weight has to be a 2D Tensor, but got Tensor of dimension "
                         f"{len(weight._shape)}")
    if mode not in MODES:
        raise ValueError(f"mode has to be one of sum, mean or max, got {mode!r}")
    if mode == "max" and (scale_grad_by_freq or sparse):
        raise ValueError("max mode does not support scaling the gradient by the frequency or "
                         "sparse weights")
    if per_sample_weights is not None and mode != "sum":
        raise NotImplementedError("embedding_bag: per_sample_weights was not None. "
                                  f"per_sample_weights is only supported for mode='sum' (got "
                                  f"mode='{mode}')")


def _bags(input, offsets, per_sample_weights):
    """Indices and weights as rows, and where each bag starts, for both forms of the input."""
    shape = input._shape
    if len(shape) == 2:
        if offsets is not None:
            raise ValueError("if input is 2D, then offsets has to be None, as input is treated is "
                             "a mini-batch of fixed length sequences. However, found offsets of "
                             f"shape {list(offsets._shape)}")
        starts = ops.mul(ops.arange(shape[0], dtype=dtypes.int64, device=input.device), shape[1])
        weights = None if per_sample_weights is None else ops.reshape(per_sample_weights, (-1,))
        return ops.reshape(input, (-1,)), weights, starts
    if len(shape) != 1:
        raise ValueError("input has to be 1D or 2D Tensor, but got Tensor of dimension "
                         f"{len(shape)}")
    if offsets is None:
        raise ValueError("offsets has to be a 1D Tensor but got None")
    if len(offsets._shape) != 1:
        raise ValueError(f"offsets has to be a 1D Tensor, got {list(offsets._shape)}")
    return input, per_sample_weights, offsets


def _with_end(offsets, count, include_last_offset):
    """Offsets as int64 with the end of the last bag; RuntimeError for ones outside the input."""
    starts = flat_indices("embedding_bag", offsets)
    if include_last_offset and not starts._shape[0]:
        raise RuntimeError("include_last_offset: number of offsets should be at least 1")
    check_inside(ops.slice(starts, 0, 0, 1), 0, 1, lambda wrong: RuntimeError(
        "offsets[0] has to be 0, i.e., the first sequence in the mini-batch has to start from "
        f"position 0. However, got {wrong}"))
    check_indices(starts, count + 1, lambda wrong: RuntimeError(
        f"offsets[-1] can not be greater than input's length({count}) but got offsets[-1] of "
        f"{wrong}"))
    if include_last_offset:
        return starts
    end = ops.full((1,), count, dtype=dtypes.int64, device=starts.device)
    return contiguous(ops.cat((starts, end)))


@overloaded("embedding_bag", namespace="nn.functional", method=False, fuse=False)
def embedding_bag(input, weight, offsets=None, max_norm=None, norm_type=2,
                  scale_grad_by_freq=False, mode="mean", sparse=False, per_sample_weights=None,
                  include_last_offset=False, padding_idx=None):
    """Sum, mean or maximum of bags of rows of a table: (bags, width).

    Args:
        input: int indices, (bags, size), or all bags in one row with ``offsets``.
        weight: (rows, width).
        offsets: where each bag starts in the row; with ``include_last_offset`` also where it ends.
        mode: ``"sum"``, ``"mean"`` or ``"max"``; an empty bag gives 0.
        per_sample_weights: a factor per index, for sums.
        padding_idx: an index that counts as absent.
        max_norm, norm_type, scale_grad_by_freq, sparse: as in ``embedding``.

    ValueError for shapes or modes that do not fit, RuntimeError for an index outside the table.
    """
    _check(input, weight, per_sample_weights, mode, scale_grad_by_freq, sparse)
    index, weights, starts = _bags(input, offsets, per_sample_weights)
    index = flat_indices("embedding_bag", index)
    ends = _with_end(starts, product(index._shape), include_last_offset)
    padding = -1 if padding_idx is None else padding_index(padding_idx, weight._shape[0])
    if max_norm is not None:
        ops.embedding_renorm_(weight.detach(), index, float(max_norm), float(norm_type))
    return ops._embedding_bag(weight, index, ends, MODES.index(mode), weights, padding,
                              scale_grad_by_freq)[0]
