"""The metric of the sweeps. Folders of sweeps hold its name, with that of this file: moved, it would be another one."""

from torch import Tensor


def accuracy(output: Tensor, target: Tensor) -> Tensor:
    """Returns the share of the examples whose largest output is that of their class."""
    return (output.argmax(-1) == target).float().mean()
