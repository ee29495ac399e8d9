"""``backward`` and ``grad``: the entrances to the engine."""
from ..ops.base import TensorBase
from ..ops.registry import ops
from .engine import make_grads, run_backward
from .tensor_hooks import retain_grad


def _tensors(value):
    return (value,) if isinstance(value, TensorBase) else tuple(value)


def _grad_list(grads, count):
    if grads is None:
        return [None] * count
    grads = [grads] if isinstance(grads, TensorBase) else list(grads)
    if len(grads) != count:
        raise RuntimeError(f"got {count} tensors and {len(grads)} gradients")
    return grads


def _check_roots(tensors):
    for position, tensor in enumerate(tensors):
        if not tensor._requires_grad:
            raise RuntimeError(f"element {position} of tensors does not require grad and does not "
                               "have a grad_fn")


def backward(tensors, grad_tensors=None, retain_graph=None, create_graph=False, grad_variables=None,
             inputs=None):
    """Add the gradients of ``tensors`` with respect to graph leaves to the leaves' ``.grad``.

    ``grad_tensors`` are the vectors of the vector-Jacobian product, ones for scalars if None.
    ``inputs`` restricts which leaves accumulate. RuntimeError if a tensor has no history, or if the
    graph was freed by an earlier backward without ``retain_graph``.
    """
    tensors = _tensors(tensors)
    grad_tensors = grad_variables if grad_tensors is None else grad_tensors
    grads = make_grads(tensors, _grad_list(grad_tensors, len(tensors)))
    keep = create_graph if retain_graph is None else retain_graph
    if inputs is not None:
        inputs = _tensors(inputs)
        if not inputs:
            raise RuntimeError("'inputs' argument to 'backward' cannot be empty.")
        for tensor in inputs:
            if not tensor._requires_grad:
                raise RuntimeError("One of the differentiated Tensors does not require grad")
            retain_grad(tensor)
    _check_roots(tensors)
    run_backward(tensors, grads, keep, create_graph, inputs, accumulate=True)


def grad(outputs, inputs, grad_outputs=None, retain_graph=None, create_graph=False,
         only_inputs=True, allow_unused=None, is_grads_batched=False, materialize_grads=False):
    """The sum of gradients of ``outputs`` with respect to each of ``inputs``, as a tuple.

    ``create_graph`` records the computation, for higher derivatives. An input that the outputs do
    not depend on raises RuntimeError, or gives None with ``allow_unused`` (zeros with
    ``materialize_grads``). ``is_grads_batched`` runs once per first index of ``grad_outputs``.
    """
    outputs, inputs = _tensors(outputs), _tensors(inputs)
    if materialize_grads and allow_unused is False:
        raise ValueError("Expected allow_unused to be True or not passed when "
                         "materialize_grads=True, but got: allow_unused=False.")
    allow_unused = materialize_grads if allow_unused is None else allow_unused
    keep = create_graph if retain_graph is None else retain_graph
    if is_grads_batched:
        return _batched(outputs, inputs, grad_outputs, keep, create_graph, allow_unused,
                        materialize_grads)
    grads = make_grads(outputs, _grad_list(grad_outputs, len(outputs)))
    for tensor in inputs:
        if not tensor._requires_grad:
            raise RuntimeError("One of the differentiated Tensors does not require grad")
    _check_roots(outputs)
    found = run_backward(outputs, grads, keep, create_graph, inputs, accumulate=False)
    for position, (got, tensor) in enumerate(zip(found, inputs, strict=True)):
        if got is None:
            if not allow_unused:
                raise RuntimeError("One of the differentiated Tensors appears to not have been "
                                   "used in the graph. Set allow_unused=True if this is the "
                                   "desired behavior.")
            if materialize_grads:
                found[position] = ops.zeros_like(tensor)
    return tuple(found)


def local_grad(outputs, inputs, grad_outputs, create_graph=False):
    """Gradients of ``outputs`` by what was computed from ``inputs``, None where there is none. That
    inputs were computed from each other does not count, nor do hooks on their gradients."""
    return run_backward(outputs, grad_outputs, True, create_graph, inputs, accumulate=False,
                        ends=True)


def _batched(outputs, inputs, grad_outputs, keep, create_graph, allow_unused, materialize):
    batches = [g for g in _grad_list(grad_outputs, len(outputs)) if g is not None]
    count = batches[0]._shape[0]
    rows = []
    for row in range(count):
        picked = [None if g is None else g[row] for g in _grad_list(grad_outputs, len(outputs))]
        last = row == count - 1
        rows.append(grad(outputs, inputs, picked, keep or not last, create_graph,
                         allow_unused=allow_unused, materialize_grads=materialize))
    return tuple(None if column[0] is None else ops.stack(list(column))
                 for column in zip(*rows, strict=True))
