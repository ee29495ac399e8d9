"""The contraction engine: every route and register tile against float64 NumPy, bit for bit equal
for any number of threads; the entries over it, with gradients to second order."""
import numpy as np
import pytest

import ntorch
from ntorch.autograd import gradcheck, gradgradcheck
from ntorch.ops.contraction import (
    Matrix,
    contract,
    epilogue,
    gemm,
    place,
    plan,
    prepack_tensor,
    set_target,
    source,
)
from ntorch.ops.contraction_plan import TILES, k_block
from ntorch.runtime import pool

RNG = np.random.default_rng(0)
TOLERANCE = {"f4": 2e-6, "f8": 4e-15}


def draw(*shape, dtype="f4"):
    return RNG.standard_normal(shape).astype(dtype)


def tensor(array):
    """A tensor over the array's own strides."""
    return ntorch.from_numpy(array)


def laid_out(array, layout):
    """The same values in another memory layout."""
    if layout == "turned":
        return np.ascontiguousarray(array.swapaxes(-1, -2)).swapaxes(-1, -2)
    if layout == "spread":
        wide = np.full((*array.shape[:-1], 2 * array.shape[-1] + 1), np.nan, array.dtype)
        wide[..., 1::2] = array
        return wide[..., 1::2]
    return array


def assert_close(got, want, depth, dtype="f4"):
    got = np.asarray(got)
    assert got.shape == want.shape
    bound = TOLERANCE[dtype] * max(1.0, depth) ** 0.5 * 8
    np.testing.assert_allclose(got, want, rtol=bound, atol=bound * max(1.0, depth) ** 0.5)


@pytest.fixture(params=["avx512", "avx2", "neon", "portable"])
def target(request):
    set_target(request.param)
    yield request.param
    set_target(None)


EDGES = [(1, 1, 1), (2, 3, 5), (7, 9, 4), (12, 16, 32), (13, 17, 33), (24, 8, 64), (31, 70, 15),
         (33, 5, 47), (48, 40, 12), (65, 64, 63), (70, 1, 70), (1, 50, 40), (40, 50, 1)]


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_small_products_on_every_target(target, dtype):
    for m, k, n in EDGES:
        for layout_a in ("plain", "turned", "spread"):
            for layout_b in ("plain", "turned", "spread"):
                a, b = draw(m, k, dtype=dtype), draw(k, n, dtype=dtype)
                got = gemm(tensor(laid_out(a, layout_a)), tensor(laid_out(b, layout_b)))
                assert_close(got, a.astype("f8") @ b, k, dtype)


def run_packed(a, b, T, out=None, c=None, alpha=1.0, beta=0.0, prepacked=""):
    """The packed engine on NumPy matrices (batch, m, k) and (batch, k, n), whatever their size."""
    batch, m, k = a.shape
    n = b.shape[2]
    out = np.full((batch, m, n), np.nan, a.dtype) if out is None else out

    def layout(x):
        steps = [s // x.itemsize for s in x.strides]
        extent = 1 + sum((size - 1) * s for size, s in zip(x.shape, steps, strict=True))
        return Matrix(extent, 1, steps[0] if batch > 1 else 0, 0, *steps[1:])

    added = (0, Matrix(0, 1, 0, 0, 0, 0)) if c is None else (c.ctypes.data, layout(c))
    left = source(a.ctypes.data, layout(a), "a", T, T)
    right = source(b.ctypes.data, layout(b), "b", T, T)
    contract(m, n, k, left, right,
             epilogue(out.ctypes.data, batch, m, n, T, T, *added, alpha, beta), batch=batch, T=T)
    return out


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_packed_products_on_every_target(target, dtype):
    for m, k, n in [*EDGES, (100, 300, 70), (37, 513, 41), (150, 257, 130)]:
        for layout in ("plain", "turned", "spread"):
            a, b = draw(2, m, k, dtype=dtype), draw(2, k, n, dtype=dtype)
            got = run_packed(laid_out(a, layout), laid_out(b, layout), dtype)
            assert_close(got, a.astype("f8") @ b, k, dtype)


def test_every_size_to_forty():
    for n in range(1, 41):
        a, b = draw(1, n, n + 1), draw(1, n + 1, 41 - n)
        assert_close(run_packed(a, b, "f4"), a.astype("f8") @ b, n)
        assert_close(gemm(tensor(a[0]), tensor(b[0])), (a.astype("f8") @ b)[0], n)


def test_affine_epilogue_and_unread_c():
    a, b, c = draw(3, 50, 300), draw(3, 300, 45), draw(3, 50, 45)
    want = 0.5 * (a.astype("f8") @ b) - 2.0 * c
    assert_close(run_packed(a, b, "f4", c=c, alpha=0.5, beta=-2.0), want, 300)
    unread = np.full_like(c, np.nan)
    assert_close(run_packed(a, b, "f4", c=unread, alpha=0.5), 0.5 * (a.astype("f8") @ b), 300)


def test_depth_zero_stores_zeros():
    assert not run_packed(draw(1, 30, 0), draw(1, 0, 40), "f4").any()
    for m, n in ((1, 5), (5, 1), (6, 7), (1, 1)):
        got = ntorch.mm(ntorch.zeros(m, 0), ntorch.zeros(0, n))
        assert got.shape == (m, n) and not got.numpy().any()
    c = ntorch.ones(4, 3)
    got = ntorch.addmm(c, ntorch.zeros(4, 0), ntorch.zeros(0, 3), beta=3)
    assert got.tolist() == [[3.0] * 3] * 4
    for shapes in (((0, 3), (3, 4)), ((2, 3), (3, 0)), ((0, 0), (0, 0))):
        assert ntorch.mm(ntorch.zeros(shapes[0]), ntorch.zeros(shapes[1])).numel() == 0


def test_k_blocks_depend_on_k_alone():
    for k in (1, 7, 255, 256, 257, 511, 1000, 4096):
        block = k_block(k)
        assert 0 < block <= 256
        assert block == k or block % 8 == 0


@pytest.fixture
def threads():
    before = pool.get_num_threads()
    yield pool.set_num_threads
    pool.set_num_threads(before)


@pytest.mark.parametrize("shape", [(1, 300, 700, 500), (9, 64, 70, 130), (1, 1, 3000, 900),
                                   (1, 8, 600, 700), (1, 2000, 600, 1), (1, 150, 150, 150),
                                   (1, 60, 2600, 300)])
def test_bits_do_not_depend_on_the_number_of_threads(threads, shape):
    batch, m, k, n = shape
    a, b = draw(batch, m, k), draw(batch, k, n)
    turned = laid_out(b, "turned")
    found = []
    for count in (1, 2, 3):
        threads(count)
        found.append([run_packed(a, b, "f4"), run_packed(a, turned, "f4"),
                      gemm(tensor(a), tensor(b), (batch,)).numpy(),
                      gemm(tensor(a[0]), tensor(turned[0])).numpy()])
    for other in found[1:]:
        for x, y in zip(found[0], other, strict=True):
            assert np.array_equal(x, y)


def test_nan_and_inf_go_to_their_row_and_column_only():
    for n in (20, 150, 300):
        a, b = draw(n, n), draw(n, n)
        a[3, 5], b[7, 2] = np.nan, np.inf
        got = gemm(tensor(a), tensor(b)).numpy()
        assert np.isnan(got[3]).all()
        assert np.isinf(np.delete(got[:, 2], 3)).all()
        assert np.isfinite(np.delete(np.delete(got, 3, 0), 2, 1)).all()


@pytest.mark.parametrize("dtype", [ntorch.float16, ntorch.bfloat16])
def test_half_types_are_rounded_once(dtype):
    a, b = tensor(draw(40, 300)).to(dtype), tensor(draw(300, 50)).to(dtype)
    exact = a.to(ntorch.float64).numpy() @ b.to(ntorch.float64).numpy()
    got = ntorch.mm(a, b)
    assert got.dtype is dtype
    # float32 sums differ from float64 ones by far less than a unit of the half type: at most a tie
    step = 2.0 ** (-10 if dtype is ntorch.float16 else -7)
    error = np.abs(got.to(ntorch.float64).numpy() - exact)
    assert (error <= 0.5 * step * 1.01 * np.maximum(np.abs(exact), 1e-3) * 2).all()
    once = tensor(exact.astype("f4")).to(dtype).to(ntorch.float64).numpy()
    assert (got.to(ntorch.float64).numpy() == once).mean() > 0.99


@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "i4", "i8"])
def test_integers_wrap(dtype):
    info = np.iinfo(dtype)
    a = RNG.integers(info.min, info.max, (9, 12), dtype=dtype, endpoint=True)
    b = RNG.integers(info.min, info.max, (12, 7), dtype=dtype, endpoint=True)
    assert np.array_equal(ntorch.mm(tensor(a), tensor(b)).numpy(), a @ b)


@pytest.mark.parametrize("dtype", ["c8", "c16"])
def test_complex_products(dtype):
    a = (draw(3, 9, 12) + 1j * draw(3, 9, 12)).astype(dtype)
    b = (draw(3, 12, 7) + 1j * draw(3, 12, 7)).astype(dtype)
    got = ntorch.bmm(tensor(a), tensor(b)).numpy()
    np.testing.assert_allclose(got, a @ b, rtol=1e-4, atol=1e-4)


MATMUL = [((3,), (3,)), ((3,), (3, 4)), ((2, 3), (3,)), ((2, 3), (3, 4)), ((5, 2, 3), (3,)),
          ((5, 2, 3), (3, 4)), ((3,), (5, 3, 4)), ((2, 3), (5, 3, 4)), ((5, 2, 3), (5, 3, 4)),
          ((1, 2, 3), (5, 3, 4)), ((6, 1, 2, 3), (5, 3, 4)), ((6, 1, 2, 3), (1, 5, 3, 4)),
          ((2, 1, 3, 2, 3), (4, 1, 3, 2)), ((0, 3), (3, 2)), ((5, 0, 3), (3, 2)), ((2, 0), (0, 3))]


@pytest.mark.parametrize("shapes", MATMUL)
def test_matmul_broadcasts_like_numpy(shapes):
    a, b = draw(*shapes[0], dtype="f8"), draw(*shapes[1], dtype="f8")
    got = ntorch.matmul(tensor(a), tensor(b))
    np.testing.assert_allclose(got.numpy(), a @ b, rtol=1e-13, atol=1e-13)


def test_batches_that_need_three_levels_of_strides_are_copied():
    base = draw(4, 3, 2, 5, 6)
    a = base.transpose(2, 0, 1, 3, 4)[:, ::2][:, :, ::2]
    b = draw(2, 2, 2, 6, 7)
    got = ntorch.matmul(tensor(base).permute(2, 0, 1, 3, 4)[:, ::2][:, :, ::2], tensor(b))
    assert_close(got.numpy(), a.astype("f8") @ b, 6)


def leaf(*shape, scale=1.0):
    return tensor(draw(*shape, dtype="f8") * scale).requires_grad_()


GRADIENTS = {
    "mm": (ntorch.mm, [(3, 4), (4, 2)]),
    "bmm": (ntorch.bmm, [(2, 3, 4), (2, 4, 2)]),
    "mv": (ntorch.mv, [(3, 4), (4,)]),
    "dot": (ntorch.dot, [(4,), (4,)]),
    "outer": (ntorch.outer, [(4,), (3,)]),
    "inner": (ntorch.inner, [(2, 4), (3, 4)]),
    "addmm": (lambda c, a, b: ntorch.addmm(c, a, b, beta=2, alpha=0.5), [(2,), (3, 4), (4, 2)]),
    "addmv": (lambda c, a, b: ntorch.addmv(c, a, b, beta=2, alpha=0.5), [(3,), (3, 4), (4,)]),
    "addr": (lambda c, a, b: ntorch.addr(c, a, b, beta=2, alpha=0.5), [(3, 4), (3,), (4,)]),
    "addbmm": (lambda c, a, b: ntorch.addbmm(c, a, b, beta=2, alpha=0.5),
               [(3, 2), (2, 3, 4), (2, 4, 2)]),
    "baddbmm": (lambda c, a, b: ntorch.baddbmm(c, a, b, beta=2, alpha=0.5),
                [(3, 2), (2, 3, 4), (2, 4, 2)]),
    "linear": (ntorch.ops.linear, [(2, 3, 4), (5, 4), (5,)]),
    "linear vector": (ntorch.ops.linear, [(3, 4), (4,)]),
    "bilinear": (ntorch.ops.bilinear, [(3, 4), (3, 2), (5, 4, 2), (5,)]),
    "tensordot": (lambda a, b: ntorch.tensordot(a, b, ([1], [0])), [(2, 3, 2), (3, 4)]),
    "kron": (ntorch.kron, [(2, 3), (3, 2)]),
    "einsum": (lambda a, b: ntorch.einsum("bij,bjk->bk", a, b), [(2, 3, 4), (2, 4, 2)]),
    "multi_dot": (lambda *t: ntorch.linalg.multi_dot(t), [(3, 4), (4, 2), (2, 5)]),
    **{f"matmul {a} {b}": (ntorch.matmul, [a, b]) for a, b in MATMUL[:12]},
}


@pytest.mark.parametrize("name", GRADIENTS)
def test_gradients_to_second_order(name):
    function, shapes = GRADIENTS[name]
    inputs = [leaf(*shape) for shape in shapes]
    assert gradcheck(function, inputs)
    assert gradgradcheck(function, inputs)


def test_linear_with_bias_of_every_route():
    for rows, inner, outer in ((1, 300, 200), (8, 300, 200), (64, 784, 256), (3, 10, 4)):
        x, w, b = draw(rows, inner), draw(outer, inner), draw(outer)
        got = ntorch.nn.functional.linear(tensor(x), tensor(w), tensor(b))
        assert_close(got.numpy(), x.astype("f8") @ w.T + b, inner)


EINSUMS = [
    ("i,i->", (3,), (3,)), ("ij->ji", (2, 3)), ("ii->i", (3, 3)), ("ii", (3, 3)),
    ("i,j", (2,), (3,)), ("ij,jk", (2, 3), (3, 4)), ("bij,bjk->bik", (2, 3, 4), (2, 4, 5)),
    ("ij,kj->ik", (2, 3), (4, 3)),
    ("...ij,...jk->...ik", (2, 1, 3, 4), (5, 4, 2)), ("i...->...", (2, 3, 4)),
    ("bn,anm,bm->ba", (2, 3), (4, 3, 5), (2, 5)), ("ij,jk,kl->il", (2, 3), (3, 4), (4, 5)),
    ("iij,jk->ik", (3, 3, 2), (2, 4)), ("bhid,bhjd->bhij", (2, 3, 4, 5), (2, 3, 6, 5)),
    ("ab,ab->ab", (2, 3), (2, 3)), ("ab,ba->", (2, 3), (3, 2)), ("a,b,c->abc", (2,), (3,), (4,)),
    ("aB,Bc->ca", (2, 3), (3, 4)), ("ij->", (2, 3)), ("ab,c->cab", (2, 3), (4,)),
]


@pytest.mark.parametrize("case", EINSUMS, ids=[c[0] for c in EINSUMS])
def test_einsum_like_numpy(case):
    equation, *shapes = case
    arrays = [draw(*shape, dtype="f8") for shape in shapes]
    got = ntorch.einsum(equation, *map(tensor, arrays))
    np.testing.assert_allclose(got.numpy(), np.einsum(equation, *arrays), rtol=1e-12, atol=1e-12)


def test_einsum_sublists_and_broadcast_ones():
    a, b = draw(2, 3, dtype="f8"), draw(3, 4, dtype="f8")
    got = ntorch.einsum(tensor(a), [0, 1], tensor(b), [1, 2], [0, 2])
    np.testing.assert_allclose(got.numpy(), a @ b)
    got = ntorch.einsum(tensor(a), [0, ...], tensor(b), [..., 2], [2, 0, ...])
    np.testing.assert_allclose(got.numpy(), np.einsum("ax,xb->bax", a, b))
    one = draw(1, 4, dtype="f8")
    got = ntorch.einsum("ij,jk->ik", tensor(a), tensor(one))
    np.testing.assert_allclose(got.numpy(), a.sum(1, keepdims=True) * one)


BAD = [
    (lambda: ntorch.mm(ntorch.ones(2, 3), ntorch.ones(4, 5)), RuntimeError, "2x3 and 4x5"),
    (lambda: ntorch.mm(ntorch.ones(2), ntorch.ones(2, 2)), RuntimeError, "must be a matrix"),
    (lambda: ntorch.mm(ntorch.ones(2, 2), ntorch.ones(2, 2, dtype=ntorch.float64)), RuntimeError,
     "same dtype"),
    (lambda: ntorch.mm(ntorch.ones(2, 2) > 0, ntorch.ones(2, 2) > 0), NotImplementedError, "Bool"),
    (lambda: ntorch.bmm(ntorch.ones(2, 3, 4), ntorch.ones(2, 3, 4)), RuntimeError, r"\[2, 4\]"),
    (lambda: ntorch.bmm(ntorch.ones(2, 3), ntorch.ones(2, 3, 4)), RuntimeError, "3D tensor"),
    (lambda: ntorch.matmul(ntorch.tensor(1.0), ntorch.ones(2)), RuntimeError, "at least 1D"),
    (lambda: ntorch.matmul(ntorch.ones(3, 2, 3), ntorch.ones(2, 3, 2)), RuntimeError, "must match"),
    (lambda: ntorch.mv(ntorch.ones(2, 3), ntorch.ones(2)), RuntimeError, "size mismatch"),
    (lambda: ntorch.dot(ntorch.ones(2), ntorch.ones(3)), RuntimeError, "inconsistent tensor size"),
    (lambda: ntorch.addmm(ntorch.ones(5), ntorch.ones(2, 3), ntorch.ones(3, 4)), RuntimeError,
     "expanded size"),
    (lambda: ntorch.nn.functional.linear(ntorch.ones(2, 3), ntorch.ones(4, 5)), RuntimeError,
     "2x3 and 5x4"),
    (lambda: ntorch.einsum("ij,jk->ik", ntorch.ones(2, 3)), RuntimeError, "fewer operands|more"),
    (lambda: ntorch.einsum("ij->k", ntorch.ones(2, 3)), RuntimeError, "does not appear"),
    (lambda: ntorch.einsum("i1", ntorch.ones(2, 3)), RuntimeError, "subscript"),
    (lambda: ntorch.einsum("ii", ntorch.ones(2, 3)), RuntimeError, "repeated"),
    (lambda: ntorch.einsum("ij,ij", ntorch.ones(2, 3), ntorch.ones(4, 3)), RuntimeError,
     "does not broadcast"),
    (lambda: ntorch.tensordot(ntorch.ones(2, 3), ntorch.ones(4, 3), 1), RuntimeError, "match"),
    (lambda: ntorch.linalg.multi_dot([ntorch.ones(2, 3)]), RuntimeError, "at least 2"),
    (lambda: ntorch.linalg.solve(ntorch.ones(2, 3), ntorch.ones(2, 3)), RuntimeError, "square"),
    (lambda: ntorch.linalg.solve(ntorch.ones(2, 2), ntorch.ones(2, 3)), ntorch.linalg.LinAlgError,
     "singular"),
    (lambda: ntorch.linalg.cholesky(-ntorch.ones(1, 2, 2)), ntorch.linalg.LinAlgError,
     "Batch element 0"),
]


@pytest.mark.parametrize("case", BAD, ids=range(len(BAD)))
def test_errors_say_what_is_wrong(case):
    call, kind, words = case
    with pytest.raises(kind, match=words):
        call()


def test_out_and_inplace_forms():
    a, b, c = tensor(draw(3, 4)), tensor(draw(4, 5)), tensor(draw(3, 5))
    out = ntorch.empty(3, 5)
    assert ntorch.mm(a, b, out=out) is out
    assert_close(out.numpy(), a.numpy().astype("f8") @ b.numpy(), 4)
    want = 2 * c.numpy() + a.numpy() @ b.numpy()
    assert c.addmm_(a, b, beta=2) is c
    assert_close(c.numpy(), want, 4)
    with pytest.raises(RuntimeError):
        ntorch.mm(a, b, out=ntorch.empty(3, 5, dtype=ntorch.int64))


def test_prepacked_weights_follow_writes():
    weight = tensor(draw(300, 40))
    first = prepack_tensor(weight)
    assert prepack_tensor(weight) is first
    weight.mul_(2.0)
    assert prepack_tensor(weight) is not first


def test_prepacked_operand_and_plan_for_a_loop_over_steps():
    from ntorch.kernels import gemm as kernels
    steps, m, k, n = 5, 9, 300, 50
    x, w = draw(steps, m, k), tensor(draw(k, n))
    out = np.full((steps, m, n), np.nan, "f4")
    packed = prepack_tensor(w)
    left = source(x.ctypes.data, Matrix(x.size, 1, m * k, 0, k, 1), "a", "f4", "f4")
    store = epilogue(out.ctypes.data, steps, m, n, "f4", "f4")
    words, scratch = plan(m, n, k, left, packed, store, batch=steps, T="f4")
    memory = np.zeros(scratch // 4 + 16, "f4")
    aligned = memory.ctypes.data + -memory.ctypes.data % 64
    table = np.array(place(words, aligned), np.int64)
    for step in range(steps):       # contract_block in plain Python, its kernels compiled
        kernels.contract_block(table, step, 0, table[kernels.M_PANELS], 0, table[kernels.N_PANELS])
    assert_close(out, x.astype("f8") @ w.numpy(), k)
    contract(m, n, k, left, packed, store, batch=steps)
    assert_close(out, x.astype("f8") @ w.numpy(), k)
    with pytest.raises(ValueError, match="packed for"):
        contract(m, n + 1, k, left, packed, store, batch=steps)


def test_meta_gives_shapes_only():
    a, b = ntorch.empty(3, 4, device="meta"), ntorch.empty(4, 5, device="meta")
    got = ntorch.matmul(a, b)
    assert got.shape == (3, 5) and got.device.type == "meta"


@pytest.mark.parametrize("shape", [(4, 4), (2, 3, 3), (0, 3, 3), (2, 0, 0)])
def test_linalg_values(shape):
    a = draw(*shape, dtype="f8")
    spd = a @ a.swapaxes(-1, -2) + 3 * np.eye(shape[-1])
    b = draw(*shape[:-1], 2, dtype="f8")
    np.testing.assert_allclose(ntorch.linalg.cholesky(tensor(spd)).numpy(), np.linalg.cholesky(spd),
                               atol=1e-12)
    np.testing.assert_allclose(ntorch.linalg.solve(tensor(spd), tensor(b)).numpy(),
                               np.linalg.solve(spd, b), atol=1e-12)
    np.testing.assert_allclose(ntorch.linalg.inv(tensor(spd)).numpy(), np.linalg.inv(spd),
                               atol=1e-12)


EYE = tensor(np.eye(3))
LINALG = {
    "cholesky": lambda a: ntorch.linalg.cholesky(a @ a.mT + 2 * EYE),
    "solve": lambda a: ntorch.linalg.solve(a + 3 * EYE, a),
    "qr": lambda a: ntorch.linalg.qr(a + 3 * EYE),
    "triangular": lambda a: ntorch.linalg.solve_triangular(
        a + 3 * EYE, a, upper=False),
}


@pytest.mark.parametrize("name", LINALG)
def test_linalg_gradients(name):
    a = leaf(2, 3, 3)
    assert gradcheck(LINALG[name], [a])
    assert gradgradcheck(LINALG[name], [a])


def test_the_register_tile_is_vector_code(monkeypatch):
    if max(t["f4"].lanes for t in TILES.values() if t["f4"].masked) < 8:
        pytest.skip("no wide target")
    from ntorch.kernels.gemm import product_kernel
    from ntorch.runtime import compile as compiling
    from ntorch.runtime import target
    made, original = [], target.emit
    monkeypatch.setattr(target, "emit",
                        lambda module: made.append(str(module)) or original(module))
    function = product_kernel(6, 2, 8)
    kinds = ("f4:1C",) * 3 + ("i",) * 4
    compiling.compile_object(function, kinds, "f4", False, "0" * 40)
    (text,) = made
    assert "<8 x float>" in text and "fmuladd.v8f32" in text
