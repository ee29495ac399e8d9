"""Layer and RMS normalisation; batch, group, instance norm are in ``normalization_planes.py``."""
from ...kernels import norm as kernels
from ...runtime import recording
from ...runtime.device import META
from ...runtime.storage import Storage
from .. import rowwise
from ..base import contiguous_strides, empty, make, product
from ..composite import composite, overloaded
from ..norm_rules import differentiate_backward
from ..registry import ops
from ..structured import Prepared, as_dtype, run, structured
from ..windows import computed, grain, parameter, reshaped

BLOCK = 64      # rows in one partial sum of the parameters' gradients
TILE = 64       # columns in one task that adds them


def _check(op, input, normalized_shape, weight, bias):
    """RuntimeError in torch's words unless the shapes fit; the number of normalised dimensions."""
    normalized_shape = tuple(normalized_shape)
    k = len(normalized_shape)
    if k < 1:
        raise RuntimeError(f"{op}: Expected normalized_shape to be at least 1-dimensional, i.e., "
                           f"containing at least one element, but got normalized_shape = "
                           f"{list(normalized_shape)}")
    for name, value in (("weight", weight), ("bias", bias)):
        if value is not None and tuple(value._shape) != normalized_shape:
            raise RuntimeError(f"{op}: Expected {name} to be of same shape as normalized_shape, "
                               f"but got {name} of shape {list(value._shape)} and "
                               f"normalized_shape = {list(normalized_shape)}")
    if tuple(input._shape[-k:]) != normalized_shape:
        raise RuntimeError(f"{op}: Given normalized_shape={list(normalized_shape)}, expected input "
                           f"with shape [*, {', '.join(map(str, normalized_shape))}], but got "
                           f"input of size{list(input._shape)}")
    if not input.dtype.is_floating_point:
        raise NotImplementedError(f"\"{op}\" not implemented for '{input.dtype}': expected a "
                                  "floating point input")
    return k


def _rows(tensor, k):
    """A row-major tensor as (rows, elements of the last ``k`` dimensions)."""
    shape = tensor._shape
    lead = len(shape) - k
    return reshaped(tensor, (product(shape[:lead]), product(shape[lead:])))


_prepared = {}      # form of a call -> _Prepared, for arrays that the kernel reads as they are
_MOST_PREPARED = 4096


class _Prepared(Prepared):
    """A launch with the forms of its results: those of the input, and of its statistics."""

    def results(self, input, weight, bias):
        """Normalised, mean and rstd of arrays that have the form this was made for."""
        storage, mean, rstd = Storage(self.nbytes), Storage(self.small), Storage(self.small)
        self.run(input._address, 0 if weight is None else weight._address,
                 0 if bias is None else bias._address, storage.address, mean.address, rstd.address)
        dtype, shape, strides = input.dtype, self.shape, self.strides
        return (make(storage, dtype, input._shape, input._strides, 0),
                make(mean, dtype, shape, strides, 0), make(rstd, dtype, shape, strides, 0))


def _form(tensor):
    return tensor if tensor is None else (tensor._shape, tensor._strides, tensor.dtype,
                                          tensor._storage.device)


def _normalize(op, input, normalized_shape, weight, bias, eps, centered):
    """Normalised rows of ``input``, their mean and rstd; what an earlier call of the same form
    decided is used again."""
    form = (_form(input), normalized_shape, _form(weight), _form(bias), eps, centered)
    known = _prepared.get(form)
    if known is not None and not (recording.active and recording.current() is not None):
        return known.results(input, weight, bias)
    k = _check(op, input, normalized_shape, weight, bias)
    return _forward(form, input, k, weight, bias, _epsilon(input, eps), centered)


def _remember(form, tensors, arguments, launch):
    """Keep the launch of this form, if its kernel read and wrote ``tensors`` themselves."""
    input = tensors[0]
    if input.dtype.is_half or not product(input._shape) or (
            recording.active and recording.current() is not None):
        return
    for tensor in tensors:
        if tensor is not None and (
                tensor.dtype is not input.dtype or tensor._storage.device is META
                or tensor._strides != contiguous_strides(tensor._shape)):
            return
    if len(_prepared) >= _MOST_PREPARED:
        _prepared.clear()
    known = _prepared[form] = _Prepared(kernels.normalize_rows, arguments, **launch)
    out, mean = tensors[3:]
    known.nbytes, known.small = out._storage.nbytes(), mean._storage.nbytes()
    known.shape, known.strides = mean._shape, mean._strides


def _forward(form, input, k, weight, bias, eps, centered):
    x = computed(input)
    if rowwise.by_rows(x._shape, k):
        out, mean, rstd = rowwise.normalize(x, k, weight, bias, eps, centered)
        return as_dtype(out, input.dtype), mean, rstd
    rows = _rows(x, k)
    count, n = rows._shape
    device = x._storage.device
    out = empty(x._shape, x.dtype, device)
    mean, rstd = (empty((*x._shape[:len(x._shape) - k], *(1,) * k), x.dtype, device)
                  for _ in range(2))
    arguments = [("C", rows), ("C", parameter(weight, x)), ("C", parameter(bias, x)),
                 ("C", _rows(out, k)), ("C", reshaped(mean, (count,))),
                 ("C", reshaped(rstd, (count,))), ("T", eps), ("i", centered)]
    launch = {"n": count, "grain": grain(n), "reassoc": True}
    run(kernels.normalize_rows, arguments, **launch)
    _remember(form, (input, weight, bias, out, mean), arguments, launch)
    return as_dtype(out, input.dtype), mean, rstd


@structured("_layer_norm(Tensor input, int[] normalized_shape, Tensor? weight, Tensor? bias, "
            "float eps) -> (Tensor, Tensor, Tensor)", method=False, quiet=True)
def _layer_norm(input, normalized_shape, weight, bias, eps):
    """Layer norm, and the mean and rstd that its gradient needs, in the compute type."""
    return _normalize("layer_norm", input, normalized_shape, weight, bias, eps, True)


_layer_norm.backward_name = "NativeLayerNormBackward0"


@composite("native_layer_norm(Tensor input, int[] normalized_shape, Tensor? weight, Tensor? bias, "
           "float eps) -> (Tensor, Tensor, Tensor)", method=False)
def native_layer_norm(input, normalized_shape, weight, bias, eps):
    """``(x - mean) * rstd * weight + bias`` over the last dimensions, the mean and rstd.

    Mean and rstd have size 1 in the normalised dimensions and no gradient; their type is that of
    the weight, or of the input.
    """
    out, *statistics = ops._layer_norm(input, normalized_shape, weight, bias, eps)
    dtype = input.dtype if weight is None else weight.dtype
    return (out, *(as_dtype(s.detach(), dtype) for s in statistics))


@_layer_norm.gradient("input")
def _(grad0, input, normalized_shape, weight, result1, result2, eps):
    return grad0 if grad0 is None else ops._normalize_rows_backward(
        grad0, input, weight, result1.detach(), result2.detach(), len(normalized_shape), eps, True)


@_layer_norm.gradient("weight", "bias")
def _(grad0, input, normalized_shape, result1, result2, eps):
    if grad0 is None:
        return None, None
    return ops._normalize_rows_parameters(grad0, input, result1.detach(), result2.detach(),
                                          len(normalized_shape), eps, True)


@structured("_fused_rms_norm(Tensor input, int[] normalized_shape, Tensor? weight, float? eps=None)"
            " -> (Tensor, Tensor)", method=False)
def _fused_rms_norm(input, normalized_shape, weight, eps):
    """``x * rstd * weight`` with ``rstd = 1 / sqrt(mean(x ** 2) + eps)``, and rstd."""
    out, _, rstd = _normalize("rms_norm", input, normalized_shape, weight, None, eps, False)
    return out, rstd


@_fused_rms_norm.gradient("input")
def _(grad0, input, normalized_shape, weight, result1, eps):
    if grad0 is None:
        return None
    rstd = result1.detach()
    return ops._normalize_rows_backward(grad0, input, weight, ops.zeros_like(rstd), rstd,
                                        len(normalized_shape), _epsilon(input, eps), False)


@_fused_rms_norm.gradient("weight")
def _(grad0, input, normalized_shape, result1, eps):
    if grad0 is None:
        return None
    rstd = result1.detach()
    return ops._normalize_rows_parameters(grad0, input, ops.zeros_like(rstd), rstd,
                                          len(normalized_shape), _epsilon(input, eps), False)[0]


def _epsilon(input, eps):
    if eps is not None:
        return eps
    return {"f8": 2.0 ** -52, "f4": 2.0 ** -23, "h2": 2.0 ** -10, "g2": 2.0 ** -7}[input.dtype.code]


@structured("_normalize_rows_backward(Tensor grad_output, Tensor input, Tensor? weight, Tensor "
            "mean, Tensor rstd, int k, float eps, bool centered) -> Tensor", method=False)
def _normalize_rows_backward(grad_output, input, weight, mean, rstd, k, eps, centered):
    """``rstd * (a - mean(a) - h * mean(a * h))`` with ``a = grad * weight``; without ``mean(a)``
    unless ``centered``."""
    x = computed(input)
    grad = as_dtype(computed(grad_output), x.dtype)
    if rowwise.by_rows(x._shape, k):
        return as_dtype(rowwise.normalize_backward(grad, x, k, weight, mean, rstd, centered),
                        input.dtype)
    rows = _rows(x, k)
    count, n = rows._shape
    gx = empty(x._shape, x.dtype, x._storage.device)
    run(kernels.normalize_rows_backward,
        [("C", _rows(grad, k)), ("C", rows),
         ("C", parameter(weight, x)), ("C", parameter(mean, x)), ("C", parameter(rstd, x)),
         ("C", _rows(gx, k)), ("i", centered)],
        n=count, grain=grain(n), reassoc=True)
    return as_dtype(gx, input.dtype)


def _last(k):
    return tuple(range(-k, 0))


@_normalize_rows_backward.gradient("grad_output", "input", "weight")
def _(grad, grad_output, input, weight, k, eps, centered):
    for_g, for_x, for_w = differentiate_backward((grad, None, None), grad_output, input, weight,
                                                 _last(k), eps, centered)
    return for_g, for_x, None if for_w is None else ops.sum_to_size(for_w, weight.shape)


@structured("_normalize_rows_parameters(Tensor grad_output, Tensor input, Tensor mean, Tensor "
            "rstd, int k, float eps, bool centered) -> (Tensor, Tensor)", method=False)
def _normalize_rows_parameters(grad_output, input, mean, rstd, k, eps, centered):
    """Sums over rows of ``grad * h`` and of ``grad``: the gradients of weight and bias."""
    x = computed(input)
    grad = as_dtype(computed(grad_output), x.dtype)
    rows = _rows(x, k)
    count, n = rows._shape
    blocks = -(-count // BLOCK)
    partial = empty((blocks, 2, n), x.dtype, x._storage.device)
    total = empty((2, *x._shape[len(x._shape) - k:]), x.dtype, x._storage.device)
    run(kernels.parameter_partials,
        [("C", _rows(grad, k)), ("C", rows), ("C", parameter(mean, x)),
         ("C", parameter(rstd, x)), ("C", partial), ("i", BLOCK)],
        n=blocks, grain=grain(BLOCK * n))
    run(kernels.add_blocks, [("C", reshaped(partial, (blocks, 2 * n))),
                             ("C", reshaped(total, (2 * n,)))],
        n=2 * n, grain=max(TILE, grain(blocks)))
    total = as_dtype(total, input.dtype)
    return ops.select(total, 0, 0), ops.select(total, 0, 1)


@_normalize_rows_parameters.gradient("grad_output", "input")
def _(grad0, grad1, grad_output, input, k, eps, centered):
    return differentiate_backward((None, grad0, grad1), grad_output, input, None, _last(k), eps,
                                  centered)[:2]


@overloaded("layer_norm", namespace="nn.functional", method=False)
def layer_norm(input, normalized_shape, weight=None, bias=None, eps=1e-5, cudnn_enable=True):
    """``(x - mean) / sqrt(var + eps) * weight + bias`` over the last dimensions.

    ``normalized_shape`` are the sizes of those dimensions; weight and bias have that shape. The
    variance is the biased one. RuntimeError if shapes do not fit. (Ba, Kiros, Hinton, 2016.)
    """
    if isinstance(normalized_shape, int):
        normalized_shape = (normalized_shape,)
    return ops._layer_norm(input, tuple(normalized_shape), weight, bias, eps)[0]


@overloaded("rms_norm", namespace="nn.functional", method=False)
def rms_norm(input, normalized_shape, weight=None, eps=None):
    """``x / sqrt(mean(x ** 2) + eps) * weight`` over the last dimensions.

    ``eps`` defaults to the spacing of the input's type at 1. RuntimeError if shapes do not fit.
    (Zhang, Sennrich, 2019.)
    """
    if isinstance(normalized_shape, int):
        normalized_shape = (normalized_shape,)
    return ops._fused_rms_norm(input, tuple(normalized_shape), weight, eps)[0]


@overloaded("local_response_norm", namespace="nn.functional", method=False)
def local_response_norm(input, size, alpha=1e-4, beta=0.75, k=1.0):
    """``x / (k + alpha * mean of x ** 2 over size neighbouring channels) ** beta``.

    ``input`` (N, C, ...); channels outside count as zeros. ValueError for fewer than 3 dimensions.
    (Krizhevsky, Sutskever, Hinton, 2012.)
    """
    shape = input.shape
    if len(shape) < 3:
        raise ValueError("Expected 3D or higher dimensionality input (got "
                         f"{len(shape)} dimensions)")
    if 0 in shape:
        return input
    flat = ops.reshape(input * input, (shape[0], 1, shape[1], -1))
    padded = ops.pad(flat, (0, 0, size // 2, (size - 1) // 2))
    mean = ops.reshape(ops.avg_pool2d(padded, (size, 1), stride=1), shape)
    return input / ops.pow(mean * alpha + k, beta)


@composite("normalize(Tensor input, float p=2.0, int dim=1, float eps=1e-12, *, "
           "Tensor? out=None) -> Tensor", namespace="nn.functional", method=False)
def normalize(input, p, dim, eps):
    """``x / max(norm_p(x), eps)`` along ``dim``."""
    return input / ops.clamp_min(ops._vector_norm(input, p, dim, True), eps)
