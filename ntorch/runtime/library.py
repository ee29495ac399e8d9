"""LLVM modules: of one function, of a whole kernel, and what the processor's code is made with."""
import llvmlite.binding as llvm
from numba.core import codegen

from . import cpu


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
        return cpu.target() or super()._get_host_cpu_name()

    def _get_host_cpu_features(self):
        # LLVM prefers 256-bit vectors on some processors that have 512, for the sake of code that
        # uses vectors rarely; a chain of pointwise operations runs 1.8 times as long with them
        named = cpu.target()
        wide = ["-prefer-256-bit"] if "avx512f" in cpu.features() else []
        return ",".join(wide if named else [super()._get_host_cpu_features(), *wide])

    def emit(self, module):
        """The object file of a module."""
        return self._tm.emit_object(module)

    def assembly(self, module):
        """The assembly text of a module."""
        return self._tm.emit_assembly(module)
