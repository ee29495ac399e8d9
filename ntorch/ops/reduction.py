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
from ..runtime import build, dtypes, recording
from ..runtime.device import META
from ..runtime.launch import packer, run_table
from ..runtime.storage import Storage
from . import reduction_loops as loops
from .base import Size, checked_nbytes, contiguous_strides, make, product, wrap_dims
from .dtype_rules import same
from .registry import Entry, ops, register

BLOCK = 4096        # columns that one partial result covers
LANES = 512         # rows that *across* carries at a time: two kilobytes of each line
GRAIN = 131072      # elements in one task: five microseconds of a sum
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

    is_reduction = True

    def __init__(self, signature, cls, rule, **flags):
        super().__init__(signature, self._execute, quiet=True, **flags)
        self.rule, self.plans = rule, {}
        self.identity = cls.identity
        self.functions = []
        for name, default in (("map", _identity_map), ("combine", None), ("finish", _keep)):
            function = cls.__dict__.get(name, default)
            function.__scalar__ = True
            self.functions.append(function)
        self.no_identity = getattr(cls, "no_identity", False)   # reducing nothing is an error
        self.truth = getattr(cls, "truth", False)               # only asks what is zero
        self.doc = (cls.__doc__ or "").strip()

    def _execute(self, tensor, dim, keepdim, wanted=None):
        if wanted is not None and wanted is not tensor.dtype:
            tensor = ops.to_dtype(tensor, wanted)
        if self.truth and tensor.dtype.is_complex:
            tensor = ops.ne(tensor, 0)
        if recording.active and (recorder := recording.current()) is not None:
            if tensor._storage.device is not META:
                return self._record(recorder, tensor, dim, keepdim, wanted)
        key = (tensor._shape, tensor._strides, tensor.dtype, dim, keepdim, wanted,
               tensor._storage.device)
        plan = self.plans.get(key)
        if plan is None:
            if len(self.plans) >= MAX_PLANS:
                self.plans.clear()
            plan = self.plans[key] = self._plan(tensor, dim, keepdim, wanted)
        return plan.run(tensor)

    def _record(self, recorder, tensor, dim, keepdim, wanted):
        """Hand the call to a recorder."""
        dims, compute, result = self._decide(tensor, dim, wanted)
        shape = _reduced(tensor._shape, dims, keepdim)
        if not product(tensor._shape[d] for d in dims):
            return ops.full(shape, _of_nothing(self, compute), dtype=result)
        return recorder.reduce(self, tensor, dims, shape, compute, result)

    def _plan(self, tensor, dims, keepdim, wanted):
        dims, compute, result = self._decide(tensor, dims, wanted)
        return Plan(self, tensor, dims, keepdim, compute, result)

    def _decide(self, tensor, dims, wanted):
        """(reduced dimensions, compute type, result type), once it is sure that they are right."""
        chosen, dims = dims, wrap_dims(dims, len(tensor._shape), self.name)
        compute, result = self.rule(tensor.dtype)
        if self.no_identity and any(tensor._shape[d] == 0 for d in dims):
            if chosen:
                raise IndexError(f"{self.name}(): Expected reduction dim {dims[0]} to have non-"
                                 "zero size: nothing has no extreme.")
            raise RuntimeError(f"{self.name}(): Expected reduction dim to be specified for "
                               "input.numel() == 0. Specify the reduction dim with the 'dim' "
                               "argument.")
        return dims, compute, wanted or result


def _reduced(shape, dims, keepdim):
    """The shape that is left."""
    return Size(1 if d in dims else shape[d] for d in range(len(shape))
                if keepdim or d not in dims)


def _of_nothing(entry, compute):
    """What the reduction of no elements gives."""
    return math.nan if _divides(entry) else identity_of(entry.identity, compute.compute)


class Plan:
    """A decided reduction: the result's form and one or two launches.

    ``steps`` are ``(kernel, slots after the two pointers, n, grain)``; ``first`` and ``second`` are
    the same with the slots packed. With a second one the first writes partial results, which the
    second combines.
    """

    def __init__(self, entry, tensor, dims, keepdim, compute, result):
        shape = tensor._shape
        kept = [d for d in range(len(shape)) if d not in dims]
        self.shape = _reduced(shape, dims, keepdim)
        self.result, self.device = result, tensor._storage.device
        self.strides = contiguous_strides(self.shape)
        self.nbytes = checked_nbytes(self.shape, result)
        self.first = self.second = None
        self.steps = []
        self.partial = 0
        self.constant = None
        count, n_rows = product(shape[d] for d in dims), product(self.shape)
        if self.device is META or not n_rows:
            return
        if not count:
            self.constant = _of_nothing(entry, compute)
            return
        rows = _merge(shape, tensor._strides, kept, True)
        columns = _merge(shape, tensor._strides, dims, False)
        self._choose(entry, tensor.dtype.code, compute, rows, columns, count, n_rows)
        packed = [(kernel, _packed(slots), n, grain) for kernel, slots, n, grain in self.steps]
        self.first, self.second = packed if len(packed) > 1 else (packed[0], None)

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
        even = len(rows) == len(columns) == 1 and count <= BLOCK
        templates = ((loops.ACROSS, loops.ACROSS_PARTIAL) if across else
                     (loops.ALONG_SHORT if even else loops.ALONG, loops.ALONG_PARTIAL))
        kernel = _kernel(entry, templates[not whole], (source, target, compute.compute, unit))
        lines, work = (tiles, LANES) if across else (n_rows, 1)
        slots = [*geometry, count, blocks, tiles]
        if whole:
            self.steps = [(kernel, slots, lines, max(1, GRAIN // (work * count)))]
            return
        self.steps = [(kernel, slots, lines * blocks, max(1, GRAIN // (work * BLOCK)))]
        self.partial = n_rows * blocks * dtypes.BY_CODE[compute.compute].itemsize
        step, row = (n_rows, 1) if across else (1, blocks)
        combine = _kernel(entry, loops.COMBINE,
                          (compute.compute, self.result.code, compute.compute, False))
        self.steps.append((combine, [blocks, step, row, count], n_rows, max(1, GRAIN // blocks)))

    def run(self, tensor):
        """Reduce ``tensor``, which has the form the plan was made for."""
        storage = Storage(self.nbytes, self.device)
        out = make(storage, self.result, self.shape, self.strides, 0)
        if self.first is None:
            return out if self.constant is None else ops.fill_(out, self.constant)
        kernel, rest, n, grain = self.first
        if self.second is None:
            run_table(kernel, _pointers(tensor._address, storage.address) + rest, n, grain)
            return out
        partial = Storage(self.partial)
        run_table(kernel, _pointers(tensor._address, partial.address) + rest, n, grain)
        kernel, rest, n, grain = self.second
        run_table(kernel, _pointers(partial.address, storage.address) + rest, n, grain)
        return out


_pointers = packer(2)


def _packed(slots):
    return packer(len(slots))(*slots)


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
    if template is loops.ALONG_PARTIAL or template is loops.ACROSS_PARTIAL:
        finish = _keep
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
    exec(compile(text, "<ntorch>", "exec"), scope)
    return build.kernel(scope["body"], ("table",), T=compute, reassoc=True, name=entry.name)
