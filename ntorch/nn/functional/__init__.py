"""Functions of layers: those of the table, and those made of several of them here.

A name that this package does not define itself is looked up in the table of ops on first use.
"""
import collections
import importlib

import ntorch

ASMoutput = collections.namedtuple("_ASMoutput", ["output", "loss"])

# Functions of this package, by the file that defines them.
# (A file must not have the name of a function: importing it would bind the name to the file.)
_OWN = {
    "attention": "multi_head_attention_forward scaled_dot_product_attention",
    "drop": "alpha_dropout dropout dropout1d dropout2d dropout3d feature_alpha_dropout",
    "blocks": "channel_shuffle fold pdist pixel_shuffle pixel_unshuffle unfold",
    "fractional": "fractional_max_pool2d fractional_max_pool2d_with_indices fractional_max_pool3d"
                  " fractional_max_pool3d_with_indices",
    "grid": "affine_grid grid_sample",
    "resample": "interpolate upsample upsample_bilinear upsample_nearest",
    "soft": "gumbel_softmax log_softmax softmax",
}
_HOME = {name: family for family, names in _OWN.items() for name in names.split()}

# Functions that torch has both here and at the top: the same entry under the same name.
_SHARED = frozenset((
    "adaptive_avg_pool1d", "adaptive_max_pool1d", "avg_pool1d", "bilinear", "celu_", "conv1d",
    "conv2d", "conv3d", "conv_tbc", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d",
    "cosine_similarity", "ctc_loss", "hardshrink", "max_pool1d_with_indices",
    "max_pool2d_with_indices", "max_pool3d_with_indices", "pairwise_distance", "prelu", "relu_",
    "rrelu_", "selu_", "sigmoid", "tanh", "threshold_"))


def __getattr__(name):
    if name.startswith("__"):
        raise AttributeError(name)
    if name in _HOME:
        found = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
        globals()[name] = found
        return found
    found = ntorch.ops.of_namespace("nn.functional", name)
    if found is None and name in _SHARED:
        found = getattr(ntorch.ops, name, None)
    if found is None:
        raise AttributeError(f"module 'ntorch.nn.functional' has no attribute '{name}'")
    globals()[name] = found
    return found


def __dir__():
    return sorted({*globals(), *ntorch.ops.namespace("nn.functional"), *_HOME, *_SHARED})


__all__ = list(_HOME)
