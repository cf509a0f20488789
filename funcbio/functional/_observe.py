"""A model as a pure function that also returns the activity of every layer."""

from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from funcbio._checks import kind_of, perhaps, require
from funcbio.anatomy._synapses import Choice, Holder, Synapse, holders
from funcbio.anatomy._units import Units
from funcbio.base import listed
from funcbio.bio_config import DEFAULT_BIO_CONFIG, BioConfig
from funcbio.functional._signals import Reader, Signals, centered, means_of, read, readers
from funcbio.functional._stateless import Stateless
from funcbio.mechanisms import check_divides, count_active, split_output
from funcbio.tensors._outputs import first_input

Buffers: TypeAlias = MutableMapping[str, Tensor]
SIGNALS, CENTER = " signals", " center"
"""Names, none of a weight, under which signals are recorded, and what deviations are measured from."""


def unit_dim(weight: Tensor) -> int:
    """Returns the dimension of the units in the output of a layer with this weight, counted from the end."""
    return 1 - weight.ndim


def observe(
    model: nn.Module, synapses: Choice = None, config: BioConfig | None = None, *, units: Units | None = None
) -> Callable[..., tuple[Any, Any]]:
    """Turns a model into a pure function that returns its output and the activity of every layer.

    The function works inside vmap, grad and compile, and in several threads at once. Its activity is a tree shaped like
    ``params`` that adds up with ``state.activity`` (made with ``BioConfig(record_activity=True)``). Tied weights and
    shared layers stay tied: each is given once, under any of its names. State that the model keeps from call to call
    must be in buffers: anywhere else it may be lost, or leak into later calls.

    Args:
        model: Any module with synapses; it is copied, not changed.
        synapses: Which parameters are synapses; see ``funcbio.synapses``.
        config: Splits weights and counts activity as a converted model would; None only counts, and always.
        units: The table of the model's units, from ``funcbio.units``: then their signals are recorded too.

    Returns:
        ``call(params, *args, buffers=None, **kwargs) -> (output, activity)``. With ``units`` it is
        ``(output, signals)``: ``signals.into(state)`` puts what the units sent into a state; give ``state=state`` for
        mechanisms that follow the units' running means, such as "continual_backprop". ``buffers`` given are updated in
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
    return Observed(model, synapses, config, units)


class Observed:
    """Runs a model as a pure function; made by ``observe``, see there."""

    def __init__(
        self, model: nn.Module, synapses: Choice, config: BioConfig | None, units: Units | None = None
    ) -> None:
        require("units", units, "a table made by funcbio.units, or None", units is None or isinstance(units, Units))
        located = holders(model, synapses)
        self.kind = type(model).__name__
        self.weights = [synapse.weight for synapse, _, _ in located if synapse.observable]
        for synapse, layer, _ in located:
            if config is not None and synapse.observable and synapse.splits(config.weight_splitting_Gamma):
                size = synapse.post_units(_weight(layer, synapse).shape)
                check_divides(config.weight_splitting_Gamma, size, synapse.weight)
        self.units, self.decay = units, (DEFAULT_BIO_CONFIG if config is None else config).continual_backprop_decay
        listening = [] if units is None else readers(model, units)
        self.stateless = Stateless(model, (located, listening), partial(_watch, config))
        self.params = {self.stateless.names[name] for name, _ in model.named_parameters()}
        with torch.inference_mode(False):
            buffers = {name: buffer.detach().clone() for name, buffer in model.named_buffers()}
        self.buffers = {name: buffer for name, buffer in buffers.items() if self.stateless.names[name] == name}

    def __repr__(self) -> str:
        """Returns the kind of model, and the weights of the layers that it listens to."""
        return f"observe({self.kind}: {listed(self.weights)})"

    def __call__(
        self, params: Mapping[str, Tensor], *args: Any, buffers: Buffers | None = None, state: Any = None, **kwargs: Any
    ) -> tuple[Any, Any]:
        """Returns the model's output and the activity of its layers, or the signals of its units too."""
        if not isinstance(params, Mapping):
            should = "a mapping of parameters, before the model's inputs"
            raise ValueError(f"params should be {should}; found {kind_of(params)}")
        with self.opened(params, buffers, state) as call:
            return call(*args, **kwargs)

    @contextmanager
    def opened(
        self, params: Mapping[str, Tensor], buffers: Buffers | None = None, state: Any = None
    ) -> Iterator[Callable[..., Any]]:
        """Keeps parameters and buffers in place within the context: also for a backward pass that runs layers again.

        Yields:
            ``call(*args, **kwargs) -> (output, activity)``.
        """
        used = {name: buffer.clone() for name, buffer in self.buffers.items()} if buffers is None else buffers
        names, by_name = self.stateless.names, self._by_first_name(params, used)

        def call(*args: Any, **kwargs: Any) -> tuple[Any, Any]:
            seen.clear()
            seen[CENTER] = None if state is None else partial(centered, state, self.decay)
            output = model(*args, **kwargs)
            silent = torch.zeros((), dtype=torch.int64)
            activity = {name: seen.get(names[name], silent) for name in params}
            return output, activity if self.units is None else Signals(activity, means_of(seen.get(SIGNALS, {})))

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


def _watch(config: BioConfig | None, noted: tuple[Sequence[Holder], Sequence[Any]]) -> dict[str, Any]:
    """Adds hooks that record activity and signals, and split outputs; returns the dictionary that they record in."""
    seen: dict[str, Any] = {}
    located, listening = noted
    for module, several in listening:
        module.register_forward_pre_hook(partial(_listen, seen, several), with_kwargs=True)
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


def _listen(seen: dict[str, Any], several: Sequence[Reader], module: nn.Module, args: Any, kwargs: Any) -> None:
    del module
    read(seen.setdefault(SIGNALS, {}), several, first_input(args, kwargs), seen.get(CENTER))


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
