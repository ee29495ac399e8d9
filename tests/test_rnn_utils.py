"""Packing and padding, gradient clipping, parameters as a vector, fusion."""
import copy

import numpy as np
import pytest

import ntorch
from ntorch import nn
from ntorch.nn.utils import rnn

LENGTHS = [2, 5, 1, 5, 3]


def batch(batch_first=False):
    x = np.random.default_rng(0).standard_normal((5, len(LENGTHS), 3)).astype(np.float32)
    for b, length in enumerate(LENGTHS):
        x[length:, b] = 0
    return np.ascontiguousarray(x.swapaxes(0, 1)) if batch_first else x


@pytest.mark.parametrize("batch_first", [False, True])
def test_pack_and_pad(batch_first):
    x = batch(batch_first)
    packed = rnn.pack_padded_sequence(ntorch.from_numpy(x), LENGTHS, batch_first,
                                      enforce_sorted=False)
    assert packed.batch_sizes.tolist() == [5, 4, 3, 2, 2]
    order = packed.sorted_indices.tolist()
    assert [LENGTHS[i] for i in order] == sorted(LENGTHS, reverse=True)
    steps = x.swapaxes(0, 1) if batch_first else x
    expected = np.concatenate([steps[t, [i for i in order if LENGTHS[i] > t]] for t in range(5)])
    assert np.array_equal(packed.data.numpy(), expected)
    padded, lengths = rnn.pad_packed_sequence(packed, batch_first)
    assert lengths.tolist() == LENGTHS and np.array_equal(padded.numpy(), x)
    longer, _ = rnn.pad_packed_sequence(packed, batch_first, -1.0, total_length=7)
    longer = longer.numpy().swapaxes(0, 1) if batch_first else longer.numpy()
    assert longer.shape[0] == 7 and (longer[5:] == -1).all() and (longer[1:, 2] == -1).all()


def test_gradient_through_packing():
    x = ntorch.from_numpy(batch()).requires_grad_()
    packed = rnn.pack_padded_sequence(x, LENGTHS, enforce_sorted=False)
    (rnn.pad_packed_sequence(packed)[0] * 3).sum().backward()
    expected = np.zeros((5, 5, 3), np.float32)
    for b, length in enumerate(LENGTHS):
        expected[:length, b] = 3
    assert np.array_equal(x.grad.numpy(), expected)


@pytest.mark.parametrize("kind", ["RNN", "GRU", "LSTM"])
def test_packed_layer_equals_each_sequence(kind):
    net = getattr(nn, kind)(3, 4, num_layers=2, bidirectional=True)
    x = ntorch.from_numpy(batch())
    out, state = net(rnn.pack_padded_sequence(x, LENGTHS, enforce_sorted=False))
    padded, lengths = rnn.pad_packed_sequence(out)
    assert lengths.tolist() == LENGTHS
    hidden = state[0] if kind == "LSTM" else state
    for b, length in enumerate(LENGTHS):
        alone, last = net(x[:length, b])
        last = last[0] if kind == "LSTM" else last
        assert np.allclose(padded[:length, b].detach().numpy(), alone.detach().numpy(), atol=1e-5)
        assert np.allclose(hidden[:, b].detach().numpy(), last.detach().numpy(), atol=1e-5)
        assert not padded[length:, b].any()


def test_sequences():
    parts = [ntorch.arange(float(n)) + 1 for n in (2, 4, 1)]
    padded = rnn.pad_sequence(parts, batch_first=True, padding_value=9.0)
    assert padded.tolist() == [[1, 2, 9, 9], [1, 2, 3, 4], [1, 9, 9, 9]]
    left = rnn.pad_sequence(parts, batch_first=True, padding_side="left")
    assert left.tolist() == [[0, 0, 1, 2], [1, 2, 3, 4], [0, 0, 0, 1]]
    packed = rnn.pack_sequence(parts, enforce_sorted=False)
    for a, b in zip(rnn.unpack_sequence(packed), parts, strict=True):
        assert a.tolist() == b.tolist()
    lengths = ntorch.tensor([2, 4, 1])
    for a, b in zip(rnn.unpad_sequence(padded, lengths, True), parts, strict=True):
        assert a.tolist() == b.tolist()
    double = packed.to(ntorch.float64)
    assert double.data.dtype == ntorch.float64 and double.batch_sizes is packed.batch_sizes


@pytest.mark.parametrize("lengths, text", [
    ([1, 2, 3, 4, 5], "sorted in decreasing order"), ([5, 4, 3], "to be equal to batch_size"),
    ([5, 4, 3, 2, 0], "greater than 0"), ([9, 4, 3, 2, 1], "at most 5"),
    (ntorch.tensor([5.0, 4, 3, 2, 1]), "1D CPU int64")])
def test_packing_errors(lengths, text):
    with pytest.raises(RuntimeError, match=text):
        rnn.pack_padded_sequence(ntorch.from_numpy(batch()), lengths)
    packed = rnn.pack_padded_sequence(ntorch.from_numpy(batch()), [5, 4, 3, 2, 1])
    with pytest.raises(ValueError, match="total_length"):
        rnn.pad_packed_sequence(packed, total_length=4)


def parameters_with_grads():
    parameters = []
    for n in (3, 4):
        p = nn.Parameter(ntorch.zeros(n))
        p.grad = ntorch.arange(float(n)) + n
        parameters.append(p)
    return parameters


@pytest.mark.parametrize("order", [2.0, 1.0, float("inf")])
def test_clip_grad_norm(order):
    parameters = parameters_with_grads()
    before = np.concatenate([p.grad.numpy().copy() for p in parameters])
    total = nn.utils.clip_grad_norm_(parameters, 2.0, order)
    norm = np.linalg.norm(before, order)
    after = np.concatenate([p.grad.numpy() for p in parameters])
    assert total.item() == pytest.approx(norm, rel=1e-6)
    assert np.allclose(after, before * 2 / (norm + 1e-6), rtol=1e-6)
    nn.utils.clip_grad_norm_(parameters, 1e6, order)        # below the limit: nothing changes
    assert np.allclose(np.concatenate([p.grad.numpy() for p in parameters]), after)


def test_clip_refuses_what_is_not_finite():
    parameters = parameters_with_grads()
    parameters[0].grad[0] = float("nan")
    with pytest.raises(RuntimeError, match="non-finite"):
        nn.utils.clip_grad_norm_(parameters, 1.0, error_if_nonfinite=True)


def test_clip_value_and_vector():
    parameters = parameters_with_grads()
    nn.utils.clip_grad_value_(parameters, 4.5)
    assert parameters[1].grad.tolist() == [4, 4.5, 4.5, 4.5]
    nn.utils.vector_to_parameters(ntorch.arange(7.0), parameters)
    assert parameters[1].tolist() == [3, 4, 5, 6]
    assert nn.utils.parameters_to_vector(parameters).tolist() == list(range(7))


def test_fusion_with_batch_norm():
    conv, bn = nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3)
    linear, flat = nn.Linear(4, 3), nn.BatchNorm1d(3)
    for norm in (bn, flat):
        nn.init.uniform_(norm.running_mean)
        nn.init.uniform_(norm.running_var, 0.5, 2)
        nn.init.uniform_(norm.weight)
        nn.init.uniform_(norm.bias)
    net, x = nn.Sequential(conv, bn).eval(), ntorch.randn(2, 2, 5, 5)
    fused = nn.utils.fuse_conv_bn_eval(copy.deepcopy(conv), bn)
    assert np.allclose(fused(x).detach().numpy(), net(x).detach().numpy(), atol=1e-5)
    net, x = nn.Sequential(linear, flat).eval(), ntorch.randn(2, 4)
    fused = nn.utils.fuse_linear_bn_eval(linear, flat)
    assert np.allclose(fused(x).detach().numpy(), net(x).detach().numpy(), atol=1e-5)
