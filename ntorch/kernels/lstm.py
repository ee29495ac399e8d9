"""Long short-term memory (Hochreiter and Schmidhuber, 1997; forget gate, Gers et al., 2000).

    i, f, o = sigmoid(...), g = tanh(...)      all of x W_ih^T + b + h W_hh^T, in the order i f g o
    c' = f c + i g,   h' = o tanh(c')          or h' = W_hr (o tanh(c')) with a projection

Layout and conventions: ``rnn.py``.
"""
from .math import sigmoid, tanh
from .rnn import (
    active_rows,
    add_row,
    begin_rows,
    copy_row,
    multiply,
    previous_rows,
)


def advance(gates, first, last, cell, full):
    """Activate the gates of units ``[first, last)``; new ``cell``, ``full = o tanh(cell)``."""
    size, count = gates.shape[0] // 4, last - first
    i, f = gates[first:last], gates[size + first:size + last]
    g, o = gates[2 * size + first:2 * size + last], gates[3 * size + first:3 * size + last]
    for j in range(count):
        i[j] = sigmoid(i[j])
    for j in range(count):
        f[j] = sigmoid(f[j])
    for j in range(count):
        g[j] = tanh(g[j])
    for j in range(count):
        o[j] = sigmoid(o[j])
    for j in range(count):
        cell[j] = f[j] * cell[j] + i[j] * g[j]
    for j in range(count):
        full[j] = o[j] * tanh(cell[j])


def lstm_forward(calls, gates, bias, offsets, sizes, hidden, cell, out, cells, full, project,
                 inside, block, reverse, begin, end):
    """The layer over a whole sequence.

    ``gates`` gets the input's part and becomes the activated gates; ``hidden`` and ``cell``
    hold the initial states and become the final ones; ``cells`` and ``full`` keep c' and, if
    ``project``, o tanh(c'). Products 1, 2: hidden x W_hh^T into gates, full x W_hr^T into out.
    """
    size, steps = cell.shape[1], sizes.shape[0]
    for item in range(begin, end):
        first = item * block
        for count_of in range(steps):
            step = steps - 1 - count_of if reverse != 0 else count_of
            count = active_rows(sizes, step, first, block)
            at = offsets[step] + first
            if inside != 0:
                begin_rows(calls[item], bias, gates, at, count)
            multiply(calls[item], 1, first, at, count, 1)
            for r in range(count):
                if project != 0:
                    advance(gates[at + r], 0, size, cell[first + r], full[at + r])
                else:
                    advance(gates[at + r], 0, size, cell[first + r], out[at + r])
                copy_row(cell[first + r], cells[at + r])
            if project != 0:
                multiply(calls[item], 2, at, at, count, 0)
            for r in range(count):
                copy_row(out[at + r], hidden[first + r])


def units_of_lstm(sums, units, first, gates, bias, memory, kept, old, new):
    """Add the product to the gates of some units and ``advance`` them; see ``recurrent_few``."""
    size, count = gates.shape[0] // 4, new.shape[0]
    for gate in range(4):
        start = gate * size + first
        target, part = gates[start:start + count], sums[gate * units:gate * units + count]
        for j in range(count):
            target[j] += part[j]
    advance(gates, first, first + count, memory, new)
    copy_row(memory, kept)


def gradient_row(gates, new_cell, old_cell, grad, cell, result):
    """Gradient of the gates' arguments; ``grad`` is that of o tanh(c'), ``cell`` of c', then c."""
    size = cell.shape[0]
    i, f, g, o = (gates[:size], gates[size:2 * size], gates[2 * size:3 * size], gates[3 * size:])
    di, df, dg, do = (result[:size], result[size:2 * size], result[2 * size:3 * size],
                      result[3 * size:])
    for j in range(size):
        do[j] = tanh(new_cell[j])
    for j in range(size):
        cell[j] += grad[j] * o[j] * (1.0 - do[j] * do[j])
    for j in range(size):
        do[j] *= grad[j] * o[j] * (1.0 - o[j])
    for j in range(size):
        di[j] = cell[j] * g[j] * i[j] * (1.0 - i[j])
    for j in range(size):
        df[j] = cell[j] * old_cell[j] * f[j] * (1.0 - f[j])
    for j in range(size):
        dg[j] = cell[j] * i[j] * (1.0 - g[j] * g[j])
    for j in range(size):
        cell[j] *= f[j]


def lstm_backward(calls, gates, cells, cell0, out, hidden0, grad, offsets, sizes, state, cell,
                  result, previous, full, project, block, reverse, begin, end):
    """Backpropagation through time of ``lstm_forward``.

    ``state`` and ``cell`` hold the gradients of hn and cn and become those of h0 and c0;
    ``grad`` is that of the output, and becomes the whole gradient of each h'. ``result`` gets the
    gradient of the gates' arguments, ``full`` that of o tanh(c') if ``project``.
    Products: result x W_hh into state, grad x W_hr into full.
    """
    steps = sizes.shape[0]
    for item in range(begin, end):
        first = item * block
        for count_of in range(steps):
            step = count_of if reverse != 0 else steps - 1 - count_of
            before = step + 1 if reverse != 0 else step - 1
            count = active_rows(sizes, step, first, block)
            had = 0
            if before >= 0 and before < steps:
                had = active_rows(sizes, before, first, count)
            at = offsets[step] + first
            for r in range(count):
                add_row(state[first + r], grad[at + r])
            if project != 0:
                multiply(calls[item], 1, at, at, count, 0)
            for r in range(count):
                old = cells[offsets[before] + first + r] if r < had else cell0[first + r]
                outer = full[at + r] if project != 0 else grad[at + r]
                gradient_row(gates[at + r], cells[at + r], old, outer, cell[first + r],
                             result[at + r])
            multiply(calls[item], 0, at, first, count, 0)
            previous_rows(out, hidden0, offsets, sizes, step, count, first, reverse, previous)
