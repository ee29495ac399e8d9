"""Modules that learn the shapes of their parameters from the first input."""
import warnings

from ..parameter import is_lazy


class LazyModuleMixin:
    """Gives a module a first phase in which its parameters have no shape.

    The class lists itself before the module class, makes ``UninitializedParameter`` objects,
    defines ``initialize_parameters`` (called with the first input) and ``cls_to_become``, the class
    that the module has afterwards.
    """

    cls_to_become = None

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._load_hook = self._register_load_state_dict_pre_hook(self._lazy_load_hook)
        self._initialize_hook = self.register_forward_pre_hook(self._infer_parameters,
                                                               with_kwargs=True)
        warnings.warn("Lazy modules are a new feature under heavy development so changes to the "
                      "API or functionality can happen at any moment.", stacklevel=2)

    def _save_to_state_dict(self, destination, prefix, keep_vars):
        for name, tensor in (*self._parameters.items(), *(
                (n, b) for n, b in self._buffers.items()
                if n not in self._non_persistent_buffers_set)):
            if tensor is not None:
                lazy = is_lazy(tensor)
                destination[prefix + name] = tensor if lazy or keep_vars else tensor.detach()

    def _lazy_load_hook(self, state_dict, prefix, *_):
        """Give the parameters the shapes that the checkpoint has."""
        for name, own in (*self._parameters.items(), *self._buffers.items()):
            key = prefix + name
            if key in state_dict and own is not None and is_lazy(own):
                if not is_lazy(state_dict[key]):
                    own.materialize(state_dict[key].shape)

    def initialize_parameters(self, *args, **kwargs):
        """Give the parameters their shapes; every lazy module defines it."""
        raise NotImplementedError(
            f"initialize_parameters is not implemented for {type(self).__name__}")

    def has_uninitialized_params(self):
        """Whether some parameter or buffer still has no shape."""
        return any(is_lazy(t) for t in (*self._parameters.values(), *self._buffers.values()))

    def _infer_parameters(self, module, args, kwargs=None):
        kwargs = kwargs or {}
        module.initialize_parameters(*args, **kwargs)
        if module.has_uninitialized_params():
            raise RuntimeError(f"module {self._get_name()} has not been fully initialized")
        module._initialize_hook.remove()
        module._load_hook.remove()
        del module._initialize_hook, module._load_hook
        if module.cls_to_become is not None:
            module.__class__ = module.cls_to_become
