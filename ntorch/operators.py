"""Python operators of Tensor, each bound to an entry of the table."""
import functools
import numbers
import sys

from .autograd.modes import state
from .ops.base import TensorBase
from .ops.registry import find, ops
from .tensor import Tensor

_NUMBER = (TensorBase, float, int, complex, numbers.Number)
# operator, entry, whether a reflected and an in-place form exist
_BINARY = (("add", "add"), ("sub", "sub"), ("mul", "mul"), ("truediv", "_div"),
           ("floordiv", "floor_divide"), ("mod", "remainder"), ("pow", "pow"),
           ("and", "bitwise_and"), ("or", "bitwise_or"), ("xor", "bitwise_xor"),
           ("lshift", "bitwise_left_shift"), ("rshift", "bitwise_right_shift"))
_COMPARE = ("ne", "lt", "le", "gt", "ge")
_UNARY = (("neg", "neg"), ("abs", "abs"), ("invert", "bitwise_not"))


def _binary(name, reflected):
    def operator(self, other):
        function = getattr(ops, name)

        def swapped(a, b):
            if not isinstance(a, TensorBase):
                raise TypeError(f"{key} requires a Tensor on the left, got {type(a).__name__}")
            return function(b, a)

        fast = swapped if reflected else function

        def apply(self, other):
            if type(other) is Tensor or isinstance(other, _NUMBER):
                return fast(self, other)
            return NotImplemented if not hasattr(other, "__array__") else fast(
                self, ops.as_tensor(other))
        _bind(key, apply)
        return apply(self, other)
    key = None

    def named(method):
        nonlocal key
        key = method
        operator.__name__ = method
        return operator
    return named


def _bind(method, function):
    function.__name__ = method
    setattr(Tensor, method, function)


def _inplace(name):
    def operator(self, other):
        entry = find(name)
        return getattr(ops, name + "_")(self, other) if entry.inplace else NotImplemented
    return operator


def _lazy_unary(name):
    def operator(self):
        return getattr(ops, name)(self)
    return operator


for _op, _entry in _BINARY:
    for _prefix, _swap in (("", False), ("r", True)):
        _method = f"__{_prefix}{_op}__"
        setattr(Tensor, _method, _binary(_entry, _swap)(_method))
    if _op != "pow":
        _bind(f"__i{_op}__", _inplace(_entry))
for _op in _COMPARE:
    _method = f"__{_op}__"
    setattr(Tensor, _method, _binary(_op, False)(_method))
for _op, _entry in _UNARY:
    _bind(f"__{_op}__", _lazy_unary(_entry))


def _equal(self, other):
    if state.tracer is not None and state.tracer.is_key(self, other, sys._getframe(1)):
        return True
    if type(other) is Tensor or isinstance(other, _NUMBER):
        return ops.eq(self, other)
    return NotImplemented if not hasattr(other, "__array__") else ops.eq(self, ops.as_tensor(other))


Tensor.__eq__ = _equal
Tensor.__pos__ = lambda self: self


def _matmul(self, other):
    return ops.matmul(self, other) if isinstance(other, TensorBase) else NotImplemented


Tensor.__matmul__ = _matmul
Tensor.__rmatmul__ = lambda self, other: ops.matmul(other, self)


def _conversion(name):
    """``x.float()`` and its siblings."""
    from .runtime import dtypes

    def convert(self, memory_format=None):
        return self.to(target)
    target = dtypes.ALIASES.get(name) or dtypes.BY_NAME[name]
    convert.__doc__ = f"The tensor converted to {target.name}."
    return convert


for _name in ("half", "float", "double", "short", "int", "long", "cfloat", "cdouble", "bfloat16",
              "bool"):
    _bind(_name, _conversion(_name))


def _to_code(name, dtype_name):
    from .runtime import dtypes

    @functools.wraps(Tensor.to)
    def convert(self, memory_format=None):
        return self.to(dtypes.BY_NAME[dtype_name])
    _bind(name, convert)


_to_code("char", "int8")
_to_code("byte", "uint8")


def _type_as(self, other):
    """The tensor converted to the dtype of ``other``."""
    return self.to(other.dtype)


Tensor.type_as = _type_as


# methods whose arguments come in another order than the function's
def _where(self, condition, other):
    """The tensor where ``condition`` is true, else ``other``."""
    return ops.where(condition, self, other)


def _polygamma(self, n):
    """The ``n``-th derivative of ``digamma``."""
    return ops.polygamma(n, self)


Tensor.where, Tensor.polygamma = _where, _polygamma
Tensor.polygamma_ = lambda self, n: self.copy_(ops.polygamma(n, ops.clone(self)))
Tensor.__rdiv__ = Tensor.__rtruediv__
