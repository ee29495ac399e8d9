"""Fusion: Maps and Reduces become as few kernels as the order of reads and writes allows.

Every node starts as a group of its own (``spaces.py``). In the order of the nodes, a group is
merged with those that share elements with it: producers of what it reads first, then groups that
read or write the same. A merge needs one iteration space, no way from one group to the other
through a third, and no element that one member writes and another sees at a different index. What
is left are launches of generated kernels (``loopnest.py``, ``rows.py``, ``blocks.py``).
"""
import sys

from ..ops.base import product
from ..runtime import dtypes
from . import blocks, loopnest, rows, source
from .codegen import lower, pointer_of
from .expression import Expression
from .ir import Fused, Map, Pointer, Reduce
from .kinds import kind_of, refusal
from .order import dependencies, scheduled
from .spaces import MAX_MEMBERS, MAX_OPERANDS, MORE, Access, group_of, hazard, overlay

NEIGHBOURS = 12         # groups at one buffer that are tried


def fuse(graph, build=True):
    """Replace every ``Map`` and ``Reduce`` of ``graph`` by launches.

    Without ``build`` the fused ones have no kernel yet: ``build_all(graph.nodes)`` builds them.
    """
    fusion = Fusion(graph)
    fusion.merge_all()
    graph.nodes = fusion.lowered()
    if build:
        build_all(graph.nodes)


def build_all(nodes):
    """Give each fused launch that has none its kernel: from this process, the store, or built."""
    for node in nodes:
        if type(node) is Fused and node.kernel is None:
            node.kernel = source.find(node.spec)


class Fusion:
    """The groups of a graph and what must run before what, as bitsets of node positions."""

    def __init__(self, graph):
        self.graph, self.nodes = graph, graph.nodes
        self.readers, self.writers = {}, {}
        self.before = dependencies(self.nodes, self.readers, self.writers)
        self.spread = False
        self.refused = {}           # two groups -> why they do not merge; that does not change
        self.groups = {}            # position -> group, or None for other nodes
        self.leaders = list(range(len(self.nodes)))     # position -> the first of its group
        self.ancestors = {}         # leader -> bitset of all that must run before its group
        reach = []
        for position, node in enumerate(self.nodes):
            self.groups[position] = (group_of(node, position) if type(node) in (Map, Reduce)
                                     else None)
            every = self.before[position]
            for p in _bits(self.before[position]):
                every |= reach[p]
            reach.append(every)
            self.ancestors[position] = every
        self.due = self._due()

    def _due(self):
        """For each node how many launches of the graph come before the first that needs it."""
        before, count = [], 0
        for position in range(len(self.nodes)):
            before.append(count)
            count += self.groups[position] is None
        due = list(before)
        for position in range(len(self.nodes) - 1, -1, -1):
            written = self.nodes[position].written_buffers()
            if self.groups[position] is None or any(b.outlives for b in written):
                continue
            later = [due[p] for b in written
                     for p in _bits(self.readers.get(b, 0) >> position + 1 << position + 1)]
            due[position] = min(later, default=before[position])
        return due

    # --- merging ---------------------------------------------------------------------------------

    def merge_all(self):
        """Merge along reads first; what then still shares operands is merged beside each other; at
        last small producers go to the one who repeats what they give."""
        for siblings, self.spread in ((False, False), (True, False), (False, True)):
            for position in range(len(self.nodes)):
                group = self.groups[position]
                if group is None or self._first(group) != position and siblings:
                    continue
                self._merge_with_neighbours(position, siblings)

    def _first(self, group):
        return (group.nodes & -group.nodes).bit_length() - 1

    def _merge_with_neighbours(self, position, siblings):
        for other in self._candidates(position, siblings):
            group, earlier = self.groups[position], self.groups[other]
            if earlier is group or earlier is None:
                continue
            if self._first(earlier) > self._first(group) and siblings:
                group, earlier = earlier, group
            tried = earlier.nodes, group.nodes, self.spread
            merged = self.refused.get(tried) or self._try(earlier, group)
            if type(merged) is str:
                self.refused[tried] = merged
                if not siblings and not self.spread:
                    note = f"{self.nodes[position].name} stays apart: {merged}"
                    if note not in group.why:
                        group.why.append(note)
            else:
                if self.spread:
                    merged.why = [w for w in merged.why if not w.endswith(MORE)]
                self._accept(merged, earlier, group)

    def _candidates(self, position, siblings):
        """Positions of nodes whose groups might be merged with that of ``position``."""
        node, found = self.nodes[position], []
        group = self.groups[position]
        buffers = node.read_buffers() if not siblings else group.touched()
        for buffer in sorted(buffers, key=lambda b: b.number):
            who = self.writers.get(buffer, 0)
            if siblings:
                who |= self.readers.get(buffer, 0)
            else:
                who &= (1 << position) - 1
            near = list(_bits(who & ~group.nodes))
            found += near[-NEIGHBOURS:][::-1]
        return sorted(set(found), reverse=True)

    def _try(self, first, second):
        """The merged group, or why there is none."""
        if (first.nodes | second.nodes).bit_count() > MAX_MEMBERS:
            return "the kernel would grow too long"
        if self._between(first, second) or self._between(second, first):
            return "something between them needs one and is needed by the other"
        if self._waits(first, second):
            return "what it gives is needed later"
        reason = "no elements in common"
        for a, b in _shared(first, second):
            merged = overlay(first, second, a, b, self.spread)
            if type(merged) is str:
                reason = merged
                continue
            reason = hazard(merged) or self._refusal(merged, first, second)
            if reason is None:
                return merged
        return reason

    def _waits(self, first, second):
        """Whether results of ``second`` would wait in memory for launches that come behind those
        which need ``first``, and nothing of ``first`` would be spared its place in memory."""
        if max(self._needed_by(first), self._needed_by(second)) == self._needed_by(first):
            return False
        if all(_little(m, a) for m in second.members for a in m.results):
            return False
        both, read = first.nodes | second.nodes, {a.buffer for a in second.accesses()}
        return not any(
            a.buffer in read and not a.buffer.outlives
            and not self.readers.get(a.buffer, 0) & ~both for a in first.written())

    def _needed_by(self, group):
        return min(self.due[m.position] for m in group.members)

    def _between(self, first, second):
        """Whether another node runs after ``first`` and before ``second``."""
        rest = self._parents(second) & ~first.nodes
        return any(self.ancestors[self.leaders[p]] & first.nodes for p in _bits(rest))

    def _parents(self, group):
        found = 0
        for member in group.members:
            found |= self.before[member.position]
        return found & ~group.nodes

    def _refusal(self, merged, first, second):
        """What speaks against a possible kernel, or None."""
        kept = [a for a in merged.accesses() if self._external(merged, a)]
        if len(kept) > MAX_OPERANDS:
            return f"it would use {len(kept)} tensors at once"
        if merged.columns is None:
            orders = {_leader(a.strides) for a in merged.written() if self._external(merged, a)}
            if len(orders - {None}) > 1:
                return "results lie in different orders"
            return None
        return refusal(merged)

    def _external(self, group, access):
        """Whether a view needs memory if ``group`` is one kernel."""
        buffer = access.buffer
        return (buffer.outlives or not self.writers.get(buffer, 0) & group.nodes
                or bool(self.readers.get(buffer, 0) & ~group.nodes))

    def _accept(self, merged, first, second):
        before = 0
        for group in (first, second):
            before |= self.ancestors.pop(self._first(group))
        leader = self._first(merged)
        for position in _bits(merged.nodes):
            self.groups[position], self.leaders[position] = merged, leader
        self.ancestors[leader] = before & ~merged.nodes
        whole = before | merged.nodes
        for other, known in self.ancestors.items():
            if known & merged.nodes and other != leader:
                self.ancestors[other] = known | whole

    # --- lowering --------------------------------------------------------------------------------

    def lowered(self):
        """The launches, in an order that keeps every dependency."""
        unit, members = {}, {}
        for position in range(len(self.nodes)):
            group = self.groups[position]
            unit[position] = position if group is None else self._first(group)
            members.setdefault(unit[position], []).append(position)
        waits, followers = {u: set() for u in members}, {u: set() for u in members}
        for position in range(len(self.nodes)):
            for p in _bits(self.before[position]):
                if unit[p] != unit[position]:
                    waits[unit[position]].add(unit[p])
                    followers[unit[p]].add(unit[position])
        made = []
        for u in scheduled(waits, followers, {u: each[-1] for u, each in members.items()}):
            made += self._lower(u)
        return made

    def _lower(self, position):
        group = self.groups[position]
        if group is None or len(group.members) == 1:
            made = lower(self.nodes[position], self.graph)
            if group is not None:
                for launch in made:
                    if type(launch) is Fused:
                        launch.why = list(group.why)
            return made
        return Kernel(self, group).launches()


class Kernel:
    """A group on its way to launches."""

    def __init__(self, fusion, group):
        self.fusion, self.group, self.graph = fusion, group, fusion.graph
        self.expression = Expression(group, self._needed)

    def _needed(self, buffer):
        return buffer.outlives or bool(self.fusion.readers.get(buffer, 0) & ~self.group.nodes)

    def launches(self):
        """The launches of the group."""
        if not self.expression.stores:
            return []
        kind = None if self.group.columns is None else kind_of(self.group)
        if kind in ("partial", "across"):
            return self._blocks(blocks.partial if kind == "partial" else blocks.across)
        if kind is None:
            text, slots, n, grain = loopnest.pointwise(self.expression)
            identities = ()
        else:
            text, identities, slots, n, grain = rows.rows(self.expression)
        return [self._launch(text, identities, slots, n, grain, kind is not None)]

    def _launch(self, text, identities, slots, n, grain, reassoc, extra=()):
        expression = self.expression
        name = "_".join(dict.fromkeys(m.node.name for m in self.group.members))[:48]
        spec = source.Spec(text, tuple(expression.functions), identities, reassoc, name)
        pointers = [pointer_of(o.access) for o in expression.operands] + list(extra)
        made = Fused(name, spec, [*pointers, *slots], n, grain)
        made.writes = {o.access.buffer for o, _ in expression.stores} | {p.buffer for p in extra}
        made.reads = {v.operand.access.buffer for v in expression.values if v.kind == "load"}
        made.members = [repr(m.node) for m in self.group.members]
        made.source, made.why = sys.intern(text), list(self.group.why)
        made.origin = self.group.members[0].node.origin
        sizes = self.group.sizes
        made.bytes = sum(o.access.dtype.itemsize * product(
            n for n, s in zip(sizes, o.access.strides, strict=True) if s)
            for o in expression.operands)
        made.flops = expression.flops() * product(sizes)
        return made

    def _blocks(self, generate):
        """Partial results, and a launch for each reduction that combines them."""
        expression = self.expression.detach_results()
        text, identities, slots, n, grain, shape, n_blocks = generate(expression)
        partials = []
        for value in expression.reductions():
            size = dtypes.BY_CODE[value.node.compute.compute].itemsize
            buffer = self.graph.buffer(n_blocks * shape.n_rows * size, "temp")
            partials.append(Pointer(buffer, 0))
        made = [self._launch(text, identities, slots, n, grain, True, partials)]
        steps = (1, n_blocks) if generate is blocks.partial else (shape.n_rows, 1)
        for value, memory in zip(expression.reductions(), partials, strict=True):
            if value in expression.detached:
                made.append(blocks.combine(value, memory, n_blocks, steps, shape))
        return made


def _little(member, result):
    """Whether a result is little beside what it is made from: bytes in proportion, so that a batch
    of another size is fused alike."""
    return type(member.node) is Reduce and 2 * result.buffer.nbytes <= max(
        a.buffer.nbytes for a in member.arguments if type(a) is Access)


def _bits(bitset):
    while bitset:
        low = bitset & -bitset
        yield low.bit_length() - 1
        bitset ^= low


def _shared(first, second):
    """Pairs of accesses to the same elements, those over most dimensions first, results of
    ``first`` before what both read."""
    of_buffer = {}
    for access in first.accesses():
        of_buffer.setdefault(access.buffer, []).append(access)
    written = set(first.written())
    pairs = []
    for b in second.accesses():
        for a in of_buffer.get(b.buffer, ()):
            if a.offset == b.offset and a.dtype is b.dtype:
                dims = sum(s != 0 for s in a.strides)
                pairs.append((_size(second, b), a in written, dims, len(pairs), a, b))
    pairs.sort(key=lambda p: (-p[0], not p[1], p[3]))
    return [(p[4], p[5]) for p in pairs[:6]]


def _size(group, access):
    return product(n for n, s in zip(group.sizes, access.strides, strict=True) if s)


def _leader(strides):
    """The dimension with the smallest stride."""
    moving = [(abs(s), d) for d, s in enumerate(strides) if s]
    return min(moving)[1] if moving else None
