"""``x[key]`` and ``x[key] = value`` with hundreds of random keys, and reading and writing by
index."""
import random

import numpy as np
import pytest

import ntorch
from ntorch.autograd import gradcheck, gradgradcheck


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


def _index_array(chooser, rng, n, shared):
    """An index for a dimension of size ``n``: array, list or number."""
    shape = chooser.choice([shared, shared, (1,), ()]) if chooser.random() < 0.9 else (0,)
    made = rng.integers(-n, n, shape)
    if chooser.random() < 0.2:
        made = made.astype(np.int32)
    return made.tolist() if chooser.random() < 0.3 else made


def random_key(chooser, rng, shape):
    """A key for a tensor of ``shape``, of every kind torch takes; arrays stand for tensors."""
    key, d, seen = [], 0, False
    shared = chooser.choice([(), (1,), (2,), (3,), (2, 3), (1, 3)])
    while d < len(shape) and chooser.random() < 0.85:
        kind, n = chooser.random(), shape[d]
        if kind < 0.15:
            key.append(None)
        elif kind < 0.3 and n:
            key.append(chooser.randrange(-n, n))
            d += 1
        elif kind < 0.5:
            key.append(slice(chooser.choice([None, 0, 1, -1, -2, 5]),
                             chooser.choice([None, 0, 1, 2, -1, 9]),
                             chooser.choice([None, 1, 2, 3])))
            d += 1
        elif kind < 0.58 and not seen:
            seen = True
            d += (skipped := chooser.randint(0, len(shape) - d))
            key += [Ellipsis] + [slice(None)] * (len(shape) - d)
            d = len(shape) + 0 * skipped
        elif kind < 0.85 and n:
            key.append(_index_array(chooser, rng, n, shared))
            d += 1
        elif kind < 0.95:
            count = chooser.randint(1, min(2, len(shape) - d))
            key.append(rng.random(shape[d:d + count]) < 0.5)
            d += count
        else:
            key.append(chooser.choice([True, False]))
    return tuple(key)


def to_library(library, key):
    """The key with arrays as tensors of a library."""
    return tuple(library.from_numpy(np.asarray(item)) if isinstance(item, np.ndarray) else item
                 for item in key)


def attempt(call, *arguments):
    try:
        return call(*arguments), None
    except (IndexError, RuntimeError, TypeError, ValueError) as error:
        return None, error


def _case(seed):
    chooser, rng = random.Random(seed), np.random.default_rng(seed)
    shape = tuple(chooser.choice([2, 3, 4]) if chooser.random() < 0.9 else chooser.choice([0, 1])
                  for _ in range(chooser.randint(0, 4)))
    order = list(range(len(shape)))
    if chooser.random() < 0.3:
        chooser.shuffle(order)
    key = random_key(chooser, rng, tuple(shape[d] for d in order))
    return np.arange(np.prod(shape), dtype=np.float64).reshape(shape), order, key, rng


@pytest.mark.parametrize("block", range(10))
def test_random_keys_read_as_in_torch(torch, block):
    compared = 0
    for seed in range(60 * block, 60 * block + 60):
        values, order, key, _ = _case(seed)
        x, y = torch.from_numpy(values), ntorch.from_numpy(values.copy()).requires_grad_()
        x.requires_grad_()
        wanted, error = attempt(x.permute(order).__getitem__, to_library(torch, key))
        got, ours = attempt(y.permute(order).__getitem__, to_library(ntorch, key))
        assert type(error) is type(ours), (values.shape, order, key, error, ours)
        if error is not None:
            continue
        compared += 1
        np.testing.assert_array_equal(wanted.detach().numpy(), got.detach().numpy(), str(key))
        weight = np.cos(np.arange(wanted.numel())).reshape(wanted.shape)
        wanted.backward(torch.from_numpy(weight))
        got.backward(ntorch.from_numpy(weight))
        np.testing.assert_allclose(x.grad.numpy(), y.grad.numpy(), err_msg=str(key))
    assert compared > 40


@pytest.mark.parametrize("block", range(10))
def test_random_keys_write_as_in_torch(torch, block):
    for seed in range(60 * block, 60 * block + 60):
        values, order, key, rng = _case(seed)
        read = torch.from_numpy(values).permute(order).__getitem__
        target, error = attempt(read, to_library(torch, key))
        if error is not None:
            continue
        shape = target.shape
        for value in (7.5, rng.random(shape), rng.random(shape[1:] if shape else (1,))):
            # of equal places torch leaves open which value stays: write one value to each
            if not isinstance(value, float) and _repeats(values, order, key):
                value = np.full(value.shape, 2.5)
            x, y = torch.from_numpy(values.copy()), ntorch.from_numpy(values.copy())
            both = [(x.permute(order), torch), (y.permute(order), ntorch)]
            results = [attempt(t.__setitem__, to_library(lib, key), value if isinstance(
                value, float) else lib.from_numpy(np.asarray(value))) for t, lib in both]
            assert (results[0][1] is None) == (results[1][1] is None), (values.shape, key, results)
            np.testing.assert_array_equal(x.numpy(), y.numpy(), str((values.shape, order, key)))


def _repeats(values, order, key):
    places = ntorch.from_numpy(values).permute(order)[to_library(ntorch, key)].numpy()
    return len(np.unique(places)) < places.size


@pytest.mark.parametrize("seed", range(120))
def test_one_index_array_reads_and_writes_as_numpy(seed):
    """NumPy and torch agree where no integer stands beside an index array."""
    chooser, rng = random.Random(seed), np.random.default_rng(seed)
    shape = tuple(rng.integers(1, 5, chooser.randint(1, 4)))
    place = chooser.randrange(len(shape))
    key = tuple(rng.integers(-n, n, (3, 2)) if d == place else chooser.choice(
        [slice(None), slice(1, None), slice(None, None, 2), slice(-2, None)])
        for d, n in enumerate(shape))
    values = rng.random(shape)
    x = ntorch.from_numpy(values.copy())
    np.testing.assert_array_equal(values[key], x[to_library(ntorch, key)].numpy())
    values[key] = 3.0
    x[to_library(ntorch, key)] = 3.0
    np.testing.assert_array_equal(values, x.numpy())


def test_basic_keys_are_views():
    x = ntorch.arange(24).view(2, 3, 4)
    for key in (0, (slice(None), 1), (Ellipsis, 2), None, (0, None, slice(1, 3)), Ellipsis, ()):
        assert x[key].data_ptr() - x.data_ptr() < 24 * 8
        assert x[key]._base is x or x[key]._base is not None
    x[0, 1] = -1
    assert x.tolist()[0][1] == [-1] * 4
    assert x[[0]].data_ptr() != x.data_ptr()


def test_scalars_and_sequences_are_assigned_in_the_targets_type():
    x = ntorch.zeros(3, 2, dtype=ntorch.int64)
    x[0] = 3.9
    x[1] = [4, 5]
    x[2] = np.array([6.5, 7.5])
    x[x == 5] = 50
    assert x.tolist() == [[3, 3], [4, 50], [6, 7]]


INDEX_ERRORS = [
    (lambda x: x[5], IndexError, "index 5 is out of bounds for dimension 0 with size 3"),
    (lambda x: x[0, -5], IndexError, "index -5 is out of bounds for dimension 1 with size 4"),
    (lambda x: x[0, 0, 0], IndexError, "too many indices for tensor of dimension 2"),
    (lambda x: x[ntorch.tensor([0, 3])], IndexError, "index 3 is out of bounds for dimension 0"),
    (lambda x: x[:, ntorch.tensor([-5])], IndexError, "index -5 is out of bounds for dimension 1"),
    (lambda x: x[ntorch.tensor([True, False])], IndexError, "shape of the mask"),
    (lambda x: x[ntorch.tensor([0, 1]), ntorch.tensor([0, 1, 2])], IndexError, "could not be "
                                                                               "broadcast"),
    (lambda x: x[ntorch.tensor([0.5])], IndexError, "must be long, int, byte or bool"),
    (lambda x: x["a"], (IndexError, TypeError), "only integers, slices"),
    (lambda x: x[::-1], ValueError, "step must be greater than zero"),
    (lambda x: x[1.5], (IndexError, TypeError), "only integers"),
    (lambda x: x.sum()[0], IndexError, "0-dim tensor"),
    (lambda x: x.__setitem__(0, ntorch.ones(3)), RuntimeError, "shape mismatch"),
    (lambda x: x.__setitem__(ntorch.tensor([0]), ntorch.ones(3)), RuntimeError, "shape mismatch"),
    (lambda x: x.__setitem__(ntorch.tensor([0, 9]), 1.0), IndexError, "index 9"),
]


@pytest.mark.parametrize("number", range(len(INDEX_ERRORS)))
def test_bad_keys_raise_and_write_nothing(number):
    call, kind, words = INDEX_ERRORS[number]
    x = ntorch.arange(12.0).view(3, 4)
    with pytest.raises(kind, match=words):
        call(x)
    assert x.tolist() == ntorch.arange(12.0).view(3, 4).tolist()


L = ntorch.int64


def _long(*values):
    return ntorch.tensor(values if len(values) > 1 else values[0])


OP_ERRORS = [
    (lambda x: x.gather(1, _long([[4], [0]])), RuntimeError, "index 4 is out of bounds for "
                                                             "dimension 1"),
    (lambda x: x.gather(1, _long([[-1], [0]])), RuntimeError, "index -1"),
    (lambda x: x.gather(1, _long([0])), RuntimeError, "same number of dimensions"),
    (lambda x: x.gather(1, ntorch.ones(1, 1)), RuntimeError, "int32/int64"),
    (lambda x: x.gather(1, ntorch.zeros(4, 1, dtype=L)), RuntimeError, "no larger than self"),
    (lambda x: x.gather(2, _long([[0]])), IndexError, "Dimension out of range"),
    (lambda x: x.scatter_(1, _long([[4]]), 1.0), RuntimeError, "index 4"),
    (lambda x: x.scatter_(1, _long([[0]]), x.double()), RuntimeError, "self.dtype"),
    (lambda x: x.scatter_(1, ntorch.zeros(3, 5, dtype=L), x.clone()), RuntimeError, "no larger"),
    (lambda x: x.scatter_(1, _long([[0]]), 1j), RuntimeError, "without overflow"),
    (lambda x: x.scatter_(1, _long([[0]]), x.clone(), reduce="bad"), RuntimeError, "add or "
                                                                                   "multiply"),
    (lambda x: x.scatter_add_(1, _long([[0, 9]]), x.clone()), RuntimeError, "index 9"),
    (lambda x: x.scatter_reduce_(1, _long([[0]]), x.clone(), "bad"), RuntimeError, "got bad"),
    (lambda x: x.index_select(0, _long([3])), IndexError, "out of range in self"),
    (lambda x: x.index_select(0, _long([-1])), IndexError, "out of range in self"),
    (lambda x: x.index_select(0, _long([[0]])), IndexError, "vector"),
    (lambda x: x.index_add_(0, _long([0, 3]), x[:2].clone()), RuntimeError, "index 3"),
    (lambda x: x.index_add_(0, _long([0]), x.clone()), RuntimeError, "Number of indices"),
    (lambda x: x.index_add_(0, _long([0]), x[:1].double()), RuntimeError, "same scalar type"),
    (lambda x: x.index_copy_(0, _long([3]), x[:1].clone()), IndexError, "index 3"),
    (lambda x: x.index_copy_(0, _long([0]), x.clone()), IndexError, "Number of indices"),
    (lambda x: x.index_fill_(0, _long([-4]), 1.0), IndexError, "index -4"),
    (lambda x: x.index_fill_(0, _long([0]), ntorch.ones(2)), RuntimeError, "0-dimensional value"),
    (lambda x: x.take(_long([12])), IndexError, "index 12 on a tensor of 12 elements"),
    (lambda x: x.take(ntorch.tensor([0.0])), RuntimeError, "long tensor"),
    (lambda x: x.put_(_long([0, -13]), ntorch.ones(2)), IndexError, "index -13"),
    (lambda x: x.put_(_long([0]), ntorch.ones(2)), IndexError, "same number of elements"),
    (lambda x: x.masked_fill_(ntorch.ones(4), 1), RuntimeError, "boolean masks"),
    (lambda x: x.masked_fill_(ntorch.ones(4) > 0, 1j), RuntimeError, "without overflow"),
    (lambda x: x.masked_fill_(ntorch.ones(3) > 0, 1), RuntimeError, "must match the size"),
    (lambda x: x.masked_select(ntorch.ones(4)), RuntimeError, "BoolTensor"),
    (lambda x: x.masked_scatter_(x > 2, ntorch.ones(3)), RuntimeError, "number of ones in mask"),
    (lambda x: x.take_along_dim(_long([0]), 1), RuntimeError, "same number of dimensions"),
    (lambda x: x.index_put_((_long([0]),), ntorch.ones(1, dtype=L)), RuntimeError, "dtypes match"),
    (lambda x: ntorch.nonzero(x.to("meta")), NotImplementedError, "depends on the data"),
]


@pytest.mark.parametrize("number", range(len(OP_ERRORS)))
def test_bad_arguments_raise_and_write_nothing(number):
    call, kind, words = OP_ERRORS[number]
    x = ntorch.arange(12.0).view(3, 4)
    with pytest.raises(kind, match=words):
        call(x)
    assert x.tolist() == ntorch.arange(12.0).view(3, 4).tolist()


def _scatter_by_loops(x, dim, index, src, reduce):
    out = x.copy()
    for place in np.ndindex(index.shape):
        target = list(place)
        target[dim] = index[place]
        target = tuple(target)
        out[target] = {"set": lambda a, b: b, "sum": lambda a, b: a + b, "prod": lambda a, b: a * b,
                       "amax": max, "amin": min}[reduce](out[target], src[place])
    return out


@pytest.mark.parametrize("reduce", ["set", "sum", "prod", "amax", "amin"])
@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "int64", "uint8", "float16"])
@pytest.mark.parametrize("dim", [0, 1, 2])
def test_scatter_against_loops(reduce, dtype, dim):
    rng = np.random.default_rng(dim)
    shape, part = [4, 5, 70], [3, 4, 66]
    x, src = rng.integers(0, 9, shape).astype(dtype), rng.integers(1, 3, shape).astype(dtype)
    index = rng.integers(0, shape[dim], part)
    if reduce in ("sum", "prod"):       # few repeats: nothing overflows
        others = [p for d, p in enumerate(part) if d != dim]
        index = np.stack([rng.permutation(shape[dim])[:part[dim]] for _ in range(
            index.size // part[dim])])
        index = np.moveaxis(index.reshape([*others, part[dim]]), -1, dim)
    a, i, s = (ntorch.from_numpy(v.copy()) for v in (x, index, src))
    if reduce == "set":
        got = a.scatter(dim, i, s)
    elif reduce == "sum":
        got = a.scatter_add(dim, i, s)
    else:
        got = a.scatter_reduce(dim, i, s, reduce)
    np.testing.assert_array_equal(got.numpy(), _scatter_by_loops(x, dim, index, src, reduce))
    assert (a.numpy() == x).all()


def test_writing_ops_work_on_strided_targets_and_keep_them():
    base = ntorch.zeros(4, 6)
    view = base.t()[1::2]
    view.scatter_add_(0, ntorch.tensor([[0, 0, 1, 2], [0, 1, 1, 2]]), ntorch.ones(2, 4))
    view.index_add_(1, ntorch.tensor([0, 0]), ntorch.ones(3, 2))
    view[:, 3] = 9
    expected = np.zeros((3, 4))
    expected[0] = [2, 1, 0, 0]
    expected[1] = [0, 1, 2, 0]
    expected[2] = [0, 0, 0, 2]
    expected[:, 0] += 2
    expected[:, 3] = 9
    np.testing.assert_array_equal(view.numpy(), expected)
    assert base[:, 0].sum() == 0


def test_many_threads_give_the_same_sums():
    rng = np.random.default_rng(0)
    index = ntorch.from_numpy(rng.integers(0, 7, (300, 700)))
    src = ntorch.from_numpy(rng.random((300, 700)).astype(np.float32))
    count, results = ntorch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            ntorch.set_num_threads(threads)
            results.append(ntorch.zeros(7, 700).scatter_add(0, index, src).numpy())
            results.append(ntorch.zeros(300, 7).scatter_add(1, index, src).numpy().T[:, :1]
                           * np.ones((1, 700)))
    finally:
        ntorch.set_num_threads(count)
    for again in results[2::2]:
        np.testing.assert_array_equal(results[0], again)
    for again in results[3::2]:
        np.testing.assert_array_equal(results[1], again)


@pytest.mark.parametrize("shape", [(0,), (1,), (5,), (3, 4), (2, 0, 3), (40_000,), (130, 131)])
def test_nonzero_and_masked_select_against_numpy(shape):
    values = (np.random.default_rng(0).random(shape) * 3).astype(np.int32)
    x = ntorch.from_numpy(values)
    np.testing.assert_array_equal(ntorch.nonzero(x).numpy(), np.argwhere(values))
    for got, wanted in zip(ntorch.nonzero(x, as_tuple=True), np.nonzero(values), strict=True):
        np.testing.assert_array_equal(got.numpy(), wanted)
    np.testing.assert_array_equal(x.masked_select(x > 1).numpy(), values[values > 1])


def test_zero_dim_tensors():
    x = ntorch.tensor(3.0)
    assert ntorch.nonzero(x).shape == (1, 0) and ntorch.nonzero(x * 0).shape == (0, 0)
    assert x.gather(0, ntorch.tensor([0, 0])).tolist() == [3, 3]
    assert x.index_select(0, ntorch.tensor([0])).shape == ()
    assert x.scatter(0, ntorch.tensor(0), 5.0).item() == 5
    assert x.index_fill(0, ntorch.tensor(0), 2.0).item() == 2
    assert x.take(ntorch.tensor([[0, -1]])).tolist() == [[3, 3]]
    assert x[None].shape == (1,) and x[...].shape == () and x[True].shape == (1,)


X = ntorch.rand(3, 4, dtype=ntorch.float64, generator=ntorch.Generator().manual_seed(0)) + 0.5
S = ntorch.rand(3, 4, dtype=ntorch.float64, generator=ntorch.Generator().manual_seed(1)) + 2.0
I = ntorch.tensor([[0, 1, 1, 0], [2, 1, 0, 2], [1, 1, 1, 1]])    # noqa: E741
MASK = ntorch.tensor([[True, False, True, False]] * 3)
GRADIENTS = {
    "gather": (lambda x: x.gather(0, I), X),
    "scatter": (lambda x, s: x.scatter(0, ntorch.tensor([[0, 1, 2, 0]]), s[:1]), X, S),
    "scatter number": (lambda x: x.scatter(0, I, 3.0), X),
    "scatter_add": (lambda x, s: x.scatter_add(0, I, s), X, S),
    "prod": (lambda x, s: x.scatter_reduce(0, I, s, "prod"), X, S),
    "amax": (lambda x, s: x.scatter_reduce(0, I, s, "amax"), X, S),
    "mean": (lambda x, s: x.scatter_reduce(0, I, s, "mean", include_self=False), X, S),
    "index_select": (lambda x: x.index_select(1, ntorch.tensor([3, 0, 3])), X),
    "index_add": (lambda x, s: x.index_add(1, ntorch.tensor([0, 0, 2, 1]), s, alpha=2), X, S),
    "index_copy": (lambda x, s: x.index_copy(0, ntorch.tensor([2, 0, 1]), s), X, S),
    "index_fill": (lambda x, v: x.index_fill(0, ntorch.tensor([2, 0, 2]), v), X, S[0, 0].clone()),
    "index": (lambda x: x[ntorch.tensor([0, 2, 0]), :, None], X),
    "index two": (lambda x: x[ntorch.tensor([[0], [2]]), ntorch.tensor([1, 1, 3])], X),
    "mask": (lambda x: x[MASK], X),
    "index_put": (lambda x, s: x.index_put((ntorch.tensor([2, 0]),), s[0]), X, S),
    "index_put add": (lambda x, s: x.index_put((ntorch.tensor([2, 2, 0]),), s, True), X, S),
    "masked_fill": (lambda x, v: x.masked_fill(MASK, v), X, S[0, 0].clone()),
    "masked_select": (lambda x: x.masked_select(MASK), X),
    "masked_scatter": (lambda x, s: x.masked_scatter(MASK, s), X, S),
    "take": (lambda x: x.take(ntorch.tensor([[0, -1], [5, 5]])), X),
    "put": (lambda x, s: x.put(ntorch.tensor([0, 5, -1]), s[0, :3]), X, S),
    "put add": (lambda x, s: x.put(ntorch.tensor([0, 5, 5]), s[0, :3], True), X, S),
    "take_along_dim": (lambda x: x.take_along_dim(ntorch.tensor([[3, 0]]), 1), X),
}


@pytest.mark.parametrize("name", GRADIENTS)
def test_gradients_to_second_order(name):
    function, *inputs = GRADIENTS[name]
    inputs = [t.detach().clone().requires_grad_() for t in inputs]
    assert gradcheck(function, inputs)
    # of squares, so that there is a second derivative to check
    assert gradgradcheck(lambda *ts: function(*[t * t for t in ts]), inputs)


def test_gradient_through_assignment():
    x = ntorch.rand(4, 3, requires_grad=True)
    v = ntorch.rand(2, 3, requires_grad=True)
    y = x * 1
    y[ntorch.tensor([3, 0])] = v
    y[1, :2] = v[0, 0] * 2
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), [[0, 0, 0], [0, 0, 1], [1, 1, 1], [0, 0, 0]])
    np.testing.assert_array_equal(v.grad.numpy(), [[5, 1, 1], [1, 1, 1]])
