"""Recurrent layers: what the three cells share, and the plain cell (Elman, 1990).

A layer runs over a whole sequence in one launch; the range is over blocks of batch rows, which do
not depend on each other. Rows of all steps lie one after the other: step t has the ``sizes[t]``
rows from ``offsets[t]`` on, the longest sequence first, so packed and padded input are one case. A
sequence's state waits in ``hidden`` (B, H) while it has not begun or is over.

The product with the inputs is done before, for all steps; here each step adds ``hidden @ W_hh^T``
to it. That product is a kernel of its own, compiled once for all cells and called by address:
``calls[item]`` is the table that describes the products of one block of rows. Weights are packed in
panels of ``width`` columns: (k, j) is at ``((j // width) * depth + k) * width + j % width``.
"""
import functools

from .gemm_stubs import call_kernel, multiply_tile
from .math import tanh

LINE = 16       # elements of a cache line
# A call of the product: its address, then its table (a, panels, columns, c, row, at, accumulate).
CALL_SLOTS = 13
ROW, AT, ACCUMULATE = 10, 11, 12


def pack_panels(weight, panels, width, transposed, begin, end):
    """Pack panels ``[begin, end)`` of ``weight``, or of its transpose."""
    depth = weight.shape[1] if transposed != 0 else weight.shape[0]
    columns = weight.shape[0] if transposed != 0 else weight.shape[1]
    for panel in range(begin, end):
        first = panel * width
        count = min(width, columns - first)
        block = panels[panel * width * depth:(panel + 1) * width * depth]
        if count < width:
            for k in range(depth):
                for j in range(count, width):
                    block[k * width + j] = 0.0
        if transposed == 0:
            for k in range(depth):
                row, to = weight[k, first:first + count], block[k * width:(k + 1) * width]
                for j in range(count):
                    to[j] = row[j]
        else:
            # one cache line of each row at a time: its targets then stay in the first-level cache
            for k in range(0, depth, LINE):
                here = min(LINE, depth - k)
                for j in range(count):
                    row, to = weight[first + j, k:k + here], block[k * width + j:]
                    for i in range(here):
                        to[i * width] = row[i]


@functools.cache
def product_kernel(tall, vectors, lanes):
    """``product(a, panels, columns, c, row, at, accumulate, begin, end)`` for a register tile size.

    ``c[at + i, :columns] (+)= a[row + i] @ B`` for i in [begin, end). Each element is one sum over
    ascending k whatever the tile, so the result does not depend on how rows are grouped.
    """
    width = vectors * lanes
    middle = min(4, tall)

    def product(a, panels, columns, c, row, at, accumulate, begin, end):
        depth = a.shape[1]
        a_row, c_row = a.shape[1], c.shape[1]
        panel = 0
        for first in range(0, columns, width):
            left = columns - first
            i = begin
            while i < end:
                a_at = (row + i) * a_row
                c_at = (at + i) * c_row + first
                if left >= width and i + tall <= end:
                    multiply_tile(a, a_at, a_row, 1, panels, panel, width, c, c_at, c_row, depth,
                                  accumulate, width, tall, vectors, lanes, 0)
                    i += tall
                elif left >= width and i + middle <= end:
                    multiply_tile(a, a_at, a_row, 1, panels, panel, width, c, c_at, c_row, depth,
                                  accumulate, width, middle, vectors, lanes, 0)
                    i += middle
                elif i + middle <= end:
                    multiply_tile(a, a_at, a_row, 1, panels, panel, width, c, c_at, c_row, depth,
                                  accumulate, left, middle, vectors, lanes, 1)
                    i += middle
                else:
                    multiply_tile(a, a_at, a_row, 1, panels, panel, width, c, c_at, c_row, depth,
                                  accumulate, left, 1, vectors, lanes, 1)
                    i += 1
            panel += width * depth
    return product


def multiply(call, product, row, at, count, accumulate):
    """Run one of the products that ``call`` (a row of the table of calls) describes."""
    base = product * CALL_SLOTS
    call[base + ROW] = row
    call[base + AT] = at
    call[base + ACCUMULATE] = accumulate
    call_kernel(call, base, base + 1, 0, count)


def active_rows(sizes, step, first, block):
    """How many rows of the block that starts at row ``first`` take part in a step."""
    return max(0, min(block, sizes[step] - first))


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


def rnn_forward(calls, out, offsets, sizes, hidden, relu, block, reverse, begin, end):
    """The plain cell over a sequence: ``h' = f(x W_ih^T + b + h W_hh^T)``, f tanh or relu.

    ``out`` holds the input's part and becomes the output; ``hidden`` holds h0 and becomes hn.
    Product 0: hidden x W_hh^T into out.
    """
    steps = sizes.shape[0]
    for item in range(begin, end):
        first = item * block
        for count_of in range(steps):
            step = steps - 1 - count_of if reverse != 0 else count_of
            count = active_rows(sizes, step, first, block)
            at = offsets[step] + first
            multiply(calls[item], 0, first, at, count, 1)
            for r in range(count):
                if relu != 0:
                    relu_row(out[at + r])
                else:
                    tanh_row(out[at + r])
                copy_row(out[at + r], hidden[first + r])


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
