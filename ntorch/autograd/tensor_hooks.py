"""Hooks on tensors: ``register_hook``, ``retain_grad``, post-accumulate hooks."""
from .hooks import register
from .node import accumulator, current_grad_fn


def register_tensor_hook(tensor, hook):
    """Call ``hook(grad)`` when the gradient of ``tensor`` is computed."""
    if not tensor._requires_grad:
        raise RuntimeError("cannot register a hook on a tensor that doesn't require gradient")
    node = current_grad_fn(tensor)
    if node is None:
        if tensor._hooks is None:       # they outlive the graph's node, which comes and goes
            tensor._hooks = {0: {}}
        accumulator(tensor).pre_hooks = tensor._hooks
        return register(tensor._hooks[0], hook)
    return register(node.tensor_hooks(tensor._output_nr), hook)


def retain_grad(tensor):
    """Keep ``.grad`` of a tensor that is not a leaf: its hook runs after all others."""
    import weakref
    if not tensor._requires_grad:
        raise RuntimeError("can't retain_grad on Tensor that has requires_grad=False")
    node = current_grad_fn(tensor)
    if node is None or tensor.__dict__.get("_retains_grad"):
        return
    tensor._retains_grad = True
    reference = weakref.ref(tensor)

    def keep(grad):
        kept = reference()
        if kept is not None:
            kept._grad = grad if kept._grad is None else kept._grad + grad
    node.tensor_hooks(tensor._output_nr)[float("inf")] = keep


def register_post_accumulate_hook(tensor, hook):
    """Call ``hook(tensor)`` after ``tensor.grad`` was updated; leaves only."""
    if not tensor._requires_grad:
        raise RuntimeError("cannot register a hook on a tensor that doesn't require gradient")
    if current_grad_fn(tensor) is not None:
        raise RuntimeError("post accumulate grad hooks cannot be registered on non-leaf tensors")
    return register(tensor.__dict__.setdefault("_post_accumulate_hooks", {}), hook)
