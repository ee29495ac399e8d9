"""Tensors between processes: shared storages, queues, views that follow a storage that moves."""
import pytest

import ntorch
import ntorch.multiprocessing as mp


def _write(tensor):
    tensor.fill_(7)


def _double(inbox, outbox):
    outbox.put(inbox.get() * 2)
    inbox.get()             # the sender stays until its memory has been mapped


def test_writes_are_seen_on_both_sides():
    x = ntorch.zeros(1000)
    view = x[10:20]
    x.share_memory_()
    assert x.is_shared() and view.is_shared()
    process = mp.get_context("fork").Process(target=_write, args=(x,))
    process.start()
    process.join()
    assert process.exitcode == 0 and x.sum().item() == 7000 and view.sum().item() == 70


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_queue(method):
    context = mp.get_context(method)
    inbox, outbox = context.Queue(), context.Queue()
    process = context.Process(target=_double, args=(inbox, outbox))
    process.start()
    x = ntorch.arange(6.0).reshape(2, 3).t()
    inbox.put(x)
    got = outbox.get(timeout=60)
    inbox.put(None)
    process.join()
    assert ntorch.equal(got, x * 2)


def test_history_does_not_cross():
    x = ntorch.ones(2, requires_grad=True) * 2
    with pytest.raises(RuntimeError, match="Cowardly refusing"):
        mp._reduce(x)


def test_views_follow_a_resized_storage():
    x = ntorch.arange(4.0)
    head, bare = x[:2], x.detach()
    bare.note = "an attribute gives it a dict of its own"
    x.resize_(1 << 20)
    x[:4].fill_(5)
    assert head.tolist() == [5, 5] and bare.tolist() == [5, 5, 5, 5]
