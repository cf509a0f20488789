"""Checks of a layer before a method runs on it: all of them come before anything is changed."""

from collections.abc import Iterable
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from funcbio._checks import is_real, shown
from funcbio.anatomy._choice import is_scripted
from funcbio.anatomy._synapses import Synapse, is_treated, require_layout
from funcbio.bio_config import BioConfig
from funcbio.engine._layers import broadcasts
from funcbio.mechanisms import Row, check_divides
from funcbio.tensors._overlap import overlaps_itself
from funcbio.tensors._sharding import is_distributed, same_everywhere

NO_GRADIENTS = "No gradients found for the weights"
FROZEN = "Weights do not require gradients"
NO_SIGN = "The signs are gone that the conversion gave"


class Layer(Protocol):
    """Describes the layers that the checks look at; a ``BioModule`` is one."""

    config: BioConfig
    synapse: Synapse
    fuzzy_learning_rate_parameters: Tensor
    key: Tensor

    @property
    def weight(self) -> Tensor:
        """Returns the layer's current weight."""
        ...

    @property
    def records_activity(self) -> bool:
        """Returns True if the layer counts its active outputs."""
        ...

    def named_buffers(self, *, recurse: bool) -> Iterable[tuple[str, Tensor]]:
        """Yields the buffers of the layer's state, with their names."""
        ...

    def state_tensor(self, name: str) -> Any:
        """Returns the buffer or parameter of that name in the layer's state; None if there is none."""
        ...


def check_method(layer: Layer, row: Row | None) -> None:
    """Raises if a method cannot run on a layer as it is; None stands for an unchecked method of a subclass."""
    if row is not None:
        check_configured(layer, row)
    check_shape(layer)
    if row is not None and reads_sign(layer, row) and layer.state_tensor("sign") is None:
        raise RuntimeError(f"{NO_SIGN} to {layer.synapse.weight}: convert the model again")
    _check_memory(layer)
    _check_buffers(layer)
    _check_sharding(layer)
    if row is not None and row.needs_grad:
        check_gradient(layer)


def reads_sign(layer: Layer, row: Row) -> bool:
    """Returns True if a method follows the signs of a layer."""
    step = row.step("", row.configured(layer.config)) if layer.config.apply_dales_principle else None
    return step is not None and "sign" in step.needs


def check_configured(layer: Layer, row: Row) -> None:
    """Raises if the configuration does not allow a method."""
    row.require(layer.config)
    if row.per_unit and row.requires is not None and not layer.synapse.observable:
        raise row.requires.error(row.requires.message)


def check_shape(layer: Layer) -> None:
    """Raises if the weight no longer has the shape of its rate factors."""
    expected, shape = tuple(layer.fuzzy_learning_rate_parameters.shape), tuple(layer.weight.shape)
    if shape != expected:
        raise RuntimeError(
            f"{layer.synapse.weight} should have the shape {expected} it was converted with; found {shape}: "
            "convert the model again"
        )


def check_output(layer: Layer, bias: object, output: object) -> None:
    """Raises if an output does not fit the layer as it was converted; ``bias`` is its current one."""
    check_shape(layer)
    leaf, gamma = layer.synapse.weight, layer.config.weight_splitting_Gamma
    if not isinstance(output, Tensor):
        raise RuntimeError(
            f"the layer of {leaf} should put out a tensor, to be counted and split; found {type(output).__name__}: "
            "leave it out by synapses="
        )
    if bias is not None and layer.synapse.bias is None and layer.synapse.splits(gamma):
        raise RuntimeError(
            f"the layer of {leaf} should have no bias, as when it was converted; found one: a norm that is folded into "
            "a layer that splits comes before the splitting; sum the weights before (funcbio.split_weights)"
        )


def _check_memory(layer: Layer) -> None:
    weight, rates, leaf = layer.weight, layer.fuzzy_learning_rate_parameters, layer.synapse.weight
    if not is_real(weight) or not is_real(rates) or weight.device != rates.device:
        raise RuntimeError(
            f"{leaf} and its rate factors should hold real floating-point numbers on one device; "
            f"found {shown(weight.detach())}, and {shown(rates)}"
        )
    if overlaps_itself(weight):
        raise RuntimeError(f"{leaf} should have memory for every element; found some that share theirs")


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


def check_gradient(layer: Layer) -> None:
    """Raises if the weight has no gradient that a method could write to."""
    weight, leaf = layer.weight, layer.synapse.weight
    if not weight.requires_grad:
        raise RuntimeError(f"{NO_GRADIENTS} of {leaf}: {FROZEN}")
    if weight.grad is None:
        raise RuntimeError(f"{NO_GRADIENTS} of {leaf}")
    if weight.grad.layout != torch.strided:
        raise RuntimeError(f"the gradient of {leaf} should be dense; found {weight.grad.layout}")
    if overlaps_itself(weight.grad):
        raise RuntimeError(f"the gradient of {leaf} should have memory for every element; found some that share theirs")


def check_layer(synapse: Synapse, layer: nn.Module, config: BioConfig) -> None:
    """Raises ValueError if a layer cannot be converted, or would be split and its output does not show its units."""
    if is_scripted(layer):
        raise ValueError(
            f"{synapse.weight} should belong to a module that can be converted; found {type(layer).__name__}, a "
            "program of torch.jit: leave it out by synapses="
        )
    fused = any(kind.__name__ == "_FusedModule" for kind in type(layer).__mro__)
    if fused and synapse.splits(config.weight_splitting_Gamma):
        raise ValueError(
            f"{synapse.weight} should belong to a layer that computes nothing else, to be split; found "
            f"{type(layer).__name__}, which is fused with what follows the layer"
        )


def check_weight(synapse: Synapse, weight: Tensor, config: BioConfig) -> None:
    """Raises ValueError if a layer has no memory of its own, or not the units that the configuration needs."""
    if weight.is_meta:
        raise ValueError(f"{synapse.weight} should hold numbers; found a meta tensor: convert after to_empty()")
    if overlaps_itself(weight):
        raise ValueError(f"{synapse.weight} should have memory for every element; found some that share theirs")
    if config.apply_dales_principle and not synapse.readout and is_treated(synapse, weight):
        require_layout(synapse, "apply_dales_principle")
    if synapse.observable and synapse.splits(config.weight_splitting_Gamma):
        check_divides(config.weight_splitting_Gamma, synapse.post_units(weight.shape), synapse.weight)
