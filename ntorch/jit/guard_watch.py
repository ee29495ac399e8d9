"""``Watch``: what Python state a function reads, found while it runs.

    with Watch(function, args, kwargs) as watch:
        result = function(*args, **kwargs)
    guards = watch.guards()

A profile function sees each call. The first time that code of the user is entered, all state that
it names is noted (``guard_walk``) before it runs; so what has another value when the watch ends was
changed by the function itself (``mutations``).
"""
import datetime
import functools
import gc
import io
import random
import sys
import types

import numpy as np

from ..ops.base import TensorBase
from .guard_code import LIBRARY, USER, names_of, owner_of, owner_of_class
from .guard_walk import Walk
from .guards import Guards

_TIMES = ("time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns",
          "process_time", "process_time_ns", "thread_time", "localtime", "gmtime", "ctime", "sleep")
_DATES = ("now", "utcnow", "today")
_DRAWS = ("random", "getrandbits", "seed")
_FILES = ("read", "readline", "readlines", "readinto", "write", "writelines", "seek", "truncate")
_BUILTINS = ("input", "print", "open", "breakpoint")
_SYSTEM = ("urandom", "getrandom", "open", "read", "write", "stat", "listdir", "scandir", "getpid",
           "getcwd", "system", "remove", "rename", "mkdir")
_THREADS = ("get_ident", "get_native_id")
_WARNS = ("warn", "warn_explicit")
_SUSPECT = frozenset((*_THREADS, *_WARNS, *_TIMES, *_DATES, *_DRAWS, *_FILES, *_BUILTINS, *_SYSTEM))
_active = []            # watches at work, of all threads


def _reason(function):
    """Why a call of this builtin cannot be left out at later calls; None if it can."""
    name, module = function.__name__, getattr(function, "__module__", None)
    owner = getattr(function, "__self__", None)
    if module == "time" and name in _TIMES:
        return f"time.{name}() tells another time at each call"
    if name in _DATES and isinstance(owner, type) and issubclass(owner, datetime.date):
        return f"{owner.__name__}.{name}() tells another time at each call"
    if isinstance(owner, random.Random) and name in _DRAWS:
        return "it draws from Python's random"
    if isinstance(owner, io.IOBase) and name in _FILES:
        return f"it calls {name}() of a file"
    if module in ("builtins", "io", "_io") and name in _BUILTINS:
        return f"{name}() has an effect of its own at each call"
    if module == "_thread" and name in _THREADS:
        return "it asks which thread it is in"
    if module in ("_warnings", "warnings") and name in _WARNS:
        return "it warns, at each call"
    if module in ("posix", "nt") and name in _SYSTEM:
        return f"os.{name}() asks the system"
    return None


def _random_state():
    state = random.getstate()
    legacy = np.random.get_state(legacy=False)["state"]
    return state, legacy["pos"], legacy["key"].tobytes()


class Watch:
    """Watches this thread. ``function``, ``args`` and ``kwargs`` are what will be called, if known:
    else the first user function that runs is taken for it.

    Afterwards: ``impure``, reasons why Python must run at each call; ``mutations``, descriptions of
    Python state that the function changed; ``tensors``, what it reached but by its arguments; and
    ``guards(exclude)``.
    """

    def __init__(self, function=None, args=(), kwargs=None):
        self._walk = Walk()
        self._root = function, args, kwargs or {}
        self._rooted = function is not None
        self._inner, self._met = set(), {}      # code inside entered code; objects not reached
        self._kinds, self._older, self._base = {}, [], None
        self.mutations, self._full = [], None

    @property
    def impure(self):
        """Reasons why a recorded trace cannot stand for the function."""
        return list(self._walk.impure.values())

    @property
    def tensors(self):
        """Tensors that were reached through Python state."""
        return list(self._walk.tensors)

    def __enter__(self):
        function, args, kwargs = self._root
        self._base = sys._getframe(1)
        for watch in _active:       # what its function made so far must stay known as new
            watch._older.extend(gc.get_objects(0))
        self._collecting = gc.isenabled()
        gc.disable()
        gc.collect(0)               # the youngest generation then holds what is made from now on
        _active.append(self)
        if self._rooted:
            self._walk.visit(function, _title(function))
            self._walk.argument([args, kwargs])
        self._random = _random_state()
        self._previous = sys.getprofile()
        self._chained = self._previous if callable(self._previous) else None
        self._profile = self._event
        sys.setprofile(self._profile)
        return self

    def pause(self):
        """Stop watching, where only the house's own code runs, which nobody guards; whether it was
        watching. Half of a trace's time went to looking at such calls."""
        if self._chained is not None or sys.getprofile() is not self._profile:
            return False
        sys.setprofile(None)
        return True

    def resume(self):
        """Watch again."""
        sys.setprofile(self._profile)

    def __exit__(self, kind, error, trace):
        _set_profile(self._previous)
        try:
            self._judge_met()
            if _random_state() != self._random:
                self._walk.impure.setdefault("random", "it draws from Python's or NumPy's random")
        finally:
            _active.remove(self)
            self._older, self._base = [], None
            if self._collecting:
                gc.enable()
        self._full = Guards.build(self._walk.guards)
        if not self._full.check():
            self.mutations = [guard.describe() for guard in self._full.failing()]

    def guards(self, exclude=()):
        """The ``Guards``, without those on the memory and form of tensors whose ids are in
        ``exclude``; that a name is bound to such a tensor is still guarded."""
        kept = [g for g in self._walk.guards if g.owner is None or id(g.owner) not in exclude]
        return self._full if len(kept) == len(self._walk.guards) else Guards.build(kept)

    # While it runs

    def _event(self, frame, event, arg):
        if event == "call":
            code = frame.f_code
            kind = self._kinds.get(id(code))
            if kind is None:
                kind = self._classify(frame)
            if kind is USER or kind is _CALLS or kind is _ENVIRON:
                self._look(kind, frame, code)
        elif event == "c_call" and arg.__name__ in _SUSPECT:
            reason = _reason(arg)
            if reason is not None and self._by_user(frame):
                self._walk.impure.setdefault(reason, f"{reason}, in {_place(frame)}")
        if self._chained is not None:
            self._chained(frame, event, arg)

    def _look(self, kind, frame, code):
        try:
            if kind is USER:
                if code.co_name != "<module>":         # an import: it happens once
                    self._entered(frame, code)
            elif kind is _CALLS:
                self._meet(frame.f_locals.get("self"))
            else:
                self._environment(frame)
        except Exception as error:      # of foreign objects; their state is then not guarded
            self._walk.impure.setdefault("error", "its Python state could not be read: "
                                         f"{type(error).__name__}: {error}")

    def _classify(self, frame):
        code = frame.f_code
        kind = _owner(frame)
        if kind is not USER:
            if code is _module_call():
                kind = _CALLS
            elif code is _ENVIRON_GET:
                kind = _ENVIRON
        elif _importing(frame, self._base):
            kind = LIBRARY
        self._kinds[id(code)] = kind
        self._walk.seen[id(code)] = code        # held, so that its id stays its own
        return kind

    def _entered(self, frame, code):
        walk, space = self._walk, frame.f_locals
        count = code.co_argcount + code.co_kwonlyargcount + bool(code.co_flags & 4) + bool(
            code.co_flags & 8)
        arguments = [space[name] for name in code.co_varnames[:count] if name in space]
        if not self._rooted:
            self._rooted = True
            walk.argument(arguments)
        else:
            for value in arguments:
                self._meet(value)
        if id(code) not in walk.executed:
            if id(code) not in walk.functions and id(code) not in self._inner:
                self._find_function(code, arguments, space)
            walk.enter(code, frame.f_globals)
            self._inner |= names_of(code).inner

    def _meet(self, value):
        """An object that a frame got: if the walk does not know it, it must be new."""
        if id(value) in self._walk.seen or issubclass(type(value), (TensorBase, type)):
            return
        if id(value) not in self._met and _is_instance(value):
            self._met[id(value)] = value
            self._walk.visit(type(value), f"class {type(value).__qualname__}")

    def _find_function(self, code, arguments, space):
        """A function that runs but was not reached by name, such as one in a table of C."""
        if arguments:
            self._walk.visit(type(arguments[0]), f"class {type(arguments[0]).__qualname__}")
        if id(code) in self._walk.functions:
            return
        found = [f for f in gc.get_referrers(code) if type(f) is types.FunctionType]
        for function in found:
            if len(found) == 1 or _closes_over(function, space):
                self._walk.visit(function, function.__qualname__)

    def _environment(self, frame):
        environ, key = frame.f_locals["self"], frame.f_locals["key"]
        if not self._by_user(frame):
            return
        data, encoded = environ._data, environ.encodekey(key)
        self._walk.add("{0}.get({1}) == {2}", (data, encoded, data.get(encoded)),
                       f"the environment variable {key} changed")

    def _by_user(self, frame):
        """Whether code of the user called this, itself or through the standard library."""
        while frame is not None:
            kind = _owner(frame)
            if kind is not LIBRARY:
                return kind is USER
            if frame.f_code.co_filename.startswith("<frozen importlib"):
                return False            # looking for a module: it happens once
            frame = frame.f_back
        return False

    def _judge_met(self):
        """Objects that lived before and were reached in a way that no guard follows."""
        unknown = [v for v in self._met.values() if id(v) not in self._walk.seen]
        if not unknown:
            return
        new = {id(thing) for thing in gc.get_objects(0)} | {id(thing) for thing in self._older}
        for value in unknown:
            if id(value) not in new and gc.is_tracked(value):
                name = type(value).__qualname__
                self._walk.impure.setdefault(
                    ("met", name), f"an object of class {name} was reached in a way that "
                    "cannot be guarded")


def _set_profile(previous):
    """Give the thread back the profiler it had. cProfile's is an object that is no function: it
    takes itself back, and has missed what was watched."""
    if previous is None or callable(previous):
        sys.setprofile(previous)
    else:
        sys.setprofile(None)
        if hasattr(previous, "enable"):
            previous.enable()


def _importing(frame, base):
    """Whether the import machinery, and nobody of the user's or ntorch's, called this frame."""
    frame = frame.f_back
    while frame is not None and frame is not base:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        if frame.f_code.co_name != "<module>" and _owner(frame) is not LIBRARY:
            return False
        frame = frame.f_back
    return False


def _owner(frame):
    """Whose code a frame runs; what was made of text, for a module without a name, belongs to who
    runs it."""
    filename, name = frame.f_code.co_filename, frame.f_globals.get("__name__")
    if name in (None, "builtins") and filename.startswith("<") and frame.f_back is not None:
        if not filename.startswith("<ntorch"):
            return _owner(frame.f_back)
    return owner_of(filename, name or "")


_CALLS, _ENVIRON = "calls", "environ"
_ENVIRON_GET = __import__("os")._Environ.__getitem__.__code__


@functools.cache
def _call_code(module):
    return module.Module.__call__.__code__


def _module_call():
    module = sys.modules.get("ntorch.nn.modules.module")
    return None if module is None else _call_code(module)


def _is_instance(value):
    """Whether attributes of ``value`` may be state: objects of user classes, and modules."""
    cls = type(value)
    if cls in (types.FunctionType, types.ModuleType, types.MethodType):
        return False
    return owner_of_class(cls) == USER or any(c.__name__ == "Module" and (
        c.__module__ == "ntorch.nn.modules.module") for c in cls.__mro__)


def _closes_over(function, space):
    cells = function.__closure__ or ()
    for name, cell in zip(function.__code__.co_freevars, cells, strict=True):
        try:
            held = cell.cell_contents
        except ValueError:
            continue
        if name in space and space[name] is not held:
            return False
    return True


def _title(function):
    name = getattr(function, "__qualname__", None)
    return name if isinstance(name, str) else type(function).__qualname__


def _place(frame):
    while _owner(frame) is LIBRARY:
        frame = frame.f_back
    code = frame.f_code
    return f"{code.co_qualname if hasattr(code, 'co_qualname') else code.co_name} (line " + (
        f"{frame.f_lineno} of {code.co_filename})")
