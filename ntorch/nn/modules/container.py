"""Modules that hold modules: Sequential, ModuleList, ModuleDict."""
import collections
import operator

from .module import Module, _indented


def _position(index, length, what):
    index = operator.index(index)
    if not -length <= index < length:
        raise IndexError(f"index {index} is out of range" + what)
    return index % length if length else index


class _Numbered(Module):
    """What Sequential and ModuleList share: children named "0", "1", ..."""

    def _key(self, index):
        return list(self._modules)[_position(index, len(self), "")]

    def _renumber(self, modules):
        self._modules = {str(i): module for i, module in enumerate(modules)}

    def __len__(self):
        return len(self._modules)

    def __iter__(self):
        return iter(self._modules.values())

    def __dir__(self):
        return [name for name in super().__dir__() if not name.isdigit()]

    def __delitem__(self, index):
        keys = list(self._modules)[index] if isinstance(index, slice) else [self._key(index)]
        for key in keys:
            delattr(self, key)
        self._renumber(list(self._modules.values()))

    def pop(self, index=-1):
        """Remove the child at ``index`` and return it."""
        module = self[index]
        del self[index]
        return module


class Sequential(_Numbered):
    """Modules run one after the other: ``Sequential(a, b)(x) = b(a(x))``.

    Takes modules, or one ordered dict of names to modules.
    """

    def __init__(self, *args):
        super().__init__()
        if len(args) == 1 and isinstance(args[0], collections.OrderedDict):
            for name, module in args[0].items():
                self.add_module(name, module)
        else:
            for index, module in enumerate(args):
                self.add_module(str(index), module)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return type(self)(collections.OrderedDict(list(self._modules.items())[index]))
        return self._modules[self._key(index)]

    def __setitem__(self, index, module):
        setattr(self, self._key(index), module)

    def __add__(self, other):
        if not isinstance(other, Sequential):
            raise ValueError("add operator supports only objects of Sequential class, but "
                             f"{type(other)} is given.")
        return Sequential(*self, *other)

    def __iadd__(self, other):
        if not isinstance(other, Sequential):
            raise ValueError("add operator supports only objects of Sequential class, but "
                             f"{type(other)} is given.")
        return self.extend(other)

    def __mul__(self, count):
        if not isinstance(count, int):
            raise TypeError(f"unsupported operand type(s) for *: {type(self)} and {type(count)}")
        if count <= 0:
            raise ValueError("Non-positive multiplication factor "
                             f"{count} for {type(self)}")
        return Sequential(*(list(self) * count))

    __rmul__ = __mul__

    def __imul__(self, count):
        modules = list(self * count)
        return self.extend(modules[len(self):])

    def forward(self, input):
        for module in self._modules.values():
            input = module(input)
        return input

    def append(self, module):
        """Add ``module`` at the end; return self."""
        self.add_module(str(len(self)), module)
        return self

    def extend(self, sequential):
        """Add all of ``sequential`` at the end; return self."""
        for module in list(sequential):
            self.append(module)
        return self

    def insert(self, index, module):
        """Put ``module`` in front of position ``index``; return self."""
        if not isinstance(module, Module):
            raise AssertionError(f"module should be of type: {Module}")
        count = len(self)
        if not -count <= index <= count:
            raise IndexError(f"Index out of range: {index}")
        modules = list(self)
        modules.insert(index if index >= 0 else index + count, module)
        self._renumber(modules)
        return self


class ModuleList(_Numbered):
    """A list of modules, all of them registered. It has no ``forward``."""

    def __init__(self, modules=None):
        super().__init__()
        if modules is not None:
            self.extend(modules)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return type(self)(list(self)[index])
        return self._modules[str(_position(index, len(self), ""))]

    def __setitem__(self, index, module):
        setattr(self, str(_position(index, len(self), "")), module)

    def __iadd__(self, modules):
        return self.extend(modules)

    def __add__(self, other):
        return ModuleList([*self, *other])

    def insert(self, index, module):
        """Put ``module`` in front of position ``index``."""
        modules = list(self)
        modules.insert(index, module)
        self._renumber(modules)

    def append(self, module):
        """Add ``module`` at the end; return self."""
        self.add_module(str(len(self)), module)
        return self

    def extend(self, modules):
        """Add all ``modules`` at the end; return self."""
        if not isinstance(modules, collections.abc.Iterable):
            raise TypeError("ModuleList.extend should be called with an iterable, but got "
                            f"{type(modules).__name__}")
        for module in list(modules):
            self.append(module)
        return self

    def __repr__(self):
        if not len(self):
            return f"{self._get_name()}()"
        runs = []            # [first, last, text]: equal neighbours are shown once
        for index, module in enumerate(self):
            text = repr(module)
            if runs and runs[-1][2] == text:
                runs[-1][1] = index
            else:
                runs.append([index, index, text])
        lines = []
        for first, last, text in runs:
            where = f"({first})" if first == last else f"({first}-{last})"
            many = "" if first == last else f"{last - first + 1} x "
            lines.append(f"{where}: {many}{_indented(text)}")
        return f"{self._get_name()}(\n  " + "\n  ".join(lines) + "\n)"


def _pairs(given, owner):
    """``given`` (mapping or iterable of pairs) as pairs, with errors in ``owner``'s name."""
    if not isinstance(given, collections.abc.Iterable):
        raise TypeError(f"{owner}.update should be called with an iterable of key/value pairs, "
                        f"but got {type(given).__name__}")
    if hasattr(given, "items") and not isinstance(given, list | tuple):
        yield from given.items()
        return
    for position, pair in enumerate(given):
        if not isinstance(pair, collections.abc.Iterable):
            raise TypeError(f"{owner} update sequence element #{position} should be Iterable; is"
                            f"{type(pair).__name__}")
        pair = list(pair)
        if len(pair) != 2:
            raise ValueError(f"{owner} update sequence element #{position} has length "
                             f"{len(pair)}; 2 is required")
        yield pair


class ModuleDict(Module):
    """A dict of modules, all of them registered. It has no ``forward``."""

    def __init__(self, modules=None):
        super().__init__()
        if modules is not None:
            self.update(modules)

    def __getitem__(self, key):
        return self._modules[key]

    def __setitem__(self, key, module):
        self.add_module(key, module)

    def __delitem__(self, key):
        del self._modules[key]

    def __len__(self):
        return len(self._modules)

    def __iter__(self):
        return iter(self._modules)

    def __contains__(self, key):
        return key in self._modules

    def clear(self):
        """Remove everything."""
        self._modules.clear()

    def pop(self, key):
        """Remove ``key`` and return its module."""
        module = self[key]
        del self[key]
        return module

    def keys(self):
        """The names."""
        return self._modules.keys()

    def items(self):
        """The pairs of name and module."""
        return self._modules.items()

    def values(self):
        """The modules."""
        return self._modules.values()

    def update(self, modules):
        """Add from a mapping or from pairs, overwriting names that exist."""
        for key, module in _pairs(modules, "ModuleDict"):
            self[key] = module
