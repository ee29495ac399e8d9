"""Conversions between float32 and the 16-bit types, bit by bit.

CPU float16 arithmetic is not available to kernels, so half types are stored as 16-bit words and
computed in float32. Rounding is to nearest even; NaN stays NaN; denormals convert exactly.
"""
import numpy as np

from .stubs import bits_f32_to_i32, bits_i32_to_f32, select


def f16_to_f32(h):
    """The float32 value of the IEEE binary16 word ``h``; exact."""
    word = np.int32(h)
    sign = (word & np.int32(0x8000)) << np.int32(16)
    magnitude = word & np.int32(0x7FFF)
    normal = (magnitude << np.int32(13)) + np.int32(0x38000000)
    special = normal + np.int32(0x38000000)
    tiny = bits_f32_to_i32(np.float32(magnitude) * np.float32(5.9604644775390625e-08))
    bits = select(magnitude >= np.int32(0x7C00), special, normal)
    bits = select(magnitude < np.int32(0x0400), tiny, bits)
    return bits_i32_to_f32(np.int32(bits | sign))


def f32_to_f16(x):
    """The IEEE binary16 word nearest ``x``: ties to even, overflow to inf, NaN to a quiet NaN."""
    bits = bits_f32_to_i32(x)
    magnitude = bits & np.int32(0x7FFFFFFF)
    sign = (bits >> np.int32(16)) & np.int32(0x8000)
    odd = (magnitude >> np.int32(13)) & np.int32(1)
    normal = (magnitude - np.int32(0x38000000) + np.int32(0x0FFF) + odd) >> np.int32(13)
    # adding 0.5 puts the denormal's last bit at the float's last bit: the addition rounds
    shifted = bits_i32_to_f32(np.int32(magnitude)) + np.float32(0.5)
    tiny = bits_f32_to_i32(shifted) - np.int32(0x3F000000)
    word = select(magnitude < np.int32(0x38800000), tiny, normal)
    word = select(magnitude >= np.int32(0x47800000), np.int32(0x7C00), word)
    word = select(magnitude > np.int32(0x7F800000), np.int32(0x7E00), word)
    return np.uint16(word | sign)


def bf16_to_f32(h):
    """The float32 value of the bfloat16 word ``h``; exact."""
    return bits_i32_to_f32(np.int32(np.int32(h) << np.int32(16)))


def f32_to_bf16(x):
    """The bfloat16 word nearest ``x``: ties to even, NaN to a quiet NaN."""
    bits = bits_f32_to_i32(x)
    odd = (bits >> np.int32(16)) & np.int32(1)
    rounded = (bits + np.int32(0x7FFF) + odd) >> np.int32(16)
    nan = (bits & np.int32(0x7FFFFFFF)) > np.int32(0x7F800000)
    return np.uint16(select(nan, np.int32(0x7FC0), rounded))
