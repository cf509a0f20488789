"""The networks that learn: perceptrons, a small convolutional network, and the learner of the regression."""

from collections import OrderedDict

from torch import nn

from funcbio.experiments.nets import CLASSES

HIDDEN = 100
NORMS = (nn.LayerNorm, nn.GroupNorm)


def perceptron(pixels: int, norm: bool = False) -> nn.Sequential:
    """Makes a network of two hidden layers of 100 rectified units; layer norms stand before the rectifiers."""
    layers: dict[str, nn.Module] = {}
    for number, width in ((1, pixels), (2, HIDDEN)):
        layers[f"hidden{number}"] = nn.Linear(width, HIDDEN)
        layers |= {f"norm{number}": nn.LayerNorm(HIDDEN)} if norm else {}
        layers[f"relu{number}"] = nn.ReLU()
    return nn.Sequential(OrderedDict(layers, readout=nn.Linear(HIDDEN, CLASSES)))


def convolutional(side: int, norm: bool = False) -> nn.Sequential:
    """Makes a network of two convolutions and a hidden layer, over images that come as rows of pixels.

    A norm over all channels of an image is what a layer norm is to a convolution.
    """
    layers: dict[str, nn.Module] = {"image": nn.Unflatten(1, (1, side, side))}
    for number, (inputs, outputs) in enumerate(((1, 8), (8, 16)), start=1):
        layers[f"conv{number}"] = nn.Conv2d(inputs, outputs, 3, padding=1)
        layers |= {f"norm{number}": nn.GroupNorm(1, outputs)} if norm else {}
        layers |= {f"relu{number}": nn.ReLU(), f"pool{number}": nn.MaxPool2d(2)}
    layers |= {"flat": nn.Flatten(), "hidden": nn.Linear(16 * (side // 4) ** 2, HIDDEN)}
    layers |= {"norm3": nn.LayerNorm(HIDDEN)} if norm else {}
    return nn.Sequential(OrderedDict(layers, relu3=nn.ReLU(), readout=nn.Linear(HIDDEN, CLASSES)))


def norms_of(network: nn.Module) -> list[str]:
    """Returns the names of the norms, whose gains and offsets no method decays or pulls anywhere."""
    return [name for name, module in network.named_modules() if isinstance(module, NORMS)]


def regressor(inputs: int, hidden: int, norm: bool = False) -> nn.Sequential:
    """Makes a network of one hidden layer of rectified units, with weights as Kaiming-uniform draws and no biases."""
    first, last = nn.Linear(inputs, hidden), nn.Linear(hidden, 1)
    nn.init.kaiming_uniform_(first.weight, nonlinearity="relu")
    nn.init.kaiming_uniform_(last.weight, nonlinearity="linear")
    for layer in (first, last):
        nn.init.zeros_(layer.bias)
    middle = [nn.LayerNorm(hidden)] if norm else []
    return nn.Sequential(first, *middle, nn.ReLU(), last)
