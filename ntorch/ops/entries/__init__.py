"""The entries of the table, by family. ``registry.MODULES`` lists the files; a new file is added there.

``arithmetic compare logic exponential trigonometric special activation rounding complexes``: pointwise.
``reductions scans sorting``: over dimensions. ``views copying creation random movement indexing``:
layout and data. ``contraction convolution pooling normalization softmax embedding loss ctc recurrent
attention linalg optim``: structured kernels and what is composed of them.
"""
