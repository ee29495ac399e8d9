"""Numbers of a graph that are asked for anew at every run."""
import numbers
import typing


class Dynamic:
    """A number that is asked for anew at every run: ``read()``.

    ``value`` is what it was at trace time. Whoever needs it as a plain number at trace time freezes
    it: ``freeze(self)`` then adds a guard, so that another value means another trace.
    """

    __slots__ = ("read", "value", "freeze")
    is_dynamic = True

    def __init__(self, read, value, freeze=None):
        self.read, self.value, self.freeze = read, value, freeze

    def _number(self):
        if self.freeze is not None:
            self.freeze(self)
        return self.value

    def int_slot(self):
        """What a launch's slot holds where an integer is meant, not the bits of a double."""
        return IntSlot(self)

    __hash__ = object.__hash__      # after __eq__ below: a key in dicts of one run's values

    def __float__(self):
        return float(self._number())

    def __int__(self):
        return int(self._number())

    __index__ = __int__

    def __complex__(self):
        return complex(self._number())

    def __array__(self, dtype=None, copy=None):
        import numpy as np
        return np.array(self._number(), dtype)

    def __bool__(self):
        return bool(self._number())

    def __repr__(self):
        return f"dynamic({self.value})"

    @property
    def __class__(self):        # Python asks whether it is a float; the house asks for its type
        return type(self.value)

    def __reduce__(self):
        return type(self.value), (self._number(),)

    def __str__(self):
        return str(self._number())

    def __format__(self, form):
        return format(self._number(), form)

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        value = getattr(self.value, name)
        self._number()
        return value


class IntSlot(typing.NamedTuple):
    """A slot that holds ``dynamic`` as an integer; a bare Dynamic is the bits of a double."""
    dynamic: Dynamic


def _mirrored(name):
    def method(self, *others):
        if others and not isinstance(others[0], numbers.Number):
            return NotImplemented       # a tensor takes it as it is
        others = [o._number() if isinstance(o, Dynamic) else o for o in others]
        return getattr(self._number(), name)(*others)
    return method


for _name in ("add radd sub rsub mul rmul truediv rtruediv floordiv rfloordiv mod rmod pow rpow "
              "divmod rdivmod neg pos abs eq ne lt le gt ge round trunc floor ceil").split():
    setattr(Dynamic, f"__{_name}__", _mirrored(f"__{_name}__"))
numbers.Real.register(Dynamic)
