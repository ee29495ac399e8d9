"""``to``, ``type``, deep copies and pickles of tensors."""
import copy
import warnings

from .ops import base
from .ops.base import TensorBase
from .ops.dtype_rules import _scalar_name
from .ops.registry import ops
from .runtime import dtypes
from .runtime.device import device as Device


def parse_to(arguments, keywords):
    """``(device, dtype, non_blocking, copy, memory_format)`` of a call of ``to``."""
    keywords = dict(keywords)
    found = {"device": keywords.pop("device", None), "dtype": keywords.pop("dtype", None)}
    other = keywords.pop("other", None)
    rest = list(arguments)
    if rest and isinstance(rest[0], TensorBase):
        other = rest.pop(0)
    if other is not None:
        found = {"device": other.device, "dtype": other.dtype}
    else:
        if rest and (rest[0] is None or isinstance(rest[0], (str, Device, int)) and not isinstance(
                rest[0], bool)):
            found["device"] = rest.pop(0)
        if rest and (rest[0] is None or isinstance(rest[0], dtypes.dtype)):
            found["dtype"] = rest.pop(0)
    names = ["non_blocking", "copy"]
    flags = {"non_blocking": False, "copy": False, "memory_format": None}
    for name, value in zip(names, rest, strict=False):
        flags[name] = value
    for name in list(keywords):
        if name not in flags:
            raise TypeError("to() received an invalid combination of arguments: unexpected keyword "
                            f"'{name}'")
        flags[name] = keywords.pop(name)
    if found["dtype"] is not None and not isinstance(found["dtype"], dtypes.dtype):
        raise TypeError("to(): argument 'dtype' must be torch.dtype, not "
                        f"{type(found['dtype']).__name__}")
    target = None if found["device"] is None else Device(found["device"])
    if rest and not isinstance(rest[0], bool):
        raise TypeError("to() received an invalid combination of arguments - got "
                        f"({', '.join(type(a).__name__ for a in arguments)})")
    return target, found["dtype"], flags["non_blocking"], flags["copy"], flags["memory_format"]


def to(tensor, *arguments, **keywords):
    """See ``Tensor.to``."""
    target, dtype, _, force, _ = parse_to(arguments, keywords)
    result = tensor
    if dtype is not None and dtype is not tensor.dtype:
        if tensor.dtype.is_complex and not dtype.is_complex:
            warnings.warn("Casting complex values to real discards the imaginary part",
                          stacklevel=3)
        result = ops.to_dtype(result, dtype)
    if target is not None and target is not result.device and not (
            target.type == result.device.type and target.index is None):
        result = ops._to_device(result, target)
    return ops.clone(tensor) if force and result is tensor else result


_LEGACY = {"FloatTensor": dtypes.float32, "DoubleTensor": dtypes.float64,
           "HalfTensor": dtypes.float16,
           "BFloat16Tensor": dtypes.bfloat16, "LongTensor": dtypes.int64, "IntTensor": dtypes.int32,
           "ShortTensor": dtypes.int16, "CharTensor": dtypes.int8, "ByteTensor": dtypes.uint8,
           "BoolTensor": dtypes.bool_, "ComplexFloatTensor": dtypes.complex64,
           "ComplexDoubleTensor": dtypes.complex128}


def legacy_dtype(name):
    """The dtype of ``torch.FloatTensor`` and its siblings; ValueError for other names."""
    short = str(name).rsplit(".", 1)[-1]
    if short not in _LEGACY:
        raise ValueError(f"invalid type: {name!r}")
    return _LEGACY[short]


def type_(tensor, dtype):
    """See ``Tensor.type``."""
    if dtype is None:
        return f"torch.{_scalar_name(tensor.dtype)}Tensor"
    if not isinstance(dtype, dtypes.dtype):
        dtype = getattr(dtype, "dtype", None) or legacy_dtype(
            dtype if isinstance(dtype, str) else getattr(dtype, "__name__", dtype))
    return tensor.to(dtype)


def deep_copy(tensor, memo):
    """A copy whose storage is copied once per memo, so that views stay views of one storage."""
    known = memo.get(id(tensor))
    if known is not None:
        return known
    if not tensor.is_leaf:
        raise RuntimeError("Only Tensors created explicitly by the user (graph leaves) support the "
                           "deepcopy protocol at the moment.  If you were attempting to deepcopy a "
                           "module, this may be because of a torch.nn.utils.weight_norm usage, see "
                           "https://github.com/pytorch/pytorch/pull/103001")
    storage = base.storage_of(tensor)
    key = ("storage", id(storage))
    store = memo.get(key)
    if store is None:
        store = memo[key] = storage.clone()
    made = base.make(store, tensor.dtype, tensor._shape, tensor._strides, tensor._offset)
    made.__class__ = type(tensor)
    made._requires_grad = tensor._requires_grad
    if tensor._grad is not None:
        made._grad = copy.deepcopy(tensor._grad, memo)
    for name, value in tensor.__dict__.items():
        if name not in made.__dict__ and not name.startswith("_"):
            made.__dict__[name] = copy.deepcopy(value, memo)
    memo[id(tensor)] = made
    return made


def reduce_tensor(tensor, protocol):
    """Pickle a tensor as its storage and its view; a storage that several tensors share is pickled
    once, so that views stay views. History is not kept, as in torch."""
    user_state = {k: v for k, v in tensor.__dict__.items()
                  if not k.startswith("_") and k != "dtype"}
    storage = base.storage_of(tensor)
    arguments = (type(tensor), storage, tensor.dtype, tensor._offset, tuple(tensor._shape),
                 tuple(tensor._strides), tensor._requires_grad)
    return (rebuild, arguments, user_state) if user_state else (rebuild, arguments)


def rebuild(cls, store, dtype, offset, shape, strides, requires_grad):
    """What a pickle calls to put a tensor together; the view is checked against the storage."""
    from ._utils import rebuild_tensor
    from .storages import TypedStorage
    made = rebuild_tensor(TypedStorage(store, dtype), offset, shape, strides, requires_grad)
    made.__class__ = cls
    return made
