"""Losses over classes: nll_loss, cross_entropy, multi-class and multi-label margins.

Losses between tensors of one shape are in ``loss_pointwise.py``, those of distances in
``loss_distance.py``.
"""
from ...kernels import loss as kernels
from ...runtime import dtypes, recording
from .. import rowwise
from ..base import empty, make, product
from ..composite import overloaded
from ..dtype_rules import _scalar_name
from ..host_tables import numpy_view
from ..losses import reduced, reduction_name
from ..registry import ops
from ..structured import as_dtype, compute_dtype, contiguous, run, structured, zeros
from ..windows import check_indices, computed, flags, grain, parameter, reshaped

BLOCK = 1024        # targets in one partial sum


def _flat(target, batch):
    """Targets as (batch, positions), int64 and row-major."""
    if target.dtype not in (dtypes.int64, dtypes.uint8):
        raise RuntimeError(f"expected scalar type Long but found {target.dtype}: class targets "
                           "must be int64")
    row = contiguous(as_dtype(target, dtypes.int64))
    return reshaped(row, (batch, product(row._shape) // batch if batch else 0))


def _no_class(target, classes, ignore_index):
    raise IndexError(f"Target {target} is out of bounds: expected a class in [0, {classes}) or "
                     f"ignore_index {ignore_index}.")


def _noting(launch, classes, ignore_index):
    """Call ``launch(bad)``, whose kernel notes in ``bad`` a target that is no class: IndexError.

    While a program is recorded the IndexError comes when the program runs.
    """
    def fail(words):
        _no_class(words[1], classes, ignore_index)
    recorder = recording.current() if recording.active else None
    if recorder is None:
        bad, words = flags(2)
        launch(bad)
        if words[0]:
            fail(words)
        return
    bad, found = zeros((2,), dtypes.int64), empty((1,), dtypes.int64)
    launch(bad)
    run(kernels.was_noted, [("C", bad), ("C", found)], n=1, grain=1)
    recorder.check("class", found, lambda _, bad: fail(numpy_view(bad)), (bad,))


def _nll_arrays(x, target, weight, ignore_index):
    batch, classes = x._shape[:2]
    index = _flat(target, batch)
    return index, [("C", reshaped(x, (batch, classes, index._shape[1]))), ("C", index),
                   ("C", parameter(weight, x)), ("i", ignore_index)]


def _checked_classes(x, target, weight, ignore_index):
    """The classes of a recorded program, which looks for wrong ones when it runs."""
    index, classes = _flat(target, x._shape[0]), x._shape[1]
    row, found = reshaped(index, (product(index._shape),)), empty((1,), dtypes.int64)
    run(kernels.find_no_class, [("C", row), ("i", classes), ("i", ignore_index), ("C", found)],
        n=1, grain=1)
    recording.current().check(
        "class", found, lambda place, row: _no_class(numpy_view(row)[place], classes, ignore_index),
        (row,))
    return rowwise.Classes(index, classes, x.dtype, weight, ignore_index)


@structured("_nll_pick(Tensor self, Tensor target, Tensor? weight, int ignore_index) -> Tensor",
            method=False)
def _nll_pick(self, target, weight, ignore_index):
    """``-weight[t] * self[n, t, ...]`` per target t, 0 where ignored.

    ``self`` (N, C, ...), ``target`` (N, ...) int64; ``weight`` (C,).
    """
    x = computed(self)
    if rowwise.takes_classes(x._shape, x.dtype):
        picked = _checked_classes(x, target, weight, ignore_index).pick(x)
        return as_dtype(reshaped(picked, target._shape), self.dtype)
    index, arrays = _nll_arrays(x, target, weight, ignore_index)
    out = empty(target._shape, x.dtype, x._storage.device)
    _noting(lambda bad: run(
        kernels.pick_classes, [*arrays, ("C", reshaped(out, index._shape)), ("C", bad)],
        n=index._shape[0], grain=grain(4 * index._shape[1])), x._shape[1], ignore_index)
    return as_dtype(out, self.dtype)


@_nll_pick.gradient("self")
def _(grad, self, target, weight, ignore_index):
    return ops._nll_place(grad, target, weight, self.shape[1], ignore_index)


@structured("_nll_total(Tensor self, Tensor target, Tensor? weight, int ignore_index, bool mean) "
            "-> (Tensor, Tensor)", method=False)
def _nll_total(self, target, weight, ignore_index, mean):
    """The sum of ``_nll_pick``, over the sum of the weights used if ``mean``; and that sum."""
    x = computed(self)
    if rowwise.takes_classes(x._shape, x.dtype):
        classes = _checked_classes(x, target, weight, ignore_index)
        loss, total = ops.sum(classes.pick(x)), ops.sum(classes.weights())
        return (as_dtype(ops.div(loss, total) if mean else loss, self.dtype),
                as_dtype(total, self.dtype))
    index, arrays = _nll_arrays(x, target, weight, ignore_index)
    block = max(1, BLOCK // max(1, index._shape[1]))
    blocks = -(-index._shape[0] // block)
    partial = empty((blocks, 2), x.dtype, x._storage.device)
    both = empty((2,), x.dtype, x._storage.device)
    _noting(lambda bad: run(
        kernels.sum_classes, [*arrays, ("i", block), ("C", partial), ("C", bad)], n=blocks,
        grain=grain(8 * BLOCK)), x._shape[1], ignore_index)
    run(kernels.finish_sum, [("C", partial), ("i", mean), ("C", both)], n=1, grain=1)
    both = as_dtype(both, self.dtype)
    return tuple(make(both._storage, both.dtype, (), (), both._offset + k) for k in range(2))


@_nll_total.gradient("self")
def _(grad0, self, target, weight, ignore_index, mean, result1):
    share = grad0 / result1.detach() if mean else grad0
    return ops._nll_place(ops.expand(share, target.shape), target, weight, self.shape[1],
                          ignore_index)


@structured("_nll_place(Tensor grad_output, Tensor target, Tensor? weight, int classes, "
            "int ignore_index) -> Tensor", method=False)
def _nll_place(grad_output, target, weight, classes, ignore_index):
    """The adjoint of ``_nll_pick``: zeros but for ``-weight[t] * grad`` at each target."""
    g = as_dtype(grad_output, compute_dtype(grad_output))
    shape = g._shape
    batch = shape[0]
    index = _flat(target, batch)
    positions = index._shape[1]
    if any(g._strides):
        g = reshaped(contiguous(g), index._shape)
    else:                           # one number for all, as a mean hands it down
        g = make(g._storage, g.dtype, index._shape, (0, 0), g._offset)
    whole = (batch, classes, *shape[1:])
    if rowwise.takes_classes(whole, g.dtype):
        placed = rowwise.Classes(index, classes, g.dtype, weight, ignore_index).place(g)
        return as_dtype(reshaped(placed, whole), grad_output.dtype)
    out = empty(whole, g.dtype, g._storage.device)
    run(kernels.place_classes,
        [("A", g), ("C", index), ("C", parameter(weight, g)), ("i", ignore_index),
         ("C", reshaped(out, (batch, classes, positions)))],
        n=batch, grain=grain(classes * positions))
    return as_dtype(out, grad_output.dtype)


@_nll_place.gradient("grad_output")
def _(grad, target, weight, ignore_index):
    return ops._nll_pick(grad, target, weight, ignore_index)


def _check_nll(input, target, weight):
    """The shapes of nll_loss; ValueError and RuntimeError in torch's words."""
    shape, wanted = input._shape, target._shape
    if len(shape) < 1:
        raise ValueError(f"Expected 1 or more dimensions (got {len(shape)})")
    if len(shape) != 1 and (not wanted or shape[0] != wanted[0]):
        raise ValueError(f"Expected input batch_size ({shape[0]}) to match target batch_size "
                         f"({wanted[0] if wanted else 'none'}).")
    if len(shape) <= 2 and len(wanted) > 1:
        raise RuntimeError(f"0D or 1D target tensor expected, multi-target not supported: got "
                           f"{list(wanted)} for an input of {list(shape)}")
    expected = (shape[0], *shape[2:]) if len(shape) > 1 else ()
    if tuple(wanted) != expected and not (len(shape) == 1 and tuple(wanted) == (1,)):
        raise RuntimeError(f"nll_loss: expected target size {list(expected)}, got {list(wanted)}")
    classes = shape[1] if len(shape) > 1 else shape[0]
    if weight is not None and tuple(weight._shape) != (classes,):
        raise RuntimeError(f"weight tensor should be defined either for all {classes} classes or "
                           f"no classes but got weight tensor of shape: {list(weight._shape)}")
    if weight is not None and weight.dtype is not input.dtype:
        raise RuntimeError(f"expected scalar type {_scalar_name(input.dtype)} but found "
                           f"{_scalar_name(weight.dtype)}: the weight must have the input's type")
    if not input.dtype.is_floating_point:
        raise NotImplementedError(f"\"nll_loss\" not implemented for '{input.dtype}': expected "
                                  "floating point log-probabilities")


def _nll(input, target, weight, ignore_index, reduction):
    _check_nll(input, target, weight)
    unbatched = len(input._shape) == 1
    if unbatched:
        shape = target._shape
        input, target = ops.unsqueeze(input, 0), ops.reshape(target, (1,))
    if reduction != "none":
        return ops._nll_total(input, target, weight, ignore_index, reduction == "mean")[0]
    loss = ops._nll_pick(input, target, weight, ignore_index)
    return ops.reshape(loss, shape) if unbatched else loss


@overloaded("nll_loss", namespace="nn.functional", method=False)
def nll_loss(input, target, weight=None, size_average=None, ignore_index=-100, reduce=None,
             reduction="mean"):
    """``-weight[t] * input[n, t]`` for each target class t: the negative log-likelihood.

    Args:
        input: log-probabilities, (C), (N, C) or (N, C, d1, ...), floating point.
        target: classes in [0, C), int64, of the input's shape without C.
        weight: a weight per class, (C).
        ignore_index: targets with this value count for nothing.
        reduction: ``"mean"`` is over the sum of the weights used.

    IndexError for a target that is no class, ValueError or RuntimeError for shapes that do not fit.
    """
    return _nll(input, target, weight, ignore_index,
                reduction_name(reduction, size_average, reduce))


def _probability_loss(input, target, weight, reduction, label_smoothing):
    """Cross entropy with a probability for each class."""
    if not target.dtype.is_floating_point:
        raise RuntimeError("Expected floating point type for target with class probabilities, got "
                           f"{target.dtype}")
    dim = 0 if len(input._shape) == 1 else 1
    classes = input._shape[dim]
    log_p = ops.log_softmax(input, dim)
    if label_smoothing > 0:
        target = target * (1 - label_smoothing) + label_smoothing / classes
    loss = log_p * target
    if weight is not None:
        loss = loss * ops.reshape(weight, (-1, *(1,) * (len(input._shape) - dim - 1)))
    if reduction == "none":
        return -ops.sum(loss, dim)
    total = -ops.sum(loss)
    count = product(input._shape) / classes if product(input._shape) else 0.0
    return total / count if reduction == "mean" else total


def _smoothed_loss(input, target, weight, ignore_index, reduction, label_smoothing):
    """Cross entropy with classes, each sharing ``label_smoothing`` with all others."""
    dim = 0 if len(input._shape) == 1 else 1
    log_p = ops.log_softmax(input, dim)
    nll = _nll(log_p, target, weight, ignore_index, reduction)
    ignored = ops.eq(target, ignore_index)
    spread = log_p if weight is None else \
        log_p * ops.reshape(weight, (-1, *(1,) * (len(input._shape) - dim - 1)))
    smooth = ops.masked_fill(-ops.sum(spread, dim), ignored, 0.0)
    if reduction == "mean":
        if weight is None:
            count = ops.sum(ops.logical_not(ignored))
        else:
            used = ops.masked_fill(target, ignored, 0)
            factors = ops.index_select(weight, 0, ops.reshape(used, (-1,)))
            count = ops.sum(ops.masked_fill(factors, ops.reshape(ignored, (-1,)), 0.0))
        smooth = ops.sum(smooth) / count
    elif reduction == "sum":
        smooth = ops.sum(smooth)
    classes = input._shape[dim]
    return nll * (1 - label_smoothing) + smooth * (label_smoothing / classes)


@overloaded("cross_entropy", namespace="nn.functional", method=False)
def cross_entropy(input, target, weight=None, size_average=None, ignore_index=-100, reduce=None,
                  reduction="mean", label_smoothing=0.0):
    """``-sum_c q_c log(softmax(input)_c)``: cross entropy of logits and classes or probabilities.

    Args:
        input: logits, (C), (N, C) or (N, C, d1, ...), floating point.
        target: classes, int64, of the input's shape without C; or probabilities of its shape.
        weight: a weight per class, (C).
        ignore_index: target classes with this value count for nothing.
        label_smoothing: the share in [0, 1] that is spread evenly over the classes.

    IndexError for a target that is no class, RuntimeError for other arguments that do not fit.
    """
    reduction = reduction_name(reduction, size_average, reduce)
    if not 0.0 <= label_smoothing <= 1.0:
        raise RuntimeError("label_smoothing must be between 0.0 and 1.0. Got: "
                           f"{label_smoothing}")
    if input._shape == target._shape and input._shape:
        if ignore_index >= 0:
            raise RuntimeError("ignore_index is not supported for floating point target, got "
                               f"{ignore_index}")
        if weight is not None and tuple(weight._shape) != (
                input._shape[0 if len(input._shape) == 1 else 1],):
            raise RuntimeError("cross_entropy: weight tensor should be defined either for all "
                               f"classes or no classes but got {list(weight._shape)}")
        return _probability_loss(input, target, weight, reduction, label_smoothing)
    if label_smoothing > 0.0:
        return _smoothed_loss(input, target, weight, ignore_index, reduction, label_smoothing)
    dim = 0 if len(input._shape) <= 1 else 1
    return _nll(ops.log_softmax(input, dim), target, weight, ignore_index, reduction)


@overloaded("multi_margin_loss", namespace="nn.functional", method=False)
def multi_margin_loss(input, target, p=1, margin=1.0, weight=None, size_average=None, reduce=None,
                      reduction="mean"):
    """``sum_i max(0, weight[t] * (margin - x[t] + x[i])) ** p / C`` over classes i other than t.

    ``input`` (N, C) or (C), ``target`` (N) or () int64; p is 1 or 2 and the weight is raised to 1.
    ValueError for another p, IndexError for a target that is no class, else RuntimeError.
    """
    reduction = reduction_name(reduction, size_average, reduce)
    if p not in (1, 2):
        raise ValueError(f"only p == 1 and p == 2 supported, got {p}")
    shape = input._shape
    if weight is not None and len(weight._shape) != 1:
        raise ValueError(f"weight must be one-dimensional, got {list(weight._shape)}")
    batch = shape[0] if len(shape) == 2 else 1
    if len(shape) > 2 or 0 in shape[-1:]:
        raise RuntimeError("Expected non-empty vector or matrix with optional 0-dim batch size, "
                           f"but got: {list(shape)}")
    if len(target._shape) > 1 or product(target._shape) != batch:
        raise RuntimeError(f"inconsistent target size, expected {[batch]} but got "
                           f"{list(target._shape)}")
    classes = shape[-1] if shape else 1
    if weight is not None and weight._shape[0] != classes:
        raise RuntimeError(f"inconsistent weight size, expected {classes} but got "
                           f"{list(weight._shape)}")
    if target.dtype is not dtypes.int64:
        raise RuntimeError(f"expected scalar type Long but found {target.dtype}")
    x, t = ops.reshape(input, (batch, classes)), ops.reshape(target, (batch, 1))
    check_indices(contiguous(t), classes, lambda wrong: RuntimeError(
        f"target out of range: expected a class in [0, {classes}), got {wrong}"))
    violation = ops.clamp_min(margin - ops.gather(x, 1, t) + x, 0.0)
    if p == 2:
        violation = violation * violation
    if weight is not None:
        violation = violation * ops.reshape(ops.index_select(weight, 0, ops.reshape(t, (-1,))),
                                            (-1, 1))
    own = ops.eq(ops.arange(classes, device=input.device), t)
    loss = ops.sum(ops.masked_fill(violation, own, 0.0), 1) / classes
    return reduced(ops.reshape(loss, target._shape), reduction)


@structured("_multilabel_margin(Tensor self, Tensor target) -> (Tensor, Tensor)", method=False)
def _multilabel_margin(self, target):
    """The loss of each row of ``self`` (N, C) and which classes are targets."""
    x, index = computed(self), contiguous(target)
    batch = x._shape[0]
    out = empty((batch,), x.dtype, x._storage.device)
    marks = empty(x._shape, x.dtype, x._storage.device)
    run(kernels.multilabel_margins, [("C", x), ("C", index), ("C", out), ("C", marks)],
        n=batch, grain=grain(x._shape[1] ** 2))
    return as_dtype(out, self.dtype), marks


@_multilabel_margin.gradient("self")
def _(grad0, self, target, result1):
    return ops._multilabel_margin_backward(grad0, self, target, result1.detach())


@structured("_multilabel_margin_backward(Tensor grad_output, Tensor self, Tensor target, "
            "Tensor marks) -> Tensor", method=False)
def _multilabel_margin_backward(grad_output, self, target, marks):
    """The gradient of ``_multilabel_margin``: counts of violated margins times ``grad / C``."""
    x = computed(self)
    gx = empty(x._shape, x.dtype, x._storage.device)
    run(kernels.multilabel_margins_gradient,
        [("C", as_dtype(computed(grad_output), x.dtype)), ("C", x), ("C", contiguous(target)),
         ("C", marks), ("C", gx)], n=x._shape[0], grain=grain(x._shape[1] ** 2))
    return as_dtype(gx, self.dtype)


@_multilabel_margin_backward.gradient("grad_output")
def _(grad, grad_output, self, target, marks):
    unit = ops._multilabel_margin_backward(ops.ones_like(grad_output), self, target, marks)
    return ops.sum(grad * unit, 1)


@_multilabel_margin_backward.gradient("self")
def _(grad):
    return ops.zeros_like(grad)     # the gradient is piecewise constant


@overloaded("multilabel_margin_loss", namespace="nn.functional", method=False)
def multilabel_margin_loss(input, target, size_average=None, reduce=None, reduction="mean"):
    """``sum_ij max(0, 1 - (x[t_j] - x[i])) / C`` over targets t_j and classes i that are none.

    ``input`` and ``target`` (int64) (N, C) or (C); the targets of a row end at its first -1.
    RuntimeError for shapes that do not fit and targets that are no class.
    """
    reduction = reduction_name(reduction, size_average, reduce)
    shape = input._shape
    if len(shape) > 2 or 0 in shape[-1:]:
        raise RuntimeError("Expected non-empty vector or matrix with optional 0-dim batch size, "
                           f"but got: {list(shape)}")
    if product(target._shape) != product(shape) or len(target._shape) > 2:
        raise RuntimeError(f"inconsistent target size: {list(target._shape)} for input of size: "
                           f"{list(shape)}")
    if target.dtype is not dtypes.int64:
        raise RuntimeError(f"expected scalar type Long but found {target.dtype}")
    classes = shape[-1] if shape else 1
    batch = shape[0] if len(shape) == 2 else 1
    rows = ops.reshape(target, (batch, classes))
    check_indices(contiguous(rows + 1), classes + 1, lambda wrong: RuntimeError(
        f"argument #2 'target' is out of range: expected a class in [0, {classes}) or -1, got "
        f"{wrong - 1}"))
    loss, _ = ops._multilabel_margin(ops.reshape(input, (batch, classes)), rows)
    return reduced(loss if len(shape) == 2 else ops.reshape(loss, ()), reduction)
