"""Arguments of the figures: numbers of any kind as arrays, and the steps they belong to."""

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from torch import Tensor

from funcbio._checks import brief, require
from funcbio._optional import import_extra

if TYPE_CHECKING:
    from numpy import ndarray

extra = partial(import_extra, extra="monitor")


def array_of(name: str, values: Any) -> "ndarray":
    """Returns numbers as an array of float64; tensors of any device and type too."""
    if isinstance(values, Tensor):
        values = values.detach().cpu().double()
    try:
        return extra("numpy").asarray(values, dtype=float)
    except (TypeError, ValueError):
        raise ValueError(f"{name} should be a tensor, array or list of numbers; found {brief(values)}") from None


def arrays_of(name: str, values: Any) -> "dict[str, ndarray]":
    """Returns named numbers as flat arrays.

    Raises:
        ValueError: If there are no names, or no numbers to a name, or one is not finite.
    """
    require(name, values, "a mapping of names to numbers", isinstance(values, Mapping) and len(values) > 0)
    arrays = {key: array_of(f"{name}[{key!r}]", numbers).ravel() for key, numbers in values.items()}
    for key, array in arrays.items():
        finite = array.size > 0 and bool(extra("numpy").isfinite(array).all())
        require(f"{name}[{key!r}]", array, "one or more finite numbers", finite)
    return arrays


def extremes(arrays: "Mapping[str, ndarray]") -> tuple[float, float]:
    """Returns the smallest and the largest of all numbers."""
    low, high = (float(end(end(array) for array in arrays.values())) for end in (min, max))
    return low, high


def steps_of(steps: Sequence[float] | None, number: int) -> list[float]:
    """Returns the steps that values belong to; counted from 0 if None."""
    if steps is None:
        return [*range(number)]
    numbers = list(steps)
    rising = all(first < second for first, second in pairwise(numbers))
    require("steps", steps, f"{number} rising numbers", len(numbers) == number and rising)
    return numbers
