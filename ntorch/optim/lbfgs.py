"""L-BFGS: a quasi-Newton method with a limited memory (Liu & Nocedal 1989)."""
import ntorch

from .line_search import strong_wolfe
from .optimizer import Optimizer


class LBFGS(Optimizer):
    """Steps along ``-H g``, H an approximation of the inverse Hessian from the last
    ``history_size`` steps. ``step`` needs a closure, which it calls several times.

    ``line_search_fn`` is None (a fixed rate) or "strong_wolfe". A single group of parameters:
    ``ValueError`` for more.
    """

    def __init__(self, params, lr=1, max_iter=20, max_eval=None, tolerance_grad=1e-7,
                 tolerance_change=1e-9, history_size=100, line_search_fn=None):
        if not 0.0 <= lr:
            raise ValueError(f"Invalid learning rate: {lr}")
        super().__init__(params, {
            "lr": lr, "max_iter": max_iter,
            "max_eval": max_iter * 5 // 4 if max_eval is None else max_eval,
            "tolerance_grad": tolerance_grad, "tolerance_change": tolerance_change,
            "history_size": history_size, "line_search_fn": line_search_fn})
        if len(self.param_groups) != 1:
            raise ValueError("LBFGS doesn't support per-parameter options (parameter groups)")
        self._params = self.param_groups[0]["params"]

    def _flat(self, values):
        parts = []
        for value in values:
            if value.is_complex():
                value = ntorch.view_as_real(value)
            parts.append(value.reshape(-1))
        return ntorch.cat(parts)

    def _grad(self):
        return self._flat([ntorch.zeros_like(p) if p.grad is None else p.grad
                           for p in self._params])

    def _add(self, scale, direction):
        start = 0
        for param in self._params:
            view = ntorch.view_as_real(param) if param.is_complex() else param
            part = direction[start:start + view.numel()]
            view.add_(part.view_as(view), alpha=scale)
            start += view.numel()

    def _at(self, closure, start, t, direction):
        """Loss and gradient at ``start + t direction``; the parameters stay at ``start``."""
        self._add(t, direction)
        loss = float(closure())
        grad = self._grad()
        for param, old in zip(self._params, start, strict=True):
            param.copy_(old)
        return loss, grad

    def step(self, closure):
        """Up to ``max_iter`` iterations; returns the first loss."""
        with ntorch.no_grad():
            return self._step(ntorch.enable_grad()(closure))

    def _step(self, closure):
        group, state = self.param_groups[0], self.state[self._params[0]]
        state.setdefault("func_evals", 0)
        state.setdefault("n_iter", 0)
        first = closure()
        run = {"loss": float(first), "evals": 1, "grad": self._grad()}
        state["func_evals"] += 1
        if run["grad"].abs().max() <= group["tolerance_grad"]:
            return first
        for number in range(1, group["max_iter"] + 1):
            state["n_iter"] += 1
            run["last"] = number == group["max_iter"]
            if self._iterate(closure, group, state, run):
                break
        state["prev_loss"] = run.get("before", run["loss"])
        return first

    def _iterate(self, closure, group, state, run):
        """One iteration; whether it was the last."""
        grad = run["grad"]
        direction = self._direction(grad, group, state)
        state["prev_flat_grad"] = grad.clone()
        run["before"] = run["loss"]
        lr = group["lr"].item() if isinstance(group["lr"], ntorch.Tensor) else group["lr"]
        t = min(1.0, 1.0 / float(grad.abs().sum())) * lr if state["n_iter"] == 1 else lr
        slope = float(grad.dot(direction))
        state["d"], state["t"] = direction, t
        if slope > -group["tolerance_change"]:
            return True
        evals = self._move(closure, group, state, run, t, slope)
        run["evals"] += evals
        state["func_evals"] += evals
        flat = float(run["grad"].abs().max())
        moved = float(direction.mul(state["t"]).abs().max())
        return (run["last"] or run["evals"] >= group["max_eval"] or flat <= group["tolerance_grad"]
                or moved <= group["tolerance_change"]
                or abs(run["loss"] - run["before"]) < group["tolerance_change"])

    def _move(self, closure, group, state, run, t, slope):
        """Go along the direction; the number of evaluations it took."""
        direction = state["d"]
        if group["line_search_fn"] is not None:
            if group["line_search_fn"] != "strong_wolfe":
                raise RuntimeError("only 'strong_wolfe' is supported")
            start = [p.clone() for p in self._params]
            run["loss"], run["grad"], t, evals = strong_wolfe(
                lambda t: self._at(closure, start, t, direction), t, direction, run["loss"],
                run["grad"], slope)
            self._add(t, direction)
            state["t"] = t
            return evals
        self._add(t, direction)
        if run["last"]:       # nobody would look at the loss
            return 0
        run["loss"] = float(closure())
        run["grad"] = self._grad()
        return 1

    def _direction(self, grad, group, state):
        """``-H g`` by the two-loop recursion."""
        if state["n_iter"] == 1:
            state.update(old_dirs=[], old_stps=[], ro=[], H_diag=1)
            state["al"] = [None] * group["history_size"]
            return grad.neg()
        y = grad.sub(state["prev_flat_grad"])
        s = state["d"].mul(state["t"])
        ys = float(y.dot(s))
        if ys > 1e-10:
            if len(state["old_dirs"]) == group["history_size"]:
                for name in ("old_dirs", "old_stps", "ro"):
                    state[name].pop(0)
            state["old_dirs"].append(y)
            state["old_stps"].append(s)
            state["ro"].append(1.0 / ys)
            state["H_diag"] = ys / float(y.dot(y))
        q, alphas = grad.neg(), []
        history = list(zip(state["old_dirs"], state["old_stps"], state["ro"], strict=True))
        for y, s, ro in reversed(history):
            alphas.append(float(s.dot(q)) * ro)
            q.add_(y, alpha=-alphas[-1])
        q.mul_(state["H_diag"])
        for (y, s, ro), alpha in zip(history, reversed(alphas), strict=True):
            q.add_(s, alpha=alpha - float(y.dot(q)) * ro)
        return q
