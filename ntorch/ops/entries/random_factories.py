"""New tensors of random numbers: rand, randn, randint, randperm, normal and their ``_like`` forms.

All take torch's keywords ``generator, out, dtype, layout, device, requires_grad, pin_memory``.
"""
import warnings

from ...runtime import dtypes
from ...runtime.device import META
from .. import draw
from ..base import TensorBase, broadcast_shapes, empty, integer
from ..composite import overloaded
from ..dtype_rules import _scalar_name
from ..generator import chosen
from ..grids import need_true, write_out
from ..registry import ops
from ..structured import structured
from .factories import check_dtype, finish, sizes_of


def _target(op, shape, out, dtype, device):
    """The tensor to fill: a fresh one, or ``out`` resized to ``shape``."""
    check_dtype(op, dtype)
    if out is None:
        return empty(shape, dtype, device)
    if not isinstance(out, TensorBase):
        raise TypeError(f"{op}(): argument 'out' must be Tensor, not {type(out).__name__}")
    if dtype is not None and dtype is not out.dtype:
        raise RuntimeError(f"dtype {_scalar_name(dtype)} does not match dtype of out parameter "
                           f"({_scalar_name(out.dtype)})")
    if tuple(out._shape) != tuple(shape):
        if 0 not in out._shape:
            warnings.warn(
                "An output with one or more elements was resized since it had shape "
                f"{list(out._shape)}, which does not match the required output shape "
                f"{list(shape)}.",
                stacklevel=4)
        out.resize_(shape)
    return out


def _filled(name, fill, doc):
    def factory(*size, generator=None, out=None, dtype=None, layout=None, device=None,
                requires_grad=False, pin_memory=False, names=None, **keywords):
        shape = sizes_of(name, size or (keywords.pop("size", ()),))
        if keywords:
            raise TypeError(f"{name}() got an unexpected keyword argument '{next(iter(keywords))}'")
        generator = chosen(generator, name)
        result = fill(_target(name, shape, out, dtype, device), generator=generator)
        return result if out is not None else finish(result, requires_grad)
    factory.__name__, factory.__doc__ = name, doc
    overloaded(name, method=False)(factory)

    def like(input, *, dtype=None, layout=None, device=None, requires_grad=False,  # noqa: A002
             pin_memory=False, memory_format=None, generator=None):
        result = ops.empty_like(input, dtype=dtype, device=device, memory_format=memory_format)
        return finish(fill(result, generator=generator), requires_grad)
    like.__name__ = name + "_like"
    like.__doc__ = f"``{name}`` with the shape, dtype and device of ``input``."
    overloaded(name + "_like", method=False)(like)


_filled("rand", lambda t, generator: ops.uniform_(t, generator=generator),
        "Numbers uniform in [0, 1): ``rand(2, 3)`` or ``rand((2, 3))``.")
_filled("randn", lambda t, generator: ops.normal_(t, generator=generator),
        "Standard normal numbers: ``randn(2, 3)`` or ``randn((2, 3))``.")


def _int_range(op, bounds, low, high):
    """``(low, high)`` of ``randint(high, ...)`` or ``randint(low, high, ...)``."""
    bounds = [integer(b, op, "high") for b in bounds]
    if high is not None:
        bounds = [*([] if low is None else [low]), *bounds, high]
    elif low is not None:
        bounds = [low, *bounds]
    if not 1 <= len(bounds) <= 2:
        raise TypeError(f"{op}() received an invalid combination of arguments: expected "
                        f"(int high, tuple of ints size) or (int low, int high, tuple of ints "
                        f"size), got {len(bounds)} bounds")
    return (0, bounds[0]) if len(bounds) == 1 else tuple(bounds)


@overloaded("randint", method=False)
def randint(*arguments, low=None, high=None, size=None, generator=None, out=None, dtype=None,
            layout=None, device=None, requires_grad=False, pin_memory=False):
    """Integers with ``low <= n < high`` (``low`` is 0 if left out), int64 unless a dtype is given.

    ``randint(high, size)``, ``randint(low, high, size)``. RuntimeError if the range is empty or
    does not fit the dtype.
    """
    if size is None:
        if not arguments or not isinstance(arguments[-1], (tuple, list)):
            shown = type(arguments[-1]).__name__ if len(arguments) > 1 else None
            raise TypeError(f"randint(): argument 'size' (position 2) must be tuple of ints, not "
                            f"{shown}" if shown else
                            "randint() received an invalid combination of arguments: expected "
                            "(int high, tuple of ints size), got no size")
        *arguments, size = arguments
    low, high = _int_range("randint", arguments, low, high)
    if out is None and dtype is None:
        dtype = dtypes.int64
    result = _target("randint", sizes_of("randint", (tuple(size),)), out, dtype, device)
    ops.random_(result, low, high, generator=chosen(generator, "randint"))
    return result if out is not None else finish(result, requires_grad)


@overloaded("randint_like", method=False)
def randint_like(input, *bounds, low=None, high=None, dtype=None, layout=None,  # noqa: A002
                 device=None, requires_grad=False, pin_memory=False, memory_format=None,
                 generator=None):
    """``randint`` with the shape, dtype and device of ``input``."""
    low, high = _int_range("randint_like", bounds, low, high)
    result = ops.empty_like(input, dtype=dtype, device=device, memory_format=memory_format)
    return finish(ops.random_(result, low, high, generator=generator), requires_grad)


@overloaded("randperm", method=False)
def randperm(n, *, generator=None, out=None, dtype=None, layout=None, device=None,
             requires_grad=False, pin_memory=False):
    """A random order of ``0 .. n-1``, int64 unless a dtype is given.

    RuntimeError if ``n`` is negative or the dtype does not hold ``n - 1``.
    """
    n = integer(n, "randperm", "n")
    if n < 0:
        raise RuntimeError(f"Trying to create tensor with negative dimension {n}: [{n}]")
    dtype = dtype or (out.dtype if out is not None else dtypes.int64)
    if dtype is dtypes.bool_ or dtype.is_complex:
        raise NotImplementedError(f"\"randperm\" not implemented for '{_scalar_name(dtype)}'")
    largest = {dtypes.float16: 2049, dtypes.bfloat16: 257, dtypes.float32: (1 << 24) + 1,
               dtypes.float64: (1 << 53) + 1}.get(dtype)
    if largest is not None and n > largest:
        raise RuntimeError(f"n cannot be greater than {largest} for {_scalar_name(dtype)} type.")
    if dtype.category == dtypes.INT and n > 1 << 8 * dtype.itemsize - dtype.is_signed:
        raise RuntimeError(f"value cannot be converted to type {dtype} without overflow")
    generator = chosen(generator, "randperm")
    result = _target("randperm", (n,), out, dtype, device)
    if result._storage.device is not META:
        draw.fill(result, dtypes.int64, lambda vector: draw.permutation(vector, generator))
    return result if out is not None else finish(result, requires_grad)


@overloaded("normal", method=False)
def normal(mean, std=1.0, size=None, *, generator=None, out=None, dtype=None, layout=None,
           device=None, pin_memory=False, requires_grad=False):
    """Normal numbers ``mean + std * z``: tensors of means and deviations, one of them a number, or
    both numbers and a ``size``. RuntimeError for negative deviations."""
    tensors = [v for v in (mean, std) if isinstance(v, TensorBase)]
    if size is not None:
        result = _target("normal", sizes_of("normal", (tuple(size),)), out, dtype, device)
        ops.normal_(result, float(mean), float(std), generator=chosen(generator, "normal"))
        return result if out is not None else finish(result, requires_grad)
    if not tensors:
        raise TypeError("normal() received an invalid combination of arguments - got (float, "
                        "float): expected a Tensor of means or deviations, or a size")
    result = ops._normal_of(mean, std, generator=generator)
    return result if out is None else write_out("normal", out, result)


@structured("_normal_of(Operand mean, Operand std, *, Generator? generator=None) -> Tensor",
            method=False)
def _normal_of(mean, std, generator):
    """Normal numbers with a mean and a deviation each; no gradient flows to them."""
    tensors = [v for v in (mean, std) if isinstance(v, TensorBase)]
    shape = broadcast_shapes(*(t._shape for t in tensors))
    kind = tensors[0].dtype
    for tensor in tensors[1:]:
        kind = dtypes.promote_types(kind, tensor.dtype)
    _check_deviation(std)
    result = empty(shape, kind, tensors[0]._storage.device)
    generator = chosen(generator, "normal")
    if isinstance(std, TensorBase):
        result = ops.mul(ops.normal_(result, generator=generator), std)
    else:
        ops.normal_(result, 0.0, std, generator=generator)
    return ops.copy_(empty(shape, kind, result._storage.device), ops.add(result, mean))


@_normal_of.gradient("mean", "std")
def _(grad, needs):
    zero = ops.zeros_like(grad)
    return zero if needs["mean"] else None, zero if needs["std"] else None


def _check_deviation(std):
    if not isinstance(std, TensorBase):
        if not std >= 0:
            raise RuntimeError(f"normal expects std >= 0.0, but found std {std:g}")
        return
    if std.dtype.is_complex:
        raise RuntimeError("normal expects standard deviation to be non-complex")
    if std._storage.device is not META:
        need_true(ops.all(ops.ge(std.detach(), 0)),
                  RuntimeError("normal expects all elements of std >= 0.0"))
