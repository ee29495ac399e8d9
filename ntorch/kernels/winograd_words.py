"""A plan's own words behind the header of ``gemm.py``.

*_LINE: elements from one position to the next; *_PITCH: from one line to the next; PLANE: from one
plane of tiles to the next. ROWS: rows of tiles that are done at a time.
"""
from . import gemm

(IMAGE, IMAGE_SIZE, CHANNELS, HEIGHT, WIDTH, PAD_Y, PAD_X, LINE, PITCH,
 FILTERS, OUT_HEIGHT, OUT_WIDTH, OUT_LINE, OUT_PITCH, POSITION_ROW,
 DOWN, ACROSS, ALL_ROWS, ROWS, PANELS, PLANE, LINES, PLANES, STAGE,
 WEIGHT, WEIGHT_SIZE, BY_FILTER, BY_CHANNEL, TURNED,
 GRAD, GRAD_SIZE, GRADS, OUT_PLANE, PART, PART_PLANE, PART_LINE, SUMS, FILTER_BLOCKS,
 ) = range(gemm.HEADER, gemm.HEADER + 38)
WORDS = gemm.HEADER + 38
PRODUCT_WORDS = 18
