"""Text of a tensor: ``repr`` with PyTorch's layout, and the options that steer it.

All of it works on a NumPy view of the data, so it needs no kernels and no op names.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from .runtime import recording
from .runtime.dtypes import get_default_dtype

__all__ = ["get_printoptions", "printoptions", "set_printoptions", "tensor_repr"]


@dataclass
class PrintOptions:
    """The options of :func:`set_printoptions`, with their defaults."""

    precision: int = 4
    threshold: float = 1000
    edgeitems: int = 3
    linewidth: int = 80
    sci_mode: bool | None = None


OPTIONS = PrintOptions()

PROFILES: dict[str, dict[str, Any]] = {
    "default": {"precision": 4, "threshold": 1000, "edgeitems": 3, "linewidth": 80},
    "short": {"precision": 2, "threshold": 1000, "edgeitems": 2, "linewidth": 80},
    "full": {"precision": 4, "threshold": math.inf, "edgeitems": 3, "linewidth": 80},
}


def set_printoptions(
    precision: int | None = None,
    threshold: float | None = None,
    edgeitems: int | None = None,
    linewidth: int | None = None,
    profile: str | None = None,
    sci_mode: bool | None = None,
) -> None:
    """Set how tensors are printed.

    Args:
        precision: digits after the point of floating point numbers (4).
        threshold: more elements than this are summarised (1000).
        edgeitems: items shown at each end of a summarised dimension (3).
        linewidth: characters in a line before it is broken (80).
        profile: ``"default"``, ``"short"`` or ``"full"``; sets the four above, which may
            still be given to override it.
        sci_mode: scientific notation always (True), never (False) or where the range of the
            values asks for it (None). As in PyTorch every call sets it, also to None.

    Raises:
        ValueError: the profile has another name.
    """
    recording.changes("the print options")
    if profile is not None:
        if profile not in PROFILES:
            raise ValueError(
                f"set_printoptions: expected profile to be one of {', '.join(PROFILES)}, "
                f"but got {profile!r}"
            )
        for name, value in PROFILES[profile].items():
            setattr(OPTIONS, name, value)
    given = {
        "precision": precision,
        "threshold": threshold,
        "edgeitems": edgeitems,
        "linewidth": linewidth,
    }
    for name, value in given.items():
        if value is not None:
            setattr(OPTIONS, name, value)
    OPTIONS.sci_mode = sci_mode


def get_printoptions() -> dict[str, Any]:
    """The options in force, as keyword arguments for :func:`set_printoptions`."""
    return recording.setting(lambda: asdict(OPTIONS), "the print options")


@contextlib.contextmanager
def printoptions(**options: Any) -> Iterator[None]:
    """Context in which the given options of :func:`set_printoptions` hold."""
    before = get_printoptions()
    set_printoptions(**options)
    try:
        yield
    finally:
        set_printoptions(**before)


def tensor_repr(tensor: Any, *, tensor_contents: str | None = None) -> str:
    """``tensor([[1., 2.]], dtype=..., grad_fn=<...>)``: the text PyTorch prints for a tensor.

    Args:
        tensor: any tensor, also on another device or without data (meta).
        tensor_contents: text to put in place of the numbers.
    """
    # A subclass shows its own name; Parameter does not (its repr puts a line above instead).
    kind = type(tensor).__name__
    prefix = "tensor(" if kind in ("Tensor", "Parameter") else kind + "("
    indent = len(prefix)
    suffixes = []
    if tensor.device.type != "cpu":
        suffixes.append(f"device='{tensor.device}'")
    contents, more = _contents(tensor, indent)
    suffixes += more + _gradient_suffix(tensor)
    text = prefix + (contents if tensor_contents is None else tensor_contents)
    return _join_suffixes(text, suffixes, indent)


def _contents(tensor: Any, indent: int) -> tuple[str, list[str]]:
    """The numbers, and the suffixes that shape and dtype ask for."""
    size = f"size={tuple(tensor.shape)}"
    dtype = f"dtype={tensor.dtype}"
    default = _default_dtype_name()
    name = str(tensor.dtype).rpartition(".")[2]
    if tensor.device.type == "meta":
        return "...", [size] + ([dtype] if name != default else [])
    if tensor.numel() == 0:
        # No element tells the shape or the dtype, so both are spelled out unless default.
        shown = [size] if tensor.dim() != 1 else []
        return "[]", shown + ([dtype] if name != default else [])
    suffixes = [size] if not OPTIONS.edgeitems else []
    complex_default = "complex128" if default == "float64" else "complex64"
    if name not in (default, complex_default, "int64", "bool"):
        suffixes.append(dtype)
    return array_text(_as_array(tensor), indent), suffixes


def _default_dtype_name() -> str:
    return str(get_default_dtype()).rpartition(".")[2]


def _as_array(tensor: Any) -> np.ndarray:
    """The values as a NumPy array (bfloat16, which NumPy has not, widened to float32)."""
    values = tensor.detach()
    if values.device.type != "cpu":
        values = values.cpu()
    if str(values.dtype).endswith("bfloat16"):
        values = values.float()
    for lazy_bit in ("resolve_conj", "resolve_neg"):
        if hasattr(values, lazy_bit):
            values = getattr(values, lazy_bit)()
    return values.numpy()


def _gradient_suffix(tensor: Any) -> list[str]:
    node = tensor.grad_fn
    if node is not None:
        name = node.name() if callable(getattr(node, "name", None)) else type(node).__name__
        return [f"grad_fn=<{name.rpartition('::')[2]}>"]
    return ["requires_grad=True"] if tensor.requires_grad else []


def _join_suffixes(text: str, suffixes: Sequence[str], indent: int) -> str:
    # The count starts one high (it takes the line break along), as PyTorch's does: the
    # place where the line breaks depends on it.
    length = len(text) - text.rfind("\n") + 1
    for suffix in suffixes:
        if length + len(suffix) + 2 > OPTIONS.linewidth:
            text += ",\n" + " " * indent + suffix
            length = indent + len(suffix)
        else:
            text += ", " + suffix
            length += len(suffix) + 2
    return text + ")"


def array_text(array: np.ndarray, indent: int) -> str:
    """The bracketed numbers of ``array``, its first line starting in column ``indent``."""
    if array.size == 0:
        return "[]"
    summarize = array.size > OPTIONS.threshold
    seen = _edges(array) if summarize else array
    if np.iscomplexobj(array):
        formats = (_Format(seen.real), _Format(seen.imag))
    else:
        formats = (_Format(seen),)
    return _nested(array, indent, summarize, formats)


def _edges(array: np.ndarray) -> np.ndarray:
    """The items that a summary shows, as one smaller array."""
    edge = OPTIONS.edgeitems
    for axis, size in enumerate(array.shape):
        if size > 2 * edge:
            shown = np.r_[0:edge, size - edge : size]
            array = np.take(array, shown, axis=axis)
    return array


class _Format:
    """One width and notation for all numbers of a tensor.

    Whole numbers print as ``3.``; others with ``precision`` digits; scientific when the
    largest is above 1e8, the smallest below 1e-4, or their ratio above 1000.
    """

    def __init__(self, values: np.ndarray):
        self.width = 1
        self.spec = ""
        self.whole = False
        if values.dtype.kind != "f":
            self.width = max((len(str(v)) for v in np.unique(values).tolist()), default=1)
            return
        # Zeros, infinities and NaNs do not count: they must not widen every other number.
        wide = values.astype(np.float64).reshape(-1)
        finite = wide[np.isfinite(wide) & (wide != 0)]
        whole = bool(np.all(finite == np.ceil(finite)))
        scientific = finite.size > 0 and self._scientific(np.abs(finite))
        self.whole = whole and not scientific
        digits = 0 if self.whole else OPTIONS.precision
        self.spec = f".{digits}{'e' if scientific else 'f'}"
        point = 1 if self.whole else 0
        lengths = (len(format(v, self.spec)) + point for v in np.unique(finite).tolist())
        self.width = max(lengths, default=1)

    @staticmethod
    def _scientific(magnitudes: np.ndarray) -> bool:
        if OPTIONS.sci_mode is not None:
            return OPTIONS.sci_mode
        low, high = float(magnitudes.min()), float(magnitudes.max())
        return high / low > 1000.0 or high > 1.0e8 or low < 1.0e-4

    def __call__(self, value: Any) -> str:
        text = format(value, self.spec) if self.spec else str(value)
        if self.whole and math.isfinite(value):
            text += "."
        return text.rjust(self.width)


def _number(value: Any, formats: Sequence[_Format]) -> str:
    if len(formats) == 1:
        return formats[0](value)
    imaginary = (formats[1](value.imag) + "j").lstrip()
    sign = "" if imaginary[0] in "+-" else "+"
    return formats[0](value.real) + sign + imaginary


def _nested(
    array: np.ndarray, indent: int, summarize: bool, formats: Sequence[_Format]
) -> str:
    if array.ndim == 0:
        return _number(array.item(), formats)
    if array.ndim == 1:
        return _row(array, indent, summarize, formats)
    parts = _summary(
        array, summarize, "...", lambda a: [_nested(x, indent + 1, summarize, formats) for x in a]
    )
    separator = "," + "\n" * (array.ndim - 1) + " " * (indent + 1)
    return "[" + separator.join(parts) + "]"


def _row(array: np.ndarray, indent: int, summarize: bool, formats: Sequence[_Format]) -> str:
    # Room for each number, its comma and blank, and the j of a complex one.
    room = sum(f.width for f in formats) + 2 + (len(formats) - 1)
    per_line = max(1, math.floor((OPTIONS.linewidth - indent) / room))
    dots = " ..." if OPTIONS.edgeitems else "..."
    items = _summary(
        array, summarize, dots, lambda a: [_number(v, formats) for v in a.tolist()]
    )
    lines = [", ".join(items[i : i + per_line]) for i in range(0, len(items), per_line)]
    return "[" + (",\n" + " " * (indent + 1)).join(lines) + "]"


def _summary(
    array: np.ndarray, summarize: bool, dots: str, show: Callable[[np.ndarray], list[str]]
) -> list[str]:
    edge = OPTIONS.edgeitems
    if not summarize or len(array) <= 2 * edge:
        return show(array)
    return show(array[:edge]) + [dots] + show(array[len(array) - edge :])
