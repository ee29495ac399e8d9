"""Adam and AdamW."""
import ntorch

from .optimizer import Optimizer, check_betas, check_flags, check_lr, scalar
from .updates import (
    by_dtype,
    fusible,
    moving,
    pinned,
    rate,
    rate_to_calculate,
    steps_to_calculate,
)


class Adam(Optimizer):
    """Adam (arXiv 1412.6980).

    ``m = beta1 m + (1 - beta1) g``, ``v = beta2 v + (1 - beta2) g^2``,
    ``p = p - lr m^ / (sqrt(v^) + eps)`` with ``m^ = m / (1 - beta1^t)``, ``v^ = v / (1 -
    beta2^t)``. ``g`` is the gradient (negated if ``maximize``) plus ``weight_decay p``, or, with
    ``decoupled_weight_decay``, p is first multiplied by ``1 - lr weight_decay``. ``amsgrad``
    divides by the largest ``v`` so far (Reddi et al. 2018). ``foreach``, ``fused`` and
    ``capturable`` choose nothing here: plain float parameters are always updated by one kernel.
    ``ValueError`` for options out of range.
    """

    _moving = frozenset(("lr", "initial_lr", "betas"))

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0,
                 amsgrad=False, *, foreach=None, maximize=False, capturable=False,
                 differentiable=False, fused=None, decoupled_weight_decay=False):
        check_lr(lr, foreach, capturable)
        if not 0.0 <= eps:
            raise ValueError(f"Invalid epsilon value: {eps}")
        check_betas(betas)
        if not 0.0 <= weight_decay:
            raise ValueError(f"Invalid weight_decay value: {weight_decay}")
        _check_tensor_betas(betas, foreach, capturable)
        super().__init__(params, {
            "lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay,
            "amsgrad": amsgrad, "maximize": maximize, "foreach": foreach,
            "capturable": capturable, "differentiable": differentiable, "fused": fused,
            "decoupled_weight_decay": decoupled_weight_decay})
        check_flags(foreach, fused, differentiable)

    def __setstate__(self, state):
        super().__setstate__(state)
        for group in self.param_groups:
            for name, default in (("amsgrad", False), ("maximize", False), ("foreach", None),
                                  ("capturable", False), ("differentiable", False),
                                  ("decoupled_weight_decay", False), ("fused", None)):
                group.setdefault(name, default)
            for param in group["params"]:
                step = self.state.get(param, {}).get("step")
                if step is not None and not isinstance(step, ntorch.Tensor):
                    self.state[param]["step"] = _step_tensor(float(step))

    def step(self, closure=None):
        """Update every parameter that has a gradient; returns the loss of ``closure``."""
        loss = self._loss_of(closure)
        with self._recording():
            for group in self.param_groups:
                self._update(group)
        return loss

    def _state_of(self, param, group):
        state = self.state[param]
        if not state:
            blank = param.detach()
            state["step"] = _step_tensor(0.0)
            state["exp_avg"] = ntorch.zeros_like(blank)
            state["exp_avg_sq"] = ntorch.zeros_like(blank)
            if group["amsgrad"]:
                state["max_exp_avg_sq"] = ntorch.zeros_like(blank)
        if group["differentiable"] and state["step"].requires_grad:
            raise RuntimeError("`requires_grad` is not supported for `step` in differentiable "
                               "mode")
        return state

    def _update(self, group):
        lists = ([], [], [], [], [], [])
        amsgrad = group["amsgrad"]
        plain = not (group["differentiable"] or any(
            isinstance(x, ntorch.Tensor) for x in (group["lr"], *group["betas"])))
        for param in group["params"]:
            grad = param.grad
            if grad is None:
                continue
            state = self._state_of(param, group)
            tensors = [param, grad, state["exp_avg"], state["exp_avg_sq"]]
            if amsgrad:
                tensors.append(state["max_exp_avg_sq"])
            if plain and fusible(tensors):
                for held, tensor in zip(lists, tensors, strict=False):
                    held.append(tensor)
                lists[5].append(state["step"])
            else:
                self._refuse_sparse(grad)
                state["step"] += 1
                _compose(param, state, group)
        if lists[0]:
            _fused(lists, group)


def _fused(lists, group):
    """The kernels, once for each dtype among the parameters."""
    op = (ntorch.ops._fused_adamw_ if group["decoupled_weight_decay"] else
          ntorch.ops._fused_adam_)
    beta1 = moving(lambda: float(group["betas"][0]))
    beta2 = pinned(lambda: float(group["betas"][1]))
    for part in by_dtype(lists):
        op(*part, lr=rate(group), beta1=beta1, beta2=beta2,
           weight_decay=float(group["weight_decay"]), eps=float(group["eps"]),
           amsgrad=bool(group["amsgrad"]), maximize=bool(group["maximize"]))


def _check_tensor_betas(betas, foreach, capturable):
    tensors = [isinstance(beta, ntorch.Tensor) for beta in betas]
    if any(tensors) and not all(tensors):
        raise ValueError("betas must be either both floats or both Tensors")
    for index, beta in enumerate(betas if all(tensors) else ()):
        if foreach and not capturable:
            raise ValueError(f"betas[{index}] as a Tensor is not supported for capturable=False "
                             "and foreach=True")
        if beta.numel() != 1:
            raise ValueError(f"Tensor betas[{index}] must be 1-element")


def _step_tensor(value):
    wide = ntorch.get_default_dtype() == ntorch.float64
    return ntorch.tensor(value, dtype=ntorch.float64 if wide else ntorch.float32)


def _compose(param, state, group):
    """The update in tensor operations: for any dtype, layout, and tensor options."""
    grad = -param.grad if group["maximize"] else param.grad
    lr, (beta1, beta2) = rate_to_calculate(group), pinned(lambda: group["betas"])
    if isinstance(lr, ntorch.Tensor):
        lr = lr.to(param.device)
    if group["weight_decay"] != 0:
        if group["decoupled_weight_decay"]:
            param.mul_(1 - lr * group["weight_decay"])
        else:
            grad = grad + param * group["weight_decay"]
    names = ["exp_avg", "exp_avg_sq"] + (["max_exp_avg_sq"] if group["amsgrad"] else [])
    held, view = [state[name] for name in names], param
    if param.is_complex():          # real and imaginary parts count as values of their own
        grad, view = ntorch.view_as_real(grad), ntorch.view_as_real(param)
        held = [ntorch.view_as_real(t) for t in held]
    mean, square = held[:2]
    mean.lerp_(grad, 1 - beta1)
    square.mul_(beta2).addcmul_(grad, grad, value=1 - scalar(beta2))
    step = state["step"] if group["differentiable"] else steps_to_calculate(state["step"])
    size, root = lr / (1 - beta1 ** step), (1 - beta2 ** step) ** 0.5
    if group["amsgrad"]:
        largest = held[2]
        largest.copy_(ntorch.maximum(largest.clone() if group["differentiable"] else largest,
                                     square))
        square = largest
    denominator = square.sqrt() / root + group["eps"]
    view.sub_(mean / denominator * size)


class AdamW(Adam):
    """Adam with decoupled weight decay (arXiv 1711.05101): ``p`` is first multiplied by
    ``1 - lr weight_decay``. Options as in ``Adam``.
    """

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=1e-2,
                 amsgrad=False, *, maximize=False, foreach=None, capturable=False,
                 differentiable=False, fused=None):
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, foreach=foreach,
                         maximize=maximize, capturable=capturable, differentiable=differentiable,
                         fused=fused, decoupled_weight_decay=True)

    def __setstate__(self, state):
        super().__setstate__(state)
        for group in self.param_groups:
            group["decoupled_weight_decay"] = True
