"""Pointwise tails of contractions: computed on the sums while they are in the cache.

``absorb_all`` looks, behind each ``Contract`` of a graph, for Maps that read its result element by
element (a bias, an activation, a residual, the scale and shift of a batch norm, a cast) and puts
one epilogue in place of the contraction's own that computes them all. What nobody else reads is
never stored.
"""
import typing

from ..kernels import gemm
from ..ops.base import product
from . import epilogue_code
from .codegen import number_kind, number_slots, pointer_of
from .epilogue_code import Chain
from .ir import Contract, Map, Pointer, Together, View
from .sums import Operand, chained, describe, refine, stride_at

MOST_OPERANDS = 8           # with a value for each column, in one epilogue
WINDOW = 96                 # nodes behind a contraction among which its tail is looked for


class Tail:
    """A contraction and the Maps that its epilogue is to compute."""

    def __init__(self, contract):
        self.contract, self.maps = contract, []
        self.described = described = describe(contract)
        self.space, self.cuts = described.space, set(described.space.cuts)
        self.T, code = contract.store.T, contract.store.code
        total = self.space.total
        out = Operand(described.out, code, ((1, total, 1),))
        self.values = [out]             # memory that holds each value, if it is stored
        self.latest = {out.pointer.buffer: 0}
        self.operands = [described.added] if described.added else []
        self.steps, self.numbers = [], [(("T", self.T), s) for s in described.scales]

    def accept(self, node):
        """Add a Map if its epilogue can compute it; says whether it did."""
        if node.compute.is_complex or product(node.shape) != self.space.total:
            return False
        order = self._order(node)
        if order is None:
            return False
        sizes, at = [node.shape[d] for d in order], 1
        lows = []
        for size in reversed(sizes):
            lows.append(at)
            at *= size
        cuts = self.cuts | set(lows)
        if not self._fits(cuts):
            return False

        def seen(view):
            ranges = tuple((low, low * node.shape[d], view.strides[d])
                           for d, low in zip(reversed(order), lows, strict=True))
            return Operand(pointer_of(view), view.dtype.code, ranges)

        step = self._step(node, seen)
        if step is None or not self._results(node, seen):
            return False
        self.cuts = cuts
        self.operands, self.numbers, arguments = step
        first = len(self.values)
        codes = tuple(r.dtype.code for r in node.results)
        self.steps.append((node.scalar, arguments, node.result_code, codes, node.compute.compute))
        for k, result in enumerate(node.results):
            self.values.append(seen(result))
            self.latest[result.buffer] = first + k
        self.maps.append(node)
        return True

    def _order(self, node):
        """Dimensions of the Map, outermost first, in which its iteration space is this space; None
        if it reads none of the values in that way."""
        for view in node.operands:
            if type(view) is View and view.buffer in self.latest:
                dims = [d for d, size in enumerate(node.shape) if size != 1]
                dims.sort(key=lambda d, strides=view.strides: -strides[d])
                return dims
        return None

    def _fits(self, cuts):
        """Whether an epilogue can walk ranges that begin at ``cuts``."""
        if chained(cuts) is None:
            return False
        return self.space.grid is None or {c for c in cuts if c < self.space.sizes[2]} == {
            c for c in self.space.cuts if c < self.space.sizes[2]}

    def _dense(self, operand):
        """Whether an operand holds the elements side by side, in the order of the space."""
        return all(stride == low for low, _, stride in operand.ranges)

    def _holds(self, operand):
        """The value that is read with this operand; None if it is not held like that."""
        value = self.latest[operand.pointer.buffer]
        known = self.values[value]
        if known.pointer == operand.pointer and known.code == operand.code and (
                self._dense(known) and self._dense(operand)):
            return value
        return None

    def _step(self, node, seen):
        """``(operands, numbers, arguments)`` with the Map's added; None if it reads what the
        epilogue does not have."""
        operands, numbers, arguments = list(self.operands), list(self.numbers), []
        for given in node.operands:
            if type(given) is not View:
                kind = number_kind(node.compute)
                arguments.append(("n", len(numbers)))
                numbers.append(((kind, node.compute.compute), number_slots(given, kind)[0]))
                continue
            operand = seen(given)
            if given.buffer in self.latest:
                value = self._holds(operand)
                if value is None:
                    return None
                arguments.append(("v", value))
                continue
            if operand not in operands:
                operands.append(operand)
            arguments.append(("o", operands.index(operand)))
        wide = sum(any(stride for low, _, stride in o.ranges if low < self.space.sizes[2])
                   for o in operands)
        # where rows have gaps, gathering a whole operand costs what a pass over it does
        most = MOST_OPERANDS if self.space.grid is None else 0
        return (operands, numbers, tuple(arguments)) if wide <= most else None

    def _results(self, node, seen):
        """Whether the Map's results may be written row by row as the sums get ready."""
        taken = {o.pointer.buffer for o in self.operands} | self.contract.read_buffers()
        views = [v for v in node.operands if type(v) is View]
        for k, result in enumerate(node.results):
            operand = seen(result)
            if any(result.buffer is r.buffer for r in node.results[:k]):
                return False
            if result.buffer in self.latest:
                if self._holds(operand) is None:
                    return False
            elif result.buffer in taken:
                return False
            elif any(v.buffer is result.buffer and v != result for v in views):
                return False
        return True

    def members(self):
        """The nodes that become one."""
        return [self.contract, *self.maps]

    def build(self, needed):
        """The ``Contract`` of all; ``needed(buffer)`` says whether somebody else reads a buffer."""
        stored = [v for buffer, v in self.latest.items() if needed(buffer)]
        results = [self.values[v] for v in sorted(stored)]
        groups = self._dimensions([*self.operands, *results])
        numbers = [slot for _, slot in self.numbers]
        strides = [[stride_at(o, low) if size > 1 else 0 for group in groups for low, size in group]
                   for o in (*self.operands, *results)]
        columns = len(groups[2])
        operands = tuple((o.code, _layout(s[-columns:])) for o, s in zip(
            self.operands, strides, strict=False))
        kept = tuple((v, _layout(s[-columns:], True)) for v, s in zip(
            sorted(stored), strides[len(operands):], strict=True))
        chain = Chain(self.T, self.contract.slots[gemm.NR], self.described.first,
                      self.described.added is not None, self.contract.store.code, operands,
                      tuple(self.steps), kept, tuple(kind for kind, _ in self.numbers),
                      tuple(map(len, groups)), self.space.grid is not None)
        slots = [o.pointer for o in (*self.operands, *results)] + numbers
        slots += [size for group in groups for _, size in group]
        slots += self.space.grid[3:] if self.space.grid else ()
        for each in strides:
            slots += each
        return self._contract(epilogue_code.kernel(chain), slots,
                              {o.pointer.buffer for o in results})

    def _dimensions(self, operands):
        """``(low, size)`` of the dimensions of matrices, rows and columns, outermost first, as few
        as all operands allow."""
        matrices, rows, columns = self.space.sizes
        cuts, groups = chained(self.cuts), []
        for begin, end in ((rows * columns, matrices * rows * columns), (columns, rows * columns),
                           (1, columns)):
            if len(groups) == 2 and self.space.grid is not None:
                depth, height, width = self.space.grid[:3]
                groups.append([(width * height, depth), (width, height), (1, width)])
                continue
            inside = [c for c in cuts if begin <= c <= end]
            dims = [(low, high // low) for low, high in zip(inside, inside[1:], strict=False)]
            merged = []
            for low, size in dims:
                if merged and all(stride_at(o, low) == stride_at(o, merged[-1][0]) * merged[-1][1]
                                  for o in operands):
                    merged[-1] = merged[-1][0], merged[-1][1] * size
                else:
                    merged.append((low, size))
            groups.append(merged[::-1] or [(begin, 1)])
        return groups

    def _contract(self, kernel, slots, writes):
        old = self.contract
        at = old.slots[gemm.STORE_AT] + gemm.STORE_SLOTS
        words = [*old.slots[:at], *slots]
        words[gemm.STORE] = kernel
        made = Contract("+".join(n.name for n in self.members()), old.kernel, words, old, None)
        made.origin, made.writes = old.origin, writes
        made.reads = {s.buffer for s in words[:at] if type(s) is Pointer} | {
            o.pointer.buffer for o in self.operands}
        return made


def _layout(strides, result=False):
    if not any(strides) and not result:
        return "R"
    return "C" if strides[-1] == 1 else "A"


def absorb(contract, maps, needed=lambda buffer: True):
    """The contraction with the pointwise nodes ``maps`` computed by its epilogue, or None.

    ``needed(buffer)`` says whether anybody else reads a buffer: what is not is not stored.
    """
    if describe(contract) is None:
        return None
    tail = Tail(contract)
    if not all(tail.accept(node) for node in maps):
        return None
    return tail.build(needed)


class Found(typing.NamedTuple):
    """A tail in a graph: ``nodes[begin:end]`` become ``before``, one Contract, ``after``."""
    tail: Tail
    begin: int
    end: int
    before: list
    after: list


def find(nodes, begin, readers):
    """The ``Found`` of the contraction ``nodes[begin]``; None if nothing follows it that it could
    absorb. ``readers`` maps buffers to the Maps that read them."""
    if describe(nodes[begin]) is None:
        return None
    tail, best = Tail(nodes[begin]), None
    waiting = set(readers.get(tail.described.out.buffer, ()))
    before, after = [], []
    for place in range(begin + 1, min(len(nodes), begin + 1 + WINDOW)):
        node = nodes[place]
        waiting.discard(node)
        moved = _moved_for(node, after, tail) if isinstance(node, Map) else None
        if moved is None or not tail.accept(node):
            after.append(node)
        else:
            before += moved
            after = [other for other in after if other not in moved]
            best = Found(tail, begin, place + 1, list(before), list(after))
            for result in node.results:
                waiting.update(readers.get(result.buffer, ()))
            waiting.difference_update(nodes[begin:place + 1])
        if not waiting:
            break
    return best


def _moved_for(node, skipped, tail):
    """The nodes of ``skipped`` that must come before ``node``, and so before the contraction, for
    ``node`` to be part of its tail; None if they cannot."""
    if not any(type(v) is View and v.buffer in tail.latest for v in node.operands):
        return None
    moved, later = [], Together([node])
    for other in reversed(skipped):
        if later.follows(other):
            moved.append(other)
            later.add(other)
    members = Together(tail.members())
    return None if any(map(members.follows, moved)) else moved[::-1]


def candidates(graph):
    """The tails that ``absorb_all`` would compute in epilogues, for inspection: lists of Maps."""
    readers = _readers(graph.nodes)
    found = [find(graph.nodes, place, readers) for place, node in enumerate(graph.nodes)
             if isinstance(node, Contract)]
    return [each.tail.maps for each in found if each is not None]


def _readers(nodes):
    readers = {}
    for node in nodes:
        if isinstance(node, Map):
            for buffer in node.read_buffers():
                readers.setdefault(buffer, []).append(node)
    return readers


def absorb_all(graph):
    """Have every contraction compute the pointwise tail behind it; changes ``graph.nodes``."""
    nodes = graph.nodes
    for node in nodes:
        if isinstance(node, Contract):
            refine(node)
    readers, place = _readers(nodes), 0
    while place < len(nodes):
        if isinstance(nodes[place], Contract):
            found = find(nodes, place, readers)
            if found is not None:
                _replace(nodes, found)      # what now stands here may be another contraction
                continue
        place += 1
    return graph


def _replace(nodes, found):
    members = set(found.tail.members())
    used = set()
    for node in (*found.after, *nodes[found.end:]):
        if node not in members:
            used |= node.read_buffers()
    made = found.tail.build(lambda buffer: buffer.outlives or buffer in used)
    nodes[found.begin:found.end] = [*found.before, made, *found.after]


__all__ = ["absorb", "absorb_all", "candidates", "find"]
