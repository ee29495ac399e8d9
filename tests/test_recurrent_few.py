"""Recurrent layers over a few rows: ``kernels/recurrent_few.py``."""
import pytest

import ntorch


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("steps", [7, 19, 21])
def test_few_rows_do_not_depend_on_threads(kind, steps):
    """Sizes that fill no panel, before and after the length from which weights are packed."""
    ntorch.manual_seed(steps)
    net = getattr(ntorch.nn, kind)(45, 200)
    x = ntorch.randn(steps, 1, 45)
    before, results = ntorch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            ntorch.set_num_threads(threads)
            with ntorch.no_grad():
                results.append(net(x)[0])
    finally:
        ntorch.set_num_threads(before)
    assert all(ntorch.equal(results[0], other) for other in results[1:])
    many = net(x.expand(steps, 5, 45))[0][:, :1]        # the kernel for batches
    assert float((many - results[0]).abs().max()) < 2e-6
