"""From a call to its verdict: trace it, and see whether a program is less work than its ops.

What is traced must be a function of its arguments. Whatever else it does (reads a value, draws
random numbers, warns, writes an argument, raises) makes it ``Plain``; the trace has then left
nothing behind, and the call runs op by op as if nobody had looked.
"""
from ..ops.base import TensorBase
from .backward import CompiledBackward
from .ir import Check, Contract, Reduce
from .maker import Maker
from .recorder import Recorder
from .regions import TraceError
from .tree import replaced
from .unfit import Unfit

# Microseconds that eager takes for each op, and that a program takes: forward alone, and forward
# and backward where the tape records. Besides, each launch of a program, and memory, in bytes a
# microsecond.
COSTS = {1: ((4.0,), (6.0,)), 2: ((6.0, 8.0), (9.0, 9.0))}
LAUNCH, BANDWIDTH = 1.0, 10_000.0
always = False          # for tests: a program wherever one can be made, however small


class Plain:
    """Run op by op, for a ``reason``, which may not depend on sizes."""

    fused = False

    def __init__(self, name, reason, for_all_sizes=False):
        self.name, self.reason, self.for_all_sizes = name, reason, for_all_sizes

    def __repr__(self):
        return f"{self.name}: op by op: {self.reason}"


class Inlined:
    """Run as the program that a trace gave; results and history are those of the Python."""

    fused = True

    def __init__(self, name, variant, result, call):
        self.name, self.variant, self.result = name, variant, None
        self.forms = call.forms
        self.numbers = self._numbers(variant.binding)
        if variant.backward is not None:
            variant.again = lambda tensors, numbers: call(tensors)
            self.node = type(call.node_name, (CompiledBackward,), {})
        self._remember(result)

    def _numbers(self, binding):
        """Numbers of the arguments in the order of the program's inputs, if these are all."""
        if binding.fixed or binding.grads or any(
                back != 0 for _, (_, back) in binding.arguments):
            return None
        return [number for _, (number, _) in sorted(binding.arguments)]

    def _remember(self, result):
        places = iter(self.variant.places)
        self.single = isinstance(result, TensorBase)
        self.listed = type(result) in (list, tuple) and all(
            r is None or isinstance(r, TensorBase) for r in result)
        if self.listed:
            self.kind = type(result)
            self.places = [-1 if r is None else next(places) for r in result]
        elif not self.single:
            self.result = self.variant.result

    def run(self, tensors):
        """The result for other arguments of the same form."""
        variant = self.variant
        addresses = (variant.binding.addresses(tensors) if self.numbers is None
                     else [tensors[n]._address for n in self.numbers])
        made = variant.forward.run(addresses)
        results = [spec(made, tensors) for spec in variant.specs]
        if variant.backward is not None:
            self.node(variant, (tensors, ()), made, {}).attach(results)
        if self.single:
            return results[0]
        if self.listed:
            return self.kind([results[k] if k >= 0 else None for k in self.places])
        numbered = iter([results[place] for place in variant.places])
        return replaced(self.result, lambda t: next(numbered))

    def programs(self):
        """``(title, program)`` of what runs, forward and perhaps backward."""
        return self.variant.programs()

    def explain(self):
        """What the programs are made of."""
        return f"{self!r}\n" + self.variant.explain()

    def source(self):
        """The generated kernels, as the Python they are."""
        return self.variant.source()

    @property
    def graph(self):
        """The recorded graph, one node a line, before anything was fused."""
        return self.variant.graph

    def __repr__(self):
        sizes = ", ".join(f"{d.code}[{'x'.join(map(str, s))}]" for d, s in self.forms)
        launches = " and ".join(str(len(program.nodes)) for _, program in self.programs())
        return f"{self.name}({sizes}): a program of {launches} launches"


class Apart(Unfit):
    """No two launches can be merged, however large they are."""


class Pure(Recorder):
    """Records what is a function of its arguments; refuses what is not."""

    def __init__(self):
        super().__init__(None)
        self.sealed = True

    def touch(self, storage):
        if storage in self.proxied or storage in self.proxies:
            raise TraceError(f"a value was read in {self.names[-1] or 'Python'}")
        return super().touch(storage)

    def _refused(self, *_):
        raise TraceError(f"{self.names[-1] or 'Python'} asks for what changes from call to call")

    dynamic = pin = host_fill = note_grad = noted = fact = _refused


def traced(name, tensors, call):
    """The verdict on ``call(tensors)``."""
    if any(0 in t._shape for t in tensors):
        return Plain(name, "an argument has no elements")
    recorder = Pure()
    stands = [recorder.stand_in(t) for t in tensors]
    call.forms = [(t.dtype, t._shape) for t in tensors]
    try:
        with recorder:
            result = call(stands)
            variant = _Judge(recorder, result, stands, tensors, call.gives_views).make()
    except (TraceError, Unfit) as reason:
        return Plain(name, str(reason), type(reason) is Apart)
    except Exception as error:      # it will be raised again, by the Python itself
        return Plain(name, f"it raises {type(error).__name__}: {error}")
    return Inlined(name, variant, result, call)


class _Judge(Maker):
    """Makes the variant, unless running op by op is right or less work."""

    def __init__(self, recorder, result, stands, tensors, gives_views):
        super().__init__(recorder, result, stands, tensors)
        self.gives_views = gives_views

    def make(self):
        if self.recorder.reads:
            raise Unfit(self.recorder.reads[0])
        if not self.results:
            raise Unfit("it gives no tensor")
        for tensor in self.recorder.captured.values():
            region = self.recorder.inputs.get(tensor._storage)
            if region is None or region.lazy is None:
                raise Unfit("it uses a tensor that is no argument")
        if not self.gives_views and any(
                id(r) in self.stand_number or r._storage in self.region_stand
                for r in self.results):
            raise Unfit("it gives an argument or a view of one")
        return super().make()

    def approve(self, *halves):
        """Unfit if the program would do harm, or more work than its ops."""
        for nodes, _ in halves:
            for node in nodes:
                if isinstance(node, Contract):
                    raise Unfit("it multiplies matrices")
                if any(b.kind == "input" for b in node.written_buffers()):
                    raise Unfit("it writes an argument")
        plain = fused = 0
        for (nodes, graph), op, program in zip(halves, *COSTS[len(halves)], strict=True):
            plain += op * len(nodes) + _transport(nodes)
            fused += program + LAUNCH * len(graph.nodes) + _transport(graph.nodes)
        if not always and all(
                len(graph.nodes) >= len(nodes) and not any(type(n) is Reduce for n in nodes)
                for nodes, graph in halves):
            raise Apart("there is nothing to merge")
        if fused >= plain and not always:
            raise Unfit(f"{fused:.0f} us fused, {plain:.0f} us op by op")


def _transport(nodes):
    """Microseconds that the memory takes which the nodes read and write."""
    moved = 0
    for node in nodes:
        if not isinstance(node, Check):
            moved += sum(b.nbytes for b in node.read_buffers() | node.written_buffers())
    return moved / BANDWIDTH
