"""Reductions and what normalises rows: one or two passes over the data."""
from ..registry import workload


@workload("softmax 512x1000", bytes=8 * 512 * 1000, goal=1.0)
def softmax(torch):
    x = torch.randn(512, 1000)
    return lambda: torch.softmax(x, -1)


@workload("layer_norm 4096x768", bytes=8 * 4096 * 768, goal=1.0)
def layer_norm(torch):
    x, weight, bias = torch.randn(4096, 768), torch.randn(768), torch.randn(768)
    return lambda: torch.nn.functional.layer_norm(x, (768,), weight, bias)


def _sum(axis):
    @workload(f"sum over axis {axis} of 1024x4096", bytes=4 * 1024 * 4096, goal=1.0)
    def prepare(torch):
        x = torch.randn(1024, 4096)
        return lambda: x.sum(axis)


_sum(0)
_sum(1)


@workload("batch_norm 32x64x28x28 training", bytes=12 * 32 * 64 * 28 * 28)
def batch_norm(torch):
    layer = torch.nn.BatchNorm2d(64)
    x = torch.randn(32, 64, 28, 28)
    return lambda: layer(x).detach()


@workload("cross_entropy 512x1000", bytes=4 * 512 * 1000)
def cross_entropy(torch):
    x, target = torch.randn(512, 1000), torch.randint(0, 1000, (512,))
    return lambda: torch.nn.functional.cross_entropy(x, target)


@workload("argmax rows of 1024x4096", bytes=4 * 1024 * 4096)
def argmax(torch):
    x = torch.randn(1024, 4096)
    return lambda: x.argmax(1)
