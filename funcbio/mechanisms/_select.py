"""Selective reinitialization: which weights are replaced, by a utility and a rule, and what takes their place."""

from collections.abc import Mapping
from itertools import product

import torch
from torch import Tensor

from funcbio._checks import POSITIVE, SHARE
from funcbio.base import Number
from funcbio.engine._kernel import Draw, Kernel
from funcbio.engine._statistics import total
from funcbio.mechanisms._fresh import fresh, index_draw
from funcbio.mechanisms._order import lowest
from funcbio.rng import NORMAL, UNIFORM
from funcbio.tensors._arithmetic import signed

NAME = "rejuvenate_weights"
FRACTION = {"fraction": SHARE}
UTILITIES = ("|w|", "|g w|", "random")
RULES = ("probability", "threshold", "proportional")
NEWBORNS = ("lognormal", "uniform", "swr")


def chosen(
    use: Tensor, among: Tensor, unit: Tensor, one: Tensor, rule: str, *, strength: Number, fraction: Number
) -> Tensor:
    """Returns a mask of the weights of little use, ``among`` those that exist and are finite.

    ``unit`` and the single number ``one`` are uniform.
    """
    if rule == "proportional":  # The remainder of the count is a chance; float64, so that no layer is too large.
        wanted = torch.as_tensor(fraction).double() * among.sum() + one.reshape(()).double()
        return lowest(use, torch.floor(wanted), among)
    number, use = among.sum().clamp_min(1), torch.where(among, use, 0.0)
    use = use / torch.where(total(use.square()).isfinite(), 1.0, use.amax())  # So that no sum overflows.
    mean = total(use) / number
    if rule == "threshold":
        return (use <= fraction * mean) & among
    spread = (total(torch.where(among, use - mean, 0.0).square()) / number).sqrt()
    return (-torch.log1p(-unit) * spread > strength * use) & among


def newborn(weight: Tensor, among: Tensor, given: Mapping[str, Tensor], kind: str) -> Tensor:
    """Returns a new value for every weight of a layer, of either sign."""
    if kind == "swr":
        return fresh(given["start"], given["index"])
    size = torch.where(among, weight, 0.0).abs()
    top, number = size.amax(), among.sum()
    if kind == "uniform":
        return top * (2.0 * given["coin"] - 1.0)
    size = size / torch.where(top > 0.0, top, 1.0)  # So that no square overflows.
    mean = (total(size) / number.clamp_min(1)).clamp_min(1e-15)
    variance = total(torch.where(among, size - mean, 0.0).square()) / (number - 1).clamp_min(1)
    log_variance = torch.log1p(variance / mean**2)
    magnitude = torch.exp(torch.log(mean) - 0.5 * log_variance + torch.sqrt(log_variance) * given["noise"])
    return torch.copysign(magnitude.clamp_max(1.0) * top, given["coin"] - 0.5)


def _kernel(kind: str, utility: str, rule: str) -> Kernel:
    reads = ["weight", "sign?", "mask?"] + ["grad"] * (utility == "|g w|") + ["start"] * (kind == "swr")
    draws = {
        "unit": Draw(f"{NAME}/unit", UNIFORM),
        "one": Draw(f"{NAME}/one", UNIFORM, "one"),
        **({"use": Draw(f"{NAME}/use", UNIFORM)} if utility == "random" else {}),
        **({"index": index_draw(NAME, "rate")} if kind == "swr" else {"coin": Draw(f"{NAME}/coin", UNIFORM)}),
        **({"noise": Draw(f"{NAME}/noise", NORMAL)} if kind == "lognormal" else {}),
    }
    names = [*(name.removesuffix("?") for name in reads), *draws]

    def reinitialize(*tensors: Tensor | None, strength: Number, fraction: Number) -> tuple[Tensor, Tensor]:
        given: dict[str, Tensor] = dict(zip(names, tensors, strict=True))  # pyright: ignore[reportAssignmentType]
        weight, sign, mask = given["weight"], given["sign"], given["mask"]
        if not weight.numel():
            return weight, weight.bool()
        use = {"|w|": weight, "|g w|": weight * given.get("grad", weight), "random": given.get("use", weight)}[utility]
        exists = torch.ones_like(weight, dtype=torch.bool) if mask is None else mask > 0.0
        among = exists & weight.isfinite() & use.isfinite()
        lost = chosen(use.abs(), among, given["unit"], given["one"], rule, strength=strength, fraction=fraction)
        lost = lost | (exists & ~weight.isfinite())
        grown = newborn(weight, exists & weight.isfinite(), given, kind)
        return torch.where(lost, signed(grown, sign), weight), lost

    return Kernel(
        reinitialize,
        tuple(reads),
        ("weight", "replaced"),
        tuple(draws.values()),
        marks=("rate", "start") if kind == "swr" else ("rate",),
        limits={"strength": POSITIVE, **FRACTION},
        by_leaf=True,
        elementwise=False,
    )


KERNELS = {(kind, use, rule): _kernel(kind, use, rule) for kind, use, rule in product(NEWBORNS, UTILITIES, RULES)}
