"""Convolution against a sum written out in NumPy, over sizes, strides, padding, dilation,
groups."""
import itertools

import numpy as np
import pytest

import ntorch
from ntorch.nn import functional as F

# batch, channels, filters, groups, image, kernel, stride, padding, dilation
GEOMETRIES = [
    (2, 3, 5, 1, (9,), (3,), (1,), (1,), (1,)),
    (1, 4, 6, 2, (10,), (4,), (3,), (2,), (2,)),
    (2, 3, 5, 1, (7, 9), (3, 3), (1, 1), (1, 1), (1, 1)),
    (2, 4, 6, 2, (8, 8), (3, 2), (2, 1), (1, 0), (1, 1)),
    (1, 6, 6, 6, (9, 9), (3, 3), (2, 2), (1, 1), (1, 1)),
    (2, 3, 6, 3, (5, 6), (2, 3), (1, 2), (0, 1), (1, 1)),
    (1, 2, 3, 1, (12, 11), (3, 3), (2, 3), (2, 1), (2, 1)),
    (3, 8, 16, 1, (5, 5), (1, 1), (1, 1), (0, 0), (1, 1)),
    (1, 2, 4, 1, (10, 10), (2, 2), (3, 3), (0, 0), (1, 1)),
    (1, 33, 40, 1, (6, 37), (3, 3), (1, 1), (1, 1), (1, 1)),
    (1, 2, 2, 1, (4, 5, 6), (2, 3, 2), (1, 2, 1), (1, 1, 0), (1, 1, 2)),
    (1, 2, 2, 1, (3, 3), (3, 3), (1, 1), (0, 0), (1, 1)),
]
every = pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)


def reference(x, w, b, stride, padding, dilation, groups):
    """The definition, position by position, in float64."""
    nd = x.ndim - 2
    x = np.pad(x, [(0, 0), (0, 0), *((p, p) for p in padding)])
    kernel = w.shape[2:]
    grid = [(x.shape[2 + d] - dilation[d] * (kernel[d] - 1) - 1) // stride[d] + 1
            for d in range(nd)]
    per_group, rows = w.shape[1], w.shape[0] // groups
    out = np.zeros((x.shape[0], w.shape[0], *grid))
    for o in range(w.shape[0]):
        lead = (o // rows) * per_group
        for position in itertools.product(*map(range, grid)):
            window = tuple(slice(p * s, p * s + d * (k - 1) + 1, d) for p, s, d, k in zip(
                position, stride, dilation, kernel, strict=True))
            patch = x[(slice(None), slice(lead, lead + per_group), *window)]
            out[(slice(None), o, *position)] = (patch * w[o]).reshape(x.shape[0], -1).sum(1) + b[o]
    return out


def operands(geometry, dtype):
    n, c, o, groups, image, kernel = geometry[:6]
    rng = np.random.default_rng(sum(image))
    return (rng.standard_normal((n, c, *image)).astype(dtype),
            rng.standard_normal((o, c // groups, *kernel)).astype(dtype),
            rng.standard_normal(o).astype(dtype))


def conv(geometry):
    return getattr(F, f"conv{len(geometry[4])}d")


@every
@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
def test_forward(geometry, dtype):
    x, w, b = operands(geometry, dtype)
    stride, padding, dilation, groups = *geometry[6:], geometry[3]
    got = conv(geometry)(*map(ntorch.from_numpy, (x, w, b)), stride, padding, dilation, groups)
    wanted = reference(*(a.astype(np.float64) for a in (x, w, b)), stride, padding, dilation,
                       groups)
    np.testing.assert_allclose(got.numpy(), wanted, rtol=0, atol=2e-4 if dtype is np.float32
                               else 1e-12)


@every
def test_adjoint(geometry):
    """``<conv(x), g> = <x, conv_input(g)> = <w, conv_weight(g)>``: the gradients are the
    adjoints."""
    x, w, b = (ntorch.from_numpy(a).requires_grad_() for a in operands(geometry, np.float64))
    out = conv(geometry)(x, w, b, *geometry[6:], geometry[3])
    grad = ntorch.from_numpy(np.random.default_rng(1).standard_normal(tuple(out.shape)))
    gx, gw, gb = ntorch.autograd.grad(out, (x, w, b), grad)
    plain = (out.detach() - b.detach().reshape(-1, *[1] * len(geometry[4])))
    inner = (plain * grad).sum().item()
    assert abs((x.detach() * gx).sum().item() - inner) < 1e-9 * (1 + abs(inner))
    assert abs((w.detach() * gw).sum().item() - inner) < 1e-9 * (1 + abs(inner))
    np.testing.assert_allclose(gb.numpy(), grad.sum((0, *range(2, grad.dim()))).numpy(), atol=1e-12)


@every
def test_against_torch(geometry):
    torch = pytest.importorskip("torch")
    results = []
    for module in (ntorch, torch):
        x, w, b = (module.from_numpy(a).requires_grad_() for a in operands(geometry, np.float64))
        f = module.nn.functional
        out = getattr(f, f"conv{len(geometry[4])}d")(x, w, b, *geometry[6:], geometry[3])
        grads = module.autograd.grad((out * out).sum(), (x, w, b), create_graph=True)
        again = module.autograd.grad(sum((g * g).sum() for g in grads), (x, w))
        results.append([t.detach().numpy() for t in (out, *grads, *again)])
    for got, wanted in zip(*results, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-9, atol=1e-8)


@pytest.mark.parametrize("stride,padding,extra,dilation", [
    (1, 0, 0, 1), (2, 1, 1, 1), (3, 2, 2, 2), ((2, 3), (1, 0), (1, 2), (1, 2))])
def test_transposed_against_torch(stride, padding, extra, dilation):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(2)
    x, w, b = (rng.standard_normal(s) for s in ((2, 4, 5, 6), (4, 3, 3, 2), (6,)))
    got, wanted = (m.nn.functional.conv_transpose2d(
        *map(m.from_numpy, (x, w, b)), stride, padding, extra, 2, dilation)
            for m in (ntorch, torch))
    np.testing.assert_allclose(got.numpy(), wanted.numpy(), rtol=0, atol=1e-12)


def test_padding_words_and_unbatched():
    x, w = ntorch.randn(3, 8), ntorch.randn(5, 3, 4)
    assert F.conv1d(x, w, padding="same").shape == (5, 8)
    assert F.conv1d(x, w, padding="valid").shape == (5, 5)
    assert F.conv1d(x.new_zeros(0, 3, 8), w).shape == (0, 5, 5)


def test_half_types_round_once():
    x, w = ntorch.randn(1, 2, 5, 5), ntorch.randn(3, 2, 3, 3)
    for dtype in (ntorch.float16, ntorch.bfloat16):
        a, b = x.to(dtype), w.to(dtype)
        assert ntorch.equal(F.conv2d(a, b), F.conv2d(a.float(), b.float()).to(dtype))


def test_threads_do_not_change_bits():
    x, w = ntorch.randn(4, 16, 30, 30), ntorch.randn(24, 16, 3, 3)
    results = []
    before = ntorch.get_num_threads()
    try:
        for threads in (1, 2):
            ntorch.set_num_threads(threads)
            a, b = x.clone().requires_grad_(), w.clone().requires_grad_()
            out = F.conv2d(a, b, padding=1)
            results.append([out.detach(), *ntorch.autograd.grad(out.sum(), (a, b))])
    finally:
        ntorch.set_num_threads(before)
    assert all(ntorch.equal(p, q) for p, q in zip(*results, strict=True))


@pytest.mark.parametrize("arguments,words", [
    (((1, 3, 5, 5), (4, 2, 3, 3)), "to have 2 channels, but got 3"),
    (((5, 5), (4, 2, 3, 3)), "Expected 3D .unbatched. or 4D .batched. input to conv2d"),
    (((1, 2, 2, 2), (4, 2, 3, 3)), "Kernel size can't be greater than actual input size"),
    (((1, 2, 5, 5), (4, 2, 3, 3), (3,)), "expected bias to be 1-dimensional with 4 elements"),
    (((1, 2, 5, 5), (4, 2, 3, 3), None, 0), "non-positive stride"),
    (((1, 2, 5, 5), (4, 2, 3, 3), None, 1, -1), "negative padding"),
    (((1, 2, 5, 5), (4, 2, 3, 3), None, 2, "same"), "not supported for strided"),
])
def test_errors(arguments, words):
    tensors = [ntorch.zeros(a) if isinstance(a, tuple) else a for a in arguments]
    with pytest.raises(RuntimeError, match=words):
        F.conv2d(*tensors)
