"""How the backward of a normalisation is itself differentiated, for every kind of it.

With ``h = (x - mean) * r`` and ``a = g * w``, the backward computes ``gx = P(a)``,
``gw = sum(g * h)``, ``gb = sum(g)`` where ``P(a) = r * (a - mean(a) - h * mean(a * h))`` is linear
and symmetric. Statistics are computed again here from ``x``, so the results can be differentiated
any number of times.
"""
from .registry import ops


def statistics(x, dims, eps, centered=True):
    """``(h, r)`` over ``dims``, as differentiable functions of ``x``."""
    deviation = x - ops.mean(x, dims, True) if centered else x
    r = ops.rsqrt(ops.mean(deviation * deviation, dims, True) + eps)
    return deviation * r, r


def project(a, h, r, dims, centered=True):
    """``P(a)``, the gradient of ``h`` carried to ``x``."""
    rest = a - h * ops.mean(a * h, dims, True)
    if centered:
        rest = rest - ops.mean(a, dims, True)
    return r * rest


def differentiate_backward(cotangents, g, x, w, dims, eps, centered=True):
    """Gradients of ``(gx, gw, gb)`` with respect to ``g``, ``x`` and, unreduced, ``w``.

    ``cotangents`` are those of gx, gw, gb or None; all tensors broadcast against ``x`` and ``w`` is
    None for ones. With v the cotangent of gx: ``L = sum(v * gx)`` depends on x through h, whose
    partial derivative ``-r * (v * mean(a h) + a * mean(v h))`` is projected like any other, and
    through r, with ``dr/dx = -r**2 * h / n``.
    """
    v, u, t = cotangents
    h, r = statistics(x, dims, eps, centered)
    for_g = for_x = for_w = None
    if v is not None:
        a = g if w is None else g * w
        pv = project(v, h, r, dims, centered)
        for_g = pv if w is None else pv * w
        for_w = None if w is None else pv * g
        through_h = -r * (v * ops.mean(a * h, dims, True) + a * ops.mean(v * h, dims, True))
        gx = project(a, h, r, dims, centered)
        for_x = project(through_h, h, r, dims, centered) - r * h * ops.mean(v * gx, dims, True)
    if u is not None:
        for_g = _sum(for_g, u * h)
        for_x = _sum(for_x, project(u * g, h, r, dims, centered))
    if t is not None:
        for_g = _sum(for_g, ops.expand(t, g.shape))
    return for_g, for_x, for_w


def _sum(a, b):
    return b if a is None else a + b
