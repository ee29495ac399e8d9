"""Maps and sums that move in front of the gradient of a pooling (jit/commute.py)."""
import numpy as np
import pytest

import ntorch
from ntorch import nn
from ntorch.nn import functional as F

RNG = np.random.default_rng(11)


def draw(*shape, dtype=np.float32):
    x = RNG.integers(-3, 4, shape).astype(dtype)        # ties and zeros everywhere
    x.reshape(-1)[::23], x.reshape(-1)[3::19], x.reshape(-1)[5::29] = np.nan, -np.inf, np.inf
    return ntorch.from_numpy(x)


def gradient(function, *arguments):
    """The gradients of all arguments for a tangent that is no constant."""
    def step(*arguments):
        arguments = [a.detach().requires_grad_() for a in arguments]
        out = function(*arguments)
        tangent = ntorch.arange(out.numel()).reshape(out.shape).to(out.dtype) - 5
        return ntorch.autograd.grad(out, arguments, tangent)
    fast = ntorch.compile(step)
    fast(*arguments)
    return fast(*arguments), step(*arguments), fast.explain()


def commuted(text):
    """Whether what was recorded behind the gradient of a pooling stands in front of it."""
    return text.index("_threshold_backward") < text.index("_spread_maxima")


@pytest.mark.parametrize("n, kernel, shape", [
    (1, 3, (3, 4, 20)), (2, 2, (2, 3, 8, 10)), (2, (3, 1), (4, 2, 7, 33)), (2, 2, (2, 3, 9, 7)),
    (3, 2, (2, 2, 4, 5, 6)), (2, 2, (5, 8, 8))])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_relu_in_front_of_a_pooling(n, kernel, shape, dtype):
    pool = getattr(F, f"max_pool{n}d")
    x = draw(*shape).to(getattr(ntorch, dtype))
    found, want, text = gradient(lambda x: pool(F.relu(x * 2), kernel), x)
    np.testing.assert_array_equal(found[0].numpy(), want[0].numpy())
    assert commuted(text), text


def test_sums_over_planes():
    x = ntorch.from_numpy(RNG.standard_normal((6, 3, 9, 10)).astype(np.float32))
    bias = ntorch.from_numpy(RNG.standard_normal((3, 1, 1)).astype(np.float32))
    found, want, text = gradient(lambda x, b: F.max_pool2d(F.relu(x + b), 2), x, bias)
    np.testing.assert_array_equal(found[0].numpy(), want[0].numpy())
    np.testing.assert_allclose(found[1].numpy(), want[1].numpy(), rtol=1e-5)
    assert commuted(text) and text.index("= sum(") < text.index("_spread_maxima"), text


@pytest.mark.parametrize("function", [
    lambda x: F.max_pool2d((y := F.relu(x)), 2) + y[..., ::2, ::2],         # another gradient
    lambda x: F.max_pool2d(F.leaky_relu(x, 0.1), 2),
    lambda x: F.max_pool2d(F.relu(x).transpose(2, 3), 2),
    lambda x: F.max_pool2d(F.relu(x), 3, 2, 1),
    lambda x: F.max_pool2d(F.relu(x.bfloat16()), 2).float(),
    lambda x: F.max_pool2d(F.max_pool2d(F.relu(x), 2), 2),
    lambda x: F.max_pool2d(F.relu(F.max_pool2d(F.relu(x), 2) - 1), (2, 1)),
    lambda x: F.avg_pool2d(F.relu(x), 2)])
def test_gradients_stay_what_they_are(function):
    found, want, _ = gradient(function, draw(2, 3, 8, 8))
    np.testing.assert_array_equal(found[0].numpy(), want[0].numpy())


def test_a_network_without_norms():
    def run(compile):
        ntorch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
                              nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
                              nn.Linear(16 * 25, 10))
        optimizer = ntorch.optim.SGD(model.parameters(), lr=0.1)
        x, t = ntorch.randn(8, 1, 28, 28), ntorch.arange(8)

        def step(x, t):
            loss = F.cross_entropy(model(x), t)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            return loss
        fast = compile(step)
        return [float(fast(x, t)) for _ in range(6)]
    np.testing.assert_allclose(run(ntorch.compile), run(lambda step: step), rtol=1e-4)
