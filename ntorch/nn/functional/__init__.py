"""Functions of layers: those of the table, and those made of several of them here.

A name that this package does not define itself is looked up in the table of ops on first use.
"""
import collections

import ntorch

from .attention import multi_head_attention_forward, scaled_dot_product_attention

ASMoutput = collections.namedtuple("_ASMoutput", ["output", "loss"])

# Functions that torch has both here and at the top: the same entry under the same name.
_SHARED = frozenset((
    "adaptive_avg_pool1d", "adaptive_max_pool1d", "avg_pool1d", "bilinear", "celu_", "channel_shuffle",
    "conv1d", "conv2d", "conv3d", "conv_tbc", "conv_transpose1d", "conv_transpose2d",
    "conv_transpose3d", "cosine_similarity", "hardshrink", "native_channel_shuffle",
    "pairwise_distance", "pdist", "pixel_shuffle", "pixel_unshuffle", "prelu", "relu_", "rrelu_",
    "selu_", "sigmoid", "tanh", "threshold_"))


def __getattr__(name):
    if name.startswith("__"):
        raise AttributeError(name)
    found = ntorch.ops.namespace("nn.functional").get(name)
    if found is None and name in _SHARED:
        found = getattr(ntorch.ops, name, None)
    if found is None:
        raise AttributeError(f"module 'ntorch.nn.functional' has no attribute '{name}'")
    globals()[name] = found
    return found


def __dir__():
    return sorted({*globals(), *ntorch.ops.namespace("nn.functional"), *_SHARED})


__all__ = ["multi_head_attention_forward", "scaled_dot_product_attention"]
