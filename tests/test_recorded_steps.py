"""What ops tell a recorder: a stand-in writes down launches, fills and checks, and runs them again.

The stand-in runs everything at once as well, on memory that stays, so that what it wrote down can
be run again on other values and compared with the eager ops.
"""
import numpy as np
import pytest

import ntorch
from ntorch import nn, optim
from ntorch.nn import functional
from ntorch.runtime import build, launch, recording


class Number:
    """A number that is asked for at every run."""

    is_dynamic = True

    def __init__(self, read):
        self.read = read

    def int_slot(self):
        return self

    def __float__(self):
        raise AssertionError("frozen: Python calculated from a number that changes with every run")

    __int__ = __index__ = __bool__ = __float__


class Writer:
    """Writes down what a thread does, doing it too; ``again()`` does it anew."""

    def __init__(self):
        self.actions, self.memory, self.touched, self.values = [], [], [], {}

    def __enter__(self):
        self.previous = recording.swap(self)
        return self

    def __exit__(self, *exception):
        recording.swap(self.previous)

    def storage(self, storage, nbytes):
        self.memory.append(np.zeros(nbytes // 8 + 8))
        return self.memory[-1].ctypes.data, None

    def fake_address(self, tensor):
        return tensor._address

    def touch(self, storage):
        self.touched.append(storage)
        return storage

    def real(self, storage, address):
        self.touched.append(storage)
        return storage, address

    def pin(self, read):
        return read()

    def takes_rows(self, rows, columns):
        return rows > 0 and columns > 0

    def _plainly(self, function, *arguments):
        previous = recording.swap(None)
        try:
            return function(*arguments)
        finally:
            recording.swap(previous)

    def _do(self, action):
        self._plainly(action)
        self.actions.append(action)

    def launch(self, kernel, slots, n, grain):
        def run():
            words = [self.values[s] if isinstance(s, Number) else s for s in slots]
            kernel.call(launch.packer(len(words))(*words), 0, n)
        self._do(run)

    def map(self, entry, arguments, outs=None):
        made = outs or self._plainly(entry.host, *arguments)
        self._do(lambda: entry._into(arguments, made))
        return made

    def reduce(self, entry, tensor, dims, shape, compute, result):
        made = self._plainly(entry.host, tensor, dims, False).reshape(shape)
        self._do(lambda: made.copy_(entry.host(tensor, dims, False).reshape(shape)))
        return made

    def dynamic(self, read):
        made = Number(read)

        def ask():
            value = read()
            self.values[made] = build.double_bits(value) if type(value) is float else value
        self._do(ask)
        return made

    def host_fill(self, name, tensor, fill):
        self._do(lambda: fill(tensor))

    def check(self, name, tensor, fail, extra=()):
        def look():
            value = tensor.item()
            if value >= 0:
                fail(value, *extra)
        self._do(look)

    def again(self):
        for action in self.actions:
            action()


STEPS = [
    ("SGD", {}), ("SGD", {"weight_decay": 0.1, "maximize": True}), ("SGD", {"momentum": 0.9}),
    ("SGD", {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    ("SGD", {"momentum": 0.9, "dampening": 0.5}), ("Adam", {}), ("Adam", {"amsgrad": True}),
    ("Adam", {"weight_decay": 0.1, "maximize": True}), ("AdamW", {"weight_decay": 0.1}),
    ("Adagrad", {"lr_decay": 0.1}), ("Adadelta", {"weight_decay": 0.1}), ("RMSprop", {}),
    ("RMSprop", {"centered": True, "momentum": 0.5}), ("Rprop", {}), ("Adamax", {}),
    ("NAdam", {"weight_decay": 0.1, "decoupled_weight_decay": True}), ("RAdam", {}),
    ("ASGD", {"t0": 4, "lambd": 0.1}),
]
SHAPES = [(3, 5), (70,), (), (2000, 9), (0, 4)]


def _optimizer(name, options, dtype):
    generator = np.random.default_rng(0)
    parameters = []
    for number, shape in enumerate(SHAPES):
        value = ntorch.from_numpy(np.array(generator.standard_normal(shape))).to(dtype)
        if number == 0:
            value = value.t()           # not contiguous: updated by tensor operations
        parameters.append(nn.Parameter(value))
        parameters[-1].grad = ntorch.zeros_like(parameters[-1].detach())
    return parameters, getattr(optim, name)(parameters, lr=0.1, **options)


def _new_gradients(parameters, seed):
    generator = np.random.default_rng(seed)
    for p in parameters:
        p.grad.copy_(ntorch.from_numpy(np.array(generator.standard_normal(tuple(p.shape)))))


@pytest.mark.parametrize("dtype", [ntorch.float32, ntorch.float64], ids=str)
@pytest.mark.parametrize("name, options", STEPS, ids=str)
def test_a_recorded_step_goes_on(name, options, dtype):
    """Steps and learning rates count on in a step that Python wrote down once."""
    eager, recorded = _optimizer(name, options, dtype), _optimizer(name, options, dtype)
    writer = Writer()
    for number in range(9):
        for parameters, optimizer in (eager, recorded):
            _new_gradients(parameters, number)
            optimizer.param_groups[0]["lr"] = 0.1 / (1 + number)
            if optimizer is eager[1] or number < 2:
                optimizer.step()
            elif number == 2:
                with writer:
                    optimizer.step()
            else:
                writer.again()
        for a, b in zip(eager[0], recorded[0], strict=True):
            # NAdam keeps a product of its own in float32
            tolerance = 1e-5 if dtype is ntorch.float32 else 1e-7 if name == "NAdam" else 1e-11
            assert np.allclose(a.detach(), b.detach(), rtol=tolerance, atol=tolerance), number
    assert not writer.touched
    if name != "Rprop":
        assert float(recorded[1].state[recorded[0][1]].get("step", 9)) == 9


@pytest.mark.parametrize("name, launches", [("SGD", 1), ("Adam", 2), ("AdamW", 2)])
def test_one_launch_for_all_parameters(name, launches):
    parameters = [nn.Parameter(ntorch.ones(n)) for n in (3, 500, 0, 70000)]
    for p in parameters:
        p.grad = ntorch.ones_like(p.detach())
    optimizer = getattr(optim, name)(parameters)
    optimizer.step()
    with Writer() as writer:
        optimizer.step()
    assert len(writer.actions) == launches + 2      # and the learning rate, and momentum or beta1


@pytest.mark.parametrize("name", ["SGD", "Adam", "RAdam"])
def test_compiled_training_is_eager_training(name):
    """Learning rates of a schedule, steps and random draws reach every run of a program."""
    losses = []
    for wrap in (lambda step: step, ntorch.compile):
        ntorch.manual_seed(0)
        model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 4))
        optimizer = getattr(optim, name)(model.parameters(), lr=0.05)
        schedule = optim.lr_scheduler.ExponentialLR(optimizer, 0.7)
        x, y = ntorch.randn(32, 8), ntorch.randint(4, (32,))

        def step(x, y, model=model, optimizer=optimizer):
            optimizer.zero_grad()
            loss = functional.cross_entropy(model(x + 0.1 * ntorch.randn(32, 8)), y)
            loss.backward()
            optimizer.step()
            return loss
        act, path = wrap(step), []
        for _ in range(6):
            path.append(float(act(x, y)))
            schedule.step()
        losses.append(path)
    assert np.allclose(*losses, rtol=1e-5)


DRAWS = {
    "rand": lambda: ntorch.rand(5, 40),
    "randn": lambda: ntorch.randn(7),
    "normal of half": lambda: ntorch.empty(33, dtype=ntorch.float16).normal_(1.0, 2.0),
    "uniform of a transpose": lambda: ntorch.empty(3, 4).t().uniform_(-1, 1),
    "randint": lambda: ntorch.randint(100, (50,)),
    "randperm": lambda: ntorch.randperm(20),
    "bernoulli": lambda: ntorch.empty(30).bernoulli_(0.3),
    "bernoulli of a tensor": lambda: ntorch.bernoulli(ntorch.full((30,), 0.3)),
    "multinomial": lambda: ntorch.multinomial(ntorch.ones(3, 6), 4, True),
    "races": lambda: ntorch.multinomial(ntorch.ones(3, 6), 1),
    "exponential": lambda: ntorch.empty(9).exponential_(),
    "dropout": lambda: functional.dropout(ntorch.ones(6, 7), 0.4),
    "several": lambda: ntorch.cat([functional.dropout(ntorch.ones(9), 0.5), ntorch.rand(3),
                                   functional.dropout(ntorch.ones(9), 0.5), ntorch.randn(3)]),
}


@pytest.mark.parametrize("name", DRAWS)
def test_every_run_draws_anew(name):
    draw = DRAWS[name]
    ntorch.manual_seed(3)
    expected = [draw().tolist() for _ in range(3)]
    ntorch.manual_seed(3)
    with Writer() as writer:
        drawn = draw()
    found = [drawn.tolist()]
    for _ in range(2):
        writer.again()
        found.append(drawn.tolist())
    assert found == expected
    assert not writer.touched


def _table():
    return ntorch.arange(12.0).reshape(4, 3)


CHECKS = {
    "gather": lambda i: ntorch.gather(_table(), 0, i.reshape(1, 3)),
    "index_select": lambda i: ntorch.index_select(_table(), 0, i),
    "index": lambda i: _table()[i],
    "two indices": lambda i: _table()[i, i.clamp(max=2)],
    "take": lambda i: ntorch.take(_table()[:2, :2].contiguous(), i),
    "scatter": lambda i: ntorch.zeros(4, 3).scatter(0, i.reshape(1, 3), 1.0),
    "scatter_add": lambda i: ntorch.zeros(4, 3).scatter_add(0, i.reshape(1, 3), ntorch.ones(1, 3)),
    "index_add": lambda i: ntorch.zeros(4, 3).index_add(0, i, ntorch.ones(3, 3)),
    "index_fill": lambda i: ntorch.zeros(4, 3).index_fill(0, i, 2.0),
    "embedding": lambda i: functional.embedding(i, _table()),
    "embedding_bag": lambda i: functional.embedding_bag(i.reshape(1, 3), _table()),
    "one_hot": lambda i: functional.one_hot(i, 4),
    "nll_loss": lambda i: functional.nll_loss(_table().t().contiguous(), i),
    "nll_loss none": lambda i: functional.nll_loss(_table().t().contiguous(), i, reduction="none"),
    "multi_margin_loss": lambda i: functional.multi_margin_loss(_table().t().contiguous(), i),
    "ctc_loss": lambda i: functional.ctc_loss(
        ntorch.log_softmax(ntorch.ones(6, 1, 4), 2), i.reshape(1, 3), (6,), (3,)),
    "searchsorted": lambda i: ntorch.searchsorted(ntorch.arange(3.0), ntorch.tensor(1.0),
                                                  sorter=i.clamp(max=5) - 1),
}


@pytest.mark.parametrize("name", CHECKS)
def test_indices_are_checked_at_every_run(name):
    act = CHECKS[name]
    good, other, bad = ([1, 2, 3], [3, 1, 2], [2, 9, 1])
    index = ntorch.tensor(good)
    with Writer() as writer:
        result = act(index)
    assert np.array_equal(result, act(ntorch.tensor(good)))
    index.copy_(ntorch.tensor(other))
    writer.again()
    assert np.array_equal(result, act(ntorch.tensor(other)))
    index.copy_(ntorch.tensor(bad))
    with pytest.raises((IndexError, RuntimeError)) as eager:
        act(ntorch.tensor(bad))
    with pytest.raises(eager.type) as recorded:
        writer.again()
    assert str(recorded.value) == str(eager.value)


def test_values_are_checked_at_every_run():
    chances = ntorch.full((4,), 0.5)
    with Writer() as writer:
        ntorch.bernoulli(chances)
    chances.fill_(2.0)
    with pytest.raises(RuntimeError, match="to be in"):
        writer.again()


@pytest.mark.parametrize("act", [
    lambda x: x * x[0, 0].item(), lambda x: x + float(x.numpy().sum()),
    lambda x: ntorch.linalg.cholesky(x), lambda x: ntorch.linalg.svdvals(x),
], ids=["item", "numpy", "cholesky", "svdvals"])
def test_values_that_python_reads_are_read_at_every_call(act):
    compiled = ntorch.compile(act)
    for scale in (1.0, 2.0, 3.0):
        x = ntorch.eye(3) * scale + 0.1
        assert np.allclose(compiled(x), act(x))
