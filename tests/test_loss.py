"""Losses against formulas in float64 NumPy, gradients to second order, reductions and errors."""
import math
import warnings

import numpy as np
import pytest
from scipy import special

import ntorch
from ntorch.autograd import gradcheck, gradgradcheck
from ntorch.nn import functional as F

RNG = np.random.default_rng(23)


def draw(*shape):
    return RNG.standard_normal(shape)


def tensor(array, grad=False):
    made = ntorch.from_numpy(np.asarray(array))
    return made.requires_grad_() if grad else made


def log_softmax(x, axis):
    return x - special.logsumexp(x, axis, keepdims=True)


def signs(*shape):
    return np.where(RNG.random(shape) < 0.5, 1.0, -1.0)


def stirling(t):
    safe = np.where(t > 1, t, 2.0)
    return np.where(t > 1, safe * np.log(safe) - safe + 0.5 * np.log(2 * np.pi * safe), 0)


def cosine(a, b):
    return (a * b).sum(-1) / np.sqrt(((a * a).sum(-1) + 1e-12) * ((b * b).sum(-1) + 1e-12))


def gap(a, b, p=2.0):
    return np.linalg.norm(a - b + 1e-6, p, -1)


def margins(x, t, p=1, margin=1.0, weight=None):
    n, classes = x.shape
    v = np.maximum(0, margin - x[np.arange(n), t][:, None] + x) ** p
    v[np.arange(n), t] = 0
    return (v if weight is None else v * weight[t][:, None]).sum(1) / classes


X, Y, P, Q, S = draw(4, 5), draw(4, 5), RNG.random((4, 5)), RNG.random((4, 5)), signs(4, 5)
A, B, C = draw(4, 6), draw(4, 6), draw(4, 6)
W, T = RNG.random(5) + 0.5, RNG.integers(0, 5, 4)
D = np.abs(X - Y)
# name: (function, tensors, further arguments, losses before reduction)
CASES = {
    "l1": (F.l1_loss, (X, Y), {}, D),
    "mse": (F.mse_loss, (X, Y), {}, D ** 2),
    "huber": (F.huber_loss, (X, Y), {"delta": 0.7},
              np.where(D <= 0.7, D ** 2 / 2, 0.7 * (D - 0.35))),
    "smooth": (F.smooth_l1_loss, (X, Y), {"beta": 0.7},
               np.where(D < 0.7, D ** 2 / 1.4, D - 0.35)),
    "smooth at 0": (F.smooth_l1_loss, (X, Y), {"beta": 0.0}, D),
    "bce": (F.binary_cross_entropy, (P, Q), {}, -(Q * np.log(P) + (1 - Q) * np.log(1 - P))),
    "bce weighted": (F.binary_cross_entropy, (P, Q), {"weight": tensor(W)},
                     -W * (Q * np.log(P) + (1 - Q) * np.log(1 - P))),
    "logits": (F.binary_cross_entropy_with_logits, (X, Q), {},
               np.logaddexp(0, X) - Q * X),
    "logits weighted": (F.binary_cross_entropy_with_logits, (X, Q),
                        {"weight": tensor(W), "pos_weight": tensor(2 * W)},
                        W * (2 * W * Q * np.logaddexp(0, -X) + (1 - Q) * np.logaddexp(0, X))),
    "kl": (F.kl_div, (np.log(P), Q), {}, Q * np.log(Q / P)),
    "kl of logs": (F.kl_div, (np.log(P), np.log(Q)), {"log_target": True}, Q * np.log(Q / P)),
    "poisson": (F.poisson_nll_loss, (X, 3 * Q), {}, np.exp(X) - 3 * Q * X),
    "poisson full": (F.poisson_nll_loss, (P, 3 * Q), {"log_input": False, "full": True},
                     P - 3 * Q * np.log(P + 1e-8) + stirling(3 * Q)),
    "gaussian": (F.gaussian_nll_loss, (X, Y, P), {}, (np.log(P) + D ** 2 / P) / 2),
    "gaussian full": (F.gaussian_nll_loss, (X, Y, P[:, 0].copy()), {"full": True},
                      (np.log(P[:, :1]) + D ** 2 / P[:, :1] + math.log(2 * math.pi)) / 2),
    "soft margin": (F.soft_margin_loss, (X, S), {}, np.log1p(np.exp(-S * X))),
    "hinge": (F.hinge_embedding_loss, (X, S), {"margin": 0.6},
              np.where(S == 1, X, np.maximum(0, 0.6 - X))),
    "multilabel soft": (F.multilabel_soft_margin_loss, (X, Q), {}, (
        Q * np.logaddexp(0, -X) + (1 - Q) * np.logaddexp(0, X)).mean(1)),
    "ranking": (F.margin_ranking_loss, (X, Y, S), {"margin": 0.3},
                np.maximum(0, -S * (X - Y) + 0.3)),
    "cosine": (F.cosine_embedding_loss, (A, B, np.array([1.0, -1, 1, -1])), {"margin": 0.1},
               np.where([True, False] * 2, 1 - cosine(A, B), np.maximum(0, cosine(A, B) - 0.1))),
    "triplet": (F.triplet_margin_loss, (A, B, C), {},
                np.maximum(0, gap(A, B) - gap(A, C) + 1)),
    "triplet swapped": (F.triplet_margin_loss, (A, B, C), {"swap": True, "p": 3.0, "margin": 2.0},
                        np.maximum(0, gap(A, B, 3) - np.minimum(gap(A, C, 3), gap(B, C, 3)) + 2)),
    "triplet of distances": (F.triplet_margin_with_distance_loss, (A, B, C), {},
                             np.maximum(0, gap(A, B) - gap(A, C) + 1)),
    "multi margin": (F.multi_margin_loss, (X, T), {}, margins(X, T)),
    "multi margin 2": (F.multi_margin_loss, (X, T), {"p": 2, "margin": 0.5, "weight": tensor(W)},
                       margins(X, T, 2, 0.5, W)),
}


@pytest.mark.parametrize("case", CASES)
def test_values_and_reductions(case):
    function, arrays, options, want = CASES[case]
    tensors = [tensor(a) for a in arrays]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        none = function(*tensors, reduction="none", **options)
        mean, total = function(*tensors, **options), function(*tensors, reduction="sum", **options)
    np.testing.assert_allclose(none.numpy(), want, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(mean.item(), want.mean(), rtol=1e-12)
    np.testing.assert_allclose(total.item(), want.sum(), rtol=1e-12)
    single = [t.float() if t.is_floating_point() else t for t in tensors]
    options = {k: v.float() if isinstance(v, ntorch.Tensor) else v for k, v in options.items()}
    got = function(*single, reduction="none", **options)
    assert got.dtype is ntorch.float32
    np.testing.assert_allclose(got.numpy(), want, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("case", CASES)
def test_gradients(case):
    function, arrays, options, _ = CASES[case]
    inputs = tuple(tensor(a, a.dtype == float and a is not S and len(set(a.flat)) > 2)
                   for a in arrays)
    assert gradcheck(lambda *a: function(*a, **options), inputs)
    assert gradgradcheck(lambda *a: function(*a, **options), inputs)


@pytest.mark.parametrize("shape", [(5,), (4, 5), (3, 5, 2), (2, 5, 2, 3)])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_cross_entropy_of_classes(shape, weighted, smoothing):
    axis = 0 if len(shape) == 1 else 1
    x, spatial = draw(*shape), shape[:axis] + shape[axis + 1:]
    t = np.asarray(RNG.integers(0, 5, spatial))
    if t.size > 1:
        t.flat[1] = 2
    ignore = 2
    w = W if weighted else np.ones(5)
    log_p = log_softmax(x, axis)
    picked = np.take_along_axis(log_p, np.expand_dims(t, axis), axis).squeeze(axis)
    used = np.where(t == ignore, 0.0, w[t])
    broad = w.reshape(5, *(1,) * (len(shape) - axis - 1))
    smooth = np.where(t == ignore, 0.0, -(log_p * broad).sum(axis)) / 5
    want = (1 - smoothing) * -(used * picked) + smoothing * smooth
    options = {"weight": tensor(w) if weighted else None, "ignore_index": ignore,
               "label_smoothing": smoothing}
    args = tensor(x), tensor(t)
    got = F.cross_entropy(*args, reduction="none", **options)
    np.testing.assert_allclose(got.numpy(), want, rtol=1e-12, atol=1e-14)
    total = F.cross_entropy(*args, reduction="sum", **options)
    np.testing.assert_allclose(total.item(), want.sum(), rtol=1e-12, atol=1e-14)
    mean = F.cross_entropy(*args, **options).item()
    if used.sum() == 0:
        assert math.isnan(mean)
    else:
        np.testing.assert_allclose(mean, want.sum() / used.sum(), rtol=1e-12, atol=1e-14)
    if not smoothing:
        nll = F.nll_loss(tensor(log_p), tensor(t), weight=options["weight"], ignore_index=ignore,
                         reduction="none")
        np.testing.assert_allclose(nll.numpy(), want, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("shape", [(5,), (4, 5), (3, 5, 2)])
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_cross_entropy_of_probabilities(shape, smoothing):
    axis = 0 if len(shape) == 1 else 1
    x, q = draw(*shape), special.softmax(draw(*shape), axis)
    broad = W.reshape(5, *(1,) * (len(shape) - axis - 1))
    smoothed = q * (1 - smoothing) + smoothing / 5
    want = -(log_softmax(x, axis) * smoothed * broad).sum(axis)
    for reduction, value in (("none", want), ("sum", want.sum()), ("mean", want.mean())):
        got = F.cross_entropy(tensor(x), tensor(q), tensor(W), reduction=reduction,
                              label_smoothing=smoothing)
        np.testing.assert_allclose(got.numpy(), value, rtol=1e-12)


@pytest.mark.parametrize("options", [
    {}, {"weight": tensor(W)}, {"ignore_index": 1}, {"label_smoothing": 0.2, "weight": tensor(W)},
    {"reduction": "sum"}])
def test_cross_entropy_gradients(options):
    t = tensor(RNG.integers(0, 5, (3, 2)))
    x = tensor(draw(3, 5, 2), grad=True)
    assert gradcheck(lambda x: F.cross_entropy(x, t, **options), (x,))
    assert gradgradcheck(lambda x: F.cross_entropy(x, t, **options), (x,))
    q = tensor(RNG.random((4, 5)), grad=True)
    assert gradcheck(F.cross_entropy, (tensor(X, grad=True), q))


def test_multilabel_margin():
    x, t = draw(3, 4), np.array([[3, 0, -1, 1], [-1, 1, 2, 3], [0, 1, 2, 3]])
    want = []
    for row, targets in zip(x, t, strict=True):
        end = list(targets).index(-1) if -1 in targets else 4
        chosen = list(targets[:end])
        others = [i for i in range(4) if i not in chosen]
        want.append(sum(max(0, 1 - (row[j] - row[i])) for j in chosen for i in others) / 4)
    got = F.multilabel_margin_loss(tensor(x), tensor(t), reduction="none")
    np.testing.assert_allclose(got.numpy(), want, rtol=1e-12, atol=1e-14)
    assert gradcheck(lambda x: F.multilabel_margin_loss(x, tensor(t)), (tensor(x, True),))
    assert gradgradcheck(lambda x: F.multilabel_margin_loss(x, tensor(t)), (tensor(x, True),))
    alone = F.multilabel_margin_loss(tensor(x[0]), tensor(t[0]))
    np.testing.assert_allclose(alone.item(), want[0], rtol=1e-12)


def test_probabilities_at_the_ends_give_finite_losses():
    x, t = tensor([0.0, 1.0, 0.0, 1.0], True), tensor([1.0, 0.0, 0.0, 1.0])
    loss = F.binary_cross_entropy(x, t, reduction="none")
    assert loss.tolist() == [100.0, 100.0, 0.0, 0.0]
    loss.sum().backward()
    assert np.isfinite(x.grad.numpy()).all()


def test_logits_of_any_size_do_not_overflow():
    x = ntorch.tensor([-1e4, -90.0, 90.0, 1e4])
    loss = F.binary_cross_entropy_with_logits(x, ntorch.tensor([0.0, 1.0, 0.0, 1.0]),
                                              reduction="none")
    assert loss.tolist() == [0.0, 90.0, 90.0, 0.0]


def test_batchmean_legacy_arguments_and_broadcasting():
    x, t = tensor(np.log(P)), tensor(Q)
    batchmean = F.kl_div(x, t, reduction="batchmean").item()
    assert batchmean == pytest.approx((Q * np.log(Q / P)).sum() / 4)
    for size_average, reduce, reduction in ((False, None, "sum"), (True, True, "mean"),
                                            (None, False, "none")):
        with pytest.warns(UserWarning, match="size_average and reduce args"):
            old = F.mse_loss(x, t, size_average, reduce)
        assert old.tolist() == F.mse_loss(x, t, reduction=reduction).tolist()
    with pytest.warns(UserWarning, match="Using a target size"):
        wide = F.mse_loss(x, t[:1])
    assert wide.item() == pytest.approx(((np.log(P) - Q[:1]) ** 2).mean())


def test_weighted_means_are_over_the_weights():
    w = RNG.random((4, 5))
    for function, loss in ((F.mse_loss, D ** 2), (F.l1_loss, D)):
        got = function(tensor(X), tensor(Y), weight=tensor(w)).item()
        assert got == pytest.approx((loss * w).sum() / w.sum())


def test_no_samples():
    x = ntorch.zeros(0, 5, requires_grad=True)
    t = ntorch.zeros(0).long()
    assert math.isnan(F.cross_entropy(x, t).item())
    assert F.cross_entropy(x, t, reduction="sum").item() == 0.0
    F.cross_entropy(x, t, reduction="none").sum().backward()
    assert x.grad.shape == (0, 5)


E = ntorch.ones(3, 5)
K = ntorch.zeros(3).long()
ERRORS = [
    (lambda: F.mse_loss(E, E, reduction="max"), ValueError, "not a valid value for reduction"),
    (lambda: F.huber_loss(E, E, delta=0.0), RuntimeError, "non-positive values for delta"),
    (lambda: F.smooth_l1_loss(E, E, beta=-1.0), RuntimeError, "negative values for beta"),
    (lambda: F.mse_loss(E, E, weight=E[0]), ValueError, "same size"),
    (lambda: F.binary_cross_entropy(E, E[0]), ValueError, "different to the input size"),
    (lambda: F.binary_cross_entropy(2 * E, E), RuntimeError, "between 0 and 1"),
    (lambda: F.binary_cross_entropy_with_logits(E, E[0]), ValueError, "must be the same"),
    (lambda: F.gaussian_nll_loss(E, E, -E), ValueError, "negative"),
    (lambda: F.gaussian_nll_loss(E, E, E[:2]), ValueError, "incorrect size"),
    (lambda: F.nll_loss(E, K + 5), IndexError, "Target 5 is out of bounds"),
    (lambda: F.nll_loss(E, K - 1), IndexError, "Target -1 is out of bounds"),
    (lambda: F.nll_loss(E, K.float()), RuntimeError, "expected scalar type Long"),
    (lambda: F.nll_loss(E, K[:2]), ValueError, "to match target batch_size"),
    (lambda: F.nll_loss(E, K.reshape(3, 1)), RuntimeError, "multi-target not supported"),
    (lambda: F.nll_loss(E, K, E[0, :4]), RuntimeError, "for all 5 classes or no classes"),
    (lambda: F.nll_loss(ntorch.ones(3, 5, 2), ntorch.zeros(3, 3).long()), RuntimeError,
     "expected target size"),
    (lambda: F.nll_loss(ntorch.tensor(1.0), K), ValueError, "Expected 1 or more dimensions"),
    (lambda: F.cross_entropy(E, K, label_smoothing=1.5), RuntimeError, "between 0.0 and 1.0"),
    (lambda: F.cross_entropy(E, E.long()), RuntimeError, "Expected floating point type"),
    (lambda: F.multi_margin_loss(E, K, p=3), ValueError, "only p == 1 and p == 2"),
    (lambda: F.multi_margin_loss(E, K[:2]), RuntimeError, "inconsistent target size"),
    (lambda: F.multi_margin_loss(E, K + 5), RuntimeError, "target out of range"),
    (lambda: F.multilabel_margin_loss(E, K), RuntimeError, "inconsistent target size"),
    (lambda: F.multilabel_margin_loss(E, E.long() * 5), RuntimeError, "out of range"),
    (lambda: F.margin_ranking_loss(E, E, E[0]), RuntimeError, "should have same dimension"),
    (lambda: F.cosine_embedding_loss(E, E, E), RuntimeError, "multi-target not supported"),
    (lambda: F.cosine_embedding_loss(E[0], E[0], K), RuntimeError, "1D target tensor expects 2D"),
    (lambda: F.triplet_margin_loss(E, E, E, margin=0.0), ValueError, "margin must be greater"),
    (lambda: F.triplet_margin_loss(E, E, E[0]), RuntimeError, "same number of dimensions"),
]


@pytest.mark.parametrize("case", range(len(ERRORS)))
def test_errors(case):
    call, kind, words = ERRORS[case]
    with pytest.raises(kind, match=words):
        call()
