"""softmax, log_softmax and softmin against float64 NumPy."""
import numpy as np
import pytest

import ntorch
from ntorch.autograd import gradcheck, gradgradcheck
from ntorch.nn import functional as F

RNG = np.random.default_rng(5)
SHAPES = [((4,), 0), ((5, 7), 1), ((5, 7), 0), ((3, 4, 5), 1), ((2, 9, 600), 1), ((3, 1000), -1),
          ((2, 1, 3), 1), ((), 0), ((0, 4), 1), ((4, 0), 0), ((3, 0), 1)]


def softmax(x, dim):
    if not x.ndim:
        return np.ones_like(x)
    if not x.size:
        return x
    e = np.exp(x - x.max(dim, keepdims=True))
    return e / e.sum(dim, keepdims=True)


def log_softmax(x, dim):
    if not x.ndim:
        return np.zeros_like(x)
    if not x.size:
        return x
    x = x - x.max(dim, keepdims=True)
    return x - np.log(np.exp(x).sum(dim, keepdims=True))


REFERENCE = {"softmax": softmax, "log_softmax": log_softmax}


@pytest.mark.parametrize("name", REFERENCE)
@pytest.mark.parametrize("shape, dim", SHAPES)
@pytest.mark.parametrize("dtype, tolerance", [
    ("float64", 1e-14), ("float32", 4e-6), ("float16", 2e-3), ("bfloat16", 2e-2)])
def test_values(name, shape, dim, dtype, tolerance):
    x = ntorch.from_numpy(np.asarray(8 * RNG.standard_normal(shape))).to(getattr(ntorch, dtype))
    exact = x.to(ntorch.float64).numpy()
    out = getattr(ntorch, name)(x, dim)
    assert out.shape == shape and out.dtype is x.dtype
    want = REFERENCE[name](exact, dim)
    np.testing.assert_allclose(out.to(ntorch.float64).numpy(), want, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", REFERENCE)
@pytest.mark.parametrize("dim", [0, 1])
def test_large_values_infinities_and_nan(name, dim):
    rows = np.array([[1e4, 1e4 - 1, -1e4, 0.0], [-np.inf, 0.0, 1.0, -np.inf],
                     [-np.inf] * 4, [np.nan, 0.0, 1.0, 2.0], [np.inf, 0.0, 1.0, 2.0]], np.float32)
    x = rows if dim == 1 else np.ascontiguousarray(rows.T)
    with np.errstate(invalid="ignore", divide="ignore"):
        want = REFERENCE[name](x.astype(np.float64), dim)
    out = getattr(ntorch, name)(ntorch.from_numpy(x), dim).numpy()
    np.testing.assert_array_equal(np.isnan(out), np.isnan(want))
    np.testing.assert_allclose(out, want, rtol=1e-6, atol=1e-37)
    if name == "softmax":       # what is masked by -inf is exactly 0, as attention needs
        assert (out[want == 0] == 0).all()


def test_strided_inputs_and_dtype():
    x = RNG.standard_normal((6, 5, 4)).astype(np.float32)
    turned = ntorch.from_numpy(x).permute(2, 0, 1)
    want = softmax(x.transpose(2, 0, 1).astype(np.float64), 1)
    np.testing.assert_allclose(turned.softmax(1).numpy(), want, rtol=4e-6)
    wide = ntorch.softmax(turned, 1, dtype=ntorch.float64)
    assert wide.dtype is ntorch.float64
    np.testing.assert_allclose(wide.numpy(), want, rtol=1e-12)
    whole = ntorch.log_softmax(ntorch.arange(4), 0, dtype=ntorch.float32)
    np.testing.assert_allclose(whole.numpy(), log_softmax(np.arange(4.0), 0), rtol=1e-6)
    least = F.softmin(ntorch.from_numpy(x), 1)
    np.testing.assert_allclose(least.numpy(), softmax(-x, 1), rtol=4e-6)


def test_out():
    x = ntorch.from_numpy(RNG.standard_normal((3, 4)))
    out = ntorch.empty(0, dtype=ntorch.float64)
    assert ntorch.softmax(x, 1, out=out) is out
    np.testing.assert_array_equal(out.numpy(), ntorch.softmax(x, 1).numpy())


@pytest.mark.parametrize("function", [
    lambda x: x.softmax(1), lambda x: x.softmax(0), lambda x: x.log_softmax(-1),
    lambda x: x.log_softmax(0), lambda x: F.softmin(x, 1)])
def test_gradients(function):
    x = ntorch.from_numpy(RNG.standard_normal((3, 4))).requires_grad_()
    assert gradcheck(function, (x,))
    assert gradgradcheck(function, (x,))


def test_the_same_bits_for_any_number_of_threads():
    found = []
    for threads in (1, 2):
        ntorch.set_num_threads(threads)
        x = ntorch.from_numpy(np.linspace(-9, 9, 300000, dtype=np.float32).reshape(300, 10, 100))
        found.append([x.softmax(d).numpy().tobytes() for d in range(3)])
    assert found[0] == found[1]


def test_errors():
    with pytest.raises(IndexError, match="Dimension out of range"):
        ntorch.softmax(ntorch.zeros(2, 3), 2)
    with pytest.raises(NotImplementedError, match="not implemented"):
        ntorch.softmax(ntorch.arange(3), 0)
    with pytest.raises(TypeError):
        ntorch.softmax(ntorch.zeros(2, 3))
