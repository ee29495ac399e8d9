"""From an object file to an address: llvmlite links it into the process, Numba is not needed."""
import functools
import itertools
import re
import sys

from . import cpu, perf_map


@functools.cache
def _jit():
    import llvmlite.binding as llvm
    for initialize in (llvm.initialize_native_target, llvm.initialize_native_asmprinter):
        initialize()
    return llvm, llvm.create_lljit_compiler()


_numbers = itertools.count()      # library names: a failed link uses one up
_trackers = []      # a linked library lives as long as its tracker
RAISING = ("unpickle", "runtime_build_excinfo_struct", "gil_release", "gil_ensure", "do_raise",
           "recreate_record")


@functools.cache
def _raising_symbols():
    """Addresses for the functions that Numba's error path names.

    Kernels raise nothing, so that path is dead code in them and any address does; only a build with
    the bounds check raises, and there Numba is imported and lends its own.
    """
    import ctypes

    from .build import boundscheck
    if boundscheck():
        from numba import _helperlib
        return {"numba_" + name: _helperlib.c_helpers[name] for name in RAISING
                if name in _helperlib.c_helpers}
    abort = ctypes.cast(ctypes.CDLL(None).abort, ctypes.c_void_p).value
    return {"numba_" + name: abort for name in RAISING}


def link(body, symbol, name=""):
    """Link the object file ``body`` of the kernel ``name`` and return the address of ``symbol``.

    Each object gets a library of its own, so equal symbol names in two objects do not collide.
    Raises RuntimeError if the object does not link.
    """
    llvm, jit = _jit()
    builder = llvm.JITLibraryBuilder().add_object_img(body).add_current_process()
    for helper, address in _raising_symbols().items():
        builder.import_symbol(helper, address)
    tracker = builder.export_symbol(symbol).link(jit, f"ntorch.{next(_numbers)}")
    _trackers.append(tracker)
    if perf_map.wanted():
        perf_map.note(body, symbol, tracker[symbol], name or symbol)
    return tracker[symbol]


@functools.cache
def host_cpu():
    """``"name;features"`` of this processor, as LLVM names them."""
    llvm, _ = _jit()
    features = llvm.get_host_cpu_features().flatten()
    return f"{llvm.get_host_cpu_name()};{features}"


def platform():
    """What object files are for besides the processor: ``"linux x86_64"``."""
    return f"{sys.platform} {cpu.arch()}"


def target_cpu():
    """``"name;features"`` of the processor that kernels are built for: part of every key."""
    name = cpu.target()
    if not name:
        return host_cpu()
    return f"{name};" + ",".join("+" + feature for feature in sorted(features_of(name)))


def lacking(built_for):
    """What this processor lacks to run code for ``built_for`` (a ``target_cpu()``): a list."""
    name, _, features = built_for.partition(";")
    host_name, _, host = host_cpu().partition(";")
    asked, have = features.split(","), set(host.split(","))
    if name == host_name and not any(f.startswith("-") for f in asked):
        return []               # a named target: this very processor
    missing = [f[1:] for f in asked if f.startswith("+") and f not in have]
    if name not in cpu.LEVELS and name != host_name and not features:
        return [f"the instructions of {name}"]
    return missing


@functools.cache
def features_of(name):
    """Features of the processor that LLVM calls ``name``: those that decide vector widths.

    The levels of x86-64 are listed; of other processors it is seen in how LLVM adds 16 floats.
    """
    known = cpu.LEVELS.get(name)
    if known is not None:
        return known
    registers = vector_registers(name) if cpu.arch() == "x86_64" else ""
    if "zmm" in registers:      # most have more than the level, and code for them may use it
        return cpu.LEVELS["x86-64-v4"] | {"avx512vbmi", "avx512vnni"}
    return cpu.LEVELS["x86-64-v3" if "ymm" in registers else "x86-64"] if (
        cpu.arch() == "x86_64") else frozenset()


_PROBE = """
define void @probe(<16 x float>* %a, <16 x i32>* %b) {
  %x = load <16 x float>, <16 x float>* %a
  %y = fadd <16 x float> %x, %x
  store <16 x float> %y, <16 x float>* %a
  %u = load <16 x i32>, <16 x i32>* %b
  %v = add <16 x i32> %u, %u
  store <16 x i32> %v, <16 x i32>* %b
  ret void
}
"""


def vector_registers(name):
    """The widest kind of register in x86 code for ``name``: "zmm", "ymm", "xmm" or ""."""
    llvm, _ = _jit()
    machine = llvm.Target.from_default_triple().create_target_machine(cpu=name, opt=2)
    text = machine.emit_assembly(llvm.parse_assembly(_PROBE))
    # the integer addition tells AVX2 from AVX
    if "zmm" in text:
        return "zmm"
    return "ymm" if re.search(r"vp(addd|slld)[^\n]*ymm", text) else "xmm"
