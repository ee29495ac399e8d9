"""Error functions, the gamma family and their relatives, pointwise."""
import math

from ...kernels.math import log as log_
from ...kernels.math import log1p as log1p_
from ...kernels.polygamma import polygamma as polygamma_
from ...kernels.stubs import select
from ..composite import composite
from ..dtype_rules import floating_not_complex
from ..pointwise import pointwise
from ..registry import ops
from .exponential import unary

INF = math.inf
NAN = math.nan
TWO_OVER_ROOT_PI = 2.0 / math.sqrt(math.pi)

erf = unary("erf", "Error function.", floating_not_complex)
erfc = unary("erfc", "``1 - erf(self)``, accurate for large arguments.", floating_not_complex)
erfinv = unary("erfinv", "Inverse error function; +-inf at +-1, NaN beyond.", floating_not_complex)
lgamma = unary("lgamma", "``log |gamma(self)|``.", floating_not_complex)
digamma = unary("digamma", "Derivative of ``log(gamma(self))``.", floating_not_complex)


@erf.gradient("self")
def _(grad, self):
    return grad * (TWO_OVER_ROOT_PI * ops.exp(-(self * self)))


@erfc.gradient("self")
def _(grad, self):
    return grad * (-TWO_OVER_ROOT_PI * ops.exp(-(self * self)))


@erfinv.gradient("self")
def _(grad, result):
    return grad * (ops.exp(result * result) / TWO_OVER_ROOT_PI)


@lgamma.gradient("self")
def _(grad, self):
    return grad * ops.digamma(self)


@digamma.gradient("self")
def _(grad, self):
    return grad * ops.polygamma(1, self)


@pointwise("_polygamma(Tensor self, Scalar n) -> Tensor", dtype=floating_not_complex, method=False)
def polygamma_kernel(x, n):
    """The ``n``-th derivative of ``digamma``, n >= 1."""
    return polygamma_(x, n)


@polygamma_kernel.gradient("self")
def _(grad, self, n):
    return grad * ops._polygamma(self, n + 1)


@composite("polygamma(int n, Tensor self) -> Tensor", method=False, out=True, fuse=False)
def polygamma(n, self):
    """The ``n``-th derivative of ``digamma``. RuntimeError for negative ``n``."""
    if n < 0:
        raise RuntimeError("polygamma(n, x) does not support negative n.")
    return ops.digamma(self) if n == 0 else ops._polygamma(self, n)


@pointwise("_logit(Tensor self) -> Tensor", dtype=floating_not_complex, method=False)
def logit_kernel(x):
    """``log(x / (1 - x))``."""
    return log_(x / (1 - x))


@logit_kernel.gradient("self")
def _(grad, self):
    inside = ops.logical_and(self >= 0, self <= 1)
    return ops.where(inside, grad / (self * (1 - self)), NAN)


@composite("logit(Tensor self, float? eps=None) -> Tensor", inplace=True, out=True)
def logit(self, eps):
    """``log(x / (1 - x))``, ``x`` clamped to ``[eps, 1 - eps]`` if ``eps`` is given."""
    return ops._logit(self if eps is None else ops.clamp(self, eps, 1 - eps))


@pointwise("xlogy(Operand self, Operand other) -> Tensor", dtype=floating_not_complex)
def xlogy(x, y):
    """``self * log(other)``; 0 where ``self`` is 0 and ``other`` is not NaN."""
    return select(y != y, y, select(x == 0, x * 0, x * log_(y)))


@xlogy.gradient("self")
def _(grad, self, other):
    slope = ops.log(other) if hasattr(other, "dtype") else math.log(other) if other > 0 else NAN
    return grad * ops.where(_vanishes(self, other), 0.0, slope)


def _vanishes(self, other):
    return ops.logical_and(ops.eq(self, 0), ops.le(other, 0) if hasattr(other, "dtype")
                           else ops.eq(self, self) if other <= 0 else ops.ne(self, self))


@xlogy.gradient("other")
def _(grad, self, other):
    return grad * self / other


@pointwise("xlog1py(Operand self, Operand other) -> Tensor", dtype=floating_not_complex,
           method=False, inplace=False)
def xlog1py(x, y):
    """``self * log1p(other)``; 0 where ``self`` is 0 and ``other`` is not NaN."""
    return select(y != y, y, select(x == 0, x * 0, x * log1p_(y)))


@xlog1py.gradient("self")
def _(grad, self, other):
    if not hasattr(other, "dtype"):
        return grad * (math.log1p(other) if other > -1 else NAN)
    return grad * ops.where(ops.logical_and(ops.eq(self, 0), other <= -1), 0.0, ops.log1p(other))


@xlog1py.gradient("other")
def _(grad, self, other):
    return grad * self / (other + 1)


@pointwise("entr(Tensor self) -> Tensor", dtype=floating_not_complex, method=False, inplace=False)
def entr(x):
    """``-self * log(self)``, 0 at 0, -inf below."""
    return select(x != x, x, select(x > 0, -x * log_(x), select(x == 0, x * 0, -INF)))


@entr.gradient("self")
def _(grad, self):
    return grad * (-ops.log(self) - 1)
