"""float64 elementary functions as branch-free polynomials that vectorise once inlined in a loop.

The same reductions as ``math32.py`` at twice the precision; errors are in units in the last place
and held by tests/test_math.py. sin, cos, tan and pow go to the C library: a vectorised reduction of
every float64 argument would need 1,200 digits of 2 / pi.
"""
import math

import numpy as np

from .stubs import (
    bits_f64_to_i64,
    bits_i64_to_f64,
    copysign_,
    fabs_,
    fma,
    round_even,
    select,
    sqrt_,
)

INF = math.inf
NAN = math.nan
LOG2_E = 1.4426950408889634
LN2_HI = 0.6931471803691238         # 33 bits, so that n * LN2_HI is exact
LN2_LO = 1.9082149292705877e-10
LOG10_E = 0.4342944819032518
LOG10_2_HI = 0.3010299955494702     # 31 bits
LOG10_2_LO = 1.1451100898021838e-10
SMALLEST_NORMAL = 2.2250738585072014e-308
SQRT_HALF_BITS = 0x3FE6A09E667F3BCD


def power_of_two(i):
    """``2 ** i`` for an integer i in [-1022, 1023]; 1024 gives inf."""
    return bits_i64_to_f64((np.int64(i) + 1023) << 52)


def reduced_expm1(r):
    """``exp(r) - 1`` for abs(r) <= ln(2) / 2."""
    p = (2.082726443536751e-09 * r + 2.511203952383038e-08) * r + 2.7557579528023887e-07
    p = (p * r + 2.755723485180542e-06) * r + 2.4801586929803087e-05
    p = (p * r + 0.00019841269896397413) * r + 0.001388888888911363
    p = (p * r + 0.008333333333317027) * r + 0.0416666666666661
    p = (p * r + 0.16666666666666682) * r + 0.5
    return fma(p * r, r, r)


def scaled(e, n):
    """``e * 2 ** n`` for an integral float n, in two factors: 2 ** n may not be a normal number."""
    i = np.int32(n)
    half = i >> 1
    return e * power_of_two(half) * power_of_two(i - half)


def exp_f64(x):
    """``e ** x``. All x; 0 at -inf, inf at inf and above 709.78, denormal below -708.4. 1.1 ULP."""
    clamped = select(x < 710.0, x, 710.0)
    clamped = select(clamped > -746.0, clamped, -746.0)
    n = round_even(clamped * LOG2_E)
    r = fma(n, -LN2_LO, fma(n, -LN2_HI, clamped))
    return select(x == x, scaled(reduced_expm1(r) + 1.0, n), x)


def exp2_f64(x):
    """``2 ** x``. All x; exact at integers, inf from 1024, 0 below -1075. Max 1.1 ULP."""
    clamped = select(x < 1025.0, x, 1025.0)
    clamped = select(clamped > -1076.0, clamped, -1076.0)
    n = round_even(clamped)
    r = clamped - n
    p = (2.5855260257613752e-11 * r + 4.457239725940654e-10) * r + 7.054814813606068e-09
    p = (p * r + 1.017804752839791e-07) * r + 1.3215487003493276e-06
    p = (p * r + 1.5252733864851916e-05) * r + 0.00015403530393171694
    p = (p * r + 0.0013333558146381732) * r + 0.009618129107628562
    p = (p * r + 0.055504108664821736) * r + 0.24022650695910072
    return select(x == x, scaled(fma(p * r + 0.6931471805599453, r, 1.0), n), x)


def expm1_f64(x):
    """``e ** x - 1`` without cancellation. All x; -1 at -inf, inf above 709.78. Max 2 ULP."""
    clamped = select(x < 710.0, x, 710.0)
    clamped = select(clamped > -40.0, clamped, -40.0)
    n = round_even(clamped * LOG2_E)
    r = fma(n, -LN2_LO, fma(n, -LN2_HI, clamped))
    s = power_of_two(np.int32(n) - 1)               # half of 2 ** n, which may not be finite
    e = 2.0 * fma(s, reduced_expm1(r), s - 0.5)
    return select(fabs_(x) >= 1e-17, e, x)


def tanh_f64(x):
    """Hyperbolic tangent ``t / (t + 2)``, ``t = expm1(2 |x|)``. All x. Max 2.6 ULP."""
    a = 2.0 * fabs_(x)
    a = select(a < 44.0, a, 44.0)
    n = round_even(a * LOG2_E)
    r = fma(n, -LN2_LO, fma(n, -LN2_HI, a))
    s = power_of_two(np.int32(n))
    t = fma(s, reduced_expm1(r), s - 1.0)
    return select(x == x, copysign_(t / (t + 2.0), x), x)


def sigmoid_f64(x):
    """``1 / (1 + exp(-x))``. All x; 0 below -709.8, where it would be denormal. Max 2 ULP."""
    return 1.0 / (1.0 + exp_f64(-x))


def exponent_f64(x):
    """k with ``x / 2 ** k`` in [sqrt(1/2), sqrt(2)), of a normal x > 0."""
    return np.int32((bits_f64_to_i64(x) - SQRT_HALF_BITS) >> 52)


def mantissa_f64(x, k):
    """``x / 2 ** k`` for k from ``exponent_f64``."""
    return bits_i64_to_f64(bits_f64_to_i64(x) - (np.int64(k) << 52))


def log_rest(f):
    """``(f * f / 2, c)``: ``log(1 + f) = f - (f * f / 2 - c)``, 1 + f in [sqrt(1/2), sqrt(2)]."""
    s = f / (2.0 + f)
    z = s * s
    p = (0.13250718360287678 * z + 0.1325018802981329) * z + 0.15387087518941403
    p = (p * z + 0.18181775743246387) * z + 0.222222226457717
    p = (p * z + 0.2857142856909311) * z + 0.40000000000006225
    square = 0.5 * f * f
    return square, s * fma(z, p * z + 0.6666666666666666, square)


def log_limits(x, y):
    """``y = log x`` with the ends put right: -inf at 0, NaN below it and at NaN, inf at inf."""
    y = select(x < INF, y, x)
    return select(x > 0.0, y, select(x == 0.0, -INF, NAN))


def split_f64(x):
    """``(n, f)`` with ``x = 2 ** n * (1 + f)`` for x > 0, denormals included; n as float64."""
    tiny = x < SMALLEST_NORMAL
    normal = select(tiny, x * 18014398509481984.0, x)
    k = exponent_f64(normal)
    return np.float64(k) - select(tiny, 54.0, 0.0), mantissa_f64(normal, k) - 1.0


def log_f64(x):
    """Natural logarithm. -inf at +-0, NaN below, inf at inf, denormals right. Max 1 ULP."""
    n, f = split_f64(x)
    square, c = log_rest(f)
    return log_limits(x, fma(n, LN2_HI, f - (square - fma(n, LN2_LO, c))))


def log2_f64(x):
    """Base 2 logarithm, exact at powers of 2. -inf at +-0, NaN below, inf at inf. Max 2.2 ULP."""
    n, f = split_f64(x)
    square, c = log_rest(f)
    return log_limits(x, fma(f - (square - c), LOG2_E, n))


def log10_f64(x):
    """Base 10 logarithm. -inf at +-0, NaN below, inf at inf. Max 2.2 ULP."""
    n, f = split_f64(x)
    square, c = log_rest(f)
    return log_limits(x, fma(n, LOG10_2_HI, fma(f - (square - c), LOG10_E, n * LOG10_2_LO)))


def log1p_f64(x):
    """``log(1 + x)`` without cancellation. -inf at -1, NaN below, inf at inf. Max 1.5 ULP."""
    u = 1.0 + x
    k = exponent_f64(u)
    s = power_of_two(-k)
    # (1 + x) / 2 ** k - 1 rounded once; from 2 ** 60 on the 1 no longer matters, nor is s normal
    f = select(k < 60, fma(x, s, s - 1.0), mantissa_f64(u, k) - 1.0)
    n = np.float64(k)
    square, c = log_rest(f)
    y = log_limits(u, fma(n, LN2_HI, f - (square - fma(n, LN2_LO, c))))
    return select(fabs_(x) < 1e-17, x, y)


def sinh_f64(x):
    """Hyperbolic sine. All x; +-inf above 710.48. Max 3 ULP."""
    a = fabs_(x)
    e = expm1_f64(select(a < 700.0, a, 700.0))
    small = 0.5 * (e + e / (e + 1.0))
    half = exp_f64(0.5 * a)             # exp(a) itself overflows first
    y = select(a < 700.0, small, 0.5 * half * half)
    return select(a < 1e-9, x, copysign_(y, x))


def cosh_f64(x):
    """Hyperbolic cosine. All x; inf above 710.48. Max 3 ULP."""
    a = fabs_(x)
    e = exp_f64(a)
    half = exp_f64(0.5 * a)
    return select(a < 700.0, 0.5 * e + 0.5 / e, 0.5 * half * half)


def asinh_f64(x):
    """Inverse hyperbolic sine. All x; +-inf at +-inf. Max 3 ULP."""
    a = fabs_(x)
    large = a > 1e9
    b = select(large, 1.0, a)
    y = log1p_f64(b + b * b / (1.0 + sqrt_(fma(b, b, 1.0))))
    return copysign_(select(large, log_f64(a) + (LN2_HI + LN2_LO), y), x)


def acosh_f64(x):
    """Inverse hyperbolic cosine. 0 at 1, NaN below, inf at inf. Max 3 ULP."""
    large = x > 1e9
    t = select(large, 1.0, x) - 1.0
    y = log1p_f64(t + sqrt_(fma(t, t, 2.0 * t)))
    y = select(large, log_f64(x) + (LN2_HI + LN2_LO), y)
    return select(x < 1.0, NAN, y)


def atanh_f64(x):
    """Inverse hyperbolic tangent. +-inf at +-1, NaN beyond. Max 3 ULP."""
    a = fabs_(x)
    y = 0.5 * log1p_f64(2.0 * a / (1.0 - a))
    return copysign_(select(a > 1.0, NAN, y), x)


def sqrt_f64(x):
    """Square root, correctly rounded; NaN below zero."""
    return sqrt_(x)


def rsqrt_f64(x):
    """``1 / sqrt(x)``. inf at 0, 0 at inf, NaN below. Max 1.5 ULP."""
    return 1.0 / sqrt_(x)
