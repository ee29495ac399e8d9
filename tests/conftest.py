"""What all tests share: with ``NTORCH_GUARD`` a write outside a buffer fails the test, and with
``behind`` or ``before`` a read outside ends it."""
import gc

import pytest

from ntorch.runtime import build, memory

if memory.fenced:
    import fenced_numpy

    fenced_numpy.install(memory.pool.side)


def pytest_collection_modifyitems(items):
    """With the bounds check kernels need Numba, which tells of what they raise."""
    if build.boundscheck():
        skip = pytest.mark.skip(reason="kernels with the bounds check need Numba")
        for item in items:
            if item.get_closest_marker("without_numba"):
                item.add_marker(skip)


@pytest.fixture(autouse=memory.guarded)
def guard_bytes():
    """Check every live buffer's canaries after each test."""
    before = len(memory.guard_violations())
    yield
    memory.check_guards()
    new = memory.guard_violations()[before:]
    assert not new, "\n".join(new)


def pytest_sessionfinish(session, exitstatus):
    """Check the last time, buffers in reference cycles included."""
    if memory.guarded:
        gc.collect()
        if memory.check_guards():
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
