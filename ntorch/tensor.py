"""Tensor: what the table's tensors look like to a user. Methods of ops are bound from the table."""

import numpy as np

from .autograd import graph, inplace
from .autograd.modes import state
from .ops import base, registry
from .ops.base import Size, TensorBase, numel
from .ops.registry import ops
from .runtime import dtypes, storage
from .runtime.device import CPU, META, check_available, device
from .runtime.dtypes import BOOL
from .tensor_history import History
from .tensor_values import Values

registry.bind_interpreter(graph.call, graph.call_out, inplace.call_inplace)


class _TensorMeta(type):
    """Looks methods up in the table the first time they are used, and keeps them on the class."""

    def __getattr__(cls, name):
        if name.startswith("__"):
            raise AttributeError(name)
        method = _find_method(name)
        if method is None:
            raise AttributeError(f"type object 'Tensor' has no attribute '{name}'")
        setattr(Tensor, name, method)
        return method

    def __dir__(cls):
        names = [n for n, e in registry.entries().items() if e.method]
        return sorted({*type.__dir__(cls), *names})


def _find_method(name):
    entry = registry.find(name)
    if entry is not None and entry.method:
        if entry.varargs:
            return registry.make_function(entry, "method")
        return entry.function
    if name.endswith("_"):
        entry = registry.find(name[:-1])
        if entry is not None and entry.inplace and entry.method:
            return registry.make_function(entry, "inplace")
    return None


class Tensor(History, Values, metaclass=_TensorMeta):
    """A view (dtype, shape, strides, offset) over a storage, with torch's methods.

    ``Tensor(2, 3)`` is uninitialised, ``Tensor([1, 2])`` holds the data, both in the default type;
    ``ntorch.tensor`` is the usual constructor.
    """

    __array_priority__ = 1000

    def __hash__(self):
        return id(self if state.tracer is None else state.tracer.key(self))

    def __new__(cls, *data, device=None):
        made = _legacy_new(data, device)
        made.__class__ = cls
        return made

    def __init_subclass__(cls, **keywords):
        super().__init_subclass__(**keywords)

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        method = _find_method(name)
        if method is None:
            if state.tracer is not None:
                return state.tracer.attribute(self, name)
            raise AttributeError(f"'Tensor' object has no attribute '{name}'")
        setattr(Tensor, name, method)
        return getattr(self, name)

    def __dir__(self):
        return sorted({*object.__dir__(self), *dir(type(self))})

    # --- what it is ---------------------------------------------------------------------------

    @property
    def shape(self):
        """Sizes, as a ``Size``."""
        return self._shape

    def size(self, dim=None):
        """All sizes, or that of one dimension."""
        return self._shape if dim is None else self._shape[base.wrap_dim(dim, len(self._shape))]

    def stride(self, dim=None):
        """All strides in elements, or that of one dimension."""
        return self._strides if dim is None else self._strides[
            base.wrap_dim(dim, len(self._shape))]

    def storage_offset(self):
        """Elements between the storage's start and the first element."""
        return self._offset if state.tracer is None else state.tracer.fact(self, "storage_offset")

    def data_ptr(self):
        """Address of the first element."""
        return base.memory_of(self) if numel(self) else 0

    def untyped_storage(self):
        """The storage: bytes shared by all views."""
        return base.storage_of(self)

    def storage(self):
        """The storage, seen through this tensor's dtype."""
        from .storages import TypedStorage
        return TypedStorage(base.storage_of(self), self.dtype)

    def dim(self):
        """Number of dimensions."""
        return len(self._shape)

    ndimension = dim
    ndim = property(dim)

    def numel(self):
        """Number of elements."""
        return numel(self)

    nelement = numel

    def element_size(self):
        """Bytes of one element."""
        return self.dtype.itemsize

    @property
    def itemsize(self):
        """Bytes of one element."""
        return self.dtype.itemsize

    @property
    def nbytes(self):
        """Bytes of all elements."""
        return numel(self) * self.dtype.itemsize

    @property
    def device(self):
        """Where the data is."""
        return self._storage.device

    is_cpu = property(lambda self: self._storage.device.type == "cpu")
    is_cuda = property(lambda self: self._storage.device.type == "cuda")
    is_meta = property(lambda self: self._storage.device is META)
    is_sparse = is_quantized = is_mkldnn = is_nested = False

    @property
    def layout(self):
        """Always ``strided``."""
        from .formats import strided
        return strided

    def is_contiguous(self, memory_format=None):
        """Whether elements lie in row-major order (or in the memory format given)."""
        from .formats import matches
        return matches(self, memory_format)

    def is_floating_point(self):
        """Whether the dtype is a floating one."""
        return self.dtype.is_floating_point

    def is_complex(self):
        """Whether the dtype is complex."""
        return self.dtype.is_complex

    def is_signed(self):
        """Whether the dtype has negative numbers."""
        return self.dtype.is_signed

    def is_conj(self):
        """False: conjugation is never lazy here."""
        return False

    is_neg = is_conj

    def is_inference(self):
        """Whether it was made in ``inference_mode``."""
        return self._inference

    def is_shared(self):
        """Whether other processes see writes to the storage."""
        return (self._storage.is_shared_memory if state.tracer is None
                else state.tracer.fact(self, "is_shared"))

    def is_same_size(self, other):
        """Whether the shapes are equal."""
        return self._shape == other._shape

    def is_set_to(self, tensor):
        """Whether both are the same view of the same storage."""
        return (self._storage is tensor._storage and self._shape == tensor._shape
                and self._strides == tensor._strides and self._offset == tensor._offset)

    T = property(lambda self: ops.permute(self, tuple(range(len(self._shape)))[::-1]))
    mT = property(lambda self: ops.transpose(self, -2, -1))
    H = property(lambda self: ops.adjoint(self) if len(self._shape) else self)
    mH = property(lambda self: ops.adjoint(self))

    @property
    def real(self):
        """Real part; the tensor itself if it is real."""
        return ops.real(self)

    @real.setter
    def real(self, value):
        ops.copy_(ops.real(self), value)

    @property
    def imag(self):
        """Imaginary part; RuntimeError for real tensors."""
        return ops.imag(self)

    @imag.setter
    def imag(self, value):
        ops.copy_(ops.imag(self), value)

    # --- storage ------------------------------------------------------------------------------

    def resize_(self, *sizes, memory_format=None):
        """Change the shape, growing the storage if it must; new elements are not defined."""
        from .ops.entries.factories import sizes_of
        if self._requires_grad:
            raise RuntimeError("cannot resize variables that require grad")
        shape = sizes_of("resize_", sizes)
        need = base.checked_nbytes(shape, self.dtype) + self._offset * self.dtype.itemsize
        if need > base.whole_of(self)._storage.nbytes():
            base.storage_of(self).resize_(need)
        self._set_view(self._storage, shape, base.contiguous_strides(shape), self._offset)
        return self

    def view(self, *size, dtype=None):
        """The same elements in another shape, or the same bytes in another type (``view(dtype)``).

        RuntimeError where strides or sizes do not allow it without a copy.
        """
        if len(size) == 1 and isinstance(size[0], dtypes.dtype):
            size, dtype = (), size[0]
        if dtype is not None:
            return ops.view_dtype(self, dtype)
        listed = len(size) == 1 and not hasattr(size[0], "__index__")
        return ops.view(self, size[0] if listed else size)

    def as_subclass(self, cls):
        """The same tensor, history included, as an instance of ``cls``, a subclass of Tensor."""
        if not (isinstance(cls, type) and issubclass(cls, Tensor)):
            raise TypeError("as_subclass(): argument 'cls' must be a subclass of Tensor, got "
                            f"{cls!r}")
        made = ops.alias(self)
        made.__class__ = cls
        return made

    def resize_as_(self, tensor, memory_format=None):
        """``resize_`` to the shape of another tensor."""
        return self.resize_(tensor._shape)

    def _set_view(self, store, shape, strides, offset):
        self._storage, self._shape, self._strides = store, Size(shape), tuple(strides)
        self._offset = offset
        self._address = store.address + offset * self.dtype.itemsize
        base.adopts(self)

    def set_(self, source=None, storage_offset=0, size=None, stride=None):
        """Show another storage (or another tensor's) from now on."""
        if source is None:
            source = storage.Storage(0, self.device)
        if isinstance(source, TensorBase):
            self._set_view(source._storage, source._shape, source._strides, source._offset)
            return self
        store = getattr(source, "_untyped_storage", source)
        if size is None:
            size = (store.nbytes() // self.dtype.itemsize,)
        size = Size(size)
        stride = base.contiguous_strides(size) if stride is None else tuple(stride)
        last = storage_offset + sum((n - 1) * s for n, s in zip(size, stride, strict=True)) + 1
        if 0 not in size and last * self.dtype.itemsize > store.nbytes():
            raise RuntimeError(f"setStorage: sizes {list(size)}, strides {list(stride)}, storage "
                               f"offset {storage_offset}, and itemsize {self.dtype.itemsize} "
                               f"requiring a storage size of {last * self.dtype.itemsize} are out "
                               f"of bounds for storage of size {store.nbytes()}")
        self._set_view(store, size, stride, storage_offset)
        return self

    def share_memory_(self):
        """Move the storage to memory that forked and spawned processes share."""
        from .multiprocessing import share_storage
        share_storage(self)
        return self

    def pin_memory(self, device=None):
        """The tensor itself: without a GPU there is nothing to pin for."""
        return self

    def is_pinned(self, device=None):
        """False: no page-locked memory here."""
        return False

    # --- copies and conversions ---------------------------------------------------------------

    def to(self, *arguments, **keywords):
        """``to(dtype)``, ``to(device)``, ``to(device, dtype)``, ``to(other)``: a converted copy, or
        this tensor if nothing changes and ``copy`` is false."""
        from .conversion import to
        return to(self, *arguments, **keywords)

    def type(self, dtype=None, non_blocking=False):
        """The type's name, or the tensor converted to a type given by name, class or dtype."""
        from .conversion import type_
        return type_(self, dtype)

    def cpu(self, memory_format=None):
        """The tensor in main memory."""
        return self.to(CPU)

    def cuda(self, device=None, non_blocking=False, memory_format=None):
        """The tensor on a GPU; RuntimeError where there is none."""
        return self.to("cuda" if device is None else device)

    def get_device(self):
        """Ordinal of the device, -1 for the CPU."""
        return -1 if self.device.index is None else self.device.index

    def __copy__(self):
        made = base.alias(self)
        made.__class__ = type(self)
        made._requires_grad = self._requires_grad and self.is_leaf
        return made

    def __deepcopy__(self, memo):
        from .conversion import deep_copy
        return deep_copy(self, memo)

    def __reduce_ex__(self, protocol):
        from .conversion import reduce_tensor
        return reduce_tensor(self, protocol)

    def __setstate__(self, state):
        self.__dict__.update(state)

    def __dlpack__(self, *, stream=None, max_version=None, dl_device=None, copy=None):
        from .utils.dlpack import to_dlpack
        if self._requires_grad:
            raise BufferError("Can't export tensors that require gradient, use tensor.detach()")
        return to_dlpack(ops.clone(self) if copy else self, max_version=max_version)

    def __dlpack_device__(self):
        return (1, 0)

    # --- indexing and operators -----------------------------------------------------------------

    def __getitem__(self, key):
        from .indexing import getitem
        return getitem(self, key)

    def __setitem__(self, key, value):
        from .indexing import setitem
        setitem(self, key, value)

    def __delitem__(self, key):
        raise TypeError("Tensor does not support deleting items")

    def where(self, condition, other):
        """``self`` where ``condition`` holds, else ``other``."""
        return ops.where(condition, self, other)

    def polygamma(self, n):
        """The ``n``-th derivative of digamma."""
        return ops.polygamma(n, self)

    def __ipow__(self, other):
        return ops.pow_(self, other)




def _legacy_new(data, where):
    where = check_available(where)
    if not data:
        return base.empty((0,), None, where)
    if len(data) == 1 and not isinstance(data[0], (int, np.integer)):
        first = data[0]
        if isinstance(first, Size):
            return base.empty(first, None, where)
        if isinstance(first, TensorBase):
            return base.alias(first)
        if isinstance(first, storage.Storage):
            return base.empty((0,), None).set_(first)
        return ops.tensor(first, dtype=dtypes.get_default_dtype(), device=where)
    if len(data) == 1 and isinstance(data[0], (bool, float)):
        raise TypeError(f"new(): data must be a sequence (got {type(data[0]).__name__})")
    return ops.empty(*data, device=where)


base.bind(Tensor)

__all__ = ["BOOL", "Tensor", "device"]
