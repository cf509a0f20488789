"""AlexNetMini: five convolutions, three linear layers, units bounded by 6."""

from collections import OrderedDict
from itertools import pairwise

from torch import nn

PADDING = {28: 7, 32: 5}
"""Padding of the first convolution by height of the image: its output is 8 x 8 for both."""

WIDTHS = 96, 256, 384, 384, 384
SMALL = 8
"""Factor by which every layer is narrower for 8 x 8 images."""


def alexnet_mini(shape: tuple[int, int, int], classes: int) -> nn.Sequential:
    """Makes AlexNetMini; for 8 x 8 images with an eighth of the units, and a first convolution of 3 x 3, stride 1."""
    small = shape[1] == 8
    widths = [width // SMALL for width in WIDTHS] if small else list(WIDTHS)
    convolutions = [
        nn.Conv2d(shape[0], widths[0], 3, padding=1)
        if small
        else nn.Conv2d(shape[0], widths[0], 11, stride=4, padding=PADDING[shape[1]]),
        nn.Conv2d(widths[0], widths[1], 3 if small else 5, padding=1 if small else 2),
        *(nn.Conv2d(before, after, 3, padding=1) for before, after in pairwise(widths[1:])),
    ]
    layers: dict[str, nn.Module] = {}
    for number, convolution in enumerate(convolutions, 1):
        layers |= {f"conv{number}": convolution, f"relu{number}": nn.ReLU6()}
        if number in (1, 2, 5):
            layers[f"pool{number}"] = nn.MaxPool2d(2)
    layers["flat"] = nn.Flatten()
    for number in (6, 7):
        layers |= {f"linear{number}": nn.Linear(widths[-1], widths[-1]), f"relu{number}": nn.ReLU6()}
    return nn.Sequential(OrderedDict(layers, readout=nn.Linear(widths[-1], classes)))
