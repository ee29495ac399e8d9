"""Conversions between float32 and the 16-bit types, bit by bit.

CPU float16 arithmetic is not available to kernels, so half types are stored as 16-bit words and
computed in float32. Rounding is to nearest even; NaN stays NaN; denormals convert exactly. Each
step is cut back to int32, or Numba would widen it to int64 and halve the speed of a loop. Where the
processor converts float16 itself, a build takes its instruction instead.
"""
import numpy as np

from .stubs import bits_f32_to_i32, bits_i32_to_f32, select

MAGIC_HALF = 5.9604644775390625e-08     # 2 ** -24: the smallest float16


def f16_to_f32(h):
    """The float32 value of the IEEE binary16 word ``h``; exact."""
    word = np.int32(h)
    magnitude = np.int32(word & 0x7FFF)
    shifted = np.int32(magnitude << 13)
    normal = np.int32(shifted + 0x38000000)
    special = np.int32(shifted + 0x70000000)
    tiny = bits_f32_to_i32(np.float32(magnitude) * np.float32(MAGIC_HALF))
    bits = select(magnitude < np.int32(0x0400), tiny,
                  select(magnitude >= np.int32(0x7C00), special, normal))
    return bits_i32_to_f32(np.int32(bits | np.int32(np.int32(word & 0x8000) << 16)))


def f32_to_f16(x):
    """The IEEE binary16 word nearest ``x``: ties to even, overflow to inf, NaN to a quiet NaN."""
    bits = bits_f32_to_i32(x)
    magnitude = np.int32(bits & 0x7FFFFFFF)
    odd = np.int32(np.int32(magnitude >> 13) & 1)
    normal = np.int32(np.int32(np.int32(magnitude - 0x37FFF001) + odd) >> 13)
    # adding 0.5 puts the denormal's last bit at the float's last bit: the addition rounds
    shifted = bits_i32_to_f32(magnitude) + np.float32(0.5)
    tiny = np.int32(bits_f32_to_i32(shifted) - 0x3F000000)
    word = select(magnitude < np.int32(0x38800000), tiny, normal)
    word = select(magnitude >= np.int32(0x47800000), np.int32(0x7C00), word)
    word = select(magnitude > np.int32(0x7F800000), np.int32(0x7E00), word)
    return np.uint16(np.int32(word | np.int32(np.int32(bits >> 16) & 0x8000)))


def bf16_to_f32(h):
    """The float32 value of the bfloat16 word ``h``; exact."""
    return bits_i32_to_f32(np.int32(np.int32(h) << 16))


def f32_to_bf16(x):
    """The bfloat16 word nearest ``x``: ties to even, NaN to a quiet NaN."""
    bits = bits_f32_to_i32(x)
    odd = np.int32(np.int32(bits >> 16) & 1)
    # wraps only for NaN, which is replaced
    rounded = np.int32(np.int32(np.int32(bits + 0x7FFF) + odd) >> 16)
    nan = np.int32(bits & 0x7FFFFFFF) > np.int32(0x7F800000)
    return np.uint16(np.int32(select(nan, np.int32(0x7FC0), rounded) & 0xFFFF))


# what a build takes instead where the processor has it, from ``runtime/intrinsics.py``
f16_to_f32.__instruction__, f32_to_f16.__instruction__ = "half_to_single", "single_to_half"
