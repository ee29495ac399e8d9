"""Fused updates of optimizers: each parameter and its state in one pass.

All lists hold contiguous tensors of one floating dtype, which are written in place.
"""
import ctypes
import math

from ...kernels import optim as kernels
from ...runtime import build, dtypes, launch
from ...runtime.device import CPU, META
from ..base import is_contiguous, numel
from ..registry import ops
from ..structured import structured

GRAIN = 1 << 14       # elements of one task: some ten microseconds


def _checked(op, lists):
    """Check the lists: same lengths, one dtype, the shapes of the parameters, dense."""
    counts = {len(tensors) for tensors in lists}
    if len(counts) > 1:
        raise RuntimeError(f"{op}: expected lists of the same length, got lengths {sorted(counts)}")
    dtype = lists[0][0].dtype
    if dtype is not dtypes.float32 and dtype is not dtypes.float64:
        raise RuntimeError(f"{op}: expected float32 or float64 parameters, got {dtype}")
    for first in lists[0]:
        if not is_contiguous(first._shape, first._strides):
            raise RuntimeError(f"{op}: expected contiguous parameters; call .contiguous()")
    for tensors in lists[1:]:
        for first, tensor in zip(lists[0], tensors, strict=True):
            if (tensor.dtype is not dtype or tensor._strides != first._strides
                    or tensor._shape != first._shape):
                raise RuntimeError(
                    f"{op}: expected gradients and state like the parameter: contiguous {dtype} of "
                    f"shape {tuple(first._shape)}, got {tensor.dtype} of shape "
                    f"{tuple(tensor._shape)}; call .contiguous()")


def _kernel(function, arrays, scalars, dtype):
    kinds = (f"{dtype.code}:1C",) * arrays + ("T",) * scalars
    return build.kernel(function, kinds, T=dtype.code)


def _update(kernel, tensors, scalars, written):
    """One launch over the flat ``tensors``; ``scalars`` are bits of doubles; the tensors at the
    places ``written`` count as changed."""
    n = numel(tensors[0])
    slots = []
    for tensor in tensors:
        slots += (tensor._address, n)
    slots += scalars
    if tensors[0]._storage.device is not META:
        launch.run(kernel, slots, n, GRAIN)
    for place in written:
        tensors[place]._storage.version += 1


def _bits(*values):
    return [build.double_bits(value) for value in values]


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
    dtype = parameters[0].dtype
    if not buffers:
        scalars = _bits(lr, weight_decay, sign)
        kernel = _kernel(kernels.sgd, 2, 3, dtype)
        for pair in zip(parameters, grads, strict=True):
            _update(kernel, pair, scalars, (0,))
        return ()
    function = kernels.sgd_nesterov if nesterov else kernels.sgd_momentum
    rest = 1.0 - dampening
    if is_first_step:
        rest = 1.0
        for buffer in buffers:
            ops.zero_(buffer)
    scalars = _bits(lr, weight_decay, sign, momentum, rest)
    kernel = _kernel(function, 3, 5, dtype)
    for tensors in zip(parameters, grads, buffers, strict=True):
        _update(kernel, tensors, scalars, (0, 2))
    return ()


_STEPS = {dtypes.float32: ctypes.c_float, dtypes.float64: ctypes.c_double}


def _counted(op, tensor):
    """The step count one higher, read and written where it lies."""
    kind = _STEPS.get(tensor.dtype)
    if kind is None or numel(tensor) != 1 or tensor._storage.device is not CPU:
        raise RuntimeError(f"{op}: expected each step as one float32 or float64 number on the CPU, "
                           f"got {tensor.dtype} of shape {tuple(tensor._shape)}")
    count = kind.from_address(tensor._address)
    count.value += 1.0
    tensor._storage.version += 1
    return count.value


def _adam(op, lists, steps, lr, beta1, beta2, weight_decay, eps, amsgrad, maximize, decoupled):
    if not lists[0]:
        return ()
    used = lists if amsgrad else lists[:4]
    _checked(op, [*used])
    sign = -1.0 if maximize else 1.0
    keep, decay = (1.0 - lr * weight_decay, 0.0) if decoupled else (1.0, weight_decay)
    kernel = _kernel(kernels.amsgrad if amsgrad else kernels.adam, len(used), 9,
                     lists[0][0].dtype)
    written = (0, 2, 3, 4) if amsgrad else (0, 2, 3)
    known = {}
    for tensors, count in zip(zip(*used, strict=True), steps, strict=True):
        step = _counted(op, count)
        scalars = known.get(step)
        if scalars is None:
            root = math.sqrt(1.0 - beta2 ** step)
            scalars = known[step] = _bits(lr / (1.0 - beta1 ** step), root, 1.0 - beta1, beta2,
                                          1.0 - beta2, eps, decay, keep, sign)
        _update(kernel, tensors, scalars, written)
    return ()


_ADAM = ("(Tensor[] self, Tensor[] grads, Tensor[] exp_avgs, Tensor[] exp_avg_sqs, "
         "Tensor[] max_exp_avg_sqs, Tensor[] state_steps, *, float lr, float beta1, float beta2, "
         "float weight_decay, float eps, bool amsgrad, bool maximize) -> ()")


@structured("_fused_adam_" + _ADAM, method=False, differentiable=False)
def _fused_adam_(parameters, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs, state_steps, lr, beta1,
                 beta2, weight_decay, eps, amsgrad, maximize):
    """Adam (arXiv 1412.6980) for every parameter, in place; ``state_steps`` are counted up first.
    """
    return _adam("_fused_adam_", [parameters, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs],
                 state_steps, lr, beta1, beta2, weight_decay, eps, amsgrad, maximize, False)


@structured("_fused_adamw_" + _ADAM, method=False, differentiable=False)
def _fused_adamw_(parameters, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs, state_steps, lr,
                  beta1, beta2, weight_decay, eps, amsgrad, maximize):
    """AdamW (arXiv 1711.05101): Adam with the weight decay apart from the gradient."""
    return _adam("_fused_adamw_", [parameters, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs],
                 state_steps, lr, beta1, beta2, weight_decay, eps, amsgrad, maximize, True)
