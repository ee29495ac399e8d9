"""Updates of optimizers over flat arrays: one pass over a parameter and its state."""
from .stubs import sqrt_


def sgd(parameter, grad, lr, decay, sign, begin, end):
    """``p -= lr (sign g + decay p)``."""
    p, g = parameter[begin:end], grad[begin:end]
    if decay != 0.0:
        for i in range(end - begin):
            p[i] = p[i] - lr * (sign * g[i] + decay * p[i])
    else:
        for i in range(end - begin):
            p[i] = p[i] - lr * (sign * g[i])


def sgd_momentum(parameter, grad, buffer, lr, decay, sign, momentum, rest, begin, end):
    """``b = momentum b + rest (sign g + decay p)``, ``p -= lr b``."""
    p, g, b = parameter[begin:end], grad[begin:end], buffer[begin:end]
    if decay != 0.0:
        for i in range(end - begin):
            moved = momentum * b[i] + rest * (sign * g[i] + decay * p[i])
            b[i] = moved
            p[i] = p[i] - lr * moved
    else:
        for i in range(end - begin):
            moved = momentum * b[i] + rest * (sign * g[i])
            b[i] = moved
            p[i] = p[i] - lr * moved


def sgd_nesterov(parameter, grad, buffer, lr, decay, sign, momentum, rest, begin, end):
    """``sgd_momentum`` that looks ahead: ``p -= lr (sign g + decay p + momentum b)``."""
    p, g, b = parameter[begin:end], grad[begin:end], buffer[begin:end]
    for i in range(end - begin):
        slope = sign * g[i]
        if decay != 0.0:
            slope = slope + decay * p[i]
        moved = momentum * b[i] + rest * slope
        b[i] = moved
        p[i] = p[i] - lr * (slope + momentum * moved)


def adam(parameter, grad, mean, square, lr, root, rest1, beta2, rest2, eps, decay, keep, sign,
         begin, end):
    """``m += rest1 (g - m)``, ``v = beta2 v + rest2 g^2``, ``p = keep p - lr m / (sqrt(v) / root +
    eps)``.

    ``lr`` holds the first bias correction and ``root`` is the square root of the second;
    ``keep`` is below 1 for decoupled weight decay, ``decay`` above 0 for the other kind.
    """
    p, g, m, v = parameter[begin:end], grad[begin:end], mean[begin:end], square[begin:end]
    if decay != 0.0:
        for i in range(end - begin):
            slope = sign * g[i] + decay * p[i]
            first = m[i] + rest1 * (slope - m[i])
            second = v[i] * beta2 + rest2 * slope * slope
            m[i] = first
            v[i] = second
            p[i] = keep * p[i] - lr * first / (sqrt_(second) / root + eps)
    else:
        for i in range(end - begin):
            slope = sign * g[i]
            first = m[i] + rest1 * (slope - m[i])
            second = v[i] * beta2 + rest2 * slope * slope
            m[i] = first
            v[i] = second
            p[i] = keep * p[i] - lr * first / (sqrt_(second) / root + eps)


def amsgrad(parameter, grad, mean, square, largest, lr, root, rest1, beta2, rest2, eps, decay,
            keep, sign, begin, end):
    """``adam`` that divides by the largest ``v`` seen so far, kept in ``largest``."""
    p, g, m = parameter[begin:end], grad[begin:end], mean[begin:end]
    v, w = square[begin:end], largest[begin:end]
    for i in range(end - begin):
        slope = sign * g[i]
        if decay != 0.0:
            slope = slope + decay * p[i]
        first = m[i] + rest1 * (slope - m[i])
        second = v[i] * beta2 + rest2 * slope * slope
        m[i] = first
        v[i] = second
        top = second if second > w[i] or second != second else w[i]
        w[i] = top
        p[i] = keep * p[i] - lr * first / (sqrt_(top) / root + eps)
