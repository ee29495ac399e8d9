"""``jit.ignore``, ``unused`` and ``export`` mean under ``script`` what they mean in torch."""
import io

import numpy as np
import pytest

import ntorch
from ntorch import jit, nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.calls, self.seen = nn.Linear(3, 3), 0, []
        ntorch.nn.init.ones_(self.inner.weight)

    @jit.ignore
    def count(self, x):
        self.calls += 1
        self.seen.append(float(x.sum()))
        assert not jit.is_scripting()
        return ntorch.from_numpy(np.sort(x.detach().numpy() * self.calls, axis=0))

    @jit.unused
    def left_out(self, x):
        return x * 100

    @jit.export
    def thrice(self, x):
        return self.inner(x) * 3

    @jit.unused
    @property
    def size(self):
        return self.inner.weight.numel()

    def forward(self, x, flag=False):
        if flag:
            return self.left_out(x)
        y = self.inner(x).relu()
        return self.count(y) + y * 2


@pytest.mark.parametrize("grad", [False, True])
def test_ignored_methods_run_as_python_at_every_call(grad):
    plain, scripted = Net(), Net()
    scripted.load_state_dict(plain.state_dict())
    fast = jit.script(scripted)
    with ntorch.set_grad_enabled(grad):
        for call in range(12):      # behind the eighth its Python is not watched any more
            x = ntorch.arange(6.0).view(2, 3) - call
            wanted, found = plain(x), fast(x)
            assert ntorch.allclose(found, wanted, rtol=1e-6)
            if grad:
                for y, net in ((wanted, plain), (found, scripted)):
                    net.zero_grad()
                    y.sum().backward()
                assert ntorch.allclose(plain.inner.weight.grad, scripted.inner.weight.grad)
    assert scripted.calls == plain.calls == 12 and scripted.seen == plain.seen
    assert "Net.count, which is marked jit.ignore" in fast.explain()


def test_saving_what_calls_python_is_refused():
    fast = jit.script(Net())
    with ntorch.no_grad():
        fast(ntorch.ones(2, 3))
    for save in (fast.save, lambda file: jit.save(fast, file)):
        with pytest.raises(RuntimeError, match=r"could not export Python function call 'Net.count'"
                                               r".*jit\.unused"):
            save(io.BytesIO())


def test_unused_raises_in_scripted_code_alone():
    net = Net()
    fast = jit.script(net)
    assert net(ntorch.ones(1, 3), True).tolist() == [[100.0] * 3]
    for _ in range(2):
        with pytest.raises(jit.Error, match="left_out: This Python function is annotated to be "
                                            "ignored and cannot be run"):
            fast(ntorch.ones(1, 3), True)
    assert fast.left_out(ntorch.ones(1)).item() == 100 and net.size == fast.size == 9


def test_dropped_code_is_saved_as_if_it_were_not_there(tmp_path):
    class Logged(nn.Module):
        @jit.ignore(drop=True)
        def log(self, x):
            print(x)

        def forward(self, x):
            if self.training:
                self.log(x)
            return x * 2
    fast = jit.script(Logged())
    with pytest.raises(jit.Error, match="log"):
        fast(ntorch.ones(2))
    fast.eval()
    with ntorch.no_grad():
        assert fast(ntorch.ones(2)).tolist() == [2.0, 2.0]
    fast.save(tmp_path / "logged.nt")
    assert jit.load(tmp_path / "logged.nt")(ntorch.ones(2)).tolist() == [2.0, 2.0]


def test_trace_and_compile_run_through_marks():
    @jit.ignore
    def doubled(x):
        assert not jit.is_scripting()
        return x * 2

    @jit.unused
    def halved(x):
        return x / 2

    def function(x):
        return doubled(x) + halved(x)
    x = ntorch.ones(3)
    traced, compiled = jit.trace(function, x), ntorch.compile(function, fullgraph=True)
    assert traced(x).tolist() == compiled(x).tolist() == [2.5] * 3
    assert doubled.__name__ == "doubled" and doubled._torchscript_modifier.startswith("ignored")


def test_exported_methods_are_programs():
    net = Net()
    fast = jit.script(net)
    x = ntorch.arange(6.0).view(2, 3)
    assert isinstance(fast.thrice, jit.ScriptFunction) and fast.thrice is fast.thrice
    assert ntorch.allclose(fast.thrice(x), net.thrice(x))
    assert len(fast.thrice.compiled.programs()) == 1 and fast.compiled.programs() == []


def test_what_ignored_code_does_to_its_arguments():
    """In-place writes, memory shared with arguments, kept tensors and histories are as in eager."""
    kept = []

    @jit.ignore
    def write(x, nest):
        x.mul_(3)
        kept.append(x)
        nest["view"] = x[1:]
        x.detach().numpy()[0] = 7

    def function(x):
        nest = {}
        write(x, nest)
        return nest["view"], x * 2
    fast = jit.script(function)
    for _ in range(10):
        results = []
        for call in (function, fast):
            leaf = ntorch.arange(4.0, requires_grad=True)
            x = leaf * 1
            view, y = call(x)
            assert view._storage is x._storage and kept.pop()._storage is x._storage
            assert x._version == 1
            view.add_(1)
            (x * y.detach()).sum().backward()
            results.append((x.tolist(), view.tolist(), y.tolist(), leaf.grad.tolist()))
        assert results[0] == results[1]


def test_which_code_asks():
    def function(x):
        return x + 10 * jit.is_scripting() + jit.is_tracing() + 100 * ntorch.compiler.is_compiling()
    x = ntorch.zeros(())
    assert function(x).item() == 0
    with ntorch.lazy():
        assert function(x).item() == 0
    assert jit.script(function)(x).item() == 110
    assert jit.trace(function, x, check_trace=False)(x).item() == 101
    assert ntorch.compile(function)(x).item() == 100


def test_wrong_marks():
    with pytest.raises(RuntimeError, match="must be a bool or a function but got 3"):
        jit.ignore(3)
    assert jit.ignore(len)([1]) == jit.ignore(drop=True)(len)([1]) == jit.export(len)([1]) == 1
