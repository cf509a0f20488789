"""The combined call: several methods of a converted model as one, in as few passes over memory as they allow."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from funcbio.bind import ROWS
from funcbio.bio_checks import NO_GRADIENTS
from funcbio.bio_finite import finite_gradients
from funcbio.bio_method import CALLS, HEALS, ModelMethod, Ready, inherits
from funcbio.bio_module import BioModule
from funcbio.bio_run import bring, run_layers
from funcbio.bio_survey import Overview
from funcbio.checks import perhaps

STEPS = ("volume_dependent_lr", "fuzzy_learning_rates", "crystallize")
"""The usual chain."""


def check_steps(names: Sequence[str]) -> tuple[str, ...]:
    """Raises ValueError if a name is none of a method that a combined call can run."""
    if isinstance(names, str) or not isinstance(names, Sequence):
        raise ValueError(f"steps should be a sequence of names of methods; found {names!r}")
    for name in names:
        if name not in CALLS:
            raise ValueError(f"steps should name methods of a converted model{perhaps(name, CALLS)}; found {name!r}")
    return tuple(names)


class BioStep:
    """Runs several methods one after the other; the result is that of calling them, bit for bit unless compiled.

    Args:
        overview: Of the converted model.
        steps: Names of the methods to run if the call names none.
    """

    def __init__(self, overview: Overview, steps: tuple[str, ...]) -> None:
        self.overview, self.steps = overview, steps

    def __call__(self, *steps: str) -> dict[str, Tensor] | None:
        """Runs the named methods, or those the converter was given.

        Args:
            *steps: Names of methods, in the order in which they act.

        Returns:
            Which weights were replaced, by name, if one of the methods replaces weights.

        Raises:
            ValueError: If a name is unknown.
            RuntimeError: If a method needs gradients and there are none.
        """
        names = check_steps(steps) if steps else self.steps
        found = None if torch.compiler.is_compiling() else self.overview.look()
        ready = None if found is None else self._ready(found.layers(), names)
        # With methods that replace what is not finite, each looks for itself.
        healing = any(name in HEALS for name in names)
        finite = found is None or finite_gradients(found.modules)
        if ready is None or finite is False or (healing and finite is not True):
            return self._one_by_one(names)
        flag = None if isinstance(finite, bool) else finite
        replaced: dict[str, Tensor] = {}
        for segment in segments(names):
            chosen = [(layer, [step for step in steps if step.name in segment]) for _, layer, steps in ready]
            replaced.update(run_layers(chosen, flag))
        for name in names:
            for bio, layer, _ in ready:
                found = bio.settle(name, replaced.get(layer.name), flag)
                if name in HEALS and found is not None:
                    replaced[layer.name] = found
        return replaced if healing else None

    def _ready(self, bio_mods: list[BioModule], names: tuple[str, ...]) -> Ready | None:
        """What every layer brings; None if methods must be called one by one, because not all is plain."""
        needing = [name for name in names if ROWS[CALLS[name][0]].needs_grad]
        if needing and not any(bio.has_gradient() for bio in bio_mods):
            raise RuntimeError(f"{NO_GRADIENTS}: call backward() before {needing[0]}()")
        ready: Ready = []
        plain = len({CALLS[name][0] for name in names}) == len(names)  # Else two steps have one name.
        for bio in bio_mods:
            own = [name for name in names if _runs(bio, name)]
            brought = bring(bio, [CALLS[name] for name in own])
            plain = plain and brought is not None and inherits(bio, own)
            if brought is not None:
                ready.append((bio, *brought))
        return ready if plain else None

    def _one_by_one(self, names: tuple[str, ...]) -> dict[str, Tensor] | None:
        result: Any = None
        for name in names:
            result = ModelMethod(self.overview, name)() or result
        return result


def _runs(bio: BioModule, name: str) -> bool:
    """Whether a method runs on a layer: layers without a gradient, or without units to see, are passed over."""
    if name == "scale_grad" and not bio.synapse.observable:
        return False
    return bio.has_gradient() or not bio.needs_grad(name)


def segments(names: Sequence[str]) -> list[list[str]]:
    """Groups of methods of which at most one draws: keys move on after every method that does."""
    groups: list[list[str]] = [[]]
    for name in names:
        row = CALLS[name][0]
        if ROWS[row].draws and any(ROWS[other].draws for other in groups[-1]):
            groups.append([])
        groups[-1].append(row)
    return groups
