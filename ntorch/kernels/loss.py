"""Losses that look up one class, or a set of them, per sample."""
from .stubs import T


def class_errors(target, classes, ignore, bad, begin, end):
    """Set ``bad[0]`` to a target outside [0, classes) that is not ``ignore``; range of one item."""
    for _ in range(begin, end):
        for i in range(target.shape[0]):
            t = target[i]
            if (t < 0 or t >= classes) and t != ignore:
                bad[0] = t
                bad[1] = 1
                return


def pick_classes(x, target, weight, ignore, out, chosen, begin, end):
    """``-weight[t] * x[n, t, s]`` with t = ``target[n, s]``, and the weights: 0 where ignored.

    ``x`` (batch, classes, positions); ``target``, ``out``, ``chosen`` (batch, positions);
    ``weight`` (classes,), or (0,) for ones.
    """
    for n in range(begin, end):
        for s in range(target.shape[1]):
            t = target[n, s]
            if t == ignore:
                out[n, s] = T(0)
                chosen[n, s] = T(0)
            else:
                w = T(1) if weight.shape[0] == 0 else weight[t]
                out[n, s] = -x[n, t, s] * w
                chosen[n, s] = w


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
