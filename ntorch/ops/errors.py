"""Exception types that torch names and Python does not have; warnings and checks of values that
keep their meaning when the function that makes them is recorded as a program."""
import sys
import warnings

from ..runtime import dtypes, recording


class LinAlgError(RuntimeError):
    """A matrix for which there is no answer: singular, not positive definite, not converged."""


def warn(message, category=UserWarning):
    """Warn, and name the line outside ntorch from which the call came.

    A trace that should stand for later calls cannot warn for them, and says so by an error of its
    own (``Recorder.heard``); the call then runs as it is.
    """
    if recording.active and (recorder := recording.current()) is not None:
        recorder.heard(message)
    level, frame = 1, sys._getframe()
    while frame is not None and _is_own(frame):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)


def _is_own(frame):
    name = frame.f_globals.get("__name__", "")
    return (name == "ntorch" or name.startswith("ntorch.")
            or frame.f_code.co_filename == "<ntorch>")      # callables made from signatures


def refuse(bad, error, message):
    """Raise ``error(message)`` if any element of ``bad`` is true.

    A program that is being recorded asks at every run, before anything that outlives it changes.
    On the meta device there are no elements.
    """
    from .registry import ops
    if bad.is_meta:
        return
    recorder = recording.current() if recording.active else None
    if recorder is None:
        if bool(ops.any(bad)):
            raise error(message)
        return

    def fail(_):
        raise error(message)
    recorder.check("refused", ops.sub(ops.to_dtype(ops.any(bad), dtypes.int64), 1), fail)
