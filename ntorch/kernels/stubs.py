"""Names that kernels use and ``runtime.build`` replaces: the compute type, typed functions,
intrinsics.

Each intrinsic has a pure Python meaning here, so an uncompiled kernel computes the same thing.
``runtime/intrinsics.py`` holds the compiled twin of each, under the same name.
"""
import math
import struct

import numpy as np


def stub(function):
    """Mark ``function`` as an intrinsic: builds replace it by ``runtime.intrinsics.<name>``."""
    function.__stub__ = function.__name__
    return function


class _ComputeType:
    """``T``: the scalar type a kernel is built for; ``T(0.5)`` is a constant of that type."""

    def __call__(self, value):
        return float(value)


T = _ComputeType()


class typed:
    """One name, one implementation per argument type: ``typed("exp", f4=exp32, f8=exp64)``.

    In a build it becomes an overload on the type of the first argument; called from Python it
    chooses by the NumPy type of the first argument (Python floats count as float64). ``i8`` serves
    all integers and bool.
    """

    def __init__(self, name, **variants):
        self.__name__ = name
        self.variants = variants

    def __call__(self, first, *rest):
        dtype = np.asarray(first).dtype
        code = "i8" if dtype.kind in "iub" else dtype.str[1:]
        chosen = self.variants.get(code)
        if chosen is None:
            raise TypeError(f"{self.__name__} has no variant for {code}; it has "
                            f"{sorted(self.variants)}")
        return chosen(first, *rest)


class specialised:
    """``function`` built for compute type ``code``, whatever the kernel that calls it has as its
    own: ``T`` and literals in it take ``code``. ``reassoc`` lets its sums be reordered."""

    def __init__(self, function, code, reassoc=False):
        self.function, self.code, self.reassoc = function, code, reassoc

    def __call__(self, *arguments):
        return self.function(*arguments)


ROLLED = "LOOPS_STAY_ROLLED"


def stays_rolled(function):
    """Whether the module of a kernel's function says ``LOOPS_STAY_ROLLED = True``: what takes time
    in it are register tiles, and LLVM is not to unroll loops whose length it does not know."""
    return function.__globals__.get(ROLLED, False)


def _cast_bits(value, source, target):
    return struct.unpack(target, struct.pack(source, value))[0]


@stub
def bits_f32_to_i32(x):
    """The 32 bits of a float32 as int32."""
    return np.int32(_cast_bits(float(x), "<f", "<i"))


@stub
def bits_i32_to_f32(i):
    """The float32 whose bits are the int32 ``i``."""
    return np.float32(_cast_bits(int(i), "<i", "<f"))


@stub
def bits_f64_to_i64(x):
    """The 64 bits of a float64 as int64."""
    return np.int64(_cast_bits(float(x), "<d", "<q"))


@stub
def bits_i64_to_f64(i):
    """The float64 whose bits are the int64 ``i``."""
    return np.float64(_cast_bits(int(i), "<q", "<d"))


@stub
def round_even(x):
    """Nearest integer, ties to even, in the type of ``x``."""
    return type(x)(np.rint(x))


@stub
def floor_(x):
    """Largest integer not above ``x``, in the type of ``x``."""
    return type(x)(np.floor(x))


@stub
def ceil_(x):
    """Smallest integer not below ``x``, in the type of ``x``."""
    return type(x)(np.ceil(x))


@stub
def trunc_(x):
    """``x`` without its fraction, in the type of ``x``."""
    return type(x)(np.trunc(x))


@stub
def sqrt_(x):
    """Square root, correctly rounded; NaN below zero."""
    return type(x)(np.sqrt(x))


@stub
def fabs_(x):
    """Absolute value: clears the sign bit, of NaN too."""
    return type(x)(np.abs(x))


@stub
def copysign_(x, y):
    """``x`` with the sign bit of ``y``."""
    return type(x)(math.copysign(x, y))


@stub
def fma(a, b, c):
    """``a * b + c`` rounded once (the pure Python form rounds from float64)."""
    return type(a)(float(a) * float(b) + float(c))


@stub
def minnum(a, b):
    """The smaller; if one is NaN, the other (IEEE minNum)."""
    return b if a != a else a if b != b else min(a, b)


@stub
def maxnum(a, b):
    """The larger; if one is NaN, the other (IEEE maxNum)."""
    return b if a != a else a if b != b else max(a, b)


@stub
def maximum_(a, b):
    """The larger float; NaN if either is (IEEE 754-2019 maximum): reductions of it vectorise."""
    return a + b if a != a or b != b else max(a, b)


@stub
def minimum_(a, b):
    """The smaller float; NaN if either is (IEEE 754-2019 minimum)."""
    return a + b if a != a or b != b else min(a, b)


@stub
def select(condition, a, b):
    """``a if condition else b`` without a branch: both sides are computed."""
    return a if condition else b


@stub
def to_type_of(x, value):
    """``value`` converted to the type of ``x``."""
    return type(x)(value)


@stub
def table_vector(table, slot, offset, length, stride, kind):
    """``length`` elements from the address in ``table[slot]``, ``offset`` on, ``stride`` apart."""
    import ctypes
    code = {"h2": "u2", "g2": "u2", "b1": "?"}.get(kind.split(":")[0], kind.split(":")[0])
    step = stride if kind.endswith("A") else 1
    base = np.dtype(code)
    raw = (ctypes.c_char * (((length - 1) * step + 1) * base.itemsize)).from_address(
        table[slot] + offset * base.itemsize)
    return np.frombuffer(raw, base)[::step]


@stub
def table_pointer(table, slot, offset, kind):
    """The address in ``table[slot]``, ``offset`` elements of ``kind`` on."""
    base = np.dtype({"h2": "u2", "g2": "u2", "b1": "?"}.get(kind, kind))
    return table[slot] + offset * base.itemsize, base


@stub
def load_at(pointer, index, tag):
    """Element ``index`` behind ``pointer``; ``tag`` says what it may overlap."""
    import ctypes
    address, base = pointer
    raw = (ctypes.c_char * base.itemsize).from_address(address + index * base.itemsize)
    return np.frombuffer(raw, base)[0]


@stub
def store_at(pointer, index, value, tag):
    """Write ``value`` to element ``index`` behind ``pointer``."""
    import ctypes
    address, base = pointer
    raw = (ctypes.c_char * base.itemsize).from_address(address + index * base.itemsize)
    np.frombuffer(raw, base)[0] = value
