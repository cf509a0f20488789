"""The common part of dense and convolutional layers of a DANN: parameters, start, corrected gradients, projection."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from funcbio._checks import is_count, require, require_dtype


class Dann(nn.Module):
    """Computes a layer of excitatory units, from which inhibitory units subtract and which they divide."""

    across: tuple[int, ...] = (-1,)
    """Shape by which one number for each unit broadcasts with the output."""

    def __init__(self, shape: tuple[int, ...], inhibitory: int, *, correct: bool, device: Any, dtype: Any) -> None:
        super().__init__()
        if dtype is not None:
            require_dtype(dtype)
        excitatory, options = shape[0], {"device": device, "dtype": dtype}
        self.inhibitory, self.correct = inhibitory, correct
        self.fan_in = math.prod(shape[1:])
        self.weight_ex = nn.Parameter(torch.empty(shape, **options))
        self.weight_ix = nn.Parameter(torch.empty((inhibitory, *shape[1:]), **options))
        self.weight_ei = nn.Parameter(torch.empty((excitatory, inhibitory), **options))
        self.alpha = nn.Parameter(torch.empty(inhibitory, **options))
        self.gain = nn.Parameter(torch.empty(excitatory, **options))
        self.bias = nn.Parameter(torch.empty(excitatory, **options))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draws the weights anew: exponential, so that excitation and inhibition cancel, and what divides is 1.

        Both hold on average for inputs that are standard normal numbers behind a ReLU; excitation then has variance 1.
        """
        scale = math.sqrt(2.0 * math.pi / (self.fan_in * (2.0 * math.pi - 1.0)))
        for weight in (self.weight_ex, self.weight_ix):
            weight.exponential_(1.0 / scale)
        if self.inhibitory == 1:
            self.weight_ix.copy_(self.weight_ex.mean(0, keepdim=True))
        self.weight_ei.fill_(1.0 / self.inhibitory)
        self.alpha.fill_(0.5 * math.log((2.0 * math.pi - 1.0) / self.fan_in))
        self.gain.fill_(1.0)
        self.bias.zero_()

    @torch.no_grad()
    def project_(self) -> None:
        """Sets weights and gains under 0 to 0; to be called after every step of the optimizer.

        A gain under 0 would turn the sign of all weights of its unit around.
        """
        for weight in (self.weight_ex, self.weight_ix, self.weight_ei, self.gain):
            weight.clamp_(min=0.0)

    def corrected(self) -> tuple[Tensor, Tensor, Tensor]:
        """Returns inhibitory parameters whose gradients are smaller, as one of them moves every output unit."""
        # Parameters as they are where no gradient flows: a table of units knows only those.
        if not self.correct or not torch.is_grad_enabled():
            return self.weight_ix, self.weight_ei, self.alpha
        root = math.sqrt(self.weight_ex.shape[0])
        slower = {"weight_ix": root, "weight_ei": self.fan_in, "alpha": root * self.fan_in}
        ix, ei, alpha = (_slowed(getattr(self, name), 1.0 / divisor) for name, divisor in slower.items())
        return ix, ei, alpha

    def forward(self, x: Tensor) -> Tensor:
        """Returns the sums that the layer's units have."""
        ix, ei, alpha = self.corrected()
        inhibition = self.weighed(x, ix)
        subtracted = self.weighed(x, self.weight_ex) - self.mixed(inhibition, ei)
        divisor = self.mixed(alpha.exp().view(self.across) * inhibition, ei)
        safe = torch.where(divisor > 0.0, divisor, 1.0)  # Without any inhibition nothing is divided.
        return self.gain.view(self.across) * subtracted / safe + self.bias.view(self.across)

    def weighed(self, x: Tensor, weight: Tensor) -> Tensor:
        """Returns what units receive from the input."""
        raise NotImplementedError

    def mixed(self, inhibition: Tensor, weight: Tensor) -> Tensor:
        """Returns what units receive from inhibitory ones."""
        raise NotImplementedError


def _slowed(parameter: Tensor, factor: float) -> Tensor:
    """Returns the same numbers, to the bit; their gradient is multiplied by a factor.

    No hook on the parameter: copies and pickles lose hooks.
    """
    fixed = parameter.detach()
    return fixed + (parameter - fixed) * factor


def checked_sizes(sizes: dict[str, Any], outputs: Any, inhibitory: int | None) -> int:
    """Returns the number of inhibitory units; raises ValueError if a size is no integer of 1 or more."""
    for name, size in {**sizes, "inhibitory": 1 if inhibitory is None else inhibitory}.items():
        require(name, size, "an integer >= 1", is_count(size))
    return max(1, round(outputs / 10)) if inhibitory is None else inhibitory
