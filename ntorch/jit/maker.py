"""From the end of a trace to a variant: what the function did besides computing, what its results
are, and where the inputs of its program are found at later calls."""
import gc

from ..autograd.modes import state
from ..autograd.node import Node, SavedTensor
from ..ops.base import TensorBase, make
from ..runtime import recording
from .joint import Joint
from .lower import assembled, lower, overlap, prepared, ready
from .outline import outline_of
from .results import Rebuilder
from .stands import PassOn
from .tree import replaced, tensors_of
from .unfit import Unfit
from .variant import FORM, Binding, Variant, grad_form, owned, together


def make_variant(recorder, result, stands, tensors, fresh, copies):
    """``(variant, None)``, or ``(None, reason)`` if the trace cannot be made a program. ``fresh``
    are ids of what the function made itself, ``copies`` those of containers it was given."""
    try:
        rebuild = Rebuilder(result, fresh, copies)
        variant = Maker(recorder, result, stands, tensors).make()
        variant.rebuild = rebuild
        return variant, None
    except Unfit as reason:
        return None, str(reason)


def _held_by_tape(tensors):
    """Storages of the tensors that the history of ``tensors`` saved."""
    found, seen, stack = set(), set(), [t._grad_fn for t in tensors if t._grad_fn is not None]
    while stack:
        thing = stack.pop()
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        if isinstance(thing, TensorBase):
            found.add(thing._storage)
            if thing._grad_fn is not None:
                stack.append(thing._grad_fn)
        elif isinstance(thing, (Node, SavedTensor, tuple, list, dict)) or hasattr(
                thing, "saved_tensors"):
            stack += [r for r in gc.get_referents(thing)
                      if not isinstance(r, (type, str, int, float))]
    return found


def _held_by_fills(graph):
    """Storages that the functions which draw random numbers keep, for their form."""
    found = set()
    for action in graph.actions:
        stack = [getattr(action, "fill", None)]
        while stack:
            function = stack.pop()
            for cell in getattr(function, "__closure__", None) or ():
                held = cell.cell_contents
                if isinstance(held, TensorBase):
                    found.add(held._storage)
                elif callable(held):
                    stack.append(held)
    return found


def _freed(tensor):
    """Whether backward has run through the tensor's history inside the trace already."""
    stack, seen = [tensor._grad_fn], set()
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        if node.released:
            return True
        seen.add(node)
        if type(node) is not PassOn:        # behind it lies the history of an argument
            stack += [edge[0] for edge in node.edges if edge is not None]
    return False


class _Hole(TensorBase):
    """Marks the place of a tensor in a remembered nest of results."""


_HOLE = _Hole()


class Maker:
    """Turns what a recorder holds at the end of a trace into a variant."""

    def __init__(self, recorder, result, stands, tensors):
        self.recorder, self.graph, self.result = recorder, recorder.graph, result
        self.stands, self.tensors = stands, tensors
        every = tensors_of(result)
        self.results = list({id(t): t for t in every}.values())     # each object once
        self.places = [next(i for i, r in enumerate(self.results) if r is t) for t in every]
        self.stand_number = {}
        for number, stand in enumerate(stands):
            self.stand_number.setdefault(id(stand), number)
        self.region_stand = {}
        for number, stand in enumerate(stands):
            self.region_stand.setdefault(stand._storage, number)

    def make(self):
        """The variant; Unfit if the trace cannot be one."""
        variant = Variant()
        if self.recorder.given():
            raise Unfit("; ".join(self.recorder.given()))
        self._grads()
        self._constants()
        wants = [r for r in self.results if r._requires_grad and id(r) not in self.stand_number
                 and id(r) not in self.recorder.captured]
        freed = [r for r in wants if _freed(r)]
        wants = [r for r in wants if not any(r is f for f in freed)]
        joint = Joint(self, wants) if wants and state.enabled else None
        try:
            self._leaks([] if joint is None else joint.made)
            outputs = self._outputs()
            if joint is not None:
                joint.check()
        except Unfit:
            if joint is not None:
                joint.undo()
            raise
        variant.trace_text = repr(self.graph)
        if joint is not None:
            joint.build(variant, outputs)
        else:
            nodes = list(self.graph.nodes)
            lower(self.graph, prepared(self.graph, outputs))
            self.approve((nodes, self.graph))
            ready(self.graph)
            variant.forward = assembled(self.graph, outputs)
            variant.binding = Binding(variant.forward, self.origin)
        self._describe(variant)
        variant.inferred = [i for i, r in enumerate(self.results) if r._inference
                            and id(r) not in self.stand_number]
        variant.spent = [next(i for i, r in enumerate(self.results) if r is f) for f in freed]
        self.recorder.restore_grads()
        for buffer in self.graph.buffers:   # a program is told where inputs are at each call: it
            if buffer.kind == "input":      # keeps no argument or gradient of the first one alive
                buffer.storage = None
        return variant

    def approve(self, *halves):
        """Sees forward and perhaps backward, each as the recorded nodes and the graph of launches
        made of them, whose kernels are not built yet; Unfit stops it there."""

    def _describe(self, variant):
        """How the variant's calls are bound to arguments, results and gradients."""
        order = {b: i for i, b in enumerate(variant.forward.outputs)}
        variant.places = self.places
        variant.specs = [self._spec(r, order) for r in self.results]
        variant.outline = outline_of(self, variant.forward, order)
        variant.grad_actions = [self._grad_action(v, g, order) for v, g in self.new_grads]
        variant.grad_states = [(self._owner(v), None if g is None else grad_form(g))
                               for v, g in self.recorder.grads.values()]
        variant.grads_together = together([g for _, g in self.recorder.grads.values()])
        variant.captured = [(t, FORM(t)) for t in self.recorder.captured.values()
                            if id(t) not in self.grad_ids]
        variant.pins = self.recorder.pins
        variant.facts = [(self._place(t), *fact) for t, *fact in self.recorder.facts.values()]
        variant.single = isinstance(self.result, TensorBase)
        variant.result = self.result if not variant.single else None
        self._written(variant)
        self._shared(variant)
        variant.writes = bool(variant.written or variant.written_arguments)
        variant.overlaps = overlap(variant.ranges(self.tensors))
        if variant.single is False:
            variant.result = replaced(self.result, lambda t: _HOLE)

    # --- what the trace did besides computing ---------------------------------------------------

    def _grads(self):
        """Gradients as the trace left them, put back to what they were."""
        self.new_grads, self.grad_ids, self.grad_of = [], {}, {}
        for variable, before in self.recorder.grads.values():
            after, owner = variable._grad, self._owner(variable)
            if before is not None:
                self.grad_ids[id(before)] = owner
                self.grad_of.setdefault(before._storage, owner)
            if after is not before:
                self.new_grads.append((variable, after))

    def _place(self, tensor):
        """The number of an argument, or a tensor that is held."""
        return next((n for n, t in enumerate(self.tensors) if t is tensor), tensor)

    def _owner(self, variable):
        """Whose gradient it is: the number of an argument, or a tensor that is held."""
        place = self._place(variable)
        if type(place) is int and id(variable) in self.recorder.captured:
            raise Unfit("the gradient of an argument is used that the function holds too")
        return place

    def _leaks(self, made):
        """Lazy storages that are kept in places the program does not see."""
        seen = {r._storage for r in (*self.results, *made)}
        seen |= {g._storage for _, g in self.new_grads if g is not None}
        seen |= _held_by_tape(self.results) | _held_by_fills(self.graph)
        kept = [s for _, s in self.recorder.live() if s not in seen]
        if kept:        # perhaps by a cycle that nobody holds
            del kept
            gc.collect()
            kept = [s for _, s in self.recorder.live() if s not in seen]
        if kept:
            raise Unfit(f"{len(kept)} tensors made inside are kept outside the results")

    def _constants(self):
        written = set()
        for node in self.graph.nodes:
            written |= node.written_buffers()
        if any(b.kind == "constant" for b in written):
            raise Unfit("a tensor made from Python data is written in place")

    # --- results --------------------------------------------------------------------------------

    def buffer(self, tensor):
        """The temporary that holds a lazy tensor, or None."""
        address = tensor._storage.address
        if not recording.is_fake(address) or tensor._storage in self.recorder.proxied:
            return None
        return self.recorder._buffer(self.recorder._find(address))

    def _outputs(self):
        wanted = {}
        for tensor in (*self.results, *(g for _, g in self.new_grads if g is not None)):
            buffer = self.buffer(tensor)
            if buffer is not None and buffer.kind == "temp":
                buffer.escapes = True
                wanted[buffer] = None
        return list(wanted)

    def _spec(self, tensor, order):
        """A function ``(storages, tensors) -> tensor`` that makes this result of a run."""
        number = self.stand_number.get(id(tensor))
        if number is not None:
            return lambda made, tensors: tensors[number]
        if id(tensor) in self.grad_ids:
            owner = self.grad_ids[id(tensor)]
            return lambda made, tensors: owned(owner, tensors)._grad
        if id(tensor) in self.recorder.captured:
            return lambda made, tensors: tensor
        form = tensor.dtype, tensor._shape, tensor._strides, tensor._offset
        buffer = self.buffer(tensor)
        if buffer is not None and buffer in order:
            place = order[buffer]
            return lambda made, tensors: make(made[place], *form)
        number = self.region_stand.get(tensor._storage)
        if number is not None:
            return self._view_spec(number, form)
        storage = tensor._storage
        if storage in self.recorder.proxied:
            storage = self.recorder.proxied[storage]
        if storage in self.grad_of:
            owner = self.grad_of[storage]
            return lambda made, tensors: make(owned(owner, tensors)._grad._storage, *form)
        if storage in self.recorder.inputs and self.recorder.inputs[storage].lazy is not None:
            return lambda made, tensors: make(storage.clone(), *form)   # a constant of the trace
        if not recording.is_fake(storage.address):
            return lambda made, tensors: make(storage, *form)
        raise Unfit("a result lies in memory that no op wrote")

    def _view_spec(self, number, form):
        dtype, shape, strides, offset = form
        back = self.back(number)

        def view(made, tensors):
            base = tensors[number]
            begin = 0 if back is None else base._address - back - base._storage.address
            if begin % dtype.itemsize:
                raise RuntimeError("self.storage_offset() must be divisible by the sizes of the "
                                   "elements to view it as another dtype")
            result = make(base._storage, dtype, shape, strides, offset + begin // dtype.itemsize)
            result._base = base if base._base is None else base._base
            return result
        return view

    def back(self, number):
        """Bytes from the start of an argument's region to the argument; None if the region is that
        of its whole storage."""
        stand = self.stands[number]     # an argument without elements is itself
        return next((s.back for s in self.recorder.stands if s.made is stand), None)

    def _grad_action(self, variable, grad, order):
        owner = self._owner(variable)
        spec = None if grad is None else self._spec(grad, order)

        def act(made, tensors):
            owned(owner, tensors)._grad = None if spec is None else spec(made, tensors)
        return act

    # --- inputs ---------------------------------------------------------------------------------

    def origin(self, buffer):
        """Where an input is found at each call: a field of ``Binding`` and what goes there."""
        storage = buffer.storage
        for number, stand in enumerate(self.stands):
            if self.recorder.proxied.get(stand._storage) is storage:
                return "arguments", (number, self.back(number))
        if storage in self.grad_of:
            return "grads", self.grad_of[storage]
        return "fixed", storage

    def _written(self, variant):
        storages, numbers = set(), set()
        for node in variant.forward.nodes:
            for buffer in node.written_buffers():
                if buffer.kind == "input":
                    kind, what = self.origin(buffer)
                    if kind == "arguments":
                        numbers.add(what[0])
                    elif kind == "fixed":
                        storages.add(what)
        variant.written, variant.written_arguments = list(storages), sorted(numbers)

    def _shared(self, variant):
        """Which arguments share memory with tensors that the function holds: asked at each call if
        anything is written, for then it matters."""
        held = {s for s, region in self.recorder.inputs.items()
                if region.lazy is None and s not in self.grad_of}
        held -= {self.recorder.proxied.get(s._storage) for s in self.stands} - {
            t._storage for t in self.recorder.captured.values()}
        variant.shared = [t._storage in held for t in self.tensors]
        matters = any(variant.shared) or variant.written or variant.written_arguments
        variant.held = held if matters and held else None
