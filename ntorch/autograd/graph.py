"""The tape: nodes, edges, saved tensors, and how the call of an entry is recorded.

``call`` is the interpreter that the table's callables use: it runs an entry eagerly and, when a
gradient is wanted, attaches a node to the results.
"""

from .. import eager
from ..ops.base import TensorBase
from ..ops.registry import ops
from ..ops.structure import may_fuse
from ..runtime.dtypes import FLOAT
from .fusing import fuser, gives_large, is_large
from .modes import state
from .node import FREED, Node, SavedTensor, edge_of, sequence_numbers


class Form:
    """The form of an input without its elements: what a rule gets for ``<input>_form``."""

    __slots__ = ("_shape", "_strides", "_offset", "dtype", "device")

    def __init__(self, tensor):
        self._shape, self._strides = tensor._shape, tensor._strides
        self._offset, self.dtype, self.device = tensor._offset, tensor.dtype, tensor._storage.device

    shape = property(lambda self: self._shape)


class _Record:
    """What to save and which rules to run for one pattern of inputs that want gradients."""

    __slots__ = ("rules", "saved", "results", "positions", "forms", "used", "verdicts", "several")

    def __init__(self, entry, wanted):
        names = {entry.names[i] for i in wanted}
        self.positions = wanted
        self.rules, used = [], set()
        for targets, rule in entry.rules.items():
            if names & set(targets):
                parameters = rule.__code__.co_varnames[:rule.__code__.co_argcount]
                self.rules.append((targets, rule, parameters))
                used |= set(parameters)
        self.saved = tuple(i for i, name in enumerate(entry.names) if name in used)
        self.forms = tuple(i for i, name in enumerate(entry.names) if name + "_form" in used)
        self.results = tuple(k for k in range(max(entry.schema.n_results, 1))
                             if f"result{k}" in used or k == 0 and "result" in used)
        self.used, self.several, self.verdicts = used, None, None

    def may_fuse(self):
        """Whether the rules may launch several kernels; asked once."""
        self.several = may_fuse(*[rule for _, rule, _ in self.rules], by_operators=True)
        return self.several


class EntryNode(Node):
    """The node of an entry of the table; subclasses carry its name."""

    entry = None

    def __init__(self, record, arguments, inputs, edges):
        self.record, self.inputs, self.edges = record, inputs, edges
        self.sequence = next(sequence_numbers)
        self.arguments = tuple([_pack(arguments[i]) for i in record.saved])
        if record.forms:
            self.forms = tuple([_form(arguments[i]) for i in record.forms])

    def save_results(self, results):
        """Keep the results that the rules name."""
        self.results = tuple((k, SavedTensor(results[k], True, k)) for k in self.record.results)

    def release(self):
        # a node that keeps no tensor may run again, as in torch
        if self.results or any(type(a) in (SavedTensor, list) for a in self.arguments):
            self.arguments = self.results = None
            self.released = True

    def apply(self, grads):
        if self.released:
            raise RuntimeError(FREED)
        values, several = self._values(grads), self.record.several
        if several is not False and not state.enabled and gives_large(self.inputs) and (
                several or self.record.may_fuse()) and (fused := fuser()) is not None:
            return fused.run_rules(self, values)
        return self.run_rules(values)

    def run_rules(self, values):
        """Gradients of the inputs from ``values``, what the rules name in their arguments."""
        entry, record, found = self.entry, self.record, {}
        for targets, rule, parameters in record.rules:
            got = rule(*[values[p] for p in parameters])
            if len(targets) == 1:
                found[targets[0]] = got
            else:
                found.update(zip(targets, got, strict=True))
        flat = []
        for position, meta in self.inputs:
            name = entry.names[position]
            if name not in found:
                raise RuntimeError(f"derivative for {entry.name} with respect to '{name}' is not "
                                   "implemented")
            got = found[name]
            if type(meta) is list:
                flat += (list(got) if got is not None else [None] * len(meta))
            else:
                flat.append(fit(got, meta) if got is not None else None)
        return flat

    def _values(self, grads):
        entry, record = self.entry, self.record
        values = {}
        for i, saved in zip(record.saved, self.arguments, strict=True):
            values[entry.names[i]] = _unpack(saved, self)
        for i in record.forms:
            values[entry.names[i] + "_form"] = self.forms[record.forms.index(i)]
        for k, saved in self.results:
            values[f"result{k}"] = saved.unpack(self)
            if k == 0:
                values["result"] = values["result0"]
        values["grads"] = grads             # for ops with as many results as the input says
        values["grad"] = values["grad0"] = grads[0]
        for k, grad in enumerate(grads[1:], 1):
            values[f"grad{k}"] = grad
        needs = {name: False for name in entry.names}
        start = 0
        for position, meta in self.inputs:
            width = len(meta) if type(meta) is list else 1
            needs[entry.names[position]] = any(self.edges[start:start + width])
            start += width
        values["needs"] = needs
        return values


def _form(value):
    if isinstance(value, TensorBase):
        return Form(value)
    if isinstance(value, tuple):
        return tuple([_form(v) for v in value])
    return value


def _pack(value):
    if isinstance(value, TensorBase):
        return SavedTensor(value)
    if isinstance(value, tuple) and any(isinstance(v, TensorBase) for v in value):
        return [SavedTensor(v) if isinstance(v, TensorBase) else v for v in value]
    return value


def _unpack(saved, node):
    if type(saved) is SavedTensor:
        return saved.unpack(node)
    if type(saved) is list:
        return tuple(s.unpack(node) if type(s) is SavedTensor else s for s in saved)
    return saved


def fit(grad, meta):
    """``grad`` in the shape and type of its input: broadcasting is summed, complex made real."""
    shape, dtype, _ = meta
    if grad._shape != shape:
        grad = ops.sum_to_size(grad, shape)
    if grad.dtype is not dtype:
        if grad.dtype.is_complex and not dtype.is_complex:
            grad = ops.real(grad)
        if grad.dtype is not dtype:
            grad = ops.to_dtype(grad, dtype)
    return grad


_classes = {}


def backward_name(entry):
    """What torch calls the node of an entry: ``AddBackward0`` for ``add``."""
    words = entry.name.replace(".", "_").split("_")
    return getattr(entry, "backward_name", None) or (
        "".join(w[:1].upper() + w[1:] for w in words) + "Backward0")


def node_class(entry):
    """The class of the nodes of an entry."""
    found = _classes.get(entry.name)
    if found is None:
        found = _classes[entry.name] = type(backward_name(entry), (EntryNode,), {"entry": entry})
        entry.records = {}
    return found


def _wanted(entry, arguments):
    """Positions of tensor arguments that require gradients."""
    wanted = []
    for i in entry.tensor_positions:
        value = arguments[i]
        if isinstance(value, TensorBase):
            if value._requires_grad:
                wanted.append(i)
        elif type(value) is tuple and any(
                isinstance(v, TensorBase) and v._requires_grad for v in value):
            wanted.append(i)
    return tuple(wanted)


def start_node(entry, arguments, wanted):
    """The node of a call: edges to the inputs, arguments saved; results are saved later."""
    cls = _classes.get(entry.name) or node_class(entry)
    record = entry.records.get(wanted)
    if record is None:
        record = entry.records[wanted] = _Record(entry, wanted)
    inputs, edges = [], []
    for i in wanted:
        value = arguments[i]
        if type(value) is tuple:
            inputs.append((i, [None] * len(value)))
            edges += [edge_of(v) if isinstance(v, TensorBase) else None for v in value]
        else:
            inputs.append((i, (value._shape, value.dtype, value._storage.device)))
            edges.append(edge_of(value))
    node = cls(record, arguments, inputs, edges)
    if state.anomaly:
        from .anomaly import call_site
        node.trace = call_site()
    return node


def finish_node(node, results):
    """Attach ``node`` to the floating results."""
    node.save_results(results)
    node.outputs = tuple([(r._shape, r.dtype, r._storage.device) for r in results])
    for k, result in enumerate(results):
        if result.dtype.category >= FLOAT:
            result._grad_fn, result._output_nr, result._requires_grad = node, k, True


def call(entry, arguments):
    """Run an entry and record it if a gradient is wanted: the interpreter behind every op."""
    if entry.converters:
        arguments = entry.convert(arguments)
    if entry.composite:
        if (entry.fuse is not False and is_large(arguments) and entry.may_fuse()
                and (fused := fuser()) is not None):
            return fused.run_composite(entry, arguments)
        return entry.python(*arguments)
    host = entry.host if state.tracer is None else state.tracer.host(entry)
    if entry.differentiable and state.enabled:
        for i in entry.tensor_positions:
            # a tuple of tensors has no such attribute and is looked into
            value = arguments[i]
            if getattr(value, "_requires_grad", type(value) is tuple) and (
                    wanted := _wanted(entry, arguments)):
                return _recorded(entry, arguments, wanted, host)
    if entry.quiet:
        result = host(*arguments)
    else:
        previous, state.enabled = state.enabled, False
        try:
            result = host(*arguments)
        finally:
            state.enabled = previous
    if state.inference or entry.view:
        _mark(entry, result)
    return result


def _mark(entry, result):
    for r in result if isinstance(result, (tuple, list)) else (result,):
        if isinstance(r, TensorBase):
            if state.inference:
                r._inference = True
            if r._base is not None:
                r._rebased = r._base._rebased


def _recorded(entry, arguments, wanted, host):
    node = start_node(entry, arguments, wanted)
    state.enabled = False
    try:
        result = host(*arguments)
    finally:
        state.enabled = True
    if type(result) in (tuple, list):
        finish_node(node, result)
    else:
        finish_node(node, (result,))
    if entry.view:
        _mark(entry, result)
    return result


def call_out(entry, arguments, out):
    """The ``out=`` form, which never records."""
    if entry.converters:
        arguments = entry.convert(arguments)
    outs = out if isinstance(out, (tuple, list)) else (out,)
    for tensor in outs:
        if not isinstance(tensor, TensorBase):
            raise TypeError(f"{entry.name}(): argument 'out' must be Tensor, not "
                            f"{type(tensor).__name__}")
    if state.enabled:
        if _wanted(entry, arguments):
            raise RuntimeError(f"{entry.name}(): functions with out=... arguments don't support "
                               "automatic differentiation, but one of the arguments requires grad.")
        if any(t._requires_grad for t in outs):
            raise RuntimeError(f"{entry.name}(): functions with out=... arguments don't support "
                               "automatic differentiation, but one of the arguments requires grad.")
    previous, state.enabled = state.enabled, False
    try:
        if state.tracer is None:
            result = eager.run_out(entry, arguments, out)
        else:
            result = state.tracer.run_out(entry, arguments, out)
    finally:
        state.enabled = previous
    for tensor in outs:
        tensor._storage.version += 1
    return result


def __getattr__(name):
    """The public names of ``torch.autograd.graph`` that live with the hooks on saved tensors."""
    if name in ("saved_tensors_hooks", "save_on_cpu", "disable_saved_tensors_hooks"):
        from . import saved
        return getattr(saved, name)
    raise AttributeError(f"module 'ntorch.autograd.graph' has no attribute {name!r}")
