"""Typed tensor constructors: ``FloatTensor`` and its siblings."""
from .conversion import _LEGACY
from .ops import base
from .ops.base import Size, TensorBase
from .ops.registry import ops
from .tensor import Tensor


class _TypedMeta(type):
    def __instancecheck__(cls, obj):
        return isinstance(obj, TensorBase) and obj.dtype is cls.dtype and obj.device.type == "cpu"

    def __call__(cls, *data, device=None):
        if not data:
            return base.empty((0,), cls.dtype)
        if len(data) == 1 and not isinstance(data[0], int) or isinstance(data[0], Size):
            first = data[0]
            if isinstance(first, Size):
                return base.empty(first, cls.dtype)
            if isinstance(first, TensorBase):
                if first.dtype is not cls.dtype:
                    raise TypeError(f"expected {cls.__name__} (got {first.type()})")
                return base.alias(first)
            return ops.tensor(first, dtype=cls.dtype)
        return ops.empty(*data, dtype=cls.dtype)


def _typed(name, dtype):
    return _TypedMeta(name, (), {"dtype": dtype, "__module__": "ntorch",
                                 "__doc__": f"Constructor of {dtype.name} tensors."})


for _name, _dtype in _LEGACY.items():
    globals()[_name] = _typed(_name, _dtype)

__all__ = ["Tensor", *_LEGACY]
