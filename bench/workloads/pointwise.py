"""One result per element: bound by bytes once the arithmetic is vectorised."""
from ..registry import workload

COUNT = 1 << 20


def _unary(name, goal):
    @workload(f"{name} 1M", bytes=8 * COUNT, goal=goal)
    def prepare(torch):
        x = torch.randn(COUNT)
        function = getattr(torch, name)
        return lambda: function(x)


for _name in ("exp", "tanh", "sigmoid", "erf"):
    _unary(_name, 1.3)
for _name in ("sin", "cos", "abs"):
    _unary(_name, None)


@workload("add 1M", bytes=12 * COUNT)
def add(torch):
    a, b = torch.randn(COUNT), torch.randn(COUNT)
    return lambda: a + b


@workload("where on broadcast 1024x1024", bytes=9 * COUNT)
def where(torch):
    x, row = torch.randn(1024, 1024), torch.randn(1024)
    return lambda: torch.where(x > 0, x, row)
