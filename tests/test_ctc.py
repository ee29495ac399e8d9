"""CTC loss: values against a float64 recursion in logarithms and against alignments counted out."""
import itertools

import numpy as np
import pytest

import ntorch
from ntorch.runtime import pool

inf = float("inf")


def collapse(path, blank):
    """A path without repeats and blanks: the labels that it spells."""
    return tuple(c for c, _ in itertools.groupby(path) if c != blank)


def by_enumeration(log_probs, target, blank):
    """-log of the summed probability of every path that spells ``target``; (T, C) input."""
    steps, classes = log_probs.shape
    total = -inf
    for path in itertools.product(range(classes), repeat=steps):
        if collapse(path, blank) == tuple(target):
            total = np.logaddexp(total, sum(log_probs[t, c] for t, c in enumerate(path)))
    return -total


def by_recursion(log_probs, target, blank):
    """-log p in float64 logarithms, over the extended target (Graves et al., 2006, section 4.1)."""
    extended = [blank]
    for label in target:
        extended += [int(label), blank]
    if not len(log_probs):
        return 0.0 if len(extended) == 1 else inf
    alpha = np.full(len(extended), -inf)
    alpha[:2] = log_probs[0, extended[:2]]
    for row in log_probs[1:]:
        new = alpha.copy()
        new[1:] = np.logaddexp(new[1:], alpha[:-1])
        for s in range(2, len(extended)):
            if extended[s] not in (blank, extended[s - 2]):
                new[s] = np.logaddexp(new[s], alpha[s - 2])
        alpha = new + row[extended]
    return -np.logaddexp.reduce(alpha[-2:])


def gradient_by_recursion(log_probs, target, blank):
    """torch's gradient: exp(log_probs) minus the occupancy, which is -d loss / d log_probs."""
    result = np.exp(log_probs)
    step = 1e-6
    for index in np.ndindex(log_probs.shape):
        sides = []
        for sign in (1, -1):
            moved = log_probs.copy()
            moved[index] += sign * step
            sides.append(by_recursion(moved, target, blank))
        result[index] += (sides[0] - sides[1]) / (2 * step)
    return result


def log_softmax(x):
    return x - np.logaddexp.reduce(x, axis=-1, keepdims=True)


def sample(steps, batch, classes, longest, scale=1.0, seed=0, blank=0, normal=True, repeated=False):
    """Log probabilities (float64), padded targets, input and target lengths."""
    g = np.random.default_rng(seed)
    x = g.standard_normal((steps, batch, classes)) * scale
    lengths = g.integers(0, longest + 1, batch)
    lengths[0] = longest
    inputs = g.integers(max(1, steps // 2), steps + 1, batch)
    inputs[0] = steps
    targets = np.full((batch, longest), 1) if repeated else g.integers(0, classes - 1,
                                                                       (batch, longest))
    targets = targets + (targets >= blank)
    return (log_softmax(x) if normal else x), targets, inputs.tolist(), lengths.tolist()


def losses(log_probs, targets, inputs, lengths, blank):
    return np.array([by_recursion(log_probs[:t, b], targets[b, :s], blank)
                     for b, (t, s) in enumerate(zip(inputs, lengths, strict=True))])


def run(log_probs, targets, inputs, lengths, blank=0, **keywords):
    """The losses and the gradient of their sum, as arrays."""
    x = ntorch.tensor(log_probs, requires_grad=True)
    found = ntorch.ctc_loss(x, ntorch.tensor(targets), inputs, lengths, blank, "none", **keywords)
    found.sum().backward()
    return found.detach().numpy(), x.grad.numpy()


CASES = {
    "small": dict(steps=6, batch=3, classes=5, longest=2),
    "last class blank": dict(steps=20, batch=4, classes=8, longest=8, blank=7),
    "repeated label": dict(steps=50, batch=4, classes=8, longest=20, repeated=True),
    "impossible": dict(steps=20, batch=4, classes=8, longest=18, repeated=True),
    "wide": dict(steps=60, batch=3, classes=40, longest=17),
    "peaked": dict(steps=60, batch=3, classes=20, longest=12, scale=20.0),
    "extremely peaked": dict(steps=40, batch=3, classes=20, longest=12, scale=1000.0),
    "long": dict(steps=500, batch=2, classes=10, longest=100),
    "long and flat": dict(steps=900, batch=1, classes=30, longest=60, scale=0.01),
    "not normalised": dict(steps=30, batch=3, classes=6, longest=8, normal=False),
    "far from normal": dict(steps=30, batch=3, classes=6, longest=8, scale=200.0, normal=False),
    "one step": dict(steps=1, batch=3, classes=3, longest=1),
    "no labels": dict(steps=30, batch=2, classes=4, longest=0),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype, tolerance", [(np.float64, 1e-12), (np.float32, 3e-7)])
def test_loss_equals_the_recursion_in_logarithms(name, dtype, tolerance):
    case = CASES[name]
    blank = case.get("blank", 0)
    log_probs, targets, inputs, lengths = sample(**case)
    log_probs = log_probs.astype(dtype)
    found, _ = run(log_probs, targets, inputs, lengths, blank)
    wanted = losses(log_probs.astype(np.float64), targets, inputs, lengths, blank)
    assert found.dtype == dtype
    np.testing.assert_allclose(found, wanted, rtol=tolerance, atol=tolerance)


def test_loss_counts_every_alignment():
    log_probs, *_ = sample(6, 1, 3, 1, seed=3)
    for target in ([1], [1, 2], [1, 1], [2, 1, 2], [1, 1, 1], []):
        labels = ntorch.tensor([target], dtype=ntorch.int64)
        found = ntorch.ctc_loss(ntorch.tensor(log_probs), labels, (6,), (len(target),),
                                reduction="none")
        assert found.item() == pytest.approx(by_enumeration(log_probs[:, 0], target, 0), rel=1e-13)


@pytest.mark.parametrize("case", [
    dict(steps=7, batch=2, classes=4, longest=3),
    dict(steps=7, batch=2, classes=4, longest=3, normal=False),
    dict(steps=8, batch=2, classes=4, longest=3, repeated=True, blank=3),
    dict(steps=6, batch=2, classes=4, longest=3, scale=30.0),
])
def test_gradient_is_probability_minus_occupancy(case):
    blank = case.get("blank", 0)
    log_probs, targets, inputs, lengths = sample(**case)
    _, gradient = run(log_probs, targets, inputs, lengths, blank)
    for b, (t, s) in enumerate(zip(inputs, lengths, strict=True)):
        wanted = gradient_by_recursion(log_probs[:t, b], targets[b, :s], blank)
        np.testing.assert_allclose(gradient[:t, b], wanted, rtol=1e-7, atol=1e-7)
        assert not gradient[t:, b].any()


@pytest.mark.parametrize("scale", [1.0, 20.0, 200.0])
def test_gradient_sums_to_zero_where_the_input_is_normalised(scale):
    log_probs, targets, inputs, lengths = sample(80, 4, 20, 12, scale=scale)
    found, gradient = run(log_probs, targets, inputs, lengths)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(gradient.sum(-1), 0.0, atol=1e-10)
    occupancy = np.exp(log_probs) - gradient
    assert occupancy.min() > -1e-10


def test_underflow_of_the_likely_path_does_not_spoil_the_result():
    # At first only staying blank is likely, later only the path that left it: the state that
    # matters is 1e-400 of its row for a while.
    steps, classes = 60, 5
    log_probs = np.full((steps, 1, classes), -40.0)
    log_probs[:30, 0, 0] = 0.0
    log_probs[30:, 0, 4] = 0.0
    targets = np.array([[1, 2, 3, 1, 2, 3, 1, 2, 3, 1, 2, 3, 1, 2, 3, 1, 2, 3, 4]])
    found, gradient = run(log_probs, targets, [steps], [19])
    wanted = by_recursion(log_probs[:, 0], targets[0], 0)
    assert found[0] == pytest.approx(wanted, rel=1e-12)
    index = (29, 2)
    moved = [log_probs[:, 0].copy() for _ in range(2)]
    for sign, array in zip((1, -1), moved, strict=True):
        array[index] += sign * 1e-5
    slope = (by_recursion(moved[0], targets[0], 0) - by_recursion(moved[1], targets[0], 0)) / 2e-5
    assert gradient[29, 0, 2] == pytest.approx(np.exp(-40.0) + slope, abs=1e-7)


def test_through_log_softmax_the_gradient_is_the_derivative():
    _, targets, _, lengths = sample(7, 3, 5, 3)
    x = ntorch.tensor(np.random.default_rng(0).standard_normal((7, 3, 5)), requires_grad=True)

    def loss(x):
        return ntorch.ctc_loss(x.log_softmax(-1), ntorch.tensor(targets), (7, 7, 7), lengths)
    assert ntorch.autograd.gradcheck(loss, (x,))


def test_impossible_targets():
    log_probs, targets, _, _ = sample(6, 2, 4, 5, repeated=True)
    found, gradient = run(log_probs, targets, [4, 6], [4, 1])
    assert found[0] == inf and np.isfinite(found[1])
    assert np.isnan(gradient[:4, 0]).all() and not gradient[4:, 0].any()
    assert np.isfinite(gradient[:, 1]).all()
    found, gradient = run(log_probs, targets, [4, 6], [4, 1], zero_infinity=True)
    assert found[0] == 0.0 and not gradient[:, 0].any() and gradient[:, 1].any()


def test_classes_of_probability_zero():
    log_probs, targets, inputs, lengths = sample(12, 2, 5, 3)
    log_probs[3, 0, targets[0, 1]] = -inf
    log_probs[5, 1, 2] = -inf
    found, gradient = run(log_probs, targets, inputs, lengths)
    np.testing.assert_allclose(found, losses(log_probs, targets, inputs, lengths, 0), rtol=1e-12)
    assert np.isfinite(gradient).all()
    log_probs[:, 0, targets[0, 0]] = -inf
    found, _ = run(log_probs, targets, inputs, lengths)
    assert found[0] == inf


def test_nan_reaches_the_loss_of_its_sample_alone():
    log_probs, targets, _, _ = sample(12, 2, 5, 3)
    log_probs[4, 0, targets[0, 0]] = np.nan
    found, _ = run(log_probs, targets, [12, 12], [3, 3])
    assert np.isnan(found[0]) and np.isfinite(found[1])


@pytest.mark.parametrize("inputs, lengths, wanted", [([0, 3], [0, 1], 0.0), ([0, 3], [1, 1], inf)])
def test_empty_inputs(inputs, lengths, wanted):
    log_probs, targets, _, _ = sample(3, 2, 4, 1)
    found, gradient = run(log_probs, targets, inputs, lengths)
    assert found[0] == wanted and not gradient[:, 0].any()


def test_forms_of_targets_and_lengths_agree():
    log_probs, targets, inputs, lengths = sample(20, 4, 6, 5)
    x, padded = ntorch.tensor(log_probs), ntorch.tensor(targets)
    joined = np.concatenate([row[:n] for row, n in zip(targets, lengths, strict=True)])
    wanted = ntorch.ctc_loss(x, padded, inputs, lengths, reduction="none")
    for other in (
            ntorch.ctc_loss(x, ntorch.tensor(joined), inputs, lengths, reduction=0),
            ntorch.ctc_loss(x, padded.to(ntorch.int32), tuple(inputs), tuple(lengths), 0, "none"),
            ntorch.ctc_loss(x, padded, ntorch.tensor(inputs), ntorch.tensor(lengths), 0, "none"),
            ntorch.ctc_loss(x.transpose(0, 1).contiguous().transpose(0, 1), padded, inputs, lengths,
                            reduction="none")):
        assert np.array_equal(other.numpy(), wanted.numpy())
    alone = ntorch.ctc_loss(x[:, 0], padded[0, :lengths[0]], (inputs[0],), (lengths[0],),
                            reduction="none")
    assert alone.shape == () and alone.item() == wanted[0].item()


def test_reductions():
    log_probs, targets, inputs, lengths = sample(20, 4, 6, 5)
    x, targets = ntorch.tensor(log_probs), ntorch.tensor(targets)
    each = ntorch.ctc_loss(x, targets, inputs, lengths, reduction="none").numpy()
    total = ntorch.ctc_loss(x, targets, inputs, lengths, reduction="sum").item()
    mean = ntorch.ctc_loss(x, targets, inputs, lengths).item()
    assert total == pytest.approx(each.sum())
    assert mean == pytest.approx((each / np.maximum(lengths, 1)).mean())


def test_gradient_is_weighted_by_the_incoming_one():
    log_probs, targets, inputs, lengths = sample(10, 3, 5, 3)
    _, wanted = run(log_probs, targets, inputs, lengths)
    x = ntorch.tensor(log_probs, requires_grad=True)
    found = ntorch.ctc_loss(x, ntorch.tensor(targets), inputs, lengths, reduction="none")
    found.backward(ntorch.tensor([2.0, 0.0, -1.0], dtype=ntorch.float64))
    np.testing.assert_allclose(x.grad.numpy(), wanted * [[[2.0], [0.0], [-1.0]]], atol=1e-15)


def test_second_derivative_is_refused():
    log_probs, targets, inputs, lengths = sample(6, 2, 4, 2)
    x = ntorch.tensor(log_probs, requires_grad=True)
    loss = ntorch.ctc_loss(x, ntorch.tensor(targets), inputs, lengths)
    gradient, = ntorch.autograd.grad(loss, x, create_graph=True)
    with pytest.raises(RuntimeError, match="_ctc_loss_backward is not implemented"):
        gradient.sum().backward()


def test_same_bits_for_any_number_of_threads():
    log_probs, targets, inputs, lengths = sample(60, 24, 30, 10, scale=4.0)
    before = pool.get_num_threads()
    try:
        found = []
        for threads in (1, 2, 5):
            pool.set_num_threads(threads)
            found.append(run(log_probs, targets, inputs, lengths))
    finally:
        pool.set_num_threads(before)
    for loss, gradient in found[1:]:
        assert np.array_equal(loss, found[0][0]) and np.array_equal(gradient, found[0][1])


@pytest.mark.parametrize("change, error, words", [
    (dict(blank=5), RuntimeError, "blank must be in label range"),
    (dict(blank=-1), RuntimeError, "blank must be in label range"),
    (dict(input_lengths=(7, 6)), RuntimeError, "input_lengths to have value at most 6"),
    (dict(input_lengths=(-1, 6)), RuntimeError, "input_lengths to have value at least 0"),
    (dict(input_lengths=(6,)), RuntimeError, "input_lengths must be of size batch_size"),
    (dict(target_lengths=(2, 2, 2)), RuntimeError, "target_lengths must be of size batch_size"),
    (dict(target_lengths=(-1, 2)), RuntimeError, "target_lengths to have value at least 0"),
    (dict(target_lengths=(3, 2)), RuntimeError, "at least 3 at dimension 1, but got size 2"),
    (dict(targets=[[1, 2]]), RuntimeError, "size 2 at dimension 0, but got size 1"),
    (dict(targets=[1, 2, 3]), RuntimeError, "size 4 at dimension 0, but got size 3"),
    (dict(targets=[[[1, 2]]]), RuntimeError, "Expected 1 to 2 dimensions"),
    (dict(targets=[[1, 7], [3, 3]]), RuntimeError, r"class in \[0, 5\), got 7 in sample 0"),
    (dict(targets=[[1, 2], [3, -2]]), RuntimeError, r"class in \[0, 5\), got -2 in sample 1"),
    (dict(log_probs=np.zeros((6, 2, 5), np.float16)), NotImplementedError, "Half"),
    (dict(log_probs=np.zeros((0, 2, 5))), RuntimeError, "must not be empty"),
    (dict(log_probs=np.zeros((1, 6, 2, 5))), RuntimeError, "Expected 3-dimensional"),
    (dict(reduction="median"), ValueError, "not a valid value for reduction"),
])
def test_bad_input(change, error, words):
    arguments = dict(log_probs=np.zeros((6, 2, 5)), targets=[[1, 2], [3, 3]],
                     input_lengths=(6, 6), target_lengths=(2, 2)) | change
    arguments["log_probs"] = ntorch.tensor(arguments["log_probs"])
    arguments["targets"] = ntorch.tensor(arguments["targets"])
    with pytest.raises(error, match=words):
        ntorch.ctc_loss(**arguments)


def test_lengths_must_be_integral():
    with pytest.raises(RuntimeError, match="input_lengths must be integral"):
        ntorch.ctc_loss(ntorch.zeros(6, 2, 5), ntorch.tensor([[1, 2], [3, 3]]),
                        ntorch.tensor([6.0, 6.0]), ntorch.tensor([2, 2]))


def test_padding_is_not_read():
    log_probs, targets, inputs, lengths = sample(12, 3, 5, 4)
    wanted, _ = run(log_probs, targets, inputs, lengths)
    for b, n in enumerate(lengths):
        targets[b, n:] = -100
    found, _ = run(log_probs, targets, inputs, lengths)
    assert np.array_equal(found, wanted)


def test_meta_tensors_give_shapes():
    x = ntorch.empty(6, 2, 5, device="meta")
    found = ntorch.ctc_loss(x, ntorch.tensor([[1, 2], [3, 3]]), (6, 6), (2, 2), reduction="none")
    assert found.shape == (2,) and found.device.type == "meta"


@pytest.mark.parametrize("name", CASES)
def test_against_torch(name):
    torch = pytest.importorskip("torch")
    case = CASES[name]
    blank = case.get("blank", 0)
    log_probs, targets, inputs, lengths = sample(**case)
    found, gradient = run(log_probs, targets, inputs, lengths, blank)
    x = torch.tensor(log_probs, requires_grad=True)
    wanted = torch.ctc_loss(x, torch.tensor(targets), inputs, lengths, blank, 0, False)
    wanted.sum().backward()
    np.testing.assert_allclose(found, wanted.detach().numpy(), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(gradient, x.grad.numpy(), rtol=1e-8, atol=1e-9)
