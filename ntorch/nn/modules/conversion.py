"""Moving a module to another device or dtype."""
import ntorch

from ..parameter import Parameter, is_lazy


class Conversion:
    """The part of ``Module`` that changes all its tensors."""

    def _apply(self, fn, recurse=True):
        """Replace every parameter, gradient and buffer ``t`` by ``fn(t)``.

        The parameter objects stay the same, so optimizers keep hold of them, unless
        ``ntorch.__future__.set_overwrite_module_params_on_conversion(True)`` says otherwise.
        """
        if recurse:
            for module in self.children():
                module._apply(fn)
        for name, parameter in self._parameters.items():
            if parameter is not None:
                self._apply_to_parameter(fn, name, parameter)
        for name, buffer in self._buffers.items():
            if buffer is not None:
                self._buffers[name] = fn(buffer)
        return self

    def _apply_to_parameter(self, fn, name, parameter):
        with ntorch.no_grad():
            changed = fn(parameter)
        grad = parameter.grad
        if not _overwrite() and not is_lazy(parameter) and _compatible(parameter, changed):
            parameter.data = changed
            target = parameter
        else:
            target = changed if is_lazy(changed) else Parameter(changed, parameter.requires_grad)
            self._parameters[name] = target
        if grad is None:
            return
        with ntorch.no_grad():
            changed_grad = fn(grad)
        if target is parameter and _compatible(grad, changed_grad):
            grad.data = changed_grad
            parameter.grad = grad
        else:
            target.grad = changed_grad.requires_grad_(grad.requires_grad)

    def cuda(self, device=None):
        """Move everything to a CUDA device."""
        return self._apply(lambda t: t.cuda(device))

    def cpu(self):
        """Move everything to the CPU."""
        return self._apply(lambda t: t.cpu())

    def type(self, dst_type):
        """Convert everything to the dtype ``dst_type``."""
        return self._apply(lambda t: t.type(dst_type))

    def _floating_to(self, dtype):
        return self._apply(lambda t: t.to(dtype) if t.is_floating_point() else t)

    def float(self):
        """Convert floating point parameters and buffers to float32."""
        return self._floating_to(ntorch.float32)

    def double(self):
        """Convert floating point parameters and buffers to float64."""
        return self._floating_to(ntorch.float64)

    def half(self):
        """Convert floating point parameters and buffers to float16."""
        return self._floating_to(ntorch.float16)

    def bfloat16(self):
        """Convert floating point parameters and buffers to bfloat16."""
        return self._floating_to(ntorch.bfloat16)

    def to_empty(self, *, device, recurse=True):
        """Move to ``device`` without copying values."""
        return self._apply(lambda t: ntorch.empty_like(t, device=device), recurse=recurse)

    def to(self, *args, **kwargs):
        """Move or cast: ``to(device)``, ``to(dtype)``, ``to(device, dtype)``, ``to(tensor)``.

        Only floating point and complex tensors are cast; ``TypeError`` for an integer dtype.
        """
        device, dtype, non_blocking, memory_format = _parse_to(args, kwargs)
        if dtype is not None and not (dtype.is_floating_point or dtype.is_complex):
            raise TypeError("nn.Module.to only accepts floating point or complex dtypes, but got "
                            f"desired dtype={dtype}")

        def convert(t):
            cast = dtype if t.is_floating_point() or t.is_complex() else None
            keywords = {"non_blocking": non_blocking}
            if memory_format is not None and not is_lazy(t) and t.dim() in (4, 5):
                keywords["memory_format"] = memory_format
            wanted = {"device": device, "dtype": cast}
            return t.to(**{k: v for k, v in wanted.items() if v is not None}, **keywords)

        return self._apply(convert)

    def share_memory(self):
        """Move the storage of everything to shared memory."""
        return self._apply(lambda t: t.share_memory_())


def _overwrite():
    return ntorch.__future__.get_overwrite_module_params_on_conversion()


def _compatible(old, new):
    """Whether ``old.data = new`` is possible: the same class of storage."""
    return old.device.type == new.device.type or {old.device.type, new.device.type} <= {
        "cpu", "cuda"}


def _parse_to(args, kwargs):
    """``device, dtype, non_blocking, memory_format`` from the arguments of ``to``."""
    kwargs = dict(kwargs)
    found = {"device": kwargs.pop("device", None), "dtype": kwargs.pop("dtype", None)}
    tensor = kwargs.pop("tensor", None)
    non_blocking = kwargs.pop("non_blocking", False)
    memory_format = kwargs.pop("memory_format", None)
    if kwargs:
        raise TypeError(f"to() received an invalid keyword argument '{next(iter(kwargs))}'; it "
                        "takes device, dtype, tensor, non_blocking and memory_format")
    flags = []
    for arg in args:
        if isinstance(arg, ntorch.Tensor):
            tensor = arg
        elif isinstance(arg, ntorch.dtype):
            found["dtype"] = arg
        elif isinstance(arg, bool):
            flags.append(arg)
        elif isinstance(arg, str | int | ntorch.device):
            found["device"] = arg
        elif arg is not None:
            raise TypeError(f"to() received an invalid argument of type {type(arg).__name__}; it "
                            "takes a device, a dtype or a tensor")
    if tensor is not None:
        found = {"device": tensor.device, "dtype": tensor.dtype}
    device = None if found["device"] is None else ntorch.device(found["device"])
    return device, found["dtype"], flags[0] if flags else non_blocking, memory_format
