"""Named dtype rules: from the promoted type of the inputs to (compute type, result type)."""
from ..runtime import dtypes
from ..runtime.dtypes import BOOL, COMPLEX, FLOAT, INT, bool_, promote_types
from .base import TensorBase


def same(promoted):
    """The result has the promoted type."""
    return promoted, promoted


def floating(promoted):
    """Integers and bool become the default floating type: sqrt, sin, true division."""
    if promoted.category < FLOAT:
        promoted = dtypes.get_default_dtype()
    return promoted, promoted


def boolean(promoted):
    """Computed in the promoted type, bool comes out: comparisons, isnan."""
    return promoted, bool_


def real_part(promoted):
    """Complex in, real out (abs, angle); other types stay."""
    return promoted, promoted.to_real()


def floating_real_part(promoted):
    """``floating``, and the real type of complex inputs: angle."""
    promoted = floating(promoted)[0]
    return promoted, promoted.to_real()


def _refuse(promoted, categories, words):
    if promoted.category in categories:
        raise NotImplementedError(f"{words} for '{_scalar_name(promoted)}'")
    return promoted, promoted


def _scalar_name(dtype):
    return {"bool": "Bool", "uint8": "Byte", "int8": "Char", "int16": "Short", "int32": "Int",
            "int64": "Long", "float16": "Half", "bfloat16": "BFloat16", "float32": "Float",
            "float64": "Double", "complex64": "ComplexFloat",
                "complex128": "ComplexDouble"}[dtype.name]


def integral(promoted):
    """Integers and bool only: bitwise operations."""
    return _refuse(promoted, (FLOAT, COMPLEX), "not implemented")


def integers_only(promoted):
    """Integers only: shifts, gcd."""
    return _refuse(promoted, (BOOL, FLOAT, COMPLEX), "not implemented")


def not_bool(promoted):
    """Any type but bool."""
    return _refuse(promoted, (BOOL,), "not implemented")


def not_complex(promoted):
    """Any type that is ordered."""
    return _refuse(promoted, (COMPLEX,), "not implemented")


def ordered(promoted):
    """Compared, so not complex; bool comes out."""
    return _refuse(promoted, (COMPLEX,), "not implemented")[0], bool_


def floating_not_complex(promoted):
    """``floating`` for functions that have no complex form: erf, atan2, lgamma."""
    return floating(_refuse(promoted, (COMPLEX,), "not implemented")[0])


def floats_only(promoted):
    """Floating types only, integers refused: activations, lerp."""
    return _refuse(promoted, (BOOL, INT), "not implemented")


def integers_to_int64(promoted):
    """Sums and products of integers and bool are int64."""
    return (dtypes.int64,) * 2 if promoted.category < FLOAT else (promoted, promoted)


def _merge(higher, lower):
    """torch's rule for a lower-priority operand: it counts only if its category is higher."""
    if higher is None:
        return lower
    if lower is None or higher.category == COMPLEX:
        return higher
    if higher.category == FLOAT:
        return higher.to_complex() if lower.category == COMPLEX else higher
    if higher is bool_ or lower.category >= FLOAT:
        return promote_types(higher, lower)
    return higher


def result_type(operands):
    """torch's type promotion: tensors with dims, then zero-dim tensors, then Python numbers."""
    dimensional = zero = number = None
    for operand in operands:
        if isinstance(operand, TensorBase):
            d = operand.dtype
            if operand._shape:
                dimensional = d if dimensional is None else promote_types(dimensional, d)
            else:
                zero = d if zero is None else promote_types(zero, d)
        else:
            d = dtypes.of_scalar(operand)
            number = d if number is None else promote_types(number, d)
    return _merge(_merge(dimensional, zero), number)
