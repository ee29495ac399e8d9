"""The recorder: while it is a thread's, ops are written down as a graph instead of computed.

Shapes, dtypes, views and the tape work as always, on lazy storages: their memory is a *region* of
fake addresses (``runtime/recording.py``). Real tensors that take part are seen through proxies,
whose region stands for an input buffer. Below the tape, a pointwise entry becomes a ``Map``, a
reduction a ``Reduce``, and every other host function runs as it is and has its launches written
down: no op needs a second registration to be traced.

Where Python reads or writes the memory of a tensor, the segment so far is run (``flush``) and the
trace goes on with real memory.
"""
import contextlib
import weakref

from .. import eager
from ..autograd.modes import state
from ..ops.base import Size, TensorBase, broadcast_strides, checked_nbytes, contiguous_strides, make
from ..ops.pointwise import _result_strides
from ..runtime import memory, recording
from ..runtime.storage import Storage
from . import kinds
from .ir import Check, Contract, Dynamic, HostFill, Launch, Map, Reduce, View, Zero
from .regions import SharedArgument, TraceError, held_beyond, storages_of
from .stands import Stands


class Frame:
    """A host function at work: its arguments' storages, and what existed before it."""

    __slots__ = ("node", "buffer", "graph", "storages")

    def __init__(self, recorder, storages):
        self.graph = recorder.graph
        self.node, self.buffer = len(self.graph.nodes), len(self.graph.buffers)
        self.storages = [(s, s.version) for s in storages]


class Recorder(Stands):
    """Writes a graph. ``run(graph, live)`` is called to run a segment: it gives every buffer of
    ``live`` (numbers) a real storage. ``kind`` says for whom: ``"compile"``, ``"trace"``,
    ``"script"``, ``"lazy"``; None for eager mode itself."""

    def __init__(self, run, kind=None):
        super().__init__()
        self.run_segment, self.kind = run, kind
        self.ignored = []           # names of functions marked ``jit.ignore`` that were called
        self.frames, self.reads = [], []
        self.grads = {}             # id -> (tensor, the gradient it had)
        self.names, self.sealed = [""], False       # sealed: no segment may end
        self.pins = []              # (function, what it must give): see ``pin``
        self.watch = None           # what sees Python at work: host functions need no watching
        self._previous = None

    # --- becoming this thread's recorder --------------------------------------------------------

    def __enter__(self):
        self._previous = recording.swap(self), state.tracer
        state.tracer = self
        return self

    def __exit__(self, *exception):
        recorder, state.tracer = self._previous
        recording.swap(recorder)
        self.settle()

    def settle(self):
        """Give the views of storages that became real their addresses."""
        alive, self.moved = self._moved_for_tensors(self._follow_views()), []
        if alive:
            for state in self.tensors_over(alive):
                state["_address"] = (state["_storage"].address
                                     + state["_offset"] * state["dtype"].itemsize)

    def sift(self):
        """Forget storages that became real under no tensor that is still there, before others than
        tensors come to hold them."""
        self.moved = [weakref.ref(storage) for storage in self._moved_for_tensors()]

    def _moved_for_tensors(self, known=None):
        alive = [s for s in (reference() for reference in self.moved) if s is not None]
        if alive:
            for tensor in self.captured.values():
                if tensor._storage in alive:    # guards ask whether an address is the same object
                    tensor._address = (tensor._storage.address
                                       + tensor._offset * tensor.dtype.itemsize)
        known = known or {}
        return held_beyond(alive, lambda s: self._holds(s) + known.get(id(s), 0))

    def _holds(self, storage):
        """How often this recorder holds a storage that became real, by itself and by tensors."""
        region, count = self.inputs.get(storage), 0
        if region is not None:
            count = 1 + (region.real is storage) + (region.buffer.storage is storage)
        count += (storage in self.proxies) + (storage in self.proxied.values())
        return count + sum(t._storage is storage for t in self.captured.values())

    # --- calls ----------------------------------------------------------------------------------

    def host(self, entry):
        """What the tape calls instead of ``entry.host``."""
        if entry.view:
            return entry.host

        def run(*arguments):
            unwatched = self.watch is not None and self.watch.pause()
            try:
                proxies = self.enter(entry, arguments)
                try:
                    result = entry.host(*proxies)
                finally:
                    self.leave()
                return self._original(result, arguments, proxies)
            finally:
                if unwatched:
                    self.watch.resume()
        return run

    def run_inplace(self, entry, arguments):
        """What the tape calls for the in-place form."""
        unwatched = self.watch is not None and self.watch.pause()
        try:
            proxies = self.enter(entry, arguments)
            try:
                if entry.inplace_only:
                    entry.host(*proxies)
                else:
                    eager.run_inplace(entry, proxies)
            finally:
                self.leave(proxies[0])
        finally:
            if unwatched:
                self.watch.resume()

    def run_out(self, entry, arguments, out):
        """What the tape calls for the ``out=`` form; results may replace the memory of ``out``."""
        outs = tuple(out) if isinstance(out, (tuple, list)) else (out,)
        proxies = self.enter(entry, (arguments, outs))
        try:
            eager.run_out(entry, proxies[0], proxies[1] if len(outs) > 1 else proxies[1][0])
        finally:
            self.leave(*proxies[1])
        for given, seen in zip(outs, proxies[1], strict=True):
            if seen is not given and seen._shape != given._shape:
                given._shape, given._strides = seen._shape, seen._strides
        return out

    def enter(self, entry, arguments):
        """Begin a host function; returns its arguments with proxies for real tensors."""
        self.names.append(entry.name)
        try:
            proxies = tuple([self._proxy_all(a) for a in arguments])
        except SharedArgument as why:
            self.part_with_arguments(str(why))
            proxies = tuple([self._proxy_all(a) for a in arguments])
        self.frames.append(Frame(self, storages_of(proxies)))
        return proxies

    def leave(self, *targets):
        """End it: its launches write what it created, and what has a new version or is a target."""
        frame = self.frames.pop()
        self.names.pop()
        same = frame.graph is self.graph
        first = frame.buffer if same else 0
        written = set()
        for storage, version in frame.storages:
            if storage.version != version or any(storage is t._storage for t in targets):
                if recording.is_fake(storage.address):
                    written.add(self._buffer(self._find(storage.address)))
                real = self.proxied.get(storage)
                if real is not None:
                    real.version += storage.version - version
        for node in self.graph.nodes[frame.node if same else 0:]:
            if isinstance(node, Launch) and node.writes is node.reads:
                node.writes = {b for b in node.reads if b in written or (
                    b.number >= first and b.kind == "temp")}

    # --- nodes ----------------------------------------------------------------------------------

    def view(self, tensor, strides=None, shape=None):
        """How a node sees a tensor, with other strides if given."""
        place = self.fake_address(tensor)
        region = self._find(place)
        offset = (place - region.start) // tensor.dtype.itemsize
        return View(self._buffer(region), tensor.dtype,
                    tuple(tensor._shape if shape is None else shape),
                    tuple(tensor._strides if strides is None else strides), offset)

    def map(self, entry, arguments, outs=None):
        """Record a pointwise entry; returns the results, or ``outs`` written in place."""
        tensors = [a for a in arguments if isinstance(a, TensorBase)]
        if tensors:
            compute, result = entry.result_types(arguments)
            shape = entry.result_shape(arguments) if outs is None else outs[0]._shape
        else:
            compute, result, shape = outs[0].dtype, outs[0].dtype, outs[0]._shape
        results = result if isinstance(result, tuple) else (result,) * entry.n_results
        if outs is None:
            strides = _result_strides(shape, tensors)
            made = tuple(make(Storage(checked_nbytes(shape, d)), d, shape, strides, 0)
                         for d in results)
        else:
            made = tuple(outs)
        if 0 not in shape:
            operands = tuple(
                self.view(a, broadcast_strides(a, shape), shape) if isinstance(a, TensorBase)
                else a for a in arguments)
            kind = entry.rule(compute)[1]
            code = compute.compute
            if compute.is_complex and not (isinstance(kind, tuple) or kind.is_complex):
                code = kind.code
            self.graph.nodes.append(Map(entry.name, entry.scalar, compute, operands,
                                        tuple(self.view(t) for t in made), code))
        return made if entry.n_results > 1 else made[0]

    def takes_rows(self, rows, columns):
        """Whether passes over so many rows, each a reduction or behind one, become one kernel."""
        return rows > 0 and columns > 1 and (columns <= kinds.SHORT or rows >= kinds.MIN_ROWS)

    def reduce(self, entry, tensor, dims, shape, compute, result):
        """Record a reduction; returns the result, of ``shape``."""
        kept = tuple(s for d, s in enumerate(tensor._shape) if d not in dims)
        out = make(Storage(checked_nbytes(shape, result)), result, Size(shape),
                   contiguous_strides(shape), 0)
        if 0 not in shape:
            view = self.view(out, contiguous_strides(Size(kept)), kept)
            self.graph.nodes.append(Reduce(entry.name, entry, self.view(tensor), dims, compute,
                                           view))
        return out

    def slots(self, slots):
        """Slots with fake addresses made Pointers."""
        low, high = recording.FAKE, recording.FAKE_END
        return [self.pointer(s) if type(s) is int and low <= s < high else s for s in slots]

    def launch(self, kernel, slots, n, grain):
        """Record a launch."""
        self.graph.nodes.append(Launch(self.names[-1], kernel, self.slots(slots), n, grain))

    def contract(self, kernel, words, lay, store=None):
        """Record a contraction: ``words`` of a plan, whose scratch memory the program places."""
        self.graph.nodes.append(Contract(self.names[-1], kernel, self.slots(words), lay, store))

    def fill_words(self, storage, words):
        """``storage`` holds a table of words, addresses among them, that kernels read."""
        buffer = self._buffer(self._find(storage.address))
        buffer.kind, buffer.storage = "table", self.slots(words)

    def zero(self, address, nbytes):
        """Record that memory is set to zero."""
        self.graph.nodes.append(Zero(self.pointer(address), nbytes))

    def check(self, name, tensor, fail, extra=()):
        """Record a deferred check of an int64 element; see ``ir.Check``."""
        self.graph.nodes.append(Check(name, self.pointer(self.fake_address(tensor)), fail,
                                      tuple(self.view(t) for t in extra)))

    def dynamic(self, read, value=None):
        """A number asked anew at every run; ``value`` spares asking for it now, where that has
        effects."""
        with self._aside():
            made = Dynamic(read, read() if value is None else value)
        self.graph.actions.append(made)
        return made

    def pin(self, read, what="an option of an optimizer"):
        """``read()``, a value that holds for the whole trace; another one means another trace."""
        value = read()
        self.pins.append((read, value, what))
        return value

    def host_fill(self, name, tensor, fill):
        """Record that Python fills ``tensor`` before the run."""
        node = HostFill(name, self.view(tensor), fill)
        with self._aside():
            node.drawn = node.draw()
        self.graph.nodes.append(node)
        self.graph.actions.append(node)

    def heard(self, what):
        """Python is about to be heard, with a warning: not by later calls of a program."""
        if self.sealed:
            raise TraceError(f"it warns: {what}")

    def noted(self, what):
        """Python looked at state that no guard follows, or changed it: another call has to do so
        again."""
        self.reads.append(what)

    def attribute(self, tensor, name):
        """What somebody hung on the argument that ``tensor`` stands for, or perhaps on the next; no
        guard follows that."""
        original = self.original(tensor)
        if original is not tensor and not name.startswith("_"):
            self.noted(f"attribute {name} of an argument was read")
        if name not in original.__dict__:
            raise AttributeError(f"'Tensor' object has no attribute '{name}'")
        return original.__dict__[name]

    def note_grad(self, tensor, made=True):
        """``tensor.grad`` is about to be replaced, or read; returns the tensor that has it. Of
        tensors ``made`` by the trace it does not matter who reads it."""
        tensor = self.original(tensor)
        if made or not recording.is_fake(tensor._address):
            self.grads.setdefault(id(tensor), (tensor, tensor._grad))
        return tensor

    def restore_grads(self):
        """Put gradients back to what they were when the trace began."""
        for tensor, before in self.grads.values():
            tensor._grad = before

    # --- values ---------------------------------------------------------------------------------

    def touch(self, storage):
        """Python is about to use the storage's memory: make it real and up to date."""
        proxied = self.proxied.get(storage)
        if proxied is not None:
            storage = proxied
        if not recording.is_fake(storage.address):
            region = self.inputs.get(storage)
            if region is None or region.graph is not self.graph or not self._pending(region):
                if region is None or region.buffer.kind != "constant":
                    self.note_read()       # another call would find other values
                return storage
            self.note_read()
            self.flush()
            return storage
        region = self._find(storage.address)
        if region.graph is self.graph and not self._pending(region):
            self._make_constant(region, storage)
            return storage
        self.note_read()
        self.flush()
        return storage

    def real(self, storage, address):
        """``(storage, address)`` as they really are, touched."""
        start = storage.address
        if recording.is_fake(address):      # the storage may have become real since
            start = self._find(address).start
        offset = address - start
        storage = self.touch(storage)
        return storage, storage.address + offset

    def _pending(self, region):
        buffer = region.buffer
        return any(buffer in node.written_buffers() for node in self.graph.nodes)

    def _make_constant(self, region, storage):
        """Nothing was recorded for it: real memory that Python fills becomes a constant."""
        storage.address, storage._block = memory.allocate(region.nbytes)
        region.buffer.kind, region.buffer.storage, region.real = "constant", storage, storage
        self.inputs[storage] = region
        self.moved.append(weakref.ref(storage))

    def live(self):
        """Regions of the present graph whose lazy storages somebody still holds."""
        found = []
        for region in self.regions:
            if (region.graph is self.graph and region.lazy is not None
                    and region.buffer.kind == "temp"):
                storage = region.lazy()
                if storage is not None:
                    found.append((region, storage))
        return found

    @contextlib.contextmanager
    def _aside(self):
        """Within the context nothing is recorded in this thread."""
        recorder, tracer, state.tracer = recording.swap(None), state.tracer, None
        try:
            yield
        finally:
            recording.swap(recorder)
            state.tracer = tracer

    def flush(self):
        """Run what is recorded; lazy storages that are held become real."""
        if not self.graph.nodes and not self.live():
            return
        if self.sealed:
            raise TraceError("a value was read where no segment may end")
        graph, live = self.graph, self.live()
        for region, _ in live:
            region.buffer.escapes = True
        with self._aside():
            made = self.run_segment(graph, [region.buffer for region, _ in live])
        for (region, storage), real in zip(live, made, strict=True):
            storage.address, storage._block = real.address, real._block
            real._block = None
            region.real = None
            self.inputs[storage] = region
            self.moved.append(weakref.ref(storage))
        self.next_graph()
