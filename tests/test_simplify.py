"""Simplification: what it drops, and what it must leave."""

import numpy as np
import pytest
from fused import Bench, constant, whole

import ntorch
from ntorch.jit import fuse, simplify
from ntorch.ops.entries.copying import IDENTITY


@pytest.fixture(autouse=True)
def seeded():
    ntorch.manual_seed(1)


# --- simplification ----------------------------------------------------------------------------


def test_common_subexpressions_and_dead_nodes():
    bench = Bench()
    x = bench.input(whole(9))
    first, second = bench.map("add", x, 1), bench.map("add", x, 1)
    bench.map("mul", x, 7)
    bench.escape(bench.map("mul", first, second))
    simplify.simplify(bench.graph)
    assert len(bench.graph.nodes) == 2
    bench.check()


def test_writes_keep_equal_expressions_apart():
    bench = Bench()
    x = bench.input(whole(9))
    first = bench.map("add", x, 1)
    bench.map("mul", x, 2, out=x)
    second = bench.map("add", x, 1)
    bench.escape(bench.map("sub", first, second))
    simplify.simplify(bench.graph)
    assert len(bench.graph.nodes) == 4
    bench.check()


def test_copies_and_exact_casts_vanish():
    bench = Bench()
    x = bench.input(whole(8, dtype=ntorch.float16))
    wide = bench.cast(x, ntorch.float32)
    back = bench.cast(wide, ntorch.float16)
    bench.escape(bench.map("add", bench.map("mul", back, 1), 3))
    simplify.simplify(bench.graph)
    assert len(bench.graph.nodes) == 1
    bench.check()


def test_launches_share_a_copy():
    """Equal copies that launches read, not only expressions."""
    def act(x):
        y = (x * 2).t()
        return ntorch.sort(y.contiguous())[0], ntorch.sort(y.contiguous(), descending=True)[0]
    compiled = ntorch.compile(act, fullgraph=True)
    x = ntorch.randn(5, 7)
    for _ in range(2):
        for found, wanted in zip(compiled(x), act(x), strict=True):
            np.testing.assert_array_equal(found.numpy(), wanted.numpy())
    assert sum("identity" in node.name for node in compiled.programs()[0].forward.nodes) == 1


def test_copies_of_what_a_launch_changes_stay_apart():
    def act(x):
        y = x.t()
        first, second = y.contiguous(), y.contiguous()
        second.cumsum_(0)
        third = y.contiguous()
        return ntorch.sort(first)[0], ntorch.sort(second)[0], ntorch.sort(third)[0]
    compiled, x = ntorch.compile(act, fullgraph=True), ntorch.randn(5, 7)
    for _ in range(2):
        for found, wanted in zip(compiled(x), act(x), strict=True):
            np.testing.assert_array_equal(found.numpy(), wanted.numpy())


def test_lossy_casts_stay():
    bench = Bench()
    x = bench.input(ntorch.randn(8))
    bench.escape(bench.map("add", bench.cast(bench.cast(x, ntorch.float16), ntorch.float32), 3))
    simplify.simplify(bench.graph)
    assert len(bench.graph.nodes) == 3
    bench.check()


def test_a_result_is_made_where_its_copy_goes():
    bench = Bench()
    x = bench.input(whole(7, 6))
    total = bench.reduce("sum", x, (0,))
    copy = bench.input(ntorch.empty(6))
    copy.view.buffer.kind = "temp"
    bench.map(IDENTITY, total, out=copy)
    bench.escape(copy)
    simplify.simplify(bench.graph)
    node, = bench.graph.nodes
    assert node.result.buffer is copy.view.buffer
    bench.check()


def test_a_copy_of_what_is_overwritten_later_stays():
    bench = Bench()
    x = bench.input(whole(7))
    copy = bench.cast(x, ntorch.float32)
    bench.map("mul", x, 2, out=x)
    bench.escape(bench.map("add", copy, x))
    simplify.simplify(bench.graph)
    assert len(bench.graph.nodes) == 3
    bench.check()


def test_constants_become_numbers():
    bench = Bench()
    x = bench.input(ntorch.randn(9))
    third = constant(bench, 1.0)
    third = bench.map("_div", third, 3)
    bench.escape(bench.map("mul", x, third))
    simplify.simplify(bench.graph)
    node, = bench.graph.nodes
    assert node.operands[1] == float(np.float32(1) / np.float32(3))
    bench.check()


def test_constants_that_are_written_later_stay():
    bench = Bench()
    x = bench.input(whole(9))
    zero = constant(bench, 0, 9)
    bench.map(IDENTITY, x.view_op(lambda t: t[:4]), out=zero.view_op(lambda t: t[:4]))
    bench.escape(bench.map("add", x, zero))
    bench.check()


def test_building_can_wait():
    bench = Bench()
    bench.escape(bench.map("neg", bench.map("add", bench.input(whole(5)), 1)))
    fuse.fuse(bench.graph, build=False)
    assert bench.graph.nodes[0].kernel is None
    fuse.build_all(bench.graph.nodes)
    assert bench.graph.nodes[0].kernel is not None
