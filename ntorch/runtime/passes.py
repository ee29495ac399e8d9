"""What happens to one function: from bytecode by way of typed Numba IR to LLVM IR.

Numba's own steps, in Numba's order, less those that look for what no kernel has (generators,
exceptions, try blocks, literal loops, functions inlined as Numba IR) and less the recomputation of
variables' lifetimes after each: nothing is reference counted, so nobody has to know when a variable
dies.
"""
import types as pytypes

from numba.core import interpreter, ir, ssa, typed_passes, untyped_passes
from numba.core.analysis import dead_branch_prune, rewrite_semantic_constants
from numba.core.ir_utils import build_definitions
from numba.core.transforms import canonicalize_cfg

from .lowering import NativeLowering


class Pipeline:
    """The steps, in the shape that Numba's compiler expects."""

    pipeline_name, exec_times = "kernel", {}

    def run(self, state):
        """Compile the function that ``state`` describes."""
        _to_numba_ir(state)
        _simplify(state)
        _name_apart(state)
        typed_passes.NopythonTypeInference().run_pass(state)
        state.func_ir = typed_passes.PreLowerStripPhis()._strip_phi_nodes(state.func_ir)
        NativeLowering().run_pass(state)
        typed_passes.NoPythonBackend().run_pass(state)


def _to_numba_ir(state):
    function = state.func_ir = interpreter.Interpreter(state.func_id).interpret(state.bc)
    function.generator_info = None
    state.nargs = function.arg_count
    if len(state.args) != state.nargs:
        raise TypeError(f"{state.func_id.func_name} takes {state.nargs} arguments, "
                        f"{len(state.args)} given")
    function.blocks = canonicalize_cfg(function.blocks)
    if any(isinstance(c, pytypes.CodeType) for c in state.func_id.func.__code__.co_consts):
        untyped_passes.InlineClosureLikes().run_pass(state)
        untyped_passes.MakeFunctionToJitFunction().run_pass(state)


def _simplify(state):
    function = state.func_ir
    rewrite_semantic_constants(function, state.args)
    dead_branch_prune(function, state.args)
    _constant_indices(function)


def _constant_indices(function):
    """Say which elements are asked for at constant places: those of tuples differ in type."""
    for block in function.blocks.values():
        for statement in block.body:
            value = getattr(statement, "value", None)
            if not (isinstance(value, ir.Expr) and value.op == "getitem"):
                continue
            found = function._definitions.get(value.index.name, ())
            if len(found) == 1 and isinstance(found[0], (ir.Const, ir.Global, ir.FreeVar)):
                statement.value = ir.Expr.static_getitem(value.value, found[0].value, value.index,
                                                         value.loc)


def _name_apart(state):
    """Give every assignment to a variable a name, and so a type, of its own."""
    function = ssa.reconstruct_ssa(state.func_ir)
    function._definitions = build_definitions(function.blocks)
    dead_branch_prune(function, state.args)
