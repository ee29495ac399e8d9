"""Rows of a table by index: lookup, bags of them, and the gradients.

Indices are checked before (``index_bounds``). Gradients are cut by columns, and every column adds
its rows in the order of the indices, so the sums do not depend on the number of threads.
"""
from .stubs import T, sqrt_


def index_bounds(index, bounds, begin, end):
    """Smallest and largest index of the one row ``index``, into ``bounds`` (2,)."""
    for _ in range(begin, end):
        low, high = index[0], index[0]
        for i in range(index.shape[0]):
            low = min(low, index[i])
            high = max(high, index[i])
        bounds[0] = low
        bounds[1] = high


def take_rows(table, index, out, begin, end):
    """``out[i] = table[index[i]]`` for i in ``begin`` to ``end``."""
    width = table.shape[1]
    for i in range(begin, end):
        source, target = table[index[i]], out[i]
        for c in range(width):
            target[c] = source[c]


def count_indices(index, count, begin, end):
    """``count[v]`` = how often v occurs in ``index``, onto zeros; the range is one item."""
    for _ in range(begin, end):
        for i in range(index.shape[0]):
            count[index[i]] += 1


def add_rows(grad, index, count, skip, out, begin, end):
    """``out[index[i]] += grad[i]``, of columns ``begin`` to ``end``, onto zeros.

    Rows whose index is ``skip`` are left out; with ``count`` (rows,), (0,) for none, each is
    divided by how often its index occurs.
    """
    width = end - begin
    for i in range(index.shape[0]):
        v = index[i]
        if v != skip:
            source, target = grad[i, begin:end], out[v, begin:end]
            if count.shape[0] == 0:
                for c in range(width):
                    target[c] += source[c]
            else:
                share = 1.0 / T(count[v])
                for c in range(width):
                    target[c] += source[c] * share


def row_norm(row, p):
    """The p-norm of a row; p = inf is the largest magnitude."""
    total = T(0)
    if p == 2.0:
        for i in range(row.shape[0]):
            total += row[i] * row[i]
        return sqrt_(total)
    if p == 1.0:
        for i in range(row.shape[0]):
            total += abs(row[i])
        return total
    if p > 1e30:
        for i in range(row.shape[0]):
            total = max(total, abs(row[i]))
        return total
    for i in range(row.shape[0]):
        total += abs(row[i]) ** p
    return total ** (1.0 / p)


def renormalize_rows(table, index, limit, p, begin, end):
    """Scale the rows that ``index`` names to a p-norm of at most ``limit``; range of one item."""
    for _ in range(begin, end):
        for i in range(index.shape[0]):
            row = table[index[i]]
            norm = row_norm(row, p)
            if norm > limit:
                scale = limit / (norm + 1e-7)
                for c in range(row.shape[0]):
                    row[c] *= scale


def bag_sums(table, index, offsets, weight, skip, mean, out, size, begin, end):
    """Sum (or ``mean``) of the table rows of bags ``begin`` to ``end``.

    Bag b has the indices ``offsets[b]`` to ``offsets[b + 1]``; those equal to ``skip`` are left
    out. ``weight`` (indices,) scales each row, (0,) for none; ``size`` (bags,) gets the number of
    rows.
    """
    width = table.shape[1]
    for b in range(begin, end):
        total, members = out[b], 0
        for c in range(width):
            total[c] = T(0)
        for i in range(offsets[b], offsets[b + 1]):
            if index[i] != skip:
                members += 1
                row = table[index[i]]
                if weight.shape[0] == 0:
                    for c in range(width):
                        total[c] += row[c]
                else:
                    w = weight[i]
                    for c in range(width):
                        total[c] += row[c] * w
        size[b] = members
        if mean and members > 1:
            share = 1.0 / T(members)
            for c in range(width):
                total[c] *= share


def bag_maxima(table, index, offsets, skip, out, chosen, size, begin, end):
    """Largest element of each column over the rows of bags ``begin`` to ``end``.

    ``chosen`` (bags, columns) gets the index it came from, -1 and a value of 0 for an empty bag.
    """
    width = table.shape[1]
    for b in range(begin, end):
        best, where, members = out[b], chosen[b], 0
        for c in range(width):
            best[c] = T(0)
            where[c] = -1
        for i in range(offsets[b], offsets[b + 1]):
            v = index[i]
            if v != skip:
                members += 1
                row = table[v]
                for c in range(width):
                    if row[c] > best[c] or members == 1 or row[c] != row[c]:
                        best[c] = row[c]
                        where[c] = v
        size[b] = members


def bag_rows_gradient(grad, index, offsets, weight, size, count, skip, mean, out, begin, end):
    """Gradient of ``bag_sums`` with respect to the table, columns ``begin`` to ``end``, onto zeros.

    ``count`` (rows,), (0,) for none, divides each row's share by how often its index occurs.
    """
    width = end - begin
    for b in range(grad.shape[0]):
        source = grad[b, begin:end]
        share = 1.0 / T(max(size[b], 1)) if mean else T(1)
        for i in range(offsets[b], offsets[b + 1]):
            v = index[i]
            if v != skip:
                target = out[v, begin:end]
                w = share if weight.shape[0] == 0 else share * weight[i]
                if count.shape[0] != 0:
                    w = w / T(count[v])
                for c in range(width):
                    target[c] += source[c] * w


def bag_maxima_gradient(grad, chosen, out, begin, end):
    """Gradient of ``bag_maxima`` with respect to the table, columns ``begin`` to ``end``."""
    for b in range(grad.shape[0]):
        for c in range(begin, end):
            if chosen[b, c] >= 0:
                out[chosen[b, c], c] += grad[b, c]


def bag_weights_gradient(grad, table, index, offsets, skip, out, begin, end):
    """Gradient of ``bag_sums`` with respect to ``weight``, for bags ``begin`` to ``end``."""
    width = table.shape[1]
    for b in range(begin, end):
        source = grad[b]
        for i in range(offsets[b], offsets[b + 1]):
            total = T(0)
            if index[i] != skip:
                row = table[index[i]]
                for c in range(width):
                    total += source[c] * row[c]
            out[i] = total


def one_hot(index, out, begin, end):
    """``out[i, index[i]] = 1``, zero elsewhere."""
    for i in range(begin, end):
        row = out[i]
        for c in range(row.shape[0]):
            row[c] = 0
        row[index[i]] = 1
