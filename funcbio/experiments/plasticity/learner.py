"""One member's training step; ``crowd`` maps it over many members."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from optree import tree_map
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value
from torch.nn import functional as F

import funcbio
from funcbio import BioConfig, BioState, Key, Tree, fold_in
from funcbio.experiments.nets import CLASSES, PIXELS, initial_params
from funcbio.experiments.plasticity.methods import Method
from funcbio.experiments.sweep_parts import accuracy

HIDDEN = 100
WIDE: dict[str, Any] = {"minimum": 0.0, "maximum": 10.0}
"""The clamp of the rate factors: so wide that their mean stays 1 and the spread is that of ``nu``."""


class Member(NamedTuple):
    """Holds weights, initial weights and rate factors of one member; with a leading dimension, of all."""

    params: Tree
    start: Tree
    rate: Tree


def network() -> nn.Sequential:
    """Makes a network of two hidden layers of rectified units."""
    hidden = (nn.Linear(PIXELS, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, HIDDEN), nn.ReLU())
    return nn.Sequential(*hidden, nn.Linear(HIDDEN, CLASSES))


@dataclass(frozen=True)
class Learner:
    """Describes how one member learns; the network is used for its shape only."""

    method: Method
    net: nn.Module
    bio: funcbio.Bound

    def begin(self, key: Key, numbers: Tree) -> Member:
        """Draws initial weights and rate factors."""
        params: Tree = initial_params(self.net, fold_in(key, "init"))
        rate = self.bio.init(params, key=fold_in(key, "rates")).rate
        if "nu" in self.method.knobs:
            rate = _spread(params, rate, numbers["nu"], fold_in(key, "rates"))
        return Member(params, tree_map(torch.clone, params), rate)

    def gradient(self, member: Member, numbers: Tree, x: Tensor, y: Tensor) -> tuple[Tree, Tree, Tensor]:
        """Returns the gradient for the optimizer, the new rate factors, and the share of right answers before."""

        def loss(params: Tree) -> tuple[Tensor, Tensor]:
            logits = functional_call(self.net, params, (x,))
            return F.cross_entropy(logits, y), accuracy(logits, y)

        grads, (_, right) = grad_and_value(loss, has_aux=True)(member.params)
        rate = member.rate
        if self.method.crystallizes:
            state = BioState(rate=rate)
            rate = funcbio.crystallize(member.params, grads, state, floor=numbers["floor"])[2].rate
        grads = tree_map(
            lambda g, w, w0: g + numbers["decay"] * w + numbers["pull"] * (w - w0), grads, member.params, member.start
        )
        return self._scaled("gradient", member.params, grads, rate), rate, right

    def moved(self, member: Member, rate: Tree, numbers: Tree, direction: Tree) -> Tree:
        """Returns the weights after the optimizer's step."""
        update = tree_map(lambda step: numbers["lr"] * step, direction)
        return tree_map(torch.add, member.params, self._scaled("update", member.params, update, rate))

    def upkeep(self, member: Member, numbers: Tree, key: Key) -> tuple[Tree, Tree]:
        """Shrinks and perturbs weights, or replaces weak ones or any; returns the weights, and which are new.

        "turn over" replaces as many weights as "rejuvenate", by the same draws, but at random places.
        """
        params: Tree = member.params
        if self.method.upkeep == "shrink":
            fresh: Tree = initial_params(self.net, key)
            return tree_map(lambda w, new: torch.lerp(w, new, numbers["shrink"]), params, fresh), {}
        weak = params if self.method.upkeep == "rejuvenate" else _shuffled(params, fold_in(key, "places"))
        state, strength = BioState(rate=member.rate), numbers["strength"]
        fresh, _, state = funcbio.rejuvenate_weights(weak, weak, state, key=key, strength=strength)
        return tree_map(torch.where, state.replaced, fresh, params), state.replaced

    def _scaled(self, place: str, params: Tree, trees: Tree, rate: Tree) -> Tree:
        if self.method.rates != place:
            return trees
        return funcbio.fuzzy_learning_rates(params, trees, BioState(rate=rate))[1]


def _spread(params: Tree, rates: Tree, nu: Tensor, key: Key) -> Tree:
    """Returns rate factors whose spread is a tensor, as members with a value each need."""

    def draw(name: str) -> Tensor:
        stream = f"rate/{name}"
        return funcbio.sample_rates(key, params[name], distribution="lognormal", nu=nu, stream=stream, **WIDE)

    return {name: draw(name) if rate.ndim else rate for name, rate in rates.items()}


def _shuffled(params: Tree, key: Key) -> Tree:
    """Returns the elements of every leaf in random order."""

    def shuffle(name: str, leaf: Tensor) -> Tensor:
        order = funcbio.uniform(fold_in(key, name), (leaf.numel(),)).argsort()
        return leaf.flatten()[order].view(leaf.shape)

    return {name: shuffle(name, leaf) for name, leaf in params.items()}


def make_learner(method: Method) -> Learner:
    """Makes the learner of a method; rate factors start at 1 unless they are drawn."""
    net = network()
    return Learner(method, net, funcbio.bind(net, BioConfig(fuzzy_lr_distribution="baseline")))
