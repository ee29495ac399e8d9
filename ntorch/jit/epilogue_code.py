"""Kernels that take the sums of a contraction away through a chain of scalar expressions.

``source`` writes a store kernel as ``kernels/gemm.py`` calls it: for some rows of a tile at a time
it gathers the operands, evaluates all expressions over the tile's whole width, and stores what is
wanted. The width is a constant and gathered values lie on the stack, so the loop vectorises
without checks for overlap and without a remainder, however short the runs of a picture's rows are.

Slots of its own: a pointer for each operand, then for each result, the numbers, the sizes of batch,
row and column dimensions (outermost first), for ``grid`` its row width, rows of a plane and three
shifts, and for each operand and result its strides along those dimensions.
"""
import typing

from ..kernels import gemm, gemm_runs, gemm_stubs, half, stubs
from ..ops import loops
from ..runtime import build

POINTERS = gemm.STORE_SLOTS
ROWS = 16                    # of a tile that are done at a time


class Chain(typing.NamedTuple):
    """What decides a kernel.

    ``first`` says what becomes of a sum before the first expression: ``plain``, ``affine`` (number
    0 times the sum, plus number 1 times operand 0 if there is ``added``) or ``shift`` (plus operand
    0 if there is ``added``). ``operands`` are ``(type, layout)``: layout "R" is one element a row,
    "C" and "A" one a column, side by side or not. ``steps`` are ``(scalar, arguments, type of what
    it gives, types of the values, compute type)``; an argument is ``("v", value)``,
    ``("o", operand)`` or ``("n", number)``. Value 0 is of type ``code``. ``results`` are ``(value,
    layout)``, ``numbers`` ``(kind, type)``. ``dims`` counts dimensions of batch, row and column;
    ``grid`` is whether columns are positions of a grid with gaps.
    """
    T: str
    width: int
    first: str
    added: bool
    code: str
    operands: tuple
    steps: tuple
    results: tuple
    numbers: tuple
    dims: tuple
    grid: bool


def value_types(chain):
    """The type of each value."""
    return [chain.code, *(code for step in chain.steps for code in step[3])]


class _Slots:
    """Where the kernel finds what."""

    def __init__(self, chain):
        self.operands = len(chain.operands)
        self.every = self.operands + len(chain.results)
        self.numbers = POINTERS + self.every
        self.sizes = self.numbers + len(chain.numbers)
        self.shape = self.sizes + sum(chain.dims)
        self.strides = self.shape + (5 if chain.grid else 0)
        self.dims = chain.dims

    def size(self, group, d):
        """The slot of the size of dimension ``d`` of batch (0), rows (1) or columns (2)."""
        return f"args[{self.sizes + sum(self.dims[:group]) + d}]"

    def stride(self, k, group, d):
        """The slot of operand or result ``k``'s stride along a dimension."""
        at = self.strides + k * sum(self.dims) + sum(self.dims[:group]) + d
        return f"args[{at}]"


def source(chain):
    """Python source of ``body(args, begin, end)``."""
    slots = _Slots(chain)
    lines = ["batch, row, column, columns = args[3], args[4], args[5], args[6]"]
    lines += _numbers(chain, slots) + _buffers(chain) + _corner(slots)
    runs = chain.grid or chain.dims[2] > 1
    lines += _runs(chain, slots) if runs else [
        "m = columns", *(f"f{k} = column * {slots.stride(k, 2, 0)}" for k in _columned(chain))]
    lines += ["i = begin", "while i < end:", *_indented(_block(chain, slots, runs))]
    return "def body(args, begin, end):\n" + "\n".join(_indented(lines)) + "\n"


def _indented(lines):
    return ["    " + line for line in lines]


def _columned(chain):
    """Operands and results that have a value for each column."""
    first = len(chain.operands)
    return [k for k, (_, layout) in enumerate(chain.operands) if layout != "R"] + [
        first + k for k in range(len(chain.results))]


def _kind(chain, k):
    """The array kind of an operand or result."""
    if k < len(chain.operands):
        code, layout = chain.operands[k]
    else:
        value, layout = chain.results[k - len(chain.operands)]
        code = value_types(chain)[value]
    return f"'{code}:1{'A' if layout == 'A' else 'C'}'"


def _numbers(chain, slots):
    """Lines that read the numbers; ``chain.numbers`` are ``(kind, type)``."""
    return [f"s{k} = {code}_(bits_i64_to_f64(args[{slots.numbers + k}]))" if kind == "T" else
            f"s{k} = {code}_(args[{slots.numbers + k}])"
            for k, (kind, code) in enumerate(chain.numbers)]


def _buffers(chain):
    """Memory on the stack for ``ROWS`` lines of each columned operand and each result. It is
    cleared, for the positions between the runs of a grid are computed too."""
    lines, first = [], len(chain.operands)
    for k in range(first + len(chain.results)):
        code = _kind(chain, k)[1:].split(":")[0]
        zero = f"{'u2' if code in ('h2', 'g2') else code}_(0)"
        size = ROWS * (1 if k < first and chain.operands[k][1] == "R" else chain.width)
        lines.append(f"b{k} = stack_array({zero}, {size})")
        if k < first:
            lines += [f"for j in range({size}):", f"    b{k}[j] = {zero}"]
    return lines


def _coordinates(slots, group, index):
    """Lines that take ``index`` apart into ``c0 ...``, outermost first."""
    count = slots.dims[group]
    if count == 1:
        return [f"c0 = {index}"]
    lines = [f"rest = {index}"]
    for d in range(count - 1, 0, -1):
        size = slots.size(group, d)
        lines += [f"outer = rest // {size}", f"c{d} = rest - outer * {size}", "rest = outer"]
    return [*lines, "c0 = rest"]


def _offset(slots, k, group):
    return " + ".join(f"c{d} * {slots.stride(k, group, d)}" for d in range(slots.dims[group]))


def _corner(slots):
    """Offsets of the matrix in all operands."""
    every = range(slots.every)
    if not slots.dims[0]:
        return [f"o{k} = 0" for k in every]
    return _coordinates(slots, 0, "batch") + [f"o{k} = {_offset(slots, k, 0)}" for k in every]


def _runs(chain, slots):
    """Lines that find the runs of columns that lie side by side in all operands: where a run begins
    in the tile, how long it is, and its offset in each operand."""
    columned = _columned(chain)
    lines = [f"{name} = stack_array(0, {chain.width})" for name in (
        "starts", "sizes", *(f"f{k}" for k in columned))]
    if chain.grid:
        find = _grid_run(slots)
    else:
        size = slots.size(2, chain.dims[2] - 1)
        find = [*_coordinates(slots, 2, "column + j"),
                f"m = min(columns - j, {size} - c{chain.dims[2] - 1})", "first = 0", "last = m"]
    found = ["starts[count] = j + first", "sizes[count] = last - first",
             *(f"f{k}[count] = {_offset(slots, k, 2)}" for k in columned), "count += 1"]
    return [*lines, "sizes[0] = 0", *(f"f{k}[0] = 0" for k in columned), "count = 0", "j = 0",
            "while j < columns:",
            *_indented([*find, "if last > first:", *_indented(found), "j += m"]),
            "ahead = max(0, count - 1)"]


def _grid_run(slots):
    """A run of virtual positions, and the part of it that is in the picture (``kernels/conv.py``:
    ``store_grid`` has shifts of 0, ``store_phase`` at stride 1 those of the padding)."""
    wide, tall, shift = f"args[{slots.shape}]", f"args[{slots.shape + 1}]", slots.shape + 2
    depth, height, width = (slots.size(2, d) for d in range(3))
    return [f"line = (column + j) // {wide}", f"x = column + j - line * {wide}",
            f"m = min(columns - j, {wide} - x)", f"plane = line // {tall}",
            f"c0 = plane + args[{shift}]", f"c1 = line - plane * {tall} + args[{shift + 1}]",
            f"first = min(max(0, -args[{shift + 2}] - x), m)",
            f"last = min(m, {width} - args[{shift + 2}] - x)",
            f"c2 = x + args[{shift + 2}] + first",
            f"if c0 < 0 or c0 >= {depth} or c1 < 0 or c1 >= {height}:", "    last = first"]


def _block(chain, slots, runs):
    """Lines for some rows of the tile: gather all, compute all, store all. A vector that is loaded
    right after narrower stores to its place would wait for them to reach the cache."""
    gather, store = [], []
    for k, (_, layout) in enumerate(chain.operands):
        if layout == "R":
            gather.append(f"b{k}[q] = table_vector(args, {POINTERS + k}, r{k}, 1, 1, "
                          f"{_kind(chain, k)})[0]")
        else:
            gather += _move(chain, slots, k, runs, True)
    for k in range(slots.operands, slots.every):
        store += _move(chain, slots, k, runs, False)
    return [f"rows = min({ROWS}, end - i)",
            *_each_row(slots, range(slots.operands), gather),
            "for q in range(rows):", *_indented(_compute(chain)),
            *_each_row(slots, range(slots.operands, slots.every), store),
            *_fetch(chain, slots, runs), f"i += {ROWS}"]


def _fetch(chain, slots, runs):
    """Lines that ask for what the next panel of these rows will read and write. The product comes
    before it, so there is time; hardware would not know ahead, for the rows of a tile are no
    stream."""
    lines, used = [], [k for k in _columned(chain) if "A" not in _kind(chain, k)]
    for k in used:
        kind = _kind(chain, k)
        item = 2 if kind[1] in "hg" else int(kind[2])
        after = f"f{k}[ahead] + sizes[ahead]" if runs else f"f{k} + m"
        lines += [f"far{k} = table_vector(args, {POINTERS + k}, r{k} + {after}, 1, 1, {kind})",
                  f"for j in range(0, {chain.width}, {64 // item}):", f"    fetch_line(far{k}, j)"]
    return _each_row(slots, used, lines)


def _each_row(slots, used, lines):
    if not lines:
        return []
    return ["for q in range(rows):", *_indented([
        *_coordinates(slots, 1, "row + i + q"),
        *(f"r{k} = o{k} + {_offset(slots, k, 1)}" for k in used), *lines])]


def _move(chain, slots, k, runs, gather):
    """Lines that move row ``q`` between the stack and memory."""
    step, kind = slots.stride(k, 2, slots.dims[2] - 1), _kind(chain, k)
    offset, at = (f"f{k}[run]", f"q * {chain.width} + starts[run]") if runs else (
        f"f{k}", f"q * {chain.width}")
    ends = [f"far{k}", "0", f"b{k}", "at"] if gather else [f"b{k}", "at", f"far{k}", "0"]
    lines = [f"far{k} = table_vector(args, {POINTERS + k}, r{k} + {offset}, m, {step}, {kind})",
             f"at = {at}"]
    if "A" in kind:
        one = f"b{k}[at + j] = far{k}[j]" if gather else f"far{k}[j] = b{k}[at + j]"
        lines += ["for j in range(m):", "    " + one]
    else:
        lines += [f"if m == {chain.width}:", f"    move_line({', '.join(ends)}, {chain.width})",
                  "else:", f"    move_run({', '.join(ends)}, m)"]
    return ["for run in range(count):", "    m = sizes[run]", *_indented(lines)] if runs else lines


def _compute(chain):
    """Row ``q``: the sums, all expressions, the results."""
    T, types, width = chain.T, value_types(chain), chain.width
    lines = [f"sums = table_vector(args, 0, (i + q) * {width}, {width}, 1, '{T}:1C')"]
    for k in range(len(chain.operands) + len(chain.results)):
        row = k < len(chain.operands) and chain.operands[k][1] == "R"
        lines.append(f"e{k} = b{k}[q]" if row else
                     f"e{k} = b{k}[q * {width}:(q + 1) * {width}]")
    return [*lines, f"for j in range({width}):", *_indented(_expression(chain, T, types))]


def _expression(chain, T, types):
    """The innermost loop's body."""
    text, added = "sums[j]", chain.added and _argument(chain, types, T, ("o", 0))
    if chain.first == "affine":
        text = f"s0 * {text}" + (f" + s1 * {added}" if added else "")
    elif added:
        text = f"{text} + {added}"
    lines, value = [f"v0 = {loops._store(chain.code, T, text)}"], 1
    for number, (_, arguments, gives, codes, compute) in enumerate(chain.steps):
        given = [_argument(chain, types, compute, argument) for argument in arguments]
        call = f"scalar{number}({', '.join(given)})"
        if len(codes) > 1:
            lines.append(f"t = {call}")
        for k, code in enumerate(codes):
            lines.append(f"v{value} = "
                         + loops._store(code, gives, f"t[{k}]" if len(codes) > 1 else call))
            value += 1
    first = len(chain.operands)
    return lines + [f"e{first + q}[j] = v{value}" for q, (value, _) in enumerate(chain.results)]


def _argument(chain, types, compute, argument):
    """An argument of an expression that computes in ``compute``."""
    where, k = argument
    if where == "n":
        return f"s{k}"
    if where == "v":
        code, text = types[k], f"v{k}"
    else:
        code, layout = chain.operands[k]
        text = f"e{k}" if layout == "R" else f"e{k}[j]"
    return loops._load(code, compute, text).replace("T(", compute + "_(")


_kernels = {}


def kernel(chain):
    """The compiled store kernel of a ``Chain``; memoised."""
    found = _kernels.get(chain)
    if found is None:
        scope = {"__name__": "ntorch.generated", "T": stubs.T, "table_vector": stubs.table_vector,
                 "bits_i64_to_f64": stubs.bits_i64_to_f64, "stack_array": gemm_stubs.stack_array,
                 "fetch_line": gemm_stubs.fetch_line, "move_line": gemm_stubs.move_line,
                 "move_run": gemm_runs.move_run,
                 "half_to_float": half.f16_to_f32, "bfloat16_to_float": half.bf16_to_f32,
                 "float_to_half": half.f32_to_f16, "float_to_bfloat16": half.f32_to_bf16}
        for code in ("b1", "u1", "u2", "i1", "i2", "i4", "i8", "f4", "f8"):
            scope[code + "_"] = loops._cast(code)
        for number, step in enumerate(chain.steps):
            scope[f"scalar{number}"] = stubs.specialised(step[0], step[4])
        exec(source(chain), scope)
        found = build.kernel(scope["body"], ("table",), T=chain.T, name="contraction_epilogue")
        _kernels[chain] = found
    return found
