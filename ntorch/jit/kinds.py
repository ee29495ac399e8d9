"""How groups with columns are run: ``rows``, ``partial`` or ``across`` (``rows.py``), and which
groups none of the three runs well."""
from ..ops.base import product
from .ir import Reduce
from .spaces import MORE

MIN_ROWS = 16           # rows that several passes over long columns are worth running in parallel
SHORT = 8192            # columns so few that rows need not be many
WHOLE_ROWS = 64         # rows from which a reduction is not cut in blocks
REPEATED = 64           # uses of a value of a row that make its computation worth a loop over rows


def refusal(group):
    """What speaks against running a group with columns as one kernel, or None."""
    kind = kind_of(group)
    several = _several_passes(group)
    if several and not _reductions(group) and _count(group) < REPEATED:
        return MORE
    if kind == "across" and several:
        return "its columns lie apart"
    if kind == "partial" and several:
        return "its rows are few and long"
    if kind in ("partial", "across") and not _dense_results(group):
        return "results of reductions lie in different orders"
    return None


def _reductions(group):
    return [m for m in group.members if type(m.node) is Reduce]


def _count(group):
    return product(group.sizes[d] for d in group.columns)


def _several_passes(group):
    """Whether a member uses a reduction's result, or runs over rows alone."""
    reduced = {m.results[0] for m in _reductions(group)}
    return any(not m.full or any(a in reduced for a in m.arguments) for m in group.members)


def _dense_results(group):
    """Whether all reductions write rows of the same order, without gaps."""
    kept = [d for d in range(len(group.sizes)) if d not in group.columns]
    strides = {tuple(m.results[0].strides[d] for d in kept) for m in _reductions(group)}
    if len(strides) != 1:
        return False
    step = 1
    for stride, size in sorted(zip(strides.pop(), (group.sizes[d] for d in kept), strict=True)):
        if stride != step:
            return False
        step *= size
    return True


def kind_of(group):
    """How a group with reductions is run: "rows", "partial" or "across"."""
    wide = [a for a in group.accesses() if any(a.strides[d] for d in group.columns)]
    along = sum(any(a.strides[d] == 1 for d in group.columns) for a in wide)
    beside = [d for a in wide for d, s in enumerate(a.strides) if s == 1 and d not in group.columns]
    n_rows = product(n for d, n in enumerate(group.sizes) if d not in group.columns)
    count = _count(group)
    if len(beside) > along and max(group.sizes[d] for d in beside) >= 8:
        return "across"
    several = _several_passes(group)
    if count <= (SHORT if several else 4096) or n_rows >= (MIN_ROWS if several else WHOLE_ROWS):
        return "rows"
    return "partial"
