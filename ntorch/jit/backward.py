"""The tape nodes of compiled calls."""
from ..autograd import api
from ..autograd.modes import state
from ..autograd.node import FREED, Node, edge_of, modified, sequence_numbers, type_name
from ..ops.base import is_contiguous
from ..ops.registry import ops
from ..runtime import recording
from .tree import tensors_of


class SpentBackward(Node):
    """The history of a result whose backward ran inside the compiled function."""

    released = True

    def attach(self, result):
        """Make this the history of ``result``."""
        self.sequence = next(sequence_numbers)
        self.outputs = ((result._shape, result.dtype, None),)
        result._grad_fn, result._output_nr, result._requires_grad = self, 0, True

    def apply(self, grads):
        raise RuntimeError(FREED)


class CompiledBackward(Node):
    """The node of a compiled call: its backward is a program too."""

    def __init__(self, variant, call, made, values):
        self.variant, self.call, self.values = variant, call, values
        self.made = {place: made[place] for place in variant.saved_places}
        self.sequence = next(sequence_numbers)
        self.edges = [edge_of(t) for t in self._leaves()]
        self.versions = [t._storage.version for t in call[0]]
        self.fixed_versions = [s.version for s in variant.fixed]
        self.outputs = variant.tangent_metas

    def attach(self, results):
        """Make this the history of the results that want one."""
        for number, place in enumerate(self.variant.want_places):
            result = results[place]
            result._grad_fn, result._output_nr, result._requires_grad = self, number, True

    def release(self):
        self.made = self.call = None
        self.released = True

    def _leaves(self):
        tensors, variant = self.call[0], self.variant
        return [tensors[n] if n is not None else t for n, t in zip(
            variant.leaf_numbers, variant.leaves, strict=True)]

    def _check_arguments(self, numbers):
        """RuntimeError if one of these arguments was written since the call."""
        tensors = self.call[0]
        for n in numbers:
            storage = tensors[n]._storage
            if storage.version != self.versions[n]:
                raise modified(f"[{type_name(tensors[n])} {list(tensors[n]._shape)}], which is "
                               f"argument {n} of the call behind {self.name()}", storage,
                               self.versions[n])

    def _check_fixed(self, places):
        """RuntimeError if one of these storages, which the function holds, was written since."""
        for place in places:
            storage = self.variant.fixed[place]
            if storage.version != self.fixed_versions[place]:
                raise modified(f"a tensor that the function behind {self.name()} holds", storage,
                               self.fixed_versions[place])

    def _check_results(self):
        """RuntimeError if a result that backward reads was written: a fresh one has version 0."""
        for place in self.variant.saved_results:
            if self.made[place].version:
                raise modified(f"a result of the call behind {self.name()}", self.made[place], 0)

    def _again(self, grads):
        """Gradients with a history of their own: the function runs once more, op by op."""
        variant, (tensors, numbers) = self.variant, self.call
        if variant.written or variant.written_arguments or variant.forward.actions:
            raise RuntimeError("the backward of a compiled function that writes its inputs or "
                               "draws random numbers cannot be differentiated again "
                               "(create_graph=True); call the function uncompiled for that")
        self._check_arguments(range(len(tensors)))
        self._check_fixed(range(len(variant.fixed)))
        every = tensors_of(variant.again(tensors, numbers))
        results = list({id(t): t for t in every}.values())      # as the trace counted them
        outputs = [results[place] for place in variant.want_places]
        given = [ops.zeros_like(o) if g is None else g for o, g in zip(outputs, grads,
                                                                       strict=True)]
        return api.local_grad(outputs, self._leaves(), given, create_graph=True)

    def apply(self, grads):
        if self.released:
            raise RuntimeError(FREED)
        if recording.active and recording.current() is not None:    # the call was before the trace
            with recording.current().plainly("the backward of an earlier compiled call"):
                return self._apply(grads)
        return self._apply(grads)

    def _apply(self, grads):
        variant = self.variant
        self._check_arguments(variant.kept_arguments)
        self._check_fixed(variant.kept_fixed)
        self._check_results()
        if state.enabled:
            return self._again(grads)
        tangents = [_tangent(g, *form) for g, form in zip(grads, variant.tangent_forms,
                                                          strict=True)]
        addresses = [self._address(kind, what, tangents)
                     for kind, what in variant.backward_inputs]
        made = variant.backward.run(addresses, values=self.values)
        return [None if g is None else g(made, tangents) for g in variant.gradients]

    def _address(self, kind, what, tangents):
        if kind == "tangent":
            return tangents[what]._address
        if kind == "saved":
            return self.made[what].address
        if kind == "arguments":
            return region_start(self.call[0][what[0]], what[1])
        return what.address


def region_start(tensor, back):
    """Where the region of an argument begins; see ``stands.Stand``."""
    return tensor._storage.address if back is None else tensor._address - back


def _tangent(grad, shape, dtype):
    """A gradient as the program wants it: row-major, zeros where none came."""
    if grad is None:
        return ops.zeros(tuple(shape), dtype=dtype)
    if not is_contiguous(grad._shape, grad._strides):
        return ops.clone(grad).contiguous()
    return grad
