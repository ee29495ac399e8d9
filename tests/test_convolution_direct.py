"""Convolution straight from the image: its cuts and edges, infinities, and when it is chosen."""
import numpy as np
import pytest
from test_convolution import GEOMETRIES, reference

import ntorch
from ntorch.autograd import gradcheck, gradgradcheck
from ntorch.nn import functional as F
from ntorch.ops import contraction, conv_direct, conv_direct_weight, ops
from ntorch.ops.entries.convolution import geometry_of, output_size

# rows longer and shorter than a vector, boxes of one row, rows that are cut, more taps than image
EDGES = [
    (2, 1, 6, 1, (28, 28), (5, 5), (1, 1), (2, 2), (1, 1)),
    (3, 6, 16, 1, (14, 14), (5, 5), (1, 1), (0, 0), (1, 1)),
    (1, 3, 9, 1, (37, 33), (7, 7), (2, 2), (3, 3), (1, 1)),
    (2, 2, 3, 2, (1, 1), (3, 3), (1, 1), (1, 1), (1, 1)),
    (2, 2, 3, 1, (2, 65), (1, 4), (1, 5), (0, 2), (1, 3)),
    (1, 2, 3, 1, (5000,), (3,), (1,), (1,), (2,)),
    (2, 1, 1, 5, (8, 9), (3, 3), (1, 1), (1, 1), (1, 1)),
    (1, 2, 3, 1, (4, 3), (2, 2), (1, 1), (3, 3), (1, 1)),
    (2, 2, 3, 1, (5, 4, 17), (2, 3, 2), (2, 1, 1), (1, 2, 0), (1, 1, 1)),
]


@pytest.fixture
def forced(monkeypatch):
    """Everything goes the direct way."""
    monkeypatch.setattr(conv_direct, "suits", lambda *a: True)
    monkeypatch.setattr(conv_direct_weight, "suits_weight", lambda *a: True)


def three(geometry, arrays):
    """Forward, input gradient and weight gradient."""
    x, w, g = map(ntorch.from_numpy, arrays)
    _, _, _, groups, _, kernel, *rest = geometry
    return [ops._convolution(x, w, None, *rest, groups),
            ops._conv_input(g, w, None, tuple(x.shape[2:]), *rest, groups),
            ops._conv_weight(x, g, kernel, *rest, groups)]


def arrays_of(geometry, dtype):
    n, c, o, groups, image, kernel, stride, padding, dilation = geometry
    if (c, o) != (c // groups * groups, o // groups * groups):      # channels given for a group
        c, o = c * groups, o * groups
    rng = np.random.default_rng(sum(image))
    grid = [(i + 2 * p - d * (k - 1) - 1) // s + 1 for i, p, d, k, s in zip(
        image, padding, dilation, kernel, stride, strict=True)]
    return [rng.standard_normal(s).astype(dtype) for s in (
        (n, c, *image), (o, c // groups, *kernel), (n, o, *grid))]


@pytest.mark.parametrize("small", [False, True], ids=["cached", "cut"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("geometry", GEOMETRIES + EDGES, ids=str)
def test_three_products(geometry, dtype, small, forced, monkeypatch):
    """All are held to the forward sum of the definition: its gradients are its adjoints."""
    if small:
        monkeypatch.setattr(conv_direct, "BOX_BYTES", 1024)
        monkeypatch.setattr(conv_direct_weight, "BOX_BYTES", 1024)
        conv_direct._cut.cache_clear()
        conv_direct_weight._weight_cut.cache_clear()
    arrays = x, w, g = arrays_of(geometry, dtype)
    y, gx, gw = (t.numpy().astype(np.float64) for t in three(geometry, arrays))
    wide = [a.astype(np.float64) for a in arrays]
    _, _, _, groups, _, _, *rest = geometry
    tolerance = 3e-5 if dtype == np.float32 else 1e-12

    def sums(image, weight):
        return reference(image, weight, np.zeros(len(weight)), *rest, groups)
    expected = sums(wide[0], wide[1])
    assert np.abs(y - expected).max() <= tolerance * max(1, np.abs(expected).max())
    rng = np.random.default_rng(0)
    other, weight = rng.standard_normal(x.shape), rng.standard_normal(w.shape)
    scale = np.sqrt(g.size) * np.sqrt(w[0].size) * 4
    assert abs((gx * other).sum() - (wide[2] * sums(other, wide[1])).sum()) <= tolerance * scale
    assert abs((gw * weight).sum() - (wide[2] * sums(wide[0], weight)).sum()) <= tolerance * scale
    conv_direct._cut.cache_clear()
    conv_direct_weight._weight_cut.cache_clear()


@pytest.mark.parametrize("target", ["avx2", "portable"])
def test_other_register_tiles(target, forced):
    geometry = EDGES[1]
    arrays = arrays_of(geometry, np.float32)
    before = three(geometry, arrays)
    contraction.set_target(target)
    conv_direct._cut.cache_clear()
    conv_direct_weight._weight_cut.cache_clear()
    try:
        after = three(geometry, arrays)
    finally:
        contraction.set_target(None)
        conv_direct._cut.cache_clear()
        conv_direct_weight._weight_cut.cache_clear()
    for a, b in zip(before, after, strict=True):
        np.testing.assert_allclose(b.numpy(), a.numpy(), rtol=1e-5, atol=1e-4)


def test_threads_do_not_change_bits(forced):
    geometry = (24, 3, 10, 1, (30, 30), (3, 3), (1, 1), (1, 1), (1, 1))
    arrays, found, count = arrays_of(geometry, np.float32), [], ntorch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            ntorch.set_num_threads(threads)
            found.append([t.numpy().tobytes() for t in three(geometry, arrays)])
    finally:
        ntorch.set_num_threads(count)
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("bad", [np.inf, np.nan])
def test_what_is_not_finite_lands_where_the_definition_puts_it(bad, forced):
    """Beyond a row's end the gradient is padded with zeros, which no infinity may meet."""
    geometry = (1, 2, 3, 1, (6, 9), (3, 3), (1, 1), (0, 0), (1, 1))
    x, w, g = arrays_of(geometry, np.float32)
    x[0, 1, 0, 8] = bad                     # a corner: only the last tap of the first row sees it
    y, _, gw = (t.numpy() for t in three(geometry, (x, w, g)))
    seen = np.zeros(y.shape, bool)
    seen[0, :, 0, 6] = True
    np.testing.assert_array_equal(~np.isfinite(y), seen)
    taps = np.zeros(gw.shape, bool)
    taps[:, 1, 0, 2] = True
    np.testing.assert_array_equal(~np.isfinite(gw), taps)


def test_the_matrix_product_keeps_infinities_in_their_taps(monkeypatch):
    monkeypatch.setattr(conv_direct_weight, "suits_weight", lambda *a: False)
    geometry = (1, 2, 3, 1, (6, 9), (3, 3), (1, 1), (0, 0), (1, 1))
    x, w, g = arrays_of(geometry, np.float32)
    x[0, 1, 0, 8] = np.inf
    gw = three(geometry, (x, w, g))[2].numpy()
    taps = np.zeros(gw.shape, bool)
    taps[:, 1, 0, 2] = True
    np.testing.assert_array_equal(~np.isfinite(gw), taps)


def test_gradients_to_second_order(forced):
    rng = np.random.default_rng(1)
    x, w, b = (ntorch.from_numpy(rng.standard_normal(s)).requires_grad_() for s in (
        (2, 4, 5, 6), (4, 2, 3, 2), (4,)))

    def function(*a):
        return F.conv2d(*a, stride=(2, 1), padding=1, groups=2)
    assert gradcheck(function, (x, w, b)) and gradgradcheck(function, (x, w, b))


def test_views_and_empty_batches(forced):
    x, w = ntorch.randn(12, 10, 3, 2).permute(3, 2, 1, 0), ntorch.randn(3, 3, 4, 3).transpose(2, 3)
    assert ntorch.equal(F.conv2d(x, w), F.conv2d(x.contiguous(), w.contiguous()))
    none = ntorch.zeros(0, 3, 10, 12, requires_grad=True)
    weight = w.contiguous().requires_grad_()
    y = F.conv2d(none, weight)
    y.sum().backward()
    assert y.shape == (0, 3, 8, 9) and not weight.grad.any() and none.grad.shape == none.shape


def test_choices():
    """Few channels go direct; many filters, and a single tap of many channels, do not."""
    def sweep(geometry):
        n, c, o, groups, image, *_ = geometry
        kernel, stride, padding, dilation = geometry[5:]
        grid = output_size(image, kernel, stride, padding, dilation)
        return conv_direct.forward_sweep(geometry_of(image, kernel, grid, stride, padding,
                                                     dilation), n, groups, c // groups, o // groups)
    ones = ((1, 1), (1, 1), (1, 1))
    assert conv_direct.suits(sweep((64, 1, 6, 1, (28, 28), (5, 5), *ones)), "f4")
    assert conv_direct_weight.suits_weight(sweep((64, 6, 16, 1, (14, 14), (5, 5), *ones)), "f4")
    assert not conv_direct.suits(sweep((8, 256, 64, 1, (28, 28), (1, 1), *ones)), "f4")
    assert not conv_direct.suits(sweep((8, 64, 128, 1, (28, 28), (3, 3), *ones)), "f4")
    assert not conv_direct_weight.suits_weight(sweep((8, 64, 64, 1, (28, 28), (3, 3), *ones)), "f4")
