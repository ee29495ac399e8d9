"""Compiled twins of the stubs in ``pool_native.py``: atomics, pause, futex, indirect calls.

Imported only when the pool's loops are compiled.
"""
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from . import cpu

_I64, _I32 = ir.IntType(64), ir.IntType(32)
_TABLE = types.CPointer(types.int64)
FUTEX_WAIT, FUTEX_WAKE = 128, 129       # with FUTEX_PRIVATE_FLAG


def _word(builder, table, index):
    return builder.gep(table, [index])


@intrinsic
def atomic_load(typingctx, table, index):
    """Atomic, sequentially consistent load."""
    def codegen(context, builder, signature, arguments):
        return builder.load_atomic(_word(builder, *arguments), "seq_cst", 8)
    return types.int64(table, types.int64), codegen


@intrinsic
def atomic_store(typingctx, table, index, value):
    """Atomic, sequentially consistent store."""
    def codegen(context, builder, signature, arguments):
        place, value = _word(builder, *arguments[:2]), arguments[2]
        builder.store_atomic(value, place, "seq_cst", 8)
        return context.get_dummy_value()
    return types.void(table, types.int64, types.int64), codegen


@intrinsic
def atomic_add(typingctx, table, index, value):
    """Atomic fetch and add."""
    def codegen(context, builder, signature, arguments):
        return builder.atomic_rmw("add", _word(builder, *arguments[:2]), arguments[2], "seq_cst")
    return types.int64(table, types.int64, types.int64), codegen


@intrinsic
def atomic_swap_if(typingctx, table, index, expected, value):
    """Atomic compare and swap."""
    def codegen(context, builder, signature, arguments):
        pair = builder.cmpxchg(_word(builder, *arguments[:2]), arguments[2], arguments[3],
                               "seq_cst", "seq_cst")
        return builder.extract_value(pair, 1)
    return types.boolean(table, types.int64, types.int64, types.int64), codegen


@intrinsic
def cpu_pause(typingctx, table):
    """The processor's hint for spinning loops."""
    def codegen(context, builder, signature, arguments):
        name, operands = {"x86_64": ("llvm.x86.sse2.pause", []),
                          "aarch64": ("llvm.aarch64.hint", [ir.Constant(_I32, 1)]),
                          }.get(cpu.arch(), (None, []))
        if name:
            kind = ir.FunctionType(ir.VoidType(), [operand.type for operand in operands])
            builder.call(cgutils.get_or_insert_function(builder.module, kind, name), operands)
        return context.get_dummy_value()
    return types.void(table), codegen


def _system_call(builder, number, place, operation, value):
    """``syscall(number, place, operation, value, NULL)`` of the C library."""
    pointer = ir.IntType(8).as_pointer()
    kind = ir.FunctionType(_I64, [_I64, pointer, _I64, _I64, pointer])
    function = cgutils.get_or_insert_function(builder.module, kind, "syscall")
    null = ir.Constant(pointer, None)
    builder.call(function, [number, builder.bitcast(place, pointer),
                            ir.Constant(_I64, operation), value, null])


@intrinsic
def futex_wait(typingctx, number, table, index, value):
    """Sleep while the word is ``value``; spurious returns are the caller's to loop on."""
    def codegen(context, builder, signature, arguments):
        number, table, index, value = arguments
        low = builder.and_(value, ir.Constant(_I64, 0xFFFFFFFF))
        _system_call(builder, number, _word(builder, table, index), FUTEX_WAIT, low)
        return context.get_dummy_value()
    i8 = types.int64
    return types.void(i8, table, i8, i8), codegen


@intrinsic
def futex_wake(typingctx, number, table, index, count):
    """Wake sleepers of the word."""
    def codegen(context, builder, signature, arguments):
        number, table, index, count = arguments
        _system_call(builder, number, _word(builder, table, index), FUTEX_WAKE, count)
        return context.get_dummy_value()
    i8 = types.int64
    return types.void(i8, table, i8, i8), codegen


@intrinsic
def as_table(typingctx, address):
    """An address as a pointer to words."""
    def codegen(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], _I64.as_pointer())
    return _TABLE(types.int64), codegen


@intrinsic
def table_address(typingctx, table):
    """A pointer as an integer, to be stored."""
    def codegen(context, builder, signature, arguments):
        return builder.ptrtoint(arguments[0], _I64)
    return types.int64(table), codegen


@intrinsic
def call_range(typingctx, kernel, table, begin, end):
    """Call ``void kernel(int64_t *, int64_t, int64_t)`` by address."""
    def codegen(context, builder, signature, arguments):
        kernel, table, begin, end = arguments
        kind = ir.FunctionType(ir.VoidType(), [_I64.as_pointer(), _I64, _I64])
        function = builder.inttoptr(kernel, kind.as_pointer())
        # Numba's C wrapper of a kernel takes exactly these three and returns nothing
        builder.call(function, [builder.inttoptr(table, _I64.as_pointer()), begin, end])
        return context.get_dummy_value()
    i8 = types.int64
    return types.void(i8, i8, i8, i8), codegen


@intrinsic
def read_clock(typingctx, unused):
    """The time stamp counter, or the generic timer of ARM: the cycle counter traps there."""
    def codegen(context, builder, signature, arguments):
        kind = ir.FunctionType(_I64, [])
        if cpu.arch() == "x86_64":
            return builder.call(cgutils.get_or_insert_function(
                builder.module, kind, "llvm.readcyclecounter"), [])
        if cpu.arch() == "aarch64":
            return builder.asm(kind, "mrs $0, cntvct_el0", "=r", [], True)
        return ir.Constant(_I64, 0)
    return types.int64(types.int64), codegen


def _x86_flush(builder, mode):
    """Set FTZ and DAZ (bits 15 and 6) of MXCSR to ``mode``; returns FTZ before."""
    cell = cgutils.alloca_once(builder, _I32)
    byte = builder.bitcast(cell, ir.IntType(8).as_pointer())
    kind = ir.FunctionType(ir.VoidType(), [byte.type])
    read = cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.sse.stmxcsr")
    write = cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.sse.ldmxcsr")
    builder.call(read, [byte])
    before = builder.load(cell)
    both = ir.Constant(_I32, 0x8040)
    cleared = builder.and_(before, builder.not_(both))
    wanted = builder.select(builder.icmp_signed("!=", mode, ir.Constant(_I64, 0)),
                            builder.or_(cleared, both), cleared)
    builder.store(wanted, cell)
    builder.call(write, [byte])
    return builder.zext(builder.and_(builder.lshr(before, ir.Constant(_I32, 15)),
                                     ir.Constant(_I32, 1)), _I64)


def _arm_flush(builder, mode):
    """Set FZ (bit 24) of FPCR to ``mode``; returns it before."""
    read = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(_I64, []), "llvm.aarch64.get.fpcr")
    write = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(ir.VoidType(), [_I64]), "llvm.aarch64.set.fpcr")
    before = builder.call(read, [])
    bit = ir.Constant(_I64, 1 << 24)
    cleared = builder.and_(before, builder.not_(bit))
    builder.call(write, [builder.select(builder.icmp_signed("!=", mode, ir.Constant(_I64, 0)),
                                        builder.or_(cleared, bit), cleared)])
    return builder.and_(builder.lshr(before, ir.Constant(_I64, 24)), ir.Constant(_I64, 1))


@intrinsic
def flush_denormal(typingctx, mode):
    """Set the thread's denormal mode; returns the one before, -1 for unsupported."""
    def codegen(context, builder, signature, arguments):
        setter = {"x86_64": _x86_flush, "aarch64": _arm_flush}.get(cpu.arch())
        return setter(builder, arguments[0]) if setter else ir.Constant(_I64, -1)
    return types.int64(types.int64), codegen
