"""Optimizers against their formulas in NumPy, schedules, state dicts, errors."""
import copy
import io
import math
import warnings

import numpy as np
import pytest

import ntorch
from ntorch import nn, optim
from ntorch.optim import lr_scheduler


def numpy_sgd(p, g, state, lr=1e-3, momentum=0, dampening=0, weight_decay=0, nesterov=False,
              maximize=False):
    g = (-g if maximize else g) + weight_decay * p
    if momentum:
        old = state.get("b")
        state["b"] = g.copy() if old is None else momentum * old + (1 - dampening) * g
        g = g + momentum * state["b"] if nesterov else state["b"]
    return p - lr * g


def numpy_adam(p, g, state, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0, amsgrad=False,
               maximize=False, decoupled=False):
    g = -g if maximize else g
    if decoupled:
        p = p * (1 - lr * weight_decay)
    else:
        g = g + weight_decay * p
    t = state["t"] = state.get("t", 0) + 1
    m = state["m"] = betas[0] * state.get("m", 0) + (1 - betas[0]) * g
    v = state["v"] = betas[1] * state.get("v", 0) + (1 - betas[1]) * g * g
    if amsgrad:
        v = state["w"] = np.maximum(state.get("w", 0), v)
    root = np.sqrt(v / (1 - betas[1] ** t))
    return p - lr * m / (1 - betas[0] ** t) / (root + eps)


def numpy_adamw(p, g, state, weight_decay=1e-2, **options):
    return numpy_adam(p, g, state, weight_decay=weight_decay, decoupled=True, **options)


RULES = {"SGD": numpy_sgd, "Adam": numpy_adam, "AdamW": numpy_adamw}
SETTINGS = [
    ("SGD", {"lr": 0.1}), ("SGD", {"lr": 0.1, "weight_decay": 0.1, "maximize": True}),
    ("SGD", {"lr": 0.1, "momentum": 0.9}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.5, "weight_decay": 0.1}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    ("Adam", {}), ("Adam", {"lr": 0.1, "betas": (0.5, 0.9), "eps": 1e-3}),
    ("Adam", {"weight_decay": 0.1, "maximize": True}), ("Adam", {"amsgrad": True}),
    ("Adam", {"amsgrad": True, "weight_decay": 0.1}), ("AdamW", {"lr": 0.1}),
    ("AdamW", {"amsgrad": True, "maximize": True, "weight_decay": 0.2}),
]


@pytest.mark.parametrize("layout", ["fused", "composed", "half"])
@pytest.mark.parametrize("name, options", SETTINGS, ids=str)
def test_formula(name, options, layout):
    generator = np.random.default_rng(0)
    start = generator.standard_normal((40, 50))
    dtype = ntorch.float16 if layout == "half" else ntorch.float64
    p = ntorch.from_numpy(start).to(dtype)
    p = nn.Parameter(p.t() if layout == "composed" else p)       # transposed: not contiguous
    if layout == "half":
        options = dict(options, eps=1e-3) if name != "SGD" else options
    optimizer = getattr(optim, name)([p], **options)
    expected, state = start.copy(), {}
    for _ in range(5):
        g = generator.standard_normal(start.shape)
        g += np.sign(g) * 0.5        # float16 would lose the square of a small one
        grad = ntorch.from_numpy(g).to(dtype)
        p.grad = grad.t() if layout == "composed" else grad
        optimizer.step()
        expected = RULES[name](expected, g, state, **options)
    got = p.detach().double().numpy()
    got = got.T if layout == "composed" else got
    assert np.allclose(got, expected, **({"atol": 0.1} if layout == "half" else
                                         {"rtol": 1e-9, "atol": 1e-12}))


@pytest.mark.parametrize("name, options", SETTINGS, ids=str)
def test_float32_like_torch(name, options):
    torch = pytest.importorskip("torch")
    results = []
    for library in (torch, ntorch):
        generator = np.random.default_rng(0)
        ps = [library.nn.Parameter(library.from_numpy(
            generator.standard_normal(n).astype(np.float32))) for n in (5, 40000)]
        optimizer = getattr(library.optim, name)(ps, **options)
        for _ in range(5):
            for p in ps:
                p.grad = library.from_numpy(generator.standard_normal(p.shape).astype(np.float32))
            optimizer.step()
        results.append([p.detach().numpy() for p in ps])
    for a, b in zip(*results, strict=True):
        assert np.allclose(a, b, rtol=2e-6, atol=1e-6)


OTHERS = [
    ("Adagrad", {"lr_decay": 0.1}), ("Adadelta", {"weight_decay": 0.1}), ("RMSprop", {}),
    ("RMSprop", {"centered": True, "momentum": 0.5}), ("Rprop", {}), ("Adamax", {}),
    ("NAdam", {"weight_decay": 0.1, "decoupled_weight_decay": True}), ("RAdam", {}),
    ("ASGD", {"t0": 2, "lambd": 0.1}), ("LBFGS", {}),
    ("LBFGS", {"line_search_fn": "strong_wolfe"}),
    ("LBFGS", {"history_size": 3, "lr": 0.5}),
]


@pytest.mark.parametrize("name, options", OTHERS, ids=str)
def test_others_like_torch(name, options):
    """On a smooth problem in float64, where rounding does not decide the path."""
    torch = pytest.importorskip("torch")
    results = []
    for library in (torch, ntorch):
        generator = np.random.default_rng(0)
        a, b = (library.from_numpy(generator.standard_normal(s)) for s in ((8, 5), (8,)))
        p = library.nn.Parameter(library.from_numpy(generator.standard_normal(5)))
        optimizer = getattr(library.optim, name)([p], **options)

        def closure(a=a, b=b, p=p, optimizer=optimizer):
            optimizer.zero_grad()
            loss = (a @ p - b).pow(2).mean() + p.exp().sum() * 0.01
            loss.backward()
            return loss

        path = []
        for _ in range(2 if name == "LBFGS" else 12):
            optimizer.step(closure)
            path.append(p.detach().numpy().copy())
        results.append(np.array(path))
        layout = {k: sorted(v) for k, v in optimizer.state_dict()["state"].items()}
        results[-1] = (results[-1], layout, sorted(optimizer.param_groups[0]))
    assert results[0][1:] == results[1][1:]
    assert np.allclose(results[0][0], results[1][0], rtol=1e-6, atol=1e-7)


def test_versions_and_threads():
    """An update is an in-place write, and its result does not depend on how it is cut."""
    results = []
    for threads in (1, 2):
        ntorch.set_num_threads(threads)
        p = nn.Parameter(ntorch.linspace(-1, 1, 100003))
        version = p._version
        optimizer = optim.Adam([p], lr=0.1)
        p.grad = ntorch.linspace(1, 2, 100003)
        optimizer.step()
        assert p._version > version
        results.append(p.detach().numpy().copy())
    assert np.array_equal(*results)


def make(momentum=0.9):
    net = nn.Linear(3, 2)
    groups = [{"params": [net.weight]}, {"params": [net.bias], "lr": 0.05}]
    return net, optim.SGD(groups, lr=0.1, momentum=momentum)


def test_groups_and_state_dict():
    net, optimizer = make()
    net(ntorch.ones(4, 3)).sum().backward()
    optimizer.step()
    state = optimizer.state_dict()
    assert [g["params"] for g in state["param_groups"]] == [[0], [1]]
    assert [g["lr"] for g in state["param_groups"]] == [0.1, 0.05]
    assert sorted(state["state"]) == [0, 1] and "momentum_buffer" in state["state"][0]
    file = io.BytesIO()
    ntorch.save(state, file)
    file.seek(0)
    other_net, other = copy.deepcopy(net), None
    other = optim.SGD([{"params": [other_net.weight]}, {"params": [other_net.bias]}], lr=9.0)
    other.load_state_dict(ntorch.load(file))
    for module, opt in ((net, optimizer), (other_net, other)):
        opt.zero_grad()
        module(ntorch.ones(4, 3)).sum().backward()
        opt.step()
    assert np.array_equal(net.weight.detach().numpy(), other_net.weight.detach().numpy())
    assert other.param_groups[1]["lr"] == 0.05
    with pytest.raises(ValueError, match="different number of parameter groups"):
        optim.SGD(other_net.parameters(), lr=1.0).load_state_dict(state)


def test_adam_state():
    p = nn.Parameter(ntorch.ones(2))
    optimizer = optim.Adam([p], amsgrad=True)
    p.grad = ntorch.ones(2)
    optimizer.step()
    state = optimizer.state_dict()["state"][0]
    assert list(state) == ["step", "exp_avg", "exp_avg_sq", "max_exp_avg_sq"]
    assert state["step"].item() == 1.0 and state["step"].dtype == ntorch.float32
    assert repr(optimizer).startswith("Adam (\nParameter Group 0\n    amsgrad: True\n")


def test_closure_hooks_and_zero_grad():
    net, optimizer = make()
    seen = []
    optimizer.register_step_pre_hook(lambda o, a, k: seen.append("pre"))
    optimizer.register_step_post_hook(lambda o, a, k: seen.append("post"))

    def closure():
        optimizer.zero_grad()
        loss = net(ntorch.ones(1, 3)).pow(2).sum()
        loss.backward()
        seen.append("loss")
        return loss

    first = optimizer.step(closure).item()
    for _ in range(20):
        last = optimizer.step(closure).item()
    assert last < first and seen[:3] == ["pre", "loss", "post"]
    optimizer.zero_grad(set_to_none=False)
    assert not net.weight.grad.any()
    optimizer.zero_grad()
    assert net.weight.grad is None


def test_differentiable_and_tensor_lr():
    lr = ntorch.tensor(0.5)
    p = nn.Parameter(ntorch.ones(2))
    p.grad = ntorch.ones(2)
    optim.SGD([p], lr=lr).step()
    assert p.tolist() == [0.5, 0.5]
    leaf = ntorch.ones(2, requires_grad=True)
    moved = leaf.clone()
    moved.retain_grad()
    moved.grad = ntorch.ones(2)
    optim.SGD([moved], lr=0.1, differentiable=True).step()
    moved.sum().backward()
    assert leaf.grad.tolist() == [1, 1]


ERRORS = [
    (lambda p: optim.SGD(p, lr=-1), ValueError, "Invalid learning rate"),
    (lambda p: optim.SGD(p, lr=1, momentum=-1), ValueError, "Invalid momentum"),
    (lambda p: optim.SGD(p, lr=1, nesterov=True), ValueError, "Nesterov"),
    (lambda p: optim.Adam(p, betas=(1.0, 0.9)), ValueError, "beta parameter at index 0"),
    (lambda p: optim.Adam(p, eps=-1), ValueError, "Invalid epsilon"),
    (lambda p: optim.AdamW(p, weight_decay=-1), ValueError, "Invalid weight_decay"),
    (lambda p: optim.Adam(p, fused=True, foreach=True), RuntimeError, "cannot be `True` together"),
    (lambda p: optim.Adam(p, fused=True, differentiable=True), RuntimeError, "differentiable"),
    (lambda p: optim.SGD([]), ValueError, "empty parameter list"),
    (lambda p: optim.SGD(p[0]), TypeError, "iterable of Tensors or dicts"),
    (lambda p: optim.SGD([1]), TypeError, "can only optimize Tensors"),
    (lambda p: optim.SGD([p[0] * 2]), ValueError, "non-leaf"),
    (lambda p: optim.SGD([{"params": set(p)}]), TypeError, "ordered collections"),
    (lambda p: optim.SGD([{"params": p}, {"params": p}]), ValueError, "more than one"),
    (lambda p: optim.SGD(p).add_param_group(p), TypeError, "must be a dict"),
    (lambda p: lr_scheduler.StepLR(p, 2), TypeError, "is not an Optimizer"),
    (lambda p: lr_scheduler.StepLR(optim.SGD(p), 2, last_epoch=3), KeyError, "initial_lr"),
    (lambda p: lr_scheduler.OneCycleLR(optim.SGD(p), 0.1), ValueError, "total_steps OR"),
    (lambda p: lr_scheduler.LambdaLR(optim.SGD(p), []), ValueError, "Expected 1 lr_lambdas"),
    (lambda p: lr_scheduler.ReduceLROnPlateau(optim.SGD(p), factor=2), ValueError, "< 1.0"),
]


@pytest.mark.parametrize("act, error, text", ERRORS)
def test_errors(act, error, text):
    with pytest.raises(error, match=text):
        act([nn.Parameter(ntorch.ones(2))])


def test_fused_kernels_refuse_what_does_not_fit():
    with pytest.raises(RuntimeError, match="like the parameter"):
        ntorch.ops._fused_sgd_([ntorch.ones(2)], [ntorch.ones(3)], [], weight_decay=0.0,
                               momentum=0.0, lr=0.1, dampening=0.0, nesterov=False,
                               maximize=False, is_first_step=True)


@pytest.mark.parametrize("name", ["SGD", "Adam"])
def test_a_repeated_parameter_is_updated_twice(name):
    results = []
    for count in (1, 2):
        p = nn.Parameter(ntorch.linspace(-1, 1, 70000))
        p.grad = ntorch.linspace(1, 2, 70000)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            optimizer = getattr(optim, name)([p] * count, lr=0.1)
        for _ in range(2 // count):
            optimizer.step()
        results.append(p.detach().numpy().copy())
    assert np.array_equal(*results)


def test_parameters_of_all_sizes_share_a_launch():
    sizes = [1, 0, 64, 65, 20000, 3, 127, 40001, 0]
    for dtype in (ntorch.float32, ntorch.float64):
        together = [nn.Parameter(ntorch.linspace(-1, 1, n, dtype=dtype)) for n in sizes]
        apart = [nn.Parameter(p.detach().clone()) for p in together]
        optimizers = [optim.Adam(together, amsgrad=True),
                      *(optim.Adam([p], amsgrad=True) for p in apart)]
        for _ in range(3):
            for p in together + apart:
                p.grad = p.detach() * 2
            for optimizer in optimizers:
                optimizer.step()
        for a, b in zip(together, apart, strict=True):
            assert np.array_equal(a.detach(), b.detach())


def cosine(e):
    return 0.01 + (0.1 - 0.01) * (1 + math.cos(math.pi * e / 10)) / 2


def one_cycle(e):
    up, down = 0.3 * 20 - 1, 20 - 1
    low, high = 0.1 / 25, 0.1
    if e <= up:
        return high + (low - high) / 2 * (math.cos(math.pi * e / up) + 1)
    end = low / 1e4
    return end + (high - end) / 2 * (math.cos(math.pi * (e - up) / (down - up)) + 1)


SCHEDULES = [
    ("StepLR", {"step_size": 3, "gamma": 0.5}, lambda e: 0.1 * 0.5 ** (e // 3)),
    ("MultiStepLR", {"milestones": [2, 5, 5]}, lambda e: 0.1 * 0.1 ** ((e >= 2) + 2 * (e >= 5))),
    ("ConstantLR", {"factor": 0.5, "total_iters": 4}, lambda e: 0.05 if e < 4 else 0.1),
    ("LinearLR", {"start_factor": 0.5, "total_iters": 4}, lambda e: 0.1 * (0.5 + min(e, 4) / 8)),
    ("ExponentialLR", {"gamma": 0.9}, lambda e: 0.1 * 0.9 ** e),
    ("PolynomialLR", {"total_iters": 8, "power": 2}, lambda e: 0.1 * (1 - min(e, 8) / 8) ** 2),
    ("CosineAnnealingLR", {"T_max": 10, "eta_min": 0.01}, cosine),
    ("OneCycleLR", {"max_lr": 0.1, "total_steps": 20}, one_cycle),
    ("LambdaLR", {"lr_lambda": lambda e: 1 / (e + 1)}, lambda e: 0.1 / (e + 1)),
    ("MultiplicativeLR", {"lr_lambda": lambda e: 0.9}, lambda e: 0.1 * 0.9 ** e),
    ("CosineAnnealingWarmRestarts", {"T_0": 5}, lambda e: 0.05 * (1 + math.cos(
        math.pi * (e % 5) / 5))),
    ("CyclicLR", {"base_lr": 0.1, "max_lr": 0.5, "step_size_up": 4},
     lambda e: 0.1 + 0.4 * (1 - abs(e % 8 - 4) / 4)),
]


@pytest.mark.parametrize("name, options, formula", SCHEDULES)
def test_schedules(name, options, formula):
    optimizer = optim.SGD([nn.Parameter(ntorch.ones(1))], lr=0.1, momentum=0.9)
    schedule = getattr(lr_scheduler, name)(optimizer, **options)
    for epoch in range(15):
        assert schedule.get_last_lr()[0] == pytest.approx(formula(epoch), rel=1e-9, abs=1e-15)
        if epoch == 7:       # saved and resumed in the middle
            state = copy.deepcopy(schedule.state_dict())
            schedule = getattr(lr_scheduler, name)(optimizer, **options)
            optimizer._opt_called = True
            schedule.load_state_dict(state)
            optimizer.param_groups[0]["lr"] = state["_last_lr"][0]
        optimizer.step()
        schedule.step()


def test_plateau_sequence_and_chain():
    optimizer = optim.SGD([nn.Parameter(ntorch.ones(1))], lr=1.0)
    plateau = lr_scheduler.ReduceLROnPlateau(optimizer, patience=1, cooldown=1, min_lr=0.02)
    rates = []
    for metric in (5, 4, 4, 4, 4, 4, 4, 4, 4, 4):
        plateau.step(metric)
        rates.append(round(plateau.get_last_lr()[0], 6))
    assert rates == [1, 1, 1, 0.1, 0.1, 0.1, 0.02, 0.02, 0.02, 0.02]
    optimizer = optim.SGD([nn.Parameter(ntorch.ones(1))], lr=1.0)
    both = lr_scheduler.SequentialLR(optimizer, [
        lr_scheduler.ConstantLR(optimizer, 0.5, 10),
        lr_scheduler.ExponentialLR(optimizer, 0.5)], [2])
    rates = []
    for _ in range(5):
        rates.append(both.get_last_lr()[0])
        optimizer.step()
        both.step()
    assert rates == [0.5, 0.5, 1.0, 0.5, 0.25]
    optimizer = optim.SGD([nn.Parameter(ntorch.ones(1))], lr=1.0)
    chain = lr_scheduler.ChainedScheduler([
        lr_scheduler.StepLR(optimizer, 2, 0.1), lr_scheduler.ExponentialLR(optimizer, 0.5)])
    for _ in range(2):
        optimizer.step()
        chain.step()
    assert chain.get_last_lr()[0] == pytest.approx(0.025)


def test_wrong_order_of_steps_warns():
    optimizer = optim.SGD([nn.Parameter(ntorch.ones(1))], lr=1.0)
    schedule = lr_scheduler.StepLR(optimizer, 2)
    with pytest.warns(UserWarning, match="before `optimizer.step"):
        schedule.step()
