"""The part of Tensor that autograd sees: requires_grad, grad, grad_fn, detach, backward, hooks."""
from . import autograd
from .autograd import node
from .autograd.modes import state
from .ops import base
from .ops.base import TensorBase
from .ops.registry import ops
from .runtime.dtypes import FLOAT


class History(TensorBase):
    """Methods and properties of a tensor's place in the graph."""

    @property
    def requires_grad(self):
        """Whether gradients flow to or through this tensor."""
        return self._requires_grad

    @requires_grad.setter
    def requires_grad(self, value):
        self.requires_grad_(value)

    def requires_grad_(self, requires_grad=True):
        """Turn gradient recording on or off for a leaf."""
        if requires_grad and self.dtype.category < FLOAT:
            raise RuntimeError("only Tensors of floating point and complex dtype can require "
                               "gradients")
        if not requires_grad and self._grad_fn is not None:
            raise RuntimeError("you can only change requires_grad flags of leaf variables. If you "
                               "want to use a computed variable in a subgraph that doesn't require "
                               "differentiation use var_no_grad = var.detach().")
        if requires_grad and self._inference and not autograd.is_inference_mode_enabled():
            raise RuntimeError("Setting requires_grad=True on inference tensor outside "
                               "InferenceMode is not allowed.")
        self._requires_grad = bool(requires_grad)
        return self

    @property
    def grad_fn(self):
        """The node that made this tensor; None for leaves."""
        if state.tracer is not None:
            self = state.tracer.historical(self)
        return node.current_grad_fn(self)

    @property
    def is_leaf(self):
        """Whether no recorded operation made it."""
        if state.tracer is not None:
            return state.tracer.fact(self, "is_leaf")
        return node.current_grad_fn(self) is None

    @property
    def output_nr(self):
        """Which output of ``grad_fn`` this is."""
        return self._output_nr if state.tracer is None else state.tracer.fact(self, "output_nr")

    @property
    def grad(self):
        """The accumulated gradient of a leaf, or None."""
        if state.tracer is not None:
            self = state.tracer.note_grad(self, False)
        if (self._grad is None and self._requires_grad and not self.is_leaf
                and not self.retains_grad):
            import warnings
            warnings.warn("The .grad attribute of a Tensor that is not a leaf Tensor is being "
                          "accessed. Its .grad attribute won't be populated during "
                          "autograd.backward(). If you indeed want the .grad field to be populated "
                          "for a non-leaf Tensor, use .retain_grad() on the non-leaf "
                          "Tensor.", stacklevel=2)
        return self._grad

    @grad.setter
    def grad(self, value):
        if value is not None:
            if not isinstance(value, TensorBase):
                raise TypeError("assigned grad expected to be a Tensor or None but got grad of "
                                f"type {type(value).__name__!r}")
            if value._shape != self._shape:
                raise RuntimeError(f"assigned grad has data of a different size: expected "
                                   f"{list(self._shape)}, got {list(value._shape)}")
            if value.dtype is not self.dtype:
                raise RuntimeError("assigned grad has data of a different type: expected "
                                   f"{self.dtype}, got {value.dtype}")
            if value is self:
                raise RuntimeError("can't assign Variable as its own grad")
            if value.device is not self.device:
                raise RuntimeError("assigned grad has data located on a different device")
        self._set_grad(value)

    @grad.deleter
    def grad(self):
        self._set_grad(None)

    def _set_grad(self, value):
        if state.tracer is not None:
            self = state.tracer.note_grad(self)
        self._grad = value

    @property
    def retains_grad(self):
        """Whether ``retain_grad`` was called on a tensor that is not a leaf."""
        if state.tracer is not None:
            return state.tracer.fact(self, "retains_grad")
        return self.__dict__.get("_retains_grad", False)

    def retain_grad(self):
        """Keep ``.grad`` of a tensor that is not a leaf."""
        autograd.retain_grad(self)

    @property
    def _version(self):
        if state.tracer is not None:
            state.tracer.versioned(self)
        return self._storage.version

    @property
    def data(self):
        """The same elements without history; assigning replaces them, keeping this object."""
        return base.alias(self)

    @data.setter
    def data(self, value):
        if not isinstance(value, TensorBase):
            raise TypeError(f"Variable data has to be a tensor, but got {type(value).__name__}")
        for name in ("_storage", "dtype", "_shape", "_strides", "_offset", "_address"):
            setattr(self, name, getattr(value, name))
        base.adopts(self)
        self._shape = base.Size(self._shape)    # a new object tells guards of the change
        self._base = None

    def detach(self):
        """The same elements without history."""
        return ops._detached(self)

    def detach_(self):
        """Cut the history off this tensor itself."""
        if self._base is not None and self._grad_fn is not None:
            raise RuntimeError("Can't detach views in-place. Use detach() instead. If you are "
                               "using DistributedDataParallel (DDP) for training, and "
                               "gradient_as_bucket_view is set as True, gradients are views of DDP "
                               "buckets, and hence detach_() cannot be called on these gradients.")
        self._grad_fn, self._output_nr, self._requires_grad = None, 0, False
        return self

    def backward(self, gradient=None, retain_graph=None, create_graph=False, inputs=None):
        """Accumulate gradients of this tensor into the leaves it depends on."""
        autograd.backward(self, gradient, retain_graph, create_graph, inputs=inputs)

    def register_hook(self, hook):
        """Call ``hook(grad)`` when the gradient is computed; it may return another."""
        return autograd.register_tensor_hook(self, hook)

    def register_post_accumulate_grad_hook(self, hook):
        """Call ``hook(tensor)`` after ``.grad`` of this leaf was updated."""
        return autograd.register_post_accumulate_hook(self, hook)
