"""Taking, putting and sorting elements."""
from ..registry import workload


@workload("embedding 512x50 of 100k x 64", bytes=8 * 512 * 50 * 64)
def embedding(torch):
    table, indices = torch.randn(100_000, 64), torch.randint(0, 100_000, (512, 50))
    return lambda: torch.nn.functional.embedding(indices, table)


@workload("gather 1024x1024", bytes=16 * 1024 * 1024)
def gather(torch):
    x, indices = torch.randn(1024, 1024), torch.randint(0, 1024, (1024, 1024))
    return lambda: torch.gather(x, 1, indices)


@workload("sort 100k", bytes=20 * 100_000)
def sort(torch):
    x = torch.randn(100_000)
    return lambda: torch.sort(x)[0]


@workload("topk 10 of 256x4096", bytes=4 * 256 * 4096)
def topk(torch):
    x = torch.randn(256, 4096)
    return lambda: torch.topk(x, 10)[0]


@workload("cumsum 1024x1024", bytes=8 * 1024 * 1024)
def cumsum(torch):
    x = torch.randn(1024, 1024)
    return lambda: torch.cumsum(x, 1)


@workload("cat 8 of 128x1024", bytes=8 * 8 * 128 * 1024)
def cat(torch):
    parts = [torch.randn(128, 1024) for _ in range(8)]
    return lambda: torch.cat(parts)
