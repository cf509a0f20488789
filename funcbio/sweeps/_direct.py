"""A compiled step called directly: torch's checks before every call take longer than the step of a small network."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from funcbio.sweeps._flat import Flat
from funcbio.sweeps._modes import STACKS

CHECKED_EVERY = 1000
"""Steps after which torch checks again; it also does after whatever may run code of the user's, such as a metric."""


class Call(NamedTuple):
    """Holds a call of what the compiler made: the function, the tensors it was given, and those it returned."""

    run: Callable[..., Any]
    arguments: Sequence[Any]
    results: Sequence[Any]


@dataclass(frozen=True)
class Direct:
    """Calls what the compiler made on a list of tensors.

    Attributes:
        run: What the compiler made.
        reads: For each argument its position among the leaves, batch, keys and constants.
        writes: Positions of the leaves that change, and of their new values among the results.
        loss: Position of the loss among the results.
        looks: Sizes and types of all leaves, before and after.
        inputs: Those of batch and keys.
        around: Settings of torch that it was made under.
        identities: Identities of the constants.
        constants: Tensors that it reads besides, such as the data.
    """

    run: Callable[..., Any]
    reads: tuple[int, ...]
    writes: tuple[tuple[int, int], ...]
    loss: int
    looks: tuple[Any, ...]
    inputs: tuple[Any, ...]
    around: tuple[Any, ...]
    identities: tuple[int, ...]
    constants: tuple[Tensor, ...] = field(compare=False)

    def fits(self, flat: Flat, inputs: Sequence[Tensor]) -> bool:
        """Returns True if nothing that torch would check can have changed since it did."""
        return (
            0 <= flat.unchecked < CHECKED_EVERY
            and flat.looks == self.looks
            and tuple(map(look, inputs)) == self.inputs
            and surroundings() == self.around
        )

    def __call__(self, flat: Flat, inputs: Sequence[Tensor]) -> Tensor:
        """Makes a step: replaces leaves, and returns the loss."""
        leaves = flat.ahead()
        everything = [*leaves, *inputs, *self.constants]
        results = self.run(*[everything[position] for position in self.reads])
        for position, result in self.writes:
            leaves[position] = results[result]
        return results[self.loss]


def direct(call: Call, before: Sequence[Any], after: Sequence[Any], inputs: Sequence[Tensor], loss: Any) -> Any:
    """Finds out which tensors of a call were which.

    Args:
        call: The call that a compiled step made.
        before: Leaves that the step was given.
        after: Leaves that it left.
        inputs: Batch and keys.
        loss: What it returned as loss.

    Returns:
        The step as a direct call; None unless each tensor is found once, and none is computed for anything else.
    """
    given, results = [*before, *inputs], {id(result): at for at, result in enumerate(call.results)}
    if not all(isinstance(tensor, Tensor) for tensor in (*given, *call.arguments, *call.results)):
        return None
    places = {id(tensor): at for at, tensor in enumerate(given)}
    constants = {id(tensor): tensor for tensor in call.arguments if id(tensor) not in places}
    changed = [at for at, (old, new) in enumerate(zip(before, after, strict=True)) if old is not new]
    sources = [results.get(id(tensor), -1) for tensor in (*(after[at] for at in changed), loss)]
    looks = tuple(map(look, before))
    if len(places) < len(given) or sorted(sources) != [*range(len(call.results))] or looks != tuple(map(look, after)):
        return None
    places |= {identity: len(given) + at for at, identity in enumerate(constants)}
    return Direct(
        call.run,
        tuple(places[id(tensor)] for tensor in call.arguments),
        tuple(zip(changed, sources, strict=False)),
        sources[-1],
        looks,
        tuple(map(look, inputs)),
        surroundings(),
        tuple(constants),
        tuple(constants.values()),
    )


def look(tensor: Tensor) -> tuple[Any, ...]:
    """Returns what a compiled step relies on in a tensor."""
    return tensor.shape, tensor.stride(), tensor.dtype, tensor.device, tensor.requires_grad, type(tensor)


def surroundings() -> tuple[Any, ...]:
    """Returns the settings of torch that a compiled step relies on."""
    return (
        torch.get_num_threads(),
        torch.get_default_dtype(),
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.is_autocast_enabled("cpu"),
        torch.is_autocast_enabled("cuda"),
        torch.are_deterministic_algorithms_enabled(),
        torch.get_float32_matmul_precision(),
        *(len(modes()) for modes, _ in STACKS),
    )
