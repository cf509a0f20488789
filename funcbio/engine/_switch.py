"""The switch for whole programs: whether what was not told to be compiled is."""

import os
import warnings

from funcbio.base import brief

VARIABLE = "FUNCBIO_COMPILE"
"""Environment variable that sets the switch for a process."""


def _from_environment() -> bool:
    value = os.environ.get(VARIABLE, "")
    if value not in ("", "0", "1"):
        warnings.warn(f"{VARIABLE} should be 0 or 1; found {brief(value)}, which counts as 0", stacklevel=2)
    return value == "1"


_on = [_from_environment()]


def set_compile(value: bool) -> None:
    """Sets whether models, chains and ``attach`` run compiled where their own ``compile`` is None.

    It holds for this process, from the next call on, and for models that were converted before, too. At the start it is
    what the environment variable ``FUNCBIO_COMPILE`` says: 1 for True, 0 or nothing for False.

    Args:
        value: Whether they do.

    Raises:
        ValueError: If it is no bool.

    Example:
        >>> set_compile(True)
        >>> set_compile(False)
    """
    if not isinstance(value, bool):
        raise ValueError(f"value should be True or False; found {brief(value)}")
    _on[0] = value


def compiles(own: bool | None) -> bool:
    """Returns what holds now for something with a ``compile`` of its own: the switch, if that is None."""
    return _on[0] if own is None else own
