"""Opening what ``save`` and ``load`` are given: paths and file objects."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from collections.abc import Iterator
from typing import Any


def is_path(f: Any) -> bool:
    return isinstance(f, (str, bytes, os.PathLike))


@contextlib.contextmanager
def writing(f: Any) -> Iterator[Any]:
    """A file to write to. A path appears, or changes, only when everything has been written."""
    if not is_path(f):
        if not hasattr(f, "write"):
            raise AttributeError(
                "save: expected 'f' to be string, path, or a file-like object with a 'write' "
                f"attribute, but got {type(f).__name__}"
            )
        yield f
        if hasattr(f, "flush"):
            f.flush()
        return
    path = os.path.realpath(os.fsdecode(f))
    folder = os.path.dirname(path)
    if not os.path.isdir(folder):
        raise RuntimeError(f"save: Parent directory {folder} does not exist.")
    # A pipe or a device cannot be replaced by a file; a folder we may not write to cannot
    # hold a temporary one.
    special = os.path.exists(path) and not os.path.isfile(path)
    if special or (os.path.exists(path) and not os.access(folder, os.W_OK)):
        with open(path, "wb") as file:
            yield file
        return
    with _replacing(path) as file:
        yield file


@contextlib.contextmanager
def _replacing(path: str) -> Iterator[Any]:
    handle, temporary = tempfile.mkstemp(
        prefix=f".{os.path.basename(path)[:64]}.", suffix=".tmp", dir=os.path.dirname(path)
    )
    try:
        with open(handle, "wb") as file:
            yield file
        os.chmod(temporary, _mode(path))
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def _mode(path: str) -> int:
    """The permissions of the file that is replaced, or those a new file gets."""
    if os.path.exists(path):
        return stat.S_IMODE(os.stat(path).st_mode)
    # The only way to ask for the umask is to set it.
    mask = os.umask(0o077)
    os.umask(mask)
    return 0o666 & ~mask


@contextlib.contextmanager
def reading(f: Any) -> Iterator[Any]:
    """A seekable file to read from."""
    if is_path(f):
        with open(f, "rb") as file:
            yield file
        return
    if not all(hasattr(f, name) for name in ("read", "readline", "seek", "tell")):
        raise AttributeError(
            "load: expected 'f' to be a path or a file that is seekable (read, readline, seek, "
            f"tell), but got {type(f).__name__}. Read the data into an io.BytesIO first"
        )
    yield f
