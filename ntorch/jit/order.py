"""The order of nodes and groups: which must follow which, and when each is best run."""
import heapq

from .ir import Check, Map


def dependencies(nodes, readers, writers):
    """For each node the bitset of those it must follow directly."""
    before, last_write, reads_since = [], {}, {}
    visible, check = 0, 0
    for position, node in enumerate(nodes):
        wait, own = 0, 1 << position
        reads, writes = node.read_buffers(), node.written_buffers()
        for buffer in reads | writes:
            wait |= last_write.get(buffer, 0)
        for buffer in writes:
            wait |= reads_since.get(buffer, 0)
        # nothing that outlives the run changes before a check that stands in front of it
        outlives = any(b.outlives for b in writes)
        if isinstance(node, Check):
            wait |= visible
            check = own
        elif outlives:
            wait |= check
            visible |= own
        for buffer in reads:
            reads_since[buffer] = reads_since.get(buffer, 0) | own
            readers[buffer] = readers.get(buffer, 0) | own
        for buffer in writes:
            if _partial(node, buffer):
                last_write[buffer] = last_write.get(buffer, 0) | own
            else:
                last_write[buffer] = own
                reads_since[buffer] = 0
            writers[buffer] = writers.get(buffer, 0) | own
        before.append(wait & ~own)
    return before


def scheduled(waits, followers, last):
    """The units, each behind those it ``waits`` for, and as late as the ``last`` of its nodes was
    or, if that is earlier, as the first unit that follows needs it: so nothing lives longer than
    it must."""
    counts, order = {u: len(each) for u, each in followers.items()}, []
    free = [u for u, count in counts.items() if not count]
    due = dict(last)
    while free:
        u = free.pop()
        order.append(u)
        for before in waits[u]:
            due[before] = min(due[before], due[u])
            counts[before] -= 1
            if not counts[before]:
                free.append(before)
    if len(order) != len(last):
        raise RuntimeError("fusion made a circle of groups")
    # of two that are due with a third, the one with the earlier node first
    remaining = {u: len(each) for u, each in waits.items()}
    ready = [(due[u], last[u], u) for u in last if not remaining[u]]
    heapq.heapify(ready)
    order = []
    while ready:
        u = heapq.heappop(ready)[2]
        order.append(u)
        for follower in followers[u]:
            remaining[follower] -= 1
            if not remaining[follower]:
                heapq.heappush(ready, (due[follower], last[follower], follower))
    return order


def _partial(node, buffer):
    """Whether a write may leave part of the buffer as it was."""
    return buffer in node.read_buffers() or not (
        type(node) is Map and len(node.results) == 1
        and node.results[0].numel() * node.results[0].dtype.itemsize == buffer.nbytes)
