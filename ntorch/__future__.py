"""Switches for behaviour that may become the default."""
from .runtime import recording

_settings = {"overwrite": False, "swap": False}


def set_overwrite_module_params_on_conversion(value):
    """Whether ``module.to()`` and its kind make new ``Parameter`` objects instead of changing
    ``.data`` of the old ones."""
    recording.changes("a setting of __future__")
    _settings["overwrite"] = value


def get_overwrite_module_params_on_conversion():
    """What ``set_overwrite_module_params_on_conversion`` set; False at first."""
    return recording.setting(lambda: _settings["overwrite"], "a setting of __future__")


def set_swap_module_params_on_conversion(value):
    """Accepted for compatibility: conversions here never swap tensors."""
    recording.changes("a setting of __future__")
    _settings["swap"] = value


def get_swap_module_params_on_conversion():
    """What ``set_swap_module_params_on_conversion`` set; False at first."""
    return recording.setting(lambda: _settings["swap"], "a setting of __future__")
