"""Lines of the op table whose composites may run as programs in eager mode, and some whose gradient
rules may, made to do so however small they are: values and gradients as op by op, and second
derivatives. (That all of them can be traced and fused is tested in ``test_traced_ops.py``.)
"""
import pytest
from cases import CASES
from test_ops import _differentiable, arrays, flat, function, tensors
from test_traced_ops import RANDOM, _gradients, _same

import ntorch
from ntorch.autograd import fusing, gradgradcheck
from ntorch.jit import inline, inline_trace
from ntorch.ops.registry import find

RULES = frozenset((
    "mul", "atan2", "hypot", "logaddexp", "xlogy", "lerp", "maximum", "fmin", "copysign", "cumprod",
    "amax", "lgamma", "sinc", "logcumsumexp", "addcdiv", "mean", "erfinv", "softmax"))


def _may_fuse(case):
    entry = find(case.name)
    if entry is None or case.name.startswith(RANDOM):
        return False
    return entry.may_fuse() if entry.composite else case.name in RULES


FUSED = [case for case in CASES if _may_fuse(case)]
every = pytest.mark.parametrize("case", FUSED, ids=[case.id for case in FUSED])


@pytest.fixture
def always(monkeypatch):
    """From here on a program wherever one can be made."""
    def start():
        monkeypatch.setattr(fusing, "LEAST", 0)
        monkeypatch.setattr(inline_trace, "always", True)
        monkeypatch.setattr(inline, "MOST", 1 << 20)
    return start


def _run(case, dtype, grad):
    ntorch.manual_seed(5)
    inputs = tensors(arrays(case), dtype, grad=grad)
    return inputs, flat(function(case)(*inputs))


@every
def test_fused(case, always):
    inputs, wanted = _run(case, ntorch.float32, case.grad)
    slopes = _gradients(inputs, wanted)
    always()
    for _ in range(2):
        inputs, got = _run(case, ntorch.float32, case.grad)
        _same(got, wanted, case)
        _same(_gradients(inputs, got), slopes, case)


SECOND = [case for case in FUSED if case.grad and case.second and find(case.name).composite]


@pytest.mark.parametrize("case", SECOND, ids=[case.id for case in SECOND])
def test_second_derivatives(case, always):
    always()
    assert gradgradcheck(_differentiable(case), tensors(arrays(case), grad=True))


def test_most_are_programs():
    """What the two tests above looked at was no run op by op in disguise."""
    verdicts = inline.verdicts()
    if len(verdicts) > 100:         # the whole file ran in this process
        assert sum(v.fused for v in verdicts) > len(verdicts) // 2
