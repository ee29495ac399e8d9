"""Elementary functions by name; in a kernel the type of the first argument chooses the variant.

Accuracy and special values are stated at each variant: ``math32.py``, ``trig32.py``,
``math32_wide.py`` (float32), ``math64.py``, ``trig64.py``, ``special64.py`` (float64),
``math_complex.py`` (complex).
"""
from . import math32, math32_wide, math64, math_complex, special64, trig32, trig64
from .stubs import typed

_REAL32 = {**vars(math32), **vars(math32_wide), **vars(trig32)}
_REAL64 = {**vars(math64), **vars(trig64), **vars(special64)}


def _both(name):
    """``name`` for float32 and float64, and for complex numbers where a variant exists."""
    variants = {"f4": _REAL32[name + "_f32"], "f8": _REAL64[name + "_f64"]}
    complex_form = getattr(math_complex, name + "_c", None)
    if complex_form is not None:
        variants |= {"c8": complex_form, "c16": complex_form}
    return typed(name, **variants)


exp = _both("exp")
exp2 = _both("exp2")
expm1 = _both("expm1")
log = _both("log")
log2 = _both("log2")
log10 = _both("log10")
log1p = _both("log1p")
sqrt = _both("sqrt")
rsqrt = _both("rsqrt")
pow = _both("pow")
sigmoid = _both("sigmoid")
sin = _both("sin")
cos = _both("cos")
tan = _both("tan")
asin = _both("asin")
acos = _both("acos")
atan = _both("atan")
atan2 = _both("atan2")
sinh = _both("sinh")
cosh = _both("cosh")
tanh = _both("tanh")
asinh = _both("asinh")
acosh = _both("acosh")
atanh = _both("atanh")
hypot = _both("hypot")
erf = _both("erf")
erfc = _both("erfc")
erfinv = _both("erfinv")
lgamma = _both("lgamma")
digamma = _both("digamma")
