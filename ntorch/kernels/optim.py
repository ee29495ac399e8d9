"""Updates of optimizers: one launch over all parameters of a group, one pass over each.

A launch gets its table as it is: a count, scalars, then a *record* for each parameter, which holds
the addresses of its arrays, its number of elements and its first *block*. The range counts blocks
of ``BLOCK`` elements, those of one parameter after those of the one before, so that tasks are of
one size whatever the parameters are. ``walk_of`` takes a range apart into runs of one parameter.
"""
import functools

from .math import pow as power
from .stubs import T, bits_i64_to_f64, sqrt_, table_vector

BLOCK = 64              # elements: whole cache lines, so tasks share none
SGD_HEADER = 7          # count, lr, decay, sign, momentum, rest, fresh
ADAM_HEADER = 7         # count, beta2, rest2, eps, decay, sign, address of the coefficients
COUNT_HEADER = 6        # count, lr, beta1, beta2, decoupled decay, address of the coefficients
COEFFICIENTS = 4        # for each parameter: size, root, keep, rest1; see ``count_steps``


def record_of(table, header, width, block):
    """The last record whose first block is not behind ``block``."""
    low, high = 0, table[0] - 1
    while low < high:
        middle = (low + high + 1) // 2
        if table[header + middle * width + width - 1] <= block:
            low = middle
        else:
            high = middle - 1
    return low


@functools.cache
def walk_of(body, header, arrays):
    """``walk(table, begin, end)``: ``body(table, slot, start, length, at)`` for each run of blocks
    of one parameter, whose record number ``at`` begins at ``slot``."""
    width = arrays + 2

    def walk(table, begin, end):
        at, block = record_of(table, header, width, begin), begin
        while block < end:
            slot = header + at * width
            n, first = table[slot + arrays], table[slot + arrays + 1]
            start, stop = (block - first) * BLOCK, min(n, (end - first) * BLOCK)
            if stop > start:
                body(table, slot, start, stop - start, at)
            block = first + (n + BLOCK - 1) // BLOCK
            at += 1
    return walk


def sgd(p, g, lr, decay, sign):
    """``p -= lr (sign g + decay p)``."""
    if decay != 0.0:
        for i in range(len(p)):
            p[i] = p[i] - lr * (sign * g[i] + decay * p[i])
    else:
        for i in range(len(p)):
            p[i] = p[i] - lr * (sign * g[i])


def sgd_momentum(p, g, b, lr, decay, sign, momentum, rest):
    """``b = momentum b + rest (sign g + decay p)``, ``p -= lr b``."""
    if decay != 0.0:
        for i in range(len(p)):
            moved = momentum * b[i] + rest * (sign * g[i] + decay * p[i])
            b[i] = moved
            p[i] = p[i] - lr * moved
    else:
        for i in range(len(p)):
            moved = momentum * b[i] + rest * (sign * g[i])
            b[i] = moved
            p[i] = p[i] - lr * moved


def sgd_nesterov(p, g, b, lr, decay, sign, momentum, rest):
    """``sgd_momentum`` that looks ahead: ``p -= lr (sign g + decay p + momentum b)``."""
    for i in range(len(p)):
        slope = sign * g[i]
        if decay != 0.0:
            slope = slope + decay * p[i]
        moved = momentum * b[i] + rest * slope
        b[i] = moved
        p[i] = p[i] - lr * (slope + momentum * moved)


def adam(p, g, m, v, size, root, keep, rest1, beta2, rest2, eps, decay, sign):
    """``m += rest1 (g - m)``, ``v = beta2 v + rest2 g^2``, ``p = keep p - size m / (sqrt(v) / root
    + eps)``.

    ``size`` holds the first bias correction and ``root`` is the square root of the second;
    ``keep`` is below 1 for decoupled weight decay, ``decay`` above 0 for the other kind.
    """
    if decay != 0.0:
        for i in range(len(p)):
            slope = sign * g[i] + decay * p[i]
            first = m[i] + rest1 * (slope - m[i])
            second = v[i] * beta2 + rest2 * slope * slope
            m[i] = first
            v[i] = second
            p[i] = keep * p[i] - size * first / (sqrt_(second) / root + eps)
    else:
        for i in range(len(p)):
            slope = sign * g[i]
            first = m[i] + rest1 * (slope - m[i])
            second = v[i] * beta2 + rest2 * slope * slope
            m[i] = first
            v[i] = second
            p[i] = keep * p[i] - size * first / (sqrt_(second) / root + eps)


def amsgrad(p, g, m, v, w, size, root, keep, rest1, beta2, rest2, eps, decay, sign):
    """``adam`` that divides by the largest ``v`` seen so far, kept in ``w``."""
    for i in range(len(p)):
        slope = sign * g[i]
        if decay != 0.0:
            slope = slope + decay * p[i]
        first = m[i] + rest1 * (slope - m[i])
        second = v[i] * beta2 + rest2 * slope * slope
        m[i] = first
        v[i] = second
        top = second if second > w[i] or second != second else w[i]
        w[i] = top
        p[i] = keep * p[i] - size * first / (sqrt_(top) / root + eps)


def number(table, slot):
    """The float64 whose bits are in a slot, in the compute type."""
    return T(bits_i64_to_f64(table[slot]))


@functools.cache
def sgd_kernel(kind):
    """``sgd`` over records of parameter and gradient, arrays of ``kind``."""
    def body(table, slot, start, length, at):
        p = table_vector(table, slot, start, length, 1, kind)
        g = table_vector(table, slot + 1, start, length, 1, kind)
        sgd(p, g, number(table, 1), number(table, 2), number(table, 3))
    return walk_of(body, SGD_HEADER, 2)


@functools.cache
def momentum_kernel(kind, update):
    """``update``, with momentum, over records of parameter, gradient and buffer.

    The slot ``fresh`` says that the buffers hold nothing yet.
    """
    def body(table, slot, start, length, at):
        p = table_vector(table, slot, start, length, 1, kind)
        g = table_vector(table, slot + 1, start, length, 1, kind)
        b = table_vector(table, slot + 2, start, length, 1, kind)
        if table[6] != 0:
            for i in range(length):
                b[i] = 0.0
        update(p, g, b, number(table, 1), number(table, 2), number(table, 3), number(table, 4),
               number(table, 5))
    return walk_of(body, SGD_HEADER, 3)


@functools.cache
def adam_kernel(kind):
    """``adam`` over records of parameter, gradient, mean and square."""
    def body(table, slot, start, length, at):
        c = table_vector(table, 6, COEFFICIENTS * at, COEFFICIENTS, 1, "f8:1C")
        p = table_vector(table, slot, start, length, 1, kind)
        g = table_vector(table, slot + 1, start, length, 1, kind)
        m = table_vector(table, slot + 2, start, length, 1, kind)
        v = table_vector(table, slot + 3, start, length, 1, kind)
        adam(p, g, m, v, T(c[0]), T(c[1]), T(c[2]), T(c[3]), number(table, 1), number(table, 2),
             number(table, 3), number(table, 4), number(table, 5))
    return walk_of(body, ADAM_HEADER, 4)


@functools.cache
def amsgrad_kernel(kind):
    """``amsgrad`` over records of parameter, gradient, mean, square and largest square."""
    def body(table, slot, start, length, at):
        c = table_vector(table, 6, COEFFICIENTS * at, COEFFICIENTS, 1, "f8:1C")
        p = table_vector(table, slot, start, length, 1, kind)
        g = table_vector(table, slot + 1, start, length, 1, kind)
        m = table_vector(table, slot + 2, start, length, 1, kind)
        v = table_vector(table, slot + 3, start, length, 1, kind)
        w = table_vector(table, slot + 4, start, length, 1, kind)
        amsgrad(p, g, m, v, w, T(c[0]), T(c[1]), T(c[2]), T(c[3]), number(table, 1),
                number(table, 2), number(table, 3), number(table, 4), number(table, 5))
    return walk_of(body, ADAM_HEADER, 5)


def counted(table, slot):
    """The step count at the address in ``slot``, one higher; the next slot says if it is float64.
    """
    if table[slot + 1] != 0:
        wide = table_vector(table, slot, 0, 1, 1, "f8:1C")
        wide[0] += 1.0
        return wide[0]
    narrow = table_vector(table, slot, 0, 1, 1, "f4:1C")
    narrow[0] = narrow[0] + 1.0
    return T(narrow[0])


def count_steps(table, begin, end):
    """Count the steps up and write what Adam needs of them, in float64; one item.

    ``size = lr / (1 - beta1^t)``, ``root = sqrt(1 - beta2^t)``, ``keep = 1 - lr decay``, ``rest1 =
    1 - beta1`` at step t.
    """
    count = table[0]
    lr, beta1, beta2 = number(table, 1), number(table, 2), number(table, 3)
    keep = 1.0 - lr * number(table, 4)
    out = table_vector(table, 5, 0, COEFFICIENTS * count, 1, "f8:1C")
    known, size, root = 0.0, lr, 1.0
    for at in range(count):
        step = counted(table, COUNT_HEADER + 2 * at)
        if step != known or at == 0:            # as a rule all parameters are at one step
            known = step
            size = lr / (1.0 - power(beta1, step))
            root = sqrt_(1.0 - power(beta2, step))
        out[COEFFICIENTS * at] = size
        out[COEFFICIENTS * at + 1] = root
        out[COEFFICIENTS * at + 2] = keep
        out[COEFFICIENTS * at + 3] = 1.0 - beta1
