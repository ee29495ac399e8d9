"""Convolution as a matrix product.

An image is first *spread*: padded, and cut into the phases of the stride, so that
``spread[phase, q] = image[q * stride + phase - padding]``. In it every tap of a convolution, for
any stride and dilation, is the whole output grid shifted by a constant. Output positions are
numbered over the spread grid's rows (*virtual* positions, some beyond the row's end, which nobody
stores), so the operand of the product is, for each tap, one contiguous run. This is the indirect
convolution of arXiv 1907.02129 with a constant instead of a table of pointers. Panels and
epilogues: ``gemm.py``.
"""
from .gemm_pack import matrix_offset
from .gemm_stubs import move_line, turn_square
from .stubs import T


def spread(x, out, stride_z, stride_y, stride_x, pad_z, pad_y, pad_x, begin, end):
    """Pad and cut into phases. ``x``: (planes, D, H, W); ``out``: (planes, phases, Dq, Hq, Wq).

    Range: planes. Everything outside the image is zero.
    """
    depth, height, width = x.shape[1], x.shape[2], x.shape[3]
    for plane in range(begin, end):
        for phase in range(out.shape[1]):
            phase_z = phase // (stride_y * stride_x)
            rest = phase - phase_z * stride_y * stride_x
            phase_y = rest // stride_x
            phase_x = rest - phase_y * stride_x
            shift = phase_x - pad_x
            first = min(max(0, (-shift + stride_x - 1) // stride_x), out.shape[4])
            last = max(min((width - shift + stride_x - 1) // stride_x, out.shape[4]), first)
            for qz in range(out.shape[2]):
                z = qz * stride_z + phase_z - pad_z
                for qy in range(out.shape[3]):
                    y = qy * stride_y + phase_y - pad_y
                    to = out[plane, phase, qz, qy]
                    if z < 0 or z >= depth or y < 0 or y >= height:
                        for i in range(to.shape[0]):
                            to[i] = T(0)
                        continue
                    line = x[plane, z, y]
                    for i in range(first):
                        to[i] = T(0)
                    if stride_x == 1:
                        source, target = line[first + shift:last + shift], to[first:last]
                        for i in range(last - first):
                            target[i] = source[i]
                    else:
                        for i in range(first, last):
                            to[i] = line[i * stride_x + shift]
                    tail = to[last:]
                    for i in range(tail.shape[0]):
                        tail[i] = T(0)


def pack_taps_kernel(width):
    """Packer whose lines are virtual positions and whose depths are taps: depth ``k`` of line ``l``
    is ``source[start + offsets[k] + l]``.

    Own parameters: ``source`` (flat), ``offsets`` per depth, and where matrix ``batch`` starts.
    """
    def pack_taps(panel, batch, k0, kc, source, offsets, inner, outer_stride, inner_stride, begin,
                  end):
        base = matrix_offset(batch, inner, outer_stride, inner_stride)
        for first in range(begin, end, width):
            block = panel[(first - begin) * kc:(first - begin + width) * kc]
            lines = min(width, end - first)
            for k in range(kc):
                here = base + first + offsets[k0 + k]
                if lines == width:
                    move_line(source, here, block, k * width, width)
                else:
                    to = block[k * width:k * width + width]
                    part = source[here:here + lines]
                    for i in range(lines):
                        to[i] = part[i]
                    for i in range(lines, width):
                        to[i] = T(0)
    return pack_taps


def turn_run(source, at, step, out, width, lines, depth):
    """``out[k * width + i] = source[at + i * step + k]`` for i < ``lines``, k < ``depth``; squares
    that overlap at the end leave no remainder."""
    i = 0
    while i < lines:
        start = at + i * step
        if lines - i >= 8 and depth >= 8:
            for k in range(0, depth - 7, 8):
                turn_square(source, start + k, step, out, k * width + i, width, 8)
            k = depth - 8
            turn_square(source, start + k, step, out, k * width + i, width, 8)
            i += 8
        elif lines - i >= 4 and depth >= 4:
            for k in range(0, depth - 3, 4):
                turn_square(source, start + k, step, out, k * width + i, width, 4)
            k = depth - 4
            turn_square(source, start + k, step, out, k * width + i, width, 4)
            i += 4
        else:
            for k in range(depth):
                out[k * width + i] = source[start + k]
            i += 1


def pack_runs_kernel(width):
    """Packer for sums over all output positions of all images: depth ``k`` is a position, line
    ``l`` starts at ``offsets[l]``.

    Own parameters: ``source`` (flat), ``offsets`` per line; positions of a row, rows of a plane and
    planes of an image; from row to row, plane to plane, image to image and matrix to matrix. Lines
    a constant apart are transposed in registers.
    """
    def pack_runs(panel, batch, k0, kc, source, offsets, run, rows, planes, row_stride,
                  plane_stride, image_stride, group_stride, begin, end):
        for first in range(begin, end, width):
            block = panel[(first - begin) * kc:(first - begin + width) * kc]
            lines = min(width, end - first)
            if lines < width:
                for k in range(kc):
                    for i in range(lines, width):
                        block[k * width + i] = T(0)
            i = 0
            while i < lines:
                count = 1
                step = 0
                if i + 1 < lines:
                    step = offsets[first + i + 1] - offsets[first + i]
                    while (i + count < lines and
                           offsets[first + i + count] - offsets[first + i] == count * step):
                        count += 1
                k = 0
                while k < kc:
                    row = (k0 + k) // run
                    x = k0 + k - row * run
                    plane = row // rows
                    image = plane // planes
                    length = min(kc - k, run - x)
                    at = (batch * group_stride + image * image_stride
                          + (plane - image * planes) * plane_stride
                          + (row - plane * rows) * row_stride + x + offsets[first + i])
                    turn_run(source, at, step, block[k * width + i:], width, count, length)
                    k += length
                i += count
    return pack_runs


def store_grid(tile, batch, row, column, columns, out, bias, groups, row_width, plane_rows, begin,
               end):
    """Epilogue of the forward product: virtual positions to ``out`` (matrices, M, D, H, W), plus
    ``bias[(batch % groups) * M + row]`` (an empty bias adds nothing).

    ``row_width`` and ``plane_rows`` are the sizes of the spread grid that positions are counted in.
    """
    depth, height, width = out.shape[2], out.shape[3], out.shape[4]
    lead = (batch - batch // groups * groups) * out.shape[1]
    j = 0
    while j < columns:
        line = (column + j) // row_width
        x = column + j - line * row_width
        z = line // plane_rows
        y = line - z * plane_rows
        run = min(columns - j, row_width - x)
        valid = min(run, width - x)
        if z < depth and y < height and valid > 0:
            for i in range(begin, end):
                shift = T(0)
                if bias.shape[0] > 0:
                    shift = bias[lead + row + i]
                to = out[batch, row + i, z, y, x:x + valid]
                sums = tile[i, j:j + valid]
                for k in range(valid):
                    to[k] = sums[k] + shift
        j += run


def store_phase(tile, batch, row, column, columns, out, bias, groups, row_width, plane_rows,
                stride_z,
                stride_y, stride_x, shift_z, shift_y, shift_x, begin, end):
    """Epilogue of the transposed product: position ``q`` of a phase goes to ``q * stride +
    shift``."""
    depth, height, width = out.shape[2], out.shape[3], out.shape[4]
    lead = (batch - batch // groups * groups) * out.shape[1]
    j = 0
    while j < columns:
        line = (column + j) // row_width
        x = column + j - line * row_width
        qz = line // plane_rows
        z = qz * stride_z + shift_z
        y = (line - qz * plane_rows) * stride_y + shift_y
        run = min(columns - j, row_width - x)
        first = min(max(0, (-shift_x + stride_x - 1) // stride_x - x), run)
        last = max(min(run, (width - shift_x + stride_x - 1) // stride_x - x), first)
        if 0 <= z < depth and 0 <= y < height:
            for i in range(begin, end):
                shift = T(0)
                if bias.shape[0] > 0:
                    shift = bias[lead + row + i]
                to = out[batch, row + i, z, y]
                at = x * stride_x + shift_x
                if stride_x == 1:
                    target, sums = to[at + first:at + last], tile[i, j + first:j + last]
                    for k in range(last - first):
                        target[k] = sums[k] + shift
                else:
                    for k in range(first, last):
                        to[at + k * stride_x] = tile[i, j + k] + shift
        j += run


def store_weight(tile, batch, row, column, columns, out, begin, end):
    """Epilogue of the weight gradient: column ``tap * C + c`` goes to ``out[batch, row, c,
    tap]``."""
    channels = out.shape[2]
    for i in range(begin, end):
        for j in range(columns):
            tap = (column + j) // channels
            out[batch, row + i, column + j - tap * channels, tap] = tile[i, j]
