"""What is checked of a program file before anything in it is used."""
import hashlib

from ..runtime.dtypes import BY_NAME
from ..runtime.program_native import CHECK, PARALLEL, ZERO
from .outline import HIGH, LIMIT
from .stored_checks import ERRORS
from .stored_program import base_sizes, extent

MOST_BYTES = 1 << 46            # of anything: more is no honest size


class Damaged(RuntimeError):
    """The file is not as ``jit.save`` writes them."""

    def __init__(self, what):
        super().__init__(f"jit.load: the program file is damaged: {what}")


def demand(condition, what):
    """Damaged unless ``condition``."""
    if not condition:
        raise Damaged(what)


def checked_record(reader, name, size, digest, data=None):
    """The bytes of a record (or ``data``), their size and SHA-256 checked."""
    if data is None:
        data = reader.read(name)
    demand(size is None or len(data) == size,
           f"record {name!r} has {len(data)} bytes, expected {size}")
    demand(hashlib.sha256(data).hexdigest() == digest, f"the checksum of {name!r} differs")
    return data


def _count(value, limit, what):
    demand(type(value) is int and 0 <= value < limit, f"{what} is {value!r:.40}")
    return value


def _ints(values, what):
    demand(type(values) is list and all(type(v) is int and -(1 << 63) <= v < 1 << 63
                                        for v in values), f"{what} are not integers")
    return values


def _form(form, room=None, offset=0):
    """Check a dtype, shape and strides, and that they stay inside ``room`` bytes."""
    demand(form["dtype"] in BY_NAME, f"dtype {form['dtype']!r:.40}")
    shape, strides = _ints(form["shape"], "sizes"), _ints(form["strides"], "strides")
    demand(len(shape) == len(strides) <= 64, "sizes and strides do not fit each other")
    demand(all(0 <= n < MOST_BYTES for n in shape) and all(0 <= s < MOST_BYTES for s in strides),
           "a size is negative or absurd")
    _count(offset, MOST_BYTES, "an offset")
    if room is not None and extent(form):
        demand(extent(form) + offset * BY_NAME[form["dtype"]].itemsize <= room,
               "a tensor reaches outside its memory")


def validate(body):
    """Damaged unless every number in ``program.json`` stays where it belongs."""
    weights, kernels = body["weights"], body["kernels"]
    for entry in weights:
        _count(entry["nbytes"], MOST_BYTES, "a size")
    for entry in kernels:
        demand(all(type(entry[k]) is str for k in ("key", "name", "symbol")), "a kernel's name")
        demand(entry["key"].isalnum(), "a kernel's key")
    for entry in body["names"].values():
        demand(entry["kind"] in ("parameter", "buffer", "captured"), "a tensor's kind")
        weight = weights[_count(entry["weight"], len(weights), "a weight")]
        _form(entry, weight["nbytes"], entry["offset"])
    for entry in body["runtime"]:
        _count(entry["kernel"], len(kernels), "a kernel")
    demand(len(body["programs"]) > 0, "no program is in it")
    for entry in body["programs"]:
        _program(entry, weights, len(kernels))


def _program(entry, weights, n_kernels):
    for form in entry["inputs"]:
        _form(form)
    for kind, place in entry["bindings"]:
        demand(kind in ("argument", "weight"), "a binding")
        _count(place, len(entry["inputs"] if kind == "argument" else weights), "a binding")
    for nbytes in (entry["arena"], *entry["outputs"]):
        _count(nbytes, MOST_BYTES, "a size")
    demand(type(entry["parallel"]) is bool and type(entry["graph"]) is str
           and type(entry["source"]) is str, "a field of another kind")
    _count(entry["items"], 1 << 62, "the number of items")
    sizes = base_sizes(entry, weights)
    moves = _moves(entry, sizes)
    _steps(entry, moves, sizes, n_kernels)
    _checks(entry, sizes)
    for place in entry["written"]:
        _count(place, len(entry["inputs"]), "an argument")
    for place in entry["written_weights"]:
        _count(place, len(weights), "a weight")
    for spec in entry["results"]:
        _result(spec, entry, weights)
    _nest(entry["result"], len(entry["results"]), 0)


def _moves(entry, sizes):
    """Relocations and kernels in the words; returns ``{word: (base, offset)}``."""
    words, flat = _ints(entry["words"], "words"), _ints(entry["moves"], "relocations")
    demand(len(flat) % 3 == 0, "relocations end early")
    found = {}
    for at in range(0, len(flat), 3):
        word, base, offset = flat[at:at + 3]
        _count(word, len(words), "a relocated word")
        _count(base, len(sizes), "a relocation's base")
        _count(offset, sizes[base] + 1, "a relocation's offset")
        found[word] = base, offset
    kernels = {_count(place, len(words), "a kernel's word") for place, _ in entry["kernel_words"]}
    demand(not any(LIMIT <= w < HIGH and i not in found and i not in kernels
                   for i, w in enumerate(words)), "a word looks like an address")
    return found


def _steps(entry, moves, sizes, n_kernels):
    n_words = len(entry["words"])
    for _, kernel in entry["kernel_words"]:
        _count(kernel, n_kernels, "a kernel")
    for step in entry["steps"]:
        operation, kernel, word, count, chunk = _ints(step, "a step")
        _count(operation, CHECK + 1, "an operation")
        _count(word, n_words + 1, "a step's table")
        _count(count, 1 << 62, "a step's items")
        if operation <= PARALLEL:
            _count(kernel, n_kernels, "a step's kernel")
            demand(chunk >= 1, "a step's chunk")
            continue
        demand(word in moves, "a step without a pointer")
        base, offset = moves[word]
        nbytes = 8 * count if operation == ZERO else 8
        # whole words are cleared; the last one of a small buffer may be longer than it
        room = -(-sizes[base] // 64) * 64 if base == 0 or operation == ZERO else sizes[base]
        demand(offset + nbytes <= room, "a step writes outside its memory")


def _checks(entry, sizes):
    steps = entry["steps"]
    places = [c["step"] for c in entry["checks"]]
    demand(sorted(places) == [i for i, s in enumerate(steps) if s[0] == CHECK],
           "checks do not fit the steps")
    for check in entry["checks"]:
        demand(check["error"] in ERRORS and type(check["text"]) is str, "a check's error")
        for place in (check, *([check["extra"]] if check["extra"] is not None else ())):
            base = _count(place["base"], len(sizes), "a check's base")
            _count(place["offset"], sizes[base] + 1, "a check's offset")
        demand(check["offset"] + 8 <= sizes[check["base"]], "a check's place")
        extra = check["extra"]
        demand(extra is None or extra["dtype"] in BY_NAME and extra["place"] in (None, 1),
               "a check's value")


def _result(spec, entry, weights):
    kind = spec["kind"]
    if kind == "argument":
        _count(spec["place"], len(entry["inputs"]), "a result")
    elif kind == "made":
        nbytes = entry["outputs"][_count(spec["place"], len(entry["outputs"]), "a result")]
        _form(spec, nbytes, spec["offset"])
    elif kind == "view":
        form = entry["inputs"][_count(spec["place"], len(entry["inputs"]), "a result")]
        _form(spec, extent(form), spec["offset"])
    else:
        demand(kind in ("copy", "storage"), "a result's kind")
        weight = weights[_count(spec["weight"], len(weights), "a result")]
        _form(spec, weight["nbytes"], spec["offset"])


def _nest(nest, count, depth):
    demand(type(nest) is dict and len(nest) == 1 and depth < 100, "a nest of results")
    (kind, value), = nest.items()
    if kind == "tensor":
        _count(value, count, "a result")
    elif kind in ("tuple", "list"):
        for item in value:
            _nest(item, count, depth + 1)
    elif kind == "dict":
        for key, item in value:
            demand(type(key) in (str, int), "a key of the results")
            _nest(item, count, depth + 1)
    else:
        demand(kind == "value" and not isinstance(value, (list, dict)), "a value of the results")
