"""Indices out of range inside compiled programs: the error is eager's, and so is what is left."""
import pytest

import ntorch
from ntorch import nn
from ntorch.nn import functional as F

LOSSES = {
    "cross_entropy": F.cross_entropy,
    "nll_loss": lambda scores, y: F.nll_loss(F.log_softmax(scores, 1), y),
    "gather": lambda scores, y: -F.log_softmax(scores, 1).gather(1, y.unsqueeze(1)).mean(),
    "take rows": lambda scores, y: -F.log_softmax(scores, 1)[ntorch.arange(7), y].mean(),
}


class Trained:
    """A model and its optimizer; a step writes a buffer first, and statistics on its way."""

    def __init__(self):
        ntorch.manual_seed(0)
        # no bias before the normalization: its gradient is rounding errors, which Adam blows up
        self.model = nn.Sequential(nn.Embedding(6, 8), nn.Flatten(), nn.Linear(24, 16, bias=False),
                                   nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 5))
        self.model.register_buffer("calls", ntorch.zeros(()))
        self.optimizer = ntorch.optim.Adam(self.model.parameters(), lr=0.1)

    def step(self, loss):
        def step(x, y):
            self.model.calls.add_(1)
            value = loss(self.model(x), y)
            self.optimizer.zero_grad()
            value.backward()
            self.optimizer.step()
            return value
        return step

    def state(self):
        """Everything that a step writes, by name."""
        found = {name: value.clone() for name, value in self.model.state_dict().items()}
        for name, p in self.model.named_parameters():
            kept = {"grad": p.grad, **self.optimizer.state[p]}
            found |= {f"{name} {key}": ntorch.as_tensor(value).clone()
                      for key, value in kept.items() if value is not None}
        return found


@pytest.mark.parametrize("wrong", ["input", "target"])
@pytest.mark.parametrize("loss", LOSSES)
def test_a_training_step_leaves_what_eager_leaves(loss, wrong):
    plain, fast = Trained(), Trained()
    eager, compiled = plain.step(LOSSES[loss]), ntorch.compile(fast.step(LOSSES[loss]))
    generator = ntorch.Generator().manual_seed(1)
    for call in range(7):
        x = ntorch.randint(0, 6, (7, 3), generator=generator)
        y = ntorch.randint(0, 5, (7,), generator=generator)
        if call in (4, 5):
            (x if wrong == "input" else y).view(-1)[3] = 9
            with pytest.raises((IndexError, RuntimeError)) as expected:
                eager(x, y)
            with pytest.raises(expected.type) as raised:
                compiled(x, y)
            assert str(raised.value) == str(expected.value)
        else:
            assert abs(eager(x, y).item() - compiled(x, y).item()) < 1e-4
        left, wanted = fast.state(), plain.state()
        assert left.keys() == wanted.keys()
        for name, value in wanted.items():
            assert ntorch.allclose(left[name], value, rtol=1e-4, atol=1e-5), (call, name)
    assert len(compiled.programs()) == 1        # the error came out of a program


WRITES = {
    "index_add_": lambda x, i: x.index_add_(0, i, ntorch.ones(2, 3)),
    "index_copy_": lambda x, i: x.index_copy_(0, i, ntorch.ones(2, 3)),
    "index_fill_": lambda x, i: x.index_fill_(0, i, 1.0),
    "scatter_": lambda x, i: x.scatter_(0, i.view(2, 1), 1.0),
    "scatter_add_": lambda x, i: x.scatter_add_(0, i.view(2, 1), ntorch.ones(2, 1)),
    "index_put_": lambda x, i: x.index_put_((i,), ntorch.ones(2, 3), accumulate=True),
    "setitem": lambda x, i: x.__setitem__(i, 1.0),
    "put_": lambda x, i: x.put_(i, ntorch.ones(2)),
}


@pytest.mark.parametrize("name", WRITES)
def test_nothing_is_half_written(name):
    def write(x, i):
        WRITES[name](x, i)
        return x * 2
    compiled, x = ntorch.compile(write), ntorch.full((4, 3), 5.0)
    for _ in range(3):
        compiled(x, ntorch.tensor([0, 3]))
    before = x.clone()
    with pytest.raises((IndexError, RuntimeError)):
        compiled(x, ntorch.tensor([0, 99]))
    assert ntorch.equal(x, before)
    assert compiled.programs()
