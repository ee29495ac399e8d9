"""User-defined operations: subclasses of ``Function`` with a forward and a backward of their
own."""
import functools

from ..ops.base import TensorBase
from ..ops.registry import ops
from .modes import no_grad, state
from .node import FREED, Node, SavedTensor, edge_of, sequence_numbers


class FunctionCtx:
    """What ``forward`` receives: a place to save tensors and to say things about its outputs."""

    _to_save = ()
    _dirty = ()
    _not_differentiable = ()
    _materialize = True

    def save_for_backward(self, *tensors):
        """Keep input or output tensors (or None) for backward."""
        for tensor in tensors:
            if tensor is not None and not isinstance(tensor, TensorBase):
                raise TypeError("save_for_backward can only save variables, but argument "
                                f"{tensors.index(tensor)} is of type {type(tensor).__name__}")
        self._to_save = tensors

    def save_for_forward(self, *tensors):
        """Keep tensors for ``jvp``."""
        self.saved_for_forward = tensors

    def mark_dirty(self, *tensors):
        """Say which inputs ``forward`` wrote in place."""
        self._dirty = tensors

    def mark_non_differentiable(self, *tensors):
        """Say which outputs have no gradient."""
        self._not_differentiable = tensors

    def set_materialize_grads(self, value):
        """Whether undefined gradients reach ``backward`` as zeros (the default) or as None."""
        self._materialize = value

    @property
    def saved_tensors(self):
        """The tensors that ``save_for_backward`` kept; RuntimeError once freed or overwritten."""
        if self.released:
            raise RuntimeError(FREED)
        return tuple(s.unpack(self) if isinstance(s, SavedTensor) else s for s in self._saved)

    saved_variables = saved_tensors


class BackwardCFunction(FunctionCtx, Node):
    """The node of a Function's call; also the ``ctx`` of its forward and backward."""

    _function = None
    _saved = ()

    def apply(self, grads):
        if self.released and self._to_save != ():
            raise RuntimeError(FREED)
        if self._materialize:
            grads = [ops.zeros(meta[0], dtype=meta[1], device=meta[2]) if grad is None else grad
                     for grad, meta in zip(grads, self.outputs, strict=False)]
        backward = self._function.backward
        if backward is Function.backward:
            backward = self._function.vjp
        found = backward(self, *grads)
        found = tuple(found) if isinstance(found, (tuple, list)) else (found,)
        name = self._function.__name__
        while len(found) > self._count and found[-1] is None:
            found = found[:-1]
        if len(found) != self._count:
            raise RuntimeError(f"function {name}Backward returned an incorrect number of gradients "
                               f"(expected {self._count}, got {len(found)})")
        return [self._checked(name, k, found[position]) for k, position in enumerate(self._tensors)]

    def _checked(self, name, k, grad):
        from .graph import fit
        shape = self._input_meta[k][0]
        if grad is None:
            return None
        if not isinstance(grad, TensorBase):
            raise RuntimeError(f"function {name}Backward returned a gradient different from None "
                               f"at position {k + 1}, but it is a {type(grad).__name__}, not a "
                               "tensor")
        if grad._shape != shape and tuple(grad._shape)[-len(shape):] != tuple(shape) and shape:
            try:
                return fit(grad, self._input_meta[k])
            except RuntimeError:
                raise RuntimeError(f"Function {name}Backward returned an invalid gradient at index "
                                   f"{self._tensors[k]} - got {list(grad._shape)} but expected "
                                   f"shape compatible with {list(shape)}") from None
        return fit(grad, self._input_meta[k])

    def release(self):
        if self._to_save:
            self.released = True
            self._saved = ()


class _FunctionMeta(type):
    def __init__(cls, name, bases, namespace):
        super().__init__(name, bases, namespace)
        cls._backward_cls = type(name + "Backward", (BackwardCFunction,), {"_function": cls})


class Function(FunctionCtx, metaclass=_FunctionMeta):
    """Base of user-defined differentiable operations.

    Define ``forward(ctx, *inputs)`` and ``backward(ctx, *grad_outputs)`` as static methods, or
    ``forward(*inputs)`` with ``setup_context(ctx, inputs, output)``; call it as
    ``MyOp.apply(...)``.
    """

    @staticmethod
    def forward(*arguments, **keywords):
        """Compute the outputs."""
        raise NotImplementedError("You must implement the forward function for custom "
                                  "autograd.Function.")

    @staticmethod
    def setup_context(ctx, inputs, output):
        """Save what backward needs, when ``forward`` takes no ctx."""
        raise NotImplementedError("setup_context is not implemented.")

    @staticmethod
    def backward(ctx, *grad_outputs):
        """Gradients of the inputs, one per argument of forward."""
        raise NotImplementedError("You must implement either the backward or vjp method for your "
                                  "custom autograd.Function to use it with backward mode AD.")

    vjp = backward

    def __call__(self, *arguments, **keywords):
        raise RuntimeError("Legacy autograd function with non-static forward method is deprecated. "
                           "Please use new-style autograd function with static forward method.")

    @classmethod
    def apply(cls, *arguments, **keywords):
        """Run forward and record this function as one node."""
        ctx = cls._backward_cls()
        ctx.sequence = next(sequence_numbers)
        ctx._tensors = [i for i, a in enumerate(arguments) if isinstance(a, TensorBase)]
        ctx._count = len(arguments)
        ctx.needs_input_grad = tuple(isinstance(a, TensorBase) and a._requires_grad
                                     for a in arguments)
        record = state.enabled and any(ctx.needs_input_grad)
        edges = [edge_of(arguments[i]) for i in ctx._tensors] if record else []
        ctx._input_meta = [(arguments[i]._shape, arguments[i].dtype, arguments[i].device)
                           for i in ctx._tensors]
        with no_grad():
            if cls.setup_context is Function.setup_context:
                outputs = cls.forward(ctx, *arguments, **keywords)
            else:
                outputs = cls.forward(*arguments, **keywords)
                cls.setup_context(ctx, arguments, outputs)
        return _finish(ctx, arguments, outputs, edges, record)


def _finish(ctx, arguments, outputs, edges, record):
    single = not isinstance(outputs, (tuple, list))
    results = [outputs] if single else list(outputs)
    inputs = {id(a) for a in arguments if isinstance(a, TensorBase)}
    dirty = {id(t) for t in ctx._dirty}
    if not record:
        for tensor in ctx._dirty:
            tensor._storage.version += 1
        return outputs
    saved_ids = {id(t) for t in ctx._to_save if t is not None}
    for k, result in enumerate(results):
        if not isinstance(result, TensorBase):
            continue
        if id(result) in dirty:
            _check_dirty(result)
            result._storage.version += 1
        elif id(result) in inputs:
            fresh = ops._detached(result)
            if id(result) in saved_ids:
                ctx._to_save = tuple(fresh if t is result else t for t in ctx._to_save)
            results[k] = fresh
    made = {id(r): k for k, r in enumerate(results)}
    skip = {id(t) for t in ctx._not_differentiable}
    ctx._saved = tuple(None if t is None else SavedTensor(t, id(t) in made, made.get(id(t), 0))
                       for t in ctx._to_save)
    ctx.edges = edges
    ctx.outputs = tuple((r._shape, r.dtype, r.device) if isinstance(r, TensorBase)
                        else ((), None, None)
                        for r in results)
    for k, result in enumerate(results):
        if isinstance(result, TensorBase) and id(result) not in skip and result.dtype.category >= 2:
            result._grad_fn, result._output_nr, result._requires_grad = ctx, k, True
    return results[0] if single else tuple(results)


def _check_dirty(tensor):
    if tensor._requires_grad and tensor._grad_fn is None:
        raise RuntimeError("a leaf Variable that requires grad is being used in an in-place "
                           "operation.")


def once_differentiable(backward):
    """Decorator for a backward that is not itself differentiable: a second derivative raises."""
    @functools.wraps(backward)
    def wrapped(ctx, *grads):
        with no_grad():
            found = backward(ctx, *grads)
        if not state.enabled or not any(isinstance(g, TensorBase) and g._requires_grad
                                        for g in grads):
            return found
        single = not isinstance(found, (tuple, list))
        found = [found] if single else list(found)
        node = _Refuse()
        node.edges = [edge_of(g) for g in grads if isinstance(g, TensorBase) and g._requires_grad]
        node.sequence = next(sequence_numbers)
        node.outputs = tuple((f._shape, f.dtype, f.device) if f is not None else ((), None, None)
                             for f in found)
        for k, f in enumerate(found):
            if f is not None:
                found[k] = f = ops._detached(f)
                f._grad_fn, f._output_nr, f._requires_grad = node, k, True
        return found[0] if single else tuple(found)
    return wrapped


class _Refuse(Node):
    def apply(self, grads):
        raise RuntimeError("trying to differentiate twice a function that was marked with "
                           "@once_differentiable")


class InplaceFunction(Function):
    """A Function that may write its input."""

    def __init__(self, inplace=False):
        self.inplace = inplace
