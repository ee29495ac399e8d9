"""The op table of the tests: one line per op. ``tests/test_ops.py`` runs every check on each line.

``case(name, inputs, reference)``: inputs are specs (``A`` floats, ``I`` integers, ``B`` booleans)
or plain values; the reference is a NumPy or SciPy function of the same arguments in float64, or
None where the value is fixed by a property test of its own room (then gradients, layouts, types and
meta results are still checked, and values against PyTorch where it is installed).
"""
import dataclasses
import typing

import numpy as np
import scipy.special as sp


@dataclasses.dataclass(frozen=True)
class A:
    """Floats of a shape, uniform in ``[low, high]``; ``apart`` makes them distinct."""
    shape: tuple = (3, 4)
    low: float = -2.0
    high: float = 2.0
    apart: bool = False

    def make(self, rng):
        if self.apart:
            n = int(np.prod(self.shape))
            return (np.linspace(self.low, self.high, n)[rng.permutation(n)]).reshape(self.shape)
        return rng.uniform(self.low, self.high, self.shape)


@dataclasses.dataclass(frozen=True)
class I:  # noqa: E742 - read beside A and B
    """Integers of a shape in ``[low, high)``."""
    shape: tuple
    high: int
    low: int = 0

    def make(self, rng):
        return rng.integers(self.low, self.high, self.shape)


@dataclasses.dataclass(frozen=True)
class B:
    """Booleans of a shape."""
    shape: tuple = (3, 4)

    def make(self, rng):
        return rng.random(self.shape) > 0.5


@dataclasses.dataclass(frozen=True)
class S(A):
    """Symmetric positive definite matrices."""

    def make(self, rng):
        a = super().make(rng)
        return a @ a.swapaxes(-1, -2) + 3 * np.eye(self.shape[-1])


@dataclasses.dataclass(frozen=True)
class Case:
    """One line of the table."""
    name: str
    inputs: tuple
    reference: typing.Any = None
    keywords: tuple = ()
    grad: bool = True           # gradcheck
    second: bool = True         # gradgradcheck
    special: bool = False       # NaN and inf against the reference
    tag: str = ""

    @property
    def id(self):
        return self.name + (f"-{self.tag}" if self.tag else "")


CASES = []


def case(name, inputs, reference=None, keywords=None, **flags):
    """Add a line."""
    inputs = inputs if isinstance(inputs, tuple) else (inputs,)
    CASES.append(Case(name, inputs, reference, tuple((keywords or {}).items()), **flags))


X, Y, POSITIVE, UNIT = A(), A((4,), 0.5, 2.0), A(low=0.1, high=3.0), A(low=-0.9, high=0.9)
# --- pointwise: unary ---------------------------------------------------------------------------
for name, spec, reference in (
        ("neg", X, np.negative), ("abs", A(low=0.2), np.abs), ("sign", A(low=0.2), np.sign),
        ("exp", X, np.exp), ("exp2", X, np.exp2), ("expm1", X, np.expm1),
        ("log", POSITIVE, np.log), ("log2", POSITIVE, np.log2), ("log10", POSITIVE, np.log10),
        ("log1p", POSITIVE, np.log1p), ("sqrt", POSITIVE, np.sqrt),
        ("rsqrt", POSITIVE, lambda x: 1 / np.sqrt(x)), ("square", X, np.square),
        ("reciprocal", POSITIVE, np.reciprocal), ("sin", X, np.sin), ("cos", X, np.cos),
        ("tan", UNIT, np.tan), ("asin", UNIT, np.arcsin), ("acos", UNIT, np.arccos),
        ("atan", X, np.arctan), ("sinh", X, np.sinh), ("cosh", X, np.cosh), ("tanh", X, np.tanh),
        ("asinh", X, np.arcsinh), ("acosh", A(low=1.2, high=3.0), np.arccosh),
        ("atanh", UNIT, np.arctanh), ("sinc", A(low=0.1), np.sinc), ("erf", X, sp.erf),
        ("erfc", X, sp.erfc), ("erfinv", UNIT, sp.erfinv), ("lgamma", POSITIVE, sp.gammaln),
        ("digamma", POSITIVE, sp.digamma), ("sigmoid", X, sp.expit),
        ("logit", A(low=0.1, high=0.9), sp.logit),
        ("deg2rad", X, np.deg2rad), ("rad2deg", X, np.rad2deg), ("entr", POSITIVE, sp.entr),
        ("softsign", A(low=0.1), lambda x: x / (1 + np.abs(x)))):
    case(name, spec, reference, special=name not in (
        "sign", "sinc", "lgamma", "digamma", "entr", "erfinv"))      # NumPy: sign(nan) is nan
for name in ("floor", "ceil", "trunc", "round", "frac", "fix"):
    reference = {"frac": lambda x: x - np.trunc(x), "round": np.rint}.get(name,
                                                                          getattr(np, name, None))
    case(name, A(low=0.1, high=7.8), reference, second=False, grad=name == "frac")
for name, reference in (("isnan", np.isnan), ("isinf", np.isinf), ("isfinite", np.isfinite),
                        ("isposinf", np.isposinf), ("isneginf", np.isneginf),
                        ("signbit", np.signbit), ("logical_not", np.logical_not)):
    case(name, X, reference, grad=False, special=True)
case("_exp_below_one", A(low=-80.0, high=0.0), np.exp, grad=False)
case("nan_to_num", X, np.nan_to_num)
case("positive", X, np.positive)
case("angle", A(low=0.2), np.angle, second=False)
# --- pointwise: several operands
# --------------------------------------------------------------------
for name, a, b, reference in (
        ("add", X, A((4,)), np.add), ("sub", X, A((3, 1)), np.subtract),
        ("mul", X, A((4,)), np.multiply),
        ("div", X, Y, np.divide), ("true_divide", X, Y, np.divide),
        ("pow", POSITIVE, A((4,)), np.power),
        ("float_power", POSITIVE, A((4,)), np.float_power),
        ("rsub", X, A((4,)), lambda a, b: b - a),
        ("maximum", X, A((3, 4)), np.maximum), ("minimum", X, A((3, 4)), np.minimum),
        ("fmax", X, A((3, 4)), np.fmax), ("fmin", X, A((3, 4)), np.fmin),
        ("atan2", X, Y, np.arctan2), ("hypot", X, Y, np.hypot),
        ("logaddexp", X, A((4,)), np.logaddexp),
        ("logaddexp2", X, A((4,)), np.logaddexp2), ("copysign", A(low=0.2), Y, np.copysign),
        ("xlogy", X, Y, sp.xlogy), ("xlog1py", X, Y, sp.xlog1py),
        ("remainder", X, Y, np.remainder), ("fmod", X, Y, np.fmod)):
    case(name, (a, b), reference, special=name in ("add", "sub", "mul", "div", "maximum", "minimum",
                                                  "fmax", "fmin", "copysign"))
case("floor_divide", (X, Y), np.floor_divide, grad=False)
case("div", (X, Y), lambda a, b: np.trunc(a / b), {"rounding_mode": "trunc"}, grad=False,
     tag="trunc")
case("div", (X, Y), np.floor_divide, {"rounding_mode": "floor"}, grad=False, tag="floor")
case("add", (X, A((4,))), lambda a, b: a + 3 * b, {"alpha": 3}, tag="alpha")
case("clamp", (X, -0.5, 0.7), np.clip)
case("clamp_min", (X, 0.3), np.maximum)
case("clamp_max", (X, 0.3), np.minimum)
case("where", (B(), X, A((4,))), np.where)
case("lerp", (X, A((4,)), A((3, 4), 0.1, 0.9)), lambda a, b, w: a + w * (b - a))
case("addcmul", (X, A((4,)), A((3, 1))), lambda a, b, c: a + 0.5 * b * c, {"value": 0.5})
case("addcdiv", (X, A((4,)), Y), lambda a, b, c: a + 0.5 * b / c, {"value": 0.5})
case("heaviside", (A(low=0.2), A((4,))), np.heaviside, grad=False)
for name, reference in (("eq", np.equal), ("ne", np.not_equal), ("lt", np.less),
                        ("le", np.less_equal),
                        ("gt", np.greater), ("ge", np.greater_equal),
                        ("logical_and", np.logical_and), ("logical_or", np.logical_or),
                        ("logical_xor", np.logical_xor)):
    case(name, (X, A((4,))), reference, grad=False, special=True)
for name, reference in (("bitwise_and", np.bitwise_and), ("bitwise_or", np.bitwise_or),
                        ("bitwise_xor", np.bitwise_xor), ("bitwise_left_shift", np.left_shift),
                        ("bitwise_right_shift", np.right_shift)):
    case(name, (I((3, 4), 100), I((4,), 7)), reference, grad=False)
case("bitwise_not", I((3, 4), 100), np.bitwise_not, grad=False)
case("isclose", (X, X), None, grad=False)
case("masked_fill", (X, B(), 0.5), lambda x, m, v: np.where(m, v, x))
# --- activations
# --------------------------------------------------------------------------------------
AWAY = A(low=0.15, high=2.5)
for name, reference in (
        ("relu", lambda x: np.maximum(x, 0)), ("relu6", lambda x: np.clip(x, 0, 6)),
        ("leaky_relu", lambda x: np.where(x > 0, x, 0.01 * x)),
        ("elu", lambda x: np.where(x > 0, x, np.expm1(x))),
        ("celu", lambda x: np.where(x > 0, x, np.expm1(x))),
        ("selu", lambda x: 1.0507009873554805 * np.where(
            x > 0, x, 1.6732632423543772 * np.expm1(x))),
        ("silu", lambda x: x * sp.expit(x)), ("mish", lambda x: x * np.tanh(np.log1p(np.exp(x)))),
        ("gelu", lambda x: x * sp.ndtr(x)), ("softplus", lambda x: np.log1p(np.exp(x))),
        ("hardtanh", lambda x: np.clip(x, -1, 1)),
        ("hardswish", lambda x: x * np.clip(x + 3, 0, 6) / 6),
        ("hardsigmoid", lambda x: np.clip(x + 3, 0, 6) / 6), ("logsigmoid", sp.log_expit),
        ("tanhshrink", lambda x: x - np.tanh(x)),
        ("hardshrink", lambda x: np.where(np.abs(x) > 0.5, x, 0)),
        ("softshrink", lambda x: np.sign(x) * np.maximum(np.abs(x) - 0.5, 0))):
    case(name, AWAY, reference)
case("native_dropout_backward", (A(), B(), 2.0), lambda g, m, s: g * m * s)
case("gelu", X, lambda x: 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x ** 3))),
     {"approximate": "tanh"}, tag="tanh")
case("threshold", (AWAY, 0.1, -7.0), lambda x, t, v: np.where(x > t, x, v))
case("prelu", (AWAY, A((4,))), lambda x, w: np.where(x > 0, x, w * x))
case("glu", A((3, 4)), lambda x: x[:, :2] * sp.expit(x[:, 2:]))
# --- reductions and scans
# ---------------------------------------------------------------------------
for name, reference in (("sum", np.sum), ("mean", np.mean), ("prod", np.prod), ("amax", np.max),
                        ("amin", np.min)):
    spec = A((3, 4, 2), apart=True)
    case(name, spec, reference)
    case(name, (spec, 1), lambda x, d, f=reference: f(x, 1), tag="dim")
    case(name, (spec, -1), lambda x, d, f=reference: f(x, -1, keepdims=True), {"keepdim": True},
         tag="keepdim")
case("sum", (A((3, 4, 2)), (0, 2)), lambda x, d: x.sum((0, 2)), tag="dims")
case("any", (X, 1), lambda x, d: x.any(1), grad=False)
case("all", (X, 0), lambda x, d: x.all(0), grad=False)
case("count_nonzero", X, np.count_nonzero, grad=False)
case("nansum", (X, 1), lambda x, d: np.nansum(x, 1))
case("nanmean", (X, 1), lambda x, d: np.nanmean(x, 1))
case("var", (X, 1), lambda x, d: x.var(1, ddof=1))
case("std", (X, 0), lambda x, d: x.std(0), {"correction": 0})
case("var_mean", (X, 1), lambda x, d: (x.var(1, ddof=1), x.mean(1)))
case("std_mean", (X, 1), lambda x, d: (x.std(1, ddof=1), x.mean(1)))
case("logsumexp", (X, 1), lambda x, d: sp.logsumexp(x, 1))
case("max", (A(apart=True), 1), lambda x, d: (x.max(1), x.argmax(1)))
case("min", (A(apart=True), 1), lambda x, d: (x.min(1), x.argmin(1)))
case("aminmax", A(apart=True), lambda x: (x.min(), x.max()))
case("argmax", (A(apart=True), 1), lambda x, d: x.argmax(1), grad=False)
case("argmin", (A(apart=True), 0), lambda x, d: x.argmin(0), grad=False)
case("cumsum", (X, 1), np.cumsum)
case("cumprod", (X, 1), np.cumprod)
case("logcumsumexp", (X, 1), lambda x, d: np.logaddexp.accumulate(x, 1))
case("cummax", (A(apart=True), 1), None, second=False)
case("cummin", (A(apart=True), 1), None, second=False)
case("diff", X, np.diff)
case("softmax", (X, 1), sp.softmax)
case("log_softmax", (X, 0), sp.log_softmax)
case("median", (A((3, 5), apart=True), 1), lambda x, d: (np.median(x, 1), np.argsort(x, 1)[:, 2]))
case("kthvalue", (A((3, 5), apart=True), 2), lambda x,
     k: (np.sort(x, 1)[:, 1], np.argsort(x, 1)[:, 1]))
case("sort", (A(apart=True), 1), lambda x, d: (np.sort(x, 1), np.argsort(x, 1)))
case("argsort", (A(apart=True), 0), lambda x, d: np.argsort(x, 0), grad=False)
case("msort", A(apart=True), lambda x: np.sort(x, 0))
case("topk", (A(apart=True), 2), lambda x, k: (-np.sort(-x, 1)[:, :2], np.argsort(-x, 1)[:, :2]))
# --- views and movement
# -----------------------------------------------------------------------------
case("view", (A((3, 4)), (2, 6)), np.reshape)
case("reshape", (A((3, 4)), (-1,)), np.reshape)
case("permute", (A((2, 3, 4)), (2, 0, 1)), np.transpose)
case("transpose", (A((2, 3, 4)), 0, 2), np.swapaxes)
case("t", X, np.transpose)
case("expand", (A((3, 1)), (2, 3, 4)), lambda x, s: np.broadcast_to(x, s))
case("broadcast_to", (A((3, 1)), (2, 3, 4)), lambda x, s: np.broadcast_to(x, s))
case("squeeze", A((3, 1, 2)), np.squeeze)
case("unsqueeze", (X, 1), lambda x, d: x[:, None])
case("select", (A((3, 4)), 1, 2), lambda x, d, i: x[:, i])
case("narrow", (A((3, 4)), 1, 1, 2), lambda x, d, s, n: x[:, 1:3])
case("slice", (A((3, 6)), 1, 1, 6, 2), lambda x, d, a, b, s: x[:, a:b:s])
case("diagonal", A((3, 4)), np.diagonal)
case("as_strided", (A((3, 4)), (2, 2), (1, 2)), lambda x, n, s: x.ravel()[[[0, 2], [1, 3]]])
case("unfold", (A((8,)), 0, 3, 2), lambda x, d, n,
     s: np.lib.stride_tricks.sliding_window_view(x, 3)[::2])
case("flatten", (A((2, 3, 4)), 1), lambda x, d: x.reshape(2, 12))
case("unflatten", (A((2, 6)), 1, (2, 3)), lambda x, d, s: x.reshape(2, 2, 3))
case("movedim", (A((2, 3, 4)), 0, 2), np.moveaxis)
case("clone", X, np.copy)
case("contiguous", X, np.copy)
case("split", (A((5, 2)), 2), lambda x, n: (x[:2], x[2:4], x[4:]))
case("chunk", (A((5, 2)), 2), lambda x, n: (x[:3], x[3:]))
case("tensor_split", (A((5, 2)), 3), lambda x, n: tuple(np.array_split(x, 3)))
case("unbind", A((3, 2)), lambda x: tuple(x))
case("cat", ([A((2, 3)), A((1, 3))], 0), lambda xs, d: np.concatenate(xs, d))
case("stack", ([A((2, 3)), A((2, 3))], 1), lambda xs, d: np.stack(xs, d))
case("hstack", ([A((2, 3)), A((2, 1))],), np.hstack)
case("vstack", ([A((2, 3)), A((1, 3))],), np.vstack)
case("dstack", ([A((2, 3)), A((2, 3))],), np.dstack)
case("flip", (A((3, 4)), (0, 1)), np.flip)
case("roll", (A((3, 4)), 2, 1), np.roll)
case("hsplit", (A((2, 4)), 2), lambda x, n: tuple(np.hsplit(x, n)))
case("vsplit", (A((4, 2)), 2), lambda x, n: tuple(np.vsplit(x, n)))
case("dsplit", (A((1, 2, 4)), 2), lambda x, n: tuple(np.dsplit(x, n)))
case("split_with_sizes", (A((5, 2)), [2, 3]), lambda x, n: (x[:2], x[2:]))
case("unsafe_split", (A((5, 2)), 2), lambda x, n: (x[:2], x[2:4], x[4:]))
for name in ("atleast_1d", "atleast_2d", "atleast_3d"):
    case(name, A((3, 4)), getattr(np, name))
case("broadcast_tensors", (A((3, 1)), A((4,))), lambda *xs: tuple(np.broadcast_arrays(*xs)))
case("expand_as", (A((3, 1)), A((3, 4))), lambda x, y: np.broadcast_to(x, y.shape))
case("view_as", (A((3, 4)), A((2, 6))), lambda x, y: x.reshape(y.shape))
case("reshape_as", (A((3, 4)), A((2, 6))), lambda x, y: x.reshape(y.shape))
case("sum_to_size", (A((3, 4)), (3, 1)), lambda x, s: x.sum(1, keepdims=True))
case("select_backward", (A((4,)), (3, 4), 0, 1), None)
case("slice_backward", (A((2, 4)), (3, 4), 0, 0, 2, 1), None)
case("diagonal_backward", (A((3,)), (3, 4), 0, 0, 1), None)
case("rot90", A((3, 4)), np.rot90)
case("repeat", (A((3, 4)), (2, 1)), np.tile)
case("tile", (A((3, 4)), (2,)), np.tile)
case("repeat_interleave", (A((3,)), 2), np.repeat)
case("tril", A((4, 4)), np.tril)
case("triu", (A((4, 4)), 1), np.triu)
case("diag", A((3,)), np.diag)
case("trace", A((3, 3)), np.trace)
case("constant_pad_nd", (A((2, 3)), (1, 2), 0.5), lambda x, p, v: np.pad(
    x, ((0, 0), (1, 2)), constant_values=v))
for mode, numpy_mode in (("reflect", "reflect"), ("replicate", "edge"), ("circular", "wrap")):
    case("pad", (A((1, 2, 5)), (2, 1), mode), lambda x, p, m, how=numpy_mode: np.pad(
        x, ((0, 0), (0, 0), (2, 1)), how), tag=mode)
# --- indexing
# ---------------------------------------------------------------------------------------
case("gather", (A((3, 4)), 1, I((3, 2), 4)), lambda x, d, i: np.take_along_axis(x, i, d))
case("take_along_dim", (A((3, 4)), I((3, 2), 4), 1), lambda x, i, d: np.take_along_axis(x, i, d))
case("scatter", (A((3, 4)), 1, np.array([[0, 2], [1, 3], [3, 0]]), A((3, 2))), None)
case("scatter_add", (A((3, 4)), 1, I((3, 5), 4), A((3, 5))), None)
case("index_select", (A((3, 4)), 0, I((5,), 3)), lambda x, d, i: x[i])
case("index_add", (A((3, 4)), 0, I((5,), 3), A((5, 4))), None)
case("index_copy", (A((3, 4)), 0, np.array([2, 0]), A((2, 4))), None)
case("index_reduce", (A((3, 4)), 0, np.array([0, 2]), A((2, 4), 0.5, 2), "prod"), None)
case("index_fill", (A((3, 4)), 0, np.array([2, 0]), 0.5), None)
case("masked_select", (X, B()), lambda x, m: x[m])
case("take", (X, I((5,), 12)), np.take)
case("nonzero", B(), lambda m: np.argwhere(m), grad=False)
# --- contraction
# ------------------------------------------------------------------------------------
case("mm", (A((3, 4)), A((4, 2))), np.matmul)
case("bmm", (A((2, 3, 4)), A((2, 4, 2))), np.matmul)
case("matmul", (A((2, 3, 4)), A((4, 2))), np.matmul)
case("matmul", (A((4,)), A((4,))), np.matmul, tag="vectors")
case("mv", (A((3, 4)), A((4,))), np.matmul)
case("dot", (A((4,)), A((4,))), np.dot)
case("outer", (A((3,)), A((4,))), np.outer)
case("addmm", (A((2,)), A((3, 4)), A((4, 2))), lambda c, a, b: 0.5 * c + 2 * a @ b,
     {"beta": 0.5, "alpha": 2})
case("addmv", (A((3,)), A((3, 4)), A((4,))), lambda c, a, b: c + a @ b)
case("baddbmm", (A((2, 3, 2)), A((2, 3, 4)), A((2, 4, 2))), lambda c, a, b: c + a @ b)
case("linear", (A((2, 3, 4)), A((5, 4)), A((5,))), lambda x, w, b: x @ w.T + b)
case("einsum", ("bij,bjk->bik", A((2, 3, 4)), A((2, 4, 2))), np.einsum)
case("tensordot", (A((3, 4)), A((4, 2)), 1), np.tensordot)
case("kron", (A((2, 2)), A((2, 3))), np.kron)
case("linalg_multi_dot", ([A((2, 3)), A((3, 4)), A((4, 2))],), np.linalg.multi_dot)
case("chain_matmul", (A((2, 3)), A((3, 4)), A((4, 2))), lambda a, b, c: a @ b @ c)
# --- linear algebra -------------------------------------------------------------------------------
LOWER = S((2, 3, 3))
case("linalg_inv", LOWER, np.linalg.inv)
case("linalg_solve", (LOWER, A((2, 3, 2))), np.linalg.solve)
case("solve_matrices", (LOWER, A((2, 3, 2))), np.linalg.solve)
case("linalg_cholesky", LOWER, np.linalg.cholesky, grad=False)
case("cholesky", LOWER, np.linalg.cholesky, grad=False)
case("linalg_solve_triangular", (LOWER, A((2, 3, 2))),
     lambda a, b: np.linalg.solve(np.tril(a), b), {"upper": False})
case("linalg_qr", LOWER, None, second=False)
case("linalg_svdvals", A((2, 3, 2)), lambda a: np.linalg.svd(a, compute_uv=False), second=False)
case("linalg_vector_norm", (X, 3), lambda a, p: (np.abs(a) ** p).sum() ** (1 / p))
case("linalg_matrix_norm", A((2, 3, 2)), lambda a: np.linalg.norm(a, axis=(1, 2)))
case("linalg_norm", X, np.linalg.norm)
case("dist", (X, A((3, 4))), lambda a, b: np.linalg.norm(a - b))
case("renorm", (A((3, 4)), 2, 0, 1.0),
     lambda a, p, d, m: a * np.minimum(1, m / (np.linalg.norm(a, axis=1, keepdims=True) + 1e-7)))
# --- networks
# ---------------------------------------------------------------------------------------
case("conv1d", (A((2, 2, 7)), A((3, 2, 3)), A((3,)), 2, 1), None)
case("conv2d", (A((1, 2, 5, 6)), A((4, 1, 3, 2)), A((4,)), 1, 1, 1, 2), None)
case("conv3d", (A((1, 1, 3, 4, 3)), A((2, 1, 2, 2, 2))), None)
case("conv_transpose1d", (A((1, 2, 4)), A((2, 3, 3)), A((3,)), 2, 1, 1), None)
case("conv_transpose2d", (A((1, 2, 3, 3)), A((2, 2, 3, 3)), A((2,)), 2, 1), None)
case("conv_transpose3d", (A((1, 1, 2, 2, 2)), A((1, 2, 2, 2, 2))), None)
for nd in (1, 2, 3):
    shape = (1, 2, *(6, 5, 4)[:nd])
    case(f"max_pool{nd}d", (A(shape, apart=True), 2), None)
    case(f"avg_pool{nd}d", (A(shape), 2), None)
    case(f"adaptive_avg_pool{nd}d", (A(shape), (2,) * nd), None)
    case(f"lp_pool{nd}d", (A(shape, 0.2, 2.0), 2.0, 2), None)
case("layer_norm", (A((3, 4)), (4,), A((4,)), A((4,))), None)
case("rms_norm", (A((3, 4)), (4,)), None)
case("group_norm", (A((2, 4, 3)), 2, A((4,)), A((4,))), None)
case("normalize", A((3, 4)), None)
case("adaptive_max_pool3d", (A((1, 1, 4, 4, 4), apart=True), 2), None)
case("convolution", (A((1, 2, 5)), A((3, 2, 3)), A((3,)), (1,), (1,), (1,), False, (0,), 1), None)
case("embedding_dense_backward", (A((3, 2)), I((3,), 4), 4, -1, False), None)
case("embedding", (I((3, 2), 5), A((5, 4))), lambda i, w: w[i])
case("cosine_similarity", (A((3, 4)), A((3, 4))), None)
case("pairwise_distance", (A((3, 4)), A((3, 4))), None)
for name in ("mse_loss", "huber_loss", "smooth_l1_loss", "l1_loss", "soft_margin_loss"):
    case(name, (A((3, 4)), A((3, 4), 2.5, 3.0)), None)
case("nll_loss", (A((3, 4)), I((3,), 4)), lambda x, t: -x[np.arange(3), t].mean())
case("cross_entropy", (A((3, 4)), I((3,), 4)),
     lambda x, t: -sp.log_softmax(x, 1)[np.arange(3), t].mean())
case("kl_div", (A((3, 4)), A((3, 4), 0.1, 0.9)), None)
case("binary_cross_entropy", (A((3, 4), 0.1, 0.9), A((3, 4), 0.1, 0.9)),
     lambda x, t: -(t * np.log(x) + (1 - t) * np.log(1 - x)).mean())
case("binary_cross_entropy_with_logits", (X, A((3, 4), 0.1, 0.9)),
     lambda x, t: (np.logaddexp(0, x) - t * x).mean())

# Families that a table line cannot say: their rooms have tests of their own, named here.
ELSEWHERE = {
    "test_random.py": "rand randn randint randperm normal bernoulli multinomial dropout rand_like "
                      "randn_like randint_like native_dropout uniform_ normal_ log_normal_ "
                      "exponential_ cauchy_ geometric_ random_ bernoulli_ rrelu",
    "test_tensor.py": "empty zeros ones full empty_like zeros_like ones_like full_like new_empty "
                      "new_zeros new_ones new_full new_tensor empty_strided new_empty_strided "
                      "from_numpy tensor as_tensor asarray frombuffer scalar_tensor view_dtype "
                      "to_dtype copy_ fill_ zero_",
    "test_pooling.py": "max_pool1d_with_indices max_pool2d_with_indices max_pool3d_with_indices "
                       "max_unpool1d max_unpool3d",
    "test_normalization.py": "native_batch_norm native_layer_norm",
    "test_embedding.py": "embedding_renorm_",
    "test_indexing.py": "index_reduce_",
    "test_recurrent.py": "lstm gru rnn_tanh rnn_relu lstm_cell gru_cell rnn_tanh_cell "
                         "rnn_relu_cell",
    "test_ctc.py": "ctc_loss",
    "test_complex.py": "conj conj_physical resolve_conj resolve_neg real imag isreal complex polar "
                       "view_as_real view_as_complex vdot adjoint",
}
