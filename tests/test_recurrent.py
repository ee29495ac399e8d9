"""RNN, LSTM and GRU: against float64 references step by step, gradcheck, torch where installed."""
import numpy as np
import pytest

import ntorch
from ntorch.runtime import pool

ops = ntorch.ops
CELLS = ("lstm", "gru", "rnn_tanh", "rnn_relu")
GATES = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def lstm_step(x, states, w_ih, w_hh, b_ih, b_hh, w_hr=None):
    h, c = states
    i, f, g, o = np.split(x @ w_ih.T + b_ih + h @ w_hh.T + b_hh, 4, axis=1)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    h = sigmoid(o) * np.tanh(c)
    return (h if w_hr is None else h @ w_hr.T), c


def gru_step(x, states, w_ih, w_hh, b_ih, b_hh):
    h, = states
    xr, xz, xn = np.split(x @ w_ih.T + b_ih, 3, axis=1)
    hr, hz, hn = np.split(h @ w_hh.T + b_hh, 3, axis=1)
    z = sigmoid(xz + hz)
    n = np.tanh(xn + sigmoid(xr + hr) * hn)
    return ((1 - z) * n + z * h,)


def plain_step(function):
    def step(x, states, w_ih, w_hh, b_ih, b_hh):
        return (function(x @ w_ih.T + b_ih + states[0] @ w_hh.T + b_hh),)
    return step


STEPS = {"lstm": lstm_step, "gru": gru_step, "rnn_tanh": plain_step(np.tanh),
         "rnn_relu": plain_step(lambda x: np.maximum(x, 0))}


def reference(cell, data, sizes, states, params, layers, directions):
    """Outputs (rows) and final states of the network, one sequence and one step at a time."""
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(int)
    per_layer = len(params) // (layers * directions)
    finals = [s.copy() for s in states]
    for layer in range(layers):
        outputs = []
        for direction in range(directions):
            k = layer * directions + direction
            weights = params[k * per_layer:(k + 1) * per_layer]
            out = np.zeros((len(data), states[0].shape[2]))
            for b in range(sizes[0]):
                steps = [t for t in range(len(sizes)) if sizes[t] > b]
                now = tuple(s[k, b:b + 1] for s in states)
                for t in steps[::-1] if direction else steps:
                    row = offsets[t] + b
                    now = STEPS[cell](data[row:row + 1], now, *weights)
                    out[row] = now[0]
                for final, value in zip(finals, now, strict=True):
                    final[k, b] = value
            outputs.append(out)
        data = np.concatenate(outputs, axis=1)
    return [data, *finals]


def network(cell, batch, features, size, layers=1, directions=1, projection=0, biases=True, seed=0):
    """Random states and parameters (float64), biases left out of the parameters if not wanted."""
    g = np.random.default_rng(seed)
    out, gates = projection or size, GATES[cell]
    states = [g.standard_normal((layers * directions, batch, out))]
    if cell == "lstm":
        states.append(g.standard_normal((layers * directions, batch, size)))
    params = []
    for layer in range(layers):
        for _ in range(directions):
            width = features if layer == 0 else out * directions
            shapes = [(gates * size, width), (gates * size, out)]
            shapes += [(gates * size,)] * 2 if biases else []
            shapes += [(out, size)] if projection else []
            params += [g.uniform(-1, 1, shape) / np.sqrt(size) for shape in shapes]
    return states, params


def with_zero_biases(params, per_layer):
    """Parameters of a network without biases, with biases of zero put in for the reference."""
    found = []
    for at in range(0, len(params), per_layer):
        w_ih, w_hh, *rest = params[at:at + per_layer]
        found += [w_ih, w_hh, np.zeros(len(w_ih)), np.zeros(len(w_ih)), *rest]
    return found


def tensors(arrays, dtype=ntorch.float64, grad=False):
    return [ntorch.tensor(a, dtype=dtype, requires_grad=grad) for a in arrays]


def call(cell, data, states, params, layers, directions, sizes=None, biases=True,
         batch_first=False):
    """``ntorch.ops.<cell>`` in the form for padded or, with ``sizes``, packed input."""
    hx = tuple(states) if cell == "lstm" else states[0]
    options = (params, biases, layers, 0.0, False, directions == 2)
    if sizes is None:
        return getattr(ops, cell)(data, hx, *options, batch_first)
    return getattr(ops, cell)(data, ntorch.tensor(sizes), hx, *options)


def close(found, wanted, tolerance):
    for f, w in zip(found, wanted, strict=True):
        assert tuple(f.shape) == w.shape
        np.testing.assert_allclose(f.detach().numpy(), w, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("batch", [1, 3, 7, 20])
@pytest.mark.parametrize("size", [5, 33])
@pytest.mark.parametrize("dtype, tolerance", [(ntorch.float64, 1e-12), (ntorch.float32, 5e-6)])
def test_padded_sequences(cell, batch, size, dtype, tolerance):
    states, params = network(cell, batch, 4, size)
    data = np.random.default_rng(1).standard_normal((6, batch, 4))
    wanted = reference(cell, data.reshape(-1, 4), [batch] * 6, states, params, 1, 1)
    wanted[0] = wanted[0].reshape(6, batch, size)
    x, = tensors([data], dtype)
    found = call(cell, x, tensors(states, dtype), tensors(params, dtype), 1, 1)
    assert all(f.dtype is dtype for f in found)
    close(found, wanted, tolerance)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("biases", [True, False])
@pytest.mark.parametrize("directions", [1, 2])
def test_packed_sequences_and_layers(cell, biases, directions):
    sizes = [9, 9, 6, 5, 5, 2, 1]
    states, params = network(cell, 9, 3, 6, 2, directions, biases=biases)
    data = np.random.default_rng(1).standard_normal((sum(sizes), 3))
    full = params if biases else with_zero_biases(params, 2)
    wanted = reference(cell, data, sizes, states, full, 2, directions)
    found = call(cell, ntorch.tensor(data), tensors(states), tensors(params), 2, directions, sizes,
                 biases)
    close(found, wanted, 1e-12)


@pytest.mark.parametrize("batch", [1, 5, 18])
def test_lstm_with_projection(batch):
    states, params = network("lstm", batch, 3, 10, 2, 2, projection=4)
    data = np.random.default_rng(1).standard_normal((5 * batch, 3))
    wanted = reference("lstm", data, [batch] * 5, states, params, 2, 2)
    wanted[0] = wanted[0].reshape(5, batch, 8)
    found = call("lstm", ntorch.tensor(data.reshape(5, batch, 3)), tensors(states), tensors(params),
                 2, 2)
    close(found, wanted, 1e-12)


@pytest.mark.parametrize("cell", CELLS)
def test_batch_first_is_a_transposition(cell):
    states, params = network(cell, 4, 3, 5, 1, 2)
    x = ntorch.tensor(np.random.default_rng(1).standard_normal((6, 4, 3)))
    states, params = tensors(states), tensors(params)
    wanted = call(cell, x, states, params, 1, 2)
    found = call(cell, x.transpose(0, 1), states, params, 1, 2, batch_first=True)
    assert found[0].shape == (4, 6, 10)
    assert np.array_equal(found[0].transpose(0, 1).numpy(), wanted[0].numpy())


def every_input(cell, batch=2, features=2, size=3, **options):
    states, params = network(cell, batch, features, size, **options)
    return states, params, len(states)


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn_tanh"])
@pytest.mark.parametrize("sizes", [[2, 2, 2], [3, 2, 1]])
@pytest.mark.parametrize("directions", [1, 2])
def test_gradients(cell, sizes, directions):
    states, params, count = every_input(cell, sizes[0], directions=directions)
    data = np.random.default_rng(1).standard_normal((sum(sizes), 2))

    def function(x, *rest):
        return call(cell, x, rest[:count], rest[count:], 1, directions, sizes)
    assert ntorch.autograd.gradcheck(function, tuple(tensors([data, *states, *params], grad=True)))


def test_gradients_of_relu_cell_away_from_the_kink():
    states, params, _ = every_input("rnn_relu", 2)
    data = np.random.default_rng(1).standard_normal((6, 2)) + 0.3

    def function(x, h, *params):
        return call("rnn_relu", x, (h,), params, 1, 1, [2, 2, 2])
    inputs = tuple(tensors([data, *states, *params], grad=True))
    assert ntorch.autograd.gradcheck(function, inputs)


def test_gradients_with_projection():
    states, params, _ = every_input("lstm", 3, projection=2, layers=2)

    def function(x, h, c, *params):
        return call("lstm", x, (h, c), params, 2, 1, [3, 2, 1])
    data = np.random.default_rng(1).standard_normal((6, 2))
    assert ntorch.autograd.gradcheck(function, tuple(tensors([data, *states, *params], grad=True)))


@pytest.mark.parametrize("cell, projection", [*((c, 0) for c in CELLS), ("lstm", 1)])
def test_second_order_gradients(cell, projection):
    states, params, count = every_input(cell, 2, 1, 2, projection=projection, biases=False)
    data = np.random.default_rng(1).standard_normal((3, 1))

    def function(x, *rest):
        return call(cell, x, rest[:count], rest[count:], 1, 1, [2, 1], False)
    inputs = tuple(tensors([data, *states, *params], grad=True))
    assert ntorch.autograd.gradgradcheck(function, inputs)


@pytest.mark.parametrize("cell", CELLS)
def test_gradient_in_ops_equals_gradient_by_kernels(cell):
    states, params, count = every_input(cell, 5, 3, 7, directions=2, layers=2)
    sizes = [5, 5, 3, 1]
    data = np.random.default_rng(1).standard_normal((14, 3))
    inputs = tensors([data, *states, *params], grad=True)
    outputs = call(cell, inputs[0], inputs[1:1 + count], inputs[1 + count:], 2, 2, sizes)
    weights = [ntorch.tensor(np.random.default_rng(2).standard_normal(o.shape)) for o in outputs]
    fast = ntorch.autograd.grad(outputs, inputs, weights, retain_graph=True)
    slow = ntorch.autograd.grad(outputs, inputs, weights, create_graph=True)
    for f, s in zip(fast, slow, strict=True):
        np.testing.assert_allclose(f.numpy(), s.detach().numpy(), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("cell", CELLS)
def test_only_final_states_used(cell):
    states, params, count = every_input(cell, 4, 3, 5)
    x = ntorch.tensor(np.random.default_rng(1).standard_normal((3, 4, 3)), requires_grad=True)
    states = tensors(states, grad=True)
    final = call(cell, x, states, tensors(params), 1, 1)[-1]
    final.sum().backward()
    output = call(cell, x.detach(), [s.detach() for s in states], tensors(params), 1, 1)[0]
    assert x.grad.shape == (3, 4, 3) and all(s.grad.abs().sum() > 0 for s in states)
    if cell != "lstm":
        assert np.array_equal(final.detach().numpy()[0], output[-1].numpy())


@pytest.mark.parametrize("cell", CELLS)
def test_cells_are_layers_of_one_step(cell):
    states, params = network(cell, 4, 3, 5)
    x = np.random.default_rng(1).standard_normal((4, 3))
    wanted = STEPS[cell](x, tuple(s[0] for s in states), *params)
    now = tensors([s[0] for s in states])
    hx = tuple(now) if cell == "lstm" else now[0]
    found = getattr(ops, cell + "_cell")(*tensors([x]), hx, *tensors(params))
    close(found if cell == "lstm" else [found], wanted, 1e-13)
    found = getattr(ops, cell + "_cell")(*tensors([x]), hx, *tensors(params[:2]))
    wanted = STEPS[cell](x, tuple(s[0] for s in states), *with_zero_biases(params[:2], 2))
    close(found if cell == "lstm" else [found], wanted, 1e-13)


@pytest.mark.parametrize("cell", CELLS)
def test_cell_gradients(cell):
    states, params, count = every_input(cell, 2, 2, 3)

    def function(x, *rest):
        hx = rest[:count] if cell == "lstm" else rest[0]
        return getattr(ops, cell + "_cell")(x, hx, *rest[count:])
    x = np.random.default_rng(1).standard_normal((2, 2))
    inputs = tuple(tensors([x, *[s[0] for s in states], *params], grad=True))
    assert ntorch.autograd.gradcheck(function, inputs)
    assert ntorch.autograd.gradgradcheck(function, inputs)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("batch", [1, 40])
def test_same_bits_for_any_number_of_threads(cell, batch):
    states, params = network(cell, batch, 8, 96)
    x, = tensors([np.random.default_rng(1).standard_normal((10, batch, 8))], ntorch.float32)
    before, found = pool.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            pool.set_num_threads(threads)
            inputs = tensors(states + params, ntorch.float32, grad=True)
            outputs = call(cell, x, inputs[:len(states)], inputs[len(states):], 1, 1)
            sum(o.sum() for o in outputs).backward()
            found.append([t.detach().numpy().tobytes() for t in outputs]
                         + [t.grad.numpy().tobytes() for t in inputs])
    finally:
        pool.set_num_threads(before)
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("cell", CELLS)
def test_rows_do_not_depend_on_their_neighbours(cell):
    states, params = network(cell, 21, 3, 17)
    x = np.random.default_rng(1).standard_normal((4, 21, 3))
    params = tensors(params, ntorch.float32)
    whole = call(cell, *tensors([x], ntorch.float32), tensors(states, ntorch.float32), params, 1, 1)
    part = call(cell, *tensors([x[:, 4:17]], ntorch.float32),
                tensors([s[:, 4:17] for s in states], ntorch.float32), params, 1, 1)
    np.testing.assert_allclose(whole[0][:, 4:17].numpy(), part[0].numpy(), rtol=1e-5, atol=1e-6)
    x[:, 0] = np.nan
    spoilt = call(cell, *tensors([x], ntorch.float32), tensors(states, ntorch.float32), params, 1,
                  1)
    assert np.isnan(spoilt[0][:, 0].numpy()).all()
    assert np.array_equal(spoilt[0][:, 1:].numpy(), whole[0][:, 1:].numpy())


@pytest.mark.parametrize("cell", CELLS)
def test_extreme_inputs_saturate(cell):
    states, params = network(cell, 2, 3, 4)
    x = np.array([[[1e30, -1e30, 1e30], [-1e30, 1e30, -1e30]]] * 2)
    found = call(cell, *tensors([x], ntorch.float32), tensors(states, ntorch.float32),
                 tensors(params, ntorch.float32), 1, 1)
    assert not np.isnan(found[0].numpy()).any()
    if cell != "rnn_relu":
        assert np.abs(found[0].numpy()).max() <= max(1.0, np.abs(states[0]).max())


@pytest.mark.parametrize("cell", CELLS)
def test_inputs_are_left_alone(cell):
    states, params = network(cell, 3, 4, 5)
    x = np.random.default_rng(1).standard_normal((6, 3, 4))
    given = tensors([x, *states, *params])
    call(cell, given[0], given[1:1 + len(states)], given[1 + len(states):], 1, 1)
    for tensor, array in zip(given, [x, *states, *params], strict=True):
        assert np.array_equal(tensor.numpy(), array)


@pytest.mark.parametrize("cell", CELLS)
def test_strided_inputs(cell):
    states, params = network(cell, 3, 4, 5)
    x = np.random.default_rng(1).standard_normal((6, 3, 4))
    wanted = call(cell, *tensors([x]), tensors(states), tensors(params), 1, 1)

    def strided(array):
        wide = ntorch.tensor(np.repeat(array, 2, axis=-1))
        return wide[..., ::2]
    found = call(cell, strided(x), [strided(s) for s in states], [strided(p) for p in params], 1, 1)
    for f, w in zip(found, wanted, strict=True):
        assert np.array_equal(f.numpy(), w.numpy())


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("dtype", [ntorch.float16, ntorch.bfloat16])
def test_half_types_are_computed_in_float32(cell, dtype):
    states, params = network(cell, 3, 4, 5)
    x = np.random.default_rng(1).standard_normal((6, 3, 4))
    half = tensors([x, *states, *params], dtype)
    wide = [t.to(ntorch.float32) for t in half]
    n = 1 + len(states)
    found = call(cell, half[0], half[1:n], half[n:], 1, 1)
    wanted = call(cell, wide[0], wide[1:n], wide[n:], 1, 1)
    for f, w in zip(found, wanted, strict=True):
        assert f.dtype is dtype
        assert np.array_equal(f.to(ntorch.float32).numpy(), w.to(dtype).to(ntorch.float32).numpy())


@pytest.mark.parametrize("cell", CELLS)
def test_no_sequences(cell):
    states, params = network(cell, 0, 3, 5)
    x = ntorch.zeros(4, 0, 3, dtype=ntorch.float64, requires_grad=True)
    weights = tensors(params, grad=True)
    found = call(cell, x, tensors(states), weights, 1, 1)
    assert found[0].shape == (4, 0, 5) and found[1].shape == (1, 0, 5)
    found[0].sum().backward()
    assert x.grad.shape == x.shape and not weights[0].grad.abs().sum()


@pytest.mark.parametrize("cell", CELLS)
def test_meta_tensors_give_shapes(cell):
    states, params = network(cell, 2, 3, 5, 2, 2)
    meta = [ntorch.empty(a.shape, device="meta") for a in [np.zeros((4, 2, 3)), *states, *params]]
    n = 1 + len(states)
    found = call(cell, meta[0], meta[1:n], meta[n:], 2, 2)
    assert found[0].shape == (4, 2, 10) and found[1].shape == (4, 2, 5)
    assert found[0].device.type == "meta"


def test_dropout_between_layers_only_while_training():
    states, params = network("gru", 2, 3, 50, 2)
    x, = tensors([np.random.default_rng(1).standard_normal((4, 2, 3))])
    h, params = tensors(states)[0], tensors(params)

    def run(dropout, train):
        return ops.gru(x, h, params, True, 2, dropout, train, False, False)[0].numpy()
    assert np.array_equal(run(0.5, False), run(0.0, True))
    assert not np.array_equal(run(0.5, True), run(0.0, True))


@pytest.mark.parametrize("change, words", [
    (dict(x=(0, 2, 3)), "sequence length to be larger than 0"),
    (dict(x=(4, 3)), "3-dimensional"),
    (dict(x=(4, 2, 6)), r"weight_ih of shape \[20, 6\]"),
    (dict(h=(2, 2, 5)), r"Expected hidden size \(1, 2, ...\)"),
    (dict(h=(1, 3, 5), c=(1, 3, 5)), "hidden states for a batch of 2, got 3"),
    (dict(w_hh=(20, 4)), r"weight_hh of shape \[20, 5\]"),
    (dict(b_ih=(19,)), r"bias_ih of shape \[20\]"),
])
def test_bad_shapes(change, words):
    shapes = dict(x=(4, 2, 3), h=(1, 2, 5), c=(1, 2, 5), w_ih=(20, 3), w_hh=(20, 5), b_ih=(20,),
                  b_hh=(20,)) | change
    x, h, c, *params = (ntorch.zeros(shape) for shape in shapes.values())
    with pytest.raises(RuntimeError, match=words):
        ops.lstm(x, (h, c), params, True, 1, 0.0, False, False, False)


def test_bad_arguments():
    x, h, (w_ih, w_hh) = ntorch.zeros(4, 2, 3), ntorch.zeros(1, 2, 5), (ntorch.zeros(20, 3),
                                                                     ntorch.zeros(20, 5))
    options = (False, 1, 0.0, False, False)
    with pytest.raises(RuntimeError, match="expects two hidden states"):
        ops.lstm(x, (h,), [w_ih, w_hh], *options, False)
    with pytest.raises(RuntimeError, match="incorrect number of RNN parameters"):
        ops.lstm(x, (h, h), [w_ih], *options, False)
    with pytest.raises(RuntimeError, match="input's type"):
        ops.lstm(x.double(), (h, h), [w_ih, w_hh], *options, False)
    for sizes, words in (([2, 3, 3], "decreasing order"), ([3, 3], "add up to the 8 rows"),
                         ([4, 4], "batch of 4, got 2")):
        with pytest.raises(RuntimeError, match=words):
            ops.lstm(ntorch.zeros(8, 3), ntorch.tensor(sizes), (h, h), [w_ih, w_hh], *options)


@pytest.mark.parametrize("shapes, words", [
    (dict(x=(3, 2)), "inconsistent input_size: got 2 expected 4"),
    (dict(h=(3, 2)), "hidden0 has inconsistent hidden_size: got 2, expected 5"),
    (dict(x=(2, 4)), "Input batch size 2 doesn't match hidden0 batch size 3"),
    (dict(c=(2, 5)), "Input batch size 3 doesn't match hidden1 batch size 2"),
    (dict(w_hh=(15, 5)), r"weight_hh first dim must be 4 \* hidden_size = 20, but got 15"),
])
def test_bad_cell_shapes(shapes, words):
    wanted = dict(x=(3, 4), h=(3, 5), c=(3, 5), w_ih=(20, 4), w_hh=(20, 5)) | shapes
    x, h, c, w_ih, w_hh = (ntorch.zeros(shape) for shape in wanted.values())
    with pytest.raises(RuntimeError, match=words):
        ops.lstm_cell(x, (h, c), w_ih, w_hh)


@pytest.mark.parametrize("cell, projection", [*((c, 0) for c in CELLS), ("lstm", 3)])
@pytest.mark.parametrize("sizes", [None, [6, 6, 4, 1]])
def test_against_torch(cell, sizes, projection):
    torch = pytest.importorskip("torch")
    states, params = network(cell, 6, 3, 11, 2, 2, projection)
    rows = sum(sizes) if sizes else 24
    data = np.random.default_rng(1).standard_normal((rows, 3) if sizes else (4, 6, 3))
    arrays = [data, *states, *params]
    ours = tensors(arrays, grad=True)
    theirs = [torch.tensor(a, requires_grad=True) for a in arrays]
    n = 1 + len(states)
    found = call(cell, ours[0], ours[1:n], ours[n:], 2, 2, sizes)
    hx = tuple(theirs[1:n]) if cell == "lstm" else theirs[1]
    options = (theirs[n:], True, 2, 0.0, False, True)
    function = getattr(torch._VF, cell)
    wanted = (function(theirs[0], torch.tensor(sizes), hx, *options) if sizes
              else function(theirs[0], hx, *options, False))
    for f, w in zip(found, wanted, strict=True):
        np.testing.assert_allclose(f.detach().numpy(), w.detach().numpy(), rtol=1e-12, atol=1e-12)
    sum((o * o).sum() for o in found).backward()
    sum((o * o).sum() for o in wanted).backward()
    for f, w in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(f.grad.numpy(), w.grad.numpy(), rtol=1e-11, atol=1e-11)
