"""Every line of the op table, recorded and run as programs, against eager: values and gradients.

``test_lazy`` records the call and runs it when the context ends; ``test_compiled`` compiles forward
and backward and calls twice, so that the second call runs a stored program.
"""
import pytest
from cases import CASES
from test_ops import arrays, flat, function, tensors

import ntorch

RANDOM = ("dropout", "rand", "bernoulli", "normal", "multinomial", "poisson", "uniform", "empty",
          "exponential", "cauchy", "geometric", "log_normal", "rrelu")


def _same(got, wanted, case):
    assert len(got) == len(wanted)
    for g, w in zip(got, wanted, strict=True):
        if not isinstance(w, ntorch.Tensor):
            assert g == w
            continue
        assert g.dtype is w.dtype and g.shape == w.shape and g.requires_grad == w.requires_grad
        if any(case.name.startswith(name) for name in RANDOM):
            continue
        a, b = g.detach().double(), w.detach().double()
        assert ntorch.allclose(a, b, rtol=1e-6, atol=1e-6, equal_nan=True), (a, b)


def _results(case, run, dtype=ntorch.float32, grad=False):
    ntorch.manual_seed(5)
    values = arrays(case)
    inputs = tensors(values, dtype, grad)
    out = flat(run(*inputs))
    return inputs, out


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.id)
def test_lazy(case):
    _, wanted = _results(case, function(case))
    with ntorch.lazy():
        _, got = _results(case, function(case))
    _same(got, wanted, case)


def _gradients(inputs, outputs):
    leaves = [i for i in inputs if isinstance(i, ntorch.Tensor) and i.requires_grad]
    roots = [o for o in outputs if isinstance(o, ntorch.Tensor) and o.requires_grad]
    if not roots or not leaves:
        return []
    seeds = [ntorch.linspace(0.5, 1.5, o.numel(), dtype=o.real.dtype if o.is_complex() else o.dtype
                             ).reshape(o.shape).to(o.dtype) for o in roots]
    return [g for g in ntorch.autograd.grad(roots, leaves, seeds, allow_unused=True)
            if g is not None]


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.id)
def test_compiled(case):
    plain = function(case)
    inputs, wanted = _results(case, plain, grad=case.grad)
    slopes = _gradients(inputs, wanted)
    compiled = ntorch.compile(plain)
    for _ in range(2):
        inputs, got = _results(case, compiled, grad=case.grad)
        _same(got, wanted, case)
        _same(_gradients(inputs, got), slopes, case)
