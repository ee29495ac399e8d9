"""``Optimizer``: parameter groups, state, state dicts and hooks."""
import collections
import copy
import functools
import itertools
import warnings

import ntorch

_identities = itertools.count()
_global_pre_hooks = collections.OrderedDict()
_global_post_hooks = collections.OrderedDict()


class _Required:
    """Stands for an option that every group must give."""

    def __repr__(self):
        return "<required parameter>"


required = _Required()


class _Handle:
    """Takes a hook out again: ``handle.remove()``."""

    def __init__(self, hooks, hook, prepend=False):
        self.id, self._hooks = next(_identities), hooks
        hooks[self.id] = hook
        if prepend:
            hooks.move_to_end(self.id, last=False)

    def remove(self):
        """Forget the hook."""
        self._hooks.pop(self.id, None)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.remove()


def register_optimizer_step_pre_hook(hook):
    """Call ``hook(optimizer, args, kwargs)`` before the step of every optimizer."""
    return _Handle(_global_pre_hooks, hook)


def register_optimizer_step_post_hook(hook):
    """Call ``hook(optimizer, args, kwargs)`` after the step of every optimizer."""
    return _Handle(_global_post_hooks, hook)


def _with_hooks(step):
    """``step`` with the hooks around it."""
    if getattr(step, "hooked", False):
        return step

    @functools.wraps(step)
    def wrapper(self, *args, **kwargs):
        for hook in (*_global_pre_hooks.values(), *self._optimizer_step_pre_hooks.values()):
            answer = hook(self, args, kwargs)
            if answer is not None:
                if not (isinstance(answer, tuple) and len(answer) == 2):
                    raise RuntimeError(f"{hook} must return None or a tuple of (new_args, "
                                       f"new_kwargs), but got {answer}.")
                args, kwargs = answer
        out = step(self, *args, **kwargs)
        for hook in (*self._optimizer_step_post_hooks.values(), *_global_post_hooks.values()):
            hook(self, args, kwargs)
        return out

    wrapper.hooked = True
    return wrapper


def scalar(value):
    """A number or a tensor of one element as a Python number."""
    return value.item() if isinstance(value, ntorch.Tensor) else value


def check_flags(foreach, fused, differentiable):
    """``RuntimeError`` for combinations of implementation flags that exclude each other."""
    if fused:
        if differentiable:
            raise RuntimeError("`fused` does not support `differentiable`")
        if foreach:
            raise RuntimeError("`fused` and `foreach` cannot be `True` together.")


def check_lr(lr, foreach=False, capturable=True):
    """``ValueError`` for a negative learning rate, or a tensor that is not one number."""
    if isinstance(lr, ntorch.Tensor):
        if foreach and not capturable:
            raise ValueError("lr as a Tensor is not supported for capturable=False and "
                             "foreach=True")
        if lr.numel() != 1:
            raise ValueError("Tensor lr must be 1-element")
    if not 0.0 <= lr:
        raise ValueError(f"Invalid learning rate: {lr}")


def check_not_negative(**options):
    """``ValueError`` naming the first option below zero."""
    for name, value in options.items():
        if not 0.0 <= value:
            raise ValueError(f"Invalid {name} value: {value}")


def check_betas(betas):
    """``ValueError`` for a coefficient outside ``[0, 1)``."""
    for index in range(2):
        if not 0.0 <= betas[index] < 1.0:
            raise ValueError(f"Invalid beta parameter at index {index}: {betas[index]}")


class Optimizer:
    """Base class: holds groups of parameters with their options, and a state per parameter.

    ``params`` is an iterable of tensors, of (name, tensor) pairs, or of dicts with the key
    "params" and options that override ``defaults``. A subclass defines ``step``.
    """

    # options that schedulers change: ``step`` sees to them itself when it is recorded (updates.py)
    _moving = frozenset(("lr", "initial_lr"))

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        if "step" in cls.__dict__:
            cls.step = _with_hooks(cls.__dict__["step"])

    def __init__(self, params, defaults):
        self.defaults = defaults
        self._make_hooks()
        if isinstance(params, ntorch.Tensor):
            raise TypeError("params argument given to the optimizer should be an iterable of "
                            f"Tensors or dicts, but got {type(params).__name__}")
        self.state = collections.defaultdict(dict)
        self.param_groups = []
        groups = list(params)
        if not groups:
            raise ValueError("optimizer got an empty parameter list")
        if not isinstance(groups[0], dict):
            groups = [{"params": groups}]
        for group in groups:
            self.add_param_group(group)

    def _make_hooks(self):
        for name in ("_optimizer_step_pre_hooks", "_optimizer_step_post_hooks",
                     "_optimizer_state_dict_pre_hooks", "_optimizer_state_dict_post_hooks",
                     "_optimizer_load_state_dict_pre_hooks",
                     "_optimizer_load_state_dict_post_hooks"):
            self.__dict__.setdefault(name, collections.OrderedDict())

    def __getstate__(self):
        return {"defaults": self.defaults, "state": self.state, "param_groups": self.param_groups}

    def __setstate__(self, state):
        self.__dict__.update(state)
        self._make_hooks()
        self.defaults.setdefault("differentiable", False)

    def __repr__(self):
        lines = [f"{type(self).__name__} ("]
        for number, group in enumerate(self.param_groups):
            lines += ["", f"Parameter Group {number}"] if number else [f"Parameter Group {number}"]
            lines += [f"    {key}: {group[key]}" for key in sorted(group) if key != "params"]
        return "\n".join([*lines, ")"])

    # Groups

    def add_param_group(self, param_group):
        """Add a dict with "params" and options; missing options come from the defaults."""
        if not isinstance(param_group, dict):
            raise TypeError(f"param_group must be a dict, but got {type(param_group)}")
        params = param_group["params"]
        if isinstance(params, ntorch.Tensor):
            params = [params]
        elif isinstance(params, set):
            raise TypeError("optimizer parameters need to be organized in ordered collections, but "
                            "the ordering of tensors in sets will change between runs. Please use "
                            "a list instead.")
        param_group["params"], names = self._split_names(list(params))
        if names is not None:
            param_group["param_names"] = names
        self._check_params(param_group["params"])
        for name, default in self.defaults.items():
            if default is required and name not in param_group:
                raise ValueError("parameter group didn't specify a value of required optimization "
                                 f"parameter {name}")
            param_group.setdefault(name, default)
        self._check_unique(param_group)
        self.param_groups.append(param_group)

    def _split_names(self, params):
        named = [isinstance(p, tuple) for p in params]
        if not any(named):
            return params, None
        if not all(named):
            raise ValueError("all optimizer params should be with/without names. Some param names "
                             "are missing")
        return [p for _, p in params], [name for name, _ in params]

    def _check_params(self, params):
        for param in params:
            if not isinstance(param, ntorch.Tensor):
                raise TypeError("optimizer can only optimize Tensors, but one of the params is "
                                + type(param).__name__)
            if not self.defaults.get("differentiable") and not (
                    param.is_leaf or param.retains_grad):
                raise ValueError("can't optimize a non-leaf Tensor")

    def _check_unique(self, group):
        if len(set(group["params"])) != len(group["params"]):
            warnings.warn("optimizer contains a parameter group with duplicate parameters; in "
                          "future, this will cause an error; see github.com/pytorch/pytorch/issues/"
                          "40967 for more information", stacklevel=4)
        if any(("param_names" in group) != ("param_names" in other) for other in
               self.param_groups):
            raise ValueError("all optimizer param groups should be with/without names. cannot add "
                             f"param group {'with' if 'param_names' in group else 'without'} "
                             "names to the optimizer")
        taken = {p for other in self.param_groups for p in other["params"]}
        if not taken.isdisjoint(group["params"]):
            raise ValueError("some parameters appear in more than one parameter group")

    # Steps

    def zero_grad(self, set_to_none=True):
        """Drop the gradients of all parameters, or fill them with zeros."""
        for group in self.param_groups:
            for param in group["params"]:
                grad = param.grad
                if grad is None:
                    continue
                if set_to_none:
                    param.grad = None
                elif grad.grad_fn is not None:
                    param.grad = grad.detach().zero_()
                else:
                    grad.requires_grad_(False)
                    grad.zero_()

    def step(self, closure=None):
        """One update; ``closure`` computes the loss anew and returns it."""
        raise NotImplementedError(f"{type(self).__name__} defines no step")

    def _loss_of(self, closure):
        if closure is None:
            return None
        with ntorch.enable_grad():
            return closure()

    def _recording(self):
        """The grad mode of a step: off, unless the step itself is to be differentiated."""
        return ntorch.set_grad_enabled(bool(self.defaults.get("differentiable", False)))

    def _refuse_sparse(self, grad):
        if grad.is_sparse:
            raise RuntimeError(f"{type(self).__name__} does not support sparse gradients")

    # Hooks

    def register_step_pre_hook(self, hook):
        """Call ``hook(optimizer, args, kwargs)`` before each step."""
        return _Handle(self._optimizer_step_pre_hooks, hook)

    def register_step_post_hook(self, hook):
        """Call ``hook(optimizer, args, kwargs)`` after each step."""
        return _Handle(self._optimizer_step_post_hooks, hook)

    def register_state_dict_pre_hook(self, hook, prepend=False):
        """Call ``hook(optimizer)`` before a state dict is made."""
        return _Handle(self._optimizer_state_dict_pre_hooks, hook, prepend)

    def register_state_dict_post_hook(self, hook, prepend=False):
        """Call ``hook(optimizer, state_dict)``; what it returns replaces the state dict."""
        return _Handle(self._optimizer_state_dict_post_hooks, hook, prepend)

    def register_load_state_dict_pre_hook(self, hook, prepend=False):
        """Call ``hook(optimizer, state_dict)``; what it returns is loaded instead."""
        return _Handle(self._optimizer_load_state_dict_pre_hooks, hook, prepend)

    def register_load_state_dict_post_hook(self, hook, prepend=False):
        """Call ``hook(optimizer)`` after loading."""
        return _Handle(self._optimizer_load_state_dict_post_hooks, hook, prepend)

    # State dicts

    def state_dict(self):
        """``{"state": {number: {...}}, "param_groups": [...]}``; parameters stand as numbers."""
        for hook in self._optimizer_state_dict_pre_hooks.values():
            hook(self)
        numbers, groups = {}, []
        for group in self.param_groups:
            for param in group["params"]:
                numbers.setdefault(id(param), len(numbers))
            packed = {key: value for key, value in group.items() if key != "params"}
            packed["params"] = [numbers[id(p)] for p in group["params"]]
            groups.append(packed)
        state = {numbers[id(k)] if isinstance(k, ntorch.Tensor) else k: v
                 for k, v in self.state.items()}
        answer = {"state": state, "param_groups": groups}
        for hook in self._optimizer_state_dict_post_hooks.values():
            replaced = hook(self, answer)
            answer = answer if replaced is None else replaced
        return answer

    def load_state_dict(self, state_dict):
        """Take the state and the options of ``state_dict``; tensors follow their parameter's dtype.

        ``ValueError`` if the groups have other numbers of parameters.
        """
        state_dict = state_dict.copy()
        for hook in self._optimizer_load_state_dict_pre_hooks.values():
            replaced = hook(self, state_dict)
            state_dict = state_dict if replaced is None else replaced
        groups, saved = self.param_groups, copy.deepcopy(state_dict["param_groups"])
        if len(groups) != len(saved):
            raise ValueError("loaded state dict has a different number of parameter groups")
        if any(len(a["params"]) != len(b["params"]) for a, b in zip(groups, saved, strict=True)):
            raise ValueError("loaded state dict contains a parameter group that doesn't match the "
                             "size of optimizer's group")
        owners = {number: (param, group) for group, old in zip(groups, saved, strict=True)
                  for number, param in zip(old["params"], group["params"], strict=True)}
        state = collections.defaultdict(dict)
        for key, value in state_dict["state"].items():
            if key in owners:
                param, group = owners[key]
                state[param] = _converted(value, param, group)
            else:
                state[key] = value
        for group, old in zip(groups, saved, strict=True):
            old["params"] = group["params"]
            if "param_names" in group:
                old["param_names"] = group["param_names"]
        self.__setstate__({"state": state, "param_groups": saved})
        for hook in self._optimizer_load_state_dict_post_hooks.values():
            hook(self)


def _converted(value, param, group, key=None):
    """A piece of state in the dtype and on the device of its parameter; steps keep theirs."""
    if isinstance(value, ntorch.Tensor):
        if key == "step":
            if group.get("capturable") or group.get("fused"):
                return value.to(dtype=ntorch.float32, device=param.device)
            return value
        if param.is_floating_point():
            return value.to(dtype=param.dtype, device=param.device)
        return value.to(device=param.device)
    if isinstance(value, dict):
        return {k: _converted(v, param, group, k) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_converted(v, param, group) for v in value)
    return value
