"""``compile``: run a function's Python once, and its program from then on.

The first call with a new signature runs the function under a recorder (``recorder.py``) while the
Python state it reads is watched (``guards.py``). What comes out is a *variant*: guards, a program,
and how its buffers are bound to arguments, captured tensors, results and gradients. A trace that
cannot stand for the next call (a value was read, state was changed, something random was asked)
gives no variant: its segments are run, which gives this call's results, and the next call runs the
Python again.
"""
import contextlib
import functools
import itertools
import threading

from ..runtime import recording
from .call import number_of_call, this_call
from .containers import Containers
from .explain import log
from .guard_watch import Watch
from .maker import make_variant
from .recorder import Recorder
from .regions import SharedArgument, TraceError
from .rehearse import Sizes, rehearse
from .results import fresh_of, give_numbers, kept_numbers, settled
from .segments import run_segment
from .signature import context, signature, unflatten
from .stands import span_of
from .variant import Variant

MOST_VARIANTS = 64          # of one signature
LEAST_VARIANTS = 8          # that a function keeps however long they are
MOST_LAUNCHES = 1 << 14     # of all its variants together: some 100 MB of Python objects
MOST_FAILURES = 8           # traces in a row that gave no variant; then only
RETRY = 100                 # one call of so many is traced, for other states may suit
MOST_HISTORY = 1024         # traces that ``explain`` remembers
_now = itertools.count(1).__next__


class _All:
    """Contains every position."""

    def __contains__(self, place):
        return True


_ALL = _All()


def _freeze(frozen, place, dynamic):
    frozen[place] = dynamic.value


class Compiled:
    """A function that is traced at its first call; call it like the function itself.

    ``explain()`` says what happened, ``programs()`` gives what was compiled.
    """

    def __init__(self, function, fullgraph=False, dynamic=False, kind="compile"):
        self.function, self.fullgraph, self.dynamic = function, fullgraph, bool(dynamic)
        self.kind, self.ignored = kind, {}      # of recorders; functions that stayed Python's
        self.variants, self.history, self.forgotten = {}, [], 0
        self.free, self.numbers = set(), {}     # positions of floats that are inputs
        self.failures, self.sizes = 0, Sizes()
        self.refused, self.shared = set(), set()    # signatures whose traces were not kept
        self.lock = threading.RLock()
        functools.update_wrapper(self, function, updated=())

    def __call__(self, *arguments, **keywords):
        if recording.active and recording.current() is not None:
            return self._inside(recording.current(), arguments, keywords)
        call = signature(arguments, keywords, self.free)
        tensors, numbers = call[1], call[2]
        for variant in self.variants.get(call[0], ()):
            if variant.holds(tensors, numbers):
                variant.used = _now()
                return variant.run(tensors, numbers)
        if self.failures >= MOST_FAILURES:
            self.failures += 1
            if self.failures % RETRY:
                return self._lazily(arguments, keywords)
        with self.lock:
            return self._trace(arguments, keywords)

    def _inside(self, recorder, arguments, keywords):
        """A call that is part of somebody's trace."""
        outside, recorder.kind = recorder.kind, self.kind
        try:
            return self.function(*arguments, **keywords)
        finally:
            recorder.kind = outside

    def __get__(self, instance, owner=None):
        if instance is None:
            return self
        bound = instance.__dict__.get(("compiled", id(self)))
        if bound is None:
            bound = Compiled(self.function.__get__(instance, owner), self.fullgraph,
                             self.dynamic, self.kind)
            instance.__dict__["compiled", id(self)] = bound
        return bound

    # --- the first call -------------------------------------------------------------------------

    def _trace(self, arguments, keywords, whole=False):
        self._free_numbers(arguments, keywords)
        key, tensors, numbers, spec = signature(arguments, keywords, self.free)
        whole |= key in self.shared
        known = self.variants.get(key, ())
        for variant in known:       # another thread made it meanwhile
            if variant.holds(tensors, numbers):
                return variant.run(tensors, numbers)
        why = self._why(key, known, tensors, numbers)
        recorder = Recorder(run_segment, self.kind)
        stands = _stand_ins(recorder, tensors, whole)
        frozen = {}
        made = self._dynamic(recorder, numbers, frozen, key)
        given, named = unflatten(spec, stands, made)
        containers = Containers((arguments, keywords), (given, named))
        modes = context()
        with recorder:
            watch = recorder.watch = Watch(self.function, given, named)
            try:
                with this_call(numbers), watch:
                    result = self.function(*given, **named)
                    fresh = fresh_of(result, recorder.born)
            except SharedArgument:
                return self._again_whole(recorder, arguments, keywords)
            except TraceError:
                raise
            except BaseException:
                try:
                    recorder.flush()    # what happened before the exception has happened
                finally:
                    recorder.hand_over()
                    containers.write_back(recorder.originals)
                raise
            variant, reasons = None, self._reasons(watch, recorder, containers, modes)
            keepers = kept_numbers(recorder.graph, made, (given, named, result))
            if keepers:
                give_numbers(keepers)
                reasons.append("a number of the call is kept beyond it")
            if not reasons:
                recorder.sift()
                variant, reason = make_variant(recorder, result, stands, tensors,
                                               fresh, containers.real_of)
                reasons = [reason] if reason else []
            if variant is None:
                recorder.flush()
                recorder.hand_over()
        if variant is None:
            containers.write_back(recorder.originals)
            result = settled(result, recorder.original, containers.real_of)
            return self._not_kept(key, why, reasons, recorder, result)
        del result, given, named        # with them goes the tape, which holds on to proxies
        recorder.dismiss()
        variant.function, variant.call_spec = self.function, spec
        variant.guard(watch, {id(t) for t in (*stands, *tensors)}, frozen)
        self.failures = 0
        self._note(why, variant)
        variant.used = _now()
        self._add(key, variant)
        if self.dynamic:
            self._rehearse(spec, tensors, numbers)
        return variant.run(tensors, numbers, drawn=True)

    def _why(self, key, known, tensors, numbers):
        """Why there is a trace, in words."""
        if known:
            return "guards failed: " + "; ".join(v.explain_failure(tensors, numbers)
                                                 for v in known[-3:])
        if key in self.refused:
            return "the last trace of this signature was not kept"
        return "first call with this signature"

    def _rehearse(self, spec, tensors, numbers):
        """Have what other sizes ask for compiled, once a dimension was seen with two."""
        moved = self.sizes.moved(spec, tensors)
        if moved:
            count = rehearse(self.function, spec, tensors, numbers, moved, _stand_ins,
                             self._dynamic)
            self._note("a dimension has a second size",
                       f"kernels are compiled that {count} other sizes ask for")

    # --- how many variants are kept ---------------------------------------------------------------

    def _add(self, key, variant):
        """Keep a variant; those that were not used lately make room for it."""
        every = [(k, v) for k, known in self.variants.items() for v in known]
        same = [pair for pair in every if pair[0] == key]
        if len(same) >= MOST_VARIANTS:
            self._drop(*min(same, key=_last_use))
        launches = variant.launches + sum(v.launches for _, v in every)
        while launches > MOST_LAUNCHES and len(every) >= LEAST_VARIANTS:
            unused = min(every, key=_last_use)
            every.remove(unused)
            launches -= unused[1].launches
            self._drop(*unused)
        # calls of other threads go through the old list
        self.variants[key] = [*self.variants.get(key, ()), variant]

    def _drop(self, key, variant):
        kept = [v for v in self.variants.get(key, ()) if v is not variant]
        if kept:
            self.variants[key] = kept
        else:
            self.variants.pop(key, None)
        self.history = [(why, "dropped: others were used since" if what is variant else what)
                        for why, what in self.history]

    def _again_whole(self, recorder, arguments, keywords):
        """Trace anew with regions for the whole storages of arguments."""
        with recorder._aside():
            recorder.restore_grads()
            return self._trace(arguments, keywords, whole=True)

    def _free_numbers(self, arguments, keywords):
        """Floats that differ from those of an otherwise equal call are inputs from now on."""
        key, _, numbers, _ = signature(arguments, keywords, _ALL)
        if len(self.numbers) > MOST_HISTORY:
            self.numbers.clear()
        before = self.numbers.setdefault(key, numbers)
        self.free |= {i for i, (a, b) in enumerate(zip(before, numbers, strict=True))
                      if type(a) is float and a != b}

    def _dynamic(self, recorder, numbers, frozen, key=None):
        """The numbers of this call, free ones as inputs; what is used as a plain number anyway is
        noted in ``frozen``. Where a trace was not kept, numbers are plain."""
        made = list(numbers)
        for place in self.free:
            if place < len(made) and key in self.refused:
                frozen[place] = made[place]
            elif place < len(made) and type(made[place]) is float:
                made[place] = recorder.dynamic(functools.partial(number_of_call, place),
                                               made[place])
                made[place].freeze = functools.partial(_freeze, frozen, place)
        return made

    def _reasons(self, watch, recorder, containers, modes):
        """Why the trace cannot stand for other calls; an empty list if it can."""
        reasons = list(recorder.reads)
        if context() != modes:
            reasons.append("a mode of the thread or the default dtype was changed for good")
        if containers.changed():
            reasons.append("a list, dict or record among the arguments was changed")
        return [*reasons, *watch.impure, *watch.mutations]

    def _not_kept(self, key, why, reasons, recorder, result):
        self.ignored.update(dict.fromkeys(recorder.ignored))
        if self.fullgraph and not recorder.ignored:
            raise RuntimeError("compile(fullgraph=True): the function cannot be one program: "
                               + "; ".join(map(str, reasons)))
        self.failures += 1
        for known in (self.refused, self.shared) if recorder.shared else (self.refused,):
            if len(known) >= MOST_HISTORY:
                known.clear()
            known.add(key)
        self._note(why, "not kept: " + "; ".join(map(str, dict.fromkeys(reasons))))
        if self.failures == MOST_FAILURES:
            self._note(f"{MOST_FAILURES} traces in a row were not kept",
                       "from here on the Python runs at every call, in segments, as in lazy(); "
                       f"one call of {RETRY} is traced to see whether that changed")
        return result

    def _note(self, why, what):
        if len(self.history) >= MOST_HISTORY:
            del self.history[0]
            self.forgotten += 1
        self.history.append((why, what))
        log("trace", lambda: f"{getattr(self, '__name__', self.function)}: {why}: "
            + (what if isinstance(what, str) else f"{len(what.forward.nodes)} launches forward"))

    def _lazily(self, arguments, keywords):
        """Run the Python, in segments as long as it lets them be."""
        with lazily(self.kind):
            return self.function(*arguments, **keywords)

    # --- looking inside -------------------------------------------------------------------------

    def programs(self):
        """All variants, in the order they were made."""
        return [v for _, v in self.history if isinstance(v, Variant)]

    def source(self):
        """The generated kernels of all variants, as the Python they are."""
        return "\n".join(dict.fromkeys(v.source() for v in self.programs()))

    @property
    def graph(self):
        """What was recorded for each variant, one node a line."""
        return "\n\n".join(v.graph for v in self.programs())

    def __repr__(self):
        name = getattr(self.function, "__qualname__", type(self.function).__qualname__)
        return f"<compiled {name}: {len(self.programs())} programs>"

    def explain(self):
        """Text: each trace, why it was made, what came out."""
        lines = []
        for number, (why, what) in enumerate(self.history, 1 + self.forgotten):
            lines.append(f"trace {number}: {why}")
            text = what.explain() if isinstance(what, Variant) else what
            lines += ["  " + line for line in text.splitlines()]
        return "\n".join(lines) or "not called yet"


def _last_use(pair):
    return pair[1].used


@contextlib.contextmanager
def lazily(kind="lazy"):
    """Record ops until a value is needed; what is still held at the end becomes real then."""
    if recording.current() is not None:     # already recording: part of what is outside
        yield
        return
    recorder = Recorder(run_segment, kind)
    with recorder:
        try:
            yield
        finally:
            recorder.flush()


def paused(why="a function was called that is never traced (compiler.disable)"):
    """A context that runs plainly inside a trace: what is recorded so far is run first."""
    recorder = recording.current()
    return contextlib.nullcontext() if recorder is None else recorder.plainly(why)


def _stand_ins(recorder, tensors, whole):
    """Lazy leaves for the arguments; arguments that are one object get one. ``whole``: their
    regions are those of their storages, else of what the arguments show of them."""
    spans = {}
    for t in {id(t): t for t in tensors}.values():
        first, end = span_of(t)
        low, high = spans.get(t._storage, (first, end))
        spans[t._storage] = min(first, low), max(end, high)
    made, found = {}, []
    for t in tensors:
        stand = made.get(id(t))
        if stand is None:
            span = spans[t._storage]
            all_of_it = whole or (span[0] - t._address) % t.dtype.itemsize != 0
            stand = made[id(t)] = recorder.stand_in(t, all_of_it, span)
            if all_of_it:       # where in the storage the elements are is part of the program
                for name in ("storage_offset", "storage_bytes"):
                    recorder.fact(stand, name)
        found.append(stand)
    return found


__all__ = ["Compiled", "lazily", "paused"]
