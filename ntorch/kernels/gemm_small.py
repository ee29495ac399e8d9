"""Matrix products too small or too thin to pack: register tiles straight on the operands, and dots.

Matrices are flat arrays with strides: element ``(i, j)`` of matrix ``b`` is at
``matrix_offset(b, ...) + i * row_stride + j * col_stride``. Each kernel is a range over batch or
rows and ends in the same affine step, ``out = alpha * sum + beta * c``, where c is broadcast by
zero strides and not read if beta is 0.
"""
from .gemm_pack import matrix_offset, turn_kernel
from .gemm_stubs import multiply_tile, stack_array
from .stubs import T

LOOPS_STAY_ROLLED = True

STACK_DEPTH = 256       # deepest K that the stack copy of one column panel holds


def finish_row(out, c, c_step, alpha, beta):
    """``out = alpha * out + beta * c`` over one row; ``c_step`` 0 takes ``c[0]`` for all."""
    if beta == T(0):
        for j in range(out.size):
            out[j] = alpha * out[j]
    elif c_step == 0:
        shift = beta * c[0]
        for j in range(out.size):
            out[j] = alpha * out[j] + shift
    elif c_step == 1:
        same = c[:out.size]
        for j in range(out.size):
            out[j] = alpha * out[j] + beta * same[j]
    else:
        for j in range(out.size):
            out[j] = alpha * out[j] + beta * c[j * c_step]


def small_product_kernel(rows, vectors, lanes, masked):
    """Batched ``out = alpha * a @ b + beta * c`` with register tiles on unpacked operands.

    ``b`` needs columns side by side (``b_col`` 1) or at most ``STACK_DEPTH`` rows: otherwise each
    column panel is turned on the stack. ``out`` is (batch, m, n) contiguous. Range: batch times
    ``blocks`` blocks of rows times ``across`` blocks of column panels. ``masked``: whether the
    target has masked loads and stores; where it has not, the last columns go through copies on the
    stack, and K is at most ``STACK_DEPTH``.
    """
    width = vectors * lanes
    half = max(1, vectors // 2)
    narrow = half * lanes
    stack, edge = width * STACK_DEPTH, width * rows
    some = max(1, rows // 2)
    turn_panel = turn_kernel(8)

    def small_product(a, a_inner, a_outer, a_batch, a_row, a_col,
                      b, b_inner, b_outer, b_batch, b_row, b_col,
                      c, c_inner, c_outer, c_batch, c_row, c_col,
                      out, m, n, k, blocks, across, alpha, beta, begin, end):
        turned = stack_array(T(0), stack)
        aside = stack_array(T(0), edge)
        panels = (n + width - 1) // width
        for item in range(begin, end):
            row_block = item // across
            side = item - row_block * across
            batch = row_block // blocks
            block = row_block - batch * blocks
            first = block * m // blocks
            last = (block + 1) * m // blocks
            left_side = side * panels // across * width
            right_side = min(n, (side + 1) * panels // across * width)
            a_at = matrix_offset(batch, a_inner, a_outer, a_batch)
            b_at = matrix_offset(batch, b_inner, b_outer, b_batch)
            for column in range(left_side, right_side, width):
                columns = min(width, n - column)
                panel = b
                p_at = b_at + column * b_col
                p_row = b_row
                apart = masked == 0 and columns < width
                if b_col != 1 or apart:
                    if b_row == 1:
                        turn_panel(b, p_at, b_col, turned, width, columns, k)
                    else:
                        for depth in range(k):
                            for j in range(columns):
                                turned[depth * width + j] = b[p_at + depth * b_row + j * b_col]
                    if apart:
                        for depth in range(k):
                            for j in range(columns, width):
                                turned[depth * width + j] = T(0)
                    panel = turned
                    p_at = 0
                    p_row = width
                i = first
                while i < last:
                    left = last - i
                    at = a_at + i * a_row
                    target = out
                    to = (batch * m + i) * n + column
                    to_row = n
                    if apart:
                        target = aside
                        to = 0
                        to_row = width
                    if columns <= narrow:
                        if left >= rows:
                            done = rows
                            multiply_tile(a, at, a_row, a_col, panel, p_at, p_row, target, to,
                                          to_row, k, 0, columns, rows, half, lanes, masked)
                        else:
                            done = 1
                            multiply_tile(a, at, a_row, a_col, panel, p_at, p_row, target, to,
                                          to_row, k, 0, columns, 1, half, lanes, masked)
                    elif left >= rows:
                        done = rows
                        multiply_tile(a, at, a_row, a_col, panel, p_at, p_row, target, to,
                                      to_row, k, 0, columns, rows, vectors, lanes, masked)
                    elif left >= some:
                        done = some
                        multiply_tile(a, at, a_row, a_col, panel, p_at, p_row, target, to,
                                      to_row, k, 0, columns, some, vectors, lanes, masked)
                    else:
                        done = 1
                        multiply_tile(a, at, a_row, a_col, panel, p_at, p_row, target, to,
                                      to_row, k, 0, columns, 1, vectors, lanes, masked)
                    if apart:
                        for r in range(done):
                            for j in range(columns):
                                out[(batch * m + i + r) * n + column + j] = aside[r * width + j]
                    i += done
            if alpha != T(1) or beta != T(0):
                c_at = matrix_offset(batch, c_inner, c_outer, c_batch) + left_side * c_col
                for i in range(first, last):
                    at = (batch * m + i) * n
                    finish_row(out[at + left_side:at + right_side], c[c_at + i * c_row:], c_col,
                               alpha, beta)
    return small_product


def matvec(a, a_inner, a_outer, a_batch, a_row, x, x_inner, x_outer, x_batch,
           c, c_inner, c_outer, c_batch, c_row, out, m, k, alpha, beta, begin, end):
    """``out[b, i] = alpha * dot(a[b, i], x[b]) + beta * c``; rows and x contiguous. Range: b * m.

    Needs ``reassoc`` to vectorise. Four rows at a time share the loads of x.
    """
    item = begin
    while item < end:
        batch = item // m
        row = item - batch * m
        stop = min(end - item, m - row)
        at_x = matrix_offset(batch, x_inner, x_outer, x_batch)
        vector = x[at_x:at_x + k]
        base = matrix_offset(batch, a_inner, a_outer, a_batch)
        i = 0
        while i < stop:
            at = base + (row + i) * a_row
            if stop - i >= 4:
                r0 = a[at:at + k]
                r1 = a[at + a_row:at + a_row + k]
                r2 = a[at + 2 * a_row:at + 2 * a_row + k]
                r3 = a[at + 3 * a_row:at + 3 * a_row + k]
                s0 = T(0)
                s1 = T(0)
                s2 = T(0)
                s3 = T(0)
                for j in range(k):
                    v = vector[j]
                    s0 += r0[j] * v
                    s1 += r1[j] * v
                    s2 += r2[j] * v
                    s3 += r3[j] * v
                to = item + i
                out[to] = alpha * s0
                out[to + 1] = alpha * s1
                out[to + 2] = alpha * s2
                out[to + 3] = alpha * s3
                i += 4
            else:
                r0 = a[at:at + k]
                s0 = T(0)
                for j in range(k):
                    s0 += r0[j] * vector[j]
                out[item + i] = alpha * s0
                i += 1
        if beta != T(0):
            at_c = matrix_offset(batch, c_inner, c_outer, c_batch)
            for i in range(stop):
                out[item + i] += beta * c[at_c + (row + i) * c_row]
        item += stop


def vecmat(x, x_inner, x_outer, x_batch, x_step, b, b_inner, b_outer, b_batch, b_row,
           c, c_inner, c_outer, c_batch, c_col, out, n, k, blocks, alpha, beta, begin, end):
    """``out[b, j] = alpha * sum over i of x[b, i] * B[b, i, j] + beta * c``; rows of B contiguous.

    Range: batch times ``blocks`` blocks of columns. Four rows of B at a time.
    """
    for item in range(begin, end):
        batch = item // blocks
        block = item - batch * blocks
        first = block * n // blocks
        last = (block + 1) * n // blocks
        width = last - first
        to = out[batch * n + first:batch * n + last]
        base = matrix_offset(batch, b_inner, b_outer, b_batch) + first
        base_x = matrix_offset(batch, x_inner, x_outer, x_batch)
        for j in range(width):
            to[j] = T(0)
        i = 0
        while i < k:
            at = base + i * b_row
            at_x = base_x + i * x_step
            if k - i >= 4:
                x0 = x[at_x]
                x1 = x[at_x + x_step]
                x2 = x[at_x + 2 * x_step]
                x3 = x[at_x + 3 * x_step]
                r0 = b[at:at + width]
                r1 = b[at + b_row:at + b_row + width]
                r2 = b[at + 2 * b_row:at + 2 * b_row + width]
                r3 = b[at + 3 * b_row:at + 3 * b_row + width]
                for j in range(width):
                    to[j] += (x0 * r0[j] + x1 * r1[j]) + (x2 * r2[j] + x3 * r3[j])
                i += 4
            else:
                x0 = x[at_x]
                r0 = b[at:at + width]
                for j in range(width):
                    to[j] += x0 * r0[j]
                i += 1
        if alpha != T(1) or beta != T(0):
            at_c = matrix_offset(batch, c_inner, c_outer, c_batch) + first * c_col
            finish_row(to, c[at_c:], c_col, alpha, beta)


def few_rows(a, a_row, b, b_row, c, c_row, c_col, out, m, n, k, alpha, beta, begin, end):
    """``out = alpha * a @ b.T + beta * c`` for few rows of a, rows of both contiguous: dots.

    Range: rows of b (columns of out). Needs ``reassoc``. Two rows of b by four of a at a time.
    """
    j = begin
    while j < end:
        pair = end - j >= 2
        r0 = b[j * b_row:j * b_row + k]
        r1 = b[(j + 1) * b_row:(j + 1) * b_row + k] if pair else r0
        i = 0
        while i < m:
            q0 = a[i * a_row:i * a_row + k]
            if m - i >= 4:
                q1 = a[(i + 1) * a_row:(i + 1) * a_row + k]
                q2 = a[(i + 2) * a_row:(i + 2) * a_row + k]
                q3 = a[(i + 3) * a_row:(i + 3) * a_row + k]
                s00 = T(0)
                s01 = T(0)
                s10 = T(0)
                s11 = T(0)
                s20 = T(0)
                s21 = T(0)
                s30 = T(0)
                s31 = T(0)
                for d in range(k):
                    y0 = r0[d]
                    y1 = r1[d]
                    s00 += q0[d] * y0
                    s01 += q0[d] * y1
                    s10 += q1[d] * y0
                    s11 += q1[d] * y1
                    s20 += q2[d] * y0
                    s21 += q2[d] * y1
                    s30 += q3[d] * y0
                    s31 += q3[d] * y1
                out[i * n + j] = s00
                out[(i + 1) * n + j] = s10
                out[(i + 2) * n + j] = s20
                out[(i + 3) * n + j] = s30
                if pair:
                    out[i * n + j + 1] = s01
                    out[(i + 1) * n + j + 1] = s11
                    out[(i + 2) * n + j + 1] = s21
                    out[(i + 3) * n + j + 1] = s31
                i += 4
            else:
                s00 = T(0)
                s01 = T(0)
                for d in range(k):
                    s00 += q0[d] * r0[d]
                    s01 += q0[d] * r1[d]
                out[i * n + j] = s00
                if pair:
                    out[i * n + j + 1] = s01
                i += 1
        j += 2 if pair else 1
    if alpha != T(1) or beta != T(0):
        for i in range(m):
            finish_row(out[i * n + begin:i * n + end], c[i * c_row + begin * c_col:], c_col, alpha,
                       beta)


def generic_product(a, b, out, begin, end):
    """Batched ``out = a @ b`` for any arithmetic type, integers and complex numbers included.

    Arrays (batch, rows, columns), b and out contiguous; sums in the type of ``out``, integers wrap.
    Range: output rows over all matrices. Four rows of b at a time.
    """
    m = out.shape[1]
    depth = a.shape[2]
    for item in range(begin, end):
        batch = item // m
        i = item - batch * m
        to = out[batch, i]
        for j in range(to.size):
            to[j] = T(0)
        k = 0
        while depth - k >= 4:
            x0 = a[batch, i, k]
            x1 = a[batch, i, k + 1]
            x2 = a[batch, i, k + 2]
            x3 = a[batch, i, k + 3]
            r0 = b[batch, k]
            r1 = b[batch, k + 1]
            r2 = b[batch, k + 2]
            r3 = b[batch, k + 3]
            for j in range(to.size):
                to[j] += T((x0 * r0[j] + x1 * r1[j]) + (x2 * r2[j] + x3 * r3[j]))
            k += 4
        while k < depth:
            x0 = a[batch, i, k]
            r0 = b[batch, k]
            for j in range(to.size):
                to[j] += T(x0 * r0[j])
            k += 1
