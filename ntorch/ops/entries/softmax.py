"""softmax, log_softmax, softmin and their gradients."""
from ...kernels import softmax as kernels
from ...kernels.softmax import exp as exp_
from ...runtime import recording
from ...runtime.device import META
from ...runtime.dtypes import BOOL, COMPLEX, INT
from ...runtime.storage import Storage
from .. import rowwise
from ..base import empty, make, product, wrap_dim
from ..composite import composite, overloaded
from ..dtype_rules import floating
from ..pointwise import pointwise
from ..registry import ops
from ..structured import Prepared, as_dtype, run, structured
from ..windows import computed, grain, reshaped


def _layout(tensor, dim):
    """(outer, n, inner) of a row-major tensor around ``dim``."""
    shape = tensor._shape
    if not shape:
        return 1, 1, 1
    return product(shape[:dim]), shape[dim], product(shape[dim + 1:])


def _launch(rows, columns, tensors, out, dim, scratch_rows):
    """Run the kernel for contiguous rows, or the one for a dimension with others inside."""
    outer, n, inner = _layout(out, dim)
    if product(out._shape) == 0:
        return
    if inner == 1:
        arrays = [("C", reshaped(t, (outer, n))) for t in (*tensors, out)]
        run(rows, arrays, n=outer, grain=grain(n), reassoc=True)
        return
    arrays = [("C", reshaped(t, (outer, n, inner))) for t in (*tensors, out)]
    shape = (outer, 2, inner) if scratch_rows == 2 else (outer, inner)
    arrays.append(("C", empty(shape, out.dtype, out._storage.device)))
    tiles = -(-inner // kernels.TILE)
    run(columns, arrays, n=outer * tiles, grain=grain(n * min(inner, kernels.TILE)))


_prepared = {}      # form of a call -> Prepared, for rows that the kernel reads as they are
_MOST_PREPARED = 4096


def _forward(op, recorded, rows, columns, self, dim):
    """``rows`` along the last dimension, ``columns`` along another; ``recorded`` in a program."""
    form = (rows, self._shape, self._strides, self.dtype, dim, self._storage.device)
    known = _prepared.get(form)
    if known is None or (recording.active and recording.current() is not None):
        return _first_forward(op, recorded, rows, columns, self, dim, form)
    storage = Storage(known.nbytes)
    known.run(self._address, storage.address)
    return make(storage, self.dtype, self._shape, self._strides, 0)


def _prepare(form, rows, self, out, dim):
    """Remember how to run this form again, if nothing but addresses may change."""
    outer, n, inner = _layout(out, dim)
    if inner != 1 or not outer * n or out._strides != self._strides or self.dtype.is_half \
            or self._storage.device is META or (
                recording.active and recording.current() is not None):
        return
    if len(_prepared) >= _MOST_PREPARED:
        _prepared.clear()
    known = Prepared(rows, [("C", reshaped(t, (outer, n))) for t in (self, out)], n=outer,
                     grain=grain(n), reassoc=True)
    known.nbytes = out._storage.nbytes()
    _prepared[form] = known


def _first_forward(op, recorded, rows, columns, self, dim, form):
    dim = wrap_dim(dim, len(self._shape), op)
    if self.dtype.category in (BOOL, INT, COMPLEX):
        raise NotImplementedError(f"\"{op}\" not implemented for '{self.dtype}': expected a "
                                  "floating point input; pass dtype= to convert it")
    x = computed(self)
    if rowwise.along_rows(x._shape, dim):
        return as_dtype(recorded(x, dim), self.dtype)
    out = empty(x._shape, x.dtype, x._storage.device)
    _launch(rows, columns, (x,), out, dim, 2)
    _prepare(form, rows, self, out, dim)
    return as_dtype(out, self.dtype)


def _backward(recorded, rows, columns, grad, output, dim):
    g, y = computed(grad), computed(output)
    g, dim = as_dtype(g, y.dtype), wrap_dim(dim, len(y._shape))
    if rowwise.along_rows(y._shape, dim):
        return as_dtype(recorded(g, y, dim), grad.dtype)
    out = empty(y._shape, y.dtype, y._storage.device)
    _launch(rows, columns, (g, y), out, dim, 1)
    return as_dtype(out, grad.dtype)


@pointwise("_exp_below_one(Tensor self) -> Tensor", dtype=floating, method=False,
           differentiable=False)
def _exp_below_one(x):
    """``e ** self`` for numbers that are not above 0."""
    return exp_(x)


@structured("_softmax(Tensor self, int dim, bool half_to_float=False) -> Tensor", method=False,
            quiet=True)
def _softmax(self, dim, half_to_float):
    """``exp(x - max) / sum(exp(x - max))`` along ``dim``, floating point."""
    return _forward("softmax", rowwise.softmax, kernels.softmax_rows, kernels.softmax_columns,
                    self, dim)


@_softmax.gradient("self")
def _(grad, result, dim):
    return ops._softmax_backward_data(grad, result, dim)


@structured("_softmax_backward_data(Tensor grad_output, Tensor output, int dim) -> Tensor",
            method=False)
def _softmax_backward_data(grad_output, output, dim):
    """``(g - sum(g * y)) * y`` along ``dim``."""
    return _backward(rowwise.softmax_backward, kernels.softmax_backward_rows,
                     kernels.softmax_backward_columns, grad_output, output, dim)


@_softmax_backward_data.gradient("grad_output", "output")
def _(grad, grad_output, output, dim):
    total = ops.sum(grad_output * output, dim, True)
    aligned = ops.sum(grad * output, dim, True)
    return ops._softmax_backward_data(grad, output, dim), grad * (grad_output - total) \
        - grad_output * aligned


@structured("_log_softmax(Tensor self, int dim, bool half_to_float=False) -> Tensor", method=False,
            quiet=True)
def _log_softmax(self, dim, half_to_float):
    """``x - max - log(sum(exp(x - max)))`` along ``dim``, floating point."""
    return _forward("log_softmax", rowwise.log_softmax, kernels.log_softmax_rows,
                    kernels.log_softmax_columns, self, dim)


@_log_softmax.gradient("self")
def _(grad, result, dim):
    return ops._log_softmax_backward_data(grad, result, dim)


@structured("_log_softmax_backward_data(Tensor grad_output, Tensor output, int dim) -> Tensor",
            method=False)
def _log_softmax_backward_data(grad_output, output, dim):
    """``g - exp(y) * sum(g)`` along ``dim``."""
    return _backward(rowwise.log_softmax_backward, kernels.log_softmax_backward_rows,
                     kernels.log_softmax_backward_columns, grad_output, output, dim)


@_log_softmax_backward_data.gradient("grad_output", "output")
def _(grad, grad_output, output, dim):
    weighted = grad * ops.exp(output)
    total = ops.sum(grad_output, dim, True)
    return grad - ops.sum(weighted, dim, True), -(weighted * total)


def _converted(tensor, dtype):
    return tensor if dtype is None or dtype is tensor.dtype else ops.to_dtype(tensor, dtype)


@composite("softmax(Tensor self, int dim, ScalarType? dtype=None, *, Tensor? out=None) -> Tensor")
def softmax(self, dim, dtype):
    """``exp(x_i) / sum_j exp(x_j)`` along ``dim``, in the shape of the input.

    The maximum is subtracted first, so no exponential overflows; a row of -inf gives NaN. ``dtype``
    converts the input before. NotImplementedError for integers and bool, IndexError for a bad dim.
    """
    return ops._softmax(_converted(self, dtype), dim)


@composite("log_softmax(Tensor self, int dim, ScalarType? dtype=None, *, Tensor? out=None) "
           "-> Tensor")
def log_softmax(self, dim, dtype):
    """``x_i - log(sum_j exp(x_j))`` along ``dim``, in the shape of the input; see ``softmax``."""
    return ops._log_softmax(_converted(self, dtype), dim)


@overloaded("softmin", namespace="nn.functional", method=False)
def softmin(input, dim=None, _stacklevel=3, dtype=None):
    """``softmax(-input)`` along ``dim``; without ``dim`` along the one torch picks implicitly."""
    if dim is None:
        dim = 0 if len(input._shape) in (0, 1, 3) else 1
    return ops.softmax(-input, dim, dtype)
