"""Joining, reordering, repeating, padding and making sequences, against NumPy."""
import numpy as np
import pytest

import ntorch
from ntorch.autograd import gradcheck, gradgradcheck

RNG = np.random.default_rng(0)
V = RNG.random((3, 4, 5))
X = ntorch.from_numpy(V)
M = ntorch.from_numpy(V[0].copy())


def same(got, wanted):
    if isinstance(got, (tuple, list)):
        assert len(got) == len(wanted)
        for g, w in zip(got, wanted, strict=True):
            same(g, w)
        return
    np.testing.assert_array_equal(got.numpy(), wanted)


VALUES = {
    "cat": (lambda: ntorch.cat([X, X[:, :2]], 1), lambda: np.concatenate([V, V[:, :2]], 1)),
    "concat": (lambda: ntorch.concat([X, X], -1), lambda: np.concatenate([V, V], -1)),
    "stack": (lambda: ntorch.stack([X, X], -1), lambda: np.stack([V, V], -1)),
    "hstack": (lambda: ntorch.hstack([X, X]), lambda: np.hstack([V, V])),
    "hstack of vectors": (lambda: ntorch.hstack([X[0, 0], X[0, 1]]), lambda: np.hstack(V[0, :2])),
    "vstack": (lambda: ntorch.vstack([X[0, 0], X[0]]), lambda: np.vstack([V[0, 0], V[0]])),
    "dstack": (lambda: ntorch.dstack([X[0], X[1]]), lambda: np.dstack([V[0], V[1]])),
    "column_stack": (lambda: ntorch.column_stack([X[0, :, 0], X[0]]),
                     lambda: np.column_stack([V[0, :, 0], V[0]])),
    "flip": (lambda: X.flip(0, 2), lambda: np.flip(V, (0, 2))),
    "flip middle": (lambda: X.flip(1), lambda: np.flip(V, 1)),
    "flip strided": (lambda: X.permute(2, 0, 1)[::2].flip(0), lambda: np.flip(
        V.transpose(2, 0, 1)[::2], 0)),
    "fliplr": (lambda: X.fliplr(), lambda: np.fliplr(V)),
    "flipud": (lambda: X.flipud(), lambda: np.flipud(V)),
    "roll": (lambda: X.roll((2, -1), (0, 2)), lambda: np.roll(V, (2, -1), (0, 2))),
    "roll flat": (lambda: X.roll(7), lambda: np.roll(V, 7)),
    "rot90": (lambda: X.rot90(1, (1, 2)), lambda: np.rot90(V, 1, (1, 2))),
    "rot90 thrice": (lambda: X.rot90(3, (2, 0)), lambda: np.rot90(V, 3, (2, 0))),
    "repeat": (lambda: M.repeat(2, 1, 3), lambda: np.tile(V[0], (2, 1, 3))),
    "tile": (lambda: X.tile((2, 3)), lambda: np.tile(V, (2, 3))),
    "repeat_interleave": (lambda: X.repeat_interleave(3, 1), lambda: np.repeat(V, 3, 1)),
    "repeat_interleave counts": (lambda: X.repeat_interleave(ntorch.tensor([2, 0, 3]), 0),
                                 lambda: np.repeat(V, [2, 0, 3], 0)),
    "repeat_interleave flat": (lambda: M.repeat_interleave(2), lambda: np.repeat(V[0], 2)),
    "tril": (lambda: X.tril(1), lambda: np.tril(V, 1)),
    "triu": (lambda: X.triu(-2), lambda: np.triu(V, -2)),
    "triu beyond": (lambda: X.triu(9), lambda: np.triu(V, 9)),
    "diag of vector": (lambda: ntorch.diag(X[0, 0], -2), lambda: np.diag(V[0, 0], -2)),
    "diag of matrix": (lambda: ntorch.diag(M, 1), lambda: np.diag(V[0], 1)),
    "diagflat": (lambda: ntorch.diagflat(M[:2, :2], 1), lambda: np.diagflat(V[0, :2, :2], 1)),
    "trace": (lambda: ntorch.trace(M), lambda: np.trace(V[0])),
    "meshgrid": (lambda: ntorch.meshgrid(X[0, 0], X[0, 1, :3], indexing="ij"),
                 lambda: np.meshgrid(V[0, 0], V[0, 1, :3], indexing="ij")),
    "meshgrid xy": (lambda: ntorch.meshgrid(X[0, 0], X[0, 1, :3], X[0, 2, :2], indexing="xy"),
                    lambda: np.meshgrid(V[0, 0], V[0, 1, :3], V[0, 2, :2], indexing="xy")),
    "pad": (lambda: ntorch.nn.functional.pad(X, (1, 2, 0, 3), value=7.0),
            lambda: np.pad(V, ((0, 0), (0, 3), (1, 2)), constant_values=7)),
    "pad negative": (lambda: ntorch.nn.functional.pad(X, (-1, 2, -2, -1)),
                     lambda: np.pad(V[:, 2:3, 1:], ((0, 0), (0, 0), (0, 2)))),
    "pad reflect": (lambda: ntorch.nn.functional.pad(X[None], (3, 4, 2, 1), "reflect")[0],
                    lambda: np.pad(V, ((0, 0), (2, 1), (3, 4)), "reflect")),
    "pad replicate": (lambda: ntorch.nn.functional.pad(X[None], (3, 6, 2, 1), "replicate")[0],
                      lambda: np.pad(V, ((0, 0), (2, 1), (3, 6)), "edge")),
    "pad circular": (lambda: ntorch.nn.functional.pad(X[None], (5, 4, 2, 1), "circular")[0],
                     lambda: np.pad(V, ((0, 0), (2, 1), (5, 4)), "wrap")),
    "arange": (lambda: ntorch.arange(3, 50, 7), lambda: np.arange(3, 50, 7)),
    "arange down": (lambda: ntorch.arange(5, -3, -2), lambda: np.arange(5, -3, -2)),
    "arange float": (lambda: ntorch.arange(0.5, 9, 0.25, dtype=ntorch.float64),
                     lambda: np.arange(0.5, 9, 0.25)),
    "eye": (lambda: ntorch.eye(3, 5), lambda: np.eye(3, 5)),
    "vander": (lambda: ntorch.vander(X[0, 0], 3, True), lambda: np.vander(V[0, 0], 3, True)),
    "tril_indices": (lambda: ntorch.tril_indices(4, 6, 1), lambda: np.stack(
        np.tril_indices(4, 1, 6))),
    "triu_indices": (lambda: ntorch.triu_indices(4, 6, -1), lambda: np.stack(
        np.triu_indices(4, -1, 6))),
    "diagonal_scatter": (lambda: ntorch.diagonal_scatter(ntorch.zeros(3, 3), ntorch.ones(2), 1),
                         lambda: np.eye(3, 3, 1)),
    "select_scatter": (lambda: ntorch.select_scatter(ntorch.zeros(2, 3), ntorch.ones(3), 0, 1),
                       lambda: [[0, 0, 0], [1, 1, 1]]),
    "slice_scatter": (lambda: ntorch.slice_scatter(
        ntorch.zeros(2, 4), ntorch.ones(2, 2), 1, 0, 4, 2), lambda: [[1, 0, 1, 0]] * 2),
    "diag_embed": (lambda: ntorch.diag_embed(M[:, :2]), lambda: np.stack(
        [np.diag(r) for r in V[0, :, :2]])),
    "block_diag": (lambda: ntorch.block_diag(ntorch.ones(1, 2), ntorch.ones(2, 1)),
                   lambda: [[1, 1, 0], [0, 0, 1], [0, 0, 1]]),
    "cartesian_prod": (lambda: ntorch.cartesian_prod(ntorch.tensor([1, 2]), ntorch.tensor([3, 4])),
                       lambda: [[1, 3], [1, 4], [2, 3], [2, 4]]),
    "combinations": (lambda: ntorch.combinations(ntorch.tensor([1, 2, 3])),
                     lambda: [[1, 2], [1, 3], [2, 3]]),
}


@pytest.mark.parametrize("name", VALUES)
def test_values_against_numpy(name):
    got, wanted = VALUES[name]
    same(got(), wanted())


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int16", "int32", "float16", "float32",
                                   "complex64", "complex128"])
def test_movement_of_every_element_size(dtype):
    values = (V[0] * 10).astype(dtype)
    x = ntorch.from_numpy(values)
    same(x.flip(0), np.flip(values, 0))
    same(x.flip(1), np.flip(values, 1))
    same(x.tril(), np.tril(values))
    same(ntorch.cat([x, x], 1), np.concatenate([values, values], 1))
    same(x.index_select(1, ntorch.tensor([4, 0])), values[:, [4, 0]])
    same(x.gather(0, ntorch.tensor([[3, 0, 1, 2, 0]])), values[[[3, 0, 1, 2, 0]], np.arange(5)])
    same(x[ntorch.tensor([1, 1]), ntorch.tensor([0, 4])], values[[1, 1], [0, 4]])


def test_cat_promotes_and_skips_vectors_of_nothing():
    joined = ntorch.cat([ntorch.tensor([1, 2]), ntorch.tensor([0.5])])
    assert joined.dtype is ntorch.float32 and joined.tolist() == [1, 2, 0.5]
    assert ntorch.cat([X, ntorch.empty(0)], 1).shape == X.shape
    out = ntorch.empty(0)
    assert ntorch.cat([ntorch.ones(2), ntorch.ones(1)], out=out) is out and out.shape == (3,)


@pytest.mark.parametrize("start, end, steps", [(0, 1, 5), (-3, 7, 11), (2.5, -1, 8), (4, 4, 3),
                                               (0, 9, 1), (0, 1, 0), (1, 10, 257)])
def test_linspace_and_logspace_hit_both_ends(start, end, steps):
    for dtype in (ntorch.float32, ntorch.float64):
        got = ntorch.linspace(start, end, steps, dtype=dtype)
        np.testing.assert_allclose(got.numpy(), np.linspace(start, end, steps), rtol=3e-7,
                                   atol=1e-6)
        if steps > 1:
            assert got[0].item() == start and got[-1].item() == end
    powers = ntorch.logspace(start, end, steps, 2.0, dtype=ntorch.float64)
    np.testing.assert_allclose(powers.numpy(), np.logspace(start, end, steps, base=2.0))


def test_sequences_equal_torch():
    torch = pytest.importorskip("torch")
    for arguments in ((0, 1, 0.1), (1, 2, 0.3), (-5, 5, 0.7), (0, 100000, 3.3), (5,), (2, 9),
                      (9, 2, -2)):
        got, wanted = ntorch.arange(*arguments), torch.arange(*arguments)
        assert str(got.dtype) == str(wanted.dtype)
        np.testing.assert_allclose(got.numpy(), wanted.numpy(), rtol=1.2e-7)
    for start, end, steps in ((0, 1, 100), (-3, 7, 1000), (0.1, 0.9, 33), (5, -2.5, 20001)):
        for dtype in ("float32", "float64", "int64", "float16", "bfloat16"):
            got = ntorch.linspace(start, end, steps, dtype=getattr(ntorch, dtype))
            wanted = torch.linspace(start, end, steps, dtype=getattr(torch, dtype))
            if dtype in ("float32", "float64"):
                np.testing.assert_array_equal(got.numpy(), wanted.numpy())
            else:
                tolerance = {"float16": 2e-3, "bfloat16": 2e-2}.get(dtype, 0)
                np.testing.assert_allclose(got.double().numpy(), wanted.double().numpy(),
                                           rtol=tolerance, atol=tolerance)


def test_windows_against_scipy():
    signal = pytest.importorskip("scipy.signal")
    for name, theirs in (("hann_window", "hann"), ("hamming_window", "hamming"),
                         ("blackman_window", "blackman"), ("bartlett_window", "bartlett")):
        for periodic in (True, False):
            got = getattr(ntorch, name)(12, periodic, dtype=ntorch.float64)
            wanted = signal.get_window(theirs, 12, fftbins=periodic)
            np.testing.assert_allclose(got.numpy(), wanted, atol=1e-12)


GRADIENTS = {
    "cat": lambda x, y: ntorch.cat([x, y, x], 1),
    "stack": lambda x, y: ntorch.stack([x, y], 1),
    "flip": lambda x, y: x.flip(0, 1) * y,
    "roll": lambda x, y: x.roll((1, 2), (0, 1)) * y,
    "rot90": lambda x, y: x.rot90() * y.rot90(3),
    "repeat": lambda x, y: x.repeat(2, 2) + y.repeat(2, 2),
    "repeat_interleave": lambda x, y: x.repeat_interleave(ntorch.tensor([2, 0, 1]), 0),
    "tril": lambda x, y: x.tril() + y.triu(1),
    "diag": lambda x, y: ntorch.diag(x) @ ntorch.diag(y[0]),
    "diag_embed": lambda x, y: ntorch.diag_embed(x, 1) * 2,
    "trace": lambda x, y: ntorch.trace(x * y),
    "pad": lambda x, y: ntorch.nn.functional.pad(x, (1, -1, 2, 0), value=3.0),
    "pad reflect": lambda x, y: ntorch.nn.functional.pad(x[None], (2, 1), "reflect"),
    "pad replicate": lambda x, y: ntorch.nn.functional.pad(y[None], (2, 1), "replicate"),
    "pad circular": lambda x, y: ntorch.nn.functional.pad(y[None], (2, 1), "circular"),
    "select_scatter": lambda x, y: ntorch.select_scatter(x, y[0], 0, 1),
    "diagonal_scatter": lambda x, y: ntorch.diagonal_scatter(x, y[0]),
    "meshgrid": lambda x, y: sum(ntorch.meshgrid(x[0], y[0], indexing="ij")),
}


@pytest.mark.parametrize("name", GRADIENTS)
def test_gradients_to_second_order(name):
    inputs = [ntorch.from_numpy(RNG.random((3, 3)) + 0.5).requires_grad_() for _ in range(2)]
    function = GRADIENTS[name]
    # both inputs take part, so that both have a gradient
    assert gradcheck(lambda x, y: function(x, y) + 0 * x.sum() + 0 * y.sum(), inputs)
    assert gradgradcheck(lambda x, y: function(x * x, y * y) + 0 * x.sum() + 0 * y.sum(), inputs)


ERRORS = [
    (lambda: ntorch.cat([]), ValueError, "non-empty list"),
    (lambda: ntorch.cat([ntorch.tensor(1.0)]), RuntimeError, "zero-dimensional"),
    (lambda: ntorch.cat([X, X[0]]), RuntimeError, "same number of dimensions"),
    (lambda: ntorch.cat([X, X[:, :, :2]]), RuntimeError, "must match except in dimension 0"),
    (lambda: ntorch.cat(X), TypeError, "tuple of Tensors"),
    (lambda: ntorch.cat([X, 3]), TypeError, "element 1"),
    (lambda: ntorch.cat([X, X], out=X), RuntimeError, "single memory location"),
    (lambda: ntorch.stack([X, X[0]]), RuntimeError, "equal size"),
    (lambda: ntorch.stack([]), RuntimeError, "non-empty"),
    (lambda: X.flip(0, 0), RuntimeError, "multiple times"),
    (lambda: X.flip(3), IndexError, "Dimension out of range"),
    (lambda: X.roll((1, 1), (0,)), RuntimeError, "must align"),
    (lambda: X.rot90(1, (0, 0)), RuntimeError, "to be different"),
    (lambda: X.repeat(2), RuntimeError, "can not be smaller"),
    (lambda: M.repeat(2, -1), RuntimeError, "negative dimension"),
    (lambda: X.repeat_interleave(ntorch.tensor([1, -1, 0]), 0), RuntimeError, "negative"),
    (lambda: X.repeat_interleave(ntorch.tensor([1, 1]), 0), RuntimeError, "same size as input"),
    (lambda: ntorch.tril(X[0, 0]), RuntimeError, "at least 2 dimensions"),
    (lambda: ntorch.diag(X), RuntimeError, "1D or 2D"),
    (lambda: ntorch.trace(X), RuntimeError, "expected a matrix"),
    (lambda: ntorch.meshgrid(X, X), RuntimeError, "0D or 1D"),
    (lambda: ntorch.nn.functional.pad(X, (1, 1, 1)), RuntimeError, "divisible by 2"),
    (lambda: ntorch.nn.functional.pad(X, (-3, -3)), RuntimeError, "negative output size"),
    (lambda: ntorch.nn.functional.pad(X, (5, 0), "reflect"), RuntimeError, "less than the "
                                                                           "correspond"),
    (lambda: ntorch.nn.functional.pad(X, (6, 0), "circular"), RuntimeError, "more than once"),
    (lambda: ntorch.nn.functional.pad(X, (1, 0), "other"), NotImplementedError, "other"),
    (lambda: ntorch.arange(0, 5, 0), RuntimeError, "nonzero"),
    (lambda: ntorch.arange(0, 5, -1), RuntimeError, "inconsistent with step sign"),
    (lambda: ntorch.arange(float("inf")), RuntimeError, "unsupported range"),
    (lambda: ntorch.arange("a"), TypeError, "Number"),
    (lambda: ntorch.linspace(0, 1, -1), RuntimeError, "non-negative"),
    (lambda: ntorch.eye(-1), RuntimeError, "greater or equal to 0"),
]


@pytest.mark.parametrize("number", range(len(ERRORS)))
def test_errors(number):
    call, kind, words = ERRORS[number]
    with pytest.raises(kind, match=words):
        call()


def test_zero_sizes():
    none = ntorch.empty(2, 0)
    for made in (none.flip(1), none.roll(1, 0), none.repeat(2, 3), none.tril(),
                 ntorch.cat([none, none], 1), none.cumsum(1), none.tile((2, 2)),
                 none.repeat_interleave(2, 0)):
        assert made.numel() == 0
    assert ntorch.arange(0).shape == (0,) and ntorch.eye(0).shape == (0, 0)
    assert ntorch.nn.functional.pad(none, (1, 2)).shape == (2, 3)


def test_copies_between_parts_of_one_tensor():
    """Refused, as in PyTorch, where both views are dense; else everything is read first."""
    line = ntorch.arange(6.0)
    for target, source in ((line[1:], line[:-1]), (line[:4], line[2:])):
        with pytest.raises(RuntimeError, match="single memory location"):
            target.copy_(source)
    assert line.tolist() == [0, 1, 2, 3, 4, 5]
    line.copy_(line)
    line[:3].copy_(line[3:])
    assert line.tolist() == [3, 4, 5, 3, 4, 5]
    square = ntorch.arange(9.0).view(3, 3)
    square[:, 1:] = square[:, :-1]
    assert square.tolist() == [[0, 0, 1], [3, 3, 4], [6, 6, 7]]


def test_expanding_beyond_what_can_be_counted():
    with pytest.raises(RuntimeError, match="overflow"):
        ntorch.ones(1).expand(1 << 40, 1 << 40)
    assert ntorch.ones(1).expand(1 << 30, 1 << 30).numel() == 1 << 60
