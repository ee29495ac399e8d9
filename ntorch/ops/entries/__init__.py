"""The entries of the table, by family. ``registry.MODULES`` lists the files; add a new file there.

Pointwise: ``arithmetic division compare logic exponential trigonometric special rounding
complexes``, and ``activation activation_smooth`` (kernels) with ``activation_public`` (names).
``reductions moments scans sorting``: over dimensions.
``views copying creation random dropout movement indexing``: layout and data. ``contraction
convolution pooling normalization softmax embedding loss ctc recurrent attention linalg optim``:
structured kernels and what is composed of them.
"""
