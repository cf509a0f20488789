"""The questions that the arena was made for, each as pairs of methods that differ in one thing."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from funcbio.experiments.arena.methods import NEWBORN, NORM_DECAY
from funcbio.experiments.arena.results import PLACE, Run, beside, difference
from funcbio.experiments.frame.intervals import adjusted


class Contrast(NamedTuple):
    """Describes a pair of methods, and the question that their difference answers."""

    question: str
    method: str
    other: str


START = "L2 Init"
CONTRASTS = (
    Contrast("decay or L2 Init", START, "decay"),
    Contrast("decay or L2 Init", START, "coupled decay"),
    Contrast("weights or units", "selective", "continual backprop"),
    Contrast("weights or units", "selective", "ReDo"),
    Contrast("weights or units", "selective", "SNR"),
    Contrast("which weights", "selective", "random turnover"),
    Contrast("which weights", "rejuvenation", "random turnover"),
    Contrast("which weights", f"selective, {START}", f"random turnover, {START}"),
    Contrast("which weights", f"rejuvenation, {START}", f"random turnover, {START}"),
    Contrast("a pull to the start", f"rejuvenation, {START}", "rejuvenation"),
    Contrast("a pull to the start", f"selective, {START}", "selective"),
    Contrast("turnover on top", f"rejuvenation, {START}", START),
    Contrast("turnover on top", f"selective, {START}", START),
    Contrast("on top of LayerNorm, decay", "LayerNorm, decay, selective", NORM_DECAY),
    Contrast("on top of LayerNorm, decay", "LayerNorm, decay, continual backprop", NORM_DECAY),
    *(Contrast("newborn moments", method.name, method.name.rpartition(", ")[0]) for method in NEWBORN),
)


def contrasts(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Returns the difference of every pair wherever both were run, over all steps; q adjusted for all in the list."""
    found: list[dict[str, Any]] = []
    for contrast in CONTRASTS:
        for run in (one for one in runs if one["method"] == contrast.method):
            other = beside(runs, run, contrast.other)
            if other:
                place = {name: run[name] for name in PLACE}
                found.append({**contrast._asdict(), **place, **difference(run, other)})
    for one, q in zip(found, adjusted([one["p"] for one in found]), strict=True):
        one["q"] = q
    return found
