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
        if len(running) == 1:       # one lane: keep it in a register
            running[0] = 0
            line, total, single = out[o, :, 0], running[0], source[o, :, 0]
            for j in range(len(line)):
                total += single[j]
                line[j] = total
            continue
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
        if len(running) == 1:
            running[0] = 1
            line, total, single = out[o, :, 0], running[0], source[o, :, 0]
            for j in range(len(line)):
                total *= single[j]
                line[j] = total
            continue
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
        rows, targets, where = source[o], out[o], places[o]
        for t in range(source.shape[2]):
            targets[0, t], where[0, t] = rows[0, t], 0
        for j in range(1, source.shape[1]):
            for t in range(source.shape[2]):
                new, best = rows[j, t], targets[j - 1, t]
                take = (new >= best) | (new != new)
                targets[j, t] = select(take, new, best)
                where[j, t] = select(take, np.int64(j), where[j - 1, t])


def cumulative_max_last(source, out, places, begin, end):
    """``cumulative_max`` where inner is 1: the running values stay in registers."""
    for o in range(begin, end):
        line, target, where = source[o, :, 0], out[o, :, 0], places[o, :, 0]
        best, at = line[0], np.int64(0)
        for j in range(len(line)):
            new = line[j]
            take = (new >= best) | (new != new)
            best, at = select(take, new, best), select(take, np.int64(j), at)
            target[j], where[j] = best, at


def cumulative_min(source, out, places, begin, end):
    """Running minimum and where it was last reached; a NaN stays."""
    for o in range(begin, end):
        rows, targets, where = source[o], out[o], places[o]
        for t in range(source.shape[2]):
            targets[0, t], where[0, t] = rows[0, t], 0
        for j in range(1, source.shape[1]):
            for t in range(source.shape[2]):
                new, best = rows[j, t], targets[j - 1, t]
                take = (new <= best) | (new != new)
                targets[j, t] = select(take, new, best)
                where[j, t] = select(take, np.int64(j), where[j - 1, t])


def cumulative_min_last(source, out, places, begin, end):
    """``cumulative_min`` where inner is 1: the running values stay in registers."""
    for o in range(begin, end):
        line, target, where = source[o, :, 0], out[o, :, 0], places[o, :, 0]
        best, at = line[0], np.int64(0)
        for j in range(len(line)):
            new = line[j]
            take = (new <= best) | (new != new)
            best, at = select(take, new, best), select(take, np.int64(j), at)
            target[j], where[j] = best, at


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
