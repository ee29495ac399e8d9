"""Numba code only: arrays and scalars in, arrays out; no Tensor, no op names.

Every function here is plain Python. ``ntorch.runtime.build`` compiles it for given types; run as
it is, it computes the same numbers slowly, which is how a test steps through one.
"""
