"""Sequences and special matrices: arange, linspace, logspace, eye, vander, index grids, complex."""
import math

import numpy as np

from ...kernels import movement as kernels
from ...runtime import dtypes
from ...runtime.device import META
from ..base import TensorBase, empty, integer, numel
from ..composite import overloaded
from ..dtype_rules import _scalar_name
from ..grids import write_out
from ..registry import ops
from ..structured import run
from .factories import check_dtype, finish


def _number(op, name, value):
    if isinstance(value, TensorBase):
        return value.item()
    if isinstance(value, (bool, str, bytes)) or not isinstance(value, (int, float, complex,
                                                                       np.number)):
        if not isinstance(value, bool):
            raise TypeError(f"{op}(): argument '{name}' must be Number, not {type(value).__name__}")
    return value


def _finish(op, result, requires_grad, out):
    return finish(result, requires_grad) if out is None else write_out(op, out, result)


def sequence(result, start, step):
    """Fill a vector with ``start + step * i``, in float64 or int64 arithmetic."""
    exact = isinstance(start, int) and isinstance(step, int)
    work = dtypes.int64 if exact else dtypes.float64
    direct = result if result.dtype is work else empty(result._shape, work, result._storage.device)
    kind = "i" if exact else "f"
    run(kernels.sequence, [("C", direct), (kind, start), (kind, step)], numel(result), 16384,
        T="f8")
    return result if direct is result else ops.copy_(result, direct)


def _arange_arguments(arguments, start, end, step):
    given = dict(zip({1: ("end",), 2: ("start", "end"), 3: ("start", "end", "step")}.get(
        len(arguments), ()), arguments, strict=False))
    if len(arguments) > 3 or (not given and end is None):
        raise TypeError("arange() received an invalid combination of arguments: expected "
                        "arange(end), arange(start, end) or arange(start, end, step)")
    if "start" not in given and start is None and "end" in given and end is not None:
        given = {"start": given["end"]}         # arange(1, end=5)
    pick = lambda name, value, default: _number(  # noqa: E731
        "arange", name, given.get(name, default if value is None else value))
    return pick("start", start, 0), pick("end", end, None), pick("step", step, 1)


@overloaded("arange", method=False, out=True)
def arange(*arguments, start=None, end=None, step=None, out=None, dtype=None, layout=None,
           device=None, requires_grad=False, pin_memory=False):
    """``start, start + step, ...`` up to but not including ``end``.

    int64 if all numbers are integers, else the default floating type. RuntimeError for a zero step
    or bounds that the step does not lead to.
    """
    start, end, step = _arange_arguments(arguments, start, end, step)
    whole = all(isinstance(v, (int, np.integer)) for v in (start, end, step))
    if dtype is None:
        dtype = (out.dtype if out is not None else
                 dtypes.int64 if whole else dtypes.get_default_dtype())
    check_dtype("arange", dtype)
    if step == 0:
        raise RuntimeError("step must be nonzero")
    if dtype.category == dtypes.INT and int(step) == 0:
        raise ValueError(f"step must be nonzero, but {step} is 0 in {dtype}")
    if not (math.isfinite(start) and math.isfinite(end)):
        raise RuntimeError(f"unsupported range: {start} -> {end}")
    if (end - start) * step < 0:
        raise RuntimeError("upper bound and lower bound inconsistent with step sign")
    if dtype is dtypes.bool_ or dtype.is_complex:
        raise NotImplementedError(f"\"arange_cpu_out\" not implemented for '{_scalar_name(dtype)}'")
    if dtype is dtypes.int64:       # torch truncates before it counts, for this type alone
        start, end, step = int(start), int(end), int(step)
        whole = True
    count = -(-(end - start) // step) if whole else math.ceil((end - start) / step)
    if dtype.category == dtypes.INT:
        start, step = int(start), int(step)
    result = sequence(empty((count,), dtype, device), start, step)
    return _finish("arange", result, requires_grad, out)


@overloaded("range", method=False, out=True)
def range_(start=0, end=None, step=1, *, out=None, dtype=None, layout=None, device=None,
           requires_grad=False):
    """``start, start + step, ...`` up to and including ``end`` (deprecated in torch)."""
    start, end = (0, start) if end is None else (start, end)
    if step == 0:
        raise RuntimeError("step must be nonzero")
    if (end - start) * step < 0:
        raise RuntimeError("upper bound and lower bound inconsistent with step sign")
    dtype = dtype or (out.dtype if out is not None else dtypes.get_default_dtype())
    count = int(math.floor((end - start) / step)) + 1
    result = sequence(empty((count,), dtype, device), start, step)
    return _finish("range", result, requires_grad, out)


def _spaced_dtype(op, dtype, out, start, end):
    if dtype is not None:
        return check_dtype(op, dtype)
    if out is not None:
        return out.dtype
    default = dtypes.get_default_dtype()
    is_complex = any(isinstance(v, complex) or isinstance(v, TensorBase) and v.dtype.is_complex
                     for v in (start, end))
    return default.to_complex() if is_complex else default


def _check_steps(op, steps):
    steps = integer(steps, op, "steps")
    if steps < 0:
        raise RuntimeError("number of steps must be non-negative")
    return steps


def _spaced(start, end, steps, dtype):
    """``steps`` numbers from ``start`` to ``end``: from the left in the first half, from the right
    in the second, so that both ends are exact. A NumPy array of the dtype's wide kind."""
    kind = np.complex128 if dtype.is_complex else np.float64
    if dtype is dtypes.float32 or dtype.is_half:
        kind = np.float32
    elif dtype is dtypes.complex64:
        kind = np.complex64
    whole = dtype.category == dtypes.INT
    start, end = (int(start), int(end)) if whole else (kind(start), kind(end))
    if steps <= 1:
        return np.full(steps, start, np.int64 if whole else kind)
    if whole:
        step = np.float32(np.float32(end - start) / np.float32(steps - 1))
        places = np.arange(steps)
        left = np.trunc(start + (step * places.astype(np.float32)).astype(np.float32))
        right = np.trunc(end - (step * (steps - 1 - places).astype(np.float32)).astype(np.float32))
        return np.where(places < steps // 2, left, right).astype(np.int64)
    step = (end - start) / kind(steps - 1)
    places = np.arange(steps)
    real = np.float32 if kind in (np.float32, np.complex64) else np.float64
    left = start + step * places.astype(real)
    right = end - step * (steps - 1 - places).astype(real)
    return np.where(places < steps // 2, left, right).astype(kind)


def _spaced_floats(start, end, steps, dtype, device):
    """As ``_spaced``, at memory's speed; every number has the bits of torch's."""
    work = dtypes.float64 if dtype is dtypes.float64 else dtypes.float32
    kind, made = work.numpy.type, empty((steps,), work, device)
    start, end = kind(start), kind(end)
    step = (end - start) / kind(steps - 1)
    run(kernels.spaced, [("C", made), ("T", float(start)), ("T", float(end)), ("T", float(step))],
        steps, 16384, T=work.code)
    return made if dtype is work else ops.to_dtype(made, dtype)


def _from_values(values, dtype, device):
    made = ops.from_numpy(np.ascontiguousarray(values))
    made = ops.clone(made) if made.dtype is dtype else ops.to_dtype(made, dtype)
    return made if device is None else made.to(device)


@overloaded("linspace", method=False, out=True)
def linspace(start, end, steps, *, out=None, dtype=None, layout=None, device=None,
             requires_grad=False, pin_memory=False):
    """``steps`` numbers evenly spaced from ``start`` to ``end``, both included."""
    dtype = _spaced_dtype("linspace", dtype, out, start, end)
    steps = _check_steps("linspace", steps)
    start, end = _number("linspace", "start", start), _number("linspace", "end", end)
    if device is not None and str(device) == "meta":
        return empty((steps,), dtype, META)
    if steps > 1 and dtype.category == dtypes.FLOAT:
        result = _spaced_floats(start, end, steps, dtype, device)
    else:
        result = _from_values(_spaced(start, end, steps, dtype), dtype, device)
    return _finish("linspace", result, requires_grad, out)


@overloaded("logspace", method=False, out=True)
def logspace(start, end, steps, base=10.0, *, out=None, dtype=None, layout=None, device=None,
             requires_grad=False, pin_memory=False):
    """``base`` to the powers of ``linspace(start, end, steps)``."""
    dtype = _spaced_dtype("logspace", dtype, out, start, end)
    steps = _check_steps("logspace", steps)
    start, end = _number("logspace", "start", start), _number("logspace", "end", end)
    if device is not None and str(device) == "meta":
        return empty((steps,), dtype, META)
    wide = dtypes.complex128 if dtype.is_complex else dtypes.float64
    powers = np.power(np.asarray(base, wide.numpy), _spaced(start, end, steps, wide))
    return _finish("logspace", _from_values(powers, dtype, device), requires_grad, out)


@overloaded("eye", method=False, out=True)
def eye(n, m=None, *, out=None, dtype=None, layout=None, device=None, requires_grad=False,
        pin_memory=False):
    """An ``n`` by ``m`` (by default ``n``) matrix, 1 on the main diagonal and 0 elsewhere."""
    n = integer(n, "eye", "n")
    m = n if m is None else integer(m, "eye", "m")
    for name, value in (("n", n), ("m", m)):
        if value < 0:
            raise RuntimeError(f"{name} must be greater or equal to 0, got {value}")
    dtype = check_dtype("eye", dtype) or (out.dtype if out is not None else None)
    result = ops.zeros(n, m, dtype=dtype, device=device)
    if min(n, m):
        ops.fill_(ops.diagonal(result), 1)
    return _finish("eye", result, requires_grad, out)


@overloaded("vander", method=False)
def vander(x, N=None, increasing=False):  # noqa: N803 - torch's keyword
    """Rows of powers ``x**(N-1), ..., x, 1`` of a vector; ascending if ``increasing``."""
    if len(x._shape) != 1:
        raise RuntimeError("x must be a one-dimensional tensor.")
    n = numel(x) if N is None else N
    if n < 0:
        raise RuntimeError("N must be non-negative.")
    if x.dtype.category < dtypes.FLOAT:
        x = ops.to_dtype(x, dtypes.int64)
    columns = [ops.ones_like(x)]
    while len(columns) < n:
        columns.append(columns[-1] * x)
    if not n:
        return ops.empty(numel(x), 0, dtype=x.dtype)
    return ops.stack(columns if increasing else columns[::-1], 1)


def _triangle_indices(name, upper):
    def indices(row, col, offset=0, *, dtype=None, layout=None, device=None, pin_memory=False):
        for word, value in (("row", row), ("col", col)):
            if value < 0:
                raise RuntimeError(f"{word} must be non-negative, got{value}")
        r, c = np.indices((row, col))
        keep = (c - r >= offset) if upper else (c - r <= offset)
        return _from_values(np.stack([r[keep], c[keep]]), dtype or dtypes.int64, device)
    indices.__name__ = name
    indices.__doc__ = (f"Coordinates (2, count) of the {'upper' if upper else 'lower'} triangle of "
                       "a ``row`` by ``col`` matrix, row by row.")
    overloaded(name, method=False)(indices)


_triangle_indices("tril_indices", False)
_triangle_indices("triu_indices", True)


@overloaded("combinations", method=False)
def combinations(input, r=2, with_replacement=False):  # noqa: A002
    """All choices of ``r`` elements of a vector in order, one row each."""
    if len(input._shape) != 1:
        raise RuntimeError(f"Expect a 1D vector, but got shape {list(input._shape)}")
    if r < 0:
        raise RuntimeError(f"Expect a non-negative number, but got {r}")
    import itertools
    choose = itertools.combinations_with_replacement if with_replacement else itertools.combinations
    rows = list(choose(range(numel(input)), r))
    if r == 0:
        return ops.empty(0, dtype=input.dtype)
    places = ops.tensor([place for row in rows for place in row], dtype=dtypes.int64)
    return ops.reshape(ops.index_select(input, 0, places), (len(rows), r))


def _window(name, formula, doc):
    def window(window_length, periodic=True, *arguments, dtype=None, layout=None, device=None,
               requires_grad=False, pin_memory=False, **keywords):
        n = integer(window_length, name, "window_length")
        if n < 0:
            raise RuntimeError(f"{name} requires non-negative window_length, got window_length={n}")
        if dtype is not None and not dtype.is_floating_point:
            raise RuntimeError(f"{name} expects floating point dtypes, got: "
                               f"{_scalar_name(dtype)}")
        span = n if periodic else n - 1
        turns = np.arange(n) / span if span > 0 else np.zeros(n)
        values = formula(turns, *arguments, **keywords) if n > 1 else np.ones(n)
        result = _from_values(np.asarray(values, np.float64), dtype or dtypes.get_default_dtype(),
                              device)
        return finish(result, requires_grad)
    window.__name__, window.__doc__ = name, doc
    overloaded(name, method=False)(window)


_window("hann_window", lambda t: 0.5 - 0.5 * np.cos(2 * np.pi * t),
        "``0.5 - 0.5 cos(2 pi t)``, t from 0 to 1.")
_window("hamming_window", lambda t, alpha=0.54, beta=0.46: alpha - beta * np.cos(2 * np.pi * t),
        "``alpha - beta cos(2 pi t)``, t from 0 to 1.")
_window("blackman_window",
        lambda t: 0.42 - 0.5 * np.cos(2 * np.pi * t) + 0.08 * np.cos(4 * np.pi * t),
        "``0.42 - 0.5 cos(2 pi t) + 0.08 cos(4 pi t)``, t from 0 to 1.")
_window("bartlett_window", lambda t: 1 - np.abs(2 * t - 1), "A triangle from 0 to 1 and back.")
