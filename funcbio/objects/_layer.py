"""A layer's rate factors, signs and counters, and how a feature runs on them in place."""

import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from funcbio import rng
from funcbio._checks import brief, settings, unlike_default
from funcbio.anatomy._synapses import Synapse, is_treated, synapses
from funcbio.base import Key
from funcbio.bio_config import DEFAULT_BIO_CONFIG, BioConfig, ConfigError, Distribution
from funcbio.engine._layers import broadcasts
from funcbio.engine._switch import compiles
from funcbio.functional._init import initial_rate, initial_sign
from funcbio.functional._observe import unit_dim
from funcbio.mechanisms import METHODS, ROWS, Row, count_active, moves, split_output
from funcbio.objects._cancelled import await_step_of, matters
from funcbio.objects._checks import check_method, check_output, check_weight
from funcbio.objects._memory import check_apart
from funcbio.objects._on_trees import run_on_trees
from funcbio.objects._ready import Ready, collect, steps_of
from funcbio.tensors._sharding import agreed, is_plain, local, whole


class BioLayer(nn.Module):
    """Holds the state of one weight, and runs rows of the table on it; ``BioModule`` adds the methods' names.

    Args and attributes are those of ``BioModule``.
    """

    _version = 2  # Of the layout in state_dict.
    _compiles: bool | None = None
    rows: Mapping[str, Row] = ROWS
    """The table; a subclass may replace rows."""
    config: BioConfig
    synapse: Synapse
    features: Mapping[str, Row]
    exposed_functions: tuple[str, ...] = METHODS
    summed_functions: tuple[str, ...] = ()
    documented: type["BioLayer"]
    """The class whose methods do no more than run the table; those of its subclasses may do anything."""
    fuzzy_learning_rate_parameters: Tensor
    updates: Tensor
    activation_count: Tensor
    observations: Tensor
    sign: Tensor
    key: Tensor
    attached = False
    """Whether a handle treats the layer: signs that a file of weights lacks are then in the handle's state."""

    def __init__(
        self,
        parent: nn.Module | Callable[[], nn.Module],
        config: BioConfig = DEFAULT_BIO_CONFIG,
        *,
        synapse: Synapse | None = None,
        key: Key | None = None,
        features: Mapping[str, Row] | None = None,
        sign: Tensor | None = None,
    ) -> None:
        super().__init__()
        layer = parent() if callable(parent) and not isinstance(parent, nn.Module) else parent
        if not isinstance(layer, nn.Module):
            raise ConfigError(f"parent should be a module, or a callable that returns one; found {brief(layer)}")
        # In a tuple the layer is no child of its own child, and copies and pickles point to the copied layer.
        self._parent = (layer,)
        self.config = config
        self.features = dict(features or {})
        self.synapse = lone_synapse(layer, config) if synapse is None else synapse
        weight = self.weight
        check_weight(self.synapse, weight, config)
        key = fresh_key(weight.device) if key is None else key.to(weight.device)
        # Who makes this by hand has named the layer, trained or not.
        self._register(agreed(key, weight), weight, sign, signed=synapse is None or self.participates)
        if config.apply_dales_principle:
            self.run("apply_dales_principle")

    @torch.no_grad()
    @torch.inference_mode(False)  # What is made within that mode could not be changed outside.
    def _register(self, key: Key, weight: Tensor, sign: Tensor | None, *, signed: bool) -> None:
        """Registers the buffers of the state."""
        synapse, config = self.synapse, self.config
        self.register_buffer("key", key.clone())
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64, device=weight.device))
        self.register_buffer("fuzzy_learning_rate_parameters", initial_rate(key, weight, synapse, config))
        if self.records_activity:
            units = synapse.post_units(weight.shape)
            count = torch.zeros(units, dtype=torch.int64, device=weight.device)
            self.register_buffer("activation_count", count)
            self.register_buffer("observations", torch.zeros_like(self.updates))
        if config.apply_dales_principle:
            if sign is None or not signed:
                sign = initial_sign(key, weight, synapse, config) if signed else weight.new_ones(())
            self.register_buffer("sign", sign)

    def get_parent(self) -> nn.Module:
        """Returns the layer."""
        return self._parent[0]

    @property
    def compiles(self) -> bool:
        """Returns True if kernels run compiled on the layer: as it was told, else as ``set_compile`` says now."""
        return compiles(self._compiles)

    @compiles.setter
    def compiles(self, value: bool | None) -> None:
        self._compiles = value

    @property
    def weight(self) -> nn.Parameter:
        """Returns the layer's current weight."""
        weight = self._parent[0]._parameters.get(self.synapse.attribute)
        if weight is None:  # No AttributeError: torch would look for the attribute elsewhere.
            raise RuntimeError(
                f"{self.synapse.weight} should be a parameter of its layer; found none: parametrizations and "
                "FullyShardedDataParallel take it away, fully_shard does not"
            )
        return weight

    @property
    def records_activity(self) -> bool:
        """Returns True if the layer counts its active outputs."""
        return self.config.records_activity and self.synapse.observable

    @property
    def participates(self) -> bool:
        """Returns True if the model's methods treat the layer: it is trained, or chosen by name."""
        return is_treated(self.synapse, self.weight)

    def has_gradient(self) -> bool:
        """Returns True if the layer's weight is trained and has a gradient."""
        weight = self.weight
        return weight.requires_grad and weight.grad is not None

    def row(self, name: str) -> Row | None:
        """Returns the table's row of a method or of a feature that the converter exposes; None for other methods."""
        return self.features.get(name) or self.rows.get(name)

    def state_tensor(self, name: str) -> Any:
        """Returns the buffer or parameter of that name in the layer's state; None if there is none."""
        return self._buffers.get(name, self._parameters.get(name))

    def tensors(self) -> list[Tensor]:
        """Returns all tensors that mechanisms may change: the state, the weight and its gradient."""
        weight = self.weight
        state = [*self._buffers.values(), *self._parameters.values(), weight, weight.grad]
        return [tensor for tensor in state if tensor is not None]

    def inherits(self, names: Iterable[str]) -> bool:
        """Returns True if the methods only run the table: those of subclasses are called layer by layer."""
        kind, documented = type(self), self.documented
        return kind is documented or all(getattr(kind, n, None) is getattr(documented, n, None) for n in names)

    @torch.no_grad()
    def run(self, name: str) -> Tensor | None:
        """Runs a row of the table on this layer, in place; returns the mask of replaced weights, if there is one."""
        row = self.features.get(name) or self.rows[name]
        if not torch.compiler.is_compiling() and matters(row, [self]):  # A graph cannot hold weak references.
            await_step_of(self, name, row)
        spared = not row.is_for(self.synapse)
        if spared or torch.compiler.is_compiling():
            check_method(self, row)
            return None if spared else self.run_row(row)
        collected = collect(self, [name])
        check_apart([(self, collected[1] if collected else steps_of(self, [name]))])
        return self.run_row(row) if collected is None else Ready([(self, *collected)]).run().get(self.synapse.weight)

    def run_and_finish(self, name: str) -> Any:
        """Runs a row and the work that remains after it; returns the method's result."""
        return self.finish(self.row(name), self.run(name))

    def finish(self, row: Row | None, replaced: Tensor | None, finite: Tensor | None = None) -> Any:
        """Does the work that remains after a method has run, unless ``finite`` is False; returns its result."""
        if row is not None and row.counts and self.records_activity and self.moves():
            local(self.observations).mul_(0 if finite is None else ~finite)
        if row is not None and row.replaces and replaced is None:  # Of a weight without elements.
            return torch.zeros_like(self.weight, dtype=torch.bool)
        return replaced

    def moves(self) -> bool:
        """Returns True if ``update_fuzzy_learning_rates`` ever changes the rates."""
        config = self.config
        return moves(
            config.fuzzy_lr_distribution,
            dynamic=config.fuzzy_lr_dynamic,
            variant=config.fuzzy_lr_variant,
        )

    def lacks_observation(self) -> bool:
        """Returns True if rates follow activity and no forward pass was recorded since the last update."""
        follows = self.config.fuzzy_lr_distribution == Distribution.ACTIVITY
        return follows and self.records_activity and not local(self.observations).any()

    def run_row(self, row: Row, *, around: tuple[Tensor, Tensor] | None = None) -> Tensor | None:
        """Runs a feature on trees of one leaf, in place: for layers that are not plain memory.

        Args:
            row: The feature.
            around: Stand for weight and gradient, and are written to in their place.
        """
        return run_on_trees([self], row, None if around is None else {self: around}).get(self.synapse.weight)

    def forward(self, output: Tensor) -> Tensor:
        """Counts the active units of the layer's output, and splits its weights."""
        check_output(self, getattr(self.get_parent(), "bias", None), output)
        dim = unit_dim(self.fuzzy_learning_rate_parameters)
        if self.records_activity:
            self._count(count_active(output, dim=dim))
        if self.synapse.readout:
            return output
        activation = self.config.weight_splitting_activation_function
        return split_output(output, self.config.weight_splitting_Gamma, activation=activation, dim=dim)

    def extra_repr(self) -> str:
        """Shows the distribution of the rates, and what else differs from the default configuration."""
        told = {"fuzzy_lr_distribution", "fuzzy_lr_layer_index", "fuzzy_lr_total_layers"}
        changed = {name: value for name, value in unlike_default(self.config).items() if name not in told}
        distribution = f"distribution={self.config.fuzzy_lr_distribution.value}"  # pyright: ignore[reportAttributeAccessIssue]
        return ", ".join([distribution, settings(changed)] if changed else [distribution])

    def __getattr__(self, name: str) -> Any:
        """Finds the methods of the table that have no other form, and the features that a converter exposes."""
        if name in self.__dict__.get("features", {}) or name in self.rows:
            return partial(self._run_exposed, name)
        return super().__getattr__(name)

    def register_parameter(self, name: str, param: nn.Parameter | None) -> None:
        """Leaves the weight with its layer: RowwiseParallel registers a layer's weight on all its submodules."""
        if name != "weight":
            super().register_parameter(name, param)

    def _run_exposed(self, name: str) -> None:
        self.run(name)

    def _count(self, active: Tensor) -> None:
        count, active = local(self.activation_count), whole(active)
        if active.shape != count.shape:
            raise RuntimeError(
                f"the output of {self.synapse.weight} should show all {count.numel()} units to count their activity; "
                f"found {active.numel()}: convert the model before parallelize_module"
            )
        count.add_(active)
        local(self.observations).add_(1)

    def _load_from_state_dict(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, state_dict: dict[str, Any], prefix: str, local_metadata: Any, *args: Any
    ) -> None:
        """Loads the state, also from files of earlier code: without keys and counters, with signs by rows."""
        earlier = local_metadata.get("version", 1) < 2 and f"{prefix}key" not in state_dict
        if earlier and f"{prefix}fuzzy_learning_rate_parameters" in state_dict:
            for name in ("key", "updates", "observations"):
                if name in self._buffers:
                    state_dict[prefix + name] = self._buffers[name]
            if f"{prefix}sign" in state_dict and "sign" in self._buffers:
                self.sign = self._fitting_sign(state_dict[f"{prefix}sign"])
                state_dict[f"{prefix}sign"] = self.sign
        self._make_room(state_dict.get(f"{prefix}sign"))
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *args)
        if f"{prefix}sign" not in state_dict and not self.attached:
            self._warn_of_broken_signs()

    def _make_room(self, sign: Any) -> None:
        """Fits the buffer of signs to a saved state if one of the two was converted with this layer frozen."""
        buffer = self._buffers.get("sign")
        if buffer is None or not isinstance(sign, Tensor) or self.synapse.readout:
            return
        if (buffer.ndim == 0) == (sign.ndim == 0):
            return
        if sign.ndim == 0 or broadcasts(sign, self.fuzzy_learning_rate_parameters):
            self.sign = buffer.new_ones(sign.shape)

    @torch.no_grad()
    def _warn_of_broken_signs(self) -> None:
        """Warns if weights were loaded without their signs and violate the signs of this layer."""
        sign, weight = self.state_tensor("sign"), self.weight
        if is_plain(weight) and not weight.is_meta and sign is not None and bool((sign * weight < 0.0).any()):
            warnings.warn(
                f"the signs of {self.synapse.weight} should be loaded with it; found none, and weights of the wrong "
                "sign, which enforce_dales_principle() is going to set to zero: load weights first, then convert",
                stacklevel=2,
            )

    def _fitting_sign(self, sign: Tensor) -> Tensor:
        shape = self.fuzzy_learning_rate_parameters.shape
        if self.synapse.readout or torch.broadcast_shapes(sign.shape, shape) != shape:
            return self.sign
        return sign.detach().to(self.sign, copy=True)


def lone_synapse(layer: nn.Module, config: BioConfig) -> Synapse:
    """Describes a layer outside a model; its depth is the one that the configuration gives, if any."""
    (synapse,) = synapses(layer).values()
    if not 0 <= config.fuzzy_lr_layer_index < config.fuzzy_lr_total_layers:
        return synapse
    return replace(synapse, index=config.fuzzy_lr_layer_index, total=config.fuzzy_lr_total_layers)


def fresh_key(device: torch.device | str) -> Key:
    """Makes a key from one number of torch's global generator, the library's only use of it."""
    return rng.key(int(torch.randint(2**62, (), device="cpu")), device=device)
