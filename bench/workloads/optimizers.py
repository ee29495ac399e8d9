"""Optimizer steps: bound by bytes."""
from ..registry import workload

COUNT = 20 * 50_000


def _steps(name, arrays, goal=None, **options):
    @workload(f"{name} over 20 tensors of 50k", bytes=arrays * 4 * COUNT, goal=goal)
    def prepare(torch):
        parameters = [torch.randn(50_000, requires_grad=True) for _ in range(20)]
        for parameter in parameters:
            parameter.grad = torch.randn(50_000)
        optimizer = getattr(torch.optim, name)(parameters, **options)

        def step():
            optimizer.step()
        return step


_steps("Adam", 7, goal=1.0)
_steps("AdamW", 7)
_steps("SGD", 5, lr=1e-3, momentum=0.9)
