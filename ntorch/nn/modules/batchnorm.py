"""Batch normalisation, and what it shares with instance normalisation."""
import ntorch

from .. import functional as F
from .. import init
from ..parameter import Parameter, UninitializedBuffer, UninitializedParameter
from .lazy import LazyModuleMixin
from .module import Module


class _NormBase(Module):
    """Weight, bias and running statistics of a normalisation over channels."""

    _version = 2       # 2 keeps num_batches_tracked

    def __init__(self, num_features, eps=1e-5, momentum=0.1, affine=True,
                 track_running_stats=True, device=None, dtype=None, *, bias=True):
        super().__init__()
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.affine, self.track_running_stats = affine, track_running_stats
        self.register_parameter("weight", None)
        self.register_parameter("bias", None)
        if affine:
            self.weight = Parameter(ntorch.empty(num_features, device=device, dtype=dtype))
            if bias:
                self.bias = Parameter(ntorch.empty(num_features, device=device, dtype=dtype))
        if track_running_stats:
            self._make_statistics(ntorch.zeros(num_features, device=device, dtype=dtype),
                                  ntorch.ones(num_features, device=device, dtype=dtype), device)
        else:
            for name in ("running_mean", "running_var", "num_batches_tracked"):
                self.register_buffer(name, None)
        self.reset_parameters()

    def _make_statistics(self, mean, var, device):
        self.register_buffer("running_mean", mean)
        self.register_buffer("running_var", var)
        self.register_buffer("num_batches_tracked",
                             ntorch.tensor(0, dtype=ntorch.int64, device=device))

    def reset_running_stats(self):
        """Forget all batches: mean 0, variance 1, count 0."""
        if self.track_running_stats:
            self.running_mean.zero_()
            self.running_var.fill_(1)
            self.num_batches_tracked.zero_()

    def reset_parameters(self):
        """Weight 1, bias 0, statistics forgotten."""
        self.reset_running_stats()
        if self.affine:
            init.ones_(self.weight)
            if self.bias is not None:
                init.zeros_(self.bias)

    def _check_input_dim(self, input):
        raise NotImplementedError(f"{type(self).__name__} does not say which inputs it takes")

    def extra_repr(self):
        return (f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, "
                f"affine={self.affine}, bias={self.bias is not None}, "
                f"track_running_stats={self.track_running_stats}")

    def _load_from_state_dict(self, state_dict, prefix, local_metadata, *rest):
        version = local_metadata.get("version", None)
        key = prefix + "num_batches_tracked"
        if (version is None or version < 2) and self.track_running_stats and (
                key not in state_dict):
            own = self.num_batches_tracked
            state_dict[key] = own if own is not None and not own.is_meta else ntorch.tensor(
                0, dtype=ntorch.int64)
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *rest)


class _BatchNorm(_NormBase):
    """``(x - mean) / sqrt(var + eps) * weight + bias`` with statistics of the batch or of the past.
    """

    def forward(self, input):
        self._check_input_dim(input)
        factor = 0.0 if self.momentum is None else self.momentum
        if self.training and self.track_running_stats and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            if self.momentum is None:          # a plain average over all batches
                factor = 1.0 / float(self.num_batches_tracked)
        statistics = self.running_mean, self.running_var
        of_batch = self.training or (statistics[0] is None and statistics[1] is None)
        if self.training and not self.track_running_stats:
            statistics = None, None
        return F.batch_norm(input, *statistics, self.weight, self.bias, of_batch, factor, self.eps)


def _check_dims(input, wanted):
    if input.dim() not in wanted:
        text = " or ".join(f"{n}D" for n in wanted)
        raise ValueError(f"expected {text} input (got {input.dim()}D input)")


class BatchNorm1d(_BatchNorm):
    """Batch normalisation of (N, C) or (N, C, L) over N and L (arXiv 1502.03167).

    In training the statistics of the batch are used and the running ones move by ``momentum`` (a
    plain average if None); in evaluation the running ones are used. Computes
    ``(x - E[x]) / sqrt(Var[x] + eps) * weight + bias``.
    """

    def _check_input_dim(self, input):
        _check_dims(input, (2, 3))


class BatchNorm2d(_BatchNorm):
    """Batch normalisation of (N, C, H, W) over N, H and W; see ``BatchNorm1d``."""

    def _check_input_dim(self, input):
        _check_dims(input, (4,))


class BatchNorm3d(_BatchNorm):
    """Batch normalisation of (N, C, D, H, W) over all but C; see ``BatchNorm1d``."""

    def _check_input_dim(self, input):
        _check_dims(input, (5,))


class _LazyNormBase(LazyModuleMixin):
    """Takes ``num_features`` from dimension 1 of the first input."""

    _defaults = (True, True)

    def __init__(self, eps=1e-5, momentum=0.1, affine=None, track_running_stats=None, device=None,
                 dtype=None, *, bias=True):
        affine = self._defaults[0] if affine is None else affine
        track = self._defaults[1] if track_running_stats is None else track_running_stats
        super().__init__(0, eps, momentum, False, False, device, dtype)
        self.affine, self.track_running_stats = affine, track
        if affine:
            self.weight = UninitializedParameter(device=device, dtype=dtype)
            if bias:
                self.bias = UninitializedParameter(device=device, dtype=dtype)
        if track:
            self._make_statistics(UninitializedBuffer(device=device, dtype=dtype),
                                  UninitializedBuffer(device=device, dtype=dtype), device)

    def reset_parameters(self):
        if not self.has_uninitialized_params() and self.num_features != 0:
            super().reset_parameters()

    def initialize_parameters(self, input):
        """Take the number of features from ``input``."""
        if not self.has_uninitialized_params():
            return
        self.num_features = input.shape[self._channel_dim(input)]
        for tensor in (self.weight, self.bias, self.running_mean, self.running_var):
            if tensor is not None:
                tensor.materialize((self.num_features,))
        self.reset_parameters()

    def _channel_dim(self, input):
        return 1


def _lazy(base, mixin=_LazyNormBase):
    """The lazy form of the class ``base``."""
    return type(f"Lazy{base.__name__}", (mixin, base), {
        "cls_to_become": base, "__module__": base.__module__,
        "__doc__": f"A ``{base.__name__}`` that takes ``num_features`` from its first input."})


LazyBatchNorm1d, LazyBatchNorm2d = _lazy(BatchNorm1d), _lazy(BatchNorm2d)
LazyBatchNorm3d = _lazy(BatchNorm3d)


class SyncBatchNorm(_BatchNorm):
    """Batch normalisation over the processes of a group; in a single process plain batch norm."""

    def __init__(self, num_features, eps=1e-5, momentum=0.1, affine=True,
                 track_running_stats=True, process_group=None, device=None, dtype=None, *,
                 bias=True):
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype,
                         bias=bias)
        self.process_group = process_group

    def _check_input_dim(self, input):
        if input.dim() < 2:
            raise ValueError(f"expected at least 2D input (got {input.dim()}D input)")
        if input.size(1) == 0:
            raise ValueError("SyncBatchNorm number of input channels should be non-zero")

    @classmethod
    def convert_sync_batchnorm(cls, module, process_group=None):
        """``module`` with every batch norm below it replaced by a ``SyncBatchNorm``."""
        converted = module
        if isinstance(module, _BatchNorm) and not isinstance(module, SyncBatchNorm):
            converted = cls(module.num_features, module.eps, module.momentum, module.affine,
                            module.track_running_stats, process_group)
            converted.weight, converted.bias = module.weight, module.bias
            converted.running_mean, converted.running_var = module.running_mean, module.running_var
            converted.num_batches_tracked = module.num_batches_tracked
            converted.training = module.training
        for name, child in module.named_children():
            converted.add_module(name, cls.convert_sync_batchnorm(child, process_group))
        return converted
