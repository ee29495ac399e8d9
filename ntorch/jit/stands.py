"""Stand-ins: what a traced function gets in place of its arguments, and how they give back.

A stand-in is a lazy tensor of the form of an argument. When a trace ends without a program, or
Python is about to run plainly in the midst of one, stand-ins become views of the memory of what
they stood for, and arguments get what their stand-ins were given: another history by in-place
writes, another form by ``squeeze_`` and its like, other memory by ``data =``.
"""
import collections
import contextlib
import dis
import operator
import weakref

from ..autograd.node import AccumulateGrad, Node, accumulator, current_grad_fn, edge_of
from ..autograd.views import CopySlices, regenerate
from ..ops.base import Size, collected, make, views_of
from ..runtime import recording
from ..runtime.device import META
from ..runtime.storage import Storage
from .guard_code import place_in_code
from .ir import Dynamic
from .regions import Memory, TraceError, held_beyond

_FORM = ("_storage", "dtype", "_shape", "_strides", "_offset")
_HISTORY = ("_grad_fn", "_output_nr", "_requires_grad")
_form, _history = operator.attrgetter(*_FORM), operator.attrgetter(*_HISTORY)


# what Python may ask of a tensor besides its signature, and a program is then guarded by
FACTS = {
    "is_leaf": lambda t: current_grad_fn(t) is None,
    "output_nr": lambda t: t._output_nr,
    "retains_grad": lambda t: t.__dict__.get("_retains_grad", False),
    "storage_offset": lambda t: t._offset,
    "storage_bytes": lambda t: t._storage._nbytes,
    "is_shared": lambda t: t._storage.is_shared_memory,
}


class PassOn(Node):
    """The end of a stand-in's history: what arrives goes on to the tensor it stands for."""

    inputs = ()

    def __init__(self, tensor):
        self.edges, self.sequence = (edge_of(tensor),), 1 << 62
        self.outputs = ((tensor._shape, tensor.dtype, tensor._storage.device),)

    def apply(self, grads):
        return grads

    def release(self):
        pass            # nothing is saved


def span_of(tensor):
    """``(address of the first element, address behind the last)``."""
    if 0 in tensor._shape:
        return tensor._address, tensor._address
    extent = 1 + sum((n - 1) * s for n, s in zip(tensor._shape, tensor._strides, strict=True))
    return tensor._address, tensor._address + extent * tensor.dtype.itemsize


class Stand:
    """One stand-in: ``made`` for ``tensor``, with the form and history that it had at first."""

    __slots__ = ("made", "tensor", "back", "form", "history")

    def __init__(self, made, tensor, back):
        self.made, self.tensor = made, tensor
        self.back = back        # bytes from the start of its region to it; None: the storage's
        self.begin()

    def begin(self):
        """What it is now is what it was given."""
        self.form, self.history = _form(self.made), _history(self.made)

    def changed(self):
        """``(form, history)``: whether the function gave the argument another one."""
        return tuple(any(a is not b for a, b in zip(now, before, strict=True)) for now, before in (
            (_form(self.made), self.form), (_history(self.made), self.history)))

    def give(self, form, history):
        """Give the argument what its stand-in was given."""
        made, tensor = self.made, self.tensor
        if form:
            for name in (*_FORM, "_address"):
                setattr(tensor, name, getattr(made, name))
            tensor._shape = Size(tensor._shape)     # a new object tells guards of the change
        if history:
            self._give_history()
        self.begin()

    def _give_history(self):
        made, tensor, root = self.made, self.tensor, self.tensor._base
        if root is None or made._grad_fn is None:
            for name in _HISTORY:
                setattr(tensor, name, getattr(made, name))
            tensor._rebased += 1
            self._give_leaf()
            return
        # what flows to the elements of before goes the old way of the view, behind the stand-in
        slices = CopySlices(PassOn(made), tensor, root, edge_of(root))
        root._grad_fn, root._output_nr, root._requires_grad = slices, 0, True
        root._rebased += 1
        regenerate(tensor)

    def _give_leaf(self):
        """Gradients of a stand-in that became a leaf go to the argument, which is one now."""
        made, tensor = self.made, self.tensor
        if made._requires_grad and made._grad_fn is None and tensor._grad_fn is None:
            node = accumulator(made)
            if type(node) is AccumulateGrad:
                node.variable, node.pre_hooks = tensor, tensor._hooks
                made._passes_on, tensor._accumulator = node, weakref.ref(node)


class Stands(Memory):
    """The stand-ins of one trace."""

    def __init__(self):
        super().__init__()
        self.born = collected()   # when: what is made from now on may lie over its storages
        self.adopted = {}           # id -> reference to an older tensor that does
        self.stands = []
        self.originals = {}         # id of a stand-in -> the argument
        self.spans = {}             # storage -> the part of it that arguments show
        self.owners = {}            # proxy storage of a stand-in -> storage of the argument
        self.facts = {}             # (id of a tensor, name) -> (tensor, function, value, name)
        self.shared = False         # whether the function held memory of an argument

    def stand_in(self, tensor, whole=False, span=None):
        """A lazy leaf of the form of an argument.

        Its region is the argument's own elements, wherever they lie in their storage, so that a
        program serves every slice of a data set. With ``span``, the addresses of the first element
        and behind the last, it is that of all arguments which share the storage; without, each has
        one of its own, as if they shared nothing. With ``whole`` it is the storage's.
        """
        storage, offset = tensor._storage, tensor._offset
        if storage.device is META or not storage._nbytes:
            return tensor
        owner, size = storage, tensor.dtype.itemsize
        first, end = span or span_of(tensor)
        if not whole:
            self.partly.add(storage)
            storage = None if span is None else self.spans.get(owner)
            if storage is None:
                storage = Storage.borrow(first, end - first, owner)
                storage.version = owner.version
                if span is not None:
                    self.spans[owner] = storage
            offset = (tensor._address - first) // size
        proxy = self._proxy_storage(storage)
        self.owners[proxy] = owner
        made = make(proxy, tensor.dtype, tensor._shape, tensor._strides, offset)
        made.__class__ = type(tensor)
        made._requires_grad, made._grad = tensor._requires_grad, tensor._grad
        if tensor._requires_grad:
            self._pass_on(made, tensor)
        self.stands.append(Stand(made, tensor, None if whole else tensor._address - first))
        self.originals[id(made)] = tensor
        return made

    @staticmethod
    def _pass_on(made, tensor):
        node = PassOn(tensor)
        if current_grad_fn(tensor) is not None:     # in-place writes are allowed, as to itself
            made._grad_fn = node
        else:
            made._passes_on = node                  # the tensor owns it, as a graph would
            made._accumulator = weakref.ref(node)

    def part_with_arguments(self, why):
        """From here on arguments are as any other tensor; ``why`` says what was met."""
        if self.sealed:
            raise TraceError(why)
        self.noted(why)
        self.shared = True
        self.flush()
        self.hand_over()

    @contextlib.contextmanager
    def plainly(self, why):
        """Within the context Python runs plainly, on real tensors: what is recorded is run before
        it; ``why`` says what asks for that."""
        if self.sealed:
            raise TraceError(why)
        self.noted(why)
        self.flush()
        self.hand_over()
        self.__exit__()
        unwatched = self.watch is not None and self.watch.pause()
        try:
            yield
        finally:
            self.__enter__()
            if unwatched:
                self.watch.resume()

    def original(self, tensor):
        """The argument that a stand-in stands for; other tensors themselves."""
        return self.originals.get(id(tensor), tensor)

    def whole(self, tensor, memory=False):
        """An op looks beyond the elements of ``tensor`` in its storage, or Python at its memory."""
        owner = self.owners.get(tensor._storage)
        if owner is not None and (memory or self.proxied[tensor._storage] is not owner):
            self.part_with_arguments("the storage of an argument was asked for")
        elif memory:
            self.touch(tensor._storage)

    def fact(self, tensor, name):
        """One of ``FACTS`` about a tensor; if the trace did not make it, later calls ask again."""
        read = FACTS[name]
        original = self.original(tensor)
        if original is not tensor and any(stand.made is tensor and any(stand.changed())
                                          for stand in self.stands):
            return read(tensor)
        owner = self.owners.get(tensor._storage)
        if original is tensor and owner is not None:    # a view of an argument
            return self._fact_of_view(tensor, name)
        if original is not tensor or not recording.is_fake(tensor._address):
            value = read(original)
            if any(before is original for _, before in self.grads.values()):
                return value        # another tensor at another call; its form is guarded
            self.facts[id(original), name] = original, read, value, name
            return value
        return read(tensor)

    def note_read(self):
        """Python reads memory: which op asked for it, and where in the code of the user."""
        place = "" if self.sealed else place_in_code()
        op = f"by {self.names[-1]}" if self.names[-1] else ""
        self.reads.append(" ".join(filter(None, ("a value was read", op, place))))

    def key(self, tensor):
        """What is hashed for ``tensor`` as a key of a dict or an element of a set."""
        original = self.original(tensor)
        if original is not tensor:
            self.noted("an argument was a key")
        return original

    def is_key(self, one, other, frame):
        """Whether a dict, set or list at work in ``frame`` asks if it has an argument, under which
        it may have the argument itself: ``==`` in the code itself compares elements."""
        if one is other or self.original(one) is not self.original(other):
            return False
        self.noted("an argument was a key")
        return dis.opname[frame.f_code.co_code[frame.f_lasti]] != "COMPARE_OP"

    def historical(self, tensor):
        """The tensor whose ``grad_fn`` is meant when that of ``tensor`` is read."""
        original = self.original(tensor)
        if original is not tensor or not recording.is_fake(tensor._address):
            if not self.fact(tensor, "is_leaf"):
                self.noted("grad_fn of a tensor that was there before was read")
            if original is not tensor and tensor._grad_fn is not None and (
                    type(tensor._grad_fn) is not PassOn):
                return tensor
        return original

    def versioned(self, tensor):
        """The version of a tensor is read: what was there before has another one at each call."""
        if tensor._storage in self.owners or not recording.is_fake(tensor._address):
            self.noted("the version of a tensor that was there before was read")

    def _fact_of_view(self, tensor, name):
        stand = next((s for s in self.stands if s.made._storage is tensor._storage), None)
        if stand is None or name not in ("storage_offset", "storage_bytes", "is_shared"):
            return FACTS[name](tensor)
        value = self.fact(stand.made, name)
        if name != "storage_offset":
            return value
        size = tensor.dtype.itemsize
        return value * stand.made.dtype.itemsize // size + tensor._offset - (
            stand.made._offset * stand.made.dtype.itemsize // size)

    def given(self):
        """What the function gave its arguments besides other elements, in words."""
        found = [stand.changed() for stand in self.stands]
        words = ("an argument was given other memory or another form",
                 "an argument was given another history, by a write in place or requires_grad_")
        return [text for place, text in enumerate(words) if any(pair[place] for pair in found)]

    def hand_over(self):
        """The trace is no program, or Python runs plainly from here on: arguments get what their
        stand-ins were given, and stand-ins are views of the arguments' memory."""
        changes = [stand.changed() for stand in self.stands]
        self.dismiss()
        for stand, change in zip(self.stands, changes, strict=True):
            stand.give(*change)

    def tensors_over(self, stores):
        """The attributes of tensors over storages that this recorder has made."""
        yield from views_of(stores, self.born)
        older = [reference() for reference in self.adopted.values()]
        older += [stand.tensor for stand in self.stands]
        for tensor in older:
            if tensor is not None and any(tensor._storage is store for store in stores):
                yield tensor.__dict__

    def dismiss(self):
        """Let stand-ins, and views of them that somebody kept, lie in the memory of what they stood
        for; nothing of a trace that is over holds on to the recorder."""
        for action in self.graph.actions:
            if type(action) is Dynamic:
                action.freeze = None
        for proxy, real in self.proxied.items():
            proxy.address, proxy._block = real.address, Storage.borrow(real.address, 0, real)._block
        for proxy, owner in self.owners.items():
            owner.version = max(owner.version, proxy.version)
        proxy = None        # to be counted below
        for stand in self.stands:
            self._become(stand.made.__dict__)
        for reference in self.views:
            tensor = reference()
            if tensor is not None and tensor._storage in self.proxied:
                self._become(tensor.__dict__)
        tensor = None
        if self.stands:
            kept = self._kept()
            if kept:
                for state in self.tensors_over(kept):
                    self._become(state)
        # from here on arguments are as any other tensor
        for table in (self.proxies, self.proxied, self.owners, self.partly):
            table.clear()

    def _follow_views(self):
        """Give tensors made here over memory that is real by now its address; returns how many
        there are over each storage, by its id. Who else has views is found by a search of the
        process."""
        counts = collections.Counter()
        for reference in self.views:
            tensor = reference()
            if tensor is not None and not recording.is_fake(tensor._storage.address):
                tensor._address = (tensor._storage.address
                                   + tensor._offset * tensor.dtype.itemsize)
                if id(tensor) not in self.captured:
                    counts[id(tensor._storage)] += 1
        return counts

    def _become(self, state):
        """Let a view of a proxy, whose ``__dict__`` is given, be one of what the proxy stood
        for."""
        proxy, size = state["_storage"], state["dtype"].itemsize
        state["_address"] = proxy.address + state["_offset"] * size
        owner = self.owners.get(proxy)
        if owner is not None and not (state["_address"] - owner.address) % size:
            state["_storage"] = owner
            state["_offset"] = (state["_address"] - owner.address) // size
        base = state.get("_base")
        original = None if base is None else self.originals.get(id(base))
        if original is not None:
            root = original if original._base is None else original._base
            fresh = state.get("_rebased", 0) == base._rebased
            state["_base"], state["_rebased"] = root, root._rebased if fresh else -1

    def _kept(self):
        """Proxies that others hold than this recorder and the stand-ins it knows."""
        known = collections.Counter([id(s) for stand in self.stands for s in (
            stand.made._storage, stand.form[0])])
        return held_beyond([*self.proxied],
                           lambda proxy: 2 + (proxy in self.owners) + known[id(proxy)])
