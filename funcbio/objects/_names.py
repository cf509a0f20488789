"""Names that a conversion puts on modules, where the user has something of that name already."""

import warnings
from collections.abc import Iterable
from contextlib import AbstractContextManager
from contextvars import ContextVar
from typing import Any

from torch import nn

from funcbio.anatomy._synapses import READOUT_MARK, Holder, is_marked
from funcbio.base import listed
from funcbio.files._cleanup import switched_on
from funcbio.functional._idle import outside
from funcbio.objects._layer import BioLayer

BIO_MOD = "bio_mod"
"""Attribute of a layer that holds its BioModule, or those of its weights by name."""
_silent: ContextVar[bool] = ContextVar("silent", default=False)


def silently() -> AbstractContextManager[None]:
    """Converts without warning of methods that are left out, for callers that do not need them."""
    return switched_on(_silent)


def own_names(module: nn.Module, names: Iterable[str]) -> list[str]:
    """Returns names under which a module has an attribute of the user's; runs no code but ``__getattr__``."""
    attributes, kind = vars(module), type(module)
    tables: list[Any] = [attributes, *(attributes.get(table, {}) for table in ("_modules", "_parameters", "_buffers"))]
    tables += map(vars, kind.__mro__)
    computes = (kind.__getattr__, kind.__getattribute__) != (nn.Module.__getattr__, object.__getattribute__)
    return [name for name in names if any(name in table for table in tables) or (computes and _computes(module, name))]


def _computes(module: nn.Module, name: str) -> bool:
    """Returns True if a module computes an attribute of the user's under a name."""
    try:
        value = getattr(module, name)
    except Exception:  # Whatever it raises, it has no such attribute.
        return False
    return not is_ours(value)


def is_ours(value: object) -> bool:
    """Returns True if a value under ``bio_mod`` was put there by a conversion."""
    values = [*value.values()] if type(value) is nn.ModuleDict else [value]
    return bool(values) and all(isinstance(one, BioLayer) for one in values)


def check_free(holders: Iterable[Holder]) -> None:
    """Raises ValueError if a layer has an attribute of its own where its BioModule is to be."""
    for synapse, layer, _ in holders:
        if not is_ours(dict(layer.named_children()).get(BIO_MOD)) and own_names(layer, [BIO_MOD]):
            raise ValueError(
                f"{synapse.weight} should belong to a layer without an attribute {BIO_MOD} of its own; found one in "
                f"{type(layer).__name__}: rename it, or leave the layer out by synapses="
            )


def free_names(model: nn.Module, names: Iterable[str]) -> list[str]:
    """Returns the names of methods that may be put on a model; warns of the others, which are left as they are."""
    names = list(dict.fromkeys(names))
    taken = own_names(model, names)
    if taken and not _silent.get():
        warnings.warn(
            f"{type(model).__name__} should have the names of methods free; found its own {listed(taken)}, kept as "
            f"before: the method of that name is left out of the model, and there on its layers, as bio_mod.{taken[0]}",
            stacklevel=outside(),
        )
    return [name for name in names if name not in taken]


def mark_readout(module: nn.Module) -> None:
    """Marks a layer as read-out.

    Raises:
        ValueError: If the layer has something of its own under that name.
    """
    if not is_marked(module) and own_names(module, [READOUT_MARK]):
        raise ValueError(
            f"module should have no attribute {READOUT_MARK} of its own; found one, rename it: {type(module).__name__}"
        )
    setattr(module, READOUT_MARK, True)
