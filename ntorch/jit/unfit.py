"""Why a trace cannot be a program."""


class Unfit(Exception):
    """The trace cannot be made a program; the text says why."""
