"""ntorch: PyTorch's Python API on kernels that are themselves Python.

Names are found at first use: importing ntorch imports neither Numba nor SciPy, and compiles
nothing.
"""
import importlib
import math as _math

from . import operators as _operators  # noqa: F401 - binds Tensor's operators
from . import ops
from .autograd import (
    enable_grad,
    inference_mode,
    is_grad_enabled,
    is_inference_mode_enabled,
    no_grad,
    set_grad_enabled,
)
from .autograd import fusing as _fusing
from .ops.base import Size
from .ops.registry import ops as _table
from .runtime import dtypes as _dtypes
from .runtime.device import device
from .runtime.dtypes import can_cast as _can_cast
from .runtime.dtypes import dtype, get_default_dtype, promote_types
from .tensor import Tensor

_fusing.bind(lambda: importlib.import_module("ntorch.jit.inline"))
del tensor      # noqa: F821 - importing the submodule bound its name; ntorch.tensor is the function
__version__ = "0.1.0"
inf, nan, pi, e, newaxis = _math.inf, _math.nan, _math.pi, _math.e, None

for _d in _dtypes.ALL:
    globals()[_d.name] = _d
globals().update(_dtypes.ALIASES)

# submodules that are part of the public face, imported when first named
_MODULES = frozenset((
    "autograd", "functional", "nn", "optim", "utils", "serialization", "random", "linalg",
    "special", "fft",
    "jit", "compiler",
    "distributions", "cuda", "backends", "multiprocessing", "testing", "version", "ops", "types",
    "storages", "overrides", "_C", "_VF", "return_types", "__config__", "__future__"))
# names that live in a module of their own: name -> module
_PLACES = {
    "save": "serialization", "load": "serialization",
    "compile": "compiler", "lazy": "compiler",
    **dict.fromkeys(("manual_seed", "seed", "initial_seed", "get_rng_state", "set_rng_state",
                     "fork_rng", "Generator", "default_generator"), "random"),
    **dict.fromkeys(("set_printoptions", "get_printoptions"), "printing"),
    **dict.fromkeys(("strided", "sparse_coo", "layout", "memory_format", "contiguous_format",
                     "channels_last", "channels_last_3d", "preserve_format"), "formats"),
    **dict.fromkeys(("is_tensor", "is_storage", "is_floating_point", "is_complex", "numel",
                     "typename",
                     "result_type", "set_default_dtype", "set_default_tensor_type",
                     "set_num_threads",
                     "get_num_threads", "set_num_interop_threads", "get_num_interop_threads",
                     "set_flush_denormal", "broadcast_shapes", "finfo", "iinfo",
                     "is_same_size", "is_nonzero", "is_inference", "is_signed", "from_dlpack",
                     "get_default_device", "use_deterministic_algorithms", "is_conj",
                     "compiled_with_cxx11_abi", "set_warn_always"), "utilities"),
    **dict.fromkeys(("FloatStorage", "DoubleStorage", "HalfStorage", "BFloat16Storage",
                     "LongStorage",
                     "IntStorage", "ShortStorage", "CharStorage", "ByteStorage", "BoolStorage",
                     "ComplexFloatStorage", "ComplexDoubleStorage", "TypedStorage"), "storages"),
    **dict.fromkeys(("FloatTensor", "DoubleTensor", "HalfTensor", "BFloat16Tensor", "LongTensor",
                     "IntTensor", "ShortTensor", "CharTensor", "ByteTensor", "BoolTensor"),
                     "legacy"),
}


# nn.functional's forms; torch's top level has other argument orders under these names
_FUNCTIONAL_ONLY = frozenset(
    ("embedding", "embedding_bag", "batch_norm", "instance_norm", "kl_div"))


def can_cast(from_, to):
    """Whether torch's casting rules allow ``from_`` to be written to ``to``."""
    return _can_cast(from_, to)


def __getattr__(name):
    if name in _MODULES:
        try:
            value = importlib.import_module(f"{__name__}.{name}")
        except ModuleNotFoundError as error:
            raise AttributeError(f"module 'ntorch' has no attribute {name!r}: {error}") from None
    elif name in _PLACES:
        value = getattr(importlib.import_module(f"{__name__}.{_PLACES[name]}"), name)
    elif name == "UntypedStorage":
        from .runtime.storage import Storage as value
    elif name == "resize_as_":
        value = Tensor.resize_as_
    elif name.startswith("__") or name in _FUNCTIONAL_ONLY:
        raise AttributeError(f"module 'ntorch' has no attribute {name!r}")
    else:
        try:
            value = getattr(_table, name)
        except AttributeError:
            raise AttributeError(f"module 'ntorch' has no attribute {name!r}") from None
    globals()[name] = value
    return value


def __dir__():
    from .ops.registry import entries
    return sorted({*globals(), *_MODULES, *_PLACES, *entries()})


__all__ = ["Size", "Tensor", "can_cast", "device", "dtype", "enable_grad", "get_default_dtype",
           "inference_mode", "is_grad_enabled", "is_inference_mode_enabled", "no_grad", "ops",
           "promote_types", "set_grad_enabled"]
