"""The registry: entries by name, and the callables made from their signatures.

A callable is generated from the signature, so that Python itself checks names and counts of
arguments; it hands the arguments, in schema order, to the interpreter bound at import of
``ntorch.tensor``: eager with a tape, or the tracer.
"""
import importlib
import inspect

from .schema import REQUIRED, parse

MODULES = (
    "arithmetic", "compare", "logic", "exponential", "trigonometric", "special", "activation",
    "activation_smooth", "activation_public", "division", "rounding", "complexes", "reductions",
    "extremes", "moments", "norms", "views", "splitting", "copying", "factories", "creation",
    "random", "dropout", "indexing", "sorting", "scans", "movement", "contraction",
    "affine_products", "products", "linalg", "convolution", "pooling", "normalization", "softmax",
    "embedding", "loss", "ctc", "recurrent_layers", "recurrent", "optim", "unique", "distance",
    "pooling_adaptive", "pooling_average", "pooling_tiles", "advanced", "scattering", "diagonals",
    "meshes", "padding", "normalization_planes", "random_factories", "embedding_bag", "masks",
    "loss_distance", "loss_pointwise", "slicing",
)
_entries = {}
_loaded = set()
_interpreter = {}
_PLAIN = {"int": int, "bool": bool, "float": float, "str": str}


class Entry:
    """One operation: signature, kernel, gradient rules and doc line.

    ``host(*arguments)`` computes the result, arguments in schema order; ``rules`` maps tuples of
    input names to gradient functions; ``inplace`` and ``out`` say which forms exist. ``fuse`` says
    whether the Python of a composite may make several kernels, which then run as one program.
    """

    is_reduction = False            # ``out`` may be part of the input
    verdicts = None         # of the fuser, by the form of a call

    def __init__(self, signature, host=None, *, inplace=False, method=True, namespace=None,
                 out=False, varargs=False, differentiable=True, composite=False, view=False,
                 inplace_only=False, exact_out=False, out_dtype=False, quiet=False, aliases=(),
                 fuse=None):
        self.signature = signature
        self.name = signature.partition("(")[0]
        if host is not None:
            self.host = self.python = host
        self.inplace, self.method, self.namespace = inplace, method, namespace
        self.out = out or "out=None" in signature
        self.native_out = False         # whether host takes out= itself
        self.varargs, self.composite, self.view = varargs, composite, view
        # foo_ with no out-of-place twin: writes its first argument
        self.inplace_only = inplace_only
        self.differentiable = differentiable
        # out must have the result's dtype, and unless this is "dtype" share no memory with inputs
        self.exact_out = exact_out
        self.out_dtype = out_dtype      # computes in the dtype of ``out`` where none is asked for
        self.quiet = quiet              # host records nothing, whatever the gradient mode is
        self.aliases = aliases
        self.fuse = fuse if composite else False    # None: ``may_fuse`` has not been asked yet
        self._rules = []

    def __getattr__(self, name):
        # parsed at the first use: hundreds of entries are registered, few are called in a process
        if name == "doc":
            self.doc = inspect.getdoc(self.host)
        elif name == "rules":
            self.rules = self._checked_rules()
        elif name in ("schema", "names", "tensor_positions", "converters"):
            self._parse()
        else:
            raise AttributeError(name)
        return self.__dict__[name]

    def _parse(self):
        self.schema = parse(self.signature)
        parameters = self.schema.parameters
        self.names = tuple(p.name for p in parameters)
        self.tensor_positions = tuple(i for i, p in enumerate(parameters) if p.is_tensor)
        self.converters = tuple((i, _unchanged(p), c) for i, p in enumerate(parameters)
                                if (c := _converter(self.name, i, p)) is not None)

    def _checked_rules(self):
        rules = {}
        for names, rule in self._rules:
            chosen = names or tuple(self.names[i] for i in self.tensor_positions)
            for name in chosen:
                if name not in self.names:
                    raise ValueError(f"{self.name}: no input {name!r} for a gradient rule")
            rules[chosen] = rule
        return rules

    def gradient(self, *names):
        """Decorator: the gradient rule of the inputs ``names`` (all tensor inputs if none given).

        The rule's argument names say what is saved: ``grad`` (``grad0``, ``grad1`` for several
        results, ``grads`` for all of them), any argument of the signature, ``<input>_form`` for the
        shape, strides, dtype and device of an input without its elements (nothing is kept alive),
        ``result`` (``result0``, ...), and ``needs``, a dict of which inputs want a gradient. It
        returns one gradient, or a tuple in the order of ``names``.
        """
        def attach(rule):
            self._rules.append((names, rule))
            return rule
        return attach

    def may_fuse(self):
        """Whether the Python of a composite may make several kernels."""
        if self.fuse is None:
            from .structure import may_fuse
            self.fuse = may_fuse(self.host)
        return self.fuse

    def convert(self, arguments):
        """Arguments with lists made tuples and types checked; TypeError in torch's words."""
        converted = None
        for index, unchanged, convert in self.converters:
            value = arguments[index]
            if type(value) is not unchanged:
                if converted is None:
                    converted = list(arguments)
                converted[index] = convert(value)
        return arguments if converted is None else tuple(converted)

    def write(self, arguments, out):
        """Compute into ``out`` if that needs no checks that were not made before; whether it
        did."""
        return False

    def __call__(self, *arguments, **keywords):
        return self.function(*arguments, **keywords)

    @property
    def function(self):
        """The public function ``name(input, ...)``."""
        made = self.__dict__.get("_function")
        if made is None:
            made = self._function = make_function(self, "function")
        return made

    def __repr__(self):
        return f"<entry {self.name}>"


def type_error(op, position, parameter, wanted, value):
    """The TypeError for an argument of the wrong type, in torch's words."""
    return TypeError(f"{op}(): argument '{parameter.public_name}' (position {position + 1}) must "
                     f"be {wanted}, not {_type_name(value)}")


def _type_name(value):
    return type(value).__name__


def _unchanged(parameter):
    """The one type whose values need no conversion: saves most arguments a call."""
    from .base import tensor_class
    if parameter.is_list or parameter.kind == "ScalarType":
        return type(None) if parameter.optional else None
    return tensor_class() if parameter.is_tensor else _PLAIN.get(parameter.kind)


def _int_list(op, position, parameter):
    from .base import integer

    length = parameter.length

    def convert(value):
        if type(value) is int:
            return (value,) * (length or 1)
        if value is None and (parameter.optional or parameter.default is None):
            return None
        if isinstance(value, (tuple, list)):
            found = tuple(v if type(v) is int else integer(v, op, parameter.public_name)
                          for v in value)
            if length and len(found) == 1 and length > 1:
                return found * length
            return found
        if length is None and not hasattr(value, "__index__"):
            raise type_error(op, position, parameter, "tuple of ints", value)
        return (integer(value, op, parameter.public_name),) * (length or 1)
    return convert


def _tensor(op, position, parameter):
    from .base import TensorBase

    def convert(value):
        if isinstance(value, TensorBase):
            return value
        if value is None and (parameter.optional or parameter.default is None):
            return None
        raise type_error(op, position, parameter, "Tensor", value)
    return convert


def _tensor_list(op, position, parameter):
    from .base import TensorBase

    def convert(value):
        if value is None and parameter.optional:
            return None
        if isinstance(value, TensorBase):
            value = value.unbind(0)
        if not isinstance(value, (tuple, list)):
            raise type_error(op, position, parameter, "tuple of Tensors", value)
        for index, item in enumerate(value):
            if not isinstance(item, TensorBase) and not (item is None and parameter.optional):
                raise TypeError(f"expected Tensor as element {index} in argument {position}, but "
                                f"got {_type_name(item)}")
        return tuple(value)
    return convert


def _plain(op, position, parameter):
    from .base import TensorBase, integer

    kind, nullable = parameter.kind, parameter.optional or parameter.default is None
    wanted = _PLAIN[kind]

    def convert(value):
        if type(value) is wanted:
            return value
        if value is None and nullable:
            return None
        if kind == "int" and not isinstance(value, (bool, float, str)):
            if getattr(value, "is_dynamic", False):
                return value
            if isinstance(value, TensorBase) or hasattr(value, "__index__"):
                return integer(value, op, parameter.public_name)
        elif kind == "float" and not isinstance(value, (str, bytes)) and hasattr(value,
                                                                                 "__float__"):
            return value if getattr(value, "is_dynamic", False) else float(value)
        elif kind == "bool" and isinstance(value, (int, bool)) or type(value).__name__ == "bool":
            return bool(value)
        if kind == "int" and isinstance(value, bool):
            return int(value)
        raise type_error(op, position, parameter, kind, value)
    return convert


def _scalar_type(op, position, parameter):
    from ..runtime.dtypes import dtype

    def check(value):
        if value is None or isinstance(value, dtype):
            return value
        raise type_error(op, position, parameter, "ntorch.dtype", value)
    return check


def _converter(op, position, parameter):
    """The check and conversion of one argument, or None where anything may pass."""
    if parameter.is_tensor:
        if parameter.is_list:
            return _tensor_list(op, position, parameter)
        return None if parameter.kind == "Operand" else _tensor(op, position, parameter)
    if parameter.kind == "int" and parameter.is_list:
        return _int_list(op, position, parameter)
    if parameter.kind == "ScalarType":
        return _scalar_type(op, position, parameter)
    if parameter.kind in _PLAIN and not parameter.is_list:
        return _plain(op, position, parameter)
    return None


def register(entry, function=None):
    """Put an entry (and its aliases) in the table; ValueError if the name is taken."""
    for name in (entry.name, *entry.aliases):
        if name in _entries:
            raise ValueError(f"op {name} has two entries")
        _entries[name] = entry
    return entry


def bind_interpreter(call, call_out, call_inplace):
    """Say who runs entries: ``call(entry, arguments)`` and its out= and in-place forms."""
    _interpreter.update(call=call, call_out=call_out, call_inplace=call_inplace)


def _signature(entry, inplace):
    """Parameter list text, default values, and the tuple of names to pass on."""
    parts, defaults, star = [], {}, False
    for p in entry.schema.parameters:
        if p.keyword_only and not star:
            parts.append("*")
            star = True
        if p.default is REQUIRED:
            parts.append(p.public_name)
        else:
            defaults["_d_" + p.name] = p.default
            parts.append(f"{p.public_name}=_d_{p.name}")
    if entry.out and not inplace:
        parts += ["out=None"] if star else ["*", "out=None"]
    passed = "".join(p.public_name + ", " for p in entry.schema.parameters)
    return ", ".join(parts), defaults, passed


def make_function(entry, form):
    """Generate the callable of an entry: ``form`` is ``function``, ``method`` or ``inplace``."""
    inplace = form == "inplace" or entry.inplace_only
    name = entry.name.split(".")[-1] + ("_" if form == "inplace" else "")
    text, scope, passed = _signature(entry, inplace)
    scope.update(_interpreter, entry=entry)
    lines = [f"def {name}({text}):"]
    if inplace:
        lines.append(f"    return call_inplace(entry, ({passed}))")
    else:
        if entry.out:
            lines += ["    if out is not None:",
                      f"        return call_out(entry, ({passed}), out)"]
        lines.append(f"    return call(entry, ({passed}))")
    exec(compile("\n".join(lines), "<ntorch>", "exec"), scope)
    function = scope[name]
    if entry.varargs and form != "function":
        function = _with_varargs(function, entry)
    function.__doc__ = entry.doc
    function.__module__ = "ntorch"
    function.__qualname__ = name
    return function


def _with_varargs(function, entry):
    """Accept ``x.view(2, 3)`` beside ``x.view((2, 3))``."""
    def method(self, *sizes, **keywords):
        if len(sizes) == 1 and not hasattr(sizes[0], "__index__") or not sizes and keywords:
            return function(self, *sizes, **keywords)
        return function(self, sizes, **keywords)
    method.__name__ = function.__name__
    return method


def load_all():
    """Import every module of entries; happens at the first use of an op."""
    if _loaded:
        return
    _loaded.add(True)
    for module in MODULES:
        importlib.import_module(f"{__package__}.entries.{module}")


def find(name):
    """The entry called ``name``, or None."""
    load_all()
    return _entries.get(name)


def entries():
    """All entries by name, aliases included."""
    load_all()
    return _entries


def of_namespace(space, name):
    """The callable of the entry ``name`` (or in-place ``name_``) if it lives in ``space``."""
    entry = find(name)
    if entry is None and name.endswith("_"):
        entry = find(name[:-1])
        if entry is not None and not entry.inplace:
            return None
    return None if entry is None or entry.namespace != space else getattr(ops, name)


def namespace(name):
    """``{public name: callable}`` of the entries that live in ``name``, such as nn.functional."""
    found = {}
    for key, entry in entries().items():
        if entry.namespace == name:
            found[key] = entry.function
            if entry.inplace:
                found[key + "_"] = getattr(ops, key + "_")
    return found


class _Ops:
    """``ops.<name>``: every entry's callable, ``ops.<name>_`` its in-place form."""

    def __getattr__(self, name):
        entry = find(name)
        if entry is not None:
            function = entry.function
        else:
            entry = find(name[:-1]) if name.endswith("_") else None
            if entry is None or not entry.inplace:
                raise AttributeError(f"ntorch has no op {name!r}")
            function = make_function(entry, "inplace")
        setattr(self, name, function)
        return function


ops = _Ops()
