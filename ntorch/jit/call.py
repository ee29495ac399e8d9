"""The numbers of the call that runs in this thread."""
import contextlib
import threading


class _Call(threading.local):
    numbers = ()


_call = _Call()


@contextlib.contextmanager
def this_call(numbers):
    """Within the context, ``numbers`` are those of the call that runs."""
    before, _call.numbers = _call.numbers, numbers
    try:
        yield
    finally:
        _call.numbers = before


def number_of_call(place):
    """A number of the present call."""
    return _call.numbers[place]
