"""Parametrizations: a parameter computed by modules from another one."""
import contextlib
import copy

import ntorch

from ..modules.container import ModuleDict, ModuleList
from ..parameter import Parameter

_cache = {}
_depth = [0]


@contextlib.contextmanager
def cached():
    """Within it each parametrized tensor is computed once and kept."""
    _depth[0] += 1
    try:
        yield
    finally:
        _depth[0] -= 1
        if not _depth[0]:
            _cache.clear()


class ParametrizationList(ModuleList):
    """The modules that make one tensor, and the ``original`` (``original0``, ...) it is made of."""

    def __init__(self, modules, original, unsafe=False):
        if len(modules) == 0:
            raise ValueError("ParametrizationList requires one or more modules.")
        super().__init__(modules)
        self.unsafe = unsafe
        given = original
        with ntorch.no_grad():
            for module in reversed(self):
                if hasattr(module, "right_inverse"):
                    given = module.right_inverse(given)
        self.is_tensor = isinstance(given, ntorch.Tensor)
        self.ntensors = 1 if self.is_tensor else len(given)
        if self.is_tensor:
            self._register("original", given, original)
        else:
            for i, tensor in enumerate(given):
                self._register(f"original{i}", tensor, original)
        if not unsafe:
            self._check(original)

    def _register(self, name, tensor, original):
        if isinstance(original, Parameter):
            held = original if tensor is original else Parameter(tensor, original.requires_grad)
            self.register_parameter(name, held)
        else:
            self.register_buffer(name, tensor)

    def _check(self, original):
        made = self()
        if not isinstance(made, ntorch.Tensor):
            raise ValueError(f"A parametrization must return a tensor. Got {type(made).__name__}.")
        if made.dtype != original.dtype:
            raise ValueError("Registering a parametrization may not change the dtype of the "
                             "tensor, unless `unsafe` flag is enabled.\nunparametrized dtype: "
                             f"{original.dtype}\nparametrized dtype: {made.dtype}")
        if made.shape != original.shape:
            raise ValueError("Registering a parametrization may not change the shape of the "
                             "tensor, unless `unsafe` flag is enabled.\nunparametrized shape: "
                             f"{original.shape}\nparametrized shape: {made.shape}")

    def right_inverse(self, value):
        """Set the original so that the parametrized tensor becomes ``value``, if possible."""
        with ntorch.no_grad():
            for module in reversed(self):
                if not hasattr(module, "right_inverse"):
                    raise RuntimeError(f"parametrization {type(module).__name__} does not "
                                       "implement right_inverse.")
                value = module.right_inverse(value)
            if self.is_tensor:
                self.original.copy_(value)
            else:
                for i, tensor in enumerate(value):
                    getattr(self, f"original{i}").copy_(tensor)

    def forward(self):
        """The parametrized tensor."""
        if self.is_tensor:
            value = self[0](self.original)
        else:
            value = self[0](*(getattr(self, f"original{i}") for i in range(self.ntensors)))
        for module in list(self)[1:]:
            value = module(value)
        return value


def _property(name):
    def get(self):
        made = self.parametrizations[name]
        if not _depth[0]:
            return made()
        key = (id(self), name)
        if key not in _cache:
            _cache[key] = made()
        return _cache[key]

    def put(self, value):
        self.parametrizations[name].right_inverse(value)

    return property(get, put)


def _deepcopy(self, memo):
    if id(self) in memo:
        return memo[id(self)]
    twin = self.__new__(type(self))
    memo[id(self)] = twin
    twin.__dict__ = copy.deepcopy(self.__dict__, memo)
    return twin


def _refuse_pickle(self):
    raise RuntimeError("Serialization of parametrized modules is only supported through "
                       "state_dict().")


def is_parametrized(module, tensor_name=None):
    """Whether ``module`` has a parametrization, or one on ``tensor_name``."""
    held = module.__dict__.get("_modules", {}).get("parametrizations")
    if held is None or not isinstance(held, ModuleDict):
        return False
    return len(held) > 0 if tensor_name is None else tensor_name in held


def register_parametrization(module, tensor_name, parametrization, *, unsafe=False):
    """Compute ``module.tensor_name`` as ``parametrization(original)`` from now on.

    Several of them are applied in the order they were added. Shape and dtype must not change
    unless ``unsafe``: ``ValueError``.
    """
    parametrization.train(module.training)
    if is_parametrized(module, tensor_name):
        if not unsafe:
            value = getattr(module, tensor_name)
            made = parametrization(value)
            if made.shape != value.shape or made.dtype != value.dtype:
                raise ValueError("Registering a parametrization may not change the shape or dtype "
                                 "of the tensor, unless the `unsafe` flag is enabled.")
        module.parametrizations[tensor_name].append(parametrization)
        return module
    if tensor_name not in module._buffers and tensor_name not in module._parameters:
        raise ValueError(f"Module '{module}' does not have a parameter, a buffer, or a "
                         f"parametrized element with name '{tensor_name}'")
    original = getattr(module, tensor_name)
    made = ParametrizationList([parametrization], original, unsafe)
    delattr(module, tensor_name)
    if not is_parametrized(module):
        base = type(module)
        module.__class__ = type(f"Parametrized{base.__name__}", (base,), {
            "__getstate__": _refuse_pickle, "__deepcopy__": _deepcopy,
            "__module__": base.__module__})
        module.parametrizations = ModuleDict()
    setattr(type(module), tensor_name, _property(tensor_name))
    module.parametrizations[tensor_name] = made
    return module


def remove_parametrizations(module, tensor_name, leave_parametrized=True):
    """Make ``tensor_name`` a plain tensor again: its present value, or the original."""
    if not is_parametrized(module, tensor_name):
        raise ValueError(f"Module {module} does not have a parametrization on {tensor_name}")
    made = module.parametrizations[tensor_name]
    if not made.is_tensor and not leave_parametrized:
        raise ValueError("Cannot leave unparametrized (`leave_parametrized=False`) a tensor that "
                         "is parametrized in terms of a sequence of tensors.")
    original = made.original if made.is_tensor else made.original0
    value = original
    if leave_parametrized:
        with ntorch.no_grad():
            computed = getattr(module, tensor_name)
        if made.is_tensor and isinstance(original, Parameter):
            original.data = computed
        else:
            value = (Parameter(computed, original.requires_grad)
                     if isinstance(original, Parameter) else computed)
    delattr(type(module), tensor_name)
    del module.parametrizations[tensor_name]
    if isinstance(original, Parameter):
        module.register_parameter(tensor_name, value)
    else:
        module.register_buffer(tensor_name, value)
    if not is_parametrized(module):
        delattr(module, "parametrizations")
        module.__class__ = type(module).__bases__[0]
    return module


def type_before_parametrizations(module):
    """The class that ``module`` had before it was parametrized."""
    return type(module).__bases__[0] if is_parametrized(module) else type(module)


def transfer_parametrizations_and_params(from_module, to_module, tensor_name=None):
    """Give ``to_module`` the parametrizations and originals of ``from_module``."""
    if not is_parametrized(from_module):
        return to_module
    names = [tensor_name] if tensor_name else list(from_module.parametrizations)
    for name in names:
        if not hasattr(to_module, name):
            setattr(to_module, name, Parameter(getattr(from_module, name).detach().clone()))
        for parametrization in from_module.parametrizations[name]:
            register_parametrization(to_module, name, parametrization)
        source = from_module.parametrizations[name]
        for key, original in (*source._parameters.items(), *source._buffers.items()):
            setattr(to_module.parametrizations[name], key, original)
    return to_module


__all__ = ["ParametrizationList", "cached", "is_parametrized", "register_parametrization",
           "remove_parametrizations", "transfer_parametrizations_and_params",
           "type_before_parametrizations"]
