"""``Module``: the base class of everything that has parameters."""
import collections
import itertools

from ntorch import Tensor

from ..parameter import Buffer, Parameter
from .conversion import Conversion
from .hooks import GLOBAL, BackwardHook, add_hook, old_backward_hook, registered
from .state import State
from .traversal import Traversal

_OWN_DICTS = (
    "_backward_pre_hooks", "_backward_hooks", "_forward_hooks", "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called", "_forward_pre_hooks", "_forward_pre_hooks_with_kwargs",
    "_state_dict_hooks", "_state_dict_pre_hooks", "_load_state_dict_pre_hooks",
    "_load_state_dict_post_hooks", "_modules")


def _typename(value):
    kind = type(value)
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"


class Module(Traversal, State, Conversion):
    """Base class of all neural network modules.

    A subclass calls ``super().__init__()``, assigns parameters and submodules as attributes, and
    defines ``forward``. Calling the module runs the hooks and ``forward``.
    """

    _version = 1
    training: bool
    call_super_init = False

    def __init__(self, *args, **kwargs):
        if self.call_super_init is False and kwargs:
            raise TypeError(f"{type(self).__name__}.__init__() got an unexpected keyword argument "
                            f"'{next(iter(kwargs))}'")
        if self.call_super_init is False and args:
            raise TypeError(f"{type(self).__name__}.__init__() takes 1 positional argument but "
                            f"{len(args) + 1} were given")
        own = self.__dict__           # around __setattr__, which looks these dicts up
        own["training"] = True
        own["_parameters"], own["_buffers"] = {}, {}
        own["_non_persistent_buffers_set"] = set()
        own["_is_full_backward_hook"] = None
        for name in _OWN_DICTS:
            own[name] = {} if name == "_modules" else collections.OrderedDict()
        if self.call_super_init:
            super().__init__(*args, **kwargs)

    def forward(self, *input):
        """The computation; every subclass defines its own."""
        raise NotImplementedError(
            f'Module [{type(self).__name__}] is missing the required "forward" function')

    # Registration

    def _check_name(self, kind, name, taken):
        if not isinstance(name, str):
            raise TypeError(f"{kind} name should be a string. Got {_typename(name)}")
        if "." in name:
            raise KeyError(f"{kind} name can't contain \".\"" if kind != "module" else
                           f"module name can't contain \".\", got: {name}")
        if name == "":
            raise KeyError(f"{kind} name can't be empty string \"\"")
        if hasattr(self, name) and name not in taken:
            raise KeyError(f"attribute '{name}' already exists")

    def register_buffer(self, name, tensor, persistent=True):
        """Add ``tensor`` (or None) under ``name``: state that is not a parameter.

        A buffer that is not ``persistent`` stays out of ``state_dict``.
        """
        if "_buffers" not in self.__dict__:
            raise AttributeError("cannot assign buffer before Module.__init__() call")
        self._check_name("buffer", name, self._buffers)
        if tensor is not None and not isinstance(tensor, Tensor):
            raise TypeError(f"cannot assign '{_typename(tensor)}' object to buffer '{name}' "
                            "(torch Tensor or None required)")
        self._buffers[name] = registered("buffer", self, name, tensor)
        if persistent:
            self._non_persistent_buffers_set.discard(name)
        else:
            self._non_persistent_buffers_set.add(name)

    def register_parameter(self, name, param):
        """Add the ``Parameter`` ``param`` (or None) under ``name``."""
        if "_parameters" not in self.__dict__:
            raise AttributeError("cannot assign parameter before Module.__init__() call")
        self._check_name("parameter", name, self._parameters)
        if param is not None and not isinstance(param, Parameter):
            raise TypeError(f"cannot assign '{_typename(param)}' object to parameter '{name}' "
                            "(torch.nn.Parameter or None required)")
        if param is not None and param.grad_fn is not None:
            raise ValueError(
                f"Cannot assign non-leaf Tensor to parameter '{name}'. Model parameters must be "
                f"created explicitly. To express '{name}' as a function of another Tensor, compute "
                "the value in the forward() method.")
        self._parameters[name] = registered("parameter", self, name, param)

    def add_module(self, name, module):
        """Add ``module`` (or None) as the child ``name``."""
        if not isinstance(module, Module) and module is not None:
            raise TypeError(f"{_typename(module)} is not a Module subclass")
        self._check_name("module", name, self._modules)
        self._modules[name] = registered("module", self, name, module)

    def register_module(self, name, module):
        """The same as ``add_module``."""
        self.add_module(name, module)

    # Calling

    def __call__(self, *args, **kwargs):
        compiled = self.__dict__.get("_compiled_call_impl")
        if compiled is not None:
            return compiled(*args, **kwargs)
        return self._call_impl(*args, **kwargs)

    def compile(self, *args, **kwargs):
        """Compile calls of this module in place; arguments as ``ntorch.compile`` takes them."""
        from ntorch.compiler import compile
        self._compiled_call_impl = compile(self._call_impl, *args, **kwargs)

    def _call_impl(self, *args, **kwargs):
        if not (self._forward_hooks or self._forward_pre_hooks or self._backward_hooks
                or self._backward_pre_hooks or GLOBAL.any()):
            return self.forward(*args, **kwargs)
        ran = set()
        try:
            return self._call_with_hooks(args, kwargs, ran)
        except Exception:
            self._run_always_called(args, kwargs, ran)
            raise

    def _call_with_hooks(self, args, kwargs, ran):
        args, kwargs = self._run_forward_pre_hooks(args, kwargs)
        full, old, before = self._collect_backward_hooks()
        tap = None
        if full or before:
            tap = BackwardHook(self, full, before)
            args = tap.tap_inputs(args)
        result = self.forward(*args, **kwargs)
        result = self._run_forward_hooks(args, kwargs, result, ran)
        if tap is not None:
            if not isinstance(result, Tensor | tuple):
                return result
            result = tap.tap_outputs(result)
        if old:
            self._attach_old_hooks(old, result)
        return result

    def _run_forward_pre_hooks(self, args, kwargs):
        for identity, hook in _both(GLOBAL.forward_pre, self._forward_pre_hooks):
            if (identity in self._forward_pre_hooks_with_kwargs
                    or identity in GLOBAL.forward_pre_with_kwargs):
                answer = hook(self, args, kwargs)
                if answer is not None:
                    if not (isinstance(answer, tuple) and len(answer) == 2):
                        raise RuntimeError("forward pre-hook must return None or a tuple of "
                                           f"(new_args, new_kwargs), but got {answer}.")
                    args, kwargs = answer
            else:
                answer = hook(self, args)
                if answer is not None:
                    args = answer if isinstance(answer, tuple) else (answer,)
        return args, kwargs

    def _run_forward_hooks(self, args, kwargs, result, ran):
        for identity, hook in _both(GLOBAL.forward, self._forward_hooks):
            ran.add(identity)
            if (identity in self._forward_hooks_with_kwargs
                    or identity in GLOBAL.forward_with_kwargs):
                answer = hook(self, args, kwargs, result)
            else:
                answer = hook(self, args, result)
            if answer is not None:
                result = answer
        return result

    def _run_always_called(self, args, kwargs, ran):
        """After a failed call: the hooks that asked to run in any case, with result None."""
        for identity, hook in _both(GLOBAL.forward, self._forward_hooks):
            wanted = (identity in self._forward_hooks_always_called
                      or identity in GLOBAL.forward_always_called)
            if not wanted or identity in ran:
                continue
            if (identity in self._forward_hooks_with_kwargs
                    or identity in GLOBAL.forward_with_kwargs):
                hook(self, args, kwargs, None)
            else:
                hook(self, args, None)

    def _collect_backward_hooks(self):
        full, old = [], []
        if GLOBAL.backward:
            (full if GLOBAL.is_full_backward else old).extend(GLOBAL.backward.values())
        if self._backward_hooks:
            (full if self._is_full_backward_hook else old).extend(self._backward_hooks.values())
        return full, old, [*GLOBAL.backward_pre.values(), *self._backward_pre_hooks.values()]

    def _attach_old_hooks(self, hooks, result):
        first = result
        while not isinstance(first, Tensor):
            first = next(iter(first.values() if isinstance(first, dict) else first))
        if first.grad_fn is not None:
            for hook in hooks:
                first.grad_fn.register_hook(old_backward_hook(hook, self))

    # Hooks of this module

    def register_forward_pre_hook(self, hook, *, prepend=False, with_kwargs=False):
        """Call ``hook(module, args)`` (and ``kwargs`` if asked) before ``forward``."""
        flags = [self._forward_pre_hooks_with_kwargs] if with_kwargs else []
        return add_hook(self._forward_pre_hooks, hook, flags, prepend)

    def register_forward_hook(self, hook, *, prepend=False, with_kwargs=False, always_call=False):
        """Call ``hook(module, args, output)`` after ``forward``; its answer replaces the output.

        With ``with_kwargs`` it is ``hook(module, args, kwargs, output)``; with ``always_call`` it
        runs also when the call fails.
        """
        flags = [self._forward_hooks_with_kwargs] if with_kwargs else []
        flags += [self._forward_hooks_always_called] if always_call else []
        return add_hook(self._forward_hooks, hook, flags, prepend)

    def register_full_backward_pre_hook(self, hook, prepend=False):
        """Call ``hook(module, grad_output)`` before the gradients of the module's inputs."""
        return add_hook(self._backward_pre_hooks, hook, (), prepend)

    def register_full_backward_hook(self, hook, prepend=False):
        """Call ``hook(module, grad_input, grad_output)``; its answer replaces ``grad_input``."""
        if self._is_full_backward_hook is False:
            raise RuntimeError("Cannot use both regular backward hooks and full backward hooks on "
                               "a single Module. Please use only one of them.")
        self._is_full_backward_hook = True
        return add_hook(self._backward_hooks, hook, (), prepend)

    def register_backward_hook(self, hook):
        """The old backward hook: it sees the gradients of the last operation only."""
        if self._is_full_backward_hook is True:
            raise RuntimeError("Cannot use both regular backward hooks and full backward hooks on "
                               "a single Module. Please use only one of them.")
        self._is_full_backward_hook = False
        return add_hook(self._backward_hooks, hook)

    # Attributes

    def __getattr__(self, name):
        own = self.__dict__
        if "_modules" in own:           # else __init__ has not run yet
            for held in (own["_parameters"], own["_modules"], own["_buffers"]):
                if name in held:
                    return held[name]
        raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")

    def __setattr__(self, name, value):
        own = self.__dict__
        parameters, modules = own.get("_parameters"), own.get("_modules")
        if isinstance(value, Parameter):
            if parameters is None:
                raise AttributeError("cannot assign parameters before Module.__init__() call")
            self._forget(name, "_buffers", "_modules")
            self.register_parameter(name, value)
        elif parameters is not None and name in parameters:
            if value is not None:
                raise TypeError(f"cannot assign '{_typename(value)}' as parameter '{name}' "
                                "(torch.nn.Parameter or None expected)")
            self.register_parameter(name, value)
        elif isinstance(value, Module):
            if modules is None:
                raise AttributeError("cannot assign module before Module.__init__() call")
            self._forget(name, "_parameters", "_buffers")
            modules[name] = registered("module", self, name, value)
        elif modules is not None and name in modules:
            if value is not None:
                raise TypeError(f"cannot assign '{_typename(value)}' as child module '{name}' "
                                "(torch.nn.Module or None expected)")
            modules[name] = registered("module", self, name, value)
        else:
            self._set_buffer_or_plain(name, value)

    def _set_buffer_or_plain(self, name, value):
        buffers = self.__dict__.get("_buffers")
        if isinstance(value, Buffer) or (buffers is not None and name in buffers):
            if value is not None and not isinstance(value, Tensor):
                raise TypeError(f"cannot assign '{_typename(value)}' as buffer '{name}' "
                                "(torch.nn.Buffer, torch.Tensor or None expected)")
            if isinstance(value, Buffer):
                self._forget(name, "_parameters", "_modules")
                self.register_buffer(name, value, value.persistent)
            else:
                buffers[name] = registered("buffer", self, name, value)
        else:
            super().__setattr__(name, value)

    def _forget(self, name, *kinds):
        self.__dict__.pop(name, None)
        for kind in kinds:
            self.__dict__.get(kind, {}).pop(name, None)
        self._non_persistent_buffers_set.discard(name)

    def __delattr__(self, name):
        if name in self._parameters:
            del self._parameters[name]
        elif name in self._buffers:
            del self._buffers[name]
            self._non_persistent_buffers_set.discard(name)
        elif name in self._modules:
            del self._modules[name]
        else:
            super().__delattr__(name)

    def __setstate__(self, state):
        self.__dict__.update(state)
        for name in _OWN_DICTS:
            self.__dict__.setdefault(name, collections.OrderedDict())
        self.__dict__.setdefault("_non_persistent_buffers_set", set())
        self.__dict__.setdefault("_is_full_backward_hook", None)

    def __dir__(self):
        names = itertools.chain(dir(type(self)), self.__dict__, self._parameters, self._modules,
                                self._buffers)
        return sorted(name for name in names if not name[0].isdigit())

    # Text

    def _get_name(self):
        return type(self).__name__

    def extra_repr(self):
        """What stands in the parentheses of ``repr`` before the children."""
        return ""

    def __repr__(self):
        extra = self.extra_repr()
        extra_lines = extra.split("\n") if extra else []
        children = [f"({name}): {_indented(repr(child))}" for name, child in self._modules.items()]
        lines = extra_lines + children
        if not lines:
            return f"{self._get_name()}()"
        if len(extra_lines) == 1 and not children:
            return f"{self._get_name()}({extra_lines[0]})"
        return f"{self._get_name()}(\n  " + "\n  ".join(lines) + "\n)"


def _both(first, second):
    """The hooks of both dicts as a list, which a hook may safely change while it is walked."""
    return [*first.items(), *second.items()]


def _indented(text):
    return text.replace("\n", "\n  ")
