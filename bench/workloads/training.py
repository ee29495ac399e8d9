"""Whole training steps: everything together."""
from ..registry import workload
from .models import lenet, mlp, residual_block


def _step(torch, model, loss_of, rate=1e-3):
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)

    def step():
        optimizer.zero_grad()
        loss = loss_of(model)
        loss.backward()
        optimizer.step()
        return loss
    return step


def _classify(torch, model, shape):
    x, target = torch.randn(*shape), torch.randint(0, 10, (shape[0],))
    return _step(torch, model, lambda m: torch.nn.functional.cross_entropy(m(x), target))


@workload("MLP 784-256-256-10 step B64", flops=3 * 2 * 64 * (784 * 256 + 256 * 256 + 2560))
def mlp_step(torch):
    return _classify(torch, mlp(torch), (64, 784))


@workload("LeNet step B64", flops=3 * 2 * 64 * (6 * 25 * 784 + 16 * 150 * 100 + 400 * 120))
def lenet_step(torch):
    return _classify(torch, lenet(torch), (64, 1, 28, 28))


@workload("residual block step 16x64x28x28", flops=3 * 2 * 2 * 16 * 64 * 784 * 64 * 9)
def residual_step(torch):
    x = torch.randn(16, 64, 28, 28)
    return _step(torch, residual_block(torch), lambda model: model(x).square().mean())


@workload("transformer layer step B8 T128 256h4",
          flops=3 * 2 * 8 * 128 * (4 * 256 * 256 + 2 * 256 * 128 + 2 * 256 * 1024))
def transformer_step(torch):
    model = torch.nn.TransformerEncoderLayer(256, 4, 1024, dropout=0.0, batch_first=True)
    x = torch.randn(8, 128, 256)
    return _step(torch, model, lambda m: m(x).square().mean())
