"""The random number generator: seeds and states. The numbers are those of torch's CPU generator."""
import contextlib

from .ops import generator as _generator
from .ops.generator import Generator

__all__ = ["Generator", "fork_rng", "get_rng_state", "initial_seed", "manual_seed", "seed",
           "set_rng_state"]


def __getattr__(name):
    if name == "default_generator":
        return _generator.default_generator()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def manual_seed(seed):
    """Restart the default generator from ``seed`` and return it.

    Negative seeds count from 2**64. ValueError if the seed does not fit 64 bits.
    """
    return _generator.default_generator().manual_seed(seed)


def seed():
    """Restart the default generator from a seed that the system draws, and return that seed."""
    return _generator.default_generator().seed()


def initial_seed():
    """The seed that the default generator was last started from."""
    return _generator.default_generator().initial_seed()


def get_rng_state():
    """The default generator's state: a uint8 tensor of 5056 bytes, in torch's layout."""
    return _generator.default_generator().get_state()


def set_rng_state(new_state):
    """Continue from a state of ``get_rng_state`` (of ntorch or torch)."""
    _generator.default_generator().set_state(new_state)


@contextlib.contextmanager
def fork_rng(devices=None, enabled=True, device_type="cuda"):
    """Leave the default generator, after the block, as it was before it."""
    if not enabled:
        yield
        return
    state = get_rng_state()
    try:
        yield
    finally:
        set_rng_state(state)
