"""The columns of the tables: a library, and whether its compiler is used.

A variant is named after the library and, where one is used, its compiler: ``ntorch``, ``torch``,
``ntorch.compile``, ``torch.compile``, ``jax.jit``.
"""
import importlib
import importlib.util

EAGER = ("ntorch", "torch")
COMPILED = ("ntorch.compile", "torch", "torch.compile", "ntorch", "jax.jit")


def library_of(variant):
    """The module that a variant runs."""
    return variant.partition(".")[0]


def installed(variant):
    """Whether its library can be imported."""
    return importlib.util.find_spec(library_of(variant)) is not None


class Code:
    """What of a workload a variant compiles; a workload hands all its functions through here.

    ``function`` is for code that every compiler takes whole. Of a training step, ntorch compiles
    the ``step`` and torch the model with its ``loss``, for torch.compile takes no ``backward()``.
    """

    def __init__(self, variant):
        self.variant = variant

    def _compiled(self, function):
        return importlib.import_module(library_of(self.variant)).compile(function)

    def function(self, function):
        """``function`` (or a module), compiled by every variant that compiles."""
        return self._compiled(function) if self.variant.endswith(".compile") else function

    def loss(self, function):
        """The part of a training step before ``backward()``."""
        return self._compiled(function) if self.variant == "torch.compile" else function

    def step(self, function):
        """A whole training step."""
        return self._compiled(function) if self.variant == "ntorch.compile" else function


def forget(variant, module):
    """Drop what a compiler keeps of earlier workloads, which would make it generalise shapes."""
    if variant == "torch.compile" and hasattr(module, "_dynamo"):
        module._dynamo.reset()
