"""3x3 convolution by minimal filtering: its errors, its edges, and that it is used at all."""
import numpy as np
import pytest
from test_convolution import reference

import ntorch
from ntorch.nn import functional as F
from ntorch.ops import contraction, convolution, ops, winograd

# images, channels, filters, image, padding
SHAPES = [
    (4, 16, 16, (12, 12), (1, 1)),
    (2, 33, 40, (17, 23), (0, 0)),
    (2, 20, 70, (16, 37), (2, 1)),
    (9, 64, 96, (7, 7), (1, 1)),
    (70, 24, 17, (4, 3), (1, 1)),
    (1, 300, 16, (24, 25), (1, 0)),
]
every = pytest.mark.parametrize("shape", SHAPES, ids=str)


def operands(shape):
    """Image, filters, and a gradient of the result, in float32."""
    n, c, o, image, padding = shape
    rng = np.random.default_rng(sum(image))
    grid = [i + 2 * p - 2 for i, p in zip(image, padding, strict=True)]
    return [rng.standard_normal(s).astype(np.float32) for s in (
        (n, c, *image), (o, c, 3, 3), (n, o, *grid))]


def products(arrays, padding):
    """Forward, input gradient, weight gradient."""
    x, w, g = map(ntorch.from_numpy, arrays)
    rest = ((1, 1), padding, (1, 1), 1)
    return [ops._convolution(x, w, None, *rest),
            ops._conv_input(g, w, None, x.shape[2:], *rest),
            ops._conv_weight(x, g, (3, 3), *rest)]


@pytest.fixture
def used(monkeypatch):
    """Names of the products that were done by minimal filtering."""
    names = []
    for name in ("convolve", "weight_gradient"):
        function = getattr(winograd, name)
        monkeypatch.setattr(winograd, name, lambda *a, name=name, function=function: (
            names.append(name), function(*a))[1])
    return names


def direct(arrays, padding, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(winograd, "sizes_of", lambda *a: None)
        return products(arrays, padding)


@every
def test_error_is_that_of_direct_sums(shape, used, monkeypatch):
    """The documented bound: root mean square error at most 3 times that of the sum in float32 as
    the definition has it, largest error at most 4 eps times the largest sum of magnitudes."""
    arrays, padding = operands(shape), shape[4]
    got = products(arrays, padding)
    assert used == ["convolve", "convolve", "weight_gradient"]
    plain = direct(arrays, padding, monkeypatch)
    exact = products([a.astype(np.float64) for a in arrays], padding)
    bound = products([np.abs(a).astype(np.float64) for a in arrays], padding)
    for result, simple, wanted, most in zip(got, plain, exact, bound, strict=True):
        error = np.abs(result.numpy() - wanted.numpy())
        other = np.abs(simple.numpy() - wanted.numpy())
        assert error.max() <= 4 * np.finfo(np.float32).eps * most.numpy().max()
        assert np.sqrt((error ** 2).mean()) <= 3 * np.sqrt((other ** 2).mean())


def test_definition_and_bias():
    """Against the sum written out, with a bias."""
    shape = (2, 16, 18, (17, 16), (1, 2))
    x, w, _ = operands(shape)
    b = np.random.default_rng(1).standard_normal(18).astype(np.float32)
    got = F.conv2d(*map(ntorch.from_numpy, (x, w, b)), padding=shape[4])
    wanted = reference(*(a.astype(np.float64) for a in (x, w, b)), (1, 1), shape[4], (1, 1), 1)
    np.testing.assert_allclose(got.numpy(), wanted, rtol=0, atol=1e-4)


@every
def test_threads_do_not_change_bits(shape):
    arrays, before, found = operands(shape), ntorch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            ntorch.set_num_threads(threads)
            found.append(products(arrays, shape[4]))
    finally:
        ntorch.set_num_threads(before)
    for results in zip(*found, strict=True):
        assert all(ntorch.equal(results[0], r) for r in results[1:])


@pytest.mark.parametrize("target", ["avx2", "neon", "portable"])
def test_other_register_tiles(target):
    shape = SHAPES[1]
    arrays = operands(shape)
    wanted = products([a.astype(np.float64) for a in arrays], shape[4])
    try:
        contraction.set_target(target)
        got = products(arrays, shape[4])
    finally:
        contraction.set_target(None)
    for result, exact in zip(got, wanted, strict=True):
        np.testing.assert_allclose(result.numpy(), exact.numpy(), rtol=0, atol=2e-4)


def test_what_it_is_for():
    """Not for float64, other kernels and strides, groups, few channels, few positions."""
    def suits(n=8, c=32, o=32, image=(16, 16), kernel=(3, 3), stride=(1, 1), padding=(1, 1),
              dilation=(1, 1), groups=1, dtype=ntorch.float32):
        grid = tuple((i + 2 * p - d * (k - 1) - 1) // s + 1 for i, k, s, p, d in zip(
            image, kernel, stride, padding, dilation, strict=True))
        geometry = convolution.Geometry((1, *kernel), (1, *stride), (0, *padding), (1, *dilation),
                                        (1, *image), (1, *grid))
        return winograd.sizes_of(geometry, n, c, o, groups, dtype) is not None
    assert suits()
    for other in ({"dtype": ntorch.float64}, {"kernel": (3, 1)}, {"kernel": (5, 5)},
                  {"stride": (2, 1)}, {"dilation": (2, 2)}, {"groups": 2}, {"c": 4}, {"o": 4},
                  {"n": 1}):
        assert not suits(**other), other


def test_compiled_with_its_tail():
    """A recorded program runs it, with what follows computed by its epilogue."""
    x, w, b, r = (ntorch.randn(*s) for s in ((4, 16, 15, 13), (24, 16, 3, 3), (24,),
                                             (4, 24, 15, 13)))

    def block(x, w, b, r):
        return F.relu(F.conv2d(x, w, b, padding=1) * 0.5 + r)
    compiled = ntorch.compile(block)
    for _ in range(3):
        x.add_(1)
        np.testing.assert_allclose(compiled(x, w, b, r).numpy(), block(x, w, b, r).numpy(),
                                   rtol=1e-6, atol=1e-5)


def test_compiled_gradients():
    x, w = ntorch.randn(4, 16, 15, 13), ntorch.randn(24, 16, 3, 3).requires_grad_()

    def step(x):
        a = x.detach().requires_grad_()
        return ntorch.autograd.grad((F.conv2d(a, w, padding=1) ** 2).sum(), (a, w))
    for got, wanted in zip(ntorch.compile(step)(x), step(x), strict=True):
        np.testing.assert_allclose(got.numpy(), wanted.numpy(), rtol=1e-5, atol=1e-2)


def defined(arrays, padding):
    """``products`` by their definition in float64, where padding adds nothing."""
    x, w, g = (a.astype(np.float64) for a in arrays)
    out, of_x, of_w = np.zeros(g.shape), np.zeros(x.shape), np.zeros(w.shape)
    for ky, kx in np.ndindex(3, 3):
        spans = []
        for k, p, size, grid in zip((ky, kx), padding, x.shape[2:], g.shape[2:], strict=True):
            first, last = max(0, p - k), min(grid, size + p - k)
            spans.append((slice(first, last), slice(first + k - p, last + k - p)))
        (oy, iy), (ox, ix) = spans
        seen, grad = x[:, :, iy, ix], g[:, :, oy, ox]
        with np.errstate(invalid="ignore"):
            for c, o in np.ndindex(x.shape[1], w.shape[0]):     # sums of products, nothing else
                out[:, o, oy, ox] += seen[:, c] * w[o, c, ky, kx]
                of_x[:, c, iy, ix] += grad[:, o] * w[o, c, ky, kx]
                of_w[o, c, ky, kx] = (seen[:, c] * grad[:, o]).sum()
    return out, of_x, of_w


@pytest.mark.parametrize("shape", [SHAPES[1], SHAPES[2], SHAPES[4]], ids=str)
@pytest.mark.parametrize("where", range(3), ids=["image", "filters", "gradient"])
def test_infinities_and_nan_go_where_the_definition_has_them(shape, where, used):
    arrays, padding = operands(shape), shape[4]
    changed, rng = arrays[where], np.random.default_rng(5)
    corners = [tuple(0 for _ in changed.shape), tuple(-1 for _ in changed.shape)]
    for k, value in enumerate((np.inf, -np.inf, np.nan, np.inf, 0.0)):
        place = corners[k] if k < 2 else tuple(rng.integers(changed.shape))
        changed[place] = value
    for got, wanted in zip(products(arrays, padding), defined(arrays, padding), strict=True):
        np.testing.assert_allclose(got.numpy(), wanted, rtol=1e-4, atol=1e-3)
    assert used == ["convolve", "convolve", "weight_gradient"]


def test_large_numbers_whose_sums_do_not_overflow(used):
    shape = SHAPES[2]
    arrays = operands(shape)
    arrays[0][0, 0, 3:5, 3:7] = 3e38
    arrays[1] *= 1e-3
    got, wanted = products(arrays, shape[4]), defined(arrays, shape[4])
    assert np.isfinite(wanted[0]).all() and np.abs(wanted[0]).max() < 3e38
    np.testing.assert_allclose(got[0].numpy(), wanted[0], rtol=1e-4, atol=1e33)


def test_infinities_under_an_epilogue():
    """What follows in a program sees the sums that were computed again."""
    x, w = ntorch.randn(4, 16, 15, 13), ntorch.randn(24, 16, 3, 3)
    x[1, 2, 7, 6] = float("-inf")

    def block(x, w):
        return F.relu(F.conv2d(x, w, padding=1))
    got = ntorch.compile(block)(x, w).numpy()
    wanted = np.maximum(defined([x.numpy(), w.numpy(), np.zeros((4, 24, 15, 13))], (1, 1))[0], 0)
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-4)
    assert np.isinf(got).any() and np.isfinite(got).mean() > 0.99
