"""Losses that look up one class, or a set of them, per sample."""
from .stubs import T


def is_class(t, classes, ignore, bad):
    """Whether ``t`` is a class; ``bad`` (2,) notes one that is neither a class nor ignored."""
    if t >= 0 and t < classes and t != ignore:
        return True
    if t != ignore:
        bad[0] = 1
        bad[1] = t
    return False


def was_noted(bad, found, begin, end):
    """``found[0]`` is 0 if ``is_class`` noted something in ``bad``, else -1; one item."""
    found[0] = bad[0] - 1


def find_no_class(target, classes, ignore, found, begin, end):
    """``found[0]``: where ``target`` first holds neither a class nor ``ignore``, or -1; one
    item."""
    found[0] = -1
    for i in range(target.shape[0]):
        t = target[i]
        if (t < 0 or t >= classes) and t != ignore:
            found[0] = i
            break


def pick_classes(x, target, weight, ignore, out, bad, begin, end):
    """``-weight[t] * x[n, t, s]`` with t = ``target[n, s]``; 0 where ignored.

    ``x`` (batch, classes, positions); ``target``, ``out`` (batch, positions); ``weight``
    (classes,), or (0,) for ones; ``bad`` see ``is_class``.
    """
    for n in range(begin, end):
        for s in range(target.shape[1]):
            t = target[n, s]
            out[n, s] = T(0)
            if is_class(t, x.shape[1], ignore, bad):
                w = T(1) if weight.shape[0] == 0 else weight[t]
                out[n, s] = -x[n, t, s] * w


def sum_classes(x, target, weight, ignore, block, partial, bad, begin, end):
    """Sums over blocks of ``block`` samples of what ``pick_classes`` gives, and of the weights.

    ``partial`` (blocks, 2). Blocks have a fixed size, so the total does not depend on threads.
    """
    for b in range(begin, end):
        loss, total = T(0), T(0)
        for n in range(b * block, min(x.shape[0], (b + 1) * block)):
            for s in range(target.shape[1]):
                t = target[n, s]
                if is_class(t, x.shape[1], ignore, bad):
                    w = T(1) if weight.shape[0] == 0 else weight[t]
                    loss -= x[n, t, s] * w
                    total += w
        partial[b, 0] = loss
        partial[b, 1] = total


def finish_sum(partial, mean, out, begin, end):
    """``out[0]``: the losses' sum, over the weights' sum ``out[1]`` if ``mean``."""
    for _ in range(begin, end):
        loss, total = T(0), T(0)
        for b in range(partial.shape[0]):
            loss += partial[b, 0]
            total += partial[b, 1]
        out[0] = loss / total if mean else loss
        out[1] = total


def place_classes(grad, target, weight, ignore, out, begin, end):
    """Gradient of ``pick_classes``: ``out[n, t, s] = -weight[t] * grad[n, s]``, zero elsewhere."""
    for n in range(begin, end):
        for c in range(out.shape[1]):
            row = out[n, c]
            for s in range(row.shape[0]):
                row[s] = T(0)
        for s in range(target.shape[1]):
            t = target[n, s]
            if t != ignore:
                w = T(1) if weight.shape[0] == 0 else weight[t]
                out[n, t, s] = -grad[n, s] * w


def multilabel_margins(x, target, out, is_target, begin, end):
    """``sum_ij max(0, 1 - (x[t_j] - x[i])) / classes`` over targets t_j and non-targets i.

    ``x``, ``target``, ``is_target`` (batch, classes); a row's targets end at its first -1.
    """
    classes = x.shape[1]
    for n in range(begin, end):
        mark, row = is_target[n], x[n]
        for c in range(classes):
            mark[c] = T(0)
        count = 0
        while count < classes and target[n, count] >= 0:
            mark[target[n, count]] = T(1)
            count += 1
        total = T(0)
        for j in range(count):
            level = 1.0 - row[target[n, j]]
            for i in range(classes):
                margin = level + row[i]
                if mark[i] == 0.0 and margin > 0.0:
                    total += margin
        out[n] = total / T(classes)


def multilabel_margins_gradient(grad, x, target, is_target, out, begin, end):
    """Gradient of ``multilabel_margins``; ``grad`` (batch,)."""
    classes = x.shape[1]
    for n in range(begin, end):
        mark, row, gx, g = is_target[n], x[n], out[n], grad[n] / T(classes)
        for c in range(classes):
            gx[c] = T(0)
        for j in range(classes):
            t = target[n, j]
            if t < 0:
                break
            for i in range(classes):
                if mark[i] == 0.0 and 1.0 - row[t] + row[i] > 0.0:
                    gx[t] -= g
                    gx[i] += g
