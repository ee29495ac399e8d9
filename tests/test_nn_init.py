"""Initialisers: bounds and moments by formula, and torch's own draws where torch is installed."""
import math

import numpy as np
import pytest

import ntorch
from ntorch import nn

GAINS = [("linear", None, 1), ("conv2d", None, 1), ("sigmoid", None, 1), ("tanh", None, 5 / 3),
         ("relu", None, math.sqrt(2)), ("leaky_relu", None, math.sqrt(2 / 1.0001)),
         ("leaky_relu", 0.2, math.sqrt(2 / 1.04)), ("selu", None, 0.75)]


@pytest.mark.parametrize("name, param, expected", GAINS)
def test_gain(name, param, expected):
    assert nn.init.calculate_gain(name, param) == pytest.approx(expected)


def test_fans():
    assert nn.init._calculate_fan_in_and_fan_out(ntorch.empty(5, 4, 3, 2)) == (24, 30)
    with pytest.raises(ValueError, match="fewer than 2"):
        nn.init._calculate_fan_in_and_fan_out(ntorch.empty(5))


@pytest.mark.parametrize("fill, bound", [
    (lambda t: nn.init.xavier_uniform_(t, gain=2.0), 2 * math.sqrt(6 / (40 + 50))),
    (lambda t: nn.init.kaiming_uniform_(t, nonlinearity="relu"), math.sqrt(6 / 40)),
    (lambda t: nn.init.kaiming_uniform_(t, mode="fan_out", nonlinearity="relu"), math.sqrt(6 / 50)),
])
def test_uniform_bounds(fill, bound):
    x = fill(ntorch.empty(50, 40)).numpy()
    assert np.abs(x).max() <= bound and np.abs(x).max() > 0.98 * bound


@pytest.mark.parametrize("fill, std", [
    (lambda t: nn.init.normal_(t, 0.0, 0.3), 0.3),
    (lambda t: nn.init.xavier_normal_(t), math.sqrt(2 / 150)),
    (lambda t: nn.init.kaiming_normal_(t, a=1.0), math.sqrt(1 / 50)),
])
def test_normal_deviation(fill, std):
    ntorch.manual_seed(0)
    x = fill(ntorch.empty(100, 50)).numpy()
    assert x.std() == pytest.approx(std, rel=0.05) and abs(x.mean()) < 0.05 * std * 2


def test_trunc_normal():
    ntorch.manual_seed(0)
    x = nn.init.trunc_normal_(ntorch.empty(100, 100), std=2.0, a=-1.0, b=3.0).numpy()
    assert x.min() >= -1 and x.max() <= 3 and 0.6 < x.mean() < 1.0


def test_structure():
    assert np.array_equal(nn.init.eye_(ntorch.empty(3, 4)).numpy(), np.eye(3, 4))
    kernel = nn.init.dirac_(ntorch.empty(4, 2, 3, 3), groups=2)
    x = ntorch.randn(1, 4, 5, 5)
    assert np.array_equal(ntorch.nn.functional.conv2d(x, kernel, padding=1, groups=2).numpy(),
                          x.numpy())
    for shape in ((5, 8), (8, 5), (4, 3, 2)):
        q = nn.init.orthogonal_(ntorch.empty(shape, dtype=ntorch.float64), gain=2.0)
        q = q.numpy().reshape(shape[0], -1)
        gram = q @ q.T if q.shape[0] < q.shape[1] else q.T @ q
        assert np.allclose(gram, 4 * np.eye(len(gram)))
    zeros = nn.init.sparse_(ntorch.empty(10, 6), 0.35).numpy() == 0
    assert (zeros.sum(0) == 4).all()


@pytest.mark.parametrize("act, text", [
    (lambda: nn.init.eye_(ntorch.empty(3)), "2 dimensions"),
    (lambda: nn.init.dirac_(ntorch.empty(3, 3)), "3, 4, or 5"),
    (lambda: nn.init.dirac_(ntorch.empty(3, 3, 3), groups=2), "divisible by groups"),
    (lambda: nn.init.orthogonal_(ntorch.empty(3)), "2 or more"),
    (lambda: nn.init.calculate_gain("swish"), "Unsupported nonlinearity"),
    (lambda: nn.init.kaiming_uniform_(ntorch.empty(3, 3), mode="x"), "not supported"),
])
def test_errors(act, text):
    with pytest.raises(ValueError, match=text):
        act()


DRAWS = {
    "uniform": lambda i, t: i.uniform_(t, -1.0, 2.0), "normal": lambda i, t: i.normal_(t, 1.0, 2.0),
    "trunc": lambda i, t: i.trunc_normal_(t, 0.1, 0.5, -0.6, 0.8),
    "xavier_uniform": lambda i, t: i.xavier_uniform_(t), "xavier": lambda i, t: i.xavier_normal_(t),
    "kaiming_uniform": lambda i, t: i.kaiming_uniform_(t, a=0.3),
    "kaiming": lambda i, t: i.kaiming_normal_(t, mode="fan_out"),
    "sparse": lambda i, t: i.sparse_(t, 0.4), "orthogonal": lambda i, t: i.orthogonal_(t),
}


@pytest.mark.parametrize("name", DRAWS)
def test_draws_like_torch(name):
    torch = pytest.importorskip("torch")
    results = []
    for library in (torch, ntorch):
        library.manual_seed(11)
        results.append(DRAWS[name](library.nn.init, library.empty(7, 9)).numpy())
    assert np.allclose(*results, rtol=1e-5, atol=1e-6)


LAYERS = {
    "Linear": (5, 3), "Bilinear": (3, 4, 2), "Conv1d": (4, 6, 3), "Conv2d": (4, 6, 3, 1, 0, 1, 2),
    "Conv3d": (2, 3, 2), "ConvTranspose2d": (4, 6, 3), "Embedding": (7, 5, 2),
    "EmbeddingBag": (7, 5), "RNN": (3, 4, 2), "LSTM": (3, 4), "GRU": (3, 4), "LSTMCell": (3, 4),
    "MultiheadAttention": (8, 2), "TransformerEncoderLayer": (8, 2, 16),
    "TransformerDecoderLayer": (8, 2, 16), "Transformer": (8, 2, 1, 1, 16), "PReLU": (3,),
}


@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
@pytest.mark.parametrize("name", LAYERS)
def test_layers_start_like_torch(name):
    torch = pytest.importorskip("torch")
    states = []
    for library in (torch, ntorch):
        library.manual_seed(5)
        states.append(getattr(library.nn, name)(*LAYERS[name]).state_dict())
    assert list(states[0]) == list(states[1])
    for key, value in states[0].items():
        assert np.allclose(value.numpy(), states[1][key].numpy(), rtol=1e-5, atol=1e-6), key
