"""Distinct values, counts, histograms of integers, and searching in sorted sequences."""
from ...kernels import indexing as index_kernels
from ...kernels import sorting as kernels
from ...runtime import dtypes
from ...runtime.device import META
from ..base import TensorBase, empty, numel, product, wrap_dim
from ..composite import overloaded
from ..dtype_rules import _scalar_name
from ..grids import check_inside, reshaped
from ..registry import ops
from ..structured import as_dtype, contiguous, run


def _runs(changed):
    """From flags "differs from its predecessor": group numbers, and where groups start."""
    changed = ops.cat([ops.ones(1, dtype=dtypes.bool_), changed])
    groups = ops.cumsum(changed, 0) - 1
    starts = ops.reshape(ops._nonzero(changed), (-1,))
    return groups, starts


def _group(lines):
    """(groups, starts, counts) of equal neighbours among the rows of a (n, width) tensor."""
    n = lines._shape[0]
    differs = ops.ne(ops.slice(lines, 0, 1, n), ops.slice(lines, 0, 0, n - 1))
    groups, starts = _runs(ops.any(differs, 1) if lines._shape[1] != 1 else ops.reshape(differs,
                                                                                         (-1,)))
    ends = ops.cat([ops.slice(starts, 0, 1, numel(starts)), ops.tensor([n], dtype=dtypes.int64)])
    return groups, starts, ends - starts


def _packed(parts, inverse, counts):
    wanted = [parts[0]] + ([parts[1]] if inverse else []) + ([parts[2]] if counts else [])
    return wanted[0] if len(wanted) == 1 else tuple(wanted)


def _lines(input, dim):  # noqa: A002
    """``input`` as (n, width), one line per element or per slice along ``dim``."""
    if dim is None:
        return ops.reshape(input, (-1, 1))
    moved = ops.transpose(input, 0, wrap_dim(dim, len(input._shape)))
    width = product(moved._shape[1:])
    return ops.reshape(moved, (moved._shape[0], width))


def _values(input, lines, starts, dim):  # noqa: A002
    """The lines at ``starts``, in the form of ``input``."""
    picked = ops.index_select(lines, 0, starts)
    if dim is None:
        return ops.reshape(picked, (-1,))
    d = wrap_dim(dim, len(input._shape))
    shape = list(input._shape)
    shape[0], shape[d] = shape[d], shape[0]
    return contiguous(ops.transpose(ops.reshape(picked, (numel(starts), *shape[1:])), 0, d))


def _order(lines):
    """The order that sorts lines lexicographically: stable sorts from the last column on."""
    order = ops.arange(lines._shape[0])
    for column in range(lines._shape[1] - 1, -1, -1):
        keys = ops.index_select(ops.select(lines, 1, column), 0, order)
        order = ops.index_select(order, 0, ops._sort(keys, 0, False)[1])
    return order


def _check(op, input, dim):  # noqa: A002
    if input._storage.device is META:
        raise NotImplementedError(f"{op}(): the size of the result depends on the data, which a "
                                  "meta tensor does not have")
    if dim is not None and 0 in input._shape:
        d = wrap_dim(dim, len(input._shape))
        if input._shape[d] != 0:
            raise RuntimeError(f"{op}(): There are 0 sized dimensions, and they aren't selected by "
                               "`dim`, so unique cannot be applied")


def _nothing(input, inverse, counts, dim):  # noqa: A002
    shape = input._shape if dim is not None else (0,)
    none = empty((0,), dtypes.int64)
    places = empty(input._shape if dim is None else (0,), dtypes.int64)
    return _packed((empty(shape, input.dtype), places, none), inverse, counts)


@overloaded("unique", fuse=False)
def unique(input, sorted=True, return_inverse=False, return_counts=False, dim=None):  # noqa: A002
    """The distinct elements, or slices along ``dim``, in ascending order.

    With ``return_inverse`` also where each element went, with ``return_counts`` how many there
    were. Each NaN is distinct.
    """
    _check("unique", input, dim)
    input = input.detach()
    if not numel(input):
        return _nothing(input, return_inverse, return_counts, dim)
    lines = _lines(input, dim)
    order = _order(lines)
    ordered = ops.index_select(lines, 0, order)
    groups, starts, counts = _group(ordered)
    inverse = None
    if return_inverse:
        inverse = ops.scatter(ops.empty_like(groups), 0, order, groups)
        if dim is None:
            inverse = ops.reshape(inverse, input._shape)
    return _packed((_values(input, ordered, starts, dim), inverse, counts), return_inverse,
                   return_counts)


@overloaded("unique_consecutive", fuse=False)
def unique_consecutive(input, return_inverse=False, return_counts=False, dim=None):  # noqa: A002
    """The elements, or slices along ``dim``, without repetitions of the one before.

    With ``return_inverse`` also where each element went, with ``return_counts`` how many there
    were.
    """
    _check("unique_consecutive", input, dim)
    input = input.detach()
    if not numel(input):
        return _nothing(input, return_inverse, return_counts, dim)
    lines = _lines(input, dim)
    groups, starts, counts = _group(lines)
    inverse = ops.reshape(groups, input._shape) if dim is None else groups
    return _packed((_values(input, lines, starts, dim), inverse, counts), return_inverse,
                   return_counts)


@overloaded("bincount", fuse=False)
def bincount(input, weights=None, minlength=0):  # noqa: A002
    """How often each non-negative integer occurs in a vector, or the sum of its ``weights``.

    RuntimeError for negative numbers, NotImplementedError for floating types.
    """
    if input.dtype.category >= dtypes.FLOAT or input.dtype is dtypes.bool_:
        raise NotImplementedError(
            f"\"bincount_cpu\" not implemented for '{_scalar_name(input.dtype)}'")
    if minlength < 0:
        raise RuntimeError("minlength should be >= 0")
    n = numel(input)
    if len(input._shape) == 1 and n == 0:
        return ops.zeros(minlength, dtype=dtypes.int64)
    if len(input._shape) != 1 or ops.amin(input).item() < 0:
        raise RuntimeError("bincount only supports 1-d non-negative integral inputs.")
    size = max(int(ops.amax(input).item()) + 1, minlength)
    at = as_dtype(input, dtypes.int64)
    if weights is None:
        out = ops.zeros(size, dtype=dtypes.int64)
        run(index_kernels.count_values, [("C", contiguous(at)), ("C", out)], 1, 1)
        return out
    if weights._shape != input._shape:
        raise RuntimeError("weights should be 1-d and have the same length as input")
    kind = dtypes.float32 if weights.dtype is dtypes.float32 else dtypes.float64
    return ops.index_add(ops.zeros(size, dtype=kind), 0, at, as_dtype(weights.detach(), kind))


def _side(op, right, side):
    if side is not None and side not in ("left", "right"):
        raise RuntimeError(f"torch.{op}(): side can only be 'left' or 'right' but got {side}")
    if right and side == "left":
        raise RuntimeError(f"torch.{op}(): side and right can't be set to opposites, got side of "
                           "left while right was True")
    return right or side == "right"


def _check_search(edges, values, sorter):
    name = "torch.searchsorted(): "
    if not edges._shape:
        raise RuntimeError(name + "boundaries tensor should have positive dimension, but got 0 "
                           "dimension")
    if len(edges._shape) != 1 and edges._shape[:-1] != values._shape[:-1]:
        raise RuntimeError(
            name + "boundaries tensor should be 1 dimension or the first N-1 dimensions of "
            f"boundaries tensor and input value tensor must match, but we got boundaries tensor "
            f"{list(edges._shape)} and input value tensor {list(values._shape)}")
    if sorter is None:
        return
    if sorter._shape != edges._shape:
        raise RuntimeError(name + "boundary and sorter must have the same size, but got boundary "
                           f"tensor {list(edges._shape)} and got sorter tensor "
                           f"{list(sorter._shape)}")
    if sorter.dtype is not dtypes.int64:
        raise RuntimeError(name + "sorter must be a tensor of long dtype but got dtype "
                           f"{_scalar_name(sorter.dtype)}")
    check_inside(contiguous(sorter), 0, edges._shape[-1],
                 lambda _: RuntimeError(name + "sorter index out of range"))


def _search(edges, values, right, sorter):
    _check_search(edges, values, sorter)
    kind = dtypes.promote_types(edges.dtype, values.dtype)
    if kind.is_complex:
        raise NotImplementedError("searchsorted: expected real types, got complex ones")
    if kind.is_half:
        kind = dtypes.float32
    elif kind is not dtypes.float32 and kind is not dtypes.float64:
        kind = dtypes.int64
    out = empty(values._shape, dtypes.int64, values._storage.device)
    n = edges._shape[-1]
    shared = len(edges._shape) == 1
    rows = 1 if shared else product(edges._shape[:-1])
    columns = numel(values) // max(rows, 1)
    line = reshaped(contiguous(as_dtype(edges, kind)), (rows, n))
    order = empty((1, 1), dtypes.int64)
    if sorter is not None:
        order = reshaped(contiguous(sorter), (rows, n))
    spread = columns if shared else rows
    grid = (spread, 1) if shared else (rows, columns)       # one shared row: values go in parallel
    run(kernels.search_sorted,
        [("C", line), ("C", reshaped(contiguous(as_dtype(values, kind)), grid)),
         ("C", reshaped(out, grid)), ("i", right), ("i", shared), ("C", order),
         ("i", sorter is not None)], spread, max(1, 2048 // grid[1] if grid[1] else 1))
    return out


def _finished(found, out_int32, out):
    if out_int32:
        found = as_dtype(found, dtypes.int32)
    if out is None:
        return found
    if out.dtype is not found.dtype:
        raise RuntimeError(f"torch.searchsorted(): output tensor's dtype is wrong, it can only be "
                           f"Int(int32) or Long(int64) depending on whether out_int32 flag is "
                           f"True, but we got output tensor's dtype {_scalar_name(out.dtype)} and "
                           f"out_int32 flag is {out_int32}")
    if out._shape != found._shape:
        out.resize_(found._shape)
    return ops.copy_(out, found)


@overloaded("searchsorted", method=False)
def searchsorted(sorted_sequence, input=None, *, out_int32=False, right=False,  # noqa: A002
                 side=None, sorter=None, out=None, **keywords):
    """Where each value would be inserted in the last dimension of ``sorted_sequence``.

    The first such place, or with ``right`` the last. int64, or int32 with ``out_int32``.
    """
    values = keywords.get("self", input)
    if not isinstance(values, TensorBase):
        kind = None if isinstance(values, int) else sorted_sequence.dtype
        values = ops.tensor(values, dtype=kind)
        if len(sorted_sequence._shape) != 1:
            raise RuntimeError("torch.searchsorted(): input value can be a scalar only when "
                               "boundaries tensor dimension is 1, but we got boundaries tensor dim("
                               f"{len(sorted_sequence._shape)})")
    right = _side("searchsorted", right, side)
    found = _search(sorted_sequence.detach(), values.detach(), right, sorter)
    return _finished(found, out_int32, out)


@overloaded("bucketize", method=False)
def bucketize(input, boundaries, *, out_int32=False, right=False, out=None):  # noqa: A002
    """Which bucket each value falls in: ``searchsorted`` with one sorted vector of boundaries."""
    if len(boundaries._shape) != 1:
        raise RuntimeError("boundaries tensor must be 1 dimension, but got "
                           f"dim({len(boundaries._shape)})")
    if not isinstance(input, TensorBase):
        input = ops.tensor(input)  # noqa: A001
    return _finished(_search(boundaries.detach(), input.detach(), right, None), out_int32, out)
