"""Host side of convolution: geometry, spreading, and the three products that are each other's
gradients: ``forward`` (image x weight), ``input_gradient`` (grad x weight, which is also transposed
convolution) and ``weight_gradient`` (image x grad). All work on five dimensions (N, C, D, H, W).
"""
import functools

from ..kernels import conv, gemm_pack
from ..runtime import build
from ..runtime.device import META
from . import conv_direct, conv_direct_weight, winograd
from .base import empty, numel, product, reshaped
from .contraction_plan import Epilogue, Form, Source, contract, prepack, tile
from .convolution_geometry import Geometry, line_offsets, rows_table, tap_offsets
from .host_tables import Table
from .structured import as_dtype, compute_dtype, contiguous, run, zeros


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
    kinds = (f"{T}:1C", "i", "i", "i", f"{T}:1C", "i8:1C", *("i",) * 7)
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
    sweep = conv_direct.forward_sweep(geometry, n, groups, per_group, rows)
    if sizes:
        winograd.convolve(x._address, weight, False, sizes, geometry.spread[2],
                          _grid_store(target, bias, n, 1, geometry))
    elif conv_direct.suits(sweep, work.code):
        conv_direct.convolve(x._address, weight, sweep, _flat_store(target, bias, n, groups),
                             work.code)
    else:
        spread = spread_image(x, geometry)
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


def _flat_store(target, bias, n, groups):
    """The epilogue of sums of all positions of ``target``, without gaps."""
    T, planes = target.dtype.code, product(target._shape[2:])
    return Epilogue(_store(conv.store_grid, T, 3), (
        target._address, n * groups, target._shape[1] // groups, 1, 1, planes, *_bias_slots(bias),
        groups, planes, 1), Form("grid", T, T))


def _phase_store(target, bias, n, groups, grid, stride, shift):
    """The epilogue of a product over ``grid`` positions ``q``, to ``q * stride + shift``."""
    T = target.dtype.code
    return Epilogue(_store(conv.store_phase, T, 9), (
        target._address, n * groups, target._shape[1] // groups, *target._shape[2:],
        *_bias_slots(bias), groups, grid[2], grid[1], *stride, *shift), Form("phase", T, T))


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
    sweeps = conv_direct.adjoint_sweeps(geometry, n, groups, filters // groups, per_group)
    sizes = adjoint and winograd.sizes_of(adjoint, n, filters, channels, groups, work)
    if sizes:
        winograd.convolve(grad._address, weight, True, sizes, adjoint.spread[2],
                          _grid_store(target, bias, n, 1, adjoint))
    elif numel(grad) and all(conv_direct.suits(sweep, work.code) for sweep, _ in sweeps):
        for sweep, shift in sweeps:
            store = (_flat_store(target, bias, n, groups) if geometry.phases == 1 else _phase_store(
                target, bias, n, groups, sweep.grid, geometry.stride, shift))
            conv_direct.convolve(grad._address, weight, sweep, store, work.code)
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
        depth = filters * len(start)
        offsets = Table([o * plane + s for o in range(filters) for s in start])
        chosen = _transposed(weight, [tap for tap, _ in members], groups, taps)
        a = _weights(chosen, groups, per_group, depth, T, n * groups)
        source = Source(_pack_taps(T), (*_flat(spread), *offsets.slots, groups,
                                        filters * groups * plane, filters * plane))
        store = _phase_store(target, bias, n, groups, padded.spread, geometry.stride, shift)
        contract(per_group, positions, depth, a, source, store, batch=n * groups, T=T)


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
    sweep = conv_direct.forward_sweep(geometry, n, groups, per_group, filters // groups)
    if sizes and winograd.part_bytes(sizes) <= winograd.MOST_PART_BYTES:
        winograd.weight_gradient(x._address, grad._address, target._address, sizes)
    elif conv_direct_weight.suits_weight(sweep, work.code):
        conv_direct_weight.weight_gradient(x._address, grad._address, target._address, sweep,
                                           work.code)
    else:
        _weight_product(x, grad, target, geometry, groups)
    return target if target is out else as_dtype(target, out.dtype)


def _weight_product(x, grad, target, geometry, groups):
    """``weight_gradient`` of row-major operands as one matrix product over all positions."""
    n, channels = x._shape[:2]
    filters, per_group, taps = grad._shape[1], channels // groups, product(geometry.kernel)
    spread, positions = spread_image(x, geometry), product(geometry.grid)
    T, rows = grad.dtype.code, filters // groups
    image = numel(spread) // (n * channels)
    a = Source(_pack_runs(T, tile(T).rows), (
        *_flat(grad), *rows_table(rows, positions).slots, positions, 1, 1, 0, 0,
        filters * positions, rows * positions))
    b = Source(_pack_runs(T, tile(T).width), (
        *_flat(spread), *line_offsets(geometry, per_group).slots, *_runs(geometry),
        channels * image, per_group * image))
    store = Epilogue(_store(conv.store_weight, T, 0, rank=4), (
        target._address, groups, rows, per_group, taps), Form("weight", T, T))
    contract(rows, per_group * taps, n * positions, a, b, store, batch=groups, T=T)


def _runs(geometry):
    """How output positions lie in a spread image: those of a row, rows, planes; from row to row and
    plane to plane. Rows and planes without gaps are one."""
    (depth, height, width), (_, tall, wide) = geometry.grid, geometry.spread
    if wide > width:
        return width, height, depth, wide, tall * wide
    if tall > height:
        return height * width, depth, 1, tall * wide, 0
    return depth * height * width, 1, 1, 0, 0


__all__ = ["Geometry", "forward", "input_gradient", "weight_gradient"]
