"""Sizes given as one number or one per dimension."""
import collections
import itertools


def ntuple(n):
    """A function that makes ``n`` equal entries of a number, and a tuple of an iterable."""
    def spread(value):
        if isinstance(value, collections.abc.Iterable):
            return tuple(value)
        return (value,) * n

    spread.__name__ = f"_{n}tuple"
    return spread


_ntuple = ntuple
_single, _pair, _triple, _quadruple = ntuple(1), ntuple(2), ntuple(3), ntuple(4)


def _reverse_repeat_tuple(values, n):
    """``(a, b)`` to ``(b, b, a, a)`` for n = 2: the order in which ``F.pad`` wants padding."""
    return tuple(itertools.chain.from_iterable([value] * n for value in reversed(values)))


def _list_with_default(sizes, defaults):
    if isinstance(sizes, int):
        return sizes
    if len(defaults) <= len(sizes):
        raise ValueError(f"Input dimension should be at least {len(sizes) + 1}")
    last = defaults[-len(sizes):]
    return [default if size is None else size for size, default in zip(sizes, last, strict=True)]
