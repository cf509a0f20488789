"""The networks that are attacked: plain ones, and ones that learn with the mechanisms; all seeds train at once."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from optree import tree_map
from torch import Tensor, nn, vmap
from torch.func import functional_call, grad
from torch.nn import functional as F

import funcbio
from funcbio import BioConfig, BioState, Key, Tree, fold_in, permutation
from funcbio.experiments.inversion.attack import Network
from funcbio.experiments.inversion.images import Images
from funcbio.experiments.inversion.settings import Settings
from funcbio.experiments.nets import initial_params
from funcbio.experiments.sweep_parts import accuracy

WIDEST = 1.0
"""Spread that fills the range which the configuration allows a factor, from 0.5 to 2."""


class Victim(NamedTuple):
    """Describes one kind of network.

    Attributes:
        mechanisms: What happens between gradient and update, in the paper's order.
        gamma: Sub-synapses for each connection.
        nu: Spread of the rate factors; None for that of the settings.
        speed: Factor on the learning rate.
    """

    mechanisms: tuple[str, ...] = ()
    gamma: int = 0
    nu: float | None = None
    speed: float = 1.0

    @property
    def has_factors(self) -> bool:
        """Returns True if its rate factors act."""
        return "fuzzy_learning_rates" in self.mechanisms

    def config(self, settings: Settings) -> BioConfig:
        """Returns the configuration, with the paper's numbers."""
        return BioConfig(
            fuzzy_learning_rate_factor_nu=settings.nu if self.nu is None else self.nu,
            rejuvenation_parameter_dre=14.0,
            rejuvenation_variant="uniform",
            weight_splitting_Gamma=self.gamma,
        )


# The faster plain network is a check on splitting: the step that a sum of Gamma weights takes is up to Gamma * Gamma
# times as long, and the better a network fits, the less its gradients tell, with or without mechanisms.
FUZZY, REJUVENATE = "fuzzy_learning_rates", "rejuvenate_weights"
VICTIMS = {
    "plain": Victim(),
    "plain, lr x 4": Victim(speed=4.0),
    "fuzzy": Victim((FUZZY,)),
    "wide fuzzy": Victim((FUZZY,), nu=WIDEST),
    "rejuvenated": Victim((REJUVENATE,)),
    "split": Victim(gamma=2),
    "all": Victim((FUZZY, REJUVENATE), gamma=2),
}


class Checkpoint(NamedTuple):
    """Holds networks of all seeds at one time; every tensor has a first dimension of seeds.

    Attributes:
        params: Weights and biases.
        state: The mechanisms' state, with the rate factors.
        accuracy: Share of the test images that are right.
        loss: Mean cross entropy of the test images.
    """

    params: Tree
    state: BioState
    accuracy: Tensor
    loss: Tensor


@dataclass(frozen=True)
class Training:
    """Trains networks of one kind: written for one network, and mapped over seeds.

    The network is used for its shape only.
    """

    net: nn.Module
    victim: Victim
    images: Images
    settings: Settings

    @property
    def bio(self) -> funcbio.Bound:
        """Returns the mechanisms, bound to the network."""
        return funcbio.bind(self.net, self.victim.config(self.settings))

    @property
    def network(self) -> Network:
        """Returns the network as a pure function; a split one splits."""
        if not self.victim.gamma:
            return lambda params, x: functional_call(self.net, params, (x,))  # pyright: ignore[reportArgumentType]
        observed = funcbio.observe(self.net, config=self.victim.config(self.settings))
        return lambda params, x: observed(params, x)[0]  # pyright: ignore[reportArgumentType]

    def begin(self, key: Key) -> tuple[Tree, BioState]:
        """Draws initial weights, the same for every kind, and rate factors."""
        params = initial_params(self.net, fold_in(key, "init"))
        return params, self.bio.init(params, key=fold_in(key, "rates"))

    def shuffle(self, key: Key, epoch: int) -> Tensor:
        """Draws the order of the images in one epoch."""
        return permutation(fold_in(fold_in(key, "batches"), epoch), len(self.images.train_y))

    def stepper(self) -> Callable[..., tuple[Tree, BioState]]:
        """Returns one step of all seeds: gradient, mechanisms, gradient descent."""
        network, bio, lr = self.network, self.bio, self.victim.speed * self.settings.train_lr
        act = funcbio.chain(*(getattr(bio, name) for name in self.victim.mechanisms))

        def step(params: Tree, state: BioState, key: Key, batch: Tensor, number: int) -> tuple[Tree, BioState]:
            x, y = self.images.train_x[batch], self.images.train_y[batch]
            grads = grad(lambda p: F.cross_entropy(network(p, x), y))(params)
            params, grads, state = act(params, grads, state, key=fold_in(fold_in(key, "noise"), number))
            return tree_map(lambda weight, slope: weight - lr * slope, params, grads), state

        return vmap(step, in_dims=(0, 0, 0, 0, None))

    def measure(self, params: Tree) -> tuple[Tensor, Tensor]:
        """Returns the share of the test images that every network gets right, and their mean loss."""

        def one(params: Tree) -> tuple[Tensor, Tensor]:
            output, y = self.network(params, self.images.test_x), self.images.test_y
            return accuracy(output, y), F.cross_entropy(output, y)

        return vmap(one)(params)

    def run(self, keys: Tensor, tick: Callable[[], object]) -> dict[int, Checkpoint]:
        """Trains one network for every key and returns the checkpoints that the settings name.

        ``tick`` is called after every epoch.
        """
        (params, state), step, checkpoints = vmap(self.begin)(keys), self.stepper(), {}
        size, last = self.settings.train_batch, max(self.settings.checkpoints)
        for epoch in range(last + 1):
            if epoch in self.settings.checkpoints:
                checkpoints[epoch] = Checkpoint(params, state, *self.measure(params))
            if epoch == last:
                break
            orders = vmap(self.shuffle, in_dims=(0, None))(keys, epoch)
            for number, batch in enumerate(orders[:, : orders.shape[1] // size * size].split(size, dim=1)):
                params, state = step(params, state, keys, batch, epoch * orders.shape[1] + number)
            tick()
        return checkpoints


def undo_factors(bio: funcbio.Bound, params: Tree, leaked: Tree, state: BioState) -> Tree:
    """Divides a leaked gradient by the rate factors, as an attacker can who knows them."""
    inverse = state._replace(rate=tree_map(torch.reciprocal, state.rate))
    return bio.fuzzy_learning_rates(params, leaked, inverse)[1]
