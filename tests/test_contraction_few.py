"""Products in which one side is few lines: every register tile, odd sizes, layouts and epilogues
against float64 NumPy, the same bits for any number of threads, and who is sent there."""
import numpy as np
import pytest

import ntorch
from ntorch.autograd import gradcheck
from ntorch.nn import functional
from ntorch.ops import contraction, contraction_few
from ntorch.ops.contraction import NOTHING, Matrix, epilogue, gemm, set_target, source
from ntorch.ops.contraction_plan import TILES, launch_plan
from ntorch.runtime import pool

RNG = np.random.default_rng(7)
TOLERANCE = {"f4": 2e-6, "f8": 4e-15}


def draw(*shape, dtype="f4"):
    return RNG.standard_normal(shape).astype(dtype)


def assert_close(got, want, depth):
    bound = TOLERANCE[got.dtype.str[1:]] * max(1.0, depth) ** 0.5 * 8
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want, rtol=bound, atol=bound * max(1.0, depth) ** 0.5)


@pytest.fixture(params=["avx512", "avx2", "neon", "portable"])
def target(request):
    set_target(request.param)
    yield request.param
    set_target(None)


@pytest.fixture
def threads():
    before = pool.get_num_threads()
    yield pool.set_num_threads
    pool.set_num_threads(before)


def layout_of(x):
    steps = [s // x.itemsize for s in x.strides]
    extent = 1 + sum((size - 1) * s for size, s in zip(x.shape, steps, strict=True))
    return Matrix(extent, 1, steps[0] if len(x) > 1 else 0, 0, *steps[1:])


def run(many, few, turned, c=None, alpha=1.0, beta=0.0):
    """``many @ few.T`` (batch, lines, lines), or its transpose if ``turned``, of (batch, lines, k);
    lines of ``many`` are side by side."""
    batch, m, k = many.shape
    n, T = few.shape[1], many.dtype.str[1:]
    rows, columns = (n, m) if turned else (m, n)
    out = np.full((batch, rows, columns), np.nan, many.dtype)
    store = epilogue(out.ctypes.data, batch, rows, columns, T, T, 0 if c is None else c.ctypes.data,
                     NOTHING if c is None else layout_of(c), alpha, beta)
    launch_plan(*contraction_few.laid_out(
        m, n, k, many.ctypes.data, layout_of(many),
        source(few.ctypes.data, layout_of(few).turned, "b", T, T), store, turned, batch, T, T))
    return out


def expected(many, few, turned):
    found = many.astype("f8") @ few.astype("f8").swapaxes(1, 2)
    return found.swapaxes(1, 2) if turned else found


SIZES = [(1, 1, 1), (3, 2, 5), (12, 7, 16), (13, 33, 17), (31, 32, 15), (96, 64, 256),
         (97, 65, 257), (40, 1, 300), (100, 70, 33), (209, 31, 513), (257, 17, 40), (300, 48, 7)]


@pytest.mark.parametrize("turned", [True, False])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_odd_sizes_on_every_target(target, dtype, turned):
    for m, n, k in SIZES:
        many, few = draw(2, m, k, dtype=dtype), draw(2, n, k, dtype=dtype)
        assert_close(run(many, few, turned), expected(many, few, turned), k)


@pytest.mark.parametrize("turned", [True, False])
def test_every_number_of_lines_to_seventy(turned):
    many = draw(1, 131, 37)
    for n in range(1, 71):
        few = draw(1, n, 37)
        assert_close(run(many, few, turned), expected(many, few, turned), 37)


@pytest.mark.parametrize("turned", [True, False])
def test_lines_apart_and_the_few_in_any_layout(turned):
    many = draw(3, 70, 420)[:, ::2, 5:305]
    for few in (draw(3, 40, 620)[:, :, ::2][:, :, :300], draw(3, 300, 40).swapaxes(1, 2),
                np.broadcast_to(draw(1, 40, 300), (3, 40, 300))):
        assert_close(run(many, few, turned), expected(many, few, turned), 300)
    same = np.broadcast_to(many[:1, :1], (3, 70, 300))
    assert_close(run(same, few, turned), expected(same, few, turned), 300)


@pytest.mark.parametrize("turned", [True, False])
def test_affine_and_depth_zero(turned):
    many, few = draw(2, 90, 300), draw(2, 45, 300)
    want = expected(many, few, turned)
    c = draw(*want.shape)
    assert_close(run(many, few, turned, c, 0.5, -2.0), 0.5 * want - 2.0 * c, 300)
    unread = np.full_like(c, np.nan)
    assert_close(run(many, few, turned, unread, 0.5), 0.5 * want, 300)
    assert not run(draw(1, 30, 0), draw(1, 40, 0), turned).any()


def test_who_is_sent_there():
    wide, narrow = TILES["avx512"]["f4"], TILES["neon"]["f4"]
    assert contraction_few.suits(768, 64, 256, wide)
    assert not contraction_few.suits(768, 64, 32, wide)
    assert not contraction_few.suits(64, 65, 256, wide)
    assert not contraction_few.suits(4096, 1024, 256, wide)
    assert not contraction_few.suits(768, 64, 256, narrow)


@pytest.fixture
def always(monkeypatch):
    """Whatever lies as it must is multiplied so."""
    monkeypatch.setattr(contraction_few, "suits", lambda many, few, k, reg: few <= many)
    monkeypatch.setattr(contraction, "_fits_small", lambda *sizes: False)
    monkeypatch.setattr(contraction, "FEW_ROWS", 0)
    monkeypatch.setattr(contraction, "_launchers", {})
    kinds = set()
    made = contraction_few.laid_out
    monkeypatch.setattr(contraction_few, "laid_out", lambda *given: (
        kinds.add(given[7]), made(*given))[1])
    return kinds


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_entries(always, dtype):
    for rows, inner, outer in ((33, 130, 200), (64, 257, 96), (70, 129, 31), (5, 300, 12)):
        x, w, b = draw(rows, inner, dtype=dtype), draw(outer, inner, dtype=dtype), draw(
            outer, dtype=dtype)
        exact = x.astype("f8") @ w.T.astype("f8")
        tensors = ntorch.tensor(x), ntorch.tensor(w), ntorch.tensor(b)
        assert_close(functional.linear(*tensors).numpy(), exact + b, inner)
        assert_close(ntorch.mm(tensors[0], tensors[1].t()).numpy(), exact, inner)
        out = ntorch.zeros(rows, outer, dtype=tensors[0].dtype)
        ntorch.mm(tensors[0], tensors[1].t(), out=out)
        assert_close(out.numpy(), exact, inner)
        out.addmm_(tensors[0], tensors[1].t(), beta=2, alpha=-0.5)
        assert_close(out.numpy(), 1.5 * exact, inner)
        again = ntorch.addmm(tensors[2], tensors[0], tensors[1].t(), beta=3, alpha=0.5)
        assert_close(again.numpy(), 0.5 * exact + 3 * b, inner)
        again = ntorch.addmm(tensors[2], tensors[0], tensors[1].t(), beta=-1, alpha=2)
        assert_close(again.numpy(), 2 * exact - b, inner)
    assert always == {True, False}
    x, w = draw(3, 40, 50, dtype=dtype), draw(3, 60, 50, dtype=dtype)
    got = ntorch.bmm(ntorch.tensor(x), ntorch.tensor(w).mT)
    assert_close(got.numpy(), x.astype("f8") @ w.swapaxes(1, 2), 50)
    got = ntorch.matmul(ntorch.tensor(x), ntorch.tensor(w[0]).t())
    assert_close(got.numpy(), x.astype("f8") @ w[0].T, 50)


@pytest.mark.parametrize("dtype", [ntorch.float16, ntorch.bfloat16])
def test_half_types_are_rounded_once(always, dtype):
    for rows, inner, outer in ((40, 300, 70), (70, 129, 31), (5, 300, 12)):
        x, w = (ntorch.tensor(draw(*s)).to(dtype) for s in ((rows, inner), (outer, inner)))
        exact = x.double().numpy() @ w.double().numpy().T
        got = functional.linear(x, w)
        assert got.dtype is dtype
        once = ntorch.tensor(exact.astype("f4")).to(dtype).double().numpy()
        assert (got.double().numpy() == once).mean() > 0.99
        np.testing.assert_allclose(got.double().numpy(), exact, rtol=0.01, atol=0.01)
    assert always == {True, False}


def test_gradients(always):
    x = ntorch.tensor(draw(9, 20, dtype="f8")).requires_grad_()
    w = ntorch.tensor(draw(14, 20, dtype="f8")).requires_grad_()
    b = ntorch.tensor(draw(14, dtype="f8")).requires_grad_()
    assert gradcheck(functional.linear, [x, w, b])
    assert always


@pytest.mark.parametrize("shape", [(64, 256, 768), (64, 1024, 256), (40, 700, 500), (600, 300, 48)])
def test_bits_do_not_depend_on_the_number_of_threads(always, threads, shape):
    rows, inner, outer = shape
    x, w, b = (ntorch.tensor(draw(*s)) for s in ((rows, inner), (outer, inner), (outer,)))
    found = []
    for count in (1, 2, 3):
        threads(count)
        found.append(functional.linear(x, w, b).numpy())
    assert np.array_equal(found[0], found[1]) and np.array_equal(found[0], found[2])


def test_nan_and_inf_go_to_their_row_and_column_only(always):
    x, w = draw(64, 300), draw(200, 300)
    x[3, 5], w[7, 2] = np.nan, np.inf
    got = gemm(ntorch.tensor(x), ntorch.tensor(w).t()).numpy()
    assert np.isnan(got[3]).all()
    assert np.isinf(np.delete(got[:, 7], 3)).all()
    assert np.isfinite(np.delete(np.delete(got, 3, 0), 7, 1)).all()


def test_tails_of_compiled_linears(always):
    """Bias, activation, residual and a cast are computed on the turned sums."""
    x, w, b = (ntorch.tensor(draw(*s)) for s in ((44, 150), (170, 150), (170,)))
    residual = ntorch.tensor(draw(44, 170))

    def layer(x, residual):
        y = functional.gelu(functional.linear(x, w, b)) + residual
        return y, y.to(ntorch.float16)

    compiled = ntorch.compile(layer)
    for _ in range(2):
        got, half = compiled(x, residual)
        want, want_half = layer(x, residual)
        np.testing.assert_allclose(got.numpy(), want.numpy(), rtol=2e-6, atol=2e-6)
        np.testing.assert_allclose(half.float().numpy(), want_half.float().numpy(), rtol=2e-3,
                                   atol=2e-3)
        x, residual = x * 2, residual - 1
    assert always == {True}


def test_a_written_weight_counts_at_once():
    """Nothing of a weight is kept between products."""
    x, w = draw(64, 256), ntorch.tensor(draw(300, 256))
    first = functional.linear(ntorch.tensor(x), w).numpy()
    w.numpy()[:] *= 2
    assert np.array_equal(functional.linear(ntorch.tensor(x), w).numpy(), 2 * first)


def test_ready_plans_serve_threads_at_once():
    import threading
    x, w = ntorch.tensor(draw(64, 256)), ntorch.tensor(draw(300, 256))
    want, wrong = functional.linear(x, w).numpy(), []

    def work():
        for _ in range(50):
            if not np.array_equal(functional.linear(x, w).numpy(), want):
                wrong.append(1)

    crew = [threading.Thread(target=work) for _ in range(3)]
    for thread in crew:
        thread.start()
    for thread in crew:
        thread.join()
    assert not wrong
