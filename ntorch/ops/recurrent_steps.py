"""Backpropagation through time written in ops: for gradients that must be differentiated again.

Each function runs the layer step by step, keeping what the chain rule needs, then walks back. It
returns what the kernels of ``kernels/rnn.py``, ``lstm.py`` and ``gru.py`` return, as functions of
the layer's inputs. The cost is some ten ops a step; only second derivatives come here.
"""
from .registry import ops


def _schedule(sizes, reverse):
    """(first row, number of rows) of each step, in the order in which they run."""
    found, at = [], 0
    for size in sizes:
        found.append((at, size))
        at += size
    return found[::-1] if reverse else found


def _rows(tensor, at, count):
    return ops.slice(tensor, 0, at, at + count)


def _replace(state, rows):
    """``state`` with its first rows replaced by ``rows``."""
    count = rows._shape[0]
    if count == state._shape[0]:
        return rows
    return ops.cat((rows, _rows(state, count, state._shape[0] - count)), 0)


def _joined(parts, schedule, like, width):
    """Rows of all steps, in the order of the data; no rows at all give an empty tensor."""
    if not parts:
        return ops.new_zeros(like, (0, width))
    order = sorted(range(len(parts)), key=lambda k: schedule[k][0])
    return ops.cat([parts[k] for k in order], 0)


def _chunks(tensor, count):
    size = tensor._shape[1] // count
    return [ops.slice(tensor, 1, k * size, (k + 1) * size) for k in range(count)]


def _sigmoid_slope(y):
    return y * (1 - y)


def rnn_backward(grad_out, grad_hn, input, h0, w_ih, w_hh, b_ih, b_hh, sizes, reverse, relu):
    """See ``_rnn_layer_backward``."""
    schedule = _schedule(sizes, reverse)
    base = ops.linear(input, w_ih, b_ih)
    hidden, kept = h0, []
    for at, count in schedule:
        old = _rows(hidden, 0, count)
        argument = _rows(base, at, count) + ops.linear(old, w_hh, b_hh)
        new = ops.relu(argument) if relu else ops.tanh(argument)
        kept.append((old, new))
        hidden = _replace(hidden, new)
    state, gates = grad_hn, []
    for (at, count), (_, new) in zip(schedule[::-1], kept[::-1], strict=True):
        grad = _rows(grad_out, at, count) + _rows(state, 0, count)
        grad = grad * (ops.to_dtype(new > 0, new.dtype) if relu else 1 - new * new)
        gates.append(grad)
        state = _replace(state, ops.mm(grad, w_hh))
    size = h0._shape[1]
    return (_joined(gates[::-1], schedule, h0, size), state,
            _joined([old for old, _ in kept], schedule, h0, size))


def lstm_backward(grad_out, grad_hn, grad_cn, input, h0, c0, w_ih, w_hh, b_ih, b_hh, w_hr, sizes,
                  reverse):
    """See ``_lstm_layer_backward``; the unprojected outputs are added to what it returns."""
    schedule = _schedule(sizes, reverse)
    base = ops.linear(input, w_ih, b_ih)
    hidden, cell, kept = h0, c0, []
    for at, count in schedule:
        old, old_cell = _rows(hidden, 0, count), _rows(cell, 0, count)
        i, f, g, o = _chunks(_rows(base, at, count) + ops.linear(old, w_hh, b_hh), 4)
        i, f, g, o = ops.sigmoid(i), ops.sigmoid(f), ops.tanh(g), ops.sigmoid(o)
        new_cell = f * old_cell + i * g
        bent = ops.tanh(new_cell)
        full = o * bent
        kept.append((old, old_cell, i, f, g, o, bent, full))
        hidden = _replace(hidden, full if w_hr is None else ops.linear(full, w_hr))
        cell = _replace(cell, new_cell)
    state, cell, gates, whole = grad_hn, grad_cn, [], []
    for (at, count), (_, old_cell, i, f, g, o, bent, _) in zip(schedule[::-1], kept[::-1],
                                                               strict=True):
        outer = _rows(grad_out, at, count) + _rows(state, 0, count)
        whole.append(outer)
        grad = outer if w_hr is None else ops.mm(outer, w_hr)
        of_cell = _rows(cell, 0, count) + grad * o * (1 - bent * bent)
        gates.append(ops.cat((
            of_cell * g * _sigmoid_slope(i), of_cell * old_cell * _sigmoid_slope(f),
            of_cell * i * (1 - g * g), grad * bent * _sigmoid_slope(o)), 1))
        state = _replace(state, ops.mm(gates[-1], w_hh))
        cell = _replace(cell, of_cell * f)
    size, out_size = c0._shape[1], h0._shape[1]
    return (_joined(gates[::-1], schedule, h0, 4 * size), state, cell,
            _joined([k[0] for k in kept], schedule, h0, out_size),
            _joined(whole[::-1], schedule, h0, out_size),
            _joined([k[-1] for k in kept], schedule, h0, size))


def gru_backward(grad_out, grad_hn, input, h0, w_ih, w_hh, b_ih, b_hh, sizes, reverse):
    """See ``_gru_layer_backward``."""
    schedule = _schedule(sizes, reverse)
    base = ops.linear(input, w_ih, b_ih)
    hidden, kept = h0, []
    for at, count in schedule:
        old = _rows(hidden, 0, count)
        r, z, n = _chunks(_rows(base, at, count), 3)
        of_r, of_z, inner = _chunks(ops.linear(old, w_hh, b_hh), 3)
        r, z = ops.sigmoid(r + of_r), ops.sigmoid(z + of_z)
        n = ops.tanh(n + r * inner)
        kept.append((old, r, z, n, inner))
        hidden = _replace(hidden, n + z * (old - n))
    state, gates, hidden_gates = grad_hn, [], []
    for (at, count), (old, r, z, n, inner) in zip(schedule[::-1], kept[::-1], strict=True):
        grad = _rows(grad_out, at, count) + _rows(state, 0, count)
        of_n = grad * (1 - z) * (1 - n * n)
        of_z = grad * (old - n) * _sigmoid_slope(z)
        of_r = of_n * inner * _sigmoid_slope(r)
        gates.append(ops.cat((of_r, of_z, of_n), 1))
        hidden_gates.append(ops.cat((of_r, of_z, of_n * r), 1))
        state = _replace(state, grad * z + ops.mm(hidden_gates[-1], w_hh))
    size = h0._shape[1]
    return (_joined(gates[::-1], schedule, h0, 3 * size),
            _joined(hidden_gates[::-1], schedule, h0, 3 * size), state,
            _joined([k[0] for k in kept], schedule, h0, size))
