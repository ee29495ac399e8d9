"""Recording: a thread whose launches are written down instead of run.

A *recorder* (``jit/recorder.py``) is set per thread. While it is, storages of that thread are lazy:
they have a *fake* address, in the range of the signalling NaNs, so that neither a size nor the bits
of a number can be taken for one. Host functions compute with fake addresses as with real ones, and
the recorder finds them again in the tables of the launches it is given.

Hot paths look at ``active``, the number of recorders in the process, before they ask ``current``.
"""
import threading
import weakref

FAKE = 0x7FF4 << 48             # fake addresses are FAKE <= address < FAKE_END
FAKE_END = 0x7FF6 << 48
active = 0
_lock = threading.Lock()


class _Local(threading.local):
    recorder = None


_local = _Local()


def current():
    """The recorder of this thread, or None."""
    return _local.recorder


def is_fake(value):
    """Whether a slot holds an address of a lazy storage."""
    return FAKE <= value < FAKE_END


def swap(recorder):
    """Make ``recorder`` (or None) this thread's; returns the one before."""
    global active
    previous, _local.recorder = _local.recorder, recorder
    with _lock:
        active += (recorder is not None) - (previous is not None)
    return previous


def made(tensor):
    """A tensor over lazy memory was made: its recorder tells it where that comes to lie."""
    recorder = _local.recorder
    if recorder is not None:
        recorder.views.append(weakref.ref(tensor))


def setting(read, what):
    """``read()``, a setting of the process that Python asked for; what is recorded holds only as
    long as it stays as it is. ``what`` names it."""
    if active and _local.recorder is not None:
        return _local.recorder.pin(read, what)
    return read()


def changes(what):
    """Python is about to change a setting of the process: every call has to do so again."""
    if active and _local.recorder is not None:
        _local.recorder.noted(f"{what} changed")


def touch(tensor):
    """The real address of ``tensor``, for Python code that reads or writes its memory itself.

    While recording, what the tensor waits for is run first.
    """
    if active and _local.recorder is not None:
        storage = _local.recorder.touch(tensor._storage)
        return storage.address + tensor._offset * tensor.dtype.itemsize
    if is_fake(tensor._address):
        abandoned()
    return tensor._address


def abandoned():
    """Raise for a tensor whose trace ended before it had a value."""
    raise RuntimeError("this tensor belongs to a trace that failed: it was never computed. Call "
                       "the function again, without ntorch.compile if it fails again.")
