"""Samplers: in which order a loader asks for samples. The random ones draw what PyTorch's do."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence, Sized
from typing import Any, Generic, TypeVar

import ntorch

T_co = TypeVar("T_co", covariant=True)


def draw_seed(generator: Any = None) -> int:
    """One draw of 63 bits from a generator (default: the default generator)."""
    return int(ntorch.empty((), dtype=ntorch.int64).random_(generator=generator).item())


def _positive(name: str, value: Any) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
        raise ValueError(f"{name} should be a positive integer value, but got {name}={value}")


class Sampler(Generic[T_co]):
    """An iterable of indices, or of lists of indices (batches); ``__len__`` if it is known."""

    def __iter__(self) -> Iterator[T_co]:
        raise NotImplementedError


class SequentialSampler(Sampler[int]):
    """``0, 1, ..., len(data_source) - 1``."""

    def __init__(self, data_source: Sized):
        self.data_source = data_source

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self.data_source)))

    def __len__(self) -> int:
        return len(self.data_source)


class RandomSampler(Sampler[int]):
    """Indices in random order, or drawn at random with ``replacement``.

    Args:
        data_source: what has the length.
        replacement: draw with replacement.
        num_samples: how many to draw (default: the length). Without replacement, more than the
            length gives one permutation after the other.
        generator: source of randomness (default: a new one, seeded by the default generator).

    Raises:
        TypeError: ``replacement`` is no bool.
        ValueError: ``num_samples`` is not positive, or the source is empty.
    """

    # With replacement, indices are drawn in blocks of this size.
    BLOCK = 32

    def __init__(
        self,
        data_source: Sized,
        replacement: bool = False,
        num_samples: int | None = None,
        generator: Any = None,
    ):
        if not isinstance(replacement, bool):
            raise TypeError(
                f"replacement should be a boolean value, but got replacement={replacement}"
            )
        self.data_source = data_source
        self.replacement = replacement
        self._num_samples = num_samples
        self.generator = generator
        _positive("num_samples", self.num_samples)

    @property
    def num_samples(self) -> int:
        # The source may grow between epochs.
        return len(self.data_source) if self._num_samples is None else self._num_samples

    def __iter__(self) -> Iterator[int]:
        generator = self.generator
        if generator is None:
            generator = ntorch.Generator()
            generator.manual_seed(draw_seed())
        size, wanted = len(self.data_source), self.num_samples
        if self.replacement:
            yield from self._with_replacement(size, wanted, generator)
            return
        # The last permutation is drawn even when nothing of it is used.
        for _ in range(wanted // size):
            yield from ntorch.randperm(size, generator=generator).tolist()
        yield from ntorch.randperm(size, generator=generator).tolist()[: wanted % size]

    def _with_replacement(self, size: int, wanted: int, generator: Any) -> Iterator[int]:
        for count in [self.BLOCK] * (wanted // self.BLOCK) + [wanted % self.BLOCK]:
            drawn = ntorch.randint(
                high=size, size=(count,), dtype=ntorch.int64, generator=generator
            )
            yield from drawn.tolist()

    def __len__(self) -> int:
        return self.num_samples


class SubsetRandomSampler(Sampler[int]):
    """The given indices in random order, without replacement."""

    def __init__(self, indices: Sequence[int], generator: Any = None):
        self.indices = indices
        self.generator = generator

    def __iter__(self) -> Iterator[int]:
        for i in ntorch.randperm(len(self.indices), generator=self.generator).tolist():
            yield self.indices[i]

    def __len__(self) -> int:
        return len(self.indices)


class WeightedRandomSampler(Sampler[int]):
    """Indices ``0 .. len(weights) - 1``, drawn with probabilities in proportion to ``weights``.

    Raises:
        ValueError: ``num_samples`` is not positive, ``replacement`` no bool, or the weights are
            not one-dimensional.
    """

    def __init__(
        self,
        weights: Sequence[float],
        num_samples: int,
        replacement: bool = True,
        generator: Any = None,
    ):
        _positive("num_samples", num_samples)
        if not isinstance(replacement, bool):
            raise ValueError(
                f"replacement should be a boolean value, but got replacement={replacement}"
            )
        self.weights = ntorch.as_tensor(weights, dtype=ntorch.float64)
        if self.weights.dim() != 1:
            raise ValueError(
                "weights should be a 1d sequence but given weights have shape "
                f"{tuple(self.weights.shape)}"
            )
        self.num_samples = num_samples
        self.replacement = replacement
        self.generator = generator

    def __iter__(self) -> Iterator[int]:
        drawn = ntorch.multinomial(
            self.weights, self.num_samples, self.replacement, generator=self.generator
        )
        yield from drawn.tolist()

    def __len__(self) -> int:
        return self.num_samples


class BatchSampler(Sampler[list[int]]):
    """The indices of another sampler in lists of ``batch_size``.

    Args:
        sampler: any iterable of indices.
        batch_size: indices in a list.
        drop_last: leave out a shorter last list.

    Raises:
        ValueError: ``batch_size`` is not positive, or ``drop_last`` no bool.
    """

    def __init__(self, sampler: Iterable[int], batch_size: int, drop_last: bool):
        _positive("batch_size", batch_size)
        if not isinstance(drop_last, bool):
            raise ValueError(
                f"drop_last should be a boolean value, but got drop_last={drop_last}"
            )
        self.sampler = sampler
        self.batch_size = batch_size
        self.drop_last = drop_last

    def __iter__(self) -> Iterator[list[int]]:
        indices = iter(self.sampler)
        least = self.batch_size if self.drop_last else 1
        while len(batch := list(itertools.islice(indices, self.batch_size))) >= least:
            yield batch

    def __len__(self) -> int:
        full, rest = divmod(len(self.sampler), self.batch_size)
        return full + (rest > 0 and not self.drop_last)


class ConstantSampler(Sampler[None]):
    """``None`` for ever: a stream needs no indices."""

    def __iter__(self) -> Iterator[None]:
        return itertools.repeat(None)
