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


def test_hooks_on_held_tensors_run_once(x):
    seen, weight = [], ntorch.ones(6, requires_grad=True)
    made = weight * 1
    compiled = ntorch.compile(lambda x, w: (x * w).sum() + (x * made).sum())
    weight.register_hook(lambda grad: grad + 1)
    made.register_hook(lambda grad: seen.append(grad.tolist()) or grad * 2)
    alone = x.sum(0).detach()
    for _ in range(3):
        weight.grad = None
        compiled(x, weight).backward(retain_graph=True)
        assert ntorch.allclose(weight.grad, alone + alone * 2 + 1)
    assert len(seen) == 3


def test_results_made_in_inference_mode_say_so(x):
    def function(x):
        with ntorch.inference_mode():
            y = x * 2
        return y, x + 1
    compiled = ntorch.compile(function)
    for _ in range(3):
        assert [t.is_inference() for t in compiled(x)] == [True, False]
        with ntorch.inference_mode():
            assert [t.is_inference() for t in compiled(x)] == [True, True]


def test_two_slices_of_one_storage():
    """A program serves every pair of slices at that distance, wherever they lie."""
    data = ntorch.arange(48.0)
    compiled = ntorch.compile(lambda a, b: (a * 2 + b, a[1:], b.add_(1)))
    for start in (0, 8, 16, 3):
        a, b = data[start:start + 4], data[start + 4:start + 8]
        wanted = (a * 2 + b).tolist(), a[1:].tolist(), (b + 1).tolist()
        found = compiled(a, b)
        assert tuple(t.tolist() for t in found) == wanted and b.tolist() == wanted[2]
        assert found[1].data_ptr() == a.data_ptr() + 4
    assert len(compiled.programs()) == 1
    words = ntorch.arange(32, dtype=ntorch.int8)
    compiled = ntorch.compile(lambda a, b: (a + 1, b.view(ntorch.int32)))
    for start in (1, 2, 5, 0):      # one lies between the words of the other
        a, b = words[start:start + 2], words[8:16]
        found = compiled(a, b)
        assert found[0].tolist() == (a + 1).tolist()
        assert found[1].tolist() == b.view(ntorch.int32).tolist()


def test_backward_reads_slices_where_they_lie():
    data = ntorch.arange(1.0, 25.0)
    compiled = ntorch.compile(lambda a, b, w: (a * w * b).sum())
    for start in (0, 8, 12):
        w = ntorch.ones(4, requires_grad=True)
        a, b = data[start:start + 4], data[start + 4:start + 8]
        compiled(a, b, w).backward()
        assert ntorch.equal(w.grad, a * b)


def test_a_cell_called_in_a_loop(x):
    """Weights of an earlier call in the history of an argument count once."""
    weight = ntorch.full((6,), 0.5, requires_grad=True)

    def cell(h):
        return (h * weight).tanh() + x * weight
    compiled = ntorch.compile(cell)
    for _ in range(3):
        found = []
        for call in (cell, compiled):
            weight.grad = x.grad = None
            h = x * 1
            for _ in range(3):
                h = call(h)
            h.sum().backward()
            found.append((weight.grad, x.grad))
        assert ntorch.allclose(found[0][0], found[1][0]) and ntorch.allclose(*[f[1] for f in found])
    assert len(compiled.programs()) == 1


def test_what_is_argument_and_held(x):
    compiled = ntorch.compile(lambda a: (a * x).sum())
    made = x * 2
    with_made = ntorch.compile(lambda a: (a * x * made).sum())
    for _ in range(4):
        for call, factor in ((compiled, 2 * x), (with_made, 6 * x * x)):
            x.grad = None
            call(x).backward(retain_graph=True)
            assert ntorch.allclose(x.grad, factor)


def test_a_backward_of_compiled_calls_inside_a_compiled_function(x):
    inner = ntorch.compile(lambda a: (a * a).sin())

    def step(y):
        ntorch.autograd.backward((y * 2).sum())
        return x.grad * 1
    compiled = ntorch.compile(step)
    for _ in range(4):
        x.grad = None
        inner(x).sum().backward()
        alone, x.grad = x.grad, None
        assert ntorch.allclose(compiled(inner(x)), alone * 2)


def test_second_derivatives_of_a_chain_of_calls():
    compiled = ntorch.compile(lambda a, w: (a * w).sin())
    for _ in range(2):
        found = []
        for call in (compiled, lambda a, w: (a * w).sin()):
            w = ntorch.full((3,), 0.7, requires_grad=True)
            y = call(call(ntorch.ones(3), w), w)
            first, = ntorch.autograd.grad(y.sum(), w, create_graph=True)
            found.append((first, *ntorch.autograd.grad(first.sum(), w)))
        assert all(ntorch.allclose(a, b) for a, b in zip(*found, strict=True))
