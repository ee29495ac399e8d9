"""Special functions, by SciPy's names: ``ntorch.special.expit`` is ``ntorch.sigmoid``."""
from .ops.registry import namespace, ops

# name here: name in the table
_NAMES = {
    "erf": "erf", "erfc": "erfc", "erfinv": "erfinv", "exp2": "exp2", "expm1": "expm1",
    "log1p": "log1p", "expit": "sigmoid", "logit": "logit", "xlogy": "xlogy", "xlog1py": "xlog1py",
    "entr": "entr", "sinc": "sinc", "round": "round", "gammaln": "lgamma", "digamma": "digamma",
    "psi": "digamma", "polygamma": "polygamma", "logsumexp": "logsumexp",
    "log_softmax": "log_softmax", "softmax": "softmax",
}


def __getattr__(name):
    if name.startswith("__"):
        raise AttributeError(name)
    found = getattr(ops, _NAMES[name]) if name in _NAMES else namespace("special").get(name)
    if found is None:
        raise AttributeError(f"module 'ntorch.special' has no attribute {name!r}")
    globals()[name] = found
    return found


def __dir__():
    return sorted({*globals(), *_NAMES, *namespace("special")})
