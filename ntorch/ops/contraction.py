"""Matrix products of strided tensors: which kernel, and how its arguments are laid out.

``gemm`` is what the entries call; ``contract``, ``prepack`` and ``plan`` (see
``contraction_plan.py``) are for kernels with operands or epilogues of their own.
"""
import functools
import weakref

from ..kernels import gemm_small
from ..runtime import build, dtypes, launch, pool, recording
from ..runtime.device import META
from ..runtime.storage import Storage
from . import contraction_few
from .base import Size, checked_nbytes, contiguous_strides, empty, make, product
from .contraction_layout import NOTHING, Matrix, epilogue, matrix, source
from .contraction_plan import (
    Epilogue,
    Packed,
    Ready,
    Source,
    ceil_div,
    contract,
    evenly,
    laid_out,
    launch_plan,
    place,
    plan,
    prepack,
    set_tiles,
    target,
    tile,
)
from .registry import ops

SMALL_B = 1 << 17           # elements of a B that is read in place: it stays in the L2 cache
SMALL_OUT = 1 << 18         # and of the result
SMALL_FLOPS = 1 << 22       # a B whose columns are not side by side is turned up to here,
SMALL_ROWS = 56             # or four times as far, with so few rows
FEW_ROWS = 32               # as many rows of x need dot products, not packing, in x @ w.T,
FEW_ROWS_FAR = 24           # or as many if w has more than FAR elements: dots read it slower
FAR = 1 << 20
DEEP = 256                  # from 16 rows on, dots of fewer elements cost more than turning w
GRAIN_FLOPS = 1 << 19       # what one chunk of a parallel small product holds
GRAIN_READ = 1 << 17        # elements of the matrix that one chunk of a vector's product holds
_PLAIN = (build.double_bits(1.0), build.double_bits(0.0))       # alpha 1, beta 0

_FLAT, _SPOT = "{}:1C", ("i", "i", "i")
_OPERAND = (_FLAT, *_SPOT)
_SCALARS = ("T", "T")
_SMALL_KINDS = {
    "matvec": (*_OPERAND, "i", *_OPERAND, *_OPERAND, "i", _FLAT, "i", "i", *_SCALARS),
    "vecmat": (*_OPERAND, "i", *_OPERAND, "i", *_OPERAND, "i", _FLAT, "i", "i", "i", *_SCALARS),
    "few_rows": (_FLAT, "i", _FLAT, "i", _FLAT, "i", "i", _FLAT, "i", "i", "i", *_SCALARS),
    "small_product": ((*_OPERAND, "i", "i") * 3 + (_FLAT, *"iiiii", *_SCALARS)),
}


@functools.cache
def _small(name, T, shape=None):
    function = getattr(gemm_small, name, None)
    if shape is not None:
        function = gemm_small.small_product_kernel(shape.small_rows, shape.vectors, shape.lanes,
                                                   shape.masked)
    kinds = tuple(kind.format(T) for kind in _SMALL_KINDS[name])
    return build.kernel(function, kinds, T=T, reassoc=name in ("matvec", "few_rows"))


def _call(kernel, a, b, c, rest, n, grain):
    """A launcher ``run(a, b, c, out, alpha, beta)`` of addresses and scalars over range ``n``."""
    pack = launch.packer(4 + len(a) + len(b) + len(c) + len(rest) + 2)
    run_table = launch.run_table

    def run(a_address, b_address, c_address, out, alpha, beta):
        plain = alpha == 1 and beta == 0
        scalars = _PLAIN if plain else (build.double_bits(alpha), build.double_bits(beta))
        run_table(kernel, pack(a_address, *a, b_address, *b, c_address, *c, out, *rest, *scalars),
                  n, grain)
    return run


def _swapped(run):
    """The launcher with its operands in the other order."""
    return lambda a, b, c, out, alpha, beta: run(b, a, c, out, alpha, beta)


def _matvec(rows, x, c, batch, m, k, T):
    """``out[b, i] = rows[b, i] . x[b]``; both contiguous along k. c's row stride steps along i."""
    return _call(_small("matvec", T), (*rows.spot, rows.row), x.spot, (*c.spot, c.row),
                 (batch * m, m, k), batch * m, max(4, GRAIN_READ // max(k, 1)))


def _vecmat(x, step, b, c, batch, n, k, T):
    """``out[b, j] = x[b] . b[b, :, j]`` with rows of b contiguous. c's col stride steps along j."""
    blocks = max(1, min(n // 256, n * k // GRAIN_READ))
    return _call(_small("vecmat", T), (*x.spot, step), (*b.spot, b.row), (*c.spot, c.col),
                 (batch * n, n, k, blocks), batch * blocks,
                 max(1, GRAIN_READ * blocks // max(n * k, 1)))


def _vector_product(a, b, c, batch, m, n, k, T):
    """The launcher of a product with one row or one column; None if the layout does not suit."""
    if n == 1:
        # the column is the vector, the rows of a are dotted with it
        if a.col == 1 and (b.row == 1 or k == 1):
            return _matvec(a, b, c, batch, m, k, T)
        if a.row == 1:
            return _swapped(_vecmat(b, b.row, a.turned, c.turned, batch, m, k, T))
    elif b.col == 1:
        return _vecmat(a, a.col, b, c, batch, n, k, T)
    elif b.row == 1 and (a.col == 1 or k == 1):
        return _swapped(_matvec(b.turned, a, c.turned, batch, n, k, T))
    return None


def _small_product(a, b, c, batch, m, n, k, T):
    flops = 2 * m * n * max(k, 1)
    panels, wanted = ceil_div(n, tile(T).width), max(1, round(flops / GRAIN_FLOPS))
    if b.col == 1:
        blocks = min(ceil_div(m, 32), wanted)
        blocks += blocks % 2 if blocks > 1 else 0
        across = min(panels, max(1, wanted // blocks))
    else:       # each block of rows turns B again
        across = evenly(panels, wanted, 1, 2) if wanted > 1 else 1
        blocks = min(ceil_div(m, 32), max(1, wanted // across))
    return _call(_small("small_product", T, tile(T)), (*a.spot, a.row, a.col),
                 (*b.spot, b.row, b.col), (*c.spot, c.row, c.col),
                 (batch * m * n, m, n, k, blocks, across), batch * blocks * across,
                 max(1, GRAIN_FLOPS * blocks * across // flops))


def _few_rows(a, b, c, m, n, k, T):
    chunks = ceil_div(n, max(4, GRAIN_FLOPS // (4 * m * k) * 2))
    even = ceil_div(n, 2 * ceil_div(chunks, 2)) if chunks > 1 else n
    return _call(_small("few_rows", T), (a.extent, a.row), (b.extent, b.col),
                 (c.extent, c.row, c.col), (m * n, m, n, k), n, even + even % 2)


_NAMES = "a", "b", "out", "c", "alpha", "beta"
_MOST_READY = 8


def _planned(plan_of):
    """A launcher of plans: ``plan_of(a, b, c, out, alpha, beta)`` gives what ``launch_plan`` takes.

    Not recorded, a plan is kept with its addresses left out.
    """
    kept = {}

    def run(a, b, c, out, alpha, beta):
        if recording.active and recording.current() is not None:
            launch_plan(*plan_of(a, b, c, out, alpha, beta))
            return
        key = alpha == 1 and beta == 0, pool.get_num_threads()
        ready = kept.get(key)
        if ready is None:
            if len(kept) >= _MOST_READY:
                kept.clear()
            ready = kept[key] = _ready(plan_of, key[0])
        ready.run((a, b, out) if key[0] else (
            a, b, out, c, build.double_bits(alpha), build.double_bits(beta)))
    return run


def _ready(plan_of, plain):
    """The plan with its addresses, and unless ``plain`` alpha and beta, still open."""
    names = _NAMES[:3] if plain else _NAMES
    kernel, words, lay, _ = plan_of("a", "b", "c", "out", *((1.0, 0.0) if plain else _NAMES[4:]))
    return Ready(kernel, words, lay, names)


def _packed_product(a, b, c, batch, m, n, k, code, T):
    return _planned(lambda a_address, b_address, c_address, out, alpha, beta: laid_out(
        m, n, k, source(a_address, a, "a", code, T), source(b_address, b, "b", code, T),
        epilogue(out, batch, m, n, code, T, c_address, c, alpha, beta), batch, T))


def _few_product(a, b, c, batch, m, n, k, code, T, turned):
    """Few rows of a by rows of ``b.turned`` as they lie (``turned``), or few columns of b by rows
    of a."""
    many, lines = (b.turned, a.turned) if turned else (a, b)
    sizes = (n, m, k) if turned else (m, n, k)

    def plan_of(a_address, b_address, c_address, out, alpha, beta):
        left, right = (b_address, a_address) if turned else (a_address, b_address)
        return contraction_few.laid_out(
            *sizes, left, many, source(right, lines, "b", code, T),
            epilogue(out, batch, m, n, code, T, c_address, c, alpha, beta), turned, batch, code, T)
    return _planned(plan_of)


def _fits_small(b, m, n, k, shape):
    """Whether a product is better done on the operands as they lie."""
    if b.col == 1 and (shape.masked or n % shape.width == 0 or k <= gemm_small.STACK_DEPTH):
        return k * n <= SMALL_B and m * n <= SMALL_OUT
    return k <= gemm_small.STACK_DEPTH and 2 * m * n * k <= (
        SMALL_FLOPS if m > SMALL_ROWS else 4 * SMALL_FLOPS)


def launcher(a, b, c, batch, m, n, k, code, T):
    """``run(a, b, c, out, alpha, beta)``, given addresses and scalars, for these ``Matrix``
    layouts.

    It computes ``out = alpha * a @ b + beta * c`` for float types; ``out`` is contiguous (batch,
    m, n) and overlaps no operand. c is not read if beta is 0.
    """
    if code == T:
        if m == 1 or n == 1:
            run = _vector_product(a, b, c, batch, m, n, k, T)
            if run is not None:
                return run
        small = _fits_small(b, m, n, k, tile(T))
        few = n >= 8 and m <= (FEW_ROWS if n * k <= FAR else FEW_ROWS_FAR) and not (
            small and m >= 16 and k < DEEP)
        rows = batch == 1 and a.col == 1 and b.row == 1 and b.col != 1
        if few and rows and k >= 64 and n * k >= 4096:
            return _few_rows(a, b, c, m, n, k, T)
        if small:
            return _small_product(a, b, c, batch, m, n, k, T)
    if b.row == 1 and contraction_few.suits(n, m, k, tile(T)):
        return _few_product(a, b, c, batch, m, n, k, code, T, turned=True)
    if a.col == 1 and contraction_few.suits(m, n, k, tile(T)):
        return _few_product(a, b, c, batch, m, n, k, code, T, turned=False)
    return _packed_product(a, b, c, batch, m, n, k, code, T)


_launchers = {}
_MOST_LAUNCHERS = 4096


def set_target(name):
    """Use the register tiles of target ``name`` (None: those for this processor); for tests."""
    set_tiles(name)
    _launchers.clear()


def _prepare(a, b, c, batch_shape, key):
    """The launcher for these tensors and how its result lies, remembered; None if an operand has to
    be copied first."""
    m, k, n = a._shape[-2], a._shape[-1], b._shape[-1]
    shape = Size((*batch_shape, m, n))
    left = matrix(a._shape, a._strides, (*batch_shape, m, k))
    right = matrix(b._shape, b._strides, (*batch_shape, k, n))
    added = NOTHING if c is None else matrix(c._shape, c._strides, shape)
    if left is None or right is None or added is None:
        return None
    if len(_launchers) >= _MOST_LAUNCHERS:
        _launchers.clear()
    run = launcher(left, right, added, product(batch_shape), m, n, k, a.dtype.code, a.dtype.compute)
    found = _launchers[key] = (run, shape, contiguous_strides(shape),
                               checked_nbytes(shape, a.dtype))
    return found


def _row_major(tensor, shape):
    """A contiguous copy of ``tensor`` broadcast to ``shape``."""
    copy = empty(shape, tensor.dtype, tensor._storage.device)
    ops.copy_(copy, tensor)
    return copy


def gemm(a, b, batch_shape=(), c=None, alpha=1, beta=0):
    """``alpha * a @ b + beta * c`` as a new contiguous tensor ``(*batch_shape, m, n)``.

    a: (..., m, k), b: (..., k, n), any strides, batch dimensions broadcast to ``batch_shape``; c
    broadcasts to the result and is not read if ``beta`` is 0. All of one dtype. float32 and float64
    run in their own precision, float16 and bfloat16 in float32 rounded once at the end, integers
    wrap, complex numbers in their own precision.
    """
    if beta == 0:
        c = None
    if c is None:
        key = a._shape, a._strides, b._shape, b._strides, a.dtype, batch_shape, a._storage.device
    else:
        key = (a._shape, a._strides, b._shape, b._strides, a.dtype, batch_shape,
               a._storage.device, c._shape, c._strides)
    found = _launchers.get(key)
    if found is None:
        found = _first_time(a, b, batch_shape, c, alpha, beta, key)
        if type(found) is not tuple:
            return found
    run, shape, strides, nbytes = found
    out = make(Storage(nbytes), a.dtype, shape, strides, 0)
    run(a._address, b._address, 0 if c is None else c._address, out._address, alpha, beta)
    return out


def _first_time(a, b, batch_shape, c, alpha, beta, key):
    """What ``_prepare`` gives, or the result itself where no launcher is kept."""
    shape = (*batch_shape, a._shape[-2], b._shape[-1])
    if a._storage.device is META or 0 in shape:
        return empty(shape, a.dtype, a._storage.device)
    if a.dtype.category != dtypes.FLOAT:
        return _generic(a, b, batch_shape, c, alpha, beta, empty(shape, a.dtype))
    found = _prepare(a, b, c, batch_shape, key)
    if found is not None:
        return found
    # more than two levels of batch strides: write the operands out
    left, right = (_row_major(x, (*batch_shape, *x._shape[-2:])) for x in (a, b))
    return gemm(left, right, batch_shape, c if c is None else _row_major(c, shape), alpha, beta)


def _generic(a, b, batch_shape, c, alpha, beta, out):
    """Integers and complex numbers: plain loops, then the affine step in ops."""
    from .structured import contiguous, run
    m, n = out._shape[-2:]
    batch = product(batch_shape)

    def flat(tensor):
        wide = ops.expand(tensor, (*batch_shape, *tensor._shape[-2:]))
        return ops.reshape(wide, (batch, *tensor._shape[-2:]))

    run(gemm_small.generic_product, [("A", flat(a)), ("C", contiguous(flat(b))),
                                     ("C", ops.reshape(out, (batch, m, n)))], batch * m,
        max(1, 200_000 // max(1, n * a._shape[-1])), T=a.dtype.code)
    result = out if alpha == 1 else ops.mul(out, alpha)
    if c is not None:
        result = ops.add(result, c if beta == 1 else ops.mul(c, beta))
    return result


_prepacked = weakref.WeakKeyDictionary()    # storage -> {view and side: (version, Packed)}


def prepack_tensor(tensor, side="b"):
    """The packed form of a matrix ``(k, n)`` (or ``(m, k)`` for side "a"), kept for its storage.

    Packing is done again when the storage has been written to (its version counter moved). For
    weights that serve many products. While recording nothing is kept and nothing packed: this gives
    the ``Source``.
    """
    key = (side, tensor._offset, tensor._shape, tensor._strides, tensor.dtype, target())
    T = tensor.dtype.compute
    lines, depth = tensor._shape if side == "a" else tensor._shape[::-1]
    layout = matrix(tensor._shape, tensor._strides, tensor._shape)
    if recording.active and recording.current() is not None:
        return source(tensor._address, layout, side, tensor.dtype.code, T)
    known = _prepacked.setdefault(tensor._storage, {})
    found = known.get(key)
    if found is not None and found[0] == tensor._storage.version:
        return found[1]
    packed = prepack(side, source(tensor._address, layout, side, tensor.dtype.code, T), 1, lines,
                     depth, T)
    known[key] = tensor._storage.version, packed
    return packed


__all__ = ["NOTHING", "Epilogue", "Matrix", "Packed", "Source", "contract", "epilogue", "gemm",
           "launcher", "matrix", "place", "plan", "prepack", "prepack_tensor", "set_target",
           "source", "target", "tile"]
