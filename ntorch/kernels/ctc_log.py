"""CTC in logarithms: for the samples whose probabilities do not fit the scaled form of ``ctc.py``.

Slower by a few exps and a log per state, right for any input. Vectors and layout: see ``ctc.py``.
"""
from .ctc import INPUTS, LENGTH, UNCERTAIN, prepare_skip
from .math import exp, log

NAN, INFINITY = float("nan"), float("inf")
LN2 = 0.6931471805599453


def finite_or_zero(x):
    """``x``, or 0 for minus infinity: what may be subtracted without making NaN."""
    return x if x != -INFINITY else 0.0


def log_add(a, b):
    """``log(exp(a) + exp(b))``."""
    top = finite_or_zero(a if a > b else b)
    return top + log(exp(a - top) + exp(b - top))


def log_add3(a, b, c):
    """``log(exp(a) + exp(b) + exp(c))``."""
    top = a if a > b else b
    top = finite_or_zero(top if top > c else c)
    return top + log(exp(a - top) + exp(b - top) + exp(c - top))


for _function in (finite_or_zero, log_add, log_add3):
    _function.__scalar__ = True     # inlined whatever it costs, or the loops would not vectorise


def gather(row, target, blank, out):
    """``out[i] = row[target[i]]``, and the blank's after the last."""
    size = target.shape[0]
    for i in range(size):
        out[i] = row[target[i]]
    out[size] = row[blank]


def log_forward_step(emitted, jump, blanks, labels, next_blanks, next_labels):
    """One step of the alphas; ``jump`` holds 0 where a label may be skipped to, else -inf."""
    size = next_labels.shape[0]
    at_blank = emitted[size]
    next_blanks[0] = at_blank + blanks[0]
    after, before = next_blanks[1:], blanks[1:]
    for i in range(size):
        after[i] = at_blank + log_add(before[i], labels[i])
    if size > 0:
        next_labels[0] = emitted[0] + log_add(labels[0], blanks[0])
    lp, stay, between, skip, here = emitted[1:], labels[1:], blanks[1:], jump[1:], next_labels[1:]
    for i in range(size - 1):
        here[i] = lp[i] + log_add3(stay[i], between[i], skip[i] + labels[i])


def log_forward(log_probs, b, target, blank, inputs, alpha, emitted, skip, jump):
    """Fill ``alpha`` with logarithms, its units NaN; returns the negative log likelihood."""
    size = target.shape[0]
    start = alpha.shape[1] // 2
    for i in range(size):
        jump[i] = 0.0 if skip[i] > 0.0 else -INFINITY
    for t in range(inputs):
        gather(log_probs[t, b], target, blank, emitted)
        alpha[t, alpha.shape[1] - 1] = NAN
        blanks, labels = alpha[t, :size + 1], alpha[t, start:start + size]
        if t == 0:
            for i in range(size):
                blanks[i + 1] = -INFINITY
                labels[i] = -INFINITY
            blanks[0] = emitted[size]
            if size > 0:
                labels[0] = emitted[0]
        else:
            log_forward_step(emitted, jump, alpha[t - 1, :size + 1],
                             alpha[t - 1, start:start + size], blanks, labels)
    last = alpha[inputs - 1]
    return -(log_add(last[size], last[start + size - 1]) if size > 0 else last[0])


def log_backward_step(emitted, jump, blanks, labels, emitted_blanks, emitted_labels):
    """Replace the betas of step t by those of step t - 1."""
    size = labels.shape[0]
    at_blank = emitted[size]
    for i in range(size + 1):
        emitted_blanks[i] = at_blank + blanks[i]
    for i in range(size):
        emitted_labels[i] = emitted[i] + labels[i]
    blanks[size] = emitted_blanks[size]
    for i in range(size):
        blanks[i] = log_add(emitted_blanks[i], emitted_labels[i])
    following, skip, later = emitted_blanks[1:], jump[1:], emitted_labels[1:]
    for i in range(size - 1):
        labels[i] = log_add3(emitted_labels[i], following[i], skip[i] + later[i])
    if size > 0:
        labels[size - 1] = log_add(emitted_labels[size - 1], following[size - 1])


def log_alpha(row, size, out):
    """Copy a row of alphas as logarithms: blanks, then labels. Row in either form of ``ctc.py``."""
    unit_at = row.shape[0] - 1
    start = row.shape[0] // 2
    labels = row[start:start + size]
    unit = row[unit_at] * LN2
    for i in range(size + 1):
        out[i] = row[i] if unit != unit else log(row[i]) + unit
    after = out[size + 1:]
    for i in range(size):
        after[i] = labels[i] if unit != unit else log(labels[i]) + unit


def log_occupancy(alpha, loss, target, blank, blanks, labels, occupied):
    """Add ``exp(log alpha + log beta + loss)`` of every state to its class; changes ``alpha``."""
    size = labels.shape[0]
    for i in range(size + 1):
        alpha[i] = exp(alpha[i] + blanks[i] + loss)
    here = alpha[size + 1:]
    for i in range(size):
        here[i] = exp(here[i] + labels[i] + loss)
    for i in range(size + 1):
        occupied[blank] += alpha[i]
    for i in range(size):
        occupied[target[i]] += here[i]


def log_backward(log_probs, b, target, blank, inputs, alpha, weight, grad, emitted, skip, states,
                 occupied):
    """The gradient of one sample from alphas in either form."""
    size = target.shape[0]
    room = alpha.shape[1] // 2
    blanks, labels = states[:size + 1], states[room:room + size]
    emitted_blanks, emitted_labels = states[2 * room:3 * room], states[3 * room:4 * room]
    here = states[4 * room:6 * room]
    for i in range(size):
        skip[i] = 0.0 if skip[i] > 0.0 else -INFINITY
        blanks[i] = -INFINITY
        labels[i] = -INFINITY
    blanks[size] = 0.0
    if size > 0:
        labels[size - 1] = 0.0
    log_alpha(alpha[inputs - 1], size, here)
    loss = -(log_add(here[size], here[2 * size]) if size > 0 else here[0])
    for back in range(inputs):
        t = inputs - 1 - back
        log_alpha(alpha[t], size, here)
        log_occupancy(here, loss, target, blank, blanks, labels, occupied)
        row, out = log_probs[t, b], grad[t, b]
        for c in range(row.shape[0]):
            out[c] = (exp(row[c]) - occupied[c]) * weight
        for i in range(size):
            occupied[target[i]] = 0.0
        occupied[blank] = 0.0
        gather(row, target, blank, emitted)
        log_backward_step(emitted, skip, blanks, labels, emitted_blanks, emitted_labels)


def forward_in_logs(log_probs, targets, spans, blank, alpha, losses, status, scratch, begin, end):
    """``ctc.forward`` for the samples that it left UNCERTAIN."""
    for b in range(begin, end):
        if status[b] == UNCERTAIN:
            size = spans[b, LENGTH]
            target = targets[spans[b, 0]:spans[b, 0] + size]
            room = scratch.shape[1] // 4
            skip = scratch[b, room:room + size]
            prepare_skip(target, log_probs.shape[2], skip)
            losses[b] = log_forward(log_probs, b, target, blank, spans[b, INPUTS], alpha[b],
                                    scratch[b, :size + 1], skip, scratch[b, 2 * room:])


def backward_in_logs(log_probs, targets, spans, blank, alpha, weights, grad, status, scratch, begin,
                     end):
    """``ctc.backward`` for the samples that it left UNCERTAIN."""
    for b in range(begin, end):
        if status[b] == UNCERTAIN:
            size, classes = spans[b, LENGTH], log_probs.shape[2]
            target = targets[spans[b, 0]:spans[b, 0] + size]
            room = alpha.shape[2] // 2
            skip = scratch[b, classes + room:classes + room + size]
            prepare_skip(target, classes, skip)
            for c in range(classes):
                scratch[b, c] = 0.0
            log_backward(log_probs, b, target, blank, spans[b, INPUTS], alpha[b], weights[b], grad,
                         scratch[b, classes:classes + size + 1], skip,
                         scratch[b, classes + 2 * room:], scratch[b, :classes])
