"""``torch.functional``: functions of the top level under the path they have in Python."""
import ntorch

_NAMES = frozenset((
    "align_tensors", "atleast_1d", "atleast_2d", "atleast_3d", "block_diag", "broadcast_shapes",
    "broadcast_tensors", "cartesian_prod", "cdist", "chain_matmul", "einsum", "lu", "meshgrid",
    "norm", "split", "stft", "istft", "tensordot", "unique", "unique_consecutive",
    "unravel_index"))


def __getattr__(name):
    if name in _NAMES and hasattr(ntorch, name):
        return getattr(ntorch, name)
    raise AttributeError(f"module 'ntorch.functional' has no attribute {name!r}")
