"""The programs that methods need, found out by running them on small models."""

from collections.abc import Sequence

import torch
from torch import nn

from funcbio import BioConverter, attach
from funcbio.bio_config import BioConfig
from funcbio.engine._fused import programs_for
from funcbio.engine._options import OPTIONS
from funcbio.engine._packages import only_noted
from funcbio.engine._program import Program
from funcbio.mechanisms import METHODS, ROWS
from funcbio.objects._step import STEPS

CHAIN = "bio_step"
"""The name of the usual chain."""
NAMES = (CHAIN, *METHODS)
FEATURES = 64
CONFIGS = (
    BioConfig(),
    BioConfig(record_activity=True),
    BioConfig(apply_dales_principle=True),
    BioConfig(fuzzy_lr_distribution="temporal", fuzzy_lr_dynamic=True),  # pyright: ignore[reportArgumentType]
)
"""Configurations; of each method the first one counts under which it does something."""


def sizes() -> tuple[int, ...]:
    """Returns units of layers of each kind that has programs: small, large in whole groups, large with a remainder."""
    large = -(-OPTIONS.packed_elements // FEATURES)
    large += -large % 4  # Groups have 256 elements.
    return 4, large, large + 1


def needed(names: Sequence[str], dtypes: Sequence[torch.dtype]) -> list[Program]:
    """Returns the programs that methods, and the usual chain, need for weights of some types, each program once.

    Args:
        names: Some of ``NAMES``.
        dtypes: The types.
    """
    programs_for.cache_clear()  # pyright: ignore[reportFunctionMemberAccess]
    try:
        with only_noted() as noted, torch.random.fork_rng(devices=[]):
            for dtype in dtypes:
                for name in names:
                    for units in sizes():
                        _run(name, nn.Sequential(nn.Linear(FEATURES, units), nn.Linear(units, FEATURES)).to(dtype))
    finally:
        # What runs without compiling must not stay.
        programs_for.cache_clear()  # pyright: ignore[reportFunctionMemberAccess]
    return list(noted)


def _run(name: str, network: nn.Module) -> None:
    """Converts a network and runs a method on it, or the usual chain."""
    steps = STEPS if name == CHAIN else (name,)
    config = next((config for config in CONFIGS if all(_acts(step, config) for step in steps)), CONFIGS[0])
    model = BioConverter(config, compile=True)(network)
    model(torch.ones(1, FEATURES, dtype=model[0].weight.dtype)).sum().backward()
    getattr(model, name)()
    if name == CHAIN:  # In a step of an optimizer it is cut.
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        attach(optimizer, model, steps)
        optimizer.step()


def _acts(name: str, config: BioConfig) -> bool:
    """Returns True if a method runs and changes something under a configuration."""
    row = ROWS[name]
    allowed = row.requires is None or getattr(config, row.requires.field)
    return allowed and (row.idle is None or row.idle(config) is None)
