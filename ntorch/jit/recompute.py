"""Recomputation: what late nodes read of early ones is computed again where that costs less memory.

Early and late are forward and backward: two programs, or the halves of one that runs a whole step.
A value that crosses over is kept all the while, unless it is a cheap pointwise function of values
that cross over anyway. Which values to keep is a minimum cut (as in ``torch.compile``'s partitioner
and Kusupati's min-cut formulation of checkpointing): between what only early nodes can give, such
as sums of contractions and reductions, and what late nodes read, the least bytes are cut through.
Maps behind the cut are copied in front of their late readers, whose kernel they become part of.

Values that a late launch reads must lie in memory: they cross over and are as good as any other to
compute from. Nothing is computed from an input that changes in between; of an input that backward
would not need otherwise a copy is kept, so that writing it stays as harmless as it was.
"""
import collections

from ..runtime import dtypes
from .codegen import copy_scalar
from .copies import replaced
from .expression import cost
from .ir import Launch, Map, Reduce, View

MOST_COST = 70          # operations of an element: three elementary functions and some arithmetic
MOST_PLACES = 3         # in which a value is computed again
_SOURCE, _SINK = "source", "sink"
_ENDLESS = 1 << 60


class Crossing:
    """What late nodes read of early ones. ``kept`` are results of early nodes, which are handed out
    too; ``absorbed`` late Maps that no kernel of their own will compute; if ``separate``, early and
    late are two programs, and whoever got a result may have written it in between."""

    def __init__(self, graph, early, late, kept=(), absorbed=(), separate=False):
        self.graph, self.early, self.late, self.separate = graph, early, late, separate
        self.absorbed, self.kept = set(map(id, absorbed)), set(kept)
        self.written, self.rewritten, self.readers = {}, {}, {}
        for position, node in enumerate(early):
            for buffer in node.written_buffers():
                self.written.setdefault(buffer, []).append(position)
        for position, node in enumerate(late):
            for buffer in node.written_buffers():
                self.rewritten.setdefault(buffer, []).append(position)
            for buffer in node.read_buffers():
                self.readers.setdefault(buffer, []).append(position)
        self.stored = self._stored()
        self.segments = _segments(late)
        self.pinned = {b for b in self.readers if self._is_pinned(b)}
        self.wanted = [b for b in self.readers if b in self.written and b not in self.pinned]
        self.until = max((self.readers[b][-1] for b in self.wanted), default=-1)
        self.costs = {}

    def _stored(self):
        """Temporaries that lie in memory while early nodes run, whoever reads them later."""
        found = set()
        for node in self.early:
            if type(node) not in (Map, Reduce):
                found |= node.read_buffers() | node.written_buffers()
        return found

    def _map(self, buffer):
        """The Map that alone makes a temporary; None if there is none."""
        places = self.written.get(buffer, ())
        if len(places) != 1 or buffer.kind == "table" or buffer in self.rewritten:
            return None
        node = self.early[places[0]]
        if type(node) is not Map or len(node.results) != 1:
            return None
        result = node.results[0]
        return node if result.numel() * result.dtype.itemsize == buffer.nbytes else None

    def _is_pinned(self, buffer):
        """Whether a buffer that late nodes read lies in memory whatever is decided here."""
        if buffer in self.kept or self._map(buffer) is None:
            return True
        readers = self.readers[buffer]
        if len({self.segments[p] for p in readers}) > MOST_PLACES:
            return True
        return any(type(self.late[p]) not in (Map, Reduce) or id(self.late[p]) in self.absorbed
                   for p in readers)

    # --- what may be computed again ---------------------------------------------------------------

    def again(self, buffer):
        """The Map by which a buffer may be computed again, or None."""
        if buffer in self.pinned or self._cost(buffer) > MOST_COST:
            return None
        return self._map(buffer)

    def _cost(self, buffer):
        """Operations of an element, from what cannot be computed again on."""
        found = self.costs.get(buffer)
        if found is None:
            node = self._map(buffer)
            if node is None or buffer in self.pinned:
                found = 0
            elif not all(self._stays(b, node) for b in node.read_buffers()):
                found = _ENDLESS
            else:
                found = cost(node.scalar) + sum(
                    c for c in map(self._cost, node.read_buffers()) if c <= MOST_COST)
            self.costs[buffer] = found
        return found

    def _stays(self, buffer, node):
        """Whether what a Map read is the same until the last late reader."""
        position = self.written[node.results[0].buffer][0]
        return not any(p >= position for p in self.written.get(buffer, ())) and not any(
            p <= self.until for p in self.rewritten.get(buffer, ()))

    def price(self, buffer):
        """Bytes kept, and written for that alone, to have a buffer when late nodes run; None if it
        cannot be had."""
        if buffer in self.pinned or buffer.kind == "constant":
            return 0
        if buffer.kind == "input" and buffer not in self.written:
            return 0 if not self.separate or buffer in self.readers else 2 * buffer.nbytes
        if buffer.kind != "temp" or self.separate and buffer in self.kept:
            return None                 # whoever gets a result may write it
        return buffer.nbytes if buffer in self.stored else 2 * buffer.nbytes   # written for this


def _segments(nodes):
    """For each node how many launches are before it: kernels that it may be part of lie between
    two."""
    found, count = [], 0
    for node in nodes:
        count += isinstance(node, Launch)
        found.append(count)
    return found


class _Network:
    """Capacities between nodes, and the flow that is left."""

    def __init__(self):
        self.left = collections.defaultdict(dict)

    def connect(self, first, second, capacity):
        self.left[first][second] = self.left[first].get(second, 0) + capacity
        self.left[second].setdefault(first, 0)

    def saturate(self):
        """Find the largest flow from source to sink, shortest ways first (Edmonds, Karp 1972)."""
        while True:
            parents = {_SOURCE: None}
            queue = collections.deque(parents)
            while queue and _SINK not in parents:
                at = queue.popleft()
                for other, room in self.left[at].items():
                    if room > 0 and other not in parents:
                        parents[other] = at
                        queue.append(other)
            if _SINK not in parents:
                return
            way, at = [], _SINK
            while parents[at] is not None:
                way.append((parents[at], at))
                at = parents[at]
            amount = min(self.left[a][b] for a, b in way)
            for a, b in way:
                self.left[a][b] -= amount
                self.left[b][a] += amount

    def behind(self):
        """Nodes from which the sink can still be reached: those behind the last cut."""
        found, stack = {_SINK}, [_SINK]
        while stack:
            at = stack.pop()
            for other in self.left[at]:
                if other not in found and self.left[other][at] > 0:
                    found.add(other)
                    stack.append(other)
        return found


def _cut(crossing):
    """Buffers that are computed again, by the least cut."""
    network, seen, stack = _Network(), set(), list(crossing.wanted)
    for buffer in stack:
        network.connect((buffer, "out"), _SINK, _ENDLESS)
    while stack:
        buffer = stack.pop()
        if buffer in seen:
            continue
        seen.add(buffer)
        price = crossing.price(buffer)
        network.connect((buffer, "in"), (buffer, "out"), _ENDLESS if price is None else price)
        node = crossing.again(buffer)
        if node is None:
            network.connect(_SOURCE, (buffer, "in"), _ENDLESS)
            continue
        for operand in node.read_buffers():
            if crossing.price(operand) != 0:
                network.connect((operand, "out"), (buffer, "in"), _ENDLESS)
                stack.append(operand)
    network.saturate()
    behind = network.behind()
    return {b for b in seen if (b, "in") in behind and crossing.again(b) is not None}


def _leaves(crossing, again, buffer):
    """What a buffer is computed from, of what lies in memory."""
    found, stack = set(), [buffer]
    while stack:
        for operand in crossing.again(stack.pop()).read_buffers():
            if operand in again:
                stack.append(operand)
            else:
                found.add(operand)
    return found


def _dear(crossing, again):
    """Buffers whose recomputation would read more than it saves."""
    near = collections.defaultdict(set)
    for position, node in enumerate(crossing.late):
        if type(node) in (Map, Reduce):
            near[crossing.segments[position]] |= node.read_buffers()
    found = []
    for buffer in crossing.wanted:
        if buffer in again:
            leaves, extra = _leaves(crossing, again, buffer), 0
            for segment in {crossing.segments[p] for p in crossing.readers[buffer]}:
                extra += sum(b.nbytes for b in leaves - near[segment]) - buffer.nbytes
            if extra > buffer.nbytes:
                found.append(buffer)
    return found


def recompute(graph, early, late, **options):
    """``(early, late)`` with Maps of early copied where late nodes read their results; as they are
    if nothing is gained. Early Maps that nobody needs any more are still there."""
    crossing = Crossing(graph, early, late, **options)
    while crossing.wanted:
        again = _cut(crossing)
        dear = _dear(crossing, again)
        if not dear:
            break
        crossing.pinned.update(dear)
        crossing.wanted = [b for b in crossing.wanted if b not in crossing.pinned]
        crossing.costs.clear()
    if not crossing.wanted:
        return early, late
    lost = {b for b in crossing.wanted if b in again}
    gained = {leaf for b in lost for leaf in _leaves(crossing, again, b)
              if crossing.price(leaf) and leaf not in crossing.wanted}
    prices = [crossing.price(b) for b in lost]      # None: it lies in memory of somebody else
    if None in prices or sum(prices) <= sum(map(crossing.price, gained)):
        return early, late
    return _Copies(crossing, again, lost).made()


class _Copies:
    """Puts copies of Maps in front of late readers."""

    def __init__(self, crossing, again, lost):
        self.crossing, self.again, self.lost = crossing, again, lost
        self.snapshots = {}         # input -> (copy, early position in front of which it is made)

    def made(self):
        """``(early, late)``."""
        crossing, late, copies, segment = self.crossing, [], {}, None
        for position, node in enumerate(crossing.late):
            if crossing.segments[position] != segment:
                copies, segment = {}, crossing.segments[position]
            for buffer in sorted(node.read_buffers() & self.lost, key=lambda b: b.number):
                node = replaced(node, buffer, self._copy(buffer, copies, late), 0)
            late.append(node)
        crossing.graph.recomputed += [(repr(crossing.again(b)), b.nbytes) for b in sorted(
            self.lost, key=lambda b: b.number)]
        early = list(crossing.early)
        for buffer, (copy, position) in sorted(self.snapshots.items(), key=lambda s: -s[1][1]):
            early.insert(position, self._snapshot(buffer, copy))
        return early, late

    def _copy(self, buffer, copies, late):
        """A buffer with the same numbers, made by nodes that are added to ``late``."""
        found = copies.get(buffer)
        if found is None:
            node = self.crossing.again(buffer)
            new = self.crossing.graph.buffer(buffer.nbytes, "temp")
            made = replaced(node, buffer, new, 0)
            for operand in sorted(node.read_buffers(), key=lambda b: b.number):
                other = (self._copy(operand, copies, late) if operand in self.again
                         else self._had(operand, node))
                if other is not operand:
                    made = replaced(made, operand, other, 0)
            late.append(made)
            found = copies[buffer] = new
        return found

    def _had(self, operand, node):
        """The operand as late nodes find it."""
        crossing = self.crossing
        if operand.kind != "input" or operand in crossing.written or not crossing.price(operand):
            return operand
        position = crossing.written[node.results[0].buffer][0]
        copy, before = self.snapshots.get(operand, (None, position))
        if copy is None:
            copy = crossing.graph.buffer(operand.nbytes, "temp")
        self.snapshots[operand] = copy, min(before, position)
        return copy

    @staticmethod
    def _snapshot(buffer, copy):
        source = View(buffer, dtypes.uint8, (buffer.nbytes,), (1,), 0)
        return Map("copy", copy_scalar, dtypes.uint8, (source,), (source._replace(buffer=copy),),
                   "u1")


def middle_of(nodes):
    """Where most is kept for later: the position that divides a program in early and late."""
    spans, segments = {}, _segments(nodes)
    for position, node in enumerate(nodes):
        for buffer in node.read_buffers() | node.written_buffers():
            if buffer.kind == "temp" and not buffer.escapes:
                first, _ = spans.get(buffer, (position, position))
                spans[buffer] = first, position
    change = [0] * (len(nodes) + 1)
    for buffer, (first, last) in spans.items():
        if segments[first] != segments[last]:
            change[first + 1] += buffer.nbytes
            change[last] -= buffer.nbytes
    most = at = held = 0
    for position, bytes_ in enumerate(change):
        held += bytes_
        if held > most:
            most, at = held, position
    return at
