"""The tape: backward and grad options, hooks, Function, modes, in-place histories, memory."""
import gc
import subprocess
import sys
import threading
import weakref

import numpy as np
import pytest

import ntorch
from ntorch import autograd
from ntorch.autograd import Function, gradcheck, gradgradcheck
from ntorch.autograd.functional import hessian, hvp, jacobian, jvp, vhp, vjp


def leaf(*values, dtype=ntorch.float64):
    return ntorch.tensor(list(values), dtype=dtype, requires_grad=True)


def same(tensor, wanted, **tolerance):
    np.testing.assert_allclose(tensor.detach().numpy(), wanted, **(tolerance or {"rtol": 1e-12}))


# --- backward and grad ----------------------------------------------------------------------------

def test_backward_accumulates():
    x = leaf(1.0, 2.0)
    (x * x).sum().backward()
    same(x.grad, [2, 4])
    (3 * x).sum().backward()
    same(x.grad, [5, 7])
    assert x.grad.grad_fn is None and not x.grad.requires_grad


def test_backward_with_gradient_and_several_tensors():
    x, y = leaf(1.0, 2.0), leaf(3.0, 4.0)
    autograd.backward([x * y, x + y], [ntorch.tensor([1.0, 10.0], dtype=ntorch.float64),
                                       ntorch.ones(2, dtype=ntorch.float64)])
    same(x.grad, [4, 41])
    same(y.grad, [2, 21])


def test_backward_inputs_restricts_accumulation():
    x, y = leaf(2.0), leaf(3.0)
    z = x * y
    (z * z).sum().backward(inputs=[x])
    same(x.grad, [2 * 6 * 3])
    assert y.grad is None
    z = x * y
    (z * z).sum().backward(inputs=[z])
    same(z.grad, [12])
    with pytest.raises(RuntimeError, match="cannot be empty"):
        (x * y).sum().backward(inputs=[])


def test_retain_graph():
    x = leaf(2.0)
    y = (x * x).sum()
    y.backward(retain_graph=True)
    y.backward()
    same(x.grad, [8])
    with pytest.raises(RuntimeError, match="Trying to backward through the graph a second time"):
        y.backward()
    z = x.sum() + 1         # saves nothing: may run again
    z.backward()
    z.backward()


def test_grad_options():
    x, y = leaf(2.0), leaf(3.0)
    (gx,) = autograd.grad((x ** 3).sum(), x, create_graph=True)
    (ggx,) = autograd.grad(gx.sum(), x)
    same(ggx, [12])
    assert x.grad is None
    with pytest.raises(RuntimeError, match="appears to not have been used in the graph"):
        autograd.grad((x * 2).sum(), [x, y])
    gx, gy = autograd.grad((x * 2).sum(), [x, y], allow_unused=True)
    assert gy is None
    gx, gy = autograd.grad((x * 2).sum(), [x, y], materialize_grads=True)
    same(gy, [0])
    with pytest.raises(ValueError, match="materialize_grads"):
        autograd.grad((x * 2).sum(), [x], allow_unused=False, materialize_grads=True)


def test_grad_of_an_intermediate_and_batched():
    x = leaf(1.0, 2.0, 3.0)
    middle = x * 2
    (got,) = autograd.grad((middle ** 2).sum(), middle)
    same(got, [4, 8, 12])
    (rows,) = autograd.grad(x ** 2, x, ntorch.eye(3, dtype=ntorch.float64), is_grads_batched=True)
    same(rows, np.diag([2, 4, 6]))


@pytest.mark.parametrize("call, error, words", [
    (lambda: ntorch.ones(2).sum().backward(), RuntimeError, "does not require grad"),
    (lambda: (leaf(1.0, 2.0) * 2).backward(), RuntimeError, "only for scalar outputs"),
    (lambda: (leaf(1.0, 2.0) * 2).backward(ntorch.ones(3)), RuntimeError, "Mismatch in shape"),
    (lambda: autograd.grad(leaf(1.0).sum(), ntorch.ones(2)), RuntimeError, "does not require grad"),
    (lambda: autograd.backward([leaf(1.0).sum()], [None, None]), RuntimeError, "gradients"),
    (lambda: leaf(1.0).sum().backward("x"), TypeError, "gradients can be either Tensors or None"),
    (lambda: ntorch.ones(2, dtype=ntorch.int64).requires_grad_(), RuntimeError, "floating point"),
    (lambda: leaf(1.0).add_(1), RuntimeError, "a leaf Variable that requires grad"),
    (lambda: leaf(1.0, 2.0)[0:1].add_(1), RuntimeError, "a view of a leaf Variable"),
    (lambda: (leaf(1.0) * 2).requires_grad_(False), RuntimeError, "of leaf variables"),
    (lambda: ntorch.ones(2).register_hook(print), RuntimeError, "doesn't require gradient"),
    (lambda: ntorch.ones(2).retain_grad(), RuntimeError, "retain_grad"),
    (lambda: leaf(1.0).numpy(), RuntimeError, "detach"),
    (lambda: ntorch.add(leaf(1.0), 1, out=ntorch.empty(1, dtype=ntorch.float64)), RuntimeError,
     "don't support automatic differentiation"),
])
def test_errors(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_grad_assignment_is_checked():
    x = leaf(1.0, 2.0)
    with pytest.raises(RuntimeError, match="size"):
        x.grad = ntorch.ones(3, dtype=ntorch.float64)
    with pytest.raises(RuntimeError, match="type"):
        x.grad = ntorch.ones(2, dtype=ntorch.float32)
    with pytest.raises(TypeError):
        x.grad = 3
    x.grad = ntorch.ones(2, dtype=ntorch.float64)
    del x.grad
    assert x.grad is None


def test_shared_subgraphs_and_broadcast():
    x, b = leaf(1.0, 2.0, 3.0), leaf(0.5)
    y = x * b
    ((y + y) * y).sum().backward()
    same(x.grad, 4 * np.array([1, 2, 3]) * 0.25)
    same(b.grad, [4 * 0.5 * 14])


def test_grad_fn_names_and_edges():
    x = leaf(1.0)
    y = (x * 2).exp()
    assert y.grad_fn.name() == "ExpBackward0"
    assert y.grad_fn.next_functions[0][0].name() == "MulBackward0"
    end = y.grad_fn.next_functions[0][0].next_functions[0][0]
    assert end.name() == "AccumulateGrad" and end.variable is x
    assert x.is_leaf and not y.is_leaf and y.output_nr == 0
    y.grad_fn.metadata["note"] = 1
    assert y.grad_fn.metadata == {"note": 1}


# --- hooks ----------------------------------------------------------------------------------------

def test_tensor_hooks_in_order_and_removed():
    x = leaf(1.0)
    y = x * 3
    seen = []
    y.register_hook(lambda g: seen.append(g.item()))
    handle = y.register_hook(lambda g: g * 10)
    y.register_hook(lambda g: seen.append(g.item()))
    y.sum().backward(retain_graph=True)
    assert seen == [1, 10]
    same(x.grad, [30])
    handle.remove()
    y.sum().backward()
    same(x.grad, [33])


def test_leaf_hook_outlives_its_first_graph():
    x = leaf(1.0)
    x.register_hook(lambda g: g * 2)
    for expected in (6, 12):
        (x * 3).sum().backward()
        gc.collect()
        same(x.grad, [expected])


def test_a_gradient_that_someone_keeps_is_not_written():
    x, z, kept = leaf(1.0, 2.0), leaf(1.0, 2.0), []
    x.register_hook(kept.append)
    seed = ntorch.tensor([1.0, 2.0], dtype=ntorch.float64)
    for _ in range(2):
        (x + z).backward(seed)
    same(kept[0], [1, 2])
    same(seed, [1, 2])
    x.grad.zero_()
    same(z.grad, [2, 4])


def test_hook_must_return_a_tensor_of_the_size():
    x = leaf(1.0, 2.0)
    x.register_hook(lambda g: g.sum())
    with pytest.raises(RuntimeError, match="has changed the size"):
        (x * 2).sum().backward()


def test_node_hooks():
    x = leaf(2.0)
    y = x * 3
    seen = []
    y.grad_fn.register_prehook(lambda grads: (grads[0] * 2,))
    y.grad_fn.register_hook(lambda found, came: seen.append((found[0].item(), came[0].item())))
    y.sum().backward()
    assert seen == [(6, 2)]
    same(x.grad, [6])


def test_post_accumulate_hook():
    x = leaf(2.0)
    seen = []
    handle = x.register_post_accumulate_grad_hook(lambda t: seen.append((t is x, t.grad.item())))
    (x * 3).sum().backward()
    (x * 3).sum().backward()
    handle.remove()
    (x * 3).sum().backward()
    assert seen == [(True, 3), (True, 6)]
    with pytest.raises(RuntimeError, match="non-leaf"):
        (x * 2).register_post_accumulate_grad_hook(print)


def test_retain_grad():
    x = leaf(1.0, 2.0)
    y = x * 2
    y.retain_grad()
    y.register_hook(lambda g: g + 1)
    (y * 3).sum().backward()
    assert y.retains_grad
    same(y.grad, [4, 4])
    with pytest.warns(UserWarning, match="not a leaf"):
        assert (x * 2).grad is None


# --- Function -------------------------------------------------------------------------------------

class Cube(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x ** 3

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return 3 * x ** 2 * grad


class Scale(Function):
    """The form with ``setup_context``, a number argument, and two outputs."""

    @staticmethod
    def forward(x, factor):
        return x * factor, x + factor

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.factor = inputs[1]

    @staticmethod
    def backward(ctx, a, b):
        return a * ctx.factor + b, None


def test_function_to_second_order():
    x = leaf(1.5, -2.0)
    assert gradcheck(Cube.apply, x) and gradgradcheck(Cube.apply, x)
    assert gradcheck(lambda t: Scale.apply(t, 3.0), x)
    y = Cube.apply(x)
    assert y.grad_fn.name() == "CubeBackward"
    y.sum().backward()
    with pytest.raises(RuntimeError, match="second time"):
        y.sum().backward()


def test_function_materialize_grads():
    seen = []

    class Two(Function):
        @staticmethod
        def forward(ctx, x, keep):
            ctx.set_materialize_grads(keep)
            return x.clone(), x.clone()

        @staticmethod
        def backward(ctx, a, b):
            seen.append(b if b is None else b.tolist())
            return a, None

    x = leaf(1.0)
    for keep in (True, False):
        Two.apply(x, keep)[0].sum().backward()
    assert seen == [[0.0], None]


def test_function_mark_dirty_and_non_differentiable():
    class Double(Function):
        @staticmethod
        def forward(ctx, x):
            x.mul_(2)
            ctx.mark_dirty(x)
            which = x > 0
            ctx.mark_non_differentiable(which)
            return x, which

        @staticmethod
        def backward(ctx, grad, unused):
            return grad * 2

    x = leaf(1.0, -1.0)
    y = x * 1
    version = y._version
    got, which = Double.apply(y)
    assert got is y and y._version > version and not which.requires_grad
    (got * 3).sum().backward()
    same(x.grad, [6, 6])
    with pytest.raises(RuntimeError, match="a leaf Variable that requires grad"):
        Double.apply(leaf(1.0))


def test_once_differentiable():
    class Once(Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        @autograd.function.once_differentiable
        def backward(ctx, grad):
            return 2 * ctx.saved_tensors[0] * grad

    x = leaf(3.0)
    (g,) = autograd.grad((Once.apply(x) * x).sum(), x, create_graph=True)
    same(g, [27])
    with pytest.raises(RuntimeError, match="once_differentiable"):
        g.sum().backward()


def test_function_returning_its_input_and_wrong_counts():
    class Same(Function):
        @staticmethod
        def forward(ctx, x):
            return x

        @staticmethod
        def backward(ctx, grad):
            return grad * 5

    class Wrong(Function):
        @staticmethod
        def forward(ctx, x):
            return x * 1

        @staticmethod
        def backward(ctx, grad):
            return grad, grad

    x = leaf(1.0)
    y = Same.apply(x)
    assert y is not x
    y.sum().backward()
    same(x.grad, [5])
    with pytest.raises(RuntimeError, match="incorrect number of gradients"):
        Wrong.apply(x).sum().backward()
    with pytest.raises(RuntimeError, match="static forward"):
        Same()(x)


# --- modes ----------------------------------------------------------------------------------------

def test_modes_as_contexts_decorators_and_generators():
    x = leaf(1.0)
    with ntorch.no_grad():
        assert not (x * 2).requires_grad and not ntorch.is_grad_enabled()
        with ntorch.enable_grad():
            assert (x * 2).requires_grad
    assert ntorch.is_grad_enabled()

    @ntorch.no_grad()
    def quiet():
        return x * 2

    @ntorch.no_grad
    def bare():
        return x * 2

    @ntorch.no_grad()
    def steps():
        yield x * 2
        yield x * 3

    assert not quiet().requires_grad and not bare().requires_grad
    for item in steps():
        assert not item.requires_grad and ntorch.is_grad_enabled()
    with ntorch.set_grad_enabled(False):
        assert not (x * 2).requires_grad
    ntorch.set_grad_enabled(False)
    try:
        assert not (x * 2).requires_grad
    finally:
        ntorch.set_grad_enabled(True)


def test_a_mode_ends_with_an_exception():
    with pytest.raises(ZeroDivisionError), ntorch.no_grad():
        raise ZeroDivisionError
    assert ntorch.is_grad_enabled()


def test_inference_mode():
    with ntorch.inference_mode():
        made = ntorch.ones(2) * 2
        assert ntorch.is_inference_mode_enabled() and made.is_inference()
    assert not ntorch.is_inference_mode_enabled()
    with pytest.raises(RuntimeError, match="outside InferenceMode"):
        made.requires_grad_()
    with pytest.raises(RuntimeError, match="outside InferenceMode"):
        made.add_(1)
    with pytest.raises(RuntimeError, match="[Ii]nference tensors cannot be saved for backward"):
        leaf(1.0, 2.0, dtype=ntorch.float32) * made


# --- in-place -------------------------------------------------------------------------------------

@pytest.mark.parametrize("change", [
    lambda y: y.mul_(2.5), lambda y: y.exp_(), lambda y: y[0].mul_(3), lambda y: y.zero_(),
    lambda y: y[1:].copy_(y[:1] * 2), lambda y: y.view(3, 1).select(0, 1).sin_(),
    lambda y: y.__setitem__(0, y[1] + y[2]), lambda y: y.t_() if y.dim() == 2 else y.tanh_(),
    lambda y: (y[:2].mul_(2), y[1:].add_(y[0])), lambda y: y.unsqueeze_(0)], ids=range(10))
def test_inplace_to_second_order(change):
    def function(x):
        y = x.clone()
        change(y)
        return y * y
    assert gradcheck(function, leaf(0.3, -0.7, 1.1))
    assert gradgradcheck(function, leaf(0.3, -0.7, 1.1))


def test_a_view_sees_what_its_base_became():
    x = leaf(1.0, 2.0, 3.0)
    base = x * 1
    view = base[1:]
    base.mul_(2)
    view.mul_(5)
    assert "AsStrided" in view.grad_fn.name() or "Slice" in view.grad_fn.name()
    base.sum().backward()
    same(x.grad, [2, 10, 10])


def test_inplace_into_a_constant_with_a_variable():
    x = leaf(1.0, 2.0)
    buffer = ntorch.zeros(4, dtype=ntorch.float64)
    buffer[1:3] = x * x
    buffer.sum().backward()
    same(x.grad, [2, 4])


def test_saved_values_are_guarded():
    x = leaf(1.0, 2.0)
    y = x * 2
    z = y * y
    y.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation.*version 1; exp"):
        z.sum().backward()
    y = x.exp()
    z = y * 1
    y.detach().mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        z.sum().backward()


# --- anomaly, saved tensors -----------------------------------------------------------------------

def test_anomaly_mode():
    x = leaf(0.0)
    with pytest.warns(UserWarning, match="Anomaly"), autograd.detect_anomaly():
        y = (x.sqrt() * 0).sum()
        with pytest.raises(RuntimeError, match="SqrtBackward0.*returned nan values") as caught:
            y.backward()
    notes = "".join(getattr(caught.value, "__notes__", ()))
    assert "test_anomaly_mode" in notes + str(caught.value) or "x.sqrt()" in notes
    assert not autograd.is_anomaly_enabled()
    with autograd.set_detect_anomaly(True, check_nan=False):
        (leaf(0.0).sqrt() * 0).sum().backward()


def test_saved_tensors_hooks():
    packed = []

    def pack(tensor):
        packed.append(tensor.clone())
        return len(packed) - 1

    x = leaf(2.0, 3.0)
    with autograd.graph.saved_tensors_hooks(pack, lambda index: packed[index]):
        y = x * x
    y.sum().backward()
    same(x.grad, [4, 6])
    assert packed
    with autograd.graph.save_on_cpu():
        z = x.exp()
    z.sum().backward()
    with autograd.graph.disable_saved_tensors_hooks("not here"), pytest.raises(
            RuntimeError, match="not here"), autograd.graph.saved_tensors_hooks(pack, pack):
        pass


# --- functional -----------------------------------------------------------------------------------

def test_functional():
    a = ntorch.tensor([1.0, 2.0], dtype=ntorch.float64)
    same(jacobian(lambda x: x ** 2, a), np.diag([2, 4]))
    same(hessian(lambda x: (x ** 3).sum(), a), np.diag([6, 12]))
    v = ntorch.tensor([1.0, -1.0], dtype=ntorch.float64)
    value, got = vjp(lambda x: x ** 2, a, v)
    same(value, [1, 4])
    same(got, [2, -4])
    _, got = jvp(lambda x: x.cumsum(0) ** 2, a, v)
    same(got, [2, 0])
    same(hvp(lambda x: (x[0] * x[1]).sum(), a, v)[1], [-1, 1])
    same(vhp(lambda x: (x[0] * x[1]).sum(), a, v)[1], [-1, 1])
    two = jacobian(lambda x, y: x * y, (a, v))
    same(two[0], np.diag([1, -1]))
    same(two[1], np.diag([1, 2]))
    nested = hessian(lambda x, y: (x * y).sum(), (a, v))
    same(nested[0][1], np.eye(2))
    with pytest.raises(TypeError, match="Tensor"):
        jacobian(lambda x: 3, a)


# --- depth, memory, threads -----------------------------------------------------------------------

def test_a_deep_graph():
    x = leaf(1.0)
    y = x
    for _ in range(50_000):
        y = y + 1
    y.sum().backward()
    same(x.grad, [1])
    del y           # freeing 50,000 nodes recursively would overflow the C stack
    (x * 2).sum().backward()


def test_a_dropped_deep_graph():
    x = leaf(1.0)
    y = x
    for _ in range(50_000):
        y = y * x
    reference = weakref.ref(y)
    del y
    assert reference() is None


@pytest.fixture
def no_collector():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def test_memory_is_freed_without_the_collector(no_collector):
    def model():
        x = leaf(1.0, 2.0)
        y = (x * 2).exp()
        z = ntorch.softmax(y, 0) + y
        w = z.view(2, 1)
        w.mul_(3)
        return x, y, z, w

    model()[-1].sum().backward()        # the compiler's own cycles hold its callers' frames
    gc.collect()
    kept = model()
    alive = [weakref.ref(t) for t in kept]
    storages = [weakref.ref(t._storage) for t in kept]
    del kept
    assert [r() for r in alive + storages] == [None] * 8

    kept = model()
    kept[-1].sum().backward()
    alive = [weakref.ref(t) for t in kept] + [weakref.ref(kept[0].grad)]
    del kept
    assert [r() for r in alive] == [None] * 5


def test_backward_frees_what_was_saved(no_collector):
    x = leaf(1.0, 2.0)
    y = x * 2
    saved = weakref.ref(y._storage)
    z = (y * y).sum()
    del y
    assert saved() is not None
    z.backward()
    assert saved() is None


def test_function_context_is_freed(no_collector):
    x = leaf(1.0)
    y = Cube.apply(x)
    reference = weakref.ref(y)
    del y
    assert reference() is None


def test_backward_from_several_threads():
    x = leaf(*[1.0] * 1000)
    failures = []

    def work():
        try:
            for _ in range(20):
                (x * 2).sum().backward()
        except Exception as error:      # reported to the test's own thread
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    same(x.grad, np.full(1000, 160.0))


def test_backward_inside_backward():
    class Nested(Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        def backward(ctx, grad):
            with ntorch.enable_grad():
                inner = ctx.saved_tensors[0].detach().requires_grad_()
                (inner * inner).sum().backward()
            return grad * inner.grad

    x = leaf(3.0)
    Nested.apply(x).sum().backward()
    same(x.grad, [6])


def test_grad_modes_are_per_thread():
    seen = []
    with ntorch.no_grad():
        thread = threading.Thread(target=lambda: seen.append(ntorch.is_grad_enabled()))
        thread.start()
        thread.join()
    assert seen == [True]


def test_gradcheck_refuses_a_wrong_gradient():
    class Wrong(Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, grad):
            return grad * 2.1

    with pytest.raises(RuntimeError, match="Jacobian mismatch"):
        gradcheck(Wrong.apply, leaf(1.0, 2.0))
    assert not gradcheck(Wrong.apply, leaf(1.0, 2.0), raise_exception=False)


@pytest.mark.parametrize("first", ["", "import ntorch.autograd.gradcheck"])
def test_gradcheck_whether_its_module_was_imported_before_or_not(first):
    """torch has a function and a module of this name in one package."""
    code = f"""
import ntorch
{first}
x = ntorch.randn(3, dtype=ntorch.float64, requires_grad=True)
assert ntorch.autograd.gradcheck(ntorch.tanh, (x,))
from ntorch.autograd.gradcheck import GradcheckError
assert ntorch.autograd.gradcheck(ntorch.sin, (x,))
assert issubclass(GradcheckError, RuntimeError)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(("part", "size", "stride", "offset"), [
    (slice(4, 9), (2, 2), (1, 2), 1), (slice(2, 12), (3,), (2,), 0),
    (slice(0, 6), (2, 3), (3, 1), 2), (slice(3, 8), (4,), (1,), 3),
    (slice(0, 4), (3, 2), (1, 1), 1)])
def test_as_strided_from_anywhere_in_the_storage(part, size, stride, offset):
    """Elements in front of the tensor, or behind it, are none of its own: no gradient."""
    def view(x):
        return (x * 1)[part].as_strided(size, stride, offset)
    x = ntorch.arange(1.0, 13.0, dtype=ntorch.float64).requires_grad_()
    places = [offset + sum(i * s for i, s in zip(index, stride, strict=True))
              for index in np.ndindex(*size)]
    wanted = np.zeros(12)
    for place in places:
        if part.start <= place < part.stop:
            wanted[place] += 3 * (place + 1) ** 2
    grad, = ntorch.autograd.grad((view(x) ** 3).sum(), x, create_graph=True)
    np.testing.assert_array_equal(grad.detach().numpy(), wanted)
    second, = ntorch.autograd.grad(grad.sum(), x)
    inside = [p for p in places if part.start <= p < part.stop]
    again = np.zeros(12)
    for place in inside:
        again[place] += 6 * (place + 1)
    np.testing.assert_array_equal(second.numpy(), again)
