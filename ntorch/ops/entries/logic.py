"""Logical and bitwise operations, pointwise."""
import numpy as np

from ...kernels.stubs import T, select
from ..dtype_rules import boolean, integers_only, integral
from ..pointwise import pointwise


def _logical(name):
    return pointwise(f"logical_{name}(Tensor self, Tensor other) -> Tensor", dtype=boolean,
                     differentiable=False)


@_logical("and")
def logical_and(x, y):
    """Whether both are nonzero."""
    return (x != T(0)) & (y != T(0))


@_logical("or")
def logical_or(x, y):
    """Whether either is nonzero."""
    return (x != T(0)) | (y != T(0))


@_logical("xor")
def logical_xor(x, y):
    """Whether exactly one is nonzero."""
    return (x != T(0)) != (y != T(0))


@pointwise("logical_not(Tensor self) -> Tensor", dtype=boolean, differentiable=False)
def logical_not(x):
    """Whether it is zero."""
    return x == T(0)


@pointwise("bitwise_and(Operand self, Operand other) -> Tensor", dtype=integral,
           differentiable=False)
def bitwise_and(x, y):
    """``self & other`` of integers or bool."""
    return x & y


@pointwise("bitwise_or(Operand self, Operand other) -> Tensor", dtype=integral,
           differentiable=False)
def bitwise_or(x, y):
    """``self | other`` of integers or bool."""
    return x | y


@pointwise("bitwise_xor(Operand self, Operand other) -> Tensor", dtype=integral,
           differentiable=False)
def bitwise_xor(x, y):
    """``self ^ other`` of integers or bool."""
    return x ^ y


@pointwise("bitwise_not(Tensor self) -> Tensor", dtype=integral, differentiable=False,
           exact_out="dtype")
def bitwise_not(x):
    """``~self``; logical negation of bool."""
    return ~x


@pointwise("bitwise_left_shift(Operand self, Operand other) -> Tensor", dtype=integers_only,
           differentiable=False)
def bitwise_left_shift(x, y):
    """``self << other``; 0 for shifts outside the width."""
    value, count = np.int64(x), np.int64(y)
    inside = (count >= 0) & (count < 64)
    return select(inside, value << select(inside, count, 0), 0)


@pointwise("bitwise_right_shift(Operand self, Operand other) -> Tensor", dtype=integers_only,
           differentiable=False)
def bitwise_right_shift(x, y):
    """``self >> other``, the sign kept; the sign alone for shifts outside the width."""
    value, count = np.int64(x), np.int64(y)
    return value >> select((count >= 0) & (count < 64), count, 63)
