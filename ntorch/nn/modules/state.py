"""State dicts: what a module keeps in a checkpoint, and how it takes it back."""
import collections

import ntorch

from ..parameter import Parameter, is_lazy
from .hooks import add_hook

_EXTRA = "_extra_state"


class IncompatibleKeys(collections.namedtuple("IncompatibleKeys",
                                              ["missing_keys", "unexpected_keys"])):
    """What ``load_state_dict`` returns: the keys that had no partner on either side."""

    def __repr__(self):
        if not self.missing_keys and not self.unexpected_keys:
            return "<All keys matched successfully>"
        return (f"IncompatibleKeys(missing_keys={self.missing_keys!r}, "
                f"unexpected_keys={self.unexpected_keys!r})")

    __str__ = __repr__


class State:
    """The part of ``Module`` that saves and loads."""

    def get_extra_state(self):
        """What to keep in the state dict besides tensors; a subclass may define it."""
        raise RuntimeError("Reached a code path in Module.get_extra_state() that should never be "
                           "called. Define get_extra_state() in your module.")

    def set_extra_state(self, state):
        """Take back what ``get_extra_state`` gave; a subclass may define it."""
        raise RuntimeError("Reached a code path in Module.set_extra_state() that should never be "
                           "called. Define set_extra_state() in your module.")

    def register_state_dict_post_hook(self, hook):
        """Call ``hook(module, state_dict, prefix, local_metadata)`` when a state dict is made."""
        hook._from_public_api = True
        return add_hook(self._state_dict_hooks, hook)

    def _register_state_dict_hook(self, hook):
        if getattr(hook, "_from_public_api", False):
            raise RuntimeError("Cannot register the same function as the state dict post hook "
                               "that was previously registered via register_state_dict_post_hook")
        return add_hook(self._state_dict_hooks, hook)

    def register_state_dict_pre_hook(self, hook):
        """Call ``hook(module, prefix, keep_vars)`` before a state dict is made."""
        return add_hook(self._state_dict_pre_hooks, hook)

    def register_load_state_dict_pre_hook(self, hook):
        """Call ``hook(module, state_dict, prefix, local_metadata, strict, missing_keys,
        unexpected_keys, error_msgs)`` before this module loads its part."""
        return self._register_load_state_dict_pre_hook(hook, with_module=True)

    def _register_load_state_dict_pre_hook(self, hook, with_module=False):
        if with_module:
            hook = _WithModule(hook, self)
        return add_hook(self._load_state_dict_pre_hooks, hook)

    def register_load_state_dict_post_hook(self, hook):
        """Call ``hook(module, incompatible_keys)`` after loading; it may change the lists."""
        return add_hook(self._load_state_dict_post_hooks, hook)

    def _save_to_state_dict(self, destination, prefix, keep_vars):
        """Put the tensors of this module, not of its children, in ``destination``."""
        held = [*self._parameters.items(),
                *((n, b) for n, b in self._buffers.items()
                  if n not in self._non_persistent_buffers_set)]
        for name, tensor in held:
            if tensor is not None:
                destination[prefix + name] = tensor if keep_vars else tensor.detach()
        if type(self).get_extra_state is not State.get_extra_state:
            destination[prefix + _EXTRA] = self.get_extra_state()

    def state_dict(self, *args, destination=None, prefix="", keep_vars=False):
        """An ordered dict of all parameters and persistent buffers under their dotted names.

        The tensors share memory with the module and are detached unless ``keep_vars``. Its
        attribute ``_metadata`` gives the version of each module.
        """
        for position, value in enumerate(args):    # the positional form of old code
            if position == 0:
                destination = value if destination is None else destination
            elif position == 1:
                prefix = prefix or value
            else:
                keep_vars = keep_vars or value
        if destination is None:
            destination = collections.OrderedDict()
            destination._metadata = collections.OrderedDict()
        metadata = {"version": self._version}
        if hasattr(destination, "_metadata"):
            destination._metadata[prefix[:-1]] = metadata
        for hook in self._state_dict_pre_hooks.values():
            hook(self, prefix, keep_vars)
        self._save_to_state_dict(destination, prefix, keep_vars)
        for name, module in self._modules.items():
            if module is not None:
                module.state_dict(destination=destination, prefix=prefix + name + ".",
                                  keep_vars=keep_vars)
        return self._run_state_dict_hooks(destination, prefix, metadata)

    def _run_state_dict_hooks(self, destination, prefix, metadata):
        for hook in self._state_dict_hooks.values():
            answer = hook(self, destination, prefix, metadata)
            if not getattr(hook, "_from_public_api", False):
                destination = destination if answer is None else answer
            elif answer is not None:
                raise RuntimeError("state_dict post-hook must return None")
        return destination

    def _load_from_state_dict(self, state_dict, prefix, local_metadata, strict, missing_keys,
                              unexpected_keys, error_msgs):
        """Take the tensors of this module, not of its children, from ``state_dict``."""
        for hook in list(self._load_state_dict_pre_hooks.values()):
            hook(state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys,
                 error_msgs)
        persistent = {n: b for n, b in self._buffers.items()
                      if n not in self._non_persistent_buffers_set}
        assign = local_metadata.get("assign_to_params_buffers", False)
        for name, own in (*self._parameters.items(), *persistent.items()):
            if own is None:
                continue
            key = prefix + name
            if key in state_dict:
                self._load_one(name, key, own, state_dict[key], assign, error_msgs)
            elif strict:
                missing_keys.append(key)
        self._load_extra_state(state_dict, prefix, strict, missing_keys, unexpected_keys)
        if strict:
            self._find_unexpected(state_dict, prefix, persistent, unexpected_keys)

    def _load_one(self, name, key, own, given, assign, error_msgs):
        if not isinstance(given, ntorch.Tensor):
            error_msgs.append(
                f'While copying the parameter named "{key}", expected torch.Tensor or Tensor-like '
                f"object from checkpoint but received {type(given)}")
            return
        lazy = is_lazy(own)
        if not lazy and own.dim() == 0 and given.dim() == 1 and len(given) == 1:
            given = given[0]       # checkpoints of old versions kept scalars in one dimension
        if not lazy and given.shape != own.shape:
            error_msgs.append(
                f"size mismatch for {key}: copying a param with shape {given.shape} from "
                f"checkpoint, the shape in current model is {own.shape}.")
            return
        if not assign and own.is_meta and not given.is_meta:
            _warn_about_meta(key)
        try:
            with ntorch.no_grad():
                if assign:
                    self._assign(name, own, given)
                else:
                    own.copy_(given)
        except Exception as error:
            error_msgs.append(
                f'While copying the parameter named "{key}", whose dimensions in the model are '
                f"{own.size()} and whose dimensions in the checkpoint are {given.size()}, an "
                f"exception occurred : {error.args}.")

    def _assign(self, name, own, given):
        if isinstance(own, Parameter):
            if isinstance(given, Parameter):
                given.requires_grad_(own.requires_grad)
            else:
                given = Parameter(given, requires_grad=own.requires_grad)
        setattr(self, name, given)

    def _load_extra_state(self, state_dict, prefix, strict, missing_keys, unexpected_keys):
        key = prefix + _EXTRA
        if type(self).set_extra_state is not State.set_extra_state:
            if key in state_dict:
                self.set_extra_state(state_dict[key])
            elif strict:
                missing_keys.append(key)
        elif strict and key in state_dict:
            unexpected_keys.append(key)

    def _find_unexpected(self, state_dict, prefix, persistent, unexpected_keys):
        for key in state_dict:
            if not key.startswith(prefix) or key == prefix + _EXTRA:
                continue
            name, dot, _ = key[len(prefix):].partition(".")
            if dot:
                known = name in self._modules
            else:
                known = name in self._parameters or name in persistent
            if not known:
                unexpected_keys.append(key)

    def load_state_dict(self, state_dict, strict=True, assign=False):
        """Copy ``state_dict`` into the parameters and buffers here and below.

        ``strict`` raises ``RuntimeError`` listing missing and unexpected keys; a wrong shape
        raises it in any case. ``assign`` takes the given tensors themselves instead of copying.
        Returns the ``(missing_keys, unexpected_keys)``.
        """
        if not isinstance(state_dict, collections.abc.Mapping):
            raise TypeError(f"Expected state_dict to be dict-like, got {type(state_dict)}.")
        loading = _Loading(collections.OrderedDict(state_dict),
                           getattr(state_dict, "_metadata", None), strict, assign)
        loading.walk(self, loading.state_dict)
        if strict:
            if loading.unexpected:
                loading.errors.insert(0, "Unexpected key(s) in state_dict: "
                                      f"{_quoted(loading.unexpected)}. ")
            if loading.missing:
                loading.errors.insert(0, "Missing key(s) in state_dict: "
                                      f"{_quoted(loading.missing)}. ")
        if loading.errors:
            raise RuntimeError(f"Error(s) in loading state_dict for {type(self).__name__}:\n\t"
                               + "\n\t".join(loading.errors))
        return IncompatibleKeys(loading.missing, loading.unexpected)


class _Loading:
    """One run of ``load_state_dict`` down the tree."""

    def __init__(self, state_dict, metadata, strict, assign):
        self.state_dict, self.metadata = state_dict, metadata
        self.strict, self.assign = strict, assign
        self.missing, self.unexpected, self.errors = [], [], []
        if metadata is not None:
            state_dict._metadata = metadata

    def walk(self, module, state_dict, prefix=""):
        local = {} if self.metadata is None else self.metadata.get(prefix[:-1], {})
        if self.assign:
            local["assign_to_params_buffers"] = True
        module._load_from_state_dict(state_dict, prefix, local, True, self.missing,
                                     self.unexpected, self.errors)
        for name, child in module._modules.items():
            if child is not None:
                below = prefix + name + "."
                part = {k: v for k, v in state_dict.items() if k.startswith(below)}
                self.walk(child, part, below)
        keys = IncompatibleKeys(self.missing, self.unexpected)
        for hook in module._load_state_dict_post_hooks.values():
            if hook(module, keys) is not None:
                raise RuntimeError("Hooks registered with ``register_load_state_dict_post_hook`` "
                                   "are not expected to return new values, if incompatible_keys "
                                   "need to be modified, it should be done inplace.")


class _WithModule:
    """A load hook that is given its module first."""

    def __init__(self, hook, module):
        self.hook, self.module = hook, module

    def __call__(self, *args):
        return self.hook(self.module, *args)


def _warn_about_meta(key):
    import warnings
    warnings.warn(f"for {key}: copying from a non-meta parameter in the checkpoint to a meta "
                  "parameter in the current model, which is a no-op. (Did you mean to pass "
                  "`assign=True` to assign items in the state dictionary to their corresponding "
                  "key in the module instead of copying them in place?)", stacklevel=4)


def _quoted(keys):
    return ", ".join(f'"{key}"' for key in keys)
