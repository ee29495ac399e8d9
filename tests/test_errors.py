"""Bad input: torch's exception type, a message that says what came, and nothing half-written.

One line per refusal: the call, the exception type, words of the message. Where torch is installed
the same call is made there and must raise the same type.
"""
import numpy as np
import pytest

import ntorch

F, I, V, N = RuntimeError, IndexError, ValueError, NotImplementedError  # noqa: E741 - as in words


def ones(m, *shape, dtype="float32"):
    return m.ones(*shape, dtype=getattr(m, dtype))


def index(m, *values):
    return m.tensor(list(values), dtype=m.int64)


def nnf(m):
    return m.nn.functional


LINES = [
    # --- shapes that do not fit
    ("add", lambda m: ones(m, 2) + ones(m, 3), F, r"size of tensor a \(2\).*tensor b \(3\)"),
    ("where", lambda m: m.where(ones(m, 2) > 0, ones(m, 3), ones(m, 2)), F, "must match"),
    ("add_", lambda m: ones(m, 2).add_(ones(m, 3, 2)), F, r"output with shape \[2\]"),
    ("mm", lambda m: m.mm(ones(m, 2, 3), ones(m, 2, 3)), F, r"2x3 and 2x3"),
    ("mm rank", lambda m: m.mm(ones(m, 2), ones(m, 2, 3)), F, "matri"),
    ("matmul", lambda m: ones(m, 2, 3) @ ones(m, 4), F, "4"),
    ("bmm", lambda m: m.bmm(ones(m, 2, 3, 4), ones(m, 3, 4, 2)), F, "size"),
    ("dot", lambda m: m.dot(ones(m, 2), ones(m, 3)), F, "2.*3"),
    ("linear", lambda m: nnf(m).linear(ones(m, 2, 3), ones(m, 2, 4)), F, "3.*4"),
    ("einsum", lambda m: m.einsum("ij,jk->ik", ones(m, 2, 3), ones(m, 2, 3)), F, "3|size"),
    ("einsum letters", lambda m: m.einsum("ij", ones(m, 2)), F, "dimension"),
    ("conv2d channels", lambda m: nnf(m).conv2d(ones(m, 1, 3, 5, 5), ones(m, 2, 4, 3, 3)), F,
     "channels"),
    ("conv2d too small", lambda m: nnf(m).conv2d(ones(m, 1, 1, 2, 2), ones(m, 1, 1, 3, 3)), F,
     "[Kk]ernel size"),
    ("conv2d stride", lambda m: nnf(m).conv2d(ones(m, 1, 1, 5, 5), ones(m, 1, 1, 3, 3),
                                                     stride=0), F, "stride"),
    ("conv2d groups", lambda m: nnf(m).conv2d(ones(m, 1, 3, 5, 5), ones(m, 2, 1, 3, 3),
                                                     groups=2), F, "group|divisible|channels"),
    ("max_pool2d", lambda m: nnf(m).max_pool2d(ones(m, 1, 1, 2, 2), 3), F, "[Oo]utput size"),
    ("max_pool2d padding", lambda m: nnf(m).max_pool2d(ones(m, 1, 1, 4, 4), 2, padding=2), F,
     "pad should be at most half"),
    ("cat", lambda m: m.cat([ones(m, 2, 3), ones(m, 2, 4)]), F, "[Ss]izes of tensors must match"),
    ("stack", lambda m: m.stack([ones(m, 2), ones(m, 3)]), F, "equal size"),
    ("cat nothing", lambda m: m.cat([]), (F, V), "non-empty"),
    ("stack nothing", lambda m: m.stack([]), (F, V), "non-empty"),
    ("view", lambda m: ones(m, 2, 3).view(4), F, r"shape '\[4\]' is invalid for input of size 6"),
    ("reshape two unknowns", lambda m: ones(m, 2, 3).reshape(-1, -1), F, "one dimension"),
    ("expand", lambda m: ones(m, 2).expand(3), F, "expanded size"),
    ("permute", lambda m: ones(m, 2, 3).permute(0), F, "(?i)dim"),
    ("permute repeated", lambda m: ones(m, 2, 3).permute(0, 0), F, "(?i)dim|repeated|multiple"),
    ("split sizes", lambda m: ones(m, 5).split([2, 2]), F, "sum exactly to 5"),
    ("narrow", lambda m: ones(m, 4).narrow(0, 3, 2), F, r"3.*2.*4"),
    ("unflatten", lambda m: ones(m, 6).unflatten(0, (4, 2)), F, "4, 2|6"),
    ("layer_norm", lambda m: nnf(m).layer_norm(ones(m, 2, 3), (4,)), F, r"4"),
    ("batch_norm", lambda m: nnf(m).batch_norm(ones(m, 2, 3), ones(m, 4), ones(m, 4)), F, "4"),
    ("batch_norm one value", lambda m: nnf(m).batch_norm(
        ones(m, 1, 3), ones(m, 3), ones(m, 3), training=True), V, "more than 1 value per channel"),
    ("nll_loss batch", lambda m: nnf(m).nll_loss(ones(m, 3, 4), index(m, 0)), V, "batch_size"),
    ("mse_loss reduction", lambda m: nnf(m).mse_loss(ones(m, 2), ones(m, 2), reduction="no"),
     V, "no"),
    # --- indices out of range
    ("getitem", lambda m: ones(m, 3)[3], I, "3"),
    ("getitem negative", lambda m: ones(m, 3)[-4], I, "-4"),
    ("getitem tensor", lambda m: ones(m, 3)[index(m, 0, 5)], I, "5"),
    ("getitem mask", lambda m: ones(m, 3)[m.tensor([True, False])], I, "mask"),
    ("getitem too many", lambda m: ones(m, 3)[0, 0], I, "too many indices"),
    ("getitem type", lambda m: ones(m, 3)[1.5], (I, TypeError), "ind"),
    ("setitem", lambda m: ones(m, 3).__setitem__(index(m, 7), 1.0), I, "7"),
    ("select", lambda m: ones(m, 3).select(0, 3), I, "3"),
    ("gather", lambda m: m.gather(ones(m, 3), 0, index(m, 3)), F, "3"),
    ("gather negative", lambda m: m.gather(ones(m, 3), 0, index(m, -1)), F, "-1"),
    ("gather rank", lambda m: m.gather(ones(m, 3, 2), 0, index(m, 0)), F, "dimensions"),
    ("scatter", lambda m: ones(m, 3).scatter(0, index(m, 4), 1.0), F, "4"),
    ("scatter_add", lambda m: ones(m, 3).scatter_add(0, index(m, 4), ones(m, 1)), F, "4"),
    ("index_select", lambda m: m.index_select(ones(m, 3), 0, index(m, 3)), (I, F), "range|3"),
    ("index_add", lambda m: ones(m, 3).index_add(0, index(m, 3), ones(m, 1)), (I, F), "range|3"),
    ("index_copy", lambda m: ones(m, 3).index_copy(0, index(m, 3), ones(m, 1)), (I, F), "range|3"),
    ("take", lambda m: m.take(ones(m, 3), index(m, 3)), I, "range|3"),
    ("embedding", lambda m: nnf(m).embedding(index(m, 0, 4), ones(m, 4, 2)), I, "range|4"),
    ("embedding negative", lambda m: nnf(m).embedding(index(m, -1), ones(m, 4, 2)), I,
     "range|-1"),
    ("embedding type", lambda m: nnf(m).embedding(ones(m, 2), ones(m, 4, 2)), F, "(?i)long|int"),
    ("nll_loss", lambda m: nnf(m).nll_loss(ones(m, 2, 3), index(m, 0, 3)), I, "3"),
    ("nll_loss negative", lambda m: nnf(m).nll_loss(ones(m, 2, 3), index(m, 0, -1)), I, "-1"),
    ("cross_entropy", lambda m: nnf(m).cross_entropy(ones(m, 2, 3), index(m, 5, 0)), I, "5"),
    ("one_hot", lambda m: nnf(m).one_hot(index(m, 3), 3), F, "num_classes"),
    ("topk", lambda m: m.topk(ones(m, 3), 4), F, "range|4"),
    ("kthvalue", lambda m: m.kthvalue(ones(m, 3), 4), F, "range|4"),
    ("tensor_split", lambda m: ones(m, 3).tensor_split(0), F, "0|larger"),
    ("chunk", lambda m: ones(m, 3).chunk(0), F, "greater than 0"),
    # --- dims out of range
    *[(name + " dim", lambda m, name=name: getattr(m, name)(ones(m, 2, 3), 2), I,
       r"Dimension out of range \(expected to be in range of \[-2, 1\], but got 2\)")
      for name in ("sum", "mean", "amax", "argmax", "cumsum", "softmax", "log_softmax", "sort",
                   "logsumexp", "var", "any", "unbind", "max", "cummax")],
    ("sum twice", lambda m: ones(m, 2, 3).sum((0, 0)), F, "appears multiple times"),
    ("squeeze dim", lambda m: ones(m, 2).squeeze(3), I, "Dimension out of range"),
    ("transpose dim", lambda m: ones(m, 2, 3).transpose(0, 2), I, "Dimension out of range"),
    ("cat dim", lambda m: m.cat([ones(m, 2)], 1), I, "Dimension out of range"),
    # --- nothing to reduce
    ("max of nothing", lambda m: ones(m, 0).max(), F, "(?i)specify the reduction dim|empty|numel"),
    ("argmax of nothing", lambda m: ones(m, 0).argmax(), (I, F), "(?i)empty|non-zero|specify"),
    ("amax of nothing", lambda m: ones(m, 2, 0).amax(1), (I, F), "(?i)non-zero|identity|empty"),
    ("item of nothing", lambda m: ones(m, 0).item(), F, "0 elements cannot be converted"),
    # --- dtypes
    ("sqrt_ of integers", lambda m: ones(m, 2, dtype="int64").sqrt_(), F, "can't be cast"),
    ("add_ of floats", lambda m: ones(m, 2, dtype="int64").add_(1.5), F, "can't be cast"),
    ("neg of bool", lambda m: -ones(m, 2, dtype="bool"), F, "(?i)bool"),
    ("sub of bool", lambda m: ones(m, 2, dtype="bool") - ones(m, 2, dtype="bool"), F, "(?i)bool"),
    ("mean of integers", lambda m: ones(m, 2, dtype="int64").mean(), F, "(?i)float.*(long|int64)"),
    ("bitwise of floats", lambda m: ones(m, 2) & ones(m, 2), (F, N), "(?i)float|bitwise"),
    ("mm dtypes", lambda m: m.mm(ones(m, 2, 2), ones(m, 2, 2, dtype="float64")), F, "type"),
    ("dot dtypes", lambda m: m.dot(ones(m, 2), ones(m, 2, dtype="float64")), F, "type"),
    ("complex order", lambda m: ones(m, 2, dtype="complex64") < 1, (F, N), "(?i)complex"),
    ("out dtype", lambda m: m.add(ones(m, 2), 1.5, out=ones(m, 2, dtype="int32")), F,
     "can't be cast"),
    ("index dtype", lambda m: m.index_select(ones(m, 2), 0, ones(m, 1)), F, "(?i)int32|int64|long"),
    ("masked_fill dtype", lambda m: ones(m, 2).masked_fill(ones(m, 2), 1.0), F, "(?i)bool"),
    ("lerp dtypes", lambda m: m.lerp(ones(m, 2), ones(m, 2, dtype="float64"), 0.5), F, "dtype"),
    ("grad of integers", lambda m: ones(m, 2, dtype="int64").requires_grad_(), F, "floating point"),
    ("softmax of integers", lambda m: m.softmax(ones(m, 2, dtype="int64"), 0), (F, N), "not impl"),
    # --- numbers and sizes
    ("negative size", lambda m: m.empty(2, -1), F, "negative dimension -1"),
    ("overflow", lambda m: m.empty(1 << 40, 1 << 40), F, "overflow"),
    ("eye", lambda m: m.eye(-1), F, "-1"),
    ("arange", lambda m: m.arange(0, 5, 0), F, "nonzero"),
    ("arange direction", lambda m: m.arange(5, 0), F, "upper bound"),
    ("randint", lambda m: m.randint(5, 5, (2,)), F, "from|low|high"),
    ("randperm", lambda m: m.randperm(-1), F, "-1|non-negative"),
    ("bernoulli", lambda m: m.bernoulli(m.full((2,), 1.5)), F, "p_in|to be in"),
    ("dropout", lambda m: nnf(m).dropout(ones(m, 2), 1.5), V, "between 0 and 1"),
    ("normal", lambda m: m.normal(0.0, -1.0, (2,)), F, "std"),
    ("integer powers", lambda m: m.tensor([2]) ** -1, F, "[Ii]ntegers to negative integer powers"),
    ("integer division", lambda m: m.tensor([1]) // m.tensor([0]), F, "ZeroDivisionError"),
    ("clamp nothing", lambda m: m.clamp(ones(m, 2)), (F, V), "min.*max|At least one"),
    ("unfold", lambda m: ones(m, 3).unfold(0, 4, 1), F, "4"),
    ("as_strided", lambda m: ones(m, 3).as_strided((4,), (1,)), F, "out of bounds"),
    ("repeat", lambda m: ones(m, 2, 3).repeat(2), F, "dimensions"),
    ("roll", lambda m: ones(m, 2, 3).roll((1, 2), (0,)), F, "(?i)shifts|align"),
    ("flip twice", lambda m: ones(m, 2, 3).flip(0, 0), F, "multiple"),
    ("pad mode", lambda m: nnf(m).pad(ones(m, 1, 1, 3), (3, 0), mode="reflect"), F, "less than"),
    ("singular", lambda m: m.linalg.inv(m.zeros(2, 2)), F, "singular"),
    ("not square", lambda m: m.linalg.inv(ones(m, 2, 3)), F, "square"),
    # --- overlap
    ("expanded", lambda m: ones(m, 1).expand(3).add_(1), F, "single memory location"),
    ("overlapping out", lambda m: _shifted(m), F, "single memory location"),
    # --- arguments
    ("not a tensor", lambda m: m.exp([1.0]), TypeError, "must be Tensor, not list"),
    ("missing argument", lambda m: m.add(ones(m, 2)), TypeError, ""),
    ("unknown keyword", lambda m: m.add(ones(m, 2), 1, beta=2), TypeError, "beta"),
    ("float dim", lambda m: ones(m, 2).sum(0.5), TypeError, "dim"),
    ("rounding mode", lambda m: m.div(ones(m, 2), 2, rounding_mode="up"), F, "up"),
]
IDS = [line[0] for line in LINES]


def _shifted(m):
    x = m.arange(5.0)
    return m.add(x[:4], 1, out=x[1:])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("call, error, words", [line[1:] for line in LINES], ids=IDS)
def test_refused(call, error, words):
    with pytest.raises(error, match=words):
        call(ntorch)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("call", [line[1] for line in LINES], ids=IDS)
def test_same_type_as_torch(call):
    torch = pytest.importorskip("torch")
    with pytest.raises(Exception) as theirs:
        call(torch)
    with pytest.raises(Exception) as ours:
        call(ntorch)
    kinds = (RuntimeError, IndexError, ValueError, TypeError, NotImplementedError)
    wanted = next(k for k in reversed(kinds) if isinstance(theirs.value, k))
    assert isinstance(ours.value, wanted), (ours.value, theirs.value)


DEVICES = [
    lambda cpu, meta: cpu + meta, lambda cpu, meta: ntorch.mm(cpu, meta),
    lambda cpu, meta: ntorch.cat([cpu, meta]), lambda cpu, meta: ntorch.where(cpu > 0, cpu, meta),
    lambda cpu, meta: ntorch.nn.functional.linear(cpu, meta),
    lambda cpu, meta: ntorch.add(cpu, 1, out=meta)]


@pytest.mark.parametrize("call", DEVICES, ids=range(len(DEVICES)))
def test_devices_that_differ(call):
    with pytest.raises((RuntimeError, NotImplementedError), match="(?i)device|meta"):
        call(ntorch.ones(2, 2), ntorch.ones(2, 2, device="meta"))


BAD = ntorch.tensor([0, 9])
HALF_WRITTEN = {
    "index_add_": lambda x: x.index_add_(0, BAD, ntorch.ones(2, 2)),
    "index_copy_": lambda x: x.index_copy_(0, BAD, ntorch.ones(2, 2)),
    "index_fill_": lambda x: x.index_fill_(0, BAD, 1.0),
    "scatter_": lambda x: x.scatter_(0, BAD.view(2, 1), 1.0),
    "scatter_add_": lambda x: x.scatter_add_(0, BAD.view(2, 1), ntorch.ones(2, 1)),
    "setitem": lambda x: x.__setitem__(BAD, 1.0),
    "index_put_": lambda x: x.index_put_((BAD,), ntorch.ones(2, 2), accumulate=True),
    "put_": lambda x: x.put_(ntorch.tensor([0, 99]), ntorch.ones(2)),
    "masked_scatter_": lambda x: x.masked_scatter_(
        ntorch.ones(3, 2, dtype=ntorch.bool), ntorch.ones(2)),
    "add_": lambda x: x.add_(ntorch.ones(2, 3)),
    "copy_": lambda x: x.copy_(ntorch.ones(4, 2)),
    "out=": lambda x: ntorch.index_select(ntorch.ones(3, 2), 0, BAD, out=x),
    "gather out=": lambda x: ntorch.gather(ntorch.ones(3, 2), 0, BAD.view(2, 1), out=x),
    "take out=": lambda x: ntorch.take(ntorch.ones(3), BAD, out=x),
    "mm out=": lambda x: ntorch.mm(ntorch.ones(3, 2), ntorch.ones(3, 2), out=x),
}


@pytest.mark.parametrize("name", HALF_WRITTEN)
def test_nothing_is_half_written(name):
    x = ntorch.full((3, 2), 5.0)
    with pytest.raises((RuntimeError, IndexError)):
        HALF_WRITTEN[name](x)
    assert x.shape == (3, 2)
    np.testing.assert_array_equal(x.numpy(), np.full((3, 2), 5.0, np.float32))


def test_the_message_names_the_op():
    for call, name in ((lambda: ntorch.exp([1.0]), "exp"), (lambda: ntorch.mm(1, 2), "mm"),
                       (lambda: ntorch.sum("x"), "sum")):
        with pytest.raises(TypeError, match=rf"{name}\(\).*must be"):
            call()
