"""Sources of elementwise kernels: one loop nest around one scalar expression.

A kernel reads a table: pointers of operands (inputs, then outputs), scalars, and for the strided
form the geometry: count of outer dimensions, inner size, outer sizes (inner first), then for each
operand its inner stride and outer strides. Operand layouts: ``C`` contiguous along the inner
dimension, ``B`` broadcast (one element, loaded before the loop), ``A`` strided.
"""
import functools

from ..kernels import half, stubs
from ..runtime import build

_LOAD = {"h2": "half_to_float({})", "g2": "bfloat16_to_float({})"}
_STORE = {"h2": "float_to_half({})", "g2": "float_to_bfloat16({})"}


def _load(code, compute, text):
    """Source that reads ``text`` of type ``code`` into the compute type."""
    if code in _LOAD:
        text = _LOAD[code].format(text)
        return text if compute == "f4" else f"T({text})"
    if code in ("c8", "c16") and compute not in ("c8", "c16"):
        return f"T({text}.real)"
    return text if code == compute else f"T({text})"


def _store(code, compute, text):
    """Source that converts ``text`` from the compute type to ``code``."""
    if compute in ("c8", "c16") and code not in ("c8", "c16"):
        text = f"({text}).real"
    if code in _STORE:
        return _STORE[code].format(f"f4_({text})")
    return f"{code}_({text})"


def _scalar_lines(scalars, first_slot):
    """Lines that read the scalar slots; ``scalars`` holds "T" (real), "i" (integer), "z"
    (complex)."""
    lines, slot = [], first_slot
    for index, kind in enumerate(scalars):
        if kind == "z":
            text = f"T(complex(bits_i64_to_f64(args[{slot}]), bits_i64_to_f64(args[{slot + 1}])))"
        elif kind == "T":
            text = f"T(bits_i64_to_f64(args[{slot}]))"
        else:
            text = f"T(args[{slot}])"
        lines.append(f"s{index} = {text}")
        slot += 2 if kind == "z" else 1
    return lines, slot


def _vectors(codes, layouts, offset, count, stride, alias):
    """Lines that form the operand vectors, and for each operand the expression of element ``i``."""
    lines, elements = [], []
    for k, (code, layout) in enumerate(zip(codes, layouts, strict=True)):
        if k in alias:
            elements.append(f"v{alias[k]}[i]")
            continue
        kind = f"{code}:1{'A' if layout == 'A' else 'C'}"
        size = 1 if layout == "B" else count
        lines.append(f"v{k} = table_vector(args, {k}, {offset(k)}, {size}, {stride(k)}, '{kind}')")
        if layout == "B":
            lines.append(f"e{k} = v{k}[0]")
        elements.append(f"e{k}" if layout == "B" else f"v{k}[i]")
    return lines, elements


def _loop(signature, elements, count):
    """The innermost loop: load, call the expression, store."""
    n_in, codes = signature.n_in, signature.codes
    compute, order = signature.compute, signature.order
    arguments = [
        _load(codes[k], compute, elements[k]) if where == "t" else f"s{k}" for where, k in order]
    call = f"scalar({', '.join(arguments)})"
    lines = [f"for i in range({count}):"]
    outputs = range(n_in, len(codes))
    if len(outputs) == 1:
        return [*lines, f"    {elements[n_in]} = {_store(codes[n_in], signature.result, call)}"]
    lines.append(f"    r = {call}")
    return lines + [f"    {elements[k]} = {_store(codes[k], signature.result, f'r[{k - n_in}]')}"
                    for k in outputs]


class Signature:
    """What decides a loop kernel: types, scalar kinds, layouts, aliasing, flat or strided.

    ``order`` lists the expression's arguments: ``("t", operand)`` or ``("s", scalar)``. ``alias``
    maps an output to the input that shares its elements (in-place), so that LLVM sees one array.
    """

    def __init__(self, order, codes, n_in, scalars, compute, layouts, flat, alias=()):
        self.order, self.codes, self.n_in, self.scalars = order, codes, n_in, scalars
        self.compute, self.layouts, self.flat, self.alias = compute, layouts, flat, alias
        self.result = compute

    def key(self):
        """Hashable identity."""
        return (self.order, self.codes, self.n_in, self.scalars, self.compute, self.layouts,
                self.flat, self.alias)


def source(signature):
    """Python source of the kernel ``body(args, begin, end)``."""
    count = len(signature.codes)
    scalar_lines, base = _scalar_lines(signature.scalars, count)
    alias = dict(signature.alias)
    if signature.flat:
        vectors, elements = _vectors(signature.codes, signature.layouts,
                                     lambda k: "0" if signature.layouts[k] == "B" else "begin",
                                     "n", lambda k: "1", alias)
        lines = [*scalar_lines, "n = end - begin", *vectors, *_loop(signature, elements, "n")]
        return _function(lines)
    start = f"{base + 2} + depth"
    first = [f"depth = args[{base}]", f"inner = args[{base + 1}]", *scalar_lines]
    first += [f"g{k} = {start} + {k} * (depth + 1)" for k in range(count)]
    first += [f"t{k} = args[g{k} + 1] if depth > 0 else 0" for k in range(count)]
    first += [f"rows = args[{base + 2}] if depth > 0 else 1"]
    offsets = [f"f{k} = column * args[g{k}] + line * t{k}" for k in range(count)]
    steps = [f"    f{k} += index * args[g{k} + 1 + d]" for k in range(count)]
    # lines of the next dimension follow each other by a step: divisions would cost more than lines
    step = [f"f{k} += t{k} - column * args[g{k}]" for k in range(count)]
    vectors, elements = _vectors(signature.codes, signature.layouts, lambda k: f"f{k}", "m",
                                 lambda k: f"args[g{k}]", alias)
    lines = ["m = min(inner - column, end - position)", *vectors,
             *_loop(signature, elements, "m"), "position += m", "line += 1", *step, "column = 0"]
    body = ["row = position // inner", "column = position - row * inner",
            "rest = row // rows", "line = row - rest * rows", *offsets,
            "for d in range(1, depth):", f"    size = args[{base + 2} + d]",
            "    index = rest % size", "    rest //= size", *steps,
            "while line < rows and position < end:", *("    " + x for x in lines)]
    lines = [*first, "position = begin", "while position < end:", *("    " + x for x in body)]
    return _function(lines)


def _function(lines):
    return "def body(args, begin, end):\n" + "\n".join("    " + line for line in lines) + "\n"


@functools.cache
def _cast(code):
    import numpy as np
    return np.dtype({"b1": "bool", "c8": "complex64", "c16": "complex128"}.get(code, code)).type


_kernels = {}


def kernel(scalar, signature, name):
    """The compiled loop of the scalar function ``scalar``; memoised."""
    memo = (scalar, signature.key())
    found = _kernels.get(memo)
    if found is None:
        scope = {"scalar": scalar, "__name__": "ntorch.generated", "T": stubs.T,
                 "table_vector": stubs.table_vector, "bits_i64_to_f64": stubs.bits_i64_to_f64,
                 "half_to_float": half.f16_to_f32, "bfloat16_to_float": half.bf16_to_f32,
                 "float_to_half": half.f32_to_f16, "float_to_bfloat16": half.f32_to_bf16}
        for code in ("b1", "u1", "i1", "i2", "i4", "i8", "f4", "f8", "c8", "c16"):
            scope[code + "_"] = _cast(code)
        exec(source(signature), scope)
        found = build.kernel(scope["body"], ("table",), T=signature.compute, name=name)
        _kernels[memo] = found
    return found
