"""Jacobians, Hessians and products with them, by reverse mode."""
from ..ops.base import TensorBase
from ..ops.registry import ops
from .api import grad
from .modes import enable_grad


def _tuple(value, name, function):
    if isinstance(value, TensorBase):
        return (value,), False
    if not isinstance(value, tuple) or not all(isinstance(v, TensorBase) for v in value):
        raise TypeError(f"The {name} given to {function} must be either a Tensor or a tuple of "
                        f"Tensors but the given {name} has type {type(value).__name__}.")
    return value, True


def _fresh(inputs, create_graph):
    """Inputs to differentiate with respect to: views of the given ones, or detached copies."""
    return tuple(ops.alias(t) if create_graph and t.requires_grad
                 else ops.clone(t.detach()).requires_grad_() for t in inputs)


def _untuple(values, is_tuple):
    return tuple(values) if is_tuple else values[0]


def _gradient(outputs, inputs, vectors, create_graph, strict=False):
    pairs = [(o, v) for o, v in zip(outputs, vectors, strict=True) if o.requires_grad]
    if not pairs:
        if strict:
            raise RuntimeError("The output of the user-provided function is independent of the "
                               "input. This is not allowed in strict mode.")
        return tuple(ops.zeros_like(t) for t in inputs)
    outs, vecs = zip(*pairs, strict=True)
    found = grad(outs, inputs, vecs, create_graph=create_graph, retain_graph=True,
                 allow_unused=True)
    if strict and any(f is None for f in found):
        raise RuntimeError("The output of the user-provided function is independent of an input. "
                           "This is not allowed in strict mode.")
    return tuple(ops.zeros_like(t) if f is None else f for f, t in zip(found, inputs, strict=True))


def _vectors(v, like, name):
    if v is None:
        if len(like) != 1 or like[0].numel() != 1:
            raise RuntimeError(f"The vector v can only be None if the {name} given to the function "
                               "is a single Tensor with a single element.")
        return (ops.ones_like(like[0]),)
    v, _ = _tuple(v, "v", "functional")
    for index, (a, b) in enumerate(zip(v, like, strict=True)):
        if a.shape != b.shape:
            raise RuntimeError(f"v has invalid size at index {index}: should be {b.shape} but got "
                               f"{a.shape}.")
    return v


@enable_grad()
def vjp(func, inputs, v=None, create_graph=False, strict=False):
    """``(func(inputs), v^T J)``: the vector-Jacobian product."""
    inputs, many = _tuple(inputs, "inputs", "vjp")
    fresh = _fresh(inputs, create_graph)
    outputs, many_out = _tuple(func(*fresh), "outputs", "vjp")
    found = _gradient(outputs, fresh, _vectors(v, outputs, "output"), create_graph, strict)
    if not create_graph:
        outputs = tuple(o.detach() for o in outputs)
    return _untuple(outputs, many_out), _untuple(found, many)


@enable_grad()
def jvp(func, inputs, v=None, create_graph=False, strict=False):
    """``(func(inputs), J v)``: by differentiating the vector-Jacobian product in its vector."""
    inputs, _ = _tuple(inputs, "inputs", "jvp")
    fresh = _fresh(inputs, create_graph)
    vectors = _vectors(v, fresh, "input")
    outputs, many_out = _tuple(func(*fresh), "outputs", "jvp")
    dummies = tuple(ops.zeros_like(o).requires_grad_() for o in outputs)
    back = _gradient(outputs, fresh, dummies, True, strict)
    found = _gradient(back, dummies, vectors, create_graph)
    if not create_graph:
        outputs = tuple(o.detach() for o in outputs)
    return _untuple(outputs, many_out), _untuple(found, many_out)


@enable_grad()
def jacobian(func, inputs, create_graph=False, strict=False, vectorize=False,
             strategy="reverse-mode"):
    """The Jacobian: for each output and input a tensor of shape ``output.shape + input.shape``."""
    inputs, many = _tuple(inputs, "inputs", "jacobian")
    fresh = _fresh(inputs, create_graph)
    outputs, many_out = _tuple(func(*fresh), "outputs", "jacobian")
    rows = []
    for output in outputs:
        columns = [[] for _ in fresh]
        for element in ops.reshape(output, (-1,)):
            found = _gradient((element,), fresh, (ops.ones_like(element.detach()),), create_graph,
                              strict)
            for column, f in zip(columns, found, strict=True):
                column.append(f)
        rows.append(tuple(
            ops.reshape(ops.stack(column), (*output.shape, *t.shape)) if column
            else ops.zeros((*output.shape, *t.shape), dtype=output.dtype)
            for column, t in zip(columns, fresh, strict=True)))
    rows = [_untuple(row, many) for row in rows]
    return _untuple(rows, many_out)


@enable_grad()
def hessian(func, inputs, create_graph=False, strict=False, vectorize=False,
            outer_jacobian_strategy="reverse-mode"):
    """The Hessian of a scalar function, as nested tuples for several inputs."""
    inputs, many = _tuple(inputs, "inputs", "hessian")

    def gradient(*values):
        output, _ = _tuple(func(*values), "outputs", "hessian")
        if len(output) != 1 or output[0].numel() != 1:
            raise RuntimeError("The Tensor returned by the function given to hessian should "
                               "contain a single element")
        return _gradient((ops.reshape(output[0], ()),), values, (ops.ones_like(
            ops.reshape(output[0].detach(), ())),), True, strict)
    found = jacobian(gradient, inputs, create_graph=create_graph, strict=strict)
    return found if many else found[0][0]


def vhp(func, inputs, v=None, create_graph=False, strict=False):
    """``(func(inputs), v^T H)``."""
    inputs, many = _tuple(inputs, "inputs", "vhp")

    def gradient(*values):
        output = func(*values)
        return _gradient((output,), values, (ops.ones_like(output.detach()),), True, strict)
    value = func(*inputs)
    _, found = vjp(gradient, inputs, _vectors(v, inputs, "input"), create_graph)
    return (value if create_graph else value.detach()), _untuple(found, many)


def hvp(func, inputs, v=None, create_graph=False, strict=False):
    """``(func(inputs), H v)``; the Hessian is symmetric, so this is ``vhp``."""
    return vhp(func, inputs, v, create_graph, strict)
