"""Small public functions: types, shapes, numeric limits, threads."""
import numpy as np

from .ops import base
from .ops.base import Size, TensorBase
from .ops.dtype_rules import result_type as _result_type
from .runtime import dtypes, recording
from .runtime.storage import Storage


def is_tensor(obj):
    """Whether ``obj`` is a Tensor."""
    return isinstance(obj, TensorBase)


def is_storage(obj):
    """Whether ``obj`` is a storage, typed or not."""
    from .storages import TypedStorage
    return isinstance(obj, (Storage, TypedStorage))


def is_floating_point(input):
    """Whether the dtype is a floating one."""
    return input.dtype.is_floating_point


def is_complex(input):
    """Whether the dtype is complex."""
    return input.dtype.is_complex


def is_conj(input):
    """False: conjugation is never lazy here."""
    return False


def is_signed(input):
    """Whether the dtype has negative numbers."""
    return input.dtype.is_signed


def is_same_size(input, other):
    """Whether the shapes are equal."""
    return input.shape == other.shape


def is_inference(input):
    """Whether the tensor was made in ``inference_mode``."""
    return input.is_inference()


def is_nonzero(input):
    """Whether the single element is not zero; RuntimeError if there is not exactly one."""
    return bool(input)


def numel(input):
    """Number of elements."""
    return input.numel()


def typename(obj):
    """The type's name: ``torch.FloatTensor`` for tensors, the qualified class name otherwise."""
    if isinstance(obj, TensorBase):
        return obj.type()
    module = getattr(obj, "__module__", "") or type(obj).__module__
    name = getattr(obj, "__qualname__", None) or type(obj).__qualname__
    return name if module in ("", "builtins") else f"{module}.{name}"


def result_type(tensor1, tensor2):
    """The dtype that arithmetic on both gives."""
    return _result_type((tensor1, tensor2))


def set_default_dtype(d):
    """Make ``d`` the default floating type."""
    dtypes.set_default_dtype(d)


def set_default_tensor_type(t):
    """Make a tensor type (``torch.DoubleTensor`` or its name) the default."""
    from .conversion import legacy_dtype
    dtypes.set_default_dtype(getattr(t, "dtype", None) or legacy_dtype(t))


def get_default_device():
    """The device of new tensors."""
    from .runtime.device import CPU
    return CPU


def broadcast_shapes(*shapes):
    """The shape that the given shapes broadcast to; RuntimeError if they do not."""
    tuples = [Size((s,)) if isinstance(s, int) else Size(s) for s in shapes]
    for shape in tuples:
        if any(n < 0 for n in shape):
            raise RuntimeError(f"Trying to create tensor with negative dimension ({min(shape)}): "
                               f"({list(shape)})")
    try:
        return base.broadcast_shapes(*tuples) if tuples else Size()
    except RuntimeError:
        raise RuntimeError("Shape mismatch: objects cannot be broadcast to a single shape: "
                           f"{[tuple(s) for s in tuples]}") from None


def set_num_threads(n):
    """Use ``n`` threads for kernels, at least 1."""
    from .runtime import pool
    if not isinstance(n, int) or isinstance(n, bool):
        raise TypeError(f"set_num_threads expects an int, but got {type(n).__name__}")
    if n < 1:
        raise RuntimeError("set_num_threads expects a positive integer")
    recording.changes("the number of threads")
    pool.set_num_threads(n)


def get_num_threads():
    """How many threads kernels use."""
    from .runtime import pool
    return recording.setting(pool.get_num_threads, "the number of threads")


_interop = {"threads": 1}


def set_num_interop_threads(n):
    """Accepted for programs that call it: operations run one at a time here."""
    if n < 1:
        raise RuntimeError("set_num_interop_threads expects a positive integer")
    recording.changes("the number of interop threads")
    _interop["threads"] = n


def get_num_interop_threads():
    """What ``set_num_interop_threads`` was given; 1 at first."""
    return recording.setting(lambda: _interop["threads"], "the number of interop threads")


def set_flush_denormal(mode):
    """Whether denormal numbers are flushed to zero, in all threads; False if unsupported."""
    from .runtime import pool
    recording.changes("how denormal numbers are treated")
    return pool.set_flush_denormal(bool(mode))


def use_deterministic_algorithms(mode, *, warn_only=False):
    """Accepted: every kernel here is deterministic, for any number of threads."""


def set_warn_always(value):
    """Accepted for programs that call it."""


def compiled_with_cxx11_abi():
    """True: there is no C++ here to disagree with."""
    return True


def from_dlpack(ext_tensor):
    """A tensor that shares the memory of a DLPack capsule or an object with ``__dlpack__``."""
    from .utils.dlpack import from_dlpack as convert
    return convert(ext_tensor)


class finfo:
    """Limits of a floating type: bits, eps, max, min, tiny, smallest_normal, resolution."""

    _BFLOAT16 = {"bits": 16, "eps": 0.0078125, "max": 3.3895313892515355e38,
                 "min": -3.3895313892515355e38, "tiny": 1.1754943508222875e-38, "resolution": 0.01}

    def __init__(self, type=None):  # noqa: A002 - torch's keyword
        d = dtypes.get_default_dtype() if type is None else type
        if not isinstance(d, dtypes.dtype) or d.category < dtypes.FLOAT:
            raise TypeError("torch.finfo() requires a floating point input type. Use torch.iinfo "
                            f"to handle '{d}'")
        d = d.to_real()
        self.dtype = d.name
        if d is dtypes.bfloat16:
            self.__dict__.update(self._BFLOAT16)
        else:
            info = np.finfo(dtypes.NUMPY_VIEW[d])
            self.bits = info.bits
            self.eps, self.max, self.min = float(info.eps), float(info.max), float(info.min)
            self.tiny, self.resolution = float(info.tiny), float(info.resolution)
        self.smallest_normal = self.tiny

    def __repr__(self):
        return (f"finfo(resolution={self.resolution:g}, min={self.min:g}, max={self.max:g}, "
                f"eps={self.eps:g}, smallest_normal={self.smallest_normal:g}, tiny={self.tiny:g}, "
                f"dtype={self.dtype})")


class iinfo:
    """Limits of an integer type: bits, min, max."""

    def __init__(self, type):  # noqa: A002 - torch's keyword
        if not isinstance(type, dtypes.dtype) or type.category != dtypes.INT:
            raise TypeError("torch.iinfo() requires an integer input type. Use torch.finfo to "
                            f"handle '{type}'")
        info = np.iinfo(type.numpy)
        self.bits, self.min, self.max = info.bits, int(info.min), int(info.max)
        self.dtype = type.name

    def __repr__(self):
        return f"iinfo(min={self.min}, max={self.max}, dtype={self.dtype})"
