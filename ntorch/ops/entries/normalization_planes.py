"""Normalisation with a weight per channel: batch, group and instance norm.

Tensors are seen as planes (sample and channel) by positions. A statistic belongs to a group of
planes: for batch norm those of one channel, for group norm some channels of one sample.
"""
from ...kernels import norm as kernels
from ..base import empty, make, product
from ..composite import composite, overloaded
from ..norm_rules import differentiate_backward
from ..registry import ops
from ..structured import as_dtype, contiguous, run, structured
from ..windows import computed, grain, parameter, reshaped

CHANNELS = 4096     # statistics worth one task


def _strided(tensor, shape, strides):
    return make(tensor._storage, tensor.dtype, shape, strides, tensor._offset)


class _Layout:
    """How planes map to groups and channels.

    ``planes`` by ``size`` positions; plane p is in group ``p // per_group % groups`` and has
    channel ``p % channels``; ``members(row)`` sees a value per plane as (groups, planes of each).
    """

    def __init__(self, shape, groups=None):
        batch, self.channels = shape[0], shape[1]
        self.size, self.planes = product(shape[2:]), batch * shape[1]
        self.batch = batch
        self.of_batch = groups is None
        if self.of_batch:
            self.groups, self.per_group, self.count = self.channels, 1, batch
        else:
            self.count = self.channels // groups
            self.groups, self.per_group = batch * groups, self.count
        self.elements = self.count * self.size

    def members(self, row):
        """A row of one value per plane, as (groups, planes of a group)."""
        strides = (1, self.channels) if self.of_batch else (self.count, 1)
        return _strided(row, (self.groups, self.count), strides)

    def member_weights(self, row):
        """A row of one value per channel, as (groups, planes of a group)."""
        if self.of_batch:
            return _strided(row, (self.groups, self.count), (1, 0))
        repeated = ops.contiguous(ops.expand(reshaped(row, (1, self.channels)),
                                             (self.batch, self.channels)))
        return self.members(reshaped(repeated, (self.planes,)))


def _transposed(x, shape):
    """The row-major transpose of a matrix, seen with another shape."""
    n, c = x._shape
    out = empty((c, n), x.dtype, x._storage.device)
    run(kernels.transpose, [("C", x), ("C", out)], n=c, grain=grain(n))
    return reshaped(out, shape)


def _turned(x):
    """(N, C) as (1, C, N): one position per plane would leave nothing to vectorise over."""
    n, c = x._shape[:2]
    return _transposed(reshaped(x, (n, c)), (1, c, n))


def _turned_back(out, shape):
    return _transposed(reshaped(out, out._shape[1:]), shape)


def _is_turned(shape):
    return shape[0] > 1 and product(shape[2:]) == 1


def _moments(x, layout, eps):
    """Mean, biased variance and rstd of each group."""
    device = x._storage.device
    mean, spread = (empty((layout.planes,), x.dtype, device) for _ in range(2))
    run(kernels.plane_moments,
        [("C", reshaped(x, (layout.planes, layout.size))), ("C", mean), ("C", spread)],
        n=layout.planes, grain=grain(layout.size), reassoc=True)
    results = [empty((layout.groups,), x.dtype, device) for _ in range(3)]
    run(kernels.group_moments,
        [("A", layout.members(mean)), ("A", layout.members(spread)), ("i", layout.size), ("T", eps),
         *(("C", r) for r in results)], n=layout.groups, grain=grain(layout.count))
    return results


def _apply(x, weight, bias, mean, rstd, layout):
    out = empty(x._shape, x.dtype, x._storage.device)
    planes = (layout.planes, layout.size)
    run(kernels.normalize_planes,
        [("C", reshaped(x, planes)), ("C", parameter(weight, x)), ("C", parameter(bias, x)),
         ("C", mean), ("C", rstd), ("C", reshaped(out, planes)), ("i", layout.per_group),
         ("i", layout.channels)], n=layout.planes, grain=grain(layout.size))
    return out


def _backward(g, x, weight, mean, rstd, layout):
    """Gradients of input, weight and bias from the saved statistics, all in the compute type."""
    device, planes = x._storage.device, (layout.planes, layout.size)
    total, aligned = (empty((layout.planes,), x.dtype, device) for _ in range(2))
    g, x = reshaped(g, planes), reshaped(x, planes)
    run(kernels.plane_gradient_sums,
        [("C", g), ("C", x), ("C", mean), ("C", rstd), ("C", total), ("C", aligned),
         ("i", layout.per_group)], n=layout.planes, grain=grain(layout.size), reassoc=True)
    gw, gb = (empty((layout.channels,), x.dtype, device) for _ in range(2))
    for source, target in ((aligned, gw), (total, gb)):
        run(kernels.add_blocks, [("C", reshaped(source, (layout.batch, layout.channels))),
                                 ("C", target)], n=layout.channels, grain=grain(layout.batch))
    weights = ops.ones((layout.channels,), dtype=x.dtype, device=device) if weight is None \
        else parameter(weight, x)
    means = [empty((layout.groups,), x.dtype, device) for _ in range(2)]
    run(kernels.group_gradient_means,
        [("A", layout.members(total)), ("A", layout.members(aligned)),
         ("A", layout.member_weights(weights)), ("i", layout.elements),
         *(("C", m) for m in means)], n=layout.groups, grain=grain(layout.count))
    gx = empty(planes, x.dtype, device)
    run(kernels.normalize_planes_backward,
        [("C", g), ("C", x), ("C", weights), ("C", mean), ("C", rstd), *(("C", m) for m in means),
         ("C", gx), ("i", layout.per_group), ("i", layout.channels)],
        n=layout.planes, grain=grain(layout.size))
    return gx, gw, gb


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


def _update_running(mean, var, running_mean, running_var, momentum, count):
    """Move the running statistics towards a batch's; the variance becomes the unbiased one."""
    correction = count / (count - 1) if count > 1 else float("nan")
    kept = [as_dtype(contiguous(r), mean.dtype) for r in (running_mean, running_var)]
    run(kernels.update_running, [("C", mean), ("C", var), *(("C", k) for k in kept),
                                 ("T", momentum), ("T", correction)],
        n=mean._shape[0], grain=CHANNELS)
    for running, value in zip((running_mean, running_var), kept, strict=True):
        if running is value:
            running._storage.version += 1
        else:
            ops.copy_(running, value)


def _inverse_deviation(var, like, eps):
    var = parameter(var, like)
    rstd = empty(var._shape, like.dtype, like._storage.device)
    run(kernels.inverse_deviation, [("C", var), ("T", eps), ("C", rstd)], n=var._shape[0],
        grain=CHANNELS)
    return rstd


def _channelwise(row, ndim):
    """A value per channel, shaped to broadcast against (N, C, ...)."""
    return row if row is None else ops.reshape(row, (1, -1, *(1,) * (ndim - 2)))


def _all_but_channels(tensor):
    return (0, *range(2, len(tensor.shape)))


@composite("native_batch_norm(Tensor input, Tensor? weight, Tensor? bias, Tensor? running_mean, "
           "Tensor? running_var, bool training, float momentum, float eps, *, Tensor? out=None) "
           "-> (Tensor, Tensor, Tensor)", method=False)
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
    turned = _is_turned(x._shape)
    source = _turned(x) if turned else x
    layout = _Layout(source._shape)
    mean, var, rstd = _moments(source, layout, eps)
    out = _apply(source, weight, bias, mean, rstd, layout)
    if running_mean is not None and running_var is not None:
        _update_running(mean, var, running_mean, running_var, momentum, layout.elements)
    return as_dtype(_turned_back(out, x._shape) if turned else out, input.dtype), mean, rstd


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
    out = _apply(x, weight, bias, parameter(running_mean, x),
                 _inverse_deviation(running_var, x, eps), _Layout(x._shape))
    return as_dtype(out, input.dtype), *(empty((0,), x.dtype, x._storage.device) for _ in range(2))


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
    turned = _is_turned(x._shape)
    source, grad = (_turned(x), _turned(g)) if turned else (x, g)
    gx, gw, gb = _backward(grad, source, weight, mean, rstd, _Layout(source._shape))
    gx = _turned_back(reshaped(gx, source._shape), x._shape) if turned else reshaped(gx, x._shape)
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
    inner = _Layout((batch, groups, channels // groups, product(x._shape[2:])), groups)
    mean, _, rstd = _moments(x, inner, eps)
    out = _apply(x, weight, bias, mean, rstd, _Layout(x._shape, groups))
    return (as_dtype(out, input.dtype), reshaped(mean, (batch, groups)),
            reshaped(rstd, (batch, groups)))


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
    layout = _Layout(x._shape, groups)
    gx, gw, gb = _backward(g, x, weight, parameter(mean, x), parameter(rstd, x), layout)
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


@overloaded("batch_norm", namespace="nn.functional", method=False)
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


@overloaded("group_norm", namespace="nn.functional", method=False)
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


@overloaded("instance_norm", namespace="nn.functional", method=False)
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
    _update_running(ops.mean(mean, 0), ops.mul(var, (size - 1) / size), running_mean, running_var,
                    momentum, size)
    return ()
