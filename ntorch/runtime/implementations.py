"""Ranges, elements and slices of arrays in LLVM IR.

They compute what Numba's own do, for the types that kernels use, without structures on the stack
and without the ways for steps that kernels do not take: whatever LLVM need not clean up again is
neither written, nor read, nor optimised.
"""
import operator

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.imputils import Registry
from numba.cpython import slicing
from numba.np import arrayobj

registry = Registry("ntorch")
INT64 = ir.IntType(64)


def pack(builder, kind, values):
    """A structure (or array) value of the LLVM type ``kind``."""
    result = ir.Constant(kind, ir.Undefined)
    for place, value in enumerate(values):
        result = builder.insert_value(result, value, place)
    return result


def int64(value):
    """An LLVM constant."""
    return ir.Constant(INT64, value)


def array_value(context, builder, kind, data, sizes, strides=None):
    """An array of the Numba type ``kind``; strides in bytes, by default those of a C layout."""
    itemsize = int64(context.get_abi_sizeof(context.get_data_type(kind.dtype)))
    if strides is None:
        strides = [itemsize]
        for size in reversed(sizes[1:]):
            strides.insert(0, builder.mul(strides[0], size))
    count = sizes[0]
    for size in sizes[1:]:
        count = builder.mul(count, size)
    null = ir.Constant(ir.IntType(8).as_pointer(), None)
    several = ir.ArrayType(INT64, len(sizes))
    return pack(builder, context.get_value_type(kind), [
        null, null, count, itemsize, data, pack(builder, several, sizes),
        pack(builder, several, strides)])


# --- ranges ---------------------------------------------------------------------------------------

def _range(context, builder, signature, arguments):
    start = arguments[0] if len(arguments) > 1 else int64(0)
    stop = arguments[1] if len(arguments) > 1 else arguments[0]
    step = arguments[2] if len(arguments) > 2 else int64(1)
    return pack(builder, context.get_value_type(signature.return_type), [start, stop, step])


for _count in (1, 2, 3):
    registry.lower(range, *[types.int64] * _count)(_range)


@registry.lower("getiter", types.range_state64_type)
def _range_iterator(context, builder, signature, arguments):
    """Where the range is and how often it goes on, on the stack."""
    start, stop, step = (builder.extract_value(arguments[0], k) for k in range(3))
    place, left = (cgutils.alloca_once(builder, INT64) for _ in range(2))
    builder.store(start, place)
    builder.store(_length(builder, builder.sub(stop, start), step), left)
    return pack(builder, context.get_value_type(signature.return_type), [place, stop, step, left])


def _length(builder, distance, step):
    """How many steps it takes to get ``distance`` far."""
    ahead, size = distance, step
    if not (isinstance(step, ir.Constant) and step.constant > 0):
        forward = builder.icmp_signed(">", step, int64(0))
        ahead = builder.select(forward, distance, builder.neg(distance))
        size = builder.select(forward, step, builder.neg(step))
    count = ahead
    if not (isinstance(step, ir.Constant) and step.constant == 1):
        count = builder.sdiv(builder.add(ahead, builder.sub(size, int64(1))), size)
    return builder.select(builder.icmp_signed(">", ahead, int64(0)), count, int64(0))


@registry.lower("iternext", types.range_iter64_type)
def _range_next(context, builder, signature, arguments):
    place, step, left = (builder.extract_value(arguments[0], k) for k in (0, 2, 3))
    value, count = builder.load(place), builder.load(left)
    builder.store(builder.add(value, step), place)
    builder.store(builder.sub(count, int64(1), flags=["nsw"]), left)
    return pack(builder, context.get_value_type(signature.return_type),
                [value, builder.icmp_signed(">", count, int64(0))])


# --- elements and slices --------------------------------------------------------------------------

def _simple(context, kind, places):
    """Whether indexing is by integers and slices of step 1, and need not be checked."""
    return (isinstance(kind, types.Array) and kind.layout in "CA" and len(places) <= kind.ndim
            and not context.enable_boundscheck
            and all(isinstance(p, types.Integer) or isinstance(p, types.SliceType)
                    and not p.has_step for p in places))


def _indices(builder, place, at):
    """Types and values of the indices in a subscript."""
    if isinstance(place, types.BaseTuple):
        return place.types, cgutils.unpack_tuple(builder, at, len(place))
    return (place,), (at,)


def _select(context, builder, kind, value, places, indices):
    """``(pointer, sizes, strides)`` of what is selected of an array."""
    model = context.data_model_manager[kind]
    sizes, strides = (cgutils.unpack_tuple(builder, builder.extract_value(
        value, model.get_field_position(name)), kind.ndim) for name in ("shape", "strides"))
    starts, left, steps = [], [], []
    for axis, (place, index) in enumerate(zip(places, indices, strict=True)):
        if isinstance(place, types.Integer):
            starts.append(arrayobj.fix_integer_index(context, builder, place, index, sizes[axis]))
            continue
        start, stop = (_bound(builder, builder.extract_value(index, k), sizes[axis])
                       for k in range(2))
        starts.append(start)
        left.append(_length(builder, builder.sub(stop, start), int64(1)))
        steps.append(strides[axis])
    starts += [int64(0)] * (kind.ndim - len(starts))
    left += sizes[len(places):]
    steps += strides[len(places):]
    data = builder.extract_value(value, model.get_field_position("data"))
    return cgutils.get_item_pointer2(context, builder, data, sizes, strides, kind.layout,
                                     starts), left, steps


def _bound(builder, index, size):
    """Where a slice starts or stops: from the end if negative, and within the array."""
    index = slicing.fix_index(builder, index, size)
    index = builder.select(builder.icmp_signed("<", index, int64(0)), int64(0), index)
    return builder.select(builder.icmp_signed(">=", index, size), size, index)


def _get(context, builder, signature, arguments):
    kind = signature.args[0]
    places, indices = _indices(builder, signature.args[1], arguments[1])
    if not _simple(context, kind, places):
        tuples = isinstance(signature.args[1], types.BaseTuple)
        other = arrayobj.getitem_array_tuple if tuples else arrayobj.getitem_arraynd_intp
        return other(context, builder, signature, arguments)
    pointer, sizes, strides = _select(context, builder, kind, arguments[0], places, indices)
    if not sizes:
        return arrayobj.load_item(context, builder, kind, pointer)
    return array_value(context, builder, signature.return_type, pointer, sizes, strides)


def _set(context, builder, signature, arguments):
    kind, place, given = signature.args
    places, indices = _indices(builder, place, arguments[1])
    if (not _simple(context, kind, places) or len(places) < kind.ndim
            or not all(isinstance(p, types.Integer) for p in places)):
        arrayobj.setitem_array(context, builder, signature, arguments)
        return context.get_dummy_value()
    pointer, _, _ = _select(context, builder, kind, arguments[0], places, indices)
    value = context.cast(builder, arguments[2], given, kind.dtype)
    arrayobj.store_item(context, builder, kind, value, pointer)
    return context.get_dummy_value()


for _place in (types.Integer, types.SliceType, types.BaseTuple):
    registry.lower(operator.getitem, types.Buffer, _place)(_get)
registry.lower(operator.setitem, types.Buffer, types.Any, types.Any)(_set)


@registry.lower(slice, types.VarArg(types.Any))
def _slice(context, builder, signature, arguments):
    if signature.return_type.has_step:
        return slicing.slice_constructor_impl(context, builder, signature, arguments)
    given = [None if kind is types.none else value
             for kind, value in zip(signature.args, arguments, strict=True)]
    start, stop = given if len(given) == 2 else (None, *given)
    largest = int64((1 << 63) - 1)
    return pack(builder, context.get_value_type(signature.return_type), [
        int64(0) if start is None else start, largest if stop is None else stop, int64(1)])
