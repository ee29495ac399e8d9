"""Sorting, selection, unique values, scans and searching, against NumPy for every dtype and
layout."""
import numpy as np
import pytest

import ntorch
from ntorch.autograd import gradcheck, gradgradcheck

DTYPES = ["bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64"]


def sample(dtype, shape, seed=0, nan=False):
    """Numbers with many repeats, zeros of both signs, infinities and, if asked, NaN."""
    rng = np.random.default_rng(seed)
    if dtype == "bool":
        return rng.random(shape) < 0.5
    if dtype.startswith("float"):
        values = rng.choice([-np.inf, -2.5, -1, -0.0, 0.0, 0.5, 1, 3, np.inf], shape)
        values = np.where(rng.random(shape) < 0.5, rng.standard_normal(shape), values)
        if nan:
            values = np.where(rng.random(shape) < 0.2, np.nan, values)
        return values.astype(dtype)
    info = np.iinfo(dtype)
    spread = rng.integers(max(info.min, -5), min(info.max, 9), shape)
    return np.where(rng.random(shape) < 0.1, rng.choice([info.min, info.max], shape),
                    spread).astype(dtype)


def order_of(values, descending):
    """A stable order with NaN greatest, along the last axis."""
    if not descending:
        return np.argsort(values, -1, kind="stable")
    flipped = np.flip(np.argsort(np.flip(values, -1), -1, kind="stable"), -1)
    return values.shape[-1] - 1 - flipped


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [1, 2, 23, 24, 25, 49, 100, 511, 512, 1500])
def test_sort_is_stable_and_puts_nan_last(dtype, n, descending):
    values = sample(dtype, (3, n), n, nan=True)
    got = ntorch.sort(ntorch.from_numpy(values), descending=descending, stable=True)
    order = order_of(values, descending)
    np.testing.assert_array_equal(got.indices.numpy(), order)
    np.testing.assert_array_equal(got.values.numpy(), np.take_along_axis(values, order, -1))


@pytest.mark.parametrize("dim", [0, 1, 2, -2])
def test_sort_along_any_dimension_of_strided_tensors(dim):
    values = sample("float32", (4, 5, 6))
    x = ntorch.from_numpy(values).permute(2, 0, 1)
    moved = np.transpose(values, (2, 0, 1))
    got = x.sort(dim)
    np.testing.assert_array_equal(got.values.numpy(), np.sort(moved, dim))
    np.testing.assert_array_equal(got.indices.numpy(), np.argsort(moved, dim, kind="stable"))
    np.testing.assert_array_equal(ntorch.argsort(x, dim).numpy(), got.indices.numpy())


def test_a_large_sort():
    values = np.random.default_rng(0).standard_normal(200_000).astype(np.float32)
    got = ntorch.sort(ntorch.from_numpy(values))
    np.testing.assert_array_equal(got.values.numpy(), np.sort(values))
    np.testing.assert_array_equal(values[got.indices.numpy()], np.sort(values))


@pytest.mark.parametrize("largest", [False, True])
@pytest.mark.parametrize("dtype", DTYPES[1:])
@pytest.mark.parametrize("n, k", [(1, 1), (5, 0), (7, 3), (40, 40), (300, 5), (3000, 20),
                                  (3000, 2900)])
def test_topk_takes_the_first_of_the_stable_order(dtype, n, k, largest):
    values = sample(dtype, (4, n), k, nan=True)
    got = ntorch.topk(ntorch.from_numpy(values), k, largest=largest)
    order = order_of(values, largest)[:, :k]
    np.testing.assert_array_equal(got.values.numpy(), np.take_along_axis(values, order, -1))
    np.testing.assert_array_equal(got.indices.numpy(), order)


@pytest.mark.parametrize("dtype", DTYPES[1:])
@pytest.mark.parametrize("n", [1, 2, 9, 200])
def test_kthvalue_and_median(dtype, n):
    values = sample(dtype, (5, n), n)
    x, ordered = ntorch.from_numpy(values), np.sort(values, -1)
    for k in {1, (n + 1) // 2, n}:
        got = x.kthvalue(k)
        np.testing.assert_array_equal(got.values.numpy(), ordered[:, k - 1])
        np.testing.assert_array_equal(values[np.arange(5), got.indices.numpy()], ordered[:, k - 1])
    np.testing.assert_array_equal(x.median(1).values.numpy(), ordered[:, (n - 1) // 2])
    assert x.median().item() == np.sort(values.ravel())[(5 * n - 1) // 2]
    np.testing.assert_array_equal(x.t().contiguous().median(0, True).values.numpy()[0],
                                  ordered[:, (n - 1) // 2])


def test_medians_and_nan():
    x = ntorch.tensor([[1.0, np.nan, 2, 3], [4, 1, 3, 2]])
    assert np.isnan(x.median(1).values[0].item()) and x.median(1).indices.tolist() == [1, 3]
    assert x.nanmedian(1).values.tolist() == [2, 2]
    assert x.nanmedian().item() == 2 and np.isnan(x.median().item())
    assert np.isnan(ntorch.tensor([np.nan, np.nan]).nanmedian().item())
    assert np.isnan(ntorch.empty(0).median().item())


@pytest.mark.parametrize("dtype", DTYPES)
def test_mode_is_the_smallest_of_the_most_frequent(dtype):
    values = sample(dtype, (6, 31))
    got = ntorch.mode(ntorch.from_numpy(values))
    for row, value, place in zip(values, got.values.numpy(), got.indices.numpy(), strict=True):
        found, counts = np.unique(row, return_counts=True)
        assert value == found[counts.argmax()] and row[place] == value


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(0,), (1,), (50,), (7, 9)])
def test_unique(dtype, shape):
    values = sample(dtype, shape)
    got = ntorch.unique(ntorch.from_numpy(values), return_inverse=True, return_counts=True)
    for ours, theirs in zip(got, np.unique(values, return_inverse=True, return_counts=True),
                            strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs)


@pytest.mark.parametrize("dim", [0, 1, 2])
def test_unique_slices(dim):
    values = np.random.default_rng(dim).integers(0, 2, (5, 4, 3))
    got = ntorch.unique(ntorch.from_numpy(values), return_inverse=True, return_counts=True, dim=dim)
    wanted = np.unique(values, return_inverse=True, return_counts=True, axis=dim)
    for ours, theirs in zip(got, wanted, strict=True):
        np.testing.assert_array_equal(ours.numpy(), np.squeeze(theirs))


def test_unique_consecutive():
    x = ntorch.tensor([1, 1, 2, 2, 2, 1, 3, 3])
    values, inverse, counts = ntorch.unique_consecutive(x, return_inverse=True, return_counts=True)
    assert values.tolist() == [1, 2, 1, 3] and counts.tolist() == [2, 3, 1, 2]
    assert inverse.tolist() == [0, 0, 1, 1, 1, 2, 3, 3]
    lines = ntorch.tensor([[1, 2], [1, 2], [3, 4]])
    assert ntorch.unique_consecutive(lines, dim=0).tolist() == [[1, 2], [3, 4]]
    assert ntorch.unique(ntorch.tensor([np.nan, 1, np.nan])).shape == (3,)


@pytest.mark.parametrize("dtype", ["uint8", "int32", "int64"])
def test_bincount(dtype):
    values = np.random.default_rng(0).integers(0, 9, 100).astype(dtype)
    weights = np.random.default_rng(1).random(100)
    x, w = ntorch.from_numpy(values), ntorch.from_numpy(weights)
    np.testing.assert_array_equal(x.bincount().numpy(), np.bincount(values))
    np.testing.assert_array_equal(x.bincount(minlength=20).numpy(),
                                  np.bincount(values, minlength=20))
    np.testing.assert_allclose(x.bincount(w).numpy(), np.bincount(values, weights))


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("dtype", ["int32", "int64", "float32", "float64", "float16"])
def test_searchsorted(side, dtype):
    edges, values = np.sort(sample(dtype, (40,))), sample(dtype, (3, 50), 1)
    wanted = np.searchsorted(edges, values, side)
    e, v = ntorch.from_numpy(edges), ntorch.from_numpy(values)
    np.testing.assert_array_equal(ntorch.searchsorted(e, v, side=side).numpy(), wanted)
    np.testing.assert_array_equal(ntorch.bucketize(v, e, right=side == "right").numpy(), wanted)
    shuffled = np.random.default_rng(2).permutation(40)
    order = np.argsort(edges[shuffled], kind="stable")
    got = ntorch.searchsorted(ntorch.from_numpy(edges[shuffled]), v, side=side, out_int32=True,
                              sorter=ntorch.from_numpy(order))
    assert got.dtype is ntorch.int32
    np.testing.assert_array_equal(got.numpy(), wanted)
    rows = np.sort(sample(dtype, (3, 20)), -1)
    np.testing.assert_array_equal(
        ntorch.searchsorted(ntorch.from_numpy(rows), v, side=side).numpy(),
        [np.searchsorted(r, x, side) for r, x in zip(rows, values, strict=True)])


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int32", "int64", "float32", "float64"])
@pytest.mark.parametrize("dim", [0, 1, 2])
def test_running_sums_and_products(dtype, dim):
    values = (np.random.default_rng(0).integers(0, 3, (4, 5, 6))).astype(dtype)
    x = ntorch.from_numpy(values).permute(0, 2, 1)
    moved = values.transpose(0, 2, 1)
    for name in ("cumsum", "cumprod"):
        wanted = getattr(np, name)(moved.astype(np.float64), dim)
        got = getattr(ntorch, name)(x, dim)
        assert got.dtype is (ntorch.int64 if values.dtype.kind in "bui" else x.dtype)
        np.testing.assert_array_equal(got.numpy(), wanted)


def test_a_long_float32_running_sum_does_not_drift():
    values = np.random.default_rng(0).random(1_000_000).astype(np.float32)
    wanted = np.cumsum(values.astype(np.float64))
    got = ntorch.cumsum(ntorch.from_numpy(values), 0).numpy()
    assert np.abs(got / wanted - 1).max() < 1.2e-7


@pytest.mark.parametrize("dtype", DTYPES[1:])
@pytest.mark.parametrize("dim", [0, 1])
def test_running_extremes(dtype, dim):
    values = sample(dtype, (30, 20), nan=True)
    x = ntorch.from_numpy(values)
    for name, extreme in (("cummax", np.maximum), ("cummin", np.minimum)):
        got = getattr(x, name)(dim)
        np.testing.assert_array_equal(got.values.numpy(), extreme.accumulate(values, dim))
        picked = np.take_along_axis(values, got.indices.numpy(), dim)
        np.testing.assert_array_equal(picked, got.values.numpy())


def test_running_logsumexp():
    values = np.random.default_rng(0).uniform(-300, 300, (5, 40))
    values[0, 3], values[1, 0], values[2, 5] = np.inf, -np.inf, np.nan
    got = ntorch.logcumsumexp(ntorch.from_numpy(values), 1).numpy()
    with np.errstate(invalid="ignore"):
        wanted = np.logaddexp.accumulate(values, 1)
    np.testing.assert_allclose(got, wanted, rtol=1e-14)


def test_diff_against_numpy():
    values = np.random.default_rng(0).integers(0, 50, (5, 7))
    x = ntorch.from_numpy(values)
    for n in range(4):
        for dim in (0, 1, -1):
            np.testing.assert_array_equal(ntorch.diff(x, n, dim).numpy(), np.diff(values, n, dim))
    got = ntorch.diff(x, 1, 0, prepend=x[:1], append=x[:2])
    np.testing.assert_array_equal(got.numpy(), np.diff(values, 1, 0, values[:1], values[:2]))
    assert ntorch.diff(ntorch.tensor([True, False, False])).tolist() == [True, False]


def _apart(*shape):
    n = int(np.prod(shape))
    values = np.random.default_rng(0).permutation(np.linspace(0.5, 2.5, n)).reshape(shape)
    return ntorch.from_numpy(values)


def _with_zeros():
    x = _apart(3, 5)
    x[0, 2], x[1, 0], x[1, 3] = 0, 0, 0
    return x


GRADIENTS = {
    "sort": (lambda x: x.sort(0, True)[0], _apart(3, 5)),
    "topk": (lambda x: x.topk(2)[0], _apart(3, 5)),
    "kthvalue": (lambda x: x.kthvalue(2, 0)[0], _apart(3, 5)),
    "median": (lambda x: x.median(1, True)[0], _apart(3, 5)),
    "median of all": (lambda x: x.median(), _apart(3, 5)),
    "mode": (lambda x: x.mode(0)[0], _apart(3, 5)),
    "cumsum": (lambda x: x.cumsum(0), _apart(3, 5)),
    "cumprod": (lambda x: x.cumprod(1), _apart(3, 5)),
    "cumprod with zeros": (lambda x: x.cumprod(1), _with_zeros()),
    "cummax": (lambda x: x.cummax(1)[0], _apart(3, 5)),
    "logcumsumexp": (lambda x: x.logcumsumexp(1), _apart(3, 5)),
    "diff": (lambda x: x.diff(2), _apart(3, 5)),
}


@pytest.mark.parametrize("name", GRADIENTS)
def test_gradients_to_second_order(name):
    function, x = GRADIENTS[name]
    x = x.detach().clone().requires_grad_()
    assert gradcheck(function, [x])
    assert gradgradcheck(lambda t: function(t * t if "zeros" not in name else t), [x])


ERRORS = [
    (lambda x: x.sort(2), IndexError, "Dimension out of range"),
    (lambda x: ntorch.tensor([1j]).sort(), RuntimeError, "complex"),
    (lambda x: x.topk(5), RuntimeError, "k out of range"),
    (lambda x: x.topk(-1), RuntimeError, "k out of range"),
    (lambda x: x.kthvalue(0), RuntimeError, "out of range for dimension 1"),
    (lambda x: x.kthvalue(5), RuntimeError, "out of range for dimension 1"),
    (lambda x: ntorch.empty(0).kthvalue(1), IndexError, "non-zero size"),
    (lambda x: ntorch.empty(3, 0).median(1), IndexError, "non-zero size"),
    (lambda x: ntorch.tensor([1, -1]).bincount(), RuntimeError, "non-negative"),
    (lambda x: ntorch.tensor([1.5]).bincount(), NotImplementedError, "'Float'"),
    (lambda x: ntorch.tensor([1]).bincount(minlength=-1), RuntimeError, "minlength"),
    (lambda x: ntorch.tensor([1]).bincount(ntorch.ones(2)), RuntimeError, "same length"),
    (lambda x: ntorch.searchsorted(x[0], x[0], side="middle"), RuntimeError, "middle"),
    (lambda x: ntorch.searchsorted(x[0], x[0], right=True, side="left"), RuntimeError, "opposites"),
    (lambda x: ntorch.searchsorted(x, x[0]), RuntimeError, "first N-1 dimensions"),
    (lambda x: ntorch.searchsorted(x[0], x[0], sorter=ntorch.tensor([0, 1, 2, 9])), RuntimeError,
     "sorter index out of range"),
    (lambda x: ntorch.bucketize(x, x), RuntimeError, "1 dimension"),
    (lambda x: x.cumsum(2), IndexError, "Dimension out of range"),
    (lambda x: x.long().logcumsumexp(0), NotImplementedError, "'Long'"),
    (lambda x: ntorch.diff(x, -1), RuntimeError, "non-negative"),
    (lambda x: ntorch.unique(x.to("meta")), NotImplementedError, "depends on the data"),
]


@pytest.mark.parametrize("number", range(len(ERRORS)))
def test_errors(number):
    call, kind, words = ERRORS[number]
    with pytest.raises(kind, match=words):
        call(ntorch.arange(12.0).view(3, 4))


def test_empty_and_zero_dim():
    assert ntorch.empty(3, 0).sort().values.shape == (3, 0)
    assert ntorch.empty(0, 3).sort(0).indices.shape == (0, 3)
    assert ntorch.tensor(3.0).sort().indices.item() == 0
    assert ntorch.tensor(3.0).topk(1).values.item() == 3
    assert ntorch.tensor(3.0).cumsum(0).item() == 3
    assert ntorch.tensor(3.0).cummax(0).indices.item() == 0
    assert ntorch.empty(0, 3).cumsum(0).shape == (0, 3)
    assert ntorch.empty(2, 3, device="meta").sort().values.shape == (2, 3)
    assert ntorch.empty(2, 3, device="meta").topk(2).indices.shape == (2, 2)


@pytest.mark.parametrize("name", ["sum", "prod", "cumsum", "cumprod"])
def test_sums_are_computed_in_the_type_of_out(name):
    values = np.array([[1.7, 2.6], [3.5, -1.2]], np.float32)
    call, wanted = getattr(ntorch, name), getattr(np, name)
    for dtype in ("int32", "int64", "float64", "float32"):
        out = ntorch.zeros(0, dtype=getattr(ntorch, dtype))
        assert call(ntorch.from_numpy(values), 0, out=out) is out
        np.testing.assert_array_equal(out.numpy(), wanted(values.astype(dtype), 0, dtype=dtype))
    if name.startswith("cum"):
        with pytest.raises(NotImplementedError, match="Bool"):
            call(ntorch.from_numpy(values), 0, dtype=ntorch.bool)
