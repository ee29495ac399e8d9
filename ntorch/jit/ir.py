"""The graph of a trace: nodes that read and write views of buffers, in the order they happened.

A *buffer* is a piece of memory: an argument, a captured tensor, a constant or a temporary. A *view*
is how a node sees one: dtype, shape, strides and offset in elements, as a tensor sees its storage;
view ops of the traced program leave no node, only other strides. Nodes may write buffers in place,
so the order of the list is the meaning of the graph; whoever moves a node minds who reads and
writes the same buffer in between (``Together``).
"""
import typing

from ..ops.base import make
from ..runtime.storage import Storage
from .dynamic import Dynamic as Dynamic
from .dynamic import IntSlot as IntSlot


class Buffer:
    """Memory that the graph reads or writes.

    ``kind`` is ``"input"`` (bound to a storage at every run), ``"constant"`` (a storage that the
    program keeps), ``"table"`` (words with Pointers among them, which lie in the program's table)
    or ``"temp"``. ``storage`` is what an input was at trace time, the constant, or the words. A
    temp with ``escapes`` set outlives the run: it is a result.
    """

    __slots__ = ("number", "nbytes", "kind", "storage", "escapes", "label")

    def __init__(self, number, nbytes, kind, storage=None, label=""):
        self.number, self.nbytes, self.kind = number, nbytes, kind
        self.storage, self.escapes, self.label = storage, False, label

    @property
    def outlives(self):
        """Whether what is written to the buffer can be seen after the run."""
        return self.escapes or self.kind not in ("temp", "table")

    def __repr__(self):
        return {"input": "in", "constant": "const", "table": "words",
                "temp": "b"}[self.kind] + str(self.number)


class View(typing.NamedTuple):
    """Elements of a buffer; ``strides`` and ``offset`` count elements of ``dtype``."""
    buffer: Buffer
    dtype: typing.Any
    shape: tuple
    strides: tuple
    offset: int

    def numel(self):
        """Number of elements."""
        n = 1
        for size in self.shape:
            n *= size
        return n

    def __repr__(self):
        sizes = "x".join(map(str, self.shape)) or "scalar"
        return f"{self.buffer!r}:{self.dtype.code}[{sizes}]"


class Pointer(typing.NamedTuple):
    """A slot that holds the address of ``buffer`` plus ``offset`` bytes."""
    buffer: Buffer
    offset: int


class Node:
    """One step. ``name`` is the op it came from, ``origin`` the layer or line that called it."""

    __slots__ = ("name", "origin")

    def read_buffers(self):
        """The buffers it reads, a set."""
        raise NotImplementedError

    def written_buffers(self):
        """The buffers it writes, a set."""
        raise NotImplementedError


class Map(Node):
    """A scalar expression over operands that have the shape of the results.

    ``operands`` are views (strides 0 along broadcast dimensions) and numbers (int, float, complex,
    Dynamic), in the order of ``scalar``'s arguments; numbers reach it in the type ``compute``.
    ``results`` are views of one shape. ``result_code`` is the kernel type of what ``scalar`` gives
    (``compute.compute`` but for real results of complex numbers).
    """

    __slots__ = ("scalar", "compute", "operands", "results", "result_code")

    def __init__(self, name, scalar, compute, operands, results, result_code):
        self.name, self.scalar, self.compute = name, scalar, compute
        self.operands, self.results, self.result_code = operands, results, result_code
        self.origin = ""

    @property
    def shape(self):
        """The iteration space."""
        return self.results[0].shape

    def read_buffers(self):
        return {v.buffer for v in self.operands if type(v) is View}

    def written_buffers(self):
        return {v.buffer for v in self.results}

    def __repr__(self):
        return (f"{', '.join(map(repr, self.results))} = {self.name}"
                f"({', '.join(map(repr, self.operands))})")


class Reduce(Node):
    """``finish(combine over dims of map(x), count)``: the functions of a reduction entry.

    ``result`` has the shape of ``source`` without ``dims``.
    """

    __slots__ = ("entry", "source", "dims", "compute", "result")

    def __init__(self, name, entry, source, dims, compute, result):
        self.name, self.entry, self.source, self.dims = name, entry, source, dims
        self.compute, self.result, self.origin = compute, result, ""

    def read_buffers(self):
        return {self.source.buffer}

    def written_buffers(self):
        return {self.result.buffer}

    def __repr__(self):
        return f"{self.result!r} = {self.name}({self.source!r}, dims={self.dims})"


def pointed(slots):
    """The buffers that slots point to, those behind tables included."""
    found = {s.buffer for s in slots if type(s) is Pointer}
    for buffer in tuple(found):
        if buffer.kind == "table":
            found |= pointed(buffer.storage)
    return found


class Launch(Node):
    """A kernel that is launched as it is. ``slots`` hold ints, Pointers and Dynamics."""

    __slots__ = ("kernel", "slots", "n", "grain", "reads", "writes")

    def __init__(self, name, kernel, slots, n, grain):
        self.name, self.kernel, self.slots, self.n, self.grain = name, kernel, slots, n, grain
        self.reads = pointed(slots)
        self.writes, self.origin = self.reads, ""       # the same set until somebody knows better

    def read_buffers(self):
        return self.reads

    def written_buffers(self):
        return self.writes

    def __repr__(self):
        writes = ", ".join(map(repr, sorted(self.writes, key=lambda b: b.number)))
        reads = ", ".join(map(repr, sorted(self.reads - self.writes, key=lambda b: b.number)))
        return f"{writes} = {self.name}({reads}) by {self.kernel.name}"


class Fused(Launch):
    """A launch of a generated kernel. ``spec`` is what it is built from (``source.Spec``);
    ``members`` are the nodes it replaces as text, ``why`` says what stayed outside and for which
    reason; ``bytes`` moved and ``flops`` are rough."""

    __slots__ = ("spec", "members", "source", "why", "bytes", "flops")

    def __init__(self, name, spec, slots, n, grain):
        super().__init__(name, None, slots, n, grain)
        self.spec, self.members, self.source, self.why = spec, [], "", []
        self.bytes = self.flops = 0

    def __repr__(self):
        writes = ", ".join(map(repr, sorted(self.writes, key=lambda b: b.number)))
        reads = ", ".join(map(repr, sorted(self.reads - self.writes, key=lambda b: b.number)))
        return f"{writes} = fused({reads}): {self.name}"


class Contract(Launch):
    """A contraction (``kernels/gemm.py``): its plan's ``words`` are the slots, with the epilogue's
    own slots at the end; ``store`` describes that epilogue for whoever replaces it."""

    __slots__ = ("lanes", "lane_bytes", "a_bytes", "b_bytes", "flops", "fences", "store")

    def __init__(self, name, kernel, words, lay, store):
        super().__init__(name, kernel, words, lay.lanes, 1)
        self.lanes, self.lane_bytes = lay.lanes, lay.lane_bytes
        self.a_bytes, self.b_bytes, self.store = lay.a_bytes, lay.b_bytes, store
        self.flops, self.fences = lay.flops, lay.fences


class Zero(Node):
    """Set ``nbytes`` bytes from ``pointer`` on to zero."""

    __slots__ = ("pointer", "nbytes")

    def __init__(self, pointer, nbytes):
        self.name, self.origin, self.pointer, self.nbytes = "zero", "", pointer, nbytes

    def read_buffers(self):
        return set()

    def written_buffers(self):
        return {self.pointer.buffer}

    def __repr__(self):
        return f"{self.pointer.buffer!r} = 0"


class Check(Node):
    """Stop the run if the int64 at ``pointer`` is not negative: ``fail(value at pointer)`` then
    raises what eager would."""

    __slots__ = ("pointer", "fail", "extra")

    def __init__(self, name, pointer, fail, extra=()):
        self.name, self.origin, self.pointer, self.fail = name, "", pointer, fail
        self.extra = extra          # Pointers whose addresses ``fail`` wants too

    def read_buffers(self):
        return {self.pointer.buffer, *(p.buffer for p in self.extra)}

    def written_buffers(self):
        return set()

    def __repr__(self):
        return f"check({self.pointer.buffer!r})"


class HostFill(Node):
    """A buffer that Python fills before the run starts: random numbers in the generator's order."""

    __slots__ = ("view", "fill", "drawn")

    def __init__(self, name, view, fill):
        self.name, self.origin, self.view, self.fill = name, "", view, fill
        self.drawn = None       # what was drawn while tracing, for the call that was traced

    def draw(self):
        """Fresh memory, filled."""
        view, storage = self.view, Storage(self.view.buffer.nbytes)
        self.fill(make(storage, view.dtype, view.shape, view.strides, view.offset))
        return storage

    def take(self):
        """What was drawn while tracing."""
        drawn, self.drawn = self.drawn, None
        return drawn

    def read_buffers(self):
        return set()

    def written_buffers(self):
        return {self.view.buffer}

    def __repr__(self):
        return f"{self.view!r} = {self.name}() before the run"


class Graph:
    """Buffers and nodes, in order; ``actions`` are the Dynamics and HostFills, as they came;
    ``recomputed`` is what late nodes compute again: pairs of text and the bytes not kept."""

    def __init__(self):
        self.buffers, self.nodes, self.actions, self.recomputed = [], [], [], []

    def buffer(self, nbytes, kind, storage=None, label=""):
        """A new buffer."""
        made = Buffer(len(self.buffers), nbytes, kind, storage, label)
        self.buffers.append(made)
        return made

    def verify(self):
        """ValueError if a node uses a foreign buffer, reads a temp that nothing has written, or has
        a view outside its buffer."""
        own, written = set(self.buffers), set()
        for node in self.nodes:
            for view in _views(node):
                _check_view(node, view)
            for buffer in node.read_buffers() | node.written_buffers():
                if buffer not in own:
                    raise ValueError(f"{node!r}: {buffer!r} is not a buffer of this graph")
            for buffer in node.read_buffers() - node.written_buffers():
                if buffer.kind == "temp" and buffer not in written:
                    raise ValueError(f"{node!r} reads {buffer!r} before anything wrote it")
            written |= node.written_buffers()
        return self

    def __repr__(self):
        return "\n".join(map(repr, self.nodes))


def _views(node):
    if isinstance(node, Map):
        return [v for v in (*node.operands, *node.results) if type(v) is View]
    return [node.source, node.result] if isinstance(node, Reduce) else []


def _check_view(node, view):
    if 0 in view.shape:
        return
    if len(view.shape) != len(view.strides):
        raise ValueError(f"{node!r}: {view!r} has {len(view.strides)} strides")
    last = view.offset + sum((n - 1) * s for n, s in zip(view.shape, view.strides, strict=True))
    if view.offset < 0 or (last + 1) * view.dtype.itemsize > view.buffer.nbytes:
        raise ValueError(f"{node!r}: {view!r} reaches byte {(last + 1) * view.dtype.itemsize} of "
                         f"{view.buffer.nbytes}")


class Together:
    """What several nodes read and write: which others must stay in front of or behind them."""

    def __init__(self, nodes):
        self.touched, self.written, self.check, self.outlives = set(), set(), False, False
        for node in nodes:
            self.add(node)

    def add(self, node):
        """One node more."""
        writes = node.written_buffers()
        self.written |= writes
        self.touched |= writes | node.read_buffers()
        self.check |= isinstance(node, Check)
        self.outlives |= any(b.outlives for b in writes)

    def follows(self, node):
        """Whether one of them and ``node`` must stay in order: conflicts, and a failed check leaves
        what comes after it undone."""
        writes = node.written_buffers()
        if self.outlives and isinstance(node, Check):
            return True
        if self.check and any(b.outlives for b in writes):
            return True
        return not (self.touched.isdisjoint(writes)
                    and self.written.isdisjoint(node.read_buffers()))
