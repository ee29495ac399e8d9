"""``jit.load``: run programs that ``jit.save`` wrote, without their Python code and without Numba.

Everything in the file is checked before anything of it is linked or run: sizes, SHA-256 of every
record, the processor it was built for, and that no relocation, step or view reaches outside the
memory it belongs to. What kernels do with the memory they are handed cannot be checked.
"""
import collections
import contextlib
import json
import os

from ..ops.base import TensorBase, make
from ..ops.registry import ops
from ..runtime import build, load
from ..runtime.archive import ArchiveReader
from ..runtime.dtypes import BY_NAME
from ..runtime.fingerprint import fingerprint
from ..runtime.storage import Storage
from . import stored_checks
from .saving import FORMAT, VERSION, runtime_functions
from .stored_program import StoredProgram
from .stored_validation import Damaged, checked_record, validate
from .tree import tensors_of


def load_program(file):
    """The ``LoadedProgram`` of a file (a path or a seekable binary file) written by ``jit.save``.

    RuntimeError if the file is damaged, of another version, or was built for a processor with
    instructions that this one lacks.
    """
    with contextlib.ExitStack() as stack:
        if isinstance(file, (str, os.PathLike)):
            file = stack.enter_context(open(file, "rb"))
        reader = ArchiveReader(file)
        body = _body(reader)
        _check_target(body)
        try:
            validate(body)
        except (KeyError, TypeError, IndexError, ValueError, AttributeError) as error:
            raise Damaged(f"{type(error).__name__}: {error}") from None
        weights = [_weight(reader, number, entry) for number, entry in enumerate(body["weights"])]
        objects = [checked_record(reader, f"kernels/{entry['key']}.o", entry["size"],
                                  entry["sha256"]) for entry in body["kernels"]]
    return LoadedProgram(body, weights, _kernels(body, objects))


def _body(reader):
    """``program.json``, its digest checked."""
    if "program.json" not in reader or "digest" not in reader:
        raise RuntimeError("jit.load: the file holds no program; expected one that jit.save wrote "
                           "(ntorch.load reads checkpoints)")
    text = checked_record(reader, "program.json", None, reader.read("digest").decode("latin-1"))
    try:
        body = json.loads(text)
    except ValueError as error:
        raise Damaged(str(error)) from None
    if not isinstance(body, dict) or body.get("format") != FORMAT:
        raise RuntimeError("jit.load: the file holds no program of ntorch")
    if body.get("version") != VERSION:
        raise RuntimeError(f"jit.load: the file has version {body.get('version')}, this ntorch "
                           f"reads version {VERSION}; save the program with this ntorch")
    return body


def _check_target(body):
    if body.get("platform") != load.platform():
        raise RuntimeError(f"jit.load: the program was built for {body.get('platform')}, this "
                           f"machine is {load.platform()}")
    missing = load.lacking(str(body.get("target")))
    if missing:
        name = str(body["target"]).partition(";")[0]
        raise RuntimeError(
            f"jit.load: the program was built for the processor {name!r}; this one lacks "
            f"{', '.join(missing)}. Save it on this machine, or with NTORCH_CPU set to a processor "
            "that both can stand in for, such as x86-64-v3")


def _weight(reader, number, entry):
    """A storage with the bytes of a record."""
    name, nbytes = f"weights/{number}", entry["nbytes"]
    if reader.size(name) != nbytes:
        raise Damaged(f"record {name!r} has {reader.size(name)} bytes, expected {nbytes}")
    storage = Storage(nbytes)
    array = storage.numpy()
    if nbytes:
        reader.read_into(name, memoryview(array))
    checked_record(None, name, nbytes, entry["sha256"], array)
    return storage


def _kernels(body, objects):
    """Link every kernel; those of the runtime serve this process if they are what it has."""
    functions = {f.__name__: f for f in runtime_functions()}
    recipes = {}
    for entry in body["runtime"]:
        function = functions.get(entry["function"])
        if function is not None and fingerprint(function) == entry["fingerprint"]:
            recipes[entry["kernel"]] = (function, ("table",), "f4", False)
    return [build.adopt(entry["name"], entry["key"], recipes.get(number), entry["symbol"], data)
            for number, (entry, data) in enumerate(zip(body["kernels"], objects, strict=True))]


class LoadedProgram:
    """What ``jit.load`` gives: call it with tensors, in the order of the traced function's.

    ``parameters()``, ``buffers()``, ``state_dict()`` and ``load_state_dict()`` reach its weights,
    under the names that the traced module had; ``graph`` and ``source()`` show what it does.
    """

    def __init__(self, body, weights, kernels):
        self.target, self._weights = body["target"].partition(";")[0], weights
        self._named = {"parameter": {}, "buffer": {}, "captured": {}}
        for name, entry in body["names"].items():
            self._named[entry["kind"]][name] = make(weights[entry["weight"]], *_form(entry),
                                                    entry["offset"])
        self._programs = [_Bound(p, weights, kernels) for p in body["programs"]]

    def __call__(self, *arguments):
        tensors = tensors_of(arguments)
        if any(not isinstance(a, (TensorBase, tuple, list, dict)) for a in arguments):
            raise TypeError("a loaded program takes tensors only; what else the traced function "
                            "was given is part of the program")
        for program in self._programs:
            if program.fits(tensors):
                return program.run(tensors)
        return self._run_converted(tensors)

    forward = __call__

    def _run_converted(self, tensors):
        """Strides may be other ones than traced; shapes and dtypes may not."""
        for program in self._programs:
            if program.fits(tensors, strides=False):
                return program.run(program.restrided(tensors))
        wanted = "; or ".join(", ".join(f"{f['dtype']}{list(f['shape'])}" for f in p.inputs)
                              for p in self._programs)
        got = ", ".join(f"{t.dtype.name}{list(t._shape)}" for t in tensors)
        raise RuntimeError(f"a loaded program expects {wanted or 'no tensors'}, but got "
                           f"{got or 'none'}; save one that was called with these too")

    # --- weights --------------------------------------------------------------------------------

    def named_parameters(self):
        """``(name, tensor)`` of the module's parameters, which share memory with the program."""
        return iter(self._named["parameter"].items())

    def parameters(self):
        """The module's parameters."""
        return iter(self._named["parameter"].values())

    def named_buffers(self):
        """``(name, tensor)`` of the module's buffers."""
        return iter(self._named["buffer"].items())

    def buffers(self):
        """The module's buffers."""
        return iter(self._named["buffer"].values())

    def state_dict(self):
        """All named tensors, those that a function had captured included."""
        return collections.OrderedDict(
            item for named in self._named.values() for item in named.items())

    def load_state_dict(self, state, strict=True):
        """Copy the values of ``state`` into the program's weights."""
        own = self.state_dict()
        if strict and set(state) != set(own):
            raise RuntimeError("load_state_dict: missing " + str(sorted(set(own) - set(state)))
                               + ", unexpected " + str(sorted(set(state) - set(own))))
        for name in own.keys() & state.keys():
            own[name].copy_(state[name])

    def eval(self):
        """The program itself: the mode was fixed when it was traced."""
        return self

    def train(self, mode=True):
        """The program itself with ``mode=False``; RuntimeError for training, which a file holds
        nothing of."""
        if mode:
            raise RuntimeError("a loaded program computes what was traced, without gradients: it "
                               "has no training mode; train the module and save it again")
        return self

    def to(self, *where, **keywords):
        """The program itself if it is asked to stay on the CPU; RuntimeError for dtypes: those of a
        program are fixed."""
        asked = [str(w) for w in (*where, *keywords.values()) if not isinstance(w, bool)]
        if any(name.partition(":")[0] != "cpu" for name in asked):
            raise RuntimeError(f"a loaded program cannot go to {', '.join(asked)}: it was built "
                               "for the CPU and the dtypes it was traced with; convert the module "
                               "and save it again")
        return self

    # --- looking inside -------------------------------------------------------------------------

    @property
    def graph(self):
        """The steps of the programs as text."""
        return "\n\n".join(p.graph for p in self._programs)

    def source(self):
        """The generated kernels as the Python they were."""
        return "\n".join(dict.fromkeys(p.source for p in self._programs))

    @property
    def code(self):
        """``source()``, under the name it has in torch."""
        return self.source()

    def __repr__(self):
        forms = "; ".join(", ".join(f"{f['dtype']}{list(f['shape'])}" for f in p.inputs)
                          for p in self._programs)
        return f"<loaded program for {forms or 'no tensors'}, built for {self.target}>"


def _form(entry):
    return BY_NAME[entry["dtype"]], tuple(entry["shape"]), tuple(entry["strides"])


class _Bound:
    """One program of a file with its weights."""

    def __init__(self, entry, weights, kernels):
        self.inputs, self.graph, self.source = entry["inputs"], entry["graph"], entry["source"]
        self.forms = [_form(f) for f in entry["inputs"]]
        self.weights, self.nest = weights, entry["result"]
        self.bindings = [(kind == "argument", place) for kind, place in entry["bindings"]]
        self.specs = [_maker(spec, weights) for spec in entry["results"]]
        self.written, self.written_weights = entry["written"], entry["written_weights"]
        self.program = StoredProgram(entry, kernels, stored_checks.fail)

    def fits(self, tensors, strides=True):
        """Whether the program is for tensors of these forms."""
        return len(tensors) == len(self.forms) and all(
            t.dtype is d and t._shape == s and (t._strides == st or not strides)
            for t, (d, s, st) in zip(tensors, self.forms, strict=True))

    def restrided(self, tensors):
        """Copies with the strides the program was made for, where they differ."""
        if self.written:
            raise RuntimeError("a loaded program writes in its arguments, which then must have the "
                               "strides it was traced with")
        made = []
        for tensor, (dtype, shape, strides) in zip(tensors, self.forms, strict=True):
            if tensor._strides != strides:
                copy = ops.empty_strided(shape, strides, dtype=dtype)
                tensor = copy.copy_(tensor)
            made.append(tensor)
        return made

    def run(self, tensors):
        addresses = [tensors[place]._address if given else self.weights[place].address
                     for given, place in self.bindings]
        made = self.program.run(addresses)
        for place in self.written:
            tensors[place]._storage.version += 1
        for place in self.written_weights:
            self.weights[place].version += 1
        return _filled(self.nest, [spec(made, tensors) for spec in self.specs])


def _maker(spec, weights):
    """A function ``(storages, tensors) -> tensor`` that makes a result."""
    kind = spec["kind"]
    if kind == "argument":
        place = spec["place"]
        return lambda made, tensors: tensors[place]
    form = (*_form(spec), spec["offset"])
    if kind == "made":
        place = spec["place"]
        return lambda made, tensors: make(made[place], *form)
    if kind == "view":
        place, (dtype, shape, strides, offset) = spec["place"], form

        def view(made, tensors):
            base = tensors[place]
            result = make(base._storage, dtype, shape, strides, offset + base._offset)
            result._base = base if base._base is None else base._base
            return result
        return view
    storage = weights[spec["weight"]]
    if kind == "copy":
        return lambda made, tensors: make(storage.clone(), *form)
    return lambda made, tensors: make(storage, *form)


def _filled(nest, tensors):
    """The nest of results with its tensors."""
    (kind, value), = nest.items()
    if kind == "tensor":
        return tensors[value]
    if kind == "dict":
        return {key: _filled(item, tensors) for key, item in value}
    if kind == "value":
        return value
    items = [_filled(item, tensors) for item in value]
    return tuple(items) if kind == "tuple" else items
