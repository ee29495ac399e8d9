"""Rounding to integers, pointwise. Integers pass through unchanged."""
from ...kernels.stubs import ceil_, floor_, round_even, trunc_, typed
from ...runtime import dtypes
from ..composite import composite
from ..dtype_rules import floats_only, not_bool, not_complex
from ..pointwise import pointwise
from ..registry import ops


def _itself(x):
    return x


def _floor_float(x):
    return floor_(x)


def _ceil_float(x):
    return ceil_(x)


def _trunc_float(x):
    return trunc_(x)


def _round_float(x):
    return round_even(x)


_floor = typed("floor", f4=_floor_float, f8=_floor_float, i8=_itself)
_ceil = typed("ceil", f4=_ceil_float, f8=_ceil_float, i8=_itself)
_trunc = typed("trunc", f4=_trunc_float, f8=_trunc_float, i8=_itself)
_round = typed("round", f4=_round_float, f8=_round_float, i8=_itself)


def _real_number(promoted):
    return not_bool(not_complex(promoted)[0])


@pointwise("floor(Tensor self) -> Tensor", dtype=_real_number)
def floor(x):
    """Largest integer not above ``self``."""
    return _floor(x)


@pointwise("ceil(Tensor self) -> Tensor", dtype=_real_number)
def ceil(x):
    """Smallest integer not below ``self``."""
    return _ceil(x)


@pointwise("trunc(Tensor self) -> Tensor", dtype=_real_number, aliases=("fix",))
def trunc(x):
    """``self`` without its fraction."""
    return _trunc(x)


@pointwise("_round(Tensor self) -> Tensor", dtype=_real_number, method=False)
def round_kernel(x):
    """Nearest integer, ties to even."""
    return _round(x)


for _entry in (floor, ceil, trunc, round_kernel):
    @_entry.gradient("self")
    def _(grad):
        return ops.zeros_like(grad)


@pointwise("_round_scaled(Tensor self, Scalar factor) -> Tensor", dtype=floats_only, method=False)
def round_multiplied(x, factor):
    """Nearest multiple of ``1 / factor``."""
    return round_even(x * factor) / factor


@pointwise("_round_divided(Tensor self, Scalar factor) -> Tensor", dtype=floats_only, method=False)
def round_divided(x, factor):
    """Nearest multiple of ``factor``."""
    return round_even(x / factor) * factor


for _entry in (round_multiplied, round_divided):
    @_entry.gradient("self")
    def _(grad):
        return ops.zeros_like(grad)


@composite("round(Tensor self, *, int decimals=0) -> Tensor", inplace=True, out=True)
def round_(self, decimals):
    """Nearest number with ``decimals`` decimals (negative: tens, hundreds, ...), ties to even."""
    if decimals == 0:
        return ops._round(self)
    if self.dtype.category < dtypes.FLOAT:
        raise NotImplementedError(
            f"\"round_cpu\" not implemented for '{self.dtype.name}' with decimals; convert to a "
            "floating type first")
    if decimals > 0:
        return ops._round_scaled(self, 10.0 ** decimals)
    return ops._round_divided(self, 10.0 ** -decimals)


@pointwise("frac(Tensor self) -> Tensor", dtype=lambda d: floats_only(not_complex(d)[0]))
def frac(x):
    """``self - trunc(self)``: the fraction, with the sign of ``self``."""
    return x - trunc_(x)


@frac.gradient("self")
def _(grad):
    return grad
