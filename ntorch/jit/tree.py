"""Tensors inside nested containers: taken out in order, and put back."""
import copy
import dataclasses

from ..ops.base import TensorBase


def fields_of(record):
    """Names of the fields of a dataclass's instance that have a value."""
    return [f.name for f in dataclasses.fields(record) if hasattr(record, f.name)]


def tensors_of(value, found=None):
    """The tensors of a nest of tuples, lists, dicts and dataclasses, in order."""
    found = [] if found is None else found
    if isinstance(value, TensorBase):
        found.append(value)
    elif isinstance(value, (tuple, list)):
        for item in value:
            tensors_of(item, found)
    elif isinstance(value, dict):
        for item in value.values():
            tensors_of(item, found)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for name in fields_of(value):
            tensors_of(getattr(value, name), found)
    return found


def replaced(value, change):
    """The nest with ``change(tensor)`` for every tensor; containers that hold none are kept."""
    if isinstance(value, TensorBase):
        return change(value)
    if not tensors_of(value):
        return value
    if isinstance(value, (tuple, list)):
        items = [replaced(item, change) for item in value]
        make = getattr(type(value), "_make", type(value))      # namedtuples take items apart
        return make(items)
    if isinstance(value, dict):
        made = type(value)() if type(value).__init__ is dict.__init__ else {}
        made.update((key, replaced(item, change)) for key, item in value.items())
        return made
    made = copy.copy(value)             # no constructor is run, fields may be unset or frozen
    for name in fields_of(value):
        object.__setattr__(made, name, replaced(getattr(value, name), change))
    return made
