"""The twin of ``kernels/few_stubs.py``: a register tile that copies while it multiplies."""
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .microkernel import I32, I64, _emit, _literals, _Tile


class _Copy:
    """Copies a vector or two of the lines that the next tile wants, at each step of a K loop.

    ``lanes`` steps copy ``lanes`` columns of all lines. What lies past the lines or the columns is
    what lies there last again, so there is no branch.
    """

    def __init__(self, tile, source, line, have, wide, out, apart):
        self.tile, self.builder = tile, tile.builder
        self.source, self.line, self.out, self.apart = source, line, out, apart
        self.last = self.builder.sub(have, I64(1))
        self.limit = self.builder.sub(wide, I64(tile.lanes))
        self.ahead = self.builder.mul(line, I64(tile.rows))     # the lines of the tile after next

    def least(self, a, b):
        """The smaller of two numbers."""
        return self.builder.select(self.builder.icmp_signed("<", a, b), a, b)

    def spot(self, base, at):
        """Where the vector at ``base[at]`` is."""
        return self.builder.bitcast(self.builder.gep(base, [at]), self.tile.vector.as_pointer())

    def __call__(self, k):
        builder, lanes = self.builder, self.tile.lanes
        step = builder.and_(k, I64(lanes - 1))
        column = self.least(builder.sub(k, step), self.limit)
        copies = -(-self.tile.rows // lanes)
        for j in range(copies):
            row = self.least(builder.add(builder.mul(step, I64(copies)), I64(j)), self.last)
            at = builder.add(builder.mul(row, self.line), column)
            value = builder.load(self.spot(self.source, at))
            value.align = self.tile.align
            to = builder.add(builder.mul(row, I64(self.apart)), column)
            builder.store(value, self.spot(self.out, to)).align = self.tile.align
            self.fetch(builder.add(at, self.ahead))

    def fetch(self, at):
        """Ask for ``source[at]``, which may lie outside."""
        place = self.builder.bitcast(self.builder.gep(self.source, [at]),
                                     ir.IntType(8).as_pointer())
        ask = self.tile.declare("llvm.prefetch.p0", ir.VoidType(), [place.type, I32, I32, I32])
        self.builder.call(ask, [place, I32(0), I32(2), I32(1)])


def _function(module, scalar, element, shape, strides):
    """The tile as an LLVM function of its own, as ``microkernel.multiply_tile``'s."""
    name = "nt.copying.{}.{}x{}x{}.{}.{}.{}".format(element, *shape, *strides)
    pointer = element.as_pointer()
    kind = ir.FunctionType(ir.VoidType(), [pointer] * 5 + [I64] * 5)
    function = cgutils.get_or_insert_function(module, kind, name)
    if function.blocks:
        return function
    function.linkage = "linkonce_odr"
    function.attributes.add("noinline")
    function.attributes.add("nounwind")
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    a, b, c, source, out, depth, accumulate, line, have, wide = function.args
    a_row, b_step, c_row = map(I64, strides)
    tile = _Tile(builder, scalar, element, shape, False)
    _emit(tile, a, I64(0), a_row, I64(1), b, I64(0), b_step, c, I64(0), c_row, depth,
          builder.icmp_signed("!=", accumulate, I64(0)),
          _Copy(tile, source, line, have, wide, out, strides[0]))
    builder.ret_void()
    return function


@intrinsic(prefer_literal=True)
def multiply_copying(typingctx, a, a_at, a_row, b, b_at, b_step, c, c_at, c_row, depth, accumulate,
                     source, at, line, have, wide, out, to, rows, vectors, lanes):
    """See ``kernels.few_stubs.multiply_copying``; strides and the last three are literals."""
    shape, strides = _literals(rows, vectors, lanes), _literals(a_row, b_step, c_row)
    i8 = types.int64
    signature = types.void(a, i8, a_row, b, i8, b_step, c, i8, c_row, i8, i8, source, i8, i8, i8,
                           i8, out, i8, rows, vectors, lanes)

    def codegen(context, builder, sig, values):
        def place(kind, value, start):
            data = cgutils.create_struct_proxy(kind)(context, builder, value).data
            return builder.gep(data, [start])
        element = context.get_data_type(c.dtype)
        function = _function(builder.module, c.dtype, element, shape, strides)
        builder.call(function, [
            place(a, *values[0:2]), place(b, *values[3:5]), place(c, *values[6:8]),
            place(source, *values[11:13]), place(out, *values[16:18]), *values[9:11],
            *values[13:16]])
        return context.get_dummy_value()

    return signature, codegen
