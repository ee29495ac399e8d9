"""Connectionist temporal classification (Graves, Fernandez, Gomez, Schmidhuber, ICML 2006)."""
import operator

from ...kernels import ctc as kernels
from ...kernels import ctc_log as logs
from ...runtime import dtypes, recording
from ...runtime.device import META
from ..base import TensorBase, numel
from ..composite import overloaded
from ..dtype_rules import _scalar_name
from ..grids import demand
from ..host_tables import int_table, numpy_view
from ..registry import ops
from ..structured import as_dtype, contiguous, empty, run, structured

_CHECKING = "(while checking arguments for ctc_loss_allocate_outputs)"
_REDUCTIONS = {0: "none", 1: "mean", 2: "sum"}
_WORK = 1 << 15         # states and classes worth one task: some ten microseconds


def _check_range(name, lengths, most):
    for value in lengths:
        if value < 0:
            raise RuntimeError(f"Expected {name} to have value at least 0, but got value {value} "
                               + _CHECKING)
        if most is not None and value > most:
            raise RuntimeError(f"Expected {name} to have value at most {most}, but got value "
                               f"{value} {_CHECKING}")


def _check_log_probs(log_probs, blank):
    if len(log_probs._shape) != 3:
        raise RuntimeError(
            f"Expected 3-dimensional tensor, but got {len(log_probs._shape)}-dimensional tensor "
            f"for argument #1 'log_probs' {_CHECKING}")
    if 0 in log_probs._shape:
        raise RuntimeError(f"log_probs tensor must not be empty, got {list(log_probs._shape)}")
    if log_probs.dtype not in (dtypes.float32, dtypes.float64):
        raise NotImplementedError(
            f"\"ctc_loss_cpu\" not implemented for '{_scalar_name(log_probs.dtype)}': log_probs "
            "must be float32 or float64")
    if not 0 <= blank < log_probs._shape[2]:
        raise RuntimeError(f"blank must be in label range: expected 0 <= blank < "
                           f"{log_probs._shape[2]}, got {blank}")


def _check_sizes(targets, input_lengths, target_lengths, batch):
    """RuntimeError if the shapes of targets and lengths do not go with ``batch`` samples."""
    for name, lengths in (("input_lengths", input_lengths), ("target_lengths", target_lengths)):
        if lengths._shape != (batch,):
            raise RuntimeError(f"{name} must be of size batch_size: expected {batch} lengths, one "
                               f"per sample of log_probs, got {numel(lengths)}")
    shape = targets._shape
    if not 1 <= len(shape) <= 2:
        raise RuntimeError(f"Expected 1 to 2 dimensions, but got {len(shape)}-dimensional tensor "
                           f"for argument #2 'targets' {_CHECKING}")
    if len(shape) == 2 and shape[0] != batch:
        raise RuntimeError(f"Expected tensor to have size {batch} at dimension 0, but got size "
                           f"{shape[0]} for argument #2 'targets' {_CHECKING}")


def _raise_bad_length(spans, steps, targets_shape):
    """RuntimeError that says what is wrong with the lengths in ``spans``."""
    _, target_lengths, input_lengths = numpy_view(spans).T.tolist()
    _check_range("input_lengths", input_lengths, steps)
    _check_range("target_lengths", target_lengths, None)
    if len(targets_shape) == 1:
        raise RuntimeError(f"Expected tensor to have size {sum(target_lengths)} at dimension 0, "
                           f"but got size {targets_shape[0]} for argument #2 'targets' "
                           + _CHECKING)
    raise RuntimeError(f"Expected tensor to have size at least {max(target_lengths)} at dimension "
                       f"1, but got size {targets_shape[1]} for argument #2 'targets' {_CHECKING}")


def _flat_targets(targets):
    """The targets as one row of int64."""
    targets = contiguous(as_dtype(targets, dtypes.int64))
    return targets if len(targets._shape) == 1 else ops.reshape(targets, (-1,))


def _spans(targets, input_lengths, target_lengths, steps):
    """The kernels' table of (offset, target length, input length) per sample, and an int64 that is
    not negative if a length is out of range."""
    shape = targets._shape
    spans, found = empty((target_lengths._shape[0], 3), dtypes.int64), empty((1,), dtypes.int64)
    width, total = (shape[1], 0) if len(shape) == 2 else (-1, shape[0])
    run(kernels.make_spans, [("C", contiguous(as_dtype(input_lengths, dtypes.int64))),
                             ("C", contiguous(as_dtype(target_lengths, dtypes.int64))),
                             ("i", steps), ("i", width), ("i", total), ("C", spans), ("C", found)],
        n=1, grain=1)
    return spans, found


def _recorded():
    return recording.active and recording.current() is not None


def _room(targets, spans, steps):
    """States of the longest target, the blanks among them, with which it fits ``steps`` steps.

    Lengths are unknown while a program is recorded; the targets' shape bounds them.
    """
    known = not _recorded() and spans._storage.device is not META
    longest = int(numpy_view(spans)[:, 1].max()) if known else targets._shape[-1]
    return min(longest, steps) + 1


def _raise_bad_target(bad, targets, spans, classes):
    """RuntimeError that names a wrong label of the sample ``bad``, the first that has one."""
    offset, length, _ = numpy_view(spans)[bad]
    labels = numpy_view(targets)[offset:offset + length]
    wrong = int(labels[(labels < 0) | (labels >= classes)][0])
    raise RuntimeError(f"ctc_loss: expected every target to be a class in [0, {classes}), got "
                       f"{wrong} in sample {bad}; padding belongs outside its target length")


def _unsure(status):
    """Whether samples are left to the kernels in logarithms; yes while a program is recorded, for
    those kernels pass over samples that are done."""
    return _recorded() or kernels.UNCERTAIN in numpy_view(status)


def _grain(steps, states):
    return max(1, _WORK // max(1, steps * states))


@structured("_ctc_loss(Tensor log_probs, Tensor targets, Tensor input_lengths, "
            "Tensor target_lengths, int blank=0, bool zero_infinity=False) -> (Tensor, Tensor)",
            method=False)
def _ctc_loss(log_probs, targets, input_lengths, target_lengths, blank, zero_infinity):
    """``-log p(target)`` per sample, shape (N), and the forward variables that the gradient needs.

    ``log_probs`` (T, N, C), float32 or float64; ``targets`` (N, S) or concatenated (sum of
    lengths); lengths (N), integral. The forward variables are scaled probabilities in float64 (see
    ``kernels/ctc.py``).
    """
    _check_log_probs(log_probs, blank)
    steps, batch, classes = log_probs._shape
    _check_sizes(targets, input_lengths, target_lengths, batch)
    spans, wrong = _spans(targets, input_lengths, target_lengths, steps)
    shape = targets._shape
    demand("length", wrong, lambda _, real: _raise_bad_length(real, steps, shape), spans)
    device, states = log_probs._storage.device, _room(targets, spans, steps)
    losses = empty((batch,), log_probs.dtype, device)
    alpha = empty((batch, steps, 2 * states), dtypes.float64, device)
    if device is META:
        return losses, alpha
    flat = _flat_targets(targets)
    status = empty((batch,), dtypes.int64)
    scratch = empty((batch, 4 * states), dtypes.float64)
    arguments = [("C", contiguous(log_probs)), ("C", flat), ("C", spans), ("i", blank),
                 ("C", alpha), ("C", losses), ("C", status), ("C", scratch)]
    options = dict(n=batch, grain=_grain(steps, 2 * states), T="f8", reassoc=True)
    run(kernels.forward, arguments, **options)
    bad = empty((1,), dtypes.int64)
    run(kernels.first_bad, [("C", status), ("C", bad)], n=1, grain=1)
    demand("label", bad, lambda place, *real: _raise_bad_target(place, *real, classes), flat, spans)
    if _unsure(status):
        run(logs.forward_in_logs, arguments, **options)
    return losses, alpha


@_ctc_loss.gradient("log_probs")
def _(grad0, log_probs, targets, input_lengths, target_lengths, blank, zero_infinity, result0,
      result1):
    return ops._ctc_loss_backward(grad0, log_probs, targets, input_lengths, target_lengths, result0,
                                  result1, blank, zero_infinity)


@structured("_ctc_loss_backward(Tensor grad, Tensor log_probs, Tensor targets, "
            "Tensor input_lengths, Tensor target_lengths, Tensor neg_log_likelihood, "
            "Tensor log_alpha, int blank, bool zero_infinity=False) -> Tensor", method=False)
def _ctc_loss_backward(grad, log_probs, targets, input_lengths, target_lengths, neg_log_likelihood,
                       log_alpha, blank, zero_infinity):
    """``(exp(log_probs) - occupancy) * grad``: the gradient of the loss after log_softmax.

    Occupancy (T, N, C) is the posterior probability of each class at each step, given the target.
    """
    steps, batch, classes = log_probs._shape
    spans, _ = _spans(targets, input_lengths, target_lengths, steps)
    result = empty(log_probs._shape, log_probs.dtype, log_probs._storage.device)
    room = log_alpha._shape[2] // 2
    if result._storage.device is META:
        return result
    scratch = empty((batch, classes + 8 * room), dtypes.float64)
    status = empty((batch,), dtypes.int64)
    shared = [("C", contiguous(log_probs)), ("C", _flat_targets(targets)), ("C", spans),
              ("i", blank)]
    end = [("C", contiguous(grad)), ("C", result), ("C", status), ("C", scratch)]
    options = dict(n=batch, grain=_grain(steps, 2 * room + classes), T="f8", reassoc=True)
    run(kernels.backward, [*shared, ("i", zero_infinity), ("C", log_alpha),
                           ("C", neg_log_likelihood), *end], **options)
    if _unsure(status):
        run(logs.backward_in_logs, [*shared, ("C", log_alpha), *end], **options)
    return result


@_ctc_loss_backward.gradient("grad", "log_probs")
def _(grad):
    raise RuntimeError("derivative for aten::_ctc_loss_backward is not implemented: ctc_loss can "
                       "be differentiated once; leave out the second backward")


def _lengths(name, lengths):
    """Lengths given as a tensor or a sequence, as a tensor of one dimension."""
    if isinstance(lengths, TensorBase):
        if lengths.dtype.category not in (dtypes.INT, dtypes.BOOL):
            raise RuntimeError(f"{name} must be integral, got a tensor of {lengths.dtype}")
        return ops.reshape(lengths, (1,)) if not lengths._shape else lengths
    values = (lengths,) if isinstance(lengths, int) else tuple(lengths)
    return int_table([operator.index(value) for value in values])


def _reduction(reduction):
    reduction = _REDUCTIONS.get(reduction, reduction)
    if reduction not in _REDUCTIONS.values():
        raise ValueError(f"{reduction} is not a valid value for reduction: expected 'none', 'mean' "
                         "or 'sum'")
    return reduction


@overloaded("ctc_loss", method=False, fuse=False)
def ctc_loss(log_probs, targets, input_lengths, target_lengths, blank=0, reduction=1,
             zero_infinity=False):
    """Connectionist temporal classification loss: ``-log`` of the sum over all alignments.

    Args:
        log_probs: (T, N, C) or (T, C), float32 or float64, logarithms of class probabilities.
        targets: (N, S) padded, or 1-D concatenated, or (S) for one sample; classes in [0, C), the
            blank excepted.
        input_lengths, target_lengths: (N), tensors or sequences of ints; at most T and S.
        blank: the class that stands for no label.
        reduction: ``'none'`` (0), ``'mean'`` (1: each loss over its target length, then the mean
            over the batch) or ``'sum'`` (2).
        zero_infinity: make the loss and gradient of targets too long for their input 0, not inf.

    Shape: () or, with ``'none'``, (N); () without a batch. The gradient is that of the loss after
    log_softmax, as in torch: ``exp(log_probs) - occupancy``. It cannot be differentiated again.

    Raises RuntimeError for lengths, labels or a blank out of range, NotImplementedError for other
    types, ValueError for an unknown reduction. Reference: Graves et al., ICML 2006.
    """
    reduction = _reduction(reduction)
    input_lengths = _lengths("input_lengths", input_lengths)
    target_lengths = _lengths("target_lengths", target_lengths)
    batched = len(log_probs._shape) == 3
    if not batched and len(log_probs._shape) == 2:
        log_probs, targets = ops.unsqueeze(log_probs, 1), ops.unsqueeze(targets, 0)
    losses, _ = ops._ctc_loss(log_probs, targets, input_lengths, target_lengths, blank,
                              zero_infinity)
    if zero_infinity:
        losses = ops.where(ops.eq(losses, float("inf")), 0.0, losses)
    if reduction == "sum":
        return ops.sum(losses)
    if reduction == "mean":
        if losses._storage.device is not META:
            losses = ops.div(losses, ops.clamp_min(target_lengths, 1))
        return ops.mean(losses)
    return losses if batched else ops.squeeze(losses, 0)
