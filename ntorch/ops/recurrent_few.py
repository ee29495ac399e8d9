"""Layers over a few rows, launched from a plan: all is decided but the addresses.

Such a layer runs for some microseconds a step, so what Python does once a call counts. A plan holds
for one form of the arguments (types, shapes, sizes of steps), which is checked when it is made.
"""
import functools

from ..kernels import recurrent_few as kernels
from ..runtime import build, cpu, dtypes, launch, pool
from ..runtime.device import META
from .base import contiguous_strides, empty, make, slot_of, zero_bytes
from .recurrent_plan import (
    FEW,
    TASK,
    check_sizes,
    check_types,
    check_weights,
    copy_of,
    step_tables,
    tall,
)
from .registry import ops
from .structured import contiguous

_WORTH_PACKING = 20     # rows of all steps from which on packed weights are faster
_LEAST_UNITS = 64       # hidden units worth a part of a step: the threads meet after each step


def is_few(state):
    """Whether there are too few rows to share out: then threads share the hidden units."""
    return state._shape[-2] < FEW


class Cell:
    """What a kind of cell is to the plan: its name, scalar code, gates, those that add up both
    biases; whether it keeps anything (``kept``) beside its output and the gates."""

    def __init__(self, op, units, gates, shared, keeps):
        self.op, self.units, self.gates, self.shared, self.keeps = op, units, gates, shared, keeps

    def run(self, input, h0, memory0, w_ih, w_hh, b_ih, b_hh, sizes, reverse):
        """``(out, hidden, memory, values, kept)``: output and final states in the form of ``input``
        and ``h0``; rows of activated gates, and of what else is kept.

        ``memory0``: the state beside h0, or None; then ``memory`` is ``hidden``, and so is
        ``kept`` ``out`` where a cell keeps nothing, and ``values`` for a cell that is its own gate.
        """
        biases = tuple([None if b is None else b._shape for b in (b_ih, b_hh)])
        plan = _plan(self, input.dtype, input._shape, h0._shape, w_ih._shape, w_hh._shape, biases,
                     sizes, reverse, pool.get_num_threads())
        check_types(self.op, input.dtype, h0, memory0, w_ih, w_hh, b_ih, b_hh)
        device = input._storage.device
        out, hidden = plan.out(device), plan.hidden(device)
        values = plan.values(device) if self.gates > 1 else out
        memory = hidden if memory0 is None else plan.hidden(device)
        kept = plan.kept(device) if self.keeps else out
        if device is META:
            return out, hidden, memory, values, kept
        h0 = contiguous(h0)
        memory0 = hidden if memory0 is None else contiguous(memory0)
        if not plan.rows:
            return (out, copy_of(h0), memory if memory is hidden else copy_of(memory0), values,
                    kept)
        if b_ih is None or b_hh is None:
            zeros = ops.zero_(empty((w_hh._shape[0],), input.dtype, device))
            b_ih, b_hh = [zeros if b is None else b for b in (b_ih, b_hh)]
        plan.launch(contiguous(input), contiguous(w_ih), contiguous(w_hh), contiguous(b_ih),
                    contiguous(b_hh), values, h0, hidden, memory0, memory, out, kept)
        return out, hidden, memory, values, kept


def _maker(shape, dtype):
    """``new(device)``: an uninitialised row-major tensor of this form."""
    like = empty(shape, dtype, META)
    shape, strides, nbytes = like._shape, contiguous_strides(like._shape), like._storage._nbytes
    storage_of = type(like._storage)
    return lambda device: make(storage_of(nbytes, device), dtype, shape, strides, 0)


class _Plan:
    """A layer with everything decided but the addresses."""

    def __init__(self, cell, dtype, input, h0, w_ih, w_hh, biases, sizes, reverse, threads):
        (wide, depth), (*leading, entering) = w_hh, input
        self.rows, size = sum(sizes), wide // cell.gates
        self.out, self.hidden = _maker((*leading, size), dtype), _maker(h0, dtype)
        self.values = _maker((self.rows, wide), dtype)
        self.kept = _maker((self.rows, size), dtype)
        if not self.rows:
            return
        part, self.words, elements, self.kernel = _kernel(
            cell, dtype, wide, depth, entering, self.rows, len(sizes), threads)
        self.parts = -(-wide // (cell.gates * part))
        self.scratch = _maker((8 * self.words + dtype.itemsize * elements,), dtypes.uint8)
        steps, flat, rows = (len(sizes),), (wide,), (self.rows,)
        self.tables = step_tables(sizes)
        state, kept = h0[-2:], (self.rows, size)
        self.forms = [(self.words,), (elements,), (*rows, entering), w_ih, w_hh, flat, flat,
                      (*rows, wide), steps, steps, *[state] * 4, kept, kept]
        self.rest = [part, int(reverse)]

    def launch(self, input, w_ih, w_hh, b_ih, b_hh, *others):
        """Run the kernel; see ``kernels.recurrent_few.few_kernel``."""
        scratch = self.scratch(input._storage.device)
        address = scratch._address
        zero_bytes(address, 8 * self.words)
        values, *states = others
        addresses = [address, address + 8 * self.words]
        addresses += [slot_of(t) for t in (input, w_ih, w_hh, b_ih, b_hh, values, *self.tables,
                                           *states)]
        slots = []
        for at, form in zip(addresses, self.forms, strict=True):
            slots.append(at)
            slots.extend(form)
        launch.run(self.kernel, slots + self.rest, self.parts, 1)


@functools.lru_cache(maxsize=256)
def _plan(cell, dtype, input, h0, w_ih, w_hh, biases, sizes, reverse, threads):
    """The plan for a form, once its shapes are found to fit together."""
    check_weights(cell.op, cell.gates, input[-1], h0[-1], w_ih, w_hh, *biases,
                  w_hh[0] // cell.gates)
    rows = 1
    for size in input[:-1]:
        rows *= size
    check_sizes(cell.op, sizes, rows, h0[-2])
    return _Plan(cell, dtype, input, h0, w_ih, w_hh, biases, sizes, reverse, threads)


@functools.lru_cache(maxsize=64)
def _kernel(cell, dtype, wide, depth, entering, rows, steps, threads):
    """Units in a part, integers of flags, elements of packed weights, and the kernel."""
    gates, lanes, code = cell.gates, cpu.vector_bits() // (8 * dtype.itemsize), dtype.code
    size = wide // gates
    units, columns = kernels.panel_shape(gates, lanes)
    # parts do not change the result by a bit, so there may be as many as threads
    parts = min(threads, -(-size // _LEAST_UNITS))
    if wide * (depth + entering) * rows < TASK:
        parts = 1
    part = -(-size // (parts * units)) * units
    parts = -(-size // part)
    # a multiple of eight integers: packed weights begin with a cache line
    words = -(-parts * (kernels.LINE + steps) // 8) * 8
    packed = rows >= _WORTH_PACKING
    elements = 0
    if packed:
        elements = -(-size // units) * columns * depth + parts * 2 * lanes * entering
    flat, table = f"{code}:1C", f"{code}:2C"
    kinds = ("i8:1C", flat, table, table, table, flat, flat, table, "i8:1C", "i8:1C",
             *[table] * 6, "i", "i")
    kernel = build.kernel(
        kernels.few_kernel(cell.units, gates, cell.shared, packed, tall(), lanes), kinds, T=code,
        reassoc=not packed)
    return part, words, elements, kernel
