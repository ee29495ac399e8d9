"""Backward: visit nodes from the outputs in reverse order of recording and pass gradients on."""
import heapq
import itertools

from ..ops import base
from ..ops.base import TensorBase
from ..ops.registry import ops
from .graph import fit
from .modes import state
from .node import AccumulateGrad, edge_of


def run_backward(tensors, grad_tensors, keep_graph, create_graph, inputs=None,
                 allow_unreachable=True, accumulate=True, ends=False):
    """Propagate gradients from ``tensors``.

    With ``inputs`` the gradients of those tensors are returned (or, with ``accumulate``, only their
    ``.grad`` is updated); else every reachable leaf accumulates. With ``ends`` the histories of
    ``inputs``, and the hooks on their gradients, are left to others: nothing runs behind them.
    """
    roots = [edge_of(t) for t in tensors]
    targets = {}
    if inputs is not None:
        for position, tensor in enumerate(inputs):
            edge = edge_of(tensor)
            if edge is not None:
                targets.setdefault((edge[0], edge[1]), []).append(position)
    previous = state.enabled, state.create_graph
    state.enabled = state.create_graph = create_graph
    try:
        return _Run(roots, grad_tensors, keep_graph, targets, inputs, accumulate, ends).execute()
    finally:
        state.enabled, state.create_graph = previous


class _Run:
    """One backward pass."""

    def __init__(self, roots, grads, keep_graph, targets, inputs, accumulate, ends):
        self.keep_graph, self.targets, self.accumulate = keep_graph, targets, accumulate
        self.captured = [None] * len(inputs) if inputs is not None else None
        self.inputs = inputs
        self.buffers = {}
        self.ends = {node for node, _ in targets} if ends else ()
        self.waiting, self.needed = _dependencies(roots, targets if inputs is not None else None,
                                                  self.ends)
        self.ready, self.counter = [], itertools.count()
        self.callbacks = []
        for edge, grad in zip(roots, grads, strict=True):
            self._receive(edge, grad)
        for node in {edge[0] for edge in roots}:
            if not self.waiting.get(node):
                self._push(node)

    def _push(self, node):
        heapq.heappush(self.ready, (-node.sequence, next(self.counter), node))

    def _receive(self, edge, grad):
        node, number = edge
        buffer = self.buffers.setdefault(node, {})
        if grad is None:
            return
        held = buffer.get(number)
        buffer[number] = grad if held is None else ops.add(held, grad)

    def execute(self):
        """Visit nodes until none is ready; returns what was captured for ``inputs``."""
        outer, state.callbacks = state.callbacks, self.callbacks
        try:
            while self.ready:
                _, _, node = heapq.heappop(self.ready)
                self._visit(node)
            for callback in self.callbacks:
                callback()
        finally:
            state.callbacks = outer
        return self.captured

    def _visit(self, node):
        buffer = self.buffers.pop(node, {})
        grads = tuple([buffer.get(k) for k in range(max(len(node.outputs), 1))])
        buffer = None
        if node not in self.ends:
            grads = run_pre_hooks(node, grads)
        self._capture(node, grads)
        if node in self.ends:
            return None
        if self.inputs is not None and (node not in self.needed or not self._continues(node)):
            return self._pass_on(node, (None,) * len(node.edges))
        if any(g is not None for g in grads):
            try:
                found = node.apply(grads)
                _check_nan(node, found)
            except Exception as error:
                _explain(node, error)
                raise
        else:
            found = (None,) * len(node.edges)
        if node.post_hooks:
            found = run_post_hooks(node, found, grads)
        grads = None
        if not self.keep_graph:
            node.release()
        return self._pass_on(node, found)

    def _continues(self, node):
        """Whether a target lies beyond this node (or it is a leaf to accumulate into)."""
        if isinstance(node, AccumulateGrad):
            return self.accumulate and (node, 0) in self.targets
        return any(edge is not None and (edge[0] in self.needed) for edge in node.edges)

    def _pass_on(self, node, found):
        for edge, grad in zip(node.edges, found, strict=True):
            if edge is None:
                continue
            target = edge[0]
            if target not in self.waiting:
                continue
            self._receive(edge, grad)
            self.waiting[target] -= 1
            if not self.waiting[target]:
                self._push(target)

    def _capture(self, node, grads):
        if not self.targets or self.accumulate:
            return
        for number, grad in enumerate(grads):
            for position in self.targets.get((node, number), ()):
                self.captured[position] = grad


def _dependencies(roots, targets, ends):
    """How many gradients each reachable node waits for, and which nodes lead to a target; nothing
    lies behind ``ends``."""
    waiting, order, stack, seen = {}, [], [edge[0] for edge in roots], set()
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        order.append(node)
        for edge in () if node in ends else node.edges:
            if edge is not None:
                waiting[edge[0]] = waiting.get(edge[0], 0) + 1
                stack.append(edge[0])
    for node in seen:
        waiting.setdefault(node, 0)
    if targets is None:
        return waiting, None
    needed = {node for node, _ in targets}
    for node in sorted(seen, key=_from_leaves):
        if any(edge is not None and edge[0] in needed for edge in node.edges):
            needed.add(node)
    return waiting, needed


def _from_leaves(node):
    """Sorts nodes from the leaves up. Ends of a history, which run as soon as they can, have no
    number of their own: a leaf's comes first, then what passes on to a leaf."""
    if node.sequence < 1 << 62:
        return node.sequence
    return 0 if node.edges else -1


def run_pre_hooks(node, grads):
    """Tensor hooks on each gradient, then the node's own pre-hooks."""
    if node.pre_hooks:
        grads = list(grads)
        for number, hooks in node.pre_hooks.items():
            # retain_grad's has the highest key: it sees the last value
            for key in sorted(hooks):
                if grads[number] is None:
                    break
                got = hooks[key](grads[number])
                if got is not None:
                    grads[number] = _checked_hook_result(got, grads[number])
        grads = tuple(grads)
    if node.node_pre_hooks:
        for hook in list(node.node_pre_hooks.values()):
            got = hook(grads)
            if got is not None:
                grads = tuple(got) if isinstance(got, (tuple, list)) else (got,)
    return grads


def _checked_hook_result(got, grad):
    if not isinstance(got, TensorBase):
        raise TypeError(f"expected Variable, but hook returned {type(got).__name__!r}")
    if got._shape != grad._shape:
        raise RuntimeError(f"hook '<lambda>' has changed the size of value: expected "
                           f"{list(grad._shape)}, got {list(got._shape)}")
    return got


def run_post_hooks(node, found, grads):
    """``hook(grad_inputs, grad_outputs)`` may replace the gradients of the inputs."""
    found = tuple(found)
    for hook in list(node.post_hooks.values()):
        got = hook(found, grads)
        if got is not None:
            found = tuple(got) if isinstance(got, (tuple, list)) else (got,)
    return found


def _explain(node, error):
    if node.trace:
        error.add_note("The forward call that made this gradient function was:\n" + node.trace)


def _check_nan(node, found):
    if not state.anomaly or state.anomaly == "no_nan":
        return
    for number, grad in enumerate(found):
        if grad is not None and grad.dtype.category >= 2 and bool(ops.any(ops.isnan(grad))):
            raise RuntimeError(f"Function '{node.name()}' returned nan values in its {number}th "
                               "output.")


def queue_callback(callback):
    """Run ``callback()`` when the present backward pass ends."""
    if state.callbacks is None:
        raise RuntimeError("Final callbacks can only be installed during backward pass.")
    state.callbacks.append(callback)


def make_grads(outputs, grads, op="grad"):
    """Starting gradients: ones for scalars where none is given, shapes checked."""
    made = []
    for out, grad in zip(outputs, grads, strict=True):
        if grad is None:
            if not out._requires_grad:
                made.append(None)
                continue
            if base.numel(out) != 1:
                raise RuntimeError("grad can be implicitly created only for scalar outputs")
            if not out.dtype.is_floating_point:
                raise RuntimeError("grad can be implicitly created only for real scalar outputs "
                                   f"but got {out.dtype}")
            made.append(ops.ones_like(out))
        else:
            if not isinstance(grad, TensorBase):
                raise TypeError(f"gradients can be either Tensors or None, but got "
                                f"{type(grad).__name__}")
            if grad._shape != out._shape:
                raise RuntimeError(f"Mismatch in shape: grad_output[{len(made)}] has a shape of "
                                   f"{grad._shape} and output[{len(made)}] has a shape of "
                                   f"{out._shape}.")
            if grad.dtype.is_complex != out.dtype.is_complex:
                raise RuntimeError(
                    "For complex Tensors, both grad_output and output are required to have the "
                    f"same dtype. Mismatch in dtype: grad_output[{len(made)}] has a dtype of "
                    f"{grad.dtype} and output[{len(made)}] has a dtype of {out.dtype}.")
            made.append(fit(grad, (out._shape, out.dtype, None)))
    return made
