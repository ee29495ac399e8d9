"""float64 error functions and the gamma family.

erf, erfc and erfinv are branch-free and vectorise. lgamma and digamma loop over the recurrence of
the gamma function, so they run one element at a time.
"""
import math

from .math64 import exp_f64, log1p_f64, log_f64
from .stubs import copysign_, fabs_, floor_, fma, round_even, select, sqrt_

INF = math.inf
NAN = math.nan
PI = 3.141592653589793
LOG_PI = 1.1447298858494002
HALF_LOG_2PI = 0.9189385332046728


def _erf_center(z):
    """``erf(x) / x`` at z = x * x <= 1."""
    p = (5.94523786839512e-11 * z - 1.1365651489875562e-09) * z + 1.4657875996512927e-08
    p = (p * z - 1.6350024633978445e-07) * z + 1.6460972759696551e-06
    p = (p * z - 1.4925593503189049e-05) * z + 0.0001205533103673954
    p = (p * z - 0.0008548326978737623) * z + 0.005223977624780783
    p = (p * z - 0.026866170645072886) * z + 0.11283791670954857
    return (p * z - 0.3761263890318375) * z + 1.1283791670955126


def _erfcx_polynomial(q):
    """``(1 + 2 x) exp(x * x) erfc(x)`` at q = (x - 4) / (x + 4), x in [0, 27.5]."""
    p = (-1.776712508208363e-09 * q - 1.3575084939098189e-08) * q - 7.823689153714888e-09
    p = (p * q + 1.1499164280242475e-07) * q + 6.274730723478946e-08
    p = (p * q - 8.346194518281783e-07) * q + 3.014642560356413e-07
    p = (p * q + 5.71744238345321e-06) * q - 1.1224949359953392e-05
    p = (p * q - 2.4402950494863997e-05) * q + 0.00015062233999568237
    p = (p * q - 0.00019925557459956776) * q - 0.000757773373262496
    p = (p * q + 0.005031969768729684) * q - 0.01619773405301791
    p = (p * q + 0.037167515561004845) * q - 0.0663303658121799
    p = (p * q + 0.09373283499689095) * q - 0.10103906603631757
    p = (p * q + 0.06809705425473433) * q + 0.01537965210262004
    return (p * q - 0.13962111684056286) * q + 1.2329951186255526


def _erfc_positive(a):
    """``erfc(a)`` for a >= 0."""
    a = select(a < 27.4, a, 27.4)
    square = a * a
    low = fma(a, a, -square)            # what the square lost: exp turns it into relative error
    p = _erfcx_polynomial((a - 4.0) / (a + 4.0)) / fma(2.0, a, 1.0)
    return exp_f64(-square) * fma(-low, p, p)


def erf_f64(x):
    """Error function. All x; +-1 at +-inf. Max 2 ULP."""
    a = fabs_(x)
    y = select(a < 1.0, a * _erf_center(select(a < 1.0, a * a, 1.0)), 1.0 - _erfc_positive(a))
    return select(x == x, copysign_(y, x), x)


def erfc_f64(x):
    """``1 - erf(x)`` without cancellation. All x; 2 at -inf, 0 at inf. Max 5 ULP."""
    y = _erfc_positive(fabs_(x))
    return select(x == x, select(x < 0.0, 2.0 - y, y), x)


def _erfinv_center(u):
    """``erfinv(x) / x`` at u = -log(1 - x * x) - 2.5, abs(u) <= 2.5."""
    p = (2.3396773564430607e-18 * u - 2.1352166624277515e-17) * u - 9.521471050524253e-17
    p = (p * u + 1.8213382618645675e-15) * u - 3.2584147754362684e-15
    p = (p * u - 7.554747724678442e-14) * u + 5.377715283273269e-13
    p = (p * u + 9.088471272448784e-13) * u - 3.111057398983702e-11
    p = (p * u + 1.1961501286581216e-10) * u + 9.073219016798138e-10
    p = (p * u - 1.0861183704468722e-08) * u + 1.3416777032979109e-08
    p = (p * u + 4.787252347468985e-07) * u - 3.416619573689388e-06
    p = (p * u - 4.996079608562501e-06) * u + 0.00021825026433399135
    p = (p * u - 0.0012527079078083962) * u - 0.004177317724381889
    return (p * u + 0.2466402767441668) * u + 1.5014093511107918


def _erfinv_side(u):
    """``erfinv(x) / x`` at u = sqrt(-log(1 - x * x)) - 2.993, abs(u) <= 0.757."""
    p = 1.3077273812779224e-08 * u - 1.5689999332184405e-08
    p = (p * u - 6.57349579562526e-08) * u + 1.908134933056953e-07
    p = (p * u - 9.971405306333088e-08) * u - 6.438399340852258e-07
    p = (p * u + 2.0709268707155626e-06) * u - 1.8619133561529257e-06
    p = (p * u - 5.7751829434419655e-06) * u + 2.24671700598598e-05
    p = (p * u - 2.4738187288418003e-05) * u - 4.462761451197918e-05
    p = (p * u + 0.00020870554359287097) * u - 0.00029617308006303666
    p = (p * u - 0.00013267871602827135) * u + 0.0014906389575339162
    p = (p * u - 0.003621258699374472) * u + 0.005810832495024119
    p = (p * u - 0.007804744677530093) * u + 0.009607725632741301
    return (p * u + 1.00154190790287) * u + 2.8259655372575314


def _erfinv_edge(u):
    """``erfinv(x) / x`` at u = sqrt(-log(1 - x * x)) - 4.925, abs(u) <= 1.175."""
    p = 5.175870197949123e-12 * u - 2.9192289160811654e-11
    p = (p * u + 5.296796618863975e-11) * u + 3.217896735329091e-11
    p = (p * u - 4.591656606538619e-10) * u + 1.7833669513972388e-09
    p = (p * u - 5.135686828852346e-09) * u + 1.2018437814461472e-08
    p = (p * u - 2.403948511353304e-08) * u + 4.494449864402658e-08
    p = (p * u - 9.484761661690161e-08) * u + 2.832026999668294e-07
    p = (p * u - 1.1457868419971553e-06) * u + 5.086072240966705e-06
    p = (p * u - 2.1841495049440324e-05) * u + 8.377301929149565e-05
    p = (p * u - 0.0002389751226494725) * u - 8.76874695485235e-05
    return (p * u + 1.0103175127075759) * u + 4.774133179415472


def erfinv_f64(x):
    """The y with ``erf(y) = x``. +-inf at +-1, NaN beyond. Max 5 ULP."""
    a = fabs_(x)
    w = -log1p_f64(-select(a < 1.0, a, 0.0)) - log1p_f64(select(a < 1.0, a, 0.0))
    s = sqrt_(w)
    y = select(s < 3.75, _erfinv_side(s - 2.993), _erfinv_edge(s - 4.925))
    y = x * select(w < 5.0, _erfinv_center(w - 2.5), y)
    y = select(a < 1.0, y, NAN)
    return select(a == 1.0, copysign_(INF, x), y)


def _lgamma_at_2(z):
    """``lgamma(2 + z) / z`` for abs(z) <= 1/2."""
    p = (-1.4328674198643873e-07 * z + 2.784929336596096e-07) * z - 4.2005220701133665e-07
    p = (p * z + 9.203161532511249e-07) * z - 2.0497501264755632e-06
    p = (p * z + 4.38458918361137e-06) * z - 9.437237775599003e-06
    p = (p * z + 2.0505617503323226e-05) * z - 4.492653097721865e-05
    p = (p * z + 9.945767002183861e-05) * z - 0.0002231547351793274
    p = (p * z + 0.0005096695156767965) * z - 0.0011927539127576548
    p = (p * z + 0.0028905103310237134) * z - 0.0073855510286497325
    p = (p * z + 0.020580808427780567) * z - 0.06735230105319831
    return (p * z + 0.32246703342411326) * z + 0.42278433509846713


def _lgamma_positive(a):
    """``log(gamma(a))`` for a >= 0."""
    if a < 1e-17:
        return -log_f64(a)
    if a >= 10.0:
        y = 1.0 / (a * a)
        p = 0.00641025641025641 * y - 0.0019175269175269176
        p = (p * y + 0.0008417508417508417) * y - 0.0005952380952380953
        p = (p * y + 0.0007936507936507937) * y - 0.002777777777777778
        p = (p * y + 0.08333333333333333) / a
        return (a - 0.5) * (log_f64(a) - 1.0) + (HALF_LOG_2PI - 0.5 + p)
    # gamma(a) = factor * gamma(2 + z); z is formed without rounding, for the zeros at 1 and 2
    if a < 0.5:
        return a * _lgamma_at_2(a) - log_f64(a) - log1p_f64(a)
    if a < 1.5:
        z = a - 1.0
        return z * _lgamma_at_2(z) - log_f64(a)
    factor = 1.0
    while a >= 2.5:
        a -= 1.0
        factor *= a
    z = a - 2.0
    return z * _lgamma_at_2(z) + log_f64(factor)


def lgamma_f64(x):
    """``log |gamma(x)|``. inf at 0, negative integers and +-inf. 5 ULP for x > 0; below that 5 ULP
    of the larger of the result and 1: its zeros there are not resolved."""
    if x != x:
        return x
    a = fabs_(x)
    if a == INF:
        return INF
    if x >= 0.0 or a < 1e-17:
        return _lgamma_positive(a)
    f = a - floor_(a)
    if f == 0.0:
        return INF
    f = min(f, 1.0 - f)
    return LOG_PI - log_f64(a * math.sin(PI * f)) - _lgamma_positive(a)


def digamma_f64(x):
    """``d/dx log(gamma(x))``. -+inf at +-0, NaN at negative integers and -inf, inf at inf.
    Max 10 ULP of the larger of the result and 1: its zeros are not resolved."""
    if x == 0.0:
        return copysign_(INF, -x)
    if x == INF:
        return x
    result = 0.0
    if x < 0.0:
        f = x - round_even(x)
        if f == 0.0 or x == -INF:
            return NAN
        result = -PI / math.tan(PI * f)
        x = 1.0 - x
    while x < 10.0:
        result -= 1.0 / x
        x += 1.0
    y = 1.0 / (x * x)
    p = 0.08333333333333333 * y - 0.021092796092796094
    p = (p * y + 0.007575757575757576) * y - 0.004166666666666667
    p = (p * y + 0.003968253968253968) * y - 0.008333333333333333
    p = (p * y + 0.08333333333333333) * y
    return result + (log_f64(x) - 0.5 / x - p)
