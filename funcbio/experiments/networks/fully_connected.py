"""FCNet: layers of rectified units."""

import math
from collections import OrderedDict

from torch import nn


def fully_connected(shape: tuple[int, int, int], classes: int) -> nn.Sequential:
    """Makes FCNet: 784-1000-10 for MNIST, 3072-3000-1000-10 for CIFAR-10, 3072-3000-3000-100 for CIFAR-100.

    For 8 x 8 images it is 64-100-classes, with a hidden layer of the same size relative to the image.
    """
    hidden = {8: [100], 28: [1000], 32: [3000, 1000 if classes <= 10 else 3000]}[shape[1]]
    layers: dict[str, nn.Module] = {"flat": nn.Flatten()}
    inputs = math.prod(shape)
    for number, units in enumerate(hidden, 1):
        layers |= {f"hidden{number}": nn.Linear(inputs, units), f"relu{number}": nn.ReLU()}
        inputs = units
    return nn.Sequential(OrderedDict(layers, readout=nn.Linear(inputs, classes)))
