"""The pointwise family: one scalar expression, applied to broadcast operands.

The first call with given types, shapes and strides makes a *plan* (promotion, broadcasting, loop
kernel, geometry); later calls go from a dictionary hit to the kernel.
"""
import functools

from ..runtime import build, dtypes, launch, recording
from ..runtime.device import CPU, META
from ..runtime.storage import Storage
from .base import (
    Size,
    TensorBase,
    broadcast_shapes,
    broadcast_strides,
    checked_nbytes,
    contiguous_strides,
    is_contiguous,
    make,
    product,
)
from .dtype_rules import result_type, same
from .loops import Signature
from .loops import kernel as loop_kernel
from .outputs import write_key
from .registry import Entry, ops, register, type_error

GRAIN = 32768       # elements in one task: about 10 us of a cheap expression
MAX_PLANS = 8192    # plans kept per entry before the table is dropped


def pointwise(signature, dtype=same, **flags):
    """Register a scalar function as the entry of ``signature``.

    ``Tensor`` and ``Operand`` (a tensor or a number) parameters take part in promotion and
    broadcasting; ``Scalar`` parameters reach the expression in the compute type. ``dtype`` is a
    rule of ``dtype_rules``; ``check(arguments, promoted)`` may refuse more (it sees dtypes and the
    types of numbers; its verdict is kept for calls with the same). Number literals in the function
    take the compute type.
    """
    def attach(scalar):
        scalar.__scalar__ = True
        return register(PointwiseEntry(signature, scalar, dtype, **flags))
    return attach


class Plan:
    """A decided call: kernel, packer, slots after the pointers, and the result's form."""

    __slots__ = ("call", "kernel", "pack", "extra", "n", "grain", "dtype", "shape", "strides",
                 "nbytes", "convert")


def _host(entry):
    """Generate ``host(arguments..., out=None)``: what identifies a call is collected without loops,
    for this is the path of every small operation."""
    names = [f"a{i}" for i in range(len(entry.schema.parameters))]
    every = ", ".join(names) + ","
    lines = [f"def host({every} out=None):", "    if out is not None:",
             f"        return into(({every}), out)", "    slots = []"]
    for i, name in enumerate(names):
        if entry.schema.parameters[i].is_tensor:
            lines += [f"    if isinstance({name}, TensorBase):",
                      f"        if {name}._storage.device is not CPU:",
                      f"            return elsewhere(({every}))",
                      f"        k{i} = ({name}.dtype, {name}._shape, {name}._strides)",
                      f"        slots.append({name}._address)", "    else:",
                      f"        k{i} = type({name})"]
        else:
            lines.append(f"    k{i} = type({name})")
    key = ", ".join(f"k{i}" for i in range(len(names))) + ","
    lines.append(f"    return finish(({key}), ({every}), slots)")
    scope = {"TensorBase": TensorBase, "CPU": CPU, "into": entry._into, "finish": entry._finish,
             "elsewhere": entry._elsewhere}
    exec(compile("\n".join(lines), "<ntorch>", "exec"), scope)
    return scope["host"]


class PointwiseEntry(Entry):
    """An entry whose kernel is a loop around ``scalar``."""

    def __init__(self, signature, scalar, rule, **flags):
        self.check = flags.pop("check", None)       # check(arguments, promoted type) raises
        flags.setdefault("inplace", True)
        flags.setdefault("out", True)
        super().__init__(signature, None, **flags)
        self.scalar, self.rule = scalar, rule
        self.doc = (scalar.__doc__ or "").strip()
        self.native_out = True
        self.quiet = True
        self.plans, self.write_plans = {}, {}

    def __getattr__(self, name):
        if name == "host":
            self.host = _host(self)
        elif name == "operands":
            self.operands = tuple(p.kind in ("Tensor", "Operand") for p in self.schema.parameters)
        elif name == "n_results":
            self.n_results = self.schema.n_results
        else:
            return super().__getattr__(name)
        return self.__dict__[name]

    def _finish(self, key, arguments, slots):
        """Run the plan of ``key`` on operands at ``slots``; the first call makes it."""
        if recording.active and (recorder := recording.current()) is not None:
            return recorder.map(self, arguments)
        plan = self.plans.get(key)
        if plan is None:
            plan = self._remember(key, self._plan(arguments, None))
        if self.n_results > 1:
            return self._run_many(plan, arguments, slots)
        storage = Storage(plan.nbytes)
        slots.append(storage.address)
        if plan.convert is not None:
            _copies = plan.convert(arguments, slots)    # live until the loop is through
        n = plan.n
        if n <= GRAIN:
            if n:
                plan.call(plan.pack(*slots, *plan.extra), 0, n)
        else:
            launch.run_table(plan.kernel, plan.pack(*slots, *plan.extra), n, GRAIN)
        return make(storage, plan.dtype, plan.shape, plan.strides, 0)

    def _run_many(self, plan, arguments, slots):
        results = []
        for dtype in plan.dtype:
            storage = Storage(plan.nbytes // max(d.itemsize for d in plan.dtype) * dtype.itemsize)
            results.append(make(storage, dtype, plan.shape, plan.strides, 0))
            slots.append(storage.address)
        if plan.convert is not None:
            _copies = plan.convert(arguments, slots)
        launch.run_table(plan.kernel, plan.pack(*slots, *plan.extra), plan.n, GRAIN)
        return tuple(results)

    def _remember(self, key, plan):
        if len(self.plans) >= MAX_PLANS:
            self.plans.clear()
        self.plans[key] = plan
        return plan

    def _elsewhere(self, arguments):
        """Operands that are not all on the CPU: meta results, or an error that names the
        devices."""
        devices = {a._storage.device for a in arguments if isinstance(a, TensorBase) and a._shape}
        devices = devices or {a._storage.device for a in arguments if isinstance(a, TensorBase)}
        if len(devices) > 1:
            raise RuntimeError(f"{self.name}: Expected all tensors to be on the same device, but "
                               f"found at least two devices, {' and '.join(map(str, devices))}! "
                               "Move them with .to(device).")
        plan = self._plan(arguments, None, meta=True)
        kinds = plan.dtype if self.n_results > 1 else (plan.dtype,)
        made = tuple(make(Storage(plan.nbytes, META), d, plan.shape, plan.strides, 0)
                     for d in kinds)
        return made if self.n_results > 1 else made[0]

    def _into(self, arguments, out):
        outs = out if isinstance(out, tuple) else (out,)
        if recording.active and (recorder := recording.current()) is not None:
            if outs[0]._storage.device is not META:
                recorder.map(self, arguments, outs)
                return out
        if len(outs) > 1 or outs[0]._storage.device is META:
            plan = self._plan(arguments, outs, meta=outs[0]._storage.device is META)
            if outs[0]._storage.device is not META:
                self._run_into(plan, arguments, outs)
            return out
        key = write_key(arguments, outs[0])
        plan = self.write_plans.get(key)
        if plan is None:
            plan = self._plan(arguments, outs)
            if len(self.write_plans) >= MAX_PLANS:
                self.write_plans.clear()
            if key is not None:
                self.write_plans[key] = plan
        self._run_into(plan, arguments, outs)
        return out

    def _run_into(self, plan, arguments, outs):
        slots = [a._address for a in arguments if isinstance(a, TensorBase)]
        slots += [o._address for o in outs]
        if plan.convert is not None:
            _copies = plan.convert(arguments, slots)
        launch.run_table(plan.kernel, plan.pack(*slots, *plan.extra), plan.n, GRAIN)

    def write(self, arguments, out):
        """Run a call that writes ``out`` if one like it has passed all checks before; whether it
        has."""
        key = write_key(arguments, out)
        plan = self.write_plans.get(key) if key is not None else None
        if plan is None or recording.active and recording.current() is not None:
            return False
        self._run_into(plan, arguments, (out,))
        return True

    def result_types(self, arguments):
        """(compute type, result type) of a call."""
        operands = [a for a, is_operand in zip(arguments, self.operands, strict=True) if is_operand]
        try:
            promoted = result_type(operands)
        except TypeError:
            self._check_numbers(arguments)
            raise
        if self.check is not None:
            self.check(arguments, promoted)
        try:
            return self.rule(promoted)
        except RuntimeError as error:
            raise type(error)(f'"{self.name}_cpu" {error}') from None

    def _check_numbers(self, arguments):
        """TypeError unless all that are not tensors are numbers."""
        for position, value in enumerate(arguments):
            if not isinstance(value, TensorBase):
                try:
                    dtypes.of_scalar(value)
                except TypeError:
                    raise type_error(self.name, position, self.schema.parameters[position],
                                     "Tensor" if self.operands[position] else "Number",
                                     value) from None

    def result_shape(self, arguments):
        """The broadcast shape of a call."""
        return broadcast_shapes(*[a._shape for a in arguments if isinstance(a, TensorBase)])

    def _plan(self, arguments, outs, meta=False):
        tensors = [a for a in arguments if isinstance(a, TensorBase)]
        if not tensors and outs is None:
            raise TypeError(f"{self.name}(): expected at least one Tensor argument, got "
                            f"{[type(a).__name__ for a in arguments]}")
        if tensors:
            compute, result = self.result_types(arguments)
            # a copy broadcasts into what it writes
            shape = self.result_shape(arguments) if outs is None else outs[0]._shape
        else:               # a constant expression written into out: fill_
            compute, result, shape = outs[0].dtype, outs[0].dtype, outs[0]._shape
        plan = Plan()
        plan.shape, plan.n = shape, product(shape)
        results = result if isinstance(result, tuple) else (result,) * self.n_results
        plan.dtype = results if self.n_results > 1 else result
        if outs is not None:
            results = tuple(o.dtype for o in outs)
            out_strides = [o._strides for o in outs]
        else:
            plan.strides = _result_strides(shape, tensors)
            plan.nbytes = max(checked_nbytes(shape, d) for d in results)
            out_strides = [plan.strides] * self.n_results
        if meta:
            plan.convert = plan.pack = None
            return plan
        inputs = [(a.dtype, broadcast_strides(a, shape)) for a in tensors]
        outputs = list(zip(results, out_strides, strict=True))
        alias = _aliases(tensors, outs) if outs is not None else ()
        from .turning import copying_first, straight
        inputs, copies = straight(shape, inputs, out_strides[0], {k for _, k in alias})
        self._geometry(plan, arguments, inputs, outputs, compute, alias)
        if copies:
            plan.convert = copying_first(copies, plan.convert)
        return plan

    def _geometry(self, plan, arguments, inputs, outputs, compute, alias):
        """Choose the loop kernel and lay out the slots that follow the pointers."""
        self._check_numbers(arguments)
        order, kinds, converters = _argument_order(arguments, self.operands, compute)
        operands = inputs + outputs
        sizes, strides = coalesce(plan.shape, [s for _, s in operands])
        layouts = "".join(_layout(s[0] if s else 1, k >= len(inputs), sizes[:1] == [1])
                          for k, s in enumerate(strides))
        flat = len(sizes) <= 1 and "A" not in layouts
        codes = tuple(d.code for d, _ in operands)
        signature = Signature(order, codes, len(inputs), kinds, compute.compute, layouts,
                                    flat,
                                    alias)
        result = self.rule(compute)[1]
        if compute.is_complex and not (isinstance(result, tuple) or result.is_complex):
            signature.result = result.code      # the expression gives a real number: abs, ==
        plan.kernel = loop_kernel(self.scalar, signature, self.name)
        plan.call = plan.kernel.call
        extra = []
        if not flat:
            sizes, strides = sizes or [1], [s or [0] for s in strides]
            extra = [len(sizes) - 1, sizes[0], *sizes[1:]]
            for stride in strides:
                extra += stride
        plan.extra = tuple(extra)
        plan.convert = _converter(converters)
        n_scalars = sum(2 if k == "z" else 1 for k in kinds)
        plan.pack = launch.packer(len(operands) + n_scalars + len(extra))


def _layout(inner_stride, is_output, single):
    if inner_stride == 1 or single and is_output:
        return "C"
    if inner_stride == 0 and not is_output:
        return "B"
    return "A"


def _argument_order(arguments, operands, compute):
    """Where the expression's arguments come from, the kinds of scalars, and their converters."""
    order, kinds, converters, tensor = [], [], [], 0
    for position, value in enumerate(arguments):
        if isinstance(value, TensorBase):
            order.append(("t", tensor))
            tensor += 1
            continue
        kind = ("z" if compute.is_complex else "T" if compute.is_floating_point else "i")
        order.append(("s", len(kinds)))
        kinds.append(kind)
        converters.append((position, kind))
    return tuple(order), tuple(kinds), converters


def _converter(converters):
    """A function that appends the scalar arguments' slots, or None if there are none."""
    if not converters:
        return None
    bits = build.double_bits
    if len(converters) == 1:
        position, kind = converters[0]
        if kind == "T":
            return lambda arguments, slots: slots.append(bits(arguments[position]))
        if kind == "i":
            return lambda arguments, slots: slots.append(_wrapped(arguments[position]))

    def convert(arguments, slots):
        for position, kind in converters:
            value = arguments[position]
            if kind == "T":
                slots.append(bits(value))
            elif kind == "i":
                slots.append(_wrapped(value))
            else:
                value = complex(value)
                slots += (bits(value.real), bits(value.imag))
    return convert


def _wrapped(value):
    """An integer as the int64 with the same low bits."""
    value = int(value)
    return value if -(1 << 63) <= value < 1 << 63 else (value + (1 << 63)) % (1 << 64) - (1 << 63)


def _result_strides(shape, tensors):
    """Row-major strides, or the permuted dense order that all full-size inputs share, as in
    torch."""
    full = [t for t in tensors if t._shape == shape]
    if not full or any(is_contiguous(t._shape, t._strides) for t in full):
        return contiguous_strides(shape)
    leader = full[0]._strides
    order = sorted(range(len(shape)), key=lambda d: (-leader[d], d))
    strides, step = [0] * len(shape), 1
    for d in reversed(order):
        strides[d] = step
        step *= max(shape[d], 1)
    return tuple(strides)


def coalesce(shape, strides):
    """Sizes and per-operand strides, innermost first, with adjacent dimensions merged where all
    operands step through them as one. Dimensions are ordered by the last operand's strides."""
    dims = [d for d, size in enumerate(shape) if size != 1]
    dims.sort(key=lambda d: [abs(s[d]) or (1 << 62) for s in reversed(strides)] + [-d])
    sizes, merged = [], [[] for _ in strides]
    for d in dims:
        if sizes and all(m[-1] * sizes[-1] == s[d] for m, s in zip(merged, strides, strict=True)):
            sizes[-1] *= shape[d]
            continue
        sizes.append(shape[d])
        for m, s in zip(merged, strides, strict=True):
            m.append(s[d])
    return sizes, merged


def _aliases(tensors, outs):
    """``((output operand, input operand), ...)`` that are the same elements: in-place calls."""
    found = []
    for o, out in enumerate(outs):
        for k, t in enumerate(tensors):
            if (t._address == out._address and t.dtype is out.dtype and t._shape == out._shape
                    and t._strides == out._strides):
                found.append((len(tensors) + o, k))
                break
    return tuple(found)


@functools.cache
def cast_entry():
    """The entry that copies with conversion; its expression is the identity."""
    return ops.to_dtype


__all__ = ["PointwiseEntry", "Size", "coalesce", "dtypes", "pointwise"]
