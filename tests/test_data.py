"""Datasets, samplers, collation, and the loader with and without worker processes."""

import collections
import gc
import glob
import math
import os
import random
import signal
import subprocess
import sys
import time
import warnings

import numpy as np
import pytest

import ntorch
import ntorch._utils as _utils
from ntorch.utils import data

METHODS = ["fork", "spawn"]
Point = collections.namedtuple("Point", "x y")


@pytest.fixture(autouse=True)
def few_cores_are_fine():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="This DataLoader will create")
        warnings.filterwarnings("ignore", message=".*fork.*", category=DeprecationWarning)
        yield


class Squares(data.Dataset):
    def __init__(self, size=20, width=3):
        self.size, self.width = size, width

    def __len__(self):
        return self.size

    def __getitem__(self, i):
        return ntorch.full((self.width,), float(i * i)), i


class Mixed(Squares):
    """Every kind of thing a batch may hold, and the random numbers a worker draws."""

    def __getitem__(self, i):
        return {
            "half": ntorch.full((2,), i, dtype=ntorch.bfloat16),
            "empty": ntorch.zeros(0, 3),
            "big": ntorch.full((50, 40), i, dtype=ntorch.int64),
            "array": np.full((30, 30), i, dtype=np.float32),
            "text": f"sample {i}",
            "point": Point(i, float(i)),
            "random": (random.random(), float(np.random.rand()), float(ntorch.rand(()))),
        }


class Failing(Squares):
    def __init__(self, error):
        super().__init__()
        self.error = error

    def __getitem__(self, i):
        if i == 5:
            raise self.error
        return i


class Dying(Squares):
    def __getitem__(self, i):
        if i == 5:
            os.kill(os.getpid(), signal.SIGKILL)
        return i


class Exiting(Squares):
    def __getitem__(self, i):
        os._exit(3)


class Slow(Squares):
    def __getitem__(self, i):
        time.sleep(30 if i == 5 else 0)
        return i


class Unpicklable(Squares):
    def __getitem__(self, i):
        return lambda: i


class Awkward(Exception):
    def __init__(self, first, second):
        super().__init__(first, second)


class Stream(data.IterableDataset):
    """Numbers below ``size``, shared out among the workers."""

    def __init__(self, size):
        self.size = size

    def __iter__(self):
        info = data.get_worker_info()
        first, step = (0, 1) if info is None else (info.id, info.num_workers)
        return iter(range(first, self.size, step))

    def __len__(self):
        return self.size


class Whole(data.IterableDataset):
    """The same for every worker."""

    def __iter__(self):
        return iter(range(5))

    def __len__(self):
        return 5


def keep(batch):
    return batch


def fail_at_start(worker_id):
    raise OSError(f"no disk for worker {worker_id}")


def number_first(worker_id):
    info = data.get_worker_info()
    assert info.id == worker_id and info.num_workers == 2
    info.dataset.size = 100 + worker_id


class Size(data.Dataset):
    size = 0

    def __len__(self):
        return 4

    def __getitem__(self, i):
        return self.size


def loader(dataset, method, **options):
    options.setdefault("num_workers", 2)
    return data.DataLoader(dataset, multiprocessing_context=method, **options)


def values(batches):
    return [b.tolist() for b in batches]


# --- datasets -------------------------------------------------------------------------------


def test_tensor_dataset():
    x = ntorch.arange(6).reshape(3, 2)
    rows = data.TensorDataset(x, ntorch.arange(3))
    assert len(rows) == 3
    assert rows[1][0].tolist() == [2, 3] and rows[1][1].item() == 1
    with pytest.raises(AssertionError, match="Size mismatch between tensors"):
        data.TensorDataset(x, ntorch.arange(2))


def test_stack_dataset():
    both = data.StackDataset(range(3), list("abc"))
    assert both[1] == (1, "b") and both.__getitems__([0, 2]) == [(0, "a"), (2, "c")]
    named = data.StackDataset(n=range(3), letter=data.Subset(list("cba"), [0, 1, 2]))
    assert named.__getitems__([2]) == [{"n": 2, "letter": "a"}] and len(named) == 3
    with pytest.raises(ValueError, match="both types are given"):
        data.StackDataset(range(3), n=range(3))
    with pytest.raises(ValueError, match="At least one dataset"):
        data.StackDataset()
    with pytest.raises(ValueError, match="Size mismatch between datasets"):
        data.StackDataset(range(3), range(4))


def test_concat_and_chain():
    joined = data.ConcatDataset([[1, 2], [3], [4, 5, 6]])
    assert [joined[i] for i in range(6)] == [1, 2, 3, 4, 5, 6] and joined[-1] == 6
    with pytest.raises(ValueError, match="should not exceed dataset length"):
        joined[-7]
    with pytest.raises(AssertionError, match="empty iterable"):
        data.ConcatDataset([])
    with pytest.raises(AssertionError, match="does not support IterableDataset"):
        data.ConcatDataset([Stream(2)])
    chained = Stream(2) + Stream(3)
    assert list(chained) == [0, 1, 0, 1, 2] and len(chained) == 5
    with pytest.raises(AssertionError, match="only supports IterableDataset"):
        list(data.ChainDataset([[1]]))
    assert len(Squares(3) + Squares(4)) == 7


def test_subset_that_would_be_bypassed():
    class Doubled(data.Subset):
        def __getitem__(self, i):
            return 2 * super().__getitem__(i)

    with pytest.raises(NotImplementedError, match="overrides __getitem__ but not __getitems__"):
        Doubled([1, 2], [0])


def test_random_split():
    parts = data.random_split(range(10), [3, 7], generator=ntorch.Generator().manual_seed(42))
    assert sorted([*parts[0], *parts[1]]) == list(range(10)) and len(parts[0]) == 3
    assert [len(p) for p in data.random_split(range(11), [0.5, 0.25, 0.25])] == [6, 3, 2]
    with pytest.raises(ValueError, match="Sum of input lengths does not equal"):
        data.random_split(range(10), [3, 6])
    with pytest.raises(ValueError, match="index 0 is not between 0 and 1"):
        data.random_split(range(10), [-0.5, 1.5])
    with pytest.warns(UserWarning, match="Length of split at index 1 is 0"):
        data.random_split(range(1), [0.5, 0.5])


# --- samplers -------------------------------------------------------------------------------

SAMPLERS = [
    lambda lib, g: lib.RandomSampler(range(10), generator=g),
    lambda lib, g: lib.RandomSampler(range(10), num_samples=25, generator=g),
    lambda lib, g: lib.RandomSampler(range(10), True, 70, generator=g),
    lambda lib, g: lib.SubsetRandomSampler([3, 1, 4, 15], generator=g),
    lambda lib, g: lib.WeightedRandomSampler([0.1, 5.0, 2.0, 0.0], 12, generator=g),
    lambda lib, g: lib.WeightedRandomSampler([0.1, 5.0, 2.0, 1.0], 3, False, generator=g),
    lambda lib, g: lib.BatchSampler(lib.RandomSampler(range(10), generator=g), 4, False),
    lambda lib, g: lib.DistributedSampler(range(11), 3, 1, seed=5),
    lambda lib, g: lib.DistributedSampler(range(11), 3, 2, drop_last=True),
    lambda lib, g: lib.DistributedSampler(range(2), 5, 4, shuffle=False),
]


@pytest.mark.parametrize("make", SAMPLERS)
@pytest.mark.parametrize("own_generator", [False, True])
def test_samplers_draw_what_torch_draws(make, own_generator):
    torch = pytest.importorskip("torch")
    torch_data = pytest.importorskip("torch.utils.data")

    drawn = []
    for lib, library in ((torch, torch_data), (ntorch, data)):
        lib.manual_seed(11)
        generator = lib.Generator().manual_seed(7) if own_generator else None
        sampler = make(library, generator)
        drawn.append((list(sampler), list(sampler), len(sampler), lib.rand(1).item()))
    assert drawn[0] == drawn[1]


def test_sampler_errors():
    with pytest.raises(TypeError, match="replacement should be a boolean"):
        data.RandomSampler(range(3), replacement=1)
    with pytest.raises(ValueError, match="num_samples should be a positive integer"):
        data.RandomSampler([])
    with pytest.raises(ValueError, match="num_samples should be a positive integer"):
        data.WeightedRandomSampler([1.0], 0)
    with pytest.raises(ValueError, match="weights should be a 1d sequence"):
        data.WeightedRandomSampler([[1.0]], 1)
    with pytest.raises(ValueError, match="batch_size should be a positive integer"):
        data.BatchSampler(range(3), 0, False)
    with pytest.raises(ValueError, match="drop_last should be a boolean"):
        data.BatchSampler(range(3), 1, 0)
    with pytest.raises(ValueError, match="Invalid rank 2, rank should be in the interval"):
        data.DistributedSampler(range(3), 2, 2)


def test_batch_sampler():
    assert list(data.BatchSampler(range(7), 3, False)) == [[0, 1, 2], [3, 4, 5], [6]]
    assert list(data.BatchSampler(range(7), 3, True)) == [[0, 1, 2], [3, 4, 5]]
    assert len(data.BatchSampler(range(7), 3, False)) == 3
    assert len(data.BatchSampler(range(7), 3, True)) == 2


# --- collation ------------------------------------------------------------------------------


def test_default_collate():
    samples = [
        {"a": ntorch.ones(2) * i, "b": (i, float(i)), "c": [f"{i}"], "d": np.arange(3) + i}
        for i in range(2)
    ]
    batch = data.default_collate(samples)
    assert batch["a"].tolist() == [[0, 0], [1, 1]]
    assert batch["b"][0].dtype == ntorch.int64 and batch["b"][1].dtype == ntorch.float64
    assert batch["c"] == [("0", "1")] and batch["d"].tolist() == [[0, 1, 2], [1, 2, 3]]
    point = data.default_collate([Point(1, 2), Point(3, 4)])
    assert type(point) is Point and point.y.tolist() == [2, 4]
    assert data.default_collate([np.float32(1), np.float32(2)]).dtype == ntorch.float32
    assert data.default_collate([True, False]).dtype == ntorch.bool
    ordered = data.default_collate([collections.OrderedDict(z=1)])
    assert type(ordered) is collections.OrderedDict
    assert data.default_collate([range(2), range(2)])[1].tolist() == [1, 1]


def test_collate_errors_and_rules():
    with pytest.raises(RuntimeError, match="should be of equal size"):
        data.default_collate([[1, 2], [1]])
    with pytest.raises(TypeError, match="found <class 'object'>"):
        data.default_collate([object()])
    with pytest.raises(TypeError, match="found <U1"):
        data.default_collate([np.array(["a"])])
    rules = {set: lambda batch, *, collate_fn_map: set.union(*batch)}
    assert data.collate([{1}, {2}], collate_fn_map=rules) == {1, 2}


def test_default_convert():
    made = data.default_convert({"a": np.ones(2), "b": (1, "x"), "c": np.array(["s"])})
    assert isinstance(made["a"], ntorch.Tensor) and made["b"] == [1, "x"]
    assert isinstance(made["c"], np.ndarray)
    assert data.default_convert(Point(np.float64(2), 3)).x.item() == 2


# --- the loader in this process ----------------------------------------------------------------


def test_serial_loading():
    batches = list(data.DataLoader(Squares(5), batch_size=2))
    assert [b[1].tolist() for b in batches] == [[0, 1], [2, 3], [4]]
    assert batches[1][0].tolist() == [[4.0] * 3, [9.0] * 3]
    assert len(data.DataLoader(Squares(5), batch_size=2, drop_last=True)) == 2
    singles = list(data.DataLoader(np.arange(3), batch_size=None))
    assert [s.item() for s in singles] == [0, 1, 2]
    chosen = data.DataLoader(range(9), batch_sampler=[[8, 1], [5]])
    assert values(chosen) == [[8, 1], [5]] and chosen.batch_size is None


BAD_ARGUMENTS = [
    ({"num_workers": -1}, ValueError, "num_workers option should be non-negative"),
    ({"timeout": -1}, ValueError, "timeout option should be non-negative"),
    ({"prefetch_factor": 2}, ValueError, "prefetch_factor option could only be specified in mult"),
    ({"prefetch_factor": 0, "num_workers": 1}, ValueError, "prefetch_factor option should be"),
    ({"persistent_workers": True}, ValueError, "persistent_workers option needs num_workers > 0"),
    ({"sampler": [0], "shuffle": True}, ValueError, "mutually exclusive with shuffle"),
    ({"batch_sampler": [[0]], "batch_size": 2}, ValueError, "batch_sampler option is mutually"),
    ({"batch_size": None, "drop_last": True}, ValueError, "mutually exclusive with drop_last"),
    ({"batch_size": 0}, ValueError, "batch_size should be a positive integer value"),
    ({"multiprocessing_context": "fork"}, ValueError, "can only be used with multi-process"),
    ({"multiprocessing_context": "x", "num_workers": 1}, ValueError, "a valid start method in"),
    ({"multiprocessing_context": 3, "num_workers": 1}, TypeError, "should be a valid context"),
]


@pytest.mark.parametrize("options,error,message", BAD_ARGUMENTS)
def test_bad_arguments(options, error, message):
    with pytest.raises(error, match=message):
        data.DataLoader(range(3), **options)


@pytest.mark.parametrize("name,value", [("shuffle", True), ("sampler", [0]),
                                        ("batch_sampler", [[0]])])
def test_streams_take_no_sampler(name, value):
    with pytest.raises(ValueError, match=f"expected unspecified {name} option"):
        data.DataLoader(Stream(3), **{name: value})


def test_attributes_are_fixed():
    made = data.DataLoader(range(3))
    with pytest.raises(ValueError, match="batch_size attribute should not be set after"):
        made.batch_size = 4
    made.timeout = 5


def test_too_many_workers_warn():
    with pytest.warns(UserWarning, match="suggested max number of worker"):
        data.DataLoader(range(3), num_workers=10_000)


def test_pinning_without_accelerator_warns():
    if _utils.cuda_is_available():
        pytest.skip("there is an accelerator")
    with pytest.warns(UserWarning, match="no accelerator is found"):
        assert values(data.DataLoader(range(2), pin_memory=True)) == [[0], [1]]


# --- the loader with workers -------------------------------------------------------------------


def same(a, b):
    if isinstance(a, ntorch.Tensor):
        return a.dtype == b.dtype and a.tolist() == b.tolist()
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and all(map(same, a, b))
    return a == b


@pytest.mark.parametrize("method", [*METHODS, "forkserver"])
def test_workers_give_what_one_process_gives(method):
    def batches(**options):
        ntorch.manual_seed(3)
        made = data.DataLoader(Mixed(14), 3, shuffle=True, **options)
        found = list(made)
        for batch in found:
            drawn = batch.pop("random")
            assert len({float(v) for column in drawn for v in column}) == 3 * len(drawn[0])
        return found

    expected = batches()
    assert same(batches(num_workers=2, multiprocessing_context=method), expected)


@pytest.mark.parametrize("workers", [0, 2])
def test_order_and_seeds_are_those_of_torch(workers):
    torch = pytest.importorskip("torch")
    torch_data = pytest.importorskip("torch.utils.data")

    found = []
    for lib, library in ((torch, torch_data), (ntorch, data)):
        lib.manual_seed(5)
        random.seed(5)
        np.random.seed(5)
        made = library.DataLoader(
            range(10), 3, shuffle=True, num_workers=workers, collate_fn=Draws(lib)
        )
        found.append([list(made), list(made), lib.rand(1).item()])
    assert found[0] == found[1]


class Draws:
    def __init__(self, library):
        self.name = library.__name__

    def __call__(self, batch):
        lib = sys.modules[self.name]
        return batch, random.random(), float(np.random.rand()), lib.rand(1).item()


ERRORS = [
    (ValueError("five is bad"), ValueError),
    (KeyError("five"), KeyError),
    (Awkward(1, 2), RuntimeError),
    (IndexError("five"), IndexError),
]


@pytest.mark.parametrize("error,kind", ERRORS)
def test_errors_of_workers_are_raised_here(error, kind):
    made = loader(Failing(error), "fork", batch_size=2)
    iterator = iter(made)
    assert next(iterator).tolist() == [0, 1] and next(iterator).tolist() == [2, 3]
    with pytest.raises(kind) as caught:
        next(iterator)
    text = str(caught.value)
    assert text.startswith(f"Caught {type(error).__name__} in DataLoader worker process 0.\n")
    assert "raise self.error" in text and "\\n" not in text
    # The others are not lost.
    assert next(iterator).tolist() == [6, 7]


def test_error_in_spawned_worker():
    with pytest.raises(ValueError, match="Caught ValueError in DataLoader worker process 1"):
        list(loader(Failing(ValueError("five is bad")), "spawn"))


def test_local_exception_type_and_unpicklable_batch():
    class Local(Exception):
        pass

    with pytest.raises(RuntimeError, match="Caught Local in DataLoader worker"):
        list(loader(Failing(Local()), "fork"))
    with pytest.raises(Exception, match="Caught .* in DataLoader worker process 0"):
        list(loader(Unpicklable(), "fork", collate_fn=keep))


@pytest.mark.parametrize("method", METHODS)
def test_worker_init_fn(method):
    made = loader(Size(), method, worker_init_fn=number_first, batch_size=1)
    assert values(made) == [[100], [101], [100], [101]]
    with pytest.raises(OSError, match="no disk for worker 0"):
        list(loader(Size(), method, worker_init_fn=fail_at_start))


@pytest.mark.parametrize("method", METHODS)
def test_killed_worker_is_reported(method):
    start = time.monotonic()
    iterator = iter(loader(Dying(), method, batch_size=1))
    pids = [w.process.pid for w in iterator._workers]
    with pytest.raises(RuntimeError, match=r"worker \(pid \d+\) is killed by signal: Killed") as e:
        list(iterator)
    assert any(str(pid) in str(e.value) for pid in pids)
    assert time.monotonic() - start < 20
    with pytest.raises(RuntimeError, match="have been stopped"):
        next(iterator)


def test_worker_that_exits_is_reported():
    with pytest.raises(RuntimeError, match=r"exited unexpectedly with exit code 3"):
        list(loader(Exiting(), "fork"))


def test_timeout():
    iterator = iter(loader(Slow(), "fork", batch_size=1, timeout=0.5))
    start = time.monotonic()
    with pytest.raises(RuntimeError, match="timed out after 0.5 seconds"):
        list(iterator)
    assert time.monotonic() - start < 5
    for one in iterator._workers:
        one.process.kill()


def test_early_end_stops_workers():
    iterator = iter(loader(Squares(1000), "fork"))
    processes = [w.process for w in iterator._workers]
    next(iterator)
    del iterator
    gc.collect()
    assert not any(p.is_alive() for p in processes)


def test_persistent_workers_stay_and_start_anew():
    made = loader(Squares(40), "fork", batch_size=4, persistent_workers=True)
    first = iter(made)
    pids = [w.process.pid for w in first._workers]
    next(first)
    # What is left of the broken pass must not show in the next ones.
    for _ in range(2):
        assert [b[1].tolist() for b in made] == [list(range(i, i + 4)) for i in range(0, 40, 4)]
    assert [w.process.pid for w in made._iterator._workers] == pids
    made._iterator._finalizer()


def test_out_of_order():
    made = loader(Squares(30), "fork", batch_size=2, in_order=False)
    assert sorted(i for b in made for i in b[1].tolist()) == list(range(30))


@pytest.mark.parametrize("method", METHODS)
def test_streams(method):
    assert values(data.DataLoader(Stream(5), batch_size=2)) == [[0, 1], [2, 3], [4]]
    made = loader(Stream(7), method, batch_size=2)
    assert values(made) == [[0, 2], [1, 3], [4, 6], [5]]
    assert values(loader(Stream(7), method, batch_size=2, drop_last=True)) == [
        [0, 2], [1, 3], [4, 6],
    ]  # fmt: skip


def test_persistent_streams():
    made = loader(Stream(6), "fork", batch_size=None, persistent_workers=True)
    assert [list(made) for _ in range(3)] == [list(range(6))] * 3
    made._iterator._finalizer()


def test_stream_longer_than_it_says():
    made = loader(Whole(), "fork", batch_size=None)
    assert len(made) == 5 and math.ceil(5 / 2) == len(data.DataLoader(Whole(), 2))
    with pytest.warns(UserWarning, match="was reported to be 5"):
        assert sorted(made) == sorted([*range(5)] * 2)


def test_torch_module_names():
    from ntorch.utils.data.dataloader import DataLoader, default_collate

    assert DataLoader is data.DataLoader and default_collate is data.default_collate


def test_worker_info():
    assert data.get_worker_info() is None
    info = data.WorkerInfo(0, 2, 5, None)
    with pytest.raises(AttributeError):
        info.id = 3


def test_kept_batches_are_not_overwritten():
    """Shared memory is used again only when nothing refers to it."""
    made = loader(Squares(60, width=20_000), "fork", batch_size=2)
    kept = []
    for batch in made:
        if int(batch[1][0]) % 4 == 0:
            kept.append(batch)
    rows = [kept_row for b in kept for kept_row in b[0]]
    del kept, batch
    expected = [float(i * i) for start in range(0, 60, 4) for i in (start, start + 1)]
    assert [row[0].item() for row in rows] == expected
    assert all(row.min().item() == row.max().item() for row in rows)
    rows[0][0] = 5.0


def test_gradients_do_not_leave_the_worker():
    class Graph(Squares):
        def __getitem__(self, i):
            return ntorch.ones(2, requires_grad=True) * 2

    with pytest.raises(RuntimeError, match="non-leaf tensor which requires_grad"):
        list(loader(Graph(), "fork"))


def test_nothing_is_left_behind():
    before = set(glob.glob("/dev/shm/*"))
    iterator = iter(loader(Squares(40, width=50_000), "fork", batch_size=2))
    held = [next(iterator) for _ in range(3)]
    processes = [one.process for one in iterator._workers]
    for process in processes:
        process.kill()
    with pytest.raises(RuntimeError, match="killed by signal"):
        list(iterator)
    assert set(glob.glob("/dev/shm/*")) <= before
    assert held[2][0][0, 0].item() == 16
    assert not any(process.is_alive() for process in processes)


# a shell's background jobs, and what they start, ignore the signal until somebody asks for it
SCRIPT = """
import os, signal, time, ntorch
from ntorch.utils import data
signal.signal(signal.SIGINT, signal.default_int_handler)
class Sleepy(data.Dataset):
    def __len__(self): return 100
    def __getitem__(self, i):
        time.sleep(0.02)
        return i
if __name__ == "__main__":
    iterator = iter(data.DataLoader(Sleepy(), 1, num_workers=2, multiprocessing_context="fork"))
    print(*[w.process.pid for w in iterator._workers], flush=True)
    for batch in iterator:
        pass
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_workers_go_with_their_parent(how):
    child = subprocess.Popen(
        [sys.executable, "-c", SCRIPT], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    pids = [int(pid) for pid in child.stdout.readline().split()]
    assert len(pids) == 2
    child.send_signal(how)
    _, errors = child.communicate(timeout=30)
    assert ("KeyboardInterrupt" in errors) == (how == signal.SIGINT)
    assert "DataLoader worker" not in errors
    deadline = time.monotonic() + 15
    while any(os.path.exists(f"/proc/{pid}") for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(os.path.exists(f"/proc/{pid}") for pid in pids)
