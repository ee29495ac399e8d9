"""Pooling against loops over windows in float64 NumPy, gradients to second order, and errors."""
import itertools
import math

import numpy as np
import pytest

import ntorch
from ntorch.autograd import gradcheck, gradgradcheck
from ntorch.nn import functional as F
from ntorch.ops.entries import pooling_tiles

RNG = np.random.default_rng(3)
SIZES = {1: (11,), 2: (9, 8), 3: (6, 5, 7)}
# kernel, stride, padding, dilation, ceil_mode
WINDOWS = [(2, None, 0, 1, False), (3, 2, 1, 1, False), (3, 2, 1, 1, True), (2, 1, 1, 2, False),
           (3, 3, 0, 1, True), (1, 1, 0, 1, False), (4, 3, 2, 1, True)]
LARGE = [(6, 1, 3, 1, False)]       # too many taps to unroll in 2 and 3 dimensions


def draw(*shape, dtype=np.float64):
    return RNG.standard_normal(shape).astype(dtype)


def windows(size, kernel, stride, padding, dilation, ceil_mode):
    """Positions of each window along one dimension, those outside included."""
    room = size + 2 * padding - dilation * (kernel - 1) - 1
    count = (math.ceil(room / stride) if ceil_mode else room // stride) + 1
    if ceil_mode and (count - 1) * stride >= size + padding:
        count -= 1
    return [[o * stride - padding + k * dilation for k in range(kernel)] for o in range(count)]


def pool(x, n, parts, value):
    """``value(plane, positions inside)`` for every window of the last ``n`` dimensions."""
    lead, spatial = x.shape[:-n], x.shape[-n:]
    out = np.empty((*lead, *(len(p) for p in parts)), object)
    for place in np.ndindex(*lead):
        for index in np.ndindex(*out.shape[len(lead):]):
            taps = itertools.product(*(p[i] for p, i in zip(parts, index, strict=True)))
            inside = [t for t in taps
                      if all(0 <= a < s for a, s in zip(t, spatial, strict=True))]
            out[place + index] = value(x[place], inside)
    return out


def largest(plane, inside):
    best = inside[0]
    for t in inside:
        if plane[t] > plane[best] or np.isnan(plane[t]):
            best = t
    return plane[best], int(np.ravel_multi_index(best, plane.shape))


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("window, dtype", [
    *((w, "float64") for w in WINDOWS + LARGE), *((w, "float32") for w in WINDOWS[1:4])])
def test_max_pool(n, window, dtype):
    kernel, stride, padding, dilation, ceil_mode = window
    x = draw(2, 3, *SIZES[n], dtype=dtype)
    x[0, 0].flat[:9] = 1.5                      # ties: the first wins
    x[1, 2].flat[5] = np.nan
    parts = [windows(s, kernel, stride or kernel, padding, dilation, ceil_mode) for s in SIZES[n]]
    want = pool(x, n, parts, largest)
    value = np.vectorize(lambda pair: pair[0], otypes=[dtype])(want)
    index = np.vectorize(lambda pair: pair[1], otypes=[np.int64])(want)
    function = getattr(F, f"max_pool{n}d")
    out, where = function(ntorch.from_numpy(x), kernel, stride, padding, dilation, ceil_mode,
                          return_indices=True)
    assert out.dtype is getattr(ntorch, dtype) and where.dtype is ntorch.int64
    np.testing.assert_array_equal(out.numpy(), value)
    np.testing.assert_array_equal(where.numpy(), index)
    alone = function(ntorch.from_numpy(x[1]), kernel, stride, padding, dilation, ceil_mode)
    np.testing.assert_array_equal(alone.numpy(), value[1])


@pytest.mark.parametrize("dtype", ["int64", "int32", "uint8", "float16", "bfloat16"])
def test_max_pool_of_other_types(dtype):
    x = RNG.integers(0, 100, (2, 3, 7, 7)).astype(np.int64)
    want = F.max_pool2d(ntorch.from_numpy(x.astype(np.float64)), 3, 2, 1)
    out = F.max_pool2d(ntorch.from_numpy(x).to(getattr(ntorch, dtype)), 3, 2, 1)
    assert out.dtype is getattr(ntorch, dtype)
    assert out.to(ntorch.float64).tolist() == want.tolist()


def test_max_pool_of_a_strided_input_and_of_infinities():
    x = draw(2, 6, 5, 4).transpose(0, 3, 1, 2)
    strided = ntorch.from_numpy(x)
    same = F.max_pool2d(ntorch.from_numpy(np.ascontiguousarray(x)), 2)
    np.testing.assert_array_equal(F.max_pool2d(strided, 2).numpy(), same.numpy())
    low = ntorch.full((1, 1, 4, 4), -math.inf)
    out, index = F.max_pool2d(low, 2, return_indices=True)
    assert out.tolist() == [[[[-math.inf] * 2] * 2]] and index.tolist() == [[[[0, 2], [8, 10]]]]


def indexed(n, x, kernel):
    """The pooling with indices, which knows no tiles."""
    return getattr(F, f"max_pool{n}d")(x, kernel, return_indices=True)[0]


def tiled_input(shape, dtype):
    x = RNG.integers(-3, 3, shape).astype(np.float32)       # ties everywhere
    flat = x.reshape(-1)
    flat[::7], flat[3::11] = np.nan, -np.inf
    flat[-5:] = -np.inf
    return ntorch.from_numpy(x).to(dtype)


@pytest.mark.parametrize("n, kernel", [(1, 1), (1, 2), (1, 3), (1, 4), (2, (2, 1)), (2, (1, 2)),
                                       (2, 2), (2, (3, 2)), (2, 3), (2, (2, 4)), (3, 2),
                                       (3, (1, 2, 3)), (3, (3, 1, 2)), (3, (4, 4, 4))])
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
def test_tiles_are_what_the_general_form_makes_of_them(n, kernel, dtype):
    dtype = getattr(ntorch, dtype)
    for width in (4, 5, 8, 15, 16, 31, 33, 70, 127):        # less than a vector, and several
        x = tiled_input((2, 2, *(7, 9)[3 - n:], width), dtype).requires_grad_()
        found, want = getattr(F, f"max_pool{n}d")(x, kernel), indexed(n, x, kernel)
        assert found.grad_fn.name() == want.grad_fn.name() and found.dtype is dtype
        np.testing.assert_array_equal(found.detach().double().numpy(),
                                      want.detach().double().numpy())
        grad = ntorch.from_numpy(draw(*found.shape)).to(dtype)
        first, second = (ntorch.autograd.grad(y, x, grad)[0].double().numpy()
                         for y in (found, want))
        np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("n, kernel", [(1, 2), (1, 3), (2, (2, 1)), (2, 2), (2, (3, 4)), (3, 2),
                                       (3, (2, 1, 3))])
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize("divisor", [None, 3])
def test_means_of_tiles(n, kernel, dtype, divisor, monkeypatch):
    more = {"divisor_override": divisor} if n > 1 else {}
    for width in (4, 7, 16, 33, 70):
        x = draw(2, 3, *(6, 5)[3 - n:], width)
        x.reshape(-1)[::5], x.reshape(-1)[3::17] = -0.0, np.inf
        x = ntorch.from_numpy(x).to(getattr(ntorch, dtype)).requires_grad_()
        found = []
        for tile in (pooling_tiles.tile, lambda *form: False):
            monkeypatch.setattr(pooling_tiles, "tile", tile)
            out = getattr(F, f"avg_pool{n}d")(x, kernel, **more)
            grad, = ntorch.autograd.grad(out, x, out.detach() - 1)
            found.append((out.detach().numpy(), grad.numpy()))
            monkeypatch.undo()
        for a, b in zip(*found, strict=True):
            np.testing.assert_array_equal(a, b)


def test_which_windows_are_tiles():
    x = tiled_input((2, 3, 9, 10), ntorch.float32)
    for kernel, stride, padding, ceil in (((3, 2), None, 0, True), ((2, 2), None, 0, True),
                                          ((3, 2), 2, 0, False), ((2, 2), None, 1, False),
                                          ((9, 10), None, 0, False), ((2, 5), None, 0, False)):
        alone = F.max_pool2d(x, kernel, stride, padding, 1, ceil)
        both, _ = F.max_pool2d(x, kernel, stride, padding, 1, ceil, return_indices=True)
        np.testing.assert_array_equal(alone.numpy(), both.numpy())
    turned = x.transpose(2, 3)
    np.testing.assert_array_equal(F.max_pool2d(turned, (2, 3)).numpy(),
                                  F.max_pool2d(x, (3, 2)).numpy().transpose(0, 1, 3, 2))


def test_a_compiled_step_pools_as_eager_does():
    x = tiled_input((4, 3, 13, 22), ntorch.float32)

    def step(x):
        x = x.detach().requires_grad_()
        y = F.max_pool2d(F.max_pool2d(x, 2), (2, 3), ceil_mode=True)
        grad, = ntorch.autograd.grad((y * y).sum(), x)
        return y.detach(), grad

    for found, want in zip(ntorch.compile(step)(x), step(x), strict=True):
        np.testing.assert_array_equal(found.numpy(), want.numpy())
    with ntorch.no_grad():
        np.testing.assert_array_equal(ntorch.compile(lambda x: F.max_pool2d(x, 2))(x).numpy(),
                                      F.max_pool2d(x, 2).numpy())


def mean_of(count_include_pad, override, parts, spatial, padding):
    def size(index):
        if override:
            return override
        sizes = [sum(a < s + padding for a in p[i]) if count_include_pad
                 else sum(0 <= a < s for a in p[i])
                 for p, i, s in zip(parts, index, spatial, strict=True)]
        return math.prod(sizes)
    return size


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("window", [w for w in WINDOWS + LARGE if w[3] == 1])
@pytest.mark.parametrize("include, override", [(True, None), (False, None), (True, 5)])
def test_avg_pool(n, window, include, override):
    kernel, stride, padding, _, ceil_mode = window
    if n == 1 and override:
        return
    x = draw(2, 2, *SIZES[n])
    parts = [windows(s, kernel, stride or kernel, padding, 1, ceil_mode) for s in SIZES[n]]
    total = pool(x, n, parts, lambda plane, inside: sum(plane[t] for t in inside)).astype(float)
    size = mean_of(include, override, parts, SIZES[n], padding)
    counts = np.array([size(i) for i in np.ndindex(*total.shape[2:])]).reshape(total.shape[2:])
    more = {"divisor_override": override} if n > 1 else {}
    for dtype, tolerance in ((ntorch.float64, 1e-13), (ntorch.float32, 2e-6)):
        out = getattr(F, f"avg_pool{n}d")(ntorch.from_numpy(x).to(dtype), kernel, stride, padding,
                                          ceil_mode, include, **more)
        assert out.dtype is dtype
        np.testing.assert_allclose(out.numpy(), total / counts, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("n, output", [(1, (4,)), (1, (1,)), (2, (4, 3)), (2, (1, 1)), (2, (12, 2)),
                                       (3, (2, 3, 4)), (3, (1, 1, 1))])
def test_adaptive_pool(n, output):
    x = draw(2, 3, *SIZES[n])
    x[1, 1].flat[4] = np.nan
    parts = [[list(range(i * s // o, -(-(i + 1) * s // o))) for i in range(o)]
             for s, o in zip(SIZES[n], output, strict=True)]
    mean = pool(x, n, parts, lambda plane, inside: np.mean([plane[t] for t in inside]))
    out = getattr(F, f"adaptive_avg_pool{n}d")(ntorch.from_numpy(x), output)
    np.testing.assert_allclose(out.numpy(), mean.astype(float), rtol=1e-13, atol=1e-14)
    want = pool(x, n, parts, largest)
    out, index = getattr(F, f"adaptive_max_pool{n}d")(ntorch.from_numpy(x), output, True)
    np.testing.assert_array_equal(out.numpy(), np.vectorize(lambda p: p[0], otypes=[float])(want))
    np.testing.assert_array_equal(index.numpy(), np.vectorize(lambda p: p[1], otypes=[int])(want))


def test_adaptive_pool_keeps_a_size_of_none():
    assert F.adaptive_avg_pool2d(ntorch.zeros(1, 2, 5, 6), (None, 2)).shape == (1, 2, 5, 2)
    assert F.adaptive_max_pool2d(ntorch.zeros(2, 5, 6), 3).shape == (2, 3, 3)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_max_unpool_inverts(n):
    x = ntorch.from_numpy(draw(2, 3, *SIZES[n]))
    out, index = getattr(F, f"max_pool{n}d")(x, 2, return_indices=True)
    back = getattr(F, f"max_unpool{n}d")(out, index, 2, output_size=x.shape)
    assert back.shape == x.shape
    kept = back.numpy() != 0
    assert kept.sum() == out.numel()
    np.testing.assert_array_equal(back.numpy()[kept], x.numpy()[kept])


def power_mean(x):
    return F.lp_pool2d(x.abs() + 0.5, 3, 2)


GRADIENTS = {
    "max1": (lambda x: F.max_pool1d(x, 3, 2, 1), (2, 2, 7)),
    "max2": (lambda x: F.max_pool2d(x, 3, 2, 1), (1, 2, 6, 5)),
    "max2 dilated": (lambda x: F.max_pool2d(x, 2, 1, 1, 2), (1, 1, 5, 5)),
    "max3": (lambda x: F.max_pool3d(x, 2, 1), (1, 1, 3, 4, 3)),
    "tiles1": (lambda x: F.max_pool1d(x, 3), (2, 2, 7)),
    "tiles2": (lambda x: F.max_pool2d(x, (3, 2)), (2, 2, 7, 5)),
    "tiles3": (lambda x: F.max_pool3d(x, 2), (1, 2, 3, 4, 5)),
    "avg1": (lambda x: F.avg_pool1d(x, 3, 2, 1, True, False), (2, 2, 7)),
    "avg2": (lambda x: F.avg_pool2d(x, 3, 2, 1, True), (1, 2, 6, 5)),
    "avg2 override": (lambda x: F.avg_pool2d(x, 2, divisor_override=3), (1, 1, 4, 5)),
    "avg3": (lambda x: F.avg_pool3d(x, 2, 1, 1), (1, 1, 3, 2, 3)),
    "avg tiles": (lambda x: F.avg_pool2d(x, (3, 2), divisor_override=5), (2, 2, 7, 5)),
    "lp1": (lambda x: F.lp_pool1d(x.abs() + 0.5, 2, 3, 1), (1, 2, 6)),
    "lp2": (power_mean, (1, 1, 4, 4)),
    "lp3": (lambda x: F.lp_pool3d(x.abs() + 0.5, 2, 2), (1, 1, 2, 4, 2)),
    "adaptive avg2": (lambda x: F.adaptive_avg_pool2d(x, (3, 2)), (2, 2, 5, 5)),
    "adaptive avg3": (lambda x: F.adaptive_avg_pool3d(x, 1), (1, 2, 2, 3, 2)),
    "adaptive max1": (lambda x: F.adaptive_max_pool1d(x, 3), (2, 2, 7)),
    "adaptive max2": (lambda x: F.adaptive_max_pool2d(x, 2), (2, 5, 5)),
    "unpool": (lambda x: F.max_unpool2d(
        x, ntorch.tensor([[[[0, 3], [9, 14]]]]), 2, output_size=(4, 4)), (1, 1, 2, 2)),
}


@pytest.mark.parametrize("case", GRADIENTS)
def test_gradients(case):
    function, shape = GRADIENTS[case]
    # values far apart, so that a finite difference changes no maximum
    x = ntorch.from_numpy((RNG.permutation(math.prod(shape)).reshape(shape) + 1) / 7.0)
    x.requires_grad_()
    assert gradcheck(function, (x,))
    assert gradgradcheck(function, (x,))


def test_batch_of_none():
    x = ntorch.zeros(0, 3, 8, 8, requires_grad=True)
    for out in (F.max_pool2d(x, 2), F.avg_pool2d(x, 2), F.adaptive_avg_pool2d(x, 4),
                F.adaptive_max_pool2d(x, 4)):
        assert out.shape == (0, 3, 4, 4)
        out.sum().backward()
    assert x.grad.shape == x.shape


def test_the_same_bits_for_any_number_of_threads():
    x = ntorch.from_numpy(draw(64, 8, 20, 20, dtype=np.float32)).requires_grad_()
    found = []
    for threads in (1, 2):
        ntorch.set_num_threads(threads)
        out = F.avg_pool2d(F.max_pool2d(F.max_pool2d(x, 3, 2, 1), 2), 3, 1, 1)
        grad, = ntorch.autograd.grad((out * out).sum(), x)
        found.append((out.detach().numpy().tobytes(), grad.numpy().tobytes()))
    assert found[0] == found[1]


ERRORS = [
    (lambda x: F.max_pool2d(x, 0), RuntimeError, "kernel size must be greater than zero"),
    (lambda x: F.max_pool2d(x, 2, 0), RuntimeError, "stride must be greater than zero"),
    (lambda x: F.max_pool2d(x, 2, 1, 0, 0), RuntimeError, "dilation must be greater than zero"),
    (lambda x: F.max_pool2d(x, 2, 1, -1), RuntimeError, "pad must be non-negative"),
    (lambda x: F.max_pool2d(x, 2, 1, 2), RuntimeError, "at most half of effective kernel size"),
    (lambda x: F.max_pool2d(x, 9), RuntimeError, "Output size is too small"),
    (lambda x: F.max_pool2d(x, (2, 2, 2)), RuntimeError, "tuple of two ints"),
    (lambda x: F.max_pool2d(x[0, 0], 2), RuntimeError, "Expected 3D or 4D"),
    (lambda x: F.max_pool3d(x[:, 0], 2), RuntimeError, "Expected 4D or 5D"),
    (lambda x: F.max_pool2d(x[:, :0], 2), RuntimeError, "Expected 3D or 4D"),
    (lambda x: F.max_pool2d(x > 0, 2), RuntimeError, "not implemented"),
    (lambda x: F.max_pool2d(x, 2.5), TypeError, "must be int"),
    (lambda x: F.avg_pool2d(x, 2, divisor_override=0), RuntimeError, "divisor must be not zero"),
    (lambda x: F.adaptive_avg_pool2d(x, (-1, 2)), RuntimeError, "greater than or equal to 0"),
    (lambda x: F.adaptive_avg_pool2d(x, (1, 2, 3)), RuntimeError, "should contain 2 ints"),
    (lambda x: F.adaptive_avg_pool2d(x > 0, 2), RuntimeError, "not implemented"),
    (lambda x: F.max_unpool2d(x, ntorch.full((1, 2, 4, 4), 64), 2), RuntimeError,
     "invalid max index: 64"),
    (lambda x: F.max_unpool2d(x, ntorch.full((1, 2, 4, 4), -1), 2), RuntimeError,
     "invalid max index: -1"),
    (lambda x: F.max_unpool2d(x, ntorch.zeros(1, 2, 4, 4), 2), RuntimeError, "type int64"),
    (lambda x: F.max_unpool2d(x, ntorch.zeros(1, 2, 4, 3).long(), 2), RuntimeError, "same as that"),
    (lambda x: F.max_unpool2d(x, ntorch.zeros(1, 2, 4, 4).long(), 2, output_size=(20, 8)),
     ValueError, "invalid output_size"),
]


@pytest.mark.parametrize("case", range(len(ERRORS)))
def test_errors(case):
    call, kind, words = ERRORS[case]
    with pytest.raises(kind, match=words):
        call(ntorch.ones(1, 2, 4, 4))
