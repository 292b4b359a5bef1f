"""Every error this library raises on purpose is one of these: what was needed, what came, the way out."""


class TokredError(Exception):
    """Base of all errors raised by tokred_sci: `except TokredError` catches them and nothing else."""


class InputError(TokredError, ValueError):
    """A value the caller handed in cannot be used as it is."""


class MissingExtra(TokredError, ImportError):
    """An optional dependency is not installed; the message holds the exact pip line."""
