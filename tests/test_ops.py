"""Every line of ``cases.py``: value, dtype, gradient to second order, layout, zero size, NaN and
inf,
``out=`` and in-place forms, meta device; and values and gradients against PyTorch where
installed."""
import dataclasses
import pathlib
import re
import zlib

import numpy as np
import pytest
from cases import CASES, ELSEWHERE, A, B, I

import ntorch
from ntorch.autograd import gradcheck, gradgradcheck
from ntorch.ops.base import TensorBase
from ntorch.ops.registry import entries, find, ops

IDS = [c.id for c in CASES]
# the result's form depends on values, or values are checked
NO_META = {"nonzero", "masked_select", "repeat_interleave", "embedding", "cross_entropy",
           "nll_loss"}
every = pytest.mark.parametrize("case", CASES, ids=IDS)


def arrays(case, shape_of=lambda spec: spec):
    """The inputs as NumPy arrays and plain values, the same at every call."""
    rng = np.random.default_rng(zlib.crc32(case.id.encode()))

    def make(value):
        if isinstance(value, (A, I, B)):
            return shape_of(value).make(rng)
        return [make(v) for v in value] if isinstance(value, list) else value
    return [make(value) for value in case.inputs]


def tensors(values, dtype=ntorch.float64, grad=False, layout=lambda a: a, module=ntorch):
    """NumPy arrays as tensors: floats in ``dtype``, laid out in memory by ``layout``."""
    def make(value):
        if isinstance(value, np.ndarray):
            t = module.from_numpy(np.array(value))
            if t.is_floating_point():
                t = t.to(dtype)
            t = layout(t)
            return t.requires_grad_() if grad and t.is_floating_point() else t
        return [make(v) for v in value] if isinstance(value, list) else value
    return [make(value) for value in values]


def function(case, module=ntorch):
    """The op as a function of its tensors."""
    if module is ntorch:
        call = getattr(ops, case.name)
    else:
        torch = module
        # functional first: torch.embedding and kl_div take other arguments; unfold is a method
        places = (torch.Tensor,) if case.name == "unfold" else (
            torch.nn.functional, torch, torch.special)
        call = next((getattr(p, case.name) for p in places if hasattr(p, case.name)), None)
        if call is None:
            return None
    return lambda *inputs: call(*inputs, **dict(case.keywords))


def flat(result):
    """Results as a list of tensors or arrays."""
    if isinstance(result, (tuple, list)):
        return [r for item in result for r in flat(item)]
    return [result]


def numbers(tensor):
    t = tensor.detach()
    return (t.float() if t.dtype is ntorch.bfloat16 else t).numpy()


def assert_same(got, wanted, rtol=1e-9, atol=1e-9):
    got, wanted = flat(got), flat(wanted)
    assert len(got) == len(wanted)
    for g, w in zip(got, wanted, strict=True):
        np.testing.assert_allclose(numbers(g), np.asarray(w), rtol=rtol, atol=atol)


@every
def test_value(case):
    values = arrays(case)
    got = function(case)(*tensors(values))
    if case.reference is not None:
        assert_same(got, case.reference(*values))
        for g, w in zip(flat(got), flat(case.reference(*values)), strict=True):
            assert tuple(g.shape) == np.asarray(w).shape
    single = function(case)(*tensors(values, ntorch.float32))
    assert_same(single, [numbers(g) for g in flat(got)], rtol=2e-5, atol=2e-5)


@every
def test_dtype(case):
    """float32 in, float32 out wherever float64 gives float64; half types likewise. Asked of the
    meta device where that can answer: it applies the same rules and compiles nothing."""
    values = arrays(case)
    layout = (lambda t: t) if case.name in NO_META else (lambda t: t.to("meta"))
    double = flat(function(case)(*tensors(values, layout=layout)))
    lapack = case.name.startswith(("linalg_", "solve_", "cholesky"))        # has no half types
    for dtype in (ntorch.float32,) if lapack else (ntorch.float32, ntorch.bfloat16):
        for d, s in zip(double, flat(function(case)(*tensors(values, dtype, layout=layout))),
                        strict=True):
            wanted = dtype if d.dtype is ntorch.float64 and case.name != "float_power" else d.dtype
            assert s.dtype is wanted, f"{case.id}: {s.dtype}, not {wanted}"


GRADS = [c for c in CASES if c.grad]


@pytest.mark.parametrize("case", GRADS, ids=[c.id for c in GRADS])
def test_gradient(case):
    inputs = tensors(arrays(case), grad=True)
    assert gradcheck(_differentiable(case), inputs)


def _differentiable(case):
    call = function(case)

    def outputs(*inputs):
        return tuple(r for r in flat(call(*inputs)) if r.is_floating_point())
    return outputs


SECOND = [c for c in GRADS if c.second]


@pytest.mark.parametrize("case", SECOND, ids=[c.id for c in SECOND])
def test_second_gradient(case):
    small = arrays(case, lambda s: dataclasses.replace(s, shape=s.shape))
    assert gradgradcheck(_differentiable(case), tensors(small, grad=True))


def _strided(t):
    """The same elements in every other place of a larger, transposed buffer."""
    if t.dim() == 0:
        return t
    wide = ntorch.zeros(*t.shape[::-1], 2, dtype=t.dtype)
    view = wide.select(-1, 1).permute(tuple(range(t.dim()))[::-1])
    view.copy_(t)
    return view


@every
def test_layout(case):
    if case.name in ("view", "view_as", "as_strided"):
        pytest.skip("depends on the strides by definition")
    values = arrays(case)
    plain = function(case)(*tensors(values))
    got = function(case)(*tensors(values, layout=_strided))
    assert_same(got, [numbers(p) for p in flat(plain)], rtol=1e-12, atol=1e-12)


SPECIAL = [c for c in CASES if c.special]


@pytest.mark.parametrize("case", SPECIAL, ids=[c.id for c in SPECIAL])
@pytest.mark.parametrize("dtype", [ntorch.float32, ntorch.float64], ids=str)
def test_nan_and_inf(case, dtype):
    numbers_of = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 1e-300, 1e300])
    kind = np.float32 if dtype is ntorch.float32 else np.float64
    with np.errstate(all="ignore"):
        line = numbers_of.astype(kind)
        values = [line] if len(case.inputs) == 1 else [line[:, None], line]
        wanted = case.reference(*values)
        got = function(case)(*tensors(values, dtype))
    np.testing.assert_allclose(numbers(got), wanted, rtol=1e-6, atol=1e-37)


POINTWISE = [c for c in CASES if c.reference is not None
             and getattr(find(c.name), "elementwise", False)
             and not c.keywords]


@pytest.mark.parametrize("case", POINTWISE, ids=[c.id for c in POINTWISE])
def test_zero_size(case):
    empty = arrays(case, lambda s: dataclasses.replace(s, shape=(0, *s.shape[1:])
                                                       if len(s.shape) == 2 else s.shape))
    got = function(case)(*tensors(empty, grad=case.grad))
    assert got.numel() == 0 and tuple(got.shape) == np.asarray(case.reference(*empty)).shape
    if case.grad and got.requires_grad:
        got.sum().backward()


@pytest.mark.parametrize("case", POINTWISE, ids=[c.id for c in POINTWISE])
def test_zero_dim(case):
    scalars = [v if not isinstance(v, np.ndarray) else v.reshape(-1)[0:1].reshape(())
               for v in arrays(case)]
    got = function(case)(*tensors(scalars))
    assert got.shape == ()
    assert_same(got, case.reference(*scalars))


OUT = [c for c in CASES if find(c.name).out]


@pytest.mark.parametrize("case", OUT, ids=[c.id for c in OUT])
def test_out(case):
    inputs = tensors(arrays(case))
    plain = function(case)(*inputs)
    call = getattr(ops, case.name)
    single = isinstance(plain, TensorBase)
    outs = [ntorch.empty(0, dtype=p.dtype) for p in flat(plain)]
    call(*inputs, **dict(case.keywords), out=outs[0] if single else tuple(outs))
    assert_same(outs, [numbers(p) for p in flat(plain)], rtol=0, atol=0)


INPLACE = [c for c in CASES if find(c.name).inplace and not find(c.name).view
           and isinstance(c.inputs[0], (A, I))]


@pytest.mark.parametrize("case", INPLACE, ids=[c.id for c in INPLACE])
def test_inplace(case):
    inputs = tensors(arrays(case))
    plain = function(case)(*inputs)
    if plain.dtype is not inputs[0].dtype or plain.shape != inputs[0].shape:
        pytest.skip("the result does not fit the input")
    version = inputs[0]._version
    got = getattr(ops, case.name + "_")(*inputs, **dict(case.keywords))
    assert got is inputs[0] and got._version > version
    assert_same(got, numbers(plain), rtol=0, atol=0)


@every
def test_meta(case):
    """Shapes and dtypes without data."""
    if case.name in NO_META:
        pytest.skip("the result's form depends on values, or values are checked")
    inputs = tensors(arrays(case))
    plain = flat(function(case)(*inputs))

    def to_meta(v):
        return v.to("meta") if isinstance(v, TensorBase) else [to_meta(x) for x in v] if isinstance(
            v, list) else v
    got = flat(function(case)(*[to_meta(v) for v in inputs]))
    assert [(g.shape, g.dtype, g.device.type) for g in got] == [
        (p.shape, p.dtype, "meta") for p in plain]


@pytest.mark.filterwarnings("ignore::UserWarning")      # what torch says of its own functions
@every
def test_against_torch(case):
    torch = pytest.importorskip("torch")
    reference = function(case, torch)
    if reference is None:
        pytest.skip("torch has no function of this name")
    values = arrays(case)
    grad = case.grad and case.name != "soft_margin_loss"    # whose target has no gradient there
    ours, theirs = tensors(values, grad=grad), tensors(values, torch.float64, grad, module=torch)
    got, wanted = flat(function(case)(*ours)), flat(reference(*theirs))
    for g, w in zip(got, wanted, strict=True):
        assert str(g.dtype) == str(w.dtype) and tuple(g.shape) == tuple(w.shape)
        np.testing.assert_allclose(numbers(g), w.detach().numpy(), rtol=1e-9, atol=1e-9)
    if grad:
        sum(g.sum() for g in got if g.requires_grad).backward()
        sum(w.sum() for w in wanted if w.requires_grad).backward()
        for a, b in zip(flat(ours), flat(theirs), strict=True):
            if isinstance(a, TensorBase) and a.requires_grad and b.grad is not None:
                np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), rtol=1e-8, atol=1e-8)


def test_every_op_is_listed():
    """A public op has a line in the table, or a room whose tests name it."""
    folder = pathlib.Path(__file__).parent
    listed = {c.name for c in CASES}
    listed |= {e for names in ELSEWHERE.values() for e in names.split()}
    for name in [n for names in ELSEWHERE.values() for n in names.split()]:
        assert find(name) is not None or find(name.rstrip("_")) is not None, f"no op {name}"
    known = {id(find(name)) for name in listed}
    text = "\n".join(p.read_text(encoding="utf-8") for p in folder.glob("test_*.py"))
    words = set(re.findall(r"\w+", text))
    missing = sorted(name for name, entry in entries().items() if not name.startswith("_")
                     and "." not in name and id(entry) not in known and name not in words)
    assert not missing, f"ops with no line in cases.py and no test that names them: {missing}"
