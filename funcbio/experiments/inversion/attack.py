"""The attack: a search for images whose gradient points in the direction of the leaked one.

Everything is written for one attack; ``invert`` maps it over many.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from optree import tree_leaves, tree_map
from torch import Tensor, vmap
from torch.func import grad, grad_and_value
from torch.nn import functional as F

from funcbio import Tree
from funcbio.engine._compiling import with_own_code

DECAY, MILESTONES = 0.1, (3 / 8, 5 / 8, 7 / 8)
"""The learning rate falls by this factor at these shares of the iterations, as in the published code."""

AT_ONCE = 64
"""Attacks that run in one step; more do not fit into a processor's cache."""

Network = Callable[[Tree, Tensor], Tensor]


class Reconstructions(NamedTuple):
    """Holds the results of attacks.

    Attributes:
        images: Shape ``(attacks, images, channels, height, width)``.
        objective: The attacker's final objective, shape ``(attacks,)``: all that the attacker can judge by.
    """

    images: Tensor
    objective: Tensor


def gradient(network: Network, params: Tree, x: Tensor, labels: Tensor) -> Tree:
    """Returns the gradient of the mean cross entropy of one batch over all parameters."""
    return grad(lambda p: F.cross_entropy(network(p, x), labels))(params)


def distance(grads: Tree, leaked: Tree) -> Tensor:
    r"""Returns $1 - \cos$ of the angle between two gradients, each taken as one vector over all parameters."""
    first, second = (torch.cat([leaf.flatten() for leaf in tree_leaves(tree)]) for tree in (grads, leaked))  # pyright: ignore[reportArgumentType]
    return 1.0 - F.cosine_similarity(first, second, dim=0)


def total_variation(x: Tensor) -> Tensor:
    """Returns the mean step between neighbouring pixels, down plus across."""
    return x.diff(dim=-2).abs().mean() + x.diff(dim=-1).abs().mean()


def objective(network: Network, tv: float, x: Tensor, params: Tree, leaked: Tree, labels: Tensor) -> Tensor:
    """Returns the objective that one attack minimises."""
    return distance(gradient(network, params, x, labels), leaked) + tv * total_variation(x)


def invert(
    network: Network,
    params: Tree,
    leaked: Tree,
    labels: Tensor,
    start: Tensor,
    low: Tensor,
    high: Tensor,
    *,
    iterations: int = 1000,
    lr: float = 0.1,
    tv: float = 1e-6,
    compile: bool = False,
    tick: Callable[[int], object] = lambda _: None,
) -> Reconstructions:
    r"""Searches for images with a given gradient, many times at once by vmap.

    Images move along the sign of the gradient of
    $$ 1 - \cos(\nabla_\theta L(x), g) + \alpha \, TV(x) $$
    under Adam with a learning rate that falls in steps, and stay in their box.

    Args:
        network: ``network(params, x)``, a pure function of one network's parameters; it must be smooth.
        params: Parameters that the attacker knows, every leaf with a first dimension of attacks.
        leaked: Leaked gradients, shaped like ``params``.
        labels: Known classes, shape ``(attacks, images)``.
        start: Images to start from, shape ``(attacks, images, channels, height, width)``.
        low: Smallest value of every channel, shape ``(channels, 1, 1)``.
        high: Largest value.
        iterations: Steps.
        lr: Learning rate.
        tv: $\alpha$.
        compile: Whether to compile the step; worth it from a few hundred steps on.
        tick: Called with the number of steps of single attacks that were done.

    Returns:
        The images and the final objective.

    Example:
        >>> linear = lambda params, x: x.flatten(1) @ params["w"]
        >>> params, x, labels = {"w": torch.randn(1, 4, 3)}, torch.randn(1, 1, 1, 2, 2), torch.tensor([[1]])
        >>> leaked = vmap(partial(gradient, linear))(params, x, labels)
        >>> box = torch.tensor([[[-3.0]]]), torch.tensor([[[3.0]]])
        >>> result = invert(linear, params, leaked, labels, torch.zeros_like(x) + 0.1, *box, iterations=200)
        >>> result.images.shape, bool(result.objective < 0.01)
        (torch.Size([1, 1, 1, 2, 2]), True)

    References:
        Geiping et al., NeurIPS 2020, arXiv 2003.14053.
    """
    count = len(start)
    parts = -(-count // AT_ONCE)
    size = -(-count // parts)
    slope = _slope(network, tv, compile=compile)
    images, objectives = [], []
    for part in range(parts):
        # The last part repeats the last attack, so that all parts have one size: every new size has to be compiled.
        rows = torch.arange(part * size, (part + 1) * size).clamp(max=count - 1)
        whole: Any = params, leaked, labels
        batch: Any = tree_map(lambda leaf, rows=rows: leaf[rows], whole)
        x = _descend(lambda x, batch=batch: slope(x, *batch)[0], start[rows], low, high, iterations, lr, tick)
        images.append(x)
        objectives.append(slope(x, *batch)[1])
    return Reconstructions(torch.cat(images)[:count], torch.cat(objectives)[:count])


def _slope(network: Network, tv: float, *, compile: bool) -> Callable[..., tuple[Tensor, Tensor]]:
    """Returns the gradient over the images, and the objective, of every attack."""

    def slope(x: Tensor, params: Tree, leaked: Tree, labels: Tensor) -> tuple[Tensor, Tensor]:
        return vmap(grad_and_value(partial(objective, network, tv)))(x, params, leaked, labels)

    return torch.compile(with_own_code(slope), fullgraph=True, dynamic=False) if compile else slope


def _descend(
    slope: Callable[[Tensor], Tensor],
    start: Tensor,
    low: Tensor,
    high: Tensor,
    iterations: int,
    lr: float,
    tick: Callable[[int], object],
) -> Tensor:
    """Moves images along the signs of their gradients; Adam treats every element alone, so attacks stay apart."""
    x = start.clone()
    optimizer = torch.optim.Adam([x], lr=lr)
    milestones = [int(share * iterations) for share in MILESTONES]
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones, gamma=DECAY)
    for _ in range(iterations):
        x.grad = slope(x).sign()
        optimizer.step()
        schedule.step()
        x.clamp_(low, high)
        tick(len(x))
    return x.detach()
