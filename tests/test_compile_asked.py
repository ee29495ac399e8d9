"""What Python may ask of tensors and of the process inside a compiled function is that of the call:
it is part of the signature, guarded, or makes the trace unfit."""
import contextlib
import copy
import io
import pickle

import numpy as np
import pytest

import ntorch
from ntorch import nn

# each call of these gives another object, or text that names one
OTHERS = {"__reduce__", "__reduce_ex__", "__getstate__", "__sizeof__", "__hash__", "__repr__",
          "__str__", "__dir__", "__class__", "__dict__", "__init__", "__new__", "__init_subclass__",
          "__subclasshook__", "__weakref__", "__dlpack__", "data_ptr", "backward", "_base"}


def _make(kind):
    """One of several tensors of one signature."""
    base = ntorch.arange(12.0)
    leaf = base.clone().requires_grad_()
    made = {
        "plain": lambda: base[:4].clone(), "offset": lambda: base[1:5], "far": lambda: base[2:6],
        "written": lambda: base[:4].clone().add_(0), "shared": lambda: base[:4].clone(
        ).share_memory_(), "numpy": lambda: ntorch.from_numpy(np.arange(4, dtype="f4")),
        "leaf": lambda: base[:4].clone().requires_grad_(), "made": lambda: leaf[:4] * 1,
        "view": lambda: (leaf * 1)[1:5], "second": lambda: (leaf * 1).view(3, 4).unbind()[1],
        "retained": lambda: leaf[:4] * 1}[kind]()
    if kind == "retained":
        made.retain_grad()
    return made


KINDS = ("plain", "offset", "far", "written", "shared", "numpy", "leaf", "made", "view", "second",
         "retained")


def _told(value):
    if isinstance(value, ntorch.Tensor):
        return value.tolist()
    if isinstance(value, tuple | list):
        return [_told(v) for v in value]
    return value if isinstance(value, int | float | str | dict | type(None)) else type(value)


def _call(function, kind):
    x = _make(kind)
    try:
        found = _told(function(x))
    except Exception as error:
        found = type(error)
    return found, x.detach().tolist(), x.requires_grad, x.is_leaf, tuple(x.shape)


def _check(function, calls=2):
    compiled = ntorch.compile(function)
    for _ in range(calls):
        for kind in KINDS:
            assert _call(compiled, kind) == _call(function, kind), (kind, function)


def _asked():
    """Names of a tensor that give something besides tensors when read, or called without
    arguments."""
    found = []
    for name in dir(ntorch.Tensor):
        writes = name.endswith("_") and not name.endswith("__")
        if writes or name in OTHERS or (name.startswith("_") and not name.startswith("__")):
            continue
        with contextlib.suppress(Exception):
            value = getattr(_make("leaf"), name)
            value = value() if callable(value) else value
            if not any(isinstance(v, ntorch.Tensor) for v in (
                    value if isinstance(value, tuple) else (value,))):
                found.append(name)
    return found


@pytest.mark.filterwarnings("ignore")
def test_everything_that_a_tensor_can_be_asked():
    names = _asked()
    assert {"storage_offset", "is_leaf", "grad_fn", "is_shared", "output_nr", "stride",
            "retains_grad", "is_contiguous", "requires_grad"} <= set(names)
    for name in [*names, "_version"]:
        def ask(x, name=name):
            value = getattr(x, name)
            return value() if callable(value) else value
        _check(ask)


MEMORY = {
    "as_strided": lambda x: x.as_strided((2,), (1,), 1) * 1,
    "as_strided beyond": lambda x: x.as_strided((3,), (2,)) * 1,
    "as_strided of a view": lambda x: x[1:].as_strided((2,), (1,), 1) * 1,
    "resize_": lambda x: (x.resize_(6)[4:].zero_(), x * 1)[1],
    "storage sizes": lambda x: (x.untyped_storage().nbytes(), len(x.storage())),
    "address": lambda x: x.untyped_storage().data_ptr() <= x.data_ptr() < 1 << 48,
    "storage": lambda x: list(x.storage()),
    "storage made": lambda x: (list((x * 2).storage()), (x * 2).untyped_storage().nbytes()),
    "share_memory_": lambda x: (x.share_memory_().is_shared(), (x * 2).share_memory_().is_shared()),
    "deepcopy": lambda x: (copy.deepcopy(x) * 2, copy.deepcopy(x.detach() * 2)),
    "copy": lambda x: copy.copy(x) * 2,
    "pickle": lambda x: pickle.loads(pickle.dumps(x.detach() * 2)) + pickle.loads(pickle.dumps(x)),
    "save": lambda x: [ntorch.save(x * 2, file := io.BytesIO()), file.seek(0), ntorch.load(file)],
    "set_": lambda x: x.set_(ntorch.ones(4)) * 2,
    "is_set_to": lambda x: (x.is_set_to(x), x.is_set_to(x[1:]), x[1:].is_set_to(x[1:])),
    "a key": lambda x: ({x: 1}[x], x in {x}, len({x, x, x[1:]}), x in [x]),
    "offsets": lambda x: [t.storage_offset() for t in (
        x, x[1:], x[1:].contiguous(), (x * 2)[2:], x.view(ntorch.int16)[2:])],
    "history": lambda x: (None if x.grad_fn is None else x.grad_fn.name(), (x * 2).is_leaf),
    "views are shared": lambda x: (x[1:].is_shared(), (x * 2).is_shared()),
}


@pytest.mark.parametrize("what", MEMORY)
def test_memory_of_arguments(what):
    _check(MEMORY[what])


def test_arguments_under_which_the_function_keeps_things():
    """Dicts, sets and lists of tensors find an argument; ``==`` still compares elements."""
    weights = [ntorch.ones(2), ntorch.zeros(2)]
    momentum = {w: ntorch.zeros(2) for w in weights}
    frozen = {weights[1]}

    def step(*params):
        for p in params:
            if p not in frozen:
                p.sub_(momentum[p].add_(1))
        return weights[0] == params[0]
    compiled = ntorch.compile(step)
    for call in range(1, 11):
        assert compiled(*weights).tolist() == [True, True]
        assert momentum[weights[0]].tolist() == [call] * 2
        assert momentum[weights[1]].tolist() == [0.0] * 2


def _threads(n):
    return lambda: ntorch.set_num_threads(n)


SETTINGS = {
    "num_threads": (ntorch.get_num_threads, _threads(1), _threads(2)),
    "default dtype": (ntorch.get_default_dtype, lambda: ntorch.set_default_dtype(ntorch.float64),
                      lambda: ntorch.set_default_dtype(ntorch.float32)),
    "grad mode": (ntorch.is_grad_enabled, lambda: ntorch.set_grad_enabled(False),
                  lambda: ntorch.set_grad_enabled(True)),
    "seed": (ntorch.initial_seed, lambda: ntorch.manual_seed(1), lambda: ntorch.manual_seed(2)),
    "state": (lambda: ntorch.get_rng_state()[:8].tolist(), lambda: ntorch.manual_seed(1),
              lambda: ntorch.manual_seed(2)),
    "interop threads": (ntorch.get_num_interop_threads, lambda: ntorch.set_num_interop_threads(2),
                        lambda: ntorch.set_num_interop_threads(1)),
    "print options": (lambda: ntorch.get_printoptions()["precision"],
                      lambda: ntorch.set_printoptions(precision=2),
                      lambda: ntorch.set_printoptions(precision=4)),
    "overwrite": (ntorch.__future__.get_overwrite_module_params_on_conversion,
                  lambda: ntorch.__future__.set_overwrite_module_params_on_conversion(True),
                  lambda: ntorch.__future__.set_overwrite_module_params_on_conversion(False)),
    "safe globals": (lambda: len(ntorch.serialization.get_safe_globals()),
                     lambda: ntorch.serialization.add_safe_globals([_make]),
                     lambda: ntorch.serialization.clear_safe_globals()),
    "anomaly": (ntorch.autograd.anomaly.is_anomaly_enabled,
                lambda: ntorch.autograd.set_detect_anomaly(True),
                lambda: ntorch.autograd.set_detect_anomaly(False)),
    "hooks of all modules": (lambda: nn.Identity()(ntorch.ones(())).item(),
                             lambda: HOOKS.append(nn.modules.hooks.register_module_forward_hook(
                                 lambda module, args, result: result * 2)),
                             lambda: HOOKS.pop().remove()),
}
HOOKS = []


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_of_the_process(name):
    get, change, back = SETTINGS[name]

    def function(x):
        return x * 1, get()

    def changing(x):
        change()
        return x * 1
    compiled, changes = ntorch.compile(function), ntorch.compile(changing)
    x = ntorch.ones(2)
    try:
        for _ in range(3):
            for move in (back if name != "hooks of all modules" else (lambda: None), change):
                move()
                for _ in range(2):
                    assert compiled(x)[1] == get()
            back()
        wanted = get()
        for _ in range(3):          # who changes it changes it at every call
            before = get()
            assert before == wanted
            changes(x)
            assert get() != before
            back()
    finally:
        back() if name != "hooks of all modules" else HOOKS.clear()


def test_getters_of_the_process_are_all_listed():
    """A getter that is new has to come into the table above, if it tells a state."""
    known = {"get_default_device", "is_complex", "is_conj", "is_floating_point", "is_inference",
             "is_nonzero", "is_same_size", "is_signed", "is_storage", "is_tensor",
             "is_inference_mode_enabled", "is_anomaly_check_nan_enabled"}
    tested = {"get_num_threads", "get_default_dtype", "is_grad_enabled", "initial_seed",
              "get_rng_state", "get_num_interop_threads", "get_printoptions"}
    found = {name for name in dir(ntorch) if name.startswith(("get_", "is_", "are_"))
             or name.endswith("_enabled") or name == "initial_seed"} - {"set_grad_enabled"}
    assert found <= known | tested
