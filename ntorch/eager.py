"""The eager interpreter: run one entry now.

It computes; it knows nothing of gradients. The tape (``autograd/graph.py``) stands above it and is
bound as the interpreter that the table's callables use.
"""
from .ops.base import TensorBase
from .ops.outputs import (
    check_apart,
    check_castable,
    check_no_partial_overlap,
    check_same_dtype,
    check_writable,
    copy_into,
    prepare_out,
)


def run_inplace(entry, arguments):
    """Compute the entry into its first argument."""
    target = arguments[0]
    if entry.native_out and entry.write(arguments, target):
        return target
    check_writable(entry.name + "_", target)
    if entry.native_out:
        compute, result = entry.result_types(arguments)
        shape = entry.result_shape(arguments)
        if tuple(shape) != tuple(target._shape):
            raise RuntimeError(f"output with shape {list(target._shape)} doesn't match the "
                               f"broadcast shape {list(shape)}")
        check_castable(entry.name, result, target.dtype)
        check_no_partial_overlap(entry.name + "_", target, arguments[1:])
        entry.host(*arguments, out=target)
        return target
    result = entry.host(*arguments)
    _fits_inplace(entry, target, result)
    copy_into(entry.name, result, target)
    return target


def _fits_inplace(entry, target, result):
    if result._shape != target._shape:
        raise RuntimeError(f"output with shape {list(target._shape)} doesn't match the broadcast "
                           f"shape {list(result._shape)}")
    check_castable(entry.name, result.dtype, target.dtype)


def run_out(entry, arguments, out):
    """The ``out=`` form: results are written into the tensors given."""
    outs = tuple(out) if isinstance(out, (tuple, list)) else (out,)
    if entry.native_out and len(outs) == 1:
        if (not entry.exact_out and isinstance(outs[0], TensorBase)
                and entry.write(arguments, outs[0])):
            return out
        _, result = entry.result_types(arguments)
        tensors = [a for a in arguments if isinstance(a, TensorBase)]
        if entry.exact_out:
            check_same_dtype(entry.name, outs[0], result)
        prepare_out(entry.name, outs[0], entry.result_shape(arguments), result,
                    tensors[0]._storage.device)
        check_no_partial_overlap(entry.name, outs[0], arguments)
        entry.host(*arguments, out=outs[0])
        return out
    if entry.out_dtype:
        place = entry.names.index("dtype")
        if arguments[place] is None:
            arguments = (*arguments[:place], outs[0].dtype, *arguments[place + 1:])
    results = entry.host(*arguments)
    results = results if isinstance(results, tuple) else (results,)
    if len(results) != len(outs):
        raise TypeError(f"{entry.name}(): expected {len(results)} out tensors, got {len(outs)}")
    for target, result in zip(outs, results, strict=True):
        if entry.exact_out:
            check_same_dtype(entry.name, target, result.dtype)
        if entry.exact_out is True:
            check_apart(entry.name, target, arguments)
        elif not entry.is_reduction:
            check_no_partial_overlap(entry.name, target, arguments)
        prepare_out(entry.name, target, result._shape, result.dtype, result._storage.device)
    for target, result in zip(outs, results, strict=True):
        copy_into(entry.name, result, target)
    return type(out)(outs) if isinstance(out, list) else out
