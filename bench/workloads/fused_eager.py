"""Composites and gradient rules of several ops in eager mode, forward and backward.

Bounded by bytes if each runs as one kernel: what goes in is read once forward and once backward,
and each gradient is written once.
"""
from ..registry import workload

COUNT = 1 << 20


def _trained(name, call, shapes, arrays, goal=None, positive=()):
    """Call and backward for the first input; ``arrays`` of the size of one input are moved."""
    count = 1
    for size in shapes[0]:
        count *= size

    @workload(f"{name} and backward", bytes=4 * arrays * count, goal=goal)
    def prepare(torch):
        inputs = [torch.rand(*s) + 0.1 if i in positive else torch.randn(*s)
                  for i, s in enumerate(shapes)]
        x = inputs[0].requires_grad_()

        def step():
            x.grad = None
            result = call(torch, *inputs)
            (result if result.dim() == 0 else result.sum()).backward()
            return x.grad
        return step


_trained("huber_loss 1M", lambda torch, x, t: torch.nn.functional.huber_loss(x, t),
         [(COUNT,)] * 2, 5)
_trained("kl_div 1M", lambda torch, x, t: torch.nn.functional.kl_div(x, t, reduction="sum"),
         [(COUNT,)] * 2, 4, positive=(1,))
_trained("gaussian_nll_loss 1M",
         lambda torch, x, t, v: torch.nn.functional.gaussian_nll_loss(x, t, v),
         [(COUNT,)] * 3, 8, positive=(2,))
_trained("bce_with_logits weighted 1M",
         lambda torch, x, t, w: torch.nn.functional.binary_cross_entropy_with_logits(x, t, w),
         [(COUNT,)] * 3, 7, positive=(1, 2))
_trained("cosine_similarity 4096x256",
         lambda torch, x, y: torch.nn.functional.cosine_similarity(x, y), [(4096, 256)] * 2, 5)
_trained("normalize 4096x256", lambda torch, x: torch.nn.functional.normalize(x),
         [(4096, 256)], 4)
_trained("std 4096x256", lambda torch, x: torch.std(x, 1), [(4096, 256)], 3)


@workload("atan2 1M, both gradients", bytes=4 * 8 * COUNT)
def both_gradients(torch):
    """One rule with eight ops."""
    x, y = (torch.randn(COUNT, requires_grad=True) for _ in range(2))
    seed = torch.randn(COUNT)

    def step():
        x.grad = y.grad = None
        torch.atan2(x, y).backward(seed)
        return x.grad, y.grad
    return step


@workload("huber_loss 1200 and backward")
def small(torch):
    """Bounded by calls: next to nothing to compute."""
    x, t = torch.randn(1200, requires_grad=True), torch.randn(1200)

    def step():
        x.grad = None
        torch.nn.functional.huber_loss(x, t).backward()
        return x.grad
    return step
