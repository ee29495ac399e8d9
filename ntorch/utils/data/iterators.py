"""One pass over a loader: in this process, or spread over workers."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import socket
import time
import warnings
import weakref
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from typing import Any

import ntorch
import ntorch._utils as _utils

from . import transport, worker
from .collate import _like_mapping, _like_sequence
from .dataset import IterableDataset
from .sampler import draw_seed

# How long workers may take to finish what they are doing before they are terminated.
GRACE = 5.0


class LoaderIterator:
    """What both kinds of pass share: the sampler, the seed, warnings, pinning."""

    def __init__(self, loader: Any):
        self._loader = loader
        self._iterable = isinstance(loader.dataset, IterableDataset)
        self._pin = loader.pin_memory and _has_accelerator(loader)
        # PyTorch draws this before the sampler draws anything, used or not.
        self._base_seed = draw_seed(loader.generator)
        self._start()

    def _start(self) -> None:
        self._indices = iter(self._loader._index_sampler)
        self._yielded = 0

    def __iter__(self) -> LoaderIterator:
        return self

    def __len__(self) -> int:
        return len(self._loader._index_sampler)

    def __next__(self) -> Any:
        data = self._next()
        self._yielded += 1
        expected = self._loader._stream_length
        if self._iterable and expected is not None and self._yielded > expected:
            warnings.warn(
                f"Length of IterableDataset {self._loader.dataset} was reported to be {expected} "
                f"(when accessing len(dataloader)), but {self._yielded} samples have been fetched. "
                "With workers, each has a copy of the dataset, which must give only its part (see "
                "get_worker_info).",
                stacklevel=2,
            )
        return pin(data) if self._pin else data

    def _next(self) -> Any:
        raise NotImplementedError

    def __getstate__(self) -> Any:
        raise NotImplementedError(f"{type(self).__name__} cannot be pickled")


def _has_accelerator(loader: Any) -> bool:
    if loader.pin_memory_device:
        warnings.warn(
            "pin_memory_device is deprecated, the current accelerator will be used as the device, "
            f"ignore pin_memory_device={loader.pin_memory_device!r}.",
            stacklevel=4,
        )
    if _utils.cuda_is_available():
        return True
    warnings.warn(
        "'pin_memory' argument is set as true but no accelerator is found, then device pinned "
        "memory won't be used.",
        stacklevel=4,
    )
    return False


def pin(data: Any) -> Any:
    """``data`` with all its tensors in pinned memory."""
    if isinstance(data, ntorch.Tensor):
        return data.pin_memory()
    if hasattr(data, "pin_memory"):
        return data.pin_memory()
    if isinstance(data, Mapping):
        return _like_mapping(data, {key: pin(value) for key, value in data.items()})
    if isinstance(data, Sequence) and not isinstance(data, (str, bytes)):
        return _like_sequence(data, [pin(value) for value in data])
    return data


class SerialIterator(LoaderIterator):
    """Fetches in this process, when a batch is asked for."""

    def __init__(self, loader: Any):
        super().__init__(loader)
        self._fetcher = worker.Fetcher(
            loader.dataset, loader._auto_collation, loader.collate_fn, loader.drop_last
        )

    def _next(self) -> Any:
        return self._fetcher.fetch(next(self._indices))


@dataclass
class _Worker:
    process: Any
    connection: Any
    receiver: transport.Receiver
    active: bool = True
    tasks: int = 0


class WorkerIterator(LoaderIterator):
    """Hands lists of indices to workers in turn, and gives batches in the order of the indices.

    Every worker has a connection of its own, so one that dies in the middle of a message can
    block no other, and its end is seen at once.
    """

    def __init__(self, loader: Any):
        self._workers: list[_Worker] = []
        self._epoch = -1
        super().__init__(loader)
        context = loader.multiprocessing_context or multiprocessing.get_context()
        self._finalizer = weakref.finalize(self, _stop, self._workers, os.getpid())
        try:
            for number in range(loader.num_workers):
                self._workers.append(self._launch(context, number))
            self._begin()
        except BaseException:
            self._finalizer()
            raise

    def _launch(self, context: Any, number: int) -> _Worker:
        loader = self._loader
        job = worker.WorkerJob(
            loader.dataset, loader._auto_collation, loader.collate_fn, loader.drop_last,
            self._base_seed, loader.worker_init_fn, number, loader.num_workers,
        )  # fmt: skip
        ours, theirs = context.Pipe(duplex=True)
        forked = context.get_start_method() == "fork"
        inherited = [w.connection for w in self._workers] + [ours] if forked else []
        process = context.Process(
            target=worker.worker_main, args=(job, theirs, inherited), daemon=True
        )
        try:
            process.start()
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        receiver = transport.Receiver(ours, idle_limit=2 * loader.prefetch_factor + 2)
        return _Worker(process, ours, receiver)

    def restart(self) -> None:
        """Begin the next pass with the same workers."""
        self._start()
        self._begin()

    def _begin(self) -> None:
        self._epoch += 1
        self._sent = self._given = self._outstanding = 0
        self._turn = -1
        self._owners: dict[int, _Worker] = {}
        self._results: dict[int, Any] = {}
        self._arrived: deque[tuple[_Worker, Any, Any]] = deque()
        for one in self._workers:
            one.active, one.tasks = True, 0
        for _ in range(self._loader.prefetch_factor * len(self._workers)):
            self._assign()

    # --- handing out ------------------------------------------------------------------------

    def _assign(self) -> None:
        """Give the next list of indices to the worker whose turn it is."""
        try:
            index = next(self._indices)
        except StopIteration:
            return
        chosen = self._choose()
        if chosen is None:
            return
        free, drop = chosen.receiver.released()
        task = worker.Task(self._epoch, self._sent, index, free, drop)
        try:
            chosen.connection.send(task)
        except (BrokenPipeError, ConnectionResetError):
            self._report(chosen)
        self._owners[self._sent] = chosen
        chosen.tasks += 1
        self._sent += 1
        self._outstanding += 1

    def _choose(self) -> _Worker | None:
        active = sum(w.active for w in self._workers)
        limit = self._loader.prefetch_factor * len(self._workers) // max(active, 1)
        for _ in self._workers:
            self._turn = (self._turn + 1) % len(self._workers)
            one = self._workers[self._turn]
            # Without order, a slow worker must not collect tasks that others could do.
            if one.active and (self._loader.in_order or one.tasks < limit):
                return one
        return None

    # --- taking in --------------------------------------------------------------------------

    def _next(self) -> Any:
        while True:
            self._skip_lost()
            if self._given == self._sent:
                if not self._loader.persistent_workers:
                    self._finalizer()
                raise StopIteration
            if not self._workers:
                raise RuntimeError("DataLoader: the workers of this iterator have been stopped")
            if self._given in self._results:
                return self._give(self._given, self._results.pop(self._given))
            number, result = self._receive()
            if isinstance(result, worker.StreamEnd):
                self._owners[number].active = False
                self._assign()
            elif number == self._given or not self._loader.in_order:
                return self._give(number, result)
            else:
                self._results[number] = result

    def _skip_lost(self) -> None:
        """Pass over tasks that are done out of order, or were given to a stream that has ended."""
        while self._given < self._sent:
            owner = self._owners.get(self._given)
            if owner is not None and (owner.active or self._given in self._results):
                return
            self._owners.pop(self._given, None)
            self._given += 1

    def _give(self, number: int, result: Any) -> Any:
        self._owners.pop(number).tasks -= 1
        self._assign()
        if isinstance(result, worker.RemoteError):
            result.reraise()
        return result

    def _receive(self) -> tuple[int, Any]:
        """The next result of this pass."""
        limit = self._loader.timeout
        deadline = time.monotonic() + limit if limit > 0 else None
        while True:
            while self._arrived:
                _, (epoch, number), result = self._arrived.popleft()
                if epoch == self._epoch:
                    self._outstanding -= 1
                    return number, result
            remaining = None if deadline is None else max(0.0, deadline - time.monotonic())
            ends = {w.connection: w for w in self._workers}
            sentinels = {w.process.sentinel: w for w in self._workers}
            ready = wait([*ends, *sentinels], remaining)
            if not ready:
                raise RuntimeError(f"DataLoader timed out after {limit} seconds")
            self._take([ends[r] for r in ready if r in ends])
            if not self._arrived:
                for end in ready:
                    if end in sentinels and not sentinels[end].connection.poll():
                        self._report(sentinels[end])

    def _take(self, ready: list[_Worker]) -> None:
        for one in ready:
            try:
                self._arrived.append((one, *one.receiver.receive()))
            except (EOFError, ConnectionResetError):
                self._report(one)

    def _report(self, one: _Worker) -> None:
        """Raise for a worker that is gone."""
        one.process.join(GRACE)
        code, pid = one.process.exitcode, one.process.pid
        self._finalizer()
        if code is not None and code < 0:
            name = signal.strsignal(-code) or f"signal {-code}"
            advice = {
                signal.SIGBUS: " The machine may be out of shared memory.",
                signal.SIGKILL: " The machine may be out of memory.",
            }.get(-code, "")
            raise RuntimeError(
                f"DataLoader worker (pid {pid}) is killed by signal: {name}.{advice}"
            )
        raise RuntimeError(
            f"DataLoader worker (pid(s) {pid}) exited unexpectedly with exit code {code}. "
            "num_workers=0 may show why."
        )


def _hang_up(connection: Any) -> None:
    # Closing is not enough: a process forked meanwhile may hold the same end.
    with socket.socket(fileno=os.dup(connection.fileno())) as line:
        with contextlib.suppress(OSError):
            line.shutdown(socket.SHUT_RDWR)
    connection.close()


def _stop(workers: list[_Worker], owner: int) -> None:
    """End all workers: a closed connection tells them; who does not listen is terminated."""
    if os.getpid() != owner:
        # A forked child has a copy of the iterator, but not its children.
        return
    for one in workers:
        _hang_up(one.connection)
    deadline = time.monotonic() + GRACE
    for one in workers:
        one.process.join(max(0.0, deadline - time.monotonic()))
    for end in ("terminate", "kill"):
        for one in workers:
            if one.process.is_alive():
                getattr(one.process, end)()
                one.process.join(GRACE)
    workers.clear()
