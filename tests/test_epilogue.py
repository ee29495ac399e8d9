"""Pointwise tails computed in the epilogue of a contraction (jit/epilogue.py)."""
import numpy as np
import pytest

import ntorch as nt
import ntorch.nn.functional as F
from ntorch.jit import codegen, epilogue, ir
from ntorch.jit.program import Program
from ntorch.jit.recorder import Recorder
from ntorch.ops import conv_direct
from ntorch.ops.base import make


class Recorded:
    """A function recorded, its contractions' tails absorbed, and made a program."""

    def __init__(self, function, change=epilogue.absorb_all):
        recorder = Recorder(None)
        with nt.no_grad(), recorder:
            result = function()
        self.results = result if isinstance(result, tuple) else (result,)
        self.graph = graph = recorder.graph
        self.buffers = [recorder.pointer(recorder.fake_address(r)).buffer for r in self.results]
        for buffer in self.buffers:
            buffer.escapes = buffer.kind == "temp"
        self.recorded = list(graph.verify().nodes)
        change(graph)
        self.nodes = list(graph.verify().nodes)
        graph.nodes = [each for node in self.nodes for each in codegen.lower(node, graph)]
        used = set()
        for node in graph.nodes:
            used |= node.read_buffers() | node.written_buffers()
        self.inputs = [b for b in graph.buffers if b.kind != "temp" and b in used]
        self.made = list(dict.fromkeys(b for b in self.buffers if b.kind == "temp"))
        self.program = Program(graph, self.inputs, self.made)

    def run(self):
        """The results of a run, as tensors."""
        made = dict(zip(self.made, self.program.run([b.storage.address for b in self.inputs]),
                        strict=True))
        return [make(made.get(b, b.storage), r.dtype, r._shape, r._strides, r._offset)
                for r, b in zip(self.results, self.buffers, strict=True)]

    def left(self):
        """Names of the pointwise nodes that stayed on their own."""
        return [node.name for node in self.nodes if isinstance(node, ir.Map)]


def numpy_of(tensor):
    return tensor.double().numpy()


def agrees(function, left=0, tolerance=3e-6, rounds=2):
    """Record, absorb, run and compare with eager; ``left``: Maps that must not be absorbed."""
    recorded = Recorded(function)
    with nt.no_grad():
        wanted = function()
    wanted = wanted if isinstance(wanted, tuple) else (wanted,)
    for _ in range(rounds):
        for got, want in zip(recorded.run(), wanted, strict=True):
            assert got.dtype is want.dtype and got.shape == want.shape
            got, want = numpy_of(got), numpy_of(want)
            np.testing.assert_allclose(got, want, rtol=tolerance,
                                       atol=tolerance * max(1.0, np.abs(want).max()))
    assert len(recorded.left()) == left, recorded.nodes
    return recorded


def randn(*shape, dtype=nt.float32, seed=0):
    nt.manual_seed(seed + sum(shape))
    return nt.randn(*shape).to(dtype)


@pytest.mark.parametrize("dtype", [nt.float32, nt.float64, nt.float16, nt.bfloat16])
@pytest.mark.parametrize("m, n, k", [(512, 320, 300), (130, 77, 600), (513, 33, 1025)])
def test_linear_bias_activation_residual(dtype, m, n, k):
    x, w = randn(m, k, dtype=dtype), randn(n, k, dtype=dtype, seed=1)
    b, r = randn(n, dtype=dtype), randn(m, n, dtype=dtype, seed=2)
    tolerance = {nt.float64: 1e-13, nt.float16: 2e-3, nt.bfloat16: 2e-2}.get(dtype, 3e-6)
    agrees(lambda: F.relu(F.linear(x, w, b)) + r, tolerance=tolerance)


X, W, B = randn(300, 600), randn(700, 600), randn(700)
R, ROW, COLUMN = randn(300, 700), randn(700, seed=3), randn(300, 1)
HUNDRED, THREE, SEVEN = randn(100, 700), randn(3, 1, 1), randn(7, 1)


@pytest.mark.parametrize("name, function", [
    ("gelu", lambda: F.gelu(F.linear(X, W, B))),
    ("numbers", lambda: nt.sigmoid(X @ W.t()) * 2.5 - 0.5),
    ("addmm", lambda: nt.tanh(nt.addmm(R, X, W.t(), beta=0.5, alpha=2.0))),
    ("alpha alone", lambda: nt.addmm(R, X, W.t(), beta=0, alpha=2.0) + ROW),
    ("operands of all kinds", lambda: (X @ W.t() * ROW + COLUMN) / (R * R + 1).sum()),
    ("turned operand", lambda: X @ W.t() + R.t().contiguous().t()),
    ("turned use", lambda: (X @ W.t()).t() * 2 + COLUMN.t()),
    ("same operand twice", lambda: nt.relu(X @ W.t() + R) * R),
    ("mask", lambda: nt.where(R > 0, X @ W.t(), ROW)),
    ("comparison", lambda: X @ W.t() > R),
    ("cast", lambda: (X @ W.t() + ROW).to(nt.float64)),
    ("several types", lambda: nt.exp((X @ W.t()).to(nt.float64) * 0.01) > R.double()),
    ("integers", lambda: (X @ W.t()).to(nt.int32) * 3 + 1),
    ("three dimensions", lambda: nt.relu(
        (X @ W.t()).view(3, 100, 700) + HUNDRED + THREE)),
    ("rows of another shape", lambda: (X @ W.t()).view(300, 7, 100) * SEVEN),
])
def test_matrix_tails(name, function):
    made = Recorded(function)
    bare = [n for n in made.recorded if isinstance(n, ir.Map)]
    got, want = made.run()[0], function()
    np.testing.assert_allclose(numpy_of(got), numpy_of(want), rtol=3e-6,
                               atol=3e-6 * float(np.abs(numpy_of(want)).max()))
    assert len(made.left()) < len(bare)
    assert not set(made.left()) - {"mul", "gt", "identity", "add", "clone", "_row_major"}


def test_heads_are_stored_where_the_copy_wanted_them():
    recorded = agrees(lambda: F.linear(X, W, B).view(3, 100, 7, 100).transpose(1, 2).contiguous())
    assert len(recorded.nodes) == 1


@pytest.mark.parametrize("shape", [(3, 70, 333, 400), (2, 33, 600, 257)])
def test_batched_products(shape):
    batch, m, n, k = shape
    a, b = randn(batch, m, k), randn(batch, k, n)
    mask, scale = randn(batch, 1, n), randn(batch, 1, 1)
    agrees(lambda: nt.bmm(a, b) * scale + mask)
    agrees(lambda: nt.exp(nt.baddbmm(mask, a, b, alpha=0.01)))


def test_two_levels_of_batches():
    a, b = randn(2, 3, 80, 400), randn(2, 3, 400, 350)
    mask = randn(2, 1, 1, 350)
    agrees(lambda: nt.relu(a.transpose(0, 1) @ b.transpose(0, 1) + mask.transpose(0, 1)))


CONVOLUTIONS = [
    # input, weight, options
    ((2, 8, 20, 30), (12, 8, 3, 3), dict(padding=1)),
    ((2, 8, 20, 30), (12, 8, 3, 3), dict(padding=2, dilation=2)),
    ((3, 8, 21, 17), (12, 8, 3, 3), dict(stride=2, padding=1)),
    ((2, 8, 9, 9), (12, 4, 3, 3), dict(groups=2, padding=1)),
    ((2, 16, 14, 14), (24, 16, 1, 1), {}),
    ((2, 6, 5, 3), (9, 6, 2, 2), {}),
    ((2, 8, 50), (12, 8, 5), dict(padding=2)),
    ((2, 4, 6, 7, 8), (5, 4, 3, 3, 3), dict(padding=1)),
]


@pytest.mark.parametrize("shape, filters, options", CONVOLUTIONS)
@pytest.mark.parametrize("dtype", [nt.float32, nt.float64])
@pytest.mark.parametrize("direct", [True, False], ids=["direct", "product"])
def test_convolution_norm_residual_relu(shape, filters, options, dtype, direct, monkeypatch):
    monkeypatch.setattr(conv_direct, "suits", lambda *a: direct)
    x, w = randn(*shape, dtype=dtype), randn(*filters, dtype=dtype)
    nd, channels = len(shape) - 2, filters[0]
    convolve = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}[nd]
    mean, var = randn(channels, dtype=dtype), randn(channels, dtype=dtype).abs() + 0.5
    scale, shift = randn(channels, dtype=dtype, seed=4), randn(channels, dtype=dtype, seed=5)
    residual = randn(*convolve(x, w, None, **options).shape, dtype=dtype)

    def function(bias):
        y = convolve(x, w, bias, **options)
        y = F.batch_norm(y, mean, var, scale, shift)
        return F.silu(y + residual)

    tolerance = 1e-12 if dtype is nt.float64 else 1e-5
    left = 3        # scale from the running variance: per channel
    if nd > 1 and filters[-1] != 1 and not direct:
        left += 2   # rows of sums with gaps: the residual and what follows stay a pass of their own
    agrees(lambda: function(None), left=left, tolerance=tolerance)
    agrees(lambda: function(shift), left=left, tolerance=tolerance)


def test_convolution_of_half_types_casts_in_the_epilogue():
    x, w, b = (randn(*s, dtype=nt.bfloat16) for s in ((2, 8, 12, 12), (16, 8, 3, 3), (16,)))
    recorded = Recorded(lambda: F.relu(F.conv2d(x, w, b, padding=1)))
    np.testing.assert_array_equal(numpy_of(recorded.run()[0]),
                                  numpy_of(F.relu(F.conv2d(x, w, b, padding=1))))
    assert recorded.nodes[-1].name.startswith("_convolution+")


@pytest.mark.parametrize("options", [dict(padding=1), dict(), dict(padding=1, dilation=2),
                                     dict(padding=1, groups=2)])
@pytest.mark.parametrize("direct", [True, False], ids=["direct", "product"])
def test_transposed_convolution_of_stride_one(options, direct, monkeypatch):
    monkeypatch.setattr(conv_direct, "suits", lambda *a: direct)
    x, w, b = randn(2, 8, 10, 11), randn(8, 6, 3, 3), randn(6 * options.get("groups", 1))
    turned = 0 if direct else 1     # the weight, as the product wants it
    agrees(lambda: F.leaky_relu(F.conv_transpose2d(x, w, b, **options)) * 2, left=turned)


def test_results_that_others_read_are_stored_too():
    def function():
        y = F.linear(X, W, B)
        z = nt.sigmoid(y)
        return y, z, (z * R).sum(1), y.t() @ z
    recorded = agrees(function, tolerance=1e-5)
    assert sum(isinstance(n, ir.Contract) for n in recorded.nodes) == 2


def test_intermediate_results_are_not_stored():
    recorded = Recorded(lambda: nt.exp(nt.relu(X @ W.t())) * 2)
    node, = recorded.nodes
    assert node.written_buffers() == set(recorded.made)


def test_in_place_on_the_result_and_on_another():
    def function():
        y = X @ W.t()
        y.relu_()
        y.mul_(2)
        return y
    agrees(function)
    base = randn(300, 700, seed=9)
    kept, total = base.clone(), base.clone()

    recorded = Recorded(lambda: total.add_(X @ W.t(), alpha=0.5))
    assert not recorded.left()
    recorded.run()
    np.testing.assert_allclose(numpy_of(total), numpy_of(kept + 0.5 * (X @ W.t())), rtol=1e-5,
                               atol=1e-4)


def test_a_later_branch_comes_before_the_epilogue_that_needs_it():
    """As in a residual network: the second convolution waits for the shortcut's."""
    x, w = randn(2, 8, 12, 12), randn(8, 8, 3, 3)
    shortcut = randn(8, 8, 1, 1)

    def function():
        y = F.conv2d(x, w, padding=1)
        return F.relu(y + F.relu(F.conv2d(x, shortcut)))
    recorded = agrees(function)
    assert sum(isinstance(n, ir.Contract) for n in recorded.nodes) == 2


def test_a_tail_that_depends_on_the_whole_result_stays():
    """A softmax reads the row's maximum, which is known only after the product."""
    function = lambda: nt.exp(X @ W.t() - (X @ W.t()).amax(1, keepdim=True))    # noqa: E731
    agrees(function, tolerance=1e-5)

    def normalized():
        y = X @ W.t()
        return nt.exp(y - y.amax(1, keepdim=True))
    agrees(normalized, left=2, tolerance=1e-5)


def test_an_operand_is_not_overwritten_while_others_read_it():
    x, w = randn(512, 512), randn(512, 512, seed=1)
    original = x.clone()
    recorded = Recorded(lambda: x.copy_(nt.relu(x @ w)))
    assert len(recorded.nodes) == 2
    recorded.run()
    np.testing.assert_allclose(numpy_of(x), numpy_of(nt.relu(original @ w)), rtol=1e-5, atol=1e-4)


def test_values_of_another_position_stay():
    square = randn(512, 400), randn(400, 512)
    agrees(lambda: (lambda y: y + y.t())(square[0] @ square[1]), left=1)


def test_absorb_by_hand_and_candidates():
    recorded = Recorded(lambda: nt.relu(X @ W.t()) + R, change=lambda graph: graph)
    contract, *maps = recorded.recorded
    made = epilogue.absorb(contract, maps)
    assert isinstance(made, ir.Contract)
    assert made.written_buffers() == {contract.slots[contract.slots[26 + 1] + 7].buffer,
                                      *(m.results[0].buffer for m in maps)}
    assert epilogue.candidates(ir_graph(recorded.recorded)) == [maps]
    assert epilogue.absorb(made, maps) is None


def ir_graph(nodes):
    graph = ir.Graph()
    graph.nodes = list(nodes)
    return graph


def test_any_number_of_threads_gives_the_same_bits():
    function = lambda: F.gelu(F.linear(X, W, B)) + R    # noqa: E731
    threads, found = nt.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            nt.set_num_threads(count)
            found.append(numpy_of(Recorded(function).run()[0]))
    finally:
        nt.set_num_threads(threads)
    for other in found[1:]:
        np.testing.assert_array_equal(other, found[0])


@pytest.mark.parametrize("function", [
    lambda x, w, b: F.batch_norm(x, None, None, w, b, training=True),
    lambda x, w, b: F.batch_norm(x, None, None, None, b, training=True),
    lambda x, w, b: F.group_norm(x, 3, w, b),
    lambda x, w, b: F.group_norm(x, 6),
    lambda x, w, b: F.instance_norm(x, None, None, w, b),
    lambda x, w, b: F.batch_norm(x[:, :, 0, 0], None, None, w, b, training=True),
])
@pytest.mark.parametrize("dtype", [nt.float32, nt.float16])
def test_a_recorded_norm_is_pointwise_behind_its_statistics(function, dtype):
    x = randn(4, 6, 7, 9, dtype=dtype) + 3
    w, b = randn(6, dtype=dtype), randn(6, dtype=dtype, seed=1)
    recorded = Recorded(lambda: function(x, w, b))
    assert any(isinstance(n, ir.Map) for n in recorded.recorded)
    got, want = recorded.run()[0], function(x, w, b)
    assert got.dtype is want.dtype
    np.testing.assert_allclose(numpy_of(got), numpy_of(want), rtol=2e-3 if dtype.is_half else 1e-5,
                               atol=2e-3 if dtype.is_half else 1e-5)


def test_packed_operands_are_not_kept_by_a_recording():
    from ntorch.ops.contraction import Source, prepack_tensor
    weight = randn(40, 30)
    with Recorder(None) as recorder:
        assert type(prepack_tensor(recorder.proxy(weight))) is Source
