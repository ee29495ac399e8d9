"""Tensors: creation, dtypes and promotion, views, versions, conversions, copies, half types."""
import copy
import ctypes
import io
import itertools
import pickle
import warnings

import numpy as np
import pytest

import ntorch
from ntorch import Tensor

TYPES = ("bool", "uint8", "int8", "int16", "int32", "int64", "float16", "bfloat16", "float32",
         "float64", "complex64", "complex128")
NUMPY = {n: np.dtype(n) for n in TYPES if n != "bfloat16"}


# --- creation -------------------------------------------------------------------------------------

@pytest.mark.parametrize("call, wanted, dtype", [
    (lambda: ntorch.zeros(2, 3), np.zeros((2, 3)), "float32"),
    (lambda: ntorch.ones((2,), dtype=ntorch.int64), np.ones(2), "int64"),
    (lambda: ntorch.full((2, 2), 7), np.full((2, 2), 7), "int64"),
    (lambda: ntorch.full((2,), 1.5), np.full(2, 1.5), "float32"),
    (lambda: ntorch.full((2,), True), np.full(2, True), "bool"),
    (lambda: ntorch.arange(5), np.arange(5), "int64"),
    (lambda: ntorch.arange(1, 2, 0.25), np.arange(1, 2, 0.25), "float32"),
    (lambda: ntorch.arange(5, 0, -2), np.arange(5, 0, -2), "int64"),
    (lambda: ntorch.linspace(0, 1, 5), np.linspace(0, 1, 5), "float32"),
    (lambda: ntorch.logspace(0, 2, 3), np.logspace(0, 2, 3), "float32"),
    (lambda: ntorch.eye(2, 3), np.eye(2, 3), "float32"),
    (lambda: ntorch.tensor([[1, 2], [3, 4]]), np.array([[1, 2], [3, 4]]), "int64"),
    (lambda: ntorch.tensor([1, 2.5]), np.array([1, 2.5]), "float32"),
    (lambda: ntorch.tensor([True, False]), np.array([True, False]), "bool"),
    (lambda: ntorch.tensor(3), np.array(3), "int64"),
    (lambda: ntorch.tensor([]), np.zeros(0), "float32"),
    (lambda: ntorch.tensor(np.arange(3.0)), np.arange(3.0), "float64"),
    (lambda: ntorch.tensor([ntorch.tensor(1), ntorch.tensor(2)]), np.array([1, 2]), "int64"),
    (lambda: ntorch.as_tensor([1, 2], dtype=ntorch.float64), np.array([1, 2]), "float64"),
    (lambda: ntorch.asarray([1.0, 2.0]), np.array([1, 2]), "float32"),
    (lambda: ntorch.scalar_tensor(2), np.array(2), "float32"),
    (lambda: ntorch.frombuffer(bytearray(b"\1\0\2\0"), dtype=ntorch.int16), np.array([1, 2]),
     "int16"),
    (lambda: ntorch.ones(2).new_zeros(3), np.zeros(3), "float32"),
    (lambda: ntorch.ones(2, dtype=ntorch.int8).new_ones((1, 2)), np.ones((1, 2)), "int8"),
    (lambda: ntorch.ones(2).new_full((2,), 3), np.full(2, 3), "float32"),
    (lambda: ntorch.ones(2, dtype=ntorch.float64).new_tensor([1, 2]), np.array([1, 2]), "float64"),
    (lambda: ntorch.zeros_like(ntorch.ones(2, 1), dtype=ntorch.int32), np.zeros((2, 1)), "int32"),
    (lambda: ntorch.ones_like(ntorch.zeros(2, dtype=ntorch.bool)), np.ones(2), "bool"),
    (lambda: ntorch.full_like(ntorch.zeros(2), 4), np.full(2, 4), "float32"),
    (lambda: ntorch.tril_indices(3, 3), np.stack(np.tril_indices(3)), "int64"),
    (lambda: ntorch.Tensor([1, 2]), np.array([1, 2]), "float32"),
    (lambda: ntorch.LongTensor([1, 2]), np.array([1, 2]), "int64")])
def test_creation(call, wanted, dtype):
    made = call()
    assert str(made.dtype) == "torch." + dtype
    assert tuple(made.shape) == wanted.shape and made.is_contiguous()
    np.testing.assert_allclose(made.numpy(), wanted, rtol=1e-6)


def test_empty_forms():
    assert ntorch.empty(2, 3).stride() == (3, 1)
    assert ntorch.empty_strided((2, 3), (1, 2)).stride() == (1, 2)
    assert ntorch.empty_like(ntorch.empty(3, 2).t()).stride() == (1, 2)
    x = ntorch.ones(2)
    assert x.new_empty(3).shape == (3,) and x.new_empty_strided((2, 2), (1, 2)).stride() == (1, 2)
    assert ntorch.zeros(0, 3).numel() == 0 and ntorch.zeros(()).dim() == 0


@pytest.mark.parametrize("call, error, words", [
    (lambda: ntorch.tensor([[1, 2], [3]]), ValueError, "expected sequence of length 2"),
    (lambda: ntorch.tensor("a"), TypeError, "new"),
    (lambda: ntorch.tensor([1.5], dtype=ntorch.int64).item(), None, 1),
    (lambda: ntorch.zeros(-1), RuntimeError, "negative dimension"),
    (lambda: ntorch.empty(1 << 62, 8), RuntimeError, "overflow"),
    (lambda: ntorch.from_numpy([1]), TypeError, "ndarray"),
    (lambda: ntorch.arange(0, 5, -1), RuntimeError, "upper bound"),
    (lambda: ntorch.linspace(0, 1, -1), RuntimeError, "non-negative"),
    (lambda: ntorch.ones(2, dtype="float"), TypeError, "dtype"),
    (lambda: ntorch.ones(2).view(3), RuntimeError, "invalid for input of size 2"),
    (lambda: ntorch.ones(2, 3).t().view(6), RuntimeError, "not compatible"),
    (lambda: ntorch.ones(2).item(), RuntimeError, "2 elements cannot be converted to Scalar"),
    (lambda: bool(ntorch.ones(2)), RuntimeError, "more than one value is ambiguous"),
    (lambda: bool(ntorch.ones(0)), RuntimeError, "no values is ambiguous"),
    (lambda: len(ntorch.tensor(1)), TypeError, "0-d"),
    (lambda: list(ntorch.tensor(1)), TypeError, "0-d"),
    (lambda: range(ntorch.tensor(1.0)), TypeError, "integer tensors"),
    (lambda: ntorch.ones(2, dtype=ntorch.bfloat16).numpy(), TypeError, "BFloat16"),
    (lambda: ntorch.ones(2, device="meta").tolist(), NotImplementedError, "meta"),
    (lambda: ntorch.ones((), device="meta").item(), RuntimeError, "meta")])
def test_bad_calls(call, error, words):
    if error is None:
        assert call() == words
        return
    with pytest.raises(error, match=words):
        call()


# --- dtypes and promotion -------------------------------------------------------------------------

CATEGORY = {n: 0 if n == "bool" else 1 if "int" in n else 2 if "float" in n else 3 for n in TYPES}


def promoted(a, b):
    """torch's table for two tensors of the same rank, by rule."""
    if a == b:
        return a
    if CATEGORY[a] < CATEGORY[b]:
        a, b = b, a
    if CATEGORY[a] == 3:
        wide = "float64" in (b,) or "complex128" in (a, b)
        return "complex128" if wide else "complex64"
    if CATEGORY[a] == 2 and CATEGORY[b] == 2:
        return "float32" if {a, b} == {"float16", "bfloat16"} else max(a, b, key=_width)
    if CATEGORY[a] != CATEGORY[b]:
        return a
    if "uint8" in (a, b):
        other = b if a == "uint8" else a
        return "int16" if other == "int8" else other
    return max(a, b, key=_width)


def _width(name):
    return 16 if name == "bfloat16" else NUMPY[name].itemsize * 8


def merged(strong, weak):
    """A weak operand (zero-dim beside dims, or a number) counts only if its category is higher."""
    if CATEGORY[weak] <= CATEGORY[strong]:
        return strong
    if CATEGORY[strong] == 2 and CATEGORY[weak] == 3:
        return {"float64": "complex128", "float16": "complex32"}.get(strong, "complex64")
    return weak


NUMBERS = {"bool": (True, "bool"), "int": (3, "int64"), "float": (1.5, "float32"),
           "complex": (1j, "complex64")}


def _form(module, name, kind):
    made = module.ones((2,) if kind == "tensor" else (), dtype=getattr(module, name))
    return made


@pytest.mark.parametrize("kinds", [("tensor", "tensor"), ("tensor", "zero"), ("zero", "zero"),
                                   ("zero", "tensor")], ids="-".join)
def test_promotion_of_tensors(kinds):
    for a, b in itertools.product(TYPES, TYPES):
        x, y = _form(ntorch, a, kinds[0]), _form(ntorch, b, kinds[1])
        wanted = (promoted(a, b) if kinds[0] == kinds[1] else
                  merged(a, b) if kinds[1] == "zero" else merged(b, a))
        if wanted == "complex32":
            continue
        assert str(ntorch.result_type(x, y)) == "torch." + wanted, (a, b)
        got = ntorch.mul(x.to("meta"), y.to("meta")).dtype
        assert str(got) == "torch." + wanted, (a, b)
        if kinds == ("tensor", "tensor"):
            assert ntorch.promote_types(x.dtype, y.dtype) is got


@pytest.mark.parametrize("kind", ["tensor", "zero"])
@pytest.mark.parametrize("number", NUMBERS)
def test_promotion_with_numbers(kind, number):
    for name in TYPES:
        value, weak = NUMBERS[number]
        wanted = merged(name, weak)
        if wanted == "complex32":
            continue
        got = (_form(ntorch, name, kind).to("meta") * value).dtype
        assert str(got) == "torch." + wanted, (name, number)


def test_promotion_against_torch():
    torch = pytest.importorskip("torch")
    for a, b in itertools.product(TYPES, TYPES):
        for kinds in itertools.product(("tensor", "zero"), repeat=2):
            theirs = torch.result_type(_form(torch, a, kinds[0]), _form(torch, b, kinds[1]))
            if theirs is not torch.complex32:
                ours = ntorch.result_type(_form(ntorch, a, kinds[0]), _form(ntorch, b, kinds[1]))
                assert str(ours) == str(theirs), (a, b, kinds)
    for name in TYPES:
        for kind, (value, _) in itertools.product(("tensor", "zero"), NUMBERS.values()):
            theirs = torch.result_type(_form(torch, name, kind), value)
            if theirs is not torch.complex32:
                assert str(ntorch.result_type(_form(ntorch, name, kind), value)) == str(theirs)
    for a, b in itertools.product(TYPES, TYPES):
        assert ntorch.can_cast(getattr(ntorch, a), getattr(ntorch, b)) == torch.can_cast(
            getattr(torch, a), getattr(torch, b))


def test_default_dtype():
    ntorch.set_default_dtype(ntorch.float64)
    try:
        assert ntorch.tensor(1.0).dtype is ntorch.float64 and ntorch.ones(1).dtype is ntorch.float64
        assert ntorch.tensor(1j).dtype is ntorch.complex128
    finally:
        ntorch.set_default_dtype(ntorch.float32)


def test_dtype_attributes():
    assert ntorch.float is ntorch.float32 and ntorch.long is ntorch.int64
    assert ntorch.half is ntorch.float16
    assert repr(ntorch.float32) == "torch.float32"
    assert ntorch.float16.is_floating_point and not ntorch.int8.is_floating_point
    assert ntorch.complex64.is_complex and not ntorch.uint8.is_signed
    assert ntorch.bfloat16.itemsize == 2
    assert ntorch.finfo(ntorch.bfloat16).eps == 2 ** -7 and ntorch.iinfo(ntorch.int16).max == 32767
    assert pickle.loads(pickle.dumps(ntorch.float64)) is ntorch.float64
    assert copy.deepcopy(ntorch.float64) is ntorch.float64


@pytest.mark.parametrize("a, b", [(a, b) for a in NUMPY for b in NUMPY])
def test_conversion_between_all_types(a, b):
    values = np.array([0, 1, 2, 100]).astype(a)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        got = ntorch.from_numpy(values.copy()).to(getattr(ntorch, b))
        np.testing.assert_array_equal(got.numpy(), values.astype(b))


# --- views, strides, versions ---------------------------------------------------------------------

def test_views_share_storage_and_version():
    x = ntorch.arange(12.0).reshape(3, 4).clone()
    views = [x.view(4, 3), x.t(), x[1], x[:, ::2], x.expand(2, 3, 4), x.unsqueeze(0), x.diagonal(),
             x.detach(), x.data, x.as_strided((2,), (5,), 1), x.unfold(1, 2, 1), x.reshape(12)]
    version = x._version
    for v in views:
        assert v.untyped_storage().data_ptr() == x.untyped_storage().data_ptr()
    x.add_(1)
    x.t().mul_(2)
    assert x._version == version + 2 and all(v._version == x._version for v in views)
    assert x[2, 3].item() == 24
    assert x[1]._base is x and x.t()[0]._base is x and x._base is None
    assert x.clone()._version == 0 and x.t().contiguous().data_ptr() != x.data_ptr()


@pytest.mark.parametrize("make, wanted", [
    (lambda x: x.t(), ((4, 3), (1, 4), 0)), (lambda x: x[1:, 1::2], ((2, 2), (4, 2), 5)),
    (lambda x: x.select(1, 2), ((3,), (4,), 2)),
    (lambda x: x.unsqueeze(-1), ((3, 4, 1), (4, 1, 1), 0)),
    (lambda x: x.expand(2, -1, -1), ((2, 3, 4), (0, 4, 1), 0)),
    (lambda x: x.view(2, 6), ((2, 6), (6, 1), 0)), (lambda x: x.diagonal(1), ((3,), (5,), 1)),
    (lambda x: x.unflatten(1, (2, 2)), ((3, 2, 2), (4, 2, 1), 0)),
    (lambda x: x.narrow(0, 1, 2), ((2, 4), (4, 1), 4)), (lambda x: x.unfold(1, 3, 1),
                                                         ((3, 2, 3), (4, 1, 1), 0))])
def test_geometry(make, wanted):
    got = make(ntorch.arange(12.0).view(3, 4))
    assert (tuple(got.shape), got.stride(), got.storage_offset()) == wanted


def test_strides_of_results():
    x = ntorch.ones(2, 3, 4).permute(2, 0, 1)
    assert (x + 1).stride() == x.stride() and x.exp().stride() == x.stride()
    assert (x + ntorch.ones(4, 2, 3)).stride() == (6, 3, 1)
    assert x.clone().stride() == x.stride() and x.contiguous().stride() == (6, 3, 1)
    assert ntorch.zeros(2, 0, 3).stride() == (3, 3, 1)


def test_inplace_views():
    x = ntorch.arange(6.0).view(2, 3)
    pointer = x.data_ptr()
    x.t_().unsqueeze_(0).squeeze_(0).transpose_(0, 1)
    assert x.shape == (2, 3) and x.data_ptr() == pointer
    assert x.swapaxes_(0, 1).shape == (3, 2)


def test_view_of_another_type():
    x = ntorch.tensor([1.0, -2.0])
    bits = x.view(ntorch.int32)
    np.testing.assert_array_equal(bits.numpy(), x.numpy().view(np.int32))
    bits[0] = 0
    assert x[0].item() == 0
    assert x.view(ntorch.uint8).shape == (8,) and x.view(dtype=ntorch.float64).shape == (1,)
    assert ntorch.ones(2, 4).view(ntorch.complex64).shape == (2, 2)
    with pytest.raises(RuntimeError, match="divisible"):
        ntorch.ones(3).view(ntorch.float64)
    with pytest.raises(RuntimeError, match="stride"):
        ntorch.ones(2, 4).t().view(ntorch.float64)


def test_resize_and_set():
    x = ntorch.arange(6.0)
    x.resize_(2, 2)
    assert x.tolist() == [[0, 1], [2, 3]] and x.untyped_storage().nbytes() == 24
    x.resize_(3, 4)
    assert x.shape == (3, 4) and x[0, :4].tolist() == [0, 1, 2, 3]
    y = ntorch.ones(0).set_(x.untyped_storage(), 1, (2,), (2,))
    assert y.tolist() == [1, 3]
    y.set_(x)
    assert y.is_set_to(x)
    with pytest.raises(RuntimeError, match="out of bounds"):
        y.set_(x.untyped_storage(), 0, (100, 100), (100, 1))
    with pytest.raises(RuntimeError, match="require grad"):
        ntorch.ones(2, requires_grad=True).resize_(3)
    assert y.resize_as_(ntorch.ones(1, 2)).shape == (1, 2)


def test_data():
    x = ntorch.ones(2, requires_grad=True)
    x.data.mul_(3)
    assert x.tolist() == [3, 3] and x.requires_grad and not x.data.requires_grad
    x.data = ntorch.zeros(3)
    assert x.shape == (3,) and x.is_leaf


# --- to and from Python and NumPy -----------------------------------------------------------------

@pytest.mark.parametrize("name", TYPES)
def test_item_and_tolist(name):
    dtype = getattr(ntorch, name)
    value = {0: True, 1: 3, 2: 1.5, 3: 1 + 2j}[CATEGORY[name]]
    x = ntorch.tensor([value, value], dtype=dtype)
    assert x[0].item() == value and type(x[0].item()) is type(value)
    assert x.tolist() == [value, value] and ntorch.tensor(value, dtype=dtype).tolist() == value
    assert x.view(2, 1).tolist() == [[value], [value]]


def test_python_numbers():
    assert int(ntorch.tensor(2.7)) == 2 and float(ntorch.tensor(3)) == 3.0
    assert complex(ntorch.tensor(1 + 2j)) == 1 + 2j and [10, 20][ntorch.tensor(1)] == 20
    assert f"{ntorch.tensor(1.25):.1f}" == "1.2" and 2.0 in ntorch.tensor([1.0, 2.0])
    assert [v.item() for v in ntorch.arange(3)] == [0, 1, 2]


def test_numpy_shares_memory():
    x = ntorch.zeros(2, 3)
    array = x.t().numpy()
    array[2, 1] = 5
    assert x[1, 2].item() == 5 and array.strides == (4, 12)
    back = ntorch.from_numpy(array)
    back[0, 0] = 7
    assert x[0, 0].item() == 7 and back.stride() == (1, 3)
    assert np.shares_memory(np.asarray(x), x.numpy())
    assert np.array(x, dtype=np.float64).dtype == np.float64
    assert np.add(x, 1).shape == (2, 3)
    kept = ntorch.ones(3).numpy()       # the array keeps the storage alive
    ntorch.full((3,), 9.0)
    assert kept.tolist() == [1, 1, 1]
    owned = ntorch.from_numpy(np.ones(3))
    assert owned.sum().item() == 3
    assert ntorch.ones(2, requires_grad=True).numpy(force=True).tolist() == [1, 1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        flipped = ntorch.tensor(np.arange(3.0)[::-1])
    assert flipped.tolist() == [2, 1, 0]


def test_half_arrays():
    x = ntorch.tensor([1.5, 2.5], dtype=ntorch.float16)
    assert x.numpy().dtype == np.float16 and x.numpy().tolist() == [1.5, 2.5]


# --- copies, pickles ------------------------------------------------------------------------------

def test_copy_and_deepcopy():
    x = ntorch.ones(2, requires_grad=True)
    x.grad = ntorch.full((2,), 3.0)
    shallow, deep = copy.copy(x), copy.deepcopy(x)
    assert shallow.data_ptr() == x.data_ptr() and shallow.requires_grad
    assert deep.data_ptr() != x.data_ptr() and deep.requires_grad and deep.grad.tolist() == [3, 3]
    base = ntorch.arange(4.0)
    a, b = copy.deepcopy([base, base[1:]])
    b[0] = 9
    assert a[1].item() == 9 and base[1].item() == 1
    x.note = [1]
    assert copy.deepcopy(x).note == [1]
    with pytest.raises(RuntimeError, match="graph leaves"):
        copy.deepcopy(x * 2)


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_pickle(protocol):
    x = ntorch.arange(6.0).view(2, 3)
    a, b = pickle.loads(pickle.dumps([x, x.t()], protocol))
    assert a.tolist() == x.tolist() and b.stride() == (1, 3)
    a[0, 1] = 100
    assert b[1, 0].item() == 100, "views of one storage must stay views of one storage"
    for name in TYPES:
        t = ntorch.ones(2, dtype=getattr(ntorch, name))
        back = pickle.loads(pickle.dumps(t, protocol))
        assert back.dtype is t.dtype and back.tolist() == t.tolist()
    leaf = pickle.loads(pickle.dumps(ntorch.ones(1, requires_grad=True), protocol))
    assert leaf.requires_grad


def test_to_and_type():
    x = ntorch.ones(2)
    assert x.to(ntorch.float32) is x and x.to("cpu") is x and x.to(x) is x
    assert x.to(ntorch.float64).dtype is ntorch.float64
    assert x.to("cpu", ntorch.int8).dtype is ntorch.int8
    assert x.to(x, copy=True) is not x
    assert x.to(device="cpu", dtype=ntorch.int16).dtype is ntorch.int16
    assert x.to("meta").device.type == "meta" and x.cpu() is x
    assert x.type() == "torch.FloatTensor" and x.type("torch.LongTensor").dtype is ntorch.int64
    assert x.type(ntorch.float64).type() == "torch.DoubleTensor"
    for name, dtype in (("half", "float16"), ("double", "float64"), ("long", "int64"),
                        ("int", "int32"),
                        ("short", "int16"), ("char", "int8"), ("byte", "uint8"), ("bool", "bool"),
                        ("bfloat16", "bfloat16"), ("cfloat", "complex64")):
        assert getattr(x, name)().dtype is getattr(ntorch, dtype)
    assert x.type_as(ntorch.ones(1, dtype=ntorch.int32)).dtype is ntorch.int32
    with pytest.raises((RuntimeError, AssertionError), match="(?i)cuda"):
        x.cuda()
    with pytest.raises(RuntimeError, match="device"):
        x.to("nonsense")


def test_subclasses():
    class Mine(Tensor):
        pass

    x = ntorch.arange(3.0)
    made = x.as_subclass(Mine)
    assert type(made) is Mine and made.data_ptr() == x.data_ptr()
    assert isinstance(made, Tensor) and type(copy.deepcopy(made)) is Mine


# --- half types -----------------------------------------------------------------------------------

def _bfloat16(x):
    """Round to nearest even on the upper 16 bits of float32."""
    bits = np.asarray(x, np.float32).view(np.uint32).astype(np.uint64)
    rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).astype(np.uint32)
    return np.where(np.isnan(x), np.float32(np.nan), rounded.view(np.float32))


HALVES = np.array([0.0, -0.0, 1.0, 1 / 3, 1e-8, 6e-8, 2.98e-8, 65504, 65519.9, 65520, 1e6, np.inf,
                   -np.inf, np.nan, 1.00048828125, 1.00146484375, 3.3895314e38, 1e-40, 5.96e-8, 0.1,
                   1.00390625,
                   1.01171875, -2049.0, -2051.0], np.float32)


def test_half_rounding():
    with np.errstate(over="ignore"):
        wanted = HALVES.astype(np.float16)
    got = ntorch.from_numpy(HALVES).to(ntorch.float16)
    np.testing.assert_array_equal(got.numpy(), wanted)
    np.testing.assert_array_equal(got.float().numpy(), wanted.astype(np.float32))
    brain = ntorch.from_numpy(HALVES).to(ntorch.bfloat16)
    np.testing.assert_array_equal(brain.float().numpy(), _bfloat16(HALVES))


def test_every_half_pattern_survives():
    every = np.arange(1 << 16, dtype=np.uint16)
    halves = ntorch.from_numpy(every.view(np.float16))
    back = halves.float().to(ntorch.float16).numpy()
    np.testing.assert_array_equal(back, every.view(np.float16))
    brain = ntorch.from_numpy(every.view(np.int16)).view(ntorch.bfloat16)
    numbers = (every.astype(np.uint32) << 16).view(np.float32)
    np.testing.assert_array_equal(brain.float().numpy(), numbers)
    np.testing.assert_array_equal(brain.float().to(ntorch.bfloat16).float().numpy(), numbers)


@pytest.mark.parametrize("dtype", [ntorch.float16, ntorch.bfloat16], ids=str)
def test_half_arithmetic_rounds_once(dtype):
    rng = np.random.default_rng(3)
    a, b = (ntorch.from_numpy(rng.uniform(0.5, 2, 500).astype(np.float32)).to(dtype) for _ in "ab")
    for call in (ntorch.add, ntorch.mul, ntorch.div, lambda x, y: ntorch.exp(x)):
        wanted = call(a.float(), b.float()).to(dtype)
        assert call(a, b).tolist() == wanted.tolist()
    total = a.sum()
    assert total.dtype is dtype and total.item() == a.float().sum().to(dtype).item()
    c, d = a[:400].view(20, 20), b[:400].view(20, 20)
    np.testing.assert_allclose((c @ d).float().numpy(), c.float().numpy() @ d.float().numpy(),
                               rtol=1e-2)


# --- writing --------------------------------------------------------------------------------------

def test_copy_fill_zero():
    x = ntorch.zeros(2, 3, dtype=ntorch.int32)
    x.copy_(ntorch.tensor([1.7, 2.2, -3.9]))
    assert x.tolist() == [[1, 2, -3], [1, 2, -3]]
    x.fill_(7)
    x[0].zero_()
    assert x.tolist() == [[0, 0, 0], [7, 7, 7]]
    x.t().copy_(ntorch.arange(6).view(3, 2))
    assert x.tolist() == [[0, 2, 4], [1, 3, 5]]
    with pytest.raises(RuntimeError):
        x.copy_(ntorch.ones(4))
    with pytest.raises(RuntimeError, match="single memory location"):
        ntorch.ones(1).expand(3).add_(1)


def test_storage_object():
    x = ntorch.arange(4.0)
    store = x.untyped_storage()
    assert store.nbytes() == 16 and len(store) == 16 and x.storage()[2] == 2.0
    assert ctypes.c_float.from_address(store.data_ptr() + 4).value == 1.0
    clone = store.clone()
    assert clone.data_ptr() != store.data_ptr() and ntorch.is_storage(clone)
    buffer = io.BytesIO()
    pickle.dump(x.storage(), buffer)
    assert pickle.loads(buffer.getvalue()).tolist() == [0, 1, 2, 3]
