"""Recurrent layers over whole sequences, forward."""
from ..registry import workload


def _layer(kind, gates, steps, batch, hidden, goal=None):
    flops = 2 * steps * batch * gates * hidden * 2 * hidden

    @workload(f"{kind} T{steps} B{batch} H{hidden}", flops=flops, goal=goal)
    def prepare(torch):
        layer = getattr(torch.nn, kind)(hidden, hidden)
        x = torch.randn(steps, batch, hidden)

        def forward():
            with torch.no_grad():
                return layer(x)[0]
        return forward


_layer("LSTM", 4, 100, 1, 128, goal=1.5)
_layer("LSTM", 4, 50, 32, 256, goal=0.8)
_layer("GRU", 3, 50, 32, 256)
_layer("RNN", 1, 50, 32, 256)


@workload("LSTM T52 B32 H64 both ways and backward", flops=3 * 2 * 2 * 52 * 32 * 256 * 256)
def training(torch):
    layer = torch.nn.LSTM(192, 64, bidirectional=True)
    x = torch.randn(52, 32, 192)

    def step():
        layer.zero_grad()
        layer(x)[0].sum().backward()
        return layer.weight_hh_l0.grad
    return step
