"""Anomaly mode: remember where each operation was called, and refuse NaN gradients."""
import traceback
import warnings

from .modes import state


def call_site():
    """The stack of the operation being recorded, without the frames of this package."""
    frames = [f for f in traceback.extract_stack()
              if "/ntorch/" not in f.filename.replace("\\", "/")]
    return "".join(traceback.format_list(frames))


class _Anomaly:
    def __init__(self, mode, check_nan):
        self._previous = state.anomaly
        state.anomaly = (True if check_nan else "no_nan") if mode else False

    def __enter__(self):
        return None

    def __exit__(self, *exception):
        state.anomaly = self._previous


class set_detect_anomaly(_Anomaly):
    """Turn anomaly detection on or off, at once and, as a context, until it ends."""

    def __init__(self, mode, check_nan=True):
        super().__init__(mode, check_nan)


class detect_anomaly(_Anomaly):
    """Context in which a backward that fails or gives NaN names the forward call behind it."""

    def __init__(self, check_nan=True):
        warnings.warn("Anomaly Detection has been enabled. This mode will increase the runtime and "
                      "should only be enabled for debugging.", stacklevel=2)
        super().__init__(True, check_nan)


def is_anomaly_enabled():
    """Whether anomaly mode is on."""
    return bool(state.anomaly)


def is_anomaly_check_nan_enabled():
    """Whether anomaly mode also refuses NaN."""
    return state.anomaly is True
