"""A program: all launches of a graph in one table, run by one native call.

The tables of the kernels lie behind each other in a template. A run copies it, puts in the
addresses of this run's arena, arguments and results and the numbers that are asked anew, and makes
launch after launch (``runtime/program_native.py``). Nothing of a run is kept in the program, so
many threads may run it at once.
"""
import array
import ctypes

from ..ops.base import make
from ..ops.contraction_frame import COUNTERS, WORD, frame, frame_words
from ..runtime import build, launch, memory, pool, program_native
from ..runtime.program_native import CHECK, PARALLEL, SERIAL, STEP, ZERO
from ..runtime.storage import Storage
from . import plan
from .ir import Check, Contract, Dynamic, Graph, HostFill, IntSlot, Pointer, Zero

_ARENA, _TABLE = 0, 1           # the first two bases; inputs, host-filled and results follow
_FEW = 1 << 16                  # items up to which a whole program runs holding the GIL
_MOST_CHUNKS = 1024
_FRAME = "frame"                # memory of a contraction while it runs


def runner_kernel():
    """The kernel that runs programs."""
    spinning = not pool.futex_number()
    return build.kernel(
        program_native.run_spinning if spinning else program_native.run_sleeping, ("table",))


class Program:
    """What ``graph`` does, ready to run.

    ``inputs`` are the buffers whose addresses ``run`` wants, in order; ``outputs`` those that it
    makes. ``actions`` are what Python does before each run, in the order of the trace.
    """

    def __init__(self, graph, inputs, outputs):
        self.nodes, self.inputs, self.outputs = list(graph.nodes), list(inputs), list(outputs)
        self.fills = [a for a in graph.actions if isinstance(a, HostFill)]
        self.actions, self.recomputed = list(graph.actions), list(graph.recomputed)
        self._lower()

    def _lower(self):
        self.steps_of = nodes = _expand(self.nodes)
        spans = plan.lifetimes(nodes)
        filled = [f.view.buffer for f in self.fills]
        for buffer in filled:
            spans.pop(buffer, None)
        self.arena, self.temporaries = plan.arena(spans), list(spans)
        self.crossing = plan.crossing({b: s for b, s in spans.items() if b.label != _FRAME})
        self.results = [b for b in self.outputs if b not in filled]
        bases = {b: 2 + i for i, b in enumerate([*self.inputs, *filled, *self.results])}
        self.base_of = bases
        self.words, self.steps = array.array("q"), array.array("q")
        self.moves, self.numbers = array.array("q"), []
        self.checks, self.parallel, self.items = {}, False, 0
        self.tables, self.kernels = {}, []
        for node in nodes:
            for buffer in sorted(node.read_buffers(), key=lambda b: b.number):
                if buffer.kind == "table" and buffer not in self.tables:
                    self.tables[buffer] = len(self.words)
                    self._put(buffer.storage)
        for place, node in enumerate(nodes):
            self._step(place, node)
        self.n_bases = 2 + len(bases)
        self._places()

    def _step(self, place, node):
        at = len(self.words)
        if isinstance(node, Check):
            self._put([node.pointer])
            self.checks[place] = node
            self.steps.extend((CHECK, 0, at, 0, 0, 0))
        elif isinstance(node, Zero):
            self._put([node.pointer])
            self.steps.extend((ZERO, 0, at, -(-node.nbytes // 8), 0, 0))
        else:
            parallel = node.n > node.grain
            if isinstance(node, _Driver):
                self._put(node.words)
                self._put([_Word(at), *node.slots[1:]])
                at += len(node.words)
            else:
                self._put(node.slots)
            chunk = max(node.grain, -(-node.n // _MOST_CHUNKS), 1)
            self.kernels.append(node.kernel)
            self.steps.extend((PARALLEL if parallel else SERIAL, node.kernel.address, at, node.n,
                               chunk, 0))
            self.parallel |= parallel
            self.items += node.n

    def _put(self, slots):
        for slot in slots:
            at = len(self.words)
            if type(slot) is Pointer:
                self.moves.extend((at, *self._place(slot)))
                slot = 0
            elif type(slot) is _Word:
                self.moves.extend((at, _TABLE, 8 * slot.at))
                slot = 0
            elif type(slot) is Dynamic or type(slot) is IntSlot:
                self.numbers.append((at, slot))
                slot = 0
            elif type(slot) is build.Kernel:
                slot = slot.address
            self.words.append(slot)

    def _place(self, pointer):
        if pointer.buffer.kind == "table":
            return _TABLE, 8 * self.tables[pointer.buffer] + pointer.offset
        base = self.base_of.get(pointer.buffer)
        if base is not None:
            return base, pointer.offset
        return _ARENA, self.arena.offsets[pointer.buffer] + pointer.offset

    def _places(self):
        """Addresses that do not change, and how one run's block of memory is laid out."""
        def address(values):
            return values.buffer_info()[0]
        # block: working table, bases, numbers, failed step; then the arena
        at_bases = 8 * len(self.words)
        at_numbers = at_bases + 8 * self.n_bases
        at_failed = at_numbers + 16 * len(self.numbers)
        self.at = at_bases, at_numbers, at_failed
        self.at_arena = -(-(at_failed + 8) // memory.GRANULE) * memory.GRANULE
        self.block_bytes = self.at_arena + self.arena.nbytes
        self.fences = [self.at_arena + offset for offset in self._fences()]
        self.head = (address(self.words), len(self.words), address(self.moves),
                     len(self.moves) // 3, address(self.steps), len(self.steps) // STEP)
        self.pack_table = launch.packer(12)
        self.pack_bases = launch.packer(self.n_bases)
        self.kernel = runner_kernel()
        self.call = (self.kernel.call if not self.parallel and self.items <= _FEW
                     else self.kernel.call_released)
        self.alone = None
        if len(self.steps) == STEP and not self.numbers and not self.actions:
            self._launched_alone()

    def _launched_alone(self):
        """A single launch that needs no memory but its inputs' and results' goes to its kernel, as
        eager's do: no working table is made for it."""
        operation, _, at, n, chunk, _ = self.steps
        moves = [tuple(self.moves[i:i + 3]) for i in range(0, len(self.moves), 3)]
        if operation <= PARALLEL and n and all(base >= 2 for _, base, _ in moves):
            self.slots = list(self.words[at:])
            self.pointers = [(place - at, base - 2, offset) for place, base, offset in moves]
            self.pack_slots, self.n, self.chunk = launch.packer(len(self.slots)), n, chunk
            self.alone = self.kernels[0]        # not its address: a warm-up has none to call
            self.call_alone = None if self.parallel else (
                self.alone.call if self.items <= _FEW else self.alone.call_released)

    def _run_alone(self, addresses):
        results = [Storage(b.nbytes) for b in self.results]
        bases, slots = [*addresses, *[s.address for s in results]], self.slots.copy()
        for place, base, offset in self.pointers:
            slots[place] = bases[base] + offset
        table = self.pack_slots(*slots)
        if self.call_alone is None:
            pool.parallel(self.alone, table, self.n, self.chunk)
        else:
            self.call_alone(table, 0, self.n)
        return results

    def _fences(self):
        """Offsets in the arena of the pages that tests forbid (``memory.lay_out``)."""
        found = list(self.arena.fences)
        for node in self.steps_of if found else ():
            if isinstance(node, _Driver):
                start, = (self.arena.offsets[buffer] for buffer in node.buffers)
                found += [start + offset for offset in node.fences]
        return found

    def run(self, addresses, drawn=False, values=None):
        """Run on inputs at ``addresses``; returns the storages of ``outputs``.

        ``drawn``: this is the call that was traced, whose random numbers are drawn already.
        ``values``, a dict, receives the numbers of this run by Dynamic; those it has are used.
        """
        if self.alone is not None:
            return self._run_alone(addresses)
        values = {} if values is None else values
        filled = self._act(drawn, values) if self.actions else ()
        results = [Storage(b.nbytes) for b in self.results]
        base, block = memory.allocate(self.block_bytes)
        try:
            if self.fences:
                memory.fence(base, self.fences)
            self._run(base, [*addresses, *[s.address for s in filled],
                             *[s.address for s in results]], values)
        finally:
            memory.free(block)
        if not filled:
            return results
        made = dict(zip(self.results, results, strict=True))
        made.update(zip([f.view.buffer for f in self.fills], filled, strict=True))
        return [made[b] for b in self.outputs]

    def _run(self, base, addresses, values):
        at_bases, at_numbers, at_failed = self.at
        bases = self.pack_bases(base + self.at_arena, base, *addresses)
        ctypes.memmove(base + at_bases, bases, len(bases))
        if self.numbers:
            numbers = self._numbers(values)
            ctypes.memmove(base + at_numbers, numbers, len(numbers))
        words, n_words, moves, n_moves, steps, n_steps = self.head
        slots = (words, base, n_words, moves, n_moves, base + at_bases, steps, n_steps)
        rest = (base + at_failed, base + at_numbers, len(self.numbers))
        if self.parallel:
            crew = pool.hold()
            try:
                address = 0 if crew is None else crew.address
                self.call(self.pack_table(*slots, address, *rest), 0, 1)
            finally:
                if crew is not None:
                    pool.let_go()
        else:
            self.call(self.pack_table(*slots, 0, *rest), 0, 1)
        if self.checks:
            self._check(base, addresses, ctypes.c_int64.from_address(base + at_failed).value)

    def _act(self, drawn, values):
        """What Python does before a run: random draws, in order; returns the filled storages."""
        filled = []
        for action in self.actions:
            if isinstance(action, HostFill):
                filled.append(action.take() if drawn else action.draw())
            elif action not in values:
                values[action] = action.value if drawn else action.read()
        return filled

    def _numbers(self, values):
        pairs = []
        for at, slot in self.numbers:
            pairs.append(at)
            pairs.append(int(values[slot.dynamic]) if type(slot) is IntSlot
                         else build.double_bits(float(values[slot])))
        return launch.packer(len(pairs))(*pairs)

    def _check(self, base, addresses, failed):
        if failed < 0:
            return
        node = self.checks[failed]
        known = [base + self.at_arena, base, *addresses]

        def address(pointer):
            which, offset = self._place(pointer)
            return known[which] + offset
        value = ctypes.c_int64.from_address(address(node.pointer)).value
        tensors = []
        for view in node.extra:
            start = address(Pointer(view.buffer, 0))
            storage = Storage.borrow(start, view.buffer.nbytes, self)
            tensors.append(make(storage, view.dtype, view.shape, view.strides, view.offset))
        node.fail(value, *tensors)


class _Word:
    """A slot that holds the address of word ``at`` of the working table."""

    __slots__ = ("at",)

    def __init__(self, at):
        self.at = at


class _Driver:
    """The launch of a contraction: its plan lies before its own table."""

    def __init__(self, node, words, slots, buffers, fences):
        self.name, self.kernel, self.words, self.slots = node.name, node.kernel, words, slots
        self.n, self.grain, self.buffers, self.fences = node.lanes, 1, buffers, fences
        self.node = node

    def read_buffers(self):
        return self.node.read_buffers() | self.buffers

    def written_buffers(self):
        return self.node.written_buffers() | self.buffers


def _expand(nodes):
    """Contractions as a clearing of counters and a launch, with the scratch memory they need."""
    made, graph = [], Graph()
    for node in nodes:
        if isinstance(node, HostFill):
            continue
        if isinstance(node, Contract):
            made += _contraction(node, graph)
        else:
            made.append(node)
    return made


def _contraction(node, graph):
    words, lanes = list(node.slots), node.lanes
    n_words = len(words)
    places = frame(node, n_words)
    memory_of = graph.buffer(places.nbytes, "temp", label=_FRAME)
    memory_of.number = -1 - memory_of.number
    for slot, offset in frame_words(node, places).items():
        words[slot] = Pointer(memory_of, offset)
    counters, plan = (Pointer(memory_of, places.counters + at) for at in (0, COUNTERS))
    slots = [0, n_words, plan, lanes, n_words, counters, COUNTERS // WORD]
    return [Zero(counters, COUNTERS),
            _Driver(node, words, slots, {memory_of}, places.fences)]
