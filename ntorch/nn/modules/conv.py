"""Convolutions and transposed convolutions over 1, 2 and 3 dimensions."""
import math

import ntorch

from .. import functional as F
from .. import init
from ..parameter import Parameter, UninitializedParameter
from .lazy import LazyModuleMixin
from .module import Module
from .utils import _reverse_repeat_tuple, ntuple

_PADDING_MODES = ("zeros", "reflect", "replicate", "circular")


class _ConvNd(Module):
    """What all convolutions hold; the subclass says over how many dimensions."""

    spatial = None
    transposed = False

    def __init__(self, in_channels, out_channels, kernel_size, stride, padding, dilation,
                 output_padding, groups, bias, padding_mode, device=None, dtype=None):
        super().__init__()
        spread = ntuple(self.spatial)
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size, self.stride = spread(kernel_size), spread(stride)
        self.padding = padding if isinstance(padding, str) else spread(padding)
        self.dilation, self.output_padding = spread(dilation), spread(output_padding)
        self.padding_mode = padding_mode
        self._check()
        self._reversed_padding_repeated_twice = self._pads()
        per_group = in_channels if self.transposed else out_channels
        other = (out_channels if self.transposed else in_channels) // groups
        self.weight = Parameter(ntorch.empty((per_group, other, *self.kernel_size), device=device,
                                             dtype=dtype))
        if bias:
            self.bias = Parameter(ntorch.empty(out_channels, device=device, dtype=dtype))
        else:
            self.register_parameter("bias", None)
        self.reset_parameters()

    def _check(self):
        if self.groups <= 0:
            raise ValueError("groups must be a positive integer")
        if self.in_channels % self.groups != 0:
            raise ValueError("in_channels must be divisible by groups")
        if self.out_channels % self.groups != 0:
            raise ValueError("out_channels must be divisible by groups")
        if isinstance(self.padding, str):
            if self.padding not in ("same", "valid"):
                raise ValueError(f"Invalid padding string {self.padding!r}, should be one of "
                                 "{'same', 'valid'}")
            if self.padding == "same" and any(s != 1 for s in self.stride):
                raise ValueError("padding='same' is not supported for strided convolutions")
        if self.padding_mode not in _PADDING_MODES:
            raise ValueError(f"padding_mode must be one of {set(_PADDING_MODES)}, but got "
                             f"padding_mode='{self.padding_mode}'")

    def _pads(self):
        """Padding in the order of ``F.pad``: last dimension first, left and right."""
        if not isinstance(self.padding, str):
            return _reverse_repeat_tuple(self.padding, 2)
        pads = [0, 0] * len(self.kernel_size)
        if self.padding == "same":
            for i, (d, k) in enumerate(zip(self.dilation, self.kernel_size, strict=True)):
                total, where = d * (k - 1), 2 * (len(self.kernel_size) - 1 - i)
                pads[where], pads[where + 1] = total // 2, total - total // 2
        return pads

    def reset_parameters(self):
        """Draw new values, uniform in ``(-k, k)`` with ``k = 1 / sqrt(fan_in)``."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None and init._calculate_fan_in_and_fan_out(self.weight)[0]:
            init.fan_in_uniform_(self.bias, self.weight)

    def extra_repr(self):
        text = (f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, "
                f"stride={self.stride}")
        if isinstance(self.padding, str) or self.padding != (0,) * len(self.padding):
            text += f", padding={self.padding}"
        if self.dilation != (1,) * len(self.dilation):
            text += f", dilation={self.dilation}"
        if self.output_padding != (0,) * len(self.output_padding):
            text += f", output_padding={self.output_padding}"
        if self.groups != 1:
            text += f", groups={self.groups}"
        if self.bias is None:
            text += ", bias=False"
        if self.padding_mode != "zeros":
            text += f", padding_mode={self.padding_mode}"
        return text

    def __setstate__(self, state):
        super().__setstate__(state)
        self.__dict__.setdefault("padding_mode", "zeros")


class _Conv(_ConvNd):
    """A convolution; the concrete classes name the function and the dimensions."""

    def __init__(self, in_channels, out_channels, kernel_size, stride=1, padding=0, dilation=1,
                 groups=1, bias=True, padding_mode="zeros", device=None, dtype=None):
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, 0,
                         groups, bias, padding_mode, device, dtype)

    def _conv_forward(self, input, weight, bias):
        padding = self.padding
        if self.padding_mode != "zeros":
            input = F.pad(input, self._reversed_padding_repeated_twice, mode=self.padding_mode)
            padding = (0,) * self.spatial
        return self._function(input, weight, bias, self.stride, padding, self.dilation,
                              self.groups)

    def forward(self, input):
        return self._conv_forward(input, self.weight, self.bias)


class Conv1d(_Conv):
    """Cross-correlation of (N, C_in, L) with kernels (C_out, C_in / groups, K).

    ``L_out = floor((L + 2 padding - dilation (K - 1) - 1) / stride + 1)``. ``padding`` may also be
    "same" or "valid"; ``padding_mode`` is zeros, reflect, replicate or circular.
    """

    spatial = 1

    def _function(self, *args):
        return F.conv1d(*args)


class Conv2d(_Conv):
    """Cross-correlation of (N, C_in, H, W) with kernels (C_out, C_in / groups, KH, KW).

    Sizes and options as in ``Conv1d``, per dimension.
    """

    spatial = 2

    def _function(self, *args):
        return F.conv2d(*args)


class Conv3d(_Conv):
    """Cross-correlation of (N, C_in, D, H, W) with kernels (C_out, C_in / groups, KD, KH, KW).

    Sizes and options as in ``Conv1d``, per dimension.
    """

    spatial = 3

    def _function(self, *args):
        return F.conv3d(*args)


class _ConvTransposeNd(_ConvNd):
    """A transposed convolution; the concrete classes name the function and the dimensions."""

    transposed = True

    def __init__(self, in_channels, out_channels, kernel_size, stride=1, padding=0,
                 output_padding=0, groups=1, bias=True, dilation=1, padding_mode="zeros",
                 device=None, dtype=None):
        if padding_mode != "zeros":
            raise ValueError("Only \"zeros\" padding mode is supported for "
                             f"{type(self).__name__}")
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation,
                         output_padding, groups, bias, padding_mode, device, dtype)

    def _output_padding(self, input, output_size, stride, padding, kernel_size,
                        num_spatial_dims, dilation=None):
        """What to add on one side so that the output has ``output_size``."""
        if output_size is None:
            return self.output_padding
        n = num_spatial_dims
        without_batch = 1 if input.dim() == n + 1 else 2
        if len(output_size) == n + without_batch:
            output_size = output_size[without_batch:]
        if len(output_size) != n:
            raise ValueError(
                f"ConvTranspose{n}D: for {input.dim()}D input, output_size must have {n} or "
                f"{without_batch + n} elements (got {len(output_size)})")
        dilation = (1,) * n if dilation is None else dilation
        smallest = [(input.size(d + without_batch) - 1) * stride[d] - 2 * padding[d]
                    + dilation[d] * (kernel_size[d] - 1) + 1 for d in range(n)]
        largest = [low + stride[d] - 1 for d, low in enumerate(smallest)]
        for wanted, low, high in zip(output_size, smallest, largest, strict=True):
            if not low <= wanted <= high:
                raise ValueError(
                    f"requested an output size of {output_size}, but valid sizes range from "
                    f"{smallest} to {largest} (for an input of {input.size()[2:]})")
        return [wanted - low for wanted, low in zip(output_size, smallest, strict=True)]

    def forward(self, input, output_size=None):
        extra = self._output_padding(input, output_size, self.stride, self.padding,
                                     self.kernel_size, self.spatial, self.dilation)
        return self._function(input, self.weight, self.bias, self.stride, self.padding, extra,
                              self.groups, self.dilation)


class ConvTranspose1d(_ConvTransposeNd):
    """The gradient of ``Conv1d`` with respect to its input, as a layer.

    ``L_out = (L - 1) stride - 2 padding + dilation (K - 1) + output_padding + 1``; ``forward``
    takes ``output_size`` to choose among the sizes that a stride leaves open.
    """

    spatial = 1

    def _function(self, *args):
        return F.conv_transpose1d(*args)


class ConvTranspose2d(_ConvTransposeNd):
    """The gradient of ``Conv2d`` with respect to its input; sizes as in ``ConvTranspose1d``."""

    spatial = 2

    def _function(self, *args):
        return F.conv_transpose2d(*args)


class ConvTranspose3d(_ConvTransposeNd):
    """The gradient of ``Conv3d`` with respect to its input; sizes as in ``ConvTranspose1d``."""

    spatial = 3

    def _function(self, *args):
        return F.conv_transpose3d(*args)


class _LazyConv(LazyModuleMixin):
    """Takes ``in_channels`` from the first input."""

    def __init__(self, out_channels, kernel_size, *args, **kwargs):
        bias, device, dtype = self._split(args, kwargs)
        super().__init__(0, 0, kernel_size, *args, **kwargs)
        self.out_channels = out_channels
        self.weight = UninitializedParameter(device=device, dtype=dtype)
        if bias:
            self.bias = UninitializedParameter(device=device, dtype=dtype)

    def _split(self, args, kwargs):
        """The ``bias``, device and dtype among the arguments."""
        first = 7 if self.transposed else 6     # stride .. padding_mode stand before the device
        bias = args[4] if len(args) > 4 else kwargs.get("bias", True)
        device = args[first] if len(args) > first else kwargs.get("device")
        dtype = args[first + 1] if len(args) > first + 1 else kwargs.get("dtype")
        return bias, device, dtype

    def reset_parameters(self):
        if not self.has_uninitialized_params() and self.in_channels != 0:
            super().reset_parameters()

    def initialize_parameters(self, input, *args, **kwargs):
        """Take the shapes from ``input``."""
        if self.has_uninitialized_params():
            self.in_channels = self._channels(input)
            if self.in_channels % self.groups != 0:
                raise ValueError("in_channels must be divisible by groups")
            first, second = self.out_channels, self.in_channels // self.groups
            if self.transposed:
                first, second = self.in_channels, self.out_channels // self.groups
            self.weight.materialize((first, second, *self.kernel_size))
            if self.bias is not None:
                self.bias.materialize((self.out_channels,))
            self.reset_parameters()

    def _channels(self, input):
        n = self.spatial
        if input.dim() not in (n + 1, n + 2):
            raise RuntimeError(
                f"Expected {n + 1}D (unbatched) or {n + 2}D (batched) input to "
                f"{type(self).__name__}, but got input of size: {input.shape}")
        return input.shape[1] if input.dim() == n + 2 else input.shape[0]


def _lazy(base):
    """The lazy form of the convolution class ``base``."""
    return type(f"Lazy{base.__name__}", (_LazyConv, base), {
        "cls_to_become": base, "__module__": __name__,
        "__doc__": f"A ``{base.__name__}`` that takes ``in_channels`` from its first input."})


LazyConv1d, LazyConv2d, LazyConv3d = _lazy(Conv1d), _lazy(Conv2d), _lazy(Conv3d)
LazyConvTranspose1d, LazyConvTranspose2d = _lazy(ConvTranspose1d), _lazy(ConvTranspose2d)
LazyConvTranspose3d = _lazy(ConvTranspose3d)
