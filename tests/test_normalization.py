"""Layer, RMS, batch, group, instance and local response norm against float64 NumPy."""
import numpy as np
import pytest

import ntorch
from ntorch.autograd import gradcheck, gradgradcheck
from ntorch.nn import functional as F

RNG = np.random.default_rng(11)
EPS = 1e-5


def draw(*shape):
    return RNG.standard_normal(shape) * 2 + 1


def tensor(array, dtype=ntorch.float64, grad=False):
    made = ntorch.from_numpy(np.ascontiguousarray(array)).to(dtype)
    return made.requires_grad_() if grad else made


def standardized(x, axes, eps=EPS):
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + eps)


def channelwise(row, ndim):
    return row.reshape(1, -1, *(1,) * (ndim - 2))


def close(got, want, dtype):
    tolerance = {ntorch.float64: 1e-12, ntorch.float32: 4e-6, ntorch.float16: 4e-3,
                 ntorch.bfloat16: 4e-2}[dtype]
    assert got.dtype is dtype
    np.testing.assert_allclose(got.detach().to(ntorch.float64).numpy(), want, rtol=tolerance,
                               atol=tolerance)


ALL_TYPES = pytest.mark.parametrize("dtype", [
    ntorch.float64, ntorch.float32, ntorch.float16, ntorch.bfloat16])


@ALL_TYPES
@pytest.mark.parametrize("shape, k", [((4, 7), 1), ((2, 3, 5), 2), ((3, 200), 1), ((5,), 1)])
def test_layer_norm(shape, k, dtype):
    x = tensor(draw(*shape), dtype)
    w, b = (tensor(draw(*shape[-k:]), dtype) for _ in range(2))
    axes = tuple(range(-k, 0))
    xs, ws, bs = (t.to(ntorch.float64).numpy() for t in (x, w, b))
    close(F.layer_norm(x, shape[-k:]), standardized(xs, axes), dtype)
    close(F.layer_norm(x, shape[-k:], w, b), standardized(xs, axes) * ws + bs, dtype)
    close(F.layer_norm(x, shape[-k:], None, b), standardized(xs, axes) + bs, dtype)
    square = np.square(xs).mean(axes, keepdims=True)
    close(F.rms_norm(x, shape[-k:], w, 0.25), xs / np.sqrt(square + 0.25) * ws, dtype)


def test_rms_norm_default_epsilon():
    x = tensor(np.full((1, 4), 1e-4), ntorch.float32)
    want = 1e-4 / np.sqrt(1e-8 + np.finfo(np.float32).eps)
    close(F.rms_norm(x, (4,)), np.full((1, 4), want), ntorch.float32)


def test_large_means_do_not_cancel():
    x = draw(8, 64) + 1e4
    got = F.layer_norm(tensor(x, ntorch.float32), (64,))
    want = standardized(x.astype(np.float32).astype(np.float64), -1)
    np.testing.assert_allclose(got.numpy(), want, atol=2e-3)
    planes = tensor((draw(4, 3, 50) + 1e4), ntorch.float32)
    got = F.batch_norm(planes, None, None, training=True)
    want = standardized(planes.double().numpy(), (0, 2))
    np.testing.assert_allclose(got.numpy(), want, atol=2e-3)


@ALL_TYPES
@pytest.mark.parametrize("shape", [(6, 4), (3, 4, 5), (2, 4, 3, 3), (2, 3, 2, 3, 2), (1, 4, 6)])
def test_batch_norm(shape, dtype):
    x, channels = tensor(draw(*shape), dtype), shape[1]
    w, b, mean = (tensor(draw(channels), dtype) for _ in range(3))
    var = tensor(RNG.random(channels) + 0.5, dtype)
    xs, ws, bs, means, variances = (t.to(ntorch.float64).numpy().copy() for t in (
        x, w, b, mean, var))
    axes, n = (0, *range(2, len(shape))), x.numel() // channels
    ws, bs = channelwise(ws, len(shape)), channelwise(bs, len(shape))
    given = (xs - channelwise(means, len(shape))) / np.sqrt(
        channelwise(variances, len(shape)) + EPS)
    close(F.batch_norm(x, mean, var, w, b), given * ws + bs, dtype)
    close(F.batch_norm(x, None, None, w, b, True), standardized(xs, axes) * ws + bs, dtype)
    version = mean._version
    close(F.batch_norm(x, mean, var, None, None, True, 0.3), standardized(xs, axes), dtype)
    assert mean._version > version
    close(mean, 0.7 * means + 0.3 * xs.mean(axes), dtype)
    close(var, 0.7 * variances + 0.3 * xs.var(axes) * n / (n - 1), dtype)


@ALL_TYPES
@pytest.mark.parametrize("shape, groups", [((3, 6), 2), ((2, 6, 5), 3), ((2, 4, 3, 3), 1),
                                           ((2, 4, 3, 3), 4)])
def test_group_norm(shape, groups, dtype):
    x = tensor(draw(*shape), dtype)
    w, b = (tensor(draw(shape[1]), dtype) for _ in range(2))
    xs, ws, bs = (t.to(ntorch.float64).numpy() for t in (x, w, b))
    want = standardized(xs.reshape(shape[0], groups, -1), 2).reshape(shape)
    close(F.group_norm(x, groups), want, dtype)
    close(F.group_norm(x, groups, w, b),
          want * channelwise(ws, len(shape)) + channelwise(bs, len(shape)), dtype)


def test_instance_norm_and_its_running_statistics():
    x = draw(3, 2, 4, 5)
    mean, var = tensor(np.zeros(2)), tensor(np.ones(2))
    out = F.instance_norm(tensor(x), mean, var, momentum=0.5)
    close(out, standardized(x, (2, 3)), ntorch.float64)
    close(mean, 0.5 * x.mean((2, 3)).mean(0), ntorch.float64)
    close(var, 0.5 + 0.5 * x.var((2, 3), ddof=1).mean(0), ntorch.float64)
    given = F.instance_norm(tensor(x), mean, var, use_input_stats=False)
    want = (x - channelwise(mean.numpy(), 4)) / np.sqrt(channelwise(var.numpy(), 4) + EPS)
    close(given, want, ntorch.float64)


@pytest.mark.parametrize("size", [2, 3, 7])
def test_local_response_norm(size):
    x = draw(2, 6, 3, 2)
    squares = np.zeros_like(x)
    for c in range(6):
        low, high = max(0, c - size // 2), min(6, c + (size - 1) // 2 + 1)
        squares[:, c] = np.square(x[:, low:high]).sum(1) / size
    want = x / (2.0 + 0.1 * squares) ** 0.6
    got = F.local_response_norm(tensor(x), size, 0.1, 0.6, 2.0)
    np.testing.assert_allclose(got.numpy(), want, rtol=1e-12)


def test_normalize():
    x = draw(3, 4, 2)
    x[0, :, 0] = 0
    for p in (1.0, 2.0, 3.0, np.inf):
        norm = np.linalg.norm(x, p, 1, keepdims=True)
        np.testing.assert_allclose(F.normalize(tensor(x), p).numpy(), x / np.maximum(norm, 1e-12),
                                   rtol=1e-12)
    zero = tensor(np.zeros((1, 3)), grad=True)
    F.normalize(zero).sum().backward()
    assert not np.isnan(zero.grad.numpy()).any()


GRADIENTS = {
    "layer": (lambda x, w, b: F.layer_norm(x, (2, 3), w, b), (3, 2, 3), (2, 3), (2, 3)),
    "layer plain": (lambda x: F.layer_norm(x, (5,)), (3, 5)),
    "rms": (lambda x, w: F.rms_norm(x, (5,), w), (3, 5), (5,)),
    "batch": (lambda x, w, b: F.batch_norm(x, None, None, w, b, True), (2, 3, 2, 2), (3,), (3,)),
    "batch plain": (lambda x: F.batch_norm(x, None, None, training=True), (3, 2, 2)),
    "batch of rows": (lambda x, w, b: F.batch_norm(x, None, None, w, b, True), (5, 3), (3,), (3,)),
    "batch given": (lambda x, w, b: F.batch_norm(
        x, ntorch.full((3,), 0.3, dtype=x.dtype), ntorch.full((3,), 0.7, dtype=x.dtype), w, b),
        (2, 3, 2), (3,), (3,)),
    "group": (lambda x, w, b: F.group_norm(x, 2, w, b), (2, 4, 3), (4,), (4,)),
    "group plain": (lambda x: F.group_norm(x, 2), (2, 4)),
    "instance": (lambda x, w, b: F.instance_norm(x, None, None, w, b), (2, 2, 4), (2,), (2,)),
    "response": (lambda x: F.local_response_norm(x, 3), (2, 4, 2)),
    "normalize": (lambda x: F.normalize(x, 3.0), (3, 4)),
}


@pytest.mark.parametrize("case", GRADIENTS)
def test_gradients(case):
    function, *shapes = GRADIENTS[case]
    inputs = tuple(tensor(draw(*shape), grad=True) for shape in shapes)
    assert gradcheck(function, inputs)
    assert gradgradcheck(function, inputs)


def test_third_order():
    x = tensor(draw(2, 4), grad=True)

    def second(x):
        y = (F.layer_norm(x, (4,)) ** 3).sum()
        first, = ntorch.autograd.grad(y, x, create_graph=True)
        return ntorch.autograd.grad((first ** 2).sum(), x, create_graph=True)[0]

    assert gradcheck(second, (x,), atol=1e-4)


def test_the_same_bits_for_any_number_of_threads():
    x = tensor(draw(700, 96), ntorch.float32, True)
    w = tensor(draw(96), ntorch.float32, True)
    planes, scale = tensor(draw(8, 32, 40, 9), ntorch.float32, True), tensor(
        draw(32), ntorch.float32, True)
    found = []
    for threads in (1, 2):
        ntorch.set_num_threads(threads)
        rows = F.layer_norm(x, (96,), w)
        batch = F.batch_norm(planes, None, None, scale, None, True)
        group = F.group_norm(planes, 4, scale)
        total = (rows ** 3).sum() + (batch ** 3).sum() + (group ** 3).sum()
        grads = ntorch.autograd.grad(total, (x, w, planes, scale))
        found.append([t.detach().numpy().tobytes() for t in (rows, batch, group, *grads)])
    assert found[0] == found[1]


def test_no_rows():
    x = ntorch.zeros(0, 4, requires_grad=True)
    w = ntorch.ones(4, requires_grad=True)
    F.layer_norm(x, (4,), w).sum().backward()
    assert x.grad.shape == (0, 4) and w.grad.tolist() == [0.0] * 4


def test_eval_and_training_share_one_graph():
    mean, var = ntorch.zeros(3), ntorch.ones(3)
    x = tensor(draw(4, 3), ntorch.float32, True)
    out = F.batch_norm(x, mean, var, training=True)
    F.batch_norm(x, mean, var, training=True)       # moves the running statistics
    out.sum().backward()


ONE = np.ones((2, 4, 3))
ERRORS = [
    (lambda x: F.layer_norm(x, ()), RuntimeError, "at least 1-dimensional"),
    (lambda x: F.layer_norm(x, (4,)), RuntimeError, r"Given normalized_shape=\[4\]"),
    (lambda x: F.layer_norm(x, (3,), x[0]), RuntimeError, "Expected weight to be of same shape"),
    (lambda x: F.layer_norm(x, (3,), None, x[0]), RuntimeError, "Expected bias to be"),
    (lambda x: F.layer_norm(x.long(), (3,)), NotImplementedError, "not implemented"),
    (lambda x: F.rms_norm(x, (2, 2)), RuntimeError, "Given normalized_shape="),
    (lambda x: F.batch_norm(x, x[0, 0], None), RuntimeError, "running_mean should contain 4"),
    (lambda x: F.batch_norm(x, None, None), RuntimeError, "running_mean to be defined"),
    (lambda x: F.batch_norm(x, None, None, x[0, 0], None, True), RuntimeError, "weight should"),
    (lambda x: F.batch_norm(x[:1, :, 0], None, None, training=True), ValueError,
     "more than 1 value per channel"),
    (lambda x: F.group_norm(x, 3), RuntimeError, "divisible by num_groups"),
    (lambda x: F.group_norm(x[0, 0], 1), RuntimeError, "at least 2 dimensions"),
    (lambda x: F.group_norm(x[:1, :, :1], 4), ValueError, "more than 1 value per channel"),
    (lambda x: F.instance_norm(x[:, :, :1]), ValueError, "more than 1 spatial element"),
    (lambda x: F.local_response_norm(x[0], 2), ValueError, "Expected 3D or higher"),
]


@pytest.mark.parametrize("case", range(len(ERRORS)))
def test_errors(case):
    call, kind, words = ERRORS[case]
    with pytest.raises(kind, match=words):
        call(tensor(ONE))
