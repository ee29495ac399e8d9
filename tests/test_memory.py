"""The block pool: alignment, classes, reuse, caps, errors, guard bytes, many threads, fork."""
import ctypes
import os
import subprocess
import sys
import threading

import pytest

from ntorch.runtime import blocks, guard


@pytest.fixture
def pool():
    return blocks.Pool(cap=64 << 20)


SIZES = [1, 4, 63, 64, 65, 511, 512, 513, 1000, 4097, 65536, 65537, (1 << 20) - 1, 1 << 20,
         (1 << 20) + 1, 5_000_000]


@pytest.mark.parametrize("nbytes", SIZES)
def test_blocks_are_aligned_and_wholly_writable(pool, nbytes):
    address, block = pool.allocate(nbytes)
    assert address % blocks.ALIGNMENT == 0
    ctypes.memset(address, 0x11, nbytes)
    assert ctypes.string_at(address + nbytes - 1, 1) == b"\x11"
    pool.free(block)


@pytest.mark.parametrize("nbytes", SIZES)
def test_class_wastes_at_most_an_eighth(nbytes):
    size = blocks.class_size(nbytes)
    assert nbytes <= size <= max(nbytes + 63, nbytes * 9 // 8)
    assert blocks.class_size(size) == size


@pytest.mark.parametrize("nbytes", SIZES)
def test_freed_block_is_reused(pool, nbytes):
    address, block = pool.allocate(nbytes)
    pool.free(block)
    again, other = pool.allocate(nbytes)
    assert (again, other) == (address, block)
    assert pool.fresh == 1


def test_live_blocks_do_not_overlap(pool):
    held = [(*pool.allocate(size), size) for size in SIZES * 4]
    spans = sorted((address, address + size) for address, _, size in held)
    for (_, end), (start, _) in zip(spans, spans[1:], strict=False):
        assert end <= start


def test_zero_bytes_have_no_block(pool):
    assert pool.allocate(0) == (0, None)
    assert pool.zeroed(0) == (0, None)


@pytest.mark.parametrize("nbytes", [1, 777, 65536, 3 << 20])
def test_zeroed_is_zero_also_when_reused(pool, nbytes):
    for _ in range(2):
        address, block = pool.zeroed(nbytes)
        assert ctypes.string_at(address, nbytes) == bytes(nbytes)
        ctypes.memset(address, 0xEE, nbytes)
        pool.free(block)


@pytest.mark.parametrize("nbytes, words", [
    (-1, "negative"), (1 << 63, "overflow"), (1 << 80, "overflow"),
    (1 << 62, "can't allocate memory: you tried to allocate 4611686018427387904 bytes"),
    (1 << 50, "can't allocate memory")])
@pytest.mark.parametrize("kind", [blocks.Pool, guard.GuardedPool])
def test_impossible_sizes_raise(kind, nbytes, words):
    with pytest.raises(RuntimeError, match=words):
        kind().allocate(nbytes)


def test_cap_bounds_what_is_kept(pool):
    blocks = [pool.allocate(8 << 20)[1] for _ in range(20)]
    for block in blocks:
        pool.free(block)
    del blocks, block
    assert 0 < pool.stats()["cached_bytes"] <= pool.cap
    pool.free(pool.allocate(60 << 20)[1])               # makes room by dropping the smaller ones
    assert pool.stats()["cached_bytes"] <= pool.cap
    assert pool.trim() > 0
    assert pool.stats()["cached_bytes"] == 0


def test_small_classes_are_bounded(pool):
    blocks = [pool.allocate(60_000)[1] for _ in range(200)]
    for block in blocks:
        pool.free(block)
    assert pool.stats()["cached_bytes"] <= pool.cap


def test_cap_zero_keeps_nothing():
    pool = blocks.Pool(cap=0)
    for size in (100, 4 << 20):
        pool.free(pool.allocate(size)[1])
    assert pool.stats()["cached_blocks"] == 0


def test_many_threads_never_share_a_block(pool):
    failures = []

    def work(tag):
        for turn in range(300):
            size = (64, 3000, 2 << 20)[turn % 3]
            address, block = pool.allocate(size)
            ctypes.memset(address, tag, 64)
            held = pool.allocate(size)
            if ctypes.string_at(address, 64) != bytes([tag]) * 64:
                failures.append(tag)
            pool.free(held[1])
            pool.free(block)

    threads = [threading.Thread(target=work, args=(tag,)) for tag in range(1, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_big_blocks_are_private_after_fork():
    code = """
import ctypes, os
from ntorch.runtime import memory
address, block = memory.allocate(4 << 20)
ctypes.memset(address, 1, 8)
pid = os.fork()
if pid == 0:
    ctypes.memset(address, 2, 8)
    memory.free(memory.allocate(1000)[1])
    os._exit(0)
os.waitpid(pid, 0)
assert ctypes.string_at(address, 8) == bytes([1] * 8)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize("offset, words", [
    (-1, "byte -1 of a block of 100 bytes (before"),
    (100, "byte 100 of a block of 100 bytes (behind"),
    (163, "byte 163"), (-64, "byte -64")])
def test_guard_sees_writes_outside(offset, words, capfd):
    pool = guard.GuardedPool()
    address, block = pool.allocate(100)
    assert ctypes.string_at(address, 100) == b"\xff" * 100
    assert pool.check_guards() == 0
    ctypes.memset(address + offset, 0, 1)
    assert pool.check_guards() == 1
    pool.free(block)
    assert len(pool.violations) == 1                    # each write is told once
    assert words in capfd.readouterr().err


def test_guard_checks_when_freed():
    pool = guard.GuardedPool()
    address, block = pool.allocate(8)
    ctypes.memset(address + 8, 7, 1)
    pool.free(block)
    assert len(pool.violations) == 1
    assert "freed" in pool.violations[0]
    assert not pool.live


def test_guard_mode_comes_from_the_environment():
    code = ("from ntorch.runtime import memory as m\n"
            "import ctypes\n"
            "a, b = m.allocate(10)\n"
            "ctypes.memset(a + 10, 0, 1)\n"
            "assert m.check_guards() == 1 and len(m.guard_violations()) == 1\n")
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60,
                   env={**os.environ, "NTORCH_GUARD": "1"})
