"""float32 elementary functions as branch-free polynomials that vectorise once inlined in a loop.

Coefficients are minimax fits (Remez exchange, relative error) made for these ranges. Steps whose
rounding matters go through ``fma``: a build that lets sums be reordered must
not touch them. Every function keeps NaN. The stated errors, in units in the last place, of denormal
results too, are held by tests/test_math.py. Functions that are not worth a polynomial of their own
are in ``math32_wide.py``, computed in float64.
"""
import math

import numpy as np

from .stubs import (
    bits_f32_to_i32,
    bits_i32_to_f32,
    copysign_,
    fabs_,
    fma,
    select,
    sqrt_,
)

INF = math.inf
NAN = math.nan
LOG2_E = 1.4426950408889634
LN2_HI = 0.693145751953125          # 16 bits, so that n * LN2_HI is exact
LN2_LO = 1.4286068203094172e-06
LOG10_2_HI = 0.301025390625         # 12 bits
LOG10_2_LO = 4.605038981195214e-06
SMALLEST_NORMAL = 1.1754943508222875e-38
SQRT_HALF_BITS = 0x3F3504F3
# A float32 n + ROUND + k, for integers n and k, has n + k in its last bits: adding ROUND rounds to
# nearest, and the sum's bits shifted to the exponent are 2 ** n if k is the exponent's bias, 127.
# Two instructions where rounding, converting and biasing take six; NaN stays NaN on the way.
ROUND = 12582912.0                  # 1.5 * 2 ** 23
ROUND_BIASED = 12583039.0           # ROUND + 127
ROUND_TWICE_BIASED = 12583166.0     # ROUND + 254
ROUND_BIASED_LESS_1 = 12583038.0    # ROUND + 126


def power_of_two(i):
    """``2 ** i`` for an integer i in [-126, 127]; 128 gives inf."""
    return bits_i32_to_f32(np.int32(np.int32(i + 127) << 23))


def power_in(shifted):
    """``2 ** n`` of ``shifted = n + ROUND_BIASED``, for n in [-127, 128]; 0 and inf at the ends."""
    return bits_i32_to_f32(np.int32(bits_f32_to_i32(shifted) << 23))


def reduced_expm1(r):
    """``exp(r) - 1`` for abs(r) <= ln(2) / 2."""
    p = 0.001381458228 * r + 0.008368716865
    p = (p * r + 0.04166838841) * r + 0.1666652063
    p = p * r + 0.4999999345
    return fma(p * r, r, r)


def scaled_by_power(e, shifted, n):
    """``e * 2 ** n``, right where it is denormal; ``shifted`` is ``n + ROUND_TWICE_BIASED``."""
    # two factors: 2 ** n alone may not be a normal number
    half = fma(n, 0.5, ROUND_BIASED)
    rest = np.int32(bits_f32_to_i32(shifted) - bits_f32_to_i32(half))
    return e * power_in(half) * bits_i32_to_f32(np.int32(rest << 23))


def exp_f32(x):
    """``e ** x``. All x; 0 at -inf, inf at inf and above 88.72, denormal below -87.3. 1.1 ULP."""
    clamped = select(x > 89.0, 89.0, x)             # in this order NaN passes
    clamped = select(clamped < -104.0, -104.0, clamped)
    shifted = fma(clamped, LOG2_E, ROUND_TWICE_BIASED)
    n = shifted - ROUND_TWICE_BIASED
    r = fma(n, -LN2_LO, fma(n, -LN2_HI, clamped))
    return scaled_by_power(reduced_expm1(r) + 1.0, shifted, n)


def exp2_f32(x):
    """``2 ** x``. All x; exact at integers, inf from 128, 0 below -150. Max 1.1 ULP."""
    clamped = select(x > 129.0, 129.0, x)
    clamped = select(clamped < -151.0, -151.0, clamped)
    shifted = fma(clamped, 1.0, ROUND_TWICE_BIASED)
    n = shifted - ROUND_TWICE_BIASED
    r = clamped - n
    p = 0.000155947433 * r + 0.001340664616
    p = (p * r + 0.009617692741) * r + 0.05550310545
    p = (p * r + 0.2402265278) * r + 0.693147215
    return scaled_by_power(fma(p, r, 1.0), shifted, n)


def expm1_f32(x):
    """``e ** x - 1`` without cancellation. All x; -1 at -inf, inf above 88.72. Max 1.5 ULP."""
    clamped = select(x > 89.0, 89.0, x)
    clamped = select(clamped < -18.0, -18.0, clamped)
    shifted = fma(clamped, LOG2_E, ROUND_BIASED_LESS_1)
    n = shifted - ROUND_BIASED_LESS_1
    r = fma(n, -LN2_LO, fma(n, -LN2_HI, clamped))
    s = power_in(shifted)                           # half of 2 ** n, which may not be finite
    e = 2.0 * fma(s, reduced_expm1(r), s - 0.5)
    # keeps the sign of zero, the last bit of denormals, and NaN
    return select(fabs_(x) >= 1e-8, e, x)


def tanh_f32(x):
    """Hyperbolic tangent ``t / (t + 2)``, ``t = expm1(2 |x|)``. All x; +-1 at +-inf. 2.6 ULP."""
    a = 2.0 * fabs_(x)
    a = select(a > 20.0, 20.0, a)
    shifted = fma(a, LOG2_E, ROUND_BIASED)
    n = shifted - ROUND_BIASED
    r = fma(n, -LN2_LO, fma(n, -LN2_HI, a))
    s = power_in(shifted)
    t = fma(s, reduced_expm1(r), s - 1.0)
    return copysign_(t / (t + 2.0), x)


def sigmoid_f32(x):
    """``1 / (1 + exp(-x))``. All x; 0 below -88.37, where it would be denormal. Max 2 ULP."""
    clamped = select(x > 80.0, 80.0, x)
    clamped = select(clamped < -88.5, -88.5, clamped)   # n = 128 there: inf, hence 0
    shifted = fma(clamped, -LOG2_E, ROUND_BIASED)
    n = shifted - ROUND_BIASED
    r = fma(n, -LN2_LO, fma(n, -LN2_HI, -clamped))
    return 1.0 / fma(power_in(shifted), reduced_expm1(r) + 1.0, 1.0)


def log1p_polynomial(f):
    """``(log(1 + f) - f + f * f / 2) / f ** 3`` for 1 + f in [sqrt(1/2), sqrt(2)]."""
    p = -0.07634275224 * f + 0.1276143309
    p = (p * f - 0.1316018918) * f + 0.1420177433
    p = (p * f - 0.1662335889) * f + 0.2000122673
    return (p * f - 0.2500082099) * f + 0.3333333169


def exponent_f32(x):
    """k with ``x / 2 ** k`` in [sqrt(1/2), sqrt(2)), of a normal x > 0."""
    return np.int32(np.int32(bits_f32_to_i32(x) - SQRT_HALF_BITS) >> 23)


def mantissa_f32(x, k):
    """``x / 2 ** k`` for k from ``exponent_f32``."""
    return bits_i32_to_f32(np.int32(bits_f32_to_i32(x) - np.int32(k << 23)))


def log_limits(x, y):
    """``y = log x`` with the ends put right: -inf at 0, NaN below it and at NaN, inf at inf."""
    y = select(x < INF, y, x)
    return select(x > 0.0, y, select(x == 0.0, -INF, NAN))


def log_f32(x):
    """Natural logarithm. -inf at +-0, NaN below, inf at inf, denormals right. Max 1.1 ULP."""
    tiny = x < SMALLEST_NORMAL
    normal = select(tiny, x * 8388608.0, x)
    k = exponent_f32(normal)
    f = mantissa_f32(normal, k) - 1.0
    n = np.float32(k) - select(tiny, 23.0, 0.0)
    square = f * f
    low = fma(square * f, log1p_polynomial(f), n * LN2_LO)
    return log_limits(x, fma(n, LN2_HI, f - fma(square, 0.5, -low)))


def log2_f32(x):
    """Base 2 logarithm, exact at powers of 2. -inf at +-0, NaN below, inf at inf. Max 2 ULP."""
    tiny = x < SMALLEST_NORMAL
    normal = select(tiny, x * 8388608.0, x)
    k = exponent_f32(normal)
    f = mantissa_f32(normal, k) - 1.0
    n = np.float32(k) - select(tiny, 23.0, 0.0)
    p = -0.1099506922 * f + 0.1861752027
    p = (p * f - 0.1910623797) * f + 0.2046005478
    p = (p * f - 0.2396174387) * f + 0.2885674135
    p = (p * f - 0.3606966484) * f + 0.480898241
    p = (p * f - 0.7213473515) * f + 1.442695041
    return log_limits(x, fma(p, f, n))


def log10_f32(x):
    """Base 10 logarithm. -inf at +-0, NaN below, inf at inf. Max 2 ULP."""
    tiny = x < SMALLEST_NORMAL
    normal = select(tiny, x * 8388608.0, x)
    k = exponent_f32(normal)
    f = mantissa_f32(normal, k) - 1.0
    n = np.float32(k) - select(tiny, 23.0, 0.0)
    p = -0.03309845641 * f + 0.05604432046
    p = (p * f - 0.05751550732) * f + 0.06159090201
    p = (p * f - 0.07213203653) * f + 0.08686744724
    p = (p * f - 0.1085805105) * f + 0.1447647954
    p = (p * f - 0.2171471901) * f + 0.4342944819
    return log_limits(x, fma(n, LOG10_2_HI, fma(p, f, n * LOG10_2_LO)))


def log1p_f32(x):
    """``log(1 + x)`` without cancellation. -inf at -1, NaN below, inf at inf. Max 1.5 ULP."""
    u = 1.0 + x
    k = exponent_f32(u)
    s = power_of_two(-k)
    # (1 + x) / 2 ** k - 1 rounded once; from 2 ** 30 on the 1 no longer matters, nor is s normal
    f = select(k < 30, fma(x, s, s - 1.0), mantissa_f32(u, k) - 1.0)
    n = np.float32(k)
    square = f * f
    low = fma(square * f, log1p_polynomial(f), n * LN2_LO)
    y = log_limits(u, fma(n, LN2_HI, f - fma(square, 0.5, -low)))
    return select(fabs_(x) < 1e-8, x, y)


def erf_f32(x):
    """Error function, as ``-expm1(log(erfc(|x|)))``. All x; +-1 at +-inf. Max 3 ULP."""
    t = fabs_(x)
    t = select(t > 4.0, 4.0, t)
    p = -9.253327858e-06 * t + 0.0001176165636
    p = (p * t - 0.0006327556818) * t + 0.001666895649
    p = (p * t - 0.000160286359) * t - 0.01915310725
    p = (p * t + 0.1027778368) * t + 0.6366193819
    p = (p * t + 1.128379172) * -t
    shifted = fma(p, LOG2_E, ROUND_BIASED)
    n = shifted - ROUND_BIASED
    r = fma(n, -LN2_LO, fma(n, -LN2_HI, p))
    s = power_in(shifted)
    return copysign_(fma(-s, reduced_expm1(r), 1.0 - s), x)


def erfc_f32(x):
    """``1 - erf(x)`` without cancellation, as ``exp(-x * x)`` times a polynomial. Max 5 ULP."""
    a = fabs_(x)
    a = select(a < 10.5, a, 10.5)
    q = (a - 2.0) / (a + 2.0)
    p = -0.0004005533324 * q - 0.001229904386
    p = (p * q + 0.00131349701) * q + 0.008631658216
    p = (p * q - 0.008059865164) * q - 0.05420429165
    p = (p * q + 0.1640553454) * q - 0.1660314257
    p = (p * q - 0.09276398084) * q + 1.276978393
    square = a * a
    low = fma(a, a, -square)            # what the square lost: exp turns it into relative error
    scaled = p / fma(2.0, a, 1.0)
    y = exp_f32(-square) * fma(-low, scaled, scaled)
    return select(x == x, select(x < 0.0, 2.0 - y, y), x)


def sqrt_f32(x):
    """Square root, correctly rounded; NaN below zero."""
    return sqrt_(x)


def rsqrt_f32(x):
    """``1 / sqrt(x)``. inf at 0, 0 at inf, NaN below. Max 1.5 ULP."""
    return 1.0 / sqrt_(x)
