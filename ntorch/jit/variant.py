"""A variant: one traced signature of a function, with its programs and how they are bound.

Inputs of a program are arguments, captured tensors (parameters, globals) and gradients that are
there already; its outputs are results, new gradients, and what backward will need. ``maker.py``
makes variants.
"""
import operator

from ..runtime.storage import Borrowed
from .backward import CompiledBackward, SpentBackward, region_start
from .call import this_call
from .explain import memory_of, memory_text, program_text, source_text
from .lower import overlap
from .signature import unflatten

FORM = operator.attrgetter("_storage", "_offset", "_shape", "_strides", "dtype", "_requires_grad")
grad_form = operator.attrgetter("_shape", "_strides", "_offset", "dtype")   # of a gradient


class Binding:
    """Where the inputs of a program are found at each call."""

    def __init__(self, program, origin):
        self.arguments, self.fixed, self.grads = [], [], []
        for place, buffer in enumerate(program.inputs):
            kind, what = origin(buffer)
            getattr(self, kind).append((place, what))
        self.count = len(program.inputs)

    def addresses(self, tensors):
        """Addresses in the order of the program's inputs."""
        found = [0] * self.count
        for place, (number, back) in self.arguments:
            found[place] = tensors[number]._address if back == 0 else region_start(
                tensors[number], back)
        for place, storage in self.fixed:
            found[place] = storage.address
        for place, owner in self.grads:
            found[place] = owned(owner, tensors)._grad._storage.address
        return found


class Variant:
    """Programs of one trace. ``run(tensors)`` gives what the function would."""

    def __init__(self):
        self.guards = None
        self.forward = self.backward = None
        self.used = 0           # when it ran last, by the count of ``compile.py``

    def guard(self, watch, exclude, frozen):
        """Take over what the trace depends on besides its arguments."""
        self.guards = watch.guards(exclude=exclude)
        watched = {id(t) for t in watch.tensors}
        self.captured = [pair for pair in self.captured if id(pair[0]) not in watched]
        self.frozen = tuple(frozen.items())

    def holds(self, tensors, numbers):
        """Whether the trace still stands for the function."""
        for place, value in self.frozen:
            if numbers[place] != value:
                return False
        for read, value, _ in self.pins:
            if read() != value:
                return False
        for owner, read, value, _ in self.facts:
            if read(owned(owner, tensors)) != value:
                return False
        if self.held is not None:
            for tensor, shared in zip(tensors, self.shared, strict=True):
                if (tensor._storage in self.held) is not shared:
                    return False
        if self.writes and any(type(t._storage._block) is Borrowed for t in tensors):
            if overlap(self.ranges(tensors)) is not self.overlaps:
                return False
        for tensor, form in self.captured:
            if FORM(tensor) != form:
                return False
        return self._holds_grads(tensors) and self.guards.check()

    def _holds_grads(self, tensors):
        """Whether gradients are there, or not, as they were; those share memory that did."""
        first, number = {}, 0
        for owner, had in self.grad_states:
            grad = (tensors[owner] if type(owner) is int else owner)._grad
            if grad is None or had is None:
                if grad is not had:
                    return False
            elif grad_form(grad) != had or (
                    first.setdefault(grad._storage, number) != self.grads_together[number]):
                return False
            number += 1
        return True

    def ranges(self, tensors):
        """Where the elements of arguments and captured storages lie, those of one storage once."""
        found = {t._storage: (t._address, t._storage.address + t._storage._nbytes - t._address)
                 for t in tensors}
        found.update((s, (s.address, s._nbytes)) for _, s in self.binding.fixed)
        return found.values()

    def explain_failure(self, tensors, numbers):
        """What changed since the trace."""
        for place, value in self.frozen:
            if numbers[place] != value:
                return f"the number {value} at position {place} is now {numbers[place]}"
        for read, value, what in self.pins:
            if read() != value:
                return f"{what} changed from {value} to {read()}"
        for owner, read, value, name in self.facts:
            now = read(owned(owner, tensors))
            if now != value:
                whose = f"argument {owner}" if type(owner) is int else "a tensor that is held"
                return f"{name} of {whose} changed from {value} to {now}"
        for tensor, form in self.captured:
            if FORM(tensor) != form:
                return f"a captured tensor of shape {tuple(form[2])} was replaced or changed form"
        for owner, had in self.grad_states:
            variable = owned(owner, tensors)
            if (variable._grad is None) != (had is None):
                return f"a gradient of shape {tuple(variable._shape)} appeared or vanished"
        return self.guards.explain()

    def run(self, tensors, numbers=(), drawn=False):
        """One call; ``drawn``: the one that was traced."""
        values = {}
        if numbers:
            with this_call(numbers):
                made = self.forward.run(self.binding.addresses(tensors), drawn, values)
        else:
            made = self.forward.run(self.binding.addresses(tensors), drawn, values)
        for storage in self.written:
            storage.version += 1
        for number in self.written_arguments:
            tensors[number]._storage.version += 1
        node = None
        if self.backward is not None:
            node = CompiledBackward(self, (tensors, numbers), made, values)
        results = [spec(made, tensors) for spec in self.specs]
        if node is not None:
            node.attach(results)
        for place in self.inferred:
            results[place]._inference = True
        for place in self.spent:
            SpentBackward().attach(results[place])
        for action in self.grad_actions:
            action(made, tensors)
        numbered = iter([results[place] for place in self.places])
        if self.single:
            return results[0]
        with this_call(numbers):
            return self.rebuild(numbered)

    def again(self, tensors, numbers):
        """What the function returns, run op by op on the arguments of a call."""
        arguments, keywords = unflatten(self.call_spec, tensors, numbers)
        return self.function(*arguments, **keywords)

    def programs(self):
        """``(title, program)`` of the forward and, if there is one, the backward program."""
        found = [("forward", self.forward), ("backward", self.backward)]
        return [pair for pair in found if pair[1] is not None]

    @property
    def launches(self):
        """Launches of its programs: what a variant costs memory in."""
        return sum(len(program.nodes) for _, program in self.programs())

    def explain(self):
        """What the programs are made of: each launch, its members, why groups were cut, memory."""
        return "\n".join([*(program_text(program, title) for title, program in self.programs()),
                          memory_text(self.memory)])

    @property
    def memory(self):
        """What forward keeps for backward, what is computed again, and the planned peak."""
        return memory_of(*[program for _, program in self.programs()],
                         *([self.saved_places] if self.backward is not None else []))

    def source(self):
        """The generated kernels, as the Python they are."""
        return "\n".join(source_text(program) for _, program in self.programs())

    @property
    def graph(self):
        """The recorded graph, one node a line, before anything was fused."""
        return self.trace_text


def owned(owner, tensors):
    """The tensor whose gradient is meant: that argument, or the tensor itself."""
    return tensors[owner] if type(owner) is int else owner


def together(grads):
    """For each gradient the number of the first in the same memory."""
    first = {}
    return [None if grad is None else first.setdefault(grad._storage, number)
            for number, grad in enumerate(grads)]
