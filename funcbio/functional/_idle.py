"""Mechanisms and fields that would do nothing, and why: one ``IdleWarning`` each, where they are asked for."""

import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence

from torch.optim import Optimizer

from funcbio._checks import outside
from funcbio.anatomy._synapses import Synapse
from funcbio.base import IdleWarning, listed
from funcbio.bio_config import BioConfig
from funcbio.mechanisms import Row
from funcbio.mechanisms._placed import Mechanism

NORMALISING = ("Adam", "AdamW", "Adamax", "NAdam", "RAdam", "Adagrad", "Adadelta", "RMSprop", "Rprop", "Adafactor")
"""Optimizers whose step hardly changes, or not at all, if a weight's gradient is scaled by a constant."""


def normalises(optimizer: type) -> bool:
    """Returns True if constant factors on the gradient cancel in a class of optimizers, judged by its name."""
    return any(kind.__name__ in NORMALISING for kind in optimizer.__mro__)


def updating(optimizer: Optimizer) -> type[Optimizer]:
    """Returns the class of optimizers that makes the update: that of one within a wrapper, if its factors cancel."""
    within = [type(one) for one in vars(optimizer).values() if isinstance(one, Optimizer)]
    return next(filter(normalises, [type(optimizer), *within]), type(optimizer))


def warn(reasons: Iterable[str]) -> None:
    """Warns of every reason, at the user's line."""
    for reason in reasons:
        warnings.warn(reason, IdleWarning, stacklevel=outside())


def idle_mechanisms(mechanisms: Sequence[Mechanism], config: BioConfig, *, trained: int, optimizer: type) -> list[str]:
    """Returns why some mechanisms of a training step would do nothing.

    Args:
        mechanisms: Those that act together.
        config: Their configuration.
        trained: Number of weights with synapses that are trained, or named.
        optimizer: Class of the optimizer.
    """
    if mechanisms and not trained:
        names = [mechanism.name for mechanism in mechanisms]
        return [f"{listed(names)} should act on weights that are trained; found requires_grad=False on all of them"]
    reasons = [*_unapplied(mechanisms, config), _cancelled(mechanisms, optimizer)]
    reasons.extend(mechanism.idle(config) for mechanism in mechanisms)
    return [reason for reason in reasons if reason is not None]


def _unapplied(mechanisms: Sequence[Mechanism], config: BioConfig) -> list[str]:
    if any(mechanism.ours is None for mechanism in mechanisms):
        return []  # A function of the user's own may apply what the others change.
    rows = {one.name: one.ours for one in mechanisms if one.ours and not one.idle(config)}
    return unapplied(rows)


def unapplied(rows: Mapping[str, Row]) -> list[str]:
    """Returns which mechanisms, by name, change rates that none of them applies."""
    waiting: dict[str, list[str]] = {}
    for name, row in rows.items():
        if row.applied_by is not None and row.applied_by not in rows:
            waiting.setdefault(row.applied_by, []).append(name)
    return [
        f"{listed(names)} should be used with {applying}, which applies the rates that change; found no mechanism "
        "that does, so that they change nothing"
        for applying, names in waiting.items()
    ]


def _cancelled(mechanisms: Sequence[Mechanism], optimizer: type) -> str | None:
    names = [one.name for one in mechanisms if one.where == "gradient" and one.scales]
    return cancelled(names, optimizer, "where='gradient': leave where out")


def cancelled(names: Sequence[str], optimizer: type, found: str) -> str | None:
    """Returns why factors on gradients would do nothing under a class of optimizers; None if they would.

    Args:
        names: The mechanisms that multiply gradients by them.
        optimizer: The class.
        found: How they come to act on gradients, and what to do instead.
    """
    if not names or not normalises(optimizer):
        return None
    return (
        f"{listed(names)} should act on the update of {optimizer.__name__}, which divides by a norm of the "
        f"gradient, so that constant factors on it cancel; found {found}"
    )


def idle_fields(config: BioConfig, synapses: Collection[Synapse]) -> list[str]:
    """Returns which fields of a configuration would do nothing to a model with these synapses."""
    reasons = []
    gamma = config.weight_splitting_Gamma
    if gamma > 1 and not any(synapse.observable and synapse.splits(gamma) for synapse in synapses):
        reasons.append(
            f"weight_splitting_Gamma={gamma} should find a layer that can be split, which a read-out cannot, nor "
            "recurrent weights; found none"
        )
    if config.apply_dales_principle and all(synapse.readout for synapse in synapses):
        reasons.append("apply_dales_principle should find a layer that is no read-out; found none")
    if config.records_activity and not any(synapse.observable for synapse in synapses):
        field = "record_activity" if config.record_activity else "fuzzy_lr_distribution='activity'"
        reasons.append(f"{field} should find a layer whose output shows its units; found none")
    return reasons
