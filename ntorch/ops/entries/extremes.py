"""Extremes with their positions: max and min along a dimension, argmax, argmin, aminmax."""
from ...kernels import argreduce
from ...runtime import dtypes
from ..base import Size, TensorBase, numel, reshaped, wrap_dim
from ..composite import overloaded
from ..registry import ops
from ..structured import contiguous, empty, run, structured
from .reductions import _into


def _three(tensor, d):
    """(outer, n, inner) sizes around dimension ``d``."""
    shape = tensor._shape
    return (Size(shape[:d]).numel(), shape[d] if shape else 1, Size(shape[d + 1:]).numel())


_PIECE = 1 << 15        # elements of a long row that one task looks through


def _find_extremes(kernels, flat, values, indices, sizes):
    """Run the kernels of ``argreduce`` on a row-major tensor of (outer, n, inner) ``sizes``."""
    (outer, n, inner), (rows, columns, parts, pick) = sizes, kernels
    if outer * inner == 1 and n > 2 * _PIECE:
        count = -(-n // _PIECE)
        device = flat._storage.device
        tops, places = empty((count,), flat.dtype, device), empty((count,), dtypes.int64, device)
        run(parts, [("C", reshaped(flat, (n,))), ("C", tops), ("C", places), ("i", _PIECE)],
            count, 1)
        run(pick, [("C", tops), ("C", places), ("C", reshaped(values, (1,))),
                   ("C", reshaped(indices, (1,)))], 1, 1)
        return
    grain = max(1, _PIECE // max(n, 1))
    if inner == 1:
        run(rows, [("C", reshaped(flat, (outer, n))), ("C", reshaped(values, (outer,))),
                   ("C", reshaped(indices, (outer,)))], outer, grain)
    else:
        run(columns, [("C", reshaped(flat, (outer, n, inner))),
                      ("C", reshaped(values, (outer, inner))),
                      ("C", reshaped(indices, (outer, inner)))], outer * inner, grain)


def _arg_extreme(name, kernels):
    @structured(f"{name}(Tensor self, int dim, bool keepdim=False) -> (Tensor, Tensor)",
                method=False)
    def extreme(self, dim, keepdim):
        d = wrap_dim(dim, len(self._shape))
        if self._shape and self._shape[d] == 0:
            raise IndexError(f"{name.strip('_')[:3]}(): Expected reduction dim {d} to have "
                             "non-zero size.")
        if self.dtype.is_complex:
            raise RuntimeError(f"{name.strip('_')[:3]}(): does not support complex input")
        kept = list(self._shape)
        if kept:
            kept[d:d + 1] = [1] if keepdim else []
        source = self if not self.dtype.is_half else ops.to_dtype(self, dtypes.float32)
        values = empty(kept, source.dtype, self.device)
        indices = empty(kept, dtypes.int64, self.device)
        _find_extremes(kernels, contiguous(source), values, indices, _three(self, d))
        return (values if values.dtype is self.dtype else ops.to_dtype(values, self.dtype)), indices

    extreme.gradient("self")(_index_gradient)
    return extreme


def _index_gradient(grad, self, result1, dim, keepdim):
    if not self._shape:
        return grad
    if not keepdim:
        grad, result1 = ops.unsqueeze(grad, dim), ops.unsqueeze(result1, dim)
    return ops.scatter(ops.zeros(self._shape, dtype=grad.dtype, device=grad.device), dim, result1,
                       grad)


_arg_extreme("_max_dim", argreduce.argmax)
_arg_extreme("_min_dim", argreduce.argmin)


def _overloaded_extreme(name, pair, whole, elementwise):
    def extreme(input, *arguments, dim=None, keepdim=None, other=None, out=None):
        if arguments and isinstance(arguments[0], TensorBase) or other is not None:
            other = arguments[0] if other is None else other
            return getattr(ops, elementwise)(input, other, **({} if out is None else {"out": out}))
        names = dict(zip(("dim", "keepdim"), arguments, strict=False))
        dim, keepdim = names.get("dim", dim), names.get("keepdim", keepdim)
        if dim is None:
            if input._shape and not numel(input):
                raise RuntimeError(f"{name}(): Expected reduction dim to be specified for "
                                   "input.numel() == 0. Specify the reduction dim with the 'dim' "
                                   "argument.")
            result = getattr(ops, whole)(input)
            return result if out is None else _into(out, result, name, exact=True)
        values, indices = getattr(ops, pair)(input, dim, bool(keepdim))
        if out is not None:
            values = _into(out[0], values, name, (input,), True)
            indices = _into(out[1], indices, name, (input,), True)
        return return_type(name)((values, indices))
    extreme.__name__ = name
    extreme.__doc__ = (f"``{name}(x)``: the {name}imum of all elements; ``{name}(x, dim, "
                       f"keepdim)``: values and indices along ``dim``; ``{name}(x, other)``: "
                       "elementwise.")
    return overloaded(name, out=True)(extreme)


_types = {}


def return_type(name, fields=("values", "indices")):
    """The named tuple class that ``torch.<name>`` returns."""
    import collections
    found = _types.get(name)
    if found is None:
        base = collections.namedtuple(name, fields)

        def __new__(cls, values):
            return base.__new__(cls, *values)

        def __repr__(self):
            parts = ",\n".join(f"{f}={v!r}" for f, v in zip(fields, self, strict=True))
            return f"torch.return_types.{name}(\n{parts})"
        found = _types[name] = type(name, (base,), {
            "__new__": __new__, "__repr__": __repr__, "__slots__": (),
            "__reduce__": lambda self: (_rebuild, (name, fields, tuple(self))),
            "_make": classmethod(lambda cls, values: cls(tuple(values)))})
    return found


def _rebuild(name, fields, values):
    return return_type(name, fields)(values)


_overloaded_extreme("max", "_max_dim", "amax", "maximum")
_overloaded_extreme("min", "_min_dim", "amin", "minimum")


def _arg_only(name, pair):
    def arg(input, dim=None, keepdim=False, *, out=None):
        if input.dtype is dtypes.bool_:
            raise RuntimeError(f'"{name}_cpu" not implemented for \'Bool\'')
        if dim is None:
            if not numel(input):
                raise IndexError(f"{name}(): Expected reduction dim to be specified for "
                                 "input.numel() == 0. Specify the reduction dim with the 'dim' "
                                 "argument.")
            result = getattr(ops, pair)(ops.reshape(input.detach(), (-1,)), 0, False)[1]
            if keepdim:
                result = ops.reshape(result, (1,) * len(input._shape))
        else:
            result = getattr(ops, pair)(input.detach(), dim, keepdim)[1]
        return result if out is None else _into(out, result, name, exact=True)
    arg.__name__ = name
    arg.__doc__ = (f"Index of the {name[3:]}imum along ``dim``, of the flattened tensor if None; "
                   "the first of equal ones, and of NaNs.")
    return overloaded(name, out=True)(arg)


_arg_only("argmax", "_max_dim")
_arg_only("argmin", "_min_dim")


@overloaded("aminmax", out=True)
def aminmax(input, *, dim=None, keepdim=False, out=None):
    """Smallest and largest element, together."""
    dims = () if dim is None else (dim,)
    if dim is None and not numel(input):
        raise RuntimeError("aminmax(): cannot compute aminmax over an empty dimension as the "
                           "operation has no identity.")
    low, high = ops.amin(input, dims, keepdim), ops.amax(input, dims, keepdim)
    if out is not None:
        low, high = (_into(target, result, "aminmax", exact=True)
                     for target, result in zip(out, (low, high), strict=True))
    return return_type("aminmax", ("min", "max"))((low, high))
