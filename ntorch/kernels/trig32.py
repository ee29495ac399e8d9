"""float32 sin, cos and tan for every finite argument, without a branch.

The argument is reduced in float64: up to 2 ** 50 by two steps of Cody and Waite, above that by
multiplying with the digits of 2 / pi that matter (Payne and Hanek, 1983), here in pieces of 29 bits
so that each product with a 24-bit float is exact in float64.
"""
import numpy as np

from .stubs import fabs_, fma, round_even, select, typed

TWO_OVER_PI = 0.6366197723675814
TWO_PI = 6.283185307179586
PI_HALF = 1.5707963267948966
PI_HALF_LOW = 6.123233995736766e-17
# bits 28.. of 1 / (2 pi), 29 at a time: for x >= 2 ** 50 the bits before give whole turns
PIECE_0 = 6.4206383126874655e-09
PIECE_1 = 4.038449450981451e-18
PIECE_2 = 1.9241762118391763e-26
PIECE_3 = 4.170716914254881e-35
PIECE_4 = 2.897178337426917e-44
PIECE_5 = 9.301187206853419e-54

def _reduced_far(x):
    """What ``_reduced`` returns, for abs(x) >= 2 ** 50."""
    t0 = x * PIECE_0
    t1 = x * PIECE_1
    t2 = x * PIECE_2
    t3 = x * PIECE_3
    t0 = t0 - round_even(t0)
    t1 = t1 - round_even(t1)
    t2 = t2 - round_even(t2)
    t3 = t3 - round_even(t3)
    low = fma(x, PIECE_4, x * PIECE_5)
    whole = round_even(((t0 + t1) + (t2 + t3) + low) * 4.0) * 0.25
    # the largest pieces first: what cancels, cancels exactly
    turns = (((t0 - whole) + t1) + t2) + (t3 + low)
    return turns * TWO_PI, whole * 4.0


def _reduced(x):
    """``x`` less the nearest multiple of pi / 2, in radians; which multiple, modulo 4."""
    n = round_even(x * TWO_OVER_PI)
    rest = fma(n, -PI_HALF_LOW, fma(n, -PI_HALF, x))
    quadrant = n - 4.0 * round_even(n * 0.25)
    far_rest, far_quadrant = _reduced_far(x)
    near = fabs_(x) < 1125899906842624.0
    quadrant = select(near, quadrant, far_quadrant)
    # NaN has no integer form
    return select(near, rest, far_rest), select(fabs_(quadrant) < 4.5, quadrant, 0.0)


reduced = typed("reduced", f8=_reduced)     # built for float64 whatever the caller's type


def sin_polynomial(r):
    """``sin r`` for abs(r) <= pi / 4."""
    z = r * r
    p = (2.718046621e-06 * z - 0.0001983930443) * z + 0.008333329281
    return fma((p * z - 0.1666666664) * z, r, r)


def cos_polynomial(r):
    """``cos r`` for abs(r) <= pi / 4."""
    z = r * r
    p = (2.443243647e-05 * z - 0.001388731009) * z + 0.04166664556
    return fma(fma(p, z, -0.5), z, 1.0)


def sin_f32(x):
    """Sine, x in radians. Every finite x; NaN at +-inf. Max 1.5 ULP."""
    wide = np.float64(x)
    rest, quadrant = reduced(wide)
    r = np.float32(rest)
    i = np.int32(quadrant)
    y = select((i & 1) != 0, cos_polynomial(r), sin_polynomial(r))
    return select(x == 0.0, x, select((i & 2) != 0, -y, y))


def cos_f32(x):
    """Cosine, x in radians. Every finite x; NaN at +-inf. Max 1.5 ULP."""
    wide = np.float64(x)
    rest, quadrant = reduced(wide)
    r = np.float32(rest)
    i = np.int32(quadrant)
    y = select((i & 1) != 0, sin_polynomial(r), cos_polynomial(r))
    return select(((i + 1) & 2) != 0, -y, y)


def tan_f32(x):
    """Tangent, x in radians. Every finite x; NaN at +-inf. Max 3 ULP."""
    wide = np.float64(x)
    rest, quadrant = reduced(wide)
    r = np.float32(rest)
    i = np.int32(quadrant)
    s = sin_polynomial(r)
    c = cos_polynomial(r)
    odd = (i & 1) != 0
    y = select(odd, -c, s) / select(odd, s, c)
    return select(x == 0.0, x, y)
