"""Generators: the state of a random number stream, in torch's layout.

A generator holds MT19937's 624 words, the position among them and at most one cached normal number,
which is what torch's CPU generator holds: after the same seed and the same calls both give the same
numbers, and ``get_state`` bytes may be exchanged with torch.
"""
import contextlib
import os
import struct
import threading

import numpy as np

from ..kernels import random as kernels
from ..runtime import build, dtypes, launch, recording
from ..runtime.device import device as Device
from ..runtime.storage import bytes_view
from .base import TensorBase, empty, numel
from .structured import contiguous

STATE_BYTES = 5056
_WORDS = kernels.N
_HEAD = struct.Struct("<QiiQ")          # seed, words left, seeded, next word
_TAIL = struct.Struct("<dddiifi")       # x, cached normal, rho, valid, padding, float normal, valid
_DEFAULT_SEED = 67280421310721          # torch's seed of a fresh Generator
_MASK = (1 << 64) - 1


def _bytes_of(tensor):
    """The bytes of a contiguous CPU tensor, shared."""
    return bytes_view(tensor._storage, tensor._address, numel(tensor) * tensor.dtype.itemsize)


def _seed_word(seed):
    """``seed`` as an unsigned 64-bit integer; ValueError if it does not fit."""
    seed = int(seed)
    if not -(1 << 63) <= seed < 1 << 64:
        raise ValueError("Overflow when unpacking long long")
    return seed if seed >= 0 else seed + (1 << 64)


@contextlib.contextmanager
def _looking(what):
    """Python looks at a state, or changes it, while a program may be recorded: it is done now, and
    no program can stand for it."""
    recorder = recording.current() if recording.active else None
    if recorder is None:
        yield
        return
    recorder.noted(f"Generator.{what} was asked for")
    recording.swap(None)
    try:
        yield
    finally:
        recording.swap(recorder)


class Generator:
    """A stream of random numbers (MT19937), equal to torch's CPU generator for the same seed.

    ``device`` must be the CPU. A fresh generator has a fixed seed, as in torch; ``manual_seed``
    restarts it, ``get_state`` and ``set_state`` carry the whole state as 5056 bytes.
    """

    def __init__(self, device="cpu"):
        if Device(device).type != "cpu":
            raise RuntimeError(f"Generator: expected device type 'cpu', got '{device}'; random "
                               "numbers are drawn on the CPU")
        self._lock = threading.RLock()
        self._words = np.empty(_WORDS, np.int32)
        with _looking("__init__"):      # each call would make another, at the start of its stream
            self._start(_DEFAULT_SEED)

    @property
    def device(self):
        """The device whose numbers this draws: ``cpu``."""
        return Device("cpu")

    def _start(self, seed):
        # the words are spread from the seed at the first draw: seeding alone compiles nothing
        self._seed, self._seeded, self._normal = seed, False, None
        self._next = 0                  # the next word to give out; 0: none since seeding

    def manual_seed(self, seed):
        """Restart the stream from ``seed`` (64 bits; negative ones count from 2**64); returns
        self."""
        seed = _seed_word(seed)
        with self._lock, _looking("manual_seed"):
            self._start(seed)
        return self

    def seed(self):
        """Restart from a seed that the system draws, and return it."""
        seed = int.from_bytes(os.urandom(8), "little") >> 1
        self.manual_seed(seed)
        return seed

    def initial_seed(self):
        """The seed that the stream was last started from."""
        with _looking("initial_seed"):
            return self._seed

    def _state_words(self):
        if not self._seeded:
            kernel = build.kernel(kernels.mt_seed, ("i4:1C", "i"))
            launch.run(kernel, (self._words.ctypes.data, _WORDS, self._seed & 0xFFFFFFFF), 1, 1)
            self._seeded = True
        return self._words

    def words(self, out):
        """Fill the int32 tensor ``out`` with the stream's next 32-bit words."""
        n = out._shape[0]
        if n == 0:
            return out
        with self._lock:
            state = self._state_words()
            kernel = build.kernel(kernels.mt_words, ("i4:1C", "i4:1C", "i"))
            start = self._next or _WORDS
            launch.run(kernel, (state.ctypes.data, _WORDS, out._address, n, start), 1, 1)
            self._next = (start + n - 1) % _WORDS + 1
        return out

    def random64(self):
        """The next 64-bit word, as an int."""
        pair = self.words(empty((2,), dtypes.int32))
        high, low = _bytes_of(pair).view(np.uint32)
        return int(high) << 32 | int(low)

    def take_normal(self):
        """The cached normal number or None; it is used once."""
        value, self._normal = self._normal, None
        return value

    def put_normal(self, value):
        """Keep the second number of a Box-Muller pair for the next scalar draw."""
        self._normal = value

    def get_state(self):
        """The state as a uint8 tensor of 5056 bytes, in torch's layout."""
        with self._lock, _looking("get_state"):
            words = self._state_words().view(np.uint32).astype("<u8")
            left = _WORDS + 1 - self._next if self._next else 1
            normal = self._normal
            data = (_HEAD.pack(self._seed, left, 1, self._next) + words.tobytes()
                    + _TAIL.pack(0.0, normal or 0.0, 0.0, normal is not None, 0, 0.0, 0))
            state = empty((STATE_BYTES,), dtypes.uint8)
            _bytes_of(state)[:] = np.frombuffer(data, np.uint8)
            return state

    def set_state(self, new_state):
        """Take over the state that ``get_state`` (of ntorch or torch) returned; returns self."""
        if not isinstance(new_state, TensorBase):
            raise TypeError(f"expected a torch.ByteTensor, but got {type(new_state).__name__}")
        if new_state.dtype is not dtypes.uint8:
            raise TypeError("RNG state must be a torch.ByteTensor")
        n = new_state._shape[0] if len(new_state._shape) == 1 else 0
        if n != STATE_BYTES:
            raise RuntimeError(f"Expected a CPUGeneratorImplState of size {STATE_BYTES} but found "
                               f"the input RNG state size to be {n}")
        data = _bytes_of(contiguous(new_state)).tobytes()
        seed, left, seeded, following = _HEAD.unpack_from(data)
        if seeded != 1 or not 0 < left <= _WORDS or following > _WORDS:
            raise RuntimeError("Invalid mt19937 state")
        words = np.frombuffer(data, "<u8", _WORDS, _HEAD.size).astype(np.uint32).view(np.int32)
        _, normal, _, valid, _, _, _ = _TAIL.unpack_from(data, _HEAD.size + 8 * _WORDS)
        with self._lock, _looking("set_state"):
            self._start(seed)
            self._words[:] = words
            self._seeded, self._next = True, _WORDS + 1 - left if following else 0
            self._normal = normal if valid else None
        return self

    def clone_state(self):
        """A new generator that continues where this one stands."""
        return type(self)().set_state(self.get_state())

    def graphsafe_get_state(self):
        """A generator with this one's state (torch's name for ``clone_state`` here)."""
        return self.clone_state()

    def graphsafe_set_state(self, state):
        """Continue where the generator ``state`` stands."""
        return self.set_state(state.get_state())

    def __reduce__(self):
        return _restore, (_bytes_of(self.get_state()).tobytes(),)

    def __repr__(self):
        return f"<ntorch.Generator device='cpu' seed={self._seed}>"


def _restore(data):
    state = empty((STATE_BYTES,), dtypes.uint8)
    _bytes_of(state)[:] = np.frombuffer(data, np.uint8)
    return Generator().set_state(state)


class _Default:
    """The generator that random ops use when none is given; made at its first use."""
    generator = None


def default_generator():
    """The process-wide generator, seeded by the system until ``manual_seed`` is called."""
    if _Default.generator is None:
        recorder = recording.swap(None)         # it is there from now on, as any program has it
        try:
            _Default.generator = Generator()
            _Default.generator.seed()
        finally:
            recording.swap(recorder)
    return _Default.generator


def chosen(generator, op):
    """``generator`` or the default one; TypeError if it is no Generator."""
    if generator is None:
        return default_generator()
    if not isinstance(generator, Generator):
        raise TypeError(f"{op}(): argument 'generator' must be torch.Generator, not "
                        f"{type(generator).__name__}")
    return generator
