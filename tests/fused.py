"""A bench for graphs: every op is run by eager and written down; then the graph is run and what
outlives it is compared."""
import numpy as np

import ntorch
from ntorch.jit import codegen, fuse, ir, simplify
from ntorch.ops import registry
from ntorch.ops.entries.copying import CONSTANT
from ntorch.runtime import build, dtypes, launch
from ntorch.runtime.storage import Storage


class Handle:
    """A tensor that eager computed and the view that stands for it in the graph."""

    def __init__(self, bench, eager):
        self.bench, self.eager = bench, eager
        self.view = bench.view(eager)

    def view_op(self, function):
        """A view of the same memory."""
        return Handle(self.bench, function(self.eager))

    def operand(self, shape):
        """The view, broadcast to ``shape``."""
        return self.bench.view(self.eager.expand(shape))


class Bench:
    """A graph in the making."""

    def __init__(self):
        self.graph, self.buffers, self.start, self.dtypes = ir.Graph(), {}, {}, {}

    def view(self, tensor):
        buffer = self.buffers.get(tensor._storage)
        if buffer is None:
            buffer = self.graph.buffer(tensor._storage.nbytes(), "temp")
            self.buffers[tensor._storage] = buffer
            self.dtypes[buffer] = tensor.dtype
        return ir.View(buffer, tensor.dtype, tuple(tensor._shape), tuple(tensor._strides),
                       tensor._offset)

    def input(self, tensor):
        handle = Handle(self, tensor)
        buffer = handle.view.buffer
        buffer.kind = "input"
        self.start[buffer] = tensor._storage.clone()
        return handle

    def map(self, name, *arguments, out=None):
        """Run and record a pointwise entry."""
        entry = registry.find(name) if type(name) is str else name
        arguments = [*arguments, *([1] * (len(entry.schema.parameters) - len(arguments)))]
        plain = tuple(a.eager if isinstance(a, Handle) else
                      a.value if isinstance(a, ir.Dynamic) else a for a in arguments)
        outs = None if out is None else tuple(out) if isinstance(out, tuple) else (out,)
        shape = entry.result_shape(plain) if outs is None else outs[0].view.shape
        operands = tuple(a.operand(shape) if isinstance(a, Handle) else a for a in arguments)
        views = any(isinstance(a, Handle) for a in arguments)
        compute = entry.result_types(plain)[0] if views else outs[0].eager.dtype
        kind = entry.rule(compute)[1]
        code = compute.compute
        if compute.is_complex and not (isinstance(kind, tuple) or kind.is_complex):
            code = kind.code
        if outs is None:
            made = entry.host(*plain)
            made = made if isinstance(made, tuple) else (made,)
            outs = tuple(Handle(self, t) for t in made)
        else:
            entry._into(plain, tuple(o.eager for o in outs))
        if 0 not in shape:
            self.graph.nodes.append(ir.Map(entry.name, entry.scalar, compute, operands,
                                           tuple(o.view for o in outs), code))
        return outs if len(outs) > 1 else outs[0]

    def cast(self, source, dtype):
        """Run and record a conversion."""
        entry = registry.find("to_dtype")
        result = Handle(self, entry.host(source.eager, dtype))
        compute = wider(source.eager.dtype, dtype)
        self.graph.nodes.append(ir.Map("to_dtype", codegen.copy_scalar, compute, (source.view,),
                                       (result.view,), compute.compute))
        return result

    def reduce(self, name, source, dims):
        """Run and record a reduction, without keepdim."""
        entry = registry.find(name)
        result = Handle(self, entry.host(*[source.eager, dims, False, None][
            :len(entry.schema.parameters)]))
        compute = entry.rule(source.eager.dtype)[0]
        if 0 not in result.view.shape:
            self.graph.nodes.append(ir.Reduce(name, entry, source.view, dims, compute, result.view))
        return result

    def escape(self, *handles):
        for handle in handles:
            handle.view.buffer.escapes = True

    def run(self):
        """Run the nodes, which must be launches; returns {buffer: storage}."""
        memory = {}
        for buffer in self.graph.buffers:
            if buffer in self.start:
                memory[buffer] = self.start[buffer].clone()
            else:
                memory[buffer] = Storage(buffer.nbytes)
                memory[buffer].numpy()[:] = 0xAB
        for node in self.graph.nodes:
            if isinstance(node, ir.Zero):
                at = node.pointer.offset
                memory[node.pointer.buffer].numpy()[at:at + node.nbytes] = 0
                continue
            slots = [encoded(s, memory) for s in node.slots]
            launch.run(node.kernel, slots, node.n, node.grain)
        return memory

    def check(self, ulp=0, passes=True):
        """Fuse, run and compare what outlives the run."""
        self.graph.verify()
        if passes:
            simplify.simplify(self.graph)
            self.graph.verify()
            fuse.fuse(self.graph)
        else:
            self.graph.nodes = [made for node in self.graph.nodes
                                for made in codegen.lower(node, self.graph)]
        self.graph.verify()
        memory = self.run()
        for storage, buffer in self.buffers.items():
            if buffer.outlives:
                compare(memory[buffer], storage, self.dtypes[buffer], ulp)
        return self


def wider(first, second):
    """The type a conversion is computed in."""
    return dtypes.promote_types(first, second)


def compare(got, expected, dtype, ulp):
    """Bytes, or numbers within ``ulp`` units of the largest."""
    got, expected = got.numpy(), expected.numpy()
    if not (dtype.is_floating_point or dtype.is_complex):
        np.testing.assert_array_equal(got, expected)
        return
    got, expected = (_floats(a, dtype) for a in (got, expected))
    if ulp == 0:
        np.testing.assert_array_equal(got, expected)
        return
    step = {"float16": 2 ** -10, "bfloat16": 2 ** -7, "float32": 2 ** -23, "float64": 2 ** -52,
            "complex64": 2 ** -23, "complex128": 2 ** -52}[dtype.name]
    finite = np.abs(expected[np.isfinite(expected)])
    scale = max(float(finite.max(initial=0)), 1e-30)
    np.testing.assert_allclose(got, expected, rtol=ulp * step, atol=ulp * step * scale)


def _floats(raw, dtype):
    if dtype is dtypes.bfloat16:
        return (raw.view(np.uint16).astype(np.uint32) << 16).view(np.float32).astype(np.float64)
    kind = dtypes.NUMPY_VIEW[dtype]
    wide = np.complex128 if dtype.is_complex else np.float64
    return raw.view(kind).astype(wide)


def encoded(slot, memory):
    """A slot as the runner encodes it."""
    if type(slot) is ir.Pointer:
        return memory[slot.buffer].address + slot.offset
    if type(slot) is codegen.IntSlot:
        return int(slot.dynamic.read())
    if type(slot) is ir.Dynamic:
        return build.double_bits(slot.read())
    return slot


def whole(*sizes, dtype=ntorch.float32, low=-4):
    """Small integers: sums and products of them are exact in every type, in any order."""
    return ntorch.randint(low, 5, sizes).to(dtype)


def constant(bench, number, *sizes):
    """A tensor full of ``number``."""
    made = Handle(bench, ntorch.empty(sizes))
    return bench.map(CONSTANT, number, out=made)


def rows(handle):
    """A result per row, ready to broadcast along the columns."""
    return handle.view_op(lambda t: t.unsqueeze(-1))


def softmax(bench, x):
    shifted = bench.map("sub", x, rows(bench.reduce("amax", x, (1,))))
    powers = bench.map("exp", shifted)
    return bench.map("_div", powers, rows(bench.reduce("sum", powers, (1,))))


def entry_of(name):
    """An entry of the table."""
    return registry.find(name)
