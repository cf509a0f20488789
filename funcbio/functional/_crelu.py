"""CReLU: the positive and the negative part of every unit, side by side."""

import torch
from torch import Tensor, nn

from funcbio._checks import require


class CReLU(nn.Module):
    r"""Concatenates the positive and the negative part of its input, so that a unit is silent only at exactly 0.

    $$\mathrm{CReLU}(x) = [\max(x, 0), \max(-x, 0)]$$

    The layer behind it has twice as many inputs.

    Args:
        dim: The dimension of the units: 1 for images, -1 for vectors.

    Shape:
        Input of any shape; the output is twice as long along ``dim``.

    Raises:
        ValueError: If ``dim`` is no integer.

    Example:
        >>> CReLU()(torch.tensor([[1.0, -2.0]]))
        tensor([[1., 0., 0., 2.]])

    References:
        Shang et al., Understanding and Improving Convolutional Neural Networks via Concatenated Rectified Linear Units,
        ICML (2016); against loss of plasticity: Abbas et al., CoLLAs (2023).
    """

    def __init__(self, dim: int = -1) -> None:
        super().__init__()
        require("dim", dim, "an integer", isinstance(dim, int) and not isinstance(dim, bool))
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        """Returns both parts."""
        return torch.cat([torch.relu(x), torch.relu(-x)], self.dim)

    def extra_repr(self) -> str:
        """Returns the dimension, for printing."""
        return f"dim={self.dim}"
