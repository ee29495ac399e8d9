"""Dropout (Srivastava, Hinton, Krizhevsky, Sutskever, Salakhutdinov, JMLR 2014)."""
from ...runtime import dtypes, recording
from ...runtime.device import META
from .. import draw
from ..base import empty, is_contiguous, numel
from ..composite import composite
from ..dtype_rules import _scalar_name
from ..generator import chosen
from ..pointwise import pointwise
from ..registry import ops
from ..structured import structured


@structured("native_dropout(Tensor input, float p, bool? train) -> (Tensor, Tensor)")
def native_dropout(input, p, train):  # noqa: A002 - the schema's name
    """``(input * mask / (1 - p), mask)``: each element is kept with probability ``1 - p``.

    The mask comes from Philox, keyed by the default generator's next word: it depends on the seed
    and not on the number of threads.
    """
    if train is False:
        return ops.clone(input), ops.ones_like(input, dtype=dtypes.bool_)
    if not (input.dtype.is_floating_point or input.dtype.is_complex):
        raise RuntimeError("result type Float can't be cast to the desired output type "
                           + _scalar_name(input.dtype))
    scale, generator = _dropout_scale(p), chosen(None, "dropout")
    if input._storage.device is META:
        mask = empty(input._shape, dtypes.bool_, META)
    elif _drops_at_once(input):
        return draw.drop_out(input, 1.0 - p, scale, generator)
    else:
        mask = draw.keep_mask(input._shape, 1.0 - p, generator)
    return ops.native_dropout_backward(input, mask, scale), mask


def _drops_at_once(tensor):
    """Whether one kernel makes mask and result. While a program is recorded the product is an op by
    itself, which is merged with its neighbours."""
    recorded = recording.active and recording.current() is not None
    return (not recorded and tensor.dtype in (dtypes.float32, dtypes.float64)
            and is_contiguous(tensor._shape, tensor._strides) and numel(tensor) > 0)


def _dropout_scale(p):
    return 1.0 / (1.0 - p) if p < 1 else 0.0


@native_dropout.gradient("input")
def _(grad0, result1, p, train):
    if train is False:
        return grad0
    return ops.native_dropout_backward(grad0, result1, _dropout_scale(p))


@pointwise("native_dropout_backward(Tensor grad_output, Tensor mask, Scalar scale) -> Tensor",
           method=False)
def native_dropout_backward(grad_output, mask, scale):
    """``grad_output * mask * scale``."""
    return grad_output * mask * scale


@native_dropout_backward.gradient("grad_output")
def _(grad, mask, scale):
    return ops.native_dropout_backward(grad, mask, scale)


@composite("dropout(Tensor self, float p, bool train, *, bool inplace=False) -> Tensor",
           method=False, fuse=False)
def dropout(self, p, train, inplace):
    """Zeroes elements with probability ``p`` and scales the others by ``1 / (1 - p)`` in training.

    RuntimeError unless ``0 <= p <= 1``.
    """
    if not 0 <= p <= 1:
        raise RuntimeError(f"dropout probability has to be between 0 and 1, but got {p:g}")
    if not train or p == 0 or numel(self) == 0:
        return self
    result = ops.native_dropout(self, p, True)[0]
    return ops.copy_(self, result) if inplace else result
