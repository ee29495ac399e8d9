"""Complex numbers: arithmetic, functions, parts, reductions and Wirtinger gradients."""
import numpy as np
import pytest

import ntorch
from ntorch.autograd import gradcheck, gradgradcheck

RNG = np.random.default_rng(7)
A = RNG.normal(size=(3, 4)) + 1j * RNG.normal(size=(3, 4))
B = RNG.normal(size=(4,)) + 1j * RNG.normal(size=(4,)) + 2


def make(array, grad=False):
    return ntorch.from_numpy(np.array(array)).requires_grad_(grad)


def same(got, wanted, rtol=1e-12, atol=1e-13):
    np.testing.assert_allclose(got.detach().numpy(), wanted, rtol=rtol, atol=atol)


UNARY = {
    "neg": np.negative, "abs": np.abs, "angle": np.angle, "conj": np.conj, "conj_physical": np.conj,
    "exp": np.exp, "log": np.log, "sqrt": np.sqrt, "sin": np.sin, "cos": np.cos, "tan": np.tan,
    "sinh": np.sinh, "cosh": np.cosh, "tanh": np.tanh, "reciprocal": lambda x: 1 / x,
    "square": np.square, "rsqrt": lambda x: 1 / np.sqrt(x), "asin": np.arcsin, "acos": np.arccos,
    "atan": np.arctan, "asinh": np.arcsinh, "acosh": np.arccosh, "atanh": np.arctanh,
    "log2": np.log2, "log10": np.log10, "log1p": np.log1p, "expm1": np.expm1, "exp2": np.exp2,
    "sgn": lambda x: x / np.abs(x), "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "sum": np.sum, "mean": np.mean, "prod": np.prod, "cumsum": None, "cumprod": None,
}
BINARY = {"add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide, "pow": np.power,
          "eq": np.equal, "ne": np.not_equal}


@pytest.mark.parametrize("name", UNARY)
def test_unary(name):
    call = getattr(ntorch, name)
    if UNARY[name] is None:
        same(call(make(A), 1), getattr(np, name)(A, axis=1))
        assert gradcheck(lambda t: call(t, 1), make(A, True))
        return
    same(call(make(A)), UNARY[name](A), 1e-10, 1e-12)
    single = call(make(A.astype(np.complex64)))
    same(single, UNARY[name](A), 2e-5, 2e-5)
    assert single.dtype in (ntorch.complex64, ntorch.float32)
    assert gradcheck(call, make(A, True))


@pytest.mark.parametrize("name", BINARY)
def test_binary(name):
    call = getattr(ntorch, name)
    same(call(make(A), make(B)), BINARY[name](A, B), 1e-11)
    same(call(make(A), make(B.real)), BINARY[name](A, B.real), 1e-11)
    if name not in ("eq", "ne"):
        assert gradcheck(call, [make(A, True), make(B, True)])
        assert gradcheck(call, [make(A, True), make(B.real, True)])
        same(call(make(A), 2 - 1j), BINARY[name](A, 2 - 1j), 1e-11)


@pytest.mark.parametrize("call", [
    lambda a: a * a.conj(), lambda a: a.abs() ** 2, lambda a: a.real * a.imag,
    lambda a: a.exp() / a,
    lambda a: ntorch.view_as_real(a).prod(-1), lambda a: a.mH @ a, lambda a: ntorch.angle(a)],
    ids=range(7))
def test_second_order(call):
    assert gradcheck(call, make(A, True))
    assert gradgradcheck(call, make(A, True))


def test_gradient_convention():
    """The gradient of a real loss is ``dL/d(re) + i dL/d(im)``: of steepest ascent."""
    z = make(A, True)
    (z.abs() ** 2).sum().backward()
    same(z.grad, 2 * A)
    assert z.grad.dtype is ntorch.complex128


def test_real_inputs_get_real_gradients():
    x, z = make(A.real, True), make(A, True)
    (x * z).abs().sum().backward()
    assert x.grad.dtype is ntorch.float64 and z.grad.dtype is ntorch.complex128


def test_parts_are_views():
    z = make(A)
    z.real.zero_()
    z.imag.fill_(2)
    same(z, np.full((3, 4), 2j))
    z.real = ntorch.ones(3, 4, dtype=ntorch.float64)
    assert z[0, 0].item() == 1 + 2j
    ntorch.view_as_real(z)[..., 1].add_(1)
    assert z[2, 3].item() == 1 + 3j
    back = ntorch.view_as_complex(ntorch.view_as_real(z))
    assert back.data_ptr() == z.data_ptr() and back._version == z._version
    assert ntorch.isreal(make(np.array([1 + 0j, 1j]))).tolist() == [True, False]
    x = make(A.real)
    assert ntorch.real(x) is x and x.conj() is x
    with pytest.raises(RuntimeError, match="non-complex"):
        ntorch.imag(x)


def test_inplace_through_a_part():
    def function(z):
        w = z * 1
        w.real.mul_(3)
        w.imag.sin_()
        return w * w
    assert gradcheck(function, make(A, True)) and gradgradcheck(function, make(A, True))


def test_construction():
    re, im = make(A.real, True), make(A.imag, True)
    same(ntorch.complex(re, im), A)
    same(ntorch.polar(re.abs(), im), np.abs(A.real) * np.exp(1j * A.imag))
    assert gradcheck(ntorch.complex, [re, im]) and gradcheck(ntorch.polar, [re, im])
    assert ntorch.complex(re.float(), im.float()).dtype is ntorch.complex64
    with pytest.raises(RuntimeError, match="(?i)expected"):
        ntorch.complex(re, im.float())
    assert ntorch.tensor([1, 2j]).dtype is ntorch.complex64
    assert ntorch.tensor(1 + 2j, dtype=ntorch.complex128).item() == 1 + 2j


def test_products():
    other = make(RNG.normal(size=(4, 2)) + 1j * RNG.normal(size=(4, 2)), True)
    a = make(A, True)
    same(a @ other, A @ other.detach().numpy())
    assert gradcheck(ntorch.matmul, [a, other])
    same(ntorch.vdot(make(B), make(B)), np.vdot(B, B))
    same(ntorch.dot(make(B), make(B)), np.dot(B, B))
    assert gradcheck(ntorch.vdot, [make(B, True), make(B[::-1].copy(), True)])
    same(a.adjoint(), A.conj().T)
    same(a.H, A.conj().T)
    same(ntorch.einsum("ij,j->i", make(A), make(B)), A @ B)


def test_movement_and_selection():
    z = make(A, True)
    same(ntorch.where(z.real > 0, z, 0), np.where(A.real > 0, A, 0))
    same(ntorch.cat([z, z.conj()]), np.concatenate([A, A.conj()]))
    same(z[1:, [0, 2]], A[1:, [0, 2]])
    assert gradcheck(lambda t: ntorch.cat([t, t.conj()]), z)
    assert gradcheck(lambda t: t[1:, [0, 2]], z)


def test_orderings_are_refused():
    for call in (ntorch.sort, ntorch.max, lambda z: z < z, ntorch.floor, ntorch.erf,
                 lambda z: ntorch.clamp(z, 0, 1), lambda z: ntorch.maximum(z, z)):
        with pytest.raises((RuntimeError, NotImplementedError)):
            call(make(A))


def test_special_values_of_abs_and_sgn():
    z = make(np.array([0, np.inf + 1j, 3e300 + 4e300j, 1e-320 + 0j]))
    np.testing.assert_allclose(z.abs().numpy(), [0, np.inf, 5e300, 1e-320], rtol=1e-12)
    assert ntorch.sgn(make(np.array([0j]))).item() == 0
    z = make(np.zeros(1, complex), True)
    z.abs().sum().backward()
    assert z.grad.item() == 0


def test_against_torch():
    torch = pytest.importorskip("torch")
    for name in UNARY:
        if UNARY[name] is None:
            continue
        ours, theirs = make(A, True), torch.from_numpy(A.copy()).requires_grad_()
        got, wanted = getattr(ntorch, name)(ours), getattr(torch, name)(theirs)
        same(got, wanted.detach().resolve_conj().numpy(), 1e-9)
        got.abs().sum().backward()
        wanted.abs().sum().backward()
        same(ours.grad, theirs.grad.resolve_conj().numpy(), 1e-8, 1e-10)




@pytest.mark.parametrize("dtype", [np.complex64, np.complex128])
def test_what_is_zero(dtype):
    values = np.array([[0, 1j, 0], [2, 1 + 1j, 0], [complex(np.nan, 0), -1j, 0]], dtype)
    t = ntorch.from_numpy(values)
    for name in ("any", "all"):
        call, wanted = getattr(ntorch, name), getattr(np, name)
        same(call(t), wanted(values))
        for axis in (0, 1):
            same(call(t, axis), wanted(values, axis))
            same(ntorch.compile(lambda x, call=call, axis=axis: call(x, axis))(t),
                 wanted(values, axis))
    assert not ntorch.any(t[:, 2]) and ntorch.all(t[1:, :2])
