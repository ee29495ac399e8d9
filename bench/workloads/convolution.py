"""Convolutions, forward and backward."""
from ..registry import workload


def _forward(name, shape, out, kernel, goal=None, **options):
    batch, channels, height, width = shape
    stride, groups = options.get("stride", 1), options.get("groups", 1)
    places = (height // stride) * (width // stride)
    flops = 2 * batch * out * places * (channels // groups) * kernel * kernel

    @workload(name, flops=flops, bytes=4 * batch * (channels * height * width + out * places),
              goal=goal)
    def prepare(torch):
        x = torch.randn(*shape)
        weight = torch.randn(out, channels // groups, kernel, kernel)
        return lambda: torch.nn.functional.conv2d(x, weight, None, padding=kernel // 2, **options)


_forward("conv 3x3 8x64x56x56", (8, 64, 56, 56), 64, 3, goal=0.8)
_forward("conv 1x1 8x256x28x28 to 64", (8, 256, 28, 28), 64, 1)
_forward("conv 3x3 depthwise 8x128x56x56", (8, 128, 56, 56), 128, 3, groups=128)
_forward("conv 7x7 stride 2 4x3x224x224", (4, 3, 224, 224), 64, 7, stride=2)


@workload("conv 3x3 8x32x28x28 and backward", flops=3 * 2 * 8 * 32 * 28 * 28 * 32 * 9)
def backward(torch):
    layer = torch.nn.Conv2d(32, 32, 3, padding=1)
    x = torch.randn(8, 32, 28, 28, requires_grad=True)

    def step():
        x.grad = None
        layer.zero_grad()
        layer(x).sum().backward()
        return x.grad
    return step


@workload("conv_transpose 4x4 stride 2 8x64x14x14 to 32", flops=2 * 8 * 64 * 14 * 14 * 32 * 16)
def transposed(torch):
    x, weight = torch.randn(8, 64, 14, 14), torch.randn(64, 32, 4, 4)
    return lambda: torch.nn.functional.conv_transpose2d(x, weight, None, stride=2, padding=1)
