"""The error of a file that cannot be read as what it should be."""


class FileError(ValueError, RuntimeError):
    """Reports a file that is damaged, belongs elsewhere, or is something else than it should be.

    The message names the file and what is wrong with it, and nothing has been changed. It is a ``ValueError`` and,
    like the errors of ``torch.load``, a ``RuntimeError``. Files that are missing or may not be read raise an
    ``OSError``, as everywhere in Python.

    Example:
        >>> import os, tempfile
        >>> path = os.path.join(tempfile.mkdtemp(), "run.pt")
        >>> with open(path, "w") as file:
        ...     _ = file.write("not a checkpoint")
        >>> load_checkpoint(path)
        Traceback (most recent call last):
        ...
        funcbio.files._error.FileError: .../run.pt should be a whole file ...
    """
