"""The cells of the experiment: the attacked network, its epoch and its leak; all of one form at once."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from optree import tree_map
from torch import Tensor, vmap

import funcbio
from funcbio import Tree, fold_in
from funcbio.experiments.inversion.attack import Reconstructions, gradient, invert
from funcbio.experiments.inversion.images import Images, chosen, class_means, others
from funcbio.experiments.inversion.metrics import matched, scores
from funcbio.experiments.inversion.victims import VICTIMS, Checkpoint, Training, undo_factors

RAW, SCALED, UNDONE, OTHER = "gradient", "gradient x factors", "gradient x factors, known", "gradient of another image"
"""Names of the leaks. Only in the third does the attacker know the factors; the last is a control, not a leak."""

REFERENCE = "mean image of the class"

Trained = Mapping[str, tuple[Training, Mapping[int, Checkpoint]]]
"""Training and checkpoints of every kind of network."""


class Cell(NamedTuple):
    """Describes one kind of network at one time, and which gradient leaks from it."""

    victim: str
    epochs: int
    leak: str


class Aim(NamedTuple):
    """Describes the images that the attacks of all seeds aim at.

    Attributes:
        images: All images.
        keys: One key for every seed.
        places: Which of the test images are behind the gradient, shape ``(seeds, images)``.
    """

    images: Images
    keys: Tensor
    places: Tensor

    @property
    def labels(self) -> Tensor:
        """Returns the classes of the images."""
        return self.images.test_y[self.places]

    def starts(self, restart: int) -> Tensor:
        """Draws noise to start from: in the middle of the box, with a quarter of its width for standard deviation."""
        low, high = self.images.low, self.images.high

        def draw(key: Tensor) -> Tensor:
            key = fold_in(fold_in(key, "start"), restart)
            noise = funcbio.normal(key, (self.places.shape[1], *self.images.shape))
            return ((low + high) / 2 + (high - low) / 4 * noise).clamp(low, high)

        return vmap(draw)(self.keys)


def leaks_of(victim: str) -> list[str]:
    """Returns the leaks of a kind of network."""
    return [RAW, *([SCALED, UNDONE] if VICTIMS[victim].has_factors else []), *([OTHER] if victim == "plain" else [])]


def cells_of(victims: Sequence[str], epochs: Sequence[int]) -> list[Cell]:
    """Returns all cells of some kinds of networks."""
    return [Cell(victim, epoch, leak) for victim in victims for epoch in epochs for leak in leaks_of(victim)]


def leaked(cell: Cell, training: Training, at: Checkpoint, aim: Aim) -> Tree:
    """Computes the leaked gradients of the networks of all seeds."""
    places = others(aim.images, aim.keys, aim.places) if cell.leak == OTHER else aim.places
    x, y, bio = aim.images.test_x[places], aim.images.test_y[places], training.bio

    def one(params: Tree, state: Any, x: Tensor, y: Tensor) -> Tree:
        grads = gradient(training.network, params, x, y)
        if cell.leak in (SCALED, UNDONE):
            grads = bio.fuzzy_learning_rates(params, grads, state)[1]
        return undo_factors(bio, params, grads, state) if cell.leak == UNDONE else grads

    return vmap(one)(at.params, at.state, x, y)


def attack(
    cells: Sequence[Cell], trained: Trained, aim: Aim, restarts: int, tick: Callable[[int], object], **options: Any
) -> Tensor:
    """Attacks cells whose networks have one form, all seeds and restarts at once; options are those of ``invert``.

    Of the restarts the one with the smallest objective counts: the attacker can tell. Returns reconstructions, shape
    ``(cells, seeds, images, channels, height, width)``.
    """
    networks = [(*trained[cell.victim], cell) for cell in cells]
    params = _laid([checkpoints[cell.epochs].params for _, checkpoints, cell in networks], restarts)
    leaks = [leaked(cell, training, checkpoints[cell.epochs], aim) for training, checkpoints, cell in networks]
    start = torch.cat([aim.starts(restart).repeat(len(cells), 1, 1, 1, 1) for restart in range(restarts)])
    labels, box = aim.labels.repeat(restarts * len(cells), 1), (aim.images.low, aim.images.high)
    attacks = invert(networks[0][0].network, params, _laid(leaks, restarts), labels, start, *box, tick=tick, **options)
    return best(attacks, restarts).unflatten(0, (len(cells), len(aim.keys)))


def _laid(trees: Sequence[Tree], restarts: int) -> Tree:
    """Lays trees behind one another, and the whole as often as there are restarts."""
    return tree_map(lambda *leaves: torch.cat(leaves * restarts), *trees)


def best(attacks: Reconstructions, restarts: int) -> Tensor:
    """Returns the images of the restart with the smallest objective, for every attack."""
    fits = attacks.objective.unflatten(0, (restarts, -1))
    images = attacks.images.unflatten(0, (restarts, -1))
    return images[fits.argmin(0), torch.arange(images.shape[1])]


def measured(reconstructions: Tensor, aim: Aim) -> tuple[dict[str, list[float]], Tensor]:
    """Measures the reconstructions of all seeds, shape ``(seeds, images, channels, height, width)``.

    Returns the mean of every metric over images for each seed, and the matched reconstructions of the first seed.
    """
    true, guessed = (aim.images.unit(x).numpy() for x in (aim.images.test_x[aim.places], reconstructions))
    ordered = [matched(*parts) for parts in zip(guessed, true, aim.labels.tolist(), strict=True)]
    rows = [scores(one, wanted) for one, wanted in zip(ordered, true, strict=True)]
    return {name: [sum(row[name]) / len(row[name]) for row in rows] for name in rows[0]}, torch.from_numpy(ordered[0])


def reference(aim: Aim) -> tuple[dict[str, list[float]], Tensor]:
    """Measures the guess of an attacker who knows the classes and has seen no gradient."""
    return measured(class_means(aim.images)[aim.labels], aim)


def aimed(images: Images, keys: Tensor, count: int) -> Aim:
    """Chooses the images of every seed."""
    return Aim(images, keys, chosen(images, keys, count))
