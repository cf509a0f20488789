"""The update-side rule, p <- p_old + factor * (p_new - p_old): what an optimizer did to weights, scaled afterwards."""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from funcbio.attachment._places import Ready, Update, may_replace, run
from funcbio.attachment._turnover import Masks, merge
from funcbio.engine._options import OPTIONS
from funcbio.objects._layer import BioLayer


class Old:
    """Holds weights as they were before an optimizer's step, until the mechanisms after it have run.

    Args:
        bios: The layers.
        others: Further tensors that the step may move.
    """

    def __init__(self, bios: Sequence[BioLayer] = (), others: Sequence[Tensor] = ()) -> None:
        self.weights = {bio: bio.weight.detach().clone() for bio in bios}
        self.others = [(tensor, tensor.detach().clone()) for tensor in others]
        self.grads: dict[BioLayer, Tensor | None] = {}
        self.lent: list[BioLayer] = []

    @torch.no_grad()
    def lend_gradients(self, moved: Callable[[Tensor], bool]) -> bool:
        """Gives zero gradients to layers that moved without one, as they take part too; returns True if any did."""
        for bio in self.weights:
            if bio.weight.grad is None and moved(bio.weight):
                self.lent.append(bio)
                bio.weight.grad = torch.zeros_like(bio.weight)
        return bool(self.lent)

    def take_back_gradients(self) -> None:
        """Takes back the gradients that were lent."""
        for bio in self.lent:
            bio.weight.grad = None

    def forget(self) -> None:
        """Leaves the weights as they are now."""
        self.weights, self.others = {}, []

    def note_gradients(self) -> None:
        """Notes which gradients the layers have, before others stand in for them."""
        self.grads = {bio: bio.weight.grad for bio in self.weights}

    @torch.no_grad()
    def restore(self) -> None:
        """Undoes the step."""
        for bio, weight in self.weights.items():
            bio.weight.copy_(weight)
            bio.weight.grad = self.grads.get(bio, bio.weight.grad)
        for tensor, before in self.others:
            tensor.copy_(before)


@torch.no_grad()
def scale_update(ready: Sequence[Ready], old: Old, finite: bool | Tensor) -> Masks:
    """Runs mechanisms on the update of some layers; returns which weights they replaced, if they do that.

    The update lies in memory of its own, and a weight is written once, when all is done.
    """
    replaced: Masks = {}
    own = any(map(may_replace, ready))
    old.note_gradients()
    whole = any(mechanism.is_own for mechanisms in ready for mechanism in mechanisms.group)  # They see one tree.
    groups = [[*old.weights]] if whole else groups_of_layers([*old.weights], OPTIONS.update_elements)
    for group in groups:
        updates = {bio: _around(bio, old.weights[bio], own=own) for bio in group}
        for mechanisms in ready:
            merge(replaced, run(mechanisms, finite, updates))
        for bio, (weight, update) in updates.items():
            bio.weight.copy_(update.add_(weight))
    return replaced


def _around(bio: BioLayer, old: Tensor, *, own: bool) -> Update:
    """Returns the old weight, in memory of its own if it may be written to, and the update."""
    return Update(old.clone() if own else old, bio.weight - old)


def groups_of_layers(bios: Sequence[BioLayer], most: int) -> Iterator[list[BioLayer]]:
    """Cuts layers, in order, into groups of at most ``most`` elements, or of one layer."""
    group: list[BioLayer] = []
    size = 0
    for bio in bios:
        size += bio.weight.numel()
        if group and size > most:
            yield group
            group, size = [], bio.weight.numel()
        group.append(bio)
    if group:
        yield group
