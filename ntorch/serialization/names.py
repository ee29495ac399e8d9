"""Which names of a pickle stand for which of our objects, and which may be used at all.

Checkpoints name PyTorch's functions and classes (``torch._utils _rebuild_tensor_v2``). They are
only words here: this table says what each one means, for reading and for writing.
"""

from __future__ import annotations

import functools
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from pickle import UnpicklingError
from typing import Any

import ntorch
import ntorch._utils as _utils
from ntorch.runtime import recording

__all__ = [
    "StorageKind",
    "add_safe_globals",
    "clear_safe_globals",
    "get_safe_globals",
    "safe_globals",
]

STORAGE_DTYPES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "ComplexDoubleStorage": "complex128",
    "ComplexFloatStorage": "complex64",
}


class StorageKind:
    """What ``torch FloatStorage`` names: bytes with a dtype; ``dtype=None`` for plain bytes."""

    __slots__ = ("dtype", "name")

    def __init__(self, name: str, dtype: Any):
        self.name = name
        self.dtype = dtype

    def __call__(self, *_: Any) -> Any:
        raise UnpicklingError(f"{self.name} cannot be called by a checkpoint")


def _encode(text: Any, encoding: Any = "latin1") -> bytes:
    # Protocol 2 has no bytes; they are written as text and this call.
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1", "utf-8", "ascii"):
        raise UnpicklingError(f"_codecs.encode: unexpected encoding {encoding!r}")
    return text.encode(encoding)


def _no_bytes() -> bytes:
    # How protocol 2 has empty bytes; bytes(n) would claim n of them.
    return b""


def _bytearray(data: Any = b"", encoding: Any = None) -> bytearray:
    # bytearray(n) would claim n bytes for a few in the file.
    if isinstance(data, bytes):
        return bytearray(data)
    return bytearray(_encode(data, encoding))


def _complex(real: Any, imag: Any) -> complex:
    if not isinstance(real, (int, float)) or not isinstance(imag, (int, float)):
        raise UnpicklingError("complex: expected two numbers")
    return complex(real, imag)


def _collection(kind: Callable[..., Any], *accepted: type) -> Callable[..., Any]:
    def build(*arguments: Any) -> Any:
        if len(arguments) > 1 or any(type(a) not in accepted for a in arguments):
            raise UnpicklingError(f"{kind.__name__}: unexpected arguments")
        for argument in arguments:
            for item in argument:
                check_key(item)
        return kind(*arguments)

    return build


def _range(*arguments: Any) -> Any:
    if any(type(a) is not int for a in arguments):
        raise UnpicklingError("range: expected integers")
    return range(*arguments)


def check_key(key: Any) -> None:
    """Refuse dict keys and set members whose hash would run code, or practically forever."""
    simple = (str, int, float, bool, bytes, complex, type(None))
    if type(key) in simple:
        return
    # A few nested tuples that refer to one another can have an endless hash.
    pending, budget = [key], 10_000
    while pending and budget:
        budget -= 1
        item = pending.pop()
        if type(item) in (tuple, ntorch.Size, frozenset):
            pending.extend(item)
        elif type(item) not in (*simple, range, ntorch.dtype, ntorch.device):
            if type(item) not in _user_values():
                raise UnpicklingError(
                    f"a {type(item).__name__} cannot be a key in a checkpoint loaded with "
                    "weights_only=True"
                )
    if pending:
        raise UnpicklingError("a key in the checkpoint is nested too deeply")


def _layout(name: str) -> Any:
    if name != "torch.strided":
        raise UnpicklingError(f"tensors of layout {name!r} are not supported")
    return ntorch.strided


@functools.cache
def storage_kinds() -> dict[Any, StorageKind]:
    """The storage kind of every dtype; key None for untyped storages."""
    kinds: dict[Any, StorageKind] = {None: StorageKind("UntypedStorage", None)}
    for name, dtype_name in STORAGE_DTYPES.items():
        dtype = getattr(ntorch, dtype_name)
        kinds[dtype] = StorageKind(name, dtype)
    return kinds


def rebuilders() -> dict[str, Callable[..., Any]]:
    return {
        "_rebuild_tensor": _utils.rebuild_tensor_v1,
        "_rebuild_tensor_v2": _utils.rebuild_tensor,
        "_rebuild_tensor_v3": _utils.rebuild_tensor_v3,
        "_rebuild_meta_tensor_no_storage": _utils.rebuild_meta_tensor,
        "_rebuild_parameter": _utils.rebuild_parameter,
        "_rebuild_parameter_with_state": _utils.rebuild_parameter_with_state,
    }


@functools.cache
def known() -> dict[tuple[str, str], Any]:
    """What every name of PyTorch's that a checkpoint may hold means here."""
    table: dict[tuple[str, str], Any] = {
        ("torch", "Size"): ntorch.Size,
        ("torch", "device"): ntorch.device,
        ("torch", "Tensor"): ntorch.Tensor,
        ("torch._tensor", "Tensor"): ntorch.Tensor,
        ("torch.nn.parameter", "Parameter"): ntorch.nn.Parameter,
        ("torch._tensor", "_rebuild_from_type_v2"): _utils.rebuild_subclass,
        ("torch.serialization", "_get_layout"): _layout,
        ("torch.storage", "UntypedStorage"): storage_kinds()[None],
    }
    for kind in storage_kinds().values():
        if kind.dtype is not None:
            table["torch", kind.name] = kind
            table["torch", str(kind.dtype).rpartition(".")[2]] = kind.dtype
    table |= {("torch._utils", name): function for name, function in rebuilders().items()}
    return table


@functools.cache
def allowed() -> dict[tuple[str, str], Any]:
    """Everything a checkpoint may name when it is loaded with ``weights_only=True``."""
    return known() | {
        ("collections", "OrderedDict"): OrderedDict,
        ("collections", "Counter"): _collection(Counter, dict),
        ("_codecs", "encode"): _encode,
        ("builtins", "bytes"): _no_bytes,
        ("builtins", "bytearray"): _bytearray,
        ("builtins", "complex"): _complex,
        ("builtins", "set"): _collection(set, list, tuple),
        ("builtins", "frozenset"): _collection(frozenset, list, tuple),
        ("builtins", "range"): _range,
        ("builtins", "slice"): slice,
    }


@functools.cache
def callables() -> frozenset[int]:
    """Identities of what a checkpoint may call: functions and the classes of plain data."""
    classes = (OrderedDict, slice, ntorch.Size, ntorch.device)
    functions = [v for v in allowed().values() if callable(v) and not isinstance(v, type)]
    return frozenset(map(id, [*classes, *functions]))


def canonical(module: str, name: str) -> tuple[str, str]:
    """The name under which the tables have it: Python 3's, and PyTorch's for our own."""
    if module in ("__builtin__", "builtins"):
        return "builtins", {"xrange": "range", "unicode": "str"}.get(name, name)
    if module == "ntorch._utils":
        for theirs, function in rebuilders().items():
            if function.__name__ == name:
                return "torch._utils", theirs
    if module == "ntorch" or module.startswith("ntorch."):
        module = module[1:]
    # Files of PyTorch before 1.8 have the old place.
    return ("torch._tensor" if module == "torch.tensor" else module), name


_BLOCKED = frozenset({"sys", "os", "posix", "nt", "subprocess", "builtins", "importlib"})
_user_globals: dict[Any, None] = {}


def _user_values() -> list[Any]:
    return [entry[0] if isinstance(entry, tuple) else entry for entry in _user_globals]


def user_value(module: str, name: str) -> Any:
    """What the user's list (:func:`add_safe_globals`) has under a name; None if nothing."""
    if module in _BLOCKED:
        return None
    for entry in _user_globals:
        value, path = entry if isinstance(entry, tuple) else (entry, None)
        if path is None:
            path = f"{value.__module__}.{value.__qualname__}"
        if path == f"{module}.{name}":
            return value
    return None


def is_user_value(value: Any) -> bool:
    return any(value is entry for entry in _user_values())


def add_safe_globals(safe_globals: Iterable[Any]) -> None:
    """Let ``load(..., weights_only=True)`` use these classes and functions.

    Args:
        safe_globals: each a class or function, or a pair of one and the full name that the
            checkpoint has for it. What is listed may be called with the file's arguments.
    """
    recording.changes("the list of safe globals")
    for entry in safe_globals:
        if isinstance(entry, tuple):
            if len(entry) != 2:
                raise ValueError(
                    "add_safe_globals: expected a tuple of length 2 (global, full name), but got "
                    f"length {len(entry)}"
                )
            if not isinstance(entry[1], str):
                raise TypeError(
                    "add_safe_globals: expected the second item of the tuple to be the full name, "
                    f"but got {type(entry[1]).__name__}"
                )
        _user_globals[entry] = None


def get_safe_globals() -> list[Any]:
    """What :func:`add_safe_globals` has added."""
    return recording.setting(lambda: list(_user_globals), "the list of safe globals")


def clear_safe_globals() -> None:
    """Forget what :func:`add_safe_globals` has added."""
    recording.changes("the list of safe globals")
    _user_globals.clear()


class safe_globals:
    """Context in which :func:`add_safe_globals` holds for the given objects."""

    def __init__(self, safe_globals: Iterable[Any]):
        self.safe_globals = list(safe_globals)
        self._before: list[Any] = []

    def __enter__(self) -> None:
        self._before = get_safe_globals()
        add_safe_globals(self.safe_globals)

    def __exit__(self, *_: object) -> None:
        clear_safe_globals()
        add_safe_globals(self._before)
