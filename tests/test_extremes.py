"""Positions of extremes in rows that are looked through in blocks and pieces, and across lines."""
import numpy as np
import pytest

import ntorch

SHAPES = [((5, 32), 1), ((5, 33), 1), ((3, 1000), 1), ((2, 256, 3), 1), ((1, 7), 0), ((2, 513), 1),
          ((4, 3, 40), 1), ((1, 300, 1), 1), ((70000,), 0), ((65536 + 1,), 0), ((200001,), 0)]
every = pytest.mark.parametrize(("shape", "dim"), SHAPES, ids=str)


def check(array, dim):
    x = ntorch.from_numpy(array)
    for name, find, extreme in (("max", np.argmax, np.max), ("min", np.argmin, np.min)):
        values, indices = getattr(x, name)(dim)
        np.testing.assert_array_equal(indices.numpy(), find(array, dim))
        np.testing.assert_array_equal(values.numpy(), extreme(array, dim))
        only = getattr(x, "arg" + name)(dim)
        np.testing.assert_array_equal(only.numpy(), find(array, dim))
        assert getattr(x, "arg" + name)().item() == find(array)


@every
@pytest.mark.parametrize("kind", ["f4", "f8", "i8", "i4", "u1"])
def test_values_and_positions(shape, dim, kind):
    rng = np.random.default_rng(0)
    check((rng.standard_normal(shape) * 50).astype(kind), dim)
    check(rng.integers(0, 3, shape).astype(kind), dim)      # many equal ones: the first counts


@every
def test_the_first_nan_wins(shape, dim):
    rng = np.random.default_rng(1)
    array = rng.standard_normal(shape).astype("f4")
    flat = array.reshape(-1)
    flat[flat.size // 2] = np.inf
    check(array, dim)
    for place in (flat.size - 1, flat.size * 2 // 3, 0):    # NumPy, too, finds the first NaN
        flat[place] = np.nan
        check(array, dim)


@every
def test_infinities_alone(shape, dim):
    for value in (np.inf, -np.inf):
        check(np.full(shape, value, "f4"), dim)


def test_zeros_of_both_signs_are_equal():
    for n in (4, 40, 1000):
        array = np.full(n, -0.0, "f4")
        array[1::2] = 0.0
        x = ntorch.from_numpy(array)
        for value, index in (x.max(0), x.min(0)):
            assert index.item() == 0 and np.signbit(value.numpy())


def test_strided():
    array = np.random.default_rng(2).standard_normal((6, 40, 50)).astype("f4")
    x = ntorch.from_numpy(array)
    np.testing.assert_array_equal(x.transpose(0, 2).argmax(0).numpy(),
                                  array.transpose(2, 1, 0).argmax(0))
    np.testing.assert_array_equal(x[:, ::3, ::2].argmin(1).numpy(), array[:, ::3, ::2].argmin(1))
    half = x.half()
    np.testing.assert_array_equal(half.argmax(2).numpy(), half.numpy().argmax(2))


def test_same_positions_for_any_number_of_threads():
    x, before, found = ntorch.randint(0, 9, (300000,)), ntorch.get_num_threads(), []
    y = ntorch.randint(0, 5, (7, 90, 400))
    try:
        for threads in (1, 2, 3):
            ntorch.set_num_threads(threads)
            found.append((x.argmax(), y.argmin(1), y.argmax(2)))
    finally:
        ntorch.set_num_threads(before)
    for results in zip(*found, strict=True):
        assert all(ntorch.equal(results[0], r) for r in results[1:])


def test_compiled():
    x = ntorch.randn(5, 700, 3)
    for dim in (0, 1, 2, None):
        def positions(x, dim=dim):
            return x.argmax(dim), x.flatten().argmin()
        for got, wanted in zip(ntorch.compile(positions)(x), positions(x), strict=True):
            assert ntorch.equal(got, wanted)
