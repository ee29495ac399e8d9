"""Arguments of compiled functions that Python writes, keeps or gives another history or form."""

import pytest

import ntorch


def _twice(function, make, use, calls=11):
    """``use(argument, result)`` of plain and compiled calls, which run in segments in the end."""
    compiled = ntorch.compile(function)
    for _ in range(calls):
        wanted, found = [use(x, leaf, call(x)) for call in (function, compiled)
                         for leaf, x in [make()]]
        assert wanted == found
    return compiled


def _leaf():
    leaf = ntorch.arange(1.0, 5.0, requires_grad=True)
    return leaf, leaf * 1


def _gradient(x, leaf, result):
    (x * x + result.sum()).sum().backward()
    return leaf.grad.tolist(), x.tolist(), x.requires_grad, x._version > 0


def test_written_arguments_have_the_history_of_the_write():
    compiled = _twice(lambda x: x.mul_(3), _leaf, _gradient)
    assert "an argument was given another history" in compiled.explain()


def test_a_written_view_gives_its_base_the_history():
    def make():
        leaf, x = _leaf()
        return leaf, x[1:]

    def use(x, leaf, result):
        base = x._base
        (base * base).sum().backward()
        return leaf.grad.tolist(), base.tolist(), result.tolist()
    _twice(lambda x: x.mul_(3).exp(), make, use)
    _twice(lambda x: x[1:].copy_(x[:-1] * 2), make, use)


def test_what_needs_no_gradient_before_the_write():
    def make():
        return ntorch.ones(4, requires_grad=True), ntorch.zeros(4)
    weight = ntorch.full((4,), 2.0, requires_grad=True)

    def use(x, leaf, result):
        weight.grad = None
        (x * result).sum().backward()
        return weight.grad.tolist(), x.requires_grad, x.is_leaf
    _twice(lambda x: x.add_(weight * 3).sin(), make, use)


def test_a_write_into_a_leaf_is_refused_as_in_eager():
    leaf = ntorch.ones(3, requires_grad=True)
    compiled = ntorch.compile(lambda x: x.add_(1))
    for x in (leaf, leaf[1:]):
        with pytest.raises(RuntimeError, match="leaf Variable that requires grad"):
            compiled(x)
    with ntorch.no_grad():
        assert compiled(leaf) is leaf and leaf.tolist() == [2.0] * 3


@pytest.mark.parametrize("change", [
    lambda x: x.unsqueeze_(0), lambda x: x.t_(), lambda x: x.requires_grad_(),
    lambda x: x.resize_(3), lambda x: setattr(x, "data", ntorch.ones(5)), lambda x: x.detach_(),
    lambda x: x.squeeze_(), lambda x: x.transpose_(0, 1), lambda x: x.set_(ntorch.zeros(2, 2))])
def test_another_form(change):
    def function(x):
        change(x)
        return x + 1
    _twice(function, lambda: (None, ntorch.arange(6.0).view(2, 3)), lambda x, _, result: (
        x.tolist(), x.shape, x.stride(), x.requires_grad, result.tolist()))


@pytest.mark.parametrize("read", [False, True])
def test_versions_count_writes(read):
    def function(x):
        x.add_(1)
        return x.sum().item() if read else x.sum()
    compiled = ntorch.compile(function)
    for _ in range(3):
        leaf = ntorch.ones(4, requires_grad=True)
        x = leaf * 1
        y = (x * x).sum()
        with ntorch.no_grad():
            compiled(x)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            y.backward()


def test_views_that_come_out_of_segments_are_views_of_the_argument():
    def function(x):
        part = x.view(2, 2)
        return (part if x.sum() > -1 else None), x[1:]
    compiled = ntorch.compile(function)
    for _ in range(3):
        leaf, x = _leaf()
        part, tail = compiled(x)
        assert part._storage is tail._storage is x._storage and part._base is x
        part.mul_(2)
        assert x._version == 1
        x.sum().backward()
        assert leaf.grad.tolist() == [2.0] * 4


def test_what_is_kept_when_the_function_raises():
    kept = []

    def function(x):
        kept[:] = [x, x[1:], x * 2]
        raise ValueError("in the midst")
    compiled = ntorch.compile(function)
    for _ in range(3):
        x = ntorch.arange(4.0)
        with pytest.raises(ValueError, match="in the midst"):
            compiled(x)
        assert [(k * 2).tolist() for k in kept] == [
            [0, 2, 4, 6], [2, 4, 6], [0, 4, 8, 12]]
        kept[1].add_(1)
        assert x.tolist() == [0, 2, 3, 4]


def test_a_backward_after_segments_sees_writes_to_arguments():
    compiled = ntorch.compile(lambda x, w: (x * w).sum() * (1 if x.sum() > 0 else -1))
    x, w = ntorch.ones(3), ntorch.ones(3, requires_grad=True)
    y = compiled(x, w)
    x.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.backward()


def test_a_function_that_holds_memory_of_its_argument_runs_once_a_call():
    memory, calls = ntorch.zeros(4), []

    def function(x):
        calls.append(1)
        return x.add_(1) + memory
    compiled = ntorch.compile(function)
    for call in range(4):
        assert compiled(memory[:]).tolist() == [2.0 + 2 * call] * 4
    assert len(calls) == 4


def test_disabled_functions_get_real_arguments():
    @ntorch.compiler.disable
    def plain(x, nest):
        x.add_(1)
        nest["x"], nest["sum"] = x[:2], float(x.numpy().sum())
        return x

    def function(x):
        y, nest = x * 2, {}
        return plain(x, nest) is x, plain(y, nest) + 1, nest["x"], nest["sum"]
    _twice(function, lambda: (None, ntorch.arange(4.0)), lambda x, _, result: (
        x.tolist(), [r.tolist() if isinstance(r, ntorch.Tensor) else r for r in result]))


def test_state_that_suits_again_is_compiled():
    state = {"print": True}

    def function(x):
        return x * 2 if not state["print"] else x * x.sum().item()
    compiled = ntorch.compile(function)
    for _ in range(12):
        compiled(ntorch.ones(2))
    assert "from here on the Python runs at every call" in compiled.explain()
    state["print"] = False
    for _ in range(100):
        assert compiled(ntorch.ones(2)).tolist() == [2.0, 2.0]
    assert len(compiled.programs()) == 1


def test_a_leaf_that_becomes_one_inside():
    """``requires_grad_`` on an argument, whose gradient the function then computes and reads."""
    weight = ntorch.full((3,), 2.0)

    def function(x):
        x.requires_grad_()
        (x * weight).sum().backward()
        gradient = x.grad.clone()
        x.grad.mul_(2)
        return gradient

    def use(x, _, result):
        return x.grad.tolist(), x.requires_grad, result.tolist()
    _twice(function, lambda: (None, ntorch.ones(3)), use)


def test_a_step_with_normalized_weights():
    """Its forward writes a vector that backward reads; memory of others has no price."""
    found = []
    for wrap in (lambda f: f, ntorch.compile):
        ntorch.manual_seed(0)
        layer = ntorch.nn.utils.parametrizations.spectral_norm(ntorch.nn.Linear(4, 2))
        optimizer = ntorch.optim.SGD(layer.parameters(), lr=0.1)

        def step(x, layer=layer, optimizer=optimizer):
            loss = layer(x).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return loss.detach()
        call = wrap(step)
        found.append([call(ntorch.ones(5, 4)).item() for _ in range(4)])
    assert ntorch.allclose(*map(ntorch.tensor, found), rtol=1e-4)
