"""Matrix products: checks and shapes; ``ops/contraction.py`` chooses the kernel.

Gradients of a complex product are conjugated, as everywhere: for ``y = a @ b`` they are
``grad @ b.mH`` and ``a.mH @ grad``.
"""
from ...runtime.dtypes import BOOL, INT
from ..base import broadcast_shapes, contiguous_strides, is_contiguous, make, product
from ..composite import composite
from ..contraction import gemm
from ..dtype_rules import _scalar_name
from ..registry import ops
from ..structured import structured
from .views import view_strides

_CXX_NAMES = {"float32": "float", "float64": "double", "float16": "c10::Half",
              "bfloat16": "c10::BFloat16", "int64": "long int", "int32": "int",
              "int16": "short int", "int8": "signed char", "uint8": "unsigned char",
              "complex64": "c10::complex<float>", "complex128": "c10::complex<double>"}


def _check_pair(op, a, b):
    """Both of one dtype that can be multiplied, on one device."""
    if a.dtype is not b.dtype:
        raise RuntimeError(
            f"expected m1 and m2 to have the same dtype, but got: "
            f"{_CXX_NAMES.get(a.dtype.name, a.dtype.name)} != "
            f"{_CXX_NAMES.get(b.dtype.name, b.dtype.name)} ({op}); convert one with .to(dtype)")
    if a.dtype.category == BOOL:
        raise NotImplementedError(f'"{op}" not implemented for \'Bool\'; convert to a number type')
    if a._storage.device is not b._storage.device:
        raise RuntimeError(f"{op}: Expected all tensors to be on the same device, but got "
                           f"{a._storage.device} and {b._storage.device}")


def _alike(a, b):
    return a.dtype is b.dtype and a._storage.device is b._storage.device


def check_ndim(op, tensor, ndim, name):
    if len(tensor._shape) != ndim:
        words = {1: "a vector", 2: "a matrix", 3: "a 3D tensor"}[ndim]
        raise RuntimeError(f"{name} must be {words}, got {len(tensor._shape)}-D tensor ({op})")


def check_expands(tensor, shape):
    """RuntimeError unless ``tensor`` broadcasts to ``shape``."""
    have = tensor._shape
    lead = len(shape) - len(have)
    if lead < 0:
        raise RuntimeError(
            f"expand({list(have)}, size={list(shape)}): the number of sizes provided "
            f"({len(shape)}) must be greater or equal to the number of dimensions in the tensor "
            f"({len(have)})")
    for d, (size, want) in enumerate(zip(have, shape[lead:], strict=True), lead):
        if size not in (1, want):
            raise RuntimeError(
                f"The expanded size of the tensor ({want}) must match the existing size ({size}) "
                f"at non-singleton dimension {d}.  Target sizes: {list(shape)}.  Tensor sizes: "
                f"{list(have)}")


def cannot_multiply(a, b):
    def size(shape):
        return "x".join(map(str, shape))
    return RuntimeError(f"mat1 and mat2 shapes cannot be multiplied ({size(a)} and {size(b)})")


def _reshaped(tensor, shape, strides):
    """The elements of ``tensor`` in another shape, for use inside a host function."""
    return make(tensor._storage, tensor.dtype, shape, strides, tensor._offset)


def _row(vector):
    return _reshaped(vector, (1, *vector._shape), (0, *vector._strides))


def column(vector):
    return _reshaped(vector, (*vector._shape, 1), (*vector._strides, 0))


def _turned(matrix):
    rows, cols = matrix._shape
    return _reshaped(matrix, (cols, rows), matrix._strides[::-1])


def in_shape(result, shape):
    """A fresh contiguous result in another shape."""
    return make(result._storage, result.dtype, shape, contiguous_strides(shape), 0)


def _folded(tensor, copy):
    """(..., k) as (rows, k); None if that needs a copy and ``copy`` is false."""
    if len(tensor._shape) == 2:
        return tensor
    *lead, depth = tensor._shape
    shape = (product(lead), depth)
    if is_contiguous(tensor._shape, tensor._strides):
        return _reshaped(tensor, shape, (max(depth, 1), 1))
    strides = view_strides(tensor._shape, tensor._strides, shape)
    if strides is not None:
        return _reshaped(tensor, shape, strides)
    return ops.reshape(tensor, shape) if copy else None


@structured("mm(Tensor self, Tensor mat2, *, Tensor? out=None) -> Tensor", exact_out="dtype")
def mm(self, mat2):
    """Matrix product of (n, m) by (m, p): (n, p)."""
    if len(self._shape) != 2 or len(mat2._shape) != 2:
        check_ndim("mm", self, 2, "self")
        check_ndim("mm", mat2, 2, "mat2")
    _check_pair("mm", self, mat2)
    (_, left), (right, _) = self._shape, mat2._shape
    if left != right:
        raise cannot_multiply(self._shape, mat2._shape)
    return gemm(self, mat2)


@mm.gradient("self")
def _(grad, mat2):
    return ops.mm(grad, ops.adjoint(mat2))


@mm.gradient("mat2")
def _(grad, self):
    return ops.mm(ops.adjoint(self), grad)


@structured("bmm(Tensor self, Tensor mat2, *, Tensor? out=None) -> Tensor", exact_out="dtype")
def bmm(self, mat2):
    """Products of matrices of a batch, (b, n, m) by (b, m, p): (b, n, p)."""
    check_ndim("bmm", self, 3, "batch1")
    check_ndim("bmm", mat2, 3, "batch2")
    _check_pair("bmm", self, mat2)
    check_batches(self, mat2)
    return gemm(self, mat2, (self._shape[0],))


def check_batches(a, b):
    if a._shape[0] != b._shape[0] or a._shape[2] != b._shape[1]:
        raise RuntimeError("Expected size for first two dimensions of batch2 tensor to be: "
                           f"[{a._shape[0]}, {a._shape[2]}] but got: "
                           f"[{b._shape[0]}, {b._shape[1]}].")


@bmm.gradient("self")
def _(grad, mat2):
    return ops.bmm(grad, ops.adjoint(mat2))


@bmm.gradient("mat2")
def _(grad, self):
    return ops.bmm(ops.adjoint(self), grad)


@structured("mv(Tensor self, Tensor vec, *, Tensor? out=None) -> Tensor", exact_out="dtype")
def mv(self, vec):
    """Matrix by vector, (n, m) by (m,): (n,)."""
    if len(self._shape) != 2 or len(vec._shape) != 1:
        raise RuntimeError("vector + matrix @ vector expected, got 1, "
                           f"{len(self._shape)}, {len(vec._shape)}")
    _check_pair("mv", self, vec)
    if self._shape[1] != vec._shape[0]:
        raise RuntimeError(f"size mismatch, got input ({self._shape[0]}), mat ({self._shape[0]}x"
                           f"{self._shape[1]}), vec ({vec._shape[0]})")
    return in_shape(gemm(self, column(vec)), self._shape[:1])


@mv.gradient("self")
def _(grad, vec):
    return ops.outer(grad, ops.conj(vec) if vec.dtype.is_complex else vec)


@mv.gradient("vec")
def _(grad, self):
    return ops.mv(ops.adjoint(self), grad)


def _check_vectors(op, a, b):
    if len(a._shape) != 1 or len(b._shape) != 1:
        raise RuntimeError(f"1D tensors expected, but got {len(a._shape)}D and {len(b._shape)}D "
                           "tensors")
    if a.dtype is not b.dtype:
        raise RuntimeError(f"{op} : expected both vectors to have same dtype, but found "
                           f"{_scalar_name(a.dtype)} and {_scalar_name(b.dtype)}")
    if a._shape != b._shape:
        raise RuntimeError(f"inconsistent tensor size, expected tensor {list(a._shape)} and src "
                           f"{list(b._shape)} to have the same number of elements, but got "
                           f"{a._shape[0]} and {b._shape[0]} elements respectively")


@structured("dot(Tensor self, Tensor tensor, *, Tensor? out=None) -> Tensor", exact_out="dtype")
def dot(self, tensor):
    """``sum of self[i] * tensor[i]`` of two vectors; nothing is conjugated."""
    _check_vectors("dot", self, tensor)
    _check_pair("dot", self, tensor)
    return in_shape(gemm(_row(self), column(tensor)), ())


@dot.gradient("self")
def _(grad, tensor):
    return grad * (ops.conj(tensor) if tensor.dtype.is_complex else tensor)


@dot.gradient("tensor")
def _(grad, self):
    return grad * (ops.conj(self) if self.dtype.is_complex else self)


@composite("vdot(Tensor self, Tensor other, *, Tensor? out=None) -> Tensor")
def vdot(self, other):
    """``sum of conj(self[i]) * other[i]`` of two vectors."""
    _check_vectors("vdot", self, other)
    return ops.dot(ops.conj(self) if self.dtype.is_complex else self, other)


def _check_depths(a, b, shape_a, shape_b):
    """The sizes that are summed over agree; the message follows what torch would have called."""
    if a._shape[-1] == b._shape[-2]:
        return
    if len(shape_b) == 1 and len(shape_a) == 1:
        raise RuntimeError(f"inconsistent tensor size, expected tensor {list(shape_a)} and src "
                           f"{list(shape_b)} to have the same number of elements, but got "
                           f"{shape_a[0]} and {shape_b[0]} elements respectively")
    if len(shape_b) == 1:
        rows = product(shape_a[:-1])
        raise RuntimeError(f"size mismatch, got input ({rows}), mat ({rows}x{shape_a[-1]}), vec "
                           f"({shape_b[0]})")
    if len(shape_a) > 2 and len(shape_b) > 2:
        batch = product(broadcast_shapes(shape_a[:-2], shape_b[:-2]))
        raise RuntimeError(f"Expected size for first two dimensions of batch2 tensor to be: "
                           f"[{batch}, {shape_a[-1]}] but got: [{batch}, {shape_b[-2]}].")
    raise cannot_multiply((product(a._shape[:-1]), a._shape[-1]), b._shape[-2:])


@structured("matmul(Tensor self, Tensor other, *, Tensor? out=None) -> Tensor",
            aliases=("linalg_matmul",), exact_out="dtype")
def matmul(self, other):
    """Product over the last dimension of self and the last but one of other.

    Vectors count as a row on the left and a column on the right, and that dimension is dropped from
    the result; dimensions before the last two are batches and broadcast.
    """
    shape_a, shape_b = self._shape, other._shape
    if len(shape_a) == len(shape_b) == 2:
        return mm.host(self, other)
    if not shape_a or not shape_b:
        raise RuntimeError(f"both arguments to matmul need to be at least 1D, but they are "
                           f"{len(shape_a)}D and {len(shape_b)}D")
    _check_pair("matmul", self, other)
    a = _row(self) if len(shape_a) == 1 else self
    b = column(other) if len(shape_b) == 1 else other
    _check_depths(a, b, shape_a, shape_b)
    if len(b._shape) == 2:
        flat = _folded(a, a._shape[-2] < 16)
        batch = () if flat is not None else a._shape[:-2]
        result = gemm(a if flat is None else flat, b, batch)
        shape = (*shape_a[:-1], *shape_b[1:])
    else:
        batch = tuple(broadcast_shapes(a._shape[:-2], b._shape[:-2]))
        result = gemm(a, b, batch)
        shape = (*batch, *shape_a[-2:-1], *(shape_b[-1:] if len(shape_b) > 1 else ()))
    return result if result._shape == shape else in_shape(result, shape)


@matmul.gradient("self")
def _(grad, self, other):
    b = ops.unsqueeze(other, -1) if len(other._shape) == 1 else other
    g = ops.unsqueeze(grad, -1) if len(other._shape) == 1 else grad
    g = ops.unsqueeze(g, -2) if len(self._shape) == 1 else g
    return ops.matmul(g, ops.adjoint(b))


@matmul.gradient("other")
def _(grad, self, other):
    a = ops.unsqueeze(self, 0) if len(self._shape) == 1 else self
    g = ops.unsqueeze(grad, -1) if len(other._shape) == 1 else grad
    g = ops.unsqueeze(g, -2) if len(self._shape) == 1 else g
    if len(other._shape) <= 2 < len(a._shape):
        a, g = _rows_of(a), _rows_of(g)         # one product instead of a sum over the batch
    result = ops.matmul(ops.adjoint(a), g)
    return ops.squeeze(result, -1) if len(other._shape) == 1 else result


def _rows_of(tensor):
    return ops.reshape(tensor, (product(tensor._shape[:-1]), tensor._shape[-1]))


def affine_product(op, self, a, b, batch, beta, alpha):
    """``beta * self + alpha * a @ b``, self broadcast to the result."""
    _check_pair(op, a, b)
    if self.dtype is not a.dtype:
        raise RuntimeError(f"{op}: self and mat2 must have the same dtype, but got "
                           f"{_scalar_name(self.dtype)} and {_scalar_name(b.dtype)}")
    if a.dtype.category == INT:
        alpha, beta = int(alpha), int(beta)     # truncated, as torch does for integer matrices
    check_expands(self, (*batch, a._shape[-2], b._shape[-1]))
    return gemm(a, b, batch, self, alpha, beta)


@structured("linear(Tensor input, Tensor weight, Tensor? bias=None, *, Tensor? out=None) -> Tensor",
            method=False, namespace="nn.functional", exact_out="dtype")
def linear(input, weight, bias):
    """``y = x W^T + b``: (..., in) by (out, in) gives (..., out); a 1-D weight gives (...)."""
    if not input._shape or not 1 <= len(weight._shape) <= 2:
        raise RuntimeError(f"linear: expected input of at least 1-D and weight of 1-D or 2-D, got "
                           f"{len(input._shape)}-D and {len(weight._shape)}-D")
    _check_pair("linear", input, weight)
    x = _folded(input, True) if len(input._shape) > 1 else _row(input)
    if len(weight._shape) == 2 and len(input._shape) > 1:
        columns, depth = weight._shape
        if x._shape[1] == depth and (
                bias is None or bias._shape == (columns,) and _alike(bias, input)):
            result = gemm(x, _turned(weight), (), bias, 1, 0 if bias is None else 1)
            return result if x is input else in_shape(result, (*input._shape[:-1], columns))
    w = _turned(weight) if len(weight._shape) == 2 else column(weight)
    if x._shape[1] != w._shape[0]:
        raise cannot_multiply(x._shape, w._shape)
    shape = (*input._shape[:-1], *weight._shape[:-1])
    if bias is None:
        result = gemm(x, w)
    else:
        flat = _spread(bias, shape, w._shape[1])
        result = affine_product("linear", flat, x, w, (), 1, 1)
    return result if result._shape == shape else in_shape(result, shape)


def _spread(bias, shape, columns):
    """The bias in a shape that broadcasts to (rows, columns)."""
    check_expands(bias, shape)
    if product(bias._shape) == 1:
        return _reshaped(bias, (), ())
    if len(bias._shape) == 1 and len(shape) and columns == shape[-1]:
        return bias
    return _folded(ops.expand(bias, shape), True) if columns == shape[-1] else ops.reshape(
        ops.expand(bias, shape), (-1, 1))


@linear.gradient("input")
def _(grad, weight):
    conjugate = ops.conj(weight) if weight.dtype.is_complex else weight
    if len(weight._shape) == 1:
        return ops.unsqueeze(grad, -1) * conjugate
    return ops.matmul(grad, conjugate)


@linear.gradient("weight")
def _(grad, input, weight):
    conjugate = ops.conj(input) if input.dtype.is_complex else input
    if len(weight._shape) == 1:
        return ops.unsqueeze(grad, -1) * conjugate
    if len(input._shape) == 1:
        return ops.outer(grad, conjugate)
    return ops.mm(ops.transpose(_rows_of(grad), 0, 1), _rows_of(conjugate))


@linear.gradient("bias")
def _(grad):
    return grad
