"""Switches for behaviour that may become the default."""

_settings = {"overwrite": False, "swap": False}


def set_overwrite_module_params_on_conversion(value):
    """Whether ``module.to()`` and its kind make new ``Parameter`` objects instead of changing
    ``.data`` of the old ones."""
    _settings["overwrite"] = value


def get_overwrite_module_params_on_conversion():
    """What ``set_overwrite_module_params_on_conversion`` set; False at first."""
    return _settings["overwrite"]


def set_swap_module_params_on_conversion(value):
    """Accepted for compatibility: conversions here never swap tensors."""
    _settings["swap"] = value


def get_swap_module_params_on_conversion():
    """What ``set_swap_module_params_on_conversion`` set; False at first."""
    return _settings["swap"]
