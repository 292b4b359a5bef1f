"""Every error this library raises on purpose is one of these: what was needed, what came, the way out."""


class TokredError(Exception):
    """Base of all errors raised by tokred_sci: `except TokredError` catches them and nothing else."""


class InputError(TokredError, ValueError):
    """A value the caller handed in cannot be used as it is."""


class MissingExtra(TokredError, ImportError):
    """An optional dependency is not installed; the message holds the exact pip line."""


class FileError(TokredError, ValueError):
    """A file does not hold what its format promises; the message names the file and the line or offset."""


class FetchError(TokredError, OSError):
    """A public file could not be fetched or is not what was promised; the message names URL, path and hash."""


class StoreError(TokredError, OSError):
    """A token store is damaged, in use, or written by another version; what was committed before is intact."""
