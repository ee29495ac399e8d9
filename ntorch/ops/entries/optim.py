"""Fused updates of optimizers: each parameter and its state in one pass.

All lists hold contiguous tensors of one floating dtype, which are written in place.
"""
import math

from ...kernels import optim as kernels
from ...runtime import build, dtypes, launch
from ..base import is_contiguous, numel
from ..registry import ops
from ..structured import structured

GRAIN = 1 << 14       # elements of one task: some ten microseconds


def _checked(op, lists):
    """The dtype of all tensors; RuntimeError if they differ in dtype or shape or are not dense."""
    counts = {len(tensors) for tensors in lists}
    if len(counts) > 1:
        raise RuntimeError(f"{op}: expected lists of the same length, got lengths {sorted(counts)}")
    for tensors in zip(*lists, strict=True):
        first = tensors[0]
        for tensor in tensors:
            if tensor.dtype not in (dtypes.float32, dtypes.float64) or (
                    tensor.dtype is not lists[0][0].dtype):
                raise RuntimeError(f"{op}: expected tensors that are all float32 or all float64, "
                                   f"got {tensor.dtype}")
            if tensor._shape != first._shape:
                raise RuntimeError(f"{op}: expected a gradient and state of shape "
                                   f"{tuple(first._shape)}, got {tuple(tensor._shape)}")
            if not is_contiguous(tensor._shape, tensor._strides):
                raise RuntimeError(f"{op}: expected contiguous tensors; call .contiguous()")


def _update(kernel_function, tensors, scalars, written):
    """One launch over the flat ``tensors``; the first ``written`` places are bumped."""
    code = tensors[0].dtype.code
    kinds = (f"{code}:1C",) * len(tensors) + ("T",) * len(scalars)
    n = numel(tensors[0])
    kernel = build.kernel(kernel_function, kinds, T=code)
    slots = []
    for tensor in tensors:
        slots += (tensor._address, n)
    slots += map(build.double_bits, scalars)
    launch.run(kernel, slots, n, GRAIN)
    for place in written:
        tensors[place]._storage.version += 1


@structured("_fused_sgd_(Tensor[] self, Tensor[] grads, Tensor[] momentum_buffer_list, *, "
            "float weight_decay, float momentum, float lr, float dampening, bool nesterov, "
            "bool maximize, bool is_first_step) -> ()", method=False, differentiable=False)
def _fused_sgd_(parameters, grads, buffers, weight_decay, momentum, lr, dampening, nesterov,
                maximize, is_first_step):
    """Stochastic gradient descent of every parameter, in place; buffers may be an empty list.

    On the first step of a momentum buffer it takes the gradient itself, whatever it held.
    """
    sign = -1.0 if maximize else 1.0
    if not parameters:
        return ()
    _checked("_fused_sgd_", [parameters, grads, buffers] if buffers else [parameters, grads])
    if not buffers:
        for pair in zip(parameters, grads, strict=True):
            _update(kernels.sgd, pair, (lr, weight_decay, sign), (0,))
        return ()
    function = kernels.sgd_nesterov if nesterov else kernels.sgd_momentum
    rest = 1.0 - dampening
    if is_first_step:
        rest = 1.0
        for buffer in buffers:
            ops.zero_(buffer)
    scalars = (lr, weight_decay, sign, momentum, rest)
    for tensors in zip(parameters, grads, buffers, strict=True):
        _update(function, tensors, scalars, (0, 2))
    return ()


def _adam(op, lists, steps, lr, beta1, beta2, weight_decay, eps, amsgrad, maximize, decoupled):
    parameters, grads, means, squares, largest = lists
    if not parameters:
        return ()
    used = lists if amsgrad else lists[:4]
    _checked(op, used)
    sign = -1.0 if maximize else 1.0
    keep, decay = (1.0 - lr * weight_decay, 0.0) if decoupled else (1.0, weight_decay)
    function = kernels.amsgrad if amsgrad else kernels.adam
    written = (0, 2, 3, 4) if amsgrad else (0, 2, 3)
    known = {}
    for tensors, step in zip(zip(*used, strict=True), steps, strict=True):
        scalars = known.get(step)
        if scalars is None:
            root = math.sqrt(1.0 - beta2 ** step)
            scalars = known[step] = (lr / (1.0 - beta1 ** step), root, 1.0 - beta1, beta2,
                                     1.0 - beta2, eps, decay, keep, sign)
        _update(function, tensors, scalars, written)
    return ()


_ADAM = ("(Tensor[] self, Tensor[] grads, Tensor[] exp_avgs, Tensor[] exp_avg_sqs, "
         "Tensor[] max_exp_avg_sqs, float[] state_steps, *, float lr, float beta1, float beta2, "
         "float weight_decay, float eps, bool amsgrad, bool maximize) -> ()")


@structured("_fused_adam_" + _ADAM, method=False, differentiable=False)
def _fused_adam_(parameters, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs, state_steps, lr, beta1,
                 beta2, weight_decay, eps, amsgrad, maximize):
    """Adam (arXiv 1412.6980) for every parameter, in place; ``state_steps`` counts from 1."""
    return _adam("_fused_adam_", [parameters, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs],
                 state_steps, lr, beta1, beta2, weight_decay, eps, amsgrad, maximize, False)


@structured("_fused_adamw_" + _ADAM, method=False, differentiable=False)
def _fused_adamw_(parameters, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs, state_steps, lr,
                  beta1, beta2, weight_decay, eps, amsgrad, maximize):
    """AdamW (arXiv 1711.05101): Adam with the weight decay apart from the gradient."""
    return _adam("_fused_adamw_", [parameters, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs],
                 state_steps, lr, beta1, beta2, weight_decay, eps, amsgrad, maximize, True)
