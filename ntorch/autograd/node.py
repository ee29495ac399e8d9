"""Nodes of the graph, what they save, and where the gradient of a tensor goes."""
import itertools
import weakref

from ..ops import base
from ..runtime.dtypes import FLOAT
from .modes import state

sequence_numbers = itertools.count()
FREED = ("Trying to backward through the graph a second time (or directly access saved tensors "
         "after they have already been freed). Saved intermediate values of the graph are freed "
         "when you call .backward() or autograd.grad(). Specify retain_graph=True if you need to "
         "backward through the graph a second time or if you need to access saved tensors after "
         "calling backward.")


class Node:
    """One recorded operation.

    ``next_functions`` are ``(node, output number)`` pairs, one per tensor input, ``(None, 0)``
    where no gradient flows. ``apply(grads)`` maps gradients of the outputs to gradients of the
    inputs.
    """

    sequence = 0
    edges = ()
    outputs = ()            # (shape, dtype, device) of each result
    pre_hooks = None        # {output number: {id: hook}} run on one gradient
    node_pre_hooks = None
    post_hooks = None
    metadata_dict = None
    released = False
    trace = None            # where the operation was called, in anomaly mode

    def name(self):
        """The class name: ``AddBackward0``."""
        return type(self).__name__

    @property
    def next_functions(self):
        """Edges to the nodes of the inputs."""
        return tuple(edge if edge is not None else (None, 0) for edge in self.edges)

    @property
    def metadata(self):
        """A dict for whatever a user wants to keep with the node."""
        if self.metadata_dict is None:
            self.metadata_dict = {}
        return self.metadata_dict

    def apply(self, grads):
        """Gradients of the inputs, one per edge; None where none flows."""
        raise NotImplementedError(f"{self.name()} has no backward")

    def release(self):
        """Drop what was saved; a second backward then raises."""
        self.released = True

    def register_hook(self, hook):
        """Run ``hook(grad_inputs, grad_outputs)`` after this node; it may replace grad_inputs."""
        from .hooks import register
        if self.post_hooks is None:
            self.post_hooks = {}
        return register(self.post_hooks, hook)

    def register_prehook(self, hook):
        """Run ``hook(grad_outputs)`` before this node; it may replace them."""
        from .hooks import register
        if self.node_pre_hooks is None:
            self.node_pre_hooks = {}
        return register(self.node_pre_hooks, hook)

    def tensor_hooks(self, output):
        """The hooks on the gradient of one output, by id."""
        if self.pre_hooks is None:
            self.pre_hooks = {}
        return self.pre_hooks.setdefault(output, {})

    def __call__(self, *grads):
        results = self.apply(grads)
        return results[0] if len(results) == 1 else results


class AccumulateGrad(Node):
    """The end of an edge: adds what arrives to ``variable.grad``."""

    def __init__(self, variable):
        self.variable = variable
        self.outputs = ((variable._shape, variable.dtype, variable._storage.device),)
        self.sequence = 1 << 62        # as soon as it can: frees gradients early
        self.pre_hooks = variable._hooks

    def apply(self, grads):
        from .accumulate import accumulate
        if grads[0] is not None:
            accumulate(self.variable, grads[0])
        return ()

    def release(self):
        pass            # nothing is saved: it serves every graph that its variable is in


class SavedTensor:
    """A tensor kept for backward, with the version it had; outputs are kept without their node, so
    that a tensor and its node do not keep each other alive."""

    __slots__ = ("tensor", "version", "is_output", "number", "packed", "hooks")

    def __init__(self, tensor, is_output=False, number=0):
        self.version = tensor._storage.version
        self.is_output, self.number = is_output, number
        self.hooks = None
        if tensor._inference:
            raise RuntimeError("Inference tensors cannot be saved for backward. Please do not use "
                               "Tensors created in inference mode in computation tracked by "
                               "autograd. To work around this, you can make a clone to get a "
                               "normal tensor and use it in autograd, or use `torch.no_grad()` "
                               "instead of `torch.inference_mode()`.")
        if state.saved_hooks and state.saved_hooks[-1][0] is not None:
            self.hooks = state.saved_hooks[-1]
            self.packed = self.hooks[0](base.alias(tensor) if is_output else tensor)
            self.tensor = None
        else:
            self.tensor = base.alias(tensor) if is_output else tensor

    def unpack(self, node):
        """The tensor; RuntimeError if it was written since."""
        if self.hooks is not None:
            return self.hooks[1](self.packed)
        tensor = self.tensor
        if tensor._storage.version != self.version:
            raise modified(f"[{type_name(tensor)} {list(tensor._shape)}], which is output "
                           f"{self.number} of {node.name()}", tensor._storage, self.version)
        if self.is_output and state.enabled and tensor.dtype.category >= FLOAT:
            tensor = base.alias(tensor)
            tensor._grad_fn, tensor._output_nr, tensor._requires_grad = node, self.number, True
        return tensor


def modified(what, storage, version):
    """The error for ``what`` (a saved tensor), which was written since it had ``version``."""
    return RuntimeError(
        "one of the variables needed for gradient computation has been modified by an inplace "
        f"operation: {what}, is at version {storage.version}; expected version {version} instead. "
        "Hint: enable anomaly detection to find the operation that failed to compute its "
        "gradient, with torch.autograd.set_detect_anomaly(True).")


def type_name(tensor):
    """torch's legacy type name: ``torch.FloatTensor``."""
    from ..ops.dtype_rules import _scalar_name
    return f"torch.{_scalar_name(tensor.dtype)}Tensor"


def edge_of(tensor):
    """Where the gradient of ``tensor`` goes, or None."""
    if not tensor._requires_grad:
        return None
    node = current_grad_fn(tensor)
    if node is not None:
        return node, tensor._output_nr
    return accumulator(tensor), 0


def accumulator(tensor):
    """The AccumulateGrad node of a leaf."""
    # the graph owns it: a strong reference back would make every leaf a cycle, freed only by gc
    reference = tensor._accumulator
    node = reference() if reference is not None else None
    if node is None:
        node = AccumulateGrad(tensor)
        tensor._accumulator = weakref.ref(node)
    return node


def current_grad_fn(tensor):
    """``tensor.grad_fn``; rebuilt for a view whose base was written in place since it was taken."""
    root = tensor._base
    if root is not None and root._rebased != tensor._rebased and root._requires_grad:
        from .views import regenerate
        regenerate(tensor)
    return tensor._grad_fn
