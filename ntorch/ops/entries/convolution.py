"""Convolution and transposed convolution in one, two and three dimensions."""
from ...runtime import dtypes
from .. import convolution as host
from ..base import Size, empty
from ..composite import composite, overloaded
from ..convolution import Geometry
from ..dtype_rules import _scalar_name
from ..registry import ops
from ..structured import structured


def _three(values, fill):
    return (fill,) * (3 - len(values)) + tuple(values)


def _five(tensor):
    """A tensor (N, C, spatial...) seen with three spatial dimensions."""
    return ops.reshape(tensor, (*tensor._shape[:2], *_three(tensor._shape[2:], 1)))


def geometry_of(image, kernel, grid, stride, padding, dilation):
    """The ``Geometry`` of sizes given for one to three dimensions."""
    return Geometry(_three(kernel, 1), _three(stride, 1), _three(padding, 0), _three(dilation, 1),
                    _three(image, 1), _three(grid, 1))


def output_size(image, kernel, stride, padding, dilation):
    """``floor((image + 2 padding - dilation (kernel - 1) - 1) / stride) + 1`` in each dimension."""
    return tuple((i + 2 * p - d * (k - 1) - 1) // s + 1 for i, k, s, p, d in zip(
        image, kernel, stride, padding, dilation, strict=True))


@structured("_convolution(Tensor input, Tensor weight, Tensor? bias, int[] stride, int[] padding, "
            "int[] dilation, int groups) -> Tensor", method=False)
def _convolution(input, weight, bias, stride, padding, dilation, groups):
    """Cross-correlation of a batch (N, C, ...) with filters (O, C / groups, ...)."""
    kernel = weight._shape[2:]
    grid = output_size(input._shape[2:], kernel, stride, padding, dilation)
    shape = Size((input._shape[0], weight._shape[0], *grid))
    geometry = geometry_of(input._shape[2:], kernel, grid, stride, padding, dilation)
    return ops.reshape(host.forward(_five(input), _five(weight), bias, geometry, groups), shape)


_convolution.backward_name = "ConvolutionBackward0"


@_convolution.gradient("input", "weight", "bias")
def _(grad, input, weight, stride, padding, dilation, groups, needs):
    return (
        ops._conv_input(grad, weight, None, input._shape[2:], stride, padding, dilation, groups)
        if needs["input"] else None,
        ops._conv_weight(input, grad, weight._shape[2:], stride, padding, dilation, groups)
        if needs["weight"] else None,
        ops.sum(grad, (0, *range(2, len(grad._shape)))) if needs["bias"] else None)


@structured("_conv_input(Tensor grad_output, Tensor weight, Tensor? bias, int[] image, int[] "
            "stride, int[] padding, int[] dilation, int groups) -> Tensor", method=False)
def _conv_input(grad_output, weight, bias, image, stride, padding, dilation, groups):
    """The adjoint of ``_convolution`` in its input, whose sizes are ``image``; transposed
    convolution."""
    kernel = weight._shape[2:]
    shape = Size((grad_output._shape[0], weight._shape[1] * groups, *image))
    geometry = geometry_of(image, kernel, grad_output._shape[2:], stride, padding, dilation)
    return ops.reshape(host.input_gradient(_five(grad_output), _five(weight), bias, geometry,
                                           groups), shape)


_conv_input.backward_name = "ConvolutionBackward0"


@_conv_input.gradient("grad_output", "weight", "bias")
def _(grad, grad_output, weight, stride, padding, dilation, groups, needs):
    sizes, found = grad_output._shape, None
    if needs["grad_output"]:
        found = ops._convolution(grad, weight, None, stride, padding, dilation, groups)
        for d in range(2, len(sizes)):         # rows that output_padding added see no filter
            found = ops.narrow(found, d, 0, sizes[d])
    return (found,
            ops._conv_weight(grad, grad_output, weight._shape[2:], stride, padding, dilation,
                             groups)
            if needs["weight"] else None,
            ops.sum(grad, (0, *range(2, len(grad._shape)))) if needs["bias"] else None)


@structured("_conv_weight(Tensor input, Tensor grad_output, int[] kernel, int[] stride, int[] "
            "padding, int[] dilation, int groups) -> Tensor", method=False)
def _conv_weight(input, grad_output, kernel, stride, padding, dilation, groups):
    """The gradient of ``_convolution`` in its weight, whose sizes are ``kernel``."""
    shape = Size((grad_output._shape[1], input._shape[1] // groups, *kernel))
    geometry = geometry_of(input._shape[2:], kernel, grad_output._shape[2:], stride, padding,
                           dilation)
    return ops.reshape(host.weight_gradient(_five(input), _five(grad_output), geometry, groups),
                       shape)


@_conv_weight.gradient("input", "grad_output")
def _(grad, input, grad_output, stride, padding, dilation, groups, needs):
    found = None
    if needs["grad_output"]:
        found = ops._convolution(input, grad, None, stride, padding, dilation, groups)
        for d in range(2, len(grad_output._shape)):
            found = ops.narrow(found, d, 0, grad_output._shape[d])
    return (ops._conv_input(grad_output, grad, None, input._shape[2:], stride, padding, dilation,
                            groups)
            if needs["input"] else None, found)


def _check_types(op, input, weight, bias):
    if input.dtype is not weight.dtype:
        raise RuntimeError(f"Input type ({input.type()}) and weight type ({weight.type()}) should "
                           "be the same: convert one with .to(dtype)")
    if bias is not None and bias.dtype is not input.dtype:
        raise RuntimeError(f"Input type ({_scalar_name(input.dtype)}) and bias type "
                           f"({_scalar_name(bias.dtype)}) should be the same")
    if not input.dtype.is_floating_point:
        raise RuntimeError(f'"{op}" not implemented for \'{_scalar_name(input.dtype)}\'')


def _check(op, input, weight, bias, stride, padding, dilation, groups, transposed, nd):
    """torch's checks of a convolution's arguments."""
    if len(input._shape) not in (nd + 1, nd + 2):
        raise RuntimeError(f"Expected {nd + 1}D (unbatched) or {nd + 2}D (batched) input to {op}, "
                           f"but got input of size: {list(input._shape)}")
    if len(weight._shape) != nd + 2:
        raise RuntimeError(f"{op}: expected weight to have {nd + 2} dimensions, but got weight of "
                           f"size: {list(weight._shape)}")
    if groups <= 0:
        raise RuntimeError("non-positive groups is not supported")
    if min(stride) <= 0:
        raise RuntimeError("non-positive stride is not supported")
    if min(padding) < 0:
        raise RuntimeError("negative padding is not supported")
    if min(dilation) <= 0:
        raise RuntimeError("dilation should be greater than zero")
    _check_types(op, input, weight, bias)
    channels = input._shape[-nd - 1]
    expected = weight._shape[0] if transposed else weight._shape[1] * groups
    if weight._shape[0] % groups:
        raise RuntimeError(f"Given groups={groups}, expected weight to be divisible by {groups} at "
                           f"dimension 0, but got weight of size {list(weight._shape)} instead")
    if channels != expected:
        kind = f"transposed={1 if transposed else 0}, " if transposed else ""
        raise RuntimeError(f"Given {kind}groups={groups}, weight of size {list(weight._shape)}, "
                           f"expected input{list(input._shape)} to have {expected} channels, but "
                           f"got {channels} channels instead")
    filters = weight._shape[1] * groups if transposed else weight._shape[0]
    if bias is not None and tuple(bias._shape) != (filters,):
        raise RuntimeError(f"Given {'transposed=1, ' if transposed else ''}weight of size "
                           f"{list(weight._shape)}, expected bias to be 1-dimensional with "
                           f"{filters} elements, but got bias of size {list(bias._shape)} instead")


def _check_fits(image, kernel, padding, dilation):
    padded = [i + 2 * p for i, p in zip(image, padding, strict=True)]
    reach = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    if any(p < r for p, r in zip(padded, reach, strict=True)) or 0 in kernel:
        raise RuntimeError("Calculated padded input size per channel: "
                           f"({' x '.join(map(str, padded))}). Kernel size: "
                           f"({' x '.join(map(str, reach))}). Kernel size can't be greater than "
                           "actual input size")


def _same_padding(input, weight, stride, dilation, nd):
    """Padding for ``padding='same'``: the input, padded where the amount is odd, and the even
    part."""
    if any(s != 1 for s in stride):
        raise RuntimeError("padding='same' is not supported for strided convolutions")
    total = [d * (k - 1) for k, d in zip(weight._shape[2:], dilation, strict=True)]
    if any(t % 2 for t in total):
        extra = []
        for t in reversed(total):
            extra += [0, t % 2]
        input = ops.constant_pad_nd(input, extra)
    return input, tuple(t // 2 for t in total)


def _spatial(value, nd, op, name):
    if isinstance(value, (tuple, list)):
        if len(value) == 1:
            return (int(value[0]),) * nd
        if len(value) != nd:
            raise RuntimeError(f"expected {name} to be a single integer value or a list of {nd} "
                               "values to match the convolution dimensions, but got "
                               f"{name}={list(value)}")
        return tuple(int(v) for v in value)
    if not hasattr(value, "__index__"):
        raise TypeError(f"{op}(): argument '{name}' must be tuple of ints, not "
                        f"{type(value).__name__}")
    return (int(value),) * nd


def _conv(nd):
    op = f"conv{nd}d"

    def conv(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
        stride, dilation = _spatial(stride, nd, op, "stride"), _spatial(dilation, nd, op,
                                                                        "dilation")
        if isinstance(padding, str):
            if padding not in ("same", "valid"):
                raise RuntimeError(f"Invalid padding string: '{padding}'")
            if len(weight._shape) != nd + 2 or len(input._shape) not in (nd + 1, nd + 2):
                _check(op, input, weight, bias, stride, (0,) * nd, dilation, groups, False, nd)
            input, padding = (_same_padding(input, weight, stride, dilation, nd)
                              if padding == "same" else (input, (0,) * nd))
        padding = _spatial(padding, nd, op, "padding")
        _check(op, input, weight, bias, stride, padding, dilation, groups, False, nd)
        _check_fits(input._shape[-nd:], weight._shape[2:], padding, dilation)
        alone = len(input._shape) == nd + 1
        batch = ops.unsqueeze(input, 0) if alone else input
        out = ops._convolution(batch, weight, bias, stride, padding, dilation, groups)
        return ops.squeeze(out, 0) if alone else out
    conv.__name__ = op
    conv.__doc__ = (
        f"Cross-correlation over {nd} spatial dimension{'s' if nd > 1 else ''}: input (N, C, ...) "
        f"or "
        "(C, ...), weight (O, C / groups, ...), bias (O).\n\n``out[n, o, p] = bias[o] + sum_{c, t} "
        "weight[o, c, t] input[n, c, p stride + t dilation - padding]``. ``padding`` may be 'same' "
        "or "
        "'valid'. RuntimeError for sizes that do not fit.")
    return overloaded(op, method=False, namespace="nn.functional")(conv)


def _conv_transpose(nd):
    op = f"conv_transpose{nd}d"

    def conv_transpose(input, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1,
                       dilation=1):
        stride, padding = _spatial(stride, nd, op, "stride"), _spatial(padding, nd, op, "padding")
        dilation = _spatial(dilation, nd, op, "dilation")
        extra = _spatial(output_padding, nd, op, "output_padding")
        _check(op, input, weight, bias, stride, padding, dilation, groups, True, nd)
        if min(extra) < 0:
            raise RuntimeError("negative output_padding is not supported")
        for e, s, d in zip(extra, stride, dilation, strict=True):
            if e >= s and e >= d:
                raise RuntimeError("output padding must be smaller than either stride or dilation, "
                                   f"but got output_padding: {list(extra)}, stride: "
                                   f"{list(stride)}, dilation: {list(dilation)}")
        image = tuple((i - 1) * s - 2 * p + d * (k - 1) + e + 1 for i, s, p, d, k, e in zip(
            input._shape[-nd:], stride, padding, dilation, weight._shape[2:], extra, strict=True))
        if min(image) < 0 or 0 in weight._shape[2:]:
            raise RuntimeError(f"Given input size per channel: {tuple(input._shape[-nd:])}. "
                               f"Calculated output size per channel: {image}. Output size is too "
                               "small")
        alone = len(input._shape) == nd + 1
        batch = ops.unsqueeze(input, 0) if alone else input
        out = ops._conv_input(batch, weight, bias, image, stride, padding, dilation, groups)
        return ops.squeeze(out, 0) if alone else out
    conv_transpose.__name__ = op
    conv_transpose.__doc__ = (
        f"Transposed convolution over {nd} spatial dimension{'s' if nd > 1 else ''}: the gradient "
        f"of ``conv{nd}d`` in its input. input (N, C, ...), weight (C, O / groups, ...), bias (O); "
        "sizes ``(i - 1) stride - 2 padding + dilation (k - 1) + output_padding + 1``.")
    return overloaded(op, method=False, namespace="nn.functional")(conv_transpose)


for _nd in (1, 2, 3):
    _conv(_nd)
    _conv_transpose(_nd)


@composite("convolution(Tensor input, Tensor weight, Tensor? bias, int[] stride, int[] padding, "
           "int[] dilation, bool transposed, int[] output_padding, int groups) -> Tensor",
               method=False)
def convolution(input, weight, bias, stride, padding, dilation, transposed, output_padding, groups):
    """Convolution or transposed convolution, by the number of dimensions of ``weight``."""
    nd = len(weight._shape) - 2
    if nd not in (1, 2, 3):
        raise RuntimeError(f"convolution: expected a weight of 3 to 5 dimensions, got {nd + 2}")
    if transposed:
        return getattr(ops, f"conv_transpose{nd}d")(input, weight, bias, stride, padding,
                                                    output_padding, groups, dilation)
    return getattr(ops, f"conv{nd}d")(input, weight, bias, stride, padding, dilation, groups)


__all__ = ["dtypes", "empty"]
