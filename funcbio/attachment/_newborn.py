"""Newborn weights: the age of every replaced one, and the step that a fresh optimizer would make for it."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, optim
from torch.optim import Optimizer

from funcbio._checks import brief, is_among, require
from funcbio.attachment._optimizers import groups_by_weight
from funcbio.functional._newborn import DIRECTIONS, DIVISORS, WAYS, fresh_direction, mean_of_others
from funcbio.objects._layer import BioLayer
from funcbio.tensors._sharding import is_distributed

WITH_DIVISOR = (*DIRECTIONS, "RMSprop", "Adagrad", "Adadelta")
"""Optimizers of torch with a state that the step is divided by."""


def check_newborn(newborn: object, optimizer: Optimizer | None) -> None:
    """Raises ValueError if replaced weights cannot be treated in that way under an optimizer."""
    require("newborn", newborn, f"one of {', '.join(WAYS)}", is_among(newborn, WAYS))
    kind = type(optimizer)
    # A class of the user's own may compute another step, whatever it inherits from.
    name = kind.__name__ if getattr(optim, kind.__name__, None) is kind else ""
    if newborn == "exact" and name not in DIRECTIONS:
        instead = _instead(name, [] if optimizer is None else optimizer.param_groups)
        should = f"one of {', '.join(DIRECTIONS)} for newborn='exact'"
        raise ValueError(f"optimizer should be {should}; found {kind.__name__}: {instead}")
    if newborn == "mean" and name not in WITH_DIVISOR:
        should = f"one of {', '.join(WITH_DIVISOR)} for newborn='mean'"
        raise ValueError(f"optimizer should be {should}; found {kind.__name__}: use newborn='zero'")


def _instead(name: str, groups: Sequence[Mapping[str, Any]]) -> str:
    """Says what serves under an optimizer whose fresh step is not known."""
    if name == "SGD" and any(group["dampening"] and group["momentum"] for group in groups):
        return "use newborn='zero', which is near: dampening leaves out only the first step of a run"
    if name == "Adagrad" and any(group["lr_decay"] for group in groups):
        return "use newborn='zero', which is near: lr_decay counts the steps of the run"
    if name in ("SGD", "RMSprop", "Adagrad", "Adadelta"):
        return "use newborn='zero', which is exact already, as its step depends on no counter"
    return "use newborn='zero'"


def check_whole(newborn: str, weights: Iterable[tuple[str, Tensor]]) -> None:
    """Raises ValueError for weights that lie on several devices, unless their moments simply start anew."""
    for name, weight in weights:
        if newborn != "zero" and is_distributed(weight):
            raise ValueError(
                f"newborn should be 'zero' for sharded weights; found {brief(newborn)}, and {name} sharded"
            )


def start_of(name: str, value: Tensor, where: Tensor, newborn: str) -> Tensor | None:
    """Returns the state of new elements if it follows from the others', else None."""
    return mean_of_others(value, where) if newborn == "mean" and name in DIVISORS else None


class Births:
    """Holds how many steps the moments of each replaced weight will have seen in the next step; 0 if never replaced.

    A weight stays young for ever: its correction nears that of an old one, and only so is its step a fresh one's to
    the last digits. A layer none of whose weights was replaced costs no time.

    Args:
        newborn: How the optimizer's memory of a new weight starts; only "exact" needs ages.
    """

    def __init__(self, newborn: str) -> None:
        self.newborn = newborn
        self.ages: dict[str, Tensor] = {}
        self.young: set[str] = set()

    @torch.inference_mode(False)  # What is made within that mode could not be changed outside.
    def begin(self, bios: Sequence[BioLayer]) -> None:
        """Takes layers that are new."""
        check_whole(self.newborn, [(bio.synapse.weight, bio.weight) for bio in bios])
        for bio in bios:
            if self.newborn == "exact" and bio.synapse.weight not in self.ages:
                self.ages[bio.synapse.weight] = torch.zeros_like(bio.weight.detach(), dtype=torch.int32)

    def note(self, masks: Mapping[str, Tensor]) -> None:
        """Notes weights that were replaced: their next step is the first."""
        for name in masks.keys() & self.ages.keys():
            self.ages[name].masked_fill_(masks[name], 1)
            self.young.add(name)

    def find_young(self) -> None:
        """Finds the layers with replaced weights, after ages were loaded."""
        self.young = {name for name, age in self.ages.items() if bool(age.any())}

    def before(self, bios: Sequence[BioLayer]) -> dict[BioLayer, Tensor]:
        """Returns copies of the weights of young layers, before a step."""
        return {bio: bio.weight.detach().clone() for bio in bios if bio.synapse.weight in self.young}

    @torch.no_grad()
    def correct(self, optimizer: Optimizer | None, old: Mapping[BioLayer, Tensor], finite: bool | Tensor) -> None:
        """Puts the step of a fresh optimizer in the place of the one made, for young weights, and counts it."""
        groups = groups_by_weight(optimizer) if old else {}
        for bio, before in old.items():
            age, weight = self.ages[bio.synapse.weight], bio.weight
            if optimizer is None or weight.grad is None:
                continue  # The optimizer left the layer and its moments alone.
            moved = (age > 0) & finite
            new = fresh_weight(optimizer, groups[id(weight)], weight, before, age.clamp(min=1))
            weight.copy_(torch.where(moved, new, weight))
            age.add_(moved)


def fresh_weight(optimizer: Optimizer, group: Mapping[str, Any], weight: Tensor, old: Tensor, age: Tensor) -> Tensor:
    """Returns a weight after the step of a fresh optimizer, from the moments of the one that has made its step."""
    kind, decay = type(optimizer).__name__, group["weight_decay"]
    lr = group["lr"].to(weight.device, weight.dtype) if isinstance(group["lr"], Tensor) else group["lr"]
    betas = tuple(float(beta) for beta in group["betas"])
    grad, start = weight.grad, old
    if kind == "NAdam" and grad is not None and group.get("maximize"):
        grad = -grad
    if decay != 0 and (kind == "AdamW" or group.get("decoupled_weight_decay")):
        start = old * (1 - lr * decay)
    elif decay != 0 and kind == "NAdam" and grad is not None:
        grad = grad.add(old, alpha=decay)
    return start + fresh_direction(kind, optimizer.state[weight], grad, age, {**group, "betas": betas}, lr=lr)
