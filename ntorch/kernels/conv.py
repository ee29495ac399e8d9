"""Convolution as a matrix product, and depthwise convolution.

An image is first *spread*: padded, and cut into the phases of the stride, so that
``spread[phase, q] = image[q * stride + phase - padding]``. In it every tap of a convolution, for
any stride and dilation, is the whole output grid shifted by a constant. Output positions are
numbered over the spread grid's rows (*virtual* positions, some beyond the row's end, which nobody
stores), so the operand of the product is, for each tap, one contiguous run. This is the indirect
convolution of arXiv 1907.02129 with a constant instead of a table of pointers. Panels and
epilogues: ``gemm.py``.
"""
from .gemm_pack import matrix_offset, turn_kernel
from .gemm_stubs import move_line
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


def pack_runs_kernel(width):
    """Packer for sums over all positions of all images: depth ``k`` is position ``k % run`` of
    image
    ``k // run``; line ``l`` starts at ``offsets[l]``.

    Own parameters: ``source`` (flat), ``offsets`` per line, ``run``, ``image_stride`` and
    ``group_stride`` (per matrix). Lines a constant apart are transposed in registers.
    """
    turn_panel = turn_kernel(8)

    def pack_runs(panel, batch, k0, kc, source, offsets, run, image_stride, group_stride, begin,
                  end):
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
                    image = (k0 + k) // run
                    position = k0 + k - image * run
                    length = min(kc - k, run - position)
                    at = (batch * group_stride + image * image_stride + offsets[first + i]
                          + position)
                    turn_panel(source, at, step, block[k * width + i:], width, count, length)
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


def depthwise(source, weight, bias, offsets, out, multiplier, row_width, plane_rows, stride_z,
              stride_y,
              stride_x, shift_z, shift_y, shift_x, begin, end):
    """One filter per channel. ``source``: (planes, spread size); ``weight``: (channels out, taps);
    ``out``: (planes out, D, H, W). Range: planes of ``out``.

    Position ``q`` of the grid goes to ``q * stride + shift``; ``multiplier`` outputs share a plane.
    """
    channels, taps = weight.shape
    depth, height, width = out.shape[1], out.shape[2], out.shape[3]
    for plane in range(begin, end):
        image = plane // channels
        channel = plane - image * channels
        values = source[image * (channels // multiplier) + channel // multiplier]
        shift = T(0)
        if bias.shape[0] > 0:
            shift = bias[channel]
        first = max(0, (-shift_x + stride_x - 1) // stride_x)
        for z in range((shift_z % stride_z + stride_z) % stride_z, depth, stride_z):
            qz = (z - shift_z) // stride_z
            for y in range((shift_y % stride_y + stride_y) % stride_y, height, stride_y):
                qy = (y - shift_y) // stride_y
                start = (qz * plane_rows + qy) * row_width + first
                at = first * stride_x + shift_x
                count = (width - at + stride_x - 1) // stride_x
                to = out[plane, z, y]
                for block in range(0, count, 64):
                    m = min(64, count - block)
                    _depthwise_run(values, weight[channel], offsets, taps, start + block,
                                   to[at + block * stride_x:], m, stride_x, shift)


def _depthwise_run(values, weight, offsets, taps, start, to, m, step, shift):
    """``to[i * step] = shift + sum_k weight[k] * values[start + offsets[k] + i]`` for ``m`` i."""
    if step == 1:
        target = to[:m]
        for i in range(m):
            target[i] = shift
        k = 0
        while k + 3 <= taps:
            a, b, c = weight[k], weight[k + 1], weight[k + 2]
            u = values[start + offsets[k]:start + offsets[k] + m]
            v = values[start + offsets[k + 1]:start + offsets[k + 1] + m]
            w = values[start + offsets[k + 2]:start + offsets[k + 2] + m]
            for i in range(m):
                target[i] += a * u[i] + b * v[i] + c * w[i]
            k += 3
        while k < taps:
            a = weight[k]
            u = values[start + offsets[k]:start + offsets[k] + m]
            for i in range(m):
                target[i] += a * u[i]
            k += 1
    else:
        for i in range(m):
            total = shift
            for k in range(taps):
                total += weight[k] * values[start + offsets[k] + i]
            to[i * step] = total


def depthwise_weight(source, grad, offsets, out, images, multiplier, begin, end):
    """``out[channel, tap]``: sum over images and positions of ``grad * source`` shifted by the tap.

    ``source``: (images * channels in, spread size); ``grad``: (images * channels, positions), zero
    at positions that are no output. Range: channels out.
    """
    channels, taps = out.shape
    for channel in range(begin, end):
        for k in range(taps):
            total = T(0)
            for image in range(images):
                g = grad[image * channels + channel]
                plane = image * (channels // multiplier) + channel // multiplier
                x = source[plane, offsets[k]:offsets[k] + g.shape[0]]
                part = T(0)
                for i in range(g.shape[0]):
                    part += g[i] * x[i]
                total += part
            out[channel, k] = total
