"""Normalisation: rows with a weight per element (layer, RMS), planes with one per channel (batch,
group, instance), forward and backward.

In all of them ``y = (x - mean) * rstd * weight + bias`` and, with ``a = grad * weight`` and
``h = (x - mean) * rstd``, the gradient is ``gx = rstd * (a - mean(a) - h * mean(a * h))``; what
differs is which elements share a mean. ``centered`` is 0 for RMS: the mean is left out.
Variances are sums of squared deviations (two passes over a row that is in the cache), never
``E[x^2] - E[x]^2``, which cancels.
"""
from .stubs import T, sqrt_


def deviation_square_sum(x, mean):
    """Sum of ``(x - mean) ** 2`` over a row."""
    total = T(0)
    for i in range(x.shape[0]):
        d = x[i] - mean
        total += d * d
    return total


def row_sum(x):
    """Sum of a row."""
    total = T(0)
    for i in range(x.shape[0]):
        total += x[i]
    return total


def normalize_rows(x, weight, bias, out, mean, rstd, eps, centered, begin, end):
    """Layer norm (``centered``) or RMS norm of the rows ``begin`` to ``end``.

    ``x`` and ``out`` (rows, n); ``weight`` and ``bias`` (n,), or (0,) for none; ``mean`` and
    ``rstd`` (rows,) are results too.
    """
    n = x.shape[1]
    for r in range(begin, end):
        row, result = x[r], out[r]
        m = row_sum(row) / T(n) if centered else T(0)
        s = 1.0 / sqrt_(deviation_square_sum(row, m) / T(n) + eps)
        mean[r] = m
        rstd[r] = s
        if weight.shape[0] == 0:
            for i in range(n):
                result[i] = (row[i] - m) * s
        else:
            for i in range(n):
                result[i] = (row[i] - m) * s * weight[i]
        if bias.shape[0] != 0:
            for i in range(n):
                result[i] += bias[i]


def normalize_rows_backward(grad, x, weight, mean, rstd, gx, centered, begin, end):
    """Gradient of ``normalize_rows`` with respect to ``x``."""
    n = x.shape[1]
    for r in range(begin, end):
        g, row, result = grad[r], x[r], gx[r]
        m, s = mean[r], rstd[r]
        total, aligned = T(0), T(0)
        if weight.shape[0] == 0:
            for i in range(n):
                total += g[i]
                aligned += g[i] * ((row[i] - m) * s)
        else:
            for i in range(n):
                a = g[i] * weight[i]
                total += a
                aligned += a * ((row[i] - m) * s)
        total = total / T(n) if centered else T(0)
        aligned = aligned / T(n)
        if weight.shape[0] == 0:
            for i in range(n):
                result[i] = s * (g[i] - total - (row[i] - m) * s * aligned)
        else:
            for i in range(n):
                result[i] = s * (g[i] * weight[i] - total - (row[i] - m) * s * aligned)


def parameter_partials(grad, x, mean, rstd, partial, block, begin, end):
    """Sums over blocks of ``block`` rows of ``grad * h`` and ``grad``.

    ``partial`` (blocks, 2, n). Blocks have a fixed size, so the total does not depend on threads.
    """
    rows, n = x.shape
    for b in range(begin, end):
        gw, gb = partial[b, 0], partial[b, 1]
        for i in range(n):
            gw[i] = T(0)
            gb[i] = T(0)
        for r in range(b * block, min(rows, (b + 1) * block)):
            g, row, m, s = grad[r], x[r], mean[r], rstd[r]
            for i in range(n):
                gw[i] += g[i] * ((row[i] - m) * s)
                gb[i] += g[i]


def add_blocks(partial, out, begin, end):
    """``out[c] = sum_b partial[b, c]`` for columns ``begin`` to ``end``."""
    width = end - begin
    total = out[begin:end]
    for i in range(width):
        total[i] = T(0)
    for b in range(partial.shape[0]):
        row = partial[b, begin:end]
        for i in range(width):
            total[i] += row[i]


def plane_moments(x, mean, spread, begin, end):
    """Mean and sum of squared deviations of each plane (row) of ``x`` (planes, n)."""
    n = x.shape[1]
    for p in range(begin, end):
        m = row_sum(x[p]) / T(n)
        mean[p] = m
        spread[p] = deviation_square_sum(x[p], m)


def group_moments(mean, spread, size, eps, group_mean, group_var, group_rstd, begin, end):
    """Combine the moments of a group's planes, of ``size`` elements each, to mean, variance, rstd.

    ``mean`` and ``spread`` (groups, members), strided. Chan's update (1979) keeps the accuracy of
    two passes. The variance is the biased one.
    """
    members = mean.shape[1]
    for g in range(begin, end):
        total = T(0)
        for k in range(members):
            total += mean[g, k]
        m = total / T(members)
        spread_total = T(0)
        for k in range(members):
            d = mean[g, k] - m
            spread_total += spread[g, k] + d * d * T(size)
        variance = spread_total / T(size * members)
        group_mean[g] = m
        group_var[g] = variance
        group_rstd[g] = 1.0 / sqrt_(variance + eps)


def update_running(mean, var, running_mean, running_var, momentum, correction, begin, end):
    """Exponential averages of the statistics; ``correction`` is n / (n - 1), for the variance."""
    for i in range(begin, end):
        running_mean[i] = (1.0 - momentum) * running_mean[i] + momentum * mean[i]
        running_var[i] = (1.0 - momentum) * running_var[i] + momentum * (var[i] * correction)


def inverse_deviation(var, eps, rstd, begin, end):
    """``rstd = 1 / sqrt(var + eps)``."""
    for i in range(begin, end):
        rstd[i] = 1.0 / sqrt_(var[i] + eps)


def normalize_planes(x, weight, bias, mean, rstd, out, per_group, channels, begin, end):
    """``y = (x - mean) * rstd * weight + bias`` over planes ``begin`` to ``end``.

    ``x`` (planes, n); plane p has statistics ``p // per_group % len(mean)`` and channel
    ``p % channels``; ``weight`` and ``bias`` (channels,), or (0,) for none.
    """
    n, groups = x.shape[1], mean.shape[0]
    for p in range(begin, end):
        g, c = p // per_group % groups, p % channels
        scale = rstd[g] if weight.shape[0] == 0 else rstd[g] * weight[c]
        shift = T(0) if bias.shape[0] == 0 else bias[c]
        row, result, m = x[p], out[p], mean[g]
        for i in range(n):
            result[i] = (row[i] - m) * scale + shift


def plane_gradient_sums(grad, x, mean, rstd, total, aligned, per_group, begin, end):
    """Per plane ``sum(grad)`` and ``sum(grad * h)``; arguments as in ``normalize_planes``."""
    n, groups = x.shape[1], mean.shape[0]
    for p in range(begin, end):
        g = p // per_group % groups
        row, gradient, m = x[p], grad[p], mean[g]
        t, a = T(0), T(0)
        for i in range(n):
            t += gradient[i]
            a += gradient[i] * (row[i] - m)
        total[p] = t
        aligned[p] = a * rstd[g]


def group_gradient_means(total, aligned, weight, count, mean_total, mean_aligned, begin, end):
    """Per group the weighted sums of its planes, over ``count`` elements.

    ``total``, ``aligned``, ``weight`` (groups, members), strided.
    """
    for g in range(begin, end):
        t, a = T(0), T(0)
        for k in range(total.shape[1]):
            t += total[g, k] * weight[g, k]
            a += aligned[g, k] * weight[g, k]
        mean_total[g] = t / T(count)
        mean_aligned[g] = a / T(count)


def normalize_planes_backward(grad, x, weight, mean, rstd, total, aligned, gx, per_group, channels,
                              begin, end):
    """Gradient of ``normalize_planes``; ``total`` and ``aligned`` are the means over each group."""
    n, groups = x.shape[1], mean.shape[0]
    for p in range(begin, end):
        g, c = p // per_group % groups, p % channels
        w = T(1) if weight.shape[0] == 0 else weight[c]
        row, gradient, result, m = x[p], grad[p], gx[p], mean[g]
        # s * (w * grad - total - (x - m) * s * aligned), with the constants taken together
        slope = w * rstd[g]
        tilt = -(rstd[g] * rstd[g] * aligned[g])
        level = -(rstd[g] * total[g])
        for i in range(n):
            result[i] = slope * gradient[i] + tilt * (row[i] - m) + level


def transpose(x, out, begin, end):
    """``out[c, n] = x[n, c]`` for rows ``begin`` to ``end`` of ``out``."""
    for c in range(begin, end):
        row = out[c]
        for n in range(row.shape[0]):
            row[n] = x[n, c]
