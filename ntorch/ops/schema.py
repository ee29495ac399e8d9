"""Signatures in torch's schema grammar, parsed once per entry.

``name(Tensor self, int[2] kernel_size, *, float eps=1e-5, ScalarType? dtype=None) -> (Tensor,
Tensor)``
"""
import dataclasses
import re
import typing

_PARAMETER = re.compile(r"(?P<type>[A-Za-z]+(?:\([a-z]+!?\))?)(?P<list>\??\[\d*\])?"
                        r"(?P<optional>\??) +(?P<name>\w+)(?:=(?P<default>.+))?$")
REQUIRED = object()


@dataclasses.dataclass(frozen=True)
class Parameter:
    """One argument: ``kind`` is the schema type (``Tensor``, ``int``, ...), ``length`` of
    ``int[2]``."""
    name: str
    kind: str
    is_list: bool = False
    length: int | None = None
    optional: bool = False
    default: typing.Any = REQUIRED
    keyword_only: bool = False

    @property
    def public_name(self):
        """The keyword of the function form: torch calls ``self`` ``input`` there."""
        return "input" if self.name == "self" else self.name

    @property
    def is_tensor(self):
        """Whether a Tensor (or a list of them) may stand here."""
        return self.kind in ("Tensor", "Operand")


@dataclasses.dataclass(frozen=True)
class Schema:
    """A parsed signature; ``parameters`` leave ``out`` out."""
    name: str
    parameters: tuple
    n_results: int


def _default(text):
    if text is None:
        return REQUIRED
    text = text.strip()
    words = {"None": None, "True": True, "False": False, "[]": ()}
    if text in words:
        return words[text]
    if text[0] in "'\"":
        return text[1:-1]
    if text.startswith("["):
        return tuple(int(part) for part in text[1:-1].split(","))
    if text in ("inf", "-inf", "nan"):
        return float(text)
    return float(text) if re.search(r"[.e]", text) else int(text)


def _parameter(text, keyword_only):
    match = _PARAMETER.match(text)
    if match is None:
        raise ValueError(f"bad parameter in schema: {text!r}")
    listed = match["list"] or ""
    digits = re.sub(r"\D", "", listed)
    return Parameter(match["name"], re.sub(r"\(.*\)", "", match["type"]), bool(listed),
                     int(digits) if digits else None,
                     bool(match["optional"]) or listed.startswith("?"),
                     _default(match["default"]), keyword_only)


def parse(text):
    """The ``Schema`` of a signature; ValueError if it is not in the grammar."""
    match = re.match(r"([\w.]+)\((.*)\) -> (.*)$", " ".join(text.split()))
    if match is None:
        raise ValueError(f"bad schema: {text!r}")
    name, body, results = match.groups()
    parameters, keyword_only = [], False
    for part in re.split(r", (?![^\[]*\])", body) if body else ():
        if part == "*":
            keyword_only = True
            continue
        parameter = _parameter(part.strip(), keyword_only)
        if parameter.name != "out":
            parameters.append(parameter)
    n_results = 0 if results == "()" else results.count(",") + 1
    return Schema(name, tuple(parameters), n_results)
