"""Fused updates of optimizers: one launch for all parameters, a pass over each and its state.

All lists hold contiguous tensors of one floating dtype, which are written in place. Nothing is read
in Python and nothing is calculated from the learning rate there: kernels count the steps, and
``lr``, ``momentum`` and ``beta1`` may be objects that stand for numbers to come (``is_dynamic``).
"""
from ...kernels import optim as kernels
from ...runtime import build, dtypes, launch
from ...runtime.device import CPU, META
from ..base import contiguous_strides, empty, is_contiguous, numel, product
from ..structured import structured

GRAIN = (1 << 14) // kernels.BLOCK          # blocks of one task: some ten microseconds
_bits = build.double_bits


def _records(op, lists):
    """The records of a table, and how many blocks they are: see ``kernels.optim``.

    RuntimeError unless the lists have one length, all is of one dtype and every tensor has the
    form of its parameter, which is dense.
    """
    dtype, slots, first = lists[0][0].dtype, [], 0
    if dtype is not dtypes.float32 and dtype is not dtypes.float64:
        raise RuntimeError(f"{op}: expected float32 or float64 parameters, got {dtype}")
    counts = {len(tensors) for tensors in lists}
    if len(counts) > 1:
        raise RuntimeError(f"{op}: expected lists of the same length, got lengths {sorted(counts)}")
    for tensors in zip(*lists, strict=True):
        shape, strides = tensors[0]._shape, tensors[0]._strides
        if strides != contiguous_strides(shape) and not is_contiguous(shape, strides):
            raise RuntimeError(f"{op}: expected contiguous parameters; call .contiguous()")
        for tensor in tensors:
            if tensor.dtype is not dtype or tensor._strides != strides or tensor._shape != shape:
                raise RuntimeError(
                    f"{op}: expected gradients and state like the parameter: contiguous {dtype} of "
                    f"shape {tuple(shape)}, got {tensor.dtype} of shape {tuple(tensor._shape)}; "
                    "call .contiguous()")
            slots.append(tensor._address)
        n = product(shape)
        slots += (n, first)
        first += (n + kernels.BLOCK - 1) // kernels.BLOCK
    return slots, first


def _update(kernel, header, records, blocks, lists, written):
    """Launch ``kernel`` over all parameters: ``header`` is what its table begins with. The lists of
    ``written`` count as changed."""
    parameters = lists[0]
    if parameters[0]._storage.device is not META:
        kernel = build.kernel(kernel, ("table",), T=parameters[0].dtype.code, name="optimizer")
        launch.run(kernel, [len(parameters), *header, *records], blocks, GRAIN)
    for tensors in written:
        for tensor in tensors:
            tensor._storage.version += 1


def _repeats(lists):
    """Whether a parameter stands there twice: its updates must follow each other."""
    return len({tensor._address for tensor in lists[0]}) < len(lists[0])


@structured("_fused_sgd_(Tensor[] self, Tensor[] grads, Tensor[] momentum_buffer_list, *, "
            "float weight_decay, float momentum, float lr, float dampening, bool nesterov, "
            "bool maximize, bool is_first_step) -> ()", method=False, differentiable=False)
def _fused_sgd_(parameters, grads, buffers, weight_decay, momentum, lr, dampening, nesterov,
                maximize, is_first_step):
    """Stochastic gradient descent of every parameter, in place; buffers may be an empty list.

    On the first step of a momentum buffer it takes the gradient itself, whatever it held.
    """
    if not parameters:
        return ()
    lists = [parameters, grads, buffers] if buffers else [parameters, grads]
    records, blocks = _records("_fused_sgd_", lists)
    if _repeats(lists) and len(parameters) > 1:
        for each in zip(*lists, strict=True):
            _fused_sgd_.host(*([tensor] for tensor in each), *([] if buffers else [[]]),
                             weight_decay, momentum, lr, dampening, nesterov, maximize,
                             is_first_step)
        return ()
    kind = parameters[0].dtype.code + ":1C"
    if buffers:
        kernel = kernels.momentum_kernel(
            kind, kernels.sgd_nesterov if nesterov else kernels.sgd_momentum)
    else:
        kernel = kernels.sgd_kernel(kind)
    header = [_bits(lr), _bits(weight_decay), _bits(-1.0 if maximize else 1.0), _bits(momentum),
              _bits(1.0 if is_first_step else 1.0 - dampening), int(is_first_step)]
    _update(kernel, header, records, blocks, lists, (parameters, buffers))
    return ()


_STEPS = {dtypes.float32: 0, dtypes.float64: 1}


def _coefficients(op, steps, lr, beta1, beta2, decay):
    """Count the steps up, in a kernel; what Adam needs of them, a row for each parameter."""
    out = empty((len(steps), kernels.COEFFICIENTS), dtypes.float64)
    slots = [len(steps), _bits(lr), _bits(beta1), _bits(beta2), _bits(decay), out._address]
    for tensor in steps:
        wide = _STEPS.get(tensor.dtype)
        if wide is None or numel(tensor) != 1 or tensor._storage.device is not CPU:
            raise RuntimeError(f"{op}: expected each step as one float32 or float64 number on the "
                               f"CPU, got {tensor.dtype} of shape {tuple(tensor._shape)}")
        slots += (tensor._address, wide)
    kernel = build.kernel(kernels.count_steps, ("table",), T="f8")
    launch.run(kernel, slots, 1, 1)
    return out


def _adam(op, lists, steps, lr, beta1, beta2, weight_decay, eps, amsgrad, maximize, decoupled):
    if not lists[0]:
        return ()
    used = lists if amsgrad else lists[:4]
    records, blocks = _records(op, used)
    if len(steps) != len(lists[0]):
        raise RuntimeError(f"{op}: expected a step for each of {len(lists[0])} parameters, got "
                           f"{len(steps)}")
    if _repeats(lists) and len(steps) > 1:
        for i, step in enumerate(steps):
            _adam(op, [each[i:i + 1] for each in lists], [step], lr, beta1, beta2, weight_decay,
                  eps, amsgrad, maximize, decoupled)
        return ()
    coefficients = _coefficients(op, steps, lr, beta1, beta2, weight_decay if decoupled else 0.0)
    kind = lists[0][0].dtype.code + ":1C"
    kernel = kernels.amsgrad_kernel(kind) if amsgrad else kernels.adam_kernel(kind)
    header = [_bits(beta2), _bits(1.0 - beta2), _bits(eps),
              _bits(0.0 if decoupled else weight_decay), _bits(-1.0 if maximize else 1.0),
              coefficients._address]
    _update(kernel, header, records, blocks, used, (lists[0], *used[2:], steps))
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
