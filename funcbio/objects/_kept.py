"""All parameters of a model, layers and others, and what mechanisms keep for them."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from funcbio._checks import is_real
from funcbio.anatomy._synapses import Synapse
from funcbio.base import KEPT, Key
from funcbio.bio_config import BioConfig
from funcbio.functional._keep import keep_fields, needed_by
from funcbio.mechanisms import Row
from funcbio.mechanisms._row import units_of
from funcbio.mechanisms._sparse import keep_masked
from funcbio.objects._buffers import CALLS, UNITS, places_of
from funcbio.objects._checks import check_gradient, check_method
from funcbio.objects._layer import BioLayer
from funcbio.tensors._sharding import is_distributed, local, shard_like


class Bare:
    """Stands for a parameter that holds no synapses, beside the layers of a model.

    It has what functions on trees ask of a layer.

    Args:
        name: Name of the parameter.
        owner: The module that owns it.
        layer: A layer of the model; its configuration and key serve for the parameter too.
    """

    records_activity = False

    def __init__(self, name: str, owner: nn.Module, layer: BioLayer) -> None:
        self.owner, self.layer = owner, layer
        self.synapse = Synapse(name, attribute=name.rpartition(".")[2], observable=False)
        self.fuzzy_learning_rate_parameters = torch.ones((), device=self.weight.device)

    @property
    def weight(self) -> nn.Parameter:
        """Returns the parameter."""
        return self.owner._parameters[self.synapse.attribute]  # pyright: ignore[reportReturnType]

    @property
    def config(self) -> BioConfig:
        """Returns the configuration of the layers."""
        return self.layer.config

    @property
    def key(self) -> Key:
        """Returns the key of a layer."""
        return self.layer.key

    @property
    def updates(self) -> Tensor:
        """Returns the counter of a layer."""
        return self.layer.updates

    @property
    def participates(self) -> bool:
        """Returns True if the parameter is trained."""
        return self.weight.requires_grad

    def get_parent(self) -> nn.Module:
        """Returns the module that owns the parameter."""
        return self.owner

    def has_gradient(self) -> bool:
        """Returns True if the parameter is trained and has a gradient."""
        return self.weight.requires_grad and self.weight.grad is not None

    def state_tensor(self, name: str) -> None:
        """Returns None: there is no state of a layer."""

    def tensors(self) -> list[Tensor]:
        """Returns all tensors that mechanisms may change."""
        return [
            one for one in (self.weight, self.weight.grad, *places_of([self])[0].buffers().values()) if one is not None
        ]


def check_part(part: Any, row: Row) -> None:
    """Raises RuntimeError if a mechanism cannot run on a layer or another parameter as it is."""
    if isinstance(part, BioLayer):
        check_method(part, row)
    elif row.needs_grad:
        check_gradient(part)


def bare_parameters(model: nn.Module, layers: Sequence[BioLayer]) -> list[Bare]:
    """Returns the parameters of a model that no layer treats, trained or not, each once."""
    seen = {id(bio.weight) for bio in layers}
    found = []
    for path, module in model.named_modules():
        for attribute, parameter in module._parameters.items():
            new = parameter is not None and is_real(parameter) and id(parameter) not in seen
            if new and layers and not isinstance(module, BioLayer) and parameter is not None:
                seen.add(id(parameter))
                found.append(Bare(f"{path}.{attribute}".lstrip("."), module, layers[0]))
    return found


def trained_parts(model: nn.Module, layers: Sequence[BioLayer]) -> list[Any]:
    """Returns the layers of a model that are treated, and its other parameters that are trained."""
    return [part for part in (*layers, *bare_parameters(model, layers)) if part.participates]


@torch.no_grad()
@torch.inference_mode(False)  # What is made within that mode could not be changed outside.
def keep(parts: Sequence[Any], rows: Iterable[Row], config: BioConfig) -> list[tuple[nn.Module, str]]:
    """Makes what mechanisms have to keep, where it is not there yet; connections that a mask leaves out become zero.

    Args:
        parts: The layers of a model and its other parameters.
        rows: The mechanisms.
        config: The configuration.

    Returns:
        The modules and names of the buffers that were made.

    Raises:
        ValueError: If a parameter is in shards, and a mechanism has to see it whole.
    """
    rows = [*rows]
    require_whole(parts, rows, config)
    names = needed_by(rows, config)
    if not names or not parts:
        return []
    params = {bio.synapse.weight: bio.weight.detach() for bio in parts}
    synapses = {bio.synapse.weight: bio.synapse for bio in parts if isinstance(bio, BioLayer) and bio.participates}
    made = keep_fields(
        params, names, key=local(parts[0].key).clone(), config=config, synapses=synapses, units=units_of(rows)
    )
    new = []
    for place in places_of(parts):
        owner, weight, mask = place.owner, place.weight, place.buffer_name("mask")
        buffers = {place.buffer_name(field): made[field][place.name] for field in made if field in KEPT}
        of_units = {
            f"{UNITS}{field}_{place.attribute}": tree.get(place.name) for field, tree in made.get("units", {}).items()
        }
        buffers |= {name: value for name, value in of_units.items() if value is not None}
        counters = {f"{CALLS}{one}": count.to(weight.device) for one, count in made.get("calls", {}).items()}
        for buffer, value in {**buffers, **counters}.items():
            if buffer not in owner._buffers and (value.ndim or buffer.startswith(CALLS)):
                whole = buffer.startswith(UNITS)
                owner.register_buffer(buffer, value.clone() if whole else _laid_out(value, weight))
                new.append((owner, buffer))
        if (owner, mask) in new:
            weight.detach().copy_(keep_masked(weight, owner._buffers[mask]))  # pyright: ignore[reportArgumentType]
    return new


def require_whole(parts: Sequence[Any], rows: Iterable[Row], config: BioConfig) -> None:
    """Raises ValueError if a parameter is in shards, and a mechanism has to see it whole."""
    sharded = next((bio.synapse.weight for bio in parts if is_distributed(bio.weight)), None)
    for row in rows if sharded is not None else ():
        kernels = row.kernels(**row.configured(config))
        if row.by_unit or any(kernel.by_leaf and not kernel.elementwise for kernel in kernels):
            raise ValueError(f"{row.name} should see whole parameters; found {sharded} in shards")


def _laid_out(value: Tensor, weight: Tensor) -> Tensor:
    shards = value.ndim > 0 and is_distributed(weight) and not is_distributed(value)
    return shard_like(value, weight) if shards else value.clone()


def forget(made: Iterable[tuple[nn.Module, str]]) -> None:
    """Takes off buffers that ``keep`` made."""
    for module, name in made:
        module._buffers.pop(name, None)
        module._non_persistent_buffers_set.discard(name)
