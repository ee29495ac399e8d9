"""From typed Numba IR to LLVM IR: Numba's lowering with what kernels never need left out.

Kernels count no references, raise nothing and are never debugged as Python: variables need no
deletion, stores look at no old value, functions return their results and no status.
"""
import collections
import itertools
import operator
import re

from llvmlite import ir as llvm
from numba.core import base, callconv, cpu, ir, lowering, types
from numba.core.typed_passes import BaseNativeLowering

from ..kernels.stubs import stays_rolled
from . import implementations
from .library import Codegen

_numbers = itertools.count()


class _Implementation(base._wrap_impl):
    """What computes an operation, with the context and signature to do it in."""

    def __init__(self, found, context, signature):
        self._callable, self._imp = found
        self._context, self._sig = context, signature


class CallConv(callconv.BaseCallConv):
    """``result f(arguments...)``. What would raise returns a zero: in kernels it is dead code."""

    def _make_call_helper(self, builder):
        return None

    def get_return_type(self, ty):
        return self.context.data_model_manager[ty].get_return_type()

    def get_function_type(self, restype, argtypes):
        return llvm.FunctionType(self.get_return_type(restype),
                                 list(self._get_arg_packer(argtypes).argument_types))

    def decorate_function(self, fn, args, fe_argtypes, noalias=False):
        self._get_arg_packer(fe_argtypes).assign_names(fn.args, args)

    def get_arguments(self, func):
        return func.args

    def return_value(self, builder, retval):
        builder.ret(retval)

    def call_function(self, builder, callee, resty, argtys, args):
        """``(None, result)`` of a call."""
        values = self._get_arg_packer(argtys).as_arguments(builder, args)
        result = builder.call(callee, values)
        return None, self.context.get_returned_value(builder, resty, result)

    def return_user_exc(self, builder, exc, exc_args=None, loc=None, func_name=None):
        builder.ret(llvm.Constant(builder.function.function_type.return_type, None))


class Context(cpu.CPUContext):
    """Numba's CPU context; contexts of single functions are copies that share what was found."""

    def init(self):
        from .build import boundscheck
        self.is32bit = False
        self._internal_codegen = Codegen("ntorch.kernels")
        self._found, self._registered = {}, [None]
        self._convention = callconv.CPUCallConv if boundscheck() else CallConv

    @property
    def call_conv(self):
        return self._convention(self)

    def refresh(self):
        """Take over new registrations, if there are any."""
        if self._registered[0] != self._count():
            super().refresh()
            self.install_registry(implementations.registry)     # the last one counts
            self._registered[0] = self._count()
        self.typing_context.refresh()

    def _count(self):
        """How much there is to take over: grows with every new implementation."""
        return len(self._registries), sum(
            len(kind) for registry in self._registries
            for kind in (registry.functions, registry.getattrs, registry.setattrs, registry.casts,
                         registry.constants))

    def get_function(self, fn, sig, _firstcall=True):
        """The implementation of ``fn`` for the signature ``sig``, as Numba finds it."""
        if sig.recvr is not None:
            sig = sig.as_function()
        # a callable's own key is the implementation that its call was resolved to
        key = fn.get_impl_key(sig) if isinstance(fn, types.Callable) else fn, sig.args
        found = self._found.get(key)
        if found is None:
            made = super().get_function(fn, sig, _firstcall)
            found = self._found[key] = made._callable, made._imp
        return _Implementation(found, self, sig)

    def insert_user_function(self, func, fndesc, libs=()):
        """Have calls of the function ``func`` call the code that ``fndesc`` describes."""
        if self._convention is not CallConv:
            super().insert_user_function(func, fndesc, libs)
            return

        def call(context, builder, signature, arguments):
            callee = context.declare_function(builder.module, fndesc)
            return context.call_conv.call_function(builder, callee, fndesc.restype,
                                                   fndesc.argtypes, arguments)[1]
        call.signature, call.libs = fndesc.argtypes, tuple(libs)
        self._defns[func].append(call, call.signature)

    def call_internal(self, builder, fndesc, sig, args):
        if self._convention is not CallConv:
            return super().call_internal(builder, fndesc, sig, args)
        return self.call_internal_no_propagate(builder, fndesc, sig, args)[1]

    def mangler(self, name, types, *, abi_tags=(), uid=None):
        """A short name: it is written wherever the function is called."""
        return f"{re.sub(r'[^A-Za-z0-9_]', '_', name)[-40:]}.{next(_numbers)}"

    def pair_first(self, builder, val, ty):
        return builder.extract_value(val, 0)

    def pair_second(self, builder, val, ty):
        return builder.extract_value(val, 1)

    def post_lowering(self, module, library):
        if self.fastmath:
            cpu.fastmathpass.rewrite_module(module, self.fastmath)

    def get_executable(self, library, fndesc, env):
        library._ensure_finalized()
        return _Uncalled(fndesc)

    def load_additional_registries(self):
        """Load what kernels use of Numba: no reference counting, no random numbers, no linear
        algebra, which would import SciPy, and no packages that extend Numba.
        """
        from numba.core import inline_closurecall, optional  # noqa: F401
        from numba.cpython import (  # noqa: F401
            builtins,
            charseq,
            cmathimpl,
            enumimpl,
            hashing,
            heapq,
            iterators,
            listobj,
            mathimpl,
            numbers,
            rangeobj,
            setobj,
            slicing,
            tupleobj,
            unicode,
        )
        from numba.misc import literal  # noqa: F401
        from numba.np import arrayobj, npyimpl  # noqa: F401
        for module in (cmathimpl, mathimpl, npyimpl):
            self.install_registry(module.registry)


class _Uncalled:
    """What stands for a function in Numba's tables: it is never called from Python."""

    def __init__(self, fndesc):
        self.fndesc = fndesc


class Builder(llvm.IRBuilder):
    """Writes LLVM IR; what was put into a structure is not read back out of it."""

    def extract_value(self, agg, idx, name=""):
        wanted = list(idx) if isinstance(idx, (tuple, list)) else [idx]
        inner = agg
        while isinstance(inner, llvm.instructions.InsertValue):
            at = list(inner.indices)
            if at == wanted:
                return inner.value
            length = min(len(at), len(wanted))
            if at[:length] == wanted[:length]:
                break
            inner = inner.aggregate
        return super().extract_value(inner, wanted, name)


def _reads(statement):
    """Names of the variables that a statement of Numba IR reads."""
    value = statement.value if isinstance(statement, ir.Assign) else statement
    if isinstance(value, ir.Var):
        return (value.name,)
    if isinstance(value, (ir.Const, ir.Global, ir.FreeVar, ir.Arg)):
        return ()
    return [variable.name for variable in value.list_vars()]


def _keep_rolled(module, branch):
    """Tell LLVM not to unroll the loop that ``branch`` closes, unless its length is a constant.

    Copies of a loop that does not matter only cost: a quarter of a kernel's code, up to a third of
    the time that LLVM takes for it.
    """
    rolled = module.add_metadata([llvm.MetaDataString(module, "llvm.loop.unroll.runtime.disable")])
    loop = llvm.values.MDValue(module, (rolled,), name=str(len(module.metadata)))
    loop.operands = (loop, rolled)      # a loop's own node begins with itself
    branch.set_metadata("llvm.loop", loop)


class Lower(lowering.Lower):
    """Lowers one function."""

    def emit_environment_object(self):
        if self.context._convention is not CallConv:
            super().emit_environment_object()

    def setup_function(self, fndesc):
        self.function = self.context.declare_function(self.module, fndesc)
        self.entry_block = self.function.append_basic_block("entry")
        self.builder = Builder(self.entry_block)
        self._begun, self._rolled = set(), stays_rolled(self.func_ir.func_id.func)
        self.call_helper = self.call_conv.init_call_helper(self.builder)

    def _find_singly_assigned_variable(self):
        """Variables that live in one block, and so need no place on the stack: assigned once, and
        read in that block only, after it."""
        assigned, elsewhere = collections.Counter(), set()
        for block in self.func_ir.blocks.values():
            here = set()
            for statement in block.body:
                elsewhere.update(name for name in _reads(statement) if name not in here)
                if isinstance(statement, ir.Assign):
                    here.add(statement.target.name)
                    assigned[statement.target.name] += 1
        self._singly_assigned_vars = {name for name, count in assigned.items()
                                      if count == 1 and name not in elsewhere}
        self._blk_local_varmap = {}

    def lower_block(self, block):
        self._cur_ir_block = block
        self._begun.add(block)
        for inst in block.body:
            self.loc = inst.loc
            try:
                self.lower_inst(inst)
            except Exception as error:
                error.add_note(f'while lowering "{inst}" at {inst.loc}')
                raise

    def lower_inst(self, inst):
        if isinstance(inst, ir.Assign):
            name = inst.target.name
            self.storevar(self.lower_assign(self.typeof(name), inst), name)
            return
        super().lower_inst(inst)
        targets = {ir.Jump: ("target",), ir.Branch: ("truebr", "falsebr")}.get(type(inst), ())
        if self._rolled and any(self.blocks[getattr(inst, name)] in self._begun
                                for name in targets):
            _keep_rolled(self.module, self.builder.block.terminator)

    def storevar(self, value, name, argidx=None):
        if name in self._singly_assigned_vars:
            self._blk_local_varmap[name] = value
        else:
            self.builder.store(value, self.getvar(name))

    def loadvar(self, name):
        value = self._blk_local_varmap.get(name)
        return self.builder.load(self.getvar(name)) if value is None else value

    def _call(self, function, signature, arguments):
        """Lower ``function`` for arguments of the types in ``signature``."""
        typing_context = self.context.typing_context
        function = typing_context.resolve_value_type(function)
        chosen = typing_context.resolve_function_type(function, signature.args, {})
        return self.context.get_function(function, chosen)(self.builder, arguments)

    def _cast_all(self, variables, kinds):
        return [self.context.cast(self.builder, self.loadvar(v.name), self.typeof(v.name), kind)
                for v, kind in zip(variables, kinds, strict=True)]

    def lower_binop(self, resty, expr, op):
        signature = self.fndesc.calltypes[expr]
        operands = self._cast_all((expr.lhs, expr.rhs), signature.args)
        result = self._call(op, signature, operands)
        return self.context.cast(self.builder, result, signature.return_type, resty)

    def lower_expr(self, resty, expr):
        if expr.op == "static_getitem" and isinstance(self.typeof(expr.value.name),
                                                      (types.Array, types.CPointer)):
            return self.lower_getitem(resty, expr, expr.value, expr.index_var,
                                      self.fndesc.calltypes[expr])
        return super().lower_expr(resty, expr)

    def lower_getitem(self, resty, expr, value, index, signature):
        operands = self._cast_all((value, index), signature.args)
        result = self._call(operator.getitem, signature, operands)
        return self.context.cast(self.builder, result, signature.return_type, resty)

    def lower_setitem(self, target_var, index_var, value_var, signature):
        operands = self._cast_all((target_var, index_var, value_var), signature.args)
        return self._call(operator.setitem, signature, operands)


class NativeLowering(BaseNativeLowering):
    """The pass that lowers."""

    _name = "kernel_lowering"
    lowering_class = Lower
