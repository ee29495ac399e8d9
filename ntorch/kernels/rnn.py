"""Recurrent layers: what the three cells share, and the plain cell (Elman, 1990).

A layer runs over a whole sequence in one launch; the range is over blocks of batch rows, which do
not depend on each other. Rows of all steps lie one after the other: step t has the ``sizes[t]``
rows from ``offsets[t]`` on, the longest sequence first, so packed and padded input are one case. A
sequence's state waits in ``hidden`` (B, H) while it has not begun or is over.

The product with the inputs is either done before, for all steps, by all threads, or (``inside``)
by each step just before its rows are needed: then they are still in the nearest cache, and a
layer's largest array goes through memory once. The bits are the same. Each step adds
``hidden @ W_hh^T``. A product is a kernel of its own, compiled once for all cells and called by
address: ``calls[item]`` is the table that describes the products of one block of rows, that with
the inputs first. Weights are packed in panels of ``width`` columns: (k, j) is at
``((j // width) * depth + k) * width + j % width``.
"""
import functools

from .gemm_stubs import call_kernel, multiply_tile, turn_square
from .math import tanh

# A call of the product: its address, then its table (a, panels, columns, c, row, at, accumulate).
CALL_SLOTS = 13
ROW, AT, ACCUMULATE = 10, 11, 12
INPUT = 0               # the product with the inputs, in forward kernels


def pack_transposed(weight, panels, width, first, count):
    """Pack rows ``[first, first + count)`` of ``weight`` as the columns of one panel."""
    for j in range(count):
        row, to = weight[first + j], panels[j:]
        for k in range(row.shape[0]):
            to[k * width] = row[k]


@functools.cache
def pack_panels(lanes):
    """``pack(weight, panels, width, transposed, begin, end)``: panels of a matrix or its transpose.

    ``width`` is a multiple of ``lanes``, the size of the squares that are transposed in registers.
    """
    def pack(weight, panels, width, transposed, begin, end):
        depth = weight.shape[1] if transposed != 0 else weight.shape[0]
        columns = weight.shape[0] if transposed != 0 else weight.shape[1]
        for panel in range(begin, end):
            first = panel * width
            count = min(width, columns - first)
            base = panel * width * depth
            block = panels[base:base + width * depth]
            if count < width:
                for i in range(width * depth):
                    block[i] = 0.0
            if transposed == 0:
                for k in range(depth):
                    row, to = weight[k, first:first + count], block[k * width:(k + 1) * width]
                    for j in range(count):
                        to[j] = row[j]
            elif count < width or depth % lanes != 0:
                pack_transposed(weight, block, width, first, count)
            else:
                for j in range(0, width, lanes):
                    for k in range(0, depth, lanes):
                        turn_square(weight, (first + j) * depth + k, depth, panels,
                                    base + k * width + j, width, lanes)
    return pack


@functools.cache
def rows_kernel(tall, vectors, lanes):
    """``rows(a, first, count, panels, panel, left, c, c_at, accumulate)`` for a register tile size.

    ``c[c_at:][i, :left] (+)= a[first + i] @ B`` for i < ``count``, where the panel of B starts at
    ``panel`` and its columns beyond ``left`` are padding. Each element is one sum over ascending k
    whatever the tile, so the result does not depend on how rows are grouped.
    """
    width = vectors * lanes
    middle = min(4, tall)

    def rows(a, first, count, panels, panel, left, c, c_at, accumulate):
        depth, c_row = a.shape[1], c.shape[1]
        i = 0
        while i < count:
            a_at, at = (first + i) * depth, c_at + i * c_row
            if left >= width and i + tall <= count:
                multiply_tile(a, a_at, depth, 1, panels, panel, width, c, at, c_row, depth,
                              accumulate, width, tall, vectors, lanes, 0)
                i += tall
            elif left >= width and i + middle <= count:
                multiply_tile(a, a_at, depth, 1, panels, panel, width, c, at, c_row, depth,
                              accumulate, width, middle, vectors, lanes, 0)
                i += middle
            elif i + middle <= count:
                multiply_tile(a, a_at, depth, 1, panels, panel, width, c, at, c_row, depth,
                              accumulate, left, middle, vectors, lanes, 1)
                i += middle
            else:
                multiply_tile(a, a_at, depth, 1, panels, panel, width, c, at, c_row, depth,
                              accumulate, left, 1, vectors, lanes, 1)
                i += 1
    return rows


@functools.cache
def product_kernel(tall, vectors, lanes):
    """``product(a, panels, columns, c, row, at, accumulate, begin, end)`` for a register tile size.

    ``c[at + i, :columns] (+)= a[row + i] @ B`` for i in [begin, end); see ``rows_kernel``.
    """
    width = vectors * lanes
    rows = rows_kernel(tall, vectors, lanes)

    def product(a, panels, columns, c, row, at, accumulate, begin, end):
        for first in range(0, columns, width):
            rows(a, row + begin, end - begin, panels, first * a.shape[1], columns - first, c,
                 (at + begin) * c.shape[1] + first, accumulate)
    return product


def multiply(call, product, row, at, count, accumulate):
    """Run one of the products that ``call`` (a row of the table of calls) describes."""
    base = product * CALL_SLOTS
    call[base + ROW] = row
    call[base + AT] = at
    call[base + ACCUMULATE] = accumulate
    call_kernel(call, base, base + 1, 0, count)


def begin_rows(call, bias, values, at, count):
    """``values[at:at + count] = bias + input[at:at + count] @ W_ih^T``."""
    for r in range(count):
        copy_row(bias, values[at + r])
    multiply(call, INPUT, at, at, count, 1)


def active_rows(sizes, step, first, block):
    """How many rows of the block that starts at row ``first`` take part in a step."""
    return max(0, min(block, sizes[step] - first))


def is_last(sizes, step, row, reverse):
    """Whether a step is the last one of a row's sequence."""
    if reverse != 0:
        return step == 0
    return step + 1 == sizes.shape[0] or sizes[step + 1] <= row


def row_before(offsets, sizes, step, row, reverse):
    """Where the output of a row's step before lies; -1 if its sequence begins with this step."""
    before = step + 1 if reverse != 0 else step - 1
    if before >= 0 and before < sizes.shape[0] and row < sizes[before]:
        return offsets[before] + row
    return -1


def copy_row(source, target):
    """``target[:] = source``."""
    for j in range(target.shape[0]):
        target[j] = source[j]


def add_row(source, target):
    """``target[:] += source``."""
    for j in range(target.shape[0]):
        target[j] += source[j]


def previous_rows(out, initial, offsets, sizes, step, count, first, reverse, previous):
    """Copy the hidden states that a step started from to its rows of ``previous``."""
    before = step + 1 if reverse != 0 else step - 1
    had = active_rows(sizes, before, first, count) if 0 <= before < sizes.shape[0] else 0
    at = offsets[step] + first
    for r in range(count):
        if r < had:
            copy_row(out[offsets[before] + first + r], previous[at + r])
        else:
            copy_row(initial[first + r], previous[at + r])


def relu_row(row):
    """``row = max(row, 0)``; NaN stays."""
    for j in range(row.shape[0]):
        row[j] = 0.0 if row[j] < 0.0 else row[j]


def tanh_row(row):
    """``row = tanh(row)``."""
    for j in range(row.shape[0]):
        row[j] = tanh(row[j])


def rnn_forward(calls, out, bias, offsets, sizes, hidden, relu, inside, block, reverse, begin,
                end):
    """The plain cell over a sequence: ``h' = f(x W_ih^T + b + h W_hh^T)``, f tanh or relu.

    ``out`` gets the input's part and becomes the output; ``hidden`` holds h0 and becomes hn.
    Product 1: hidden x W_hh^T into out.
    """
    steps = sizes.shape[0]
    for item in range(begin, end):
        first = item * block
        for count_of in range(steps):
            step = steps - 1 - count_of if reverse != 0 else count_of
            count = active_rows(sizes, step, first, block)
            at = offsets[step] + first
            if inside != 0:
                begin_rows(calls[item], bias, out, at, count)
            multiply(calls[item], 1, first, at, count, 1)
            for r in range(count):
                if relu != 0:
                    relu_row(out[at + r])
                else:
                    tanh_row(out[at + r])
                copy_row(out[at + r], hidden[first + r])


def tanh_units(sums, units, first, values, bias, memory, kept, old, new):
    """``new = tanh(values + sums)``, as ``recurrent_few`` asks for it; no gate but itself."""
    piece = values[first:first + new.shape[0]]
    for j in range(new.shape[0]):
        new[j] = tanh(piece[j] + sums[j])


def relu_units(sums, units, first, values, bias, memory, kept, old, new):
    """``new = max(values + sums, 0)``; NaN stays."""
    piece = values[first:first + new.shape[0]]
    for j in range(new.shape[0]):
        value = piece[j] + sums[j]
        new[j] = 0.0 if value < 0.0 else value


def rnn_gradient_row(out, grad, state, relu, result):
    """``result = (grad + state) * f'`` where f' is expressed by the output."""
    for j in range(out.shape[0]):
        result[j] = grad[j] + state[j]
    if relu != 0:
        for j in range(out.shape[0]):
            result[j] = 0.0 if out[j] <= 0.0 else result[j]
    else:
        for j in range(out.shape[0]):
            result[j] *= 1.0 - out[j] * out[j]


def rnn_backward(calls, out, initial, grad, offsets, sizes, state, gates, previous, relu, block,
                 reverse, begin, end):
    """Backpropagation through time of ``rnn_forward``.

    ``state`` holds the gradient of hn and becomes that of h0; ``gates`` gets the gradient of what
    went into f, ``previous`` the hidden state each row started from. Product 0: gates x W_hh into
    state.
    """
    steps = sizes.shape[0]
    for item in range(begin, end):
        first = item * block
        for count_of in range(steps):
            step = count_of if reverse != 0 else steps - 1 - count_of
            count = active_rows(sizes, step, first, block)
            at = offsets[step] + first
            for r in range(count):
                rnn_gradient_row(out[at + r], grad[at + r], state[first + r], relu, gates[at + r])
            multiply(calls[item], 0, at, first, count, 0)
            previous_rows(out, initial, offsets, sizes, step, count, first, reverse, previous)
