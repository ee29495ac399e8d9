"""What a tensor is to the table: a view (dtype, shape, strides, offset) over a storage.

``Tensor`` itself, with its methods, stands on a higher floor and is bound here when it is defined:
the table makes tensors without knowing their methods.
"""
import ctypes
import gc
import operator
import sys
import weakref

from ..runtime import dtypes, recording
from ..runtime.device import CPU, META, check_available
from ..runtime.recording import FAKE, touch
from ..runtime.storage import Storage, on_move


class Size(tuple):
    """A shape: a tuple of ints that prints as ``torch.Size([2, 3])``."""

    __slots__ = ()

    def __repr__(self):
        return f"torch.Size([{', '.join(map(str, self))}])"

    def numel(self):
        """Product of the sizes; 1 for a scalar's empty shape."""
        return product(self)

    def __getitem__(self, index):
        got = tuple.__getitem__(self, index)
        return Size(got) if isinstance(index, slice) else got

    def __add__(self, other):
        return Size(tuple.__add__(self, other))

    def __radd__(self, other):
        return Size(tuple(other) + tuple(self))

    def __mul__(self, count):
        return Size(tuple.__mul__(self, count))

    __rmul__ = __mul__

    def __reduce__(self):
        return Size, (tuple(self),)


def product(sizes):
    """Product of integers."""
    n = 1
    for size in sizes:
        n *= size
    return n


class TensorBase:
    """The part of Tensor that the table reads. Attributes not set on an instance have the defaults
    below, so that making a tensor is six assignments.

    ``_requires_grad`` is true for leaves that want gradients and for every result of them;
    ``_grad_fn`` and ``_output_nr`` name the node and output that made it; ``_base`` is the tensor
    whose view this is; ``_rebased`` counts how often the history was replaced by an in-place write.
    """

    _requires_grad = False
    _grad_fn = None
    _rebased = 0
    _output_nr = 0
    _base = None
    _grad = None
    _accumulator = None
    _hooks = None
    _inference = False


def bind(cls):
    """Make ``cls`` the class of every tensor that the table creates."""
    global _class
    _class = cls
    return cls


_class = TensorBase


def tensor_class():
    """The class of the tensors that the table creates."""
    return _class


_forms = {}         # shape -> row-major strides, for shapes met before
_MOST_FORMS = 1 << 14


def contiguous_strides(shape):
    """Row-major strides in elements; a dimension of size 0 counts as 1, as in torch."""
    if type(shape) is not Size:
        shape = Size(shape)
    known = _forms.get(shape)
    if known is None:
        if len(_forms) >= _MOST_FORMS:
            _forms.clear()
        known = _forms[shape] = _row_major_strides(shape)
    return known


def _row_major_strides(shape):
    strides, step = [], 1
    for size in reversed(shape):
        strides.append(step)
        step *= size if size > 1 else 1
    return tuple(strides[::-1])


def is_contiguous(shape, strides):
    """Whether the elements lie in row-major order without gaps."""
    if strides == contiguous_strides(shape):
        return True
    step = 1
    for size, stride in zip(reversed(shape), reversed(strides), strict=True):
        if size == 0:
            return True
        if size != 1:
            if stride != step:
                return False
            step *= size
    return True


def make(storage, dtype, shape, strides, offset, new=object.__new__):
    """A tensor over ``storage``; ``shape`` becomes a Size. Views pass strides and offset."""
    self = new(_class)
    self._storage = storage
    self.dtype = dtype
    self._shape = shape if type(shape) is Size else Size(shape)
    self._strides = strides
    self._offset = offset
    self._address = address = storage.address + offset * dtype.itemsize
    if address >= FAKE:
        recording.made(self)
    return self


def memory_of(tensor):
    """The real address of ``tensor``'s first element, for Python that reads or writes there itself.

    While a program is recorded (``runtime/recording.py``), what the tensor waits for is run first.
    """
    return touch(tensor) if recording.active else tensor._address


def whole_of(tensor):
    """``tensor``, for code that looks at its storage beyond its elements: a recorder sees of an
    argument only those, unless it is told."""
    if recording.active and (recorder := recording.current()) is not None:
        recorder.whole(tensor)
    return tensor


def storage_of(tensor):
    """The storage of ``tensor``, for Python that handles memory itself: real and up to date."""
    store = tensor._storage
    if recording.active and store._nbytes and store.device is not META and (
            recorder := recording.current()) is not None:
        recorder.whole(tensor, memory=True)
    return tensor._storage


def slot_of(tensor):
    """What a launch's slot holds for ``tensor``: its address, or what a recorder puts for it."""
    recorder = recording.current() if recording.active else None
    return tensor._address if recorder is None else recorder.fake_address(tensor)


def zero_bytes(address, nbytes):
    """Set memory to zero; a program that is being recorded does it at every run."""
    recorder = recording.current() if recording.active else None
    if recorder is None:
        ctypes.memset(address, 0, nbytes)
    else:
        recorder.zero(address, nbytes)


def collected():
    """How often each generation of objects was collected so far: see ``views_of``."""
    return [generation["collections"] for generation in gc.get_stats()]


def views_of(stores, since=None):
    """The attributes of all tensors over several storages, from one walk over objects.

    ``since`` is what ``collected`` gave before the first of the tensors was made: as long as only
    the youngest objects were collected, these are among some thousands and not all of the process.
    """
    wanted, things = {id(store) for store in stores}, []
    if since is not None and sys.version_info < (3, 14):        # which has other generations
        things = gc.get_objects(0) + gc.get_objects(1)
    if not things or collected()[1:] != since[1:]:      # asked last: others may collect meanwhile
        things = gc.get_referrers(*stores)
    for thing in things:
        state = thing if type(thing) is dict else (
            thing.__dict__ if issubclass(type(thing), TensorBase) else {})
        if id(state.get("_storage")) in wanted and "_offset" in state:
            yield state


def adopts(tensor):
    """Say that a tensor, perhaps an old one, has got another storage."""
    if recording.active and (recorder := recording.current()) is not None:
        recorder.adopted[id(tensor)] = weakref.ref(tensor)


def _follow(store):
    """Correct the addresses of all tensors over a storage that moved (growth, sharing: rare)."""
    for referrer in gc.get_referrers(store):
        state = referrer if type(referrer) is dict else getattr(referrer, "__dict__", {})
        if state.get("_storage") is store and "_offset" in state:
            state["_address"] = store.address + state["_offset"] * state["dtype"].itemsize


on_move.append(_follow)
MAX_BYTES = (1 << 63) - 1


def checked_nbytes(shape, dtype):
    """Bytes that a tensor of this shape takes; RuntimeError for negative or overflowing sizes."""
    n = dtype.itemsize
    for size in shape:
        if size < 0:
            raise RuntimeError(f"Trying to create tensor with negative dimension {size}: "
                               f"{list(shape)}")
        n *= size
    if n > MAX_BYTES:
        raise RuntimeError(f"Storage size calculation overflowed with sizes={list(shape)}: the "
                           f"tensor would take {n} bytes")
    return n


def empty(shape, dtype=None, device=None):
    """An uninitialised row-major tensor."""
    dtype = dtype or dtypes.get_default_dtype()
    if type(shape) is not Size:
        shape = Size(shape)
    nbytes = checked_nbytes(shape, dtype)
    if device is None or device is CPU:
        storage = Storage(nbytes)
    else:
        storage = Storage(nbytes, check_available(device))
    return make(storage, dtype, shape, contiguous_strides(shape), 0)


def view(tensor, shape, strides, offset):
    """A view of ``tensor``'s storage, remembering its base for in-place autograd."""
    result = make(tensor._storage, tensor.dtype, shape, strides, offset)
    result._base = tensor if tensor._base is None else tensor._base
    if tensor._inference:
        result._inference = True
    return result


def alias(tensor):
    """Another tensor over the same elements, with no autograd history and no base."""
    return make(tensor._storage, tensor.dtype, tensor._shape, tensor._strides, tensor._offset)


def reshaped(tensor, shape):
    """The elements of a row-major tensor in another shape: same memory, no history, no base."""
    return make(tensor._storage, tensor.dtype, shape, contiguous_strides(shape), tensor._offset)


def numel(tensor):
    """Number of elements."""
    return product(tensor._shape)


def integer(value, op, name):
    """``value`` as a Python int; TypeError in torch's words otherwise."""
    if type(value) is int:
        return value
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{op}(): argument '{name}' must be int, not {type(value).__name__}"
                        ) from None


def wrap_dim(dim, ndim, op=""):
    """``dim`` counted from the front; IndexError if it is not in [-ndim, ndim - 1]."""
    span = ndim or 1
    if type(dim) is not int:
        dim = integer(dim, op, "dim")
    if not -span <= dim < span:
        raise IndexError(f"Dimension out of range (expected to be in range of [{-span}, {span - 1}]"
                         f", but got {dim})")
    return dim + span if dim < 0 else dim


def wrap_dims(dims, ndim, op=""):
    """Several dims counted from the front, each once; all of them if ``dims`` is None or empty."""
    if dims is None or (isinstance(dims, (tuple, list)) and not dims):
        return tuple(range(ndim))
    if not isinstance(dims, (tuple, list)):
        dims = (dims,)
    wrapped = tuple(wrap_dim(d, ndim, op) for d in dims)
    if len(set(wrapped)) != len(wrapped):
        raise RuntimeError(f"dim {next(d for d in wrapped if wrapped.count(d) > 1)} appears "
                           "multiple times in the list of dims")
    return wrapped if ndim else ()


def broadcast_shapes(*shapes):
    """The shape that all ``shapes`` broadcast to; RuntimeError names the dimension that differs."""
    first = shapes[0]
    if all(s == first for s in shapes[1:]):
        return first if type(first) is Size else Size(first)
    ndim = max(map(len, shapes))
    result = [1] * ndim
    for shape in shapes:
        lead = ndim - len(shape)
        for d, size in enumerate(shape, lead):
            if result[d] == 1:
                result[d] = size
            elif size not in (1, result[d]):
                raise RuntimeError(
                    f"The size of tensor a ({result[d]}) must match the size of tensor b ({size}) "
                    f"at non-singleton dimension {d}")
    return Size(result)


def broadcast_strides(tensor, shape):
    """Strides that read ``tensor`` as if it had ``shape``: 0 along broadcast dimensions."""
    lead = len(shape) - len(tensor._shape)
    return (0,) * lead + tuple(
        0 if have == 1 and want != 1 else stride
        for have, want, stride in zip(tensor._shape, shape[lead:], tensor._strides, strict=True))
