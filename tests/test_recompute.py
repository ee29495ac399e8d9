"""What backward computes again instead of keeping it, and that it is the same."""
import numpy as np
import pytest

import ntorch
from ntorch.jit import ir, recompute, slices
from ntorch.nn import functional
from ntorch.runtime import dtypes


@pytest.fixture(autouse=True)
def seeded():
    ntorch.manual_seed(5)


def close(found, expected, rtol=1e-5, atol=1e-6):
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one.detach().numpy(), other.detach().numpy(), rtol, atol)


def saved(compiled):
    """Bytes that forward keeps for backward, its results included."""
    variant = compiled.programs()[-1]
    return sum(b.nbytes for b in variant.forward.outputs)


def chain(x, w):
    y = x * w
    for _ in range(3):
        y = ntorch.sin(y) * y + 1
    return y.sigmoid()


def both(function, *tensors):
    """Results and gradients, twice, of the compiled function and of the plain one."""
    compiled = ntorch.compile(function)
    wanted = [t for t in tensors if t.requires_grad]
    for _ in range(2):
        found, expected = compiled(*tensors), function(*tensors)
        close([found, *ntorch.autograd.grad(found.sum(), wanted)],
              [expected, *ntorch.autograd.grad(expected.sum(), wanted)], 1e-4, 1e-5)
    return compiled


def test_a_chain_keeps_few_of_its_values():
    x = ntorch.randn(256, 128, requires_grad=True)
    compiled = both(chain, x, ntorch.rand(128, requires_grad=True))
    assert saved(compiled) <= 2 * x.numel() * 4         # eager keeps eight


def test_what_is_kept_does_not_depend_on_the_size_of_the_batch():
    """The same values, so the same kernels: a batch of another size compiles nothing."""
    shared = ntorch.rand(16, requires_grad=True)
    kept, sources = set(), set()
    for rows in (3, 8, 1000):
        x = ntorch.randn(rows, 16, requires_grad=True)
        compiled = both(chain, x, shared)
        kept.add((saved(compiled) - 16 * 4) / x.numel())
        sources.add(compiled.programs()[-1].source())
    assert len(sources) == 1 and max(kept) <= 8


def test_long_chains_are_cut():
    def long(x):
        for _ in range(12):
            x = ntorch.tanh(x) * ntorch.exp(-x)
        return x
    x = ntorch.randn(64, 128, requires_grad=True)
    kept = saved(both(long, x)) / (x.numel() * 4)
    assert 3 <= kept <= 14


def test_two_values_of_one_source_keep_the_source():
    """Both factors of a product are functions of a sum that backward would not keep by itself."""
    def gate(x, y):
        total = x + y
        return ntorch.sigmoid(total) * ntorch.tanh(total)
    x, y = (ntorch.randn(128, 128, requires_grad=True) for _ in range(2))
    assert saved(both(gate, x, y)) <= 2 * x.numel() * 4


def test_writing_what_eager_does_not_keep_stays_harmless():
    """Backward may compute from the bias, which eager backward never reads."""
    def function(x, bias):
        return (ntorch.sin(x + bias) * 2).sigmoid()
    x = ntorch.randn(128, 128, requires_grad=True)
    bias = ntorch.randn(128, 128)
    compiled = ntorch.compile(function)
    for _ in range(2):
        found, before = compiled(x, bias), bias.clone()
        bias.add_(1.0)
        gradient, = ntorch.autograd.grad(found.sum(), [x])
        expected, = ntorch.autograd.grad(function(x, before).sum(), [x])
        close([gradient], [expected])


def test_writing_a_result_that_eager_does_not_keep_stays_harmless():
    def function(x, y):
        total = x + y
        return total, ntorch.sigmoid(total) * ntorch.exp(total)
    x, y = ntorch.randn(128, 128, requires_grad=True), ntorch.randn(128, 128)
    compiled = ntorch.compile(function)
    for _ in range(2):
        total, found = compiled(x, y)
        with ntorch.no_grad():
            total.mul_(3.0)
        close(ntorch.autograd.grad(found.sum(), [x]),
              ntorch.autograd.grad(function(x, y)[1].sum(), [x]))


@pytest.mark.parametrize("size", [4, 256])
def test_writing_what_eager_keeps_is_refused(size):
    x, w = ntorch.randn(size, size, requires_grad=True), ntorch.rand(size, size)
    compiled = ntorch.compile(chain)
    compiled(x, w)
    result = compiled(x, w)
    w.add_(1.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        result.sum().backward()


def test_inputs_written_inside_are_not_computed_from_again():
    def function(x, state):
        y = ntorch.sin(x + state) + 1
        state.mul_(0.5)
        return y * y.exp() + ntorch.cos(x + state)
    x = ntorch.randn(128, 128, requires_grad=True)
    first, second = (ntorch.full((128, 128), 2.0) for _ in range(2))
    compiled = ntorch.compile(function)
    for _ in range(3):
        found, expected = compiled(x, first), function(x, second)
        close([found, first, *ntorch.autograd.grad(found.sum(), [x])],
              [expected, second, *ntorch.autograd.grad(expected.sum(), [x])], 1e-4, 1e-5)


def test_dropout_masks_are_those_of_forward():
    def function(x):
        y = functional.dropout(x.sin(), 0.5)
        return (y * y).exp()
    x = (ntorch.rand(128, 128) + 0.5).requires_grad_()
    compiled = ntorch.compile(function)
    for _ in range(3):
        found = compiled(x)
        gradient, = ntorch.autograd.grad(found.sum(), [x])
        dropped = found == 1
        y = x.detach().sin() * 2
        expected = ntorch.where(dropped, 0.0, (y * y).exp() * 4 * y * x.detach().cos())
        close([gradient], [expected], 1e-4, 1e-4)


def test_numbers_of_a_call_are_those_of_forward():
    function = ntorch.compile(lambda x, scale: ntorch.sin(x * scale).exp() * x)
    x = ntorch.randn(128, 128, requires_grad=True)
    for scale in (0.5, 1.5, 2.5, 3.5):
        found = function(x, scale)
        function(x.detach(), scale + 1)
        gradient, = ntorch.autograd.grad(found.sum(), [x])
        expected = ntorch.sin(x * scale).exp() * x
        close([found, gradient], [expected, *ntorch.autograd.grad(expected.sum(), [x])], 1e-4, 1e-5)


class Net(ntorch.nn.Module):
    """Values that pooling reads early and a relu's gradient late."""

    def __init__(self):
        super().__init__()
        self.first = ntorch.nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.norm = ntorch.nn.BatchNorm2d(16)
        self.second = ntorch.nn.Conv2d(16, 16, 3, padding=1)

    def forward(self, x):
        x = functional.max_pool2d(ntorch.relu(self.norm(self.first(x))), 3, 2, 1)
        return self.second(x).mean()


def steps(compile_it):
    ntorch.manual_seed(2)
    net = Net()
    optimizer = ntorch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)

    def step(x):
        loss = net(x)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss
    run = ntorch.compile(step) if compile_it else step
    losses = [run(ntorch.randn(4, 3, 16, 16)) for _ in range(5)]
    return run, [*losses, *net.parameters(), *net.buffers()]


def test_a_whole_step_computes_again_what_it_would_keep():
    run, found = steps(True)
    close(found, steps(False)[1], 1e-4, 1e-5)
    program = run.programs()[-1].forward
    texts = [m for node in program.nodes if isinstance(node, ir.Fused) for m in node.members]
    late = next(k for k, text in enumerate(texts) if "_threshold_backward" in text)
    # the normalised values behind the relu's mask: in the forward kernel and in the backward one
    assert any(" = _relu(" in text for text in texts[:late])
    assert sum(" = _relu(" in text for text in texts) == 2


def test_what_a_launch_reads_late_is_kept():
    def function(x, w):
        return ntorch.matmul(ntorch.sin(x), w)
    x, w = ntorch.randn(128, 64, requires_grad=True), ntorch.randn(64, 32, requires_grad=True)
    compiled = both(function, x, w)
    backward = compiled.programs()[-1].backward
    assert not any("sin" in member for node in backward.nodes if isinstance(node, ir.Fused)
                   for member in node.members if " = sin(" in member)


def test_the_least_cut():
    """Capacities 3 and 2 behind each other, and 4 beside: 2 + 4."""
    network = recompute._Network()
    for edge in (("source", "a", 9), ("a", "b", 3), ("b", "sink", 2), ("source", "c", 4),
                 ("c", "sink", 9)):
        network.connect(*edge)
    network.saturate()
    assert network.behind() == {"sink", "c"}


# --- sums of slices -----------------------------------------------------------------------------


def launches(function, *tensors):
    compiled = ntorch.compile(function)
    compiled(*tensors)
    found, expected = compiled(*tensors), function(*tensors)
    close(found, expected)
    return compiled, [node.name for node in compiled.programs()[-1].forward.nodes]


def graded(function):
    def run(*tensors):
        return ntorch.autograd.grad(function(*tensors), tensors)
    return run


def test_the_gradient_of_a_split_is_written_in_place():
    def function(x):
        a, b, c = x.split([3, 5, 2], 1)
        return (a.sin() * 2).sum() + b.cos().sum() + c.exp().sum()
    compiled, _ = launches(graded(function), ntorch.randn(40, 10, requires_grad=True))
    program = compiled.programs()[-1].forward
    text = "\n".join(m for n in program.nodes for m in getattr(n, "members", [repr(n)]))
    assert " add(" not in text and "constant(0)" not in text


def test_slices_that_leave_gaps_keep_their_zeros():
    def function(x):
        return x[:, 1:3].sin().sum() + (x[:, 5:9] * 3).sum()
    launches(graded(function), ntorch.randn(40, 10, requires_grad=True))


def test_slices_that_overlap_are_added():
    def function(x):
        return x[:, :6].sin().sum() + (x[:, 4:] * 3).sum() + x[3].sum() + x[:, 5].exp().sum()
    launches(graded(function), ntorch.randn(40, 10, requires_grad=True))


def test_strided_slices():
    def function(x):
        return x[:, ::2].sin().sum() + (x[:, 1::2] * 3).sum()
    launches(graded(function), ntorch.randn(40, 10, requires_grad=True))


def test_a_sum_that_is_read_twice():
    def function(x):
        a, b = x.chunk(2)
        gradient, = ntorch.autograd.grad((a * a).sum() + b.exp().sum(), [x])
        return gradient * 2, gradient + 1
    launches(function, ntorch.randn(12, 7, requires_grad=True))


@pytest.mark.parametrize("one,other,apart", [
    (((4, 3), (10, 1), 0), ((4, 7), (10, 1), 3), True),
    (((4, 4), (10, 1), 0), ((4, 7), (10, 1), 3), False),
    (((4, 5), (10, 2), 0), ((4, 5), (10, 2), 1), True),
    (((2, 10), (10, 1), 0), ((2, 10), (10, 1), 20), True),
    (((3, 10), (10, 1), 0), ((2, 10), (10, 1), 20), False),
    (((4,), (10,), 3), ((4,), (10,), 4), True), (((10,), (1,), 0), ((4,), (10,), 3), False)])
def test_disjoint_views(one, other, apart):
    buffer = ir.Buffer(0, 160, "temp")
    views = [ir.View(buffer, dtypes.float32, *form) for form in (one, other)]
    covered = [{offset + sum(i * s for i, s in zip(index, strides, strict=True))
                for index in np.ndindex(*shape)} for shape, strides, offset in (one, other)]
    assert not covered[0] & covered[1] if apart else covered[0] & covered[1]
    assert slices.disjoint(*views) is apart and slices.disjoint(*views[::-1]) is apart


# --- what ``explain`` says of it ------------------------------------------------------------------


ROWS, COLUMNS = 64, 32
VALUE = ROWS * COLUMNS * 4          # bytes of one value of all elements


def test_memory_of_forward_and_backward():
    """``tanh(x) * x``: backward reads x anyway, and computes the other factor from it again."""
    x = ntorch.randn(ROWS, COLUMNS, requires_grad=True)
    compiled = both(lambda x: ntorch.tanh(x) * x, x)
    memory = compiled.programs()[-1].memory
    assert memory.saved == 0 and memory.behind is None
    (text, size), = memory.recomputed
    assert " = tanh(" in text and size == VALUE
    assert memory.peak == VALUE         # forward's result, or backward's gradient
    text = compiled.explain()
    assert "forward keeps 0 B for backward; planned peak 8.19 kB" in text
    assert "recomputed instead of kept: 1 value, 8.19 kB" in text


def test_memory_where_nothing_is_gained():
    """``tanh(x) * exp(y)``: to compute a factor again, its argument would have to be kept."""
    x, y = (ntorch.randn(ROWS, COLUMNS, requires_grad=True) for _ in "xy")
    compiled = both(lambda x, y: ntorch.tanh(x) * ntorch.exp(y), x, y)
    memory = compiled.programs()[-1].memory
    assert memory == (2 * VALUE, None, (), 4 * VALUE)       # two factors and two gradients
    assert "recomputed" not in compiled.explain()


def test_memory_of_a_whole_step():
    """``sin(x) * w`` summed: one launch makes the loss; what backward needs is there."""
    w = ntorch.randn(ROWS, COLUMNS, requires_grad=True)

    def step(x):
        loss = (ntorch.sin(x) * w).sum()
        loss.backward()
        return loss
    compiled = ntorch.compile(step)
    for _ in range(2):
        w.grad = None
        compiled(ntorch.randn(ROWS, COLUMNS))
    variant = compiled.programs()[-1]
    arena = variant.forward.arena.nbytes
    assert variant.memory.peak == arena + VALUE + 4         # the gradient and the loss
    assert variant.memory.saved <= arena
    assert "planned peak" in compiled.explain()
