"""Relatives of Adam, and averaged gradient descent: Adamax, NAdam, RAdam, ASGD."""
import ntorch

from .composed import Composed
from .optimizer import check_betas, check_lr, check_not_negative
from .updates import add_quotient, add_scaled, steps_to_calculate


def _check(lr, betas, eps, weight_decay):
    check_lr(lr)
    if not 0.0 <= eps:
        raise ValueError(f"Invalid epsilon value: {eps}")
    check_betas(betas)
    check_not_negative(weight_decay=weight_decay)


class _Moments(Composed):
    """Running means of the gradient (``exp_avg``) and its square (``exp_avg_sq``)."""

    def _blank(self, param, group):
        return {"step": self._step_tensor(), "exp_avg": ntorch.zeros_like(param.detach()),
                "exp_avg_sq": ntorch.zeros_like(param.detach())}

    def _decay(self, param, grad, group, lr):
        """Both kinds of weight decay; the gradient to use."""
        if group["weight_decay"] == 0:
            return grad
        if group["decoupled_weight_decay"]:
            param.mul_(1 - lr * group["weight_decay"])
            return grad
        return grad + param * group["weight_decay"]

    def _mean(self, grad, state, group):
        beta1, beta2 = group["betas"]
        state["exp_avg"].lerp_(grad, 1 - beta1)
        state["exp_avg_sq"].mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
        return state["exp_avg"], state["exp_avg_sq"]


class Adamax(Composed):
    """Adam with the infinity norm: ``u = max(beta2 u, |g| + eps)``,
    ``p = p - lr m / ((1 - beta1^t) u)`` (arXiv 1412.6980).
    """

    def __init__(self, params, lr=2e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0, foreach=None,
                 *, maximize=False, differentiable=False, capturable=False):
        _check(lr, betas, eps, weight_decay)
        super().__init__(params, {
            "lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "foreach": foreach,
            "maximize": maximize, "differentiable": differentiable, "capturable": capturable})

    def _blank(self, param, group):
        return {"step": self._step_tensor(), "exp_avg": ntorch.zeros_like(param.detach()),
                "exp_inf": ntorch.zeros_like(param.detach())}

    def _update(self, param, grad, state, group, lr):
        (beta1, beta2), step = group["betas"], steps_to_calculate(state["step"])
        mean, largest = state["exp_avg"], state["exp_inf"]
        mean.lerp_(grad, 1 - beta1)
        largest.copy_(ntorch.maximum(largest * beta2, grad.abs() + group["eps"]))
        add_quotient(param, mean, largest, -lr / (1 - beta1 ** step))


class NAdam(_Moments):
    """Adam that looks ahead with Nesterov's momentum (Dozat 2016)."""

    _decay_in_grad = False

    def __init__(self, params, lr=2e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0,
                 momentum_decay=4e-3, decoupled_weight_decay=False, *, foreach=None,
                 maximize=False, capturable=False, differentiable=False):
        _check(lr, betas, eps, weight_decay)
        check_not_negative(momentum_decay=momentum_decay)
        super().__init__(params, {
            "lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay,
            "momentum_decay": momentum_decay, "decoupled_weight_decay": decoupled_weight_decay,
            "maximize": maximize, "foreach": foreach, "capturable": capturable,
            "differentiable": differentiable})

    def _blank(self, param, group):
        blank = super()._blank(param, group)
        return {"step": blank["step"], "mu_product": self._step_tensor(1.0), **blank}

    def _update(self, param, grad, state, group, lr):
        (beta1, beta2), step = group["betas"], steps_to_calculate(state["step"])
        grad = self._decay(param, grad, group, lr)
        now = beta1 * (1.0 - 0.5 * 0.96 ** (step * group["momentum_decay"]))
        after = beta1 * (1.0 - 0.5 * 0.96 ** ((step + 1) * group["momentum_decay"]))
        state["mu_product"].mul_(now)
        product = steps_to_calculate(state["mu_product"])
        mean, square = self._mean(grad, state, group)
        denominator = (square / (1 - beta2 ** step)).sqrt_().add_(group["eps"])
        add_quotient(param, grad, denominator, -lr * (1.0 - now) / (1.0 - product))
        add_quotient(param, mean, denominator, -lr * after / (1.0 - product * after))


class RAdam(_Moments):
    """Adam whose first steps do without the second moment (arXiv 1908.03265)."""

    _decay_in_grad = False

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0,
                 decoupled_weight_decay=False, *, foreach=None, maximize=False, capturable=False,
                 differentiable=False):
        _check(lr, betas, eps, weight_decay)
        super().__init__(params, {
            "lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay,
            "maximize": maximize, "foreach": foreach, "capturable": capturable,
            "decoupled_weight_decay": decoupled_weight_decay, "differentiable": differentiable})

    def _update(self, param, grad, state, group, lr):
        (beta1, beta2), step = group["betas"], steps_to_calculate(state["step"])
        grad = self._decay(param, grad, group, lr)
        mean, square = self._mean(grad, state, group)
        corrected = mean / (1 - beta1 ** step)
        left = 1 - beta2 ** step
        limit = 2 / (1 - beta2) - 1
        length = limit - 2 * step * beta2 ** step / left
        traced = isinstance(length, ntorch.Tensor)
        if traced or length > 5.0:
            rectified = ((length - 4) * (length - 2) * limit
                         / ((limit - 4) * (limit - 2) * length)) ** 0.5
            plain = corrected
            corrected = corrected * (left ** 0.5 / (square.sqrt() + group["eps"])) * rectified
            if traced:
                corrected = ntorch.where(length > 5.0, corrected, plain)
        add_scaled(param, corrected, -lr)


class ASGD(Composed):
    """Averaged gradient descent: ``p = (1 - lambd eta) p - eta g``, ``eta`` falling with the steps,
    and in ``ax`` the mean of p from step ``t0`` on (Polyak & Juditsky 1992).
    """

    def __init__(self, params, lr=1e-2, lambd=1e-4, alpha=0.75, t0=1e6, weight_decay=0,
                 foreach=None, maximize=False, differentiable=False, capturable=False):
        check_lr(lr)
        check_not_negative(weight_decay=weight_decay)
        super().__init__(params, {
            "lr": lr, "lambd": lambd, "alpha": alpha, "t0": t0, "weight_decay": weight_decay,
            "foreach": foreach, "maximize": maximize, "differentiable": differentiable,
            "capturable": capturable})

    def _blank(self, param, group):
        lr = group["lr"]
        lr = lr.item() if isinstance(lr, ntorch.Tensor) else lr
        return {"step": self._step_tensor(), "eta": self._step_tensor(float(lr)),
                "mu": self._step_tensor(1.0), "ax": ntorch.zeros_like(param.detach())}

    def _update(self, param, grad, state, group, lr):
        step, eta, mu = (steps_to_calculate(state[name]) for name in ("step", "eta", "mu"))
        param.mul_(1 - group["lambd"] * eta)
        add_scaled(param, grad, -eta)
        mean = state["ax"]
        if isinstance(mu, ntorch.Tensor):
            mean.copy_(ntorch.where(mu == 1, param, mean + (param - mean) * mu))
        elif mu == 1:
            mean.copy_(param)
        else:
            mean.add_((param - mean) * mu)
        lr = lr.reshape(()) if isinstance(lr, ntorch.Tensor) else lr
        state["eta"].fill_(lr / (1 + group["lambd"] * lr * step) ** group["alpha"])
        state["mu"].fill_(1 / _at_least_one(step - group["t0"]))


def _at_least_one(value):
    return value.clamp_min(1.0) if isinstance(value, ntorch.Tensor) else max(1, value)
