"""Pointwise entries: what one line of ``cases.py`` cannot say. Promotion, NaN, ties, errors."""
import math

import numpy as np
import pytest

import ntorch
import ntorch.nn.functional as F

INF, NAN = math.inf, math.nan



def values(result):
    """A tensor's elements as a list."""
    return result.tolist()


def check(result, wanted, dtype=None):
    np.testing.assert_array_equal(np.array(values(result)), np.array(wanted))
    if dtype is not None:
        assert result.dtype is dtype


INT, BOOL = ntorch.int64, ntorch.bool


@pytest.mark.parametrize(("call", "wanted", "dtype"), [
    (lambda t: t([1, 2]) / t([2, 2]), [0.5, 1.0], ntorch.float32),
    (lambda t: t([5, -5]) // 2, [2, -3], INT),
    (lambda t: t([5, -5]) % 3, [2, 1], INT),
    (lambda t: ntorch.fmod(t([5, -5]), 3), [2, -2], INT),
    (lambda t: ntorch.div(t([5, -5]), 2, rounding_mode="trunc"), [2, -2], INT),
    (lambda t: ntorch.clamp(t([1, 5]), 0.5, 2.5), [1.0, 2.5], ntorch.float32),
    (lambda t: ntorch.pow(t([2, 1, -1]), t([-1, -1, -3])), [0, 1, -1], INT),
    (lambda t: ntorch.pow(t([True, False]), 2), [1, 0], INT),
    (lambda t: ntorch.square(t([True])), [1], INT),
    (lambda t: ntorch.sigmoid(t([0])), [0.5], ntorch.float32),
    (lambda t: ntorch.where(t([True, False]), 1, 2), [1, 2], INT),
    (lambda t: ntorch.where(t([True]), 1.0, t([2])), [1.0], ntorch.float32),
    (lambda t: t([True]) << 1, [2], INT),
    (lambda t: ntorch.bitwise_right_shift(t([-5, 5]), t([-1, 70])), [-1, 0], INT),
    (lambda t: ntorch.bitwise_not(t([True, False])), [False, True], BOOL),
    (lambda t: ntorch.float_power(t([2]), 2), [4.0], ntorch.float64),
    (lambda t: ntorch.logical_and(t([1j, 1]), t([0, 2])), [False, True], BOOL),
    (lambda t: t([1, 2]) + True, [2, 3], INT),
    (lambda t: ntorch.gcd(t([12, -18, 0]), t([18, 12, 0])), [6, 6, 0], INT),
    (lambda t: ntorch.lcm(t([4, -6, 0]), t([6, 4, 5])), [12, 12, 0], INT),
    (lambda t: ntorch.ldexp(t([1.5, -2.0]), t([3, -1])), [12.0, -1.0], ntorch.float32),
    (lambda t: ntorch.sgn(t([3 + 4j, 0j])), [0.6 + 0.8j, 0j], ntorch.complex64),
])
def test_types_and_values(call, wanted, dtype):
    result = call(ntorch.tensor)
    np.testing.assert_allclose(np.array(values(result)), np.array(wanted), rtol=1e-7)
    assert result.dtype is dtype


def test_the_smallest_integer_divided_by_minus_one_does_not_trap():
    low = ntorch.tensor([-2 ** 63])
    assert values(low % -1) == [0]
    assert values(low // -1) == [-2 ** 63]


@pytest.mark.parametrize(("call", "wanted"), [
    (lambda x: ntorch.sign(x), [0.0, 1.0, -1.0, 0.0]),
    (lambda x: ntorch.relu(x), [NAN, INF, 0.0, 0.0]),
    (lambda x: ntorch.maximum(x, x * 0 + 1), [NAN, NAN, NAN, 1.0]),
    (lambda x: ntorch.fmax(x, ntorch.tensor(1.0)), [1.0, INF, 1.0, 1.0]),
    (lambda x: ntorch.clamp(x, -1, 1), [NAN, 1.0, -1.0, 0.0]),
    (lambda x: ntorch.clamp(x, 2, NAN), [NAN] * 4),
    (lambda x: ntorch.nan_to_num(x, 7.0, 8.0, 9.0), [7.0, 8.0, 9.0, 0.0]),
    (lambda x: ntorch.isfinite(x), [False, False, False, True]),
    (lambda x: ntorch.isinf(x), [False, True, True, False]),
    (lambda x: ntorch.xlogy(ntorch.tensor(0.0), x), [NAN, 0.0, 0.0, 0.0]),
    (lambda x: ntorch.logaddexp(x, ntorch.tensor(-INF)), [NAN, INF, -INF, 0.0]),
    (lambda x: ntorch.heaviside(x, ntorch.tensor(0.5)), [0.0, 1.0, 0.0, 0.5]),
    (lambda x: F.leaky_relu(x, 0.5), [NAN, INF, -INF, 0.0]),
])
def test_nan_and_infinities(call, wanted):
    check(call(ntorch.tensor([NAN, INF, -INF, 0.0])), wanted)


def test_division_by_a_number_is_exact():
    """A product with the reciprocal would give 0.99999994 for 49 / 49."""
    x = ntorch.arange(1, 5000, dtype=ntorch.float32)
    for divisor in (3.0, 49.0, 0.1):
        np.testing.assert_array_equal((x / divisor).numpy(), x.numpy() / np.float32(divisor))


def test_remainders_are_exact_for_quotients_of_any_size():
    rng = np.random.default_rng(0)
    for real in (np.float32, np.float64):
        x = (rng.standard_normal(500) * 10 ** rng.uniform(-30, 30, 500)).astype(real)
        y = (rng.standard_normal(500) * 10 ** rng.uniform(-5, 5, 500)).astype(real)
        x[:2], y[:2] = (5.0, -5.0), (INF, INF)
        for ours, theirs in ((ntorch.fmod, np.fmod), (ntorch.remainder, np.remainder),
                             (ntorch.floor_divide, np.floor_divide)):
            got = ours(ntorch.from_numpy(x), ntorch.from_numpy(y)).numpy()
            np.testing.assert_array_equal(got, theirs(x, y))


def test_ties_share_the_gradient_of_maximum():
    x = ntorch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    y = ntorch.tensor([1.0, 3.0, 2.0], requires_grad=True)
    ntorch.maximum(x, y).sum().backward()
    check(x.grad, [0.5, 0.0, 1.0])
    check(y.grad, [0.5, 1.0, 0.0])


def test_gradients_at_the_corners():
    x = ntorch.tensor([0.0, 1.0, -1.0], requires_grad=True)
    for call, wanted in ((ntorch.relu, [0, 1, 0]), (ntorch.abs, [0, 1, -1]),
                         (lambda v: ntorch.clamp(v, -1, 1), [1, 1, 1]),
                         (lambda v: v ** 0, [0, 0, 0]), (F.hardtanh, [1, 0, 0]),
                         (lambda v: ntorch.pow(v, ntorch.tensor(2.0)), [0, 2, -2])):
        x.grad = None
        call(x).sum().backward()
        check(x.grad, wanted)


def test_an_in_place_composite_differentiates_through_its_old_value():
    x = ntorch.tensor([2.0, 3.0], requires_grad=True)
    y = x * 1
    y.pow_(3)
    y.square_()
    y.sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), [6 * 2.0 ** 5, 6 * 3.0 ** 5])


def test_real_and_imag_are_views():
    z = ntorch.tensor([1 + 2j, 3 - 4j])
    ntorch.imag(z)[0] = 7.0
    ntorch.real(z).mul_(2)
    check(z, [2 + 7j, 6 - 4j])
    check(ntorch.view_as_complex(ntorch.view_as_real(z)), [2 + 7j, 6 - 4j])


def test_allclose_needs_every_element():
    x = ntorch.tensor([1.0, 2.0, NAN])
    assert not ntorch.allclose(x, x)
    assert ntorch.allclose(x, x, equal_nan=True)
    assert ntorch.allclose(ntorch.tensor([1.0]), ntorch.tensor([1.0 + 1e-6]))
    assert not ntorch.allclose(ntorch.tensor([1.0]), ntorch.tensor([1.1]))
    assert values(ntorch.isclose(ntorch.tensor([INF, INF]), ntorch.tensor([INF, -INF]))) == [True,
                                                                                             False]


t = ntorch.tensor


@pytest.mark.parametrize(("call", "error", "words"), [
    (lambda: t([True]) - t([True]), RuntimeError, "logical_xor"),
    (lambda: -t([True]), RuntimeError, "logical_not"),
    (lambda: ntorch.positive(t([True])), RuntimeError, "not supported"),
    (lambda: ntorch.abs(t([True])), NotImplementedError, "abs.*Bool"),
    (lambda: t([5]) // 0, RuntimeError, "ZeroDivisionError"),
    (lambda: t([5]) % t([0]), RuntimeError, "ZeroDivisionError"),
    (lambda: ntorch.div(t([1]), 2, rounding_mode="x"), RuntimeError, "rounding_mode"),
    (lambda: ntorch.pow(t([2]), -1), RuntimeError, "negative integer powers"),
    (lambda: ntorch.add(t([1]), t([1]), alpha=0.5), RuntimeError, "alpha"),
    (lambda: ntorch.add(t([1]), 1, alpha=True), RuntimeError, "Boolean alpha"),
    (lambda: ntorch.lerp(t([1.0]), t([2.0]).double(), 0.5), RuntimeError, "end"),
    (lambda: ntorch.addcdiv(t([1]), t([2]), t([3])), RuntimeError, "addcdiv"),
    (lambda: ntorch.where(t([1.0]), t([1.0]), 2), RuntimeError, "boolean"),
    (lambda: ntorch.heaviside(t([1.0]), t([1])), RuntimeError, "different dtypes"),
    (lambda: ntorch.bitwise_and(t([1.0]), 1), NotImplementedError, "Float"),
    (lambda: t([1j]) < t([1j]), NotImplementedError, "ComplexFloat"),
    (lambda: ntorch.maximum(t([1j]), t([1j])), RuntimeError, "complex"),
    (lambda: ntorch.clamp(t([1.0])), RuntimeError, "min"),
    (lambda: ntorch.clamp(t([1.0]), t([0.0]), 2), TypeError, "min"),
    (lambda: ntorch.imag(t([1.0])), RuntimeError, "non-complex"),
    (lambda: ntorch.complex(t([1.0]), t([1.0]).double()), RuntimeError, "scalar type"),
    (lambda: ntorch.isclose(t([1]), t([1.0])), RuntimeError, "did not match"),
    (lambda: ntorch.polygamma(-1, t([1.0])), RuntimeError, "negative n"),
    (lambda: F.gelu(t([1.0]), approximate="x"), RuntimeError, "approximate"),
    (lambda: F.silu(t([1])), NotImplementedError, "Long"),
    (lambda: F.celu(t([1.0]), 0), RuntimeError, "alpha"),
    (lambda: F.glu(t([1.0, 2.0, 3.0])), RuntimeError, "even"),
    (lambda: F.prelu(t([1.0]), t([0.1]).double()), RuntimeError, "promoting"),
    (lambda: F.hardtanh(t([1.0]), 1.0, -1.0), ValueError, "min_val"),
    (lambda: F.softshrink(t([1.0]), -1.0), RuntimeError, "lambda"),
    (lambda: F.rrelu(t([1.0]), 0.5, 0.1), RuntimeError, "upper bound"),
    (lambda: t([1.0, 2.0]) + t([1.0, 2.0, 3.0]), RuntimeError, "must match the size"),
    (lambda: t([1]).div_(2), RuntimeError, "can't be cast"),
])
def test_errors_name_the_rule(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_a_write_that_was_right_before_is_checked_where_operands_lie_otherwise():
    base = ntorch.arange(8.0)
    for _ in range(3):
        ntorch.ones(4).add_(base[:4])
        ntorch.add(base[:4], base[4:], out=ntorch.empty(4))
    with pytest.raises(RuntimeError, match="single memory location"):
        base[1:5].add_(base[:4])
    with pytest.raises(RuntimeError, match="single memory location"):
        ntorch.add(base[:4], base[4:], out=base[2:6])
    assert base.tolist() == list(range(8))


def test_repeated_writes_take_this_calls_numbers_and_operands():
    x = ntorch.zeros(3)
    for number in (1, 2.5, True):
        x.add_(number)
        x.add_(x)
    assert x.tolist() == [(((0 + 1) * 2 + 2.5) * 2 + 1) * 2] * 3
    out, a, b = ntorch.empty(2), ntorch.tensor([1.0, 2.0]), ntorch.tensor([5.0, 6.0])
    for first, second in ((a, b), (b, a), (out, a)):
        expected = first.numpy() - second.numpy()
        assert ntorch.sub(first, second, out=out) is out
        np.testing.assert_array_equal(out.numpy(), expected)


def test_a_repeated_write_still_refuses_types_and_grows_only_empty_results():
    whole = ntorch.ones(3, dtype=ntorch.int32)
    whole.add_(ntorch.ones(3, dtype=ntorch.int32))
    for _ in range(2):
        with pytest.raises(RuntimeError, match="can't be cast"):
            whole.add_(ntorch.ones(3))
    empty = ntorch.empty(0)
    ntorch.exp(ntorch.zeros(3), out=empty)
    ntorch.exp(ntorch.zeros(3), out=empty)
    assert empty.tolist() == [1.0] * 3
    leaf = ntorch.ones(3, requires_grad=True)
    with ntorch.no_grad():
        leaf.mul_(2)
    with pytest.raises(RuntimeError, match="leaf"):
        leaf.mul_(2)
    assert leaf.tolist() == [2.0] * 3
    whole.pow_(2)
    with pytest.raises(RuntimeError, match="negative integer powers"):
        whole.pow_(-1)
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        whole.floor_divide_(1).floor_divide_(0)
