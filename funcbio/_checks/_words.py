"""Settings as calls spell them, and the line that a warning should name."""

import inspect
from collections.abc import Mapping
from dataclasses import MISSING, fields
from enum import Enum
from typing import Any


def unlike_default(record: Any) -> dict[str, Any]:
    """Returns the fields of a dataclass that differ from their defaults, by name."""
    changed = {}
    for item in fields(record):
        value = getattr(record, item.name)
        default = item.default if item.default_factory is MISSING else item.default_factory()
        if default is MISSING or (value is not default and value != default):
            changed[item.name] = value
    return changed


def settings(values: Mapping[str, Any]) -> str:
    """Returns values by name as a call spells them; functions go by their names, options of an Enum by their values.

    Example:
        >>> settings({"threshold": 0.5, "activation": torch.relu})
        'threshold=0.5, activation=relu'
    """
    return ", ".join(f"{name}={_spelled(value)}" for name, value in values.items())


def _spelled(value: Any) -> str:
    if isinstance(value, Enum):
        return repr(value.value)
    return getattr(value, "__name__", None) or repr(value)


def outside() -> int:
    """Returns the ``stacklevel``, for the caller, of the nearest calling line outside the library."""
    frame, level = inspect.currentframe(), 0
    while frame is not None and frame.f_globals.get("__name__", "").split(".")[0] in ("funcbio", "torch"):
        frame, level = frame.f_back, level + 1
    return level
