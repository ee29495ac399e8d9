"""CTC under ``compile``: one program for all lengths, with eager's values, gradients and errors."""
import numpy as np
import pytest
from test_ctc import sample

import ntorch
from ntorch import nn
from ntorch.nn import functional


def step_of(**options):
    def step(x, targets, inputs, lengths):
        loss = functional.ctc_loss(x, targets, inputs, lengths, **options)
        return loss, ntorch.autograd.grad(loss.sum(), x)[0]
    return step


def case(seed, joined=False, scale=1.0, total=None, **sizes):
    """Arguments of ``step``; ``joined`` targets are concatenated."""
    sizes = dict(steps=20, batch=4, classes=7, longest=6) | sizes
    log_probs, targets, inputs, lengths = sample(scale=scale, seed=seed, **sizes)
    if total is not None:
        lengths = np.random.default_rng(seed).multinomial(total, [1 / len(lengths)] * len(lengths))
        targets = np.random.default_rng(seed).integers(1, 7, (len(lengths), total))
    if joined:
        targets = np.concatenate([row[:n] for row, n in zip(targets, lengths, strict=True)])
    x = ntorch.tensor(log_probs, requires_grad=True)
    return x, ntorch.tensor(targets), ntorch.tensor(inputs), ntorch.tensor(lengths)


def check(step, compiled, *arguments, ulp=0):
    """Loss within ``ulp`` of eager's, the gradient bit by bit."""
    (loss, grad), (wanted, wanted_grad) = compiled(*arguments), step(*arguments)
    loss, wanted = loss.detach().numpy(), wanted.detach().numpy()
    np.testing.assert_allclose(loss, wanted, rtol=ulp * np.finfo(wanted.dtype).eps, atol=0)
    np.testing.assert_array_equal(grad.numpy(), wanted_grad.numpy())


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_one_program_serves_all_lengths(reduction):
    step = step_of(reduction=reduction)
    compiled = ntorch.compile(step, fullgraph=True)
    for seed in range(5):
        # fused with its neighbours a sum has another order, which the processor's width decides
        check(step, compiled, *case(seed), ulp=0 if reduction == "none" else 4)
    assert len(compiled.programs()) == 1


def test_concatenated_targets():
    step = step_of(reduction="none")
    compiled = ntorch.compile(step, fullgraph=True)
    for seed in range(5):
        check(step, compiled, *case(seed, joined=True, total=12))
    assert len(compiled.programs()) == 1


def test_samples_that_need_logarithms():
    step = step_of(reduction="none")
    compiled = ntorch.compile(step, fullgraph=True)
    for seed, scale in enumerate((1.0, 1000.0, 1.0, 300.0)):
        check(step, compiled, *case(seed, scale=scale, steps=40, longest=12))
    assert len(compiled.programs()) == 1


@pytest.mark.parametrize("zero", [False, True])
def test_targets_longer_than_their_input(zero):
    """More labels than there are steps: the tables have no room for them, and need none."""
    step = step_of(reduction="none", zero_infinity=zero)
    compiled = ntorch.compile(step, fullgraph=True)
    for seed in range(3):
        x, targets, _, _ = case(seed, steps=4, longest=9)
        lengths = ntorch.tensor([9, 1, seed, 5])
        check(step, compiled, x, targets, ntorch.tensor([4, 4, 4, 3]), lengths)
    assert compiled(x, targets, ntorch.tensor([4, 4, 4, 4]), lengths)[0][0].item() == (
        0.0 if zero else float("inf"))


def test_lengths_as_python_numbers_are_part_of_the_trace():
    step = step_of(reduction="mean")
    compiled = ntorch.compile(step, fullgraph=True)
    for seed in (0, 1, 0):
        x, targets, inputs, lengths = case(seed)
        check(step, compiled, x, targets, tuple(inputs.tolist()), tuple(lengths.tolist()))
    assert len(compiled.programs()) == 2


@pytest.mark.parametrize("change", [
    dict(inputs=[20, 21, 3, 4]), dict(inputs=[20, -1, 3, 4]), dict(lengths=[1, 2, -3, 0]),
    dict(lengths=[1, 7, 2, 0]), dict(target=9), dict(target=-2)])
def test_errors_are_those_of_eager(change):
    step = step_of()
    compiled = ntorch.compile(step, fullgraph=True)
    x, targets, inputs, lengths = case(0)
    compiled(x, targets, inputs, lengths)
    if "target" in change:
        targets = targets.clone()
        targets[0, 1] = change["target"]
    inputs = ntorch.tensor(change.get("inputs", inputs.tolist()))
    lengths = ntorch.tensor(change.get("lengths", lengths.tolist()))
    messages = []
    for act in (step, compiled):
        with pytest.raises(RuntimeError) as caught:
            act(x, targets, inputs, lengths)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]
    assert len(compiled.programs()) == 1


def test_concatenated_targets_of_another_length():
    step = step_of()
    compiled = ntorch.compile(step, fullgraph=True)
    x, targets, inputs, lengths = case(0, joined=True, total=12)
    compiled(x, targets, inputs, lengths)
    with pytest.raises(RuntimeError, match="size 16 at dimension 0, but got size 12"):
        compiled(x, targets, inputs, lengths + 1)


@pytest.mark.parametrize("name", ["Adam", "SGD"])
def test_a_step_with_clipping_and_a_cycle_is_traced_once(name):
    """Learning rate and momentum of a schedule reach the program; the state is made before it."""
    found = []
    for wrap in (lambda step: step, ntorch.compile):
        ntorch.manual_seed(0)
        model = nn.Linear(5, 7)
        more = {} if name == "Adam" else {"momentum": 0.9}
        optimizer = getattr(ntorch.optim, name)(model.parameters(), lr=0.1, **more)
        schedule = ntorch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=20)

        def step(x, targets, lengths, model=model, optimizer=optimizer):
            log_probs = functional.log_softmax(model(x), -1)
            every = ntorch.full((x.shape[1],), x.shape[0], dtype=ntorch.int64)
            loss = functional.ctc_loss(log_probs, targets, every, lengths)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            optimizer.step()
            return loss.detach()
        act, losses = wrap(step), []
        for seed in range(10):
            _, targets, _, lengths = case(seed)
            losses.append(act(ntorch.randn(20, 4, 5), targets, lengths).item())
            schedule.step()
        found.append(losses)
    np.testing.assert_allclose(found[1], found[0], rtol=1e-5)
    assert len(act.programs()) == 1


def test_an_option_that_a_program_was_made_with():
    """Momentum that comes or goes changes what is computed: another trace."""
    x = ntorch.nn.Parameter(ntorch.ones(3))
    optimizer = ntorch.optim.SGD([x], lr=0.1, momentum=0.0)

    @ntorch.compile
    def step():
        optimizer.zero_grad()
        (x * x).sum().backward()
        optimizer.step()
    wanted, speed = 1.0, 0.0
    for number in range(6):
        momentum = optimizer.param_groups[0]["momentum"] = 0.5 if number >= 3 else 0.0
        step()
        speed = momentum * speed + 2 * wanted if number > 3 else 2 * wanted
        wanted -= 0.1 * speed
        assert x[0].item() == pytest.approx(wanted, rel=1e-5)
