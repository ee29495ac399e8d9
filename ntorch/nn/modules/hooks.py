"""Hooks of modules: handles, the lists that hold them, and the full backward hooks."""
import collections
import itertools
import weakref

import ntorch

_identities = itertools.count()


class RemovableHandle:
    """Takes a hook out of its lists again: ``handle.remove()`` or ``with handle:``.

    ``hooks`` is the ordered dict that the hook was put in under ``handle.id``; ``extra_dict`` a
    dict or a list of dicts that hold flags under the same id.
    """

    def __init__(self, hooks, *, extra_dict=None):
        self.hooks_dict_ref = weakref.ref(hooks)
        self.id = next(_identities)
        extra = [] if extra_dict is None else extra_dict
        self.extra_dict_ref = tuple(
            weakref.ref(d) for d in (extra if isinstance(extra, list) else [extra]))

    def remove(self):
        """Forget the hook; harmless when it is gone already."""
        for reference in (self.hooks_dict_ref, *self.extra_dict_ref):
            held = reference()
            if held is not None:
                held.pop(self.id, None)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.remove()

    def __getstate__(self):
        return self.hooks_dict_ref(), self.id, tuple(ref() for ref in self.extra_dict_ref)

    def __setstate__(self, state):
        hooks, self.id, extra = state
        alive = collections.OrderedDict() if hooks is None else hooks
        self.hooks_dict_ref = weakref.ref(alive)
        self.extra_dict_ref = tuple(
            weakref.ref(collections.OrderedDict() if d is None else d) for d in extra)


def add_hook(hooks, hook, flags=(), prepend=False):
    """Put ``hook`` in ``hooks``, and its id in each dict of ``flags``; return the handle."""
    handle = RemovableHandle(hooks, extra_dict=list(flags))
    hooks[handle.id] = hook
    if prepend:
        hooks.move_to_end(handle.id, last=False)
    for flag in flags:
        flag[handle.id] = True
    return handle


class GlobalHooks:
    """The hooks that hold for all modules."""

    def __init__(self):
        self.backward_pre = collections.OrderedDict()
        self.backward = collections.OrderedDict()
        self.is_full_backward = None
        self.forward_pre = collections.OrderedDict()
        self.forward_pre_with_kwargs = collections.OrderedDict()
        self.forward = collections.OrderedDict()
        self.forward_with_kwargs = collections.OrderedDict()
        self.forward_always_called = collections.OrderedDict()
        self.registration = {name: collections.OrderedDict()
                             for name in ("parameter", "buffer", "module")}

    def any(self):
        """Whether a call of a module has to look at global hooks."""
        return bool(self.backward_pre or self.backward or self.forward_pre or self.forward)


GLOBAL = GlobalHooks()


def register_module_forward_pre_hook(hook):
    """Call ``hook(module, input)`` before the forward of every module."""
    return add_hook(GLOBAL.forward_pre, hook)


def register_module_forward_hook(hook, *, with_kwargs=False, always_call=False):
    """Call ``hook(module, input, output)`` after the forward of every module."""
    flags = [d for d, wanted in ((GLOBAL.forward_with_kwargs, with_kwargs),
                                 (GLOBAL.forward_always_called, always_call)) if wanted]
    return add_hook(GLOBAL.forward, hook, flags)


def register_module_full_backward_pre_hook(hook):
    """Call ``hook(module, grad_output)`` before the backward of every module."""
    return add_hook(GLOBAL.backward_pre, hook)


def register_module_full_backward_hook(hook):
    """Call ``hook(module, grad_input, grad_output)`` once a module's input gradients are there."""
    _check_global_kind(True)
    GLOBAL.is_full_backward = True
    return add_hook(GLOBAL.backward, hook)


def register_module_backward_hook(hook):
    """The old backward hook for every module: sees the gradients of the last operation only."""
    _check_global_kind(False)
    GLOBAL.is_full_backward = False
    return add_hook(GLOBAL.backward, hook)


def _check_global_kind(full):
    if GLOBAL.is_full_backward is (not full):
        raise RuntimeError("Cannot use both regular backward hooks and full backward hooks as a "
                           "global Module hook. Please use only one of them.")


def register_module_parameter_registration_hook(hook):
    """Call ``hook(module, name, parameter)`` when a module registers a parameter."""
    return add_hook(GLOBAL.registration["parameter"], hook)


def register_module_buffer_registration_hook(hook):
    """Call ``hook(module, name, buffer)`` when a module registers a buffer."""
    return add_hook(GLOBAL.registration["buffer"], hook)


def register_module_module_registration_hook(hook):
    """Call ``hook(module, name, submodule)`` when a module registers a submodule."""
    return add_hook(GLOBAL.registration["module"], hook)


def registered(kind, module, name, value):
    """What the registration hooks make of ``value``."""
    for hook in GLOBAL.registration[kind].values():
        replaced = hook(module, name, value)
        if replaced is not None:
            value = replaced
    return value


class BackwardHookFunction(ntorch.autograd.Function):
    """Identity that hands the gradients passing through it to a callback."""

    @staticmethod
    def forward(ctx, callback, *tensors):
        ctx.callback = callback
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(*[t for t in tensors if not t.requires_grad])
        return tuple(t.view_as(t) for t in tensors)

    @staticmethod
    def backward(ctx, *grads):
        return (None, *ctx.callback(grads))


def _as_tuple(value):
    return value if isinstance(value, tuple) else (value,)


class BackwardHook:
    """Full backward hooks of one call: taps on the inputs and outputs of a module's forward."""

    def __init__(self, module, hooks, pre_hooks):
        self.module, self.hooks, self.pre_hooks = module, hooks, pre_hooks
        self.grad_outputs = None
        self.inputs_tapped = False
        self.n_inputs = 0

    def tap_inputs(self, args):
        """``args`` with each tensor behind an identity that reports its gradient."""
        self.n_inputs = len(args)
        tapped, indices = self._tap(args, self._on_input_grads)
        self.inputs_tapped, self.input_indices = tapped is not None, indices
        return args if tapped is None else tapped

    def tap_outputs(self, result):
        """``result`` (a tensor or a tuple of them) with its gradients reported."""
        values = _as_tuple(result)
        self.n_outputs = len(values)
        tapped, self.output_indices = self._tap(values, self._on_output_grads)
        if tapped is None:
            return result
        return tapped if isinstance(result, tuple) else tapped[0]

    def _tap(self, values, callback):
        indices = [i for i, v in enumerate(values) if isinstance(v, ntorch.Tensor)]
        if not (ntorch.is_grad_enabled() and any(values[i].requires_grad for i in indices)):
            return None, indices
        new = BackwardHookFunction.apply(callback, *[values[i] for i in indices])
        replaced = list(values)
        for index, tensor in zip(indices, _as_tuple(new), strict=True):
            replaced[index] = tensor
        if hasattr(values, "_fields"):
            return type(values)(*replaced), indices
        return tuple(replaced), indices

    def _on_output_grads(self, grads):
        full = _spread(grads, self.output_indices, self.n_outputs)
        for hook in self.pre_hooks:
            answer = hook(self.module, full)
            if answer is None:
                continue
            answer = _as_tuple(answer)
            if len(answer) != len(full):
                raise RuntimeError("Backward pre hook returned an invalid number of grad_output, "
                                   f"got {len(answer)}, but expected {len(full)}")
            full = answer
        self.grad_outputs = full
        if not self.inputs_tapped:
            self._run_without_input_grads()
        return [full[i] for i in self.output_indices]

    def _run_without_input_grads(self):
        nothing = (None,) * self.n_inputs
        for hook in self.hooks:
            answer = hook(self.module, nothing, self.grad_outputs)
            if answer is not None and any(g is not None for g in _as_tuple(answer)):
                raise RuntimeError("Backward hook for Modules where no input requires gradient "
                                   "should always return None or None for all gradients.")
        self.grad_outputs = None

    def _on_input_grads(self, grads):
        if self.grad_outputs is None:      # the gradient took a way around the outputs
            return grads
        full = _spread(grads, self.input_indices, self.n_inputs)
        for hook in self.hooks:
            answer = hook(self.module, full, self.grad_outputs)
            if answer is None:
                continue
            answer = _as_tuple(answer)
            if len(answer) != len(full):
                raise RuntimeError("Backward hook returned an invalid number of grad_input, "
                                   f"got {len(answer)}, but expected {len(full)}")
            full = answer
        self.grad_outputs = None
        return [full[i] for i in self.input_indices]


def _spread(grads, indices, count):
    full = [None] * count
    for index, grad in zip(indices, grads, strict=True):
        full[index] = grad
    return tuple(full)


def old_backward_hook(hook, module):
    """A ``grad_fn`` hook that calls ``hook(module, grad_input, grad_output)``."""
    def call(grad_input, grad_output):
        return hook(module, grad_input, grad_output)
    return call
