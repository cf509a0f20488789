"""What a layer must be for a method to run on it: all of it looked at before anything is changed."""

from collections.abc import Iterable
from typing import Protocol

import torch
from torch import Tensor

from funcbio.bio_config import BioConfig
from funcbio.checks import is_real, shown
from funcbio.mechanisms import check_divides
from funcbio.sharding import is_distributed, local, same_everywhere
from funcbio.synapses import Synapse

NO_GRADIENTS = "No gradients found for the weights"
NO_DALE = "Can not enforce dales principle without apply_dales_principle set True"
NO_ACTIVITY = "No activity recorded: set record_activity=True in the configuration"


CONFIGURED = ("enforce_dales_principle", "scale_grad")
"""Methods that the configuration must allow."""


class Layer(Protocol):
    """What the checks look at; a ``BioModule`` is one."""

    config: BioConfig
    synapse: Synapse
    fuzzy_learning_rate_parameters: Tensor
    key: Tensor

    @property
    def weight(self) -> Tensor:
        """The layer's weight, as it is now."""
        ...

    @property
    def records_activity(self) -> bool:
        """Whether the layer counts its active outputs."""
        ...

    def named_buffers(self, *, recurse: bool) -> Iterable[tuple[str, Tensor]]:
        """State of the layer, by name."""
        ...

    def needs_grad(self, name: str) -> bool:
        """Whether a method makes no sense without a gradient."""
        ...


def check_method(layer: Layer, name: str) -> None:
    """Raises if a method cannot run on a layer as it is."""
    if name == "enforce_dales_principle" and not layer.config.apply_dales_principle:
        raise AttributeError(NO_DALE)
    if name == "scale_grad" and not layer.records_activity:
        raise RuntimeError(NO_ACTIVITY)
    check_shape(layer)
    _check_memory(layer)
    _check_buffers(layer)
    _check_sharding(layer)
    if layer.needs_grad(name):
        check_gradient(layer, name)


def check_shape(layer: Layer) -> None:
    """Raises if the weight no longer has the shape of its rate factors."""
    expected, found = tuple(layer.fuzzy_learning_rate_parameters.shape), tuple(layer.weight.shape)
    if found != expected:
        raise RuntimeError(
            f"{layer.synapse.weight} should have the shape {expected} it was converted with; found {found}: "
            "convert the model again"
        )


def _check_memory(layer: Layer) -> None:
    weight, rates, leaf = layer.weight, layer.fuzzy_learning_rate_parameters, layer.synapse.weight
    if not is_real(weight) or not is_real(rates) or weight.device != rates.device:
        raise RuntimeError(
            f"{leaf} and its rate factors should hold real floating-point numbers on one device; "
            f"found {shown(weight.detach())}, and {shown(rates)}"
        )
    if shares_memory(weight):
        raise RuntimeError(f"{leaf} should have memory for every element; found an expanded tensor")


def _check_buffers(layer: Layer) -> None:
    weight, leaf = layer.weight, layer.synapse.weight
    units = (layer.synapse.post_units(weight.shape),)
    for name, buffer in layer.named_buffers(recurse=False):
        fits = {
            "key": buffer.dtype == torch.int32 and buffer.shape == (2,),
            "updates": buffer.dtype == torch.int64 and buffer.ndim == 0,
            "activation_count": buffer.shape == units,
            "sign": buffer.ndim == 0 or broadcasts(buffer, weight),
        }
        if not fits.get(name, True) or buffer.device != weight.device:
            raise RuntimeError(f"{name} of {leaf} should be as the conversion made it; found {shown(buffer)}")


def broadcasts(values: Tensor, weight: Tensor) -> bool:
    """Whether a tensor has one element for each of the weight's, along some of its axes."""
    sizes = zip(values.shape, weight.shape, strict=False)
    return values.ndim == weight.ndim and all(one in (1, size) for one, size in sizes)


def _check_sharding(layer: Layer) -> None:
    rates, weight, leaf = layer.fuzzy_learning_rate_parameters, layer.weight, layer.synapse.weight
    if is_distributed(rates) and not is_distributed(weight):
        raise RuntimeError(
            f"{leaf} should be sharded as its rate factors are; found it gathered: call reshard() on the model"
        )
    if is_distributed(weight) and not is_distributed(rates) and not same_everywhere(layer.key, weight):
        raise RuntimeError(
            f"the key of {leaf} should be the same on every process; found different ones: give every process "
            "the same seed before it makes and converts the model"
        )


def check_gradient(layer: Layer, name: str) -> None:
    """Raises if the weight has no gradient that a method could write to."""
    weight, leaf = layer.weight, layer.synapse.weight
    if name == "crystallize" and not weight.requires_grad:
        raise RuntimeError("Weights do not require gradients")
    if weight.grad is None:
        raise RuntimeError(f"{NO_GRADIENTS} of {leaf}")
    if weight.grad.layout != torch.strided:
        raise RuntimeError(f"the gradient of {leaf} should be dense; found {weight.grad.layout}")
    if shares_memory(weight.grad):
        raise RuntimeError(f"the gradient of {leaf} should have memory for every element; found an expanded tensor")


def check_weight(synapse: Synapse, weight: Tensor, config: BioConfig) -> None:
    """Raises ValueError if a layer has no memory of its own, or would be split and its units make no whole groups."""
    if weight.is_meta:
        raise ValueError(f"{synapse.weight} should hold numbers; found a meta tensor: convert after to_empty()")
    if shares_memory(weight):
        raise ValueError(f"{synapse.weight} should have memory for every element; found an expanded tensor")
    if synapse.splits(config.weight_splitting_Gamma):
        check_divides(config.weight_splitting_Gamma, synapse.post_units(weight.shape), synapse.weight)


def shares_memory(tensor: Tensor) -> bool:
    """Whether elements of a tensor share memory, as in an expanded one: such a tensor cannot be written to."""
    part = local(tensor)
    return (
        part.layout == torch.strided
        and part.numel() > 0
        and any(size > 1 and step == 0 for size, step in zip(part.shape, part.stride(), strict=True))
    )
