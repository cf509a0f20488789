"""Derivatives along the tags of a probe, forward, so that one pass is enough for what arrives everywhere."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from funcbio.anatomy._cut import Site
from funcbio.anatomy._probe import SEED, Probe, units_along


def derivatives(
    probe: Probe, chosen: Mapping[str, Tensor], starts: Mapping[str, int], sign: float
) -> tuple[list[Any], bool]:
    """Returns how what arrives changes with the chosen units of some populations.

    Returns:
        For every site two tangents of what arrives, with equal changes and with changes by the unit's number among
            all, counted from 1, None where nothing changes; and whether the output changes.
    """
    if not probe.smooth:
        return _without(probe, sign)
    numbers = {name: (starts[name] + 1.0 + torch.arange(len(one))) * one for name, one in chosen.items()}
    try:
        one, moved = _tangents(probe, {name: values.double() for name, values in chosen.items()}, sign)
    except NotImplementedError:
        probe.smooth = False
        probe.cut.note("a function without a forward derivative: units that do not arrive alone are not told apart")
        return _without(probe, sign)
    many, _ = _tangents(probe, numbers, sign)
    return [*zip(one, many, strict=True)], moved


def _without(probe: Probe, sign: float) -> tuple[list[Any], bool]:
    """Runs a model that has no derivatives."""
    probe.change = lambda _, tag, __: tag
    sites, *_ = probe.run(SEED, sign=sign)
    return [(None, None)] * len(sites), False


def _tangents(probe: Probe, values: Mapping[str, Tensor], sign: float) -> tuple[list[Any], bool]:
    """Returns how what arrives changes with the units of some populations, and whether the output does."""
    direction = torch.Generator().manual_seed(SEED + 1)

    def dual(site: Site, tag: Tensor, dim: int) -> Tensor:
        # Other changes at every place: the softmax of attention hides one that is the same everywhere.
        if site.source not in values:
            return tag
        noise = torch.randn(tag.shape, generator=direction, dtype=torch.float64).to(tag.device)
        return forward_ad.make_dual(tag, noise * units_along(values[site.source], site, tag, dim))

    probe.change = dual
    with forward_ad.dual_level():
        _, inputs, outputs = probe.run(SEED, sign=sign, shaken=sign < 0.0)  # A free offset may shut a gate.
        tangents = [None if x is None else forward_ad.unpack_dual(x).tangent for x in inputs]
        return tangents, any(_moves(forward_ad.unpack_dual(one).tangent) for one in outputs)


def _moves(tangent: Tensor | None) -> bool:
    return tangent is not None and bool((tangent != 0.0).any())
