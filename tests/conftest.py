"""What all tests share: with ``NTORCH_GUARD`` a write outside a buffer fails the test, and with
``behind`` or ``before`` a read outside ends it."""
import gc

import pytest

from ntorch.runtime import memory

if memory.fenced:
    import fenced_numpy

    fenced_numpy.install(memory.pool.side)


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
