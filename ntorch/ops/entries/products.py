"""Products over the matrix product: outer, inner, tensordot, kron, chains, bilinear, einsum."""
from ..base import product, wrap_dim
from ..composite import composite, overloaded
from ..einstein import einsum_of
from ..registry import ops


@composite("outer(Tensor self, Tensor vec2, *, Tensor? out=None) -> Tensor", aliases=("ger",),
           fuse=False)
def outer(self, vec2):
    """``result[i, j] = self[i] * vec2[j]`` for two vectors."""
    for name, vector in (("self", self), ("vec2", vec2)):
        if len(vector._shape) != 1:
            raise RuntimeError(f"outer: Expected 1-D argument {name}, but got "
                               f"{len(vector._shape)}-D")
    return ops.mul(ops.unsqueeze(self, 1), vec2)


@composite("inner(Tensor self, Tensor other, *, Tensor? out=None) -> Tensor", fuse=False)
def inner(self, other):
    """Product summed over the last dimension of both; zero-dim tensors just multiply."""
    if not self._shape or not other._shape:
        return ops.mul(self, other)
    if self._shape[-1] != other._shape[-1]:
        raise RuntimeError("inner() the last dimension must match on both input tensors but got "
                           f"shapes {list(self._shape)} and {list(other._shape)}")
    return ops.tensordot(self, other, ([-1], [-1]))


def _dims_of(dims, a, b):
    """The two lists of dimensions that ``tensordot`` sums over."""
    if hasattr(dims, "tolist"):
        dims = dims.tolist()
    if isinstance(dims, int):
        if dims < 0:
            raise RuntimeError(f"tensordot expects dims >= 0, but got dims={dims}")
        if dims > min(len(a._shape), len(b._shape)):
            raise RuntimeError(f"tensordot expects dims < ndim_a or ndim_b, but got dims={dims}")
        return list(range(len(a._shape) - dims, len(a._shape))), list(range(dims))
    dims_a, dims_b = ([d] if isinstance(d, int) else list(d) for d in dims)
    return ([wrap_dim(d, len(a._shape), "tensordot") for d in dims_a],
            [wrap_dim(d, len(b._shape), "tensordot") for d in dims_b])


@composite("tensordot(Any self, Any other, Any dims=2, *, Tensor? out=None) -> Tensor",
           method=False, exact_out="dtype", fuse=False)
def tensordot(a, b, dims):
    """Sum of products over pairs of dimensions: the last ``dims`` of a and the first of b, or the
    two lists ``dims = (dims of a, dims of b)``. The result has the other dimensions of a, then of
    b.
    """
    dims_a, dims_b = _dims_of(dims, a, b)
    if len(dims_a) != len(dims_b):
        raise RuntimeError("both dimension lists should have same length")
    for i, j in zip(dims_a, dims_b, strict=True):
        if a._shape[i] != b._shape[j]:
            # a size of 1 is summed away on the other side too, as broadcasting has it
            if a._shape[i] == 1:
                b = ops.sum(b, j, True)
            elif b._shape[j] == 1:
                a = ops.sum(a, i, True)
            else:
                raise RuntimeError("contracted dimensions need to match, but first has size "
                                   f"{a._shape[i]} in dim {i} and second has size {b._shape[j]} in "
                                   f"dim {j}")
    keep_a = [d for d in range(len(a._shape)) if d not in dims_a]
    keep_b = [d for d in range(len(b._shape)) if d not in dims_b]
    depth = product(a._shape[d] for d in dims_a)
    shape_a, shape_b = [a._shape[d] for d in keep_a], [b._shape[d] for d in keep_b]
    left = ops.reshape(ops.permute(a, (*keep_a, *dims_a)), (product(shape_a), depth))
    right = ops.reshape(ops.permute(b, (*dims_b, *keep_b)), (depth, product(shape_b)))
    return ops.reshape(ops.mm(left, right), (*shape_a, *shape_b))


@composite("kron(Tensor self, Tensor other, *, Tensor? out=None) -> Tensor")
def kron(self, other):
    """Kronecker product: every element of self times the whole of other."""
    ndim = max(len(self._shape), len(other._shape))
    a = (1,) * (ndim - len(self._shape)) + tuple(self._shape)
    b = (1,) * (ndim - len(other._shape)) + tuple(other._shape)
    left = ops.reshape(self, [size for n in a for size in (n, 1)])
    right = ops.reshape(other, [size for n in b for size in (1, n)])
    return ops.reshape(ops.mul(left, right), [x * y for x, y in zip(a, b, strict=True)])


def _best_splits(sizes):
    """For matrices of sizes[i] x sizes[i + 1]: where to split each run (i, j) for least work.

    The matrix chain recurrence, Cormen et al., Introduction to Algorithms, section 15.2.
    """
    count = len(sizes) - 1
    cost = [[0] * count for _ in range(count)]
    split = [[0] * count for _ in range(count)]
    for length in range(1, count):
        for i in range(count - length):
            j = i + length
            cost[i][j], split[i][j] = min(
                (cost[i][k] + cost[k + 1][j] + sizes[i] * sizes[k + 1] * sizes[j + 1], k)
                for k in range(i, j))
    return split


def _chain(tensors, split, i, j):
    if i == j:
        return tensors[i]
    k = split[i][j]
    return ops.mm(_chain(tensors, split, i, k), _chain(tensors, split, k + 1, j))


@composite("linalg_multi_dot(Tensor[] tensors, *, Tensor? out=None) -> Tensor", method=False)
def linalg_multi_dot(tensors):
    """Product of two or more matrices in the order of least work; the first and the last may be
    vectors, which then drop out of the result's shape.
    """
    if len(tensors) < 2:
        raise RuntimeError(f"multi_dot(): expected at least 2 tensors but got {len(tensors)}")
    tensors = list(tensors)
    first, last = (len(tensors[i]._shape) == 1 for i in (0, -1))
    if first:
        tensors[0] = ops.unsqueeze(tensors[0], 0)
    if last:
        tensors[-1] = ops.unsqueeze(tensors[-1], 1)
    for i, tensor in enumerate(tensors):
        if len(tensor._shape) != 2:
            raise RuntimeError(f"multi_dot(): tensor {i} must be 2D but got {len(tensor._shape)}D")
    for i, (a, b) in enumerate(zip(tensors, tensors[1:], strict=False)):
        if a._shape[1] != b._shape[0]:
            raise RuntimeError(f"multi_dot(): tensors {i} and {i + 1} with shapes {list(a._shape)} "
                               f"and {list(b._shape)} cannot be multiplied")
    sizes = [tensors[0]._shape[0], *(t._shape[1] for t in tensors)]
    result = _chain(tensors, _best_splits(sizes), 0, len(tensors) - 1)
    shape = (*(() if first else result._shape[:1]), *(() if last else result._shape[1:]))
    return result if len(shape) == 2 else ops.reshape(result, shape)


@overloaded("chain_matmul", method=False)
def chain_matmul(*matrices, out=None):
    """Product of matrices in the order of least work; kept for old programs, see
    ``linalg.multi_dot``."""
    if len(matrices) == 1 and out is None:
        return matrices[0]
    return ops.linalg_multi_dot(matrices, out=out)


@composite("bilinear(Tensor input1, Tensor input2, Tensor weight, Tensor? bias=None) -> Tensor",
           method=False, namespace="nn.functional", fuse=False)
def bilinear(input1, input2, weight, bias):
    """``y[..., o] = sum over i, j of x1[..., i] W[o, i, j] x2[..., j] + b[o]``.

    Shapes (..., in1), (..., in2), (out, in1, in2), (out,): (..., out).
    """
    if input1._shape[:-1] != input2._shape[:-1]:
        raise RuntimeError("bilinear(): input batch dimensions do not match: got "
                           f"{list(input1._shape)} and {list(input2._shape)}")
    out, in1, in2 = weight._shape
    for name, tensor, want in (("input1", input1, in1), ("input2", input2, in2)):
        if tensor._shape[-1] != want:
            raise RuntimeError(f"bilinear(): {name} size does not match weight size: got "
                               f"{tensor._shape[-1]} but expected {want}")
    rows = product(input1._shape[:-1])
    x1, x2 = ops.reshape(input1, (rows, 1, in1)), ops.reshape(input2, (rows, in2, 1))
    # (rows, out * in1) = x2 W^T, then dotted with x1 row by row
    halfway = ops.mm(ops.reshape(x2, (rows, in2)),
                     ops.transpose(ops.reshape(weight, (out * in1, in2)), 0, 1))
    halfway = ops.reshape(halfway, (rows, out, in1))
    sums = ops.reshape(ops.matmul(halfway, ops.transpose(x1, 1, 2)), (*input1._shape[:-1], out))
    return sums if bias is None else ops.add(sums, bias)


@overloaded("einsum", method=False, fuse=False)
def einsum(*args):
    """Sum of products in Einstein's notation: ``einsum("bij,bjk->bik", a, b)``.

    Letters name dimensions; letters left out of the output (or, without ``->``, those that come
    twice) are summed over; a letter repeated in one operand takes its diagonal; ``...`` stands for
    broadcast dimensions. The sublist form ``einsum(a, [0, 1], b, [1, 2], [0, 2])`` uses numbers.
    """
    return einsum_of(*args)
