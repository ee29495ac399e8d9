"""Grids and products of vectors: meshgrid, cartesian_prod, block_diag."""
from ..base import numel
from ..composite import overloaded
from ..registry import ops
from .movement import _at_least


@overloaded("meshgrid", method=False)
def meshgrid(*tensors, indexing="ij"):
    """Coordinate grids: vectors broadcast against each other, one result per vector.

    ``indexing`` is "ij" (matrix order) or "xy" (the first two results transposed).
    """
    if len(tensors) == 1 and isinstance(tensors[0], (tuple, list)):
        tensors = tuple(tensors[0])
    if not tensors:
        raise RuntimeError("meshgrid expects a non-empty TensorList")
    for tensor in tensors:
        if len(tensor._shape) > 1:
            raise RuntimeError("torch.meshgrid: Expected 0D or 1D tensor in the tensor list but "
                               f"got: {len(tensor._shape)}D")
        if tensor.dtype is not tensors[0].dtype:
            raise RuntimeError("torch.meshgrid expects all tensors to have the same dtype")
    if indexing not in ("ij", "xy"):
        raise RuntimeError('torch.meshgrid: indexing must be one of "xy" or "ij", but received: '
                           f"{indexing}")
    swap = indexing == "xy" and len(tensors) > 1
    vectors = [tensors[1], tensors[0], *tensors[2:]] if swap else list(tensors)
    shape = [numel(t) for t in vectors]
    lines = [[n if k == d else 1 for k, n in enumerate(shape)] for d in range(len(shape))]
    grids = [ops.expand(ops.reshape(t, line), shape)
             for t, line in zip(vectors, lines, strict=True)]
    if swap:
        grids[0], grids[1] = grids[1], grids[0]
    return tuple(grids)


@overloaded("cartesian_prod", method=False)
def cartesian_prod(*tensors):
    """All combinations of the elements of vectors, one row each."""
    for tensor in tensors:
        if len(tensor._shape) != 1:
            raise RuntimeError("Expect a 1D vector, but got shape " + str(list(tensor._shape)))
    if len(tensors) == 1:
        return tensors[0]
    return ops.stack([ops.reshape(g, (-1,)) for g in meshgrid.host(*tensors)], 1)


@overloaded("block_diag", method=False)
def block_diag(*tensors):
    """A matrix with the given ones (vectors as rows) along its diagonal."""
    blocks = [_at_least(t, 2) for t in tensors] or [ops.empty(1, 0)]
    for position, block in enumerate(blocks):
        if len(block._shape) > 2:
            raise RuntimeError("torch.block_diag: Input tensors must have 2 or fewer dimensions. "
                               f"Input {position} has {len(block._shape)} dimensions")
    width = sum(b._shape[1] for b in blocks)
    rows, start = [], 0
    for block in blocks:
        rows.append(ops.pad(block, (start, width - start - block._shape[1])))
        start += block._shape[1]
    return ops._cat(rows, 0)
