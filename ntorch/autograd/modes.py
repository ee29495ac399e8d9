"""Gradient modes, one state per thread: no_grad, enable_grad, set_grad_enabled, inference_mode."""
import functools
import inspect
import threading


class _State(threading.local):
    enabled = True
    inference = False
    tracer = None
    create_graph = False
    anomaly = False
    saved_hooks = ()
    callbacks = None        # what to run at the end of this thread's backward, while one runs


state = _State()


class _Mode:
    """A context manager that is also a decorator, of generator functions too."""

    def __call__(self, function):
        if inspect.isclass(function):
            function.__init__ = self(function.__init__)
            return function
        if inspect.isgeneratorfunction(function):
            return self._wrap_generator(function)

        @functools.wraps(function)
        def wrapped(*arguments, **keywords):
            with self.clone():
                return function(*arguments, **keywords)
        return wrapped

    def _wrap_generator(self, function):
        @functools.wraps(function)
        def wrapped(*arguments, **keywords):
            generator = function(*arguments, **keywords)
            send = None
            while True:
                with self.clone():
                    try:
                        item = generator.send(send)
                    except StopIteration as stop:
                        return stop.value
                send = yield item
        return wrapped

    def clone(self):
        """A fresh context of the same kind, so that one decorator serves nested calls."""
        return type(self)()


class _GradMode(_Mode):
    value = False

    def __init__(self):
        self._previous = []

    def __new__(cls, function=None):
        self = super().__new__(cls)
        if function is not None and callable(function):
            self.__init__()
            return self(function)
        return self

    def __enter__(self):
        self._previous.append(state.enabled)
        state.enabled = self.value

    def __exit__(self, *exception):
        state.enabled = self._previous.pop()


class no_grad(_GradMode):
    """Operations inside record no gradients; context manager and decorator."""


class enable_grad(_GradMode):
    """Operations inside record gradients again; context manager and decorator."""
    value = True


class set_grad_enabled(_Mode):
    """Turn gradient recording on or off, at once and, as a context, until it ends."""

    def __init__(self, mode):
        self.mode = bool(mode)
        self._previous = state.enabled
        state.enabled = self.mode

    def __call__(self, function):
        state.enabled = self._previous
        return super().__call__(function)

    def __enter__(self):
        state.enabled = self.mode

    def __exit__(self, *exception):
        state.enabled = self._previous

    def clone(self):
        return set_grad_enabled(self.mode)


class inference_mode(_Mode):
    """Like no_grad, and the tensors made inside can never take part in autograd."""

    def __new__(cls, mode=True):
        self = super().__new__(cls)
        if callable(mode) and not isinstance(mode, bool):
            self.__init__(True)
            return self(mode)
        return self

    def __init__(self, mode=True):
        self.mode = mode if isinstance(mode, bool) else True
        self._previous = []

    def __enter__(self):
        self._previous.append((state.enabled, state.inference))
        if self.mode:
            state.enabled = False
        state.inference = self.mode

    def __exit__(self, *exception):
        state.enabled, state.inference = self._previous.pop()

    def clone(self):
        return inference_mode(self.mode)


def is_grad_enabled():
    """Whether operations of this thread record gradients."""
    return state.enabled


def is_inference_mode_enabled():
    """Whether this thread is in ``inference_mode``."""
    return state.inference
