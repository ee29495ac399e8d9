"""The history of compiled calls: what may be written between forward and backward, and whose
backward ran already."""
import pytest

import ntorch


@pytest.fixture
def x():
    ntorch.manual_seed(0)
    return ntorch.randn(4, 6, requires_grad=True)


def test_a_backward_before_the_trace_is_not_the_traces(x):
    """Leaves serve many graphs: that one of them was freed says nothing of the next."""
    held = x * 2                    # keeps the leaf's accumulator alive
    x.sum().backward()
    compiled = ntorch.compile(lambda x: (x * x).exp())
    for _ in range(2):
        y = compiled(x)
        got, = ntorch.autograd.grad(y.sum(), x)
        wanted, = ntorch.autograd.grad((x * x).exp().sum(), x)
        assert ntorch.allclose(got, wanted)
    assert held.requires_grad


def test_a_freed_history_of_an_argument_is_not_the_traces(x):
    argument = x.exp()
    argument.sum().backward()
    compiled = ntorch.compile(lambda a: (a * a).sin())
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        compiled(argument).sum().backward()
    argument = x.exp()
    got, = ntorch.autograd.grad(compiled(argument).sum(), x)
    wanted, = ntorch.autograd.grad((x.exp() * x.exp()).sin().sum(), x)
    assert ntorch.allclose(got, wanted)


def test_a_written_result_that_backward_reads(x):
    compiled = ntorch.compile(lambda x: x.tanh().tanh())
    for _ in range(2):
        y = compiled(x)
        with ntorch.no_grad():
            y.mul_(2)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            y.sum().backward()


def test_a_written_result_that_backward_does_not_read(x):
    compiled = ntorch.compile(lambda x: x * 3 + 1)
    y = compiled(x)
    with ntorch.no_grad():
        y.mul_(2)
    y.sum().backward()
    assert (x.grad == 3).all()


def test_an_argument_written_before_the_second_derivative(x):
    """First derivatives keep the sign; second ones run the function again, on other numbers."""
    other = ntorch.zeros(4, 6)
    compiled = ntorch.compile(lambda x, other: (x - other).sign() * x * x)
    wanted, = ntorch.autograd.grad(compiled(x, other).sum(), x)
    y = compiled(x, other)
    other.add_(100)
    got, = ntorch.autograd.grad(y.sum(), x, retain_graph=True)
    assert ntorch.equal(got, wanted)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        ntorch.autograd.grad(y.sum(), x, create_graph=True)


def test_a_held_tensor_written_before_the_second_derivative(x):
    held = ntorch.zeros(4, 6)
    compiled = ntorch.compile(lambda x: (x - held).sign() * x * x)
    y = compiled(x)
    held.add_(100)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        ntorch.autograd.grad(y.sum(), x, create_graph=True)
