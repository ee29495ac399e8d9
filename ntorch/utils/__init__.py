"""Helpers beside the tensors: ``data`` (datasets and loaders), ``dlpack`` (exchange), ...

Submodules are imported when they are first used.
"""

from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType


def __getattr__(name: str) -> ModuleType:
    full_name = f"{__name__}.{name}"
    if name.startswith("_") or importlib.util.find_spec(full_name) is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return importlib.import_module(full_name)
