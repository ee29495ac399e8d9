"""Connectionist temporal classification: the forward and backward recursions (Graves et al., 2006).

The extended target ``blank l1 blank l2 ... lS blank`` is kept as two contiguous vectors, ``S + 1``
blanks and ``S`` labels, so that one time step is a few vector loops and one exp per label:

    blank'[i] = p(blank) (blank[i] + label[i-1])
    label'[i] = p(l_i)   (label[i] + blank[i] + [l_i != l_{i-1}] label[i-1])

Probabilities are float64 and each row is scaled by a power of two, which is exact. A state far
below its row's largest underflows to zero; that may be the state that the likely path needs. So the
forward pass bounds the mass that can have been lost (``scaled_forward``), the backward pass checks
that every row adds up to the likelihood, and a sample that fails either is left to ``ctc_log.py``.

Layout of ``alpha[b, t]``: blanks ``[0, S]``, labels ``[S + 1, 2 S + 1)`` (S of the longest target),
then the binary exponent of the row's unit. NaN there says that the rows hold logarithms.
``spans[b]`` holds the offset of sample b's target in ``targets``, its length, and its input length.
"""
from .math import exp, log
from .stubs import bits_f64_to_i64, bits_i64_to_f64

NAN, INFINITY = float("nan"), float("inf")
LN2 = 0.6931471805599453
TINY_EXPONENT = -1022
TINY = 2.0 ** -960          # a state above this has lost no bit to underflow
MARGIN = 55                 # lost mass stays below 2 ** -55 of the likelihood
ROWS_AGREE = 1e-9           # allowed relative error of a row's total in the backward pass
(LENGTH, INPUTS) = (1, 2)
BAD_LABEL, UNCERTAIN = 1, 2     # what ``status`` says of a sample; 0: done


def make_spans(input_lengths, target_lengths, steps, width, total, spans, found, begin, end):
    """Fill ``spans``; one item.

    ``width``: labels of a row of padded targets; -1 for concatenated ones, ``total`` in all.
    ``found[0]`` = 0 if a length is out of range, else -1.
    """
    found[0] = -1
    offset = 0
    for b in range(len(input_lengths)):
        length, inputs = target_lengths[b], input_lengths[b]
        if inputs < 0 or inputs > steps or length < 0 or (width >= 0 and length > width):
            found[0] = 0
        spans[b, 0] = offset
        spans[b, LENGTH] = length
        spans[b, INPUTS] = inputs
        offset += width if width >= 0 else length
    if width < 0 and offset != total:
        found[0] = 0


def first_bad(status, found, begin, end):
    """``found[0]`` = the first sample whose status is BAD_LABEL, or -1; one item."""
    found[0] = -1
    for b in range(len(status) - 1, -1, -1):
        if status[b] == BAD_LABEL:
            found[0] = b


def exponent_of(x):
    """The binary exponent of a positive normal float64; -1023 for zero and subnormal numbers."""
    return ((bits_f64_to_i64(x) >> 52) & 2047) - 1023


def power_of_two(k):
    """``2.0 ** k`` for k in [-1022, 1023]."""
    return bits_i64_to_f64((k + 1023) << 52)


def prepare_skip(target, classes, skip):
    """``skip[i]`` = 1 if label i may follow label i - 1 at once.

    Returns 0, or 1 if a label is not in [0, classes).
    """
    for i in range(target.shape[0]):
        label = target[i]
        if label < 0 or label >= classes:
            return 1
        skip[i] = 1.0 if i > 0 and label != target[i - 1] else 0.0
    return 0


def has_bad_label(target, classes):
    """1 if a label is not in [0, classes), else 0."""
    found = 0
    for i in range(target.shape[0]):
        found |= 1 if target[i] < 0 or target[i] >= classes else 0
    return found


def prepare_first(target, blank, first):
    """``first[i]`` = 1 where a class other than the blank occurs for the first time."""
    for i in range(target.shape[0]):
        label = target[i]
        seen = 1 if label == blank else 0
        for j in range(i):
            seen |= 1 if target[j] == label else 0
        first[i] = 0.0 if seen > 0 else 1.0


def steps_needed(skip, size):
    """The shortest input that fits a target: one step per label, one blank between equal labels."""
    steps = size
    for i in range(1, size):
        steps += 1 if skip[i] == 0.0 else 0
    return steps


def gather_probabilities(row, target, blank, p):
    """``p[i] = exp(row[target[i]])``, and p(blank) after the last."""
    size = target.shape[0]
    for i in range(size):
        p[i] = row[target[i]]
    p[size] = row[blank]
    for i in range(size + 1):
        p[i] = exp(p[i])


def forward_step(p, scale, skip, blanks, labels, next_blanks, next_labels):
    """One step of the recursion; returns the sum of the new row."""
    size = next_labels.shape[0]
    p_blank = p[size] * scale
    next_blanks[0] = p_blank * blanks[0]
    total = next_blanks[0]
    after = next_blanks[1:]
    before = blanks[1:]
    for i in range(size):
        value = p_blank * (before[i] + labels[i])
        after[i] = value
        total += value
    if size > 0:
        value = p[0] * scale * (labels[0] + blanks[0])
        next_labels[0] = value
        total += value
    emitted, stay, between, jump, here = p[1:], labels[1:], blanks[1:], skip[1:], next_labels[1:]
    for i in range(size - 1):
        value = emitted[i] * scale * (stay[i] + between[i] + jump[i] * labels[i])
        here[i] = value
        total += value
    return total


def count_tiny(values, n):
    """How many of the first ``n`` values are so small that bits may have been lost."""
    count = 0
    for i in range(n):
        count += 1 if values[i] < TINY else 0
    return count


def distinct_sum(p, first):
    """Total probability of the blank and the distinct labels: bounds what any state passes on."""
    size = first.shape[0]
    total = p[size]
    for i in range(size):
        total += first[i] * p[i]
    return total


def _row(alpha, t, longest, size):
    row = alpha[t]
    return row[:size + 1], row[longest + 1:longest + 1 + size]


def scaled_forward(log_probs, b, target, blank, inputs, alpha, p, skip, first):
    """The alphas of one sample; returns its negative log likelihood, or NaN if it is not certain.

    What underflows at step t has at most 2**TINY_EXPONENT of the row's unit per state, and at most
    the product of the later ``distinct_sum`` is made of it. ``worst`` keeps the largest such bound
    as a binary exponent, relative to the product of all ``distinct_sum`` so far.
    """
    size = target.shape[0]
    longest = (alpha.shape[1] - 2) // 2
    unit, passed_exponent, passed = 0, 0, 1.0
    worst = -(1 << 60)
    reached, waited, scale, total, last = 0, 0, 1.0, 1.0, 0.0
    for t in range(inputs):
        gather_probabilities(log_probs[t, b], target, blank, p)
        next_blanks, next_labels = _row(alpha, t, longest, size)
        before = reached
        if t == 0:
            for i in range(size):
                next_blanks[i + 1] = 0.0
                next_labels[i] = 0.0
            next_blanks[0] = p[size]
            total = p[size]
            if size > 0:
                next_labels[0] = p[0]
                total += p[0]
                reached = 1
        else:
            blanks, labels = _row(alpha, t - 1, longest, size)
            total = forward_step(p, scale, skip, blanks, labels, next_blanks, next_labels)
            if reached < size and (waited > 0 or skip[reached] > 0.0):
                reached += 1
        waited = 1 if before == reached else 0
        alpha[t, 2 * longest + 1] = float(unit)
        passed *= distinct_sum(p, first)
        if not (total > 0.0 and total < 1e300 and passed < 1e300):
            return NAN
        shift = max(exponent_of(passed), -1022)
        passed *= power_of_two(-shift)
        passed_exponent += shift
        if count_tiny(next_blanks, before + 1) + count_tiny(next_labels, reached) > 0:
            worst = max(worst, unit - passed_exponent)
        shift = max(exponent_of(total), -1022)
        scale = power_of_two(-shift)
        unit += shift
        last = next_blanks[size]
        if size > 0:
            last += next_labels[size - 1]
    if not last > 0.0:
        return NAN
    unit = int(alpha[inputs - 1, 2 * longest + 1])
    states = exponent_of(float(inputs)) + exponent_of(float(2 * size + 1)) + 6
    bound = worst + passed_exponent + 1 + states + TINY_EXPONENT + MARGIN
    if bound > unit + exponent_of(last):
        return NAN
    return -(log(last) + unit * LN2)


def forward(log_probs, targets, spans, blank, alpha, losses, status, scratch, begin, end):
    """``losses[b] = -log p(target b)``; ``alpha`` is kept for the backward pass.

    ``status[b]`` becomes BAD_LABEL where a target has a label outside [0, C), UNCERTAIN where the
    loss is left to ``ctc_log.py``. A target that cannot fit its input gives inf; one with more
    labels than the input has steps may have more than ``alpha`` has room for.
    """
    for b in range(begin, end):
        size, inputs = spans[b, LENGTH], spans[b, INPUTS]
        target = targets[spans[b, 0]:spans[b, 0] + size]
        if size > inputs:
            status[b] = has_bad_label(target, log_probs.shape[2])
            losses[b] = INFINITY
            continue
        room = (scratch.shape[1]) // 4
        p = scratch[b, :size + 1]
        skip = scratch[b, room:room + size]
        first = scratch[b, 2 * room:2 * room + size]
        status[b] = prepare_skip(target, log_probs.shape[2], skip)
        if status[b] != 0:
            continue
        prepare_first(target, blank, first)
        if steps_needed(skip, size) > inputs or inputs == 0:
            losses[b] = 0.0 if size == 0 else INFINITY
            continue
        loss = scaled_forward(log_probs, b, target, blank, inputs, alpha[b], p, skip, first)
        if loss != loss:
            status[b] = UNCERTAIN
        losses[b] = loss


def backward_step(p, scale, skip, blanks, labels, emitted_blanks, emitted_labels):
    """Replace the betas of step t by those of step t - 1; returns their sum."""
    size = labels.shape[0]
    p_blank = p[size] * scale
    for i in range(size + 1):
        emitted_blanks[i] = p_blank * blanks[i]
    for i in range(size):
        emitted_labels[i] = p[i] * scale * labels[i]
    total = emitted_blanks[size]
    blanks[size] = emitted_blanks[size]
    for i in range(size):
        value = emitted_blanks[i] + emitted_labels[i]
        blanks[i] = value
        total += value
    following, jump, later = emitted_blanks[1:], skip[1:], emitted_labels[1:]
    for i in range(size - 1):
        value = emitted_labels[i] + following[i] + jump[i] * later[i]
        labels[i] = value
        total += value
    if size > 0:
        value = emitted_labels[size - 1] + following[size - 1]
        labels[size - 1] = value
        total += value
    return total


def occupancy(blanks, labels, beta_blanks, beta_labels, target, blank, occupied):
    """Add alpha * beta of every state to its class in ``occupied``; returns the total."""
    size = labels.shape[0]
    at_blank = blanks[size] * beta_blanks[size]
    for i in range(size):
        at_blank += blanks[i] * beta_blanks[i]
    total = at_blank
    for i in range(size):
        occupied[target[i]] += labels[i] * beta_labels[i]
    for i in range(size):
        total += labels[i] * beta_labels[i]
    occupied[blank] += at_blank
    return total


def write_gradient(row, occupied, inverse, weight, out):
    """``out = (exp(row) - occupied * inverse) * weight``."""
    for c in range(row.shape[0]):
        out[c] = (exp(row[c]) - occupied[c] * inverse) * weight


def clear_occupancy(target, blank, occupied):
    """Zero the classes that ``occupancy`` touches."""
    for i in range(target.shape[0]):
        occupied[target[i]] = 0.0
    occupied[blank] = 0.0


def scaled_backward(log_probs, b, target, blank, inputs, alpha, weight, grad, p, skip, states,
                    occupied):
    """The gradient of one sample; returns 0, or 1 if a row does not add up to the likelihood."""
    size = target.shape[0]
    longest = (alpha.shape[1] - 2) // 2
    room = longest + 1
    blanks, labels = states[:size + 1], states[room:room + size]
    emitted_blanks, emitted_labels = states[2 * room:3 * room], states[3 * room:4 * room]
    for i in range(size):
        blanks[i] = 0.0
        labels[i] = 0.0
    blanks[size] = 1.0
    if size > 0:
        labels[size - 1] = 1.0
    likelihood, unit, scale, step = 0.0, 0, 1.0, 0
    likelihood_unit = int(alpha[inputs - 1, 2 * longest + 1])
    for back in range(inputs):
        t = inputs - 1 - back
        alpha_blanks, alpha_labels = _row(alpha, t, longest, size)
        total = occupancy(alpha_blanks, alpha_labels, blanks, labels, target, blank, occupied)
        if back == 0:
            likelihood = total
        shift = int(alpha[t, 2 * longest + 1]) + unit - likelihood_unit
        row_total = total * power_of_two(min(max(shift, -1000), 1000))
        agrees = row_total - likelihood
        agrees = agrees if agrees > 0.0 else -agrees
        if shift > 1000 or shift < -1000 or not agrees <= ROWS_AGREE * likelihood:
            clear_occupancy(target, blank, occupied)
            return 1
        write_gradient(log_probs[t, b], occupied, 1.0 / total, weight, grad[t, b])
        clear_occupancy(target, blank, occupied)
        gather_probabilities(log_probs[t, b], target, blank, p)
        total = backward_step(p, scale, skip, blanks, labels, emitted_blanks, emitted_labels)
        unit += step
        step = max(exponent_of(total), -1022)
        scale = power_of_two(-min(step, 1022))
    return 0


def fill_gradient(grad, b, first, last, value):
    """``grad[first:last, b] = value``."""
    for t in range(first, last):
        row = grad[t, b]
        for c in range(row.shape[0]):
            row[c] = value


def backward(log_probs, targets, spans, blank, zero_infinity, alpha, losses, weights, grad, status,
             scratch, begin, end):
    """``grad[t, b, c] = (exp(log_probs) - occupancy) * weights[b]``; zero past the input length.

    Of an impossible target the gradient is NaN, or zero with ``zero_infinity``. ``status[b]``
    becomes UNCERTAIN where the gradient is left to ``ctc_log.py``.
    """
    for b in range(begin, end):
        size, inputs = spans[b, LENGTH], spans[b, INPUTS]
        status[b] = 0
        fill_gradient(grad, b, inputs, grad.shape[0], 0.0)
        loss = losses[b]
        if not loss < 1e300:
            wrong = 0.0 if zero_infinity != 0 and loss == loss else NAN
            fill_gradient(grad, b, 0, inputs, wrong)
            continue
        if inputs == 0:
            continue
        target = targets[spans[b, 0]:spans[b, 0] + size]
        room = alpha.shape[2] // 2
        classes = log_probs.shape[2]
        occupied = scratch[b, :classes]
        p = scratch[b, classes:classes + size + 1]
        skip = scratch[b, classes + room:classes + room + size]
        states = scratch[b, classes + 2 * room:]
        prepare_skip(target, classes, skip)
        for c in range(classes):
            occupied[c] = 0.0
        unit = alpha[b, 0, alpha.shape[2] - 1]
        if unit != unit or scaled_backward(log_probs, b, target, blank, inputs, alpha[b],
                                           weights[b], grad, p, skip, states, occupied) != 0:
            status[b] = UNCERTAIN
