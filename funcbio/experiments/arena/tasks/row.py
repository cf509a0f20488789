"""A row of tasks: where its batches come from, who learns them, and what counts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

Make = Callable[[Tensor, Tensor], Sequence[Tensor]]
"""Makes the batch of a member's key and a step."""


@dataclass(frozen=True)
class Shown:
    """Describes how the measure of a row is shown.

    Attributes:
        title: The name of the row in tables and figures.
        axis: The measure and its unit.
        scale: Factor of the measure: 100 for shares.
        form: Format of its numbers.
        sign: 1 if more of it is better, -1 if less is.
        images: Whether the tasks are made of images.
    """

    title: str
    axis: str = "accuracy before learning, %"
    scale: float = 100.0
    form: str = ".1f"
    sign: int = 1
    images: bool = True


@dataclass(frozen=True)
class Row:
    """Describes a row of tasks.

    Attributes:
        name: Its name.
        shown: How its measure is shown.
        make: Makes the batch of a member's key and the number of a step.
        network: Makes the network that learns it; with layer norms if the argument is True.
        loss: The loss.
        measure: What counts, of every batch before it is learned from.
        normed: Whether the network has layer norms whatever the method.
        length: Steps of this row for each step of the settings: some tasks need longer to tell.
    """

    name: str
    shown: Shown
    make: Make
    network: Callable[[bool], nn.Module]
    loss: Callable[..., Tensor]
    measure: Callable[..., Tensor]
    normed: bool = False
    length: int = 1
