"""Numerical checks of gradients by central differences."""
import sys
import types

import numpy as np

from ..ops.base import TensorBase
from ..ops.registry import ops
from ..runtime import dtypes
from .api import grad


class GradcheckError(RuntimeError):
    """A gradient differs from its numerical value."""


def _leaves(value):
    if isinstance(value, TensorBase):
        return [value]
    if isinstance(value, (tuple, list)):
        return [t for v in value for t in _leaves(v)]
    return []


def _differentiable(outputs):
    return [o for o in _leaves(outputs) if o.requires_grad]


def _as_reals(array):
    """Complex numbers as pairs of reals, flat."""
    flat = np.ascontiguousarray(array).reshape(-1)
    return flat.view(flat.real.dtype) if flat.dtype.kind == "c" else flat


def _numerical(function, inputs, tensor, eps):
    """Jacobian rows of all outputs: ``d outputs / d component`` for each real component."""
    values = tensor.detach()._array()
    columns = []
    for index in np.ndindex(values.shape):
        for step in ((eps, 1j * eps) if tensor.is_complex() else (eps,)):
            kept = values[index]
            sides = []
            for sign in (1, -1):
                values[index] = kept + sign * step
                # copies: an output may be a view of the input that is about to be put back
                sides.append([_as_reals(np.array(o.detach()._array(), copy=True)).astype(float)
                              for o in _outputs(function, inputs)])
            values[index] = kept
            columns.append([(a - b) / (2 * eps) for a, b in zip(*sides, strict=True)])
    return columns


def _outputs(function, inputs):
    found = function(*inputs)
    return [o for o in _leaves(found) if o.dtype.category >= dtypes.FLOAT]


def _analytical(output, tensor, component, count):
    """Row ``component`` of the Jacobian of ``output`` with respect to ``tensor``, as reals."""
    seed = ops.zeros_like(output.detach())
    flat = seed._array().reshape(-1)
    if output.is_complex():
        flat[component // 2] = 1 if component % 2 == 0 else 1j
    else:
        flat[component] = 1
    seed = ops.from_numpy(flat.reshape(tuple(output.shape)).copy())
    got = grad(output, tensor, seed, retain_graph=True, allow_unused=True)[0]
    if got is None:
        return np.zeros(count)
    return _as_reals(np.array(got.detach()._array())).astype(float)


def _fail(message, raise_exception):
    if raise_exception:
        raise GradcheckError(message)
    return False


def _check_input(function, inputs, tensor, position, tolerance, raise_exception):
    eps, atol, rtol, nondet = tolerance
    outputs = _outputs(function, inputs)
    columns = _numerical(function, inputs, tensor, eps)
    count = len(columns)
    for number, output in enumerate(outputs):
        if not output.requires_grad:
            continue
        components = output.numel() * (2 if output.is_complex() else 1)
        for component in range(components):
            analytical = _analytical(output, tensor, component, count)
            again = _analytical(output, tensor, component, count)
            numerical = np.array([column[number][component] for column in columns])
            if not np.allclose(analytical, again, rtol=0, atol=nondet, equal_nan=True):
                return _fail("Backward is not reentrant, i.e., running backward with same input "
                             "and grad_output multiple times gives different "
                             "values", raise_exception)
            if not np.allclose(analytical, numerical, rtol, atol, equal_nan=True):
                return _fail(f"Jacobian mismatch for output {number} with respect to input "
                             f"{position},"
                             f"\nnumerical:{numerical}\nanalytical:{analytical}\n", raise_exception)
    return True


def gradcheck(func, inputs, *, eps=1e-6, atol=1e-5, rtol=1e-3, raise_exception=True,
              nondet_tol=0.0, check_undefined_grad=True, check_grad_dtypes=False,
              check_batched_grad=False, check_batched_forward_grad=False, check_forward_ad=False,
              check_backward_ad=True, fast_mode=False, masked=None):
    """Compare gradients of ``func`` with central differences ``(f(x + eps) - f(x - eps)) / 2 eps``.

    ``inputs`` that require gradients should be float64. True if ``|a - n| <= atol + rtol * |n|``
    everywhere; else GradcheckError (a RuntimeError), or False without ``raise_exception``.
    """
    inputs = (inputs,) if isinstance(inputs, TensorBase) else tuple(inputs)
    checked = [t for t in _leaves(inputs) if t.requires_grad]
    if not checked:
        raise ValueError("gradcheck expects at least one input tensor to require gradient, but "
                         "none of the them have requires_grad=True.")
    for tensor in checked:
        if 0 in tensor.stride() and tensor.numel() > 1:
            raise RuntimeError("The input to gradcheck has a dimension with stride 0: its elements "
                               "overlap in memory. Pass a contiguous tensor.")
    if not _differentiable(func(*inputs)):
        for tensor in checked:
            if any(np.abs(column).max(initial=0) > 1e-3 for row in
                   _numerical(func, inputs, tensor, eps) for column in row):
                return _fail("Numerical gradient for function expected to be zero", raise_exception)
        return True
    tolerance = (eps, atol, rtol, nondet_tol)
    for position, tensor in enumerate(checked):
        if not _check_input(func, inputs, tensor, position, tolerance, raise_exception):
            return False
    if check_undefined_grad:
        return _check_undefined(func, inputs, checked, raise_exception)
    return True


def _check_undefined(func, inputs, checked, raise_exception):
    """With several outputs, gradients for only one of them must work."""
    outputs = _differentiable(func(*inputs))
    if len(outputs) < 2:
        return True
    try:
        for output in outputs:
            grad(output, checked, ops.ones_like(output), retain_graph=True, allow_unused=True)
    except RuntimeError as error:
        return _fail(f"Expected backward function to handle undefined output grads: {error}",
                     raise_exception)
    return True


def gradgradcheck(func, inputs, grad_outputs=None, *, eps=1e-6, atol=1e-5, rtol=1e-3,
                  gen_non_contig_grad_outputs=False, raise_exception=True, nondet_tol=0.0,
                  check_undefined_grad=True, check_grad_dtypes=False, check_batched_grad=False,
                  check_fwd_over_rev=False, check_rev_over_rev=True, fast_mode=False, masked=False):
    """``gradcheck`` of the gradients of ``func``, with respect to inputs and incoming gradients."""
    inputs = (inputs,) if isinstance(inputs, TensorBase) else tuple(inputs)
    outputs = _differentiable(func(*inputs))
    if grad_outputs is None:
        generator = np.random.default_rng(1)
        grad_outputs = []
        for o in outputs:
            values = generator.standard_normal(tuple(o.shape))
            if o.is_complex():
                values = values + 1j * generator.standard_normal(tuple(o.shape))
            made = ops.from_numpy(np.asarray(values, dtype=o.detach()._array().dtype))
            grad_outputs.append(made.requires_grad_(True))
    else:
        grad_outputs = _leaves(grad_outputs)
    count = len(grad_outputs)

    def first_order(*arguments):
        values, vectors = arguments[:-count], arguments[-count:]
        checked = [t for t in _leaves(values) if t.requires_grad]
        found = grad(_differentiable(func(*values)), checked, vectors, create_graph=True,
                     allow_unused=True)
        return tuple(f for f in found if f is not None)
    return gradcheck(first_order, (*inputs, *grad_outputs), eps=eps, atol=atol, rtol=rtol,
                     raise_exception=raise_exception, nondet_tol=nondet_tol,
                     check_undefined_grad=False)


class _Callable(types.ModuleType):
    """The package has a function and a module of this name, as torch's has: which of them its
    attribute is depends on what was imported first, so the module can be called, too."""

    def __call__(self, *arguments, **keywords):
        return gradcheck(*arguments, **keywords)


sys.modules[__name__].__class__ = _Callable
