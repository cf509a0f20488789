"""The update-side rule, p <- p_old + factor * (p_new - p_old): what an optimizer did to weights, scaled afterwards."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from funcbio.attachment._places import ReadyGroup, Update, may_replace, run, takes_trees
from funcbio.attachment._turnover import Masks, merge
from funcbio.engine._options import OPTIONS
from funcbio.objects._layer import BioLayer
from funcbio.tensors._sharding import is_distributed


class Old:
    """Holds weights as they were before an optimizer's step, until the mechanisms after it have run.

    Args:
        bios: The layers.
        others: Further tensors that the step may move.
    """

    def __init__(self, bios: Sequence[BioLayer] = (), others: Sequence[Tensor] = ()) -> None:
        self.parameters = {bio: bio.weight for bio in bios}
        self.weights = dict(zip(self.parameters, copies([*self.parameters.values()]), strict=True))
        self.others = [(tensor, tensor.detach().clone()) for tensor in others]
        self.grads: dict[BioLayer, Tensor | None] = {}
        self.lent: list[Tensor] = []

    @torch.no_grad()
    def lend_gradients(self, moved: Callable[[Tensor], bool]) -> bool:
        """Gives zero gradients to layers that moved without one, as they take part too; returns True if any did."""
        for parameter in self.parameters.values():
            if parameter.grad is None and moved(parameter):
                self.lent.append(parameter)
                parameter.grad = torch.zeros_like(parameter)
        return bool(self.lent)

    def take_back_gradients(self) -> None:
        """Takes back the gradients that were lent."""
        for parameter in self.lent:
            parameter.grad = None

    def forget(self) -> None:
        """Leaves the weights as they are now."""
        self.weights, self.others = {}, []

    def note_gradients(self) -> None:
        """Notes which gradients the layers have, before others stand in for them."""
        self.grads = {bio: parameter.grad for bio, parameter in self.parameters.items()}

    @torch.no_grad()
    def restore(self) -> None:
        """Puts everything back that is held."""
        for bio, weight in self.weights.items():
            parameter = self.parameters[bio]
            parameter.copy_(weight)
            parameter.grad = self.grads.get(bio, parameter.grad)
        for tensor, before in self.others:
            tensor.copy_(before)


@torch.no_grad()
def scale_update(ready: Sequence[ReadyGroup], old: Old, finite: bool | Tensor) -> Masks:
    """Runs mechanisms on the update of some layers; returns which weights they replaced, if they do that.

    The update lies in memory of its own, and a weight is written once, when all is done.
    """
    replaced: Masks = {}
    if not old.weights:  # A step without gradients moves nothing.
        return replaced
    own = any(map(may_replace, ready))
    old.note_gradients()
    whole = any(takes_trees(mechanism) for mechanisms in ready for mechanism in mechanisms.group)  # They see one tree.
    groups = [[*old.weights]] if whole else groups_of_layers(old.weights, OPTIONS.update_elements)
    for group in groups:
        new: list[Tensor] = [old.parameters[bio] for bio in group]
        before = [old.weights[bio] for bio in group]
        weights = [*copies(before)] if own else before  # In memory of their own if they may be written to.
        changes = [*torch._foreach_sub(new, before)]  # pyright: ignore[reportPrivateImportUsage]
        updates = {bio: Update(*pair) for bio, *pair in zip(group, weights, changes, strict=True)}
        for mechanisms in ready:
            merge(replaced, run(mechanisms, finite, updates))
        torch._foreach_add_(changes, weights)  # pyright: ignore[reportPrivateImportUsage]
        write(new, changes)
    return replaced


def write(targets: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    """Copies values to tensors, together unless some are in shards, which torch copies one by one only."""
    if any(map(is_distributed, targets)):
        for target, value in zip(targets, values, strict=True):
            target.copy_(value)
    else:
        torch._foreach_copy_(targets, values)  # pyright: ignore[reportPrivateImportUsage, reportArgumentType]


@torch.no_grad()
def copies(tensors: list[Tensor]) -> Sequence[Tensor]:
    """Returns a copy of each tensor, in its layout."""
    if not tensors:
        return []
    return torch._foreach_clone(tensors)  # pyright: ignore[reportPrivateImportUsage]


def groups_of_layers(weights: Mapping[BioLayer, Tensor], most: int) -> Iterator[list[BioLayer]]:
    """Cuts layers, in order, into groups of at most ``most`` elements, or of one layer."""
    group: list[BioLayer] = []
    size = 0
    for bio, weight in weights.items():
        size += weight.numel()
        if group and size > most:
            yield group
            group, size = [], weight.numel()
        group.append(bio)
    if group:
        yield group
