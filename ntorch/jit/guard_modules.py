"""Guards of modules and optimizers: what their calls read of their own state."""
from .guard_things import Known
from .guards import Path

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_HOOK_FLAGS = ("_forward_hooks_with_kwargs", "_forward_hooks_always_called",
               "_forward_pre_hooks_with_kwargs", "_is_full_backward_hook")
# of a module, what no call reads (the rest) or what is asked for by itself
_APART = frozenset((*_HOOKS, *_HOOK_FLAGS, "training", "_parameters", "_buffers", "_modules",
                    "_state_dict_hooks", "_state_dict_pre_hooks", "_load_state_dict_pre_hooks",
                    "_load_state_dict_post_hooks", "_non_persistent_buffers_set"))

_NO_HOOKS = "not (" + " or ".join(f"{{0}}[{name!r}]" for name in _HOOKS) + ")"


def visit_module(walk, module, text):
    """Guard ``training``, hooks, parameters, buffers and children of a module, and its other
    attributes: all of them for a layer of ntorch, those the code names for a module of the user."""
    from ..nn.modules.hooks import GLOBAL
    from ..nn.modules.module import Module
    d, cls = module.__dict__, type(module)
    walk.visit(cls, f"class {cls.__qualname__}")
    walk.add("type({0}) is {1}", (module, cls), f"the class of {text} changed")
    if "_modules" not in d:             # made without __init__
        return
    for name in ("training",):
        if name in d:
            walk.value(walk.attribute_path(d, name, text), d[name])
    for name in ("_parameters", "_buffers", "_modules"):
        _held(walk, d, name, text)
    _hooks(walk, d, text)
    _global_hooks(walk, GLOBAL)
    layers = set(cls.__mro__) - set(Module.__mro__)
    whole = any((c.__module__ or "").startswith("ntorch.") for c in layers)
    walk.remember(Known(module, d, text, walk.shared(cls), False))
    if whole:
        walk.read_whole(d, text)
        for name in [n for n in d if n not in _APART]:
            walk.attribute(d, name, text)


def _held(walk, d, name, text):
    """A dict of parameters, buffers or children: the same dict with the same things."""
    held = d[name]
    if (id(d), name) in walk.seen:
        return
    walk.seen[id(d), name] = d
    if not held:
        walk.add(f"{{0}}[{name!r}] is {{1}} and not {{1}}", (d, held),
                 f"{text} got something in {name}")
        return
    walk.add(f"{{0}}[{name!r}] is {{1}} and len({{1}}) == {{2}}", (d, held, len(held)),
             f"something was added to or removed from {name} of {text}")
    if name == "_modules" and len(held) > 1:        # containers call them in this order
        walk.add("same_order({0}, {1})", (held, tuple(held)),
                 f"the order of the children of {text} changed")
    for key, thing in held.items():
        walk.value(Path("{0}", (held,), text).item(key, f"{text}.{key}"), thing)


def _hooks(walk, d, text):
    if not any(d[name] for name in _HOOKS):
        walk.add(_NO_HOOKS, (d,), f"{text} got a hook")
        for name in _HOOKS:
            walk.seen[id(d), name] = d
        return
    for name in (*_HOOKS, *_HOOK_FLAGS):
        if name in d:
            walk.attribute(d, name, text)


def _global_hooks(walk, hooks):
    if id(hooks) in walk.seen:
        return
    walk.seen[id(hooks)] = hooks
    dicts = (hooks.forward, hooks.forward_pre, hooks.backward, hooks.backward_pre)
    if not any(dicts):
        walk.add("not ({0} or {1} or {2} or {3})", dicts, "a hook for all modules was added")
        return
    for held in dicts:
        walk.value(Path("{0}", (held,), "the hooks of all modules"), held)


# whoever names these reads options of optimizers, those that move too
OPTIONS_NAMED = frozenset(("param_groups", "state_dict", "defaults"))


def options_named(walk):
    """The code of the user names options of optimizers: those that move are guarded too."""
    for optimizer, text in walk.optimizers:
        for number, group in enumerate(optimizer.__dict__.get("param_groups", ())):
            _options(walk, group, f"group {number} of {text}", ())


def visit_optimizer(walk, optimizer, text):
    """Guard the groups of an optimizer: parameters by identity, options by value; of its state
    only whether there is any. Options that move are the update's own business (``pin``)."""
    from ..optim.optimizer import Optimizer
    d, cls = optimizer.__dict__, type(optimizer)
    walk.visit(cls, f"class {cls.__qualname__}")
    walk.add("type({0}) is {1}", (optimizer, cls), f"the class of {text} changed")
    own = (cls.__module__ or "").startswith("ntorch.")      # a user's step may read any option
    moving = cls._moving if own else Optimizer._moving
    if walk.everything or walk.names & OPTIONS_NAMED:      # the user's code reads them itself
        moving = frozenset()
    walk.optimizers.append((optimizer, text))
    groups = d.get("param_groups")
    if groups is not None:
        walk.add("{0}['param_groups'] is {1} and len({1}) == {2}", (d, groups, len(groups)),
                 f"the parameter groups of {text} were replaced, or one was added")
        for number, group in enumerate(groups):
            _group(walk, groups, number, group, f"group {number} of {text}", moving)
    if "state" in d:
        empty = not d["state"]
        walk.add(f"{'not ' if empty else ''}{{0}}['state']", (d,),
                 f"the state of {text} was " + ("made" if empty else "dropped"))
    defaults = d.get("defaults")
    if isinstance(defaults, dict):
        _options(walk, defaults, f"defaults of {text}", moving)
    for name in ("param_groups", "state", "defaults"):
        walk.seen[id(d), name] = d
    own = (c.__module__ or "" for c in cls.__mro__)
    walk.remember(Known(optimizer, d, text, walk.shared(cls),
                         any(m.startswith("ntorch.") for m in own)))


def _group(walk, groups, number, group, text, moving):
    params = group["params"]
    walk.add("{0}[{1}] is {2} and {2}['params'] is {3} and len({3}) == {4}",
             (groups, number, group, params, len(params)),
             f"{text}: parameters were replaced, added or removed")
    for i, param in enumerate(params):
        walk.value(Path("{0}", (params,), text).item(i, f"parameter {i} in {text}"), param)
    _options(walk, group, text, moving)


def _options(walk, options, text, moving):
    walk.add("len({0}) == {1}", (options, len(options)), f"options of {text} came or went")
    for name, value in options.items():
        if name != "params" and name not in moving:
            walk.value(walk.attribute_path(options, name, text), value)
