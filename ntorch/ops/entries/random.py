"""In-place random fills, and multinomial; factories are in ``ntorch/random.py``.

For the same seed and calls the numbers are those of torch's CPU generator, bit for bit (on CPUs
where torch uses its own generator; its Intel build takes ``bernoulli_`` with a number from MKL).
float64 normals use the C library's log, sin and cos, so they are as equal as the C libraries are.
"""
import math
import warnings

from ...kernels import random as kernels
from ...runtime import dtypes
from ...runtime.device import META
from .. import draw
from ..base import empty, is_contiguous, numel
from ..composite import composite
from ..dtype_rules import _scalar_name
from ..generator import chosen
from ..grids import need_true
from ..outputs import check_writable
from ..registry import ops
from ..structured import as_dtype, contiguous, run, structured

_DIGITS = {dtypes.float16: 11, dtypes.bfloat16: 8, dtypes.float32: 24, dtypes.float64: 53}
_NAMES = {dtypes.uint8: "unsigned char", dtypes.int8: "signed char", dtypes.int16: "short",
          dtypes.int32: "int", dtypes.int64: "long", dtypes.bool_: "bool",
          dtypes.float16: "c10::Half", dtypes.bfloat16: "c10::BFloat16", dtypes.float32: "float",
          dtypes.float64: "double"}
_FLOAT_MAX = {dtypes.float16: 65504.0, dtypes.bfloat16: 3.3895313892515355e38,
              dtypes.float32: 3.4028234663852886e38, dtypes.float64: 1.7976931348623157e308}


def zero_gradient(entry):
    """Record that the old contents of the filled tensor do not matter."""
    @entry.gradient("self")
    def _(grad):
        return None
    return entry


def _need_floating(name, tensor, complex_too=False):
    ok = tensor.dtype.is_floating_point or (complex_too and tensor.dtype.is_complex)
    if not ok:
        raise NotImplementedError(f'"{name}" not implemented for {_quoted(tensor.dtype)}')


def _quoted(dtype):
    return f"'{_scalar_name(dtype)}'"


def _need_continuous(title, tensor):
    if not tensor.dtype.is_floating_point:
        raise RuntimeError(f"{title} distribution is a continuous probability distribution. dtype "
                           f"must be a floating point but you specified "
                           f"{_scalar_name(tensor.dtype)}")


def _need(condition, message):
    if not condition:
        raise RuntimeError(message)


def _real_view(tensor):
    return ops.view_as_real(tensor)


@zero_gradient
@structured("uniform_(Tensor self, float low=0., float to=1., *, Generator? generator=None) -> "
            "Tensor",
            inplace_only=True)
def uniform_(self, low, to, generator):
    """Fills with numbers uniform in ``[low, to)``: 24 random bits for float32 and half types, 53
    for float64; both parts of complex numbers. RuntimeError if ``low > to`` or a bound
    overflows."""
    _need_floating("check_uniform_bounds", self, complex_too=True)
    check_writable("uniform_", self)
    limit = _FLOAT_MAX[self.dtype.to_real()]
    for name, value in (("from", low), ("to", to)):
        _need(-limit <= value <= limit,
              f"{name} is out of bounds for {_NAMES[self.dtype.to_real()]}")
    _need(low <= to, f"uniform_ expects to return a [from, to) range, but found from={low:g} > "
                     f"to={to:g}")
    _need(to - low <= limit, f"uniform_ expects to-from <= std::numeric_limits<"
                             f"{_scalar_name(self.dtype)}>::max(), but found to={to:g} and "
                             f"from={low:g} which result in to-from to exceed the limit")
    generator = chosen(generator, "uniform_")
    if self.dtype.is_complex:
        uniform_.host(_real_view(self), low, to, generator)
        return self
    dtype = dtypes.float32 if self.dtype.is_half else self.dtype
    return draw.fill(self, dtype, lambda v: draw.uniform(
        v, low, to, generator, draw.limit_of(to, self.dtype)))


@zero_gradient
@structured("normal_(Tensor self, float mean=0., float std=1., *, Generator? generator=None)"
            " -> Tensor", inplace_only=True)
def normal_(self, mean, std, generator):
    """Fills with normal numbers (Box-Muller). RuntimeError if ``std`` is negative."""
    _need(std >= 0, f"normal expects std >= 0.0, but found std {std:g}")
    check_writable("normal_", self)
    generator = chosen(generator, "normal_")
    if self.dtype.is_complex:       # half the variance to each part
        normal_.host(_real_view(self), 0.0, std / 2 ** 0.5, generator)
        if mean:
            ops.add_(self, mean)
        return self
    _need_floating("normal_kernel_cpu", self)
    if numel(self) >= 16 and is_contiguous(self._shape, self._strides):
        dtype = dtypes.float32 if self.dtype.is_half else self.dtype
        return draw.fill(self, dtype, lambda v: draw.normal_blocks(
            v, mean, std, generator, self.dtype.is_half))
    return draw.fill(self, dtypes.float64, lambda v: draw.normal_scalars(v, mean, std, generator))


@zero_gradient
@structured("log_normal_(Tensor self, float mean=1., float std=2., *, Generator? generator=None)"
            " -> Tensor", inplace_only=True)
def log_normal_(self, mean, std, generator):
    """Fills with ``exp(mean + std * z)``, z standard normal. RuntimeError unless ``std > 0``."""
    _need(std > 0, f"log_normal_ expects std > 0.0, but found std={std:g}")
    _need_floating("log_normal_cpu", self)
    check_writable("log_normal_", self)
    generator = chosen(generator, "log_normal_")

    def numbers(vector):
        draw.standard_pairs(vector, generator)
        run(kernels.log_normal, [("C", vector), ("T", mean), ("T", std)], vector._shape[0],
            draw.GRAIN // 8, T="f8")
    return draw.fill(self, dtypes.float64, numbers)


def _by_inverse(self, generator, op, kernel, *parameters):
    check_writable(op, self)
    generator = chosen(generator, op)
    numbers = draw.transformed(kernel, *parameters)
    return draw.fill(self, dtypes.float64, lambda v: numbers(v, generator))


@zero_gradient
@structured("exponential_(Tensor self, float lambd=1., *, Generator? generator=None) -> Tensor",
            inplace_only=True)
def exponential_(self, lambd, generator):
    """Fills with ``-log(1 - u) / lambd``. RuntimeError unless ``lambd > 0``."""
    _need(lambd > 0, f"exponential_ expects lambda > 0.0, but found lambda={lambd:g}")
    _need_continuous("Exponential", self)
    return _by_inverse(self, generator, "exponential_", kernels.exponential, lambd)


@zero_gradient
@structured("cauchy_(Tensor self, float median=0., float sigma=1., *, Generator? generator=None)"
            " -> Tensor", inplace_only=True)
def cauchy_(self, median, sigma, generator):
    """Fills with ``median + sigma tan(pi (u - 1/2))``. RuntimeError unless ``sigma > 0``."""
    _need(sigma > 0, f"cauchy_ expects sigma > 0.0, but found sigma={sigma:g}")
    _need_continuous("Cauchy", self)
    return _by_inverse(self, generator, "cauchy_", kernels.cauchy, median, sigma)


@zero_gradient
@structured("geometric_(Tensor self, float p, *, Generator? generator=None) -> Tensor",
            inplace_only=True)
def geometric_(self, p, generator):
    """Fills with the trial of the first success, ``ceil(log u / log(1 - p))``, 0 < p < 1."""
    _need(0 < p < 1, f"geometric_ expects p to be in (0, 1), but got p={p:g}")
    if self.dtype is dtypes.bool_ or self.dtype.is_complex:
        raise NotImplementedError(f'"geometric_cpu" not implemented for {_quoted(self.dtype)}')
    return _by_inverse(self, generator, "geometric_", kernels.geometric, p)


def _bounds(dtype):
    """Least and greatest integer that ``random_`` may give in ``dtype``."""
    if dtype in _DIGITS:
        top = int(_FLOAT_MAX[dtype]) if dtype is dtypes.float16 else (1 << 63) - 1
        return -top - (dtype is not dtypes.float16), top
    if dtype is dtypes.bool_:
        return 0, 1
    bits = 8 * dtype.itemsize
    return (0, 255) if dtype is dtypes.uint8 else (-(1 << bits - 1), (1 << bits - 1) - 1)


def _round_to(value, dtype):
    """``int(dtype(value))`` for a floating dtype: round to nearest even at its precision."""
    digits = _DIGITS[dtype]
    excess = max(abs(value).bit_length() - digits, 0)
    half, rest = divmod(abs(value), 1 << excess)
    up = 2 * rest > 1 << excess or (2 * rest == 1 << excess and half & 1)
    return (half + up << excess) * (-1 if value < 0 else 1)


def _check_range(low, high, dtype):
    """``(low, high)`` pulled inside what ``dtype`` can hold exactly at those magnitudes."""
    least, greatest = _bounds(dtype)
    name = _NAMES[dtype]
    _need(least <= low <= greatest, f"from is out of bounds for {name}")
    _need(least <= high - 1 <= greatest, f"to - 1 is out of bounds for {name}")
    if dtype not in _DIGITS:
        return low, high
    digits = _DIGITS[dtype]
    for word, value in (("from", low), ("to - 1", high - 1)):
        if abs(value) > 1 << digits:
            warnings.warn(
                f"{word} is out of bounds [-(2^{digits}), 2^{digits}]. Due to precision "
                f"limitations {name} can support discrete uniform distribution only within this "
                "range. This warning will become an error in version 1.7 release, please fix the "
                "code in advance",
                stacklevel=5)
    after, before = _round_to(low + 1, dtype), _round_to(high - 1, dtype)
    if after < low:
        low = after + (1 << abs(low + 1).bit_length() - digits)
    if before >= high:
        high = before - (1 << abs(high - 1).bit_length() - digits)
    return low, high


@zero_gradient
@structured("random_(Tensor self, Any from_=None, Any to='unset', *, Generator? generator=None)"
            " -> Tensor", inplace_only=True)
def random_(self, from_, to, generator):
    """``random_()``, ``random_(to)``, ``random_(from, to)``: integers from 0 or ``from`` up to, not
    including, ``to``; without bounds, all integers that the dtype holds exactly."""
    dtype = self.dtype
    _need(not dtype.is_complex, "check_random_bounds handles only integral, floating-point and "
                                "boolean types")
    check_writable("random_", self)
    generator = chosen(generator, "random_")
    if from_ is None:
        low, (span, wide) = 0, _full_span(dtype)
    else:
        low, to = (0, from_) if to == "unset" else (from_, to)
        top = _bounds(dtype)[1] if dtype not in _DIGITS else min(1 << _DIGITS[dtype], (1 << 63) - 1)
        unbounded = to is None
        to = top + 1 if unbounded else to
        _need(low < to, f"random_ expects 'from' to be less than 'to', but got from={low} >= "
                        f"to={to}")
        if not (unbounded and dtype in _DIGITS):
            low, to = _check_range(low, to, dtype)
            _need(low < to, "random_ expects 'from' casted to dtype to be less than 'to' casted to "
                            f"dtype, but got from={low} >= to={to}")
        span = to - low
        low = 0 if span >> 64 else low      # all 64 bits: the word is the number
        wide = span >= 1 << 28      # from here on a 32-bit word would be visibly uneven
    return draw.fill(self, dtypes.int64, lambda v: draw.integers(v, low, span, wide, generator))


def _full_span(dtype):
    """How many integers ``random_()`` draws from, and whether it takes 64-bit words."""
    if dtype in _DIGITS:
        return (1 << _DIGITS[dtype]) + 1, dtype is dtypes.float64
    return _bounds(dtype)[1] + 1, dtype is dtypes.int64


@zero_gradient
@structured("bernoulli_(Tensor self, Any p=0.5, *, Generator? generator=None) -> Tensor",
            inplace_only=True)
def bernoulli_(self, p, generator):
    """Fills with 1 where a uniform number is below ``p``, else 0."""
    check_writable("bernoulli_", self)
    generator = chosen(generator, "bernoulli_")
    if isinstance(p, (int, float)):
        _need(0 <= p <= 1, f"bernoulli_ expects p to be in [0, 1], but got p={p:g}")
        return _fill_below(self, float(p), dtypes.float64, generator)
    if not p.dtype.is_floating_point:
        raise NotImplementedError(
            f'"bernoulli_tensor_cpu_p_" not implemented for {_quoted(p.dtype)}')
    if p._storage.device is not META and numel(p):
        inside = ops.logical_and(ops.ge(ops.amin(p), 0), ops.le(ops.amax(p), 1))
        need_true(inside, RuntimeError("bernoulli_: expected all elements of p to be in [0, 1]"))
    dtype = dtypes.float64 if p.dtype is dtypes.float64 else dtypes.float32
    threshold = draw.memory_order_like(ops.expand(p, self._shape), self)
    return _fill_below(self, as_dtype(threshold, dtype), dtype, generator)


def _fill_below(self, p, dtype, generator):
    """Write ``uniform < p`` to ``self``; ``p`` a number, or a tensor in memory order of
    ``self``."""
    if self._storage.device is META or numel(self) == 0:
        return self
    vector = draw.drawn(empty((numel(self),), dtype),
                        lambda v: draw.uniform(v, 0, 1, generator))
    if not isinstance(p, float):
        p = draw.flat(contiguous(p))
    hits = ops.lt(vector, p)
    ordered = draw.memory_order(self)
    ops.copy_(ordered, draw.reshaped(hits, ordered._shape))
    return self


@composite("bernoulli(Tensor self, float? p=None, *, Generator? generator=None, Tensor? out=None)"
           " -> Tensor", fuse=False)
def bernoulli(self, p, generator):
    """1 with the probabilities in ``input`` (or ``p``), else 0; ``input``'s shape and dtype."""
    if p is None and not self.dtype.is_floating_point:
        raise NotImplementedError(
            f'"bernoulli_tensor_cpu_p_" not implemented for {_quoted(self.dtype)}')
    result = ops.empty_like(self)
    return ops.bernoulli_(result, self.detach() if p is None else p, generator=generator)


def _check_multinomial(self, num_samples, replacement):
    _need(self.dtype.is_floating_point,
          "multinomial only supports floating-point dtypes for input, got: "
          + _scalar_name(self.dtype))
    _need(len(self._shape) in (1, 2), "prob_dist must be 1 or 2 dim")
    _need(num_samples > 0, "cannot sample n_sample <= 0 samples")
    columns = self._shape[-1]
    _need(replacement or num_samples <= columns,
          "cannot sample n_sample > prob_dist.size(-1) samples without replacement")
    _need(columns <= 1 << 24, "number of categories cannot exceed 2^24")
    if self._storage.device is META or numel(self) == 0:
        return
    need_true(ops.logical_and(ops.ge(ops.amin(self), 0), ops.lt(ops.amax(self), math.inf)),
              RuntimeError("probability tensor contains either `inf`, `nan` or element < 0"))
    need_true(ops.gt(ops.amin(ops.sum(self, -1)), 0), RuntimeError(
        "invalid multinomial distribution (sum of probabilities <= 0)"))


@structured("multinomial(Tensor self, int num_samples, bool replacement=False, *, "
            "Generator? generator=None, Tensor? out=None) -> Tensor", differentiable=False,
            exact_out=True)
def multinomial(self, num_samples, replacement, generator):
    """``num_samples`` column indices for each row of weights ``(*, columns)``, int64.

    With replacement by inverting the cumulative weights; without, the largest of
    ``weight / exponential`` (Efraimidis and Spirakis, 2006), which is the same as drawing in turn.
    """
    _check_multinomial(self, num_samples, replacement)
    generator = chosen(generator, "multinomial")
    shape = (*self._shape[:-1], num_samples)
    if self._storage.device is META or 0 in shape:
        return empty(shape, dtypes.int64, self._storage.device)
    if not replacement or num_samples == 1:
        races = exponential_.host(ops.empty_like(self), 1.0, generator)
        keys = ops.div(self, races)
        if num_samples == 1:
            return ops.argmax(keys, -1, True)
        return ops.topk(keys, num_samples)[1]
    rows = numel(self) // self._shape[-1]
    weights = contiguous(as_dtype(self, dtypes.float64 if self.dtype is dtypes.float64
                                  else dtypes.float32))
    weights = draw.reshaped(weights, (rows, self._shape[-1]))
    total = empty(weights._shape, weights.dtype)
    run(kernels.cumulative, [("C", weights), ("C", total)], rows, 1)
    uniforms = draw.drawn(empty((rows * num_samples,), dtypes.float64),
                          lambda v: draw.uniform(v, 0, 1, generator))
    out = empty((rows, num_samples), dtypes.int64)
    run(kernels.choose, [("C", total), ("C", draw.reshaped(uniforms, out._shape)), ("C", out)],
        rows, 1)
    return draw.reshaped(out, shape)
