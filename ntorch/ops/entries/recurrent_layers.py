"""One recurrent layer in one direction over a whole sequence, forward and backward.

Data are rows (sum of sizes, features): the ``sizes[t]`` rows of step t follow those of step t - 1,
the longest sequence first; or (T, B, features), the same rows of equally long sequences. The
gradient rules run the backward kernels; where their result must be differentiable again they go
through ``recurrent_steps``, which says the same in ops. States are (B, features), or
(1, B, features) as a network of one layer has them. ``Sizes`` in a signature is a tuple of ints
that is taken as it is.
"""
from ...kernels import gru, lstm, rnn
from .. import recurrent_steps as steps
from ..base import make
from ..recurrent_few import Cell, is_few
from ..recurrent_plan import (
    Launch,
    check_sizes,
    check_types,
    check_weights,
    copy_of,
    rows_of,
    shaped_like,
    zeros_if_none,
)
from ..registry import ops
from ..structured import contiguous, empty, structured

_FEW_RNN = {False: Cell("rnn", rnn.tanh_units, 1, 1, False),
            True: Cell("rnn", rnn.relu_units, 1, 1, False)}
_FEW_LSTM = Cell("lstm", lstm.units_of_lstm, 4, 4, True)
_FEW_GRU = Cell("gru", gru.units_of_gru, 3, 2, True)


def _no_rows(like):
    """Rows of the width of ``like``, of which there are none, over its memory: it costs nothing."""
    return make(like._storage, like.dtype, (0, like._shape[1]), (like._shape[1], 1), 0)


def _check(op, gates, input, h0, w_ih, w_hh, b_ih, b_hh, size, sizes):
    check_weights(op, gates, input._shape[1], h0._shape[1], w_ih._shape, w_hh._shape,
                  *[None if b is None else b._shape for b in (b_ih, b_hh)], size)
    check_types(op, input.dtype, h0, w_ih, w_hh, b_ih, b_hh)
    check_sizes(op, sizes, input._shape[0], h0._shape[0])


def _rows(tensor):
    """(..., features) as (rows, features), differentiably."""
    return ops.reshape(tensor, (-1, tensor._shape[-1])) if len(tensor._shape) != 2 else tensor


def _weight_gradients(gates, input, previous, w_ih, needs, hidden_gates=None):
    """Gradients of input, w_ih, w_hh, b_ih, b_hh from those of the two products' results."""
    hidden_gates = gates if hidden_gates is None else hidden_gates
    columns, rows = ops.t(gates), ops.t(hidden_gates)
    bias = ops.sum(gates, 0) if needs["b_ih"] or needs["b_hh"] else None
    hidden_bias = bias if hidden_gates is gates or bias is None else ops.sum(hidden_gates, 0)
    of_input = ops.reshape(ops.mm(gates, w_ih), input._shape) if needs["input"] else None
    return (of_input, ops.mm(columns, _rows(input)) if needs["w_ih"] else None,
            ops.mm(rows, previous) if needs["w_hh"] else None,
            bias if needs["b_ih"] else None, hidden_bias if needs["b_hh"] else None)


# Plain cell -------------------------------------------------------------------------------------

@structured("_rnn_layer(Tensor input, Tensor h0, Tensor w_ih, Tensor w_hh, Tensor? b_ih, "
            "Tensor? b_hh, Sizes sizes, bool reverse, bool relu) -> (Tensor, Tensor)", method=False)
def _rnn_layer(input, h0, w_ih, w_hh, b_ih, b_hh, sizes, reverse, relu):
    """Output (rows, H) and final state (B, H) of ``h' = f(x W_ih^T + h W_hh^T + b)``."""
    if is_few(h0):
        return _FEW_RNN[relu].run(input, h0, None, w_ih, w_hh, b_ih, b_hh, sizes, reverse)[:2]
    (batch, size), state, h0 = h0._shape[-2:], h0, rows_of(contiguous(h0))
    shape, input = input, rows_of(contiguous(input))
    _check("rnn", 1, input, h0, w_ih, w_hh, b_ih, b_hh, size, sizes)
    launch = Launch(input, sizes, batch, reverse)
    (out, bias), hidden = launch.project(input, w_ih, b_ih, b_hh), copy_of(h0)
    launch.product(hidden, w_hh, True, size, out)
    launch.run(rnn.rnn_forward, [("C", out), ("C", bias)],
               [("C", hidden), ("i", relu), ("i", launch.inside)])
    return shaped_like(out, shape), shaped_like(hidden, state)


@structured("_rnn_layer_backward(Tensor grad_out, Tensor grad_hn, Tensor h0, Tensor w_hh, "
            "Sizes sizes, bool reverse, bool relu, Tensor output) -> (Tensor, Tensor, Tensor)",
            method=False, differentiable=False)
def _rnn_layer_backward(grad_out, grad_hn, h0, w_hh, sizes, reverse, relu, output):
    """Gradient of f's argument, gradient of h0, and the state that each row started from."""
    (batch, size), out, grad_out = h0._shape, rows_of(output), rows_of(contiguous(grad_out))
    launch = Launch(out, sizes, batch, reverse)
    state, gates, previous = copy_of(grad_hn), launch.new(*out._shape), launch.new(*out._shape)
    launch.product(gates, w_hh, False, size, state)
    launch.run(rnn.rnn_backward, [("C", out), ("C", contiguous(h0)), ("C", grad_out)],
               [("C", state), ("C", gates), ("C", previous), ("i", relu)])
    return gates, state, previous


@_rnn_layer.gradient("input", "h0", "w_ih", "w_hh", "b_ih", "b_hh")
def _(grad0, grad1, input, h0, w_ih, w_hh, b_ih, b_hh, sizes, reverse, relu, result0, needs):
    grad0, grad1 = zeros_if_none(grad0, result0), _rows(zeros_if_none(grad1, h0))
    of_state, h0 = h0._shape, _rows(h0)
    if result0._requires_grad:
        gates, state, previous = steps.rnn_backward(
            _rows(grad0), grad1, _rows(input), h0, w_ih, w_hh, b_ih, b_hh, sizes, reverse, relu)
    else:
        gates, state, previous = ops._rnn_layer_backward(grad0, grad1, h0, w_hh, sizes, reverse,
                                                         relu, result0)
    of_input, *of_weights = _weight_gradients(gates, input, previous, w_ih, needs)
    return of_input, ops.reshape(state, of_state), *of_weights


# LSTM -------------------------------------------------------------------------------------------

@structured("_lstm_layer(Tensor input, Tensor h0, Tensor c0, Tensor w_ih, Tensor w_hh, "
            "Tensor? b_ih, Tensor? b_hh, Tensor? w_hr, Sizes sizes, bool reverse) -> "
            "(Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)", method=False)
def _lstm_layer(input, h0, c0, w_ih, w_hh, b_ih, b_hh, w_hr, sizes, reverse):
    """Output, final h and c; then what the gradient needs: gates, cells, unprojected outputs."""
    check_types("lstm", input.dtype, h0, c0)
    if h0._shape[-2] != c0._shape[-2]:
        raise RuntimeError(f"lstm: expected a cell state for a batch of {h0._shape[-2]}, got "
                           f"{c0._shape[-2]}")
    projects = w_hr is not None
    if not projects and is_few(h0):
        out, hidden, cell, gates, cells = _FEW_LSTM.run(input, h0, c0, w_ih, w_hh, b_ih, b_hh,
                                                        sizes, reverse)
        return out, hidden, cell, gates, cells, _no_rows(cells)
    state, h0, c0 = h0, rows_of(contiguous(h0)), rows_of(contiguous(c0))
    (batch, size), out_size = c0._shape, h0._shape[1]
    shape, input = input, rows_of(contiguous(input))
    _check("lstm", 4, input, h0, w_ih, w_hh, b_ih, b_hh, size, sizes)
    launch = Launch(input, sizes, batch, reverse)
    out, cells = launch.new(launch.rows, out_size), launch.new(launch.rows, size)
    full = launch.new(launch.rows, size) if projects else _no_rows(cells)
    gates, bias = launch.project(input, w_ih, b_ih, b_hh)
    hidden, cell = copy_of(h0), copy_of(c0)
    launch.product(hidden, w_hh, True, 4 * size, gates)
    if projects:
        launch.product(full, w_hr, True, out_size, out)
    launch.run(lstm.lstm_forward, [("C", gates), ("C", bias)],
               [("C", hidden), ("C", cell), ("C", out), ("C", cells), ("C", full), ("i", projects),
                ("i", launch.inside)])
    return (shaped_like(out, shape), shaped_like(hidden, state), shaped_like(cell, state), gates,
            cells, full)


@structured("_lstm_layer_backward(Tensor grad_out, Tensor grad_hn, Tensor grad_cn, Tensor h0, "
            "Tensor c0, Tensor w_hh, Tensor? w_hr, Sizes sizes, bool reverse, Tensor output, "
            "Tensor gates, Tensor cells) -> (Tensor, Tensor, Tensor, Tensor, Tensor)", method=False,
            differentiable=False)
def _lstm_layer_backward(grad_out, grad_hn, grad_cn, h0, c0, w_hh, w_hr, sizes, reverse, output,
                         gates, cells):
    """Gradients of gates' arguments, h0 and c0; the state each row came from; gradient of h'."""
    (batch, size), out_size = c0._shape, h0._shape[1]
    projects, out = w_hr is not None, rows_of(output)
    launch = Launch(out, sizes, batch, reverse)
    grad, state, cell = rows_of(copy_of(grad_out)), copy_of(grad_hn), copy_of(grad_cn)
    result, previous = launch.new(*gates._shape), launch.new(*out._shape)
    full = launch.new(launch.rows if projects else 0, size)
    launch.product(result, w_hh, False, out_size, state)
    if projects:
        launch.product(grad, w_hr, False, size, full)
    launch.run(lstm.lstm_backward,
               [("C", gates), ("C", cells), ("C", contiguous(c0)), ("C", out),
                ("C", contiguous(h0)), ("C", grad)],
               [("C", state), ("C", cell), ("C", result), ("C", previous), ("C", full),
                ("i", projects)])
    return result, state, cell, previous, grad


@_lstm_layer.gradient("input", "h0", "c0", "w_ih", "w_hh", "b_ih", "b_hh", "w_hr")
def _(grad0, grad1, grad2, input, h0, c0, w_ih, w_hh, b_ih, b_hh, w_hr, sizes, reverse, result0,
      result3, result4, result5, needs):
    grad0, grad1, grad2 = (zeros_if_none(grad0, result0), _rows(zeros_if_none(grad1, h0)),
                           _rows(zeros_if_none(grad2, c0)))
    shapes, h0, c0, full = (h0._shape, c0._shape), _rows(h0), _rows(c0), result5
    if result0._requires_grad:
        gates, state, cell, previous, whole, full = steps.lstm_backward(
            _rows(grad0), grad1, grad2, _rows(input), h0, c0, w_ih, w_hh, b_ih, b_hh, w_hr, sizes,
            reverse)
    else:
        gates, state, cell, previous, whole = ops._lstm_layer_backward(
            grad0, grad1, grad2, h0, c0, w_hh, w_hr, sizes, reverse, result0, result3, result4)
    of_input, *of_weights = _weight_gradients(gates, input, previous, w_ih, needs)
    of_projection = ops.mm(ops.t(whole), full) if needs["w_hr"] else None
    return (of_input, ops.reshape(state, shapes[0]), ops.reshape(cell, shapes[1]), *of_weights,
            of_projection)


# GRU --------------------------------------------------------------------------------------------

@structured("_gru_layer(Tensor input, Tensor h0, Tensor w_ih, Tensor w_hh, Tensor? b_ih, "
            "Tensor? b_hh, Sizes sizes, bool reverse) -> (Tensor, Tensor, Tensor, Tensor)",
            method=False)
def _gru_layer(input, h0, w_ih, w_hh, b_ih, b_hh, sizes, reverse):
    """Output and final state; then what the gradient needs: gates, and ``h W_hn^T + b_hn``."""
    if is_few(h0):
        out, hidden, _, gates, inner = _FEW_GRU.run(input, h0, None, w_ih, w_hh, b_ih, b_hh, sizes,
                                                    reverse)
        return out, hidden, gates, inner
    (batch, size), state, h0 = h0._shape[-2:], h0, rows_of(contiguous(h0))
    shape, input = input, rows_of(contiguous(input))
    _check("gru", 3, input, h0, w_ih, w_hh, b_ih, b_hh, size, sizes)
    launch = Launch(input, sizes, batch, reverse)
    out, inner = launch.new(launch.rows, size), launch.new(launch.rows, size)
    # b_hn stands inside the product with r: only the biases of r and z can be added beforehand
    outer, inner_bias = _split_bias(b_hh, size, input)
    (gates, bias), hidden = launch.project(input, w_ih, b_ih, outer), copy_of(h0)
    launch.product(hidden, ops.slice(w_hh, 0, 0, 2 * size), True, 2 * size, gates)
    launch.product(hidden, ops.slice(w_hh, 0, 2 * size, 3 * size), True, size, inner)
    launch.run(gru.gru_forward, [("C", gates), ("C", bias), ("C", inner_bias)],
               [("C", hidden), ("C", out), ("C", inner), ("i", launch.inside)])
    return shaped_like(out, shape), shaped_like(hidden, state), gates, inner


def _split_bias(b_hh, size, like):
    """(b_hr, b_hz, 0) and b_hn; (None, zeros) without biases."""
    device = like._storage.device
    bias = empty((size,), like.dtype, device)
    if b_hh is None:
        return None, ops.zero_(bias)
    outer = copy_of(b_hh)
    ops.copy_(bias, ops.slice(b_hh, 0, 2 * size, 3 * size))
    ops.zero_(ops.slice(outer, 0, 2 * size, 3 * size))
    return outer, bias


@structured("_gru_layer_backward(Tensor grad_out, Tensor grad_hn, Tensor h0, Tensor w_hh, "
            "Sizes sizes, bool reverse, Tensor output, Tensor gates, Tensor inner) -> "
            "(Tensor, Tensor, Tensor, Tensor)", method=False, differentiable=False)
def _gru_layer_backward(grad_out, grad_hn, h0, w_hh, sizes, reverse, output, gates, inner):
    """Gradients of both products and of h0, and the state that each row started from."""
    (batch, size), out, grad_out = h0._shape, rows_of(output), rows_of(contiguous(grad_out))
    launch = Launch(out, sizes, batch, reverse)
    state, previous = copy_of(grad_hn), launch.new(*out._shape)
    of_input, of_hidden = launch.new(*gates._shape), launch.new(*gates._shape)
    launch.product(of_hidden, w_hh, False, size, state)
    launch.run(gru.gru_backward, [("C", gates), ("C", inner), ("C", out), ("C", contiguous(h0)),
                                  ("C", grad_out)],
               [("C", state), ("C", of_input), ("C", of_hidden), ("C", previous)])
    return of_input, of_hidden, state, previous


@_gru_layer.gradient("input", "h0", "w_ih", "w_hh", "b_ih", "b_hh")
def _(grad0, grad1, input, h0, w_ih, w_hh, b_ih, b_hh, sizes, reverse, result0, result2, result3,
      needs):
    grad0, grad1 = zeros_if_none(grad0, result0), _rows(zeros_if_none(grad1, h0))
    of_state, h0 = h0._shape, _rows(h0)
    if result0._requires_grad:
        gates, hidden_gates, state, previous = steps.gru_backward(
            _rows(grad0), grad1, _rows(input), h0, w_ih, w_hh, b_ih, b_hh, sizes, reverse)
    else:
        gates, hidden_gates, state, previous = ops._gru_layer_backward(
            grad0, grad1, h0, w_hh, sizes, reverse, result0, result2, result3)
    of_input, *of_weights = _weight_gradients(gates, input, previous, w_ih, needs, hidden_gates)
    return of_input, ops.reshape(state, of_state), *of_weights
