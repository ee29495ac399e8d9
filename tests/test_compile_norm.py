"""Batch norm behind convolutions in compiled evaluation: no pass of its own, no stale answer."""
import pytest

import ntorch
from ntorch import nn


@pytest.mark.parametrize(("convolution", "shape"), [
    (lambda: nn.Conv2d(8, 16, 3, padding=1, bias=False), (2, 8, 9, 9)),
    (lambda: nn.Conv2d(32, 16, 1), (2, 32, 7, 5)),
    (lambda: nn.Conv2d(8, 16, 3, stride=2), (2, 8, 12, 12)),
    (lambda: nn.Conv2d(16, 16, 3, groups=16, padding=1), (2, 16, 12, 16))])
def test_batch_norm_in_evaluation_costs_no_pass_and_is_never_stale(convolution, shape):
    """The scale and shift of each channel are in the epilogue of the convolution: the only other
    launch has a number for each channel."""
    ntorch.manual_seed(3)
    model = nn.Sequential(convolution(), nn.BatchNorm2d(16), nn.ReLU()).eval()
    norm, x = model[1], ntorch.randn(shape)
    fast = ntorch.compile(model)

    def check():
        with ntorch.no_grad():
            assert ntorch.allclose(fast(x), model(x), rtol=1e-4, atol=1e-5)
    check()
    program = fast.programs()[0].forward
    assert [n.name for n in program.nodes if "_convolution" in n.name] == [
        "_convolution+sub+mul+add+_relu"]
    activations = 4 * model(x).numel()
    for node in program.nodes:
        if "_convolution" not in node.name:
            assert all(b.nbytes < activations for b in node.written_buffers())
    with ntorch.no_grad():
        for tensor in (norm.running_mean, norm.running_var, norm.weight, norm.bias,
                       model[0].weight):
            tensor.mul_(1.5).add_(0.25)
            check()
    norm.load_state_dict({k: v + 1 for k, v in norm.state_dict().items()})
    check()
    model.train()
    model(x)                    # running statistics move in place
    model.eval()
    check()
    assert len(fast.programs()) == 1
    norm.running_mean = norm.running_mean * 2
    check()
    norm.weight.data = norm.weight.data + 1
    check()
    norm.eps = 0.5
    check()
    assert len(fast.programs()) == 4
