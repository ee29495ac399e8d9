"""A sampler for training in several processes, each of which sees its own part of a dataset."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import ntorch

from .sampler import Sampler


class DistributedSampler(Sampler[int]):
    """The indices of one process: every ``num_replicas``-th, from ``rank`` on.

    All processes see equally many: indices from the front are used again at the end, or, with
    ``drop_last``, the tail is left out. Call :meth:`set_epoch` before every epoch, or all epochs
    have the same order.

    Args:
        dataset: what has the length.
        num_replicas: number of processes (default: the world size of ``ntorch.distributed``).
        rank: this process (default: its rank there).
        shuffle: permute the indices, in the same way in all processes.
        seed: of the permutation, which is that of ``seed + epoch``.
        drop_last: see above.

    Raises:
        RuntimeError: ``num_replicas`` or ``rank`` is not given and there is no process group.
        ValueError: ``rank`` is not in ``[0, num_replicas)``.
    """

    def __init__(
        self,
        dataset: Any,
        num_replicas: int | None = None,
        rank: int | None = None,
        shuffle: bool = True,
        seed: int = 0,
        drop_last: bool = False,
    ):
        if num_replicas is None:
            num_replicas = _group().get_world_size()
        if rank is None:
            rank = _group().get_rank()
        if not 0 <= rank < num_replicas:
            raise ValueError(
                f"Invalid rank {rank}, rank should be in the interval [0, {num_replicas - 1}]"
            )
        self.dataset = dataset
        self.num_replicas = num_replicas
        self.rank = rank
        self.epoch = 0
        self.drop_last = drop_last
        size = len(dataset)
        self.num_samples = size // num_replicas if drop_last else math.ceil(size / num_replicas)
        self.total_size = self.num_samples * num_replicas
        self.shuffle = shuffle
        self.seed = seed

    def __iter__(self) -> Iterator[int]:
        size = len(self.dataset)
        indices = list(range(size))
        if self.shuffle:
            generator = ntorch.Generator()
            generator.manual_seed(self.seed + self.epoch)
            indices = ntorch.randperm(size, generator=generator).tolist()
        if size < self.total_size:
            indices *= math.ceil(self.total_size / size)
        return iter(indices[self.rank : self.total_size : self.num_replicas])

    def __len__(self) -> int:
        return self.num_samples

    def set_epoch(self, epoch: int) -> None:
        """Use another permutation: that of ``seed + epoch``."""
        self.epoch = epoch


def _group() -> Any:
    distributed = getattr(ntorch, "distributed", None)
    if distributed is None or not distributed.is_available():
        raise RuntimeError(
            "DistributedSampler requires the distributed package to be available, or num_replicas "
            "and rank to be given"
        )
    return distributed
