"""In-place calls on the tape: versions are bumped, histories rebased, views follow their base."""
from .. import eager
from ..ops import base
from ..ops.base import TensorBase
from .graph import _wanted, call, finish_node, start_node
from .modes import state
from .node import edge_of


def check_inplace(tensor):
    """RuntimeError for the in-place writes that autograd forbids."""
    if tensor._inference and not state.inference:
        raise RuntimeError("Inplace update to inference tensor outside InferenceMode is not "
                           "allowed. You can make a clone to get a normal tensor before doing "
                           "inplace update.")
    if not state.enabled or not tensor._requires_grad:
        return
    if tensor._grad_fn is None and tensor._base is None:
        raise RuntimeError("a leaf Variable that requires grad is being used in an in-place "
                           "operation.")
    check_base_is_not_leaf(tensor)


def call_inplace(entry, arguments):
    """Run ``entry`` into its first argument and record it if a gradient is wanted."""
    if entry.converters:
        arguments = entry.convert(arguments)
    target = arguments[0]
    if not isinstance(target, TensorBase):
        raise TypeError(f"{entry.name}_(): argument 'self' must be Tensor, not "
                        f"{type(target).__name__}")
    check_inplace(target)
    if entry.view:
        return adopt(target, call(entry, arguments))
    wanted = _wanted(entry, arguments) if state.enabled and entry.differentiable else ()
    if wanted:
        check_base_is_not_leaf(target)
        if entry.composite:
            return _composite_inplace(entry, arguments)
    node = _prepare(entry, arguments, wanted) if wanted else None
    previous, state.enabled = state.enabled, False
    try:
        if state.tracer is not None:
            state.tracer.run_inplace(entry, arguments)
        elif entry.inplace_only:
            entry.host(*arguments)
        else:
            eager.run_inplace(entry, arguments)
    finally:
        state.enabled = previous
    target._storage.version += 1
    if node is not None:
        rebase(node, target)
    return target


def _composite_inplace(entry, arguments):
    """Record what a composite computes from a copy of its target, then the write of the result."""
    from ..ops.registry import ops
    target = arguments[0]
    result = entry.host(ops.clone(target), *arguments[1:])
    eager._fits_inplace(entry, target, result)
    return ops.copy_(target, result)


def adopt(target, view):
    """``x.squeeze_()`` and its like: the tensor becomes the view of itself, no element is
    written."""
    for name in ("_shape", "_strides", "_offset", "_address", "_grad_fn", "_output_nr",
                 "_requires_grad"):
        setattr(target, name, getattr(view, name))
    target._shape = base.Size(target._shape)        # a new object tells guards of the change
    return target


def check_base_is_not_leaf(target):
    """Writing a value that wants gradients into a view of a leaf that wants them has no meaning."""
    root = (target if state.tracer is None else state.tracer.original(target))._base
    if root is not None and root._requires_grad and root._grad_fn is None:
        raise RuntimeError("a view of a leaf Variable that requires grad is being used in an "
                           "in-place operation.")


def _prepare(entry, arguments, wanted):
    """The call's node; what it saves of the target is copied first, for the write destroys it."""
    node = start_node(entry, arguments, wanted)
    if 0 in node.record.saved:
        from ..ops.registry import ops
        place = node.record.saved.index(0)
        saved = node.arguments[place]
        previous, state.enabled = state.enabled, False
        try:
            copy = ops.clone(arguments[0])
        finally:
            state.enabled = previous
        copy._grad_fn, copy._output_nr = arguments[0]._grad_fn, arguments[0]._output_nr
        copy._requires_grad = arguments[0]._requires_grad
        saved.tensor, saved.version = copy, copy._storage.version
    return node


def rebase(node, target):
    """Make ``node`` the history of ``target``; if it is a view, of the part of its base it
    shows."""
    root = target._base
    if root is None:
        finish_node(node, (target,))
        target._rebased += 1
        return
    from .views import CopySlices, regenerate
    node.save_results((target,))
    node.outputs = ((target._shape, target.dtype, target._storage.device),)
    root_edge = edge_of(root)
    slices = CopySlices(node, target, root, root_edge)
    root._grad_fn, root._output_nr, root._requires_grad = slices, 0, True
    root._rebased += 1
    regenerate(target)


__all__ = ["base", "call_inplace", "check_inplace", "rebase"]
