"""A model as a pure function that also tells how active every layer was."""

import copy
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from funcbio.bio_config import BioConfig
from funcbio.mechanisms import check_divides, count_active, split_output
from funcbio.synapses import Choice, Synapse, holders


def unit_dim(weight: Tensor) -> int:
    """Dimension of the units in the output of a layer with this weight, counted from the end."""
    return 1 - weight.ndim


def observe(
    model: nn.Module, synapses: Choice = None, config: BioConfig | None = None
) -> Callable[..., tuple[Any, dict[str, Tensor]]]:
    """Turns a model into a pure function that returns its output and the activity of every layer.

    The function works inside vmap, grad and compile. Its activity is a tree shaped like ``params`` that adds
    up with ``state.activity`` (made with ``BioConfig(record_activity=True)``).

    Args:
        model: Any module with synapses; it is copied, not changed.
        synapses: Which parameters are synapses; see ``funcbio.synapses``.
        config: Splits weights and counts activity as a converted model would; None only counts, and always.

    Returns:
        ``call(params, *args, buffers=None, **kwargs) -> (output, activity)``. ``buffers`` given are updated in
        place, as by ``torch.func.functional_call``; if None, the model's own are read and left alone.

    Raises:
        ValueError: If the model holds no synapses, or ``weight_splitting_Gamma`` does not divide a layer's units.

    Example:
        >>> net = torch.nn.Linear(3, 2)
        >>> output, activity = observe(net)(dict(net.named_parameters()), torch.ones(5, 3))
        >>> activity["weight"].flatten()
        tensor([5, 5])
    """
    stateless = copy.deepcopy(model)
    own = {name: buffer.detach().clone() for name, buffer in model.named_buffers()}
    stateless.to("meta")
    seen: dict[str, Tensor] = {}
    for synapse, layer, speaker in holders(stateless, synapses):
        if synapse.observable and (config is None or config.records_activity):
            speaker.register_forward_hook(partial(_record, seen, synapse, layer))
        if config is not None and synapse.observable and synapse.splits(config.weight_splitting_Gamma):
            check_divides(
                config.weight_splitting_Gamma, synapse.post_units(_weight(layer, synapse).shape), synapse.weight
            )
            speaker.register_forward_hook(partial(_split, config, synapse, layer))

    def call(
        params: Mapping[str, Tensor], *args: Any, buffers: Mapping[str, Tensor] | None = None, **kwargs: Any
    ) -> tuple[Any, dict[str, Tensor]]:
        seen.clear()
        used = {name: buffer.clone() for name, buffer in own.items()} if buffers is None else buffers
        output = functional_call(stateless, {**params, **used}, args, kwargs)
        silent = torch.zeros((), dtype=torch.int64)
        activity = {name: seen.get(name, silent) for name in params}
        seen.clear()
        return output, activity

    return call


def _record(
    seen: dict[str, Tensor], synapse: Synapse, layer: nn.Module, speaker: nn.Module, _: Any, output: Any
) -> None:
    weight = _weight(layer, synapse)
    output = output if speaker is layer else output[0]  # Attention also puts out its weights.
    count = synapse.along_post(count_active(output, dim=unit_dim(weight)), weight.shape)
    seen[synapse.weight] = seen[synapse.weight] + count if synapse.weight in seen else count


def _split(config: BioConfig, synapse: Synapse, layer: nn.Module, speaker: nn.Module, _: Any, output: Any) -> Any:
    activation, dim = config.weight_splitting_activation_function, unit_dim(_weight(layer, synapse))
    first, *rest = (output,) if speaker is layer else output
    first = split_output(first, config.weight_splitting_Gamma, activation=activation, dim=dim)
    return first if speaker is layer else (first, *rest)


def _weight(layer: nn.Module, synapse: Synapse) -> Any:
    return getattr(layer, synapse.attribute)  # Under functional_call a plain tensor.


@torch.no_grad()
def run_once(model: nn.Module, x: Any) -> None:
    """Runs a model once for its activity, in evaluation mode so that nothing else of it changes.

    The mode is set without ``model.eval()``, which some models use for more, such as merging adapters into weights.
    """
    training = [module for module in model.modules() if getattr(module, "training", False)]
    try:
        for module in training:
            module.training = False
        model(x)
    finally:
        for module in training:
            module.training = True
