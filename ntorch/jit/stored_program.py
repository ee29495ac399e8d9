"""A program whose tables come out of a file instead of a trace."""
import array

from ..runtime.dtypes import BY_NAME
from .ir import Buffer
from .plan import Arena
from .program import Program


class StoredProgram(Program):
    """Runs what ``saving.py`` wrote down; ``fail`` raises the error of a check."""

    def __init__(self, entry, kernels, fail):
        self.nodes, self.inputs, self.actions, self.fills = [], [], [], []
        self.steps_of = []
        self.outputs = self.results = [Buffer(i, n, "temp")
                                       for i, n in enumerate(entry["outputs"])]
        self.arena = Arena({}, entry["arena"])
        self.numbers, self.fail = [], fail
        self.words = array.array("q", entry["words"])
        for place, kernel in entry["kernel_words"]:
            self.words[place] = kernels[kernel].address
        self.moves = array.array("q", entry["moves"])
        self.steps, self.kernels = array.array("q"), []
        for operation, kernel, word, count, chunk in entry["steps"]:
            address = kernels[kernel].address if kernel >= 0 else 0
            if kernel >= 0:
                self.kernels.append(kernels[kernel])
            self.steps.extend((operation, address, word, count, chunk, 0))
        self.checks = {check["step"]: check for check in entry["checks"]}
        self.parallel, self.items = entry["parallel"], entry["items"]
        self.n_bases = 2 + len(entry["bindings"]) + len(entry["outputs"])
        self.sizes = base_sizes(entry)
        self._places()

    def _check(self, base, addresses, failed):
        if failed >= 0:
            self.fail(self.checks[failed], [base + self.at_arena, base, *addresses], self.sizes,
                      BY_NAME.__getitem__)


def extent(form):
    """Bytes from the first element of a tensor of this form to its last."""
    if 0 in form["shape"]:
        return 0
    last = sum((n - 1) * s for n, s in zip(form["shape"], form["strides"], strict=True))
    return (last + 1) * BY_NAME[form["dtype"]].itemsize


def base_sizes(entry, weights=None):
    """Bytes behind each base that relocations count from; those of weights if they are given."""
    sizes = [entry["arena"], 8 * len(entry["words"])]
    for kind, place in entry["bindings"]:
        if kind == "argument":
            sizes.append(extent(entry["inputs"][place]))
        else:
            sizes.append(weights[place]["nbytes"] if weights else 1 << 62)
    return sizes + entry["outputs"]
