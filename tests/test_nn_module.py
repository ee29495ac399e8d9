"""Module: registration, hooks, state dicts, conversion, text."""
import copy
import io
import pickle

import numpy as np
import pytest

import ntorch
from ntorch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(3, 4)
        self.norm = nn.BatchNorm1d(4)
        self.last = nn.Linear(4, 2)
        self.register_buffer("scale", ntorch.ones(1))
        self.register_buffer("scratch", ntorch.zeros(1), persistent=False)

    def forward(self, x, factor=1.0):
        return self.last(ntorch.relu(self.norm(self.first(x)))) * self.scale * factor


KEYS = ["scale", "first.weight", "first.bias", "norm.weight", "norm.bias", "norm.running_mean",
        "norm.running_var", "norm.num_batches_tracked", "last.weight", "last.bias"]


def same(a, b):
    return np.array_equal(a.detach().numpy(), b.detach().numpy())


def test_names_and_walks():
    net = Net()
    assert list(net.state_dict()) == KEYS
    assert [n for n, _ in net.named_parameters()] == [k for k in KEYS if k.endswith(
        ("weight", "bias"))]
    assert [n for n, _ in net.named_modules()] == ["", "first", "norm", "last"]
    assert [n for n, _ in net.named_buffers()] == [
        "scale", "scratch", "norm.running_mean", "norm.running_var", "norm.num_batches_tracked"]
    assert net.get_parameter("first.weight") is net.first.weight
    assert net.get_submodule("norm") is net.norm
    assert net.get_buffer("norm.running_var") is net.norm.running_var
    assert "first" in dir(net) and "scale" in dir(net)
    shared = nn.Sequential(net.first, net.first)
    assert len(list(shared.parameters())) == 2
    assert len(list(shared.named_parameters(remove_duplicate=False))) == 4


@pytest.mark.parametrize("act, error, text", [
    (lambda n: n.get_submodule("a.b"), AttributeError, "has no attribute `a`"),
    (lambda n: n.get_parameter("norm"), AttributeError, "`norm` is not an nn.Parameter"),
    (lambda n: n.get_buffer("first.weight"), AttributeError, "`weight` is not a buffer"),
    (lambda n: n.nothing, AttributeError, "'Net' object has no attribute 'nothing'"),
    (lambda n: setattr(n, "first", 3), TypeError, "as child module 'first'"),
    (lambda n: setattr(n.first, "weight", 3), TypeError, "as parameter 'weight'"),
    (lambda n: setattr(n, "scale", 3), TypeError, "as buffer 'scale'"),
    (lambda n: n.register_buffer("a.b", None), KeyError, "t contain"),
    (lambda n: n.register_buffer("", None), KeyError, "t be empty"),
    (lambda n: n.register_buffer("first", None), KeyError, "already exists"),
    (lambda n: n.register_parameter("p", ntorch.ones(1)), TypeError, "to parameter 'p'"),
    (lambda n: n.add_module("m", 3), TypeError, "is not a Module subclass"),
    (lambda n: n.to(ntorch.int64), TypeError, "floating point or complex"),
    (lambda n: n.train("yes"), ValueError, "boolean"),
    (lambda n: n.load_state_dict([]), TypeError, "dict-like"),
    (lambda n: n.set_submodule("", nn.Identity()), ValueError, "target name"),
    (lambda n: nn.Module()(1), NotImplementedError, "forward"),
    (lambda n: nn.Module(3), TypeError, "positional argument"),
])
def test_errors(act, error, text):
    with pytest.raises(error, match=text):
        act(Net())


def test_assignment_before_init():
    class Early(nn.Module):
        def __init__(self, value):
            self.value = value

    for value in (nn.Identity(), nn.Parameter(ntorch.ones(1))):
        with pytest.raises(AttributeError, match="before Module"):
            Early(value)


def test_attribute_changes_kind():
    net = nn.Module()
    net.a = nn.Identity()
    net.a = None
    assert net._modules == {"a": None}
    net.b = 1
    net.b = nn.Parameter(ntorch.ones(2))
    assert "b" in net._parameters and "b" not in net.__dict__
    net.c = nn.Buffer(ntorch.ones(1), persistent=False)
    assert "c" in net._buffers and "c" not in net.state_dict()
    del net.b, net.c
    assert not net._parameters and not net._buffers


def test_state_dict_round_trip_and_messages():
    one, two = Net(), Net()
    assert repr(two.load_state_dict(one.state_dict())) == "<All keys matched successfully>"
    assert all(same(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    state = one.state_dict()
    del state["last.bias"]
    state["other"] = ntorch.ones(1)
    state["first.weight"] = ntorch.ones(2, 2)
    with pytest.raises(RuntimeError) as caught:
        two.load_state_dict(state)
    text = str(caught.value)
    assert 'Missing key(s) in state_dict: "last.bias". ' in text
    assert 'Unexpected key(s) in state_dict: "other". ' in text
    assert ("size mismatch for first.weight: copying a param with shape torch.Size([2, 2]) from "
            "checkpoint, the shape in current model is torch.Size([4, 3]).") in text
    assert text.index("Missing") < text.index("Unexpected") < text.index("size mismatch")
    del state["first.weight"]
    missing, unexpected = two.load_state_dict(state, strict=False)
    assert missing == ["first.weight", "last.bias"] and unexpected == ["other"]


def test_state_dict_shares_memory_and_assign_replaces():
    net = Net()
    net.state_dict()["first.weight"].zero_()
    assert not net.first.weight.any()
    assert net.state_dict(keep_vars=True)["first.weight"] is net.first.weight
    given = {k: v.clone() for k, v in Net().state_dict().items()}
    net.load_state_dict(given, assign=True)
    assert net.first.weight.data_ptr() == given["first.weight"].data_ptr()
    assert isinstance(net.first.weight, nn.Parameter) and net.first.weight.requires_grad


def test_state_dict_metadata_hooks_and_extra_state():
    calls = []

    class Extra(nn.Linear):
        def get_extra_state(self):
            return {"n": 7}

        def set_extra_state(self, state):
            calls.append(state)

    net = Extra(2, 2)
    net.register_state_dict_pre_hook(lambda m, prefix, keep: calls.append(("pre", prefix)))
    net.register_state_dict_post_hook(lambda m, d, prefix, meta: calls.append(("post", prefix)))
    net.register_load_state_dict_pre_hook(lambda m, d, prefix, *rest: calls.append("load pre"))
    net.register_load_state_dict_post_hook(lambda m, keys: calls.append("load post"))
    state = nn.Sequential(net).state_dict()
    assert state._metadata["0"] == {"version": 1}
    assert state["0._extra_state"] == {"n": 7}
    nn.Sequential(net).load_state_dict(state)
    assert calls == [("pre", "0."), ("post", "0."), "load pre", {"n": 7}, "load post"]


def test_forward_hooks():
    seen = []
    net = nn.Linear(2, 2)
    pre = net.register_forward_pre_hook(lambda m, args: seen.append("pre") or (args[0] * 0,))
    net.register_forward_pre_hook(lambda m, args, kw: seen.append("first"), prepend=True,
                                  with_kwargs=True)
    net.register_forward_hook(lambda m, args, out: seen.append("post") or out + 1)
    out = net(ntorch.ones(1, 2))
    assert seen == ["first", "pre", "post"] and np.allclose(
        out.detach().numpy(), net.bias.detach().numpy() + 1)
    pre.remove()
    seen.clear()
    net(ntorch.ones(1, 2))
    assert seen == ["first", "post"]


def test_hook_called_after_failure():
    seen = []
    net = nn.Linear(2, 2)
    net.register_forward_hook(lambda m, args, out: seen.append(out), always_call=True)
    with pytest.raises(RuntimeError):
        net(ntorch.ones(1, 5))
    assert seen == [None]


def test_full_backward_hooks():
    seen = {}
    net = nn.Linear(2, 3)
    net.register_full_backward_pre_hook(lambda m, g: (g[0] * 2,))

    def hook(module, grad_input, grad_output):
        seen["in"], seen["out"] = grad_input[0].clone(), grad_output[0].clone()
        return (grad_input[0] * 10,)

    net.register_full_backward_hook(hook)
    x = ntorch.ones(1, 2, requires_grad=True)
    net(x).sum().backward()
    weights = net.weight.detach().numpy().sum(0)
    assert np.allclose(seen["out"].numpy(), 2) and np.allclose(seen["in"].numpy(), 2 * weights)
    assert np.allclose(x.grad.numpy(), 20 * weights)
    with pytest.raises(RuntimeError, match="regular backward hooks and full"):
        net.register_backward_hook(lambda *a: None)


def test_full_backward_hook_without_input_grad():
    seen = []
    net = nn.Linear(2, 3)
    net.register_full_backward_hook(lambda m, gi, go: seen.append((gi, go[0].shape)))
    net(ntorch.ones(4, 2)).sum().backward()
    assert seen == [((None,), (4, 3))]
    assert net.weight.grad is not None


def test_global_hooks():
    from ntorch.nn.modules import hooks
    seen = []
    handles = [hooks.register_module_forward_pre_hook(lambda m, a: seen.append("pre")),
               hooks.register_module_forward_hook(lambda m, a, o: seen.append("post"))]
    try:
        nn.Identity()(1)
    finally:
        for handle in handles:
            handle.remove()
    nn.Identity()(1)
    assert seen == ["pre", "post"]


def test_conversion_keeps_parameters():
    net = Net()
    weight = net.first.weight
    net(ntorch.ones(2, 3)).sum().backward()
    net.double()
    assert net.first.weight is weight and weight.dtype == ntorch.float64
    assert weight.grad.dtype == ntorch.float64
    assert net.norm.num_batches_tracked.dtype == ntorch.int64
    net.to(ntorch.float16)
    assert weight.dtype == ntorch.float16 and net.scale.dtype == ntorch.float16
    ntorch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        net.float()
    finally:
        ntorch.__future__.set_overwrite_module_params_on_conversion(False)
    assert net.first.weight is not weight and net.first.weight.dtype == ntorch.float32


def test_meta_and_skip_init():
    net = nn.Linear(3, 2, device="meta")
    assert net.weight.is_meta
    made = nn.utils.skip_init(nn.Linear, 3, 2)
    assert made.weight.device.type == "cpu" and made.weight.shape == (2, 3)


def test_modes_and_grads():
    net = Net().eval()
    assert not any(m.training for m in net.modules())
    net.train()(ntorch.ones(2, 3)).sum().backward()
    net.zero_grad(set_to_none=False)
    assert not net.first.weight.grad.any()
    net.zero_grad()
    assert net.first.weight.grad is None
    net.requires_grad_(False)
    assert not any(p.requires_grad for p in net.parameters())


def test_copy_and_pickle():
    net = Net()
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert all(same(a, b) for a, b in zip(net.parameters(), other.parameters(), strict=True))
        assert other.first.weight is not net.first.weight
        assert other.first.weight.data_ptr() != net.first.weight.data_ptr()
        assert repr(other) == repr(net)


def test_save_and_load_state():
    net, other, file = Net(), Net(), io.BytesIO()
    ntorch.save(net.state_dict(), file)
    file.seek(0)
    other.load_state_dict(ntorch.load(file))
    assert same(net.last.weight, other.last.weight)


def test_parameter():
    p = nn.Parameter(ntorch.tensor([1.0, 2.0]))
    assert repr(p) == "Parameter containing:\ntensor([1., 2.], requires_grad=True)"
    again = pickle.loads(pickle.dumps(p))
    assert type(again) is nn.Parameter and again.requires_grad and same(again, p)
    twin = copy.deepcopy(p)
    assert type(twin) is nn.Parameter and twin.data_ptr() != p.data_ptr()
    assert not nn.Parameter(ntorch.ones(1), requires_grad=False).requires_grad
    assert type(p + 1) is ntorch.Tensor and p.is_leaf
    source = ntorch.ones(2)
    assert nn.Parameter(source).data_ptr() == source.data_ptr()


def test_lazy():
    with pytest.warns(UserWarning, match="Lazy modules"):
        net = nn.LazyLinear(3)
    assert repr(net.weight) == "<UninitializedParameter>"
    with pytest.raises(RuntimeError, match="uninitialized"):
        _ = net.weight.shape
    assert net(ntorch.ones(2, 5)).shape == (2, 3)
    assert type(net) is nn.Linear and type(net.weight) is nn.Parameter
    with pytest.warns(UserWarning, match="Lazy modules"):
        other = nn.LazyLinear(3)
    other.load_state_dict(net.state_dict())
    assert other.weight.shape == (3, 5) and same(other.weight, net.weight)
    with pytest.warns(UserWarning, match="Lazy modules"):
        conv = nn.LazyConv2d(4, 3, bias=False)
    assert conv(ntorch.ones(1, 2, 5, 5)).shape == (1, 4, 3, 3) and type(conv) is nn.Conv2d


def test_repr():
    net = nn.Sequential(nn.Linear(2, 3), nn.ModuleList([nn.ReLU(), nn.ReLU(), nn.Tanh()]))
    assert repr(net) == (
        "Sequential(\n"
        "  (0): Linear(in_features=2, out_features=3, bias=True)\n"
        "  (1): ModuleList(\n"
        "    (0-1): 2 x ReLU()\n"
        "    (2): Tanh()\n"
        "  )\n"
        ")")


def test_sequential():
    net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    assert len(net[:2]) == 2 and net[-1] is net[2]
    net.insert(1, nn.Tanh())
    assert [type(m).__name__ for m in net] == ["Linear", "Tanh", "ReLU", "Linear"]
    del net[1]
    net += nn.Sequential(nn.Sigmoid())
    assert list(net.state_dict()) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert net(ntorch.ones(4, 2)).shape == (4, 1)
    assert isinstance(net.pop(-1), nn.Sigmoid) and len(net * 2) == 6
    with pytest.raises(IndexError):
        net[9]


def test_lists_and_dicts():
    modules = nn.ModuleList([nn.Identity()])
    modules.extend([nn.ReLU()]).insert(0, nn.Tanh())
    assert [type(m).__name__ for m in modules] == ["Tanh", "Identity", "ReLU"]
    named = nn.ModuleDict({"a": nn.ReLU()})
    named.update([("b", nn.Tanh())])
    assert list(named) == ["a", "b"] and "a" in named and len(named) == 2
    assert type(named.pop("a")) is nn.ReLU
    parameters = nn.ParameterList([ntorch.ones(2), nn.Parameter(ntorch.ones(1))])
    parameters.append(ntorch.zeros(3))
    assert len(list(parameters.parameters())) == 3 and parameters[-1].shape == (3,)
    held = nn.ParameterDict({"w": ntorch.ones(2)})
    held["v"] = nn.Parameter(ntorch.zeros(1))
    assert list(held.keys()) == ["w", "v"] and isinstance(held["w"], nn.Parameter)
    assert list((held | {"u": nn.Parameter(ntorch.ones(1))}).keys()) == ["w", "v", "u"]


def test_import_of_ntorch_leaves_nn_alone():
    import subprocess
    import sys
    code = "import sys, ntorch; assert not [m for m in sys.modules if m.startswith('ntorch.nn')]"
    subprocess.run([sys.executable, "-c", code], check=True)
