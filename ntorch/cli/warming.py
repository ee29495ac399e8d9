"""The processes of ``python -m ntorch warmup``: find the kernels of a model, and compile them.

``collect`` runs model and training step with kernels that do nothing, which shows what they ask
for, and then compiles the keys it reads from its input. ``check`` runs them for real, and compiles
what is left. ``record`` runs a script.
"""
import contextlib
import importlib
import inspect
import json
import re
import runpy
import sys

DTYPES = {"f16": "float16", "bf16": "bfloat16", "f32": "float32", "f64": "float64", "i8": "int8",
          "i16": "int16", "i32": "int32", "i64": "int64", "u8": "uint8", "bool": "bool_",
          "b1": "bool_", "c64": "complex64", "c128": "complex128"}
_SIGNATURE = re.compile(r"\s*([a-z0-9]+)\s*(?:\[([\w\s,]*)\])?\s*")
CHECKED = (16, 2, 50)       # sizes in place of a name that are run for real


def parse_signature(text):
    """``("float32", ("N", 1, 28, 28))`` of ``f32[N,1,28,28]``; ValueError if it is none."""
    match = _SIGNATURE.fullmatch(text)
    name = match and (match[1] if match[1] in DTYPES.values() else DTYPES.get(match[1]))
    sizes = (match and match[2] or "").replace(" ", "").split(",")
    if not name or not all(n.isdecimal() or n.isidentifier() for n in sizes if n):
        raise ValueError(f"{text!r} is no signature: expected one such as f32[32,1,28,28], or "
                         "f32[N,1,28,28] for any number; dtypes are " + ", ".join(DTYPES))
    return name, tuple(int(n) if n.isdecimal() else n for n in sizes if n)


def sizes_of(signatures, ladder):
    """Signatures of numbers for those with names: all names at the first size of the ladder, then
    one after the other at each size."""
    names = dict.fromkeys(n for _, shape in signatures for n in shape if type(n) is str)
    usual = dict.fromkeys(names, ladder[0])
    made = [usual] + [{**usual, name: size} for name in names for size in ladder[1:]]
    return [[(dtype, tuple(each.get(n, n) for n in shape)) for dtype, shape in signatures]
            for each in made]


def find(place):
    """The module or function that ``package.module:name`` names, or what it returns.

    What needs arguments is taken for the function itself, all else for a factory.
    """
    module, _, name = place.partition(":")
    if not name:
        raise ValueError(f"{place!r}: expected package.module:factory")
    found = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    if hasattr(found, "named_parameters") and not isinstance(found, type):
        return found
    needs = [p for p in inspect.signature(found).parameters.values()
             if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return found if needs else found()


class Collected:
    """What ``build.dry`` is: gives kernels addresses that nobody calls, and keeps them."""

    def __init__(self):
        self.kernels = {}

    def add(self, kernel):
        """``kernel`` was asked for."""
        self.kernels.setdefault(kernel.key, kernel)
        kernel.call = kernel.call_released = _nothing
        kernel.address = (1 << 40) + 64 * len(self.kernels)


def _nothing(*table):
    """In place of a kernel."""


# --- what is run ---------------------------------------------------------------------------------

def phases(chosen, ladder):
    """``(name, function)`` of all that the command asked for; the model is made by the first."""
    made = {}

    def make():
        made["model"] = find(chosen["place"])
        made["inputs"] = sizes_of([parse_signature(text) for text in chosen["inputs"]], ladder)
        made["module"] = hasattr(made["model"], "named_parameters")
    yield "making the model", make
    for how in ("eager", "compiled"):
        yield f"{how} inference", lambda how=how: _inference(made, how)
        if chosen["grad"] or chosen["step"]:
            yield f"{how} training", lambda how=how: _training(made, how, chosen["step"])


def _form(function, how):
    if how == "eager":
        return function
    from ..jit.compile import Compiled
    return Compiled(function)


def _batches(signatures, times):
    """Arguments of each signature, ``times`` of the first."""
    import ntorch
    for each in [signatures[0]] * (times - 1) + signatures:
        yield [ntorch.zeros(shape, dtype=getattr(ntorch, name.rstrip("_")))
               for name, shape in each]


def _inference(made, how):
    import ntorch
    model = made["model"]
    if made["module"]:
        was, _ = model.training, model.eval()
    run = _form(model, how)
    try:
        with ntorch.no_grad():
            for inputs in _batches(made["inputs"], 2):  # a first trace may see modules being
                run(*inputs)                            # imported, and be dropped
    finally:
        if made["module"]:
            model.train(was)


def _training(made, how, name):
    import ntorch

    from ..jit.tree import tensors_of
    model = made["model"]
    parameters = list(model.parameters()) if made["module"] else []
    optimizer = getattr(ntorch.optim, name)(parameters, lr=1e-3) if name else None

    def loss_of(*inputs):
        losses = [t.mean() for t in tensors_of(model(*inputs)) if t.is_floating_point()]
        return sum(losses[1:], losses[0])

    def step(*inputs):
        loss = loss_of(*inputs)
        loss.backward()
        if optimizer is not None:
            optimizer.step()
            optimizer.zero_grad()
        return loss

    whole = _form(step, how)
    for inputs in _batches(made["inputs"], 3):      # an optimizer's state appears at the first
        whole(*inputs)
    run = _form(model, how)         # and with the step outside: forward and backward by themselves
    for inputs in _batches(made["inputs"], 2):
        losses = [t.sum() for t in tensors_of(run(*inputs)) if t.requires_grad]
        if losses:
            sum(losses[1:], losses[0]).backward()
    for parameter in parameters:
        parameter.grad = None


def _run(chosen, stop, ladder):
    """Run every phase; returns ``{phase: error}``. What the model prints goes to stderr."""
    errors = {}
    with contextlib.redirect_stdout(sys.stderr):
        for name, function in phases(chosen, ladder):
            try:
                function()
            except Exception as error:      # the model's own, or that of values that are not there
                errors[name] = f"{type(error).__name__}: {error}"
                if stop or name == "making the model":
                    break
    return errors


# --- the processes --------------------------------------------------------------------------------

def _say(what):
    sys.__stdout__.write(json.dumps(what) + "\n")
    sys.__stdout__.flush()


def collect(chosen):
    """Find kernels without running one, tell their keys, compile those whose keys come back."""
    import ntorch  # noqa: F401 - before anything is collected

    from ..jit.rehearse import LADDER
    from ..jit.saving import runtime_functions
    from ..runtime import build, store
    build.dry = Collected()
    for function in runtime_functions():
        build.kernel(function, ("table",))
    errors = _run(chosen, stop=False, ladder=(16, *LADDER))
    kernels = build.dry.kernels
    missing = [key for key in kernels if store.get(key) is None]
    _say({"found": len(kernels), "missing": sorted(missing), "errors": errors})
    for line in sys.stdin:
        key = line.strip()
        if key not in kernels:
            _say({"unknown": key})
            continue
        try:
            build.compile_to_store(kernels[key])
            _say({"done": key, "name": kernels[key].name})
        except Exception as error:
            _say({"failed": key, "error": f"{type(error).__name__}: {error}"})


def check(chosen):
    """Run everything for real; what is missing is compiled."""
    from ..runtime import build
    errors = _run(chosen, stop=True, ladder=CHECKED)
    _say({"errors": errors, "compiled": build.counters["compiled"],
          "kernels": len({k.key for k in build.known() if k.is_ready()})})


def record(script, arguments):
    """Run a script as ``python script`` would; tell how many kernels it asked for."""
    from ..runtime import build
    sys.argv = [script, *arguments]
    try:
        runpy.run_path(script, run_name="__main__")
    finally:
        keys = {k.key for k in build.known() if k.is_ready()}
        print(f"{len(keys)} kernels were asked for, {build.counters['compiled']} of them compiled "
              "now", file=sys.stderr)


def main(arguments):
    """``collect`` or ``check`` with a JSON description, or ``record`` with a script."""
    if arguments[0] == "record":
        record(arguments[1], arguments[2:])
    else:
        sys.path.insert(0, "")
        {"collect": collect, "check": check}[arguments[0]](json.loads(arguments[1]))


if __name__ == "__main__":
    main(sys.argv[1:])
