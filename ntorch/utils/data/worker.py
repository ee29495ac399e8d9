"""The worker process of a loader: takes lists of indices, sends batches."""

from __future__ import annotations

import multiprocessing
import pickle
import queue
import random
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import ntorch
from ntorch.runtime import recording

from . import transport
from .dataset import IterableDataset

CHECK_INTERVAL = 5.0


@dataclass(frozen=True)
class WorkerInfo:
    """What a worker knows of itself: number, how many there are, seed, its copy of the dataset."""

    id: int
    num_workers: int
    seed: int
    dataset: Any


_worker_info: WorkerInfo | None = None


def get_worker_info() -> WorkerInfo | None:
    """The :class:`WorkerInfo` of this worker process; None in any other process."""
    return recording.setting(lambda: _worker_info, "the worker's information")


class Fetcher:
    """Samples from a dataset, by what a sampler has given, collated."""

    def __init__(
        self, dataset: Any, batched: bool, collate_fn: Callable[..., Any], drop_last: bool
    ):
        self.dataset = dataset
        self.batched = batched
        self.collate_fn = collate_fn
        self.drop_last = drop_last
        self._stream = iter(dataset) if isinstance(dataset, IterableDataset) else None
        self._ended = False

    def fetch(self, index: Any) -> Any:
        """The batch (or the one sample). StopIteration at the end of a stream."""
        if self._stream is not None:
            return self.collate_fn(self._next(index))
        if not self.batched:
            return self.collate_fn(self.dataset[index])
        if callable(getattr(self.dataset, "__getitems__", None)):
            return self.collate_fn(self.dataset.__getitems__(index))
        return self.collate_fn([self.dataset[i] for i in index])

    def _next(self, index: Any) -> Any:
        if self._ended:
            raise StopIteration
        if not self.batched:
            return next(self._stream)
        samples = []
        for _ in index:
            try:
                samples.append(next(self._stream))
            except StopIteration:
                self._ended = True
                break
        if not samples or (self.drop_last and len(samples) < len(index)):
            raise StopIteration
        return samples


class _Verbatim(str):
    """Text whose repr is itself: KeyError shows the repr of its argument."""

    def __repr__(self) -> str:
        return str(self)


class RemoteError:
    """An exception that happened in a worker, with the text of its traceback."""

    def __init__(self, error: BaseException, where: str):
        self.kind: type[BaseException] | None = type(error)
        self.name = type(error).__name__
        self.text = "".join(traceback.format_exception(error))
        self.where = where

    def __getstate__(self) -> dict[str, Any]:
        state = dict(self.__dict__)
        try:
            pickle.dumps(self.kind)
        except (pickle.PicklingError, AttributeError, TypeError):
            # A class that the parent cannot name; the text still says which it was.
            state["kind"] = None
        return state

    def reraise(self) -> None:
        """Raise an exception of the same type whose message has the worker's traceback."""
        message = f"Caught {self.name} {self.where}.\nOriginal {self.text}"
        if self.kind is None:
            raise RuntimeError(message)
        if issubclass(self.kind, KeyError):
            raise self.kind(_Verbatim(message))
        try:
            error = self.kind(message)
        except Exception as problem:
            # A type that wants other arguments than a message.
            raise RuntimeError(message) from problem
        raise error


@dataclass(frozen=True)
class StreamEnd:
    """A worker's stream has no more samples."""


@dataclass(frozen=True)
class Task:
    """One batch to make, and the segments that the parent has done with."""

    epoch: int
    number: int
    index: Any
    free: list[int]
    drop: list[int]


@dataclass
class WorkerJob:
    """All that a worker is told when it starts."""

    dataset: Any
    batched: bool
    collate_fn: Callable[..., Any]
    drop_last: bool
    base_seed: int
    init_fn: Callable[[int], Any] | None
    id: int
    num_workers: int


def numpy_seed(base_seed: int, worker_id: int) -> list[int]:
    """Words to seed NumPy with, unlike the seed of ``random``, whose generator is the same."""
    words = [worker_id, base_seed & 0xFFFFFFFF, base_seed >> 32, 0]
    return np.random.SeedSequence(words).generate_state(4).tolist()


def _prepare(job: WorkerJob) -> None:
    global _worker_info
    # The workers are the parallelism; more threads would only fight for the cores.
    ntorch.set_num_threads(1)
    seed = job.base_seed + job.id
    random.seed(seed)
    ntorch.manual_seed(seed)
    np.random.seed(numpy_seed(job.base_seed, job.id))
    _worker_info = WorkerInfo(job.id, job.num_workers, seed, job.dataset)


class _Inbox:
    """Tasks as they come in, taken from the connection by a thread of its own.

    So the parent never blocks on a busy worker, while that worker blocks on the parent.
    """

    def __init__(self, connection: Any):
        self.latest_epoch = 0
        self._connection = connection
        self._tasks: queue.SimpleQueue[Any] = queue.SimpleQueue()
        threading.Thread(target=self._drain, daemon=True).start()

    def _drain(self) -> None:
        try:
            while True:
                task = self._connection.recv()
                self.latest_epoch = task.epoch
                self._tasks.put(task)
        except (EOFError, OSError):
            # The parent has closed the connection, or is gone.
            self._tasks.put(None)
        except BaseException as error:
            self._tasks.put(error)

    def get(self) -> Task | None:
        """The next task; None when there will be no more."""
        parent = multiprocessing.parent_process()
        while True:
            try:
                task = self._tasks.get(timeout=CHECK_INTERVAL)
            except queue.Empty:
                # The end of a connection is not seen while another process still holds it.
                if parent is not None and not parent.is_alive():
                    return None
                continue
            if isinstance(task, BaseException):
                raise task
            return task


def worker_main(job: WorkerJob, connection: Any, inherited: list[Any]) -> None:
    """Work until the parent closes the connection. Runs in a new process."""
    # A forked process has the parent's ends too, its own and those of other workers. While it
    # holds one, that worker would not see the parent go.
    for other in inherited:
        other.close()
    try:
        _work(job, connection)
    except (KeyboardInterrupt, BrokenPipeError, ConnectionResetError):
        # Ctrl-C reaches all processes of a terminal, and the parent is the one that tells.
        return


def _work(job: WorkerJob, connection: Any) -> None:
    sender, inbox = transport.Sender(connection), _Inbox(connection)
    where = f"in DataLoader worker process {job.id}"
    _prepare(job)
    failure = None
    try:
        if job.init_fn is not None:
            job.init_fn(job.id)
    except Exception as error:
        failure = RemoteError(error, where)
    epoch, fetcher, ended = -1, None, False
    while (task := inbox.get()) is not None:
        sender.release(task.free, task.drop)
        if task.epoch != epoch:
            epoch, fetcher, ended = task.epoch, None, False
        if ended or task.epoch < inbox.latest_epoch:
            continue
        try:
            if fetcher is None and failure is None:
                fetcher = Fetcher(job.dataset, job.batched, job.collate_fn, job.drop_last)
            result = failure or fetcher.fetch(task.index)
        except Exception as error:
            ended = isinstance(error, StopIteration) and isinstance(job.dataset, IterableDataset)
            result = StreamEnd() if ended else RemoteError(error, where)
        _send(sender, (epoch, task.number), result, where)
        del result, task


def _send(sender: transport.Sender, tag: Any, result: Any, where: str) -> None:
    try:
        sender.send(tag, result)
    except (BrokenPipeError, ConnectionResetError):
        raise
    except Exception as error:
        # A batch that cannot be pickled; nothing of it has been sent.
        sender.send(tag, RemoteError(error, where))
