"""Batches of other sizes, sequences of other lengths: another trace, but the same kernels."""
import functools
import gc
import os
import subprocess
import sys
import weakref

import pytest

import ntorch
from ntorch import nn, optim
from ntorch.demo.reader import Reader, loss_of
from ntorch.demo.training import makers
from ntorch.jit import compile as jit_compile
from ntorch.nn import functional
from ntorch.runtime import build


def kernels():
    """The kernels that this process has asked for."""
    return {k.key for k in build.known()}


def step_of(model, loss_of):
    """A training step with Adam."""
    optimizer = optim.Adam(model.parameters(), lr=1e-3)

    def step(x, target):
        loss = loss_of(model(x), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss
    return step


def mlp():
    return nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10))


def lenet():
    return nn.Sequential(nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
                         nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
                         nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 10))


class Block(nn.Module):
    """Two convolutions with batch norm beside the identity."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16),
                                  nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1, bias=False),
                                  nn.BatchNorm2d(16))

    def forward(self, x):
        return functional.relu(self.body(x) + x)


class Classifier(nn.Module):
    """Two LSTM layers; the last step's state gives the classes."""

    def __init__(self):
        super().__init__()
        self.read, self.tell = nn.LSTM(16, 32, num_layers=2), nn.Linear(32, 10)

    def forward(self, x):
        return self.tell(self.read(x)[0][-1])


def encoder():
    return nn.TransformerEncoderLayer(32, 4, 64, dropout=0.1, batch_first=True)


def classes(*shape, axis=0):
    """``n -> (x, target)``: x of ``shape``, n long at ``axis``."""
    def make(n):
        sizes = list(shape)
        sizes.insert(axis, n)
        return ntorch.randn(sizes), ntorch.randint(0, 10, (n,))
    return make


def pictures(*shape, axis=0):
    def make(n):
        sizes = list(shape)
        sizes.insert(axis, n)
        return ntorch.randn(sizes), ntorch.randn(sizes)
    return make


WARM = 3        # batches: the first makes Adam's state, and two sizes are seen


def equal_steps(make_model, loss_of, make, sizes, dynamic=True):
    """The compiled step; losses of it and of a plain step on batches of these sizes agree."""
    losses = []
    for form in (lambda f: f, lambda f: ntorch.compile(f, dynamic=dynamic)):
        ntorch.manual_seed(0)
        model = make_model()
        step, found = form(step_of(model, loss_of)), []
        for number, n in enumerate(sizes):
            if number == WARM:
                step.before = kernels()
            found.append(float(step(*make(n))))
        losses.append(found)
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
    return step


def new_kernels(compiled):
    """Kernels of programs that were not there when two sizes had been seen."""
    return {k.name for v in compiled.programs() for _, p in v.programs() for k in p.kernels
            if k.key not in compiled.before}


def test_a_hundred_sizes_of_batches():
    """A size on either side of the threshold, and most others compile nothing; none more than the
    other ways to do a product."""
    step = equal_steps(mlp, functional.cross_entropy, classes(784), (7, 7, 50, *range(2, 101)),
                       dynamic=None)
    assert len(step.programs()) == 99
    assert new_kernels(step) <= {"contract_few", "pack_turned", "contraction_epilogue"}


def test_a_hundred_sizes_of_batches_that_were_foreseen():
    step = equal_steps(mlp, functional.cross_entropy, classes(784), (7, 7, 11, *range(1, 101)))
    assert not kernels() - step.before
    assert "a dimension has a second size" in step.explain()


SIZES = (1, 2, 3, 5, 8, 13, 16, 17, 31, 32, 33, 48, 64, 100)


@pytest.mark.parametrize(("make_model", "loss_of", "make"), [
    (lenet, functional.cross_entropy, classes(1, 28, 28)),
    (Block, functional.mse_loss, pictures(16, 8, 8)),
    (encoder, functional.mse_loss, pictures(12, 32)),
    (encoder, functional.mse_loss, pictures(4, 32, axis=1)),
    (Classifier, functional.cross_entropy, classes(9, 16, axis=1)),
], ids=["LeNet", "residual", "encoder, batches", "encoder, lengths", "LSTM"])
def test_sizes_that_were_foreseen(make_model, loss_of, make):
    """Two sizes were seen: of all others, nothing is compiled any more, and dropout draws what it
    draws in plain steps."""
    step = equal_steps(make_model, loss_of, make, (7, 7, 11, *SIZES))
    assert not kernels() - step.before


def test_the_demo_reads_batches_that_were_foreseen():
    maker, _ = makers(0)

    @functools.cache
    def lines(n):
        pictures, targets, lengths = map(ntorch.from_numpy, maker.make(n))
        return pictures, (targets, lengths)
    step = equal_steps(Reader, lambda read, target: loss_of(read, *target), lines,
                       (7, 7, 11, 32, 2, 50))
    assert not kernels() - step.before


@pytest.mark.parametrize("shape", [(784,), (1, 28, 28)], ids=["MLP", "LeNet"])
def test_sizes_of_inference(shape):
    ntorch.manual_seed(0)
    model = (mlp if len(shape) == 1 else lenet)().eval()
    fast = ntorch.compile(model, dynamic=True)
    with ntorch.no_grad():
        for n in (5, 6, *SIZES):
            x = ntorch.randn(n, *shape)
            assert ntorch.allclose(fast(x), model(x), rtol=1e-4, atol=1e-5)
            if n == 6:
                before = kernels()
    assert not _programs(fast) - before


def test_a_rehearsal_changes_nothing():
    """Generators, gradients, versions, buffers and what the function cannot do with other sizes."""
    ntorch.manual_seed(0)
    held = ntorch.zeros(1)
    model = nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Dropout())

    def step(x):
        loss = (model(x) * ntorch.rand(4)).sum()
        loss.backward()
        with ntorch.no_grad():
            held.add_(loss.detach())
        if x.shape[0] > 40:
            raise ValueError("too many")
        return loss
    runs = []
    for form in (lambda f: f, lambda f: ntorch.compile(f, dynamic=True)):
        ntorch.manual_seed(0)
        model[0].reset_parameters()
        model[1].reset_running_stats()
        model.zero_grad()
        held.zero_()
        run = form(step)
        losses = [float(run(ntorch.randn(n, 6))) for n in (3, 3, 5, 7)]
        with pytest.raises(ValueError, match="too many"):
            run(ntorch.randn(41, 6))
        runs.append((losses, float(ntorch.rand(1)),
                     [float(p.grad.sum()) for p in model.parameters()],
                     float(model[1].running_mean.sum()), int(model[1].num_batches_tracked),
                     float(held)))
    for one, other in zip(runs[0], runs[1], strict=True):
        # the gradient of a bias before a norm is zero but for rounding, of numbers near 50
        assert other == pytest.approx(one, rel=1e-4, abs=1e-3)
    assert "other sizes ask for" in run.explain()


def test_two_dimensions_that_change():
    fast = ntorch.compile(lambda x: (x * 2).softmax(1).sum(0), dynamic=True)
    for number, shape in enumerate(((3, 5), (3, 9), (4, 9), (4, 200), (100, 17), (2, 3))):
        x = ntorch.randn(shape)
        assert ntorch.allclose(fast(x), (x * 2).softmax(1).sum(0), atol=1e-5)
        if number == 2:
            before = kernels()
    assert not _programs(fast) - before
    assert fast.explain().count("a dimension has a second size") == 2


def _programs(compiled):
    return {k.key for v in compiled.programs() for _, p in v.programs() for k in p.kernels}


def test_a_program_keeps_nothing_of_the_call_that_was_traced():
    """Neither its arguments nor the gradients that were there, of each size a set."""
    ntorch.manual_seed(0)
    model = mlp()
    step, make = ntorch.compile(step_of(model, functional.cross_entropy)), classes(784)
    for n in (5, 5, 6):
        step(*make(n))
    gradients = [weakref.ref(p.grad._storage) for p in model.parameters()]
    batch = make(9)
    arguments = [weakref.ref(t._storage) for t in batch]
    step(*batch)
    del batch
    gc.collect()
    assert len(step.programs()) == 3
    assert not any(reference() is not None for reference in gradients + arguments)


def test_variants_that_are_not_used_make_room(monkeypatch):
    fast = ntorch.compile(lambda x: (x * 2).sin() + x.sum())
    fast(ntorch.ones(3))
    monkeypatch.setattr(jit_compile, "MOST_LAUNCHES", 12 * fast.programs()[0].launches)
    for n in range(4, 40):
        assert ntorch.equal(fast(ntorch.ones(n)), (ntorch.ones(n) * 2).sin() + n)
        fast(ntorch.ones(3))            # used all the while
    assert len(fast.programs()) == 12
    assert [v.forward.inputs[0].nbytes for v in fast.programs()] == [12, *range(4 * 29, 4 * 40, 4)]
    assert fast.explain().count("dropped: others were used since") == 25
    fast(ntorch.ones(4))                # traced again
    assert len(fast.programs()) == 12 and len(fast.history) == 38


MODEL = """
from ntorch import nn

def make():
    return nn.Sequential(nn.Linear(12, 40), nn.ReLU(), nn.LayerNorm(40), nn.Linear(40, 3))
"""

RUN = """
import sys
sys.modules.update(numba=None, scipy=None)
import numpy
import ntorch
import sized
from ntorch.runtime import build
model = sized.make()
optimizer = ntorch.optim.SGD(model.parameters(), lr=1e-3)

def step(x):
    loss = model(x).mean()
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    return loss

fast, infer = ntorch.compile(step), ntorch.compile(model)
for n in range(2, 101):
    x = ntorch.from_numpy(numpy.random.rand(n, 12).astype("f4"))
    fast(x)
    with ntorch.no_grad():
        infer(x)
    infer(x).sum().backward()
    optimizer.zero_grad()
print(build.counters["compiled"], build.counters["loaded"] > 0, len(fast.programs()))
"""


@pytest.mark.without_numba
def test_a_size_with_a_name_is_warmed_up_for_all_numbers(tmp_path):
    (tmp_path / "sized.py").write_text(MODEL)
    root = os.path.dirname(os.path.dirname(ntorch.__file__))
    environment = {**os.environ, "NTORCH_CACHE_DIR": str(tmp_path / "store"),
                   "PYTHONPATH": os.pathsep.join([str(tmp_path), root])}

    def run(*command):
        return subprocess.run([sys.executable, *command], text=True, capture_output=True,
                              timeout=900, cwd=tmp_path, env=environment)
    result = run("-m", "ntorch", "warmup", "sized:make", "f32[N,12]", "--step", "SGD")
    assert result.returncode == 0, result.stderr[-2000:]
    result = run("-c", RUN)
    assert result.stdout.split() == ["0", "True", "99"], result.stderr[-2000:]
