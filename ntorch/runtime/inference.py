"""Numba's type inference for kernels: what was resolved once is remembered.

Numba resolves every call anew, trying all declarations of an operator, ufuncs over arrays included.
"""
import types as pytypes

from numba.core import errors, types, typing
from numba.core.targetconfig import ConfigStack
from numba.core.typing.templates import builtin_registry


class Context(typing.Context):
    """What names and calls mean, by type."""

    def init(self):
        self._resolved, self._meant, self._registered = {}, {}, None

    def refresh(self):
        """Take over new registrations, if there are any."""
        state = _count(builtin_registry)
        if state != self._registered:
            super().refresh()
            self._registered = _count(builtin_registry)

    def resolve_function_type(self, func, args, kws):
        """The signature of a call, as Numba resolves it."""
        function = func if isinstance(func, types.Type) or not callable(func) else (
            self._lookup_global(func))
        if kws or not isinstance(function, types.Function):
            return super().resolve_function_type(func, args, kws)
        key = function, tuple(args), _inherited()
        found = self._resolved.get(key)
        if found is None:
            signature = super().resolve_function_type(function, args, kws)
            if signature is None:
                return None
            found = self._resolved[key] = signature, function.get_impl_key(signature)
            self._check(function, *found)
        function._impl_keys[found[0].args] = found[1]       # of the declaration that was chosen
        return found[0]

    def _check(self, function, signature, implementation):
        """An intrinsic's code is found by the signature it gives; so that must decide it."""
        if not isinstance(implementation, pytypes.FunctionType):
            return
        kind = function, signature.args
        other = self._meant.setdefault(kind, implementation)
        if other is not implementation and _captured(other) != _captured(implementation):
            raise errors.InternalError(f"{function} generates different code for calls that it "
                                       f"gives one signature, {signature}: put what decides it "
                                       "in the signature")


def _captured(implementation):
    """What a code generator was made with."""
    return implementation.__code__, [
        cell.cell_contents for cell in implementation.__closure__ or ()
        if isinstance(cell.cell_contents, (bool, int, float, str, tuple, list, types.Type))]


def _inherited():
    """What a function that Numba writes in Python is compiled with as its caller is."""
    flags = ConfigStack.top_or_none()
    return flags and (frozenset(flags.fastmath.flags), flags.error_model, flags.forceinline)


def _count(registry):
    """How much has been registered: grows with every new declaration."""
    return len(registry.functions), len(registry.attributes), len(registry.globals)
