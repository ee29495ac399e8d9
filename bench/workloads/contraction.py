"""Matrix products: bound by flops."""
from ..registry import workload


def _square(n):
    @workload(f"matmul {n}", flops=2 * n ** 3, bytes=12 * n * n, goal=0.85)
    def prepare(torch):
        a, b = torch.randn(n, n), torch.randn(n, n)
        return lambda: a @ b


for _n in (256, 512, 1024, 2048):
    _square(_n)


@workload("matmul 64", flops=2 * 64 ** 3)
def small(torch):
    a, b = torch.randn(64, 64), torch.randn(64, 64)
    return lambda: a @ b


@workload("linear 128x512 to 512", flops=2 * 128 * 512 * 512)
def linear(torch):
    layer = torch.nn.Linear(512, 512)
    x = torch.randn(128, 512)
    return lambda: layer(x).detach()


@workload("bmm 64 of 64x64x64", flops=64 * 2 * 64 ** 3)
def bmm(torch):
    a, b = torch.randn(64, 64, 64), torch.randn(64, 64, 64)
    return lambda: torch.bmm(a, b)


@workload("matmul 512 float64", flops=4 * 512 ** 3)
def double(torch):
    a = torch.randn(512, 512, dtype=torch.float64)
    b = torch.randn(512, 512, dtype=torch.float64)
    return lambda: a @ b
