"""Random numbers: the MT19937 stream, Philox4x32-10, and the transforms from bits to distributions.

The Mersenne twister (Matsumoto and Nishimura, 1998) is serial: ``mt_words`` writes tempered words,
and range kernels turn words into numbers. Those numbers are torch's CPU numbers bit for bit, so
every rounding here matters: products and sums that torch's build fuses are written as ``fma``.
Philox (Salmon, Moraes, Dror, Shaw: Parallel random numbers, as easy as 1, 2, 3; SC 2011) maps a
counter to four words, so any element is computed on its own, by any thread.
"""
import math

import numpy as np

from .stubs import T, bits_f32_to_i32, bits_i32_to_f32, fma, select, sqrt_

N, M = 624, 397                         # words of state, and the recurrence's offset
UPPER, LOWER = 0x80000000, 0x7FFFFFFF
MATRIX = 0x9908B0DF
DROP_BLOCK = 512                        # words of a mask made and used at a time


def mt_seed(state, seed, begin, end):
    """Knuth's generator spreads the 32 low bits of ``seed`` over the 624 words of ``state``."""
    word = np.uint32(seed)
    state[0] = np.int32(word)
    for i in range(1, N):
        mixed = np.uint32(word ^ np.uint32(word >> np.uint32(30)))
        word = np.uint32(np.uint32(1812433253) * mixed + np.uint32(i))
        state[i] = np.int32(word)


def _twist(high, low, far):
    y = (np.uint32(high) & np.uint32(UPPER)) | (np.uint32(low) & np.uint32(LOWER))
    odd = np.uint32(0) - np.uint32(np.uint32(low) & np.uint32(1))       # all ones if low is odd
    mixed = np.uint32(far) ^ np.uint32(np.uint32(y) >> np.uint32(1))
    return np.int32(np.uint32(mixed) ^ np.uint32(np.uint32(odd) & np.uint32(MATRIX)))


def mt_refill(state):
    """Replace the 624 words of ``state`` by the next 624."""
    # each loop reads only words at a distance of at least 227 from what it writes: they vectorise
    for i in range(N - M):
        state[i] = _twist(state[i], state[i + 1], state[i + M])
    for i in range(M - 1):
        state[i + N - M] = _twist(state[i + N - M], state[i + N - M + 1], state[i])
    state[N - 1] = _twist(state[N - 1], state[0], state[M - 1])


def _temper(word):
    y = np.uint32(word)
    y = np.uint32(y ^ np.uint32(y >> np.uint32(11)))
    y = np.uint32(y ^ (np.uint32(y << np.uint32(7)) & np.uint32(0x9D2C5680)))
    y = np.uint32(y ^ (np.uint32(y << np.uint32(15)) & np.uint32(0xEFC60000)))
    return np.int32(y ^ np.uint32(y >> np.uint32(18)))


def mt_words(state, out, position, begin, end):
    """Fill ``out`` with the words from ``position`` of ``state`` on (624: a refill comes first)."""
    filled, n = 0, len(out)
    while filled < n:
        if position >= N:
            mt_refill(state)
            position = 0
        count = min(N - position, n - filled)
        source = state[position:position + count]
        target = out[filled:filled + count]
        for i in range(count):
            target[i] = _temper(source[i])
        position += count
        filled += count


def uniform24(words, out, low, width, limit, begin, end):
    """``out = low + width * (24 low bits of a word) / 2**24``; what rounds to ``limit`` is
    ``low``."""
    source, target = words[begin:end], out[begin:end]
    for i in range(len(target)):
        u = np.float32(np.int32(source[i] & 0xFFFFFF)) * 5.9604644775390625e-08
        value = fma(u, width, low)
        target[i] = select(value >= limit, low, value)


def unit53(words, i):
    """The 53 low bits of words ``2 i`` (high) and ``2 i + 1`` (low), divided by 2**53."""
    high = np.int64(words[2 * i]) & 0x1FFFFF
    low = np.int64(words[2 * i + 1]) & 0xFFFFFFFF
    return np.float64((high << 32) | low) * 1.1102230246251565e-16


def uniform53(words, out, low, width, limit, begin, end):
    """As ``uniform24`` in float64, from two words an element."""
    for i in range(begin, end):
        value = fma(unit53(words, i), width, low)
        out[i] = select(value >= limit, low, value)


def integers32(words, out, span, low, begin, end):
    """``out = low + word % span``; ``span`` fits 32 bits."""
    for i in range(begin, end):
        out[i] = low + np.int64(np.uint32(words[i]) % np.uint32(span))


def integers64(words, out, span, low, begin, end):
    """``out = low + (64-bit word) % span``, ``span`` unsigned; 0 stands for 2**64."""
    for i in range(begin, end):
        word = (np.uint64(np.uint32(words[2 * i])) << np.uint64(32)) | np.uint64(
            np.uint32(words[2 * i + 1]))
        if span != 0:
            word = word % np.uint64(span)
        out[i] = np.int64(np.uint64(low) + word)


def permute(words, out, begin, end):
    """Shuffle 0 .. n-1: for each place, swap with ``word % (n - place)`` places further on."""
    n = len(out)
    for i in range(n):
        out[i] = i
    for i in range(n - 1):
        j = i + np.int64(np.uint32(words[i])) % (n - i)
        out[i], out[j] = out[j], out[i]


def log_cephes(x):
    """Natural logarithm of a float32 in (0, 1]: the logf of Moshier's Cephes library.

    Within 1 ULP. The operations and their fusing are those of torch's vector build, bit for bit.
    """
    bits = bits_f32_to_i32(x)
    e = np.float32(np.int32(bits >> np.int32(23)) - np.int32(126))
    m = bits_i32_to_f32(np.int32((bits & np.int32(0x007FFFFF)) | np.int32(0x3F000000)))
    small = m < 0.707106781186547524
    e = select(small, e - 1.0, e)
    x = select(small, (m - 1.0) + m, m - 1.0)
    z = x * x
    y = fma(7.0376836292e-2, x, -1.1514610310e-1)
    y = fma(y, x, 1.1676998740e-1)
    y = fma(y, x, -1.2420140846e-1)
    y = fma(y, x, 1.4249322787e-1)
    y = fma(y, x, -1.6668057665e-1)
    y = fma(y, x, 2.0000714765e-1)
    y = fma(y, x, -2.4999993993e-1)
    y = fma(y, x, 3.3333331174e-1)
    y = fma(y * x, z, e * -2.12194440e-4)
    y = fma(z, -0.5, y)
    return fma(e, 0.693359375, x + y)


def sincos_cephes(x):
    """``(sin x, cos x)`` of a float32 in [0, 2 pi]: Cephes' sinf and cosf, fused as in torch."""
    octant = np.int32(x * 1.27323954473516)
    octant = np.int32(np.int32(octant + np.int32(1)) & np.int32(-2))
    y = np.float32(octant)
    x = fma(y, -0.78515625, x)
    x = fma(y, -2.4187564849853515625e-4, x)
    x = fma(y, -3.77489497744594108e-8, x)
    z = x * x
    c = fma(2.443315711809948e-5, z, -1.388731625493765e-3)
    c = fma(c, z, 4.166664568298827e-2)
    c = fma(c * z, z, z * -0.5) + 1.0
    s = fma(-1.9515295891e-4, z, 8.3321608736e-3)
    s = fma(s, z, -1.6666654611e-1)
    s = fma(s * z, x, x)
    swapped = (octant & np.int32(2)) != 0
    sine, cosine = select(swapped, c, s), select(swapped, s, c)
    sine = select((octant & np.int32(4)) != 0, -sine, sine)
    cosine = select(((octant + np.int32(2)) & np.int32(4)) != 0, -cosine, cosine)
    return sine, cosine


def normal_blocks32(data, mean, std, half, begin, end):
    """Box-Muller on blocks of 16 float32 uniforms: 8 radii (from ``1 - u``), then 8 angles.

    ``half`` is 8: a trip count that the compiler knew would be unrolled and not vectorised.
    """
    for block in range(begin, end):
        radii = data[16 * block:16 * block + half]
        angles = data[16 * block + 8:16 * block + 8 + half]
        for j in range(half):
            radius = sqrt_(log_cephes(1.0 - radii[j]) * -2.0)
            sine, cosine = sincos_cephes(angles[j] * 6.283185307179586)
            radii[j] = fma(radius * cosine, std, mean)
            angles[j] = fma(radius * sine, std, mean)


def normal_blocks64(data, mean, std, begin, end):
    """As ``normal_blocks32`` in float64, with the C library's log, sin and cos as in torch."""
    for block in range(begin, end):
        for j in range(16 * block, 16 * block + 8):
            radius = sqrt_(math.log(1.0 - data[j]) * -2.0)
            angle = data[j + 8] * 6.283185307179586
            data[j] = fma(radius * math.cos(angle), std, mean)
            data[j + 8] = fma(radius * math.sin(angle), std, mean)


def normal_pairs(data, begin, end):
    """Box-Muller on pairs of float64 uniforms: angle first, radius from ``log1p(-u)``."""
    for pair in range(begin, end):
        angle = data[2 * pair] * 6.283185307179586
        radius = sqrt_(math.log1p(-data[2 * pair + 1]) * -2.0)
        data[2 * pair] = radius * math.cos(angle)
        data[2 * pair + 1] = radius * math.sin(angle)


def affine(data, scale, shift, begin, end):
    """``data * scale + shift`` in place, rounded once."""
    for i in range(begin, end):
        data[i] = fma(data[i], scale, shift)


def log_normal(data, mean, std, begin, end):
    """``exp(mean + std * z)`` in place."""
    for i in range(begin, end):
        data[i] = math.exp(fma(data[i], std, mean))


def exponential(data, rate, begin, end):
    """``-log(1 - u) / rate`` in place."""
    factor = -1.0 / rate
    for i in range(begin, end):
        data[i] = factor * math.log1p(-data[i])


def cauchy(data, median, sigma, begin, end):
    """``median + sigma * tan(pi * (u - 1/2))`` in place; ``u`` is kept off the two poles."""
    for i in range(begin, end):
        u = min(max(data[i], 2.220446049250313e-16), 1.0 - 2.220446049250313e-16)
        data[i] = fma(sigma, math.tan(3.141592653589793 * (u - 0.5)), median)


def geometric(data, p, begin, end):
    """``ceil(log u / log(1 - p))`` in place: trials up to the first success."""
    scale = math.log1p(-p)
    for i in range(begin, end):
        data[i] = math.ceil(math.log(data[i]) / scale)


def cumulative(weights, total, begin, end):
    """Running sums of each row of ``weights``, divided by the row's sum, the last set to 1."""
    columns = weights.shape[1]
    for row in range(begin, end):
        running = 0.0
        for j in range(columns):
            running += weights[row, j]
            total[row, j] = running
        for j in range(columns):
            total[row, j] = total[row, j] / running
        total[row, columns - 1] = 1.0


def choose(total, uniforms, out, begin, end):
    """For each uniform, the first column whose cumulative weight is not below it."""
    columns, samples = total.shape[1], uniforms.shape[1]
    for row in range(begin, end):
        for s in range(samples):
            u, left, right = uniforms[row, s], 0, columns
            while left < right:
                middle = (left + right) // 2
                if total[row, middle] < u:
                    left = middle + 1
                else:
                    right = middle
            out[row, s] = min(left, columns - 1)


def _philox_round(c0, c1, c2, c3, k0, k1):
    p0 = np.uint64(c0) * np.uint64(0xD2511F53)
    p1 = np.uint64(c2) * np.uint64(0xCD9E8D57)
    high0, low0 = np.uint32(p0 >> np.uint64(32)), np.uint32(p0)
    high1, low1 = np.uint32(p1 >> np.uint64(32)), np.uint32(p1)
    return np.uint32(high1 ^ c1 ^ k0), low1, np.uint32(high0 ^ c3 ^ k1), low0


def _halves(word):
    whole = np.uint64(word)
    return np.uint32(whole & np.uint64(0xFFFFFFFF)), np.uint32(whole >> np.uint64(32))


def philox(key, counter, stream):
    """Philox4x32-10: four 32-bit words of the 64-bit ``key``, ``counter`` and ``stream``."""
    k0, k1 = _halves(key)
    c0, c1 = _halves(counter)
    c2, c3 = _halves(stream)
    for step in range(10):
        c0, c1, c2, c3 = _philox_round(c0, c1, c2, c3,
                                       np.uint32(k0 + np.uint32(step) * np.uint32(0x9E3779B9)),
                                       np.uint32(k1 + np.uint32(step) * np.uint32(0xBB67AE85)))
    return c0, c1, c2, c3


_LOW32 = np.uint64(0xFFFFFFFF)


def _wide_round(c0, c1, c2, c3, k0, k1):
    """``_philox_round`` on words in the low halves of uint64; the high halves may hold anything."""
    p0 = (c0 & _LOW32) * np.uint64(0xD2511F53)
    p1 = (c2 & _LOW32) * np.uint64(0xCD9E8D57)
    return (p1 >> np.uint64(32)) ^ c1 ^ k0, p1, (p0 >> np.uint64(32)) ^ c3 ^ k1, p0


def _wide_rounds(c0, c1, c2, c3, k0, k1):
    """Two rounds; a loop over all ten would keep the caller's loop from being vectorised."""
    c0, c1, c2, c3 = _wide_round(c0, c1, c2, c3, k0, k1)
    return _wide_round(c0, c1, c2, c3, k0 + np.uint64(0x9E3779B9), k1 + np.uint64(0xBB67AE85))


def _wide_philox(c0, c1, c2, c3, k0, k1):
    """``philox`` on uint64 lanes: a multiply of 32-bit words gives 64 bits there at once."""
    two0, two1 = np.uint64(2 * 0x9E3779B9), np.uint64(2 * 0xBB67AE85)
    c0, c1, c2, c3 = _wide_rounds(c0, c1, c2, c3, k0, k1)
    k0, k1 = k0 + two0, k1 + two1
    c0, c1, c2, c3 = _wide_rounds(c0, c1, c2, c3, k0, k1)
    k0, k1 = k0 + two0, k1 + two1
    c0, c1, c2, c3 = _wide_rounds(c0, c1, c2, c3, k0, k1)
    k0, k1 = k0 + two0, k1 + two1
    c0, c1, c2, c3 = _wide_rounds(c0, c1, c2, c3, k0, k1)
    k0, k1 = k0 + two0, k1 + two1
    c0, c1, c2, c3 = _wide_rounds(c0, c1, c2, c3, k0, k1)
    return c0 & _LOW32, c1 & _LOW32, c2 & _LOW32, c3 & _LOW32


def _flag(word, threshold, shift):
    return select(word < threshold, np.uint64(1), np.uint64(0)) << np.uint64(shift)


def keep_words(block, first, threshold, key, stream):
    """Four bools to a word: byte j of ``block[i]`` is 1 if word j of Philox is below ``threshold``
    at the counter ``first + i``."""
    limit = np.uint64(threshold)
    k0, k1 = np.uint64(key) & _LOW32, np.uint64(key) >> np.uint64(32)
    s0, s1 = np.uint64(stream) & _LOW32, np.uint64(stream) >> np.uint64(32)
    for i in range(len(block)):
        counter = np.uint64(first + i)
        w0, w1, w2, w3 = _wide_philox(counter, counter >> np.uint64(32), s0, s1, k0, k1)
        block[i] = np.int32(_flag(w0, limit, 0) | _flag(w1, limit, 8) | _flag(w2, limit, 16)
                            | _flag(w3, limit, 24))


def keep_mask(words, threshold, key, stream, begin, end):
    """Each byte of ``words`` is 1 with probability ``threshold / 2**32``, else 0.

    The range counts words, one Philox counter each: a byte depends on its place alone.
    """
    for start in range(begin, end, DROP_BLOCK):
        stop = min(end, start + DROP_BLOCK)
        keep_words(words[start:stop], start, threshold, key, stream)


def drop_out(words, mask, x, out, threshold, key, stream, scale, begin, end):
    """``keep_mask``, and ``out = x mask scale``; ``mask`` is the memory of ``words`` as bytes."""
    for start in range(begin, end, DROP_BLOCK):
        stop = min(end, start + DROP_BLOCK)
        keep_words(words[start:stop], start, threshold, key, stream)
        first, last = 4 * start, min(4 * stop, len(x))
        kept, source, target = mask[first:last], x[first:last], out[first:last]
        for i in range(len(source)):
            target[i] = source[i] * T(kept[i]) * scale
