"""Compiled twins of the stubs in ``kernels/gemm_stubs.py``: the register tile, calls by address.

``multiply_tile`` is the one place where machine resources are spelled out: it emits the K loop of a
matrix product as LLVM IR, one SSA value per accumulator register, so that the tile is kept in
registers whatever LLVM's loop passes think of it. Everything it needs to know of the target comes
as literal arguments (rows, vectors, lanes), which ``ops/contraction_plan.py`` chooses.
"""
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.errors import RequireLiteralValue
from numba.extending import intrinsic

from .implementations import array_value

I32, I64 = ir.IntType(32), ir.IntType(64)
_SUFFIX = {types.float32: "f32", types.float64: "f64"}


def _literals(*arguments):
    """The Python values of literal arguments; asks Numba to retry if they are not literal."""
    for argument in arguments:
        if not isinstance(argument, types.Literal):
            raise RequireLiteralValue("the shape of a register tile must be literal")
    return [argument.literal_value for argument in arguments]


def _known(argument):
    """The value of an argument that is literal, else None."""
    return argument.literal_value if isinstance(argument, types.Literal) else None


class _Tile:
    """Emits one register tile: ``rows`` x (``vectors`` x ``lanes``) accumulators."""

    def __init__(self, builder, scalar, element, shape, masked):
        self.builder, self.element = builder, element
        self.rows, self.vectors, self.lanes = shape
        self.vector = ir.VectorType(element, self.lanes)
        self.align = scalar.bitwidth // 8
        self.suffix = f"v{self.lanes}{_SUFFIX[scalar]}"
        self.masked = masked
        self.masks = None

    def declare(self, name, result, arguments):
        return cgutils.get_or_insert_function(
            self.builder.module, ir.FunctionType(result, arguments), name)

    def splat(self, value, lanes):
        kind = ir.VectorType(value.type, lanes)
        undefined = ir.Constant(kind, ir.Undefined)
        first = self.builder.insert_element(undefined, value, I32(0))
        picks = ir.Constant(ir.VectorType(I32, lanes), [0] * lanes)
        return self.builder.shuffle_vector(first, undefined, picks)

    def set_columns(self, columns):
        """With ``masked``: the lanes of each vector that lie left of ``columns``."""
        if not self.masked:
            return
        step = ir.VectorType(I64, self.lanes)
        self.masks = []
        for v in range(self.vectors):
            lane = ir.Constant(step, [v * self.lanes + i for i in range(self.lanes)])
            limit = self.splat(columns, self.lanes)
            self.masks.append(self.builder.icmp_signed("<", lane, limit))

    def load(self, base, offset, v):
        pointer = self.builder.gep(base, [self.builder.add(offset, I64(v * self.lanes))])
        pointer = self.builder.bitcast(pointer, self.vector.as_pointer())
        if self.masked:
            mask = ir.VectorType(ir.IntType(1), self.lanes)
            read = self.declare(f"llvm.masked.load.{self.suffix}.p0", self.vector,
                                [pointer.type, I32, mask, self.vector])
            return self.builder.call(read, [pointer, I32(self.align), self.masks[v],
                                            ir.Constant(self.vector, None)])
        loaded = self.builder.load(pointer)
        loaded.align = self.align
        return loaded

    def store(self, value, base, offset, v):
        pointer = self.builder.gep(base, [self.builder.add(offset, I64(v * self.lanes))])
        pointer = self.builder.bitcast(pointer, self.vector.as_pointer())
        if self.masked:
            mask = ir.VectorType(ir.IntType(1), self.lanes)
            write = self.declare(f"llvm.masked.store.{self.suffix}.p0", ir.VoidType(),
                                 [self.vector, pointer.type, I32, mask])
            self.builder.call(write, [value, pointer, I32(self.align), self.masks[v]])
            return
        self.builder.store(value, pointer).align = self.align

    def step(self, a, b, sums):
        """The accumulators after one k: ``a`` gives the address of row i, ``b`` of vector v."""
        fma = self.declare(f"llvm.fmuladd.{self.suffix}", self.vector, [self.vector] * 3)
        row = [b(v) for v in range(self.vectors)]
        out = []
        for i in range(self.rows):
            left = self.splat(a(i), self.lanes)
            out += [self.builder.call(fma, [left, row[v], sums[i * self.vectors + v]])
                    for v in range(self.vectors)]
        return out

    def cells(self):
        return [(i, v) for i in range(self.rows) for v in range(self.vectors)]


def _initial(tile, c, c_at, c_row, accumulate):
    """The accumulators before the loop: zero (always if ``accumulate`` is None), or c."""
    builder = tile.builder
    if accumulate is None:
        return [ir.Constant(tile.vector, None) for _ in tile.cells()]
    before = builder.block
    load, ready = (builder.append_basic_block(n) for n in ("tile.load", "tile.ready"))
    builder.cbranch(accumulate, load, ready)
    builder.position_at_end(load)
    loaded = [tile.load(c, builder.add(c_at, builder.mul(c_row, I64(i))), v)
              for i, v in tile.cells()]
    load_end = builder.block
    builder.branch(ready)
    builder.position_at_end(ready)
    phis = []
    for value in loaded:
        phi = builder.phi(tile.vector)
        phi.add_incoming(ir.Constant(tile.vector, None), before)
        phi.add_incoming(value, load_end)
        phis.append(phi)
    return phis


def _emit(tile, a, a_at, a_row, a_step, b, b_at, b_step, c, c_at, c_row, depth, accumulate,
          beside=None):
    """``c[i, :] = (accumulate ? c[i, :] : 0) + sum over k of a[i, k] * b[k, :]``; ``beside(k)``
    emits what else is done at each k."""
    builder = tile.builder
    start = _initial(tile, c, c_at, c_row, accumulate)
    head = builder.block
    loop, done = (builder.append_basic_block(n) for n in ("tile.k", "tile.done"))
    builder.cbranch(builder.icmp_signed(">", depth, I64(0)), loop, done)
    builder.position_at_end(loop)
    k = builder.phi(I64)
    sums = [builder.phi(tile.vector) for _ in start]
    a_k = builder.add(a_at, builder.mul(k, a_step))
    b_k = builder.add(b_at, builder.mul(k, b_step))

    def left(i):
        at = builder.add(a_k, builder.mul(a_row, I64(i)))
        return builder.load(builder.gep(a, [at]))

    after = tile.step(left, lambda v: tile.load(b, b_k, v), sums)
    if beside is not None:
        beside(k)
    following = builder.add(k, I64(1))
    k.add_incoming(I64(0), head)
    k.add_incoming(following, loop)
    for phi, first, last in zip(sums, start, after, strict=True):
        phi.add_incoming(first, head)
        phi.add_incoming(last, loop)
    builder.cbranch(builder.icmp_signed("<", following, depth), loop, done)
    builder.position_at_end(done)
    result = []
    for first, last in zip(start, after, strict=True):
        phi = builder.phi(tile.vector)
        phi.add_incoming(first, head)
        phi.add_incoming(last, loop)
        result.append(phi)
    for (i, v), value in zip(tile.cells(), result, strict=True):
        tile.store(value, c, builder.add(c_at, builder.mul(c_row, I64(i))), v)


def _tile_function(module, scalar, element, shape, masked, accumulating, strides):
    """The tile as an LLVM function of its own, once a module.

    Not inlined: LLVM would copy these large bodies while unswitching and unrolling the loops around
    them, at ten times the compile time. ``strides`` are those of a, b and c, numbers where they are
    known: the address of every element is then one pointer and a constant. Where they are not,
    computing addresses takes integer units that the multiplications need, and a fifth of the speed.
    """
    name = "nt.tile.{}.{}x{}x{}{}{}{}".format(
        _SUFFIX[scalar], *shape, ".masked" * masked, ".from0" * (not accumulating),
        "".join("." if stride is None else f".{stride}" for stride in strides))
    pointer = element.as_pointer()
    kind = ir.FunctionType(ir.VoidType(), [pointer, I64, I64, pointer, I64, pointer, I64, I64, I64,
                                           I64])
    function = cgutils.get_or_insert_function(module, kind, name)
    if function.blocks:
        return function
    function.linkage = "linkonce_odr"
    function.attributes.add("noinline")
    function.attributes.add("nounwind")
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    a, a_row, a_step, b, b_step, c, c_row, depth, accumulate, columns = function.args
    a_row, a_step, b_step, c_row = (
        given if known is None else I64(known)
        for given, known in zip((a_row, a_step, b_step, c_row), strides, strict=True))
    tile = _Tile(builder, scalar, element, shape, masked)
    tile.set_columns(columns)
    _emit(tile, a, I64(0), a_row, a_step, b, I64(0), b_step, c, I64(0), c_row, depth,
          builder.icmp_signed("!=", accumulate, I64(0)) if accumulating else None)
    builder.ret_void()
    return function


@intrinsic(prefer_literal=True)
def multiply_tile(typingctx, a, a_at, a_row, a_step, b, b_at, b_step, c, c_at, c_row, depth,
                  accumulate, columns, rows, vectors, lanes, masked):
    """See ``kernels.gemm_stubs.multiply_tile``; the last four arguments are literals."""
    *shape, masked_value = _literals(rows, vectors, lanes, masked)
    from_zero = _known(accumulate) == 0
    strides = [_known(stride) for stride in (a_row, a_step, b_step, c_row)]
    # whatever decides the code is in the signature: calls that agree in it share an implementation
    a_row, a_step, b_step, c_row = [stride if isinstance(stride, types.Literal) else types.int64
                                    for stride in (a_row, a_step, b_step, c_row)]
    start = accumulate if from_zero else types.int64
    signature = types.void(a, types.int64, a_row, a_step, b, types.int64, b_step, c, types.int64,
                           c_row, types.int64, start, types.int64, rows, vectors, lanes, masked)

    def codegen(context, builder, sig, values):
        def place(kind, value, at):
            data = cgutils.create_struct_proxy(kind)(context, builder, value).data
            return builder.gep(data, [at])
        function = _tile_function(builder.module, c.dtype, context.get_data_type(c.dtype), shape,
                                  bool(masked_value), not from_zero, strides)
        builder.call(function, [
            place(a, values[0], values[1]), *values[2:4], place(b, values[4], values[5]),
            values[6], place(c, values[7], values[8]), *values[9:13]])
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def call_kernel(typingctx, table, function_at, arguments_at, begin, end):
    """Call the kernel at address ``table[function_at]`` on the slots from ``arguments_at``."""
    signature = types.void(table, *(types.int64,) * 4)

    def codegen(context, builder, sig, values):
        data = cgutils.create_struct_proxy(table)(context, builder, values[0]).data
        kind = ir.FunctionType(ir.VoidType(), [I64.as_pointer(), I64, I64])
        slot = builder.bitcast(builder.gep(data, [values[1]]), kind.as_pointer().as_pointer())
        builder.call(builder.load(slot), [builder.gep(data, [values[2]]), values[3], values[4]])
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def take_number(typingctx, counters, index):
    """Atomic ``counters[index] += 1``; returns the value before."""
    signature = types.int64(counters, types.int64)

    def codegen(context, builder, sig, values):
        data = cgutils.create_struct_proxy(counters)(context, builder, values[0]).data
        return builder.atomic_rmw("add", builder.gep(data, [values[1]]), I64(1), "acq_rel")

    return signature, codegen


@intrinsic
def read_number(typingctx, counters, index):
    """Atomic read of ``counters[index]``, ordered after the writes that its count stands for."""
    signature = types.int64(counters, types.int64)

    def codegen(context, builder, sig, values):
        data = cgutils.create_struct_proxy(counters)(context, builder, values[0]).data
        return builder.load_atomic(builder.gep(data, [values[1]]), "acquire", 8)

    return signature, codegen


@intrinsic(prefer_literal=True)
def stack_array(typingctx, like, count):
    """``count`` (literal) elements of the type of ``like``, uninitialised, on the stack."""
    size, = _literals(count)
    array = types.Array(types.unliteral(like), 1, "C", aligned=True)

    def codegen(context, builder, sig, values):
        element = context.get_data_type(array.dtype)
        # not cgutils.alloca_once: that zero-fills, here one store per element
        with builder.goto_entry_block():
            space = builder.alloca(ir.ArrayType(element, size))
        space.align = 64
        data = builder.bitcast(space, element.as_pointer())
        return array_value(context, builder, array, data, [I64(size)])

    return array(like, count), codegen


@intrinsic
def fetch_line(typingctx, source, at):
    """See ``kernels.gemm_stubs.fetch_line``: into the second level, the first one is too small."""
    signature = types.void(source, types.int64)

    def codegen(context, builder, sig, values):
        data = cgutils.create_struct_proxy(source)(context, builder, values[0]).data
        place = builder.bitcast(builder.gep(data, [values[1]]), ir.IntType(8).as_pointer())
        fetch = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(ir.VoidType(), [place.type, I32, I32, I32]),
            "llvm.prefetch.p0")
        builder.call(fetch, [place, I32(0), I32(2), I32(1)])
        return context.get_dummy_value()

    return signature, codegen


def _transposed(builder, rows, n):
    """The columns of the n x n matrix held in the vectors ``rows``: log2(n) rounds of shuffles."""
    mask = ir.VectorType(I32, n)
    half = 1
    while half < n:
        # exchange the off-diagonal half x half blocks of each 2 half x 2 half block
        low = [i + n - half if i & half else i for i in range(n)]
        high = [i + n if i & half else i + half for i in range(n)]
        after = list(rows)
        for i in range(n):
            if not i & half:
                pair = rows[i], rows[i + half]
                after[i] = builder.shuffle_vector(*pair, ir.Constant(mask, low))
                after[i + half] = builder.shuffle_vector(*pair, ir.Constant(mask, high))
        rows = after
        half *= 2
    return rows


@intrinsic(prefer_literal=True)
def move_line(typingctx, source, at, out, to, size):
    """See ``kernels.gemm_stubs.move_line``; ``size`` is a literal."""
    n, = _literals(size)
    signature = types.void(source, types.int64, out, types.int64, size)

    def codegen(context, builder, sig, values):
        vector = ir.VectorType(context.get_data_type(out.dtype), n)
        align = context.get_abi_sizeof(context.get_data_type(out.dtype))
        read = cgutils.create_struct_proxy(source)(context, builder, values[0]).data
        write = cgutils.create_struct_proxy(out)(context, builder, values[2]).data
        here, there = (builder.bitcast(builder.gep(base, [start]), vector.as_pointer())
                       for base, start in ((read, values[1]), (write, values[3])))
        line = builder.load(here)
        line.align = align
        builder.store(line, there).align = align
        return context.get_dummy_value()

    return signature, codegen


@intrinsic(prefer_literal=True)
def turn_square(typingctx, source, at, row, out, to, step, size):
    """See ``kernels.gemm_stubs.turn_square``; ``size`` is a literal power of two."""
    n, = _literals(size)
    signature = types.void(source, types.int64, types.int64, out, types.int64, types.int64, size)

    def codegen(context, builder, sig, values):
        element = context.get_data_type(out.dtype)
        vector = ir.VectorType(element, n)
        align = context.get_abi_sizeof(element)
        read = cgutils.create_struct_proxy(source)(context, builder, values[0]).data
        write = cgutils.create_struct_proxy(out)(context, builder, values[3]).data

        def spot(base, start, stride, i):
            place = builder.gep(base, [builder.add(start, builder.mul(stride, I64(i)))])
            return builder.bitcast(place, vector.as_pointer())

        rows = []
        for i in range(n):
            rows.append(builder.load(spot(read, values[1], values[2], i)))
            rows[-1].align = align
        for i, column in enumerate(_transposed(builder, rows, n)):
            builder.store(column, spot(write, values[4], values[5], i)).align = align
        return context.get_dummy_value()

    return signature, codegen
