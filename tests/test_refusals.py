"""Bad input by the hundred: each call of ``refusals.txt`` raises torch's exception type, with a
message that says more than Python's own would. Where torch is installed it raises it too."""
import itertools
import pathlib
import re

import pytest

import ntorch

ERRORS = {kind.__name__: kind for kind in (
    RuntimeError, IndexError, ValueError, TypeError, NotImplementedError, AssertionError)}
# what Python says where nobody has looked at an argument
UNCHECKED = re.compile("object has no attribute|unexpected keyword|not supported between|"
                       "object is not|required argument is not")


def calls(text):
    """``(family, exception, expression)`` of each line, its alternatives written out."""
    words, family, found = {}, "", []
    for line in text.splitlines():
        if line.startswith("## "):
            family = line[3:]
        elif (named := re.match(r"([A-Z]+) = (\S+)$", line)):
            words[named[1]] = named[2]
        elif line and not line.startswith("#"):
            error, expression = line.split(None, 1)
            for name, choice in words.items():
                expression = expression.replace(f"<{name}>", f"<{choice}>")
            parts = re.split(r"<([^<>|]+(?:\|[^<>|]+)+)>", expression)
            choices = [p.split("|") if k % 2 else [p] for k, p in enumerate(parts)]
            for each in map("".join, itertools.product(*choices)):
                sizes = (1, 2, 3) if "#" in each else (0,)
                found += [(family, error, each.replace("#", str(n))) for n in sizes]
    return found


CALLS = calls((pathlib.Path(__file__).parent / "refusals.txt").read_text(encoding="utf-8"))
every = pytest.mark.parametrize("family, error, expression", CALLS,
                                ids=[f"{family}: {text}" for family, _, text in CALLS])


def names(m):
    """What an expression may use of the module ``m``."""
    def f(*shape, d="float32"):
        return m.ones(*shape, dtype=getattr(m, d))

    def parameters():
        return [m.nn.Parameter(f(2))]
    return {"m": m, "F": m.nn.functional, "R": m.nn.utils.rnn, "S": m.optim.lr_scheduler, "f": f,
            "i": lambda *values: m.tensor(list(values), dtype=m.int64), "parameters": parameters,
            "sgd": lambda: m.optim.SGD(parameters(), lr=0.1),
            "h": lambda kind, *shape: (f(*shape),) * 2 if kind == "LSTM" else f(*shape),
            "x": lambda n: f(1, 2, *(5,) * n), "w": lambda n: f(3, 2, *(3,) * n),
            "wt": lambda n: f(2, 3, *(3,) * n)}


@pytest.mark.filterwarnings("ignore")
@every
def test_refused(family, error, expression):
    with pytest.raises(ERRORS[error]) as caught:
        eval(expression, names(ntorch))
    message = str(caught.value)
    assert len(message) > 15 and not UNCHECKED.search(message), message


@pytest.mark.filterwarnings("ignore")
@every
def test_torch_refuses_the_same(family, error, expression):
    torch = pytest.importorskip("torch")
    with pytest.raises(ERRORS[error]) as caught:
        eval(expression, names(torch))
    # the most special of the known types, so that the line names it
    known = [kind for kind in type(caught.value).__mro__ if kind in ERRORS.values()]
    assert known[0] is ERRORS[error]


def test_every_family_is_read():
    assert len({family for family, _, _ in CALLS}) == 18
    assert len(CALLS) > 800
