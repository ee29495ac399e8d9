"""Launches behind normalisation with a weight per channel: batch, group and instance norm.

Tensors are seen as planes (sample and channel) by positions. A statistic belongs to a group of
planes: for batch norm those of one channel, for group norm some channels of one sample.
"""
import typing

from ..kernels import norm as kernels
from ..runtime import recording
from .base import empty, make, product
from .registry import ops
from .structured import as_dtype, contiguous, run
from .windows import grain, parameter, reshaped

CHANNELS = 4096     # statistics worth one task
CACHED = 1 << 17    # elements of a group, three operands of which the second-level cache keeps


def strided_view(tensor, shape, strides):
    """The elements of ``tensor`` read with other strides."""
    return make(tensor._storage, tensor.dtype, shape, strides, tensor._offset)


class Split(typing.NamedTuple):
    """A tensor's ``shape`` with groups and channels as dimensions; shapes of values of groups and
    of channels that broadcast against it; the dimensions inside a group and inside a channel."""
    shape: tuple
    of_group: tuple
    of_channel: tuple
    group_dims: tuple
    channel_dims: tuple


class Layout:
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

    def by_rows(self):
        """Whether a program is being recorded that makes one kernel of passes over each group; what
        belongs to one has to stay in the cache between them."""
        recorder = recording.current() if recording.active else None
        return (recorder is not None and self.elements <= CACHED
                and recorder.takes_rows(self.groups, self.elements))

    def split(self):
        """The dimensions that pointwise ops see."""
        if self.of_batch:
            of_channel = (self.channels, 1)
            return Split((self.batch, self.channels, self.size), of_channel, of_channel, (0, 2),
                         (0, 2))
        groups = self.channels // self.count
        return Split((self.batch, groups, self.count, self.size), (self.batch, groups, 1, 1),
                     (groups, self.count, 1), (2, 3), (0, 3))

    def members(self, row):
        """A row of one value per plane, as (groups, planes of a group)."""
        strides = (1, self.channels) if self.of_batch else (self.count, 1)
        return strided_view(row, (self.groups, self.count), strides)

    def member_weights(self, row):
        """A row of one value per channel, as (groups, planes of a group)."""
        if self.of_batch:
            return strided_view(row, (self.groups, self.count), (1, 0))
        repeated = ops.contiguous(ops.expand(reshaped(row, (1, self.channels)),
                                             (self.batch, self.channels)))
        return self.members(reshaped(repeated, (self.planes,)))


def transposed(x, shape):
    """The row-major transpose of a matrix, seen with another shape."""
    n, c = x._shape
    out = empty((c, n), x.dtype, x._storage.device)
    run(kernels.transpose, [("C", x), ("C", out)], n=c, grain=grain(n))
    return reshaped(out, shape)


def turn(x):
    """(N, C) as (1, C, N): one position per plane would leave nothing to vectorise over."""
    n, c = x._shape[:2]
    return transposed(reshaped(x, (n, c)), (1, c, n))


def turned_back(out, shape):
    """The inverse of ``turn``, in the shape given."""
    return transposed(reshaped(out, out._shape[1:]), shape)


def is_turned(shape):
    """Whether a batch of this shape has several samples of one position each."""
    return shape[0] > 1 and product(shape[2:]) == 1


def moments(x, layout, eps):
    """Mean, biased variance and rstd of each group."""
    if layout.by_rows():
        return _recorded_moments(x, layout, eps)
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


def normalize(x, weight, bias, mean, rstd, layout):
    """``(x - mean) * rstd * weight + bias`` in a new tensor."""
    if recording.active and recording.current() is not None:
        return _normalize_pointwise(x, weight, bias, mean, rstd, layout)
    out = empty(x._shape, x.dtype, x._storage.device)
    planes = (layout.planes, layout.size)
    run(kernels.normalize_planes,
        [("C", reshaped(x, planes)), ("C", parameter(weight, x)), ("C", parameter(bias, x)),
         ("C", mean), ("C", rstd), ("C", reshaped(out, planes)), ("i", layout.per_group),
         ("i", layout.channels)], n=layout.planes, grain=grain(layout.size))
    return out


def _normalize_pointwise(x, weight, bias, mean, rstd, layout):
    """``normalize`` in pointwise ops, which a recorded program computes together with what stands
    around them: in the epilogue of a convolution, or in the loop of the activation behind it."""
    split = layout.split()
    scale = reshaped(rstd, split.of_group)
    if weight is not None:
        scale = ops.mul(scale, reshaped(parameter(weight, x), split.of_channel))
    out = ops.mul(ops.sub(reshaped(x, split.shape), reshaped(mean, split.of_group)), scale)
    if bias is not None:
        out = ops.add(out, reshaped(parameter(bias, x), split.of_channel))
    return reshaped(out, x._shape)


def _recorded_moments(x, layout, eps):
    """``moments`` in pointwise ops and reductions: passes over rows that stay in the cache."""
    split = layout.split()
    x = reshaped(x, split.shape)
    mean = ops.mean(x, split.group_dims, True)
    d = ops.sub(x, reshaped(mean, split.of_group))
    var = ops.mean(ops.mul(d, d), split.group_dims, True)
    rstd = ops.rsqrt(ops.add(var, eps))
    return [reshaped(row, (layout.groups,)) for row in (mean, var, rstd)]


def _recorded_gradients(g, x, weight, mean, rstd, layout):
    """``gradients`` in the same way: two reductions and one pass more over each row."""
    split = layout.split()
    mean, rstd = reshaped(mean, split.of_group), reshaped(rstd, split.of_group)
    g = reshaped(g, split.shape)
    h = ops.mul(ops.sub(reshaped(x, split.shape), mean), rstd)
    gw = ops.sum(ops.mul(g, h), split.channel_dims)
    gb = ops.sum(g, split.channel_dims)
    w = None if weight is None else reshaped(parameter(weight, x), split.of_channel)
    if layout.of_batch:
        slope = rstd if w is None else ops.mul(rstd, w)
        total, aligned = (ops.div(reshaped(row, split.of_group), layout.elements)
                          for row in (gb, gw))
        gx = ops.mul(ops.sub(ops.sub(g, total), ops.mul(h, aligned)), slope)
    else:
        a = g if w is None else ops.mul(g, w)
        total, aligned = (ops.mean(each, split.group_dims, True) for each in (a, ops.mul(a, h)))
        gx = ops.mul(ops.sub(ops.sub(a, total), ops.mul(h, aligned)), rstd)
    return (reshaped(gx, (layout.planes, layout.size)),
            *(reshaped(row, (layout.channels,)) for row in (gw, gb)))


def gradients(g, x, weight, mean, rstd, layout):
    """Gradients of input, weight and bias from the saved statistics, all in the compute type."""
    if layout.by_rows():
        return _recorded_gradients(g, x, weight, mean, rstd, layout)
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


def inverse_deviation(var, like, eps):
    """``1 / sqrt(var + eps)`` as a row in the type of ``like``."""
    var = parameter(var, like)
    if recording.active and recording.current() is not None:
        return ops.rsqrt(ops.add(var, eps))
    rstd = empty(var._shape, like.dtype, like._storage.device)
    run(kernels.inverse_deviation, [("C", var), ("T", eps), ("C", rstd)], n=var._shape[0],
        grain=CHANNELS)
    return rstd


def update_running(mean, var, running_mean, running_var, momentum, count):
    """Move the running statistics towards a batch's; the variance becomes the unbiased one."""
    correction = count / (count - 1) if count > 1 else float("nan")
    if recording.active and recording.current() is not None:
        for running, value in ((running_mean, mean), (running_var, ops.mul(var, correction))):
            kept = ops.mul(as_dtype(running, mean.dtype), 1.0 - momentum)
            ops.copy_(running, ops.add(kept, ops.mul(value, momentum)))
        return
    kept = [as_dtype(contiguous(r), mean.dtype) for r in (running_mean, running_var)]
    run(kernels.update_running, [("C", mean), ("C", var), *(("C", k) for k in kept),
                                 ("T", momentum), ("T", correction)],
        n=mean._shape[0], grain=CHANNELS)
    for running, value in zip((running_mean, running_var), kept, strict=True):
        if running is value:
            running._storage.version += 1
        else:
            ops.copy_(running, value)
