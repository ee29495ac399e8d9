"""Compiled twins of the pointer stubs: elements of an operand, with what LLVM may assume of them.

A fused kernel has many operands, and LLVM gives up on loops that need more than a handful of
run-time overlap checks. Whoever generates one knows which operands overlap (none that is written,
but with itself), so loads and stores carry alias scopes: ``tag`` is ``"k/n"`` for the ``k``-th of
``n`` written operands, and ``"-/n"`` for one that is only read.
"""
from llvmlite import ir
from numba import types
from numba.core.errors import RequireLiteralValue
from numba.extending import intrinsic

from .intrinsics import NUMBA_TYPES, _load_pointer


def _literal(value):
    if not isinstance(value, types.StringLiteral):
        raise RequireLiteralValue("kinds and tags must be literal strings")
    return value.literal_value


@intrinsic(prefer_literal=True)
def table_pointer(typingctx, table, slot, offset, kind):
    """The pointer in ``slot``, ``offset`` elements on; ``kind`` is the element's code."""
    element = NUMBA_TYPES[_literal(kind)]

    def codegen(context, builder, signature, arguments):
        table, slot, offset, _ = arguments
        data = _load_pointer(builder, table, slot, context.get_data_type(element))
        return builder.gep(data, [offset])

    i8 = types.int64
    return types.CPointer(element)(table, i8, i8, kind), codegen


def _mark(module, instruction, tag):
    """Attach the alias scopes of ``tag``."""
    own, _, count = tag.partition("/")
    if count == "0":
        return
    text = lambda s: ir.MetaDataString(module, s)  # noqa: E731
    domain = module.add_metadata([text("ntorch operands")])
    scopes = [module.add_metadata([text(f"operand {k}"), domain]) for k in range(int(count))]
    if own != "-":
        instruction.set_metadata("alias.scope", module.add_metadata([scopes[int(own)]]))
        del scopes[int(own)]
    if scopes:
        instruction.set_metadata("noalias", module.add_metadata(scopes))


@intrinsic(prefer_literal=True)
def load_at(typingctx, pointer, index, tag):
    """Element ``index`` behind ``pointer``."""
    tag_text = _literal(tag)

    def codegen(context, builder, signature, arguments):
        loaded = builder.load(builder.gep(arguments[0], [arguments[1]]))
        _mark(builder.module, loaded, tag_text)
        return context.data_model_manager[pointer.dtype].from_data(builder, loaded)

    return pointer.dtype(pointer, types.int64, tag), codegen


@intrinsic(prefer_literal=True)
def store_at(typingctx, pointer, index, value, tag):
    """Write ``value``, converted, to element ``index`` behind ``pointer``."""
    tag_text = _literal(tag)
    value = types.unliteral(value)

    def codegen(context, builder, signature, arguments):
        converted = context.cast(builder, arguments[2], value, pointer.dtype)
        data = context.data_model_manager[pointer.dtype].as_data(builder, converted)
        stored = builder.store(data, builder.gep(arguments[0], [arguments[1]]))
        _mark(builder.module, stored, tag_text)
        return context.get_dummy_value()

    return types.void(pointer, types.int64, value, tag), codegen
