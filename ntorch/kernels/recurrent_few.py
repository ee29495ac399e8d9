"""Recurrent layers over a few rows: the threads share the hidden units of each step.

A few rows leave nothing else to share out. The units are cut in *parts*; a step's parts wait until
all parts of the step before are done, and that is all that threads say to each other:

* ``flags[LINE * p]`` counts the steps that part p is through with, on a cache line of its own;
* behind those counters lie the *claims*, for each part one a step: who counts a claim up from zero
  does that part of that step. A part's claims lie together, for as a rule one thread has them all.

A launch hands each thread a range of parts, and it claims those. If it finds itself waiting for
long it takes over what nobody has claimed: the rest of the range may be in no thread's hands yet.
What has been claimed is in the hands of a thread that runs, so this ends however many threads there
are; and since a part is computed in the same way by whomever, the result is the same to the bit.

The weights are packed in the first step, each part by who has it then, which brings them into that
core's cache. Panel q of a part holds the columns of ``units`` hidden units, one gate after the
other: (k, gate, unit) is at ``((q * depth + k) * gates + gate) * units + unit``. Packing takes as
long as some steps; for less than that there are dot products with the weights as they are.
"""
import functools

from .gemm_stubs import multiply_tile, read_number, stack_array, take_number, turn_square
from .rnn import copy_row, is_last, row_before, rows_kernel
from .stubs import T

LINE = 16               # integers from one counter to the next: a pair of cache lines
PATIENCE = 2000         # looks at the counters, some two microseconds, before a part is taken over
DEPTH = 32              # rows of a panel that are read at a time
NEAR = 8                # rows of weights that all rows of the input are multiplied with in turn
MOST_ROWS = 3


def is_done(flags, parts, steps):
    """Whether all parts are through with so many steps."""
    for part in range(parts):
        if read_number(flags, LINE * part) < steps:
            return False
    return True


def claim(flags, parts, steps, part, turn):
    """Whether this thread is the first to ask for that part of that step."""
    at = LINE * parts + part * steps + turn
    return read_number(flags, at) == 0 and take_number(flags, at) == 0


def next_part(flags, parts, steps, turn, begin, end, patience):
    """Claim a part of step ``turn``; -1 when all of the step is done."""
    for part in range(begin, end):
        if claim(flags, parts, steps, part, turn):
            return part
    for _ in range(patience):
        if is_done(flags, parts, turn + 1):
            return -1
    for part in range(parts):
        if claim(flags, parts, steps, part, turn):
            return part
    while not is_done(flags, parts, turn + 1):
        pass
    return -1


def pack_columns(weight, first, count, panel, step):
    """``panel[k * step + i] = weight[first + i, k]``, element by element."""
    for i in range(count):
        row, to = weight[first + i], panel[i:]
        for k in range(row.shape[0]):
            to[k * step] = row[k]


@functools.cache
def pack_kernel(lanes):
    """``pack(weight, first, count, panel, step)``: ``pack_columns``, by squares where they fit."""
    def pack(weight, first, count, panel, step):
        depth = weight.shape[1]
        if count % lanes != 0 or depth % lanes != 0:
            pack_columns(weight, first, count, panel, step)
            return
        for i in range(0, count, lanes):
            for k in range(0, depth, lanes):
                turn_square(weight, (first + i) * depth + k, depth, panel, k * step + i, step,
                            lanes)
    return pack


def add_biases(b_ih, b_hh, first, last, shared, values):
    """``values[:, first:last] = b_ih``, and b_hh added where ``shared``."""
    for at in range(values.shape[0]):
        row, one, other = values[at, first:last], b_ih[first:last], b_hh[first:last]
        if shared:
            for j in range(last - first):
                row[j] = one[j] + other[j]
        else:
            copy_row(one, row)


@functools.cache
def input_kernel(tall, lanes):
    """``project(input, w_ih, first, last, panel, values)``: ``values += input @ w_ih^T``.

    For the columns ``[first, last)``, a panel at a time, which stays in the nearest cache.
    """
    width = 2 * lanes
    pack, rows = pack_kernel(lanes), rows_kernel(tall, 2, lanes)

    def project(input, w_ih, first, last, panel, values):
        for column in range(first, last, width):
            count = min(width, last - column)
            pack(w_ih, column, count, panel, width)
            rows(input, 0, input.shape[0], panel, 0, count, values, column, 1)
    return project


def panel_shape(gates, lanes):
    """Hidden units in a panel, and its columns: enough vectors to hide the latency of fma."""
    units = lanes * (2 if gates > 1 else 4)
    return units, units * gates


def dot_rows(weight, first, state, target):
    """``target[n] += weight[first + n] . state``, four rows at a time."""
    count = target.shape[0]
    fours = count // 4 * 4
    for n in range(0, fours, 4):
        w0, w1, w2, w3 = (weight[first + n], weight[first + n + 1], weight[first + n + 2],
                          weight[first + n + 3])
        s0, s1, s2, s3 = T(0), T(0), T(0), T(0)
        for k in range(state.shape[0]):
            s0 += w0[k] * state[k]
            s1 += w1[k] * state[k]
            s2 += w2[k] * state[k]
            s3 += w3[k] * state[k]
        target[n] += s0
        target[n + 1] += s1
        target[n + 2] += s2
        target[n + 3] += s3
    for n in range(fours, count):
        row, total = weight[first + n], T(0)
        for k in range(state.shape[0]):
            total += row[k] * state[k]
        target[n] += total


@functools.cache
def packed_products(gates, tall, lanes):
    """``begin`` and ``multiply`` for weights that are packed before the first step.

    ``begin(first, last, input, w_ih, w_hh, panels, panel, values)`` adds the input's part of units
    ``[first, last)`` to ``values``, for all steps; ``multiply(first, last, turn, w_hh, panels,
    offsets, sizes, step, reverse, h0, out, sums)`` computes the products of at most a panel's units
    with the states before a step.
    """
    units, columns = panel_shape(gates, lanes)
    vectors = columns // lanes
    pack, project = pack_kernel(lanes), input_kernel(tall, lanes)

    def begin(first, last, input, w_ih, w_hh, panels, panel, values):
        size, depth = w_hh.shape[0] // gates, w_hh.shape[1]
        for gate in range(gates):
            project(input, w_ih, gate * size + first, gate * size + last, panel, values)
            for unit in range(first, last, units):
                to = unit * gates * depth + gate * units
                pack(w_hh, gate * size + unit, min(units, last - unit), panels[to:], columns)

    def multiply(first, last, turn, w_hh, panels, offsets, sizes, step, reverse, h0, out, sums):
        depth = w_hh.shape[1]
        panel, cuts = panels[first * gates * depth:], (depth + DEPTH - 1) // DEPTH
        for number in range(cuts):
            # to and fro: what a step reads last is still in the nearest cache
            k = DEPTH * (cuts - 1 - number if turn & 1 else number)
            deep = min(DEPTH, depth - k)
            for r in range(sizes[step]):
                before = row_before(offsets, sizes, step, r, reverse)
                old = out[before] if before >= 0 else h0[r]
                multiply_tile(old, k, depth, 1, panel, k * columns, columns, sums, r * columns,
                              columns, deep, number, columns, 1, vectors, lanes, 0)
    return begin, multiply


@functools.cache
def plain_products(gates, lanes):
    """``begin`` and ``multiply`` as in ``packed_products``, on the weights as they are."""
    units, columns = panel_shape(gates, lanes)

    def begin(first, last, input, w_ih, w_hh, panels, panel, values):
        size = w_hh.shape[0] // gates
        for gate in range(gates):
            end = gate * size + last
            for some in range(gate * size + first, end, NEAR):
                for at in range(values.shape[0]):
                    dot_rows(w_ih, some, input[at], values[at, some:min(end, some + NEAR)])

    def multiply(first, last, turn, w_hh, panels, offsets, sizes, step, reverse, h0, out, sums):
        size = w_hh.shape[0] // gates
        for r in range(sizes[step]):
            before = row_before(offsets, sizes, step, r, reverse)
            for gate in range(gates):
                start = r * columns + gate * units
                target = sums[start:start + last - first]
                for j in range(last - first):
                    target[j] = 0.0
                dot_rows(w_hh, gate * size + first, out[before] if before >= 0 else h0[r], target)
    return begin, multiply


@functools.cache
def few_kernel(cell, gates, shared, packed, tall, lanes):
    """The forward kernel of a cell of so many gates; the input's product is part of it.

    The first ``shared`` gates add up both biases, the others only that of the input.

    ``cell(sums, units, first, values, bias, memory, kept, old, new)`` finishes the units from
    ``first`` on, as many as ``new`` and ``memory`` and ``kept``, pieces of rows, have room for.
    ``values`` is the row of the input's part, ``old`` that of the state before; the product of gate
    g with it is in ``sums[g * units:]``; ``bias`` is b_hh. ``out`` and ``kept`` are (rows, H);
    ``hidden`` and ``memory``, (B, H), start as ``h0`` and ``memory0`` and become the final states.
    """
    units, columns = panel_shape(gates, lanes)
    room = MOST_ROWS * columns
    begin_part, multiply_rows = (packed_products(gates, tall, lanes) if packed
                                 else plain_products(gates, lanes))

    def finish_rows(sums, first, last, bias, values, offsets, sizes, step, reverse, h0, hidden,
                    memory0, memory, out, kept):
        """The cell on units ``[first, last)`` of all rows of a step."""
        for r in range(sizes[step]):
            at, before = offsets[step] + r, row_before(offsets, sizes, step, r, reverse)
            new, own = out[at, first:last], memory[r, first:last]
            if before < 0:
                copy_row(memory0[r, first:last], own)
            cell(sums[r * columns:(r + 1) * columns], units, first, values[at], bias, own,
                 kept[at, first:last], out[before] if before >= 0 else h0[r], new)
            if is_last(sizes, step, r, reverse):
                copy_row(new, hidden[r, first:last])

    def forward_few(flags, panels, input, w_ih, w_hh, b_ih, b_hh, values, offsets, sizes, h0,
                    hidden, memory0, memory, out, kept, part, reverse, begin, end):
        size, steps, depth = hidden.shape[1], sizes.shape[0], w_hh.shape[1]
        parts = (size + part - 1) // part
        whole = (size + units - 1) // units * columns * depth
        spare = 2 * lanes * w_ih.shape[1]
        sums = stack_array(T(0), room)
        patience = PATIENCE
        for turn in range(steps):
            step = steps - 1 - turn if reverse != 0 else turn
            piece = next_part(flags, parts, steps, turn, begin, end, patience)
            patience = PATIENCE
            while piece >= 0:
                if piece < begin or piece >= end:
                    patience = 0        # who did not come for it will hardly come for the next
                start = piece * part
                stop = min(size, start + part)
                if turn == 0:
                    for gate in range(gates):
                        add_biases(b_ih, b_hh, gate * size + start, gate * size + stop,
                                   gate < shared, values)
                    begin_part(start, stop, input, w_ih, w_hh, panels,
                               panels[whole + piece * spare:], values)
                blocks = (stop - start + units - 1) // units
                for number in range(blocks):
                    first = start + units * (blocks - 1 - number if turn & 1 else number)
                    last = min(stop, first + units)
                    multiply_rows(first, last, turn, w_hh, panels, offsets, sizes, step, reverse,
                                  h0, out, sums)
                    finish_rows(sums, first, last, b_hh, values, offsets, sizes, step, reverse, h0,
                                hidden, memory0, memory, out, kept)
                take_number(flags, LINE * piece)
                piece = next_part(flags, parts, steps, turn, begin, end, patience)
    return forward_few
