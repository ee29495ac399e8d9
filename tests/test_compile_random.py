"""Random programs from Hypothesis: eager, compiled and lazy agree in values and gradients.

A program is a list of steps over a growing list of tensors: pointwise ops with broadcasting and
mixed dtypes, views, in-place writes (through views too), reductions, products, shared
subexpressions.
"""
import functools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

import ntorch

DTYPES = (ntorch.float32, ntorch.float64, ntorch.int64, ntorch.bool, ntorch.float16)
UNARY = ("neg", "abs", "tanh", "sigmoid", "exp", "relu", "sin")
BINARY = ("add", "sub", "mul", "maximum", "eq", "lt")
REDUCE = ("sum", "amax", "mean", "prod")
INPLACE = ("add_", "mul_", "sub_", "copy_")
SHAPES = ((3, 4), (1, 4), (3, 1), (4,), (), (2, 3, 4), (0, 4), (1,), (4, 3))

step = st.tuples(
    st.sampled_from(("unary", "binary", "number", "reduce", "view", "inplace", "cast", "matmul",
                     "where", "softmax")),
    st.integers(0, 1 << 20), st.integers(0, 1 << 20), st.integers(0, 1 << 20))


def _floating(t):
    return t if t.is_floating_point() else t.to(ntorch.float32)


def _view(t, choice):
    forms = [lambda: t]
    if t.dim() >= 2:
        forms += [t.t if t.dim() == 2 else lambda: t.transpose(0, -1), lambda: t[:, :1],
                  lambda: t.flatten()]
    if t.dim() >= 1:
        forms += [lambda: t.unsqueeze(0), lambda: t[1:], lambda: t[::2], lambda: t[..., None],
                  lambda: t.expand(2, *t.shape)]
    return forms[choice % len(forms)]()


def _apply(kind, a, b, choice):
    if kind == "unary":
        name = UNARY[choice % len(UNARY)]
        return getattr(_floating(a) if name not in ("neg", "abs") or a.dtype is ntorch.bool else a,
                       name)()
    if kind == "binary":
        return getattr(ntorch, BINARY[choice % len(BINARY)])(
            *(x.to(ntorch.int64) if x.dtype is ntorch.bool else x for x in (a, b)))
    if kind == "number":
        return (a.to(ntorch.int64) if a.dtype is ntorch.bool else a) * (choice % 5) + 1
    if kind == "reduce":
        if not a.numel() or not a.dim():
            return a.sum()
        name, dim = REDUCE[choice % len(REDUCE)], choice % a.dim()
        a = _floating(a) if name == "mean" else a
        return getattr(a, name)(dim) if choice & 64 else getattr(a, name)(dim, keepdim=True)
    if kind == "cast":
        return a.to(DTYPES[choice % len(DTYPES)])
    if kind == "matmul":
        return _floating(a).double().reshape(1, -1) @ _floating(a).double().reshape(-1, 1)
    if kind == "where":
        return ntorch.where(a > 0, a, b) if a.dtype is b.dtype else a
    if kind == "softmax":
        return _floating(a).softmax(-1) if a.dim() and a.numel() else a
    return _view(a, choice)


def run(steps, inputs):
    """The tensors that the steps make."""
    pool = list(inputs)
    for kind, i, j, choice in steps:
        a, b = pool[i % len(pool)], pool[j % len(pool)]
        try:
            if kind == "inplace":
                # leaves that want gradients must not be written; their copies may
                target = a if not a.requires_grad else a * 1
                getattr(_view(target, choice), INPLACE[choice % len(INPLACE)])(
                    b.detach() if choice & 8 else b)
                pool.append(target)
            else:
                pool.append(_apply(kind, a, b, choice))
        except (RuntimeError, IndexError) as error:     # shapes that do not fit: the same for all
            if "tracing" in str(error) or "trace" in str(error):
                raise
    return pool[len(inputs):]


def make(shapes, seed, grad):
    rng = np.random.default_rng(seed)
    made = []
    for shape, dtype in shapes:
        t = ntorch.from_numpy(np.array(rng.uniform(-2, 2, shape))).to(dtype)
        made.append(t.requires_grad_() if grad and t.is_floating_point() else t)
    return made


def gradients(inputs, outputs):
    leaves = [t for t in inputs if t.requires_grad]
    roots = [o for o in outputs if o.requires_grad]
    if not leaves or not roots:
        return []
    found = ntorch.autograd.grad(roots, leaves, [ntorch.ones_like(r) for r in roots],
                                 allow_unused=True)
    return [g for g in found if g is not None]


def check(got, wanted):
    assert len(got) == len(wanted)
    for g, w in zip(got, wanted, strict=True):
        assert g.dtype is w.dtype and g.shape == w.shape
        half = g.dtype is ntorch.float16
        np.testing.assert_allclose(
            g.detach().double().numpy(), w.detach().double().numpy(),
            rtol=4e-3 if half else 1e-5, atol=4e-3 if half else 1e-5)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(step, min_size=1, max_size=12),
       st.lists(st.tuples(st.sampled_from(SHAPES), st.sampled_from(DTYPES)), min_size=1,
                max_size=3),
       st.integers(0, 1000), st.booleans())
def test_programs_agree(steps, shapes, seed, grad):
    with np.errstate(all="ignore"):
        inputs = make(shapes, seed, grad)
        wanted = run(steps, inputs)
        slopes = gradients(inputs, wanted)
        after = [t.detach() for t in inputs]
        compiled = ntorch.compile(functools.partial(run, steps))
        for _ in range(2):
            again = make(shapes, seed, grad)
            got = compiled(again)
            check(got, wanted)
            check(gradients(again, got), slopes)
            check([t.detach() for t in again], after)
        again = make(shapes, seed, grad)
        with ntorch.lazy():
            got = run(steps, again)
        check(got, wanted)
        check(gradients(again, got), slopes)
