"""Weight and spectral norm, parametrizations."""
import copy

import numpy as np
import pytest

import ntorch
from ntorch import nn
from ntorch.nn.utils import parametrizations, parametrize


@pytest.mark.filterwarnings("ignore:.*weight_norm. is deprecated")
def test_weight_norm_hook():
    net = nn.Linear(4, 3)
    before, x = net.weight.detach().numpy().copy(), ntorch.randn(2, 4)
    nn.utils.weight_norm(net)
    assert list(net.state_dict()) == ["bias", "weight_g", "weight_v"]
    assert net.weight_g.shape == (3, 1)
    net(x).sum().backward()
    assert np.allclose(net.weight.detach().numpy(), before, atol=1e-6)
    along = (net.weight_v.grad * net.weight_v).sum(1)       # no gradient along the direction
    assert np.allclose(along.detach().numpy(), 0, atol=1e-5)
    nn.utils.remove_weight_norm(net)
    assert sorted(net.state_dict()) == ["bias", "weight"]
    with pytest.raises(ValueError, match="not found"):
        nn.utils.remove_weight_norm(net)


def test_spectral_norm_hook():
    net = nn.utils.spectral_norm(nn.Linear(5, 4), n_power_iterations=30)
    net(ntorch.randn(2, 5)).sum().backward()
    assert np.linalg.svd(net.weight.detach().numpy())[1][0] == pytest.approx(1, abs=1e-3)
    assert net.weight_orig.grad is not None
    frozen = net.eval().weight_u.numpy().copy()
    net(ntorch.randn(2, 5))
    assert np.array_equal(net.weight_u.numpy(), frozen)
    nn.utils.remove_spectral_norm(net)
    assert isinstance(net.weight, nn.Parameter)


class Symmetric(nn.Module):
    def forward(self, x):
        return x.triu() + x.triu(1).t()

    def right_inverse(self, x):
        return x.triu()


def test_parametrization():
    net = nn.Linear(3, 3)
    weight = net.weight
    parametrize.register_parametrization(net, "weight", Symmetric())
    assert list(net.state_dict()) == ["bias", "parametrizations.weight.original"]
    assert parametrize.is_parametrized(net, "weight") and isinstance(net, nn.Linear)
    made = net.weight.detach().numpy()
    assert np.array_equal(made, made.T)
    net(ntorch.ones(1, 3)).sum().backward()
    assert net.parametrizations.weight.original.grad is not None
    twin = copy.deepcopy(net)
    assert np.array_equal(twin.weight.detach().numpy(), made)
    with parametrize.cached():
        assert net.weight is net.weight
    assert net.weight is not net.weight
    net.weight = ntorch.eye(3)
    assert np.array_equal(net.weight.detach().numpy(), np.eye(3))
    parametrize.remove_parametrizations(net, "weight")
    assert type(net) is nn.Linear and isinstance(net.weight, nn.Parameter)
    assert weight.shape == net.weight.shape


def test_parametrization_errors():
    class Grow(nn.Module):
        def forward(self, x):
            return ntorch.cat([x, x])

    net = nn.Linear(2, 2)
    with pytest.raises(ValueError, match="may not change the shape"):
        parametrize.register_parametrization(net, "weight", Grow())
    with pytest.raises(ValueError, match="does not have a parameter"):
        parametrize.register_parametrization(net, "other", Grow())
    with pytest.raises(ValueError, match="does not have a parametrization"):
        parametrize.remove_parametrizations(net, "weight")
    assert type(net) is nn.Linear and "weight" in net.state_dict()


def test_parametrizations():
    net = parametrizations.weight_norm(nn.Linear(4, 3))
    assert list(net.state_dict())[1:] == ["parametrizations.weight.original0",
                                          "parametrizations.weight.original1"]
    net = parametrizations.spectral_norm(nn.Linear(4, 3))
    assert np.linalg.svd(net.weight.detach().numpy())[1][0] == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("shape", [(4, 4), (6, 3), (3, 6)])
def test_orthogonal(shape):
    net = parametrizations.orthogonal(nn.Linear(*shape, bias=False).double(),
                                      orthogonal_map="cayley")
    q = net.weight.detach().numpy()
    gram = q @ q.T if q.shape[0] < q.shape[1] else q.T @ q
    assert np.allclose(gram, np.eye(len(gram)))
    net(ntorch.randn(2, shape[0], dtype=ntorch.float64)).pow(2).sum().backward()
    with ntorch.no_grad():
        original = net.parametrizations.weight.original
        original -= 0.1 * original.grad + 0.3
    q = net.weight.detach().numpy()
    gram = q @ q.T if q.shape[0] < q.shape[1] else q.T @ q
    assert np.allclose(gram, np.eye(len(gram)))
