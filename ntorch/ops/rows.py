"""What entries that look up rows of a table by index share."""
from ..kernels import embedding as kernels
from ..runtime import dtypes
from .base import product
from .structured import as_dtype, contiguous, run, zeros
from .windows import check_indices, grain, reshaped

COLUMNS = 16        # least width of a task in gradients: one cache line


def flat_indices(op, indices):
    """Indices as one row of int64; RuntimeError for other types than int32 and int64."""
    if indices.dtype not in (dtypes.int64, dtypes.int32):
        raise RuntimeError(f"Expected tensor for argument #1 'indices' to have one of the "
                           f"following scalar types: Long, Int; but got {indices.dtype} instead "
                           f"(while checking arguments for {op})")
    row = contiguous(as_dtype(indices, dtypes.int64))
    return reshaped(row, (product(row._shape),))


def check_rows(index, count):
    """IndexError unless every index of a row is in [0, count)."""
    check_indices(index, count, lambda wrong: IndexError(
        f"index out of range in self: expected indices in [0, {count}), got {wrong}"))


def column_grain(width, rows):
    """Columns of one task that adds ``rows`` rows: whole cache lines."""
    columns = max(COLUMNS, grain(rows))
    return min(-(-columns // COLUMNS) * COLUMNS, max(width, 1))


def occurrences(index, count):
    """How often each of ``count`` values occurs in a row of indices."""
    result = zeros((count,), dtypes.int64, index._storage.device)
    run(kernels.count_indices, [("C", index), ("C", result)], n=1, grain=1)
    return result


def padding_index(padding_idx, rows):
    """``padding_idx`` counted from the front, -1 for none; AssertionError outside the table."""
    if padding_idx is None:
        return -1
    if not -rows <= padding_idx < rows:
        raise AssertionError(f"Padding_idx must be within num_embeddings: expected an index in "
                             f"[{-rows}, {rows}), got {padding_idx}")
    return padding_idx % rows
