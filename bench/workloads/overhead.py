"""What a call costs when there is next to nothing to compute."""
from ..registry import workload


@workload("add 1000", goal=1 / 3)
def add(torch):
    a, b = torch.randn(1000), torch.randn(1000)
    return lambda: a + b


@workload("add 1000 with grad", goal=1 / 4)
def add_with_grad(torch):
    a, b = torch.randn(1000, requires_grad=True), torch.randn(1000)
    return lambda: a + b


@workload("add_ 1000")
def add_in_place(torch):
    a, b = torch.randn(1000), torch.zeros(1000)
    return lambda: a.add_(b)


@workload("add 1000 out=")
def add_out(torch):
    a, b, out = torch.randn(1000), torch.randn(1000), torch.empty(1000)
    return lambda: torch.add(a, b, out=out)


@workload("add, mul, sum 1000 and backward")
def small_backward(torch):
    a, b = torch.randn(1000, requires_grad=True), torch.randn(1000)

    def step():
        a.grad = None
        ((a + b) * a).sum().backward()
        return a.grad
    return step


@workload("view and slice")
def views(torch):
    a = torch.randn(64, 64)
    return lambda: a[3:9].transpose(0, 1).reshape(-1)
