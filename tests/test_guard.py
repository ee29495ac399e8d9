"""What watches the kernels sees them: canaries, forbidden pages, Numba's bounds check."""
import ctypes
import os
import pathlib
import signal
import subprocess
import sys

import pytest

from ntorch.runtime import guard

TESTS = pathlib.Path(__file__).parent
KERNEL = """
import sys
import numpy as np
from ntorch.kernels.stubs import load_at, store_at, table_pointer
from ntorch.runtime import build, launch, memory

def by_address(args, begin, end):
    source, out = table_pointer(args, 0, 0, "f4"), table_pointer(args, 1, 0, "f4")
    for i in range(begin, end):
        store_at(out, i, load_at(source, args[2] + i, "-/1"), "0/1")

def by_index(source, out, at, begin, end):
    for i in range(begin, end):
        out[i] = source[at + i]

by_address.__module__ = by_index.__module__ = "ntorch.kernels.example"

def read(source, at, n):
    '''n elements from element ``at`` of the array at the address.'''
    out = np.empty(n, np.float32)
    launch.run(build.kernel(by_address, ("slots",)), [source, out.ctypes.data, at], n, n)
    return out
"""
PAGES = pytest.mark.skipif(sys.platform != "linux", reason="mmap and mprotect as on Linux")
sides = pytest.mark.parametrize("side", ["behind", "before"])


def run(code, tmp_path, **variables):
    """A process with a store of its own."""
    return subprocess.run(
        [sys.executable, "-c", KERNEL + code], capture_output=True, text=True, timeout=300,
        cwd=TESTS, env={**os.environ, "NTORCH_CACHE_DIR": str(tmp_path / "store"), **variables})


@PAGES
@sides
@pytest.mark.parametrize("nbytes", [1, 100, 4096, 5000])
def test_blocks_lie_against_a_page(side, nbytes):
    pool = guard.PagePool(side)
    address, block = pool.allocate(nbytes)
    assert (address + nbytes if side == "behind" else address) % pool.fence_bytes == 0
    assert ctypes.string_at(address, nbytes) == b"\xff" * nbytes
    pool.free(block)
    assert not pool.violations and not pool.live


@PAGES
@sides
def test_the_rest_of_the_page_is_a_canary(side, capfd):
    pool = guard.PagePool(side)
    address, block = pool.allocate(100)
    ctypes.memset(address - 1 if side == "behind" else address + 100, 0, 1)
    assert pool.check_guards() == 1
    pool.free(block)
    assert len(pool.violations) == 1
    assert "wrote outside its array" in capfd.readouterr().err


@PAGES
@sides
def test_pieces_lie_between_pages(side):
    pool = guard.PagePool(side)
    sizes = [100, 0, 4096, 9000]
    offsets, nbytes, fences = pool.lay_out(sizes)
    assert nbytes % pool.fence_bytes == 0 and fences[0] == 0
    for size, offset, before, behind in zip(sizes, offsets, fences, fences[1:], strict=False):
        start, end = before + pool.fence_bytes, behind
        assert start <= offset and offset + size <= end
        assert offset + size == end if side == "behind" else offset == start
    address, block = pool.allocate(nbytes)
    assert address % pool.fence_bytes == 0
    pool.fence(address, fences)
    for size, offset in zip(sizes, offsets, strict=True):
        ctypes.memset(address + offset, 1, size)
    pool.free(block)


@PAGES
@sides
def test_a_read_outside_ends_the_process(side, tmp_path):
    """From a tensor, from a piece of a block, from an array of NumPy's."""
    code = """
import fenced_numpy
fenced_numpy.install(memory.pool.side)
offsets, nbytes, fences = memory.lay_out([64, 1000 * 4, 64])
block_at, block = memory.allocate(nbytes)
memory.fence(block_at, fences)
tensor_at, tensor = memory.allocate(1000 * 4)
array = np.arange(1000, dtype=np.float32)
source = {"tensor": tensor_at, "piece": block_at + offsets[1],
          "array": array.ctypes.data}[WHAT]
ending = memory.pool.side == "behind"
read(source, 900 if ending else 0, 100)
print("inside", flush=True)
read(source, 901 if ending else -1, 100)
print("outside", flush=True)
"""
    for what in ("tensor", "piece", "array"):
        done = run(code.replace("WHAT", repr(what)), tmp_path, NTORCH_GUARD=side)
        assert done.stdout == "inside\n", what
        assert done.returncode == -signal.SIGSEGV, done.stderr


@PAGES
@sides
def test_temporaries_of_a_program_lie_between_pages(side, tmp_path):
    code = """
import ntorch
def chain(x, w):
    return ntorch.softmax((x @ w).relu() @ w, 1)
compiled, x, w = ntorch.compile(chain), ntorch.randn(70, 90), ntorch.randn(90, 90)
for _ in range(3):
    assert ntorch.allclose(compiled(x, w), chain(x, w), atol=1e-5)
(_, program), = compiled.programs()[-1].programs()
assert program.fences and len(program.temporaries) > 2
for buffer in program.temporaries:
    at = program.at_arena + program.arena.offsets[buffer]
    page = memory.pool.fence_bytes
    assert (at + buffer.nbytes if memory.pool.side == "behind" else at - page) in program.fences
"""
    done = run(code, tmp_path, NTORCH_GUARD=side)
    assert done.returncode == 0, done.stderr


def test_the_bounds_check_tells_of_kernels(tmp_path):
    """In the caller, on a thread of the pool, and called by another kernel through its address."""
    code = """
from ntorch.kernels.gemm_stubs import call_kernel
def calling(table, begin, end):
    call_kernel(table, 0, 1, begin, end)
calling.__module__ = "ntorch.kernels.example"
seen = []
sys.unraisablehook = lambda told: seen.append(told.exc_type)
source, out = np.arange(8, dtype=np.float32), np.zeros(8, np.float32)
kernel = build.kernel(by_index, ("f4:1C", "f4:1C", "i"))
other = build.kernel(calling, ("i8:1C",))
for at, expected in ((0, []), (1, [IndexError])):
    slots = [source.ctypes.data, 8, out.ctypes.data, 8, at]
    table = np.array([kernel.address, *slots])
    for count in (8, 4):                # as one range, and cut for the pool
        seen.clear()
        launch.run(kernel, slots, 8, count)
        assert seen == expected, (at, count, seen)
    seen.clear()
    launch.run(other, [table.ctypes.data, table.size], 8, 8)
    assert seen == expected, (at, seen)
"""
    done = run(code, tmp_path, NUMBA_BOUNDSCHECK="1")
    assert done.returncode == 0, done.stderr


def test_what_the_bounds_check_finds_fails_a_test(tmp_path):
    path = tmp_path / "test_reach.py"
    path.write_text(KERNEL + """
def test_reach():
    source, out = np.arange(8, dtype=np.float32), np.zeros(8, np.float32)
    kernel = build.kernel(by_index, ("f4:1C", "f4:1C", "i"))
    launch.run(kernel, [source.ctypes.data, 8, out.ctypes.data, 8, 1], 8, 8)
""")
    for value, code in (("0", 0), ("1", 1)):
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c",
             str(TESTS.parent / "pyproject.toml"), "--rootdir", str(tmp_path), str(path)],
            capture_output=True, text=True, timeout=300, env={
                **os.environ, "NTORCH_CACHE_DIR": str(tmp_path / "store"), "NTORCH_GUARD": "0",
                "NUMBA_BOUNDSCHECK": value})
        assert done.returncode == code, done.stdout
    assert "index is out of bounds" in done.stdout
