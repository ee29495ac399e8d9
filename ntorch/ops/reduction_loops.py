"""The loop nests of the reduction family, as text that ``reduction.py`` completes and compiles.

``KIND`` and ``OUT`` stand for the kinds of input and output vectors, ``LOAD`` (``LOAD_w``, ...) for
an element of ``x`` (``w``, ...) in the compute type, ``<<value>>`` for ``value`` as it is stored.
``args`` is the table: input, output, kept dimensions (count, sizes, strides), reduced ones, then
count, blocks and tiles.
"""

HEAD = """
def body(args, begin, end):
    kept = args[2]
    reduced = args[3 + 2 * kept]
    cols = 4 + 2 * kept
    tail = cols + 2 * reduced
    inner = args[cols]
    step = args[cols + reduced]
    zero = T(identity)
"""

ROW_OFFSET = """
        offset = {row} * args[4]
        if kept > 1:
            offset = 0
            rest = {row}
            for d in range(kept):
                size = args[3 + d]
                quotient = rest // size
                offset += (rest - quotient * size) * args[3 + kept + d]
                rest = quotient
"""

COLUMN_OFFSET = """
            start = offset
            rest = {outer}
            for d in range(1, reduced):
                size = args[cols + d]
                quotient = rest // size
                start += (rest - quotient * size) * args[cols + reduced + d]
                rest = quotient
"""

ALONG = HEAD + """
    count = args[tail]
    outers = count // inner
    for row in range(begin, end):
""" + ROW_OFFSET.format(row="row") + """
        total = zero
        for outer in range(outers):
""" + COLUMN_OFFSET.format(outer="outer") + """
            done = 0
            while done < inner:
                m = min(inner - done, 4096)
                x = table_vector(args, 0, start + done * step, m, step, KIND)
                part = zero
                for i in range(m):
                    part = combine(part, mapped(LOAD))
                total = combine(total, part)
                done += m
        o = table_vector(args, 1, row, 1, 1, OUT)
        o[0] = <<finish(total, T(count))>>
"""

# Rows of one block whose elements are evenly spaced: beside a row of some hundred elements, finding
# where it begins is not free.
ALONG_SHORT = """
def body(args, begin, end):
    row_step = args[4]
    count = args[6]
    step = args[7]
    zero = T(identity)
    for row in range(begin, end):
        x = table_vector(args, 0, row * row_step, count, step, KIND)
        part = zero
        for i in range(count):
            part = combine(part, mapped(LOAD))
        total = combine(zero, part)
        o = table_vector(args, 1, row, 1, 1, OUT)
        o[0] = <<finish(total, T(count))>>
"""

ALONG_PARTIAL = HEAD + """
    count = args[tail]
    blocks = args[tail + 1]
    for task in range(begin, end):
        row = task // blocks
        first = (task - row * blocks) * 4096
        last = min(first + 4096, count)
""" + ROW_OFFSET.format(row="row") + """
        total = zero
        while first < last:
            outer = first // inner
            column = first - outer * inner
""" + COLUMN_OFFSET.format(outer="outer") + """
            m = min(inner - column, last - first)
            x = table_vector(args, 0, start + column * step, m, step, KIND)
            part = zero
            for i in range(m):
                part = combine(part, mapped(LOAD))
            total = combine(total, part)
            first += m
        o = table_vector(args, 1, task, 1, 1, OUT)
        o[0] = <<total>>
"""

COMBINE = """
def body(args, begin, end):
    blocks = args[2]
    for row in range(begin, end):
        x = table_vector(args, 0, row * args[4], blocks, args[3], KIND)
        total = T(identity)
        for i in range(blocks):
            total = combine(total, LOAD)
        o = table_vector(args, 1, row, 1, 1, OUT)
        o[0] = <<finish(total, T(args[5]))>>
"""

# The output row doubles as the accumulator when its type is the compute type; the partial form
# always has that. Otherwise a block of lanes on the stack would be needed: results narrower than
# the compute type go through the partial form and one combine.
ACROSS_LOOP = """
        for i in range(m):
            o[i] = zero
        outers = 1
        for d in range(1, reduced):
            outers *= args[cols + d]
        for outer in range(lead // inner, (stop + inner - 1) // inner):
""" + COLUMN_OFFSET.format(outer="outer") + """
            low = max(lead - outer * inner, 0)
            high = min(stop - outer * inner, inner)
            k = low
            while k + 4 <= high:
                at = start + k * step
                w = table_vector(args, 0, at, m, 1, KIND)
                x = table_vector(args, 0, at + step, m, 1, KIND)
                y = table_vector(args, 0, at + 2 * step, m, 1, KIND)
                z = table_vector(args, 0, at + 3 * step, m, 1, KIND)
                for i in range(m):
                    o[i] = combine(o[i], combine(combine(mapped(LOAD_w), mapped(LOAD)),
                                                 combine(mapped(LOAD_y), mapped(LOAD_z))))
                k += 4
            while k < high:
                x = table_vector(args, 0, start + k * step, m, 1, KIND)
                for i in range(m):
                    o[i] = combine(o[i], mapped(LOAD))
                k += 1
"""

ACROSS = HEAD + """
    lanes = args[3]
    tiles = (lanes + 511) // 512
    for task in range(begin, end):
        high_row = task // tiles
        low_row = (task - high_row * tiles) * 512
        m = min(lanes - low_row, 512)
        row = high_row * lanes + low_row
""" + ROW_OFFSET.format(row="row") + """
        o = table_vector(args, 1, row, m, 1, OUT)
        lead = 0
        stop = 1
        for d in range(reduced):
            stop *= args[cols + d]
""" + ACROSS_LOOP + """
        for i in range(m):
            o[i] = finish(o[i], T(stop))
"""

ACROSS_PARTIAL = HEAD + """
    lanes = args[3]
    blocks = args[tail + 1]
    tiles_all = args[tail + 2]
    tiles = (lanes + 511) // 512
    rows = 1
    for d in range(kept):
        rows *= args[3 + d]
    total = 1
    for d in range(reduced):
        total *= args[cols + d]
    for task in range(begin, end):
        block = task // tiles_all
        tile = task - block * tiles_all
        high_row = tile // tiles
        low_row = (tile - high_row * tiles) * 512
        m = min(lanes - low_row, 512)
        row = high_row * lanes + low_row
""" + ROW_OFFSET.format(row="row") + """
        o = table_vector(args, 1, block * rows + row, m, 1, OUT)
        lead = block * 4096
        stop = min(lead + 4096, total)
""" + ACROSS_LOOP
