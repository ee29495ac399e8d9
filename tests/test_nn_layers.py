"""Layers: shapes, options, text and errors; values and gradients against torch where installed."""
import numpy as np
import pytest

import ntorch
from ntorch import nn


def case(name, *args, shape=(2, 4, 6), **kwargs):
    return pytest.param(name, args, kwargs, shape, id=f"{name}{args}{kwargs or ''}")


# one line per layer and setting: constructor arguments, shape of the input
CASES = [
    case("Identity"), case("Linear", 6, 3), case("Linear", 6, 3, bias=False),
    case("Conv1d", 4, 2, 3, padding="same"), case("Conv1d", 4, 4, 3, 2, 1, 1, 2),
    case("Conv2d", 4, 2, 3, padding=1, padding_mode="reflect", shape=(2, 4, 5, 6)),
    case("Conv2d", 4, 2, 3, padding=(2, 1), padding_mode="circular", shape=(2, 4, 5, 6)),
    case("Conv2d", 4, 2, 2, padding="same", padding_mode="replicate", shape=(4, 5, 6)),
    case("Conv3d", 2, 3, 2, dilation=2, shape=(1, 2, 4, 4, 5)),
    case("ConvTranspose1d", 4, 3, 3, 2, 1, 1), case("ConvTranspose2d", 2, 3, 2, shape=(1, 2, 3, 4)),
    case("ConvTranspose3d", 2, 2, 2, 2, shape=(1, 2, 2, 3, 2)),
    case("MaxPool1d", 2), case("MaxPool2d", 3, 2, 1, shape=(2, 3, 7, 8)),
    case("MaxPool3d", 2, ceil_mode=True, shape=(1, 2, 3, 4, 5)),
    case("AvgPool1d", 3, 1, 1), case("AvgPool2d", 2, count_include_pad=False, shape=(2, 3, 7, 8)),
    case("AvgPool3d", 2, divisor_override=3, shape=(1, 2, 4, 4, 4)), case("LPPool1d", 2, 3),
    case("LPPool2d", 2, 2, shape=(2, 3, 7, 8)), case("AdaptiveAvgPool1d", 3),
    case("AdaptiveAvgPool2d", (None, 3), shape=(2, 3, 7, 8)),
    case("AdaptiveMaxPool2d", (2, 3), shape=(2, 3, 7, 8)),
    case("BatchNorm1d", 4), case("BatchNorm1d", 4, bias=False),
    case("BatchNorm1d", 4, momentum=None),
    case("BatchNorm1d", 4, affine=False, track_running_stats=False),
    case("BatchNorm2d", 4, shape=(2, 4, 3, 5)), case("BatchNorm3d", 4, shape=(2, 4, 2, 3, 2)),
    case("InstanceNorm1d", 4, affine=True), case("InstanceNorm2d", 4, shape=(4, 3, 5)),
    case("LayerNorm", 6), case("LayerNorm", (4, 6), bias=False), case("RMSNorm", 6),
    case("GroupNorm", 2, 4), case("LocalResponseNorm", 2),
    case("ReLU"), case("ReLU", inplace=True), case("ReLU6"), case("Sigmoid"), case("Tanh"),
    case("ELU", 0.5), case("CELU", 0.7), case("SELU"), case("GELU"), case("GELU", "tanh"),
    case("SiLU"), case("Mish"), case("Hardswish"), case("Hardsigmoid"), case("Hardtanh", -0.5, 0.5),
    case("Hardshrink", 0.3), case("Softshrink", 0.3), case("LeakyReLU", 0.2), case("LogSigmoid"),
    case("Softplus", 2.0, 1.0), case("Softsign"), case("Tanhshrink"), case("Threshold", 0.1, 2.0),
    case("PReLU"), case("PReLU", 4), case("GLU"), case("Softmax", -1), case("LogSoftmax", 1),
    case("Softmin", 1), case("Softmax2d", shape=(2, 3, 4, 5)),
    case("Flatten"), case("Unflatten", 1, (2, 2)), case("Fold", (4, 5), 2, shape=(2, 8, 12)),
    case("Unfold", (2, 3), 1, 1, 2, shape=(2, 3, 5, 6)),
    case("PixelShuffle", 2, shape=(1, 8, 3, 2)),
    case("PixelUnshuffle", 2, shape=(1, 2, 4, 6)), case("ChannelShuffle", 2),
    case("Upsample", scale_factor=2.0, mode="nearest"), case("Upsample", 9, mode="linear"),
    case("Upsample", (5, 7), mode="bilinear", shape=(1, 2, 3, 4)),
    case("Upsample", (5, 7), mode="bicubic", align_corners=True, shape=(1, 2, 3, 4)),
    case("ZeroPad2d", (1, 2, 0, 1)), case("ConstantPad1d", 2, 0.5), case("ReflectionPad1d", 2),
    case("ReplicationPad2d", (1, 0, 2, 1), shape=(1, 2, 3, 4)),
    case("CircularPad2d", 1, shape=(1, 2, 3, 4)), case("RNN", 6, 3), case("GRU", 6, 3, 2),
    case("LSTM", 6, 5, 2, bidirectional=True, batch_first=True), case("LSTM", 6, 5, proj_size=2),
    case("RNN", 6, 3, nonlinearity="relu", shape=(4, 6)), case("GRUCell", 6, 3, shape=(4, 6)),
    case("LSTMCell", 6, 3, shape=(6,)), case("RNNCell", 6, 3, False, "relu", shape=(4, 6)),
    case("TransformerEncoderLayer", 6, 2, 8, 0.0, batch_first=True),
    case("TransformerEncoderLayer", 6, 3, 8, 0.0, "gelu", norm_first=True),
]


def leaves(value):
    if isinstance(value, tuple):
        return [leaf for item in value for leaf in leaves(item)]
    return [value]


def run(library, layer, x):
    """Outputs, input gradient, parameter gradients and buffers of one call."""
    out = leaves(layer(x * 1.0))
    weights = [library.from_numpy(np.cos(np.arange(o.numel())).reshape(tuple(o.shape))
                                  .astype(np.float32)) for o in out]
    sum((o * w).sum() for o, w in zip(out, weights, strict=True)).backward()
    tensors = [*out, x.grad, *(p.grad for p in layer.parameters()), *layer.buffers()]
    return [t.detach().numpy() for t in tensors]


@pytest.mark.filterwarnings("ignore:LSTM with projections")
@pytest.mark.parametrize("name, args, kwargs, shape", CASES)
def test_like_torch(name, args, kwargs, shape):
    torch = pytest.importorskip("torch")
    data = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    reference = getattr(torch.nn, name)(*args, **kwargs)
    layer = getattr(nn, name)(*args, **kwargs)
    assert repr(layer) == repr(reference)
    layer.load_state_dict({k: ntorch.from_numpy(v.numpy().copy())
                           for k, v in reference.state_dict().items()})
    for training in (True, False):
        results = []
        for library, module in ((torch, reference), (ntorch, layer)):
            module.train(training).zero_grad()
            results.append(run(library, module, library.from_numpy(data.copy()).requires_grad_()))
        assert len(results[0]) == len(results[1])
        for a, b in zip(*results, strict=True):
            assert a.shape == b.shape and np.allclose(a, b, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("make, shape, expected", [
    (lambda: nn.ConvTranspose2d(2, 3, 3, 2), (1, 2, 4, 4), (1, 3, 9, 9)),
    (lambda: nn.Conv2d(2, 3, 3, padding="valid"), (2, 2, 6, 7), (2, 3, 4, 5)),
    (lambda: nn.AdaptiveMaxPool3d((1, None, 2)), (1, 2, 4, 5, 6), (1, 2, 1, 5, 2)),
    (lambda: nn.EmbeddingBag(5, 3), None, (2, 3)),
])
def test_shapes(make, shape, expected):
    x = ntorch.tensor([[1, 2], [3, 4]]) if shape is None else ntorch.randn(shape)
    assert tuple(make()(x).shape) == expected


def test_transposed_convolution_output_size():
    layer = nn.ConvTranspose2d(2, 3, 3, stride=2)
    x = ntorch.randn(1, 2, 4, 4)
    assert tuple(layer(x, output_size=(10, 9)).shape) == (1, 3, 10, 9)
    with pytest.raises(ValueError, match="valid sizes range from"):
        layer(x, output_size=(20, 9))


def test_unpooling_undoes_pooling():
    x = ntorch.arange(16.0).reshape(1, 1, 4, 4)
    values, places = nn.MaxPool2d(2, return_indices=True)(x)
    back = nn.MaxUnpool2d(2)(values, places)
    assert np.array_equal(back.numpy(), np.where(np.isin(x.numpy(), values.numpy()), x.numpy(), 0))


@pytest.mark.parametrize("options", [
    {}, {"bias": False}, {"add_bias_kv": True}, {"add_zero_attn": True}, {"kdim": 5, "vdim": 3},
    {"batch_first": True}])
@pytest.mark.parametrize("call", [
    {}, {"need_weights": False}, {"average_attn_weights": False}, {"masked": True}])
def test_attention_like_torch(options, call):
    torch = pytest.importorskip("torch")
    generator = np.random.default_rng(0)
    sizes = [(3, 2, 8), (4, 2, options.get("kdim", 8)), (4, 2, options.get("vdim", 8))]
    if options.get("batch_first"):
        sizes = [(b, a, c) for a, b, c in sizes]
    arrays = [generator.standard_normal(s).astype(np.float32) for s in sizes]
    call = dict(call)
    masks = {}
    if call.pop("masked", False):
        masks = {"key_padding_mask": np.array([[False, False, True, True], [False] * 4]),
                 "attn_mask": np.triu(np.ones((3, 4), bool), 2)}
    reference = torch.nn.MultiheadAttention(8, 2, **options)
    layer = nn.MultiheadAttention(8, 2, **options)
    layer.load_state_dict({k: ntorch.from_numpy(v.numpy()) for k, v in
                           reference.state_dict().items()})
    results = []
    for library, module in ((torch, reference), (ntorch, layer)):
        out, weights = module(*map(library.from_numpy, arrays), **call,
                              **{k: library.from_numpy(v) for k, v in masks.items()})
        out.sum().backward()
        results.append([out.detach().numpy(), *([] if weights is None else
                                                [weights.detach().numpy()]),
                        *[p.grad.numpy() for p in module.parameters()]])
    for a, b in zip(*results, strict=True):
        assert np.allclose(a, b, rtol=1e-4, atol=1e-5)


def reference_attention(q, k, v, mask=None, scale=None):
    scores = q @ np.swapaxes(k, -1, -2) * (q.shape[-1] ** -0.5 if scale is None else scale)
    if mask is not None:
        scores = np.where(mask, scores, -np.inf)
    weights = np.exp(scores - np.maximum(scores.max(-1, keepdims=True), -1e30))
    return weights / np.maximum(weights.sum(-1, keepdims=True), 1e-30) @ v


@pytest.mark.parametrize("dtype", [ntorch.bfloat16, ntorch.float16])
def test_attention_of_half_tensors_rounds_once(dtype):
    ntorch.manual_seed(2)
    q, k, v, mask = (ntorch.randn(*s).to(dtype) for s in ((2, 5, 8), (2, 7, 8), (2, 7, 3), (5, 7)))
    grad = ntorch.randn(2, 5, 3)
    found = []
    for kind in (dtype, ntorch.float64):
        inputs = [t.to(kind).requires_grad_() for t in (q, k, v)]
        out = nn.functional.scaled_dot_product_attention(*inputs, attn_mask=mask.to(kind))
        assert out.dtype is kind
        found.append([out, *ntorch.autograd.grad(out, inputs, grad.to(kind))])
    for half, exact in zip(*found, strict=True):
        error = (half.double() - exact).abs().max() / exact.abs().max()
        assert error <= ntorch.finfo(dtype).eps


def test_scaled_dot_product_attention():
    generator = np.random.default_rng(0)
    q, k, v = (generator.standard_normal(s) for s in ((2, 4, 3, 5), (2, 4, 6, 5), (2, 4, 6, 7)))
    call = nn.functional.scaled_dot_product_attention
    tensors = [ntorch.from_numpy(x) for x in (q, k, v)]
    assert np.allclose(call(*tensors).numpy(), reference_attention(q, k, v))
    assert np.allclose(call(*tensors, scale=0.3).numpy(), reference_attention(q, k, v, scale=0.3))
    causal = np.tril(np.ones((3, 6), bool))
    assert np.allclose(call(*tensors, is_causal=True).numpy(),
                       reference_attention(q, k, v, causal))
    mask = causal.copy()
    mask[1] = False                      # a query that sees nothing gives zeros
    out = call(*tensors, attn_mask=ntorch.from_numpy(mask)).numpy()
    assert np.allclose(out, reference_attention(q, k, v, mask)) and not out[:, :, 1].any()
    grouped = call(tensors[0], tensors[1][:, :2], tensors[2][:, :2], enable_gqa=True).numpy()
    assert np.allclose(grouped, reference_attention(q, k[:, [0, 0, 1, 1]], v[:, [0, 0, 1, 1]]))
    with pytest.raises(RuntimeError, match="is_causal"):
        call(*tensors, attn_mask=ntorch.from_numpy(mask), is_causal=True)


@pytest.mark.parametrize("name, shape", [
    ("Dropout", (200, 50)), ("Dropout1d", (200, 50, 3)), ("Dropout2d", (200, 50, 2, 2)),
    ("Dropout3d", (100, 50, 2, 1, 2)), ("AlphaDropout", (200, 50)),
    ("FeatureAlphaDropout", (200, 50, 3))])
def test_dropout(name, shape):
    ntorch.manual_seed(0)
    layer, x = getattr(nn, name)(0.3), ntorch.ones(shape)
    kept = layer(x).numpy()
    values = np.unique(kept.round(4))
    assert len(values) == 2 and (kept == kept.max()).mean() == pytest.approx(0.7, abs=0.02)
    if len(shape) > 2:
        channels = kept.reshape(*shape[:2], -1)
        assert (channels == channels[..., :1]).all()
    if "Alpha" not in name:
        assert values[1] == pytest.approx(1 / 0.7, rel=1e-3) and values[0] == 0
    assert np.array_equal(layer.eval()(x).numpy(), x.numpy())


def test_transformer_runs_and_masks():
    net = nn.Transformer(8, 2, 1, 1, 16, dropout=0.0)
    mask = net.generate_square_subsequent_mask(4)
    assert np.isinf(mask.numpy()[0, 1]) and mask.numpy()[1, 0] == 0
    src, tgt = ntorch.randn(5, 2, 8), ntorch.randn(4, 2, 8)
    out = net(src, tgt, tgt_mask=mask)
    changed = tgt.clone()
    changed[3] = 0
    again = net(src, changed, tgt_mask=mask)
    assert np.allclose(out[:3].detach().numpy(), again[:3].detach().numpy(), atol=1e-6)
    assert out.shape == (4, 2, 8)


ERRORS = [
    (lambda: nn.Conv2d(3, 4, 3, groups=2), ValueError, "divisible by groups"),
    (lambda: nn.Conv2d(3, 4, 3, padding="up"), ValueError, "Invalid padding string"),
    (lambda: nn.Conv2d(3, 4, 3, 2, padding="same"), ValueError, "strided"),
    (lambda: nn.Conv2d(3, 4, 3, padding_mode="up"), ValueError, "padding_mode"),
    (lambda: nn.ConvTranspose2d(3, 4, 3, padding_mode="reflect"), ValueError, "zeros"),
    (lambda: nn.BatchNorm2d(3)(ntorch.ones(2, 3)), ValueError, "expected 4D input"),
    (lambda: nn.GroupNorm(2, 3), ValueError, "divisible by num_groups"),
    (lambda: nn.Dropout(1.5), ValueError, "between 0 and 1"),
    (lambda: nn.Embedding(3, 2, 5), AssertionError, "within num_embeddings"),
    (lambda: nn.Embedding(3, 2)(ntorch.tensor([3])), IndexError, "out of range"),
    (lambda: nn.LSTM(3, 0), ValueError, "hidden_size must be greater than zero"),
    (lambda: nn.LSTM(3, 2, proj_size=2), ValueError, "smaller than hidden_size"),
    (lambda: nn.RNN(3, 2, nonlinearity="cos"), ValueError, "Unknown nonlinearity"),
    (lambda: nn.LSTM(3, 2)(ntorch.ones(1, 1, 4)), RuntimeError, "Expected 3, got 4"),
    (lambda: nn.LSTM(3, 2)(ntorch.ones(1, 1, 3), (ntorch.ones(1, 2, 2),) * 2), RuntimeError,
     "Expected hidden"),
    (lambda: nn.MultiheadAttention(5, 2), AssertionError, "divisible by num_heads"),
    (lambda: nn.CrossEntropyLoss()(ntorch.ones(2, 3), ntorch.tensor([0, 3])), IndexError, "3"),
    (lambda: nn.Linear(3, 2)(ntorch.ones(2, 4)), RuntimeError, "shapes"),
    (lambda: nn.Upsample(3, mode="bilinear")(ntorch.ones(1, 2, 4)), NotImplementedError, "mode"),
    (lambda: nn.FractionalMaxPool2d(2), ValueError, "output size"),
    (lambda: nn.PixelShuffle(2)(ntorch.ones(1, 3, 2, 2)), RuntimeError, "divisible"),
    (lambda: nn.Softmax2d()(ntorch.ones(2)), ValueError, "3D or 4D"),
    (lambda: nn.TripletMarginLoss(margin=0), ValueError, "greater than 0"),
]


@pytest.mark.parametrize("act, error, text", ERRORS)
def test_errors(act, error, text):
    with pytest.raises(error, match=text):
        act()


RESIZE = [
    dict(size=(3, 5), mode="bilinear"), dict(size=(9, 4), mode="bilinear", align_corners=True),
    dict(scale_factor=(1.7, 0.6), mode="bilinear"), dict(size=(9, 11), mode="bicubic"),
    dict(scale_factor=2.5, mode="nearest"), dict(size=(4, 5), mode="nearest-exact"),
    dict(size=(2, 3), mode="area"), dict(scale_factor=1.3, mode="bicubic", align_corners=True),
    dict(scale_factor=0.5, mode="bilinear", recompute_scale_factor=True),
    dict(size=(3, 3), mode="bilinear", antialias=True),
    dict(size=(3, 4), mode="bicubic", antialias=True),
]


@pytest.mark.parametrize("options", RESIZE, ids=str)
def test_interpolate_like_torch(options):
    torch = pytest.importorskip("torch")
    data = np.random.default_rng(0).standard_normal((2, 3, 6, 7)).astype(np.float32)
    results = []
    for library in (torch, ntorch):
        x = library.from_numpy(data.copy()).requires_grad_()
        y = library.nn.functional.interpolate(x, **options)
        (y * y).sum().backward()
        results.append((y.detach().numpy(), x.grad.numpy()))
    for a, b in zip(*results, strict=True):
        assert a.shape == b.shape and np.allclose(a, b, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("align", [True, False])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("mode", ["bilinear", "nearest", "bicubic"])
def test_grid_sample_like_torch(mode, padding, align):
    torch = pytest.importorskip("torch")
    generator = np.random.default_rng(0)
    data = generator.standard_normal((2, 3, 5, 6)).astype(np.float32)
    theta = generator.standard_normal((2, 2, 3)).astype(np.float32)
    results = []
    for library in (torch, ntorch):
        x = library.from_numpy(data.copy()).requires_grad_()
        t = library.from_numpy(theta.copy()).requires_grad_()
        f = library.nn.functional
        grid = f.affine_grid(t, (2, 3, 4, 5), align_corners=align)
        y = f.grid_sample(x, grid, mode, padding, align_corners=align)
        (y * y).sum().backward()
        results.append((y.detach().numpy(), x.grad.numpy(), t.grad.numpy()))
    for a, b in zip(*results, strict=True):
        assert np.allclose(a, b, rtol=1e-3, atol=1e-4)
