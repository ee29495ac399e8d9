"""What a program is made of, as text, and the logs of ``NTORCH_DEBUG``.

``NTORCH_DEBUG=trace,fuse,source,cache`` prints to stderr: traces and why they were made, what was
fused and where groups were cut, generated kernels, compilations.
"""
import os
import sys
import typing

from .ir import Contract, Fused, Launch


def log(topic, text):
    """Print ``text()`` if ``NTORCH_DEBUG`` names the topic."""
    topics = os.environ.get("NTORCH_DEBUG")
    if topics and topic in topics.split(","):
        print(f"ntorch {topic}: {text()}", file=sys.stderr)


def size_text(nbytes):
    """Bytes for people: ``1.5 MB``."""
    for unit in ("B", "kB", "MB"):
        if nbytes < 1000:
            return f"{nbytes:.3g} {unit}"
        nbytes /= 1000
    return f"{nbytes:.3g} GB"


def describe(node):
    """Lines about one launch."""
    if isinstance(node, Fused):
        yield (f"{node.name}: {len(node.members)} nodes in one kernel, "
               f"{size_text(node.bytes)} moved"
               + (f", {node.flops:.3g} operations" if node.flops else ""))
        yield from (f"    {member}" for member in node.members)
        yield from (f"    cut: {reason}" for reason in node.why)
    elif isinstance(node, Contract):
        tail = f" with epilogue {node.kernel.name}" if node.name.startswith("fused") else ""
        yield f"{node.name}: contraction on {node.lanes} lanes{tail}"
    elif isinstance(node, Launch):
        yield f"{node.name}: kernel {node.kernel.name}, {node.n} items"
    else:
        yield repr(node)


def program_text(program, title):
    """All launches of a program, and its memory."""
    temporaries = sum(b.nbytes for b in program.temporaries)
    lines = [f"{title}: {len(program.nodes)} launches; {size_text(temporaries)} of temporaries in "
             f"an arena of {size_text(program.arena.nbytes)}; results and what backward needs: "
             f"{size_text(_outputs(program))}"]
    for number, node in enumerate(program.nodes):
        text = list(describe(node))
        lines.append(f"  {number}. {text[0]}")
        lines += ["  " + line for line in text[1:]]
    return "\n".join(lines)


class Memory(typing.NamedTuple):
    """What the programs of a variant do with memory, in bytes.

    ``saved`` is what forward keeps for backward besides arguments and tensors that are there
    anyway; if a whole step is one program, the most that is kept from one launch to a later one,
    behind launch ``behind``. ``recomputed`` are pairs of what is computed again instead of being
    kept, as text, and its bytes. ``peak`` is what runs need at most: the arena, what is kept,
    results and gradients.
    """
    saved: int
    behind: int | None
    recomputed: tuple
    peak: int


def memory_of(forward, backward=None, saved_places=()):
    """The ``Memory`` of a forward and perhaps a backward program; ``saved_places`` are the results
    of forward that backward reads."""
    peak = forward.arena.nbytes + _outputs(forward)
    if backward is None:
        saved, place = forward.crossing
        step = forward.steps_of[place] if saved else None
        behind = None if step is None else forward.nodes.index(getattr(step, "node", step))
        return Memory(saved, behind, tuple(forward.recomputed), peak)
    saved = sum(forward.outputs[place].nbytes for place in saved_places)
    later = saved + backward.arena.nbytes + _outputs(backward)
    return Memory(saved, None, tuple(backward.recomputed), max(peak, later))


def _outputs(program):
    return sum(b.nbytes for b in program.outputs)


def memory_text(memory):
    """A ``Memory`` in words."""
    kept = (f"forward keeps {size_text(memory.saved)} for backward" if memory.behind is None
            else f"{size_text(memory.saved)} are kept for later behind launch {memory.behind}")
    lines = [f"memory: {kept}; planned peak {size_text(memory.peak)}"]
    if memory.recomputed:
        total = size_text(sum(nbytes for _, nbytes in memory.recomputed))
        count = len(memory.recomputed)
        lines.append(f"recomputed instead of kept: {count} value{'s' * (count > 1)}, {total}")
        lines += [f"    {text}: {size_text(nbytes)}" for text, nbytes in memory.recomputed]
    return "\n".join(lines)


def source_text(program):
    """The generated kernels, as the Python they are, each once."""
    seen = dict.fromkeys(f"# {node.name}\n{node.source}" for node in program.nodes
                         if isinstance(node, Fused))
    return "\n".join(seen)
