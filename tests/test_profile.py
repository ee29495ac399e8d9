"""``jit.profile``: every launch of a compiled call, its time, and what it does."""
import pytest

import ntorch
from ntorch import jit, nn


@pytest.fixture(scope="module")
def model():
    ntorch.manual_seed(0)
    return ntorch.compile(nn.Sequential(nn.Linear(300, 200), nn.ReLU(), nn.Linear(200, 10)))


def test_every_launch_is_timed(model):
    x = ntorch.randn(256, 300)
    with ntorch.no_grad():
        found = jit.profile(model, x, runs=5)
    (variant,) = model._program.programs()
    nodes = variant.forward.steps_of
    assert [s.place for s in found.steps] == list(range(len(nodes)))
    assert [s.name for s in found.steps] == [n.name for n in nodes]
    assert all(s.seconds >= 0 for s in found.steps) and found.runs == 5
    # the parts are within the whole, and the products are what takes time
    total = sum(s.seconds for s in found.steps)
    assert 0 < total and max(found.steps, key=lambda s: s.seconds).flops >= 2 * 256 * 2000
    assert found.seconds > 0
    text = str(found).splitlines()
    assert f"in {len(nodes)} launches" in text[0] and len(text) == 3 + len(nodes)


def test_calls_are_real_and_nothing_is_left_behind():
    weight = ntorch.zeros(4, requires_grad=True)
    optimizer = ntorch.optim.SGD([weight], lr=1.0)

    @ntorch.compile
    def step(x):
        optimizer.zero_grad()
        (weight * x).sum().backward()
        optimizer.step()

    found = jit.profile(step, ntorch.ones(4), runs=3)
    # a trace, another one because now there is a gradient, one that shows it holds, and three
    assert weight.tolist() == [-6.0] * 4
    variant = step.programs()[-1]
    call = variant.forward.call
    assert call in (variant.forward.kernel.call, variant.forward.kernel.call_released)
    assert {s.program for s in found.steps} == {f"program {len(step.programs())}"}
    step(ntorch.ones(4))
    assert weight.tolist() == [-7.0] * 4


def test_an_exception_ends_the_timing(model):
    x = ntorch.randn(256, 300)
    with ntorch.no_grad():
        model(x)
        with pytest.raises(RuntimeError):
            jit.profile(model, ntorch.randn(256, 299), runs=2)
        assert all(v.forward.call in (v.forward.kernel.call, v.forward.kernel.call_released)
                   for v in model._program.programs())


def test_errors():
    with pytest.raises(TypeError, match="compiled function"):
        jit.profile(lambda x: x, ntorch.ones(1))

    @ntorch.compile
    def reads(x):
        return x + x.sum().item()

    with pytest.raises(RuntimeError, match="no program ran"):
        jit.profile(reads, ntorch.ones(3), runs=2)


def test_a_single_launch_is_timed_and_goes_its_short_way_again():
    x = ntorch.randn(1 << 16)
    compiled = ntorch.compile(lambda x: x.exp() + 1)
    wanted = compiled(x)
    program = compiled.programs()[0].forward
    assert program.alone is not None and len(program.nodes) == 1
    found = jit.profile(compiled, x, runs=3)
    assert len(found.steps) == 1 and found.steps[0].seconds > 0
    assert program.alone is not None and ntorch.equal(compiled(x), wanted)
