"""Launches for single nodes: the kernels that eager has for them, with pointers for addresses.

``lower`` is what is left for a node that ``fuse`` has nothing to fuse with.
"""
from ..ops import loops
from ..ops.base import contiguous_strides, product
from ..ops.pointwise import _layout, _wrapped, coalesce
from ..ops.reduction import Plan as ReductionPlan
from ..runtime import build
from ..runtime.device import CPU
from .ir import Dynamic, IntSlot, Launch, Map, Pointer, Reduce, View, Zero

GRAIN = 32768       # elements in one task


def number_kind(compute):
    """How a number operand reaches an expression in dtype ``compute``: "z", "T" or "i"."""
    return "z" if compute.is_complex else "T" if compute.is_floating_point else "i"


def number_slots(value, kind):
    """The slots of a number operand."""
    if kind == "z":
        value = complex(value.value if type(value) is Dynamic else value)
        return [build.double_bits(value.real), build.double_bits(value.imag)]
    if type(value) is Dynamic:
        return [value] if kind == "T" else [IntSlot(value)]
    return [build.double_bits(float(value)) if kind == "T" else _wrapped(value)]


def pointer_of(view):
    """The slot that holds the address of a view's first element."""
    return Pointer(view.buffer, view.offset * view.dtype.itemsize)


def nothing(view):
    """A node that writes no byte of an empty view, so that it counts as written."""
    return Zero(pointer_of(view), 0)


def lower(node, graph):
    """The launches of one ``Map`` or ``Reduce``, by eager's kernels; other nodes are returned as
    they are. Temporaries are made in ``graph``."""
    if isinstance(node, Map):
        made = _lower_map(node)
    elif isinstance(node, Reduce):
        made = _lower_reduce(node, graph)
    else:
        return [node]
    for step in made:
        step.origin = node.origin
    return made


def launch(name, kernel, slots, n, grain, writes):
    """A launch that writes ``writes`` and only reads its other buffers."""
    made = Launch(name, kernel, slots, n, grain)
    made.writes = set(writes)
    return made


def _lower_map(node):
    views = [o for o in node.operands if type(o) is View]
    every, n_in = [*views, *node.results], len(views)
    if 0 in node.shape:
        return [nothing(view) for view in node.results]
    order, numbers = [], []
    for operand in node.operands:
        if type(operand) is View:
            order.append(("t", sum(k == "t" for k, _ in order)))
        else:
            order.append(("s", len(numbers)))
            numbers.append(operand)
    kind = number_kind(node.compute)
    sizes, strides = coalesce(node.shape, [v.strides for v in every])
    layouts = "".join(_layout(s[0] if s else 1, k >= n_in, sizes[:1] == [1])
                      for k, s in enumerate(strides))
    flat = len(sizes) <= 1 and "A" not in layouts
    alias = tuple((n_in + o, views.index(r)) for o, r in enumerate(node.results) if r in views)
    signature = loops.Signature(tuple(order), tuple(v.dtype.code for v in every), n_in,
                                (kind,) * len(numbers), node.compute.compute, layouts, flat, alias)
    signature.result = node.result_code
    slots = [pointer_of(v) for v in every]
    for number in numbers:
        slots += number_slots(number, kind)
    if not flat:
        sizes, strides = sizes or [1], [s or [0] for s in strides]
        slots += [len(sizes) - 1, *sizes]
        for stride in strides:
            slots += stride
    kernel = loops.kernel(node.scalar, signature, node.name)
    return [launch(node.name, kernel, slots, product(node.shape), GRAIN,
                    {r.buffer for r in node.results})]


class _Form:
    """What a reduction plan asks of a tensor: dtype, shape, strides, device."""

    device = CPU

    def __init__(self, view):
        self.dtype, self._shape, self._strides, self._storage = (
            view.dtype, view.shape, view.strides, self)


def copy_scalar(x):
    """The identity."""
    return x


copy_scalar.__scalar__ = True


def _lower_reduce(node, graph):
    result = node.result
    if 0 in result.shape:
        return [nothing(result)]
    plan = ReductionPlan(node.entry, _Form(node.source), node.dims, False, node.compute,
                         result.dtype)
    if plan.constant is not None:
        return _lower_map(Map(node.name, copy_scalar, result.dtype, (plan.constant,), (result,),
                              result.dtype.compute))
    target = result
    if not _dense(result):
        buffer = graph.buffer(plan.nbytes, "temp")
        target = View(buffer, result.dtype, result.shape, contiguous_strides(result.shape), 0)
    source = pointer_of(node.source)
    kernel, rest, n, grain = plan.steps[0]
    if len(plan.steps) == 1:
        made = [launch(node.name, kernel, [source, pointer_of(target), *rest], n, grain,
                        {target.buffer})]
    else:
        partial = graph.buffer(plan.partial, "temp")
        made = [launch(node.name, kernel, [source, Pointer(partial, 0), *rest], n, grain,
                        {partial})]
        kernel, rest, n, grain = plan.steps[1]
        made.append(launch(node.name, kernel, [Pointer(partial, 0), pointer_of(target), *rest], n,
                            grain, {target.buffer}))
    if target is not result:
        made += _lower_map(Map("copy", copy_scalar, result.dtype, (target,), (result,),
                               result.dtype.compute))
    return made


def _dense(view):
    """Whether a view is row-major without gaps."""
    step = 1
    for size, stride in zip(reversed(view.shape), reversed(view.strides), strict=True):
        if size != 1 and stride != step:
            return False
        step *= size
    return True

