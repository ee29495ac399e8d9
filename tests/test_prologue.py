"""Pointwise heads computed in the kernel of a pooling (jit/prologue.py)."""
import numpy as np
import pytest

import ntorch
from ntorch import nn
from ntorch.jit import prologue
from ntorch.nn import functional as F

RNG = np.random.default_rng(7)


def draw(*shape, dtype=np.float32):
    x = RNG.integers(-4, 5, shape).astype(dtype)        # ties everywhere
    x.reshape(-1)[::17] = np.nan
    x.reshape(-1)[3::19] = -np.inf
    return ntorch.from_numpy(x)


def compiled(function, *arguments):
    """The results of the compiled function and the text of its kernels."""
    fast = ntorch.compile(function)
    fast(*arguments)
    return fast(*arguments), fast.explain()


def agree(function, *arguments, absorbed=True):
    """Compiled results are those of eager, bit for bit; whether the head was ``absorbed``."""
    found, text = compiled(function, *arguments)
    want = function(*arguments)
    for a, b in zip(*(r if isinstance(r, tuple) else (r,) for r in (found, want)), strict=True):
        np.testing.assert_array_equal(a.double().numpy(), b.double().numpy())
    assert ("by max_of_tiles" in text) == absorbed, text        # as a member of a fused kernel


@pytest.mark.parametrize("shape, kernel", [
    ((2, 3, 8, 10), 2), ((2, 3, 9, 11), 2), ((5, 2, 7, 52), (2, 1)), ((2, 2, 10, 33), (3, 2)),
    ((3, 2, 64, 70), 2), ((1, 1, 5, 1365), 3), ((1, 1, 1, 4), (1, 2)), ((4, 6, 2, 2), 2)])
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
def test_heads(shape, kernel, dtype):
    x = draw(*shape).to(getattr(ntorch, dtype))
    agree(lambda x: F.max_pool2d(F.relu(x * 2), kernel), x)
    scale = draw(shape[1], 1, 1).to(x.dtype)
    agree(lambda x, s: F.max_pool2d((x * s).abs() - x, kernel), x, scale)


def test_heads_of_one_and_three_dimensions():
    agree(lambda x: F.max_pool1d(F.relu(-x), 3), draw(3, 4, 50))
    agree(lambda x: F.max_pool1d(F.relu(-x), 2), draw(4, 51))
    agree(lambda x: F.max_pool3d(F.relu(-x), 2), draw(2, 3, 4, 5, 6), absorbed=False)


def test_what_has_to_stay_in_memory():
    x, row = draw(2, 3, 8, 10), draw(10)

    def two_readers(x):
        y = F.relu(x * 3)
        return F.max_pool2d(y, 2), y.sum(3)
    agree(two_readers, x, absorbed=False)
    agree(lambda x: (F.max_pool2d((y := F.relu(x)), 2), y), x, absorbed=False)
    agree(lambda x, r: F.max_pool2d(x * r, 2), x, row, absorbed=False)      # differs along a row
    agree(lambda x: F.max_pool2d(F.relu(x.transpose(2, 3)), 2), x, absorbed=False)
    agree(lambda x: F.max_pool2d(F.relu(x * 2), 2), draw(1, 1, 2, 2100), absorbed=False)

    def rewritten(x):
        base = x * 2
        y = F.relu(base)
        base.add_(1)
        return F.max_pool2d(y, 2), base
    agree(rewritten, x, absorbed=False)


def test_a_shared_head_is_computed_again():
    def step(x):
        y = x - 1
        return F.max_pool2d(F.relu(y), 2), y
    agree(step, draw(2, 3, 8, 10))


def test_numbers_that_change():
    x = draw(2, 3, 8, 10)
    fast = ntorch.compile(lambda x, k: F.max_pool2d(x * k, 2))
    for k in (2.0, 3.0, 4.5, -1.0):
        np.testing.assert_array_equal(fast(x, k).numpy(), F.max_pool2d(x * k, 2).numpy())


def block():
    ntorch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(),
                         nn.MaxPool2d(2), nn.Conv2d(4, 5, 3), nn.BatchNorm2d(5), nn.ReLU(),
                         nn.MaxPool2d((2, 1)), nn.Flatten(), nn.Linear(5 * 2 * 9, 3))


def test_a_training_step_of_a_network(monkeypatch):
    x = ntorch.from_numpy(RNG.standard_normal((6, 2, 13, 22)).astype(np.float32))

    def run(compile):
        model = block()

        def step(x):
            loss = (model(x) ** 2).sum()
            loss.backward()
            with ntorch.no_grad():
                for p in model.parameters():
                    p -= 0.01 * p.grad
                    p.grad = None
            return loss
        fast = compile(step)
        return [float(fast(x)) for _ in range(4)], [p.detach().numpy() for p in model.parameters()]

    count = []
    head = prologue._Head.launch
    monkeypatch.setattr(prologue._Head, "launch", lambda self: count.append(1) or head(self))
    found, want = run(ntorch.compile), run(lambda step: step)
    assert len(count) >= 2
    np.testing.assert_allclose(found[0], want[0], rtol=2e-5)
    for a, b in zip(found[1], want[1], strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5)


def test_inference_leaves_heads_to_convolutions():
    model = block().eval()
    x = ntorch.from_numpy(RNG.standard_normal((6, 2, 13, 22)).astype(np.float32))
    with ntorch.no_grad():
        found, text = compiled(model, x)
        np.testing.assert_allclose(found.numpy(), model(x).numpy(), rtol=1e-5, atol=1e-6)
    assert "by max_of_tiles" not in text and "convolution+" in text, text
