"""Softmax with the keywords that it has as a function of layers."""
import warnings

import ntorch


def _implicit_dim(name, dim, rank, stacklevel):
    """The dimension to use; without one, what torch guesses, with its warning."""
    if dim is not None:
        return dim
    warnings.warn(f"Implicit dimension choice for {name} has been deprecated. Change the call to "
                  "include dim=X as an argument.", stacklevel=stacklevel)
    return 0 if rank in (0, 1, 3) else 1


def softmax(input, dim=None, _stacklevel=3, dtype=None):
    """``exp(x_i) / sum_j exp(x_j)`` along ``dim``, after converting to ``dtype`` if given."""
    dim = _implicit_dim("softmax", dim, input.dim(), _stacklevel)
    return ntorch.softmax(input, dim, dtype=dtype)


def log_softmax(input, dim=None, _stacklevel=3, dtype=None):
    """``log(softmax(x))`` along ``dim``, computed without overflow."""
    dim = _implicit_dim("log_softmax", dim, input.dim(), _stacklevel)
    return ntorch.log_softmax(input, dim, dtype=dtype)


def gumbel_softmax(logits, tau=1, hard=False, eps=1e-10, dim=-1):
    """A sample of the Gumbel-softmax distribution (arXiv 1611.00712).

    ``softmax((logits + g) / tau)`` with Gumbel noise ``g``; with ``hard`` one-hot in the forward
    and soft in the gradient. ``eps`` is accepted and has no effect.
    """
    if eps != 1e-10:
        warnings.warn("`eps` parameter is deprecated and has no effect.", stacklevel=2)
    noise = -ntorch.empty_like(logits.detach()).exponential_().log()
    soft = ntorch.softmax((logits + noise) / tau, dim)
    if not hard:
        return soft
    index = soft.max(dim, keepdim=True)[1]
    one_hot = ntorch.zeros_like(logits.detach()).scatter_(dim, index, 1.0)
    return one_hot - soft.detach() + soft
