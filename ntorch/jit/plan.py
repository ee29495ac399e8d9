"""Memory of a program: which temporaries share which bytes of one arena.

A temporary lives from the first step that writes it to the last that uses it. Offsets are given
greedily, largest buffer first, each at the lowest place where no buffer alive at the same time lies
(greedy by size, arXiv 2001.03288).
"""
import typing

from ..runtime import memory


class Arena(typing.NamedTuple):
    """Offsets of temporaries, by buffer, the size of the whole, and ``memory.lay_out``'s fences."""
    offsets: dict
    nbytes: int
    fences: tuple = ()


def lifetimes(nodes):
    """``{buffer: (first, last)}``: places of the first and last node that uses each temporary."""
    found = {}
    for place, node in enumerate(nodes):
        for buffer in node.read_buffers() | node.written_buffers():
            if buffer.kind == "temp" and not buffer.escapes:
                first, _ = found.get(buffer, (place, place))
                found[buffer] = first, place
    return found


def crossing(spans):
    """``(bytes, place)``: the most that temporaries hold between two steps, and behind which."""
    change = {}
    for buffer, (first, last) in spans.items():
        if first != last:
            change[first] = change.get(first, 0) + buffer.nbytes
            change[last] = change.get(last, 0) - buffer.nbytes
    most = at = held = 0
    for place in sorted(change):
        held += change[place]
        if held > most:
            most, at = held, place
    return most, at


def arena(spans):
    """Place the buffers of ``lifetimes``; between fences no two share memory."""
    if memory.fenced:
        offsets, total, fences = memory.lay_out([buffer.nbytes for buffer in spans])
        return Arena(dict(zip(spans, offsets, strict=True)), total, fences)
    placed, offsets, total = [], {}, 0
    for buffer, (first, last) in sorted(spans.items(), key=lambda s: (-s[0].nbytes, s[0].number)):
        size = -(-max(buffer.nbytes, 1) // memory.ALIGNMENT) * memory.ALIGNMENT
        busy = sorted((at, at + length) for at, length, begin, end in placed
                      if begin <= last and first <= end)
        offset = 0
        for start, stop in busy:
            if start - offset >= size:
                break
            offset = max(offset, stop)
        offsets[buffer] = offset
        placed.append((offset, size, first, last))
        total = max(total, offset + size)
    return Arena(offsets, total)
