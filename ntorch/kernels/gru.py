"""Gated recurrent unit (Cho et al., 2014), with the reset gate after the product, as in cuDNN.

    r, z = sigmoid(x W_i^T + b_i + h W_h^T + b_h)
    n = tanh(x W_in^T + b_in + r (h W_hn^T + b_hn)),   h' = (1 - z) n + z h

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


def advance(gates, first, last, inner, old, new):
    """Activate the gates of units ``[first, last)`` in place; the ``new`` hidden state of them."""
    size, count = gates.shape[0] // 3, last - first
    r, z = gates[first:last], gates[size + first:size + last]
    n = gates[2 * size + first:2 * size + last]
    for j in range(count):
        r[j] = sigmoid(r[j])
    for j in range(count):
        z[j] = sigmoid(z[j])
    for j in range(count):
        n[j] = tanh(n[j] + r[j] * inner[j])
    for j in range(count):
        new[j] = n[j] + z[j] * (old[j] - n[j])


def gru_forward(calls, gates, bias, inner_bias, offsets, sizes, hidden, out, inner, inside, block,
                reverse, begin, end):
    """The layer over a whole sequence.

    ``gates`` gets the input's part and becomes the activated gates; ``inner`` keeps
    ``h W_hn^T + b_hn``; ``hidden`` holds h0 and becomes hn; ``inner_bias`` is b_hn.
    Products 1, 2: hidden x W_hh^T of r and z into gates, of n into inner.
    """
    size, steps = hidden.shape[1], sizes.shape[0]
    for item in range(begin, end):
        first = item * block
        for count_of in range(steps):
            step = steps - 1 - count_of if reverse != 0 else count_of
            count = active_rows(sizes, step, first, block)
            at = offsets[step] + first
            if inside != 0:
                begin_rows(calls[item], bias, gates, at, count)
            for r in range(count):
                copy_row(inner_bias, inner[at + r])
            multiply(calls[item], 1, first, at, count, 1)
            multiply(calls[item], 2, first, at, count, 1)
            for r in range(count):
                advance(gates[at + r], 0, size, inner[at + r], hidden[first + r], out[at + r])
                copy_row(out[at + r], hidden[first + r])


def units_of_gru(sums, units, first, gates, bias, memory, kept, old, new):
    """Add the products to what some units begin with, ``advance`` them; see ``recurrent_few``."""
    size, count = gates.shape[0] // 3, new.shape[0]
    for gate in range(2):
        start = gate * size + first
        target, part = gates[start:start + count], sums[gate * units:gate * units + count]
        for j in range(count):
            target[j] += part[j]
    start = 2 * size + first
    inner, begins = sums[2 * units:2 * units + count], bias[start:start + count]
    for j in range(count):
        kept[j] = begins[j] + inner[j]
    advance(gates, first, first + count, kept, old[first:first + count], new)


def gradient_row(gates, inner, old, grad, of_input, of_hidden):
    """Gradients of both products; ``grad`` is that of h' and becomes its direct part to h."""
    size = inner.shape[0]
    r, z, n = gates[:size], gates[size:2 * size], gates[2 * size:]
    dr, dz, dn = of_input[:size], of_input[size:2 * size], of_input[2 * size:]
    inner_grad = of_hidden[2 * size:]
    for j in range(size):
        dn[j] = grad[j] * (1.0 - z[j]) * (1.0 - n[j] * n[j])
    for j in range(size):
        dz[j] = grad[j] * (old[j] - n[j]) * z[j] * (1.0 - z[j])
    for j in range(size):
        inner_grad[j] = dn[j] * r[j]
    for j in range(size):
        dr[j] = dn[j] * inner[j] * r[j] * (1.0 - r[j])
    for j in range(size):
        grad[j] *= z[j]
    for j in range(2 * size):
        of_hidden[j] = of_input[j]


def gru_backward(calls, gates, inner, out, initial, grad, offsets, sizes, state, of_input,
                 of_hidden, previous, block, reverse, begin, end):
    """Backpropagation through time of ``gru_forward``.

    ``state`` holds the gradient of hn and becomes that of h0; ``of_input`` and ``of_hidden``
    get the gradients of the two products, ``previous`` the state each row started from.
    Product 0: of_hidden x W_hh into state.
    """
    steps = sizes.shape[0]
    for item in range(begin, end):
        first = item * block
        for count_of in range(steps):
            step = count_of if reverse != 0 else steps - 1 - count_of
            count = active_rows(sizes, step, first, block)
            at = offsets[step] + first
            previous_rows(out, initial, offsets, sizes, step, count, first, reverse, previous)
            for r in range(count):
                add_row(grad[at + r], state[first + r])
                gradient_row(gates[at + r], inner[at + r], previous[at + r], state[first + r],
                             of_input[at + r], of_hidden[at + r])
            multiply(calls[item], 0, at, first, count, 1)
