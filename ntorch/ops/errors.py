"""Exception types that torch names and Python does not have."""


class LinAlgError(RuntimeError):
    """A matrix for which there is no answer: singular, not positive definite, not converged."""
