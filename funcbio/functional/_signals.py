"""Signals of units: what each sends to the layers that it feeds, on average over examples and positions."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from funcbio.anatomy._units import Units
from funcbio.base import BioState
from funcbio.functional._replicas import outlives, replicas, summed
from funcbio.mechanisms._continual_backprop import center
from funcbio.mechanisms._renew import FIXED
from funcbio.mechanisms._unit_fields import NEW, RECORDED
from funcbio.tensors._outputs import first_input, parts

RUNNING = ("mean", "variance")
"""Roles of running statistics, which are buffers of norms."""
Center = Callable[[str, Tensor], Tensor]
"""Returns, for a population and the mean of its units in this call, the value that deviations are measured from."""


class Sums(NamedTuple):
    """Holds sums over all that units have sent: magnitudes, values, deviations, and how many there were."""

    magnitude: Tensor
    value: Tensor
    deviation: Tensor
    number: Tensor

    def plus(self, other: "Sums") -> "Sums":
        """Returns the sums over both."""
        return Sums(*(one + further for one, further in zip(self, other, strict=True)))

    def means(self) -> dict[str, Tensor]:
        """Returns the means, by the name of the field of ``state.units``; nan for units that were not seen."""
        return {name: total / self.number for name, total in zip(RECORDED, self[:3], strict=True)}


class Signals(NamedTuple):
    """Holds what one call of a model showed: the activity of its layers, and the signals of its units.

    Attributes:
        activity: Tree shaped like the parameters, as ``observe`` returns it without units.
        units: For every field that is recorded, a dictionary of tensors by population.
    """

    activity: Any
    units: Mapping[str, Mapping[str, Tensor]]

    def into(self, state: BioState) -> BioState:
        """Returns a state whose units have these signals, in the fields that it keeps."""
        kept: Any = state.units or {}  # A model without a unit that could be replaced keeps none.
        new = {name: {**tree, **self.units.get(name, {})} for name, tree in kept.items()}
        return state._replace(units=new) if new else state


def centered(state: Any, decay: float, name: str, mean: Tensor) -> Tensor:
    """Returns the running mean of units that a state keeps, with this batch; this batch's mean if it keeps none."""
    fields = state.units or {}
    running, age = (fields.get(field, {}).get(name) for field in ("unit_mean", "unit_age"))
    return mean if running is None or age is None else center(mean, running, age, decay)


class Reader(NamedTuple):
    """Describes how the units of a population are read at the input of a module.

    Attributes:
        population: Name of the population.
        size: How many units it has.
        channels: The channels that carry one of its units, each alone or in a sum.
        owner: That unit, for each of them.
        dim: The dimension of the channels.
    """

    population: str
    size: int
    channels: Tensor
    owner: Tensor
    dim: int

    def __call__(self, x: Tensor, center: Center | None = None, *, deviates: bool = True) -> Sums:
        """Adds up what the units send, in float32 at least; deviations are from the mean if there is no center.

        They are 0 where they are not asked for, as they take a second pass.
        """
        x = x.detach().movedim(self.dim, 0)
        x = x.flatten(1) if x.ndim > 1 else x.unsqueeze(1)  # An example without a batch.
        x = x.to(torch.promote_types(x.dtype, torch.float32))[self.channels.to(x.device)]
        owner, zeros = self.owner.to(x.device), x.new_zeros(self.size)

        def per_unit(values: Tensor) -> Tensor:
            return zeros.index_add(0, owner, values)

        count = zeros.index_add(0, owner, x.new_full((len(owner),), float(x.shape[1])))
        value = per_unit(x.sum(1))
        magnitude = per_unit(x.abs().sum(1))
        if not deviates:
            return Sums(magnitude, value, zeros, count)
        around = value / count if center is None else center(self.population, value / count).to(x.dtype)
        return Sums(magnitude, value, per_unit((x - around[owner].unsqueeze(1)).abs().sum(1)), count)


def readers(model: nn.Module, units: Units) -> list[tuple[nn.Module, list[Reader]]]:
    """Returns the modules of a model at whose inputs units can be read, and how."""
    found: dict[str, list[Reader]] = {}
    for population in units.populations:
        for edge in population.edges:
            channels = (edge.owner >= 0).nonzero().flatten()
            if edge.readable and channels.numel():
                dim = 1 - model.get_parameter(edge.weight).ndim
                one = Reader(population.name, population.size, channels, edge.owner[channels], dim)
                found.setdefault(edge.weight, []).append(one)
    return [(model.get_submodule(weight.rpartition(".")[0]), several) for weight, several in found.items()]


def read(
    seen: dict[str, Sums], several: Sequence[Reader], x: Any, center: Center | None, *, deviates: bool = True
) -> None:
    """Adds what arrives at a module to what was seen."""
    for part in parts(x) if isinstance(x, Tensor) else ():
        for reader in several:
            sums, before = reader(part, center, deviates=deviates), seen.get(reader.population)
            seen[reader.population] = sums if before is None else before.plus(sums)


def means_of(seen: Mapping[str, Sums]) -> dict[str, dict[str, Tensor]]:
    """Returns the means of what was seen, by field and population."""
    means = {name: sums.means() for name, sums in seen.items()}
    return {field: {name: one[field] for name, one in means.items()} for field in RECORDED}


def statistics_of_new(units: Units | None, state: Any, buffers: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns buffers of a model, those of norms with the running statistics of new units where these were replaced."""
    changed = dict(buffers)
    for population in () if units is None else units.populations:
        new = (state.units or {}).get(NEW, {}).get(population.name)
        if new is None:
            continue
        for part in population.parts:
            if part.role in RUNNING and part.name in changed:
                old = changed[part.name]
                changed[part.name] = torch.where(part.spread(new, old.shape), FIXED[part.role], old)
    return changed


def pooled(seen: Mapping[str, Sums], sizes: Mapping[str, int], group: Any) -> dict[str, Sums]:
    """Returns the sums over what all processes have seen, also of populations that this one has not."""
    device = next(iter(seen.values())).value.device
    empty = {name: torch.zeros(4, size, device=device) for name, size in sizes.items()}
    rows = {name: torch.stack([*seen[name]]) if name in seen else empty[name] for name in sizes}
    return {name: Sums(*row) for name, row in summed(rows, group).items()}


class Recorder:
    """Records the signals of a model's units while it is trained; evaluation does not count.

    Replicas of DistributedDataParallel pool what they have seen, so that all find the same means. What ``vmap`` and
    tracers run is not recorded: its numbers do not outlive the call.

    Args:
        model: The model.
        units: The table of its units.
        center: What deviations are measured from.
        deviates: Whether they are measured at all.
    """

    def __init__(self, model: nn.Module, units: Units, center: Center | None = None, *, deviates: bool = True) -> None:
        self.center, self.deviates = center, deviates
        self.seen: dict[str, Sums] = {}
        self.replicas: Any = None
        found = readers(model, units)
        self.sizes = {one.population: one.size for _, several in found for one in several}
        self.hooks = [
            module.register_forward_pre_hook(partial(self._record, several), with_kwargs=True)
            for module, several in found
        ]

    def _record(self, several: Sequence[Reader], module: nn.Module, args: Any, kwargs: Any) -> None:
        if module.training:  # Asked here, evaluation compiles and exports as a whole.
            self._note(several, args, kwargs)

    @torch._disable_dynamo  # pyright: ignore[reportPrivateImportUsage]
    def _note(self, several: Sequence[Reader], args: Any, kwargs: Any) -> None:
        x = first_input(args, kwargs)
        recomputed = torch._C._current_graph_task_id() != -1  # By checkpointing, in a backward pass.
        if not recomputed and outlives(x):
            read(self.seen, several, x, self.center, deviates=self.deviates)
            self.replicas = (replicas() or self.replicas) if self.seen else None

    def take(self) -> dict[str, dict[str, Tensor]]:
        """Returns the means since the last time, by field and population, and begins anew."""
        seen, replicas = self.seen, self.replicas
        self.seen, self.replicas = {}, None
        return means_of(seen if replicas is None else pooled(seen, self.sizes, replicas))

    def __getstate__(self) -> dict[str, Any]:
        """Leaves the group of processes out of copies and pickles, which have none."""
        return {**vars(self), "replicas": None}

    def remove(self) -> None:
        """Takes the hooks off the model."""
        for hook in self.hooks:
            hook.remove()
        self.hooks.clear()
