"""Views and in-place writes: the history of a base that was written through one of its views."""
from ..ops import base
from ..ops.registry import ops
from .node import Node, sequence_numbers


class AsStridedBackward0(Node):
    """The history of a view, rebuilt from its base after the base's history changed."""

    def __init__(self, view, root):
        self.geometry = _Geometry(view, root)
        self.sequence = next(sequence_numbers)
        self.edges = ((root._grad_fn, root._output_nr),)
        self.outputs = ((view._shape, view.dtype, view._storage.device),)

    def apply(self, grads):
        whole = self.geometry.zeros(grads[0])
        return (self.geometry.write(whole, grads[0]),)


class _Geometry:
    """Where a view lies in its base, in units of a dense copy of the base."""

    def __init__(self, view, root):
        self.shape, self.strides = view._shape, view._strides
        # the real or imaginary part of a complex base counts its offset in real numbers
        self.of_parts = root.dtype.is_complex and not view.dtype.is_complex
        self.offset = view._offset - root._offset * (2 if self.of_parts else 1)
        self.root_shape, self.root_strides = root._shape, root._strides

    def zeros(self, like):
        """Zeros with the base's geometry."""
        dtype = like.dtype.to_complex() if self.of_parts else like.dtype
        return ops.zero_(ops.empty_strided(self.root_shape, self.root_strides, dtype=dtype,
                                           device=like.device))

    def copy(self, grad):
        """A copy of the base's gradient with the base's geometry."""
        whole = ops.empty_strided(self.root_shape, self.root_strides, dtype=grad.dtype,
                                  device=grad.device)
        return ops.copy_(whole, grad)

    def part(self, whole):
        """The view's part of a tensor with the base's geometry."""
        if self.of_parts:
            whole = ops.view_as_real(whole)
        return ops.as_strided(whole, self.shape, self.strides, self.offset)

    def write(self, whole, value):
        """``whole`` with the view's part overwritten by ``value`` (differentiable in both)."""
        ops.copy_(self.part(whole), value)
        return whole


class CopySlices(Node):
    """History of a base after ``node`` wrote the part that ``view`` shows.

    The gradient of the old base is the incoming one with that part replaced by what ``node`` gives
    for its own input (zero if the input was overwritten).
    """

    def __init__(self, node, view, root, root_edge):
        self.node = node
        self.geometry = _Geometry(view, root)
        self.sequence = next(sequence_numbers)
        takes_view = bool(node.inputs) and node.inputs[0][0] == 0
        self.takes_view = takes_view
        self.edges = (root_edge, *(node.edges[1:] if takes_view else node.edges))
        self.outputs = ((root._shape, root.dtype, root._storage.device),)

    def apply(self, grads):
        if grads[0] is None:
            return (None,) * len(self.edges)
        whole = self.geometry.copy(grads[0])
        part = ops.clone(self.geometry.part(whole))
        found = self.node.apply((part,))
        first, rest = (found[0], found[1:]) if self.takes_view else (None, found)
        if self.edges[0] is not None:
            if first is None:
                ops.zero_(self.geometry.part(whole))
            else:
                self.geometry.write(whole, first)
        return (whole if self.edges[0] is not None else None, *rest)

    def release(self):
        self.node.release()
        self.released = True


def regenerate(view):
    """Give ``view`` a history that goes through its base's present one."""
    root = view._base
    view._grad_fn = AsStridedBackward0(view, root)
    view._output_nr, view._requires_grad = 0, True
    view._rebased = root._rebased


__all__ = ["AsStridedBackward0", "CopySlices", "base", "regenerate"]
