"""Tensors that a module owns: ``Parameter``, ``Buffer`` and their uninitialised forms."""
import collections

import ntorch
from ntorch import Tensor


def _subclass(cls, data, requires_grad):
    """``data`` as a tensor of the class ``cls``: the same memory, no history."""
    made = data.data
    made.__class__ = cls
    made.requires_grad = requires_grad
    return made


class Parameter(Tensor):
    """A tensor that becomes a parameter of the module it is assigned to.

    ``data`` is the tensor to share memory with (an empty one if None); it must be floating point or
    complex when ``requires_grad`` is True, else ``RuntimeError`` is raised.
    """

    def __new__(cls, data=None, requires_grad=True):
        if data is None:
            data = ntorch.empty(0)
        return _subclass(cls, data, requires_grad)

    def __deepcopy__(self, memo):
        if id(self) in memo:
            return memo[id(self)]
        copy = type(self)(self.data.clone(), self.requires_grad)
        memo[id(self)] = copy
        return copy

    def __repr__(self):
        return "Parameter containing:\n" + Tensor.__repr__(self)

    def __reduce_ex__(self, protocol):
        return _rebuild_parameter, (type(self), self.detach(), self.requires_grad,
                                    collections.OrderedDict())


def _rebuild_parameter(cls, data, requires_grad, hooks):
    return cls(data, requires_grad)


class Buffer(Tensor):
    """A tensor that becomes a buffer of the module it is assigned to.

    ``persistent=False`` keeps it out of the module's ``state_dict``.
    """

    def __new__(cls, data=None, *, persistent=True):
        if data is None:
            data = ntorch.empty(0)
        buffer = _subclass(cls, data, data.requires_grad)
        buffer.persistent = persistent
        return buffer

    def __deepcopy__(self, memo):
        if id(self) in memo:
            return memo[id(self)]
        copy = Buffer(self.data.clone(), persistent=self.persistent)
        memo[id(self)] = copy
        return copy

    def __repr__(self):
        return Tensor.__repr__(self.detach())

    def __reduce_ex__(self, protocol):
        return _rebuild_buffer, (self.detach(), self.persistent)


def _rebuild_buffer(data, persistent):
    return Buffer(data, persistent=persistent)


# What may be asked of a tensor that has no shape yet.
_ALLOWED = frozenset((
    "__class__", "__dict__", "__deepcopy__", "__reduce_ex__", "__repr__", "__hash__", "__init__",
    "__init_subclass__", "__new__", "__setattr__", "__delattr__", "__doc__", "__module__",
    "materialize", "cls_to_become", "requires_grad", "requires_grad_", "is_leaf", "grad", "grad_fn",
    "device", "dtype", "data", "cuda", "cpu", "to", "half", "float", "double", "bfloat16",
    "char", "short", "int", "long", "get_device", "_has_compatible_shallow_copy_type",
    "_placeholder", "share_memory_", "is_meta", "is_cuda", "is_sparse", "persistent", "_version",
    "layout"))


class _Uninitialized:
    """What ``UninitializedParameter`` and ``UninitializedBuffer`` have in common."""

    def __getattribute__(self, name):
        if name in _ALLOWED or (name.startswith("_") and not name.startswith("__")):
            return super().__getattribute__(name)
        if name == "shape":
            raise RuntimeError(
                "Can't access the shape of an uninitialized parameter or buffer. This error "
                "usually happens in `load_state_dict` when trying to load an uninitialized "
                "parameter into an initialized one. Call `forward` to initialize the parameters "
                "before accessing their attributes.")
        raise ValueError(
            f"Attempted to use an uninitialized parameter in {name}. This error happens when you "
            "are using a `LazyModule` or explicitly manipulating "
            f"`ntorch.nn.parameter.{type(self).__name__}` objects. When using LazyModules Call "
            "`forward` with a dummy batch to initialize the parameters before calling "
            "torch functions")

    def materialize(self, shape, device=None, dtype=None):
        """Give the tensor its ``shape`` (and device and dtype); its values are not set."""
        self.data = ntorch.empty(shape, device=device or self.data.device,
                                 dtype=dtype or self.data.dtype)
        self.__class__ = self.cls_to_become

    def share_memory_(self):
        raise RuntimeError("Can't share memory on an uninitialized parameter or buffer. Call "
                           "`forward` to initialize the parameters before calling "
                           "`module.share_memory()`.")

    def __repr__(self):
        return f"<{type(self).__name__}>"


class UninitializedParameter(_Uninitialized, Parameter):
    """A parameter whose shape is not known yet; ``materialize`` makes it a ``Parameter``."""

    cls_to_become = Parameter

    def __new__(cls, requires_grad=True, device=None, dtype=None):
        data = ntorch.empty(0, device=device, dtype=dtype)
        return _subclass(cls, data, requires_grad)

    def __deepcopy__(self, memo):
        if id(self) in memo:
            return memo[id(self)]
        copy = type(self)(self.requires_grad, self.data.device, self.data.dtype)
        memo[id(self)] = copy
        return copy

    def __reduce_ex__(self, protocol):
        return type(self), (self.requires_grad, self.data.device, self.data.dtype)


class UninitializedBuffer(_Uninitialized, Tensor):
    """A buffer whose shape is not known yet; ``materialize`` makes it a plain tensor."""

    cls_to_become = Tensor

    def __new__(cls, requires_grad=False, device=None, dtype=None, persistent=True):
        data = ntorch.empty(0, device=device, dtype=dtype)
        buffer = _subclass(cls, data, requires_grad)
        buffer.persistent = persistent
        return buffer

    def __deepcopy__(self, memo):
        if id(self) in memo:
            return memo[id(self)]
        copy = type(self)(self.requires_grad, self.data.device, self.data.dtype, self.persistent)
        memo[id(self)] = copy
        return copy

    def __reduce_ex__(self, protocol):
        return type(self), (self.requires_grad, self.data.device, self.data.dtype,
                            self.persistent)


def is_lazy(tensor):
    """Whether ``tensor`` is an uninitialised parameter or buffer."""
    return isinstance(tensor, _Uninitialized)
