"""Random numbers: bit for bit those of torch's CPU generator, and the right distributions."""
import copy
import math
import pickle
import random
import struct
import threading

import numpy as np
import pytest

import ntorch
from ntorch.ops.generator import Generator

SIZES = [(), (0,), (1,), (2,), (7,), (15,), (16,), (17,), (31,), (32,), (100,), (3, 5), (2, 3, 7)]
FLOATS = ["float32", "float64", "float16", "bfloat16"]


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


def words(tensor):
    """The elements of a tensor of either library; bfloat16 in float32, which holds them exactly."""
    return (tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor).numpy()


def assert_same(expected, got):
    np.testing.assert_array_equal(words(expected), words(got))


def seeded(library, seed):
    library.manual_seed(seed)
    return library


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", FLOATS)
def test_rand_and_randn_equal_torch(torch, size, dtype):
    for seed in (0, 3, -1, 2 ** 40 + 5):
        for name in ("rand", "randn"):
            make = [getattr(seeded(lib, seed), name)(size, dtype=getattr(lib, dtype))
                    for lib in (torch, ntorch)]
            assert_same(*make)


FILLS = [("uniform_", (-0.3, 1.7)), ("uniform_", (1.0, 2.0)), ("normal_", (0.3, 1.7)),
         ("bernoulli_", (0.3,)), ("exponential_", (1.5,)), ("cauchy_", (0.2, 1.5)),
         ("log_normal_", (0.2, 0.5)), ("geometric_", (0.2,)), ("random_", ()), ("random_", (9,)),
         ("random_", (2, 9)), ("random_", (3, None))]


@pytest.mark.parametrize("name, arguments", FILLS)
@pytest.mark.parametrize("dtype", FLOATS)
def test_in_place_fills_equal_torch(torch, name, arguments, dtype):
    for size in ((5,), (40,), (3, 4, 5)):
        filled = [getattr(seeded(lib, 11).empty(size, dtype=getattr(lib, dtype)), name)(*arguments)
                  for lib in (torch, ntorch)]
        assert_same(*filled)


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int8", "int16", "int32", "int64"])
def test_integer_fills_equal_torch(torch, dtype):
    for arguments in [()] + ([(5,), (2, 9)] if dtype != "bool" else []):
        filled = [seeded(lib, 4).empty(50, dtype=getattr(lib, dtype)).random_(*arguments)
                  for lib in (torch, ntorch)]
        assert_same(*filled)


@pytest.mark.parametrize("span", [1, 2, 10, 2 ** 28 - 1, 2 ** 28, 2 ** 31, 2 ** 33, 2 ** 63 - 1])
def test_randint_takes_wide_words_where_torch_does(torch, span):
    drawn = [seeded(lib, 8).randint(-7, span - 7, (20,)) for lib in (torch, ntorch)]
    assert_same(*drawn)


def test_random_over_all_64_bits(torch):
    filled = [seeded(lib, 4).empty(9, dtype=lib.int64).random_(-2 ** 63, None)
              for lib in (torch, ntorch)]
    assert_same(*filled)


@pytest.mark.parametrize("n", [0, 1, 2, 10, 1000])
def test_randperm_equals_torch(torch, n):
    assert_same(*(seeded(lib, 5).randperm(n) for lib in (torch, ntorch)))
    assert sorted(ntorch.randperm(n).tolist()) == list(range(n))


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0), (2, 1, 0)])
def test_draws_follow_memory_order(torch, order):
    for name in ("uniform_", "normal_", "bernoulli_"):
        filled = [getattr(seeded(lib, 2).empty(3, 4, 5).permute(order), name)()
                  for lib in (torch, ntorch)]
        assert_same(filled[0].contiguous(), filled[1].contiguous())
        filled = [getattr(seeded(lib, 2).zeros(6, 8).t()[::2], name)() for lib in (torch, ntorch)]
        assert_same(filled[0].contiguous(), filled[1].contiguous())


def test_bernoulli_with_tensor_probabilities_equals_torch(torch):
    for dtype in ("float32", "float64", "float16"):
        p = np.linspace(0, 1, 60).reshape(3, 20).astype(dtype)
        for lib in (torch, ntorch):
            lib.manual_seed(1)
        assert_same(torch.bernoulli(torch.from_numpy(p)), ntorch.bernoulli(ntorch.from_numpy(p)))


@pytest.mark.parametrize("replacement", [True, False])
@pytest.mark.parametrize("count", [1, 4])
def test_multinomial_equals_torch(torch, replacement, count):
    weights = np.random.default_rng(0).random((5, 9)).astype(np.float32)
    for lib in (torch, ntorch):
        lib.manual_seed(1)
    assert_same(torch.multinomial(torch.from_numpy(weights), count, replacement),
                ntorch.multinomial(ntorch.from_numpy(weights), count, replacement))


def test_normal_with_tensors_equals_torch(torch):
    for lib in (torch, ntorch):
        lib.manual_seed(3)
    drawn = [[lib.normal(lib.arange(20.0), 0.7), lib.normal(0.3, lib.full((5,), 0.5)),
              lib.normal(lib.arange(6.0).view(2, 3), lib.full((3,), 0.5)),
              lib.normal(1.0, 2.0, (9,))]
             for lib in (torch, ntorch)]
    for expected, got in zip(*drawn, strict=True):
        assert_same(expected, got)


INITIALISERS = [("kaiming_uniform_", {"a": math.sqrt(5)}), ("xavier_normal_", {}),
                ("kaiming_normal_", {}), ("trunc_normal_", {"std": 0.02}),
                ("trunc_normal_", {"std": 1.0}),
                ("trunc_normal_", {"std": 4.0, "a": 1.0, "b": 2.0})]


@pytest.mark.parametrize("name, keywords", INITIALISERS)
@pytest.mark.parametrize("shape", [(20, 10), (8, 3, 3, 3), (5, 3)])
def test_initialisers_equal_torch(torch, name, keywords, shape):
    got = [getattr(seeded(lib, 6).nn.init, name)(lib.empty(shape), **keywords)
           for lib in (torch, ntorch)]
    assert_same(*got)


def _mixed_calls(library, seed, count):
    """The same pseudo-random sequence of calls in either library; yields what each call gave."""
    chooser = random.Random(seed)
    library.manual_seed(seed)
    for _ in range(count):
        size = tuple(chooser.choice([1, 2, 3, 5, 16, 17]) for _ in range(chooser.randint(0, 2)))
        dtype = getattr(library, chooser.choice(FLOATS))
        kind = chooser.choice(["rand", "randn", "randint", "randperm", "normal_", "bernoulli_",
                               "log_normal_", "state"])
        if kind in ("rand", "randn"):
            yield getattr(library, kind)(size, dtype=dtype)
        elif kind == "randint":
            yield library.randint(0, chooser.choice([3, 2 ** 40]), size)
        elif kind == "randperm":
            yield library.randperm(chooser.randint(0, 30))
        elif kind == "state":
            yield library.get_rng_state()
        else:
            yield getattr(library.empty(size, dtype=dtype), kind)()


@pytest.mark.parametrize("seed", range(4))
def test_sequences_of_mixed_calls_equal_torch(torch, seed):
    for expected, got in zip(_mixed_calls(torch, seed, 60), _mixed_calls(ntorch, seed, 60),
                             strict=True):
        assert_same(expected, got)


@pytest.mark.parametrize("draws", [0, 1, 3, 623, 624, 625, 1248, 3000])
def test_state_bytes_interchange_with_torch(torch, draws):
    ours, theirs = ntorch.Generator().manual_seed(7), torch.Generator().manual_seed(7)
    if draws:
        ntorch.empty(draws).uniform_(generator=ours)
        torch.empty(draws).uniform_(generator=theirs)
    ntorch.empty(3).normal_(generator=ours)
    torch.empty(3).normal_(generator=theirs)
    assert_same(theirs.get_state(), ours.get_state())
    fresh = torch.Generator()
    fresh.set_state(torch.from_numpy(ours.get_state().numpy().copy()))
    assert_same(torch.randn(5, generator=fresh), ntorch.randn(5, generator=ours))


def test_known_words_of_mt19937():
    """The reference implementation's first outputs for seed 5489."""
    generator = ntorch.Generator().manual_seed(5489)
    assert generator.random64() == 3499211612 << 32 | 581869302


def test_uniform_never_reaches_its_upper_bound():
    for dtype, low, high in (("float16", 1.0, 2.0), ("bfloat16", -0.3, 1.7), ("float32", 1, 2),
                             ("bfloat16", 0, 3.3), ("float16", -2.0, -1.0), ("bfloat16", -4, -2)):
        ntorch.manual_seed(0)
        x = ntorch.empty(200_000, dtype=getattr(ntorch, dtype)).uniform_(low, high).float()
        bound = ntorch.tensor(float(high), dtype=getattr(ntorch, dtype)).float().item()
        assert x.max().item() < bound
        assert x.min().item() >= low - 4e-3 * abs(low)


def test_uniform_of_half_types_near_the_bound_equals_torch(torch):
    for dtype in ("float16", "bfloat16"):
        for low, high in ((0, 1), (1, 2), (-4, -2), (0, 3.3), (-0.3, 1.7), (0, 1e-7)):
            empties = [seeded(lib, 7).empty(30_000, dtype=getattr(lib, dtype))
                       for lib in (torch, ntorch)]
            assert_same(*(x.uniform_(low, high) for x in empties))


def test_moments():
    ntorch.manual_seed(0)
    n = 200_000
    for sample, mean, deviation in (
            (ntorch.rand(n), 0.5, 12 ** -0.5), (ntorch.randn(n), 0, 1),
            (ntorch.randn(n, dtype=ntorch.float64), 0, 1),
            (ntorch.empty(n).exponential_(2.0), 0.5, 0.5),
            (ntorch.empty(n).bernoulli_(0.3), 0.3, 0.21 ** 0.5),
            (ntorch.randint(0, 10, (n,)).double(), 4.5, 8.25 ** 0.5)):
        values = sample.numpy().astype(np.float64)
        assert abs(values.mean() - mean) < 5 * deviation / math.sqrt(n)
        assert abs(values.std() - deviation) < 0.02 * deviation


def test_normals_pass_kolmogorov_smirnov():
    stats = pytest.importorskip("scipy.stats")
    ntorch.manual_seed(1)
    for sample in (ntorch.randn(20_000), ntorch.randn(20_001, dtype=ntorch.float64),
                   ntorch.cat([ntorch.randn(9) for _ in range(500)])):
        assert stats.kstest(sample.numpy(), "norm").pvalue > 1e-3


def test_philox_gives_the_published_numbers():
    """Known answers of Random123 for philox4x32-10."""
    from ntorch.kernels.random import philox
    with np.errstate(over="ignore"):
        assert [int(w) for w in philox(0, 0, 0)] == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
        ones = (1 << 64) - 1
        assert [int(w) for w in philox(ones, ones, ones)] == [0x408F276D, 0x41C83B0E, 0xA20BC7C6,
                                                              0x6D5451FD]


@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_dropout_keeps_and_scales(p):
    ntorch.manual_seed(0)
    x = ntorch.full((400, 501), 3.0, requires_grad=True)
    y, mask = ntorch.native_dropout(x, p, True)
    kept = mask.numpy()
    assert abs(kept.mean() - (1 - p)) < 0.01
    expected = np.where(kept, np.float32(3) * np.float32(1 / (1 - p) if p < 1 else 0), 0)
    np.testing.assert_allclose(y.detach().numpy(), expected, rtol=1e-6)
    y.sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), expected / 3, rtol=1e-6)
    same = ntorch.manual_seed(0) and ntorch.native_dropout(x, p, True)[1]
    np.testing.assert_array_equal(kept, same.numpy())


@pytest.mark.parametrize("n", [1, 6, 64, 2049])
def test_dropout_is_philox_in_order(n):
    """Element i is kept where word i % 4 of counter i // 4 is below the threshold."""
    from ntorch.kernels.random import philox
    ntorch.manual_seed(4)
    key = ntorch.default_generator.random64()
    with np.errstate(over="ignore"):
        words = [int(w) for group in range((n + 3) // 4) for w in philox(key, group, 0)][:n]
    wanted = np.array(words) < round(0.7 * 2 ** 32)
    for x in (ntorch.ones(n), ntorch.ones(n, dtype=ntorch.float16), ntorch.ones(n, 2)[:, 0]):
        ntorch.manual_seed(4)
        y, mask = ntorch.native_dropout(x, 0.3, True)
        np.testing.assert_array_equal(mask.numpy(), wanted)
        np.testing.assert_array_equal(y.numpy() > 0, wanted)


def test_dropped_infinities_become_nan():
    x = ntorch.full((1000,), float("inf"))
    y, mask = ntorch.native_dropout(x, 0.5, True)
    assert y.isnan().numpy().tolist() == (~mask).numpy().tolist()


def test_dropout_can_be_differentiated_twice():
    x = ntorch.rand(50, dtype=ntorch.float64, requires_grad=True)

    def dropped(x):
        ntorch.manual_seed(1)
        return ntorch.native_dropout(x, 0.4, True)[0] ** 2
    assert ntorch.autograd.gradgradcheck(dropped, (x,))


def test_dropout_does_not_depend_on_threads():
    count = ntorch.get_num_threads()
    masks = []
    try:
        for threads in (1, 2, 3):
            ntorch.set_num_threads(threads)
            ntorch.manual_seed(9)
            masks.append(ntorch.native_dropout(ntorch.ones(1 << 20), 0.5, True)[1].numpy())
    finally:
        ntorch.set_num_threads(count)
    assert (masks[0] == masks[1]).all() and (masks[0] == masks[2]).all()


def test_generators_are_independent_and_copy():
    a, b = ntorch.Generator().manual_seed(1), ntorch.Generator().manual_seed(1)
    first = ntorch.rand(5, generator=a)
    ntorch.rand(100)
    assert (first == ntorch.rand(5, generator=b)).all()
    for again in (pickle.loads(pickle.dumps(a)), copy.deepcopy(a), a.clone_state()):
        assert (ntorch.rand(4, generator=again) == ntorch.rand(4, generator=b.clone_state())).all()


def test_fork_rng_restores_the_state():
    ntorch.manual_seed(3)
    expected = ntorch.rand(4)
    ntorch.manual_seed(3)
    with ntorch.random.fork_rng():
        ntorch.rand(1000)
        ntorch.manual_seed(77)
    assert (ntorch.rand(4) == expected).all()
    assert ntorch.initial_seed() == 3


def test_seed_and_initial_seed():
    assert ntorch.manual_seed(-5).initial_seed() == 2 ** 64 - 5
    drawn = ntorch.seed()
    assert ntorch.initial_seed() == drawn and ntorch.seed() != drawn


def test_many_threads_share_one_generator():
    generator = ntorch.Generator().manual_seed(1)
    parts = []

    def draw():
        for _ in range(20):
            parts.append(ntorch.empty(50, dtype=ntorch.int64).random_(generator=generator).numpy())
    workers = [threading.Thread(target=draw) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    drawn = np.sort(np.concatenate(parts))
    again = ntorch.empty(4000, dtype=ntorch.int64).random_(
        generator=ntorch.Generator().manual_seed(1))
    np.testing.assert_array_equal(drawn, np.sort(again.numpy()))


def _bad_state(change):
    def call():
        state = bytearray(ntorch.Generator().get_state().numpy().tobytes())
        change(state)
        ntorch.Generator().set_state(ntorch.frombuffer(state, dtype=ntorch.uint8))
    return call


ERRORS = [
    (lambda: ntorch.empty(3, dtype=ntorch.int64).uniform_(), NotImplementedError, "not "
                                                                                  "implemented"),
    (lambda: ntorch.empty(3).uniform_(2, 1), RuntimeError, "from=2 > to=1"),
    (lambda: ntorch.empty(3).uniform_(0, 1e40), RuntimeError, "to is out of bounds for float"),
    (lambda: ntorch.empty(3).normal_(0, -1), RuntimeError, "found std -1"),
    (lambda: ntorch.empty(3, dtype=ntorch.bool).normal_(), NotImplementedError, "'Bool'"),
    (lambda: ntorch.empty(3).exponential_(0.0), RuntimeError, "lambda > 0"),
    (lambda: ntorch.empty(3, dtype=ntorch.int64).exponential_(), RuntimeError, "continuous"),
    (lambda: ntorch.empty(3).geometric_(1.0), RuntimeError, "p to be in"),
    (lambda: ntorch.empty(3).cauchy_(0, -1), RuntimeError, "sigma > 0"),
    (lambda: ntorch.empty(3).log_normal_(0, -1), RuntimeError, "std > 0"),
    (lambda: ntorch.empty(3).bernoulli_(1.5), RuntimeError, "p=1.5"),
    (lambda: ntorch.bernoulli(ntorch.tensor([0.5, math.nan])), RuntimeError, "in \\[0, 1\\]"),
    (lambda: ntorch.bernoulli(ntorch.tensor([1, 0])), NotImplementedError, "'Long'"),
    (lambda: ntorch.randint(5, 5, (2,)), RuntimeError, "from=5 >= to=5"),
    (lambda: ntorch.randint(5, 300, (2,), dtype=ntorch.uint8), RuntimeError, "unsigned char"),
    (lambda: ntorch.randint(5), TypeError, "no size"),
    (lambda: ntorch.randint(5, 3), TypeError, "'size'"),
    (lambda: ntorch.empty(3, dtype=ntorch.int8).random_(0, 129), RuntimeError, "signed char"),
    (lambda: ntorch.randperm(-1), RuntimeError, "negative dimension"),
    (lambda: ntorch.randperm(3000, dtype=ntorch.float16), RuntimeError, "2049 for Half"),
    (lambda: ntorch.randperm(300, dtype=ntorch.uint8), RuntimeError, "overflow"),
    (lambda: ntorch.rand(2, dtype=ntorch.int32), NotImplementedError, "'Int'"),
    (lambda: ntorch.rand(-2), RuntimeError, "negative dimension"),
    (lambda: ntorch.rand(2, generator=3), TypeError, "Generator"),
    (lambda: ntorch.rand(2, out=ntorch.empty(2), dtype=ntorch.float64), RuntimeError, "out "
                                                                                      "parameter"),
    (lambda: ntorch.rand(1).expand(3).uniform_(), RuntimeError, "single memory location"),
    (lambda: ntorch.multinomial(ntorch.tensor([1.0, -1]), 1), RuntimeError, "element < 0"),
    (lambda: ntorch.multinomial(ntorch.tensor([0.0, 0]), 1), RuntimeError, "sum of probabilities"),
    (lambda: ntorch.multinomial(ntorch.ones(2), 3), RuntimeError, "without replacement"),
    (lambda: ntorch.multinomial(ntorch.ones(2), 0), RuntimeError, "n_sample <= 0"),
    (lambda: ntorch.multinomial(ntorch.tensor([1, 1]), 1), RuntimeError, "floating-point"),
    (lambda: ntorch.normal(0.0, 1.0), TypeError, "normal"),
    (lambda: ntorch.normal(ntorch.zeros(3), ntorch.tensor([-1.0])), RuntimeError, "std >= 0.0"),
    (lambda: ntorch.dropout(ntorch.ones(3), 1.5, True), RuntimeError, "between 0 and 1"),
    (lambda: ntorch.manual_seed(2 ** 64), ValueError, "long long"),
    (lambda: ntorch.Generator("meta"), RuntimeError, "cpu"),
    (lambda: ntorch.set_rng_state(ntorch.zeros(3, dtype=ntorch.uint8)), RuntimeError, "5056"),
    (lambda: ntorch.set_rng_state(ntorch.zeros(5056)), TypeError, "ByteTensor"),
    (lambda: ntorch.set_rng_state(3), TypeError, "int"),
    (_bad_state(lambda s: s.__setitem__(slice(8, 12), struct.pack("<i", 9999))), RuntimeError,
     "Invalid mt19937"),
    (_bad_state(lambda s: s.__setitem__(slice(0, 5056), bytes(5056))), RuntimeError, "Invalid"),
]


@pytest.mark.parametrize("number", range(len(ERRORS)))
def test_errors(number):
    call, kind, words_ = ERRORS[number]
    with pytest.raises(kind, match=words_):
        call()


def test_a_bad_state_changes_nothing():
    generator = Generator().manual_seed(4)
    before = generator.get_state().numpy().copy()
    with pytest.raises(RuntimeError):
        generator.set_state(ntorch.zeros(5056, dtype=ntorch.uint8))
    np.testing.assert_array_equal(before, generator.get_state().numpy())


def test_factories_take_torchs_keywords():
    x = ntorch.rand((2, 3), dtype=ntorch.float64, requires_grad=True)
    assert x.requires_grad and x.dtype is ntorch.float64
    out = ntorch.empty(4)
    assert ntorch.randn(4, out=out) is out
    assert ntorch.rand(2, device="meta").shape == (2,)
    for name in ("rand_like", "randn_like"):
        assert getattr(ntorch, name)(x.detach()).dtype is ntorch.float64
    assert ntorch.randint_like(ntorch.empty(3), 5).shape == (3,)
    assert ntorch.rand(2, dtype=ntorch.complex64).dtype is ntorch.complex64


def test_fills_cut_the_history_and_bump_the_version():
    x = ntorch.ones(3, requires_grad=True)
    y = x * 2
    version = y._version
    y.uniform_()
    assert y._version == version + 1
    y.sum().backward()
    assert x.grad is None or (x.grad == 0).all()
    with pytest.raises(RuntimeError, match="leaf Variable"):
        x.uniform_()
