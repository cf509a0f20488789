"""The paper's networks: their sizes, and that they convert and train as members of a sweep."""

from itertools import pairwise

import pytest
import torch
from torch.nn import functional as F

import funcbio
from funcbio import BioConfig, BioConverter, Mechanism
from funcbio.experiments.frame.settings import SettingError
from funcbio.experiments.networks import NETWORKS, network

MNIST, CIFAR, DIGITS = (1, 28, 28), (3, 32, 32), (1, 8, 8)


def linear(*sizes):
    return sum((before + 1) * after for before, after in pairwise(sizes))


def conv(before, after, kernel):
    return (before * kernel**2 + 1) * after


def alexnet(channels, classes):
    convolutions = conv(channels, 96, 11) + conv(96, 256, 5) + conv(256, 384, 3) + 2 * conv(384, 384, 3)
    return convolutions + linear(384, 384, 384, classes)


SIZES = [
    ("fcnet", MNIST, 10, linear(784, 1000, 10)),
    ("fcnet", CIFAR, 10, linear(3072, 3000, 1000, 10)),
    ("fcnet", CIFAR, 100, linear(3072, 3000, 3000, 100)),
    ("fcnet", DIGITS, 10, linear(64, 100, 10)),
    ("alexnetmini", MNIST, 10, alexnet(1, 10)),
    ("alexnetmini", CIFAR, 100, alexnet(3, 100)),
    ("alexnetmini", DIGITS, 10, conv(1, 12, 3) + conv(12, 32, 3) + conv(32, 48, 3) + 2 * conv(48, 48, 3)
        + linear(48, 48, 48, 10)),
    # Table 6 of He et al. says 0.27, 0.46, 0.66 and 0.85 million; the exact numbers are those of shortcuts A.
    ("resnet20", CIFAR, 10, 269722),
    ("resnet32", CIFAR, 10, 464154),
    ("resnet44", CIFAR, 10, 658586),
    ("resnet56", CIFAR, 10, 853018),
]  # fmt: skip


@pytest.mark.parametrize(("name", "shape", "classes", "parameters"), SIZES)
def test_networks_have_the_published_sizes(name, shape, classes, parameters):
    net = network(name, shape, classes)
    assert sum(parameter.numel() for parameter in net.parameters()) == parameters
    assert net(torch.zeros(2, *shape)).shape == (2, classes)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("shape", [MNIST, CIFAR, DIGITS])
def test_every_network_has_its_read_out_last_and_splits_in_two(name, shape):
    net = network(name, shape, 10)
    described = funcbio.synapses(net)
    assert [synapse for synapse, found in described.items() if found.readout] == ["readout.weight"]
    if shape == DIGITS:
        model = BioConverter(weight_splitting_Gamma=2)(net)
        F.cross_entropy(model(torch.randn(4, *shape)), torch.arange(4)).backward()
        model.fuzzy_learning_rates()
        model.rejuvenate_weights()


@pytest.mark.parametrize("name", ["alexnetmini", "resnet8", "resnet20"])
def test_a_member_of_a_sweep_is_the_network_alone(name):
    x, y = torch.randn(24, *DIGITS), torch.arange(24) % 10
    config = BioConfig(weight_splitting_Gamma=2, rejuvenation_variant="uniform")

    def train(seeds):
        return funcbio.sweep(
            lambda: network(name, DIGITS, 10), F.cross_entropy, (x, y), steps=2, batch_size=8, lr=0.01, seeds=seeds,
            mechanisms=["fuzzy_learning_rates", Mechanism("rejuvenate_weights", where="gradient")], config=config,
            test=(x, y),
        )  # fmt: skip

    together, alone = train([3, 4]), train([4])
    for leaf, value in alone.member(0).items():
        torch.testing.assert_close(together.member(1)[leaf], value, rtol=1e-3, atol=1e-4)
    if name.startswith("resnet"):
        assert together.buffers["norm.num_batches_tracked"].tolist() == [2, 2]
        assert not torch.equal(together.buffers["norm.running_mean"][0], together.buffers["norm.running_mean"][1])


def test_other_names_and_images_are_refused():
    with pytest.raises(SettingError, match=r"net should be one of fcnet, alexnetmini, resnet8, .*; found 'vgg'"):
        network("vgg", CIFAR, 10)
    with pytest.raises(SettingError, match="images should be 8 x 8, 28 x 28 or 32 x 32; found 64 x 64"):
        network("fcnet", (3, 64, 64), 10)
