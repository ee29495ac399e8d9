"""A line search for the strong Wolfe conditions (Nocedal & Wright, algorithms 3.5 and 3.6)."""


def _minimum(x1, f1, g1, x2, f2, g2, bounds=None):
    """Where the cubic through two points with slopes is smallest, within the bounds."""
    low, high = bounds if bounds is not None else (min(x1, x2), max(x1, x2))
    d1 = g1 + g2 - 3 * (f1 - f2) / (x1 - x2)
    square = d1 * d1 - g1 * g2
    if square < 0:
        return (low + high) / 2
    d2 = square ** 0.5
    if x1 <= x2:
        place = x2 - (x2 - x1) * ((g2 + d2 - d1) / (g2 - g1 + 2 * d2))
    else:
        place = x1 - (x1 - x2) * ((g1 + d2 - d1) / (g1 - g2 + 2 * d2))
    return min(max(place, low), high)


class _Point:
    """A step length with its loss, gradient and slope."""

    def __init__(self, t, loss, grad, slope):
        self.t, self.loss, self.grad, self.slope = t, loss, grad, slope


def _bracket(evaluate, start, t, direction, c1, c2, max_ls):
    """Points around a step that meets the conditions (or one that does), and the evaluations."""
    previous, point, evals = start, evaluate(t), 1
    for count in range(max_ls):
        if point.loss > start.loss + c1 * point.t * start.slope or (
                count > 0 and point.loss >= previous.loss):
            return [previous, point], evals, count
        if abs(point.slope) <= -c2 * start.slope:
            return [point], evals, count
        if point.slope >= 0:
            return [previous, point], evals, count
        low = point.t + 0.01 * (point.t - previous.t)
        longer = _minimum(previous.t, previous.loss, previous.slope, point.t, point.loss,
                          point.slope, (low, point.t * 10))
        previous = point
        point = evaluate(longer)
        evals += 1
    return [start, point], evals, max_ls


def _inside(t, low, high, insufficient):
    """``t`` moved away from the ends of the bracket if it hardly leaves them."""
    if min(high - t, t - low) / (high - low) < 0.1:
        if insufficient or t >= high or t <= low:
            end = high if abs(t - high) < abs(t - low) else low
            return end + (0.1 if end == low else -0.1) * (high - low), False
        return t, True
    return t, False


def strong_wolfe(objective, t, direction, loss, grad, slope, c1=1e-4, c2=0.9,
                 tolerance_change=1e-9, max_ls=25):
    """A step length with enough decrease and a flat enough slope.

    ``objective(t)`` gives loss and gradient. Returns loss, gradient, step and evaluations.
    """
    size = float(direction.abs().max())
    start = _Point(0, loss, grad.clone(), slope)

    def evaluate(t):
        loss, grad = objective(t)
        return _Point(t, loss, grad.clone(), float(grad.dot(direction)))

    bracket, evals, count = _bracket(evaluate, start, t, direction, c1, c2, max_ls)
    if len(bracket) == 1:
        best = bracket[0]
        return best.loss, best.grad, best.t, evals
    low, high = sorted(bracket, key=lambda p: p.loss)
    insufficient = False
    while count < max_ls:
        if abs(high.t - low.t) * size < tolerance_change:
            break
        first, second = bracket
        t = _minimum(first.t, first.loss, first.slope, second.t, second.loss, second.slope)
        t, insufficient = _inside(t, min(low.t, high.t), max(low.t, high.t), insufficient)
        point = evaluate(t)
        evals, count = evals + 1, count + 1
        if point.loss > start.loss + c1 * t * start.slope or point.loss >= low.loss:
            bracket[bracket.index(high)] = point
            low, high = sorted(bracket, key=lambda p: p.loss)
        else:
            if abs(point.slope) <= -c2 * start.slope:
                return point.loss, point.grad, point.t, evals
            place = bracket.index(low)
            if point.slope * (high.t - low.t) >= 0:
                bracket[1 - place] = high = low
            bracket[place] = low = point
    return low.loss, low.grad, low.t, evals
