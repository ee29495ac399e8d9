"""Compiled twins of the stubs in ``kernels/conv_stubs.py``: register tiles of direct convolution.

As ``microkernel.multiply_tile`` they are LLVM functions of their own with an SSA value for each
accumulator register.
"""
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.errors import RequireLiteralValue
from numba.extending import intrinsic

from .microkernel import _SUFFIX, _Tile

I32, I64 = ir.IntType(32), ir.IntType(64)


def _literals(*arguments):
    if not all(isinstance(argument, types.Literal) for argument in arguments):
        raise RequireLiteralValue("the shape of a register tile must be literal")
    return [argument.literal_value for argument in arguments]


def _function(module, name, arguments):
    """``(function, builder)`` of a function that is not inlined; no builder if it is there."""
    kind = ir.FunctionType(ir.VoidType(), arguments)
    function = cgutils.get_or_insert_function(module, kind, name)
    if function.blocks:
        return function, None
    function.linkage = "linkonce_odr"
    function.attributes.add("noinline")
    function.attributes.add("nounwind")
    return function, ir.IRBuilder(function.append_basic_block("entry"))


def _number(builder, table, index):
    return builder.load(builder.gep(table, [I64(index) if isinstance(index, int) else index]))


class _Vectors:
    """Loads and stores of whole vectors."""

    def __init__(self, builder, element, lanes, align):
        self.builder, self.kind, self.align = builder, ir.VectorType(element, lanes), align

    def _spot(self, base, at):
        return self.builder.bitcast(self.builder.gep(base, [at]), self.kind.as_pointer())

    def load(self, base, at):
        value = self.builder.load(self._spot(base, at))
        value.align = self.align
        return value

    def store(self, value, base, at):
        self.builder.store(value, self._spot(base, at)).align = self.align


def _loop(builder, count, start, body):
    """``start`` after ``count`` (at least one) rounds of ``body(number, values)``."""
    head = builder.block
    loop, done = (builder.append_basic_block(n) for n in ("taps.loop", "taps.done"))
    builder.branch(loop)
    builder.position_at_end(loop)
    number = builder.phi(I64)
    values = [builder.phi(value.type) for value in start]
    after = body(number, values)
    following = builder.add(number, I64(1))
    last = builder.block
    for phi, before, later in zip([number, *values], [I64(0), *start], [following, *after],
                                  strict=True):
        phi.add_incoming(before, head)
        phi.add_incoming(later, last)
    builder.cbranch(builder.icmp_signed("<", following, count), loop, done)
    builder.position_at_end(done)
    return after


def _taps_function(module, scalar, element, shape):
    rows, vectors, lanes = shape
    pointer, table = element.as_pointer(), I64.as_pointer()
    function, builder = _function(
        module, "nt.taps.{}.{}x{}x{}".format(_SUFFIX[scalar], *shape),
        [pointer, pointer, table, I64, table, table, pointer, I64])
    if builder is None:
        return function
    a, x, lines, depth, spots, places, out, out_row = function.args
    tile = _Tile(builder, scalar, element, shape, False)
    memory = _Vectors(builder, element, lanes, scalar.bitwidth // 8)
    bases = [builder.gep(x, [_number(builder, spots, v)]) for v in range(vectors)]

    def step(k, sums):
        line, row = _number(builder, lines, k), builder.mul(k, I64(rows))
        return tile.step(lambda i: builder.load(builder.gep(a, [builder.add(row, I64(i))])),
                         lambda v: memory.load(bases[v], line), sums)
    zero = ir.Constant(tile.vector, None)
    sums = _loop(builder, depth, [zero] * (rows * vectors), step)
    for v in range(vectors):
        place = _number(builder, places, v)
        for i in range(rows):
            memory.store(sums[i * vectors + v], out,
                         builder.add(place, builder.mul(out_row, I64(i))))
    builder.ret_void()
    return function


def _sums_function(module, scalar, element, shape):
    rows, taps, lanes = shape
    pointer, table = element.as_pointer(), I64.as_pointer()
    function, builder = _function(
        module, "nt.sums.{}.{}x{}x{}".format(_SUFFIX[scalar], *shape),
        [pointer, I64, pointer, table, table, table, I64, pointer])
    if builder is None:
        return function
    g, g_row, x, lines, spots, counts, count, sums = function.args
    tile = _Tile(builder, scalar, element, (rows, taps, lanes), False)
    memory = _Vectors(builder, element, lanes, scalar.bitwidth // 8)
    fma = tile.declare(f"llvm.fmuladd.{tile.suffix}", tile.vector, [tile.vector] * 3)
    bases = [builder.gep(x, [_number(builder, lines, j)]) for j in range(taps)]
    rows_of = [builder.gep(g, [builder.mul(g_row, I64(i))]) for i in range(rows)]
    lane = ir.Constant(ir.VectorType(I32, lanes), list(range(lanes)))
    zero = ir.Constant(tile.vector, None)

    def step(e, values):
        spot, place = _number(builder, spots, e), builder.mul(e, I64(lanes))
        limit = tile.splat(builder.trunc(_number(builder, counts, e), I32), lanes)
        inside = builder.icmp_signed("<", lane, limit)
        left = [memory.load(base, place) for base in rows_of]
        after = list(values)
        for j in range(taps):
            right = builder.select(inside, memory.load(bases[j], spot), zero)
            for i in range(rows):
                at = i * taps + j
                after[at] = builder.call(fma, [left[i], right, values[at]])
        return after
    start = [memory.load(sums, I64(k * lanes)) for k in range(rows * taps)]
    for k, value in enumerate(_loop(builder, count, start, step)):
        memory.store(value, sums, I64(k * lanes))
    builder.ret_void()
    return function


def _places(context, builder, kinds, values):
    """The data pointer of an array, ``at`` elements on."""
    def place(number, at=None):
        data = cgutils.create_struct_proxy(kinds[number])(context, builder, values[number]).data
        return data if at is None else builder.gep(data, [at])
    return place


@intrinsic(prefer_literal=True)
def multiply_taps(typingctx, a, a_at, x, lines, depth, spots, places, first, out, out_at, out_row,
                  rows, vectors, lanes):
    """See ``kernels.conv_stubs.multiply_taps``."""
    shape = _literals(rows, vectors, lanes)
    i8 = types.int64
    signature = types.void(a, i8, x, lines, i8, spots, places, i8, out, i8, i8, rows, vectors,
                           lanes)

    def codegen(context, builder, sig, values):
        at = _places(context, builder, sig.args, values)
        function = _taps_function(builder.module, out.dtype, context.get_data_type(out.dtype),
                                  shape)
        builder.call(function, [at(0, values[1]), at(2), at(3), values[4], at(5, values[7]),
                                at(6, values[7]), at(8, values[9]), values[10]])
        return context.get_dummy_value()

    return signature, codegen


@intrinsic(prefer_literal=True)
def sum_taps(typingctx, g, g_at, g_row, x, lines, first, spots, counts, count, sums, sums_at, rows,
             taps, lanes):
    """See ``kernels.conv_stubs.sum_taps``; ``count`` is above 0."""
    shape = _literals(rows, taps, lanes)
    i8 = types.int64
    signature = types.void(g, i8, i8, x, lines, i8, spots, counts, i8, sums, i8, rows, taps, lanes)

    def codegen(context, builder, sig, values):
        at = _places(context, builder, sig.args, values)
        function = _sums_function(builder.module, sums.dtype,
                                  context.get_data_type(sums.dtype), shape)
        builder.call(function, [at(0, values[1]), values[2], at(3), at(4, values[5]), at(6), at(7),
                                values[8], at(9, values[10])])
        return context.get_dummy_value()

    return signature, codegen


@intrinsic(prefer_literal=True)
def sum_lanes(typingctx, source, at, lanes):
    """See ``kernels.conv_stubs.sum_lanes``: halves are added to halves."""
    count, = _literals(lanes)
    signature = source.dtype(source, types.int64, lanes)

    def codegen(context, builder, sig, values):
        element = context.get_data_type(source.dtype)
        data = cgutils.create_struct_proxy(source)(context, builder, values[0]).data
        memory = _Vectors(builder, element, count, context.get_abi_sizeof(element))
        total, size = memory.load(data, values[1]), count
        while size > 1:
            size //= 2
            low, high = (builder.shuffle_vector(total, total, ir.Constant(
                ir.VectorType(I32, size), list(range(first, first + size)))) for first in (0, size))
            total = builder.fadd(low, high)
        return builder.extract_element(total, I32(0))

    return signature, codegen
