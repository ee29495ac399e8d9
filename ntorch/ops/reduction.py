"""The reduction family: map, combine, finish, identity, over any dimensions.

An entry gives scalar functions; the loop nest around them is written here. The input is seen as
rows (kept dimensions) by columns (reduced dimensions). Two kernels serve every layout: *along*
reduces rows whose columns are adjacent, in vector lanes; *across* reduces columns that are far apart,
keeping one accumulator per row and running over adjacent rows. Long reductions are cut into blocks
of fixed size, whose partial results are combined in order: the same bits for any number of threads,
and an error that grows with the number of blocks, not of elements.
"""
import math
import re

from ..kernels import half, stubs
from ..runtime import build, dtypes, launch
from ..runtime.device import META
from .base import Size, empty, numel, product, wrap_dims
from .dtype_rules import same
from .registry import Entry, ops, register

BLOCK = 4096        # columns that one partial result covers
LANES = 64          # rows that *across* carries at a time
GRAIN = 32768       # elements in one task


def reduction(signature, dtype=same, **flags):
    """Register a class of scalar functions as a reduction.

    The class has ``identity`` and ``combine(a, b)``, and optionally ``map(x)`` (applied to each
    element first) and ``finish(total, count)``. The signature holds ``dim`` and ``keepdim``.
    """
    def attach(cls):
        return register(ReductionEntry(signature, cls, dtype, **flags))
    return attach


def _identity_map(x):
    return x


def _keep(total, count):
    return total


class ReductionEntry(Entry):
    """An entry that reduces dimensions with scalar functions."""

    def __init__(self, signature, cls, rule, **flags):
        super().__init__(signature, self._execute, **flags)
        self.rule = rule
        self.identity = cls.identity
        self.functions = []
        for name, default in (("map", _identity_map), ("combine", None), ("finish", _keep)):
            function = cls.__dict__.get(name, default)
            function.__scalar__ = True
            self.functions.append(function)
        self.empty_error = getattr(cls, "empty_error", None)
        self.doc = (cls.__doc__ or "").strip()

    def _execute(self, *arguments):
        values = dict(zip(self.names, arguments, strict=True))
        tensor, dims = values["self"], values.get("dim")
        keepdim, wanted = values.get("keepdim", False), values.get("dtype")
        dims = wrap_dims(dims, len(tensor._shape), self.name)
        if wanted is not None and wanted is not tensor.dtype:
            tensor = ops.to_dtype(tensor, wanted)
        compute, result = self.rule(tensor.dtype)
        if wanted is not None:
            result = wanted
        if self.empty_error and numel(tensor) == 0 and any(tensor._shape[d] == 0 for d in dims):
            raise self.empty_error[0](f"{self.name}(): {self.empty_error[1]}")
        return reduce(tensor, dims, keepdim, compute, result, self)


def reduce(tensor, dims, keepdim, compute, result, entry):
    """Reduce ``dims`` of ``tensor`` by the entry's functions, in ``compute``, into ``result``."""
    shape = tensor._shape
    kept = [d for d in range(len(shape)) if d not in dims]
    out_shape = Size(1 if d in dims else shape[d] for d in range(len(shape))
                     if keepdim or d not in dims)
    out = empty(out_shape, result, tensor._storage.device)
    if tensor._storage.device is META or not numel(out):
        return out
    rows = _merge(shape, tensor._strides, kept, True)
    columns = _merge(shape, tensor._strides, dims, False)
    count = product(shape[d] for d in dims)
    if count == 0:
        return _of_nothing(out, entry, compute)
    _launch(tensor, out, rows, columns, count, entry, compute)
    return out


def identity_of(identity, code):
    """The identity as a number of the compute type: -inf is the lowest integer in integer types."""
    if identity in (math.inf, -math.inf) and code not in ("f4", "f8"):
        if code in ("b1", "u1"):
            return 0 if identity < 0 else {"b1": 1, "u1": 255}[code]
        bits = 8 * int(code[1:]) - 1
        return -(1 << bits) if identity < 0 else (1 << bits) - 1
    return identity


def _of_nothing(out, entry, compute):
    value = math.nan if _divides(entry) else identity_of(entry.identity, compute.compute)
    return ops.fill_(out, value)


def _divides(entry):
    """Whether ``finish`` of nothing is NaN (a mean)."""
    try:
        entry.functions[2](1.0, 0)
    except ZeroDivisionError:
        return True
    return False


def _merge(shape, strides, dims, ordered):
    """``[(size, stride)]`` of ``dims``, outermost first, adjacent ones merged; reduced dimensions
    may be taken in any order, so they are sorted by stride."""
    found = [(shape[d], strides[d]) for d in dims if shape[d] != 1]
    if not ordered:
        found.sort(key=lambda pair: -abs(pair[1]))
    merged = []
    for size, stride in found:
        if merged and merged[-1][1] == size * stride:
            merged[-1] = (merged[-1][0] * size, stride)
        else:
            merged.append((size, stride))
    return merged or [(1, 0)]


def _launch(tensor, out, rows, columns, count, entry, compute):
    n_rows = numel(out)
    geometry = []
    for dims in (rows, columns):
        geometry += [len(dims), *(n for n, _ in reversed(dims)), *(s for _, s in reversed(dims))]
    across = (columns[-1][1] != 1 and rows[-1][1] == 1 and rows[-1][0] >= 8
              and out.dtype.code == compute.compute)
    unit = across or columns[-1][1] == 1
    key = (tensor.dtype.code, out.dtype.code, compute.compute, unit)
    if across:
        kernel = _kernel(entry, _ACROSS, key)
        slots = [tensor._address, out._address, *geometry]
        tile = (n_rows + LANES - 1) // LANES if len(rows) == 1 else None
        if tile is None:
            inner = rows[-1][0]
            tile = (n_rows // inner) * ((inner + LANES - 1) // LANES)
        blocks = (count + BLOCK - 1) // BLOCK
        if blocks > 1 and tile < 64:
            return _across_blocks(entry, key, tensor, out, geometry, tile, blocks, n_rows, compute)
        launch.run(kernel, [*slots, out._address, 1, 0], tile, max(1, GRAIN // (LANES * count)))
        return None
    blocks = (count + BLOCK - 1) // BLOCK
    if blocks == 1 or n_rows >= 64:
        kernel = _kernel(entry, _ALONG, key)
        launch.run(kernel, [tensor._address, out._address, *geometry, count],
                   n_rows, max(1, GRAIN // count))
        return None
    return _along_blocks(entry, key, tensor, out, geometry, count, blocks, n_rows, compute)


def _partial_dtype(compute):
    return dtypes.BY_CODE[compute.compute]


def _along_blocks(entry, key, tensor, out, geometry, count, blocks, n_rows, compute):
    partial = empty((n_rows, blocks), _partial_dtype(compute))
    kernel = _kernel(entry, _ALONG_PARTIAL, (key[0], partial.dtype.code, *key[2:]))
    launch.run(kernel, [tensor._address, partial._address, *geometry, count, blocks],
               n_rows * blocks, max(1, GRAIN // BLOCK))
    _combine(entry, partial, out, n_rows, blocks, count)


def _across_blocks(entry, key, tensor, out, geometry, tiles, blocks, n_rows, compute):
    partial = empty((blocks, n_rows), _partial_dtype(compute))
    kernel = _kernel(entry, _ACROSS_PARTIAL, (key[0], partial.dtype.code, *key[2:]))
    launch.run(kernel, [tensor._address, partial._address, *geometry, partial._address, blocks, tiles],
               tiles * blocks, 1)
    _combine(entry, partial, out, n_rows, blocks, product(geometry[1 + 2 * geometry[0] + 1:][
        :geometry[1 + 2 * geometry[0]]]), transposed=True)


def _combine(entry, partial, out, n_rows, blocks, count, transposed=False):
    step, row = (n_rows, 1) if transposed else (1, blocks)
    key = (partial.dtype.code, out.dtype.code, partial.dtype.code, False)
    kernel = _kernel(entry, _COMBINE, key)
    launch.run(kernel, [partial._address, out._address, blocks, step, row, count], n_rows,
               max(1, GRAIN // blocks))


_HEAD = """
def body(args, begin, end):
    kept = args[2]
    reduced = args[3 + 2 * kept]
    cols = 4 + 2 * kept
    tail = cols + 2 * reduced
    inner = args[cols]
    step = args[cols + reduced]
    zero = T(identity)
"""

_ROW_OFFSET = """
        offset = 0
        rest = {row}
        for d in range(kept):
            size = args[3 + d]
            quotient = rest // size
            offset += (rest - quotient * size) * args[3 + kept + d]
            rest = quotient
"""

_COLUMN_OFFSET = """
            start = offset
            rest = {outer}
            for d in range(1, reduced):
                size = args[cols + d]
                quotient = rest // size
                start += (rest - quotient * size) * args[cols + reduced + d]
                rest = quotient
"""

_ALONG = _HEAD + """
    count = args[tail]
    for row in range(begin, end):
""" + _ROW_OFFSET.format(row="row") + """
        total = zero
        for outer in range(count // inner):
""" + _COLUMN_OFFSET.format(outer="outer") + """
            done = 0
            while done < inner:
                m = min(inner - done, 4096)
                x = table_vector(args, 0, start + done * step, m, step, KIND)
                part = zero
                for i in range(m):
                    part = combine(part, mapped(LOAD))
                total = combine(total, part)
                done += m
        o = table_vector(args, 1, row, 1, 1, OUT)
        o[0] = <<finish(total, T(count))>>
"""

_ALONG_PARTIAL = _HEAD + """
    count = args[tail]
    blocks = args[tail + 1]
    for task in range(begin, end):
        row = task // blocks
        first = (task - row * blocks) * 4096
        last = min(first + 4096, count)
""" + _ROW_OFFSET.format(row="row") + """
        total = zero
        while first < last:
            outer = first // inner
            column = first - outer * inner
""" + _COLUMN_OFFSET.format(outer="outer") + """
            m = min(inner - column, last - first)
            x = table_vector(args, 0, start + column * step, m, step, KIND)
            part = zero
            for i in range(m):
                part = combine(part, mapped(LOAD))
            total = combine(total, part)
            first += m
        o = table_vector(args, 1, task, 1, 1, OUT)
        o[0] = <<total>>
"""

_COMBINE = """
def body(args, begin, end):
    blocks = args[2]
    for row in range(begin, end):
        x = table_vector(args, 0, row * args[4], blocks, args[3], KIND)
        total = T(identity)
        for i in range(blocks):
            total = combine(total, LOAD)
        o = table_vector(args, 1, row, 1, 1, OUT)
        o[0] = <<finish(total, T(args[5]))>>
"""

# The output row doubles as the accumulator when its type is the compute type; the partial form always
# has that. Otherwise a block of lanes on the stack would be needed: results narrower than the compute
# type go through the partial form and one combine.
_ACROSS_LOOP = """
        for i in range(m):
            o[i] = zero
        outers = 1
        for d in range(1, reduced):
            outers *= args[cols + d]
        for outer in range(lead // inner, (stop + inner - 1) // inner):
""" + _COLUMN_OFFSET.format(outer="outer") + """
            low = max(lead - outer * inner, 0)
            high = min(stop - outer * inner, inner)
            for k in range(low, high):
                x = table_vector(args, 0, start + k * step, m, 1, KIND)
                for i in range(m):
                    o[i] = combine(o[i], mapped(LOAD))
"""

_ACROSS = _HEAD + """
    lanes = args[3]
    tiles = (lanes + 63) // 64
    for task in range(begin, end):
        high_row = task // tiles
        low_row = (task - high_row * tiles) * 64
        m = min(lanes - low_row, 64)
        row = high_row * lanes + low_row
""" + _ROW_OFFSET.format(row="row") + """
        o = table_vector(args, 1, row, m, 1, OUT)
        lead = 0
        stop = 1
        for d in range(reduced):
            stop *= args[cols + d]
""" + _ACROSS_LOOP + """
        for i in range(m):
            o[i] = finish(o[i], T(stop))
"""

_ACROSS_PARTIAL = _HEAD + """
    lanes = args[3]
    blocks = args[tail + 1]
    tiles_all = args[tail + 2]
    tiles = (lanes + 63) // 64
    rows = 1
    for d in range(kept):
        rows *= args[3 + d]
    total = 1
    for d in range(reduced):
        total *= args[cols + d]
    for task in range(begin, end):
        block = task // tiles_all
        tile = task - block * tiles_all
        high_row = tile // tiles
        low_row = (tile - high_row * tiles) * 64
        m = min(lanes - low_row, 64)
        row = high_row * lanes + low_row
""" + _ROW_OFFSET.format(row="row") + """
        o = table_vector(args, 1, block * rows + row, m, 1, OUT)
        lead = block * 4096
        stop = min(lead + 4096, total)
""" + _ACROSS_LOOP

_kernels = {}


def _kernel(entry, template, key):
    memo = (entry.name, template, key)
    found = _kernels.get(memo)
    if found is None:
        found = _kernels[memo] = _build(entry, template, key)
    return found


def _build(entry, template, key):
    from .loops import _cast, _load, _store
    source_code, result_code, compute, unit = key
    mapped, combine, finish = entry.functions
    if template is _COMBINE or template is _ALONG_PARTIAL or template is _ACROSS_PARTIAL:
        finish = finish if template is _COMBINE else _keep
    kind = f"'{source_code}:1{'C' if unit else 'A'}'"
    text = template.replace("KIND", kind).replace("OUT", f"'{result_code}:1C'")
    text = text.replace("LOAD", _load(source_code, compute, "x[i]"))
    text = re.sub("<<(.*)>>", lambda found: _store(result_code, compute, found[1]), text)
    scope = {"T": stubs.T, "table_vector": stubs.table_vector, "mapped": mapped, "combine": combine,
             "finish": finish, "identity": identity_of(entry.identity, compute), "__name__": "ntorch.generated",
             "half_to_float": half.f16_to_f32, "bfloat16_to_float": half.bf16_to_f32,
             "float_to_half": half.f32_to_f16, "float_to_bfloat16": half.f32_to_bf16}
    for code in ("b1", "u1", "i1", "i2", "i4", "i8", "f4", "f8", "c8", "c16"):
        scope[code + "_"] = _cast(code)
    exec(text, scope)
    return build.kernel(scope["body"], ("table",), T=compute, reassoc=True, name=entry.name)
