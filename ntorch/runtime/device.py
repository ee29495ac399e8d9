"""Devices: where a storage's bytes live."""
import re


class device:
    """``device("cpu")``, ``device("cuda:0")``, ``device("cuda", 0)``, ``device("meta")``.

    ``type`` is the kind, ``index`` the ordinal or None. RuntimeError for a string that names none.
    """

    __slots__ = ("type", "index", "_hash")
    KINDS = ("cpu", "cuda", "meta")

    def __new__(cls, type, index=None):  # noqa: A002 - torch's keyword
        if isinstance(type, device):
            return type
        if isinstance(type, int):
            type, index = "cuda", type
        match = re.fullmatch(r"([a-z]+)(?::(\d+))?", type) if isinstance(type, str) else None
        if match is None:
            raise RuntimeError(f"Invalid device string: {type!r}")
        kind, ordinal = match.groups()
        if kind not in cls.KINDS:
            raise RuntimeError(f"Expected one of {', '.join(cls.KINDS)} device type at start of "
                               f"device string: {kind}")
        if ordinal is not None and index is not None:
            raise RuntimeError(f"type (string) must not include an index because index was passed "
                               f"explicitly: {type}")
        index = int(ordinal) if ordinal is not None else index
        known = _known.get((kind, index))
        if known is None:
            known = _known[kind, index] = object.__new__(cls)
            known.type, known.index = kind, index
            known._hash = hash((kind, index))
        return known

    def __repr__(self):
        index = "" if self.index is None else f", index={self.index}"
        return f"device(type='{self.type}'{index})"

    def __str__(self):
        return self.type if self.index is None else f"{self.type}:{self.index}"

    def __hash__(self):
        return self._hash

    def __eq__(self, other):
        return self is other

    def __reduce__(self):
        return device, (self.type, self.index)

    def __deepcopy__(self, memo):
        return self


_known = {}
CPU = device("cpu")
META = device("meta")


def check_available(wanted):
    """``wanted`` as a device that memory can be taken on; RuntimeError if there is none."""
    wanted = CPU if wanted is None else device(wanted)
    if wanted.type == "cuda":
        raise RuntimeError("ntorch has no CUDA device here: expected device 'cpu' or 'meta', got "
                           f"'{wanted}'. Move the data with .to('cpu').")
    if wanted.type == "cpu" and wanted.index:
        raise RuntimeError(f"invalid CPU device index {wanted.index}: there is only cpu:0")
    return wanted
