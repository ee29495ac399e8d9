"""The thread pool: same bits on any number of threads, concurrent use, fork, exit, idle workers."""
import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from ntorch.runtime import build, cpu, launch, pool


def affine(x, out, begin, end):
    for i in range(begin, end):
        value = x[i]
        for _ in range(8):
            value = value * 0.99 + 0.5
        out[i] = value


def count_up(counts, begin, end):
    for i in range(begin, end):
        counts[i] += 1


def denormal(x, out, begin, end):
    for i in range(begin, end):
        out[i] = x[i] * 0.5


affine.__module__ = count_up.__module__ = denormal.__module__ = "ntorch.tests"


@pytest.fixture(autouse=True)
def restore_threads():
    before = pool.get_num_threads()
    yield
    pool.set_num_threads(before)


def run_affine(x, grain=64):
    kernel = build.kernel(affine, ("f4:1C", "f4:1C"))
    out = np.full_like(x, np.nan)
    launch.run(kernel, [x.ctypes.data, x.size, out.ctypes.data, out.size], x.size, grain)
    return out


@pytest.fixture(scope="module")
def sample():
    return np.random.default_rng(0).standard_normal(50_000).astype(np.float32)


def test_same_bits_on_any_number_of_threads(sample):
    pool.set_num_threads(1)
    expected = run_affine(sample)
    for count in (2, 3, 5):
        pool.set_num_threads(count)
        for grain in (1, 64, 999, 49_999):
            assert np.array_equal(run_affine(sample, grain), expected)


@pytest.mark.parametrize("n, grain", [(1, 1), (2, 1), (7, 3), (4096, 1), (5000, 4999), (3, 10)])
def test_every_item_is_done_once(n, grain):
    pool.set_num_threads(3)
    kernel = build.kernel(count_up, ("i8:1C",))
    counts = np.zeros(n + 8, np.int64)
    for _ in range(200):
        launch.run(kernel, [counts.ctypes.data, counts.size], n, grain)
    assert (counts[:n] == 200).all()
    assert (counts[n:] == 0).all()


def test_empty_range_does_nothing():
    kernel = build.kernel(count_up, ("i8:1C",))
    counts = np.zeros(1, np.int64)
    launch.run(kernel, [counts.ctypes.data, 1], 0, 1)
    assert counts[0] == 0


def test_many_python_threads_at_once(sample):
    pool.set_num_threads(3)
    expected = run_affine(sample)
    wrong = []

    def work():
        for _ in range(40):
            if not np.array_equal(run_affine(sample, 256), expected):
                wrong.append(1)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not wrong


def test_thread_count_changes_while_others_launch(sample):
    expected = run_affine(sample)
    done, wrong = threading.Event(), []

    def work():
        while not done.is_set():
            if not np.array_equal(run_affine(sample, 512), expected):
                wrong.append(1)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for count in (1, 2, 4, 2, 1, 3) * 3:
        pool.set_num_threads(count)
        assert pool.get_num_threads() == count
        run_affine(sample, 512)
    done.set()
    for thread in threads:
        thread.join(60)
    assert not wrong


def test_workers_go_when_the_count_drops(sample):
    pool.set_num_threads(4)
    run_affine(sample)
    workers = [t for t in threading.enumerate() if t.name.startswith("ntorch-worker")]
    assert len(workers) == 3
    pool.set_num_threads(1)
    assert not any(t.is_alive() for t in workers)
    assert np.array_equal(run_affine(sample), run_affine(sample, 1 << 30))


@pytest.mark.parametrize("count, error", [(0, RuntimeError), (-2, RuntimeError), (1.5, TypeError),
                                          ("2", TypeError), (True, TypeError)])
def test_bad_thread_counts(count, error):
    with pytest.raises(error, match="set_num_threads expects"):
        pool.set_num_threads(count)


def test_idle_workers_sleep(sample):
    pool.set_num_threads(3)
    run_affine(sample)
    time.sleep(0.1)
    before = time.process_time()
    time.sleep(0.4)
    assert time.process_time() - before < 0.05


def test_without_futex(sample):
    """The way of working on systems that have no futex gives the same and sleeps as well."""
    kernel = build.kernel(affine, ("f4:1C", "f4:1C"))
    expected = run_affine(sample)
    crew = pool.Crew(2, futex=0)
    try:
        for pauses in (0, 0, 0.02, 0.05, 0):
            time.sleep(pauses)
            out = np.zeros_like(sample)
            table = launch.packer(4)(sample.ctypes.data, sample.size, out.ctypes.data, out.size)
            crew.run(kernel, table, sample.size, 100)
            assert np.array_equal(out, expected)
        time.sleep(0.1)
        before = time.process_time()
        time.sleep(0.3)
        assert time.process_time() - before < 0.05
    finally:
        crew.stop()
    assert not any(thread.is_alive() for thread in crew.threads)


def test_flush_denormal_reaches_workers():
    kernel = build.kernel(denormal, ("f4:1C", "f4:1C"))
    pool.set_num_threads(3)
    tiny = np.full(20_000, 2e-38, np.float32)
    out = np.empty_like(tiny)
    slots = [tiny.ctypes.data, tiny.size, out.ctypes.data, out.size]
    launch.run(kernel, slots, tiny.size, 100)
    assert (out > 0).all()
    if not pool.set_flush_denormal(True):
        pytest.skip("this processor has no flush mode")
    try:
        for _ in range(20):
            out[:] = 1
            launch.run(kernel, slots, tiny.size, 100)
            assert not np.signbit(out).any() and (out.view(np.int32) == 0).all()
    finally:
        assert pool.set_flush_denormal(False)
    for _ in range(20):
        launch.run(kernel, slots, tiny.size, 100)
        assert (out.view(np.int32) > 0).all()


CHILD = """
import os, sys, threading, time
import numpy as np
from ntorch.runtime import build, launch, pool
from test_runtime_pool import run_affine
x = np.arange(50000, dtype=np.float32)
pool.set_num_threads(3)
"""


def run_script(body, timeout=120, **environment):
    here = os.path.dirname(os.path.abspath(__file__))
    path = os.pathsep.join([here, os.path.dirname(here), os.environ.get("PYTHONPATH", "")])
    return subprocess.run([sys.executable, "-c", CHILD + body], timeout=timeout, check=True,
                          capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": path, **environment})


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_forked_children_have_a_crew_of_their_own():
    out = run_script("""
expected = run_affine(x)
busy = threading.Thread(target=lambda: [run_affine(x) for _ in range(300)])
busy.start()                        # forks happen while a launch of another thread may be under way
codes = []
for _ in range(5):
    pid = os.fork()
    if pid == 0:
        same = all(np.array_equal(run_affine(x), expected) for _ in range(5))
        workers = [t for t in threading.enumerate() if t.name.startswith("ntorch-worker")]
        os._exit(0 if same and len(workers) == 2 else 7)
    codes.append(os.waitpid(pid, 0)[1])
busy.join()
print(codes, np.array_equal(run_affine(x), expected))
""")
    assert out.stdout.strip() == "[0, 0, 0, 0, 0] True"


@pytest.mark.parametrize("ending", [
    "run_affine(x)", "run_affine(x); sys.exit(0)",
    "import atexit; atexit.register(lambda: run_affine(x)); run_affine(x)",
    "threading.Thread(target=lambda: [run_affine(x) for _ in range(10**9)], daemon=True).start();"
    "time.sleep(0.05)",
    "import signal; run_affine(x); signal.signal(signal.SIGALRM, lambda *a: run_affine(x[:2000]));"
    "signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01); [run_affine(x) for _ in range(300)];"
    "signal.setitimer(signal.ITIMER_REAL, 0)"])
def test_the_interpreter_exits_cleanly(ending):
    result = run_script(ending, timeout=60)
    assert result.stderr == ""


def test_threads_come_from_the_environment():
    for variable in ("NTORCH_NUM_THREADS", "OMP_NUM_THREADS"):
        clean = {"NTORCH_NUM_THREADS": "", "OMP_NUM_THREADS": ""}
        out = run_script("pool._pool.threads = None; print(pool.get_num_threads())",
                         **{**clean, variable: "5"})
        assert out.stdout.strip() == "5"


def test_affinity_and_quota_bound_the_default(monkeypatch, tmp_path):
    for variable in ("NTORCH_NUM_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(cpu, "affinity", lambda: set(range(16)))
    monkeypatch.setattr(cpu, "physical_cores", len)
    for quota, expected in ((None, 16), (2.5, 3), (0.5, 1), (64, 16)):
        monkeypatch.setattr(cpu, "cgroup_quota", lambda quota=quota: quota)
        assert cpu.default_threads() == expected


@pytest.mark.parametrize("version, limit, expected", [
    (2, "150000 100000", 1.5), (2, "max 100000", None), (1, "300000", 3.0), (1, "-1", None)])
def test_quota_is_read_from_both_kinds_of_control_groups(tmp_path, version, limit, expected):
    membership = tmp_path / "cgroup"
    root = tmp_path / "fs"
    if version == 2:
        membership.write_text("0::/a/b\n")
        (root / "a" / "b").mkdir(parents=True)
        (root / "a" / "cpu.max").write_text(limit + "\n")
        (root / "a" / "b" / "cpu.max").write_text("max 100000\n")
    else:
        membership.write_text("4:cpu,cpuacct:/a\n1:name=systemd:/\n")
        (root / "cpu" / "a").mkdir(parents=True)
        (root / "cpu" / "a" / "cpu.cfs_quota_us").write_text(limit + "\n")
        (root / "cpu" / "a" / "cpu.cfs_period_us").write_text("100000\n")
    assert cpu.cgroup_quota(str(root), str(membership)) == expected
