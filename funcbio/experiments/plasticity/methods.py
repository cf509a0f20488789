"""The methods compared: each is a rule, the learning rate, and its own numbers; all of them are searched."""

from dataclasses import dataclass

from funcbio.experiments.frame.searching import Span


@dataclass(frozen=True)
class Method:
    """Describes one way to learn.

    Attributes:
        name: Its name in tables and figures.
        knobs: Names of its numbers beside the learning rate.
        rates: Where rate factors act: "gradient", "update" or None.
        crystallizes: Whether crystallization lowers rate factors.
        upkeep: The treatment of the weights every few steps: "shrink", "rejuvenate", "turn over" or None.
        beside: Name of the method that it adds something to.
    """

    name: str
    knobs: tuple[str, ...] = ()
    rates: str | None = None
    crystallizes: bool = False
    upkeep: str | None = None
    beside: str | None = None

    @property
    def numbers(self) -> tuple[str, ...]:
        """Returns the names of all of its numbers."""
        return ("lr", *self.knobs)


PLAIN = "plain"
LEARNING_RATES = {"sgd": Span(-1.0, -6.0, 2.0), "adam": Span(-2.5, -6.0, 2.0)}
OPTIMIZERS = tuple(LEARNING_RATES)
BENCHMARKS = ("permuted", "shuffled")

SPANS = {
    "decay": Span(-3.5, -7.0, 0.0),
    "pull": Span(-2.5, -7.0, 0.0),
    "shrink": Span(-3.0, -7.0, 0.0),
    "strength": Span(1.5, 0.0, 4.0),
    "floor": Span(-0.5, -2.0, 0.0),
    "nu": Span(-0.5, -2.0, 1.0),
}
"""Ranges of the search. Limits are so far out that the method does next to nothing there."""

START = "L2 to the start"

METHODS = (
    Method(PLAIN),
    Method("L2", ("decay",)),
    Method(START, ("pull",)),
    Method("shrink and perturb", ("shrink",), upkeep="shrink"),
    Method("rejuvenation", ("strength",), upkeep="rejuvenate"),
    Method(f"rejuvenation, {START}", ("strength", "pull"), upkeep="rejuvenate", beside=START),
    Method(f"random turnover, {START}", ("strength", "pull"), upkeep="turn over", beside=START),
    Method("crystallization", ("floor",), rates="update", crystallizes=True),
    Method("fuzzy rates, gradient", ("nu",), rates="gradient"),
    Method("fuzzy rates, update", ("nu",), rates="update"),
)


def methods_of(optimizer: str) -> tuple[Method, ...]:
    """Returns all methods for an optimizer, plain training first.

    A step of plain SGD is the gradient times the learning rate: where factors act makes no difference to it.
    """
    return tuple(method for method in METHODS if optimizer != "sgd" or method.rates != "gradient")


def method_named(name: str) -> Method:
    """Returns the method of that name."""
    return next(method for method in METHODS if method.name == name)


def spans_of(method: Method, optimizer: str) -> list[Span]:
    """Returns the ranges in which a method's numbers are searched."""
    return [LEARNING_RATES[optimizer], *(SPANS[knob] for knob in method.knobs)]


def value_of(power: float) -> float:
    """Returns the number of a power of ten, with two digits."""
    return float(f"{10.0**power:.2g}")


def is_limit(name: str, value: float) -> bool:
    """Returns True if a number is at a limit of its search."""
    return name in SPANS and value in (value_of(SPANS[name].low), value_of(SPANS[name].high))
