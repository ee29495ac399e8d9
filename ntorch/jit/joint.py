"""Traces that went backward too: one graph becomes a forward and a backward program."""
import contextlib

from ..autograd import api
from ..ops.base import contiguous_strides, make
from ..runtime.storage import Storage
from .ir import Graph
from .lower import absorbed, assembled, lower, ready, simplified
from .recompute import recompute
from .regions import TraceError
from .simplify import drop_dead
from .unfit import Unfit
from .variant import Binding


class Joint:
    """A trace with the backward of its results ``wants`` behind it.

    ``leaves`` are what gradients are for, ``grads`` those gradients (None where none flows),
    ``tangents`` lazy tensors that stand for the gradients of the results, ``middle`` the first node
    of backward.
    """

    def __init__(self, maker, wants):
        self.maker, self.recorder, self.graph = maker, maker.recorder, maker.graph
        self.wants = wants
        leaves = [s for s in maker.stands if s._requires_grad]
        leaves += [t for t in maker.recorder.captured.values() if t._requires_grad]
        self.leaves = list({id(t): t for t in leaves}.values())
        self.middle = len(self.graph.nodes)
        self.tangents = [self._tangent(r) for r in wants]
        self.grads = self._trace()

    def _trace(self):
        """Run the tape backward under the recorder."""
        self.recorder.sealed = True
        try:
            # the tape is kept: if the trace is no program after all, its results need it
            return list(api.local_grad(self.wants, self.leaves, self.tangents))
        except TraceError as reason:
            self.undo()
            raise Unfit(str(reason)) from None
        except Exception as error:      # whoever calls backward will be told
            self.undo()
            raise Unfit(f"its backward raises {type(error).__name__}: {error}") from None
        finally:
            self.recorder.sealed = False

    def undo(self):
        """Forget the backward half of the graph."""
        del self.graph.nodes[self.middle:]

    @property
    def made(self):
        """Tensors of the trace that are no results."""
        return [*self.tangents, *(g for g in self.grads if g is not None)]

    def check(self):
        """Unfit if a gradient is memory that the programs neither make nor are handed."""
        for node in self.graph.nodes[self.middle:]:
            if any(b.storage in self.maker.grad_of for b in node.read_buffers()
                   if b.kind == "input"):
                raise Unfit("backward needs a gradient that was there before")
        given = {t._storage for t in self.tangents}
        for grad in self.grads:
            if grad is not None and grad._storage not in given:
                buffer = self.maker.buffer(grad)
                if buffer is None or buffer.kind != "temp":
                    raise Unfit("a gradient lies in the memory of an input")

    def _tangent(self, result):
        strides = contiguous_strides(result._shape)
        storage = Storage(max(1, result._shape.numel()) * result.dtype.itemsize)
        self.recorder._find(storage.address).buffer.kind = "input"
        return make(storage, result.dtype, result._shape, strides, 0)

    # --- the two programs -----------------------------------------------------------------------

    def build(self, variant, outputs):
        """Compile forward, which gives ``outputs`` and what backward needs, and backward."""
        first, second = Graph(), Graph()
        first.nodes, second.nodes = self.graph.nodes[:self.middle], self.graph.nodes[self.middle:]
        first.buffers = second.buffers = self.graph.buffers
        first.actions = self.graph.actions
        recorded = list(first.nodes), list(second.nodes)
        gradients = self._gradient_buffers()
        saved, movable = self._cut(first, second, outputs)
        every = list(dict.fromkeys([*outputs, *saved]))
        lower(first, movable[0])
        with _given(saved):
            lower(second, movable[1])
        self.maker.approve((recorded[0], first), (recorded[1], second))
        ready(first, second)
        variant.forward = assembled(first, every)
        variant.binding = Binding(variant.forward, self.maker.origin)
        with _given(saved):
            variant.backward = assembled(second, gradients)
        self._backward(variant, {b: i for i, b in enumerate(every)})
        self._leaves(variant)

    def _cut(self, first, second, outputs):
        """``(saved, movable)``: what forward keeps for backward, after what is cheap to compute
        again was moved behind; and whether either's nodes may be moved."""
        saved = _saved(first, second)
        for buffer in saved:
            buffer.escapes = True
        with _given(saved):
            movable = [simplified(second)]
        movable.append(simplified(first))
        if all(movable):
            with _given(saved):
                absorbed_ = absorbed(second)
            first.nodes, second.nodes = recompute(first, first.nodes, second.nodes, kept=outputs,
                                                  absorbed=absorbed_, separate=True)
            second.recomputed, first.recomputed = first.recomputed, []
        for buffer in saved:
            buffer.escapes = buffer in outputs
        saved = _saved(first, second)
        for buffer in saved:
            buffer.escapes = True
        if all(movable):
            drop_dead(first)
        return saved, movable[::-1]

    def _gradient_buffers(self):
        """The temporaries that hold gradients."""
        wanted = {}
        for grad in self.grads:
            buffer = None if grad is None else self.maker.buffer(grad)
            if buffer is not None and buffer.kind == "temp":
                buffer.escapes = True
                wanted[buffer] = None
        return list(wanted)

    def _backward(self, variant, place):
        """How backward is bound to tangents, what forward kept, arguments, and its results."""
        tangent_of = {self.recorder._find(t._storage.address).buffer: i
                      for i, t in enumerate(self.tangents)}
        sources = [None if g is None else self._gradient(g, tangent_of) for g in self.grads]
        variant.backward_inputs = [self._source(b, place, tangent_of)
                                   for b in variant.backward.inputs]
        order = {b: i for i, b in enumerate(variant.backward.outputs)}
        variant.gradients = [None if s is None else s(order) for s in sources]

    def _leaves(self, variant):
        maker = self.maker
        variant.leaf_numbers = [maker.stand_number.get(id(t)) for t in self.leaves]
        variant.leaves = [None if n is not None else t for n, t in zip(
            variant.leaf_numbers, self.leaves, strict=True)]
        variant.want_places = [next(i for i, r in enumerate(maker.results) if r is w)
                               for w in self.wants]
        variant.tangent_forms = [(w._shape, w.dtype) for w in self.wants]
        variant.tangent_metas = tuple((w._shape, w.dtype, None) for w in self.wants)
        self._kept(variant)

    def _kept(self, variant):
        """What backward reads and the user may have written meanwhile."""
        inputs = variant.backward_inputs
        variant.kept_arguments = sorted({what[0] for kind, what in inputs if kind == "arguments"})
        kept = [what for kind, what in inputs if kind == "fixed"]
        variant.fixed = list(dict.fromkeys([*kept, *(s for _, s in variant.binding.fixed)]))
        variant.kept_fixed = range(len(dict.fromkeys(kept)))
        variant.saved_places = sorted({what for kind, what in inputs if kind == "saved"})
        shown = {self.maker.buffer(t) for t in (
            *self.maker.results, *(g for _, g in self.maker.new_grads if g is not None))}
        variant.saved_results = [place for place in variant.saved_places
                                 if variant.forward.outputs[place] in shown]

    def _gradient(self, grad, tangent_of):
        """``order -> (storages, tangents) -> tensor`` of a gradient."""
        form = grad.dtype, grad._shape, grad._strides, grad._offset
        buffer = self.maker.buffer(grad)
        if buffer in tangent_of:        # passed on as it came
            number = tangent_of[buffer]

            def passed(made, tangents):
                given = tangents[number]
                return make(given._storage, *form[:3], form[3] + given._offset)
            return lambda order: passed

        def place(order):
            where = order[buffer]
            return lambda made, tangents: make(made[where], *form)
        return place

    def _source(self, buffer, place, tangent_of):
        """Where backward finds an input."""
        if buffer in tangent_of:
            return "tangent", tangent_of[buffer]
        if buffer in place:
            return "saved", place[buffer]
        return self.maker.origin(buffer)


@contextlib.contextmanager
def _given(buffers):
    """Within the context, memory that forward made is an input: of backward it is."""
    for buffer in buffers:
        buffer.kind = "input"
    try:
        yield
    finally:
        for buffer in buffers:
            buffer.kind = "temp"


def _saved(first, second):
    """Temporaries of the first graph that the second uses."""
    made, used = set(), set()
    for node in first.nodes:
        made |= {b for b in node.written_buffers() if b.kind == "temp"}
    for node in second.nodes:
        used |= node.read_buffers() | node.written_buffers()
    return sorted(made & used, key=lambda b: b.number)
