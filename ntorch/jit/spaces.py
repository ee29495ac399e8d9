"""Iteration spaces of groups: how the nodes of one kernel are laid over each other.

A *group* is what becomes one kernel. It has a space, a list of sizes, of which some dimensions may
be *columns*: those that its reductions reduce; the others are *rows*. Every view a member uses is
an *access*: where an element lies for an index of the space, as one stride per dimension. A member
that runs over the rows alone has stride 0 along the columns.

Two groups are merged over an access to the same elements in each: dimensions are matched by their
strides and split where one group sees two dimensions in what the other sees as one.
"""
import typing

from .ir import Map, View

MAX_OPERANDS = 20       # views that one kernel uses: each takes a register for its address
MAX_MEMBERS = 64
MORE = "the consumer has more elements"     # why a small producer stays apart


class Access(typing.NamedTuple):
    """Elements of a buffer, by index of a group's space."""
    buffer: typing.Any
    dtype: typing.Any
    offset: int
    strides: tuple


class Member(typing.NamedTuple):
    """A node of a group; ``arguments`` are accesses and numbers, ``results`` accesses. ``full``
    members run over the whole space, others over its rows."""
    node: typing.Any
    position: int
    arguments: tuple
    results: tuple
    full: bool

    def accesses(self):
        """What it reads and writes."""
        return [a for a in (*self.arguments, *self.results) if type(a) is Access]


class Group:
    """Members over one space. ``columns`` is the set of reduced dimensions, None without a
    reduction. ``nodes`` is the bitset of positions."""

    __slots__ = ("sizes", "columns", "members", "nodes", "why", "_accesses", "_written")

    def __init__(self, sizes, columns, members, why=()):
        self.sizes, self.columns = sizes, columns
        self.members, self.nodes, self.why = members, 0, list(why)
        self._accesses = self._written = None
        for member in members:
            self.nodes |= 1 << member.position

    def accesses(self):
        """All distinct accesses, in the order of their first use."""
        if self._accesses is None:
            self._accesses = list(dict.fromkeys(a for m in self.members for a in m.accesses()))
        return self._accesses

    def written(self):
        """Distinct accesses that are written."""
        if self._written is None:
            self._written = list(dict.fromkeys(a for m in self.members for a in m.results))
        return self._written

    def touched(self):
        """Buffers of all accesses."""
        return {a.buffer for a in self.accesses()}


def group_of(node, position):
    """The group of one ``Map`` or ``Reduce``; None for a form that is left to eager's kernels."""
    if isinstance(node, Map):
        dims = [d for d, size in enumerate(node.shape) if size != 1]
        arguments = tuple(_access(o, dims) if type(o) is View else o for o in node.operands)
        results = tuple(_access(r, dims) for r in node.results)
        return Group([node.shape[d] for d in dims], None,
                     [Member(node, position, arguments, results, True)])
    shape = node.source.shape
    dims = [d for d, size in enumerate(shape) if size != 1]
    columns = frozenset(k for k, d in enumerate(dims) if d in node.dims)
    if not columns:
        return None
    kept = iter(zip(node.result.shape, node.result.strides, strict=True))
    strides = {d: (next(kept)[1] if d not in node.dims else 0) for d in range(len(shape))}
    result = Access(node.result.buffer, node.result.dtype, node.result.offset,
                    tuple(strides[d] for d in dims))
    return Group([shape[d] for d in dims], columns,
                 [Member(node, position, (_access(node.source, dims),), (result,), True)])


def _access(view, dims):
    return Access(view.buffer, view.dtype, view.offset, tuple(view.strides[d] for d in dims))


def _match(first, second):
    """Pieces ``(dim, factor, dim, factor, size)`` that two lists of ``(size, stride, dim)`` have in
    common, innermost first; None if they step through memory differently."""
    first, second = (sorted(side, key=lambda entry: entry[1]) for side in (first, second))
    pieces, i, j = [], 0, 0
    left = right = done_left = done_right = 1
    while i < len(first) and j < len(second):
        if done_left == 1:
            left = first[i][0]
        if done_right == 1:
            right = second[j][0]
        if first[i][1] * done_left != second[j][1] * done_right:
            return None
        if left % right and right % left:
            return None
        size = min(left, right)
        pieces.append((first[i][2], done_left, second[j][2], done_right, size))
        left, right = left // size, right // size
        done_left, done_right = done_left * size, done_right * size
        if left == 1:
            i, done_left = i + 1, 1
        if right == 1:
            j, done_right = j + 1, 1
    return pieces if i == len(first) and j == len(second) else None


def _split(group, access):
    """The dimensions along which an access moves, and the others, as ``(size, stride, dim)``; the
    others get strides as if they lay row-major behind each other."""
    moving, still, step = [], [], 1
    for d in reversed(range(len(group.sizes))):
        if access.strides[d]:
            moving.append((group.sizes[d], access.strides[d], d))
        else:
            still.append((group.sizes[d], step, d))
            step *= group.sizes[d]
    return moving, still


def overlay(first, second, a, b, spread=False):
    """The merged group over access ``a`` of ``first`` and ``b`` of ``second``, or a reason.

    With ``spread`` the dimensions along which ``second`` only repeats what ``first`` gives may
    become columns, though nothing is reduced.
    """
    if (first.sizes == second.sizes and a.strides == b.strides and all(a.strides)
            and (first.columns is None or second.columns in (None, first.columns))):
        members = sorted([*first.members, *second.members], key=lambda m: m.position)
        columns = second.columns if first.columns is None else first.columns
        return Group(first.sizes, columns, members, [*first.why, *second.why])
    moving_a, still_a = _split(first, a)
    moving_b, still_b = _split(second, b)
    if any(entry[1] < 0 for entry in moving_a + moving_b):
        return "it is read backwards"
    pieces = _match(moving_a, moving_b)
    if pieces is None:
        return "its elements are visited in another order"
    full_a = full_b = True
    if still_a and still_b:
        rest = _match(still_a, still_b)
        if rest is None:
            return "the other dimensions differ"
        pieces += rest
    elif still_a:
        if second.columns is not None or {d for _, _, d in still_a} != first.columns:
            return "the consumer has fewer elements"
        pieces += [(d, 1, None, 1, size) for size, _, d in still_a]
        full_b = False
    elif still_b:
        columns = {d for _, _, d in still_b}
        spread = spread and second.columns is None
        if first.columns is not None or not spread and columns != second.columns:
            return MORE
        pieces += [(None, 1, d, 1, size) for size, _, d in still_b]
        full_a = False
        if spread:
            second = Group(second.sizes, frozenset(columns), second.members, second.why)
    return _joined(first, second, pieces, full_a, full_b)


def _joined(first, second, pieces, full_a, full_b):
    """Both groups over the pieces."""
    pieces.reverse()
    columns = None
    for group, side in ((first, 0), (second, 2)):
        if group.columns is not None:
            own = frozenset(k for k, p in enumerate(pieces) if p[side] in group.columns)
            if columns is not None and own != columns:
                return "they reduce different dimensions"
            columns = own
    members = [_moved(m, pieces, 0, full_a) for m in first.members]
    members += [_moved(m, pieces, 2, full_b) for m in second.members]
    members.sort(key=lambda m: m.position)
    sizes, columns, members = _coarsened([p[4] for p in pieces], columns, members)
    return Group(sizes, columns, members, [*first.why, *second.why])


def _moved(member, pieces, side, full):
    def move(access):
        if type(access) is not Access:
            return access
        old = access.strides
        return Access(access.buffer, access.dtype, access.offset, tuple([
            0 if place is None else old[place] * factor for place, factor in wanted]))
    wanted = [(p[side], p[side + 1]) for p in pieces]
    return Member(member.node, member.position, tuple(map(move, member.arguments)),
                  tuple(map(move, member.results)), member.full and full)


def _coarsened(sizes, columns, members):
    """Neighbouring dimensions that every access steps through as one are made one again."""
    every = [a for m in members for a in m.accesses()]
    keep = [True] * len(sizes)
    for d in range(len(sizes) - 1):
        if columns is not None and (d in columns) != (d + 1 in columns):
            continue
        if all(a.strides[d] == a.strides[d + 1] * sizes[d + 1] for a in every):
            keep[d] = False
    if all(keep):
        return sizes, columns, members
    merged, step, kept = [], 1, [d for d, k in enumerate(keep) if k]
    for d, size in enumerate(sizes):
        step *= size
        if keep[d]:
            merged.append(step)
            step = 1
    # a stride product across several merged dimensions is that of the innermost
    if columns is not None:
        columns = frozenset(k for k, d in enumerate(kept) if d in columns)

    def move(access):
        if type(access) is not Access:
            return access
        old = access.strides
        return Access(access.buffer, access.dtype, access.offset, tuple([old[d] for d in kept]))
    members = [Member(m.node, m.position, tuple(map(move, m.arguments)),
                      tuple(map(move, m.results)), m.full) for m in members]
    return merged, columns, members


def hazard(group):
    """Why the accesses of a group forbid one kernel, or None: elements that are written must be
    seen at the same index by all."""
    written = {a.buffer for a in group.written()}
    by_buffer = {}
    for access in group.accesses():
        if access.buffer in written:
            by_buffer.setdefault(access.buffer, []).append(access)
    writes = set(group.written())
    for accesses in by_buffer.values():
        for i, one in enumerate(accesses):
            for other in accesses[:i]:
                if (one in writes or other in writes) and not _disjoint(one, other, group.sizes):
                    return f"{one.buffer!r} is written and seen at another index"
    return None


def _disjoint(one, other, sizes):
    """Whether two accesses certainly share no byte."""
    a, b = _range(one, sizes), _range(other, sizes)
    if a[1] <= b[0] or b[1] <= a[0]:
        return True
    if one.strides != other.strides or one.dtype.itemsize != other.dtype.itemsize:
        return False
    # slices of one tensor: the distance fits in a gap that no sum of smaller steps reaches
    distance = abs(one.offset - other.offset)
    steps = sorted((s, n) for s, n in zip(one.strides, sizes, strict=True) if s > 0)
    for k, (stride, _) in enumerate(steps):
        reach = sum(s * (n - 1) for s, n in steps[:k])
        outer = steps[k:]
        if reach < distance and distance + reach < stride and all(
                s % stride == 0 for s, _ in outer):
            return True
    return False


def _range(access, sizes):
    low = high = access.offset
    for size, stride in zip(sizes, access.strides, strict=True):
        if stride > 0:
            high += (size - 1) * stride
        else:
            low += (size - 1) * stride
    return low * access.dtype.itemsize, (high + 1) * access.dtype.itemsize
