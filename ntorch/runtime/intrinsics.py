"""Compiled twins of ``kernels/stubs.py`` and the loads that turn a table of slots into arguments.

Imported only when something is compiled: this is the one place where kernels meet Numba's
extension API. Addresses are loaded as pointers and moved with GEP, never with integer arithmetic:
LLVM miscompiles inttoptr sums (see docs/architecture.md).
"""
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.errors import RequireLiteralValue, TypingError
from numba.extending import intrinsic

from .implementations import array_value, int64

NUMBA_TYPES = {
    "b1": types.boolean, "u1": types.uint8, "i1": types.int8, "i2": types.int16, "i4": types.int32,
    "i8": types.int64, "h2": types.uint16, "g2": types.uint16, "f4": types.float32,
    "f8": types.float64, "c8": types.complex64, "c16": types.complex128,
}


def array_type(kind):
    """The Numba array type of a kind such as ``f4:3C`` (dtype code, rank, layout C or A)."""
    code, rest = kind.split(":")
    return types.Array(NUMBA_TYPES[code], int(rest[:-1]), rest[-1], aligned=True)


def _literal_kind(kind):
    if not isinstance(kind, types.StringLiteral):
        raise RequireLiteralValue("an array kind must be a literal string")
    return array_type(kind.literal_value)


def _load_slot(builder, table, index):
    return builder.load(builder.gep(table, [index]))


def _load_pointer(builder, table, index, element):
    """Load a slot as a pointer to ``element``: the table is read as pointers, not converted."""
    slot = builder.gep(table, [index])
    return builder.load(builder.bitcast(slot, element.as_pointer().as_pointer()))


def argument_type(kind, T):
    """The Numba type of a kernel's argument of this kind."""
    return array_type(kind) if ":" in kind else {
        "i": types.int64, "p": types.int64, "f": types.float64, "T": NUMBA_TYPES[T]}[kind]


def read_table(context, builder, table, kinds, T):
    """The arguments of these kinds, read from a table of slots."""
    values, slot = [], 0
    for kind in kinds:
        wanted = argument_type(kind, T)
        if ":" in kind:
            rank = wanted.ndim
            data = _load_pointer(builder, table, int64(slot), context.get_data_type(wanted.dtype))
            sizes = [_load_slot(builder, table, int64(slot + 1 + d)) for d in range(rank)]
            strides = None
            if wanted.layout == "A":
                size = int64(context.get_abi_sizeof(context.get_data_type(wanted.dtype)))
                strides = [builder.mul(_load_slot(builder, table, int64(slot + 1 + rank + d)), size)
                           for d in range(rank)]
            values.append(array_value(context, builder, wanted, data, sizes, strides))
            slot += 1 + rank * (1 if strides is None else 2)
            continue
        value = _load_slot(builder, table, int64(slot))
        if kind in "fT":
            double = builder.bitcast(value, ir.DoubleType())
            value = context.cast(builder, double, types.float64, wanted)
        values.append(value)
        slot += 1
    return values


@intrinsic
def table_vector(typingctx, table, slot, offset, length, stride, kind):
    """``length`` elements from the pointer in ``slot``, ``offset`` elements on, ``stride`` apart.

    With a ``1C`` kind the stride is taken as 1 whatever is passed.
    """
    arrty = _literal_kind(kind)

    def codegen(context, builder, signature, arguments):
        table, slot, offset, length, stride, _ = arguments
        element = context.get_data_type(arrty.dtype)
        data = builder.gep(_load_pointer(builder, table, slot, element), [offset])
        size = ir.Constant(ir.IntType(64), context.get_abi_sizeof(element))
        step = size if arrty.layout == "C" else builder.mul(stride, size)
        return array_value(context, builder, arrty, data, [length], [step])

    i8 = types.int64
    return arrty(table, i8, i8, i8, i8, kind), codegen


def _bitcast(source, target):
    @intrinsic
    def cast(typingctx, x):
        def codegen(context, builder, signature, arguments):
            return builder.bitcast(arguments[0], context.get_value_type(target))
        return target(source), codegen
    return cast


bits_f32_to_i32 = _bitcast(types.float32, types.int32)
bits_i32_to_f32 = _bitcast(types.int32, types.float32)
bits_f64_to_i64 = _bitcast(types.float64, types.int64)
bits_i64_to_f64 = _bitcast(types.int64, types.float64)


def _floating(name, arity):
    """An intrinsic that calls ``llvm.<name>`` on ``arity`` float arguments of the first's type."""
    def build(first):
        if not isinstance(first, types.Float):
            raise TypingError(f"llvm.{name} takes floats, got {first}")

        def codegen(context, builder, signature, arguments):
            value_type = context.get_value_type(first)
            function = cgutils.get_or_insert_function(
                builder.module, ir.FunctionType(value_type, [value_type] * arity),
                f"llvm.{name}.f{first.bitwidth}")
            return builder.call(function, arguments)
        return first(*[first] * arity), codegen

    if arity == 1:
        @intrinsic
        def call(typingctx, a):
            return build(a)
    elif arity == 2:
        @intrinsic
        def call(typingctx, a, b):
            return build(a)
    else:
        @intrinsic
        def call(typingctx, a, b, c):
            return build(a)
    return call


round_even = _floating("roundeven", 1)
floor_ = _floating("floor", 1)
ceil_ = _floating("ceil", 1)
trunc_ = _floating("trunc", 1)
sqrt_ = _floating("sqrt", 1)
fabs_ = _floating("fabs", 1)
copysign_ = _floating("copysign", 2)
minnum = _floating("minnum", 2)
maxnum = _floating("maxnum", 2)
maximum_ = _floating("maximum", 2)
minimum_ = _floating("minimum", 2)
fma = _floating("fma", 3)


@intrinsic
def select(typingctx, condition, a, b):
    """``llvm select``: both sides are evaluated, so a loop around it vectorises."""
    result = typingctx.unify_types(a, b)

    def codegen(context, builder, signature, arguments):
        flag = context.cast(builder, arguments[0], condition, types.boolean)
        left = context.cast(builder, arguments[1], a, result)
        right = context.cast(builder, arguments[2], b, result)
        return builder.select(context.get_value_as_data(builder, types.boolean, flag)
                              if flag.type != ir.IntType(1) else flag, left, right)

    return result(condition, a, b), codegen


@intrinsic
def to_type_of(typingctx, x, value):
    """``value`` cast to the type of ``x``."""
    target = types.unliteral(x)

    def codegen(context, builder, signature, arguments):
        return context.cast(builder, arguments[1], value, target)

    return target(x, value), codegen


@intrinsic
def half_to_single(typingctx, word):
    """The instruction in place of ``kernels.half.f16_to_f32``."""
    def codegen(context, builder, signature, arguments):
        return builder.fpext(builder.bitcast(arguments[0], ir.HalfType()), ir.FloatType())

    return types.float32(types.uint16), codegen


@intrinsic
def single_to_half(typingctx, x):
    """The instruction in place of ``kernels.half.f32_to_f16``; as everywhere, the rounding is to
    nearest even."""
    def codegen(context, builder, signature, arguments):
        return builder.bitcast(builder.fptrunc(arguments[0], ir.HalfType()), ir.IntType(16))

    return types.uint16(types.float32), codegen
