"""Content hashes of kernels: the code of a function, of all it calls, and every constant it reads.

Hashes come from code objects, not from source text, so that the warm path reads no source files;
any edit that changes what would be compiled, in the function or in a callee, changes the hash.
"""
import hashlib
import types

from ..kernels.stubs import T, specialised, stays_rolled, typed

_memo = {}


def resolve(function):
    """``{name: value}`` of the globals and closure cells that ``function`` reads."""
    code = function.__code__
    found = {}
    for name in _global_names(code):
        if name in function.__globals__:
            found[name] = function.__globals__[name]
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        found[name] = cell.cell_contents
    return found


def _global_names(code):
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names |= _global_names(constant)
    return names


def _code_parts(code):
    yield code.co_code.hex()
    yield repr((code.co_names, code.co_varnames, code.co_freevars, code.co_argcount))
    for constant in code.co_consts[1:] if code.co_flags & 0 else code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _code_parts(constant)
        else:
            yield f"{type(constant).__name__}:{constant!r}"


def fingerprint(function):
    """Hex digest of ``function`` and everything it refers to."""
    known = _memo.get(function)
    if known is None:
        known = _memo[function] = _digest(function, ())
    return known


def extent(function):
    """Bytes of bytecode of ``function`` and all it calls: how long it takes to compile, roughly."""
    found = {}

    def visit(value):
        if isinstance(value, typed):
            value = next(iter(value.variants.values()))
        elif isinstance(value, specialised):
            value = value.function
        if isinstance(value, types.FunctionType) and value not in found:
            found[value] = len(value.__code__.co_code)
            if getattr(value, "__stub__", None) is None:
                for part in resolve(value).values():
                    visit(part)
    visit(function)
    return sum(found.values())


def _digest(function, stack):
    if function in stack:
        return f"recursion:{len(stack) - stack.index(function)}"
    if function in _memo:
        return _memo[function]
    digest = hashlib.sha256()
    for part in _code_parts(function.__code__):
        digest.update(part.encode())
    digest.update(repr(function.__defaults__).encode())
    if stays_rolled(function):
        digest.update(b"rolled")
    digest.update(getattr(function, "__instruction__", "").encode())
    for name, value in sorted(resolve(function).items()):
        digest.update(f"|{name}=".encode())
        digest.update(_value_part(name, value, (*stack, function)).encode())
    return digest.hexdigest()


def _value_part(name, value, stack):
    if value is T:
        return "T"
    stub = getattr(value, "__stub__", None)
    if stub is not None:
        return "stub:" + stub
    if isinstance(value, typed):
        return "typed:" + ",".join(f"{code}={_digest(variant, stack)}"
                                   for code, variant in sorted(value.variants.items()))
    if isinstance(value, specialised):
        return f"{value.code}{value.reassoc}:{_digest(value.function, stack)}"
    if isinstance(value, types.FunctionType):
        return _digest(value, stack)
    if isinstance(value, types.ModuleType):
        return "module:" + value.__name__
    if isinstance(value, (int, float, complex, str, bool, tuple, type(None))):
        return f"{type(value).__name__}:{value!r}"
    if isinstance(value, type) or callable(value):
        return f"name:{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', name)}"
    return f"{type(value).__name__}:{value!r}"
