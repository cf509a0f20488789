"""Utilities of units, as published with continual backpropagation, and running averages of them."""

from typing import NamedTuple

import torch
from torch import Tensor

LEAST = 1e-30
"""Least mean magnitude of incoming weights that divides, so that a unit without any has a finite utility."""


class Utility(NamedTuple):
    """Describes a utility: the product of what it takes.

    Attributes:
        signal: Name of the signal that it takes; None for none.
        by_output: Whether the mean magnitude of outgoing weights multiplies.
        by_input: Whether the mean magnitude of incoming weights divides.
        drawn: Whether it is drawn at random instead.
    """

    signal: str | None = None
    by_output: bool = True
    by_input: bool = False
    drawn: bool = False

    @property
    def fields(self) -> tuple[str, ...]:
        """Returns the fields of the units' state that it takes."""
        mean = ("signal_mean", "unit_mean") if self.signal == "signal_deviation" else ()
        return (*mean, *([] if self.signal is None else [self.signal]))

    def of(self, signal: Tensor | None, outgoing: Tensor, incoming: Tensor) -> Tensor:
        """Returns what a batch says of each unit, from its signal and the mean magnitudes of its weights."""
        value = torch.full_like(outgoing, 0.0 if self.drawn else 1.0) if signal is None else signal
        value = value * outgoing if self.by_output else value
        return value / incoming.clamp_min(LEAST) if self.by_input else value


UTILITIES = {
    "contribution": Utility("signal"),
    "zero_contribution": Utility("signal_deviation"),
    "adaptable_contribution": Utility("signal_deviation", by_input=True),
    "feature_by_input": Utility("signal_deviation", by_output=False, by_input=True),
    "weight": Utility(),
    "adaptation": Utility(by_output=False, by_input=True),
    "random": Utility(by_output=False, drawn=True),
}
"""The published utilities, by their published names."""


def advance(running: Tensor, new: Tensor, decay: Tensor) -> Tensor:
    """Returns a running average after one more value."""
    return decay * running + (1.0 - decay) * new


def weight_of(age: Tensor, decay: Tensor) -> Tensor:
    """Returns the sum of the weights in a running average of so many values, which corrects it for its start at 0."""
    return 1.0 - decay ** age.to(decay.dtype)
