"""Functions and presets where a feature is expected."""

import inspect
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from funcbio.base import nearest

CONTRACT = "called as (params, grads, state, *, key)"
"""How features are called, for messages."""


def is_feature(value: object, keywords: Iterable[str] = ()) -> bool:
    """Returns True if an object can be called as a feature, by its signature; one without a signature can.

    Args:
        value: The object. Classes and modules are no features, nor what says that it takes no trees.
        keywords: Further keywords that will be given, if it has them.
    """
    if not callable(value) or isinstance(value, type | nn.Module) or not getattr(value, "takes_trees", True):
        return False
    if torch.compiler.is_compiling():  # A graph cannot hold signatures.
        return True
    try:
        signature = inspect.signature(value)
    except (TypeError, ValueError):
        return True
    further = {name: None for name in keywords if name in signature.parameters}
    try:
        signature.bind(None, None, None, **{**further, "key": None})
    except TypeError:
        return False
    return True


PRESETS = ("keep_plasticity",)
"""Names of the functions that make presets."""


def preset_hint(given: Any) -> str:
    """Returns, for a message, how to give a preset in the place of its name or its function; "" for anything else."""
    if isinstance(given, str):
        near = nearest(given, PRESETS)
        return f": give the preset alone, funcbio.presets.{near}()" if near else ""
    name = getattr(given, "__name__", "")
    return f": call it, {name}()" if name in PRESETS and inspect.isfunction(given) else ""


def is_torchs(kind: Any) -> bool:
    """Returns True for optimizers of ``torch.optim`` itself, and their functions."""
    return f"{kind.__module__}.".startswith("torch.optim.")
