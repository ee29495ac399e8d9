"""The kernel store: a directory of compiled kernels named by content hash.

An entry is one file: a line of JSON (symbol, size, SHA-256 of the object, description), then the
object file's bytes. Writing goes to a temporary name and is renamed, so readers never see half an
entry and two processes may write the same one. Whatever cannot be read back intact is a miss.
"""
import contextlib
import hashlib
import json
import os
import stat
import tempfile
import time
import warnings

SUFFIX = ".kernel"
NOTES = "notes.json"
_state = {"directory": None, "checked": None, "memory": {}}


def directory():
    """Where kernels are kept: ``NTORCH_CACHE_DIR``, else ``ntorch`` in the user's cache folder."""
    chosen = os.environ.get("NTORCH_CACHE_DIR")
    if chosen:
        return chosen
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(base, "ntorch")


def _usable():
    """The directory if it may be used, created at first need; else None, after one warning."""
    path = directory()
    if _state["checked"] == path:
        return _state["directory"]
    _state["checked"] = path
    _state["directory"] = None
    try:
        os.makedirs(path, mode=0o700, exist_ok=True)
        problem = _refusal(path)
    except OSError as error:
        problem = str(error)
    if problem:
        warnings.warn(f"ntorch keeps its kernels in memory only: {path}: {problem}. Set "
                      "NTORCH_CACHE_DIR to a directory of your own to keep them.", stacklevel=2)
    else:
        _state["directory"] = path
    return _state["directory"]


def writable():
    """The directory if entries put now will be seen by other processes, else None."""
    folder = _usable()
    return folder if folder and _state.get("full") != folder else None


def _refusal(path):
    """Why ``path`` is not trusted to hold code, or None."""
    info = os.stat(path)
    if hasattr(os, "getuid") and info.st_uid != os.getuid():
        return f"owned by user {info.st_uid}, not by user {os.getuid()}"
    if stat.S_IMODE(info.st_mode) & stat.S_IWOTH:
        return "writable by every user"
    return None


def _path(key):
    return os.path.join(_state["directory"], key + SUFFIX)


def _parse(data):
    """``(header, object bytes)``; ValueError when the entry is not intact."""
    line, separator, body = data.partition(b"\n")
    if not separator:
        raise ValueError("no header line")
    header = json.loads(line)
    if header["size"] != len(body):
        raise ValueError(f"{len(body)} bytes of object, {header['size']} announced")
    if hashlib.sha256(body).hexdigest() != header["sha256"]:
        raise ValueError("checksum differs")
    return header, body


def get(key):
    """``(symbol, object bytes)`` stored under ``key``, or None for a miss of any kind."""
    if key in _state["memory"]:
        return _state["memory"][key]
    if not _usable():
        return None
    try:
        with open(_path(key), "rb") as file:
            header, body = _parse(file.read())
            _note_use(file)
        return header["symbol"], body
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _note_use(file):
    """Let the file's modification time tell the day of its last use, which pruning goes by."""
    now = time.time()
    if now - os.fstat(file.fileno()).st_mtime > 86400:
        with contextlib.suppress(OSError):      # a store that may only be read
            os.utime(file.name, (now, now))


def put(key, symbol, body, description):
    """Keep an object file under ``key``; a full or read-only disk costs one warning, no error."""
    if not _usable():
        _state["memory"][key] = (symbol, body)
        return
    header = {"symbol": symbol, "size": len(body), "sha256": hashlib.sha256(body).hexdigest(),
              "created": time.time(), **description}
    temporary = None
    try:
        handle, temporary = tempfile.mkstemp(dir=_state["directory"], suffix=".part")
        with os.fdopen(handle, "wb") as file:
            file.write(json.dumps(header).encode() + b"\n" + body)
        os.replace(temporary, _path(key))
    except OSError as error:
        _state["memory"][key] = (symbol, body)
        if temporary:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
        if _state.get("full") != _state["directory"]:
            _state["full"] = _state["directory"]
            warnings.warn(f"ntorch could not keep a kernel in {_state['directory']}: {error}; "
                          "those that do not fit stay in memory", stacklevel=2)


def put_entry(key, data):
    """Take over an entry as another store has it; ValueError if it is not intact or no entry."""
    if not (len(key) == 40 and key.isalnum()):
        raise ValueError(f"{key!r:.60} is no key")
    header, body = _parse(data)
    description = {name: value for name, value in header.items()
                   if name not in ("symbol", "size", "sha256", "created")}
    if not isinstance(header.get("symbol"), str):
        raise ValueError("no symbol")
    put(key, header["symbol"], body, description)


def note(values):
    """Keep what other processes shall know of the kernels here: a dict of text."""
    folder = writable()
    if folder is not None:
        with open(os.path.join(folder, NOTES), "w") as file:
            json.dump(values, file)


def noted():
    """What ``note`` kept; empty if there is nothing readable."""
    folder = _usable()
    try:
        with open(os.path.join(folder or "", NOTES)) as file:
            found = json.load(file)
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def discard(key):
    """Forget one entry, for instance because its object does not link."""
    _state["memory"].pop(key, None)
    if _usable():
        with contextlib.suppress(OSError):
            os.unlink(_path(key))


def entries():
    """Yield ``(key, path, header or None, problem or None)`` for every file of the store."""
    folder = _usable()
    for name in sorted(os.listdir(folder)) if folder else ():
        if not name.endswith(SUFFIX):
            continue
        path = os.path.join(folder, name)
        try:
            with open(path, "rb") as file:
                header, _ = _parse(file.read())
            yield name[:-len(SUFFIX)], path, header, None
        except (OSError, ValueError, KeyError, TypeError) as error:
            yield name[:-len(SUFFIX)], path, None, f"{type(error).__name__}: {error}"


def clear():
    """Remove every entry and every leftover temporary file; returns how many files went."""
    folder, count = _usable(), 0
    for name in os.listdir(folder) if folder else ():
        if name.endswith((SUFFIX, ".part")):
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(folder, name))
                count += 1
    _state["memory"].clear()
    return count
