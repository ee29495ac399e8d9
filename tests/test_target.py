"""What our Numba target makes of a kernel's Python: it computes what Python would."""
import itertools
import types as types_of_python

import numpy as np
import pytest
from numba import types
from numba.core import errors
from numba.extending import intrinsic

from ntorch.kernels import gemm
from ntorch.kernels.gemm_stubs import multiply_tile
from ntorch.kernels.stubs import ROLLED as LOOPS
from ntorch.runtime import build, launch, store, target
from ntorch.runtime.compile import jit_function


@pytest.fixture(autouse=True, scope="module")
def fresh(tmp_path_factory):
    """An empty store and no kernels remembered: everything here is compiled."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NTORCH_CACHE_DIR", str(tmp_path_factory.mktemp("store")))
        patch.setattr(store, "_state", {"directory": None, "checked": None, "memory": {}})
        patch.setattr(build, "_kernels", {})
        yield


def kernel_function(function):
    """Mark a function of this file as one of the kernels', which alone are compiled."""
    function.__module__ = "ntorch.kernels.example"
    return function


def run(function, kinds, *arguments, n=1):
    """Compile the function and call it once over ``[0, n)``; arrays stand for their slots."""
    slots = []
    for kind, value in zip(kinds, arguments, strict=True):
        if ":" not in kind:
            slots.append(value if kind in "ip" else build.double_bits(value))
            continue
        slots += [value.ctypes.data, *value.shape]
        if kind.endswith("A"):
            slots += [step // value.itemsize for step in value.strides]
    launch.run(build.kernel(function, kinds), slots, n, 10 ** 9)


# --- ranges ---------------------------------------------------------------------------------------

@kernel_function
def _ranges(out, start, stop, step, begin, end):
    count, total = 0, 0
    for i in range(start, stop, step):
        count += 1
        total += i
    out[0], out[1] = count, total
    count, total = 0, 0
    for i in range(start, stop):
        count += 1
        total += i
    out[2], out[3] = count, total
    count = 0
    for i in range(start, stop, 3):
        count += 1 + i - i
    out[4] = count
    count = 0
    for i in range(stop, start, -2):
        count += 1 + i - i
    out[5] = count
    for i in range(stop):
        count += i
    out[6] = count


@pytest.mark.parametrize("start", [-7, 0, 5])
@pytest.mark.parametrize("stop", [-9, 0, 4, 5, 6, 11])
@pytest.mark.parametrize("step", [-4, -1, 1, 2, 7])
def test_ranges(start, stop, step):
    got, want = np.zeros(7, np.int64), np.zeros(7, np.int64)
    run(_ranges, ("i8:1C", "i", "i", "i"), got, start, stop, step)
    _ranges(want, start, stop, step, 0, 1)
    np.testing.assert_array_equal(got, want)


# --- elements and slices --------------------------------------------------------------------------

@kernel_function
def _slices(x, out, a, b, begin, end):
    places = 0
    for part in (x[a:b], x[a:], x[:b]):
        out[places] = part.size
        total = 0.0
        for i in range(part.size):
            total += part[i] * (i + 1)
        out[places + 1] = total
        places += 2
    inner = x[a:b][1:-1]
    out[6] = inner.size


BOUNDS = [-99, -6, -5, -1, 0, 2, 4, 5, 99]


@pytest.mark.parametrize(("a", "b"), list(itertools.product(BOUNDS, BOUNDS)))
@pytest.mark.parametrize("kind", ["f8:1C", "f8:1A"])
def test_slices_are_cut_to_the_array(a, b, kind):
    wide = np.arange(1.0, 11.0)
    x = wide[::2] if kind.endswith("A") else wide[:5].copy()
    got, want = np.zeros(7), np.zeros(7)
    run(_slices, (kind, "f8:1C", "i", "i"), x, got, a, b)
    _slices(x, want, a, b, 0, 1)
    np.testing.assert_array_equal(got, want)


@kernel_function
def _elements(x, out, i, j, begin, end):
    out[0] = x[i, j, 1]
    out[1] = x[-1, j, i]
    row = x[i, j]
    out[2] = row[-1]
    plane = x[i]
    out[3] = plane[j, -2]
    block = x[i, 1:, j]
    out[4] = block[0]
    out[5] = block.size
    part = x[:, j, 1:3]
    out[6] = part[1, 1]
    x[i, j, -1] = 100.0
    x[-1, -1, -1] += 7


@pytest.mark.parametrize("kind", ["f8:3C", "f8:3A"])
@pytest.mark.parametrize(("i", "j"), [(0, 0), (1, 2), (-1, -3), (-2, 1)])
def test_elements(kind, i, j):
    x = np.arange(2.0 * 3 * 4).reshape(2, 3, 4)
    x = x if kind.endswith("C") else x.transpose(0, 2, 1).copy().transpose(0, 2, 1)
    same, got, want = x.copy(order="K"), np.zeros(7), np.zeros(7)
    run(_elements, (kind, "f8:1C", "i", "i"), x, got, i, j)
    _elements(same, want, i, j, 0, 1)
    np.testing.assert_array_equal(got, want)
    np.testing.assert_array_equal(x, same)


@kernel_function
def _narrow(small, flags, out, begin, end):
    for i in range(small.size):
        if flags[i]:
            out[i] = small[i] + 100
        else:
            small[i] = -i


def test_small_types_are_converted_where_they_are_kept():
    small, flags = np.array([120, 5, 7], np.int8), np.array([True, False, True])
    out = np.zeros(3, np.int64)
    run(_narrow, ("i1:1C", "b1:1C", "i8:1C"), small, flags, out)
    assert out.tolist() == [220, 0, 107] and small.tolist() == [120, -1, 7]


# --- variables ------------------------------------------------------------------------------------

@kernel_function
def _reused(x, out, n, begin, end):
    value = 3                           # an integer, then a float: two variables to Numba
    out[0] = value // 2
    value = 0.5
    for i in range(n):
        if i % 2 == 0:
            value = value * 2
        elif i == 3:
            value = -value
            continue
        previous = value                # carried from one round to the next
        out[1] = previous
    out[2] = value


@pytest.mark.parametrize("n", [0, 1, 4, 9])
def test_variables_that_change(n):
    x, got, want = np.zeros(1), np.zeros(3), np.zeros(3)
    run(_reused, ("f8:1C", "f8:1C", "i"), x, got, n)
    _reused(x, want, n, 0, 1)
    np.testing.assert_array_equal(got, want)


# --- calls ----------------------------------------------------------------------------------------

@kernel_function
def _weighted(x, weight, flag):
    return x * weight + (1 if flag else 2)


@kernel_function
def _calls(out, n, begin, end):
    out[0] = _weighted(n, 3, True)
    out[1] = _weighted(n, 5, False)
    out[2] = _weighted(n, n, True)


def test_integer_constants_do_not_multiply_compilations():
    got, want = np.zeros(3, np.int64), np.zeros(3, np.int64)
    run(_calls, ("i8:1C", "i"), got, 11)
    _calls(want, 11, 0, 1)
    np.testing.assert_array_equal(got, want)
    compiled = jit_function(_weighted, "f4", False, False).overloads
    assert {kinds[1] for kinds in compiled} == {types.int64}


# --- intrinsics -----------------------------------------------------------------------------------

@kernel_function
def _from_zero(a, b, c, begin, end):
    multiply_tile(a, 0, 1, 4, b, 0, 4, c, 0, 4, 2, 0, 4, 4, 1, 4, 0)


@kernel_function
def _onto(a, b, c, more, begin, end):
    multiply_tile(a, 0, 1, 4, b, 0, 4, c, 0, 4, 2, more, 4, 4, 1, 4, 0)


@pytest.mark.parametrize("first", [0, 1])
def test_equal_calls_with_other_code_do_not_meet(first):
    """A tile that starts from zero and one that is added to: compiled in either order."""
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((2, 4)).astype("f4") for _ in range(2))
    product = np.einsum("kr,kc->rc", a, b)
    for turn in range(2):
        c = np.ones((4, 4), np.float32)
        if (first + turn) % 2:
            run(_onto, ("f4:1C",) * 3 + ("i",), a.ravel(), b.ravel(), c.ravel(), 1)
            np.testing.assert_allclose(c, product + 1, rtol=1e-5, atol=1e-5)
        else:
            run(_from_zero, ("f4:1C",) * 3, a.ravel(), b.ravel(), c.ravel())
            np.testing.assert_allclose(c, product, rtol=1e-5, atol=1e-5)


@intrinsic(prefer_literal=True)
def _ambiguous(typingctx, x, amount):
    added = amount.literal_value

    def codegen(context, builder, signature, arguments):
        return builder.add(arguments[0], arguments[0].type(added))
    return types.int64(types.int64, types.int64), codegen


def _adding(amount):
    def body(x, begin, end):
        x[0] = _ambiguous(x[0], amount)
    return body


def test_an_intrinsic_that_hides_what_decides_its_code_is_refused():
    options = {"fastmath": set(), "error_model": "numpy", "boundscheck": False, "_nrt": False,
               "forceinline": False}
    target.kernel_module(target.jit(**options)(_adding(1)), ("i8:1C",), "f4", "one")
    with pytest.raises(errors.NumbaError, match="in the signature"):
        target.kernel_module(target.jit(**options)(_adding(2)), ("i8:1C",), "f4", "two")


def test_a_kernel_for_each_size_of_tile():
    """Products whose tiles differ in shape only, one after the other in one process."""
    rng = np.random.default_rng(1)
    for rows, vectors, lanes in ((8, 3, 4), (4, 2, 4), (8, 3, 4)):
        width = vectors * lanes
        a = rng.standard_normal((3, rows)).astype("f4")
        b = rng.standard_normal((3, width)).astype("f4")
        c = np.zeros((rows, width), np.float32)
        run(kernel_function(gemm.product_kernel(rows, vectors, lanes)),
            ("f4:1C",) * 3 + ("i",) * 4, a.ravel(), b.ravel(), c.ravel(), 3, rows, width, 0)
        np.testing.assert_allclose(c, np.einsum("kr,kc->rc", a, b), rtol=1e-5, atol=1e-5)


# --- loops that stay rolled -----------------------------------------------------------------------

@kernel_function
def _steps(out, start, begin, end):
    value = start
    for i in range(begin, end):
        value = (value * 25 + i) % 1009
        out[i] = value
    while value > 3:
        value = value // 2
        out[0] += value


def test_loops_stay_rolled_where_a_module_says_so():
    def variant(rolled):
        function = types_of_python.FunctionType(_steps.__code__, {LOOPS: rolled}, "steps")
        return kernel_function(function)

    def assembly(function):
        kinds = ("i8:1C", "i")
        return target.assembly(target.kernel_module(jit_function(function, "f4", False), kinds,
                                                    "f4", "nt_steps"))
    rolled, free = variant(True), variant(False)
    assert build.kernel_key(rolled, ("i8:1C", "i"), "f4", False) != build.kernel_key(
        free, ("i8:1C", "i"), "f4", False)
    if not build.boundscheck():         # no loop is unrolled that may be left in its midst
        assert len(assembly(rolled)) < 0.8 * len(assembly(free))
    for n in (1, 7, 100):
        found, wanted = np.zeros(101, np.int64), np.zeros(101, np.int64)
        run(rolled, ("i8:1C", "i"), found, 5, n=n)
        _steps(wanted, 5, 0, n)
        np.testing.assert_array_equal(found, wanted)
