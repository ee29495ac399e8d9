"""Element types: ``ntorch.float32`` and its siblings, with torch's promotion lattice.

A dtype knows how it is stored (a NumPy dtype; half types as 16-bit words), the two-letter code that
kernels are built with, and the code of the type that arithmetic on it is done in.
"""
import numpy as np

BOOL, INT, FLOAT, COMPLEX = range(4)


class dtype:
    """An element type.

    Attributes: ``name``, ``itemsize`` (bytes), ``is_floating_point``, ``is_complex``,
    ``is_signed``, ``code`` (kernel type code), ``compute`` (code that kernels calculate in),
    ``numpy`` (storage dtype), ``category`` (bool < integer < floating < complex, the order of
    promotion).
    """

    __slots__ = ("name", "code", "compute", "numpy", "itemsize", "category",
                 "is_floating_point", "is_complex", "is_signed", "rank", "__weakref__")

    def __init__(self, name, code, storage, category, rank, compute=None):
        self.name, self.code, self.compute = name, code, compute or code
        self.numpy = np.dtype(storage)
        self.itemsize = self.numpy.itemsize
        self.category, self.rank = category, rank
        self.is_floating_point = category == FLOAT
        self.is_complex = category == COMPLEX
        self.is_signed = category >= FLOAT or (category == INT and name != "uint8")

    def __repr__(self):
        return "torch." + self.name     # programs print it; unmodified ones expect torch's words

    def __reduce__(self):
        return _by_name, (self.name,)

    def __copy__(self):
        return self

    def __deepcopy__(self, memo):
        return self

    @property
    def is_half(self):
        """Stored in 16 bits and computed in float32."""
        return self.code in ("h2", "g2")

    def to_real(self):
        """The type of the real part: float32 for complex64, itself for real types."""
        return {complex64: float32, complex128: float64}.get(self, self)

    def to_complex(self):
        """The complex type with this precision."""
        return {float64: complex128, complex128: complex128}.get(self, complex64)


bool_ = dtype("bool", "b1", np.bool_, BOOL, 0)
uint8 = dtype("uint8", "u1", np.uint8, INT, 1)
int8 = dtype("int8", "i1", np.int8, INT, 1)
int16 = dtype("int16", "i2", np.int16, INT, 2)
int32 = dtype("int32", "i4", np.int32, INT, 3)
int64 = dtype("int64", "i8", np.int64, INT, 4)
float16 = dtype("float16", "h2", np.uint16, FLOAT, 1, "f4")
bfloat16 = dtype("bfloat16", "g2", np.uint16, FLOAT, 1, "f4")
float32 = dtype("float32", "f4", np.float32, FLOAT, 2)
float64 = dtype("float64", "f8", np.float64, FLOAT, 3)
complex64 = dtype("complex64", "c8", np.complex64, COMPLEX, 2)
complex128 = dtype("complex128", "c16", np.complex128, COMPLEX, 3)

ALL = (bool_, uint8, int8, int16, int32, int64, float16, bfloat16, float32, float64, complex64,
       complex128)
BY_NAME = {d.name: d for d in ALL}
BY_CODE = {d.code: d for d in ALL}
ALIASES = {"half": float16, "float": float32, "double": float64, "short": int16, "int": int32,
           "long": int64, "cfloat": complex64, "cdouble": complex128}
_FROM_NUMPY = {d.numpy: d for d in ALL if not d.is_half} | {np.dtype(np.float16): float16}
NUMPY_VIEW = {d: (np.dtype(np.float16) if d is float16 else d.numpy) for d in ALL}


def _by_name(name):
    return BY_NAME[name]


def from_numpy(numpy_dtype):
    """The ntorch dtype of a NumPy dtype; TypeError for one that has none."""
    found = _FROM_NUMPY.get(np.dtype(numpy_dtype).newbyteorder("="))
    if found is None:
        raise TypeError(
            f"can't convert np.ndarray of type {numpy_dtype}. The only supported types are: "
            "float64, float32, float16, complex64, complex128, int64, int32, int16, int8, uint8, "
            "and bool.")
    return found


def _promote(a, b):
    if a is b:
        return a
    if a.category != b.category:
        low, high = (a, b) if a.category < b.category else (b, a)
        if high.category == COMPLEX and low is float64:
            return complex128
        return high
    if {a, b} == {float16, bfloat16}:
        return float32
    if uint8 in (a, b) and int8 in (a, b):
        return int16
    return a if a.rank >= b.rank else b


_TABLE = {(a, b): _promote(a, b) for a in ALL for b in ALL}


def promote_types(type1, type2):
    """The smallest type that both convert to, by torch's promotion lattice."""
    return _TABLE[type1, type2]


def can_cast(from_, to):
    """Whether torch's casting rules allow ``from_`` to be written to ``to`` (no category lost)."""
    return from_.category <= to.category and not (from_.category == to.category == BOOL and
                                                  from_ is not to)


class _Default:
    """The process-wide default floating type (``set_default_dtype``)."""
    floating = float32


def get_default_dtype():
    """The floating type that factory functions and integer division produce."""
    return _Default.floating


def set_default_dtype(d):
    """Make ``d`` (a floating dtype) the default floating type; TypeError otherwise."""
    if not isinstance(d, dtype) or not d.is_floating_point:
        raise TypeError(f"only floating-point types are supported as the default type, got {d!r}")
    _Default.floating = d


def of_scalar(value):
    """The dtype that torch gives a Python number when it stands alone."""
    if isinstance(value, bool):
        return bool_
    if isinstance(value, int):
        return int64
    if isinstance(value, float):
        return _Default.floating
    if isinstance(value, complex):
        return _Default.floating.to_complex()
    if isinstance(value, np.generic):
        return from_numpy(value.dtype)
    if getattr(value, "is_dynamic", False):     # a number of a trace that is asked at each run
        return of_scalar(value.value)
    raise TypeError(f"expected a number, got {type(value).__name__}")
