"""Generators inside compiled functions: draws are a program's, what Python does with states is not.
"""
import pytest

import ntorch
from ntorch.nn import functional


def _forked(x, generator):
    with ntorch.random.fork_rng():
        return x + ntorch.rand(3)


def _with_state(x, generator):
    return x + ntorch.rand(3, generator=generator), generator.get_state().sum()


def _put_back(x, generator):
    state = generator.get_state()
    first = ntorch.rand(3, generator=generator)
    generator.set_state(state)
    return x + first - ntorch.rand(3, generator=generator)


USES = {
    "seeded": lambda x, g: (ntorch.manual_seed(3), x + ntorch.rand(3))[1],
    "own seed": lambda x, g: x + ntorch.rand(3, generator=g.manual_seed(7)),
    "made inside": lambda x, g: x + ntorch.rand(3, generator=ntorch.Generator().manual_seed(2)),
    "forked": _forked,
    "state": _with_state,
    "put back": _put_back,
    "seed of": lambda x, g: x + g.initial_seed() + ntorch.initial_seed() % 100,
    "copied": lambda x, g: x + ntorch.rand(3, generator=g.clone_state()),
    "dropout behind a seed": lambda x, g: (ntorch.manual_seed(1), functional.dropout(x))[1],
}


@pytest.mark.parametrize("use", USES)
def test_what_python_does_with_a_generator_happens_at_each_call(use):
    found = []
    for form in (lambda f: f, ntorch.compile):
        generator, run = ntorch.Generator(), form(USES[use])
        ntorch.manual_seed(5)
        generator.manual_seed(6)
        results = [run(ntorch.ones(3), generator) for _ in range(12)]
        found.append([r for each in results for r in (each if type(each) is tuple else (each,))])
        found[-1] += [ntorch.rand(2), ntorch.rand(2, generator=generator)]
    assert all(ntorch.equal(a, b) for a, b in zip(*found, strict=True))


def test_a_generator_of_ones_own_is_no_state_to_guard():
    generator = ntorch.Generator()
    for function in (lambda x: x + ntorch.rand(3, generator=generator),
                     lambda x, g=generator: x + ntorch.randn(20, generator=g)[:3]):
        compiled = ntorch.compile(function)
        generator.manual_seed(4)
        expected = [function(ntorch.ones(3)) for _ in range(3)]
        generator.manual_seed(4)
        for each in expected:
            assert ntorch.equal(compiled(ntorch.ones(3)), each)
        assert len(compiled.programs()) == 1
