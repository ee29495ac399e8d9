"""Embedding tables, bags and one-hot rows against NumPy."""
import numpy as np
import pytest

import ntorch
from ntorch.autograd import gradcheck, gradgradcheck
from ntorch.nn import functional as F

RNG = np.random.default_rng(17)


def table(rows=7, width=5, dtype=ntorch.float64, grad=False):
    made = ntorch.from_numpy(RNG.standard_normal((rows, width))).to(dtype)
    return made.requires_grad_() if grad else made


@pytest.mark.parametrize("dtype", [ntorch.float64, ntorch.float32, ntorch.float16, ntorch.bfloat16,
                                   ntorch.int64, ntorch.complex64])
@pytest.mark.parametrize("shape", [(), (4,), (2, 3), (0,), (2, 0)])
@pytest.mark.parametrize("kind", [ntorch.int64, ntorch.int32])
def test_rows(dtype, shape, kind):
    weight = table().to(dtype)
    index = np.asarray(RNG.integers(0, 7, shape))
    out = F.embedding(ntorch.from_numpy(index).to(kind), weight)
    assert out.shape == (*shape, 5) and out.dtype is dtype
    want = [weight[int(i)].tolist() for i in index.reshape(-1)]
    assert out.reshape(-1, 5).tolist() == want


def test_gradient_adds_repeated_rows_and_skips_padding():
    weight = table(grad=True)
    index = np.array([[1, 3, 1], [6, 1, 3]])
    grad = RNG.standard_normal((2, 3, 5))
    for padding, scale in ((None, False), (3, False), (-1, False), (None, True), (1, True)):
        out = F.embedding(ntorch.from_numpy(index), weight, padding, scale_grad_by_freq=scale)
        got, = ntorch.autograd.grad(out, weight, ntorch.from_numpy(grad))
        want = np.zeros((7, 5))
        np.add.at(want, index.reshape(-1), grad.reshape(-1, 5))
        if scale:
            want /= np.maximum(np.bincount(index.reshape(-1), minlength=7), 1)[:, None]
        if padding is not None:
            want[padding] = 0
        np.testing.assert_allclose(got.numpy(), want, rtol=1e-13)


@pytest.mark.parametrize("options", [{}, {"padding_idx": 2}, {"scale_grad_by_freq": True}])
def test_gradients(options):
    index = ntorch.tensor([[2, 0, 2], [1, 2, 3]])
    weight = table(4, 3, grad=True)
    for function in (lambda w: F.embedding(index, w, **options),
                     lambda w: F.embedding(index, w, **options).sin()):
        if not options.get("scale_grad_by_freq") and "padding_idx" not in options:
            assert gradcheck(function, (weight,))

    def gradient(grad):
        out = F.embedding(index, weight, **options)
        return ntorch.autograd.grad(out, weight, grad, create_graph=True)[0]

    grad = ntorch.from_numpy(RNG.standard_normal((2, 3, 3))).requires_grad_()
    assert gradcheck(gradient, (grad,))


def test_max_norm_scales_only_the_rows_used():
    for p in (1.0, 2.0, 3.0, float("inf")):
        weight = table()
        before = weight.numpy().copy()
        F.embedding(ntorch.tensor([1, 4, 1]), weight, max_norm=0.5, norm_type=p)
        norms = np.linalg.norm(before, p, axis=1)
        want = before.copy()
        for row in (1, 4):
            want[row] *= min(1.0, 0.5 / (norms[row] + 1e-7))
        np.testing.assert_allclose(weight.numpy(), want, rtol=1e-12)


def test_an_index_outside_changes_nothing():
    for wrong in (7, -1):
        weight = table()
        before = weight.numpy().copy()
        with pytest.raises(IndexError, match="index out of range in self"):
            F.embedding(ntorch.tensor([0, wrong]), weight, max_norm=0.1)
        np.testing.assert_array_equal(weight.numpy(), before)
        with pytest.raises(RuntimeError, match="valid range"):
            F.embedding_bag(ntorch.tensor([[0, wrong]]), weight)


def bags(weight, index, offsets, mode, factors=None, padding=None):
    ends = [*offsets[1:], len(index)]
    out = np.zeros((len(offsets), weight.shape[1]))
    for b, (start, end) in enumerate(zip(offsets, ends, strict=True)):
        kept = [i for i in range(start, end) if index[i] != padding]
        rows = weight[[index[i] for i in kept]]
        if factors is not None:
            rows = rows * factors[kept][:, None]
        if len(kept):
            out[b] = {"sum": rows.sum, "mean": rows.mean, "max": rows.max}[mode](0)
    return out


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
@pytest.mark.parametrize("padding", [None, 2])
def test_bags(mode, padding):
    weight = table(9, 6)
    index, offsets = np.array([0, 2, 2, 8, 1, 2, 5]), [0, 3, 3, 6]
    want = bags(weight.numpy(), index, offsets, mode, padding=padding)
    out = F.embedding_bag(ntorch.from_numpy(index), weight, ntorch.tensor(offsets), mode=mode,
                          padding_idx=padding)
    np.testing.assert_allclose(out.numpy(), want, rtol=1e-13, atol=1e-15)
    last = F.embedding_bag(ntorch.from_numpy(index), weight, ntorch.tensor([*offsets, 7]),
                           mode=mode, padding_idx=padding, include_last_offset=True)
    np.testing.assert_array_equal(last.numpy(), out.numpy())
    square = index[:6].reshape(2, 3)
    want = bags(weight.numpy(), index[:6], [0, 3], mode, padding=padding)
    out = F.embedding_bag(ntorch.from_numpy(square), weight.float(), mode=mode, padding_idx=padding)
    np.testing.assert_allclose(out.numpy(), want, rtol=1e-6, atol=1e-6)


def test_weighted_bags():
    weight, factors = table(9, 6), RNG.standard_normal(5)
    index = np.array([0, 2, 2, 8, 1])
    out = F.embedding_bag(ntorch.from_numpy(index), weight, ntorch.tensor([0, 2]), mode="sum",
                          per_sample_weights=ntorch.from_numpy(factors))
    np.testing.assert_allclose(out.numpy(), bags(weight.numpy(), index, [0, 2], "sum", factors),
                               rtol=1e-13)


@pytest.mark.parametrize("mode", ["sum", "mean", "max", "weighted"])
def test_bag_gradients(mode):
    index, offsets = ntorch.tensor([0, 2, 3, 2, 1]), ntorch.tensor([0, 2, 2])
    weight = table(4, 3, grad=True)
    if mode == "weighted":
        factors = ntorch.from_numpy(RNG.standard_normal(5)).requires_grad_()

        def function(w, f):
            return F.embedding_bag(index, w, offsets, mode="sum", per_sample_weights=f)

        inputs = weight, factors
    else:
        def function(w):
            return F.embedding_bag(index, w, offsets, mode=mode)

        inputs = weight,
    assert gradcheck(function, inputs)
    assert gradgradcheck(function, inputs)


def test_bag_gradient_scaled_by_frequency():
    weight = table(4, 3, grad=True)
    index = np.array([1, 1, 3, 1])
    out = F.embedding_bag(ntorch.from_numpy(index), weight, ntorch.tensor([0, 2]), mode="sum",
                          scale_grad_by_freq=True)
    out.sum().backward()
    np.testing.assert_allclose(weight.grad.numpy(), np.outer([0, 1, 0, 1], np.ones(3)))


def test_the_same_bits_for_any_number_of_threads():
    weight = table(50, 200, ntorch.float32, True)
    index = ntorch.from_numpy(RNG.integers(0, 50, (300, 40)))
    found = []
    for threads in (1, 2):
        ntorch.set_num_threads(threads)
        total = F.embedding(index, weight).sin().sum() + F.embedding_bag(index, weight).sin().sum()
        found.append(ntorch.autograd.grad(total, weight)[0].numpy().tobytes())
    assert found[0] == found[1]


def test_one_hot():
    x = ntorch.tensor([[0, 2], [1, 0]])
    assert F.one_hot(x).tolist() == [[[1, 0, 0], [0, 0, 1]], [[0, 1, 0], [1, 0, 0]]]
    assert F.one_hot(x, 5).shape == (2, 2, 5) and F.one_hot(x, 5).dtype is ntorch.int64
    assert F.one_hot(ntorch.tensor(1)).tolist() == [0, 1]
    assert F.one_hot(ntorch.zeros(0).long(), 3).shape == (0, 3)


INDEX = ntorch.tensor([0, 1])
ERRORS = [
    (lambda w: F.embedding(INDEX.float(), w), RuntimeError, "scalar types: Long, Int"),
    (lambda w: F.embedding(INDEX, w[0]), RuntimeError, "must be 2-D"),
    (lambda w: F.embedding(INDEX, w, 7), AssertionError, "Padding_idx must be within"),
    (lambda w: F.embedding_bag(INDEX, w), ValueError, "offsets has to be a 1D Tensor but got None"),
    (lambda w: F.embedding_bag(INDEX, w, INDEX[:1].reshape(1, 1)), ValueError, "offsets has to be"),
    (lambda w: F.embedding_bag(INDEX, w, INDEX[1:]), RuntimeError, "has to be 0"),
    (lambda w: F.embedding_bag(INDEX, w, ntorch.tensor([0, 3])), RuntimeError, "not be greater"),
    (lambda w: F.embedding_bag(INDEX, w, ntorch.tensor([0, -1])), RuntimeError, "not be greater"),
    (lambda w: F.embedding_bag(INDEX.reshape(1, 2), w, INDEX), ValueError, "has to be None"),
    (lambda w: F.embedding_bag(INDEX.reshape(1, 1, 2), w), ValueError, "1D or 2D"),
    (lambda w: F.embedding_bag(INDEX.reshape(1, 2), w, mode="min"), ValueError, "mode has to be"),
    (lambda w: F.embedding_bag(INDEX.reshape(1, 2), w, per_sample_weights=w[0]), ValueError,
     "same shape as the input"),
    (lambda w: F.embedding_bag(INDEX.reshape(1, 2), w, per_sample_weights=w[:1, :2]),
     NotImplementedError, "only supported for mode='sum'"),
    (lambda w: F.one_hot(w), RuntimeError, "index tensor of type LongTensor"),
    (lambda w: F.one_hot(INDEX - 1), RuntimeError, "must be non-negative"),
    (lambda w: F.one_hot(INDEX, 1), RuntimeError, "smaller than num_classes"),
    (lambda w: F.one_hot(INDEX[:0]), RuntimeError, "Can not infer"),
]


@pytest.mark.parametrize("case", range(len(ERRORS)))
def test_errors(case):
    call, kind, words = ERRORS[case]
    with pytest.raises(kind, match=words):
        call(table())
