"""How a recurrent layer is launched: rows per task, register tile, packed weights, calls."""
import functools
import itertools

from ..kernels import rnn as kernels
from ..runtime import build, cpu, pool
from ..runtime.device import META
from .base import contiguous_strides, empty, make, product
from .host_tables import int_table
from .registry import ops
from .structured import contiguous, run

TASK = 1 << 20         # multiplications worth one task: some ten microseconds
_PACKING = 1 << 14      # packed elements worth one
_MAX_ROWS = 16
FEW = 4                 # below this many rows the register tile starves


@functools.lru_cache(maxsize=64)
def step_tables(sizes):
    """Tables of the first row of each step and of the number of rows."""
    offsets = list(itertools.accumulate(sizes, initial=0))[:-1]
    return int_table(offsets), int_table(sizes)


def rows_of(tensor):
    """A row-major tensor (..., features) as (rows, features), over the same memory."""
    if len(tensor._shape) == 2:
        return tensor
    shape = (product(tensor._shape[:-1]), tensor._shape[-1])
    return make(tensor._storage, tensor.dtype, shape, (shape[1], 1), tensor._offset)


def shaped_like(rows, like):
    """Fresh (rows, features) in the leading dimensions of ``like``."""
    if len(like._shape) == 2:
        return rows
    shape = (*like._shape[:-1], rows._shape[1])
    return make(rows._storage, rows.dtype, shape, contiguous_strides(shape), 0)


def copy_of(tensor):
    """A row-major copy."""
    result = empty(tensor._shape, tensor.dtype, tensor._storage.device)
    ops.copy_(result, tensor)
    return result


def _rows_per_task(batch):
    """Rows that one task takes: from 4 (below that the tile starves) to 16, in fours."""
    if batch < FEW:
        return max(1, batch)
    half = (batch + 1) // 2
    return max(4, min(_MAX_ROWS, (half + 3) // 4 * 4))


def register_tile(batch, itemsize):
    """(rows, vectors, lanes) of the tile: tall for batches, wide for a few rows."""
    bits = cpu.vector_bits()
    lanes = bits // (8 * itemsize)
    if batch < FEW:
        return 1, 8, lanes
    return tall(), 2, lanes


def tall():
    """Rows of a tile two vectors wide.

    The registers would hold 12 of 512 bits, but the rows of states lie apart, each needs an
    address, and there are 16 registers for those: 12 rows run at two thirds of the speed of 8.
    """
    return 8 if cpu.vector_bits() >= 512 else 6


class Launch:
    """One layer in one direction over rows ``sizes`` (a tuple of ints, never increasing)."""

    def __init__(self, like, sizes, batch, reverse):
        self.dtype, self.device = like.dtype, like._storage.device
        self.sizes, self.reverse, self.rows = sizes, reverse, sum(sizes)
        self.batch = batch
        self.block = _rows_per_task(batch)
        self.items = -(-batch // self.block)
        self.tile = register_tile(batch, like.dtype.itemsize)
        self.products = []
        self.inside = False

    def new(self, *shape):
        """An uninitialised tensor of the layer's type."""
        return empty(shape, self.dtype, self.device)

    def product(self, left, weight, transposed, columns, target):
        """Describe ``target (+)= left @ weight`` (or its transpose); numbered in order of calls."""
        tall, vectors, lanes = self.tile
        width = vectors * lanes
        depth = weight._shape[1] if transposed else weight._shape[0]
        count = -(-columns // width)
        panels = self.new(count * width * depth)
        run(kernels.pack_panels(lanes),
            [("C", contiguous(weight)), ("C", panels), ("i", width), ("i", transposed)],
            n=count, grain=max(1, _PACKING // max(1, width * depth)))
        self.products.append((left, panels, columns, target))

    def project(self, input, w_ih, b_ih, b_hh):
        """Product 0, with ``input``: its result, and the bias that is part of it.

        Each step computes its rows itself (``inside``) where there are tasks for all threads;
        else it is done here.
        """
        columns = w_ih._shape[0]
        bias = b_ih if b_hh is None else b_hh if b_ih is None else ops.add(b_ih, b_hh)
        bias = ops.zero_(self.new(columns)) if bias is None else contiguous(bias)
        target = self.new(self.rows, columns)
        self.product(input, w_ih, True, columns, target)
        self.inside = self.items >= pool.get_num_threads()
        if not self.inside:
            ops.copy_(target, ops.expand(bias, target._shape))
            left, panels, *_ = self.products[0]
            run(kernels.product_kernel(*self.tile),
                [("C", left), ("C", panels), ("i", columns), ("C", target), ("i", 0), ("i", 0),
                 ("i", 1)], n=self.rows,
                grain=max(64, TASK // max(1, columns * input._shape[1])))
        return target, bias

    def _calls(self):
        """One row per task: for each product the kernel's address and its table."""
        row = []
        code = self.dtype.code
        kernel = build.kernel(
            kernels.product_kernel(*self.tile),
            (f"{code}:2C", f"{code}:1C", "i", f"{code}:2C", "i", "i", "i"), T=code)
        for left, panels, columns, target in self.products:
            row += [kernel.address, left._address, *left._shape, panels._address, *panels._shape,
                    columns, target._address, *target._shape, 0, 0, 0]
        return int_table([row] * self.items, self.items, len(row))

    def _steps(self):
        """The first row of each step, and how many there are."""
        return [("C", table) for table in step_tables(self.sizes)]

    def run(self, kernel, before, after):
        """Run ``kernel(calls, *before, offsets, sizes, *after, [inside,] block, reverse)``."""
        if self.device is META or not self.rows:
            return
        work = sum(p[0]._shape[1] * p[2] for p in self.products) * self.rows // self.items
        run(kernel, [("C", self._calls()), *before, *self._steps(), *after, ("i", self.block),
                     ("i", self.reverse)],
            n=self.items, grain=1 if work > TASK else self.items)


@functools.lru_cache(maxsize=256)
def _sizes_are_fine(sizes, rows, batch):
    """Whether ``check_sizes`` has nothing to say; long tuples are looked through once."""
    return (sum(sizes) == rows and (not sizes or (sizes[0] == batch and sizes[-1] >= 0))
            and all(a >= b for a, b in zip(sizes, sizes[1:], strict=False)))


def check_sizes(op, sizes, rows, batch):
    """RuntimeError unless ``sizes`` never increase, start at ``batch`` and add up to ``rows``."""
    if _sizes_are_fine(sizes, rows, batch):
        return
    if sum(sizes) != rows:
        raise RuntimeError(f"{op}: expected batch_sizes to add up to the {rows} rows of the data, "
                           f"got a sum of {sum(sizes)}")
    if sizes and sizes[0] != batch:
        raise RuntimeError(f"{op}: expected hidden states for a batch of {sizes[0]}, got {batch}")
    for before, after in zip(sizes, sizes[1:], strict=False):
        if after > before:
            raise RuntimeError(f"{op}: expected batch_sizes in decreasing order, got {after} after "
                               f"{before}; sort the sequences by length")
    if sizes and sizes[-1] < 0:
        raise RuntimeError(f"{op}: expected batch_sizes of at least 0, got {sizes[-1]}")


def check_weights(op, gates, input, hidden, w_ih, w_hh, b_ih, b_hh, size):
    """RuntimeError unless shapes of weights fit ``gates`` gates of ``size`` units.

    ``input`` and ``hidden`` are numbers of features; biases may be None.
    """
    wanted = {"weight_ih": (w_ih, (gates * size, input)),
              "weight_hh": (w_hh, (gates * size, hidden)),
              "bias_ih": (b_ih, (gates * size,)), "bias_hh": (b_hh, (gates * size,))}
    for name, (found, shape) in wanted.items():
        if found is not None and tuple(found) != shape:
            raise RuntimeError(f"{op}: expected {name} of shape {list(shape)} for an input of "
                               f"{input} features and {size} hidden units, got {list(found)}")


def check_types(op, input, *tensors):
    """RuntimeError unless states and weights have the type ``input``; they may be None."""
    for tensor in tensors:
        if tensor is not None and tensor.dtype is not input:
            raise RuntimeError(f"{op}: expected states and weights of the input's type {input}, "
                               f"got {tensor.dtype}")


def zeros_if_none(grad, like):
    """``grad``, or zeros in the form of ``like`` where no gradient came."""
    return ops.zeros_like(like) if grad is None else grad
