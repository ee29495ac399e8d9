"""Normalisation with a weight per channel: batch, group and instance norm."""
from ..base import product
from ..channel_norm import (
    Layout,
    gradients,
    inverse_deviation,
    is_turned,
    moments,
    normalize,
    turn,
    turned_back,
    update_running,
)
from ..composite import composite, overloaded
from ..norm_rules import differentiate_backward
from ..registry import ops
from ..structured import as_dtype, empty, structured
from ..windows import computed, parameter, reshaped


def _check_channels(op, input, weight, bias, running_mean=None, running_var=None):
    """RuntimeError unless every parameter has one element per channel."""
    if not input.dtype.is_floating_point:
        raise NotImplementedError(f"\"{op}\" not implemented for '{input.dtype}': expected a "
                                  "floating point input")
    channels = input._shape[1]
    for name, value in (("running_mean", running_mean), ("running_var", running_var),
                        ("weight", weight), ("bias", bias)):
        if value is not None and (len(value._shape) != 1 or value._shape[0] != channels):
            raise RuntimeError(f"{op}: {name} should contain {channels} elements not "
                               f"{product(value._shape)} (shape {list(value._shape)}), one per "
                               f"channel of an input of shape {list(input._shape)}")


def _channelwise(row, ndim):
    """A value per channel, shaped to broadcast against (N, C, ...)."""
    return row if row is None else ops.reshape(row, (1, -1, *(1,) * (ndim - 2)))


def _all_but_channels(tensor):
    return (0, *range(2, len(tensor.shape)))


@composite("native_batch_norm(Tensor input, Tensor? weight, Tensor? bias, Tensor? running_mean, "
           "Tensor? running_var, bool training, float momentum, float eps, *, Tensor? out=None) "
           "-> (Tensor, Tensor, Tensor)", method=False, fuse=False)
def native_batch_norm(input, weight, bias, running_mean, running_var, training, momentum, eps):
    """Batch norm of (N, C, ...), with the mean and rstd that were used when training (else empty).

    Training updates ``running_mean`` and ``running_var``, if given, in place.
    """
    if len(input._shape) < 2:
        raise RuntimeError("batch_norm: expected an input of at least 2 dimensions (N, C, ...), "
                           f"got {list(input._shape)}")
    _check_channels("batch_norm", input, weight, bias, running_mean, running_var)
    if training:
        out, mean, rstd = ops._batch_norm_training(input, weight, bias, running_mean, running_var,
                                                   momentum, eps)
        return out, mean.detach(), rstd.detach()
    if running_mean is None or running_var is None:
        name = "running_mean" if running_mean is None else "running_var"
        raise RuntimeError(f"batch_norm: Expected {name} to be defined when training=False")
    out, mean, rstd = ops._batch_norm_evaluation(input, weight, bias, running_mean, running_var,
                                                 eps)
    return out, mean.detach(), rstd.detach()


@structured("_batch_norm_training(Tensor input, Tensor? weight, Tensor? bias, "
            "Tensor? running_mean, Tensor? running_var, float momentum, float eps) "
            "-> (Tensor, Tensor, Tensor)", method=False)
def _batch_norm_training(input, weight, bias, running_mean, running_var, momentum, eps):
    """Batch norm with the statistics of the batch, which it also returns."""
    x = computed(input)
    turned = is_turned(x._shape)
    source = turn(x) if turned else x
    layout = Layout(source._shape)
    mean, var, rstd = moments(source, layout, eps)
    out = normalize(source, weight, bias, mean, rstd, layout)
    if running_mean is not None and running_var is not None:
        update_running(mean, var, running_mean, running_var, momentum, layout.elements)
    return as_dtype(turned_back(out, x._shape) if turned else out, input.dtype), mean, rstd


_batch_norm_training.backward_name = "NativeBatchNormBackward0"


@_batch_norm_training.gradient("input", "weight", "bias")
def _(grad0, input, weight, result1, result2, eps):
    if grad0 is None:
        return None, None, None
    return ops._batch_norm_backward(grad0, input, weight, result1.detach(), result2.detach(), eps)


@structured("_batch_norm_evaluation(Tensor input, Tensor? weight, Tensor? bias, "
            "Tensor running_mean, Tensor running_var, float eps) -> (Tensor, Tensor, Tensor)",
            method=False)
def _batch_norm_evaluation(input, weight, bias, running_mean, running_var, eps):
    """Batch norm with given statistics, and two empty tensors."""
    x = computed(input)
    out = normalize(x, weight, bias, parameter(running_mean, x),
                 inverse_deviation(running_var, x, eps), Layout(x._shape))
    return as_dtype(out, input.dtype), *(empty((0,), x.dtype, x._storage.device) for _ in range(2))


_batch_norm_evaluation.backward_name = "NativeBatchNormBackward0"


@_batch_norm_evaluation.gradient("input", "weight", "bias")
def _(grad0, input, weight, running_mean, running_var, eps, needs):
    if grad0 is None:
        return None, None, None
    ndim, dims = len(input.shape), _all_but_channels(input)
    rstd = ops.rsqrt(_channelwise(running_var, ndim) + eps)
    scale = rstd if weight is None else rstd * _channelwise(weight, ndim)
    h = (input - _channelwise(running_mean, ndim)) * rstd if needs["weight"] else None
    return (grad0 * scale if needs["input"] else None,
            None if h is None else ops.sum(grad0 * h, dims),
            ops.sum(grad0, dims) if needs["bias"] else None)


@structured("_batch_norm_backward(Tensor grad_output, Tensor input, Tensor? weight, Tensor mean, "
            "Tensor rstd, float eps) -> (Tensor, Tensor, Tensor)", method=False)
def _batch_norm_backward(grad_output, input, weight, mean, rstd, eps):
    """Gradients of input, weight and bias of a batch norm in training."""
    x = computed(input)
    g = as_dtype(computed(grad_output), x.dtype)
    turned = is_turned(x._shape)
    source, grad = (turn(x), turn(g)) if turned else (x, g)
    gx, gw, gb = gradients(grad, source, weight, mean, rstd, Layout(source._shape))
    gx = turned_back(reshaped(gx, source._shape), x._shape) if turned else reshaped(gx, x._shape)
    return as_dtype(gx, input.dtype), gw, gb


@_batch_norm_backward.gradient("grad_output", "input", "weight")
def _(grad0, grad1, grad2, grad_output, input, weight, eps):
    ndim, dims = len(input.shape), _all_but_channels(input)
    for_g, for_x, for_w = differentiate_backward(
        (grad0, _channelwise(grad1, ndim), _channelwise(grad2, ndim)), grad_output, input,
        _channelwise(weight, ndim), dims, eps)
    return for_g, for_x, None if for_w is None else ops.sum(for_w, dims)


@structured("_group_norm(Tensor input, Tensor? weight, Tensor? bias, int groups, float eps) "
            "-> (Tensor, Tensor, Tensor)", method=False)
def _group_norm(input, weight, bias, groups, eps):
    """Group norm of (N, C, ...), with mean and rstd (N, groups)."""
    _check_channels("group_norm", input, weight, bias)
    x = computed(input)
    batch, channels = x._shape[:2]
    # a group is one contiguous row of channels and positions, normalised without weights
    inner = Layout((batch, groups, channels // groups, product(x._shape[2:])), groups)
    mean, _, rstd = moments(x, inner, eps)
    out = normalize(x, weight, bias, mean, rstd, Layout(x._shape, groups))
    return (as_dtype(out, input.dtype), reshaped(mean, (batch, groups)),
            reshaped(rstd, (batch, groups)))


_group_norm.backward_name = "NativeGroupNormBackward0"


@_group_norm.gradient("input", "weight", "bias")
def _(grad0, input, weight, groups, eps, result1, result2):
    if grad0 is None:
        return None, None, None
    return ops._group_norm_backward(grad0, input, weight, result1.detach(), result2.detach(),
                                    groups, eps)


@structured("_group_norm_backward(Tensor grad_output, Tensor input, Tensor? weight, Tensor mean, "
            "Tensor rstd, int groups, float eps) -> (Tensor, Tensor, Tensor)", method=False)
def _group_norm_backward(grad_output, input, weight, mean, rstd, groups, eps):
    """Gradients of input, weight and bias of a group norm."""
    x = computed(input)
    g = as_dtype(computed(grad_output), x.dtype)
    layout = Layout(x._shape, groups)
    gx, gw, gb = gradients(g, x, weight, parameter(mean, x), parameter(rstd, x), layout)
    return as_dtype(reshaped(gx, x._shape), input.dtype), gw, gb


@_group_norm_backward.gradient("grad_output", "input", "weight")
def _(grad0, grad1, grad2, grad_output, input, weight, groups, eps):
    shape = (input.shape[0], groups, input.shape[1] // groups, -1)

    def grouped(value):
        return value if value is None else ops.reshape(value, shape)

    def per_channel(value):
        return value if value is None else ops.reshape(value, (1, *shape[1:3], 1))

    for_g, for_x, for_w = differentiate_backward(
        (grouped(grad0), per_channel(grad1), per_channel(grad2)), grouped(grad_output),
        grouped(input), per_channel(weight), (2, 3), eps)
    return (None if for_g is None else ops.reshape(for_g, input.shape),
            None if for_x is None else ops.reshape(for_x, input.shape),
            None if for_w is None else ops.reshape(ops.sum(for_w, (0, 3)), (-1,)))


def _check_sample_count(shape, count,
                        message="Expected more than 1 value per channel when training"):
    if count == 1:
        raise ValueError(f"{message}, got input size {shape}")


@overloaded("batch_norm", namespace="nn.functional", method=False, fuse=False)
def batch_norm(input, running_mean, running_var, weight=None, bias=None, training=False,
               momentum=0.1, eps=1e-5):
    """``(x - mean) / sqrt(var + eps) * weight + bias`` per channel of ``input`` (N, C, ...).

    With ``training``, statistics are those of the batch (biased variance), and the running ones, if
    given, become ``(1 - momentum) * running + momentum * batch`` (unbiased variance); otherwise the
    running ones are used. ValueError for one value per channel in training, RuntimeError for
    parameters that do not fit. (Ioffe, Szegedy, 2015.)
    """
    shape = input.shape
    if training and eps <= 0.0:
        raise ValueError(f"batch_norm eps must be positive during training, but got {eps}")
    if eps < 0.0:
        raise ValueError(f"batch_norm eps must be non-negative, but got {eps}")
    if 0 in shape:      # no statistics to take; the parameters still belong to the graph
        for parameter_ in (weight, bias):
            if parameter_ is not None and product(parameter_.shape):
                input = input + 0.0 * parameter_[0]
        return ops.clone(input)
    if training:
        _check_sample_count(shape, shape[0] * product(shape[2:]))
    return ops.native_batch_norm(input, weight, bias, running_mean, running_var, training, momentum,
                                 eps)[0]


@overloaded("group_norm", namespace="nn.functional", method=False, fuse=False)
def group_norm(input, num_groups, weight=None, bias=None, eps=1e-5, cudnn_enabled=True):
    """``(x - mean) / sqrt(var + eps) * weight + bias`` over groups of channels of each sample.

    ``input`` (N, C, ...) with C divisible by ``num_groups``; weight and bias (C,). RuntimeError if
    sizes do not fit, ValueError for groups of one element. (Wu, He, 2018.)
    """
    shape = input.shape
    if len(shape) < 2:
        raise RuntimeError("Expected at least 2 dimensions for input tensor but received "
                           f"{len(shape)}")
    if num_groups <= 0 or shape[1] % num_groups:
        raise RuntimeError("Expected number of channels in input to be divisible by num_groups, "
                           f"but got input of shape {list(shape)} and num_groups={num_groups}")
    _check_sample_count(shape, shape[0] * shape[1] // num_groups * product(shape[2:]))
    return ops._group_norm(input, weight, bias, num_groups, eps)[0]


@overloaded("instance_norm", namespace="nn.functional", method=False, fuse=False)
def instance_norm(input, running_mean=None, running_var=None, weight=None, bias=None,
                  use_input_stats=True, momentum=0.1, eps=1e-5):
    """``(x - mean) / sqrt(var + eps) * weight + bias`` over each channel of each sample.

    ``input`` (N, C, L...). With ``use_input_stats`` running statistics, if given, are updated with
    the mean over the batch of the samples' statistics; without it they are used. ValueError for one
    spatial element. (Ulyanov, Vedaldi, Lempitsky, 2016.)
    """
    if not use_input_stats:
        return ops.native_batch_norm(input, weight, bias, running_mean, running_var, False,
                                     momentum, eps)[0]
    shape = input.shape
    _check_sample_count(shape, product(shape[2:]),
                        "Expected more than 1 spatial element when training")
    out, mean, _ = ops._group_norm(input, weight, bias, shape[1], eps)
    if running_mean is not None and running_var is not None:
        ops._update_instance_statistics(input, mean, running_mean, running_var, momentum)
    return out


@structured("_update_instance_statistics(Tensor input, Tensor mean, Tensor running_mean, "
            "Tensor running_var, float momentum) -> ()", method=False, differentiable=False)
def _update_instance_statistics(input, mean, running_mean, running_var, momentum):
    """Move the running statistics towards the batch's mean of the samples' statistics."""
    _check_channels("instance_norm", input, None, None, running_mean, running_var)
    x = computed(input)
    size = product(x._shape[2:])
    var = ops.mean(ops.var(ops.reshape(x, (*x._shape[:2], size)), 2), 0)
    update_running(ops.mean(mean, 0), ops.mul(var, (size - 1) / size), running_mean, running_var,
                    momentum, size)
    return ()
