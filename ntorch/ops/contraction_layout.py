"""Strided matrices in contractions: how they lie, and the packers and epilogues that take them."""
import functools
import typing

from ..kernels import gemm_pack, half
from ..runtime import build
from .contraction_plan import Epilogue, Form, Source, tile

_WIDEN = {"h2": half.f16_to_f32, "g2": half.bf16_to_f32}
_NARROW = {"h2": half.f32_to_f16, "g2": half.f32_to_bf16}


class Matrix(typing.NamedTuple):
    """How a batch of matrices lies in memory; strides in elements, batches in two levels.

    Matrix ``b`` starts ``(b // inner) * outer + (b % inner) * batch`` elements on; ``extent`` is
    the number of elements from the first to the last one.
    """
    extent: int
    inner: int
    outer: int
    batch: int
    row: int
    col: int

    @property
    def turned(self):
        """The transposed matrices."""
        return self._replace(row=self.col, col=self.row)

    @property
    def spot(self):
        """The slots after the pointer in a kernel that takes two levels of batches."""
        return self[:4]


NOTHING = Matrix(0, 1, 0, 0, 0, 0)      # of the c that is not there


def _levels(sizes, strides):
    """Collapse batch dimensions to ``(inner count, outer stride, inner stride)``; None if more than
    two levels are left."""
    merged = []
    for size, stride in zip(sizes, strides, strict=True):
        if size == 1:
            continue
        if merged and merged[-1][1] == stride * size:
            merged[-1] = (merged[-1][0] * size, stride)
        else:
            merged.append((size, stride))
    if not merged:
        return 1, 0, 0
    if len(merged) == 1:
        return 1, merged[0][1], 0
    return (merged[1][0], merged[0][1], merged[1][1]) if len(merged) == 2 else None


def matrix(shape, strides, wanted):
    """``shape`` and ``strides`` broadcast to ``wanted = (*batch, rows, cols)`` as a ``Matrix``, or
    None if the batch dimensions need more than two levels of strides."""
    lead = len(wanted) - len(shape)
    steps = [0] * lead
    extent = 1
    for size, stride, want in zip(shape, strides, wanted[lead:], strict=True):
        steps.append(0 if size == 1 and want != 1 else stride)
        extent += (size - 1) * stride
    levels = _levels(wanted[:-2], steps[:-2])
    return levels and Matrix(extent, *levels, *steps[-2:])


@functools.cache
def _packer(width, code, T, order):
    widen = _WIDEN.get(code, gemm_pack.same)
    kinds = (f"{T}:1C", "i", "i", "i", f"{code}:1C", "i", "i", "i", "i", "i")
    if order == "turned":
        square = 16 if width % 16 == 0 and tile(T).lanes >= 16 else 8
        return build.kernel(gemm_pack.pack_turned_kernel(width, square), kinds, T=T)
    if order == "moved":
        return build.kernel(gemm_pack.pack_moved_kernel(width), kinds, T=T)
    make = gemm_pack.pack_lines_kernel if order == "lines" else gemm_pack.pack_depths_kernel
    return build.kernel(make(width, widen), kinds, T=T)


@functools.cache
def _store(code, T, affine):
    widen, narrow = _WIDEN.get(code, gemm_pack.same), _NARROW.get(code, gemm_pack.same)
    head = (f"{T}:2C", "i", "i", "i", "i", f"{code}:3C")
    if not affine:
        return build.kernel(gemm_pack.store_kernel(narrow), head, T=T)
    kinds = (*head, f"{code}:1C", *"iiiii", "T", "T")
    return build.kernel(gemm_pack.store_affine_kernel(widen, narrow), kinds, T=T)


def source(address, layout, side, code, T):
    """The ``Source`` that packs the ``Matrix`` at ``address`` as operand ``side`` ("a" or "b")."""
    line, depth = (layout.row, layout.col) if side == "a" else (layout.col, layout.row)
    shape = tile(T)
    if code == T:
        order = "moved" if line == 1 else "turned" if depth == 1 else "depths"
    else:
        order = "lines" if line == 1 else "depths"
    packer = _packer(shape.rows if side == "a" else shape.width, code, T, order)
    return Source(packer, (address, *layout.spot, line, depth),
                  layout.outer == 0 and layout.batch == 0)


def epilogue(out, batch, m, n, code, T, c_address=0, c=NOTHING, alpha=1.0, beta=0.0):
    """The ``Epilogue`` ``out = alpha * sums + beta * c``; ``out`` is contiguous (batch, m, n)."""
    if alpha == 1.0 and beta == 0.0:
        return Epilogue(_store(code, T, False), (out, batch, m, n), Form("plain", code, T))
    return Epilogue(_store(code, T, True),
                    (out, batch, m, n, c_address, *c.spot, c.row, c.col, _bits(alpha), _bits(beta)),
                    Form("affine", code, T))


def _bits(number):
    """What a slot holds; a name stands for itself."""
    return number if type(number) is str else build.double_bits(number)
