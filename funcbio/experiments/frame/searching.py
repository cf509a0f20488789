"""A search for several numbers at once that gives every method as many candidates, however many numbers it has."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations, islice, product
from typing import NamedTuple

Point = tuple[float, ...]
"""Powers of ten, one for each number."""


class Span(NamedTuple):
    """Describes the range in which one number is searched, in powers of ten, and where the search starts."""

    start: float
    low: float
    high: float


CANDIDATES = 12
"""Candidates in a round."""

MORE_ROUNDS = 3
"""Rounds in addition, at most, until the best candidate is inside."""

FINALISTS = 4
"""Candidates that are run again, with seeds that decide."""

MOVES = ((0.5, 1), (1.0, 1), (0.5, 2), (0.25, 1), (0.25, 2), (0.125, 1))
"""Moves from a good candidate, in this order: distance in powers of ten, and how many numbers move at once."""


def explore(spans: Sequence[Span], evaluate: Callable[[list[Point]], list[float]], rounds: int) -> dict[Point, float]:
    """Tries candidates in rounds, each from the best so far; adds rounds while the best is not inside."""
    scores: dict[Point, float] = {}
    for count in range(rounds + MORE_ROUNDS):
        if count >= rounds and is_inside(ranked(scores)[0], scores, spans):
            break
        points = list(islice(proposals(scores, spans), CANDIDATES))
        scores |= zip(points, evaluate(points), strict=True)
    return scores


def finalists(scores: Mapping[Point, float], spans: Sequence[Span]) -> list[Point]:
    """Returns the best candidates that are inside, or the best of all if there are too few."""
    best = ranked(scores)
    inside = [point for point in best if is_inside(point, scores, spans)]
    return list(dict.fromkeys([*inside, *best]))[:FINALISTS]


def ranked(scores: Mapping[Point, float]) -> list[Point]:
    """Returns the candidates, best first."""
    return sorted(scores, key=scores.__getitem__, reverse=True)


def is_inside(point: Point, scores: Mapping[Point, float], spans: Sequence[Span]) -> bool:
    """Returns True if smaller and larger values of each number were tried, or are beyond its limit."""
    for value, span, tried in zip(point, spans, zip(*scores, strict=True), strict=True):
        if not (min(tried) < value or value == span.low) or not (max(tried) > value or value == span.high):
            return False
    return True


def proposals(scores: Mapping[Point, float], spans: Sequence[Span]) -> Iterator[Point]:
    """Yields candidates that were not tried: moves from the best one, the second best, ..., then from these."""
    points = ranked(scores)
    if not points:
        points.append(tuple(span.start for span in spans))
        yield points[0]
    seen = set(points)
    for point in points:  # Grows on the way.
        for moved in moves(point, spans):
            if moved not in seen:
                seen.add(moved)
                points.append(moved)
                yield moved


def moves(point: Point, spans: Sequence[Span]) -> Iterator[Point]:
    """Yields candidates around one, within the limits."""
    for distance, count in MOVES:
        for places in combinations(range(len(point)), count):
            for signs in product((1.0, -1.0), repeat=count):
                by = {place: distance * sign for place, sign in zip(places, signs, strict=True)}
                yield tuple(
                    min(max(value + by.get(place, 0.0), span.low), span.high)
                    for place, (value, span) in enumerate(zip(point, spans, strict=True))
                )
