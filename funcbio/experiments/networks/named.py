"""Networks by name, sized for the images."""

from collections.abc import Callable
from functools import partial

from torch import nn

from funcbio.experiments.frame.settings import SettingError
from funcbio.experiments.networks.alexnet import alexnet_mini
from funcbio.experiments.networks.fully_connected import fully_connected
from funcbio.experiments.networks.resnet import resnet

Shape = tuple[int, int, int]

NETWORKS: dict[str, Callable[[Shape, int], nn.Module]] = {
    "fcnet": fully_connected,
    "alexnetmini": alexnet_mini,
    **{f"resnet{depth}": partial(resnet, depth) for depth in (8, 20, 32, 44, 56)},
}
"""Functions that make each network from the shape of an image and the number of classes."""


def network(name: str, shape: Shape, classes: int) -> nn.Module:
    """Makes a network of the paper, with the size that goes with the images.

    Args:
        name: "fcnet", "alexnetmini", "resnet20", "resnet32", "resnet44" or "resnet56"; also "resnet8", a small one.
        shape: Channels, height and width of the images: 28 x 28 as MNIST, 32 x 32 as CIFAR, or 8 x 8 as the digits of
            scikit-learn.
        classes: How many classes there are.

    Returns:
        The network, drawn from torch's generator.

    Raises:
        SettingError: If the name is not known, or there is no such network for images of this size.

    Example:
        >>> sum(parameter.numel() for parameter in network("resnet20", (3, 32, 32), 10).parameters())
        269722
    """
    if name not in NETWORKS:
        raise SettingError(f"net should be one of {', '.join(NETWORKS)}; found {name!r}")
    if shape[1:] not in ((8, 8), (28, 28), (32, 32)):
        raise SettingError(f"images should be 8 x 8, 28 x 28 or 32 x 32; found {shape[1]} x {shape[2]}")
    return NETWORKS[name](shape, classes)
