"""Compiled twins of the stubs in ``kernels/window_stubs.py``: vectors of windows side by side.

A row of taps is one wide load, whose every ``kw``-th lane belongs to one tap. LLVM would make the
same of a plain loop, but rows of pictures are short: much of them would be left to a loop over
single elements. Here the last vector of a row overlaps the one before, and a row of less than a
vector is masked. The functions are not inlined: around their calls, loops stay small.
"""
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.errors import RequireLiteralValue
from numba.extending import intrinsic

I1, I8, I32, I64 = (ir.IntType(bits) for bits in (1, 8, 32, 64))
_SUFFIX = {"float": "f32", "double": "f64", "i8": "i8"}


def _literals(*arguments):
    if not all(isinstance(argument, types.Literal) for argument in arguments):
        raise RequireLiteralValue("the shape of a vector of windows must be literal")
    return [argument.literal_value for argument in arguments]


def _call_rows(builder, name, shape, arguments, count, body):
    """Call a function that calls ``body(builder, memory, i, shape, arguments)`` for all vectors of
    a row of ``count`` windows: from window i on, ``memory`` masks what is not there."""
    element, size = arguments[0].type.pointee, shape[3]
    name = "nt.{}.{}.{}x{}x{}x{}".format(name, _SUFFIX[str(element)], *shape)
    kind = ir.FunctionType(ir.VoidType(), [*(a.type for a in arguments), I64])
    function = cgutils.get_or_insert_function(builder.module, kind, name)
    builder.call(function, [*arguments, count])
    if function.blocks:
        return
    function.linkage = "linkonce_odr"
    function.attributes.add("noinline")
    function.attributes.add("nounwind")
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    *given, count = function.args
    few, loop, done = (function.append_basic_block(name) for name in ("few", "whole", "done"))
    head, last = builder.block, builder.sub(count, I64(size))
    builder.cbranch(builder.icmp_signed("<", count, I64(size)), few, loop)
    builder.position_at_end(few)
    body(builder, _Lanes(builder, size, count), I64(0), shape, given)
    builder.ret_void()
    builder.position_at_end(loop)
    first = builder.phi(I64)
    body(builder, _Lanes(builder, size, None), first, shape, given)
    after = builder.add(first, I64(size))
    following = builder.select(builder.icmp_signed("<", after, last), after, last)
    first.add_incoming(I64(0), head)
    first.add_incoming(following, loop)
    builder.cbranch(builder.icmp_signed("<", first, last), loop, done)
    builder.position_at_end(done)
    builder.ret_void()


class _Lanes:
    """Loads and stores of what belongs to the first ``count`` lanes, to all if that is None."""

    def __init__(self, builder, lanes, count):
        self.builder, self.lanes, self.count = builder, lanes, count

    def _mask(self, vector):
        per = vector.count // self.lanes
        limit = self.builder.mul(self.builder.trunc(self.count, I32), I32(per))
        numbers = ir.VectorType(I32, vector.count)
        return self.builder.icmp_signed(
            "<", ir.Constant(numbers, list(range(vector.count))), splat(self.builder, limit,
                                                                        numbers))

    def _call(self, what, result, vector, arguments):
        name = f"llvm.masked.{what}.v{vector.count}{_SUFFIX[str(vector.element)]}.p0"
        mask = ir.VectorType(I1, vector.count)
        kinds = [vector] if what == "store" else []
        kinds += [vector.as_pointer(), I32, mask] + ([vector] if what == "load" else [])
        function = cgutils.get_or_insert_function(
            self.builder.module, ir.FunctionType(result, kinds), name)
        return self.builder.call(function, arguments)

    def _spot(self, base, at, vector):
        return self.builder.bitcast(self.builder.gep(base, [at]), vector.as_pointer())

    def load(self, base, at, vector):
        """The vector at ``base[at]``; lanes that are masked are zero."""
        spot, size = self._spot(base, at, vector), _bytes(vector.element)
        if self.count is not None:
            return self._call("load", vector, vector, [
                spot, I32(size), self._mask(vector), ir.Constant(vector, None)])
        value = self.builder.load(spot)
        value.align = size
        return value

    def store(self, value, base, at):
        """Write the lanes that are not masked to ``base[at]``."""
        spot, size = self._spot(base, at, value.type), _bytes(value.type.element)
        if self.count is not None:
            self._call("store", ir.VoidType(), value.type, [
                value, spot, I32(size), self._mask(value.type)])
        else:
            self.builder.store(value, spot).align = size


def _bytes(element):
    return {"float": 4, "double": 8, "i8": 1}[str(element)]


def splat(builder, value, vector):
    """A vector of equal elements."""
    first = builder.insert_element(ir.Constant(vector, ir.Undefined), value, I32(0))
    return _shuffled(builder, first, first, [0] * vector.count)


def _shuffled(builder, a, b, lanes):
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(I32, len(lanes)), lanes))


def _woven(builder, columns):
    """One element of each column after the other, as one vector."""
    width, lanes = len(columns), columns[0].type.count
    while len(columns) > 1:
        if len(columns) % 2:
            columns = [*columns, columns[-1]]
        both = list(range(2 * columns[0].type.count))
        columns = [_shuffled(builder, a, b, both)
                   for a, b in zip(columns[::2], columns[1::2], strict=True)]
    order = [c * lanes + i for i in range(lanes) for c in range(width)]
    return _shuffled(builder, columns[0], columns[0], order) if width > 1 else columns[0]


def _pointers(context, builder, kinds, values):
    """The data pointers of the arrays among the arguments."""
    return [cgutils.create_struct_proxy(kind)(context, builder, value).data
            for kind, value in zip(kinds, values, strict=True) if isinstance(kind, types.Array)]


def _places_of(element, lanes):
    """Vectors of positions: as wide as the elements, so that one comparison serves both."""
    return ir.VectorType(ir.IntType(8 * _bytes(element)), lanes)


def _rows(builder, i, shape, plane, row):
    """``(first tap, place of its element)`` of each row of taps, for windows from ``i`` on."""
    depth, height, width = shape[:3]
    start = builder.mul(i, I64(width))
    for a in range(depth):
        for b in range(height):
            spot = builder.add(builder.mul(plane, I64(a)), builder.mul(row, I64(b)))
            yield (a * height + b) * width, builder.add(start, spot)


def _maxima(builder, memory, i, shape, operands):
    """One vector of windows, from window ``i`` of the row on."""
    x, plane, row, out, where = operands
    width, size = shape[2:]
    numbers, best, place = _places_of(x.type.pointee, size), None, None
    for tap, spot in _rows(builder, i, shape, plane, row):
        line = memory.load(x, spot, ir.VectorType(x.type.pointee, size * width))
        for c in range(width):
            value = line if width == 1 else _shuffled(
                builder, line, line, list(range(c, size * width, width)))
            here = ir.Constant(numbers, [tap + c] * size)
            if best is None:
                best, place = value, here
                continue
            take = builder.or_(builder.fcmp_ordered(">", value, best),
                               builder.fcmp_unordered("uno", value, value))
            best = builder.select(take, value, best)
            place = builder.select(take, here, place)
    memory.store(best, out, i)
    memory.store(builder.trunc(place, ir.VectorType(I8, size)), where, i)


@intrinsic(prefer_literal=True)
def tile_maxima(typingctx, x, at, plane, row, out, where, to, count, kd, kh, kw, lanes):
    """See ``kernels.window_stubs.tile_maxima``; ``count`` is above 0."""
    shape = _literals(kd, kh, kw, lanes)
    i8 = types.int64
    signature = types.void(x, i8, i8, i8, out, where, i8, i8, kd, kh, kw, lanes)

    def codegen(context, builder, sig, values):
        data, result, taps = _pointers(context, builder, sig.args, values)
        arguments = [builder.gep(data, [values[1]]), values[2], values[3],
                     builder.gep(result, [values[6]]), builder.gep(taps, [values[6]])]
        _call_rows(builder, "maxima", shape, arguments, values[7], _maxima)
        return context.get_dummy_value()

    return signature, codegen


def _spread(builder, memory, i, shape, operands):
    """The elements of one vector of windows, from window ``i`` of the row on."""
    source, where, out, plane, row = operands
    width, size = shape[2:]
    vector = ir.VectorType(source.type.pointee, size)
    numbers, zero = _places_of(vector.element, size), ir.Constant(vector, None)
    grad = memory.load(source, i, vector)
    place = builder.zext(memory.load(where, i, ir.VectorType(I8, size)), numbers)
    for tap, spot in _rows(builder, i, shape, plane, row):
        memory.store(_woven(builder, [builder.select(
            builder.icmp_unsigned("==", place, ir.Constant(numbers, [tap + c] * size)), grad, zero)
            for c in range(width)]), out, spot)


@intrinsic(prefer_literal=True)
def spread_tiles(typingctx, source, where, at, out, to, plane, row, count, kd, kh, kw, lanes):
    """See ``kernels.window_stubs.spread_tiles``; ``count`` is above 0."""
    shape = _literals(kd, kh, kw, lanes)
    i8 = types.int64
    signature = types.void(source, where, i8, out, i8, i8, i8, i8, kd, kh, kw, lanes)

    def codegen(context, builder, sig, values):
        grads, taps, result = _pointers(context, builder, sig.args, values)
        arguments = [builder.gep(grads, [values[2]]), builder.gep(taps, [values[2]]),
                     builder.gep(result, [values[4]]), values[5], values[6]]
        _call_rows(builder, "spread", shape, arguments, values[7], _spread)
        return context.get_dummy_value()

    return signature, codegen


def _means(builder, memory, i, shape, operands):
    """The means of one vector of windows, from window ``i`` of the row on."""
    x, plane, row, out, divisor = operands
    width, size = shape[2:]
    vector = ir.VectorType(x.type.pointee, size)
    wide = ir.VectorType(x.type.pointee, size * width)
    columns = total = None
    for _, spot in _rows(builder, i, shape, plane, row):
        line = memory.load(x, spot, wide)
        columns = line if columns is None else builder.fadd(columns, line)
    for c in range(width):
        column = columns if width == 1 else _shuffled(
            builder, columns, columns, list(range(c, size * width, width)))
        total = column if total is None else builder.fadd(total, column)
    memory.store(builder.fdiv(total, splat(builder, divisor, vector)), out, i)


@intrinsic(prefer_literal=True)
def tile_means(typingctx, x, at, plane, row, out, to, count, divisor, kd, kh, kw, lanes):
    """See ``kernels.window_stubs.tile_means``; ``count`` is above 0."""
    shape = _literals(kd, kh, kw, lanes)
    i8 = types.int64
    signature = types.void(x, i8, i8, i8, out, i8, i8, x.dtype, kd, kh, kw, lanes)

    def codegen(context, builder, sig, values):
        data, result = _pointers(context, builder, sig.args, values)
        arguments = [builder.gep(data, [values[1]]), values[2], values[3],
                     builder.gep(result, [values[5]]), values[7]]
        _call_rows(builder, "means", shape, arguments, values[6], _means)
        return context.get_dummy_value()

    return signature, codegen


def _fill(builder, memory, i, shape, operands):
    """The elements of one vector of windows, from window ``i`` of the row on."""
    source, out, plane, row, divisor = operands
    width, size = shape[2:]
    vector = ir.VectorType(source.type.pointee, size)
    share = builder.fdiv(memory.load(source, i, vector), splat(builder, divisor, vector))
    line = _woven(builder, [share] * width)
    for _, spot in _rows(builder, i, shape, plane, row):
        memory.store(line, out, spot)


@intrinsic(prefer_literal=True)
def fill_tiles(typingctx, source, at, out, to, plane, row, count, divisor, kd, kh, kw, lanes):
    """See ``kernels.window_stubs.fill_tiles``; ``count`` is above 0."""
    shape = _literals(kd, kh, kw, lanes)
    i8 = types.int64
    signature = types.void(source, i8, out, i8, i8, i8, i8, source.dtype, kd, kh, kw, lanes)

    def codegen(context, builder, sig, values):
        data, result = _pointers(context, builder, sig.args, values)
        arguments = [builder.gep(data, [values[1]]), builder.gep(result, [values[3]]), values[4],
                     values[5], values[7]]
        _call_rows(builder, "fill", shape, arguments, values[6], _fill)
        return context.get_dummy_value()

    return signature, codegen
