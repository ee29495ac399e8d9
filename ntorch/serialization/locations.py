"""Where the storages of a checkpoint go: the device they came from, or ``map_location``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ntorch
import ntorch._utils as _utils

__all__ = ["default_restore_location", "location_tag", "register_package"]

_Tagger = Callable[[Any], str | None]
_Restorer = Callable[[Any, str], Any]
_packages: list[tuple[int, _Tagger, _Restorer]] = []


def register_package(priority: int, tagger: _Tagger, deserializer: _Restorer) -> None:
    """Add a kind of device: ``tagger(storage)`` names it in files, ``deserializer(storage, tag)``
    moves a storage there. Both give None for what is not theirs; lower priorities are asked
    first."""
    _packages.append((priority, tagger, deserializer))
    _packages.sort(key=lambda package: package[0])


def location_tag(storage: Any) -> str:
    """The name under which the place of a storage is saved: ``"cpu"``, ``"cuda:0"``, ..."""
    for _, tagger, _ in _packages:
        tag = tagger(storage)
        if tag:
            return tag
    return str(storage.device)


def default_restore_location(storage: Any, location: Any) -> Any:
    """``storage``, which is on the CPU, moved to where ``location`` says.

    Raises:
        RuntimeError: there is no such device here.
    """
    name = location.decode("ascii") if isinstance(location, bytes) else str(location)
    for _, _, deserializer in _packages:
        result = deserializer(storage, name)
        if result is not None:
            return result
    kind = name.partition(":")[0]
    if kind == "cpu":
        return storage
    if kind == "meta":
        return _utils.new_storage(storage.nbytes(), "meta")
    if kind == "cuda":
        return _to_cuda(storage, name)
    raise RuntimeError(
        f"don't know how to restore data location of a storage (tagged with {name!r}); "
        "use map_location='cpu' to load it on the CPU"
    )


def _to_cuda(storage: Any, name: str) -> Any:
    remedy = "use ntorch.load with map_location=ntorch.device('cpu') to load it on the CPU"
    if not _utils.cuda_is_available():
        raise RuntimeError(
            "Attempting to deserialize object on a CUDA device but ntorch.cuda.is_available() is "
            f"False; {remedy}"
        )
    device = ntorch.device(name)
    count = ntorch.cuda.device_count()
    if device.index is not None and device.index >= count:
        raise RuntimeError(
            f"Attempting to deserialize object on CUDA device {device.index} but there are only "
            f"{count}; {remedy}"
        )
    octets = ntorch.empty(0, dtype=ntorch.uint8)
    octets = octets.set_(storage, 0, (storage.nbytes(),), (1,))
    return octets.to(device).untyped_storage()


def restorer(map_location: Any) -> _Restorer:
    """The function ``(storage, tag) -> storage`` that a ``map_location`` argument means."""
    if map_location is None:
        return default_restore_location
    if isinstance(map_location, dict):
        return lambda s, tag: default_restore_location(s, map_location.get(tag, tag))
    if isinstance(map_location, (str, bytes, ntorch.device)):
        return lambda s, tag: default_restore_location(s, map_location)
    if not callable(map_location):
        raise TypeError(
            "load: expected map_location to be a device, a string, a dict or a callable, but got "
            f"{type(map_location).__name__}"
        )

    def restore(storage: Any, tag: str) -> Any:
        result = map_location(storage, tag)
        return default_restore_location(storage, tag) if result is None else result

    return restore
