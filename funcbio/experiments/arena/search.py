"""The search for a method's numbers, the learning rate among them, on seeds that the results do not use."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from funcbio.experiments.arena.methods import Method, settings_of, spans_of
from funcbio.experiments.arena.settings import Settings
from funcbio.experiments.arena.tasks import Row
from funcbio.experiments.arena.training import shared, train
from funcbio.experiments.frame.searching import Point, explore, finalists

FIRST_SEED = 1000
"""First seed of the search; the results use smaller ones."""

WORST = -1e9
"""Score of a candidate of which a member diverged."""


def search(settings: Settings, row: Row, method: Method, optimizer: str, folder: Path) -> tuple[Point, dict[str, Any]]:
    """Returns the best candidate, and what was tried: the numbers of each with its mean over all blocks and seeds.

    Every method starts at the same learning rate and gets as many candidates, however many numbers it has; rounds are
    added while the best candidate is at the edge of what was tried.
    """
    spans, count = spans_of(method, optimizer), [0]
    seeds = range(FIRST_SEED, FIRST_SEED + settings.tuning_seeds)

    def evaluate(points: list[Point]) -> list[float]:
        count[0] += 1
        measured = train(settings, row, method, optimizer, points, list(seeds), folder / f"round-{count[0]}")
        return shared(lambda: [score(values, row.shown.sign) for values in measured.values])

    scores = explore(spans, evaluate, settings.rounds)
    best = finalists(scores, spans)[0]
    tried = [{**settings_of(method, point), "mean": row.shown.sign * value} for point, value in scores.items()]
    return best, {"tried": tried, "best": settings_of(method, best), "at_limit": at_limit(best, spans)}


def score(values: Sequence[Sequence[float]], sign: int) -> float:
    """Returns the mean over seeds and blocks, more being better; the worst one if a member diverged."""
    flat = [number for seed in values for number in seed]
    return sign * math.fsum(flat) / len(flat) if all(map(math.isfinite, flat)) else WORST


def at_limit(point: Point, spans: Sequence[Any]) -> list[int]:
    """Returns the positions of the numbers that are at a limit of their range."""
    return [at for at, (value, span) in enumerate(zip(point, spans, strict=True)) if value in (span.low, span.high)]
