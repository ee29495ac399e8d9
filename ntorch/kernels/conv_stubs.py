"""Intrinsics of direct convolution, with their meaning in plain Python.

Their compiled twins are in ``runtime/intrinsics_conv.py``. Nothing checks the bounds.
"""
from .stubs import stub


@stub
def multiply_taps(a, a_at, x, lines, depth, spots, places, first, out, out_at, out_row, rows,
                  vectors, lanes):
    """Register tile of a convolution: ``rows`` filters at ``vectors`` runs of ``lanes`` positions.

    ``out[i, places[v] + lane] = sum over k < depth of a[k, i] * x[lines[k] + spots[v] + lane]`` for
    the vectors v from ``first`` on; ``a[k, i]`` is at ``a_at + k * rows + i``, ``out[i, p]`` at
    ``out_at + i * out_row + p``. Vectors are stored in order: where they overlap the later one
    stays. The last three arguments are literals.
    """
    for v in range(first, first + vectors):
        for i in range(rows):
            at = out_at + i * out_row + places[v]
            for lane in range(lanes):
                total = out.dtype.type(0)
                for k in range(depth):
                    total += a[a_at + k * rows + i] * x[lines[k] + spots[v] + lane]
                out[at + lane] = total


@stub
def sum_taps(g, g_at, g_row, x, lines, first, spots, counts, count, sums, sums_at, rows, taps,
             lanes):
    """Register tile of a gradient in filters: ``rows`` filters by ``taps`` lines.

    Adds to ``sums[i, j, lane]`` (flat, from ``sums_at`` on) the sum over vectors e < ``count`` of
    ``g[g_at + i * g_row + e * lanes + lane] * x[lines[first + j] + spots[e] + lane]``, with 0 in
    place of ``x`` in lanes from ``counts[e]`` on. The last three arguments are literals.
    """
    for i in range(rows):
        for j in range(taps):
            for e in range(count):
                for lane in range(lanes):
                    value = x.dtype.type(0)
                    if lane < counts[e]:
                        value = x[lines[first + j] + spots[e] + lane]
                    sums[sums_at + (i * taps + j) * lanes + lane] += (
                        g[g_at + i * g_row + e * lanes + lane] * value)


@stub
def sum_lanes(source, at, lanes):
    """The sum of ``source[at:at + lanes]``, ``lanes`` a literal, in an order of its own."""
    total = source.dtype.type(0)
    for lane in range(lanes):
        total += source[at + lane]
    return total
