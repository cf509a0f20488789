"""Turnover: the consequences of replaced weights. Fresh moments, fresh rates, and the age of every weight."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.optim import Optimizer

from funcbio import rng
from funcbio.attachment._memory import reset
from funcbio.attachment._newborn import Births
from funcbio.functional._init import initial_rate
from funcbio.objects._layer import BioLayer
from funcbio.tensors._sharding import local

FRESH = "fresh_rates"
Masks = dict[str, Tensor]


def merge(masks: Masks, further: Mapping[str, Tensor]) -> None:
    """Adds the weights that one more mechanism replaced."""
    for name, mask in further.items():
        masks[name] = masks[name] | mask if name in masks else mask


@torch.no_grad()
def renew(
    bios: Sequence[BioLayer], masks: Masks, optimizer: Optimizer | None, births: Births, *, fresh_rates: bool
) -> None:
    """Resets the optimizer's memory of replaced weights and, if asked, draws them new rates."""
    replaced = [(bio, masks[bio.synapse.weight]) for bio in bios if bio.synapse.weight in masks]
    if optimizer is not None:
        reset(optimizer, [(bio.weight, mask) for bio, mask in replaced], births.newborn)
    births.note(masks)
    if fresh_rates:
        for bio, mask in replaced:
            # The layer's key has moved on with the replacement, so this one is new each time.
            key = rng.fold_in(local(bio.key), FRESH)
            rate = bio.fuzzy_learning_rate_parameters
            if rate.ndim:  # What is beside the synapses, such as biases, has none of its own.
                drawn = initial_rate(key, bio.weight, bio.synapse, bio.config)
                rate.copy_(torch.where(mask, drawn.to(rate.dtype), rate))


class Ages:
    """Counts the steps since every weight was replaced, or since counting began; keeps the last replacements.

    Args:
        counts: Whether to count; else only the last replacements are kept.
        newborn: How the optimizer's memory of a replaced weight starts.
    """

    def __init__(self, *, counts: bool, newborn: str = "zero") -> None:
        self.counts = counts
        self.steps: dict[str, Tensor] = {}
        self.replaced: Masks = {}
        self.births = Births(newborn)

    @property
    def saved(self) -> dict[str, dict[str, Tensor]]:
        """Returns what is counted, by kind and weight."""
        return {"age": self.steps, "newborn": self.births.ages}

    @torch.inference_mode(False)  # What is made within that mode could not be changed outside.
    def begin(self, bios: Sequence[BioLayer]) -> None:
        """Starts to count for layers that are new."""
        self.births.begin(bios)
        for bio in bios:
            if self.counts and bio.synapse.weight not in self.steps:
                weight = bio.weight.detach()
                self.steps[bio.synapse.weight] = torch.zeros_like(weight, dtype=torch.int32)

    @torch.no_grad()
    def move_on(self, masks: Masks, finite: bool | Tensor) -> None:
        """Counts one step, unless it was skipped."""
        self.replaced.update(masks)
        for name, age in self.steps.items():
            age.add_(finite if isinstance(finite, Tensor) else 1)
            if name in masks:
                age.masked_fill_(masks[name], 0)
