"""Compiled functions and modules without gradients."""
from ..registry import workload
from ..variants import COMPILED
from .models import lstm_classifier, residual_block, transformer_layer

COUNT = 1 << 20


def _jax_chain(jax):
    numpy, nn = jax.numpy, jax.nn
    x = jax.random.normal(jax.random.key(0), (COUNT,))
    chain = jax.jit(lambda x: abs(numpy.tanh(
        numpy.clip(numpy.sqrt(nn.sigmoid(x * 2 + 1)), 0.1, 0.9) - 0.5)))
    return lambda: chain(x).block_until_ready()


@workload("chain of 8 on 1M", variants=COMPILED, compiled=True, jax=_jax_chain, bytes=8 * COUNT,
          goals={"torch": 3.0, "torch.compile": 2.0})
def chain(torch, code):
    x = torch.randn(COUNT)
    run = code.function(
        lambda x: torch.tanh(torch.sigmoid(x * 2 + 1).sqrt().clamp(0.1, 0.9) - 0.5).abs())
    return lambda: run(x)


@workload("tiny program: x + 1 on 8", variants=COMPILED, compiled=True, ceiling=10e-6)
def tiny(torch, code):
    x = torch.arange(8, dtype=torch.float32)
    run = code.function(lambda x: x + 1)
    return lambda: run(x)


def _inference(name, model_of, shape, **attributes):
    """A model in eval mode, without gradients."""
    @workload(f"{name} inference", variants=COMPILED, compiled=True, **attributes)
    def prepare(torch, code):
        forward, x = code.function(model_of(torch).eval()), torch.randn(*shape)

        def run():
            with torch.no_grad():
                return forward(x)
        return run


def _small_mlp(torch):
    nn = torch.nn
    return nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10))


_inference("MLP 784-128-10 B1", _small_mlp, (1, 784), bytes=4 * (784 * 128 + 1280),
           flops=2 * (784 * 128 + 1280), goals={"torch": 1.0})
_inference("residual block 16x64x28x28", residual_block, (16, 64, 28, 28),
           flops=2 * 2 * 16 * 64 * 784 * 64 * 9, goals={"torch": 1.2})
_inference("transformer layer B1 T64 256h4", transformer_layer, (1, 64, 256),
           flops=2 * 64 * (4 * 256 * 256 + 2 * 256 * 64 + 2 * 256 * 1024), goals={"torch": 1.2})
_inference("LSTM classifier T50 B32 H128", lstm_classifier, (50, 32, 128),
           flops=2 * 50 * 32 * 2 * 4 * 128 * 256)
