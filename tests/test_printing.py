"""Text of tensors: fixed texts, and the same text as PyTorch's for random tensors."""

import contextlib

import numpy as np
import pytest

import ntorch
from ntorch import printing

nan, inf = float("nan"), float("inf")

DTYPES = [
    "bool", "uint8", "int8", "int16", "int32", "int64", "float16", "bfloat16",
    "float32", "float64", "complex64", "complex128",
]  # fmt: skip

GOLDEN = [
    ([1, 2, 3], "int64", {}, "tensor([1, 2, 3])"),
    (7, "int32", {}, "tensor(7, dtype=DT)"),
    (True, "bool", {}, "tensor(True)"),
    ([[True, False], [False, False]], "bool", {},
     "tensor([[ True, False],\n        [False, False]])"),
    ([1.0, 2.0, 30.0], "float32", {}, "tensor([ 1.,  2., 30.])"),
    ([1.0, -0.0, nan, inf, -inf], "float32", {}, "tensor([1., -0., nan, inf, -inf])"),
    ([1e-5, 1.0], "float32", {}, "tensor([1.0000e-05, 1.0000e+00])"),
    ([1e9, 2e9], "float32", {}, "tensor([1.0000e+09, 2.0000e+09])"),
    ([0.5, 499.0], "float32", {}, "tensor([  0.5000, 499.0000])"),
    ([0.5, 501.0], "float32", {}, "tensor([5.0000e-01, 5.0100e+02])"),
    (3.25, "float64", {}, "tensor(3.2500, dtype=DT)"),
    ([0.1, 0.2], "float16", {}, "tensor([0.1000, 0.2000], dtype=DT)"),
    ([0.1, 256.0], "bfloat16", {},
     "tensor([1.0010e-01, 2.5600e+02], dtype=DT)"),
    ([1 + 2j, -0.5 - 1j], "complex64", {}, "tensor([ 1.0000+2.j, -0.5000-1.j])"),
    (1.5 - 2.25j, "complex128", {}, "tensor(1.5000-2.2500j, dtype=DT)"),
    (np.arange(8).reshape(2, 2, 2), "int64", {},
     "tensor([[[0, 1],\n         [2, 3]],\n\n        [[4, 5],\n         [6, 7]]])"),
    (np.arange(2000), "int64", {}, "tensor([   0,    1,    2,  ..., 1997, 1998, 1999])"),
    (np.arange(6), "int64", {"threshold": 3, "edgeitems": 1}, "tensor([0,  ..., 5])"),
    (np.arange(6), "int64", {"threshold": 3, "edgeitems": 0}, "tensor([...], size=(6,))"),
    (np.arange(12), "int64", {"linewidth": 30},
     "tensor([ 0,  1,  2,  3,  4,\n         5,  6,  7,  8,  9,\n        10, 11])"),
    ([1.23456789], "float32", {"precision": 2}, "tensor([1.23])"),
    ([1.5, 2.5], "float32", {"sci_mode": True}, "tensor([1.5000e+00, 2.5000e+00])"),
    ([1e-6, 1.0], "float32", {"sci_mode": False}, "tensor([0.0000, 1.0000])"),
    (np.zeros((0,)), "float32", {}, "tensor([])"),
    (np.zeros((0,)), "int64", {}, "tensor([], dtype=DT)"),
    (np.zeros((2, 0)), "float32", {}, "tensor([], size=(2, 0))"),
]  # fmt: skip


def make(values, dtype):
    return ntorch.tensor(np.asarray(values)).to(getattr(ntorch, dtype))


@pytest.mark.parametrize("values,dtype,options,text", GOLDEN)
def test_fixed_texts(values, dtype, options, text):
    tensor = make(values, dtype)
    with printing.printoptions(**options):
        assert printing.tensor_repr(tensor) == text.replace("DT", str(tensor.dtype))


def test_gradient_suffixes():
    leaf = ntorch.tensor([1.0, 2.0], requires_grad=True)
    assert printing.tensor_repr(leaf) == "tensor([1., 2.], requires_grad=True)"
    text = printing.tensor_repr(leaf + 1)
    assert text == "tensor([2., 3.], grad_fn=<AddBackward0>)"


def test_parameters():
    parameter = ntorch.nn.Parameter(ntorch.tensor([1.0, 2.0]))
    text = "Parameter containing:\ntensor([1., 2.], requires_grad=True)"
    assert repr(parameter) == text
    frozen = ntorch.nn.Parameter(ntorch.tensor(1.5), requires_grad=False)
    assert repr(frozen) == "Parameter containing:\ntensor(1.5000)"


def test_subclasses_show_their_name():
    class Mine(ntorch.Tensor):
        pass

    tensor = ntorch.tensor([1, 2])
    tensor.__class__ = Mine
    assert repr(tensor) == "Mine([1, 2])"


def test_contents_may_be_replaced():
    text = printing.tensor_repr(ntorch.zeros(2), tensor_contents="...")
    assert text == "tensor(...)"


def test_options_are_set_restored_and_checked():
    before = printing.get_printoptions()
    with printing.printoptions(profile="short"):
        assert printing.get_printoptions()["precision"] == 2
        printing.set_printoptions(profile="full", precision=7)
        now = printing.get_printoptions()
        assert (now["precision"], now["threshold"]) == (7, inf)
    assert printing.get_printoptions() == before
    with pytest.raises(ValueError, match="profile to be one of default, short, full"):
        printing.set_printoptions(profile="long")


def random_values(rng, dtype):
    ndim = int(rng.integers(0, 5))
    limit = 5 if rng.random() < 0.85 else (1200 if ndim == 1 else 12)
    shape = [int(rng.integers(0 if rng.random() < 0.1 else 1, limit + 1)) for _ in range(ndim)]
    values = rng.normal(size=shape) * 10.0 ** rng.integers(-6, 10)
    if rng.random() < 0.3:
        values = np.round(values)
    if dtype.startswith("complex"):
        return values + 1j * rng.normal(size=shape) * 10.0 ** rng.integers(-4, 4)
    if dtype.startswith(("float", "bfloat")) and rng.random() < 0.3:
        special = rng.choice([nan, inf, -inf, 0.0, -0.0], size=shape)
        return np.where(rng.random(shape) < 0.5, special, values)
    if not dtype.startswith(("float", "bfloat")):
        top = 1 if dtype in ("bool", "uint8") else {"int8": 127, "int16": 32767}.get(dtype, 2**31)
        return np.clip(np.abs(values) if top == 1 else values, -top, top - 1 + (top == 1))
    return values


def random_options(rng):
    if rng.random() < 0.5:
        return {}
    if rng.random() < 0.3:
        return {"profile": str(rng.choice(["default", "short", "full"]))}
    return {
        "precision": int(rng.integers(0, 8)),
        "threshold": int(rng.integers(0, 50)),
        "edgeitems": int(rng.integers(0, 4)),
        "linewidth": int(rng.integers(20, 120)),
        "sci_mode": [None, True, False][rng.integers(3)],
    }


@pytest.mark.parametrize("dtype", DTYPES)
def test_same_text_as_torch(dtype):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(DTYPES.index(dtype))
    for _ in range(60):
        values, options = random_values(rng, dtype), random_options(rng)
        theirs = torch.tensor(values).to(getattr(torch, dtype))
        ours = make(values, dtype)
        if rng.random() < 0.3 and theirs.dim() > 1:
            theirs, ours = theirs.transpose(0, 1), ours.transpose(0, 1)
        if dtype.startswith(("float", "bfloat")) and rng.random() < 0.3:
            theirs, ours = theirs.requires_grad_(), ours.requires_grad_()
        with contextlib.ExitStack() as stack:
            before = torch._tensor_str.get_printoptions()
            stack.callback(torch.set_printoptions, **before)
            torch.set_printoptions(**options)
            stack.enter_context(printing.printoptions(**options))
            # The name before the dtype counts in where a line breaks.
            assert str(ours.dtype) == str(theirs.dtype)
            assert printing.tensor_repr(ours) == repr(theirs), (values.tolist(), options)


@pytest.mark.parametrize("shape,dtype", [((2, 3), "float32"), ((2,), "int64"), ((), "bool")])
def test_meta_same_text_as_torch(shape, dtype):
    torch = pytest.importorskip("torch")
    theirs = torch.zeros(shape, dtype=getattr(torch, dtype), device="meta")
    ours = ntorch.zeros(shape, dtype=getattr(ntorch, dtype), device="meta")
    assert printing.tensor_repr(ours) == repr(theirs)
