"""float64 trigonometry: inverse functions as polynomials, sin, cos and tan by the C library."""
import math

from .stubs import copysign_, fabs_, fma, select, sqrt_

INF = math.inf
NAN = math.nan
PI = 3.141592653589793
PI_LOW = 1.2246467991473532e-16
HALF_PI = 1.5707963267948966
HALF_PI_LOW = 6.123233995736766e-17
QUARTER_PI = 0.7853981633974483
TAN_PI_8 = 0.41421356237309503


def sin_f64(x):
    """Sine, x in radians. NaN at +-inf. The C library's error, below 1 ULP."""
    return math.sin(x)


def cos_f64(x):
    """Cosine, x in radians. NaN at +-inf. The C library's error, below 1 ULP."""
    return math.cos(x)


def tan_f64(x):
    """Tangent, x in radians. NaN at +-inf. The C library's error, below 1 ULP."""
    return math.tan(x)


def _atan_positive(a):
    """``atan(a)`` for a >= 0: the argument is moved to [-tan(pi/8), tan(pi/8)] by a quotient."""
    far = a > 2.414213562373095
    middle = a > TAN_PI_8
    above = select(far, -1.0, select(middle, a - 1.0, a))
    below = select(far, a, select(middle, a + 1.0, 1.0))
    base = select(far, HALF_PI, select(middle, QUARTER_PI, 0.0))
    low = select(far, HALF_PI_LOW, select(middle, 0.5 * HALF_PI_LOW, 0.0))
    t = above / below
    z = t * t
    p = (-0.017902211730243454 * z + 0.03805961615937542) * z - 0.05039093538778835
    p = (p * z + 0.05847838350633498) * z - 0.06663096413989948
    p = (p * z + 0.07692059480168942) * z - 0.09090897712414599
    p = (p * z + 0.11111110781727743) * z - 0.14285714280158437
    p = (p * z + 0.19999999999953172) * z - 0.333333333333332
    return base + (fma(p * z, t, low) + t)


def atan_f64(x):
    """Inverse tangent. All x; +-pi/2 at +-inf. Max 2 ULP."""
    return copysign_(_atan_positive(fabs_(x)), x)


def atan2_f64(y, x):
    """The angle of the point (x, y), in [-pi, pi]. All pairs, zeros and infinities as in C.
    Max 2 ULP."""
    a, b = fabs_(y), fabs_(x)
    steep = a > b
    high, low = select(steep, a, b), select(steep, b, a)
    # 0/0 and inf/inf stand for the axis and the diagonal
    quotient = select(high == 0.0, 0.0, select(low == INF, 1.0, low / high))
    t = _atan_positive(quotient)
    t = select(steep, HALF_PI - (t - HALF_PI_LOW), t)
    t = select(copysign_(1.0, x) < 0.0, PI - (t - PI_LOW), t)
    return select((x == x) & (y == y), copysign_(t, y), x + y)


def _asin_rest(z):
    """``(asin(s) - s) / s ** 3`` at z = s * s <= 1/4."""
    p = (0.03193505857417363 * z - 0.01625694575453531) * z + 0.019548732074409384
    p = (p * z + 0.006520636904783638) * z + 0.012170874186250463
    p = (p * z + 0.013884987799996933) * z + 0.017359729231957013
    p = (p * z + 0.022371756471743526) * z + 0.030381959200775608
    p = (p * z + 0.044642856826836975) * z + 0.0750000000033874
    return p * z + 0.16666666666665403


def asin_f64(x):
    """Inverse sine. NaN outside [-1, 1]. Max 2.5 ULP."""
    a = fabs_(x)
    small = a <= 0.5
    z = select(small, a * a, 0.5 * (1.0 - a))       # beyond 1/2: pi/2 - 2 asin(sqrt((1 - a) / 2))
    s = select(small, a, sqrt_(z))
    p = fma(_asin_rest(z) * z, s, s)
    return copysign_(select(small, p, HALF_PI - (2.0 * p - HALF_PI_LOW)), x)


def acos_f64(x):
    """Inverse cosine. NaN outside [-1, 1]. Max 2.5 ULP."""
    a = fabs_(x)
    small = a <= 0.5
    z = select(small, a * a, 0.5 * (1.0 - a))
    s = select(small, x, sqrt_(z))
    p = fma(_asin_rest(z) * z, s, s)
    edge = select(x < 0.0, PI - (2.0 * p - PI_LOW), 2.0 * p)
    return select(small, HALF_PI - (p - HALF_PI_LOW), edge)


def hypot_f64(x, y):
    """``sqrt(x * x + y * y)`` without overflow; inf if either is infinite. Max 2 ULP."""
    a, b = fabs_(x), fabs_(y)
    high, low = select(a > b, a, b), select(a > b, b, a)
    q = low / high
    h = high * sqrt_(fma(q, q, 1.0))
    h = select(high == 0.0, low, h)                 # low is NaN here if y or x is
    return select((a == INF) | (b == INF), INF, h)


def pow_f64(x, y):
    """``x ** y`` with C's special values (1 ** NaN and NaN ** 0 are 1). The C library's, 1 ULP."""
    return math.pow(x, y)
