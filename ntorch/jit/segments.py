"""Segments: graphs that are run as soon as a value is needed, from a cache of programs.

Two segments of one structure share a program: the key holds everything of a graph but addresses.
"""
import threading

from ..runtime.storage import Storage
from .ir import Check, Contract, Dynamic, Graph, HostFill, IntSlot, Launch, Map, Pointer, View, Zero
from .lower import program_of

MOST = 512
_programs = {}
_lock = threading.Lock()


class _Key:
    """Writes down a graph with its buffers numbered as they appear."""

    def __init__(self):
        self.numbers, self.parts = {}, []

    def buffer(self, buffer):
        number = self.numbers.get(buffer)
        if number is None:
            number = self.numbers[buffer] = len(self.numbers)
            self.parts.append((buffer.nbytes, buffer.kind == "temp", buffer.escapes))
            if buffer.kind == "table":
                self.parts.append(self.values(buffer.storage))
        return number

    def value(self, value):
        kind = type(value)
        if kind is View:
            return (self.buffer(value.buffer), value.dtype, value.shape, value.strides,
                    value.offset)
        if kind is Pointer:
            return "p", self.buffer(value.buffer), value.offset
        if kind is Dynamic:
            return "dynamic"
        if kind is IntSlot:
            return "integer"
        return kind, repr(value) if kind is float else value

    def values(self, values):
        return tuple([self.value(v) for v in values])

    def node(self, node):
        if isinstance(node, Map):
            self.parts.append((node.scalar, node.compute, node.result_code,
                               self.values(node.operands), self.values(node.results)))
        elif isinstance(node, Contract):
            self.parts.append((node.kernel.key, self.values(node.slots), node.lanes,
                               node.lane_bytes, node.a_bytes, node.b_bytes))
        elif isinstance(node, Launch):
            self.parts.append((node.kernel.key, self.values(node.slots), node.n, node.grain,
                               tuple(sorted(self.buffer(b) for b in node.writes))))
        elif isinstance(node, Zero):
            self.parts.append((self.value(node.pointer), node.nbytes))
        elif isinstance(node, Check):
            self.parts.append((self.value(node.pointer), self.values(node.extra)))
        elif isinstance(node, HostFill):
            self.parts.append(("fill", self.value(node.view)))
        else:
            self.parts.append((node.entry.name, node.dims, node.compute, self.value(node.source),
                               self.value(node.result)))


def key_of(graph):
    """``(hashable key, buffers in order of appearance)``."""
    key = _Key()
    for node in graph.nodes:
        key.parts.append(type(node).__name__)
        key.node(node)
    return tuple(key.parts), list(key.numbers)


def run_segment(graph, live):
    """Run a graph; returns the storages of ``live``, which are temporaries that escape."""
    key, buffers = key_of(graph)
    special = any(isinstance(n, (Check, HostFill)) for n in graph.nodes) or graph.actions
    found = None if special else _programs.get(key)
    mine = {b: i for i, b in enumerate(buffers)}
    extra = [b for b in live if b not in mine]      # made, never written
    wanted = sorted((b for b in live if b in mine), key=mine.get)
    if found is None:
        copy = Graph()
        copy.nodes, copy.buffers = list(graph.nodes), graph.buffers
        copy.actions = graph.actions
        program = program_of(copy, wanted)
        found = (program, [mine[b] for b in program.inputs])
        if not special:
            with _lock:
                if len(_programs) >= MOST:
                    _programs.clear()
                _programs[key] = found
    program, places = found
    made = dict(zip(wanted, program.run([buffers[i].storage.address for i in places], drawn=True),
                    strict=True))
    made.update((b, Storage(b.nbytes)) for b in extra)
    return [made[b] for b in live]


def clear():
    """Forget all programs."""
    _programs.clear()
