"""Tensors inside nested containers: taken out in order, and put back."""
import dataclasses

from ..ops.base import TensorBase


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
        for field in dataclasses.fields(value):
            tensors_of(getattr(value, field.name), found)
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
    changes = {field.name: replaced(getattr(value, field.name), change)
               for field in dataclasses.fields(value) if field.init}
    return dataclasses.replace(value, **changes)
