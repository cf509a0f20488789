"""Sparse training: few connections exist; weak ones are pruned, and as many grow elsewhere."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from funcbio import rng
from funcbio._checks import COUNT_OR_NONE, SHARE
from funcbio.base import BioState, Key, Number, Tree, check_option
from funcbio.engine._kernel import Draw, Kernel
from funcbio.engine._run import run_kernel
from funcbio.mechanisms._counted import counted
from funcbio.mechanisms._fresh import fresh, index_draw
from funcbio.mechanisms._order import highest, lowest
from funcbio.rng import UNIFORM

NAME = "prune_and_regrow"
LAWS = ("uniform", "erdos_renyi", "erdos_renyi_kernel")
"""How the density of a model is spread over its layers."""
GROWTHS = ("random", "gradient", "static")
NEWBORNS = ("zero", "start")
UPWARD = 1.0 + 2.0**-22
"""What a number of connections is multiplied by before it is cut off: rounded, 36 may be a little less than 36."""


def densities(shapes: Mapping[str, tuple[int, ...]], density: float, law: str) -> dict[str, float]:
    """Returns the density of every layer, from that of the whole model."""
    if law == "uniform":  # The first layer is the input's only door, and small: it stays dense.
        return {name: 1.0 if index == 0 and len(shapes) > 1 else density for index, name in enumerate(shapes)}
    sizes = {name: math.prod(shape) for name, shape in shapes.items()}
    kept = {name: _relative(shape, law) for name, shape in shapes.items()}
    full: set[str] = set()
    while True:  # A layer that would be more than dense is dense, and the others share what it lacks.
        rest = [name for name in shapes if name not in full]
        budget = density * sum(sizes.values()) - sum(sizes[name] for name in full)
        scale = budget / max(sum(kept[name] * sizes[name] for name in rest), 1e-30)
        over = {name for name in rest if kept[name] * scale > 1.0}
        if not over:
            return {name: 1.0 if name in full else max(kept[name] * scale, 0.0) for name in shapes}
        full |= over


def _relative(shape: tuple[int, ...], law: str) -> float:
    sizes = shape if law == "erdos_renyi_kernel" else shape[:2]
    return sum(sizes) / max(math.prod(sizes), 1)


def initial_mask(
    key: Key, name: str, shapes: Mapping[str, tuple[int, ...]], *, density: float, law: str, like: Tensor
) -> Tensor:
    """Draws which connections of a layer exist at the beginning: exactly as many as its density asks for."""
    count = round(densities(shapes, density, law)[name] * like.numel())
    unit = rng.uniform(key, tuple(like.shape), stream=f"mask/{name}", dtype=torch.float64)
    return lowest(unit, torch.tensor(count, device=like.device))


def keep_masked(weight: Tensor, mask: Tensor) -> Tensor:
    """Returns the weights of one layer, with 0 where no connection exists."""
    return torch.where(mask > 0.0, weight, 0.0)


MASK = Kernel(keep_masked, ("weight", "mask"), ("weight",), marks=("mask",), by_leaf=True)


def apply_mask(params: Tree, grads: Tree, state: BioState, /, *, key: Key | None = None) -> tuple[Tree, Tree, BioState]:
    r"""Sets weights to zero where no connection exists."""
    return run_kernel(MASK, params, grads, state, key=key)


def _kernel(grow: str, newborn: str) -> Kernel:
    def prune(
        weight: Tensor, mask: Tensor, *rest: Tensor, drop: Number, until: Any, calls: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Returns weights, mask, and which connections are new."""
        given = dict(zip(names, rest, strict=True))
        active = mask > 0.0
        share = torch.where(_positive(until), 0.5 * (1.0 + torch.cos(math.pi * _progress(calls, until))), 1.0)
        count = torch.floor(active.sum() * (drop * share) * UPWARD).long()
        dropped = lowest(weight.abs(), count, active)
        kept = active & ~dropped
        score = given["grad"].abs() if grow == "gradient" else given["unit"]
        among = dropped if grow == "static" else ~kept
        grown = highest(score, count, among)
        value = fresh(given["start"], given["index"]) if newborn == "start" else torch.zeros_like(weight)
        fresh_here = grown if grow == "static" else grown & ~active
        return torch.where(fresh_here, value, torch.where(kept | grown, weight, 0.0)), kept | grown, fresh_here

    names = ["grad"] * (grow == "gradient") + ["start"] * (newborn == "start")
    reads = ("weight", "mask", *names)
    draws = [Draw(f"{NAME}/unit", UNIFORM, "mask")] * (grow != "gradient")
    draws += [index_draw(NAME, "mask")] * (newborn == "start")
    names += ["unit"] * (grow != "gradient") + ["index"] * (newborn == "start")
    return Kernel(
        prune,
        reads,
        ("weight", "mask", "replaced"),
        tuple(draws),
        marks=("mask",),
        limits={"drop": SHARE, "until": COUNT_OR_NONE},
        by_leaf=True,
        elementwise=False,
    )


def _positive(until: Any) -> Tensor:
    return torch.as_tensor(until) > 0


def _progress(calls: Tensor, until: Any) -> Tensor:
    """Returns the share of the schedule that has passed, 1 at most."""
    return torch.clamp(calls / torch.clamp(torch.as_tensor(until), min=1), max=1.0)


KERNELS = {(grow, newborn): _kernel(grow, newborn) for grow in GROWTHS for newborn in NEWBORNS}


def sparse_kernels(*, grow: str, newborn: str, **hyper: Number) -> tuple[Kernel]:
    """Returns the kernel of a way to grow."""
    del hyper
    return (KERNELS[grow, newborn],)


def prune_and_regrow(
    params: Tree,
    grads: Tree,
    state: BioState,
    /,
    *,
    key: Key | None = None,
    drop: Number = 0.3,
    grow: str = "random",
    newborn: str = "zero",
    until: Any = 0,
) -> tuple[Tree, Tree, BioState]:
    r"""Prunes the weakest connections, and grows as many elsewhere."""
    check_option("grow", grow, GROWTHS)
    check_option("newborn", newborn, NEWBORNS)
    calls, state = counted(state, NAME)
    return run_kernel(KERNELS[grow, newborn], params, grads, state, key=key, drop=drop, until=until, calls=calls)


def whole_model(config: Any) -> str | None:
    """Returns why a configuration leaves nothing to prune; None if it does."""
    if config.density < 1.0:
        return None
    return "prune_and_regrow should have connections that do not exist, to grow; found density=1.0"
