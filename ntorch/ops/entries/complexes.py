"""Complex numbers: parts, conjugates, construction."""
import math

from ...kernels.math import atan2, cos, sin
from ...kernels.stubs import T, select, to_type_of, typed
from ...runtime import dtypes
from ..base import Size, make
from ..composite import composite
from ..dtype_rules import _scalar_name, floating_real_part
from ..pointwise import pointwise
from ..registry import ops
from ..structured import structured

PI = math.pi


@pointwise("_conj(Tensor self) -> Tensor", method=False, inplace=False)
def conj_kernel(z):
    """Complex conjugate."""
    return to_type_of(z, z.conjugate())


@conj_kernel.gradient("self")
def _(grad):
    return ops.conj(grad)


@composite("conj(Tensor self) -> Tensor", out=False)
def conj(self):
    """Complex conjugate; real tensors are returned as they are."""
    return ops._conj(self) if self.dtype.is_complex else self


@composite("conj_physical(Tensor self) -> Tensor", inplace=True, out=True)
def conj_physical(self):
    """Complex conjugate, written out; what ``conj`` returns is always written out here."""
    return ops.conj(self)


@composite("resolve_conj(Tensor self) -> Tensor")
def resolve_conj(self):
    """The tensor itself: no tensor here is a conjugate yet to be computed."""
    return self


@composite("resolve_neg(Tensor self) -> Tensor")
def resolve_neg(self):
    """The tensor itself: no tensor here is a negation yet to be computed."""
    return self


def _part(self, offset):
    """A real view of one part of each complex number."""
    view = make(self._storage, self.dtype.to_real(), self._shape,
                tuple(2 * s for s in self._strides), 2 * self._offset + offset)
    view._base = self if self._base is None else self._base
    return view


@structured("_real(Tensor self) -> Tensor", method=False, view=True)
def real_view(self):
    """Real parts, a view."""
    return _part(self, 0)


@real_view.gradient("self")
def _(grad):
    return ops.complex(grad, ops.zeros_like(grad))


@structured("_imag(Tensor self) -> Tensor", method=False, view=True)
def imag_view(self):
    """Imaginary parts, a view."""
    return _part(self, 1)


@imag_view.gradient("self")
def _(grad):
    return ops.complex(ops.zeros_like(grad), grad)


@composite("real(Tensor self) -> Tensor", method=False)
def real(self):
    """Real part, sharing memory; real tensors are returned as they are."""
    return ops._real(self) if self.dtype.is_complex else self


@composite("imag(Tensor self) -> Tensor", method=False)
def imag(self):
    """Imaginary part, sharing memory. RuntimeError for real tensors."""
    if not self.dtype.is_complex:
        raise RuntimeError("imag is not implemented for tensors with non-complex dtypes.")
    return ops._imag(self)


@structured("view_as_real(Tensor self) -> Tensor", view=True, method=False)
def view_as_real(self):
    """A real view with a last dimension of 2: real and imaginary parts."""
    if not self.dtype.is_complex:
        raise RuntimeError("view_as_real is only supported for complex tensors")
    view = make(self._storage, self.dtype.to_real(), Size((*self._shape, 2)),
                (*(2 * s for s in self._strides), 1), 2 * self._offset)
    view._base = self if self._base is None else self._base
    return view


@view_as_real.gradient("self")
def _(grad):
    return ops.view_as_complex(ops.contiguous(grad))


@structured("view_as_complex(Tensor self) -> Tensor", view=True, method=False)
def view_as_complex(self):
    """A complex view of pairs: the last dimension has size 2 and stride 1."""
    if self.dtype not in (dtypes.float32, dtypes.float64):
        raise RuntimeError("view_as_complex is only supported for half, float and double tensors, "
                           f"but got a tensor of scalar type: {_scalar_name(self.dtype)}")
    if not self._shape:
        raise RuntimeError("Input tensor must have one or more dimensions")
    if self._shape[-1] != 2:
        raise RuntimeError("Tensor must have a last dimension of size 2")
    if self._strides[-1] != 1:
        raise RuntimeError("Tensor must have a last dimension with stride 1")
    if any(s % 2 for s in self._strides[:-1]):
        raise RuntimeError("Tensor must have a stride divisible by 2 for all but last dimension")
    if self._offset % 2:
        raise RuntimeError("Tensor must have a storage_offset divisible by 2")
    view = make(self._storage, self.dtype.to_complex(), Size(self._shape[:-1]),
                tuple(s // 2 for s in self._strides[:-1]), self._offset // 2)
    view._base = self if self._base is None else self._base
    return view


@view_as_complex.gradient("self")
def _(grad):
    return ops.view_as_real(grad)


def _angle_real(x):
    return select(x != x, x, select(x < T(0), T(PI), T(0)))


def _angle_complex(z):
    return atan2(z.imag, z.real)


_angle = typed("angle", f4=_angle_real, f8=_angle_real, c8=_angle_complex, c16=_angle_complex)


@pointwise("angle(Tensor self) -> Tensor", dtype=floating_real_part, inplace=False)
def angle(x):
    """The angle of a complex number; 0 or pi for real ones."""
    return _angle(x)


@angle.gradient("self")
def _(grad, self):
    if not self.dtype.is_complex:
        return ops.zeros_like(grad)
    size = ops.abs(self)
    slope = ops.complex(-ops.imag(self), ops.real(self)) / (size * size)
    return ops.where(size == 0, 0.0, grad * slope)


def _to_complex(promoted):
    return promoted.to_complex(), promoted.to_complex()


def _check_parts(arguments, promoted):
    first, second = (a.dtype for a in arguments)
    if first not in (dtypes.float16, dtypes.float32, dtypes.float64) or second.is_complex:
        raise RuntimeError("Expected both inputs to be Half, Float or Double tensors but got "
                           f"{_scalar_name(first)} and {_scalar_name(second)}")
    if first is not second:
        raise RuntimeError(f"Expected object of scalar type {_scalar_name(first)} but got scalar "
                           f"type {_scalar_name(second)} for second argument")


@pointwise("complex(Tensor real, Tensor imag) -> Tensor", dtype=_to_complex, check=_check_parts,
           exact_out=True,
           inplace=False, method=False)
def complex_(x, y):
    """``real + i imag``."""
    return to_type_of(x, complex(x.real, y.real))


@complex_.gradient("real")
def _(grad):
    return ops.real(grad)


@complex_.gradient("imag")
def _(grad):
    return ops.imag(grad)


@pointwise("polar(Tensor abs, Tensor angle) -> Tensor", dtype=_to_complex, check=_check_parts,
           inplace=False, method=False)
def polar(size, angle):
    """``abs * (cos(angle) + i sin(angle))``."""
    return to_type_of(size, complex(size.real * cos(angle.real), size.real * sin(angle.real)))


@polar.gradient("abs")
def _(grad, angle):
    return ops.real(grad) * ops.cos(angle) + ops.imag(grad) * ops.sin(angle)


@polar.gradient("angle")
def _(grad, result):
    return ops.imag(grad) * ops.real(result) - ops.real(grad) * ops.imag(result)


@composite("isreal(Tensor self) -> Tensor", differentiable=False)
def isreal(self):
    """Whether the imaginary part is zero; always for real tensors."""
    if not self.dtype.is_complex:
        return ops.ones_like(self, dtype=dtypes.bool_)
    return ops.eq(ops.imag(self), 0)


