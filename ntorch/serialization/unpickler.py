"""Pickle, read without running anything: an interpreter of the opcodes that data needs.

A pickle is a program for a small stack machine, and two of its instructions call functions.
Here they call only what :mod:`.names` lists. There is no import, no attribute look-up by a name
from the file, and nothing from the file is ever executed.
"""

from __future__ import annotations

import pickle
import struct
from collections import Counter, OrderedDict
from collections.abc import Callable
from pickle import UnpicklingError
from typing import Any

import ntorch

from . import names

# Names and keys are read whole before they are judged; this bounds a hostile one.
LONGEST_NAME = 4096


class SafeUnpickler:
    """Reads one pickled object from ``file`` with :meth:`load`.

    Attributes:
        persistent_load: called with the tuple that stands for a storage.

    Raises:
        UnpicklingError: the pickle is damaged, or asks for something that is not plain data.
    """

    def __init__(
        self,
        file: Any,
        persistent_load: Callable[[tuple[Any, ...]], Any] | None = None,
        encoding: str = "utf-8",
    ):
        self._file = file
        self.persistent_load = persistent_load
        self.encoding = encoding
        self._stack: list[Any] = []
        self._outer: list[list[Any]] = []
        self._memo: dict[int, Any] = {}

    def load(self) -> Any:
        """The object. Damage of any kind is told as an UnpicklingError."""
        first = self._file.read(1)
        if not first:
            raise EOFError("load: ran out of input; the file is empty or truncated")
        opcode = first[0]
        try:
            while opcode != STOP:
                action = ACTIONS.get(opcode)
                if action is None:
                    raise UnpicklingError(
                        f"unsupported opcode {bytes([opcode])!r}; the file is not a checkpoint, "
                        "or it is corrupt"
                    )
                action(self)
                opcode = self._read(1)[0]
            return self._stack.pop()
        except (UnpicklingError, RuntimeError, MemoryError):
            raise
        except Exception as error:
            # An empty stack, a missing memo entry, arguments that do not fit: all mean damage.
            raise UnpicklingError(
                f"the pickle is corrupt ({type(error).__name__}: {error})"
            ) from error

    def _read(self, size: int) -> bytes:
        data = self._file.read(size)
        if len(data) != size:
            raise UnpicklingError("pickle data was truncated")
        return data

    def _number(self, layout: str) -> Any:
        return struct.unpack(layout, self._read(struct.calcsize(layout)))[0]

    def _line(self) -> str:
        line = self._file.readline(LONGEST_NAME)
        if not line.endswith(b"\n"):
            raise UnpicklingError("pickle data was truncated")
        return line[:-1].decode()

    def _push(self, value: Any) -> None:
        self._stack.append(value)

    def _marked(self) -> list[Any]:
        items, self._stack = self._stack, self._outer.pop()
        return items

    # --- what is named and called -----------------------------------------------------------

    def _find(self, module: str, name: str) -> Any:
        key = names.canonical(module, name)
        value = names.allowed().get(key)
        if value is None:
            value = names.user_value(module, name)
        if value is None:
            raise UnpicklingError(
                f"Unsupported global: GLOBAL {module}.{name} was not an allowed global by default. "
                f"If you trust it, allow it with ntorch.serialization.add_safe_globals([{name}])"
            )
        return value

    def global_(self) -> None:
        module = self._line()
        self._push(self._find(module, self._line()))

    def stack_global(self) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        if type(name) is not str or type(module) is not str:
            raise UnpicklingError("STACK_GLOBAL: expected two names")
        self._push(self._find(module, name))

    def reduce(self) -> None:
        arguments, function = self._stack.pop(), self._stack.pop()
        if type(arguments) is not tuple:
            raise UnpicklingError("REDUCE: expected the arguments in a tuple")
        if id(function) not in names.callables() and not names.is_user_value(function):
            raise UnpicklingError(f"Trying to call reduce for unrecognized function {function!r}")
        self._push(function(*arguments))

    def new_object(self) -> None:
        arguments, kind = self._stack.pop(), self._stack.pop()
        if kind is ntorch.nn.Parameter:
            self._push(kind(*arguments))
        elif names.is_user_value(kind) and isinstance(kind, type):
            self._push(kind.__new__(kind, *arguments))
        else:
            raise UnpicklingError(
                "Can only create new objects of nn.Parameter or of classes allowed with "
                f"add_safe_globals, but got {kind!r}"
            )

    def build(self) -> None:
        state, target = self._stack.pop(), self._stack[-1]
        if type(target) is OrderedDict:
            # state_dict keeps `_metadata` as an attribute; nothing that exists may be replaced.
            if type(state) is not dict or any(hasattr(OrderedDict, str(k)) for k in state):
                raise UnpicklingError("BUILD: unexpected attributes of an OrderedDict")
            target.__dict__.update(state)
        elif names.is_user_value(type(target)):
            _build_user(target, state)
        else:
            raise UnpicklingError(
                "Can only build OrderedDict or types allowed with add_safe_globals, but got "
                f"{type(target).__name__}"
            )

    def persistent(self) -> None:
        saved_id = self._stack.pop()
        if type(saved_id) is not tuple or self.persistent_load is None:
            raise UnpicklingError(
                f"expected a persistent id to be a tuple, but got {type(saved_id).__name__}"
            )
        self._push(self.persistent_load(saved_id))

    # --- containers -------------------------------------------------------------------------

    def append(self) -> None:
        item = self._stack.pop()
        self._extend([item])

    def appends(self) -> None:
        self._extend(self._marked())

    def _extend(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if type(target) is not list:
            raise UnpicklingError(f"Can only append to lists, but got {type(target).__name__}")
        target.extend(items)

    def add_items(self) -> None:
        items, target = self._marked(), self._stack[-1]
        if type(target) is not set:
            raise UnpicklingError(f"Can only add to sets, but got {type(target).__name__}")
        for item in items:
            names.check_key(item)
        target.update(items)

    def set_item(self) -> None:
        value, key = self._stack.pop(), self._stack.pop()
        self._update([key, value])

    def set_items(self) -> None:
        self._update(self._marked())

    def _update(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if type(target) not in (dict, OrderedDict, Counter) or len(items) % 2:
            raise UnpicklingError(
                f"Can only set items of a dict, OrderedDict or Counter, but got "
                f"{type(target).__name__}"
            )
        for key, value in zip(items[::2], items[1::2], strict=True):
            names.check_key(key)
            target[key] = value

    def mark(self) -> None:
        self._outer.append(self._stack)
        self._stack = []

    def pop(self) -> None:
        if self._stack:
            self._stack.pop()
        else:
            self._marked()

    def tuple_of(self, count: int) -> None:
        if len(self._stack) < count:
            raise UnpicklingError("pickle stack underflow")
        self._stack[-count:] = [tuple(self._stack[-count:])]

    def frozen_set(self) -> None:
        items = self._marked()
        for item in items:
            names.check_key(item)
        self._push(frozenset(items))

    # --- the memo, numbers, text ------------------------------------------------------------

    def get(self, layout: str) -> None:
        self._push(self._memo[self._number(layout)])

    def put(self, layout: str) -> None:
        self._memo[self._number(layout)] = self._stack[-1]

    def memoize(self) -> None:
        self._memo[len(self._memo)] = self._stack[-1]

    def long(self, layout: str) -> None:
        self._push(pickle.decode_long(self._read(self._length(layout))))

    def _length(self, layout: str) -> int:
        length = self._number(layout)
        if not 0 <= length < 2**40:
            raise UnpicklingError(f"pickle data of {length} bytes is too long")
        return length

    def text(self, layout: str) -> None:
        self._push(str(self._read(self._length(layout)), "utf-8", "surrogatepass"))

    def octets(self, layout: str) -> None:
        self._push(self._read(self._length(layout)))

    def old_text(self, layout: str) -> None:
        # Python 2's str, which was both text and bytes.
        data = self._read(self._length(layout))
        self._push(data if self.encoding == "bytes" else data.decode(self.encoding))

    def byte_array(self) -> None:
        self._push(bytearray(self._read(self._length("<Q"))))

    def protocol(self) -> None:
        version = self._number("<B")
        if not 2 <= version <= 5:
            raise UnpicklingError(f"unsupported pickle protocol: {version}")


def _build_user(target: Any, state: Any) -> None:
    if hasattr(target, "__setstate__"):
        target.__setstate__(state)
        return
    attributes, slots = state if isinstance(state, tuple) and len(state) == 2 else (state, None)
    if attributes:
        target.__dict__.update(attributes)
    for name, value in (slots or {}).items():
        setattr(target, name, value)


def _opcode(code: bytes) -> int:
    return code[0]


STOP = _opcode(pickle.STOP)

_Action = Callable[[SafeUnpickler], None]


def _constant(make: Callable[[], Any]) -> _Action:
    return lambda u: u._push(make())


def _with(method: Callable[[SafeUnpickler, Any], None], argument: Any) -> _Action:
    return lambda u: method(u, argument)


def _numeric(layout: str) -> _Action:
    return lambda u: u._push(u._number(layout))


_U = SafeUnpickler

ACTIONS: dict[int, _Action] = {
    _opcode(code): action
    for code, action in [
        (pickle.PROTO, _U.protocol),
        (pickle.FRAME, lambda u: u._read(8)),
        (pickle.GLOBAL, _U.global_),
        (pickle.STACK_GLOBAL, _U.stack_global),
        (pickle.REDUCE, _U.reduce),
        (pickle.NEWOBJ, _U.new_object),
        (pickle.BUILD, _U.build),
        (pickle.BINPERSID, _U.persistent),
        (pickle.APPEND, _U.append),
        (pickle.APPENDS, _U.appends),
        (pickle.ADDITEMS, _U.add_items),
        (pickle.SETITEM, _U.set_item),
        (pickle.SETITEMS, _U.set_items),
        (pickle.MARK, _U.mark),
        (pickle.POP, _U.pop),
        (pickle.POP_MARK, lambda u: u._marked() and None),
        (pickle.TUPLE, lambda u: u._push(tuple(u._marked()))),
        (pickle.TUPLE1, _with(_U.tuple_of, 1)),
        (pickle.TUPLE2, _with(_U.tuple_of, 2)),
        (pickle.TUPLE3, _with(_U.tuple_of, 3)),
        (pickle.FROZENSET, _U.frozen_set),
        (pickle.NONE, _constant(lambda: None)),
        (pickle.NEWTRUE, _constant(lambda: True)),
        (pickle.NEWFALSE, _constant(lambda: False)),
        (pickle.EMPTY_TUPLE, _constant(tuple)),
        (pickle.EMPTY_LIST, _constant(list)),
        (pickle.EMPTY_DICT, _constant(dict)),
        (pickle.EMPTY_SET, _constant(set)),
        (pickle.BININT, _numeric("<i")),
        (pickle.BININT1, _numeric("<B")),
        (pickle.BININT2, _numeric("<H")),
        (pickle.BINFLOAT, _numeric(">d")),
        (pickle.LONG1, _with(_U.long, "<B")),
        (pickle.LONG4, _with(_U.long, "<i")),
        (pickle.BINUNICODE, _with(_U.text, "<I")),
        (pickle.SHORT_BINUNICODE, _with(_U.text, "<B")),
        (pickle.BINUNICODE8, _with(_U.text, "<Q")),
        (pickle.BINBYTES, _with(_U.octets, "<I")),
        (pickle.SHORT_BINBYTES, _with(_U.octets, "<B")),
        (pickle.BINBYTES8, _with(_U.octets, "<Q")),
        (pickle.BYTEARRAY8, _U.byte_array),
        (pickle.BINSTRING, _with(_U.old_text, "<i")),
        (pickle.SHORT_BINSTRING, _with(_U.old_text, "<B")),
        (pickle.BINGET, _with(_U.get, "<B")),
        (pickle.LONG_BINGET, _with(_U.get, "<I")),
        (pickle.BINPUT, _with(_U.put, "<B")),
        (pickle.LONG_BINPUT, _with(_U.put, "<I")),
        (pickle.MEMOIZE, _U.memoize),
    ]
}
