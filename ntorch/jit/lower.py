"""From a recorded graph to a program: simplify, compute again what is cheap, fuse, plan."""
from ..runtime import build
from . import codegen, commute, epilogue, fuse, prologue, recompute, simplify, straighten
from .explain import log, program_text, source_text
from .ir import Contract, Launch
from .program import Program, runner_kernel
from .sums import refine


def program_of(graph, outputs):
    """The ``Program`` of a graph; ``outputs`` are the buffers it shall return, in order.

    Its ``inputs`` are the buffers of the graph that are not temporaries and are used.
    """
    movable = prepared(graph, outputs)
    lower(graph, movable)
    ready(graph)
    return assembled(graph, outputs)


def prepared(graph, outputs):
    """Simplify a graph and put what is cheap to compute again where it is read; whether its nodes
    may be moved."""
    movable = simplified(graph)
    if movable:
        middle = recompute.middle_of(graph.nodes)
        early, late = recompute.recompute(
            graph, graph.nodes[:middle], graph.nodes[middle:], kept=outputs,
            absorbed=absorbed(graph))
        graph.nodes = early + late
        simplify.drop_dead(graph)
    return movable


def simplified(graph):
    """Simplify a graph; False, and nothing is done, if its nodes have to stay as they are."""
    if _writes_shared_memory(graph):
        return False
    for node in graph.nodes:
        if isinstance(node, Contract):
            refine(node)        # what packs an operand does not write it
    simplify.simplify(graph)
    commute.commute(graph)
    return True


def absorbed(graph):
    """The Maps that epilogues of contractions will compute."""
    return [node for tail in epilogue.candidates(graph) for node in tail]


def lower(graph, movable=True):
    """Turn the nodes of a simplified graph into launches, fused if they are ``movable``; kernels
    that are new are not built yet."""
    nodes = []
    with build.later():
        if movable:
            epilogue.absorb_all(graph)
            prologue.absorb_all(graph)
            straighten.straighten(graph)
            fuse.fuse(graph)
        for node in graph.nodes:
            nodes += codegen.lower(node, graph)
    graph.nodes = nodes


def ready(*graphs):
    """Build the kernels of graphs that ``lower`` has done, and what runs them, all at once."""
    launches = [node for graph in graphs for node in graph.nodes if isinstance(node, Launch)]
    called = [s for node in launches for s in node.slots if type(s) is build.Kernel]
    with build.later():
        runner = runner_kernel()
    build.ready([node.kernel for node in launches] + called + [runner])


def assembled(graph, outputs):
    """The ``Program`` of a graph whose kernels are ready."""
    used = set()
    for node in graph.nodes:
        used |= node.read_buffers() | node.written_buffers()
    inputs = [b for b in graph.buffers if b.kind in ("input", "constant") and b in used]
    program = Program(graph, inputs, outputs)
    log("fuse", lambda: program_text(program, "program"))
    log("source", lambda: source_text(program))
    return program


def overlap(ranges):
    """Whether any two of ``(address, bytes)`` share bytes."""
    ordered = sorted(ranges)
    return any(a + size > b for (a, size), (b, _) in zip(ordered, ordered[1:], strict=False))


def _writes_shared_memory(graph):
    """Whether inputs lie in the same memory (a NumPy array taken twice) and one is written: then
    nothing may be moved, for the graph takes buffers for apart."""
    inputs = {b for n in graph.nodes for b in n.read_buffers() | n.written_buffers()
              if b.kind == "input" and b.storage is not None}
    return overlap([(b.storage.address, b.nbytes) for b in inputs]) and any(
        b in inputs for n in graph.nodes for b in n.written_buffers())
