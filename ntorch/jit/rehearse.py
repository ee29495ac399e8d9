"""Rehearsals: which kernels a function will ask for when its arguments have other sizes.

With ``compile(dynamic=True)``, a dimension that was seen with two sizes is given each size of a
ladder: the function's Python runs once more for each, under a recorder that computes nothing, draws
nothing and leaves everything as it was. Kernels are chosen by thresholds in sizes, so what these
programs ask for is what those of all sizes do; it is compiled at once, and no later size compiles.
"""
import numpy as np

from ..ops.base import make
from ..runtime import build
from ..runtime.device import CPU
from ..runtime.storage import Storage
from .call import this_call
from .ir import HostFill, Launch
from .maker import Maker
from .recorder import Recorder
from .regions import TraceError
from .signature import context, unflatten
from .unfit import Unfit

# on either side of the thresholds, and filling the tiles of products well and badly
LADDER = (1, 2, 3, 4, 6, 8, 12, 16, 17, 24, 32, 33, 44, 50, 64, 96, 100, 128)


class Sizes:
    """Which dimensions of a function's arguments were seen with two sizes."""

    def __init__(self):
        self.seen, self.known = {}, set()

    def moved(self, spec, tensors):
        """Dimensions seen with a second size by this call, as lists of (tensor, dimension) that
        change together."""
        form = (context(), spec, tuple([(type(t), t.dtype, len(t._shape), t._requires_grad)
                                        for t in tensors]))
        first = self.seen.setdefault(form, [t._shape for t in tensors])
        together = {}
        for number, (old, t) in enumerate(zip(first, tensors, strict=True)):
            for dim, pair in enumerate(zip(old, t._shape, strict=True)):
                if pair[0] != pair[1]:
                    together.setdefault(pair, []).append((number, dim))
        new = {(form, tuple(places)): max(pair) for pair, places in together.items()}
        found = [(places, most) for (form_, places), most in new.items()
                 if (form_, places) not in self.known]
        self.known.update(new)
        return found


def ladder(most):
    """Sizes to rehearse if ``most`` was the largest seen."""
    sizes = list(LADDER)
    while sizes[-1] < 2 * most:
        sizes += [sizes[-1] * 3 // 2 + 5, 2 * sizes[-1]]
    return sizes


class Rehearsal(Recorder):
    """A recorder for whose trace nothing is computed or drawn, and that puts back what changed."""

    def __init__(self):
        super().__init__(None)
        self.sealed, self.before = True, {}

    def proxy(self, tensor):
        proxy = super().proxy(tensor)
        if proxy is not tensor:
            self.before.setdefault(id(tensor), (tensor, dict(tensor.__dict__)))
        return proxy

    def leave(self, *targets):
        real = [self.proxied.get(storage) for storage, _ in self.frames[-1].storages]
        versions = [(storage, storage.version) for storage in real if storage is not None]
        super().leave(*targets)
        for storage, version in versions:
            storage.version = version

    def dynamic(self, read, value=None):
        """A number; the next of a generator is not asked for."""
        drawing = any(hasattr(cell.cell_contents, "random64")
                      for cell in getattr(read, "__closure__", None) or ())
        return super().dynamic(read, 1 if drawing else value)

    def host_fill(self, name, tensor, fill):
        node = HostFill(name, self.view(tensor), fill)
        self.graph.nodes.append(node)
        self.graph.actions.append(node)

    def noted(self, what):
        raise TraceError(f"{what} is no part of a program")

    def restore(self):
        """Put tensors that took part back to what they were."""
        self.restore_grads()
        for tensor, before in self.before.values():
            for name, value in before.items():
                if tensor.__dict__.get(name) is not value:
                    tensor.__dict__[name] = value
        self.dismiss()


class _Kernels(Maker):
    """Gets as far as the launches of the programs."""

    found = ()

    def approve(self, *halves):
        launches = [n for _, graph in halves for n in graph.nodes if isinstance(n, Launch)]
        self.found = [n.kernel for n in launches]
        self.found += [s for n in launches for s in n.slots if type(s) is build.Kernel]
        raise Unfit("rehearsed")


def other_sizes(tensors, places, size):
    """Tensors of zeros like ``tensors`` with this size at ``places``; None for memory that is
    shared, or not dense."""
    if len({t._storage for t in tensors}) < len(tensors):
        return None
    made = []
    for number, t in enumerate(tensors):
        shape, strides = list(t._shape), [0] * len(t._shape)
        for dim in [dim for place, dim in places if place == number]:
            shape[dim] = size
        step = old = 1
        for dim in sorted(range(len(shape)), key=lambda d: (t._strides[d], -d)):
            if t._shape[dim] > 1 and t._strides[dim] != old or t._storage.device is not CPU:
                return None
            strides[dim], step, old = step, step * shape[dim], old * t._shape[dim]
        zeros = np.zeros(step * t.dtype.itemsize, np.uint8)     # pages that nobody touches
        storage = Storage.borrow(zeros.ctypes.data, zeros.nbytes, zeros)
        other = make(storage, t.dtype, type(t._shape)(shape), tuple(strides), 0)
        other._requires_grad = t._requires_grad
        made.append(other)
    return made


def kernels_of(function, spec, tensors, numbers, stand_ins, dynamic):
    """The kernels that a call's programs would ask for; none if it fails."""
    recorder = Rehearsal()
    stands = stand_ins(recorder, tensors, False)
    given, named = unflatten(spec, stands, dynamic(recorder, numbers, {}))
    try:
        with recorder, this_call(numbers):
            maker = _Kernels(recorder, function(*given, **named), stands, tensors)
            maker.make()
    except Unfit:
        return maker.found
    except Exception:           # the function's own: it does not take this size
        return ()
    finally:
        recorder.restore()
    return ()


def rehearse(function, spec, tensors, numbers, moved, stand_ins, dynamic):
    """Compile what other sizes at the places of ``moved`` ask for; the number of sizes tried."""
    kernels, count = {}, 0
    for places, most in moved:
        for size in ladder(most):
            others = other_sizes(tensors, places, size)
            if others is not None:
                found = kernels_of(function, spec, others, numbers, stand_ins, dynamic)
                kernels.update((k.key, k) for k in found)
                count += 1
    build.ready(list(kernels.values()))
    return count


__all__ = ["Sizes", "rehearse"]
