"""Guards of compiled functions: every change of Python state that could change a trace is seen."""
import collections
import contextlib
import dataclasses
import datetime
import enum
import functools
import random
import sys
import threading
import time
import types

import numpy as np
import pytest

import ntorch
from ntorch import nn
from ntorch.jit.guard_watch import Watch
from ntorch.jit.guards import same
from ntorch.jit.signature import flatten, signature, unflatten

SCALE = 2.0
CONFIG = {"scale": 2.0, "inner": {"sizes": [1, 2]}}
LAYERS = [1.0, 2.0]
TABLE = np.array([1.0, 2.0], np.float32)
MASK = ntorch.ones(3)
NAMES = {"a", "b"}
LATER = None


def helper(x):
    return x * SCALE


def doubled(function):
    @functools.wraps(function)
    def wrapper(x):
        return function(x) * 2
    return wrapper


@doubled
def decorated(x, factor=1.0, *, shift=0.0):
    return x * factor + shift


class Config:
    factor = 3.0
    limit = 1.0

    def __init__(self):
        self.scale, self.inner, self.items = 2.0, types.SimpleNamespace(depth=1.0), [1.0]

    @property
    def twice(self):
        return self.scale * 2

    @staticmethod
    def fixed(x):
        return x + 1

    @classmethod
    def of_class(cls, x):
        return x * cls.factor

    def method(self, x):
        return x * self.scale


class Slotted:
    __slots__ = ("scale",)

    def __init__(self):
        self.scale = 2.0


class Asked:
    def __init__(self):
        self.values = {"scale": 2.0}

    def __getattr__(self, name):
        if name == "values":
            raise AttributeError(name)
        return self.values[name]


class Mode(enum.Enum):
    SUM = 1
    MEAN = 2


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(3, 3), nn.Linear(3, 3)
        self.register_buffer("running", ntorch.zeros(3))
        self.scale, self.mode, self.extra = 2.0, Mode.SUM, []
        self.drop = nn.Dropout(0.5)
        self.blocks = nn.ModuleList([nn.Linear(3, 3)])

    def forward(self, x):
        if self.training and hasattr(self, "late"):
            return x
        y = self.second(self.first(x)) * self.scale + self.running
        for block in self.blocks:
            y = block(y)
        for value in self.extra:
            y = y + value
        return self.drop(y) if self.mode is Mode.SUM else y


def watched(function, *args, **kwargs):
    """The guards of a call whose trace would stand."""
    with Watch(function, args, kwargs) as watch:
        function(*args, **kwargs)
    assert watch.impure == [] and watch.mutations == []
    guards = watch.guards()
    assert guards.check() and guards.explain() == ""
    return guards


@contextlib.contextmanager
def changed(space, name, value):
    """``space.name``, or ``space[name]``, is another value for a while."""
    if isinstance(space, dict | list | np.ndarray):
        old, put = space[name], space.__setitem__
    else:
        old = vars(space)[name] if isinstance(space, type) else getattr(space, name, None)
        put = functools.partial(setattr, space)
    put(name, value)
    try:
        yield
    finally:
        put(name, old)


HERE = globals()
X = ntorch.ones(3)
config, slotted, asked = Config(), Slotted(), Asked()
holder = {"config": config}
closed_over = 1.0
other_module = types.ModuleType("other_module_of_the_user")
exec(compile("FACTOR = 2\ndef scaled(x):\n    return [x * FACTOR for _ in range(2)][0]\n",
             "/elsewhere/other_module.py", "exec"), other_module.__dict__)
bound = functools.partial(lambda x, k: x * k["k"], k={"k": 2.0})
local = threading.local()
local.scale = 2.0
queue = collections.deque([1.0, 2.0])


def with_closure():
    level = 1.0

    def inner(x):
        return x * level

    def change(value):
        nonlocal level
        level = value
    return inner, change


def frozen_copy(function):
    return types.FunctionType(function.__code__, function.__globals__, function.__name__ + "2")


CASES = {
    "global": (lambda x: x * SCALE, HERE, "SCALE", 3.0),
    "global, another type": (lambda x: x * SCALE, HERE, "SCALE", 2),
    "global in a helper": (lambda x: helper(x), HERE, "SCALE", 3.0),
    "helper redefined": (lambda x: helper(x), HERE, "helper", frozen_copy(helper)),
    "code replaced": (lambda x: helper(x), helper, "__code__", (lambda x: x + 1).__code__),
    "dict": (lambda x: x * CONFIG["scale"], CONFIG, "scale", 3.0),
    "nested list": (lambda x: x * CONFIG["inner"]["sizes"][1], CONFIG["inner"]["sizes"], 1, 2.0),
    "list": (lambda x: x * LAYERS[0], LAYERS, 0, 5.0),
    "list comprehension": (lambda x: [x * v for v in LAYERS], LAYERS, 1, 5.0),
    "generator": (lambda x: sum(x * v for v in LAYERS), LAYERS, 1, 5.0),
    "map of a lambda": (lambda x: list(map(lambda v: x * v, LAYERS)), LAYERS, 1, 5.0),
    "deque": (lambda x: [x * v for v in queue], HERE, "queue", collections.deque([1.0])),
    "set": (lambda x: x if "a" in NAMES else x + 1, HERE, "NAMES", {"a", "c"}),
    "array in place": (lambda x: x * float(TABLE[0]), TABLE, 0, 7.0),
    "tensor replaced": (lambda x: x * MASK, HERE, "MASK", ntorch.ones(3)),
    "default": (decorated, decorated.__wrapped__, "__defaults__", (2.0,)),
    "keyword default": (decorated, decorated.__wrapped__, "__kwdefaults__", {"shift": 1.0}),
    "attribute": (lambda x: x * config.scale, config, "scale", 3.0),
    "attribute of attribute": (lambda x: x * config.inner.depth, config.inner, "depth", 2.0),
    "attribute's list": (lambda x: x * config.items[0], config.items, 0, 2.0),
    "object in a dict": (lambda x: x * holder["config"].scale, config, "scale", 3.0),
    "object by alias": (lambda x: [c.scale * x for c in holder.values()], config, "scale", 3.0),
    "attribute of a class": (lambda x: x * Config.factor, Config, "factor", 4.0),
    "class attribute by an object": (lambda x: x * config.limit, Config, "limit", 4.0),
    "property": (lambda x: x * config.twice, config, "scale", 3.0),
    "property replaced": (lambda x: x * config.twice, Config, "twice", property(lambda s: 1.0)),
    "method": (config.method, config, "scale", 3.0),
    "method replaced": (lambda x: config.method(x), Config, "method", lambda self, x: x),
    "static method": (lambda x: config.fixed(x), Config, "fixed", staticmethod(lambda x: x)),
    "class method": (lambda x: config.of_class(x), Config, "factor", 9.0),
    "slots": (lambda x: x * slotted.scale, slotted, "scale", 3.0),
    "__getattr__": (lambda x: x * asked.scale, asked.values, "scale", 3.0),
    "getattr": (lambda x: x * getattr(config, "sca" + "le"[:2]), config, "scale", 3.0),
    "getattr of a constant": (lambda x: x * getattr(config, "scale", 1), config, "scale", 3.0),
    "getattr with a default": (lambda x: getattr(config, "absent", 1), config, "absent", 3.0),
    "vars": (lambda x: x * vars(config)["scale"], config, "scale", 3.0),
    "module of the user": (other_module.scaled, other_module, "FACTOR", 3),
    "through a module": (lambda x: other_module.scaled(x), other_module, "FACTOR", 3),
    "function of a module": (lambda x: other_module.scaled(x), other_module, "scaled", helper),
    "partial": (bound, bound.keywords["k"], "k", 3.0),
    "thread local": (lambda x: x * local.scale, local, "scale", 3.0),
    "nan": (lambda x: x * SCALE, HERE, "SCALE", float("nan")),
}


@pytest.mark.parametrize("name", CASES)
def test_a_change_is_seen(name):
    function, space, attribute, value = CASES[name]
    guards = watched(function, X)
    with changed(space, attribute, value):
        assert not guards.check()
        assert guards.explain()
    assert guards.check() or attribute == "absent"


def test_cells():
    inner, change = with_closure()
    guards = watched(inner, X)
    change(3.0)
    assert not guards.check()
    assert guards.explain() == ("level in the closure of with_closure.<locals>.inner changed from "
                                "1.0 to 3.0")
    change(1.0)
    assert guards.check()


def test_builtin_hidden_by_a_global():
    guards = watched(lambda x: x * len([1, 2]), X)
    HERE["len"] = lambda items: 5
    try:
        assert not guards.check()
    finally:
        del HERE["len"]


MODULE_CHANGES = {
    "eval": lambda m: m.eval(),
    "eval of a child": lambda m: m.drop.eval(),
    "attribute": lambda m: setattr(m, "scale", 3.0),
    "enum": lambda m: setattr(m, "mode", Mode.MEAN),
    "attribute of a layer": lambda m: setattr(m.drop, "p", 0.1),
    "parameter replaced": lambda m: setattr(m.first, "weight", nn.Parameter(ntorch.ones(3, 3))),
    "parameter shared": lambda m: setattr(m.second, "weight", m.first.weight),
    "parameter dropped": lambda m: setattr(m.first, "bias", None),
    "frozen": lambda m: m.first.weight.requires_grad_(False),
    "data": lambda m: setattr(m.first.weight, "data", ntorch.ones(3, 3)),
    "data, same form": lambda m: setattr(m.first.weight, "data", m.first.weight.detach().t()),
    "dtype": lambda m: m.double(),
    "moved": lambda m: m.first.weight.share_memory_(),
    "transposed": lambda m: m.running.unsqueeze_(0),
    "buffer": lambda m: setattr(m, "running", ntorch.ones(3)),
    "child": lambda m: setattr(m, "first", nn.Linear(3, 3)),
    "child of a list": lambda m: m.blocks.append(nn.Linear(3, 3)),
    "hook": lambda m: m.first.register_forward_hook(lambda *a: None),
    "pre-hook": lambda m: m.register_forward_pre_hook(lambda *a: None),
    "backward hook": lambda m: m.first.register_full_backward_hook(lambda *a: None),
    "tensor hook": lambda m: m.first.weight.register_hook(lambda g: g),
    "list appended": lambda m: m.extra.append(1.0),
    "forward patched": lambda m: setattr(m.first, "forward", lambda x: x),
    "own forward patched": lambda m: setattr(m, "forward", lambda x: x),
    "attribute asked for": lambda m: setattr(m, "late", True),
    "class": lambda m: setattr(m, "__class__", type("Other", (Net,), {})),
}


@pytest.mark.parametrize("name", MODULE_CHANGES)
def test_modules(name):
    net = Net()
    guards = watched(net, ntorch.ones(2, 3))
    MODULE_CHANGES[name](net)
    assert not guards.check()
    assert guards.explain()


def test_the_inside_of_ntorch_is_no_state():
    assert watched(lambda x: ntorch.sum(x.relu() + x.mean()), X).count < 10


def test_values_of_parameters_are_free():
    net = Net()
    guards = watched(net, ntorch.ones(2, 3))
    with ntorch.no_grad():
        net.first.weight.add_(1.0)
    net.load_state_dict(Net().state_dict())
    net.first.weight.grad = ntorch.ones(3, 3)
    net.unrelated = 5
    assert guards.check()


def test_hooks_of_all_modules():
    net = Net()
    guards = watched(net, ntorch.ones(2, 3))
    from ntorch.nn.modules.module import GLOBAL
    GLOBAL.forward[0] = lambda *a: None
    try:
        assert not guards.check()
    finally:
        del GLOBAL.forward[0]


def test_functional_module_inside():
    assert watched(lambda x: nn.Hardtanh()(x), X).check()


def step_function(net, optimizer):
    def step(x):
        optimizer.zero_grad()
        loss = net(x).sum()
        loss.backward()
        optimizer.step()
        return loss
    return step


def test_optimizers():
    net = Net()
    optimizer = ntorch.optim.Adam(net.parameters())
    step, x = step_function(net, optimizer), ntorch.ones(2, 3)
    with Watch(step, (x,)) as watch:
        step(x)
    assert any("state of" in text for text in watch.mutations)
    guards = watched(step, x)
    optimizer.param_groups[0]["lr"] = 0.5           # an input of the program
    assert guards.check()
    with changed(optimizer.param_groups[0], "betas", (0.5, 0.9)):
        assert guards.check()                       # the update's own business: ``Recorder.pin``
    with changed(optimizer.param_groups[0], "eps", 0.5):
        assert not guards.check()
    with changed(optimizer.param_groups[0]["params"], 0, nn.Parameter(ntorch.ones(3))):
        assert not guards.check()
    handle = optimizer.register_step_post_hook(lambda *a: None)
    assert not guards.check()
    handle.remove()
    assert guards.check()
    optimizer.add_param_group({"params": [nn.Parameter(ntorch.ones(3))]})
    assert not guards.check()


def counting(x):
    HERE["LATER"] = x
    return x


class Stateful(nn.Module):
    def __init__(self):
        super().__init__()
        self.calls, self.log = 0, []

    def forward(self, x):
        self.calls += 1
        return x * 2


class Caching(Stateful):
    def forward(self, x):
        self.last = x
        return x * 2


class Logging(Stateful):
    def forward(self, x):
        self.log.append(1)
        return x * 2


def global_counter(x):
    global LATER
    LATER = 1 if LATER is None else LATER + 1
    return x


def closure_counter():
    count = 0

    def function(x):
        nonlocal count
        count += 1
        return x
    return function


@pytest.mark.parametrize("function", [Stateful(), Caching(), Logging(), global_counter,
                                      closure_counter(), lambda x: CONFIG.setdefault("new", 1)])
def test_mutations(function):
    try:
        with Watch(function, (X,)) as watch:
            function(X)
        assert watch.mutations
    finally:
        CONFIG.pop("new", None)


generator = (i for i in range(1000))
rng = np.random.default_rng(0)


@pytest.mark.parametrize("function", [
    lambda x: x * random.random(), lambda x: x * random.randint(0, 5),
    lambda x: x * time.time(), lambda x: x * datetime.datetime.now().year,
    lambda x: x * np.random.rand(), lambda x: x * rng.random(), lambda x: x * next(generator),
    lambda x: print("told", file=sys.stderr)])
def test_impure(function):
    with Watch(function, (X,)) as watch:
        function(X)
    assert watch.impure


def test_environment(monkeypatch):
    import os
    monkeypatch.setenv("NTORCH_TEST_SWITCH", "1")
    guards = watched(lambda x: x * float(os.environ.get("NTORCH_TEST_SWITCH", "0")), X)
    monkeypatch.setenv("NTORCH_TEST_SWITCH", "2")
    assert not guards.check()


def test_previous_profile_function_is_called():
    seen = []
    sys.setprofile(lambda frame, event, arg: seen.append(event))
    try:
        with Watch() as watch:
            helper(X)
        assert sys.getprofile() is not None
    finally:
        sys.setprofile(None)
    assert "call" in seen and watch.guards().check()


def test_options_that_a_step_of_the_user_may_read():
    class Own(ntorch.optim.SGD):
        def step(self, closure=None):
            with ntorch.no_grad():
                for p in self.param_groups[0]["params"]:
                    p.sub_(p.grad * self.param_groups[0]["momentum"])

    net = Net()
    optimizer = Own(net.parameters(), lr=0.1, momentum=0.5)
    guards = watched(step_function(net, optimizer), ntorch.ones(2, 3))
    with changed(optimizer.param_groups[0], "momentum", 0.25):
        assert not guards.check()


def test_beneath_a_profiler():
    import cProfile
    profiler = cProfile.Profile()
    profiler.enable()
    try:
        with Watch() as watch:
            helper(X)
        sorted([2, 1])
    finally:
        profiler.disable()
    assert watch.guards().check()
    assert any("sorted" in str(entry.code) for entry in profiler.getstats())


def test_check_from_another_thread():
    guards = watched(Net(), ntorch.ones(2, 3))
    answers = []
    thread = threading.Thread(target=lambda: answers.append(guards.check()))
    thread.start()
    thread.join()
    assert answers == [True]


def test_objects_among_arguments():
    settings = Config()
    guards = watched(lambda x, c: x * c.scale, X, settings)
    settings.scale = 3.0
    assert not guards.check()
    assert "scale" in guards.explain()


def test_excluded_tensors():
    def function(x):
        return x * MASK
    with Watch(function, (X,)) as watch:
        function(X)
    assert any(t is MASK for t in watch.tensors)
    fewer = watch.guards(exclude={id(MASK)})
    assert fewer.count < watch.guards().count
    with changed(HERE, "MASK", ntorch.ones(3)):
        assert not fewer.check()


def test_an_exception_leaves_nothing_behind():
    with pytest.raises(ZeroDivisionError), Watch():
        helper(1 / 0)
    assert sys.getprofile() is None


@pytest.mark.parametrize("old, new, equal", [
    (0.0, -0.0, False), (float("nan"), float("nan"), True), (1, True, False), (1, 1.0, False),
    ((1, 2.0), (1, 2.0), True), ((1, 2.0), (1, 2), False), ("a", "a", True), (1j, -1j, False),
    (np.float32(1), np.float64(1), False), (slice(1, 2), slice(1, 2), True),
    (frozenset([1]), frozenset([True]), False)])
def test_same(old, new, equal):
    assert same(new, old) is equal


@dataclasses.dataclass
class Batch:
    inputs: object
    weight: float = 1.0


Pair = collections.namedtuple("Pair", "left right")


@pytest.mark.parametrize("value", [
    X, (X, 1), [X, [X + 1, None]], {"a": X, 1: (2.5, "s")}, Pair(X, 2), ntorch.Size([1, 2]),
    collections.OrderedDict(a=X), collections.defaultdict(list, a=X), slice(1, None), Mode.SUM])
def test_flatten_and_back(value):
    spec, tensors, numbers = flatten(value)
    hash(spec)
    again = unflatten(spec, tensors, numbers)
    assert type(again) is type(value)
    assert flatten(again)[0] == spec
    assert all(a is b for a, b in zip(flatten(again)[1], tensors, strict=True))


def test_flatten_of_a_record():
    spec, tensors, numbers = flatten(Batch(X, 2.0))
    again = unflatten(spec, tensors, numbers)
    assert type(again) is Batch and again.inputs is X and again.weight == 2.0


Y = ntorch.ones(3)
BASE = ntorch.ones(6)
DIFFERENT = {
    "shape": ((X,), (ntorch.ones(4),)),
    "dtype": ((X,), (X.double(),)),
    "strides": ((ntorch.ones(3, 3),), (ntorch.ones(3, 3).t(),)),
    "requires_grad": ((X,), (ntorch.ones(3, requires_grad=True),)),
    "leaf": ((ntorch.ones(3, requires_grad=True),), (ntorch.ones(3, requires_grad=True) * 1,)),
    "parameter": ((ntorch.ones(3, requires_grad=True),), (nn.Parameter(ntorch.ones(3)),)),
    "device": ((X,), (X.to("meta"),)),
    "one object twice": ((X, Y), (X, X)),
    "one storage": ((BASE[:3], Y), (BASE[:3], BASE[3:])),
    "overlap": ((BASE[:3], BASE[3:]), (BASE[:3], BASE[2:5])),
    "number": ((X, 1.0), (X, 2.0)),
    "type of a number": ((X, 1), (X, True)),
    "sign of zero": ((X, 0.0), (X, -0.0)),
    "list or tuple": (([X],), ((X,),)),
    "keys": (({"a": X},), ({"b": X},)),
    "object": ((X, config), (X, Config())),
    "content of an array": ((np.zeros(3),), (np.ones(3),)),
    "count": ((X,), (X, X)),
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_keys_tell_apart(name):
    first, second = DIFFERENT[name]
    one, other = signature(first, {})[0], signature(second, {})[0]
    assert one != other
    assert one == signature(first, {})[0] and hash(one) == hash(signature(first, {})[0])


def test_keys_of_equal_calls():
    assert signature((X,), {})[0] == signature((Y,), {})[0]
    assert signature((X, Y), {})[0] == signature((Y, X), {})[0]
    assert signature((float("nan"),), {})[0] == signature((float("nan"),), {})[0]
    assert signature((X, X), {})[0] == signature((Y, Y), {})[0]
    key, tensors, numbers, spec = signature((X, 2), {"b": [Y]})
    args, kwargs = unflatten(spec, tensors, numbers)
    assert args[0] is X and args[1] == 2 and kwargs["b"][0] is Y
    assert signature((X, 2.0), {}, free={0})[0] == signature((X, 3.0), {}, free={0})[0]
    assert signature((X, 2.0), {}, free={0})[0] != signature((X, 3), {}, free={0})[0]


def test_keys_know_the_modes():
    key = signature((X,), {})[0]
    with ntorch.no_grad():
        assert signature((X,), {})[0] != key
    with ntorch.inference_mode():
        assert signature((X,), {})[0] != key
    ntorch.set_default_dtype(ntorch.float64)
    try:
        assert signature((X,), {})[0] != key
    finally:
        ntorch.set_default_dtype(ntorch.float32)


def per_call(function, calls=2000):
    best = float("inf")
    for _ in range(10):
        start = time.perf_counter()
        for _ in range(calls):
            function()
        best = min(best, (time.perf_counter() - start) / calls)
    return best * 1e6


def test_checks_are_cheap():
    """Far above what is measured (1 us, 20 us), so that a busy machine does not fail it."""
    tiny = watched(lambda x: helper(x), X)
    assert tiny.count < 20 and per_call(tiny.check) < 10
    net = nn.Sequential(*[nn.Linear(3, 3) for _ in range(50)])
    assert per_call(watched(net, ntorch.ones(1, 3)).check, 200) < 150
    assert per_call(lambda: signature((X,), {})) < 10
