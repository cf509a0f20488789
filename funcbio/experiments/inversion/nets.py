"""The networks that are attacked: small ones with smooth units, for images of any size."""

from collections import OrderedDict
from collections.abc import Callable

from torch import nn


def conv(shape: tuple[int, int, int], classes: int) -> nn.Sequential:
    """Makes a network of two convolutions, the first with stride 2, and a read-out.

    Units are smooth (tanh): the attack follows a gradient of gradients, which rectified units make piecewise constant.
    """
    channels, height, width = shape
    places = -(-height // 2) * -(-width // 2)
    layers = {"conv1": nn.Conv2d(channels, 12, 5, stride=2, padding=2), "tanh1": nn.Tanh()}
    layers |= {"conv2": nn.Conv2d(12, 12, 3, padding=1), "tanh2": nn.Tanh()}
    return nn.Sequential(OrderedDict(**layers, flat=nn.Flatten(), readout=nn.Linear(12 * places, classes)))


def mlp(shape: tuple[int, int, int], classes: int) -> nn.Sequential:
    """Makes a network of two hidden layers of smooth units; see ``conv``."""
    channels, height, width = shape
    layers = {"flat": nn.Flatten(), "fc1": nn.Linear(channels * height * width, 64), "tanh1": nn.Tanh()}
    layers |= {"fc2": nn.Linear(64, 64), "tanh2": nn.Tanh(), "readout": nn.Linear(64, classes)}
    return nn.Sequential(OrderedDict(layers))


COMPILES = ("mlp",)
"""Networks whose attack is worth compiling: it took 0.4 of the time. Of convolutions it took 0.8, and a minute."""

NETS: dict[str, Callable[[tuple[int, int, int], int], nn.Sequential]] = {"conv": conv, "mlp": mlp}
