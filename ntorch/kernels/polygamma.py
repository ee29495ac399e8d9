"""Derivatives of the digamma function, through the Hurwitz zeta function."""
import math

import numpy as np

from .math64 import exp_f64
from .special64 import lgamma_f64
from .stubs import floor_, typed

INF = math.inf
NAN = math.nan


def zeta_f64(s, q):
    """Hurwitz zeta ``sum over k >= 0 of (q + k) ** -s`` for integers s > 1; inf at q = 0, -1, ....

    Terms up to q = 12 + s, then the Euler-Maclaurin series; relative error about 1e-14.
    """
    total = 0.0
    while q < 12.0 + s:
        if q == 0.0:
            return INF
        total += math.pow(q, -s)
        q += 1.0
    power = math.pow(q, -s)
    total += q * power / (s - 1.0) + 0.5 * power
    factor = s
    power = power / q
    square = q * q
    # Bernoulli numbers over factorials: B(2k) / (2k)!
    total += 0.08333333333333333 * factor * power
    factor *= (s + 1.0) * (s + 2.0)
    power = power / square
    total -= 0.001388888888888889 * factor * power
    factor *= (s + 3.0) * (s + 4.0)
    power = power / square
    total += 3.306878306878307e-05 * factor * power
    factor *= (s + 5.0) * (s + 6.0)
    power = power / square
    total -= 8.267195767195768e-07 * factor * power
    factor *= (s + 7.0) * (s + 8.0)
    power = power / square
    total += 2.08767569878681e-08 * factor * power
    factor *= (s + 9.0) * (s + 10.0)
    power = power / square
    total -= 5.284190138687493e-10 * factor * power
    return total


def polygamma_f64(x, n):
    """``(-1) ** (n + 1) * n! * zeta(n + 1, x)``: the n-th derivative of digamma, n >= 1.

    NaN at NaN, inf or NaN at the poles 0, -1, ... as the zeta function has it.
    """
    if x != x:
        return x
    if x <= -1e6:
        if floor_(x) == x:
            return INF
        return NAN
    size = exp_f64(lgamma_f64(n + 1.0)) * zeta_f64(n + 1.0, x)
    half = 0.5 * n
    return -size if floor_(half) == half else size


_wide = typed("polygamma", f8=polygamma_f64)


def polygamma_f32(x, n):
    """``polygamma_f64`` rounded."""
    return np.float32(_wide(np.float64(x), np.float64(n)))


polygamma = typed("polygamma", f4=polygamma_f32, f8=polygamma_f64)
