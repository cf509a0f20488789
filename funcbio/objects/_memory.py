"""Memory of the layers of one call: what a method writes belongs to nothing else that it looks at."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch

from funcbio.engine._layers import Step
from funcbio.tensors._overlap import Part, find_overlap, overlaps_itself, part_of

FIELDS = {
    "rate": "fuzzy_learning_rate_parameters",
    "sign": "sign",
    "activity": "activation_count",
    "updates": "updates",
    "key": "key",
}
"""Name of the buffer behind an operand of the state."""
TITLES = {
    "weight": "{}",
    "grad": "the gradient of {}",
    "rate": "the rate factors of {}",
    "sign": "the signs of {}",
    "activity": "the activity of {}",
    "updates": "the update counter of {}",
    "key": "the key of {}",
}


def check_apart(calls: Iterable[tuple[Any, Sequence[Step] | None]], *, on_update: bool = False) -> None:
    """Raises RuntimeError if what a call writes shares memory with anything else of its layers, or with itself.

    Args:
        calls: Layers, each with the steps that run on it; None where that may be anything.
        on_update: Whether the steps run around an optimizer's step: the update then lies where the weight lay.
    """
    if torch.compiler.is_compiling():
        return
    parts = [part for bio, steps in calls for part in _parts(bio, steps, on_update=on_update)]
    for part in parts:
        if part.written and overlaps_itself(part.tensor):
            raise RuntimeError(f"{_title(part)} should have memory for every element; found some that share theirs")
    overlap = find_overlap(parts)
    if overlap is not None:
        first, second = sorted(map(_title, overlap), key=lambda title: " of " in title)
        raise RuntimeError(f"{first} should have memory of its own; found it shared with {second}")


def _parts(bio: Any, steps: Sequence[Step] | None, *, on_update: bool) -> Iterator[Part]:
    """Yields the memory of every tensor that the steps read or write, and of the weight, gradient and rates."""
    written = _written(steps)
    seen = {"weight", "grad", "rate", *written} | frozenset().union(*(step.needs for step in steps or ()))
    if on_update:
        seen, written = seen - {"grad"}, written | {"weight"}
    weight = bio.weight
    for name in sorted(seen & TITLES.keys()):
        tensor = bio.state_tensor(FIELDS[name]) if name in FIELDS else {"weight": weight, "grad": weight.grad}[name]
        part = None if tensor is None else part_of(tensor, (name, bio.synapse.weight), written=name in written)
        if part is not None:
            yield part


def _written(steps: Sequence[Step] | None) -> frozenset[str]:
    """Returns the names of the operands that the steps change, or that the next forward pass changes."""
    if steps is None:
        return frozenset(TITLES) - {"sign"}
    names = {name for step in steps for name in step.kernel.writes}
    if any(step.kernel.draws for step in steps):
        names.add("key")
    if any(step.kernel.advances for step in steps):
        names.add("updates")
    if any("activity" in step.needs for step in steps):
        names.add("activity")
    return frozenset(names)


def _title(part: Part) -> str:
    name, leaf = part.name  # pyright: ignore[reportGeneralTypeIssues]
    return TITLES[name].format(leaf)
