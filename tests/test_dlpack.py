"""DLPack both ways: shared memory, lifetimes, refusals."""

import gc
import sys
import weakref

import numpy as np
import pytest

import ntorch
from ntorch.utils import dlpack

NUMPY_DTYPES = [
    "bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64",
    "complex64", "complex128",
]  # fmt: skip


def make(dtype="float32"):
    return ntorch.tensor(np.arange(12).reshape(3, 4) % 3).to(getattr(ntorch, dtype))


@pytest.mark.parametrize("dtype", NUMPY_DTYPES)
def test_numpy_reads_ours(dtype):
    tensor = make(dtype)
    array = np.from_dlpack(tensor)
    assert array.dtype == np.dtype(dtype) and array.tolist() == tensor.tolist()
    assert array.ctypes.data == tensor.data_ptr()
    assert np.from_dlpack(tensor.t()).strides == (array.itemsize, 4 * array.itemsize)
    assert np.from_dlpack(ntorch.tensor(3.5)).item() == 3.5
    assert np.from_dlpack(ntorch.zeros(0, 3)).shape == (0, 3)


@pytest.mark.parametrize("dtype", NUMPY_DTYPES)
def test_ours_reads_numpy(dtype):
    array = (np.arange(24).reshape(4, 6) % 3).astype(dtype)
    tensor = dlpack.from_dlpack(array)
    assert tensor.dtype == getattr(ntorch, dtype) and tensor.tolist() == array.tolist()
    assert dlpack.from_dlpack(array[1:, ::2]).tolist() == array[1:, ::2].tolist()
    array[0, 0] = 1
    assert tensor[0, 0].item() == 1
    assert dlpack.from_dlpack(np.array(2.5)).item() == 2.5
    assert tuple(dlpack.from_dlpack(np.zeros((2, 0))).shape) == (2, 0)


def test_torch_both_ways():
    torch = pytest.importorskip("torch")
    for dtype in [*NUMPY_DTYPES, "bfloat16"]:
        theirs = torch.from_dlpack(make(dtype))
        assert theirs.dtype == getattr(torch, dtype) and theirs.tolist() == make(dtype).tolist()
        ours = dlpack.from_dlpack(theirs.t())
        assert ours.dtype == getattr(ntorch, dtype) and ours.tolist() == theirs.t().tolist()
        assert ours.data_ptr() == theirs.data_ptr()


def test_memory_lives_as_long_as_somebody_uses_it():
    tensor = make()
    storage = weakref.ref(tensor.untyped_storage())
    array = np.from_dlpack(tensor)
    del tensor
    gc.collect()
    assert storage() is not None and array[0].tolist() == [0, 1, 2, 0]
    del array
    gc.collect()
    assert storage() is None and not dlpack._exported

    class Array(np.ndarray):
        pass

    source = np.arange(5.0).view(Array)
    seen = weakref.ref(source)
    tensor = dlpack.from_dlpack(source)
    view = tensor[1:3]
    del source, tensor
    gc.collect()
    assert seen() is not None and view.tolist() == [1, 2]
    del view
    gc.collect()
    assert seen() is None


@pytest.mark.parametrize("version,name", [(None, "dltensor"), ((1, 0), "dltensor_versioned")])
def test_capsules_are_used_once(version, name):
    tensor = make()
    capsule = dlpack.to_dlpack(tensor, max_version=version)
    assert f'"{name}"' in repr(capsule)
    first = dlpack.from_dlpack(capsule)
    assert f'"used_{name}"' in repr(capsule) and first.data_ptr() == tensor.data_ptr()
    with pytest.raises(TypeError, match="has been used already"):
        dlpack.from_dlpack(capsule)
    del first, capsule
    # One that nobody takes frees its structure as well.
    unused = dlpack.to_dlpack(tensor, max_version=version)
    assert len(dlpack._exported) == 1
    del unused
    gc.collect()
    assert not dlpack._exported


def test_refusals():
    with pytest.raises(TypeError, match="expected an object with __dlpack__"):
        dlpack.from_dlpack([1, 2])
    with pytest.raises(BufferError, match="no dtype for DLPack type code 1 with 32 bits"):
        dlpack.from_dlpack(np.zeros(3, dtype=np.uint32))
    with pytest.raises(BufferError, match="run backwards"):
        dlpack.from_dlpack(np.arange(3.0)[::-1])
    with pytest.raises(BufferError, match="on the CPU"):
        dlpack.to_dlpack(ntorch.empty(3, device="meta"))
    with pytest.raises(BufferError, match="gradient"):
        ntorch.ones(3, requires_grad=True).__dlpack__()
    fixed = np.arange(3.0)
    fixed.flags.writeable = False
    with pytest.raises(BufferError, match="read-only"):
        dlpack.from_dlpack(fixed)
    copied = dlpack.from_dlpack(fixed, copy=True)
    copied[0] = 5
    assert fixed[0] == 0 and copied.tolist() == [5, 1, 2]


def test_nothing_falls_over_at_exit():
    import subprocess

    code = (
        "import numpy as np, ntorch, builtins;"
        "builtins.kept = [np.from_dlpack(ntorch.ones(3)), ntorch.ones(3).__dlpack__()]"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr
