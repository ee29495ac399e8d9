"""Pooling: bound by bytes."""
from ..registry import workload


@workload("max_pool2d 32x64x56x56 k3 s2", bytes=4 * 32 * 64 * (56 * 56 + 28 * 28), goal=3.0)
def max_pool2d(torch):
    x = torch.randn(32, 64, 56, 56)
    return lambda: torch.nn.functional.max_pool2d(x, 3, 2, 1)


@workload("avg_pool2d 32x64x56x56 k2", bytes=4 * 32 * 64 * (56 * 56 + 28 * 28))
def avg_pool2d(torch):
    x = torch.randn(32, 64, 56, 56)
    return lambda: torch.nn.functional.avg_pool2d(x, 2)


@workload("adaptive_avg_pool2d 32x256x14x14 to 1", bytes=4 * 32 * 256 * 14 * 14)
def adaptive(torch):
    x = torch.randn(32, 256, 14, 14)
    return lambda: torch.nn.functional.adaptive_avg_pool2d(x, 1)
