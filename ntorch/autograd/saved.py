"""Hooks on what the tape saves: ``saved_tensors_hooks``, ``save_on_cpu``."""
from ..ops.registry import ops
from .modes import state


class saved_tensors_hooks:
    """Inside, each saved tensor is passed to ``pack_hook``, and back through ``unpack_hook``."""

    def __init__(self, pack_hook, unpack_hook):
        self.hooks = (pack_hook, unpack_hook)

    def __enter__(self):
        if state.saved_hooks and state.saved_hooks[-1][0] is None:
            raise RuntimeError(state.saved_hooks[-1][1])
        state.saved_hooks = (*state.saved_hooks, self.hooks)

    def __exit__(self, *exception):
        state.saved_hooks = state.saved_hooks[:-1]


class save_on_cpu(saved_tensors_hooks):
    """Keep saved tensors in main memory: a copy here, where main memory is all there is."""

    def __init__(self, pin_memory=False, device_type="cuda"):
        super().__init__(lambda tensor: (tensor.device, ops.clone(tensor.detach())),
                         lambda packed: packed[1].to(packed[0]))


class disable_saved_tensors_hooks:
    """Inside, entering ``saved_tensors_hooks`` raises RuntimeError with the given message."""

    def __init__(self, error_message):
        self.message = error_message

    def __enter__(self):
        self._previous, state.saved_hooks = state.saved_hooks, ((None, self.message),)

    def __exit__(self, *exception):
        state.saved_hooks = self._previous
