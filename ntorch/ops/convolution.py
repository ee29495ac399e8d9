"""Host side of convolution: geometry, spreading, and the three products that are each other's
gradients: ``forward`` (image x weight), ``input_gradient`` (grad x weight, which is also transposed
convolution) and ``weight_gradient`` (image x grad). All work on five dimensions (N, C, D, H, W).
"""
import functools
import itertools
import typing

import numpy as np

from ..kernels import conv, gemm_pack
from ..runtime import build, memory, recording
from ..runtime.device import META
from ..runtime.storage import Storage
from . import winograd
from .base import Size, empty, make, numel, product, reshaped
from .contraction_plan import Epilogue, Form, Source, contract, prepack, tile
from .host_tables import int_table
from .structured import as_dtype, compute_dtype, contiguous, run, zeros


class Geometry(typing.NamedTuple):
    """Sizes of one convolution, three spatial dimensions each."""
    kernel: tuple
    stride: tuple
    padding: tuple
    dilation: tuple
    image: tuple
    grid: tuple         # output sizes

    @property
    def phases(self):
        """How many phases the stride cuts an image into."""
        return product(self.stride)

    @property
    def spread(self):
        """Sizes of one phase of the spread image: enough for every tap of every output."""
        return tuple(g + (k - 1) * d // s for g, k, d, s in zip(
            self.grid, self.kernel, self.dilation, self.stride, strict=True))

    @property
    def is_plain(self):
        """Whether the image is its own spread."""
        return self.phases == 1 and not any(self.padding) and self.spread == self.image

    @property
    def positions(self):
        """How many virtual positions there are, up to the last output."""
        _, rows, width = self.spread
        d, h, w = self.grid
        return ((d - 1) * rows + h - 1) * width + w

    def taps(self):
        """For each tap ``(phase, shift in the spread grid, per-dimension shifts)``."""
        _, rows, width = self.spread
        found = []
        for tap in itertools.product(*map(range, self.kernel)):
            reach = [t * d for t, d in zip(tap, self.dilation, strict=True)]
            phase = [r % s for r, s in zip(reach, self.stride, strict=True)]
            shift = tuple(r // s for r, s in zip(reach, self.stride, strict=True))
            number = (phase[0] * self.stride[1] + phase[1]) * self.stride[2] + phase[2]
            found.append((number, (shift[0] * rows + shift[1]) * width + shift[2], shift, phase))
        return found


class Table:
    """int64 numbers for kernels to read."""

    def __init__(self, numbers):
        self.array = np.ascontiguousarray(numbers, dtype=np.int64)
        self._tensor = None

    @property
    def tensor(self):
        """The numbers as a tensor: one that is kept, or while recording one of the recording's."""
        if recording.active and recording.current() is not None:
            return int_table(self.array)
        if self._tensor is None:
            self._tensor = int_table(self.array)
        return self._tensor

    @property
    def slots(self):
        """Slots of an ``i8:1C`` parameter."""
        return self.tensor._address, len(self.array)


@functools.lru_cache(maxsize=512)
def tap_offsets(geometry, channels):
    """Offset of depth ``c * taps + tap`` (forward) in a spread image."""
    plane = product(geometry.spread)
    image = plane * geometry.phases
    taps = [phase * plane + shift for phase, shift, _, _ in geometry.taps()]
    return Table([c * image + t for c in range(channels) for t in taps])


@functools.lru_cache(maxsize=512)
def line_offsets(geometry, channels):
    """Offset of line ``tap * C + c`` (weight gradient) in a spread image."""
    plane = product(geometry.spread)
    image = plane * geometry.phases
    return Table([c * image + phase * plane + shift for phase, shift, _, _ in geometry.taps()
                  for c in range(channels)])


@functools.lru_cache(maxsize=256)
def rows_table(count, step):
    """``[0, step, 2 step, ...]``."""
    return Table(np.arange(count) * step)


def spread_image(x, geometry):
    """The spread of an (N, C, D, H, W) tensor as a flat-able tensor (N, C, phases * size)."""
    n, c = x._shape[:2]
    if geometry.is_plain:
        return x
    phase = geometry.spread
    out = empty((n * c, geometry.phases, *phase), x.dtype)
    planes = reshaped(x, (n * c, *x._shape[2:]))
    run(conv.spread, [("C", planes), ("C", out), *(("i", s) for s in geometry.stride),
                      *(("i", p) for p in geometry.padding)], n * c,
        max(1, 32768 // max(numel(out) // max(n * c, 1), 1)))
    return reshaped(out, (n, c, geometry.phases * product(phase)))


def _flat(tensor):
    return tensor._address, numel(tensor)


@functools.cache
def _kernel(factory, width, kinds, T):
    return build.kernel(factory(width) if width else factory, kinds, T=T)


def _pack_taps(T):
    kinds = (f"{T}:1C", "i", "i", "i", f"{T}:1C", "i8:1C", "i", "i", "i")
    return _kernel(conv.pack_taps_kernel, tile(T).width, kinds, T)


def _pack_runs(T, width):
    kinds = (f"{T}:1C", "i", "i", "i", f"{T}:1C", "i8:1C", "i", "i", "i")
    return _kernel(conv.pack_runs_kernel, width, kinds, T)


def _pack_rows(T):
    kinds = (f"{T}:1C", "i", "i", "i", f"{T}:1C", "i", "i", "i", "i", "i")
    return _kernel(gemm_pack.pack_turned_kernel, tile(T).rows, kinds, T)


def _store(function, T, scalars, rank=5):
    bias = (f"{T}:1C",) if rank == 5 else ()
    kinds = (f"{T}:2C", "i", "i", "i", "i", f"{T}:{rank}C", *bias, *("i",) * scalars)
    return _kernel(function, 0, kinds, T)


def _bias_slots(bias):
    return (bias._address, numel(bias)) if bias is not None else (0, 0)


def _weights(weight, groups, rows, depth, T, batch):
    """The weight (groups * rows, depth) as operand A of ``batch`` products."""
    slots = (*_flat(weight), groups, 0, rows * depth, depth, 1)
    source = Source(_pack_rows(T), slots, groups == 1)
    return prepack("a", source, batch, rows, depth, T) if groups == 1 else source


def forward(x, weight, bias, geometry, groups):
    """``out[n, o] = bias[o] + sum_{c, tap} weight[o, c, tap] x[n, c, position * stride + tap]``."""
    n, channels = x._shape[:2]
    filters = weight._shape[0]
    out = empty((n, filters, *geometry.grid), x.dtype, x.device)
    if out._storage.device is META or not numel(out):
        return out
    work = compute_dtype(x)
    x, weight = contiguous(as_dtype(x, work)), contiguous(as_dtype(weight, work))
    bias = None if bias is None else contiguous(as_dtype(bias, work))
    target = out if out.dtype is work else empty(out._shape, work)
    per_group, rows = channels // groups, filters // groups
    sizes = winograd.sizes_of(geometry, n, channels, filters, groups, work)
    spread = None if sizes else spread_image(x, geometry)
    if per_group == 1 and groups > 1:
        _depthwise(spread, weight, bias, tap_offsets(geometry, 1), target, rows, geometry.spread,
                   (1, 1, 1), (0, 0, 0))
    elif sizes:
        winograd.convolve(x._address, weight, False, sizes, geometry.spread[2],
                          _grid_store(target, bias, n, 1, geometry))
    else:
        T, depth = work.code, per_group * product(geometry.kernel)
        image = product(geometry.spread) * geometry.phases
        source = Source(_pack_taps(T), (
            *_flat(spread), *tap_offsets(geometry, per_group).slots, groups, channels * image,
            per_group * image))
        contract(rows, geometry.positions, depth,
                 _weights(weight, groups, rows, depth, T, n * groups), source,
                 _grid_store(target, bias, n, groups, geometry), batch=n * groups, T=T)
    return target if target is out else as_dtype(target, out.dtype)


def _grid_store(target, bias, n, groups, geometry):
    """The epilogue of a product over the positions of a spread image, to ``target``."""
    T = target.dtype.code
    return Epilogue(_store(conv.store_grid, T, 3), (
        target._address, n * groups, target._shape[1] // groups, *geometry.grid,
        *_bias_slots(bias), groups, geometry.spread[2], geometry.spread[1]), Form("grid", T, T))


def _empty_array(dtype):
    return make(Storage(0), dtype, Size((0,)), (1,), 0)


def _depthwise(spread, weight, bias, offsets, out, multiplier, grid, stride, shift):
    """Launch the depthwise kernel: grid positions ``q`` of ``spread`` to ``q * stride + shift``."""
    n, filters = out._shape[:2]
    planes = n * filters // multiplier
    source = reshaped(spread, (planes, numel(spread) // planes))
    run(conv.depthwise, [
        ("C", source), ("C", reshaped(weight, (filters, numel(weight) // filters))),
        ("C", bias if bias is not None else _empty_array(out.dtype)), ("C", offsets.tensor),
        ("C", reshaped(out, (n * filters, *out._shape[2:]))), ("i", multiplier), ("i", grid[2]),
        ("i", grid[1]), *(("i", s) for s in stride), *(("i", s) for s in shift)],
        n * filters, max(1, 16384 // max(product(out._shape[2:]), 1)))


def _phase_plan(geometry):
    """For each phase of the stride: its number, offsets and the taps that fall in it."""
    phases = {}
    for tap, (number, _, shift, phase) in enumerate(geometry.taps()):
        phases.setdefault(number, (phase, []))[1].append((tap, shift))
    return phases


def input_gradient(grad, weight, bias, geometry, groups):
    """``out[n, c] = bias[c] + sum_{o, tap} weight[o, c, tap] grad[n, o, (p - tap) / stride]``.

    The gradient of ``forward`` in its image, and transposed convolution. Each phase of the stride
    is a convolution of its own with the taps that reach it.
    """
    n, filters = grad._shape[:2]
    per_group = weight._shape[1]
    channels = per_group * groups
    out = empty((n, channels, *geometry.image), grad.dtype, grad.device)
    if out._storage.device is META or not numel(out):
        return out
    work = compute_dtype(grad)
    grad, weight = contiguous(as_dtype(grad, work)), contiguous(as_dtype(weight, work))
    bias = None if bias is None else contiguous(as_dtype(bias, work))
    target = out if out.dtype is work else empty(out._shape, work)
    if len(_phase_plan(geometry)) < geometry.phases or not numel(grad):
        _fill_bias(target, bias)
    adjoint = _adjoint(geometry)
    sizes = adjoint and winograd.sizes_of(adjoint, n, filters, channels, groups, work)
    if sizes:
        winograd.convolve(grad._address, weight, True, sizes, adjoint.spread[2],
                          _grid_store(target, bias, n, 1, adjoint))
    elif numel(grad):
        _run_phases(grad, weight, bias, target, geometry, groups, n)
    return target if target is out else as_dtype(target, out.dtype)


def _adjoint(geometry):
    """The convolution at stride 1 whose filters, turned around, make the adjoint of this one; None
    if there is none."""
    reach = tuple((k - 1) * d for k, d in zip(geometry.kernel, geometry.dilation, strict=True))
    if geometry.phases != 1 or any(p > r for p, r in zip(geometry.padding, reach, strict=True)):
        return None
    padding = tuple(r - p for r, p in zip(reach, geometry.padding, strict=True))
    return geometry._replace(padding=padding, image=geometry.grid, grid=geometry.image)


def _fill_bias(target, bias):
    from .registry import ops
    ops.zero_(target)
    if bias is not None:
        ops.add_(target, reshaped(bias, (1, numel(bias), 1, 1, 1)))


def _run_phases(grad, weight, bias, target, geometry, groups, n):
    """A product for each phase of the stride, over the grad padded so that every tap is inside."""
    reach = [max(shift[d] for _, _, shift, _ in geometry.taps()) for d in range(3)]
    # positions of a phase: enough to cover the image
    size = [max(0, -(-(i + p) // s)) for i, p, s in zip(
        geometry.image, geometry.padding, geometry.stride, strict=True)]
    padded = Geometry((1, 1, 1), (1, 1, 1), tuple(reach), (1, 1, 1), geometry.grid,
                      tuple(s + r for s, r in zip(size, reach, strict=True)))
    spread = spread_image(grad, padded)
    rows, width = padded.spread[1:]
    plane = product(padded.spread)
    filters, per_group = weight._shape[0] // groups, weight._shape[1]
    T, taps = grad.dtype.code, product(geometry.kernel)
    positions = ((size[0] - 1) * rows + size[1] - 1) * width + size[2]
    for phase, members in _phase_plan(geometry).values():
        start = [((reach[0] - s[0]) * rows + reach[1] - s[1]) * width + reach[2] - s[2]
                 for _, s in members]
        shift = tuple(p - q for p, q in zip(phase, geometry.padding, strict=True))
        if filters == 1 and groups > 1 and per_group == 1:
            chosen = _columns(weight, [tap for tap, _ in members])
            _depthwise(spread, chosen, bias, Table(start), target, 1, padded.spread,
                       geometry.stride, shift)
            continue
        depth = filters * len(start)
        offsets = Table([o * plane + s for o in range(filters) for s in start])
        chosen = _transposed(weight, [tap for tap, _ in members], groups, taps)
        a = _weights(chosen, groups, per_group, depth, T, n * groups)
        source = Source(_pack_taps(T), (*_flat(spread), *offsets.slots, groups,
                                        filters * groups * plane, filters * plane))
        store = Epilogue(_store(conv.store_phase, T, 9), (
            target._address, n * groups, per_group, *geometry.image, *_bias_slots(bias), groups,
            width, rows, *geometry.stride, *shift), Form("phase", T, T))
        contract(per_group, positions, depth, a, source, store, batch=n * groups, T=T)


def _columns(weight, taps):
    """The weight (O, 1, taps) with only some taps."""
    from .registry import ops
    flat = reshaped(weight, (weight._shape[0], product(weight._shape[1:])))
    if len(taps) == flat._shape[1]:
        return flat
    return contiguous(ops.index_select(flat, 1, ops.tensor(taps)))


def _transposed(weight, taps, groups, count):
    """The weight (G, O, C, taps) as (G, C, O, some taps), row-major."""
    from .registry import ops
    o, c = weight._shape[0] // groups, weight._shape[1]
    view = reshaped(weight, (groups, o, c, count))
    view = ops.permute(view, (0, 2, 1, 3))
    if len(taps) < count:
        view = ops.index_select(view, 3, ops.tensor(taps))
    return contiguous(view)


def weight_gradient(x, grad, geometry, groups):
    """``out[o, c, tap] = sum_{n, position} grad[n, o, position] * x[n, c, position * stride +
    tap]``."""
    n, channels = x._shape[:2]
    filters, per_group = grad._shape[1], channels // groups
    out = empty((filters, per_group, *geometry.kernel), grad.dtype, grad.device)
    if out._storage.device is META or not numel(out):
        return out
    work = compute_dtype(grad)
    if not numel(grad) or not numel(x):
        return zeros(out._shape, out.dtype)
    x, grad = contiguous(as_dtype(x, work)), contiguous(as_dtype(grad, work))
    target = out if out.dtype is work else empty(out._shape, work)
    sizes = winograd.sizes_of(geometry, n, channels, filters, groups, work)
    if sizes and winograd.part_bytes(sizes) <= winograd.MOST_PART_BYTES:
        winograd.weight_gradient(x._address, grad._address, target._address, sizes)
    else:
        _weight_product(x, grad, target, geometry, groups)
    return target if target is out else as_dtype(target, out.dtype)


def _weight_product(x, grad, target, geometry, groups):
    """``weight_gradient`` of row-major operands as one matrix product over all positions."""
    n, channels = x._shape[:2]
    filters, per_group = grad._shape[1], channels // groups
    taps = product(geometry.kernel)
    spread = spread_image(x, geometry)
    laid = _virtual(grad, geometry)
    run_length = laid._shape[2]
    T, rows = grad.dtype.code, filters // groups
    image = numel(spread) // (n * channels)
    if per_group == 1 and groups > 1:
        run(conv.depthwise_weight, [
            ("C", reshaped(spread, (n * channels, image))),
            ("C", reshaped(laid, (n * filters, run_length))),
            ("C", tap_offsets(geometry, 1).tensor),
            ("C", reshaped(target, (filters, taps))), ("i", n), ("i", filters // channels)],
            filters, 1, reassoc=True)
    else:
        a = Source(_pack_runs(T, tile(T).rows), (
            *_flat(laid), *rows_table(rows, run_length).slots, run_length, filters * run_length,
            rows * run_length))
        b = Source(_pack_runs(T, tile(T).width), (
            *_flat(spread), *line_offsets(geometry, per_group).slots, run_length, channels * image,
            per_group * image))
        store = Epilogue(_store(conv.store_weight, T, 0, rank=4), (
            target._address, groups, rows, per_group, taps), Form("weight", T, T))
        contract(rows, per_group * taps, n * run_length, a, b, store, batch=groups, T=T)


def _virtual(grad, geometry):
    """``grad`` over virtual positions, zero where there is no output: (N, O, positions)."""
    n, filters = grad._shape[:2]
    if geometry.spread[1:] == geometry.grid[1:]:
        return reshaped(grad, (n, filters, product(geometry.grid)))
    wide = Geometry((1, 1, 1), (1, 1, 1), (0, 0, 0), (1, 1, 1), geometry.grid,
                    (geometry.grid[0], *geometry.spread[1:]))
    full = spread_image(grad, wide)
    size = numel(full) // (n * filters)
    if size == geometry.positions:
        return full
    planes = reshaped(full, (n * filters, size))
    cut = make(planes._storage, planes.dtype, Size((n * filters, geometry.positions)), (size, 1),
               planes._offset)
    return reshaped(contiguous(cut), (n, filters, geometry.positions))


__all__ = ["Geometry", "forward", "input_gradient", "memory", "weight_gradient"]
