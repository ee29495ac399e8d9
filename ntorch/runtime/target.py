"""A Numba target of our own: functions are typed and lowered, and only whole kernels are compiled.

Numba optimises and emits machine code for every function that it compiles, callees too, since any
of them may be called from Python; ours never are. Here a function becomes LLVM IR and waits, and a
kernel is what is linked from its entry and all it calls: optimised once, emitted once. Wrappers
for Python are not made, reference counting is not linked, and passes over Numba's IR that kernels
have no use for do not run. Numba's own target, which other code in the process may use, is left
as it is: contexts, dispatchers and code generator are ours.
"""
from llvmlite import ir
from numba.core import compiler, dispatcher, errors, registry, sigutils, types, typing
from numba.core.compiler_lock import global_compiler_lock
from numba.core.target_extension import (
    CPU,
    dispatcher_registry,
    jit_registry,
    target_override,
    target_registry,
)
from numba.core.utils import threadsafe_cached_property

from . import inference, intrinsics, lowering
from .library import Library
from .passes import Pipeline

NAME = "ntorch"


class Kernels(CPU):
    """The target as Numba's registries know it: whatever is made for the CPU serves."""


class Compiler(compiler.CompilerBase):
    """Takes a function through the steps of ``passes.py``."""

    def define_pipelines(self):
        return [Pipeline()]


class Description(registry.CPUTarget):
    @threadsafe_cached_property
    def _toplevel_target_context(self):
        return lowering.Context(self.typing_context, self._target_name)

    @threadsafe_cached_property
    def _toplevel_typing_context(self):
        return inference.Context()


class Dispatcher(dispatcher.Dispatcher):
    """A function of kernels: one compilation for each combination of argument types."""

    targetdescr = None

    def __init__(self, py_func, locals=None, targetoptions=None, pipeline_class=Compiler):
        super().__init__(py_func, locals or {}, targetoptions or {}, pipeline_class)

    def add_overload(self, result):
        self.overloads[tuple(result.signature.args)] = result

    def compile(self, sig):
        """Lower the function for the argument types ``sig``, unless that is done."""
        arguments, result_type = sigutils.normalize_signature(sig)
        found = self.overloads.get(tuple(arguments))
        if found is None:
            with self._compiling_counter:
                found = self._compiler.compile(tuple(arguments), result_type)
            self.add_overload(found)
        return found.entry_point

    def get_call_template(self, args, kws):
        """What a call with these argument types is typed by.

        Numba compiles a function anew for every integer constant it is called with. LLVM puts
        constants where they belong, so here that happens only if the function needs to know them.
        """
        pysig, args = self.fold_argument_types(args, kws)
        plain = tuple(types.unliteral(kind) if isinstance(kind, types.IntegerLiteral) else kind
                      for kind in args)
        try:
            self.compile(plain)
        except errors.TypingError:
            if plain == tuple(args):
                raise
            plain = tuple(args)
            self.compile(plain)
        name = self.py_func.__name__
        template = typing.make_concrete_template(
            f"CallTemplate({name})", key=name, signatures=[self.overloads[plain].signature])
        return template, pysig, plain, {}


class Choice:
    """A name for several functions of kernels: ``choose(type of the first argument)`` says which a
    call means. To Numba it is a dispatcher like any other."""

    is_compiling = False

    def __init__(self, name, choose):
        self.name, self.choose, self.chosen = name, choose, {}
        self._numba_type_ = types.Dispatcher(self)

    def __repr__(self):
        return f"<{self.name}>"

    def get_call_template(self, args, kws):
        """What a call with these argument types is typed by."""
        function = self.choose(args[0])
        found = function.get_call_template(args, kws)
        self.chosen[found[2]] = function
        return found

    def get_overload(self, sig):
        """What stands for the compiled function with these argument types."""
        return self.chosen[tuple(sig)].get_overload(sig)


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


def _entry(result, library, kinds, T, symbol):
    """Add ``void symbol(int64_t *args, int64_t begin, int64_t end)``, which calls the function."""
    context, described = result.target_context, result.fndesc
    module = context.create_module("entry")
    word = ir.IntType(64)
    entry = ir.Function(module, ir.FunctionType(ir.VoidType(), [word.as_pointer(), word, word]),
                        symbol)
    builder = lowering.Builder(entry.append_basic_block("entry"))
    table, begin, end = entry.args
    arguments = [table] if kinds is None else intrinsics.read_table(context, builder, table, kinds,
                                                                    T)
    arguments += [begin, end]
    if context.enable_boundscheck:          # this wrapper reports what the bounds check found
        context.create_cfunc_wrapper(library, described, result.environment, result.call_helper)
        kind = ir.FunctionType(context.get_value_type(described.restype),
                               [value.type for value in arguments])
        builder.call(ir.Function(module, kind, described.llvm_cfunc_wrapper_name), arguments)
    else:
        callee = context.declare_function(module, described)
        context.call_conv.call_function(builder, callee, described.restype, described.argtypes,
                                        arguments)
    builder.ret_void()
    library.add_ir_module(module)


def kernel_module(function, kinds, T, symbol):
    """The optimised LLVM module of the dispatcher ``function`` as a C function.

    ``kinds`` are those of its parameters before ``begin`` and ``end``; None: the table itself.
    """
    int64 = types.int64
    arguments = (types.CPointer(int64),) if kinds is None else tuple(
        intrinsics.argument_type(kind, T) for kind in kinds)
    with global_compiler_lock, target_override(NAME):
        signature = types.void(*arguments, int64, int64)
        function.compile(signature)
        result = function.overloads[signature.args]
        library = Library(result.library.codegen, symbol)
        library.add_linking_library(result.library)
        _entry(result, library, kinds, T, symbol)
        return library.linked(symbol)


def _codegen():
    return Dispatcher.targetdescr.target_context.codegen()


def emit(module):
    """The object file of a module."""
    return _codegen().emit(module)


def assembly(module):
    """The assembly text of a module."""
    return _codegen().assembly(module)
