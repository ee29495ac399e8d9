"""Connectionist temporal classification, forward and backward."""
from ..registry import workload


@workload("CTC and backward T150 N32 C80 S40", bytes=3 * 4 * 150 * 32 * 80, goal=4.0)
def ctc(torch):
    scores = torch.randn(150, 32, 80).log_softmax(2).requires_grad_()
    targets = torch.randint(1, 80, (32, 40))
    steps = torch.full((32,), 150, dtype=torch.long)
    lengths = torch.full((32,), 40, dtype=torch.long)

    def step():
        scores.grad = None
        torch.nn.functional.ctc_loss(scores, targets, steps, lengths).backward()
        return scores.grad
    return step
