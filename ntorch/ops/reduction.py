"""The reduction family: map, combine, finish, identity, over any dimensions.

An entry gives scalar functions; the loop nest around them is written here. The input is seen as
rows (kept dimensions) by columns (reduced dimensions). Two kernels serve every layout: *along*
reduces rows whose columns are adjacent, in vector lanes; *across* reduces columns that are far
apart, keeping one accumulator per row and running over adjacent rows. Long reductions are cut into
blocks of fixed size, whose partial results are combined in order: the same bits for any number of
threads, and an error that grows with the number of blocks, not of elements.
"""
import math
import re

from ..kernels import half, stubs
from ..runtime import build, dtypes, launch
from ..runtime.device import META
from ..runtime.storage import Storage
from .base import Size, empty, product, wrap_dims
from .dtype_rules import same
from .registry import Entry, ops, register

BLOCK = 4096        # columns that one partial result covers
LANES = 512         # rows that *across* carries at a time: two kilobytes of each line
GRAIN = 262144      # elements in one task: ten microseconds of a sum; long runs suit the prefetcher
MAX_PLANS = 4096    # plans kept per entry before the table is dropped


def reduction(signature, dtype=same, **flags):
    """Register a class of scalar functions as a reduction.

    The class has ``identity`` and ``combine(a, b)``, and optionally ``map(x)`` (applied to each
    element first) and ``finish(total, count)``. The signature is ``self, dim, keepdim`` and
    perhaps ``dtype``.
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
        self.rule, self.plans = rule, {}
        self.identity = cls.identity
        self.functions = []
        for name, default in (("map", _identity_map), ("combine", None), ("finish", _keep)):
            function = cls.__dict__.get(name, default)
            function.__scalar__ = True
            self.functions.append(function)
        self.no_identity = getattr(cls, "no_identity", False)   # reducing nothing is an error
        self.doc = (cls.__doc__ or "").strip()

    def _execute(self, *arguments):
        tensor, dim, keepdim = arguments[:3]
        wanted = arguments[3] if len(arguments) > 3 else None
        if wanted is not None and wanted is not tensor.dtype:
            tensor = ops.to_dtype(tensor, wanted)
        key = (tensor._shape, tensor._strides, tensor.dtype, dim, keepdim, wanted,
               tensor._storage.device)
        plan = self.plans.get(key)
        if plan is None:
            if len(self.plans) >= MAX_PLANS:
                self.plans.clear()
            plan = self.plans[key] = self._plan(tensor, *key[3:6])
        return plan.run(tensor)

    def _plan(self, tensor, dims, keepdim, wanted):
        chosen, dims = dims, wrap_dims(dims, len(tensor._shape), self.name)
        compute, result = self.rule(tensor.dtype)
        if self.no_identity and any(tensor._shape[d] == 0 for d in dims):
            if chosen:
                raise IndexError(f"{self.name}(): Expected reduction dim {dims[0]} to have non-"
                                 "zero size: nothing has no extreme.")
            raise RuntimeError(f"{self.name}(): Expected reduction dim to be specified for "
                               "input.numel() == 0. Specify the reduction dim with the 'dim' "
                               "argument.")
        return Plan(self, tensor, dims, keepdim, compute, wanted or result)


class Plan:
    """A decided reduction: the result's form and one or two launches.

    ``first`` and ``second`` are ``(kernel, slots after the two pointers, n, grain)``. With a second
    one the first writes partial results, which the second combines.
    """

    def __init__(self, entry, tensor, dims, keepdim, compute, result):
        shape = tensor._shape
        kept = [d for d in range(len(shape)) if d not in dims]
        self.shape = Size(1 if d in dims else shape[d] for d in range(len(shape))
                          if keepdim or d not in dims)
        self.result, self.device = result, tensor._storage.device
        self.first = self.second = None
        self.partial = 0
        self.constant = None
        count, n_rows = product(shape[d] for d in dims), product(self.shape)
        if self.device is META or not n_rows:
            return
        if not count:
            self.constant = (math.nan if _divides(entry)
                             else identity_of(entry.identity, compute.compute))
            return
        rows = _merge(shape, tensor._strides, kept, True)
        columns = _merge(shape, tensor._strides, dims, False)
        self._choose(entry, tensor.dtype.code, compute, rows, columns, count, n_rows)

    def _choose(self, entry, source, compute, rows, columns, count, n_rows):
        """Along or across, in one launch or in blocks."""
        across = columns[-1][1] != 1 and rows[-1][1] == 1 and rows[-1][0] >= 8
        unit = across or columns[-1][1] == 1
        inner = rows[-1][0]
        tiles = n_rows // inner * -(-inner // LANES)
        blocks = -(-count // BLOCK)
        whole = blocks == 1 or (tiles if across else n_rows) >= 64
        if across and whole and self.result.code != compute.compute:
            across, unit = False, columns[-1][1] == 1
            whole = blocks == 1 or n_rows >= 64
        geometry = []
        for dims in (rows, columns):
            geometry += [len(dims), *(n for n, _ in reversed(dims)),
                         *(s for _, s in reversed(dims))]
        target = self.result.code if whole else compute.compute
        templates = (_ACROSS, _ACROSS_PARTIAL) if across else (_ALONG, _ALONG_PARTIAL)
        kernel = _kernel(entry, templates[not whole], (source, target, compute.compute, unit))
        lines, work = (tiles, LANES) if across else (n_rows, 1)
        slots = [*geometry, count, blocks, tiles]
        if whole:
            self.first = (kernel, slots, lines, max(1, GRAIN // (work * count)))
            return
        self.first = (kernel, slots, lines * blocks, max(1, GRAIN // (work * BLOCK)))
        self.partial = n_rows * blocks * dtypes.BY_CODE[compute.compute].itemsize
        step, row = (n_rows, 1) if across else (1, blocks)
        combine = _kernel(entry, _COMBINE,
                          (compute.compute, self.result.code, compute.compute, False))
        self.second = (combine, [blocks, step, row, count], n_rows, max(1, GRAIN // blocks))

    def run(self, tensor):
        """Reduce ``tensor``, which has the form the plan was made for."""
        out = empty(self.shape, self.result, self.device)
        if self.first is None:
            return out if self.constant is None else ops.fill_(out, self.constant)
        kernel, slots, n, grain = self.first
        if self.second is None:
            launch.run(kernel, [tensor._address, out._address, *slots], n, grain)
            return out
        partial = Storage(self.partial)
        launch.run(kernel, [tensor._address, partial.address, *slots], n, grain)
        kernel, slots, n, grain = self.second
        launch.run(kernel, [partial.address, out._address, *slots], n, grain)
        return out


def identity_of(identity, code):
    """The identity as a number of the compute type: -inf is the lowest integer in integer types."""
    if identity in (math.inf, -math.inf) and code not in ("f4", "f8"):
        if code in ("b1", "u1"):
            return 0 if identity < 0 else {"b1": 1, "u1": 255}[code]
        bits = 8 * int(code[1:]) - 1
        return -(1 << bits) if identity < 0 else (1 << bits) - 1
    return identity


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
        offset = {row} * args[4]
        if kept > 1:
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
    outers = count // inner
    for row in range(begin, end):
""" + _ROW_OFFSET.format(row="row") + """
        total = zero
        for outer in range(outers):
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

# The output row doubles as the accumulator when its type is the compute type; the partial form
# always has that. Otherwise a block of lanes on the stack would be needed: results narrower than
# the compute type go through the partial form and one combine.
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
            k = low
            while k + 4 <= high:
                at = start + k * step
                w = table_vector(args, 0, at, m, 1, KIND)
                x = table_vector(args, 0, at + step, m, 1, KIND)
                y = table_vector(args, 0, at + 2 * step, m, 1, KIND)
                z = table_vector(args, 0, at + 3 * step, m, 1, KIND)
                for i in range(m):
                    o[i] = combine(o[i], combine(combine(mapped(LOAD_w), mapped(LOAD)),
                                                 combine(mapped(LOAD_y), mapped(LOAD_z))))
                k += 4
            while k < high:
                x = table_vector(args, 0, start + k * step, m, 1, KIND)
                for i in range(m):
                    o[i] = combine(o[i], mapped(LOAD))
                k += 1
"""

_ACROSS = _HEAD + """
    lanes = args[3]
    tiles = (lanes + 511) // 512
    for task in range(begin, end):
        high_row = task // tiles
        low_row = (task - high_row * tiles) * 512
        m = min(lanes - low_row, 512)
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
    tiles = (lanes + 511) // 512
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
        low_row = (tile - high_row * tiles) * 512
        m = min(lanes - low_row, 512)
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
    for name in "wyz":
        text = text.replace("LOAD_" + name, _load(source_code, compute, name + "[i]"))
    text = text.replace("LOAD", _load(source_code, compute, "x[i]"))
    text = re.sub("<<(.*)>>", lambda found: _store(result_code, compute, found[1]), text)
    scope = {"T": stubs.T, "table_vector": stubs.table_vector, "mapped": mapped, "combine": combine,
             "finish": finish, "identity": identity_of(entry.identity, compute),
             "__name__": "ntorch.generated",
             "half_to_float": half.f16_to_f32, "bfloat16_to_float": half.bf16_to_f32,
             "float_to_half": half.f32_to_f16, "float_to_bfloat16": half.f32_to_bf16}
    for code in ("b1", "u1", "i1", "i2", "i4", "i8", "f4", "f8", "c8", "c16"):
        scope[code + "_"] = _cast(code)
    exec(text, scope)
    return build.kernel(scope["body"], ("table",), T=compute, reassoc=True, name=entry.name)
