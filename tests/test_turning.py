"""Transposed copies, and loops whose lines follow each other by a step."""
import numpy as np
import pytest

import ntorch
from ntorch.ops import turning

CASES = [((100, 70), (1, 0)), ((64, 64), (1, 0)), ((17, 300), (1, 0)), ((16, 16, 20), (2, 0, 1)),
         ((5, 40, 6, 7), (0, 2, 3, 1)), ((5, 6, 7, 40), (0, 3, 1, 2)),
         ((9, 8, 7, 33), (3, 2, 1, 0)), ((3, 50, 90), (0, 2, 1)),
         ((20, 3, 7, 60), (3, 1, 0, 2)), ((4, 30, 5, 32), (0, 2, 1, 3)),
         ((2, 3, 4, 5, 6, 16), (4, 0, 5, 2, 1, 3)), ((1, 80, 1, 70), (3, 2, 1, 0))]
KINDS = ["f4", "f8", "i4", "i8", "c8", "c16", "f2", "i2", "u1", "?"]


def numbers(shape, kind):
    return (np.random.default_rng(len(shape)).standard_normal(shape) * 100).astype(kind)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("shape", "order"), CASES, ids=str)
def test_copies(shape, order, kind):
    array = numbers(shape, kind)
    x, wanted = ntorch.from_numpy(array).permute(order), array.transpose(order)
    np.testing.assert_array_equal(x.contiguous().numpy(), wanted)
    target = ntorch.zeros(wanted.shape, dtype=x.dtype)
    assert target.copy_(x) is target
    np.testing.assert_array_equal(target.numpy(), wanted)
    # into a transposed target, from a contiguous source
    back = ntorch.zeros(shape, dtype=x.dtype)
    back.permute(order).copy_(target)
    np.testing.assert_array_equal(back.numpy(), array)


def test_nothing_around_the_target_is_written():
    array = numbers((90, 80), "f4")
    frame = ntorch.full((85, 100), 7.0)
    frame[2:82, 5:95].copy_(ntorch.from_numpy(array).t())
    wanted = np.full((85, 100), 7, "f4")
    wanted[2:82, 5:95] = array.T
    np.testing.assert_array_equal(frame.numpy(), wanted)


def test_parts_of_a_source():
    array = numbers((60, 50, 70), "f4")
    x = ntorch.from_numpy(array)
    for got, wanted in ((x[3:55, ::2, 1:69].permute(2, 1, 0), array[3:55, ::2, 1:69].T),
                        (x[:, 4, :].t(), array[:, 4].T), (x.flip(0)[:, 1].t(), array[::-1, 1].T),
                        (x[0, :40].t()[None].expand(3, 70, 40),
                         np.broadcast_to(array[0, :40].T, (3, 70, 40)))):
        np.testing.assert_array_equal(got.contiguous().numpy(), wanted)


def test_bits_are_kept():
    bits = np.random.default_rng(0).integers(0, 1 << 32, (70, 90), dtype=np.uint32)
    x = ntorch.from_numpy(bits.view("f4"))      # all kinds of NaN among them
    assert (x.t().contiguous().numpy().view("u4") == bits.T).all()


def test_which_copies_are_transpositions(monkeypatch):
    done = []
    real = turning._plan
    monkeypatch.setattr(turning, "_plan", lambda *a: done.append(real(*a)) or done[-1])
    x = ntorch.randn(64, 32, 48)
    for permuted, is_one in ((x.permute(2, 1, 0), True), (x.permute(0, 2, 1), True),
                             (x.permute(1, 0, 2), False), (x[:, :, :4].permute(2, 0, 1), False)):
        done.clear()
        permuted.contiguous()
        assert any(plan is not None for plan in done) == is_one, permuted.stride()


@pytest.mark.parametrize("shape", [(7, 5), (3, 4, 5), (2, 3, 4, 5), (1, 6, 1, 7), (0, 3, 4), (5,)])
def test_lines_of_strided_operands(shape):
    """Ranges of a strided loop that begin and end anywhere in a line."""
    from ntorch.ops import ops
    array = numbers(tuple(2 * n for n in shape), "f4")
    x = ntorch.from_numpy(array)[tuple(slice(None, None, 2) for _ in shape)]
    plain = array[tuple(slice(None, None, 2) for _ in shape)]
    column = plain[..., :1]
    np.testing.assert_array_equal((x + x[..., :1]).numpy(), plain + column)
    np.testing.assert_array_equal(ops.mul(x, x.flip(-1)).numpy(), plain * plain[..., ::-1])
    before = ntorch.get_num_threads()
    try:
        for threads in (1, 3):
            ntorch.set_num_threads(threads)
            big = x.expand(700, *shape)
            np.testing.assert_array_equal((big * big[:, ...]).numpy(),
                                          np.broadcast_to(plain * plain, (700, *shape)))
    finally:
        ntorch.set_num_threads(before)


def test_gradients_of_permuted_copies():
    x = ntorch.randn(20, 30, 40).requires_grad_()
    y = x.permute(2, 0, 1).contiguous()
    weight = ntorch.randn(40, 20, 30)
    grad, = ntorch.autograd.grad((y * weight).sum(), x)
    assert ntorch.equal(grad, weight.permute(1, 2, 0))


# --- transposed operands of loops -----------------------------------------------------------------

@pytest.fixture
def turned(monkeypatch):
    """The plans of transposed copies that are launched, eager's and those of programs."""
    done = []
    real = turning.launch_plan
    monkeypatch.setattr(turning, "launch_plan", lambda *a: (done.append(a[0]), real(*a))[1])
    return done


@pytest.mark.parametrize("kind", ["f4", "f8", "i4", "i8", "f2"])
def test_operands_are_copied_first(kind, turned):
    a, b = numbers((120, 130), kind), numbers((130, 120), kind)
    if kind == "f2":
        a, b = a / 64, b / 64
    x, y = ntorch.from_numpy(a), ntorch.from_numpy(b.copy())
    np.testing.assert_array_equal((y + x.t()).numpy(), b + a.T)
    assert len(turned) == (kind != "f2")
    for _ in range(2):                      # by a plan, too
        np.testing.assert_array_equal((x.t() * y).numpy(), a.T * b)
        np.testing.assert_array_equal(ntorch.where(y > 0, x.t(), y).numpy(),
                                      np.where(b > 0, a.T, b))
    out = ntorch.zeros(130, 120, dtype=x.dtype)
    assert ntorch.sub(y, x.t(), out=out) is out
    np.testing.assert_array_equal(out.numpy(), b - a.T)
    assert y.add_(x.t()) is y
    np.testing.assert_array_equal(y.numpy(), b + a.T)
    gapped = ntorch.zeros(130, 140, dtype=x.dtype)
    ntorch.maximum(out, x.t(), out=gapped[:, 10:130])
    np.testing.assert_array_equal(gapped[:, 10:130].numpy(), np.maximum(b - a.T, a.T))
    assert not gapped[:, :10].any() and not gapped[:, 130:].any()


def test_small_and_broadcast_operands_are_not_copied(turned):
    x = ntorch.randn(60, 50)
    (ntorch.randn(50, 60) + x.t()).add_(x.t()[:, :1])
    big = ntorch.randn(100, 200)
    big + ntorch.randn(200)
    big.t().exp()
    big.t() + ntorch.randn(200, 1)
    assert not turned


def _programs():
    return {
        "copy": lambda x, y: x.t().contiguous(),
        "sum": lambda x, y: y + x.t(),
        "twice": lambda x, y: (x.t() * y + 1).exp() - x.t(),
        "made here": lambda x, y: (x * 2).relu().t().contiguous() + y,
        "row sums": lambda x, y: (x.t() * y).sum(1),
        "rows": lambda x, y: ntorch.softmax(x.t() + y, 1),
        "written between": lambda x, y: (y + x.t(), x.mul_(2), y + x.t()),
        "in place": lambda x, y: y.add_(x.t()),
        "cast": lambda x, y: x.t().double() + y,
    }


@pytest.mark.parametrize("name", _programs())
@pytest.mark.parametrize("shape", [(130, 120), (40, 30)], ids=str)
def test_programs_with_transposed_operands(name, shape):
    function = _programs()[name]
    compiled = ntorch.compile(function)
    for seed in (0, 1, 2):
        ntorch.manual_seed(seed)
        x, y = ntorch.randn(shape), ntorch.randn(shape[::-1])
        given = x.clone(), y.clone()
        wanted, got = function(x, y), compiled(*given)
        for one, other in zip([*_listed(wanted), x, y], [*_listed(got), *given], strict=True):
            np.testing.assert_allclose(other.numpy(), one.numpy(), rtol=2e-6, atol=2e-6)
    names = [step.name for step in ntorch.jit.profile(compiled, *given, runs=2).steps]
    assert ("transposed" in names) == (shape[0] > 100), names


def _listed(value):
    return list(value) if isinstance(value, tuple) else [value]


def test_gradients_through_transposed_operands():
    x, y = (ntorch.randn(*shape, dtype=ntorch.float64).requires_grad_()
            for shape in ((110, 120), (120, 110)))
    compiled = ntorch.compile(lambda x, y: (x.t() * y).tanh() + x.t())
    grads = [ntorch.autograd.grad(f(x, y).square().sum(), (x, y))
             for f in (lambda x, y: (x.t() * y).tanh() + x.t(), compiled)]
    for one, other in zip(*grads, strict=True):
        np.testing.assert_allclose(other.numpy(), one.numpy(), rtol=1e-12)
