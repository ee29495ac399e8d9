"""A Numba target of our own: functions are typed and lowered, and only whole kernels are compiled.

Numba optimises and emits machine code for every function that it compiles, callees too, since any
of them may be called from Python; ours never are. Here a function becomes LLVM IR and waits, and a
kernel is what is linked from its entry and all it calls: optimised once, emitted once. Wrappers
for Python are not made, reference counting is not linked, and passes over Numba's IR that kernels
have no use for do not run. Numba's own target, which other code in the process may use, is left
as it is: contexts, dispatchers and code generator are ours.
"""
import types

import llvmlite.binding as llvm
from llvmlite import ir
from numba.core import codegen, compiler, cpu, dispatcher, registry
from numba.core import typed_passes as typed
from numba.core import untyped_passes as untyped
from numba.core.compiler_lock import global_compiler_lock
from numba.core.compiler_machinery import PassManager, _pass_registry
from numba.core.target_extension import (
    CPU,
    dispatcher_registry,
    jit_registry,
    target_override,
    target_registry,
)
from numba.core.utils import threadsafe_cached_property

from . import cpu as processors

NAME = "ntorch"
UNTYPED = (untyped.TranslateByteCode, untyped.FixupArgs, untyped.IRProcessing)
CLOSURES = (untyped.InlineClosureLikes, untyped.MakeFunctionToJitFunction)
TYPED = (untyped.RewriteSemanticConstants, untyped.DeadBranchPrune, untyped.GenericRewrites,
         untyped.RewriteDynamicRaises, untyped.InlineInlinables, untyped.DeadBranchPrune,
         untyped.FindLiterallyCalls, untyped.LiteralUnroll, untyped.ReconstructSSA,
         untyped.DeadBranchPrune, untyped.LiteralPropagationSubPipelinePass,
         typed.NopythonTypeInference, typed.PreLowerStripPhis, typed.InlineOverloads,
         typed.IRLegalization, typed.NativeLowering, typed.NoPythonBackend)


class Kernels(CPU):
    """The target as Numba's registries know it: whatever is made for the CPU serves."""


class Library(codegen.CPUCodeLibrary):
    """The IR of one function and the libraries of those it calls."""

    def add_llvm_module(self, module):
        module.data_layout = self._codegen._data_layout
        self._final_module.link_in(module)

    def finalize(self):
        self._raise_if_finalized()
        self._finalized = True

    def _finalize_specific(self):
        """Nothing: no machine code is made for a library."""

    def get_pointer_to_function(self, name):
        raise RuntimeError(f"{name} is part of kernels only")

    def _all(self):
        """This library and all that it needs, each once."""
        found, waiting = {}, [self]
        while waiting:
            library = waiting.pop()
            if library not in found:
                found[library] = None
                waiting.extend(library._linking_libraries)
        return list(found)

    def linked(self, symbol):
        """One module of all the code that ``symbol`` needs, optimised."""
        module = llvm.parse_assembly(str(self._codegen._create_empty_module(symbol)))
        for library in self._all():
            module.link_in(library._final_module, preserve=True)
        for function in module.functions:
            if (function.name != symbol and not function.is_declaration
                    and function.linkage == llvm.Linkage.external):
                function.linkage = "linkonce_odr"       # gone where all calls are inlined
        manager, builder = self._codegen._module_pass_manager()
        manager.run(module, builder)
        return module


class Codegen(codegen.JITCPUCodegen):
    """Code for the processor that ``NTORCH_CPU`` names, or this one."""

    _library_class = Library

    def _get_host_cpu_name(self):
        return processors.target() or super()._get_host_cpu_name()

    def _get_host_cpu_features(self):
        # LLVM prefers 256-bit vectors on some processors that have 512, for the sake of code that
        # uses vectors rarely; a chain of pointwise operations runs 1.8 times as long with them
        named = processors.target()
        wide = ["-prefer-256-bit"] if "avx512f" in processors.features() else []
        return ",".join(wide if named else [super()._get_host_cpu_features(), *wide])


class Context(cpu.CPUContext):
    """Lowers to IR."""

    def init(self):
        self.is32bit = False
        self._internal_codegen = Codegen("ntorch.kernels")

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

    def post_lowering(self, module, library):
        if self.fastmath:
            cpu.fastmathpass.rewrite_module(module, self.fastmath)

    def get_executable(self, library, fndesc, env):
        library._ensure_finalized()
        return _Uncalled(fndesc)


class _Uncalled:
    """What stands for a function in Numba's tables: it is never called from Python."""

    def __init__(self, fndesc):
        self.fndesc = fndesc


class _Passes(PassManager):
    """Runs passes one after the other.

    Numba's manager recomputes liveness and control flow after each, which takes longer than most
    passes; those that need them compute them.
    """

    def run(self, state):
        for kind, _ in self.passes:
            step = _pass_registry.get(kind).pass_inst
            step.analysis = self._analysis
            step.run_initialization(state)
            step.run_pass(state)


class Compiler(compiler.CompilerBase):
    """Numba's passes less those that look for what no kernel has."""

    def define_pipelines(self):
        passes = _Passes("kernel")
        closures = any(isinstance(c, types.CodeType)
                       for c in self.state.func_id.func.__code__.co_consts)
        for kind in UNTYPED + (CLOSURES if closures else ()) + TYPED:
            passes.add_pass(kind, "")
        passes.finalize()
        return [passes]


class Description(registry.CPUTarget):
    @threadsafe_cached_property
    def _toplevel_target_context(self):
        return Context(self.typing_context, self._target_name)


class Dispatcher(dispatcher.Dispatcher):
    targetdescr = None

    def __init__(self, py_func, locals=None, targetoptions=None, pipeline_class=Compiler):
        super().__init__(py_func, locals or {}, targetoptions or {}, pipeline_class)

    def add_overload(self, result):
        self.overloads[tuple(result.signature.args)] = result


def jit(function=None, **options):
    """``numba.njit`` for functions that only kernels call."""
    options = {**options, "no_cpython_wrapper": True, "no_cfunc_wrapper": True, "nopython": True}
    options.pop("cache", None)

    def decorate(function):
        return Dispatcher(function, targetoptions=options)
    return decorate if function is None else decorate(function)


target_registry[NAME] = Kernels
Dispatcher.targetdescr = Description(NAME)
dispatcher_registry[Kernels] = Dispatcher
jit_registry[Kernels] = jit


def _entry(context, library, fndesc, symbol):
    """Add ``void symbol(int64_t *args, int64_t begin, int64_t end)``, which calls the function.

    A kernel raises nothing, so its status is not looked at.
    """
    module = context.create_module("entry")
    callee = ir.Function(module, context.call_conv.get_function_type(
        fndesc.restype, fndesc.argtypes), fndesc.llvm_func_name)
    arguments = [context.get_value_type(kind) for kind in fndesc.argtypes]
    entry = ir.Function(module, ir.FunctionType(ir.VoidType(), arguments), symbol)
    builder = ir.IRBuilder(entry.append_basic_block("entry"))
    context.call_conv.call_function(builder, callee, fndesc.restype, fndesc.argtypes, entry.args)
    builder.ret_void()
    library.add_ir_module(module)


def kernel_module(function, signature, options, symbol):
    """``(exported name, optimised LLVM module)`` of ``function`` as a C function."""
    with global_compiler_lock, target_override(NAME):
        dispatcher_ = jit(**options)(function)
        dispatcher_.compile(signature)
        result = dispatcher_.overloads[tuple(signature.args)]
        context, library = result.target_context, Library(result.library.codegen, symbol)
        library.add_linking_library(result.library)
        if options["boundscheck"]:          # this one reports what the bounds check found
            context.create_cfunc_wrapper(library, result.fndesc, result.environment,
                                         result.call_helper)
            symbol = result.fndesc.llvm_cfunc_wrapper_name
        else:
            _entry(context, library, result.fndesc, symbol)
        return symbol, library.linked(symbol)


def emit(module):
    """The object file of a module."""
    return _codegen()._tm.emit_object(module)


def assembly(module):
    """The assembly text of a module."""
    return _codegen()._tm.emit_assembly(module)


def _codegen():
    return Dispatcher.targetdescr.target_context.codegen()
