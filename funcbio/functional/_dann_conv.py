"""The convolution of a DANN, a network with separate excitatory and inhibitory units."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from funcbio._checks import require
from funcbio.functional._dann import Dann, checked_sizes


class DANNConv2d(Dann):
    r"""Computes a convolution with separate inhibitory channels; see ``DANNLinear``.

    Excitatory and inhibitory filters see the same patch $x$ of the input; $d$ is the number of its elements.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output, all of them excitatory.
        kernel_size: Height and width of the filters, or one number for both.
        inhibitory: Inhibitory channels; a tenth of the others if None, one at least.
        stride: As in ``torch.nn.Conv2d``.
        padding: As there; zeros.
        correct: Whether gradients of inhibitory parameters are smaller; see ``DANNLinear``.
        device: Where the parameters are.
        dtype: Their type.

    Shape:
        ``(batch, in_channels, height, width)``, or without ``batch``, to that of ``torch.nn.Conv2d``.

    Raises:
        ValueError: If a size or stride is no integer of 1 or more, a padding none of 0 or more, or the type is none of
            floating-point numbers.

    Example:
        >>> DANNConv2d(3, 16, 3, padding=1)(torch.rand(2, 3, 8, 8)).shape
        torch.Size([2, 16, 8, 8])

    References:
        Cornford et al., Learning to live with Dale's principle: ANNs with separate excitatory and inhibitory units,
        ICLR (2021).
    """

    across = (-1, 1, 1)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        inhibitory: int | None = None,
        *,
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        correct: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        sizes = {"in_channels": in_channels, "out_channels": out_channels}
        inhibitory = checked_sizes(sizes, out_channels, inhibitory)
        shape = (out_channels, in_channels, *_pair("kernel_size", kernel_size, 1))
        stride, padding = _pair("stride", stride, 1), _pair("padding", padding, 0)
        super().__init__(shape, inhibitory, correct=correct, device=device, dtype=dtype)
        self.stride, self.padding = stride, padding

    def weighed(self, x: Tensor, weight: Tensor) -> Tensor:
        """Returns what channels receive from the input."""
        return F.conv2d(x, weight, stride=self.stride, padding=self.padding)

    def mixed(self, inhibition: Tensor, weight: Tensor) -> Tensor:
        """Returns what channels receive from inhibitory ones."""
        # A product, not a convolution by 1 x 1 filters: a table of units knows the weight as it is.
        return F.linear(inhibition.movedim(-3, -1), weight).movedim(-1, -3)

    def extra_repr(self) -> str:
        """Returns the sizes, for printing."""
        excitatory, inputs, *kernel = self.weight_ex.shape
        sizes = f"{inputs}, {excitatory}, kernel_size={tuple(kernel)}, inhibitory={self.inhibitory}"
        return f"{sizes}, stride={self.stride}, padding={self.padding}"


def _pair(name: str, value: Any, least: int) -> tuple[int, int]:
    """Returns one number for each of two dimensions; raises ValueError if they are no integers, or too small."""
    pair = tuple(value) if isinstance(value, tuple | list) else (value, value)
    fits = len(pair) == 2 and all(isinstance(one, int) and not isinstance(one, bool) and one >= least for one in pair)
    require(name, value, f"an integer >= {least}, or two of them", fits)
    return pair
