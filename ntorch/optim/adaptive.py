"""Optimizers with a rate per value: Adagrad, Adadelta, RMSprop, Rprop."""
import ntorch

from .composed import Composed
from .optimizer import check_lr, check_not_negative
from .updates import add_quotient, add_scaled, steps_to_calculate


def _check_common(lr, eps, weight_decay):
    check_lr(lr)
    if not 0.0 <= eps:
        raise ValueError(f"Invalid epsilon value: {eps}")
    check_not_negative(weight_decay=weight_decay)


class Adagrad(Composed):
    """``s = s + g^2``, ``p = p - lr / (1 + (t - 1) lr_decay) g / (sqrt(s) + eps)``
    (Duchi et al. 2011).
    """

    def __init__(self, params, lr=1e-2, lr_decay=0, weight_decay=0, initial_accumulator_value=0,
                 eps=1e-10, foreach=None, *, maximize=False, differentiable=False, fused=None):
        check_lr(lr)
        check_not_negative(lr_decay=lr_decay, weight_decay=weight_decay,
                           initial_accumulator_value=initial_accumulator_value)
        if not 0.0 <= eps:
            raise ValueError(f"Invalid epsilon value: {eps}")
        super().__init__(params, {
            "lr": lr, "lr_decay": lr_decay, "eps": eps, "weight_decay": weight_decay,
            "initial_accumulator_value": initial_accumulator_value, "foreach": foreach,
            "maximize": maximize, "differentiable": differentiable, "fused": fused})
        for group in self.param_groups:
            for param in group["params"]:
                self.state[param] = self._blank(param, group)

    def _later_options(self):
        return {"foreach": None, "maximize": False, "differentiable": False, "fused": None}

    def _blank(self, param, group):
        value = group["initial_accumulator_value"]
        value = complex(value, value) if param.is_complex() else value
        return {"step": self._step_tensor(), "sum": ntorch.full_like(param.detach(), value)}

    def _update(self, param, grad, state, group, lr):
        if group["lr_decay"] != 0:
            lr = lr / (1 + (steps_to_calculate(state["step"]) - 1) * group["lr_decay"])
        state["sum"].addcmul_(grad, grad, value=1)
        add_quotient(param, grad, state["sum"].sqrt().add_(group["eps"]), -lr)


class Adadelta(Composed):
    """``d = sqrt(u + eps) / sqrt(s + eps) g``, ``p = p - lr d`` with running means ``s`` of g^2 and
    ``u`` of d^2 (arXiv 1212.5701).
    """

    def __init__(self, params, lr=1.0, rho=0.9, eps=1e-6, weight_decay=0, foreach=None, *,
                 capturable=False, maximize=False, differentiable=False):
        check_lr(lr)
        if not 0.0 <= rho <= 1.0:
            raise ValueError(f"Invalid rho value: {rho}")
        _check_common(lr, eps, weight_decay)
        super().__init__(params, {
            "lr": lr, "rho": rho, "eps": eps, "weight_decay": weight_decay, "maximize": maximize,
            "capturable": capturable, "foreach": foreach, "differentiable": differentiable})

    def _blank(self, param, group):
        return {"step": self._step_tensor(), "square_avg": ntorch.zeros_like(param.detach()),
                "acc_delta": ntorch.zeros_like(param.detach())}

    def _update(self, param, grad, state, group, lr):
        rho, eps = group["rho"], group["eps"]
        square, moved = state["square_avg"], state["acc_delta"]
        square.mul_(rho).addcmul_(grad, grad, value=1 - rho)
        delta = (moved + eps).sqrt_() / (square + eps).sqrt_() * grad
        moved.mul_(rho).addcmul_(delta, delta, value=1 - rho)
        add_scaled(param, delta, -lr)


class RMSprop(Composed):
    """``s = alpha s + (1 - alpha) g^2``, ``p = p - lr g / (sqrt(s) + eps)`` (Tieleman & Hinton
    2012).

    ``centered`` subtracts the squared mean of g from ``s``; ``momentum`` smooths the step.
    """

    def __init__(self, params, lr=1e-2, alpha=0.99, eps=1e-8, weight_decay=0, momentum=0,
                 centered=False, capturable=False, foreach=None, maximize=False,
                 differentiable=False):
        check_lr(lr)
        if not 0.0 <= eps:
            raise ValueError(f"Invalid epsilon value: {eps}")
        check_not_negative(momentum=momentum, weight_decay=weight_decay, alpha=alpha)
        super().__init__(params, {
            "lr": lr, "momentum": momentum, "alpha": alpha, "eps": eps, "centered": centered,
            "weight_decay": weight_decay, "capturable": capturable, "foreach": foreach,
            "maximize": maximize, "differentiable": differentiable})

    def _blank(self, param, group):
        zeros = ntorch.zeros_like(param.detach())
        state = {"step": self._step_tensor(), "square_avg": zeros}
        if group["momentum"] > 0:
            state["momentum_buffer"] = ntorch.zeros_like(zeros)
        if group["centered"]:
            state["grad_avg"] = ntorch.zeros_like(zeros)
        return state

    def _update(self, param, grad, state, group, lr):
        alpha, square = group["alpha"], state["square_avg"]
        square.mul_(alpha).addcmul_(grad, grad, value=1 - alpha)
        if group["centered"]:
            mean = state["grad_avg"]
            mean.lerp_(grad, 1 - alpha)
            square = square.addcmul(mean, mean, value=-1)
        denominator = square.sqrt().add_(group["eps"])
        if group["momentum"] > 0:
            buffer = state["momentum_buffer"]
            buffer.mul_(group["momentum"]).addcdiv_(grad, denominator)
            add_scaled(param, buffer, -lr)
        else:
            add_quotient(param, grad, denominator, -lr)


class Rprop(Composed):
    """Steps of a size of their own for each value: larger while the sign of the gradient stays,
    smaller when it turns (Riedmiller & Braun 1993).
    """

    def __init__(self, params, lr=1e-2, etas=(0.5, 1.2), step_sizes=(1e-6, 50), *,
                 capturable=False, foreach=None, maximize=False, differentiable=False):
        check_lr(lr)
        if not 0.0 < etas[0] < 1.0 < etas[1]:
            raise ValueError(f"Invalid eta values: {etas[0]}, {etas[1]}")
        super().__init__(params, {
            "lr": lr, "etas": etas, "step_sizes": step_sizes, "foreach": foreach,
            "maximize": maximize, "differentiable": differentiable, "capturable": capturable})

    def _blank(self, param, group):
        lr = complex(group["lr"], group["lr"]) if param.is_complex() else group["lr"]
        lr = lr.item() if isinstance(lr, ntorch.Tensor) else lr
        return {"step": self._step_tensor(), "prev": ntorch.zeros_like(param.detach()),
                "step_size": ntorch.full_like(param.detach(), lr)}

    def _update(self, param, grad, state, group, lr):
        (less, more), (low, high) = group["etas"], group["step_sizes"]
        turn = (grad * state["prev"]).sign()
        factor = ntorch.where(turn > 0, more, ntorch.where(turn < 0, less, 1.0)).to(grad.dtype)
        size = state["step_size"]
        size.mul_(factor).clamp_(low, high)
        grad = ntorch.where(turn < 0, ntorch.zeros_like(grad), grad)
        param.addcmul_(grad.sign(), size, value=-1)
        state["prev"].copy_(grad)
