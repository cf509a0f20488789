"""Packages that are optional: imported where they are needed."""

from importlib import import_module
from typing import Any


def import_extra(module: str, extra: str) -> Any:
    """Imports a module of an optional package.

    Args:
        module: Its dotted name.
        extra: The extra of this library that brings it, such as "sweep".

    Returns:
        The module.

    Raises:
        ImportError: If the package is missing; the message has the line that installs it.

    Example:
        >>> from funcbio._optional import import_extra
        >>> import_extra("nowhere.to.be.found", "monitor")
        Traceback (most recent call last):
        ImportError: nowhere should be installed, by pip install '.[monitor]' in funcbio's source; found No module ...
    """
    try:
        return import_module(module)
    except ImportError as error:
        package = module.split(".")[0]
        line = f"pip install '.[{extra}]' in funcbio's source"
        raise ImportError(f"{package} should be installed, by {line}; found {error}") from error
