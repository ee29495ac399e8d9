"""Fusion of pointwise nodes: graphs written down by hand give what eager gives, in few launches."""

import math

import numpy as np
import pytest
from fused import Bench, entry_of, softmax, whole

import ntorch
from ntorch.jit import codegen, fuse, ir, source, spaces
from ntorch.ops.dtype_rules import same
from ntorch.ops.pointwise import PointwiseEntry
from ntorch.runtime import build


@pytest.fixture(autouse=True)
def seeded():
    ntorch.manual_seed(1)


# --- single nodes ------------------------------------------------------------------------------


DTYPES = [ntorch.bool, ntorch.uint8, ntorch.int32, ntorch.int64, ntorch.float16, ntorch.bfloat16,
          ntorch.float32, ntorch.float64, ntorch.complex64]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_lower_map(dtype):
    bench = Bench()
    x, y = bench.input(whole(5, 6, dtype=dtype)), bench.input(whole(6, dtype=dtype))
    bench.escape(bench.map("add", x, y), bench.map("mul", x, 3), bench.map("eq", x, y))
    bench.map("add", x, y, out=x)
    bench.check(passes=False)


def test_lower_real_of_complex_and_strides():
    bench = Bench()
    x = bench.input(ntorch.randn(6, 8, dtype=ntorch.complex64))
    turned = x.view_op(lambda t: t[1:, ::2].permute(1, 0))
    bench.escape(bench.map("abs", turned), bench.map("mul", turned, 2 - 1j))
    bench.check(passes=False)


@pytest.mark.parametrize("shape,dims", [((3, 5), (1,)), ((3, 5), (0,)), ((40, 30), (0, 1)),
                                        ((2, 9000), (1,)), ((9000, 16), (0,)), ((4, 1), (1,))])
def test_lower_reduce(shape, dims):
    bench = Bench()
    x = bench.input(whole(*shape))
    bench.escape(bench.reduce("sum", x, dims), bench.reduce("amax", x, dims))
    bench.check(passes=False)


def test_lower_of_nothing():
    graph = ir.Graph()
    empty, out = graph.buffer(0, "temp"), graph.buffer(12, "temp")
    out.escapes = True
    entry = entry_of("mean")
    node = ir.Reduce("mean", entry, ir.View(empty, ntorch.float32, (3, 0), (0, 1), 0), (1,),
                     ntorch.float32, ir.View(out, ntorch.float32, (3,), (1,), 0))
    graph.nodes = [node]
    fuse.fuse(graph)
    bench = Bench()
    bench.graph = graph
    assert np.isnan(bench.run()[out].numpy().view(np.float32)).all()


def test_dynamic_slots():
    bench = Bench()
    value = [2.5]
    number = ir.Dynamic(lambda: value[0], 2.5)
    count = ir.Dynamic(lambda: 3, 3)
    x, k = bench.input(whole(9)), bench.input(whole(9, dtype=ntorch.int64))
    bench.escape(bench.map("add", bench.map("mul", x, number), 1.0),
                 bench.map("add", bench.map("mul", k, count), 1))
    bench.check()
    kinds = [type(s) for node in bench.graph.nodes for s in node.slots]
    assert ir.Dynamic in kinds and codegen.IntSlot in kinds
    value[0] = 4.0
    memory = bench.run()
    first = next(b for b in bench.graph.buffers if b.escapes)
    np.testing.assert_array_equal(memory[first].numpy().view(np.float32)[:9],
                                  x.eager.numpy() * 4 + 1)


# --- pointwise groups --------------------------------------------------------------------------


def test_chain_is_one_launch_and_stores_once():
    bench = Bench()
    x = bench.input(ntorch.randn(1000))
    h = x
    for name, more in (("mul", (2.0,)), ("exp", ()), ("add", (x,)), ("sigmoid", ())):
        h = bench.map(name, h, *more)
    bench.escape(h)
    bench.check(4)
    node, = bench.graph.nodes
    assert node.source.count("store_at") == 1 and node.source.count("load_at") == 1
    assert len(node.members) == 4 and node.bytes == 8000


@pytest.mark.parametrize("first,then", [
    ((6, 20), lambda t: t.reshape(6, 4, 5)), ((6, 4, 5), lambda t: t.reshape(120)),
    ((6, 4, 5), lambda t: t.permute(2, 0, 1)), ((6, 4, 5), lambda t: t.reshape(24, 5).t()),
    ((1, 6, 1, 5), lambda t: t.reshape(6, 5))])
def test_spaces_are_laid_over_each_other(first, then):
    bench = Bench()
    x = bench.input(whole(*first))
    h = bench.map("add", x, 1)
    bench.escape(bench.map("mul", h.view_op(then), x.view_op(then)))
    bench.check()
    assert len(bench.graph.nodes) == 1


@pytest.mark.parametrize("then", [lambda t: t[1:], lambda t: t[:, :3], lambda t: t.expand(2, 6, 5),
                                  lambda t: t[0].unsqueeze(0).expand(6, 5)])
def test_part_of_a_result_is_a_cut(then):
    bench = Bench()
    h = bench.map("add", bench.input(whole(6, 5)), 1)
    bench.escape(bench.map("mul", h.view_op(then), 3))
    bench.check()
    assert len(bench.graph.nodes) == 2
    assert any("stays apart" in reason for node in bench.graph.nodes
               for reason in getattr(node, "why", []) or ["stays apart"])


def test_types_round_between_members():
    bench = Bench()
    x = bench.input(ntorch.randn(300).to(ntorch.float16))
    h = bench.map("mul", x, 1.001)
    h = bench.map("mul", h, 1.001)
    mask = bench.map("gt", h, 0.5)
    bench.escape(bench.map("add", bench.map("mul", h, mask), bench.map("to_dtype", mask) if False
                           else mask))
    bench.check()
    assert len(bench.graph.nodes) == 1


def test_special_values_survive():
    bench = Bench()
    x = bench.input(ntorch.tensor([math.nan, math.inf, -math.inf, 0.0, -0.0, 1e-40, 3e38]))
    h = bench.map("mul", x, 10.0)
    bench.escape(bench.map("maximum", bench.map("sub", h, x), 0.0),
                 bench.map("minimum", bench.map("neg", h), 1.0))
    bench.check()
    assert len(bench.graph.nodes) == 1


def parts(x):
    """A function with two results."""
    return x * 0.5, x + 2.0


parts.__scalar__, parts.__module__ = True, "ntorch.generated"


def test_several_results_of_one_member():
    bench = Bench()
    x = bench.input(ntorch.randn(50))
    h = bench.map("mul", x, 3.0)
    entry = PointwiseEntry("parts(Tensor self) -> (Tensor, Tensor)", parts, same)
    low, high = bench.map(entry, h)
    bench.escape(bench.map("add", low, 1.0), high)
    bench.check()
    assert len(bench.graph.nodes) == 1


def test_in_place_chain_writes_once():
    bench = Bench()
    x, y = bench.input(whole(70)), bench.input(whole(70))
    bench.map("mul", x, y, out=x)
    bench.map("add", x, y, out=x)
    bench.check()
    node, = bench.graph.nodes
    assert node.source.count("store_at") == 1


def test_write_after_read_of_a_shifted_view_forbids():
    bench = Bench()
    x = bench.input(whole(30))
    tail = x.view_op(lambda t: t[1:])
    head = x.view_op(lambda t: t[:-1])
    h = bench.map("add", tail, 1)
    bench.map("mul", h, 2, out=head)
    bench.escape(bench.map("add", h, 5))
    bench.check()
    assert len(bench.graph.nodes) >= 2


def test_disjoint_slices_of_one_result():
    bench = Bench()
    x, out = bench.input(whole(6, 5)), bench.input(whole(6, 10))
    bench.map("add", x, 1, out=out.view_op(lambda t: t[:, :5]))
    bench.map("mul", x, 2, out=out.view_op(lambda t: t[:, 5:]))
    bench.check()
    assert len(bench.graph.nodes) == 1


def test_reader_of_the_old_value_stays_in_front():
    bench = Bench()
    x = bench.input(whole(4, 6))
    h = bench.map("add", x, 1)
    total = bench.reduce("sum", h, (0,))
    bench.map("mul", h, 2, out=h)
    bench.escape(h, bench.map("add", total, 1))
    bench.check()


def test_circle_through_another_node_forbids():
    bench = Bench()
    x = bench.input(whole(40, 30))
    h = bench.map("add", x, 1)
    turned = bench.map("add", h.view_op(lambda t: t.reshape(30, 40)[:, 3:7]), 1)
    total = bench.reduce("sum", turned, (0, 1))
    bench.escape(bench.map("mul", h, total))
    bench.check()


# --- sources and specs -------------------------------------------------------------------------


GOLDEN = """def body(args, begin, end):
    s0 = f4_(bits_i64_to_f64(args[3]))
    n = end - begin
    p0 = table_pointer(args, 0, begin, 'f4')
    p1 = table_pointer(args, 1, begin, 'f4')
    p2 = table_pointer(args, 2, begin, 'f4')
    for i in range(n):
        v0 = load_at(p0, i, '-/1')
        v1 = load_at(p1, i, '-/1')
        v2 = f4_(f0(v0, v1))
        v3 = b1_(f1(v2, s0))
        v4 = f4_(f0(v2, f4_(v3)))
        store_at(p2, i, v4, '0/1')
"""


def test_golden_pointwise():
    bench = Bench()
    x, y = bench.input(whole(12)), bench.input(whole(12))
    h = bench.map("mul", x, y)
    bench.escape(bench.map("mul", h, bench.map("gt", h, 0)))
    bench.check()
    assert bench.graph.nodes[0].source == GOLDEN


def test_constants_names_and_sizes_are_not_part_of_a_kernel():
    kernels = []
    for size, number in ((10, 2.0), (3000, 7.5)):
        bench = Bench()
        x = bench.input(whole(size))
        bench.escape(bench.map("neg", bench.map("mul", x, number)))
        bench.check()
        kernels.append(bench.graph.nodes[0].kernel)
    assert kernels[0] is kernels[1]


def test_specs_travel():
    bench = Bench()
    bench.escape(softmax(bench, bench.input(ntorch.randn(16, 9))))
    bench.check(64)
    spec = bench.graph.nodes[0].spec
    again = source.from_portable(spec.portable())
    assert again.key() == spec.key()
    key = build.kernel_key(source.body(again), ("slots",), "f4", again.reassoc)
    assert key == bench.graph.nodes[0].kernel.key


def test_disjoint():
    access = lambda offset, *strides: spaces.Access("b", ntorch.float32, offset, strides)  # noqa: E731
    disjoint = spaces._disjoint
    assert disjoint(access(0, 10, 1), access(5, 10, 1), (6, 5))
    assert not disjoint(access(0, 10, 1), access(4, 10, 1), (6, 5))
    assert disjoint(access(0, 1), access(7, 1), (7,))
    assert not disjoint(access(0, 2), access(1, 1), (7,))
    assert disjoint(access(0, 2), access(1, 2), (7,))
