"""``jit.save``: compiled programs with their weights and kernels in one file.

The file is a ZIP archive of stored records, each on a 64-byte boundary:

==================  ============================================================================
``program.json``    version, target, signatures, tables, relocations, results (``FORMAT``)
``digest``          SHA-256 of ``program.json``, which holds those of all other records
``weights/N``       bytes of a storage
``kernels/KEY.o``   object file of a kernel
==================  ============================================================================

No Python code is in it and none is run to read it; but its kernels are machine code, so that a
program file is to be trusted like a shared library.
"""
import contextlib
import hashlib
import json
import os

from ..runtime import build, load, pool, pool_native, program_native
from ..runtime.archive import ArchiveWriter
from ..runtime.fingerprint import fingerprint
from ..runtime.program_native import CHECK, PARALLEL, STEP, ZERO
from .explain import source_text
from .outline import stray_addresses
from .stored_checks import described
from .variant import Variant

FORMAT, VERSION = "ntorch program", 1


def runtime_functions():
    """The kernels of the runtime that every program needs: the runner and the thread pool's."""
    if pool.futex_number():
        return [program_native.run_sleeping, pool_native.launch, pool_native.worker,
                pool_native.stop]
    return [program_native.run_spinning, pool_native.launch_spinning, pool_native.worker_step,
            pool_native.stop_spinning]


def save(program, file):
    """Write the programs of a traced or compiled function to ``file``, a path or a binary file.

    ``program`` is what ``jit.trace`` or ``compile`` gave, called under ``no_grad`` at least once,
    or one variant of it. ``jit.load`` runs it without the function's Python code and without Numba,
    for inputs of the shapes, dtypes and strides it was called with. RuntimeError if there is none,
    or if one does what a file cannot hold: backward, random numbers.
    """
    variants, function = _variants(program)
    writer = _Writer(function)
    body = writer.describe(variants)
    text = json.dumps(body, separators=(",", ":")).encode()
    with contextlib.ExitStack() as stack:
        if isinstance(file, (str, os.PathLike)):
            file = stack.enter_context(open(file, "wb"))
        archive = ArchiveWriter(file.write, "program")
        archive.add("program.json", text)
        archive.add("digest", hashlib.sha256(text).hexdigest().encode())
        for number, storage in enumerate(writer.storages):
            archive.add(f"weights/{number}", storage.numpy())
        for key, (_, _, data) in writer.kernels.items():
            archive.add(f"kernels/{key}.o", data)
        archive.close()


def _variants(program):
    """``(variants without backward, the function)`` of what is to be saved."""
    for holder in ("compiled", "_program"):     # of Traced, and of a compiled module
        program = getattr(program, "__dict__", {}).get(holder, program)
    if isinstance(program, Variant):
        variants, function = [program], None
    else:
        function = getattr(program, "function", None)
        asked = getattr(program, "programs", None)
        if asked is None:
            raise TypeError("jit.save expects what jit.trace or compile returned, but got "
                            f"{type(program).__name__}")
        variants = asked()
        ignored = getattr(program, "ignored", None)
        if ignored:
            raise RuntimeError(
                f"jit.save: could not export Python function call '{next(iter(ignored))}': it is "
                "marked jit.ignore, and a file holds no Python. Remove the call before saving, or "
                "mark the function jit.unused (or jit.ignore(drop=True)) and do not call it")
    kept = [v for v in variants if v.backward is None]
    if not kept:
        raise RuntimeError(
            "jit.save: there is no program without gradients to save: "
            + ("the function has not been called" if not variants else
               "it was only called with gradients") + "; call it once under ntorch.no_grad()")
    for variant in kept:
        if variant.outline.reason:
            raise RuntimeError(f"jit.save: the program cannot be saved: {variant.outline.reason}")
    return kept, function


class _Writer:
    """Collects storages and kernels while programs are put in words."""

    def __init__(self, function):
        self.storages, self.numbers = [], {}
        self.kernels = {}               # key -> (number, kernel, object bytes)
        self.symbols = []
        self.by_address = {k.address: k for k in build.known() if k.is_ready()}
        self.function = function

    def describe(self, variants):
        """``program.json`` as a dict."""
        names = self._names(variants)
        programs = [self._program(v) for v in variants]
        runtime = []
        for function in runtime_functions():
            kernel = build.kernel(function, ("table",))
            runtime.append({"function": function.__name__, "kernel": self._kernel(kernel),
                            "fingerprint": fingerprint(function)})
        return {
            "format": FORMAT, "version": VERSION, "target": load.target_cpu(),
            "platform": load.platform(), "names": names, "programs": programs, "runtime": runtime,
            "kernels": [self._kernel_entry(*entry) for entry in self.kernels.values()],
            "weights": [{"nbytes": s.nbytes(), "sha256": hashlib.sha256(s.numpy()).hexdigest()}
                        for s in self.storages]}

    # --- weights --------------------------------------------------------------------------------

    def _storage(self, storage):
        number = self.numbers.get(id(storage))
        if number is None:
            number = self.numbers[id(storage)] = len(self.storages)
            self.storages.append(storage)
        return number

    def _tensor(self, tensor):
        return {"weight": self._storage(tensor._storage), "dtype": tensor.dtype.name,
                "shape": list(tensor._shape), "strides": list(tensor._strides),
                "offset": tensor._offset}

    def _names(self, variants):
        """Named tensors: those of the module, or what the programs of a function captured."""
        found, seen = {}, set()
        for kind in ("parameter", "buffer"):
            ask = getattr(self.function, f"named_{kind}s", None)
            for name, tensor in ask() if ask is not None else ():
                found[name] = {"kind": kind, **self._tensor(tensor)}
                seen.add(id(tensor._storage))
        for variant in () if found else variants:
            for tensor in variant.outline.captured:
                if id(tensor._storage) not in seen:
                    seen.add(id(tensor._storage))
                    found[f"captured.{len(seen)}"] = {"kind": "captured", **self._tensor(tensor)}
        return found

    # --- kernels --------------------------------------------------------------------------------

    def _kernel(self, kernel):
        entry = self.kernels.get(kernel.key)
        if entry is None:
            symbol, data = build.object_of(kernel)
            self.symbols.append(symbol)
            entry = self.kernels[kernel.key] = (len(self.kernels), kernel, data)
        return entry[0]

    def _kernel_entry(self, number, kernel, data):
        return {"key": kernel.key, "name": kernel.name, "symbol": self.symbols[number],
                "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}

    # --- programs -------------------------------------------------------------------------------

    def _program(self, variant):
        program, outline = variant.forward, variant.outline
        strays = stray_addresses(program, self.by_address)
        if strays:
            raise RuntimeError(
                "jit.save: addresses of this process are in the program's tables, put there by "
                + ", ".join(sorted({name for _, _, name in strays})))
        words = list(program.words)
        places = []
        for place, value in enumerate(words):
            kernel = self.by_address.get(value)
            if kernel is not None:
                places.append([place, self._kernel(kernel)])
                words[place] = 0
        return {
            "inputs": [_form(*form) for form in outline.forms],
            "bindings": [["argument", what] if kind == "argument" else
                         ["weight", self._storage(what)] for kind, what in outline.bindings],
            "outputs": [b.nbytes for b in program.outputs], "arena": program.arena.nbytes,
            "words": words, "kernel_words": places, "moves": list(program.moves),
            "steps": [self._step(program.steps[at:at + STEP])
                      for at in range(0, len(program.steps), STEP)],
            "checks": [described(place, node, program) for place, node in program.checks.items()],
            "parallel": bool(program.parallel), "items": program.items,
            "results": [self._result(*spec) for spec in outline.results],
            "result": {"tensor": 0} if variant.single else _nest(variant.result, [0]),
            "written": [*variant.written_arguments],
            "written_weights": [self._storage(s) for s in variant.written],
            "graph": "\n".join(map(repr, program.nodes)), "source": source_text(program)}

    def _step(self, step):
        operation, address, word, count, chunk, _ = step
        kernel = -1
        if operation <= PARALLEL:
            kernel = self._kernel(self.by_address[address])
        return [operation, kernel, word, count, 0 if operation in (ZERO, CHECK) else chunk]

    def _result(self, kind, what, form=None):
        made = {"kind": kind}
        if kind == "tensor":
            made.update(self._tensor(what), kind="storage")
        elif kind in ("copy", "storage"):
            made["weight"] = self._storage(what)
        else:
            made["place"] = what
        if form is not None:
            dtype, shape, strides, offset = form
            made.update(_form(dtype, shape, strides), offset=offset)
        return made


def _form(dtype, shape, strides):
    return {"dtype": dtype.name, "shape": list(shape), "strides": list(strides)}


def _nest(value, count):
    """A nest of results as JSON; tensors are numbered in order."""
    from ..ops.base import TensorBase
    if isinstance(value, TensorBase):
        count[0] += 1
        return {"tensor": count[0] - 1}
    if isinstance(value, (tuple, list)):
        return {"tuple" if isinstance(value, tuple) else "list": [_nest(v, count) for v in value]}
    if isinstance(value, dict) and all(isinstance(k, (str, int)) for k in value):
        return {"dict": [[k, _nest(v, count)] for k, v in value.items()]}
    if value is None or isinstance(value, (bool, int, float, str)):
        return {"value": value}
    raise RuntimeError(f"jit.save: a result holds a {type(value).__name__}; expected tensors, "
                       "numbers and text in tuples, lists and dicts")
