"""Stochastic gradient descent."""
import ntorch

from .optimizer import Optimizer, check_flags, check_lr, scalar
from .updates import by_dtype, fusible, moving, pinned, rate, rate_to_calculate


class SGD(Optimizer):
    """``b = momentum b + (1 - dampening) g``, ``p = p - lr b``; the first ``b`` is ``g``.

    ``g`` is the gradient (negated if ``maximize``) plus ``weight_decay p``; with ``nesterov`` the
    step is ``lr (g + momentum b)``. ``foreach`` and ``fused`` choose nothing here: plain float
    parameters are always updated by one kernel. ``ValueError`` for options out of range.
    """

    _moving = frozenset(("lr", "initial_lr", "momentum"))

    def __init__(self, params, lr=1e-3, momentum=0, dampening=0, weight_decay=0, nesterov=False, *,
                 maximize=False, foreach=None, differentiable=False, fused=None):
        check_lr(lr)
        if momentum < 0.0:
            raise ValueError(f"Invalid momentum value: {momentum}")
        if weight_decay < 0.0:
            raise ValueError(f"Invalid weight_decay value: {weight_decay}")
        if nesterov and (momentum <= 0 or dampening != 0):
            raise ValueError("Nesterov momentum requires a momentum and zero dampening")
        super().__init__(params, {
            "lr": lr, "momentum": momentum, "dampening": dampening, "weight_decay": weight_decay,
            "nesterov": nesterov, "maximize": maximize, "foreach": foreach,
            "differentiable": differentiable, "fused": fused})
        check_flags(foreach, fused, differentiable)

    def __setstate__(self, state):
        super().__setstate__(state)
        for group in self.param_groups:
            group.setdefault("nesterov", False)
            group.setdefault("maximize", False)
            group.setdefault("foreach", None)
            group.setdefault("differentiable", False)
            group.setdefault("fused", False)

    def step(self, closure=None):
        """Update every parameter that has a gradient; returns the loss of ``closure``."""
        loss = self._loss_of(closure)
        with self._recording():
            for group in self.param_groups:
                self._update(group)
        return loss

    def _update(self, group):
        fresh, held = ([], [], []), ([], [], [])
        plain = not (group["differentiable"] or isinstance(group["lr"], ntorch.Tensor))
        has_momentum = pinned(lambda: group["momentum"] != 0)
        for param in group["params"]:
            grad = param.grad
            if grad is None:
                continue
            state = self.state[param] if has_momentum else {}
            buffer = state.get("momentum_buffer")
            tensors = (param, grad) if buffer is None else (param, grad, buffer)
            if not plain or not fusible(tensors):
                self._refuse_sparse(grad)
                _compose(param, state, group)
                continue
            lists = held
            if has_momentum:
                if buffer is None:
                    buffer = state["momentum_buffer"] = ntorch.empty_like(param.detach())
                    lists = fresh
                lists[2].append(buffer)
            lists[0].append(param)
            lists[1].append(grad)
        for lists in (fresh, held):
            for part in by_dtype(lists):
                ntorch.ops._fused_sgd_(
                    *part, weight_decay=float(group["weight_decay"]),
                    momentum=moving(lambda: float(group["momentum"])), lr=rate(group),
                    dampening=float(group["dampening"]), nesterov=bool(group["nesterov"]),
                    maximize=bool(group["maximize"]), is_first_step=lists is fresh)


def _compose(param, state, group):
    """The update in tensor operations: for any dtype, layout, and a tensor learning rate."""
    grad = -param.grad if group["maximize"] else param.grad
    momentum = pinned(lambda: group["momentum"])
    if scalar(group["weight_decay"]) != 0:
        grad = grad + param * group["weight_decay"]
    if momentum != 0:
        buffer = state.get("momentum_buffer")
        if buffer is None:
            buffer = grad.clone() if group["differentiable"] else grad.detach().clone()
        else:
            buffer.mul_(momentum).add_(grad, alpha=1 - group["dampening"])
        state["momentum_buffer"] = buffer
        grad = grad + buffer * momentum if group["nesterov"] else buffer
    lr = rate_to_calculate(group)
    if isinstance(lr, ntorch.Tensor):
        param.sub_(grad * lr.to(param.device))
    else:
        param.add_(grad, alpha=-lr)
