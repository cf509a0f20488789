"""The functional training loop: one run is a few pure functions of a key, and vmap makes it many runs."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from optree import tree_leaves, tree_map
from torch import Tensor, nn, vmap
from torch.func import functional_call, grad_and_value
from torch.nn import functional as F

import funcbio
from funcbio import BioState, Key, Tree, fold_in, permutation
from funcbio.experiments.compare.history import History, stack
from funcbio.experiments.compare.settings import Settings
from funcbio.experiments.data import Digits
from funcbio.experiments.nets import initial_params, mlp
from funcbio.experiments.sweep_parts import accuracy
from funcbio.mechanisms import fixed_rates


@dataclass(frozen=True)
class Run:
    """Runs one training, and reads like a method section. Every method is written for one run; vmap makes it many.

    The network is used for its shape only. ``mechanisms`` act between gradient and update: none in the plain network.
    ``observe`` is the network as a function that also counts how active its units are.
    """

    net: nn.Module
    bio: funcbio.Bound
    mechanisms: funcbio.Feature
    observe: Callable[..., tuple[Tensor, Tree]]
    digits: Digits

    def begin(self, key: Key) -> tuple[Tree, BioState]:
        """Draws initial weights and rate factors."""
        params = initial_params(self.net, fold_in(key, "init"))
        return params, self.bio.init(params, key=fold_in(key, "rates"))

    def shuffle(self, key: Key, epoch: int) -> Tensor:
        """Draws the order of the training images in one epoch."""
        return permutation(fold_in(fold_in(key, "batches"), epoch), len(self.digits.train_x))

    def loss(self, params: Tree, x: Tensor, y: Tensor) -> Tensor:
        """Returns the cross entropy of one batch."""
        return F.cross_entropy(functional_call(self.net, params, (x,)), y)

    def step(
        self, params: Tree, state: BioState, lr: Tensor, key: Key, batch: Tensor, number: int
    ) -> tuple[Tree, BioState, Tensor]:
        """Learns from one batch: gradient, mechanisms, gradient descent."""
        x, y = self.digits.train_x[batch], self.digits.train_y[batch]
        if self.bio.config.records_activity:
            _, activity = self.observe(params, x)
            state = state._replace(activity=tree_map(torch.add, state.activity, activity))
        grads, loss = grad_and_value(self.loss)(params, x, y)
        params, grads, state = self.mechanisms(params, grads, state, key=fold_in(fold_in(key, "noise"), number))
        return tree_map(lambda weight, grad: weight - lr * grad, params, grads), state, loss

    def rejuvenate(self, params: Tree, state: BioState, key: Key, epoch: int) -> tuple[Tree, BioState]:
        """Replaces weak weights by new ones."""
        key = fold_in(fold_in(key, "rejuvenate"), epoch)
        params, _, state = self.bio.rejuvenate_weights(params, params, state, key=key)
        return params, state

    def accuracy(self, params: Tree) -> Tensor:
        """Returns the share of the test images that the network gets right."""
        return accuracy(functional_call(self.net, params, (self.digits.test_x,)), self.digits.test_y)


def make_run(settings: Settings, digits: Digits, variant: str) -> Run:
    """Makes the run of a variant, "plain" or "bio"."""
    net = mlp(settings.hidden)
    bio = funcbio.bind(net, settings.config)
    rules = [bio.crystallize, bio.volume_dependent_lr, bio.fuzzy_learning_rates]
    if fixed_rates(settings.config) is None:
        rules.append(bio.update_fuzzy_learning_rates)
    return Run(net, bio, funcbio.chain(*rules if variant == "bio" else ()), funcbio.observe(net), digits)


def train(
    settings: Settings, digits: Digits, variant: str, seeds: list[int], lr: Tensor, tick: Callable[[], None]
) -> tuple[History, Tree]:
    """Trains one run for every seed, all at once; ``lr`` holds a learning rate for each run.

    Returns the measurements, and the final weights with a leading dimension of runs; calls ``tick`` after every epoch.
    """
    run, keys = make_run(settings, digits, variant), vmap(funcbio.key)(torch.tensor(seeds))
    params, state = vmap(run.begin)(keys)
    # The first call also loads parts of torch, which should not count as training time.
    train_epoch(run, settings.batch_size, params, state, lr, keys, epoch=0, limit=1)
    before, losses, accuracies, begun = state, [], [], time.perf_counter()
    for epoch in range(settings.epochs):
        if variant == "bio" and settings.rejuvenates(epoch):
            params, state = vmap(run.rejuvenate, in_dims=(0, 0, 0, None))(params, state, keys, epoch)
        params, state, loss = train_epoch(run, settings.batch_size, params, state, lr, keys, epoch=epoch)
        losses.append(loss)
        accuracies.append(vmap(run.accuracy)(params))
        tick()
    seconds = time.perf_counter() - begun
    start, end = (rate_factors(one) if variant == "bio" else torch.empty(0) for one in (before, state))
    accuracy, loss, rate = stack(accuracies), stack(losses), settings.lr(variant)
    return History("functional", variant, rate, seeds, accuracy, loss, start, end, seconds), params


def train_epoch(
    run: Run,
    size: int,
    params: Tree,
    state: BioState,
    lr: Tensor,
    keys: Tensor,
    *,
    epoch: int,
    limit: int | None = None,
) -> tuple[Tree, BioState, Tensor]:
    """Learns from every full batch once, or from ``limit`` of them; returns weights, states and mean losses."""
    orders, losses = vmap(run.shuffle, in_dims=(0, None))(keys, epoch), []
    count = orders.shape[1] // size
    for index in range(count if limit is None else limit):
        batch = orders[:, index * size :][:, :size]
        step = vmap(run.step, in_dims=(0, 0, 0, 0, 0, None))
        params, state, loss = step(params, state, lr, keys, batch, epoch * count + index)
        losses.append(loss)
    return params, state, torch.stack(losses).mean(dim=0)


def rate_factors(state: BioState) -> Tensor:
    """Returns the rate factors of all synapses of all runs, in one row."""
    # Under vmap, parameters that are not synapses have one number for each run and no further dimension.
    return torch.cat([rate.flatten() for rate in tree_leaves(state.rate) if rate.ndim > 1])
