"""Layers without parameters: shape, shuffling, distance, resampling."""
import ntorch

from .. import functional as F
from .module import Module


class Flatten(Module):
    """Joins the dimensions ``start_dim`` to ``end_dim`` into one."""

    def __init__(self, start_dim=1, end_dim=-1):
        super().__init__()
        self.start_dim, self.end_dim = start_dim, end_dim

    def forward(self, input):
        return input.flatten(self.start_dim, self.end_dim)

    def extra_repr(self):
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"


class Unflatten(Module):
    """Splits the dimension ``dim`` into the sizes ``unflattened_size``."""

    def __init__(self, dim, unflattened_size):
        super().__init__()
        self._check(dim, unflattened_size)
        self.dim, self.unflattened_size = dim, unflattened_size

    def _check(self, dim, size):
        if not isinstance(dim, int | str):
            raise TypeError("invalid argument type for dim parameter")
        named = isinstance(dim, str)
        if not isinstance(size, tuple | list):
            raise TypeError("unflattened_size must be a tuple of "
                            f"{'tuples' if named else 'ints'}, but found type "
                            f"{type(size).__name__}")
        for position, element in enumerate(size):
            if not isinstance(element, tuple if named else int):
                raise TypeError(f"unflattened_size must be tuple of "
                                f"{'tuples' if named else 'ints'}, but found element of type "
                                f"{type(element).__name__} at pos {position}")

    def forward(self, input):
        return input.unflatten(self.dim, self.unflattened_size)

    def extra_repr(self):
        return f"dim={self.dim}, unflattened_size={self.unflattened_size}"


class Fold(Module):
    """Adds up sliding blocks (N, C * prod(kernel), L) into an image (N, C, *output_size)."""

    def __init__(self, output_size, kernel_size, dilation=1, padding=0, stride=1):
        super().__init__()
        self.output_size, self.kernel_size = output_size, kernel_size
        self.dilation, self.padding, self.stride = dilation, padding, stride

    def forward(self, input):
        return F.fold(input, self.output_size, self.kernel_size, self.dilation, self.padding,
                      self.stride)

    def extra_repr(self):
        return (f"output_size={self.output_size}, kernel_size={self.kernel_size}, "
                f"dilation={self.dilation}, padding={self.padding}, stride={self.stride}")


class Unfold(Module):
    """Takes the sliding blocks of (N, C, *) as columns (N, C * prod(kernel), L)."""

    def __init__(self, kernel_size, dilation=1, padding=0, stride=1):
        super().__init__()
        self.kernel_size, self.dilation = kernel_size, dilation
        self.padding, self.stride = padding, stride

    def forward(self, input):
        return F.unfold(input, self.kernel_size, self.dilation, self.padding, self.stride)

    def extra_repr(self):
        return (f"kernel_size={self.kernel_size}, dilation={self.dilation}, "
                f"padding={self.padding}, stride={self.stride}")


class PixelShuffle(Module):
    """(*, C r^2, H, W) to (*, C, H r, W r) (arXiv 1609.05158)."""

    def __init__(self, upscale_factor):
        super().__init__()
        self.upscale_factor = upscale_factor

    def forward(self, input):
        return F.pixel_shuffle(input, self.upscale_factor)

    def extra_repr(self):
        return f"upscale_factor={self.upscale_factor}"


class PixelUnshuffle(Module):
    """(*, C, H r, W r) to (*, C r^2, H, W): undoes ``PixelShuffle``."""

    def __init__(self, downscale_factor):
        super().__init__()
        self.downscale_factor = downscale_factor

    def forward(self, input):
        return F.pixel_unshuffle(input, self.downscale_factor)

    def extra_repr(self):
        return f"downscale_factor={self.downscale_factor}"


class ChannelShuffle(Module):
    """Mixes the channels of ``groups`` groups (arXiv 1707.01083)."""

    def __init__(self, groups):
        super().__init__()
        self.groups = groups

    def forward(self, input):
        return F.channel_shuffle(input, self.groups)

    def extra_repr(self):
        return f"groups={self.groups}"


class Upsample(Module):
    """Resamples (N, C, *) to ``size`` or by ``scale_factor``.

    ``mode`` is nearest, linear, bilinear, bicubic or trilinear.
    """

    def __init__(self, size=None, scale_factor=None, mode="nearest", align_corners=None,
                 recompute_scale_factor=None):
        super().__init__()
        self.name = type(self).__name__
        self.size = size
        if isinstance(scale_factor, tuple):
            self.scale_factor = tuple(float(factor) for factor in scale_factor)
        else:
            self.scale_factor = float(scale_factor) if scale_factor else None
        self.mode, self.align_corners = mode, align_corners
        self.recompute_scale_factor = recompute_scale_factor

    def forward(self, input):
        return F.interpolate(input, self.size, self.scale_factor, self.mode, self.align_corners,
                             recompute_scale_factor=self.recompute_scale_factor)

    def extra_repr(self):
        if self.scale_factor is not None:
            return f"scale_factor={self.scale_factor!r}, mode={self.mode!r}"
        return f"size={self.size!r}, mode={self.mode!r}"


class UpsamplingNearest2d(Upsample):
    """Nearest neighbour upsampling of (N, C, H, W)."""

    def __init__(self, size=None, scale_factor=None):
        super().__init__(size, scale_factor, mode="nearest")


class UpsamplingBilinear2d(Upsample):
    """Bilinear upsampling of (N, C, H, W), corners aligned."""

    def __init__(self, size=None, scale_factor=None):
        super().__init__(size, scale_factor, mode="bilinear", align_corners=True)


class PairwiseDistance(Module):
    """``||x1 - x2 + eps||_p`` over the last dimension."""

    def __init__(self, p=2.0, eps=1e-6, keepdim=False):
        super().__init__()
        self.norm, self.eps, self.keepdim = p, eps, keepdim

    def forward(self, x1, x2):
        return F.pairwise_distance(x1, x2, self.norm, self.eps, self.keepdim)


class CosineSimilarity(Module):
    """``x1 . x2 / max(||x1|| ||x2||, eps)`` along ``dim``."""

    def __init__(self, dim=1, eps=1e-8):
        super().__init__()
        self.dim, self.eps = dim, eps

    def forward(self, x1, x2):
        return F.cosine_similarity(x1, x2, self.dim, self.eps)


class AdaptiveLogSoftmaxWithLoss(Module):
    """Efficient softmax for many classes of unequal frequency (arXiv 1609.04309).

    Frequent classes sit in the head, the rest in clusters that end at ``cutoffs``; cluster i has
    an inner size of ``in_features / div_value^(i + 1)``. Returns ``(output, loss)``.
    """

    def __init__(self, in_features, n_classes, cutoffs, div_value=4.0, head_bias=False,
                 device=None, dtype=None):
        from .container import ModuleList, Sequential
        from .linear import Linear
        super().__init__()
        cutoffs = list(cutoffs)
        if len(cutoffs) == 0:
            raise ValueError("cutoffs should be a sequence of length larger than 0")
        if (cutoffs != sorted(cutoffs) or min(cutoffs) <= 0 or max(cutoffs) > n_classes - 1
                or len(set(cutoffs)) != len(cutoffs) or any(int(c) != c for c in cutoffs)):
            raise ValueError("cutoffs should be a sequence of unique, positive integers sorted in "
                             "an increasing order, where each value is between 1 and n_classes-1")
        self.in_features, self.n_classes = in_features, n_classes
        self.cutoffs = [*cutoffs, n_classes]
        self.div_value, self.head_bias = div_value, head_bias
        self.shortlist_size = self.cutoffs[0]
        self.n_clusters = len(self.cutoffs) - 1
        self.head_size = self.shortlist_size + self.n_clusters
        factory = {"device": device, "dtype": dtype}
        self.head = Linear(in_features, self.head_size, bias=head_bias, **factory)
        self.tail = ModuleList()
        for i in range(self.n_clusters):
            hidden = int(in_features // (div_value ** (i + 1)))
            size = self.cutoffs[i + 1] - self.cutoffs[i]
            self.tail.append(Sequential(Linear(in_features, hidden, bias=False, **factory),
                                        Linear(hidden, size, bias=False, **factory)))

    def reset_parameters(self):
        """Draw new values in all the linear layers."""
        self.head.reset_parameters()
        for first, second in self.tail:
            first.reset_parameters()
            second.reset_parameters()

    def forward(self, input, target):
        from ..functional import ASMoutput
        single = target.dim() == 0
        self._check_shapes(input, target)
        input = input.unsqueeze(0) if single else input
        target = target.unsqueeze(0) if single else target
        picked, head = self._pick(input, target)
        head_log = F.log_softmax(self.head(input), dim=1)
        output = picked + head_log.gather(1, head.unsqueeze(1)).squeeze()
        loss = (-output).mean()
        return ASMoutput(output.squeeze(0) if single else output, loss)

    def _check_shapes(self, input, target):
        if target.dim() == 1:
            if input.shape[0] != target.shape[0]:
                raise RuntimeError("Input and target should have the same size in the batch "
                                   "dimension.")
            if input.dim() != 2:
                raise RuntimeError("1D target tensor expects 2D input tensors, but found inputs "
                                   f"with size {input.size()}")
        elif target.dim() == 0:
            if input.dim() != 1:
                raise RuntimeError("0D target tensor expects 1D input tensors, but found inputs "
                                   f"with size {input.size()}")
        else:
            raise RuntimeError("0D or 1D target tensor expected, multi-target not supported")

    def _pick(self, input, target):
        """The log-probability inside each target's cluster, and its column in the head."""
        rows = target.size(0)
        output = input.new_zeros(rows)
        head = ntorch.empty_like(target)
        found = 0
        for i, (low, high) in enumerate(zip([0, *self.cutoffs], self.cutoffs, strict=False)):
            mask = (target >= low) & (target < high)
            indices = mask.nonzero().squeeze(1)
            if indices.numel() == 0:
                continue
            found += indices.numel()
            if i == 0:
                head = head.index_copy(0, indices, target[mask])
                continue
            relative = target[mask] - low
            log = F.log_softmax(self.tail[i - 1](input.index_select(0, indices)), dim=1)
            head = head.index_fill(0, indices, self.shortlist_size + i - 1)
            output = output.index_copy(0, indices,
                                       log.gather(1, relative.unsqueeze(1)).squeeze(1))
        if found != rows:
            raise RuntimeError(f"Target values should be in [0, {self.n_classes - 1}], but values "
                               f"in range [{target.min().item()}, {target.max().item()}] were "
                               "found. ")
        return output, head

    def log_prob(self, input):
        """The log-probabilities of all classes, (N, n_classes)."""
        head = self.head(input)
        head_log = F.log_softmax(head, dim=1)
        parts = [head_log[:, :self.shortlist_size]]
        for i in range(self.n_clusters):
            inner = F.log_softmax(self.tail[i](input), dim=1)
            parts.append(inner + head_log[:, self.shortlist_size + i].unsqueeze(1))
        return ntorch.cat(parts, dim=1)

    def predict(self, input):
        """The most probable class of each row; the tails are asked only where the head says so."""
        head = ntorch.argmax(self.head(input), dim=1)
        elsewhere = head >= self.shortlist_size
        if not bool(elsewhere.any()):
            return head
        answer = head.clone()
        answer[elsewhere] = ntorch.argmax(self.log_prob(input[elsewhere]), dim=1)
        return answer
