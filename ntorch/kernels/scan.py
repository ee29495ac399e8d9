"""Scans along the middle dimension of (outer, dim, inner) arrays; ranges over the outer dimension.

Running values live in ``state`` (outer, inner), wider than the elements where rounding would add
up: the inner loop runs over lanes, so it vectorises when the scanned dimension is not the last.
"""
import numpy as np

from .math import exp, log1p
from .stubs import select


def cumulative_sum(source, out, state, begin, end):
    """``out[o, j] = source[o, 0] + ... + source[o, j]``."""
    for o in range(begin, end):
        running = state[o]
        for t in range(len(running)):
            running[t] = 0
        for j in range(source.shape[1]):
            row, target = source[o, j], out[o, j]
            for t in range(len(row)):
                running[t] += row[t]
                target[t] = running[t]


def cumulative_product(source, out, state, begin, end):
    """``out[o, j] = source[o, 0] * ... * source[o, j]``."""
    for o in range(begin, end):
        running = state[o]
        for t in range(len(running)):
            running[t] = 1
        for j in range(source.shape[1]):
            row, target = source[o, j], out[o, j]
            for t in range(len(row)):
                running[t] *= row[t]
                target[t] = running[t]


def cumulative_max(source, out, places, begin, end):
    """Running maximum and where it was last reached; a NaN stays."""
    for o in range(begin, end):
        for j in range(source.shape[1]):
            for t in range(source.shape[2]):
                new, old = source[o, j, t], out[o, max(j - 1, 0), t]
                if j == 0 or new >= old or new != new:
                    out[o, j, t] = new
                    places[o, j, t] = j
                else:
                    out[o, j, t] = old
                    places[o, j, t] = places[o, j - 1, t]


def cumulative_min(source, out, places, begin, end):
    """Running minimum and where it was last reached; a NaN stays."""
    for o in range(begin, end):
        for j in range(source.shape[1]):
            for t in range(source.shape[2]):
                new, old = source[o, j, t], out[o, max(j - 1, 0), t]
                if j == 0 or new <= old or new != new:
                    out[o, j, t] = new
                    places[o, j, t] = j
                else:
                    out[o, j, t] = old
                    places[o, j, t] = places[o, j - 1, t]


def cumulative_logsumexp(source, out, begin, end):
    """``log(exp(source[o, 0]) + ... + exp(source[o, j]))`` without overflow."""
    for o in range(begin, end):
        for t in range(source.shape[2]):
            running = source[o, 0, t]
            out[o, 0, t] = running
            for j in range(1, source.shape[1]):
                new = source[o, j, t]
                high, low = select(new > running, new, running), select(new > running, running, new)
                if low == -np.inf or high == np.inf:
                    running = high
                else:
                    running = high + log1p(exp(low - high))
                out[o, j, t] = running
