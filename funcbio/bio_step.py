"""The combined call: several methods of a converted model as one, in as few passes over memory as they allow."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from funcbio.bind import ROWS
from funcbio.bio_checks import CONFIGURED, NO_GRADIENTS, check_method
from funcbio.bio_finite import finite_gradients
from funcbio.bio_method import CALLS, HEALS, ModelMethod, Ready
from funcbio.bio_module import BioModule
from funcbio.bio_run import prepare, run_layers, steps_of
from funcbio.bio_survey import survey, warn_of_added
from funcbio.checks import perhaps
from funcbio.sharding import reshard

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
        model: The converted model.
        steps: Names of the methods to run if the call names none.
        left_out: Names of the layers that the conversion left plain on purpose.
    """

    def __init__(self, model: nn.Module, steps: tuple[str, ...], left_out: frozenset[str]) -> None:
        self.model, self.steps, self.left_out = model, steps, left_out

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
        ready = None if torch.compiler.is_compiling() else self._ready(names)
        if ready is None:
            return self._one_by_one(names)
        replaced: dict[str, Tensor] = {}
        for segment in segments(names):
            chosen = [(layer, [step for step in steps if step.name in segment]) for _, layer, steps in ready]
            replaced.update(run_layers(chosen, compiled=ready[0][0].compiles))
        for name in names:
            for bio, layer, _ in ready:
                found = bio.settle(name, replaced.get(layer.name))
                if name in HEALS and found is not None:
                    replaced[layer.name] = found
        return replaced if any(name in HEALS for name in names) else None

    def _ready(self, names: tuple[str, ...]) -> Ready | None:
        """What every layer brings; None if methods must be called one by one: not all plain, or overflowed."""
        found = survey(self.model)
        warn_of_added(found.plain, self.left_out)
        reshard(found.modules)
        needing = [name for name in names if ROWS[CALLS[name][0]].needs_grad]
        bio_mods = found.layers()
        if needing and not any(bio.has_gradient() for bio in bio_mods):
            raise RuntimeError(f"{NO_GRADIENTS}: call backward() before {needing[0]}()")
        ready: Ready = []
        for bio in bio_mods:
            own = [name for name in names if _runs(bio, name)]
            steps = steps_of(bio, [CALLS[name] for name in own]) if _plain(bio, own) else None
            layer = prepare(bio, steps) if steps else None
            for name in own:
                if layer is None or name in CONFIGURED:
                    check_method(bio, name)
            if layer is None or steps is None:
                return None
            ready.append((bio, layer, steps))
        twice = len({CALLS[name][0] for name in names}) < len(names)
        return None if twice or finite_gradients(found.modules) is not True else ready

    def _one_by_one(self, names: tuple[str, ...]) -> dict[str, Tensor] | None:
        result: Any = None
        for name in names:
            result = ModelMethod(self.model, name, self.left_out)() or result
        return result


def _runs(bio: BioModule, name: str) -> bool:
    """Whether a method runs on a layer: layers without a gradient, or without units to see, are passed over."""
    if name == "scale_grad" and not bio.synapse.observable:
        return False
    return bio.has_gradient() or not bio.needs_grad(name)


def _plain(bio: BioModule, names: Sequence[str]) -> bool:
    return all(getattr(type(bio), name) is getattr(BioModule, name) for name in names)


def segments(names: Sequence[str]) -> list[list[str]]:
    """Groups of methods of which at most one draws: keys move on after every method that does."""
    groups: list[list[str]] = [[]]
    for name in names:
        row = CALLS[name][0]
        if ROWS[row].draws and any(ROWS[other].draws for other in groups[-1]):
            groups.append([])
        groups[-1].append(row)
    return groups
