"""Compiled twins of the stubs in ``kernels/winograd_stubs.py``."""
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.errors import RequireLiteralValue
from numba.extending import intrinsic

from ..kernels.winograd_stubs import MATRICES
from .implementations import array_value
from .intrinsics import _load_pointer

I64 = ir.IntType(64)


def _combine(builder, weights, values):
    """``sum of weights[k] * values[k]``, values of one weight added before they are multiplied."""
    total = None
    for size in sorted({abs(w) for w in weights if w}, reverse=True):
        part = None
        for weight, value in zip(weights, values, strict=True):
            if abs(weight) != size:
                continue
            if part is None:
                part = value if weight > 0 else builder.fneg(value)
            else:
                part = (builder.fadd if weight > 0 else builder.fsub)(part, value)
        if size != 1:
            element = part.type.element
            part = builder.fmul(part, ir.Constant(part.type, [element(size)] * part.type.count))
        total = part if total is None else builder.fadd(total, part)
    return total


def _ordered(weights):
    """Indices with a positive weight first: what begins a sum need not be negated."""
    return sorted(range(len(weights)), key=lambda k: weights[k] < 0)


def _apply(builder, matrix, columns):
    """``matrix @ columns`` for a list of lists of vectors."""
    width = len(columns[0])
    return [[_combine(builder, [row[k] for k in _ordered(row)],
                      [columns[k][j] for k in _ordered(row)]) for j in range(width)]
            for row in matrix]


@intrinsic(prefer_literal=True)
def transform_square(typingctx, source, at, row, column, jump, out, to, out_row, out_column, kind,
                     lanes):
    """See ``kernels.winograd_stubs.transform_square``; ``kind`` and ``lanes`` are literals."""
    if not isinstance(kind, types.Literal) or not isinstance(lanes, types.Literal):
        raise RequireLiteralValue("the kind and lanes of a transform must be literal")
    matrix, count = MATRICES[kind.literal_value], lanes.literal_value
    integers = (types.int64,) * 4
    signature = types.void(source, *integers, out, *integers[:3], kind, lanes)

    def codegen(context, builder, sig, values):
        element = context.get_data_type(out.dtype)
        vector, align = ir.VectorType(element, count), context.get_abi_sizeof(element)
        read = cgutils.create_struct_proxy(source)(context, builder, values[0]).data
        write = cgutils.create_struct_proxy(out)(context, builder, values[5]).data

        def spot(base, first, i, step, j, across, extra=None):
            place = builder.add(first, builder.add(builder.mul(step, I64(i)),
                                                   builder.mul(across, I64(j))))
            if extra is not None:
                place = builder.add(place, extra)
            return builder.bitcast(builder.gep(base, [place]), vector.as_pointer())

        square = []
        for i in range(len(matrix[0])):
            square.append([])
            for j in range(len(matrix[0])):
                value = builder.load(spot(read, values[1], i, values[2], j, values[3],
                                          values[4] if i >= 2 else None))
                value.align = align
                square[-1].append(value)
        half = _apply(builder, matrix, square)
        turned = _apply(builder, matrix, list(zip(*half, strict=True)))
        for j, line in enumerate(turned):
            for i, value in enumerate(line):
                builder.store(value, spot(write, values[6], i, values[7], j,
                                          values[8])).align = align
        return context.get_dummy_value()

    return signature, codegen


@intrinsic(prefer_literal=True)
def note_strange(typingctx, values, at, row, column, notes, lanes):
    """See ``kernels.winograd_stubs.note_strange``; ``lanes`` is a literal."""
    if not isinstance(lanes, types.Literal):
        raise RequireLiteralValue("the lanes of a note must be literal")
    integer = types.int64
    signature = types.void(values, integer, integer, integer, notes, lanes)

    def codegen(context, builder, sig, arguments):
        element = context.get_data_type(values.dtype)
        kind = ir.VectorType(element, lanes.literal_value).as_pointer()
        align = context.get_abi_sizeof(element)
        read, note = (cgutils.create_struct_proxy(array)(context, builder, arguments[k]).data
                      for k, array in ((0, values), (4, notes)))

        def load(base, place):
            value = builder.load(builder.bitcast(builder.gep(base, [place]), kind))
            value.align = align
            return value
        total = load(note, I64(0))
        for i in range(2):
            for j in range(2):
                place = builder.add(arguments[1], builder.add(
                    builder.mul(arguments[2], I64(i)), builder.mul(arguments[3], I64(j))))
                value = load(read, place)
                total = builder.fadd(total, builder.fsub(value, value))
        builder.store(total, builder.bitcast(note, kind)).align = align
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def array_at(typingctx, like, table, slot, count):
    """See ``kernels.winograd_stubs.array_at``."""
    array = types.Array(types.unliteral(like), 1, "C", aligned=True)

    def codegen(context, builder, sig, values):
        element = context.get_data_type(array.dtype)
        data = cgutils.create_struct_proxy(table)(context, builder, values[1]).data
        pointer = _load_pointer(builder, data, values[2], element)
        return array_value(context, builder, array, pointer, [values[3]])

    return array(like, table, types.int64, types.int64), codegen
