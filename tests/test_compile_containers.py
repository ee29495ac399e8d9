"""Lists, dicts and records among the arguments of compiled functions are the caller's."""
import collections
import dataclasses

import pytest

import ntorch


@dataclasses.dataclass
class Record:
    x: object
    more: object = None


def _written(d):
    d["out"] = d["x"] * 2
    return d["x"] + 1


def _appended(d):
    d["list"].append(d["x"] * len(d["list"]))
    return d["x"] * 1.5


def _kept(d):
    d["list"].append(d["x"])
    d["list"].append(d["list"])
    d["other"] = (d["x"], [d["x"] + 1], d["factor"])
    return d["x"] * d["factor"]


def _removed(d):
    return d.pop("x") * d.pop("factor") + d["list"].pop()


def _record(d):
    d["record"].more = d["record"].x * 2
    d["queue"].appendleft(d["x"] * 3)
    d["queue"].pop()
    return d["x"] - 1


def made(value):
    x = ntorch.full((3,), value)
    return {"x": x, "factor": value + 0.5, "list": [x, x * 2], "record": Record(x),
            "queue": collections.deque([x, x + 1])}


def same(one, other):
    """Whether two nests hold equal numbers."""
    if isinstance(one, ntorch.Tensor):
        return ntorch.equal(one, other)
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[k], other[k]) for k in one)
    if isinstance(one, list | tuple | collections.deque):
        return len(one) == len(other) and all(
            a is one and b is other or same(a, b) for a, b in zip(one, other, strict=True))
    if isinstance(one, Record):
        return same(one.x, other.x) and same(one.more, other.more)
    return one == other


@pytest.mark.parametrize("function", [_written, _appended, _kept, _removed, _record])
def test_what_a_function_does_to_them_happens_at_each_call(function):
    compiled = ntorch.compile(function)
    for number in range(12):
        mine, plain = made(float(number)), made(float(number))
        assert same(compiled(mine), function(plain))
        assert same(mine, plain)
    assert "among the arguments was changed" in compiled.explain()


def test_arguments_put_in_a_list_are_themselves():
    compiled, held = ntorch.compile(lambda x, found: found.append(x) or x * 2), []
    x = ntorch.ones(2)
    compiled(x, held)
    assert held[0] is x


def test_a_list_that_was_changed_before_an_exception():
    def function(x, found):
        found.append(x * 2)
        raise ValueError("enough")
    found = []
    with pytest.raises(ValueError, match="enough"):
        ntorch.compile(function)(ntorch.ones(2), found)
    assert ntorch.equal(found[0], ntorch.full((2,), 2.0))


def test_containers_that_are_only_read_stay_in_a_program():
    compiled = ntorch.compile(lambda d: d["x"] * d["factor"] + sum(d["list"]))
    for number in range(4):
        d = made(float(number))
        assert same(compiled(d), d["x"] * d["factor"] + sum(d["list"]))
    assert 1 <= len(compiled.programs()) <= 2
