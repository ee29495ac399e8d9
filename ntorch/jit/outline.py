"""What a program is apart from Python: how its buffers are bound and its results made, as data.

``variant.py`` binds with closures; ``jit.save`` needs the same as words that go in a file.
"""
import typing

from ..runtime import recording
from ..runtime.program_native import STEP

LIMIT = 1 << 40                 # integers from here to HIGH are taken for addresses
HIGH = 1 << 48


class Outline(typing.NamedTuple):
    """``forms``: ``(dtype, shape, strides)`` of the tensors a call gives. ``bindings``: for each
    input of the program ``("argument", number)`` or ``("storage", storage)``. ``results``: how each
    is made, a tuple of kind, place and perhaps a form (``spec_of``). ``captured``: tensors that the
    function found by itself. ``reason``: why the program can live in this process only, or ''."""
    forms: list
    bindings: list
    results: list
    captured: list
    reason: str


def outline_of(maker, program, order):
    """The ``Outline`` of what a ``maker.Maker`` has made; ``order`` numbers the outputs."""
    reasons = []
    if maker.new_grads or maker.grad_of:
        reasons.append("it sets gradients")
    if program.actions:
        reasons.append("it draws random numbers, or asks Python for numbers at every call; call "
                       "eval() first if that is dropout")
    bindings = []
    for buffer in program.inputs:
        kind, what = maker.origin(buffer)
        if kind == "arguments":
            bindings.append(("argument", what[0]))
            if what[1] != 0:
                reasons.append("two of its arguments share memory")
        else:
            bindings.append(("storage", what) if kind == "fixed" else ("gradient", None))
    results = [spec_of(maker, maker.results[place], order, reasons) for place in maker.places]
    forms = [(t.dtype, tuple(t._shape), tuple(t._strides)) for t in maker.tensors]
    captured = [t for t in maker.recorder.captured.values() if id(t) not in maker.grad_ids]
    if reasons:
        results, captured = [], []      # nobody asks for them: they would only keep memory alive
    return Outline(forms, bindings, results, captured, "; ".join(dict.fromkeys(reasons)))


def spec_of(maker, tensor, order, reasons):
    """How a result is made: ``("argument", number)``, ``("tensor", tensor)``, ``("made", output,
    form)``, ``("view", argument, form)``, ``("copy" or "storage", storage, form)``."""
    number = maker.stand_number.get(id(tensor))
    if number is not None:
        return "argument", number
    if id(tensor) in maker.recorder.captured:
        return "tensor", tensor
    form = tensor.dtype, tuple(tensor._shape), tuple(tensor._strides), tensor._offset
    buffer = maker.buffer(tensor)
    if buffer is not None and buffer in order:
        return "made", order[buffer], form
    number = maker.region_stand.get(tensor._storage)
    if number is not None:
        if maker.back(number) != 0:
            reasons.append("two of its arguments share memory")
        return "view", number, form
    storage = maker.recorder.proxied.get(tensor._storage, tensor._storage)
    region = maker.recorder.inputs.get(storage)
    if region is not None and region.lazy is not None:
        return "copy", storage, form
    if recording.is_fake(storage.address):
        reasons.append("a result lies in memory that no op wrote")
    return "storage", storage, form


def stray_addresses(program, known):
    """``(word, value, op)`` of the words of a program that look like addresses of this process but
    are no kernel's (``known``): memory that an op's host function looked up while it was traced,
    instead of asking the recorder for its ``fake_address``."""
    moved = set(program.moves[::3])
    ends, names = [], []
    for place, node in enumerate(program.steps_of):
        ends.append(program.steps[STEP * place + 2] + len(getattr(node, "slots", (0,))))
        names.append(node.name)
    return [(place, value, _owner(place, ends, names))
            for place, value in enumerate(program.words)
            if LIMIT <= value < HIGH and place not in moved and value not in known]


def _owner(place, ends, names):
    """The op whose table ``place`` is in."""
    return next((n for end, n in zip(ends, names, strict=True) if place < end), "?")
