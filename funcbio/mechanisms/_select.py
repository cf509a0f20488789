"""Selective reinitialization: which weights are replaced, by a utility and a rule, and what takes their place."""

from itertools import product

import torch
from torch import Tensor

from funcbio._checks import POSITIVE, SHARE
from funcbio.base import Number
from funcbio.engine._kernel import Draw, Kernel
from funcbio.mechanisms._fresh import fresh, index_draw
from funcbio.mechanisms._order import lowest
from funcbio.rng import NORMAL, UNIFORM

NAME = "rejuvenate_weights"
FRACTION = {"fraction": SHARE}
UTILITIES = ("|w|", "|g w|", "random")
RULES = ("probability", "threshold", "proportional")
NEWBORNS = ("lognormal", "uniform", "swr")


def chosen(use: Tensor, unit: Tensor, one: Tensor, rule: str, *, strength: Number, fraction: Number) -> Tensor:
    """Returns a mask of the weights of little use; ``unit`` and the single number ``one`` are uniform."""
    if rule == "probability":
        spread = use.std(correction=0)
        return -torch.log1p(-unit) * spread > strength * use
    if rule == "threshold":
        return use <= fraction * use.mean()
    return lowest(use, torch.floor(fraction * use.numel() + one.reshape(())))


def newborn(weight: Tensor, given: dict[str, Tensor], kind: str) -> Tensor:
    """Returns a new value for every weight of a layer, of either sign."""
    if kind == "swr":
        return fresh(given["start"], given["index"])
    finite = torch.where(weight.isfinite(), weight, 0.0)
    top = finite.abs().amax()
    if kind == "uniform":
        return top * (2.0 * given["coin"] - 1.0)
    mean = finite.abs().mean().clamp_min(1e-15)
    variance = finite.abs().var(correction=0) * (weight.numel() / max(weight.numel() - 1, 1))
    log_variance = torch.log1p(variance / mean**2)
    magnitude = torch.exp(torch.log(mean) - 0.5 * log_variance + torch.sqrt(log_variance) * given["noise"])
    return torch.copysign(torch.minimum(magnitude, top), given["coin"] - 0.5)


def _kernel(kind: str, utility: str, rule: str) -> Kernel:
    reads = ["weight", "sign?"] + ["grad"] * (utility == "|g w|") + ["start"] * (kind == "swr")
    draws = {
        "unit": Draw(f"{NAME}/unit", UNIFORM),
        "one": Draw(f"{NAME}/one", UNIFORM, "one"),
        **({"use": Draw(f"{NAME}/use", UNIFORM)} if utility == "random" else {}),
        **({"index": index_draw(NAME, "rate")} if kind == "swr" else {"coin": Draw(f"{NAME}/coin", UNIFORM)}),
        **({"noise": Draw(f"{NAME}/noise", NORMAL)} if kind == "lognormal" else {}),
    }
    names = [*(name.removesuffix("?") for name in reads), *draws]

    def reinitialize(*tensors: Tensor, strength: Number, fraction: Number) -> tuple[Tensor, Tensor]:
        given = dict(zip(names, tensors, strict=True))
        weight, sign = given["weight"], given["sign"]
        if not weight.numel():
            return weight, weight.bool()
        use = {"|w|": weight, "|g w|": weight * given.get("grad", weight), "random": given.get("use", weight)}[utility]
        lost = chosen(use.abs(), given["unit"], given["one"], rule, strength=strength, fraction=fraction)
        lost = lost | ~weight.isfinite()
        grown = newborn(weight, given, kind)
        return torch.where(lost, grown if sign is None else torch.copysign(grown, sign), weight), lost

    return Kernel(
        reinitialize,
        tuple(reads),
        ("weight", "replaced"),
        tuple(draws.values()),
        limits={"strength": POSITIVE, **FRACTION},
        by_leaf=True,
        elementwise=False,
    )


KERNELS = {(kind, use, rule): _kernel(kind, use, rule) for kind, use, rule in product(NEWBORNS, UTILITIES, RULES)}
