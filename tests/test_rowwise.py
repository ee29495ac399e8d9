"""Softmax, layer norm and class losses in recorded programs: one kernel with what stands around
them, and equal to what eager kernels give."""
import math

import numpy as np
import pytest

import ntorch
from ntorch.jit import ir
from ntorch.nn import functional


@pytest.fixture(autouse=True)
def seeded():
    ntorch.manual_seed(3)


def kernels(compiled):
    """The launches of all programs of a compiled function."""
    return [node for variant in compiled.programs() for _, program in variant.programs()
            for node in program.nodes if isinstance(node, ir.Launch)]


def graded(function):
    """``function`` and the gradients of its sum against fixed numbers, in what wants them."""
    def run(*tensors):
        result = function(*tensors)
        share = ntorch.linspace(-1.0, 1.0, result.numel(), dtype=result.dtype).reshape(result.shape)
        wanted = [t for t in tensors if t.requires_grad]
        return (result, *ntorch.autograd.grad((result * share).sum(), wanted))
    return run


def compared(function, *tensors, rtol=1e-5, atol=1e-6):
    """The compiled function, whose results are eager's."""
    compiled, expected = ntorch.compile(function), function(*tensors)
    for _ in range(2):
        found = compiled(*tensors)
        pairs = zip(found, expected, strict=True) if isinstance(found, tuple) else [
            (found, expected)]
        for one, other in pairs:
            assert one.dtype is other.dtype and one.shape == other.shape
            np.testing.assert_allclose(one.detach().double().numpy(),
                                       other.detach().double().numpy(), rtol, atol)
    return compiled


SHAPES = [(64, 10), (3, 5, 37), (1, 1), (2, 4097), (40, 9000), (5, 1)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", ["softmax", "log_softmax", "softmin"])
def test_softmax_is_one_kernel(name, shape):
    x = ntorch.randn(*shape)
    compiled = compared(lambda x: getattr(functional, name)(x * 2 - 1, -1), x)
    assert len(kernels(compiled)) == 1 + (shape[-1] == 1)


@pytest.mark.parametrize("dtype,rtol", [
    (ntorch.float64, 1e-12), (ntorch.float16, 2e-3), (ntorch.bfloat16, 2e-2)], ids=str)
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_other_types(name, dtype, rtol):
    x = ntorch.randn(20, 33).to(dtype).requires_grad_()
    compared(graded(lambda x: getattr(ntorch, name)(x, -1)), x, rtol=rtol, atol=rtol)


def test_softmax_of_special_rows():
    inf, nan = math.inf, math.nan
    x = ntorch.tensor([[0.0, -inf, 1.0], [-inf, -inf, -inf], [nan, 1.0, 2.0], [inf, 0.0, 0.0],
                       [-1e30, 1e30, 0.0]])
    compared(lambda x: (ntorch.softmax(x, -1), ntorch.log_softmax(x, -1)), x)


def test_log_softmax_beside_a_large_maximum():
    x = ntorch.rand(16, 50, dtype=ntorch.float64) * 8
    wide = (x.float() + 2.0 ** 24).contiguous()
    reference = ntorch.log_softmax(wide.double(), -1)
    found = compared(lambda x: ntorch.log_softmax(x, -1), wide)(wide)
    assert float((found.double() - reference).abs().max()) < 2e-6


def test_attention_rows_are_one_kernel():
    scores, hidden = ntorch.randn(4, 3, 20, 20), ntorch.rand(4, 1, 1, 20) > 0.8
    bias = ntorch.zeros(4, 1, 1, 20).masked_fill(hidden, -math.inf)

    def attend(scores, bias):
        return ntorch.softmax(scores * 0.125 + bias, -1)
    assert len(kernels(compared(attend, scores, bias))) == 1

    drop = ntorch.compile(lambda scores, bias: functional.dropout(attend(scores, bias), 0.25))
    found = drop(scores, bias)
    assert len(kernels(drop)) == 2                  # the mask, and all the rest
    kept = found != 0
    np.testing.assert_allclose(found[kept].numpy(), (attend(scores, bias) / 0.75)[kept].numpy(),
                               1e-5)


@pytest.mark.parametrize("affine", ["both", "weight", "none"])
@pytest.mark.parametrize("shape,k", [((30, 48), 1), ((4, 5, 6, 7), 2), ((2, 4097), 1), ((1, 1), 1)],
                         ids=str)
def test_layer_norm_with_a_residual_is_one_kernel(shape, k, affine):
    x, residual = (ntorch.randn(*shape) for _ in range(2))
    parameters = [ntorch.rand(*shape[-k:]) for _ in range(2)][:2 if affine == "both" else 1]
    if affine == "none":
        parameters = []
    compiled = compared(lambda x, r, *p: functional.layer_norm(x + r, shape[-k:], *p), x, residual,
                        *parameters, rtol=1e-4)
    assert len(kernels(compiled)) == 1 + (shape[-1] == 1)


@pytest.mark.parametrize("norm", ["layer_norm", "rms_norm"])
@pytest.mark.parametrize("dtype,rtol", [
    (ntorch.float32, 1e-4), (ntorch.float64, 1e-11), (ntorch.bfloat16, 5e-2)], ids=str)
def test_gradients_of_row_norms(norm, dtype, rtol):
    x = ntorch.randn(6, 10, 24).to(dtype).requires_grad_()
    weight = ntorch.rand(24).to(dtype).requires_grad_()
    function = getattr(functional, norm)
    compared(graded(lambda x, w: function(x, (24,), w, eps=1e-5)), x, weight, rtol=rtol, atol=rtol)


def test_layer_norm_far_from_zero():
    x = ntorch.randn(20, 64) + 3e4
    compared(lambda x: functional.layer_norm(x, (64,)), x, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("ignored", [-100, 3])
def test_cross_entropy(reduction, weighted, ignored):
    x, target = ntorch.randn(64, 10, requires_grad=True), ntorch.randint(0, 10, (64,))
    target[5] = ignored
    weight = ntorch.rand(10) if weighted else None
    compared(graded(lambda x, target: functional.cross_entropy(
        x, target, weight, ignore_index=ignored, reduction=reduction)), x, target)


def test_cross_entropy_in_few_kernels():
    x, target = ntorch.randn(64, 10, requires_grad=True), ntorch.randint(0, 10, (64,))

    def step(x, target):
        loss = functional.cross_entropy(x * 2, target)
        return loss, *ntorch.autograd.grad(loss, [x])
    # targets are checked and counted; rows, forward and backward; the sum of the losses
    assert len(kernels(compared(step, x, target))) <= 4


def test_nan_beside_the_class_does_not_reach_the_loss():
    x, target = ntorch.randn(4, 5), ntorch.tensor([0, 1, 2, 3])
    x[:, 4] = math.nan
    compared(lambda x, target: functional.nll_loss(x, target), x, target)


def test_all_targets_ignored():
    x = ntorch.randn(3, 4, requires_grad=True)
    compared(graded(lambda x, t: functional.cross_entropy(x, t)), x, ntorch.full((3,), -100))


def test_a_wrong_class_is_found_at_every_run():
    loss = ntorch.compile(lambda x, target: functional.cross_entropy(x, target))
    x, target = ntorch.randn(8, 4), ntorch.randint(0, 4, (8,))
    loss(x, target)
    target[6] = 4
    for _ in range(2):
        with pytest.raises(IndexError, match="Target 4 is out of bounds"):
            loss(x, target)
    target[6] = 0
    np.testing.assert_allclose(float(loss(x, target)), float(functional.cross_entropy(x, target)),
                               1e-6)


def test_classes_along_a_middle_dimension():
    x, target = ntorch.randn(3, 6, 4, 5, requires_grad=True), ntorch.randint(0, 6, (3, 4, 5))
    compared(graded(lambda x, target: functional.cross_entropy(x, target)), x, target)


@pytest.mark.parametrize("shape", [(0, 5), (3, 0)], ids=str)
def test_no_elements(shape):
    x = ntorch.randn(*shape)
    compared(lambda x: (ntorch.softmax(x, -1), ntorch.log_softmax(x, -1)), x)


# --- a weight per channel -----------------------------------------------------------------------


def batch_norm(x, weight, bias, mean, var):
    """Batch norm in training with the activation behind it."""
    return ntorch.relu(functional.batch_norm(x, mean, var, weight, bias, True, 0.1))


@pytest.mark.parametrize("shape", [
    (8, 16, 7, 9), (3, 5, 40), (2, 3, 3, 4, 5), (40, 12), (4, 20, 1, 1), (2, 4, 200, 400)], ids=str)
@pytest.mark.parametrize("dtype,rtol", [
    (ntorch.float32, 2e-4), (ntorch.float64, 1e-11), (ntorch.bfloat16, 6e-2)], ids=str)
def test_batch_norm_in_training(shape, dtype, rtol):
    x = (ntorch.randn(*shape) * 2 + 1).to(dtype).requires_grad_()
    weight, bias = ((ntorch.rand(shape[1]) + 0.5).to(dtype).requires_grad_() for _ in range(2))
    running = [(ntorch.zeros(shape[1]), ntorch.ones(shape[1])) for _ in range(2)]
    compiled = ntorch.compile(graded(lambda x, w, b: batch_norm(x, w, b, *running[0])))
    plain = graded(lambda x, w, b: batch_norm(x, w, b, *running[1]))
    for _ in range(3):
        for one, other in zip((*compiled(x, weight, bias), *running[0]),
                              (*plain(x, weight, bias), *running[1]), strict=True):
            assert one.dtype is other.dtype
            scale = max(1.0, float(other.detach().abs().max()))
            np.testing.assert_allclose(one.detach().double().numpy(),
                                       other.detach().double().numpy(), rtol, rtol * scale)


def test_batch_norm_and_its_backward_are_one_kernel_each():
    x = ntorch.randn(8, 16, 7, 9, requires_grad=True)
    weight, bias = (ntorch.rand(16).requires_grad_() for _ in range(2))
    mean, var = ntorch.zeros(16), ntorch.ones(16)
    compiled = ntorch.compile(lambda x, w, b: batch_norm(x, w, b, mean, var))
    compiled(x, weight, bias).sin().sum().backward()
    forward, backward = (program for _, program in compiled.programs()[-1].programs())
    assert len(forward.nodes) == 1 and len(backward.nodes) == 1


def test_batch_norm_far_from_zero():
    x = ntorch.randn(8, 16, 20) + 2e4
    reference = x.double()
    reference = (reference - reference.mean((0, 2), True)) / (
        reference.var((0, 2), correction=0, keepdim=True) + 1e-5).sqrt()
    found = ntorch.compile(lambda x: functional.batch_norm(x, None, None, training=True))(x)
    # the mean is right to a few times its own last place, as in eager
    assert float((found.double() - reference).abs().max()) < 4 * 2.0 ** -23 * 2e4


def test_batch_norm_has_the_same_bits_on_any_number_of_threads():
    x = ntorch.randn(8, 32, 30, 30, requires_grad=True)
    weight, bias = (ntorch.rand(32).requires_grad_() for _ in range(2))
    compiled = ntorch.compile(graded(
        lambda x, w, b: functional.batch_norm(x, None, None, w, b, True)))
    results, before = [], ntorch.get_num_threads()
    try:
        for count in (1, 2):
            ntorch.set_num_threads(count)
            compiled(x, weight, bias)
            results.append(compiled(x, weight, bias))
    finally:
        ntorch.set_num_threads(before)
    assert all(ntorch.equal(one, other) for one, other in zip(*results, strict=True))


@pytest.mark.parametrize("name", ["group_norm", "instance_norm"])
@pytest.mark.parametrize("affine", [False, True])
def test_group_and_instance_norm(name, affine):
    x = ntorch.randn(6, 8, 5, 7, requires_grad=True)
    parameters = [ntorch.rand(8).requires_grad_() for _ in range(2 * affine)]

    def function(x, weight=None, bias=None):
        if name == "group_norm":
            return functional.group_norm(x, 4, weight, bias)
        return functional.instance_norm(x, weight=weight, bias=bias)
    compared(graded(function), x, *parameters, rtol=1e-4, atol=1e-5)
