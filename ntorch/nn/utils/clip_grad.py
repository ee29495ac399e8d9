"""Limits on the size of gradients."""
import warnings

import ntorch


def _listed(tensors):
    if isinstance(tensors, ntorch.Tensor):
        return [tensors]
    return list(tensors)


def get_total_norm(tensors, norm_type=2.0, error_if_nonfinite=False, foreach=None):
    """The norm of all ``tensors`` together, as if they were one vector.

    ``RuntimeError`` for NaN or infinity if ``error_if_nonfinite``.
    """
    tensors = _listed(tensors)
    norm_type = float(norm_type)
    if not tensors:
        return ntorch.tensor(0.0)
    norms = [ntorch.linalg.vector_norm(t, norm_type) for t in tensors]
    total = ntorch.linalg.vector_norm(
        ntorch.stack([n.to(norms[0].device) for n in norms]), norm_type)
    if error_if_nonfinite and not bool(total.isfinite()):
        raise RuntimeError(
            f"The total norm of order {norm_type} for gradients from `parameters` is non-finite, "
            "so it cannot be clipped. To disable this error and scale the gradients by the "
            "non-finite norm anyway, set `error_if_nonfinite=False`")
    return total


def clip_grads_with_norm_(parameters, max_norm, total_norm, foreach=None):
    """Scale all gradients by ``max_norm / (total_norm + 1e-6)`` if that is below 1, in place."""
    grads = [p.grad for p in _listed(parameters) if p.grad is not None]
    if not grads:
        return
    factor = (float(max_norm) / (total_norm + 1e-6)).clamp(max=1.0)
    with ntorch.no_grad():
        for grad in grads:
            grad.mul_(factor.to(grad.device))


def clip_grad_norm_(parameters, max_norm, norm_type=2.0, error_if_nonfinite=False, foreach=None):
    """Scale all gradients together, in place, so that their norm is at most ``max_norm``.

    Returns the norm before. ``norm_type`` may be infinity. ``RuntimeError`` for a norm that is NaN
    or infinite if ``error_if_nonfinite``.
    """
    if isinstance(parameters, ntorch.Tensor):
        parameters = [parameters]
    else:
        exhausted = not isinstance(parameters, list | tuple | dict | set)
        parameters = list(parameters)
        if exhausted and not parameters:
            warnings.warn("`parameters` is an empty generator, no gradient clipping will occur.",
                          stacklevel=3)
    with ntorch.no_grad():
        total = get_total_norm([p.grad for p in parameters if p.grad is not None], norm_type,
                               error_if_nonfinite, foreach)
        clip_grads_with_norm_(parameters, max_norm, total, foreach)
    return total


def clip_grad_norm(parameters, max_norm, norm_type=2.0, error_if_nonfinite=False, foreach=None):
    """Deprecated name of ``clip_grad_norm_``."""
    warnings.warn("`torch.nn.utils.clip_grad_norm` is now deprecated in favor of "
                  "`torch.nn.utils.clip_grad_norm_`.", FutureWarning, stacklevel=2)
    return clip_grad_norm_(parameters, max_norm, norm_type, error_if_nonfinite, foreach)


def clip_grad_value_(parameters, clip_value, foreach=None):
    """Cut every gradient value to ``[-clip_value, clip_value]``, in place."""
    clip_value = float(clip_value)
    with ntorch.no_grad():
        for parameter in _listed(parameters):
            if parameter.grad is not None:
                parameter.grad.clamp_(min=-clip_value, max=clip_value)
