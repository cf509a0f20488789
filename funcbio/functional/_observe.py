"""A model as a pure function that also returns the activity of every layer."""

from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from funcbio._checks import perhaps
from funcbio.anatomy._synapses import Choice, Holder, Synapse, holders
from funcbio.bio_config import BioConfig
from funcbio.functional._stateless import Stateless
from funcbio.mechanisms import check_divides, count_active, split_output

Buffers: TypeAlias = MutableMapping[str, Tensor]


def unit_dim(weight: Tensor) -> int:
    """Returns the dimension of the units in the output of a layer with this weight, counted from the end."""
    return 1 - weight.ndim


def observe(
    model: nn.Module, synapses: Choice = None, config: BioConfig | None = None
) -> Callable[..., tuple[Any, dict[str, Tensor]]]:
    """Turns a model into a pure function that returns its output and the activity of every layer.

    The function works inside vmap, grad and compile, and in several threads at once. Its activity is a tree shaped like
    ``params`` that adds up with ``state.activity`` (made with ``BioConfig(record_activity=True)``). Tied weights and
    shared layers stay tied: each is given once, under any of its names. State that the model keeps from call to call
    must be in buffers: anywhere else it may be lost, or leak into later calls.

    Args:
        model: Any module with synapses; it is copied, not changed.
        synapses: Which parameters are synapses; see ``funcbio.synapses``.
        config: Splits weights and counts activity as a converted model would; None only counts, and always.

    Returns:
        ``call(params, *args, buffers=None, **kwargs) -> (output, activity)``. ``buffers`` given are updated in
        place, as by ``torch.func.functional_call``; if None, the model's own are read and left alone. It raises
        ValueError if a tensor of the model is not given, and names it.

    Raises:
        ValueError: If the model holds no synapses, ``weight_splitting_Gamma`` does not divide a layer's units, or a
            tensor cannot be replaced, as those of scripted modules.

    Example:
        >>> net = torch.nn.Linear(3, 2)
        >>> output, activity = observe(net)(dict(net.named_parameters()), torch.ones(5, 3))
        >>> activity["weight"].flatten()
        tensor([5, 5])
    """
    return Observed(model, synapses, config)


class Observed:
    """Runs a model as a pure function; made by ``observe``, see there."""

    def __init__(self, model: nn.Module, synapses: Choice, config: BioConfig | None) -> None:
        located = holders(model, synapses)
        for synapse, layer, _ in located:
            if config is not None and synapse.observable and synapse.splits(config.weight_splitting_Gamma):
                units = synapse.post_units(_weight(layer, synapse).shape)
                check_divides(config.weight_splitting_Gamma, units, synapse.weight)
        self.stateless = Stateless(model, located, partial(_watch, config))
        self.params = {self.stateless.names[name] for name, _ in model.named_parameters()}
        with torch.inference_mode(False):
            buffers = {name: buffer.detach().clone() for name, buffer in model.named_buffers()}
        self.buffers = {name: buffer for name, buffer in buffers.items() if self.stateless.names[name] == name}

    def __call__(
        self, params: Mapping[str, Tensor], *args: Any, buffers: Buffers | None = None, **kwargs: Any
    ) -> tuple[Any, dict[str, Tensor]]:
        """Returns the model's output and the activity of its layers."""
        with self.opened(params, buffers) as call:
            return call(*args, **kwargs)

    @contextmanager
    def opened(self, params: Mapping[str, Tensor], buffers: Buffers | None = None) -> Iterator[Callable[..., Any]]:
        """Keeps parameters and buffers in place within the context: also for a backward pass that runs layers again.

        Yields:
            ``call(*args, **kwargs) -> (output, activity)``.
        """
        used = {name: buffer.clone() for name, buffer in self.buffers.items()} if buffers is None else buffers
        names, by_name = self.stateless.names, self._by_first_name(params, used)

        def call(*args: Any, **kwargs: Any) -> tuple[Any, dict[str, Tensor]]:
            seen.clear()
            output = model(*args, **kwargs)
            silent = torch.zeros((), dtype=torch.int64)
            return output, {name: seen.get(names[name], silent) for name in params}

        with self.stateless.filled(by_name) as (model, seen, _):
            try:
                yield call
            finally:
                seen.clear()
        # Some models replace a buffer instead of writing to it.
        used.update({name: by_name[names[name]] for name in used})

    def remembers(self, params: Mapping[str, Tensor], buffers: Buffers, use: Callable[[nn.Module], Any]) -> bool:
        """Returns True if the model's output depends on earlier calls by more than its buffers."""
        return self.stateless.remembers(self._by_first_name(params, buffers), use)

    def _by_first_name(self, params: Mapping[str, Tensor], buffers: Buffers) -> dict[str, Tensor]:
        """Returns every tensor of the model by its first name."""
        names = self.stateless.names
        by_name: dict[str, Tensor] = {}
        for part, tensors in (("params", params), ("buffers", buffers)):
            for name, tensor in tensors.items():
                if name not in names:
                    raise ValueError(f"{part} should hold tensors of the model{perhaps(name, names)}; found {name!r}")
                if by_name.setdefault(names[name], tensor) is not tensor:
                    raise ValueError(f"{part} should hold tied tensors once; found another one at {name!r}")
        for name in names.values():
            if name not in by_name:
                part = "params" if name in self.params else "buffers"
                raise ValueError(f"{part} should hold every tensor of the model; found none at {name!r}")
        return by_name


def _watch(config: BioConfig | None, located: Sequence[Holder]) -> dict[str, Tensor]:
    """Adds hooks that record activity and split outputs; returns the dictionary that they record in."""
    seen: dict[str, Tensor] = {}
    for synapse, layer, output_module in located:
        if synapse.observable and (config is None or config.records_activity):
            output_module.register_forward_hook(partial(_record, seen, synapse, layer))
        if config is not None and synapse.observable and synapse.splits(config.weight_splitting_Gamma):
            output_module.register_forward_hook(partial(_split, config, synapse, layer))
    return seen


def _record(
    seen: dict[str, Tensor], synapse: Synapse, layer: nn.Module, output_module: nn.Module, _: Any, output: Any
) -> None:
    weight = _weight(layer, synapse)
    output = output if output_module is layer else output[0]  # Attention also puts out its weights.
    count = synapse.along_post(count_active(output, dim=unit_dim(weight)), weight.shape)
    seen[synapse.weight] = seen[synapse.weight] + count if synapse.weight in seen else count


def _split(config: BioConfig, synapse: Synapse, layer: nn.Module, output_module: nn.Module, _: Any, output: Any) -> Any:
    activation, dim = config.weight_splitting_activation_function, unit_dim(_weight(layer, synapse))
    first, *rest = (output,) if output_module is layer else output
    first = split_output(first, config.weight_splitting_Gamma, activation=activation, dim=dim)
    return first if output_module is layer else (first, *rest)


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
