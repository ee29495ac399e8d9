"""``.grad`` inside compiled functions: whose it is, that it is there, and where it lies now."""
import gc
import weakref

import pytest

import ntorch
from ntorch import nn, optim


def same(found, expected):
    for a, b in zip(found, expected, strict=True):
        assert (a is None) == (b is None)
        assert a is None or ntorch.allclose(a, b, rtol=1e-5, atol=1e-6)


def updates(make_step, compiled):
    """Parameters after updates with gradients that eager backward made, of which some are none."""
    ntorch.manual_seed(0)
    model = nn.Linear(3, 2)
    step, found = make_step(model), []
    if compiled:
        step = ntorch.compile(step)
    for number in range(6):
        for parameter in model.parameters():
            if number != 4:             # that time it is added to what is there
                parameter.grad = None
        if number != 2:
            (model(ntorch.randn(5, 3)) ** 2).sum().backward()
        result = step()
        found += [p.detach().clone() for p in model.parameters()]
        found += [None if p.grad is None else p.grad.clone() for p in model.parameters()]
        found += [result] if isinstance(result, ntorch.Tensor) else []
    return found


def by_hand(model):
    def step():
        with ntorch.no_grad():
            for parameter in model.parameters():
                if parameter.grad is not None:
                    parameter.sub_(parameter.grad, alpha=0.1)
    return step


def by_optimizer(kind, **options):
    def make(model):
        optimizer = kind(model.parameters(), **options)
        return lambda: optimizer.step()
    return make


def clipped(model):
    return lambda: nn.utils.clip_grad_norm_(model.parameters(), 0.5)


def halved(model):
    def step():
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter.grad = parameter.grad / 2
        return model.bias.grad
    return step


@pytest.mark.parametrize("make", [
    by_hand, by_optimizer(optim.SGD, lr=0.1), by_optimizer(optim.SGD, lr=0.1, momentum=0.9),
    by_optimizer(optim.Adam, lr=0.01), clipped, halved],
    ids=["by hand", "sgd", "momentum", "adam", "clipped", "halved"])
def test_gradients_that_eager_backward_made(make):
    same(updates(make, True), updates(make, False))


def test_whether_there_is_a_gradient_is_guarded():
    w, x = ntorch.ones(3, requires_grad=True), ntorch.ones(3)
    compiled = ntorch.compile(lambda x: x * (1.0 if w.grad is None else 2.0) + 0)
    for grad, factor in ((None, 1.0), (x, 2.0), (None, 1.0), (x * 2, 2.0)):
        w.grad = grad
        assert ntorch.equal(compiled(x), x * factor)
    assert len(compiled.programs()) == 2


@pytest.mark.parametrize("function", [
    lambda p: p.grad, lambda p: p.grad.view(-1)[1:], lambda p: p.grad * 2,
    lambda p: (p.grad, p.grad + 1), lambda p: p.grad.mul_(2)],
    ids=["itself", "a view", "a value", "both", "written"])
def test_gradients_of_arguments(function):
    compiled = ntorch.compile(function)
    for number in range(4):
        p = ntorch.ones(2, 2, requires_grad=True)
        p.grad = ntorch.full((2, 2), float(number))
        found = compiled(p)
        other = ntorch.ones(2, 2, requires_grad=True)
        other.grad = ntorch.full((2, 2), float(number))
        expected = function(other)
        same(*[(r if type(r) is tuple else (r,)) for r in (found, expected)])
        assert ntorch.equal(p.grad, other.grad)
        first = found[0] if type(found) is tuple else found
        if function(other) is other.grad:
            assert first is p.grad


def test_backward_into_arguments():
    def back(p):
        (p * p).sum().backward()
        return p.grad
    compiled = ntorch.compile(back)
    first, second = (ntorch.full((2,), v, requires_grad=True) for v in (1.0, 3.0))
    for tensor, total in ((first, 2.0), (first, 4.0), (second, 6.0), (second, 12.0), (first, 6.0)):
        assert compiled(tensor).data_ptr() == tensor.grad.data_ptr()
        assert ntorch.equal(tensor.grad, ntorch.full((2,), total))
    first.grad = None
    compiled(first)
    assert ntorch.equal(first.grad, ntorch.full((2,), 2.0)) and second.grad[0] == 12
    assert len(compiled.programs()) == 2


def test_gradients_set_on_arguments():
    def put(p, q):
        p.grad = q * 2
        return p.grad.sum()
    compiled = ntorch.compile(put)
    for value in (1.0, 2.0):
        p, q = ntorch.ones(3, requires_grad=True), ntorch.full((3,), value)
        assert compiled(p, q) == 6 * value and ntorch.equal(p.grad, q * 2)


def test_gradients_that_share_memory():
    a, b = (ntorch.ones(2, requires_grad=True) for _ in "ab")

    def step():
        a.grad.mul_(2)
        b.grad.add_(1)
        return a.grad + b.grad
    compiled = ntorch.compile(step)
    one, two = ntorch.ones(2), ntorch.ones(2)
    for first, second in ((one, two), (one, one), (one, two)):
        a.grad, b.grad = first.clone(), second.clone()
        if first is second:
            b.grad = a.grad
        expected = [a.grad.clone(), b.grad.clone()]
        result = compiled()
        if first is second:
            assert ntorch.equal(result, (expected[0] * 2 + 1) * 2)
        else:
            assert ntorch.equal(result, expected[0] * 2 + expected[1] + 1)


def test_a_gradient_that_backward_needs():
    w = ntorch.ones(3, requires_grad=True)
    compiled = ntorch.compile(lambda x: (x * w.grad).sum())
    for value in (2.0, 3.0):
        w.grad = ntorch.full((3,), value)
        x = ntorch.ones(3, requires_grad=True)
        compiled(x).backward()
        assert ntorch.equal(x.grad, w.grad)


def test_whether_an_argument_is_a_leaf():
    compiled = ntorch.compile(lambda x: x * (2.0 if x.is_leaf else 3.0))
    leaf = ntorch.ones(2, requires_grad=True)
    for tensor, factor in ((leaf, 2.0), (leaf * 1, 3.0), (leaf, 2.0), (ntorch.ones(2), 2.0)):
        assert compiled(tensor)[0] == factor


def test_programs_keep_no_gradient_alive():
    model = nn.Linear(3, 2)
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    clip = ntorch.compile(lambda: nn.utils.clip_grad_norm_(model.parameters(), 0.5))
    step = ntorch.compile(lambda: optimizer.step())
    for _ in range(2):
        model(ntorch.randn(5, 3)).sum().backward()
        clip()
        step()
        gradients = [weakref.ref(p.grad._storage) for p in model.parameters()]
        model.zero_grad(set_to_none=True)
        gc.collect()
        assert all(reference() is None for reference in gradients)
    assert len(clip.programs()) == len(step.programs()) == 1


# --- what users hang on tensors ------------------------------------------------------------------


def test_attributes_of_a_tensor_that_is_held():
    w, x = ntorch.ones(3), ntorch.ones(3)
    w.tag, w.other = 2.0, object()
    compiled = ntorch.compile(lambda x: x * w.tag)
    for tag in (2.0, 2.0, 5.0, 5.0):
        w.tag, w.other = tag, object()
        assert compiled(x)[0] == tag
    assert len(compiled.programs()) == 2
    named = ntorch.compile(lambda x, name: x * getattr(w, name))
    for tag in (2.0, 3.0):
        w.tag = tag
        assert named(x, "tag")[0] == tag


def test_attributes_of_an_argument():
    compiled = ntorch.compile(lambda x: x * getattr(x, "tag", 1.0))
    for tag in (None, 2.0, 3.0, 3.0):
        x = ntorch.ones(3)
        if tag is not None:
            x.tag = tag
        assert compiled(x)[0] == (tag or 1.0)
    with pytest.raises(AttributeError, match="no attribute 'label'"):
        ntorch.compile(lambda x: x.label)(ntorch.ones(1))
