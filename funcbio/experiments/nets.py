"""The networks of the experiments, and initial weights from a key."""

from collections import OrderedDict

from torch import Tensor, nn

import funcbio
from funcbio import Key

PIXELS, CLASSES = 64, 10


def mlp(hidden: int) -> nn.Sequential:
    """Makes a network with one hidden layer of rectified units."""
    return nn.Sequential(
        OrderedDict(hidden=nn.Linear(PIXELS, hidden), relu=nn.ReLU(), readout=nn.Linear(hidden, CLASSES))
    )


def cnn() -> nn.Sequential:
    """Makes a network with two convolutions over the 8 x 8 images, which come as rows of 64 numbers."""
    layers = {"image": nn.Unflatten(1, (1, 8, 8)), "conv1": nn.Conv2d(1, 8, 3, padding=1), "relu1": nn.ReLU()}
    layers |= {"pool1": nn.MaxPool2d(2), "conv2": nn.Conv2d(8, 16, 3, padding=1), "relu2": nn.ReLU()}
    layers |= {"pool2": nn.MaxPool2d(2), "flat": nn.Flatten(), "readout": nn.Linear(64, CLASSES)}
    return nn.Sequential(OrderedDict(layers))


def initial_params(net: nn.Module, key: Key) -> dict[str, Tensor]:
    """Draws weights and biases as torch's layers do, on U(-b, b) with b = 1 / sqrt(inputs of a unit), but from a key.

    Args:
        net: A network whose parameters all belong to Linear layers or convolutions.
        key: The key; every parameter derives its own from its name.

    Returns:
        A tree like ``dict(net.named_parameters())``.
    """
    params = {}
    for name, parameter in net.named_parameters():
        layer = net.get_submodule(name.rpartition(".")[0])
        assert isinstance(layer, nn.Linear | nn.Conv2d)
        bound = layer.weight[0].numel() ** -0.5
        params[name] = funcbio.uniform(funcbio.fold_in(key, name), parameter.shape, low=-bound, high=bound)
    return params
