"""Activity: counting how often every unit of a layer was active."""

from torch import Tensor

from funcbio.checks import require_numbers
from funcbio.synapses import unit_axis

THRESHOLD = 0.01


def count_active(output: Tensor, *, dim: int, threshold: float = THRESHOLD) -> Tensor:
    """Counts, for every unit, the outputs of magnitude over ``threshold``.

    Args:
        output: A layer's output, any number of leading and spatial dimensions.
        dim: The dimension of the units.
        threshold: Magnitude over which an output counts as active.

    Returns:
        int64 tensor of shape ``(units,)``.

    Raises:
        ValueError: If ``output`` has no dimension ``dim``.

    Example:
        >>> count_active(torch.tensor([[0.0, 1.0], [0.5, -2.0]]), dim=-1)
        tensor([1, 2])
    """
    require_numbers(threshold=threshold)
    dim = unit_axis(output, dim, "output")
    active = output.detach().abs() > threshold
    others = [d for d in range(active.ndim) if d != dim]
    return active.sum(others) if others else active.long()
