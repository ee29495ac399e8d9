"""What optimizers written in tensor operations share: the loop over parameters and their state."""
import ntorch

from .optimizer import Optimizer
from .updates import rate_to_calculate


class Composed(Optimizer):
    """An optimizer that gives ``_blank(param, group)``, the first state, and ``_update(param, grad,
    state, group, lr)``, one update in place.

    ``lr`` and ``steps_to_calculate(state["step"])`` are numbers; while a program is recorded they
    are zero-dim tensors, so that updates must be written for both, and read no tensor otherwise.

    Complex parameters are updated as pairs of real numbers. The gradient comes negated where the
    group says ``maximize``, and with the weight decay added where ``_decay_in_grad`` says so.
    """

    _decay_in_grad = True

    def __setstate__(self, state):
        super().__setstate__(state)
        for group in self.param_groups:
            for name, default in self._later_options().items():
                group.setdefault(name, default)

    def _later_options(self):
        return {"foreach": None, "maximize": False, "differentiable": False, "capturable": False}

    def _step_tensor(self, value=0.0):
        wide = ntorch.get_default_dtype() == ntorch.float64
        return ntorch.tensor(value, dtype=ntorch.float64 if wide else ntorch.float32)

    def step(self, closure=None):
        """Update every parameter that has a gradient; returns the loss of ``closure``."""
        loss = self._loss_of(closure)
        with self._recording():
            for group in self.param_groups:
                lr = rate_to_calculate(group)
                for param in group["params"]:
                    if param.grad is not None:
                        self._refuse_sparse(param.grad)
                        self._step_one(param, group, lr)
        return loss

    def _step_one(self, param, group, lr):
        state = self.state[param]
        if not state:
            state.update(self._blank(param, group))
        state["step"] += 1
        grad = -param.grad if group["maximize"] else param.grad
        if self._decay_in_grad and group.get("weight_decay", 0) != 0:
            grad = grad + param * group["weight_decay"]
        view, seen = param, state
        if param.is_complex():
            view, grad = ntorch.view_as_real(param), ntorch.view_as_real(grad)
            seen = {k: ntorch.view_as_real(v) if isinstance(v, ntorch.Tensor) and v.is_complex()
                    else v for k, v in state.items()}
        self._update(view, grad, seen, group, lr)
