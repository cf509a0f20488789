"""The dense layer of a DANN, a network with separate excitatory and inhibitory units."""

import torch
from torch import Tensor
from torch.nn import functional as F

from funcbio.functional._dann import Dann, checked_sizes


class DANNLinear(Dann):
    r"""Computes a dense layer with separate inhibitory units: it obeys Dale's principle by construction.

    With excitatory weights $W^{ex}$, inhibitory units that see the same input through $W^{ix}$ and act on the layer's
    units through $W^{ei}$, all of them $\ge 0$,

    $$z = g \odot \frac{W^{ex} x - W^{ei} W^{ix} x}{W^{ei} (e^\alpha \odot W^{ix} x)} + b .$$

    Inputs should be $\ge 0$, as behind a ReLU; where the divisor is not above 0, nothing is divided. Call
    ``project_()`` after every step of the optimizer, or let ``funcbio.keep_projected`` do so: it sets weights and gains
    under 0 to 0.

    Weights start exponential with mean and deviation $\sqrt{2\pi / (d (2\pi - 1))}$, $W^{ei}$ at $1/n_i$, $e^\alpha$ at
    $\sqrt{(2\pi - 1)/d}$, for $d$ inputs and $n_i$ inhibitory units; a single one has the mean of the excitatory
    weights. For standard normal numbers behind a ReLU, excitation then has variance 1, what inhibition leaves of it
    mean 0, and the divisor mean 1.

    Args:
        in_features: Inputs.
        out_features: Units of the layer, all of them excitatory.
        inhibitory: Inhibitory units; a tenth of the others if None, one at least.
        correct: Whether gradients of $W^{ix}$, $W^{ei}$ and $\alpha$ are divided by $\sqrt{n_e}$, $d$ and
            $\sqrt{n_e} d$, for $n_e$ units with $d$ inputs, as in the paper: one of these numbers moves all units.
        device: Where the parameters are.
        dtype: Their type.

    Shape:
        ``(..., in_features)`` to ``(..., out_features)``.

    Raises:
        ValueError: If a size is no integer of 1 or more, or the type not one of real floating-point numbers.

    Example:
        >>> layer = DANNLinear(20, 10)
        >>> layer(torch.rand(4, 20)).shape, bool((layer.weight_ex >= 0).all())
        (torch.Size([4, 10]), True)

    References:
        Cornford et al., Learning to live with Dale's principle: ANNs with separate excitatory and inhibitory units,
        ICLR (2021).
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        inhibitory: int | None = None,
        *,
        correct: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        sizes = {"in_features": in_features, "out_features": out_features}
        inhibitory = checked_sizes(sizes, out_features, inhibitory)
        super().__init__((out_features, in_features), inhibitory, correct=correct, device=device, dtype=dtype)

    def weighed(self, x: Tensor, weight: Tensor) -> Tensor:
        """Returns what units receive from the input."""
        return F.linear(x, weight)

    def mixed(self, inhibition: Tensor, weight: Tensor) -> Tensor:
        """Returns what units receive from inhibitory ones."""
        return F.linear(inhibition, weight)

    def extra_repr(self) -> str:
        """Returns the sizes, for printing."""
        return f"{self.fan_in}, {self.weight_ex.shape[0]}, inhibitory={self.inhibitory}"
