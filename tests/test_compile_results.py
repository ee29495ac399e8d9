"""Numbers, containers and objects that compiled functions return, keep and look at."""
import collections
import dataclasses
import gc
import math
import threading
import types
import warnings

import numpy as np
import pytest

import ntorch
from ntorch import nn


@dataclasses.dataclass
class Record:
    value: object
    more: list


KNOWN = {"k": 1}


def test_containers_are_new_at_each_call():
    def function(x):
        return (x * 2, [], {"n": x.shape[0]}, {1, 2}, Record(x.sum(), [1]), ([],), KNOWN,
                collections.OrderedDict(a=[1]), collections.deque([1], maxlen=2))
    compiled = ntorch.compile(function)
    for _ in range(3):
        found, wanted = compiled(ntorch.ones(2)), function(ntorch.ones(2))
        assert str(found) == str(wanted) and found[6] is KNOWN
        found[1].append(1)
        found[2]["more"] = 2
        found[3].add(9)
        found[4].more.append(2)
        found[5][0].append(3)
        found[7]["a"].append(2)
        found[8].append(5)
    assert len(compiled.programs()) == 1


def test_new_objects_are_made_by_python():
    class Result:
        def __init__(self, size):
            self.size, self.notes = size, []
    compiled = ntorch.compile(lambda x: (x * 2, Result(3)))
    for _ in range(3):
        _, made = compiled(ntorch.ones(2))
        assert made.notes == []
        made.notes.append(1)
    assert "returns a new object of class" in compiled.explain()


@pytest.mark.parametrize("change", [False, True])
def test_a_container_that_was_given_comes_back(change):
    def function(batch, items):
        if change:
            batch["y"] = batch["x"] * 2
            items.append(batch["x"])
        return batch, items, batch["x"] * 2
    compiled = ntorch.compile(function)
    for _ in range(3):
        batch, items = {"x": ntorch.ones(1)}, []
        x = batch["x"]
        found = compiled(batch, items)
        assert found[0] is batch and found[1] is items and batch["x"] is x
        assert ("y" in batch) is change and (not items or items[0] is x)


def _rate(i):
    return 0.01 * (i + 1)


BOX = types.SimpleNamespace(last=None)


def _keep(x, rate):
    BOX.last = rate
    return x * rate


NUMBERS = {
    "returned": lambda x, rate: (x * rate, rate, {"k": [rate * 2]}, (rate,)),
    "text": lambda x, rate: (x * rate, f"{rate:.2f}", str(rate), rate.is_integer()),
    "isinstance": lambda x, rate: x * rate if isinstance(rate, float) else x,
    "a key": lambda x, rate: (x * rate, {rate: 1}),
    "kept": _keep,
}


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_that_change(name):
    function = NUMBERS[name]
    compiled = ntorch.compile(function)
    for i in range(5):
        found, kept = compiled(ntorch.ones(1), _rate(i)), BOX.last
        assert str(found) == str(function(ntorch.ones(1), _rate(i)))
        assert type(kept) in (float, type(None)) and kept == BOX.last
        if name == "returned":
            assert type(found[1]) is type(found[3][0]) is float


def _optimized():
    ntorch.manual_seed(0)
    model = nn.Linear(2, 1)
    return model, ntorch.optim.Adam(model.parameters(), lr=0.01)


def _step(model, optimizer, x):
    loss = model(x).square().sum()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.detach()


def _set(model, optimizer, x, rate):
    for group in optimizer.param_groups:
        group["lr"] = rate
    return _step(model, optimizer, x)


def _get(model, optimizer, x, rate):
    return _step(model, optimizer, x), optimizer.param_groups[0]["lr"]


def _get_state(model, optimizer, x, rate):
    _step(model, optimizer, x)
    return optimizer.state_dict()["param_groups"][0]["lr"]


@pytest.mark.parametrize("step", [_set, _get, _get_state])
def test_learning_rates_that_the_step_sets_or_reads(step):
    found = []
    for wrap in (lambda f: f, ntorch.compile):
        model, optimizer = _optimized()
        call = wrap(lambda x, rate, m=model, o=optimizer: step(m, o, x, rate))
        results = []
        for i in range(5):
            if step is not _set:
                optimizer.param_groups[0]["lr"] = _rate(i)
            results.append(str(call(ntorch.ones(3, 2), _rate(i))))
            assert type(optimizer.param_groups[0]["lr"]) is float
        found.append((results, model.weight.tolist()))
    assert found[0][0] == found[1][0]
    assert ntorch.allclose(ntorch.tensor(found[0][1]), ntorch.tensor(found[1][1]))


def test_warnings_of_the_user_are_heard_at_each_call():
    def function(x):
        warnings.warn("mind this", stacklevel=1)
        return x * 2
    compiled = ntorch.compile(function)
    for _ in range(3):
        with pytest.warns(UserWarning, match="mind this"):
            compiled(ntorch.ones(2))
    assert "it warns, at each call" in compiled.explain()


def test_who_asks_for_its_thread_runs_as_python():
    compiled = ntorch.compile(lambda x: (x * 2, threading.current_thread().name))
    names = []
    for _ in range(2):
        threads = [threading.Thread(target=lambda: names.append(compiled(ntorch.ones(2))[1]))
                   for _ in range(2)]
        for thread in threads:
            thread.start()
            thread.join()
    assert len(set(names)) == 4


WEIGHT = ntorch.full((3,), 7.0)
HELD, NAMED, RECORD = [WEIGHT], {"w": WEIGHT}, Record(WEIGHT, [])


class Output(collections.OrderedDict):
    """A dict whose entries are attributes as well, as libraries return them."""

    def __setitem__(self, name, value):
        super().__setitem__(name, value)
        self.__dict__[name] = value


class Pair(tuple):
    def __new__(cls, a, b):
        return super().__new__(cls, (a, b))


class Names(list):
    pass


def _named(x):
    made = Names([x * 2])
    made.note = x.shape[0]
    return made


def _output(x):
    made = Output()
    made["logits"] = x * 2
    return made


def _collected(x):
    made = [x * 2]
    gc.collect()
    return made, [1]


def _unset(x):
    made = object.__new__(Record)
    made.value = x * 2
    return made


RESULTS = {
    "a list that was there": (lambda x: (HELD, x * 2), lambda r: (r[0] is HELD, r[1].tolist())),
    "a dict that was there": (lambda x: (NAMED, x * 2), lambda r: (r[0] is NAMED, r[1].tolist())),
    "a record that was there": (lambda x: (RECORD, x * 2),
                                lambda r: (r[0] is RECORD, r[1].tolist())),
    "a deque of tensors": (lambda x: (collections.deque([WEIGHT]), x * 2),
                           lambda r: (r[0][0].tolist(), r[1].tolist())),
    "a set of tensors": (lambda x: ({WEIGHT}, x * 2),
                         lambda r: ([t.tolist() for t in r[0]], r[1].tolist())),
    "a set of an argument": (lambda x: ({x}, x * 2), lambda r: (len(r[0]), r[1].tolist())),
    "after a collection": (_collected, lambda r: (r[0][0].tolist(), r[1].append(2), len(r[1]))),
    "attributes of a dict": (_output, lambda r: (r["logits"] is r.logits, r.logits.tolist())),
    "attributes of a list": (_named, lambda r: (type(r), r.note, r[0].tolist())),
    "a tuple with its own constructor": (lambda x: Pair(x * 2, 1),
                                         lambda r: (type(r), r[0].tolist(), r[1])),
    "a field that is not set": (_unset, lambda r: (r.value.tolist(), hasattr(r, "more"))),
    "a closure": (lambda x: (x * 2, lambda: x.shape), lambda r: (r[0].tolist(), r[1]())),
    "a method of a new object": (lambda x: (x * 2, [x.shape[0]].append),
                                 lambda r: (r[0].tolist(), r[1](1))),
}


@pytest.mark.parametrize("name", RESULTS)
def test_results_are_those_of_the_call(name):
    function, seen = RESULTS[name]
    compiled = ntorch.compile(function)
    for k in range(4):
        x = ntorch.full((2,), float(k))
        assert seen(compiled(x)) == seen(function(x.clone()))


def test_new_functions_know_the_numbers_of_their_call():
    compiled = ntorch.compile(lambda x, s: (x * s, lambda: s))
    for s in (1.0, 2.0, 3.0, 4.0):
        assert compiled(ntorch.ones(2), s)[1]() == s

    def record(x, s):
        made = Record(x * s, [])
        made.scale = s
        return made
    compiled = ntorch.compile(record)
    assert [compiled(ntorch.ones(2), s).scale for s in (1.0, 2.0, 3.0, 4.0)] == [1, 2, 3, 4]


def test_changing_numbers_in_plain_python():
    def function(x, s):
        return (x * np.sqrt(s) + np.array([s, 2.0]).sum() + divmod(s, 2)[1] + math.floor(s)
                + math.ceil(-s) + complex(s).real + math.trunc(s))
    compiled = ntorch.compile(function)
    for s in (1.5, 2.5, 4.0, 9.25):
        np.testing.assert_allclose(compiled(ntorch.ones(2), s).numpy(),
                                   function(ntorch.ones(2), s).numpy(), rtol=1e-6)


def test_an_argument_that_becomes_a_leaf_gets_gradients():
    compiled = ntorch.compile(lambda a: (a.requires_grad_(), (a * 2).sum())[1])
    for _ in range(3):
        a = ntorch.ones(2)
        compiled(a).backward()
        assert a.requires_grad and a.grad.tolist() == [2.0, 2.0]
