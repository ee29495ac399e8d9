"""Rounding to integers, pointwise. Integers pass through unchanged."""
import numpy as np

from ...kernels.stubs import (
    bits_f32_to_i32,
    bits_f64_to_i64,
    bits_i32_to_f32,
    bits_i64_to_f64,
    ceil_,
    floor_,
    round_even,
    select,
    trunc_,
    typed,
)
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


@pointwise("floor(Tensor self) -> Tensor", dtype=_real_number, exact_out="dtype")
def floor(x):
    """Largest integer not above ``self``."""
    return _floor(x)


@pointwise("ceil(Tensor self) -> Tensor", dtype=_real_number, exact_out="dtype")
def ceil(x):
    """Smallest integer not below ``self``."""
    return _ceil(x)


@pointwise("trunc(Tensor self) -> Tensor", dtype=_real_number, aliases=("fix",), exact_out="dtype")
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


@composite("round(Tensor self, *, int decimals=0) -> Tensor", inplace=True, out=True,
           exact_out="dtype", fuse=False)
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


@pointwise("frac(Tensor self) -> Tensor", dtype=lambda d: floats_only(not_complex(d)[0]),
           exact_out="dtype")
def frac(x):
    """``self - trunc(self)``: the fraction, with the sign of ``self``."""
    return x - trunc_(x)


@frac.gradient("self")
def _(grad):
    return grad


def _nextafter_f32(x, y):
    bits = np.int64(bits_f32_to_i32(x))
    upward = (y > x) == (x > np.float32(0.0))       # away from zero: the magnitude grows
    stepped = bits_i32_to_f32(np.int32(bits + select(upward, 1, -1)))
    smallest = bits_i32_to_f32(np.int32(1))
    stepped = select(x == np.float32(0.0), select(y > x, smallest, -smallest), stepped)
    return select((x != x) | (y != y), x + y, select(x == y, y, stepped))


def _nextafter_f64(x, y):
    bits = bits_f64_to_i64(x)
    upward = (y > x) == (x > 0.0)
    stepped = bits_i64_to_f64(bits + select(upward, 1, -1))
    smallest = bits_i64_to_f64(np.int64(1))
    stepped = select(x == 0.0, select(y > x, smallest, -smallest), stepped)
    return select((x != x) | (y != y), x + y, select(x == y, y, stepped))


_nextafter = typed("nextafter", f4=_nextafter_f32, f8=_nextafter_f64)


def _whole_floats(promoted):
    if promoted.is_half:
        raise NotImplementedError(f"not implemented for '{promoted.name}', whose neighbours are "
                                  "not those of the type that kernels calculate in")
    return floats_only(not_complex(promoted)[0])


@pointwise("nextafter(Tensor self, Tensor other) -> Tensor", dtype=_whole_floats)
def nextafter(x, y):
    """The next number after ``self`` in the direction of ``other``."""
    return _nextafter(x, y)


@nextafter.gradient("self", "other")
def _(grad, self, other):
    return ops.where(self == other, 0.0, grad), ops.zeros_like(grad)
